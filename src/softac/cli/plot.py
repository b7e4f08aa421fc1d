"""`softac plot`."""

import argparse
from pathlib import Path
from typing import Any

from softac.cli.arguments import as_path
from softac.report.plots import learning_curves, save_figure
from softac.report.results import read_runs


def add_parser(subparsers: Any) -> None:
    """Add `plot`."""
    parser = subparsers.add_parser(
        "plot",
        help="learning curves of one or several runs, as a picture",
        description="Draw learning curves; runs that differ in the seed only become one line with an interval.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=as_path,
        help="run folders, folders of such, or the folder of a suite",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=as_path,
        metavar="FILE",
        default=Path("learning_curves.png"),
        help=".png, .svg or .pdf",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw; returns the exit code."""
    save_figure(learning_curves(read_runs(args.runs).results), args.output)
    print(args.output)  # noqa: T201
    return 0
