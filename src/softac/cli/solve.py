"""`softac solve MDP`: soft policy iteration on a finite MDP, shown in the terminal and as a picture.

Nothing heavy is imported before `run`, so that the help of the command stays fast.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from softac.errors import ConfigError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from softac.report.solutions import Problem
    from softac.tabular import Solution

NAMES = ("bridge", "cliff", "empty", "four-rooms", "two-goals")
DEFAULT_ALPHAS = (0.001, 0.01, 0.1)
TOY_TEXT = "toy-text:"
CELL = 9
ARROWS = {(-1, 0): "▲△", (0, 1): "▶▷", (1, 0): "▼▽", (0, -1): "◀◁"}
LEGEND = "arrows: filled for probability >= 1/2, hollow >= 1/5, a dot >= 1/20; numbers: soft values V"
# Where the terminal has no arrows.
ASCII = str.maketrans("▲▶▼◀△▷▽◁░·", "URDLurdl#.")
ASCII_LEGEND = LEGEND.replace("arrows: filled", "up, right, down, left: large").replace("hollow", "small")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `solve` to the command's subparsers; its `run` default is the function to call."""
    parser = subparsers.add_parser(
        "solve",
        help="soft policy iteration on a finite MDP",
        description="Find and show the soft-optimal policy of a finite MDP at one or several temperatures.",
    )
    parser.add_argument(
        "mdp",
        metavar="MDP",
        help=f"a gridworld ({', '.join(NAMES)}), a text file of one (. free, # wall, S start, G goal, "
        f"X pit), or {TOY_TEXT}ID, for instance {TOY_TEXT}FrozenLake-v1",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        nargs="+",
        default=list(DEFAULT_ALPHAS),
        metavar="A",
        help="temperatures, in reward per nat; 0 is the greedy limit (default: 0.001 0.01 0.1)",
    )
    parser.add_argument("--gamma", type=float, default=0.95, help="discount in [0, 1) (default: 0.95)")
    parser.add_argument("--tol", type=float, default=1e-10, help="relative error of Q (default: 1e-10)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw a picture: .png, .svg or .pdf")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Solve, print, and draw if asked; returns the exit code 0.

    Raises:
        ConfigError: for an unknown MDP, a bad layout or number, or a picture that cannot be drawn.
        DiskError: if the picture cannot be written.
    """
    from softac.cli.screen import Screen, ascii_only
    from softac.tabular import soft_policy_iteration

    if args.plot is not None:
        _check_plot(args.plot)
    problem = _load(args.mdp, args.gamma)
    solutions = [(alpha, soft_policy_iteration(problem.mdp, alpha, args.tol)) for alpha in args.alpha]
    console = Screen(highlight=False)
    console.print(f"{problem.name}: {problem.mdp!r}", soft_wrap=True, markup=False)
    for alpha, solution in solutions:
        _print(console, problem, alpha, solution)
    if problem.cells is not None:
        console.print(ASCII_LEGEND if ascii_only(console) else LEGEND, soft_wrap=True)
    if args.plot is not None:
        from softac.report.solutions import draw_solutions

        draw_solutions(problem, solutions, args.plot)
        console.print(f"picture: {args.plot}", soft_wrap=True, markup=False)
    return 0


def _load(name: str, gamma: float) -> Problem:
    from softac.files import exists
    from softac.report.solutions import Problem
    from softac.tabular import LAYOUTS, MOVES, grid_cells, gridworld

    if name.startswith(TOY_TEXT):
        from softac.envs.finite_mdp import from_toy_text, toy_text_grid

        env_id = name.removeprefix(TOY_TEXT)
        grid = toy_text_grid(env_id)
        cells, moves = grid if grid is not None else (None, ())
        return Problem(env_id, from_toy_text(env_id, gamma), cells, moves)
    if name in LAYOUTS:
        layout = LAYOUTS[name]
    elif exists(Path(name)) and Path(name).is_file():
        try:
            layout = Path(name).read_text(encoding="utf-8").split()
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{name} is not a text file ({error.reason})",
                "a gridworld of the letters .#SGX was expected",
                "save it as UTF-8 text",
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{name} cannot be read ({error.strerror})",
                "a text file of the letters .#SGX was expected",
                "check the path and its permissions",
            ) from None
    else:
        raise ConfigError(
            f"there is no MDP {name!r}{nearest(name, NAMES)}",
            f"it must be one of {', '.join(NAMES)}, a text file, or {TOY_TEXT}ID",
            "check the spelling or the path",
        )
    return Problem(name, gridworld(layout, gamma), grid_cells(layout), MOVES)


def _print(console: Console, problem: Problem, alpha: float, solution: Solution) -> None:
    value = float(problem.mdp.start @ solution.V)
    console.print(
        f"\n[bold]alpha {alpha:g}[/bold]: value at the start {value:.6g}, "
        f"policies evaluated: {solution.iterations}"
    )
    if problem.cells is None:
        _print_table(console, problem, solution)
    else:
        _print_grid(console, problem, problem.cells, solution)


def _print_grid(console: Console, problem: Problem, cells: NDArray[np.intp], solution: Solution) -> None:
    from rich.text import Text

    from softac.cli.screen import ascii_only

    states = {(int(row), int(column)): s for s, (row, column) in enumerate(cells)}
    height, width = (int(n) + 1 for n in cells.max(0))
    for row in range(height):
        lines = (Text(), Text(), Text())
        for column in range(width):
            s = states.get((row, column))
            if s is None:
                parts: tuple[list[tuple[str, str]], ...] = tuple([("░" * CELL, "dim")] for _ in lines)
            elif problem.mdp.terminal[s]:
                parts = ([(" " * CELL, "")], [("end".center(CELL), "bold")], [(" " * CELL, "")])
            else:
                weight = dict(zip(problem.moves, solution.pi[s].tolist(), strict=True))
                parts = (
                    [(" " * (CELL // 2), ""), _arrow((-1, 0), weight), (" " * (CELL // 2), "")],
                    [
                        _arrow((0, -1), weight),
                        (f"{solution.V[s]:.3g}".center(CELL - 2), ""),
                        _arrow((0, 1), weight),
                    ],
                    [(" " * (CELL // 2), ""), _arrow((1, 0), weight), (" " * (CELL // 2), "")],
                )
            for line, pieces in zip(lines, parts, strict=True):
                for text, style in pieces:
                    line.append(text, style)
                line.append(" ")
        for line in lines:
            if ascii_only(console):
                line.plain = line.plain.translate(ASCII)
            console.print(line, soft_wrap=True)


def _arrow(move: tuple[int, int], weight: dict[tuple[int, int], float]) -> tuple[str, str]:
    p = weight[move]
    if p >= 0.5:
        return ARROWS[move][0], "bold"
    if p >= 0.2:
        return ARROWS[move][1], ""
    return ("·", "dim") if p >= 0.05 else (" ", "")


def _print_table(console: Console, problem: Problem, solution: Solution) -> None:
    from rich.table import Table

    table = Table("state", "V", *(f"pi(a={a})" for a in range(problem.mdp.n_actions)))
    for s, (V, pi) in enumerate(zip(solution.V.tolist(), solution.pi.tolist(), strict=True)):
        if problem.mdp.terminal[s]:
            table.add_row(str(s), "end")
        else:
            table.add_row(str(s), f"{V:.4g}", *(f"{p:.3f}" for p in pi))
    console.print(table)


def _check_plot(file: Path) -> None:
    if file.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(
            f"--plot {file} has the ending {file.suffix!r}",
            "it must be .png, .svg or .pdf",
            "rename the picture",
        )
    if not file.absolute().parent.is_dir():
        raise ConfigError(
            f"--plot {file} lies in a folder that does not exist",
            "the folder must be there",
            "make it first",
        )
