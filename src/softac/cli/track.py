"""`softac track`."""

import argparse
from typing import Any

from softac.cli.arguments import as_path
from softac.run.signals import StopSignals
from softac.ship.track import track
from softac.ship.trackers import PROJECT, TRACKERS
from softac.words import counted


def add_parser(subparsers: Any) -> None:
    """Add `track`."""
    parser = subparsers.add_parser(
        "track",
        help="send the metrics of runs to wandb, trackio or mlflow, during them or afterwards",
        description="Send what runs have measured to a tracker. It reads their files, so it works after the fact, "
        "after a kill and for whole suites, and slows no run; no row is sent twice.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=as_path,
        help="run folders, folders of such, or the folder of a suite",
    )
    parser.add_argument("--to", metavar="TRACKER", required=True, help=", ".join(TRACKERS))
    parser.add_argument("--project", default=PROJECT, metavar="NAME", help="of the tracker (default: %(default)s)")
    parser.add_argument("--follow", action="store_true", help="go on until every run is finished")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Send, and say how much; returns the exit code."""
    with StopSignals() as stop:
        for tracked in track(args.runs, args.to, args.project, follow=args.follow, stop=stop):
            print(f"{tracked.name}: {counted(tracked.rows, 'row')} sent to {args.to}")  # noqa: T201
    return 0 if stop.received is None else 128 + stop.received
