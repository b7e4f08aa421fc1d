"""`softac bench`."""

import argparse
from pathlib import Path
from typing import Any

from softac.cli.arguments import add_env, add_place, as_path, place, steps
from softac.cli.suite import print_plan, run_suite
from softac.errors import ConfigError
from softac.experiments.plan import plan, require_same, shipped
from softac.experiments.suite import SUITE, read_suite
from softac.files import exists
from softac.run.folder import CONFIG


def add_parser(subparsers: Any) -> None:
    """Add `bench`."""
    parser = subparsers.add_parser(
        "bench",
        help="compare algorithms on environments with many seeds, resumable",
        description="Run a suite: algorithms x environments x seeds, as many runs side by side as there are "
        "cores. The same command goes on where it was interrupted.",
        epilog="suites:\n" + "\n".join(f"  {name:<12} {title}" for name, title in shipped().items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("suite", metavar="SUITE", help="one of those below, or a file that ends in .toml")
    parser.add_argument("-n", "--total-timesteps", metavar="N", help="environment steps of each run")
    parser.add_argument(
        "--seeds", metavar="SEEDS", help="for every algorithm, instead of the suite's: 0-9 or 0,3,7"
    )
    parser.add_argument(
        "--run-dir", type=as_path, metavar="DIR", help="the folder of all runs (default: runs/bench-SUITE)"
    )
    add_env(parser, "the suite file")
    add_place(parser)
    parser.add_argument(
        "--plan",
        action="store_true",
        help="write the run folders, run nothing, and print those left to do, one a line, for a job array",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run what is left to do; returns the exit code."""
    total = None if args.total_timesteps is None else steps(args.total_timesteps)
    suite, models = plan(args.suite, total, args.seeds, args.env)
    path = args.run_dir or Path("runs") / f"bench-{Path(args.suite).stem}"
    if exists(path / SUITE):
        require_same(read_suite(path), suite, path)
    elif exists(path / CONFIG):
        raise ConfigError(
            f"{path} holds a run of its own",
            "expected a new folder, or that of a suite",
            "choose another with --run-dir",
        )
    if args.plan:
        return print_plan(suite, models, path, args.env)
    return run_suite(suite, models, path, args.env, place(args))
