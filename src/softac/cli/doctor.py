"""`softac doctor`."""

import argparse
from typing import Any

from softac.cli.arguments import add_env, as_path, require_run
from softac.cli.findings import show, verdict
from softac.examine.installation import installation, self_test
from softac.examine.learning import learning
from softac.examine.run_files import files


def add_parser(subparsers: Any) -> None:
    """Add `doctor`."""
    parser = subparsers.add_parser(
        "doctor",
        help="check the installation, or the health of a run",
        description="Check the installation; with RUN, that its files are whole and that it learns as it should. "
        "Exit code 0 if healthy (notes included), 1 if there is a problem, 3 if no checkpoint verifies.",
        allow_abbrev=False,
    )
    parser.add_argument("run_dir", metavar="RUN", nargs="?", type=as_path, help="the folder of a run")
    add_env(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examine and print; returns the exit code."""
    if args.run_dir is None:
        found = list(installation())
        show(found, "installation")
        tested = list(self_test())
        show(tested, "self-test")
        found += tested
        verdict(found, "softac is ready: softac train")
    else:
        path = require_run(args.run_dir)
        found = list(files(path))
        show(found, "files")
        learned = list(learning(path, args.env))
        show(learned, "learning")
        found += learned
        verdict(found, "healthy")
    return max(finding.exit_code for finding in found)
