"""Numbers, durations and lists in words."""

from collections.abc import Iterable, Sequence
from traceback import extract_tb

from softac.errors import one_line

LONGEST = 200  # characters of a text from a file
LARGEST_IN_FULL = 1e9


def number(value: float, decimals: int = 0) -> str:
    """1,234.5 with a minus sign that is one; 1.234e+09 from there on."""
    text = f"{value:.4g}" if abs(value) >= LARGEST_IN_FULL else f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def decimals(values: Iterable[float]) -> int:
    """How many to write: 1,234 but 123.4, 1.23 and 0.123."""
    largest = max(map(abs, values), default=0.0)
    return 0 if largest >= 1000 else 1 if largest >= 10 else 2 if largest >= 1 else 3


def listed(words: Sequence[str], last: str = "and") -> str:
    """One, two and three; with semicolons where the words have commas themselves."""
    if len(words) < 2:
        return "".join(words)
    between = "; " if any("," in word for word in words) else ", "
    return f"{between.join(words[:-1])} {last} {words[-1]}"


def counted(n: int, noun: str) -> str:
    """1 run, 2 runs."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def some(words: Sequence[str], most: int = 3) -> str:
    """The first of them, and how many more there are: a, b, c and 4 more."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def interval(low: float, high: float) -> str:
    """[-1, 2.5]."""
    return f"[{low:.4g}, {high:.4g}]"


def duration(seconds: float) -> str:
    """42 s, 4 min 05 s, 3 h 12 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600:,} h {seconds % 3600 // 60:02d} min"


def clean(value: object, longest: int = LONGEST) -> str:
    """Untrusted text as one line of printable characters, cut in the middle if it is very long."""
    return one_line(_text(value), longest)


def described(error: BaseException, longest: int = 300) -> str:
    """The kind and the text of an error of somebody else's, as one line; without a text, where it was raised."""
    text = _text(error).strip()
    if not text and (frames := extract_tb(error.__traceback__)):
        last = frames[-1]
        text = f"{last.filename}, line {last.lineno}" + (f": {last.line}" if last.line else "")
    return one_line(f"{type(error).__name__}: {text}", longest)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # of an error, or another object, of somebody else's
        return ""
