"""Two pictures of results/ beside those of Stable-Baselines3: PandaPush-v3 and MinAtar's Breakout.

python benchmarks/tasks/curves.py
"""

import csv
from pathlib import Path
from typing import TypeAlias

from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
COLOURS = {"softac": "#3366cc", "stable-baselines3": "#dd6b20"}

Curves: TypeAlias = dict[tuple[str, str], list[tuple[int, float]]]  # library and seed -> step and value


def rows(name: str) -> list[dict[str, str]]:
    """Of a file in results/."""
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def panda() -> Curves:
    """Success rates of PandaPush-v3."""
    curves: Curves = {}
    for row in rows("panda.csv"):
        if row["env"] == "PandaPush-v3":
            curves.setdefault((row["library"], row["seed"]), []).append((int(row["step"]), float(row["success"])))
    return curves


def breakout() -> Curves:
    """Returns of DQN."""
    curves: Curves = {}
    for library, name in (("softac", "breakout-dqn.csv"), ("stable-baselines3", "breakout-sb3.csv")):
        for row in rows(name):
            curves.setdefault((library, row["seed"]), []).append((int(row["step"]), float(row["mean"])))
    return curves


def draw(curves: Curves, title: str, value: str, path: Path) -> None:
    """A line for each seed, in the colour of its library."""
    figure = Figure((6.4, 4.0), layout="constrained")
    axis, said = figure.subplots(), set[str]()
    for (library, _), points in curves.items():
        label = None if library in said else library
        axis.plot(*zip(*points, strict=True), color=COLOURS[library], marker="o", markersize=4, label=label)
        said.add(library)
    axis.set_title(title)
    axis.set_xlabel("environment steps")
    axis.set_ylabel(value)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Draw both."""
    draw(panda(), "PandaPush-v3, SAC with hindsight", "success in 100 episodes", RESULTS / "panda-push.png")
    draw(breakout(), "MinAtar's Breakout, DQN, each seed", "return of ten episodes", RESULTS / "breakout.png")


if __name__ == "__main__":
    main()
