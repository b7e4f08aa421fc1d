"""Solutions of finite MDPs as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from softac.tabular import FiniteMDP, Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


@dataclass(frozen=True)
class Problem:
    """An MDP to be solved and shown.

    Attributes:
        name: of it.
        mdp: of S states and A actions.
        cells: the row and column of each state `[S, 2]`, if it is a grid.
        moves: the (row, column) step of each action on that grid.
    """

    name: str
    mdp: FiniteMDP
    cells: NDArray[np.intp] | None = None
    moves: tuple[tuple[int, int], ...] = ()


def draw_solutions(problem: Problem, solutions: Sequence[tuple[float, Solution]], file: Path) -> None:
    """A panel for each temperature: V and the policy as arrows on a grid, elsewhere pi as a table of colours.

    Args:
        problem: what was solved.
        solutions: temperatures and what they lead to.
        file: the picture, .png, .svg or .pdf.

    Raises:
        DiskError: it cannot be written.
    """
    from matplotlib.figure import Figure  # half a second, which a `Problem` need not take

    from softac.report.plots import save_figure

    figure = Figure(figsize=(1.0 + 4.0 * len(solutions), 4.2), layout="constrained")
    axes = figure.subplots(1, len(solutions), squeeze=False)[0]
    for ax, (alpha, solution) in zip(axes, solutions, strict=True):
        if problem.cells is None:
            image = ax.imshow(solution.pi, aspect="auto", vmin=0.0, vmax=1.0, interpolation="nearest")
            ax.set(xlabel="action", ylabel="state", title=f"pi at alpha = {alpha:g}")
        else:
            image = _draw_grid(ax, problem, problem.cells, solution)
            ax.set(xticks=[], yticks=[], title=f"V and pi at alpha = {alpha:g}")
        figure.colorbar(image, ax=ax, shrink=0.8)
    figure.suptitle(f"{problem.name}, gamma = {problem.mdp.gamma:g}").set_parse_math(False)
    save_figure(figure, file)


def _draw_grid(ax: Axes, problem: Problem, cells: NDArray[np.intp], solution: Solution) -> AxesImage:
    rows, columns = cells.T
    V = np.full(cells.max(0) + 1, np.nan)
    decides = ~problem.mdp.terminal[: len(rows)]
    V[rows[decides], columns[decides]] = solution.V[: len(rows)][decides]
    ax.set_facecolor("0.25")
    image = ax.imshow(V)
    for a, (down, right) in enumerate(problem.moves):
        weight = np.where(decides, solution.pi[: len(rows), a], 0.0)
        shown = weight >= 0.05
        ax.quiver(
            columns[shown],
            rows[shown],
            0.45 * right * weight[shown],
            0.45 * down * weight[shown],
            angles="xy",
            scale_units="xy",
            scale=1.0,
            width=0.006,
            color="white",
        )
    for row, column in cells[~decides]:
        ax.text(column, row, "end", ha="center", va="center", color="white", fontsize=7)
    return image
