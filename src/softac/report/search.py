"""A search on the page: what its trials came to, as parallel coordinates, and which hyperparameters mattered."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from markupsafe import Markup

from softac.agents.registry import find_agent
from softac.config import as_text, default, fields
from softac.experiments.tuning.search import TUNE, Search, read_search
from softac.experiments.tuning.space import Choice, Dimension, contains, coordinate, ends
from softac.experiments.tuning.trials import Trial, best
from softac.experiments.tuning.winner import TRIALS, read_trials
from softac.files import exists
from softac.report.charts import LABEL_GAP, apart
from softac.run.config import RunConfig
from softac.seeds import in_ranges
from softac.words import clean, counted, decimals, listed, number

Row: TypeAlias = dict[str, Any]

WIDTH, HEIGHT = 860, 320
TOP, BOTTOM, LEFT, RIGHT = 40, 10, 8, 130
VALUE_LABEL = 56  # from the last axis to the names of the lines
BARS_WIDTH, BARS_LEFT, BAR_HEIGHT = 430, 140, 22
MARKED = 3  # trials with a colour of their own
ROWS = 10  # of the table, besides those that were not proposed
LONGEST_CHOICE = 16  # letters


def searches(folders: Sequence[Path]) -> list[Row]:
    """What the template says of each of these folders that is a search with a trial that has ended.

    Raises:
        CheckpointError: `tune.json` or `trials.json` is damaged.
    """
    found = [folder for folder in folders if exists(folder / TUNE) and exists(folder / TRIALS)]
    return [_section(read_search(folder), *read_trials(folder), i) for i, folder in enumerate(found, 1)]


def _section(search: Search, trials: Sequence[Trial], shares: Mapping[str, float], i: int) -> Row:
    states = [trial.state for trial in trials]
    counts = [
        f"{states.count(state)} {state}" for state in ("done", "pruned", "failed", "running") if state in states
    ]
    done = [trial for trial in trials if trial.state == "done"]
    places = decimals(trial.value or 0.0 for trial in done)
    top = best(trials, ROWS)
    shown = [*top, *(trial for trial in trials if trial.name and trial not in top)]
    known = {name: share for name, share in shares.items() if name in search.space and 0.0 <= share <= 1.0}
    failures = [clean(f"{t.title}: {t.reason}", 300) for t in trials if t.state == "failed"]
    return {
        "title": clean(search.title),
        "said": f"{counted(search.trials, 'trial')} of {search.total:,} steps, seeds {in_ranges(search.seeds)}: "
        f"{listed(counts)}.",
        "coordinates": _parallel(search, done, f"search-{i}", places) if len(done) > 1 else None,
        "importances": _bars(known, f"importance-{i}") if known else None,
        "names": list(search.space),
        "rows": [_row(search, trial, places) for trial in shown],
        "failures": failures[:ROWS],
    }


def _row(search: Search, trial: Trial, places: int) -> Row:
    return {
        "name": clean(trial.title),
        "value": "" if trial.value is None else number(trial.value, places),
        "state": "" if trial.state == "done" else trial.state,
        "settings": [clean(as_text(value), 60) for value in _values(search, trial)],
    }


def _values(search: Search, trial: Trial) -> list[Any]:
    """What the searched hyperparameters are in a trial, in the order of the space."""
    config = find_agent(search.algorithm).Config
    return [
        trial.settings.get(name, default(config if name in fields(config) else RunConfig, name))
        for name in search.space
    ]


# Pictures


def _parallel(search: Search, done: Sequence[Trial], name: str, places: int) -> Markup:
    """An axis for each hyperparameter and one for the value; a line for each trial, the best above the others."""
    gap = (WIDTH - LEFT - RIGHT) / len(search.space)
    values = sorted(trial.value or 0.0 for trial in done)
    low, high = values[len(values) // 4], values[-1]  # the worst quarter lies at the foot

    def height(trial: Trial) -> float:
        return min(1.0, max(0.0, ((trial.value or 0.0) - low) / ((high - low) or 1.0)))

    def line(trial: Trial, kind: str, dash: str = "none") -> Markup:
        pairs = zip(search.space.values(), _values(search, trial), strict=True)
        heights = [_share(d, value) if contains(d, value) else None for d, value in pairs]
        path = _path([(LEFT + i * gap, at) for i, at in enumerate([*heights, height(trial)])])
        return Markup("<path class='{}' d='{}' stroke-dasharray='{}'/>").format(kind, path, dash)

    axes = [_axis(key, d, LEFT + i * gap, i % 2) for i, (key, d) in enumerate(search.space.items())]
    ends_of_values = [(1.0, number(high, places)), (0.0, number(low, places))]
    axes.append(_vertical("value", WIDTH - RIGHT, len(search.space) % 2, ends_of_values))
    marked = best(done, MARKED)
    named = [trial for trial in done if trial.name and trial not in marked]
    thin = [line(trial, "run sx") for trial in done if trial not in marked and trial not in named]
    bold = [line(trial, f"line s{i}") for i, trial in reversed(list(enumerate(marked)))]
    dashed = [line(trial, "line sx", "5 3") for trial in named]
    labelled = [(height(t), f"s{i}", t.title) for i, t in enumerate(marked)]
    labelled += [(height(t), "sx", t.name) for t in named]
    shown = [f"{key} {clean(as_text(value), 40)}" for key, value in _named_values(search, marked[0])]
    said = f"{clean(marked[0].title)} is the best, {number(marked[0].value or 0.0, places)}: {', '.join(shown)}"
    title = f"Trials of the search: {clean(search.title)}"
    rules, texts = zip(*axes, strict=True)
    return _picture(HEIGHT, name, title, said, [*rules, *thin, *dashed, *bold, *texts, _labels(labelled)])


def _named_values(search: Search, trial: Trial) -> list[tuple[str, Any]]:
    return list(zip(search.space, _values(search, trial), strict=True))


def _share(dimension: Dimension, value: Any) -> float:
    """How far up its axis a value of the dimension lies, from 0 to 1."""
    if isinstance(dimension, Choice):
        texts = [as_text(choice) for choice in dimension.values]
        return texts.index(as_text(value)) / (len(texts) - 1)
    place, (low, high) = float(coordinate(dimension, value)), ends(dimension)
    if dimension.scale in ("log", "log of 1 - x"):
        place, low, high = math.log(place), math.log(low), math.log(high)
    share = (place - low) / (high - low)
    return 1.0 - share if dimension.scale == "log of 1 - x" else share


def _axis(name: str, dimension: Dimension, x: float, line: int) -> tuple[Markup, Markup]:
    if isinstance(dimension, Choice):
        n = len(dimension.values) - 1
        texts = [(i / n, clean(as_text(value), LONGEST_CHOICE)) for i, value in enumerate(dimension.values)]
    else:
        texts = [(1.0, as_text(dimension.high)), (0.0, as_text(dimension.low))]
    return _vertical(name, x, line, texts)


def _vertical(name: str, x: float, line: int, texts: Sequence[tuple[float, str]]) -> tuple[Markup, Markup]:
    """An axis, and what stands beside it; names take turns between two lines, so that they do not meet."""
    beside = [
        _text("tick halo", x + 4, _y(at) + (3.3 if 0 < at < 1 else -3 if at == 0 else 9), text)
        for at, text in texts
    ]
    middle = _text("unit", x, 12 + 14 * line, name, "start" if x == LEFT else "middle")
    rule = Markup("<path class='axis' d='M{},{}V{}'/>").format(f"{x:.1f}", f"{_y(0.0):.1f}", f"{_y(1.0):.1f}")
    return rule, Markup("").join([middle, *beside])


def _labels(ends_of_lines: Sequence[tuple[float, str, str]]) -> Markup:
    """What the lines are called, at their ends, moved apart where they would cover each other."""
    ordered = sorted((_y(at), kind, text) for at, kind, text in ends_of_lines)
    spread = apart([y for y, _, _ in ordered], LABEL_GAP, TOP + 3.0, HEIGHT - BOTTOM - 3.0)
    x = WIDTH - RIGHT + VALUE_LABEL
    return Markup("").join(
        _text(f"name {kind}", x, y + 3.3, clean(text, LONGEST_CHOICE))
        for y, (_, kind, text) in zip(spread, ordered, strict=True)
    )


def _bars(shares: Mapping[str, float], name: str) -> Markup:
    """A bar for each hyperparameter, the longest first."""
    scale = (BARS_WIDTH - BARS_LEFT - 50) / max(*shares.values(), 1e-9)
    parts = []
    for i, (key, share) in enumerate(shares.items()):
        y = 4 + BAR_HEIGHT * i
        bar = Markup("<rect class='bar s0' x='{}' y='{}' width='{}' height='{}'/>").format(
            BARS_LEFT, y, f"{share * scale:.1f}", BAR_HEIGHT - 8
        )
        parts += [
            _text("tick", BARS_LEFT - 6, y + 10.5, key, "end"),
            bar,
            _text("tick", BARS_LEFT + share * scale + 5, y + 10.5, f"{share:.0%}"),
        ]
    said = listed([f"{key} {share:.0%}" for key, share in shares.items()])
    height = 8 + BAR_HEIGHT * len(shares)
    return _picture(height, name, "What the best trials have in common", said, parts, BARS_WIDTH)


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start") -> Markup:
    return Markup("<text class='{}' x='{}' y='{}' text-anchor='{}'>{}</text>").format(
        kind, f"{x:.1f}", f"{y:.1f}", anchor, text
    )


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _path(points: Sequence[tuple[float, float | None]]) -> str:
    """A line through the points, broken where a value lies outside of the space."""
    words, begun = [], False
    for x, at in points:
        if at is not None:
            words.append(f"{'L' if begun else 'M'}{x:.1f},{_y(at):.1f}")
        begun = at is not None
    return "".join(words)


def _picture(
    height: float, name: str, title: str, said: str, parts: Sequence[Markup], width: float = WIDTH
) -> Markup:
    return Markup(
        "<svg viewBox='0 0 {} {}' role='img' aria-labelledby='{}-title {}-desc'>"
        "<title id='{}-title'>{}</title><desc id='{}-desc'>{}.</desc>{}</svg>"
    ).format(width, height, name, name, name, title, name, said, Markup("").join(parts))
