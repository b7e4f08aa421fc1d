"""`softac push`."""

import argparse
from typing import Any

from softac.cli.arguments import as_path, require_run
from softac.ship.hub import push
from softac.words import counted


def add_parser(subparsers: Any) -> None:
    """Add `push`."""
    parser = subparsers.add_parser(
        "push",
        help="share an agent on the Hugging Face hub, private unless asked otherwise",
        description="Push configuration, networks, metrics, a card and the learning curve of a run in one commit. "
        "No pickle, no path of this machine; optimiser and replay only with --whole.",
        allow_abbrev=False,
    )
    parser.add_argument("run_dir", metavar="RUN", type=as_path, help="the folder of a run")
    parser.add_argument("repository", metavar="USER/NAME", help="on the hub; made if it does not exist")
    parser.add_argument("--best", action="store_true", help="the agent of the best evaluation")
    parser.add_argument("--whole", action="store_true", help="with optimiser and replay, to go on learning from")
    parser.add_argument("--public", action="store_true", help="for everybody to see; else a new one is private")
    parser.add_argument("--video", type=as_path, metavar="FILE.mp4", help="a film for the card")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Push, and print what and where; returns the exit code."""
    run_dir = require_run(args.run_dir)
    shared = push(run_dir, args.repository, best=args.best, whole=args.whole, public=args.public, film=args.video)
    print(f"{counted(len(shared.files), 'file')} of step {shared.step:,}: {', '.join(shared.files)}")  # noqa: T201
    print(f"pull it  softac pull {shared.repository} --revision {shared.revision}")  # noqa: T201
    return 0
