"""`softac check`."""

import argparse
from typing import Any

from softac.cli.arguments import add_env_kwargs, env_kwargs
from softac.cli.findings import show, verdict
from softac.errors import ConfigError
from softac.examine.environment import check_env


def add_parser(subparsers: Any) -> None:
    """Add `check`."""
    parser = subparsers.add_parser(
        "check",
        help="run an environment and say what soft actor-critic will and will not like about it",
        description="Run an environment with random actions and say in plain words what soft actor-critic will "
        "and will not like about it. Exit code 0 if it can be trained on, 2 if a space cannot, 4 if the "
        "environment fails.",
        allow_abbrev=False,
    )
    parser.add_argument("env", metavar="ENV", help="a Gymnasium id; module:Env-v0 imports the module")
    add_env_kwargs(parser)
    parser.add_argument("--steps", default="1000", metavar="N", help="random steps to make (default: 1000)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check and print; returns the exit code."""
    steps = _steps(args.steps)
    findings = check_env(args.env, env_kwargs(args.env_kwargs), steps=steps, trust_module=True)
    show(findings, f"{args.env}, {steps:,} random steps")
    verdict(findings, f"softac can learn here: softac train ALGO {args.env}, with an ALGO of `softac list`")
    return max(finding.exit_code for finding in findings)


def _steps(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(
            f"--steps {text} was given",
            "expected a whole number, at least 1",
            "give 1000, say",
        )
    return number
