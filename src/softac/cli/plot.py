"""`softac plot`."""

import argparse
from pathlib import Path
from typing import Any

from softac.cli.arguments import require_folder
from softac.plots import learning_curves, save_figure
from softac.run.folder import CONFIG
from softac.run.suite import SUITE, read_suite


def add_parser(subparsers: Any) -> None:
    """Add `plot`."""
    parser = subparsers.add_parser(
        "plot",
        help="learning curves of one or several runs, as a picture",
        description="Draw learning curves; runs that differ in the seed only become one line with an interval.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders, or folders of such")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", default=Path("learning_curves.png"), help=".png, .svg or .pdf"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw; returns the exit code."""
    save_figure(learning_curves(find_runs(args.runs), names(args.runs)), args.output)
    print(args.output)  # noqa: T201
    return 0


def find_runs(folders: list[Path]) -> list[Path]:
    """The run folders among `folders` and directly below them."""
    runs: list[Path] = []
    for folder in folders:
        below = sorted(path.parent for path in require_folder(folder).glob(f"*/{CONFIG}"))
        runs += [folder] if (folder / CONFIG).exists() or not below else below
    return runs


def names(folders: list[Path]) -> dict[Path, str]:
    """What the runs of suites among `folders` are called there."""
    suites = [(folder, read_suite(folder)) for folder in folders if (folder / SUITE).exists()]
    return {
        folder / member.folder: member.group.name
        for folder, suite in suites
        for member in suite.members
        if member.group.name
    }
