"""The exceptions softac raises on purpose.

Each has three fields: what was given, what was expected, and what to do. The command prints them as
one line and leaves with the exit code of the class.

    SoftacError
    ├── ConfigError        2   an argument, a hyperparameter or a space that cannot work
    ├── CheckpointError    3   a file that is missing, damaged or not what it says
    ├── EnvironmentFailed  4   the environment raised, or returned what it must not
    ├── DiskError          5   nothing more could be written
    └── NumericalError     6   a loss or a parameter is no longer finite
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Self

LONGEST_MESSAGE = 2_000

# What is a fault of the code of others, such as an environment, where that raises it: also sys.exit(), for the
# program is not its own to end. A KeyboardInterrupt is of whoever sits before it.
RAISED = (Exception, SystemExit, GeneratorExit)


class SoftacError(Exception):
    """Base of all errors that softac raises on purpose; `exit_code` is what the command returns.

    Each field becomes one line of printable characters, cut in the middle if it is very long, since names from
    files and the texts of other errors are part of many messages.

    Args:
        given: what was given or found.
        expected: what would have worked, in words that begin with "expected", as a rule.
        remedy: what to do.
    """

    exit_code = 1

    def __init__(self, given: str, expected: str, remedy: str) -> None:
        self.given, self.expected, self.remedy = (
            one_line(part, LONGEST_MESSAGE) for part in (given, expected, remedy)
        )
        super().__init__(self.given, self.expected, self.remedy)

    def __str__(self) -> str:
        return one_line(f"{self.given}; {self.expected}; {self.remedy}", LONGEST_MESSAGE)

    def within(self, place: str) -> Self:
        """The same error, said of something in `place`."""
        return type(self)(f"{place}: {self.given}", self.expected, self.remedy)


class ConfigError(SoftacError, ValueError):
    """An argument, hyperparameter or space that cannot work."""

    exit_code = 2


class CheckpointError(SoftacError):
    """A file that is missing, damaged, of another version, or not what it claims to be."""

    exit_code = 3


class EnvironmentFailed(SoftacError):  # noqa: N818 - "failed" is the word for it, not "error"
    """An environment raised, or returned something that must not enter the replay."""

    exit_code = 4


class DiskError(SoftacError):
    """The run folder could not be written any more."""

    exit_code = 5


class NumericalError(SoftacError):
    """A loss, gradient or parameter is no longer finite."""

    exit_code = 6


def missing_extra(what: str, package: str, extra: str) -> ConfigError:
    """The error for `what`, which needs a package of the extra `extra` that is not installed."""
    return ConfigError(
        f"{what} needs {package}, which is not installed",
        f"expected softac with its extra {extra!r}",
        f"run `pip install 'softac[{extra}]'`",
    )


def one_line(text: str, longest: int) -> str:
    """`text` as one line of printable characters, at most `longest` of them."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
    if len(line) <= longest:
        return line
    half = (longest - 5) // 2
    return f"{line[:half]} ... {line[-half:]}"


def nearest(word: str, candidates: Iterable[str]) -> str:
    """Return "; did you mean 'X'?" for the candidates that look most like `word` in any case, else ""."""
    by_letters = {candidate.lower(): candidate for candidate in candidates}
    typed = word.lower()
    matches = [typed] if typed in by_letters else get_close_matches(typed, by_letters, n=3, cutoff=0.6)
    if not matches:
        return ""
    return "; did you mean " + " or ".join(repr(by_letters[match]) for match in matches) + "?"


def either(names: Iterable[str]) -> str:
    """Join names with commas and, before the last, "or"."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
