"""`softac list` and `softac defaults`."""

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from softac.agents.registry import AGENTS, find_agent
from softac.config import as_text, default, expected, fields


def add_list_parser(subparsers: Any) -> None:
    """Add `list`."""
    parser = subparsers.add_parser(
        "list", help="the algorithms, one line each", description="The algorithms, one line each."
    )
    parser.set_defaults(run=run_list)


def add_defaults_parser(subparsers: Any) -> None:
    """Add `defaults`."""
    parser = subparsers.add_parser(
        "defaults",
        help="the hyperparameters of an algorithm: default, range, meaning",
        description="The hyperparameters of an algorithm: default, range, meaning.",
    )
    parser.add_argument("algorithm", metavar="ALGO", nargs="?", default="sac", help="(default: sac)")
    parser.set_defaults(run=run_defaults)


def run_list(args: argparse.Namespace) -> int:  # noqa: ARG001
    """Print one line for each agent, the first of its docstring."""
    for name, agent in AGENTS.items():
        print(f"{name:<14}{(agent.__doc__ or '').strip().splitlines()[0]}")  # noqa: T201
    return 0


def run_defaults(args: argparse.Namespace) -> int:
    """Print a table of hyperparameters."""
    config = find_agent(args.algorithm).Config
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "default", "accepts", "meaning"):
        table.add_column(column, overflow="fold")
    for name, field in fields(config).items():
        table.add_row(name, as_text(default(config, name)), expected(field), field.description)
    Console().print(table)
    return 0
