"""`softac report`."""

import argparse
from pathlib import Path
from typing import Any

from softac.cli.arguments import as_path
from softac.report import write_report


def add_parser(subparsers: Any) -> None:
    """Add `report`."""
    parser = subparsers.add_parser(
        "report",
        help="one self-contained page on runs: curves, tables, failures",
        description="Write one HTML page on runs: learning curves with intervals, returns at fixed steps, what is "
        "missing, time, settings. It needs no network and no script.",
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
        default=Path("report.html"),
        help="the page (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page; returns the exit code."""
    n = write_report(args.runs, args.output)
    print(f"{args.output}: {n} run{'' if n == 1 else 's'}")  # noqa: T201
    return 0
