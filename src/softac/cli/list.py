"""`softac list`."""

import argparse
from typing import Any

from softac.agents.registry import AGENTS


def add_parser(subparsers: Any) -> None:
    """Add `list`."""
    parser = subparsers.add_parser(
        "list", help="the algorithms, one line each", description="The algorithms, one line each."
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:  # noqa: ARG001
    """Print one line for each agent, the first of its docstring."""
    for name, agent in AGENTS.items():
        print(f"{name:<14}{(agent.__doc__ or '').strip().splitlines()[0]}")  # noqa: T201
    return 0
