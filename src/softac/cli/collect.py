"""`softac collect`."""

import argparse
from typing import Any

from softac.cli.arguments import add_run, as_path, require_run, whole_number
from softac.config import make_config
from softac.model import Model
from softac.run.config import RunConfig
from softac.ship.collect import collect


def add_parser(subparsers: Any) -> None:
    """Add `collect`."""
    parser = subparsers.add_parser(
        "collect",
        help="play a policy into a data set that others can read (Minari)",
        description="Play whole episodes with a trained agent and write them down in Minari's format, local HDF5. "
        "`softac train --prior FOLDER` learns from them.",
        allow_abbrev=False,
    )
    add_run(parser)
    parser.add_argument("--episodes", default=100, metavar="N", help="episodes (default: 100)")
    parser.add_argument(
        "-o", "--output", type=as_path, metavar="DIR", help="the new folder of the data set (default: RUN/data)"
    )
    parser.add_argument(
        "--best", action="store_true", help="the agent of the best evaluation, not the last checkpoint"
    )
    parser.add_argument("--deterministic", action="store_true", help="the mode of the policy, not its exploration")
    parser.add_argument("--seed", default=0, metavar="SEED", help="of the start states (default: 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Play, write and print; returns the exit code."""
    episodes = whole_number(args.episodes, "--episodes", 100)
    seed = make_config(RunConfig, {"seed": args.seed}).seed
    path = require_run(args.run_dir)
    model = Model.load(path, args.env, best=args.best, trust_module=args.env is not None)
    found = collect(model, args.output or path / "data", episodes, deterministic=args.deterministic, seed=seed)
    mean = sum(found.returns) / len(found.returns)
    print(f"{len(found.returns)} episodes, {found.steps:,} steps, mean return {mean:,.1f}, in {found.folder}")  # noqa: T201
    return 0
