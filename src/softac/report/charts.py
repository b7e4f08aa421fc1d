"""Learning curves as SVG that is part of a page: its style sheet has the colours, its reader the words."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from softac.words import listed, number

WIDTH, HEIGHT = 360, 250
TOP, BOTTOM = 22, 36
LETTER = 5.7  # width of one in a label
LEAST_RANGE = 1e-9  # of the values, for float64 to divide it into ticks
LABEL_GAP = 11.5  # between the baselines of two labels
COLOURS = 8  # classes s0 to s7 of the style sheet
DASHES = ("", "7 3", "2 3")  # the second and third time around the colours
MARKS_PER_LINE = 5
MOST_POINTS = 200  # of the thin line of one run

DISC = "M-2.8,0a2.8,2.8 0 1 0 5.6,0a2.8,2.8 0 1 0 -5.6,0z"
SQUARE = "M-2.5,-2.5h5v5h-5z"
UP = "M0,-3.4L3.2,2.4H-3.2z"
DOWN = "M0,3.4L3.2,-2.4H-3.2z"
BAR = "M-1.4,-3.6h2.8v7.2h-2.8z"
MARKS = (
    (DISC, ""),
    (SQUARE, ""),
    (UP, ""),
    (DISC, " hollow"),
    (DOWN, ""),
    (SQUARE, " hollow"),
    (BAR, ""),
    (UP, " hollow"),
)
DIAMOND = "M0,-4.6L4,0L0,4.6L-4,0z"
CROSS = "M-3,-3L3,3M-3,3L3,-3"

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """The runs of one name in a panel.

    Attributes:
        key: stands at its end.
        style: number of its colour and its mark.
        mean: steps and returns.
        band: steps, lower and upper ends.
        runs: steps and returns of each run, and whether it failed after the last.
        pale: the band says little, and is wide.
        said: what the line shows, in words.
    """

    key: str
    style: int
    mean: Points
    band: Sequence[tuple[float, float, float]] = ()
    runs: Sequence[tuple[Points, bool]] = ()
    pale: bool = False
    said: str = ""


@dataclass(frozen=True)
class Reference:
    """Published values in a panel.

    Attributes:
        key: stands beside them.
        style: that of the line they belong to.
        points: steps, means and standard deviations.
        said: the same in words.
    """

    key: str
    style: int
    points: Sequence[tuple[float, float, float | None]]
    said: str = ""


def panel(title: str, name: str, lines: Sequence[Line], references: Sequence[Reference] = ()) -> Markup:
    """Learning curves of one environment.

    Args:
        title: says what is shown.
        name: begins the ids in the picture; unique on the page, and plain letters, digits and dashes.
        lines: in the order of their labels where these have equal heights.
        references: with points in the range of the lines.
    """
    right = max((x for line in lines for run, _ in line.runs for x, _ in run), default=0) or 1.0
    low, high = _range(lines, references)
    ticks = round_numbers(low, high, 5)
    places = min(max(0, -math.floor(math.log10(ticks[1] - ticks[0]))), 6) if len(ticks) > 1 else 2
    texts = [number(tick, places) for tick in ticks]
    margin_left = LETTER * max(map(len, texts)) + 8
    margin_right = LETTER * max((len(line.key) for line in lines if line.mean), default=0) + 14
    x = _Scale(0.0, right * 1.02, margin_left, WIDTH - margin_right)
    y = _Scale(low, high, HEIGHT - BOTTOM, TOP)
    said = listed([line.said for line in lines] + [reference.said for reference in references], last="and")
    inside = Markup("<g clip-path='url(#{}-clip)'>{}{}</g>").format(
        name, _join(_band(line, x, y) for line in lines), _join(_runs(line, x, y) for line in lines)
    )
    parts = [
        _axes(x, y, ticks, texts),
        inside,
        _join(_crosses(line, x, y) for line in lines),
        _join(_mean(line, i, len(lines), x, y) for i, line in enumerate(lines)),
        _join(_diamonds(reference, x, y) for reference in references),
        _published_labels(references, x, y),
        _labels(lines, x, y),
    ]
    return _picture(title, name, f"{said}.", x, _join(parts))


def _picture(title: str, name: str, said: str, x: "_Scale", parts: Markup) -> Markup:
    return Markup(
        "<svg viewBox='0 0 {width} {height}' role='img' aria-labelledby='{name}-title {name}-desc'>"
        "<title id='{name}-title'>{title}</title><desc id='{name}-desc'>{said}</desc>"
        "<clipPath id='{name}-clip'><rect x='{left}' y='{top}' width='{w}' height='{h}'/></clipPath>{parts}</svg>"
    ).format(
        width=WIDTH,
        height=HEIGHT,
        name=name,
        title=title,
        said=said,
        left=_n(x.start),
        top=TOP,
        w=_n(x.end - x.start),
        h=HEIGHT - BOTTOM - TOP,
        parts=parts,
    )


def swatch(style: int) -> Markup:
    """A piece of a line with its mark, for a legend."""
    mark, hollow = MARKS[style % len(MARKS)]
    return Markup(
        "<svg class='swatch s{}' viewBox='0 0 30 12' aria-hidden='true'><path class='line' d='M1,6H29'{}/>"
        "<path class='mark{}' d='{}' transform='translate(15,6)'/></svg>"
    ).format(style % COLOURS, _dash(style), hollow, mark)


def sign(kind: str) -> Markup:
    """A diamond or a cross, for a legend."""
    return Markup(
        "<svg class='swatch sx' viewBox='0 0 30 12' aria-hidden='true'>"
        "<path class='{}' d='{}' transform='translate(15,6)'/></svg>"
    ).format(kind, DIAMOND if kind == "diamond" else CROSS)


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """At most so many multiples of 1, 2 or 5 times a power of ten, between the two."""
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(s * size for s in (1, 2, 5, 10, 20) if (high - low) / (s * size) < most)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class _Scale:
    """Numbers from `low` to `high` lie between the places `start` and `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _range(lines: Sequence[Line], references: Sequence[Reference]) -> tuple[float, float]:
    """That of the runs and the published values; intervals of two runs would hide both."""
    values = [v for line in lines for run, _ in line.runs for _, v in run]
    for reference in references:
        values += [end for _, mean, std in reference.points for end in (mean - (std or 0.0), mean + (std or 0.0))]
    low, high = min(values, default=0.0), max(values, default=0.0)
    size = max(abs(low), abs(high))
    padding = 0.05 * size or 1.0 if low == high else max(0.05 * (high - low), LEAST_RANGE * size)
    return low - padding, high + padding


def _axes(x: _Scale, y: _Scale, ticks: Sequence[float], texts: Sequence[str]) -> Markup:
    floor = HEIGHT - BOTTOM
    across = _join(
        Markup(
            "<path class='grid' d='M{},{}H{}'/><text class='tick' x='{}' y='{}' text-anchor='end'>{}</text>"
        ).format(_n(x.start), _n(y(tick)), _n(x.end), _n(x.start - 5), _n(y(tick) + 3.3), text)
        for tick, text in zip(ticks, texts, strict=True)
    )
    up = _join(
        Markup(
            "<path class='axis' d='M{0},{1}v4'/><text class='tick' x='{0}' y='{2}' text-anchor='middle'>{3}</text>"
        ).format(_n(x(tick)), floor, floor + 14, number(tick))
        for tick in round_numbers(0.0, x.high, 4)
        if tick == int(tick)
    )
    return Markup(
        "{}<path class='axis' d='M{},{}H{}'/>{}<text class='unit' x='0' y='10'>return</text>"
        "<text class='unit' x='{}' y='{}' text-anchor='end'>environment steps</text>"
    ).format(across, _n(x.start), floor, _n(x.end), up, _n(x.end), HEIGHT - 7)


def _band(line: Line, x: _Scale, y: _Scale) -> Markup:
    if not line.band:
        return Markup("")
    there = [(step, high) for step, _, high in line.band]
    back = [(step, low) for step, low, _ in reversed(line.band)]
    return Markup("<path class='band{} s{}' d='{}z'/>").format(
        " pale" if line.pale else "", line.style % COLOURS, _path([*there, *back], x, y)
    )


def _runs(line: Line, x: _Scale, y: _Scale) -> Markup:
    paths = "".join(_path(_thinned(run), x, y) for run, _ in line.runs)
    return Markup("<path class='run s{}' d='{}'/>").format(line.style % COLOURS, paths)


def _crosses(line: Line, x: _Scale, y: _Scale) -> Markup:
    return _join(
        Markup("<path class='cross s{}' d='{}' transform='translate({},{})'/>").format(
            line.style % COLOURS, CROSS, _n(x(run[-1][0])), _n(y(run[-1][1]))
        )
        for run, failed in line.runs
        if failed and run
    )


def _mean(line: Line, place: int, of: int, x: _Scale, y: _Scale) -> Markup:
    """The line with marks at a few of its points, shifted against those of the other lines."""
    if not line.mean:
        return Markup("")
    every = max(1, len(line.mean) // MARKS_PER_LINE)
    first = place * every // of
    at = sorted({*range(first, len(line.mean) - every // 2, every), len(line.mean) - 1})
    mark, hollow = MARKS[line.style % len(MARKS)]
    marks = _join(
        Markup("<path class='mark{}' d='{}' transform='translate({},{})'/>").format(
            hollow, mark, _n(x(line.mean[i][0])), _n(y(line.mean[i][1]))
        )
        for i in at
    )
    return Markup("<g class='s{}'><path class='line' d='{}'{}/>{}</g>").format(
        line.style % COLOURS, _path(line.mean, x, y), _dash(line.style), marks
    )


def _diamonds(reference: Reference, x: _Scale, y: _Scale) -> Markup:
    """The values on a dotted line that leads to the one with the label."""
    parts = [
        Markup("{}<path class='diamond' d='{}' transform='translate({},{})'/>").format(
            _error_bar(x(step), y(mean - std), y(mean + std)) if std else "", DIAMOND, _n(x(step)), _n(y(mean))
        )
        for step, mean, std in reference.points
    ]
    return Markup("<g class='s{}'><path class='dotted' d='{}'/>{}</g>").format(
        reference.style % COLOURS, _path([(step, mean) for step, mean, _ in reference.points], x, y), _join(parts)
    )


def _published_labels(references: Sequence[Reference], x: _Scale, y: _Scale) -> Markup:
    last = [(reference, reference.points[-1]) for reference in references]
    ends = sorted(
        ((y(mean) - 6, x(step) - 7, reference) for reference, (step, mean, _) in last), key=lambda e: e[0]
    )
    places = apart([end[0] for end in ends], LABEL_GAP, TOP - 4.0, HEIGHT - BOTTOM - 3.0)
    return _join(
        Markup("<text class='published s{}' x='{}' y='{}' text-anchor='end'>{}</text>").format(
            reference.style % COLOURS, _n(at), _n(place), reference.key
        )
        for (_, at, reference), place in zip(ends, places, strict=True)
    )


def _error_bar(x: float, low: float, high: float) -> Markup:
    return Markup("<path class='error' d='M{0},{1}V{2}M{3},{1}h6M{3},{2}h6'/>").format(
        _n(x), _n(low), _n(high), _n(x - 3)
    )


def _labels(lines: Sequence[Line], x: _Scale, y: _Scale) -> Markup:
    """The names at the ends of the lines, moved apart where they would cover each other."""
    ends = sorted(((y(line.mean[-1][1]), line) for line in lines if line.mean), key=lambda end: end[0])
    places = apart([place for place, _ in ends], LABEL_GAP, TOP + 3.0, HEIGHT - BOTTOM - 3.0)
    return _join(
        Markup(
            "<path class='lead-line s{0}' d='M{1},{2}L{3},{4}'/><text class='name s{0}' x='{5}' y='{6}'>{7}</text>"
        ).format(
            line.style % COLOURS,
            _n(x(line.mean[-1][0]) + 4),
            _n(end),
            _n(x.end + 7),
            _n(place),
            _n(x.end + 9),
            _n(place + 3.3),
            line.key,
        )
        for (end, line), place in zip(ends, places, strict=True)
    )


def apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places, moved as little as needed to be a gap apart and, if there is room, within the limits."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap if moved else low))
    limit = high
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - gap
    return moved


def _dash(style: int) -> Markup:
    dash = DASHES[style // COLOURS % len(DASHES)]
    return Markup(" stroke-dasharray='{}'").format(dash) if dash else Markup("")


def _thinned(run: Points) -> Points:
    every = math.ceil(len(run) / MOST_POINTS)
    return run if every < 2 else [*run[::every], run[-1]]


def _path(points: Points, x: _Scale, y: _Scale) -> str:
    return "M" + "L".join(f"{_n(x(step))},{_n(y(value))}" for step, value in points) if points else ""


def _n(place: float) -> str:
    """A tenth of a unit is finer than anybody sees; places far outside need no digits."""
    text = f"{min(max(place, -9999.0), 9999.0):.1f}"
    return text.removesuffix(".0")


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)
