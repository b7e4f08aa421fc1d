"""Learning curves as pictures."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from softac.agents.registry import AGENTS
from softac.config import as_text, default, fields
from softac.errors import ConfigError, DiskError
from softac.run.folder import read_config
from softac.run.metrics import METRICS, Row, numbers, read_rows

COLOURS = ("#3366cc", "#dd6b20", "#2f855a", "#9f3fbf", "#c53030", "#0d8f9c", "#8a6d00", "#555555")
COLUMNS = 3  # of panels
WIDTH = 80  # characters in a line of the legend
PICTURES = (".png", ".svg", ".pdf")
SUMMARY = "learning_curve.png"


def learning_curves(runs: list[Path], names: Mapping[Path, str] = MappingProxyType({})) -> Figure:
    """Evaluated return against environment steps, one panel per environment, one colour per line in all of them.

    Runs of one algorithm on one environment that differ in the seed only become one line: their mean,
    with the 95 % t-interval of that mean as a band. A single run has the standard deviation over its
    evaluation episodes as its band, and the return of its training episodes as a thin line. A panel shows
    the range of its runs: the interval of two or three seeds may be wider.

    Args:
        runs: run folders.
        names: of the lines of some of them, where `label` shall not choose.

    Raises:
        CheckpointError: a folder does not hold a run.
        ConfigError: no run has been evaluated yet, or those of one line at no common step.
    """
    panels: dict[str, dict[str, list[list[Row]]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        config = read_config(run)
        rows = read_rows(run / METRICS)
        if numbers(rows, "eval/mean_reward"):
            panels[str(config["env"]["id"])][names.get(run) or label(config)].append(rows)
    if not panels:
        raise ConfigError(
            f"no evaluation was found in {', '.join(map(str, runs))}; expected at least one; train for longer "
            "or with a smaller --eval-freq"
        )
    lines = sorted({name for groups in panels.values() for name in groups})
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(lines)}
    n_columns = min(len(panels), COLUMNS)
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(layout="constrained")
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for axis, (env_id, groups) in zip(axes, sorted(panels.items()), strict=False):
        shown = np.concatenate([_draw(axis, name, groups[name], colours[name]) for name in sorted(groups)])
        low, high = shown.min(), shown.max()
        margin = 0.05 * (high - low) or 1.0
        axis.set_ylim(low - margin, high + margin)
        axis.set_title(env_id, parse_math=False)
        axis.set_xlabel("environment steps")
        axis.set_ylabel("return")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    legend = {text: line for axis in axes for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        [legend[text] for text in sorted(legend)],
        sorted(legend),
        loc="outside lower left",
        frameon=False,
        fontsize="small",
    )
    figure.set_size_inches(6.4 * n_columns, 4.0 * n_rows + 0.2 * sum(text.count("\n") + 1 for text in legend))
    return figure


def label(config: dict[str, Any]) -> str:
    """What a line is called: the algorithm, and whatever hyperparameter is not at its default."""
    name = str(config["algorithm"])
    if name not in AGENTS:
        return name
    known, given = AGENTS[name].Config, config["hyperparameters"]
    changed = [
        f"{field}={as_text(given[field])}"
        for field in fields(known)
        if field in given and as_text(_plain(given[field])) != as_text(_plain(default(known, field)))
    ]
    return ", ".join([name, *changed])


def _draw(axis: Any, name: str, group: list[list[Row]], colour: str) -> NDArray[np.float64]:
    """Draw a line; returns the values that have to be in sight."""
    curves = [numbers(rows, "eval/mean_reward") for rows in group]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    if not steps:
        raise ConfigError(
            f"the {len(group)} runs of {name} were evaluated at no common step; expected the same --eval-freq, or "
            "one that is a multiple of the other; draw them apart"
        )
    values = np.array([[curve[step] for step in steps] for curve in curves])
    mean, n = values.mean(0), len(values)
    if n == 1:
        spread = numbers(group[0], "eval/std_reward")
        std = np.array([spread.get(step, 0.0) for step in steps])
        low, high = mean - std, mean + std
        training = numbers(group[0], "rollout/ep_rew_mean")
        if training:
            thin = f"{name.split(',')[0]}: return of training episodes"
            axis.plot(list(training), list(training.values()), color=colour, linewidth=0.8, alpha=0.6, label=thin)
        shown = np.concatenate([low, high, list(training.values())])
        title = f"{name}: evaluation ± std over episodes"
    else:
        from softac.stats import t_band  # it loads scipy.stats

        band = t_band(values)
        low, high = band.low, band.high
        shown = values.ravel()
        title = f"{name}: mean of {n} seeds, 95 % interval"
    axis.plot(
        steps,
        mean,
        color=colour,
        linewidth=2,
        marker="o" if len(steps) < 30 else None,
        ms=4,
        label=fill(title, WIDTH),
    )
    axis.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    return shown


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture; its kind follows from the ending.

    Raises:
        ConfigError: the ending is none of .png, .svg and .pdf.
        DiskError: it cannot be written.
    """
    if path.suffix not in PICTURES:
        raise ConfigError(
            f"{path} was given for a picture; expected a name that ends in {', '.join(PICTURES)}; rename it"
        )
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise DiskError(
            f"{path} cannot be written ({error.strerror}); expected a folder that exists, with space; choose "
            "another"
        ) from None


def draw_run(path: Path) -> Path:
    """Draw the learning curve of an evaluated run into its folder; returns the file.

    Raises:
        SoftacError: as `learning_curves` and `save_figure`.
    """
    save_figure(learning_curves([path]), path / SUMMARY)
    return path / SUMMARY
