"""Gridworlds drawn as text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from softac.errors import ConfigError
from softac.tabular.checks import as_number
from softac.tabular.mdp import FiniteMDP

# One step up, right, down, left, as (row, column): the order of a gridworld's four actions.
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))

LAYOUTS = {
    "bridge": ["#XXXX#", "S....G", "#XXXX#"],
    "cliff": ["............", "............", "............", "SXXXXXXXXXXG"],
    "empty": ["S....", ".....", ".....", ".....", "....G"],
    "four-rooms": [
        "...........",
        ".S...#.....",
        ".....#.....",
        "...........",
        ".....#.....",
        "#.####.....",
        ".....###.##",
        ".....#.....",
        ".....#.....",
        ".........G.",
        ".....#.....",
    ],
    "two-goals": ["G.....S.....G"],
}


def gridworld(
    layout: str | Sequence[str],
    gamma: ArrayLike,
    *,
    goal_reward: ArrayLike = 1.0,
    pit_reward: ArrayLike = -1.0,
    step_reward: ArrayLike = 0.0,
    slip: ArrayLike = 0.0,
) -> FiniteMDP:
    """An MDP from rows of text: `.` free, `#` wall, `S` start, `G` goal, `X` pit; always sparse.

    States are the cells that are not walls, in reading order (`grid_cells` has their places); actions are up,
    right, down, left. A move into a wall or off the grid stays. Goals and pits are terminal.

    Args:
        layout: rows of equal length, as a list or as one text of several lines.
        gamma: discount in [0, 1).
        goal_reward: paid on entering a goal, in addition to `step_reward`.
        pit_reward: paid on entering a pit, in addition to `step_reward`.
        step_reward: paid for every step.
        slip: probability in [0, 1] of moving at a right angle to the action, half to either side.

    Raises:
        ConfigError: for rows of unequal length, unknown letters, no free cell, slip outside [0, 1].
    """
    letters, slip = _letters(layout), as_number(slip, "slip")
    if not 0.0 <= slip <= 1.0:
        raise ConfigError(
            f"slip is {slip}",
            "it is a probability and must be in [0, 1]",
            "use 0 for moves that never fail",
        )
    cells = np.argwhere(letters != "#")
    kind = letters[tuple(cells.T)]
    reached = _reached(letters, cells)
    S, A = reached.shape
    P = _moves(reached, slip)
    goal, pit = as_number(goal_reward, "goal_reward"), as_number(pit_reward, "pit_reward")
    entering = np.where(kind == "G", goal, 0.0) + np.where(kind == "X", pit, 0.0)
    terminal = (kind == "G") | (kind == "X")
    r = as_number(step_reward, "step_reward") + np.asarray(P @ entering).reshape(S, A)
    r[terminal] = 0.0
    P = sparse.csr_array(sparse.diags_array(np.repeat(~terminal, A).astype(np.float64)) @ P)
    starts = kind == "S"
    return FiniteMDP(P, r, gamma, terminal, starts / starts.sum() if starts.any() else None)


def _reached(letters: NDArray[np.str_], cells: NDArray[np.intp]) -> NDArray[np.int32]:
    """The state `[S, A]` to which each action leads from each."""
    number = np.full(letters.shape, -1, dtype=np.int32)
    number[tuple(cells.T)] = np.arange(len(cells))
    return np.stack([_neighbours(cells, number, move) for move in MOVES], axis=1)


def _moves(reached: NDArray[np.int32], slip: float) -> sparse.csr_array:
    """P `[S * A, S]` where action a, if it does not slip, leads from s to `reached[s, a]`."""
    S, A = reached.shape
    chances = ((0, 1.0 - slip), (1, slip / 2.0), (3, slip / 2.0)) if slip > 0.0 else ((0, 1.0),)
    columns = np.stack([np.roll(reached, -turn, axis=1) for turn, _ in chances], axis=-1)
    weights = np.broadcast_to([chance for _, chance in chances], columns.shape)
    starts = np.arange(0, columns.size + 1, len(chances))
    return sparse.csr_array((weights.ravel(), columns.ravel(), starts), shape=(S * A, S))


def grid_cells(layout: str | Sequence[str]) -> NDArray[np.intp]:
    """Row and column of each state of `gridworld(layout, ...)`, `[S, 2]`."""
    return np.argwhere(_letters(layout) != "#")


def _letters(layout: str | Sequence[str]) -> NDArray[np.str_]:
    rows = layout.split() if isinstance(layout, str) else layout
    if not isinstance(rows, list | tuple) or not all(isinstance(row, str) for row in rows):
        raise ConfigError(
            f"the layout is {layout!r:.100}",
            "expected rows of the letters .#SGX",
            'write a list of texts like "S..G", or one text of several lines',
        )
    layout = rows
    if not layout or not layout[0]:
        raise ConfigError(
            "the layout is empty",
            "it must have a row with a cell",
            "draw one with the letters .#SGX",
        )
    for i, row in enumerate(layout):
        if len(row) != len(layout[0]):
            raise ConfigError(
                f"row {i} of the layout has {len(row)} cells and row 0 has {len(layout[0])}",
                "all rows must be equally long",
                "fill them up with #",
            )
        unknown = [j for j, letter in enumerate(row) if letter not in ".#SGX"]
        if unknown:
            raise ConfigError(
                f"row {i}, column {unknown[0]} of the layout is {row[unknown[0]]!r}",
                "the letters are . free, # wall, S start, G goal, X pit",
                "use one of them",
            )
    letters = np.array([list(row) for row in layout])
    if (letters == "#").all():
        raise ConfigError(
            "the layout has walls only",
            "it must have a cell to be in",
            "draw one with . or S",
        )
    return letters


def _neighbours(cells: NDArray[np.intp], number: NDArray[np.int32], move: tuple[int, int]) -> NDArray[np.int32]:
    """The state reached from each cell by one move, itself where the move is blocked."""
    there = cells + np.array(move)
    inside = ((there >= 0) & (there < number.shape)).all(-1)
    reached = np.full(len(cells), -1, dtype=np.int32)
    reached[inside] = number[tuple(there[inside].T)]
    return np.where(reached < 0, number[tuple(cells.T)], reached)
