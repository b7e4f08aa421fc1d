"""Learning curves as pictures."""

from collections.abc import Sequence
from io import BytesIO
from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from softac.errors import ConfigError, DiskError
from softac.files import replace_bytes
from softac.report.results import Result, read_result
from softac.report.tables import Group, curve, group_runs

COLOURS = ("#3366cc", "#dd6b20", "#2f855a", "#9f3fbf", "#c53030", "#0d8f9c", "#8a6d00", "#555555")
COLUMNS = 3  # of panels
PANEL = (6.4, 4.0)  # inches
WIDTH = 80  # characters in a line of the legend, as many as a panel is wide
CROSS: dict[str, Any] = {"linestyle": "none", "marker": "x", "markersize": 7, "markeredgewidth": 2}
PICTURES = (".png", ".svg", ".pdf")
SUMMARY = "learning_curve.png"


def learning_curves(results: Sequence[Result]) -> Figure:
    """Evaluated return against environment steps: a panel for each environment, in which a name has one colour.

    Runs of one name on one environment become one line: their mean, with the 95 % t-interval of that mean as a
    band, which breaks off where a single run is left. A single run has the standard deviation over its evaluation
    episodes as its band, and the return of its training episodes as a thin line. A cross marks where a run failed.
    A panel shows the range of its runs: the interval of two or three seeds may be wider. The legend stands in a
    panel to spare, or below.

    Args:
        results: runs; those of one environment and name are neighbours.

    Raises:
        ConfigError: no run has been evaluated, or those of one line at no common step.
    """
    groups = [group for group in group_runs(results) if group.evaluated]
    if not groups:
        raise ConfigError(
            f"no evaluation that is a finite number was found in {', '.join(str(run.folder) for run in results)}",
            "expected at least one",
            "look at the rewards of the environment",
        )
    panels = [(env, list(members)) for env, members in groupby(groups, lambda group: group.env)]
    names = list(dict.fromkeys(group.name for group in groups))
    n_columns = min(len(panels), COLUMNS)
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(layout="constrained")
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for axis, (env, members) in zip(axes, panels, strict=False):
        _panel(axis, env, [(group, COLOURS[names.index(group.name) % len(COLOURS)]) for group in members])
    spare = axes[len(panels) :]
    for axis in spare:
        axis.set_axis_off()
    lines = {text: line for axis in axes for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    if any(_failed(group) for group in groups):
        lines["a run that failed: its last evaluation"] = Line2D([], [], color="#555555", **CROSS)
    height = 0.2 * sum(text.count("\n") + 1 for text in lines)
    within = bool(spare) and height <= PANEL[1] - 1.0
    where: Any = spare[0] if within else figure
    place = "center left" if within else "outside lower left"
    legend = where.legend(lines.values(), lines.keys(), loc=place, frameon=False, fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.set_size_inches(PANEL[0] * n_columns, PANEL[1] * n_rows + (0.0 if within else height))
    return figure


def _panel(axis: Any, env: str, groups: Sequence[tuple[Group, str]]) -> None:
    """Draw the groups of one environment, each in its colour."""
    shown = np.concatenate([_draw(axis, group, colour) for group, colour in groups])
    low, high = shown.min(), shown.max()
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(low - margin, high + margin)
    axis.set_title(env, parse_math=False)
    axis.set_xlabel("environment steps")
    axis.set_ylabel("return")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _draw(axis: Any, group: Group, colour: str) -> NDArray[np.float64]:
    """Draw the line of a group; returns the values that have to be in sight."""
    points, runs = curve(group), group.evaluated
    if not points:
        raise ConfigError(
            f"the {len(runs)} runs of {group.name} were evaluated at no common step",
            "expected the same --eval-freq, or one that is a multiple of the other",
            "draw them apart",
        )
    steps, mean = [step for step, _ in points], np.array([estimate.mean for _, estimate in points])
    some = f" ({len(runs)} of {len(group.results)} runs)" if len(runs) < len(group.results) else ""
    if len(runs) == 1:
        [run] = runs
        std = np.array([run.spread.get(step, 0.0) for step in steps])
        low, high = mean - std, mean + std
        training = list(run.training.values())
        title = f"{group.name}: evaluation ± std over episodes{some}"
        shown = np.concatenate([low, high, training])
        if training:
            thin = f"{group.name.split(',')[0]}: return of training episodes"
            axis.plot(list(run.training), training, color=colour, linewidth=0.8, alpha=0.6, label=thin)
    else:
        low, high = np.array([estimate.interval or (np.nan, np.nan) for _, estimate in points]).T
        title = f"{group.name}: mean of {_seeds([estimate.n for _, estimate in points])}, 95 % interval{some}"
        shown = np.array([run.returns[step] for run in runs for step in steps if step in run.returns])
    axis.plot(
        steps,
        mean,
        color=colour,
        linewidth=2,
        marker="o" if len(steps) < 30 else None,
        ms=4,
        label=fill(title, WIDTH),
    )
    for step, value in _failed(group):
        axis.plot([step], [value], color=colour, **CROSS)
        shown = np.append(shown, value)
    # The interval of two runs says little, and is wide.
    axis.fill_between(steps, low, high, color=colour, alpha=0.04 if len(runs) == 2 else 0.18, linewidth=0)
    return shown


def _failed(group: Group) -> list[tuple[int, float]]:
    """The last evaluations of its runs that failed, with their steps."""
    return [max(run.returns.items()) for run in group.evaluated if run.state == "failed"]


def _seeds(numbers: Sequence[int]) -> str:
    """Behind the points of a line, of which some may be of fewer runs than others."""
    fewest, most = min(numbers), max(numbers)
    return f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture; its kind follows from the ending.

    Raises:
        ConfigError: the ending is none of .png, .svg and .pdf.
        DiskError: it cannot be written.
    """
    if path.suffix not in PICTURES:
        raise ConfigError(
            f"{path} was given for a picture",
            f"expected a name that ends in {', '.join(PICTURES)}",
            "rename it",
        )
    picture = BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=130)
    try:
        replace_bytes(path, picture.getvalue())
    except OSError as error:
        raise DiskError(
            f"{path} cannot be written ({error.strerror})",
            "expected a folder that exists, with space",
            "choose another",
        ) from None


def draw_run(path: Path) -> Path:
    """Draw the learning curve of an evaluated run into its folder; returns the file.

    Raises:
        SoftacError: as `learning_curves` and `save_figure`.
    """
    save_figure(learning_curves([read_result(path)]), path / SUMMARY)
    return path / SUMMARY
