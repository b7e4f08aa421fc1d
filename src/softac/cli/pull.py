"""`softac pull`."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from softac.cli.arguments import as_path
from softac.ship.hub import pull
from softac.words import counted


def add_parser(subparsers: Any) -> None:
    """Add `pull`."""
    parser = subparsers.add_parser(
        "pull",
        help="an agent from the Hugging Face hub, checked as a stranger's folder",
        description="Pull an agent that `softac push` has shared into a new folder. Nothing in it is executed; it "
        "is there whole and checked, or not at all.",
        allow_abbrev=False,
    )
    parser.add_argument("repository", metavar="USER/NAME", help="on the hub")
    parser.add_argument("--revision", metavar="COMMIT", help="a commit, branch or tag (default: the newest)")
    parser.add_argument("--run-dir", type=as_path, metavar="DIR", help="the new folder (default: runs/USER__NAME)")
    parser.add_argument(
        "--whole", action="store_true", help="the replay as well, if it was pushed, to go on learning"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Pull, and print what came; returns the exit code."""
    folder = args.run_dir or Path("runs") / args.repository.replace("/", "__")
    shared = pull(args.repository, folder, revision=args.revision, whole=args.whole)
    named = shlex.quote(str(folder))
    lines = [
        f"{shared.repository} at {shared.revision}: {counted(len(shared.files), 'file')}, step {shared.step:,}",
        f"run      {folder}",
        f"returns  softac eval {named}",
        f"watch    softac enjoy {named}",
    ]
    print("\n".join(lines))  # noqa: T201
    return 0
