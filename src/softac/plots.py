"""Learning curves as pictures."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from softac.agents.registry import AGENTS
from softac.config import as_text, default, fields
from softac.errors import ConfigError, DiskError
from softac.run.folder import read_config
from softac.run.metrics import METRICS, read_rows

COLOURS = ("#3366cc", "#dd6b20", "#2f855a", "#9f3fbf", "#c53030", "#0d8f9c", "#8a6d00", "#555555")
WIDTH = 80  # characters in a line of the legend
PICTURES = (".png", ".svg", ".pdf")
SUMMARY = "learning_curve.png"


def learning_curves(runs: list[Path], names: Mapping[Path, str] = MappingProxyType({})) -> Figure:
    """Evaluated return against environment steps, one panel per environment.

    Runs of one algorithm on one environment that differ in the seed only become one line: their mean,
    with the 95 % t-interval of that mean as a band. A single run has the standard deviation over its
    evaluation episodes as its band, and the return of its training episodes as a thin line.

    Args:
        runs: run folders.
        names: of the lines of some of them, where `label` shall not choose.

    Raises:
        CheckpointError: a folder does not hold a run.
        ConfigError: no run has been evaluated yet, or those of one line at no common step.
    """
    panels: dict[str, dict[str, list[list[dict[str, Any]]]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        config = read_config(run)
        rows = read_rows(run / METRICS)
        if any("eval/mean_reward" in row for row in rows):
            panels[str(config["env"]["id"])][names.get(run) or label(config)].append(rows)
    if not panels:
        raise ConfigError(
            f"no evaluation was found in {', '.join(map(str, runs))}; expected at least one; train for longer "
            "or with a smaller --eval-freq"
        )
    figure = Figure(figsize=(6.4 * len(panels), 4.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (env_id, groups) in zip(axes, sorted(panels.items()), strict=True):
        for colour, (name, group) in zip(_cycle(len(groups)), sorted(groups.items()), strict=True):
            _draw(axis, name, group, colour)
        axis.set_title(env_id)
        axis.set_xlabel("environment steps")
        axis.set_ylabel("return")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.0, -0.13), fontsize="small")
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


def _draw(axis: Any, name: str, group: list[list[dict[str, Any]]], colour: str) -> None:
    curves = [
        {row["step"]: row["eval/mean_reward"] for row in rows if "eval/mean_reward" in row} for rows in group
    ]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    if not steps:
        raise ConfigError(
            f"the {len(group)} runs of {name} were evaluated at no common step; expected the same --eval-freq, or "
            "one that is a multiple of the other; draw them apart"
        )
    values = np.array([[curve[step] for step in steps] for curve in curves])
    mean, n = values.mean(0), len(values)
    if n == 1:
        rows = group[0]
        std = np.array([row["eval/std_reward"] for row in rows if "eval/mean_reward" in row])
        low, high = mean - std, mean + std
        training = [(row["step"], row["rollout/ep_rew_mean"]) for row in rows if "rollout/ep_rew_mean" in row]
        if training:
            thin = f"{name.split(',')[0]}: return of training episodes"
            axis.plot(*zip(*training, strict=True), color=colour, linewidth=0.8, alpha=0.6, label=thin)
        title = f"{name}: evaluation ± std over episodes"
    else:
        from softac.stats import t_band  # it loads scipy.stats

        band = t_band(values)
        low, high = band.low, band.high
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


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


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
