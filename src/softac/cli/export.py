"""`softac export`."""

import argparse
from typing import Any

from softac.cli.arguments import add_run, as_path, require_run, steps
from softac.model import Model
from softac.ship.export import Agreement, export, require_format

EXPORTED = "export"


def add_parser(subparsers: Any) -> None:
    """Add `export`."""
    parser = subparsers.add_parser(
        "export",
        help="a trained policy as files that act without softac",
        description="Write the deterministic policy of a run as files that act without softac, from the "
        "environment's own observation to its own action. They are compared with the agent on 10,000 observations "
        "first.",
        allow_abbrev=False,
    )
    add_run(parser)
    parser.add_argument(
        "--to",
        default="onnx",
        metavar="FORMAT",
        help="onnx: policy.onnx; numpy: policy.py and policy.safetensors, NumPy alone; c: policy.c, policy.h and "
        "check.c, C99 without libraries (default: onnx)",
    )
    parser.add_argument(
        "-o", "--output", type=as_path, metavar="DIR", help=f"the folder for the files (default: RUN/{EXPORTED})"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--best", action="store_true", help="the agent of the best evaluation, not the last checkpoint"
    )
    which.add_argument("--step", metavar="N", help="the checkpoint of this step, not the last")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export and print; returns the exit code."""
    require_format(args.to)
    step = None if args.step is None else steps(args.step, "--step")
    model = Model.load(
        require_run(args.run_dir), args.env, best=args.best, step=step, trust_module=args.env is not None
    )
    paths, agreement = export(model, args.to, args.output or args.run_dir / EXPORTED)
    for path in paths:
        print(f"{path}  {path.stat().st_size:,} bytes")  # noqa: T201
    print(f"agent of step {model.num_timesteps:,}; {_in_words(agreement)}")  # noqa: T201
    trust = " --trust" if args.to == "c" else ""
    print(f"play it   softac run {paths[0]} {model.source.name}{trust}")  # noqa: T201
    return 0


def _in_words(agreement: Agreement) -> str:
    """How well the files act as the agent does."""
    if agreement.largest:
        apart = f"at most {agreement.largest:.1g} of the bounds' width from its actions"
    else:
        apart = "exactly its actions"
    undecided = f", but for {agreement.undecided} where it is undecided itself" if agreement.undecided else ""
    return f"{agreement.observations:,} observations: {apart}{undecided}"
