"""`softac defaults`."""

import argparse
from typing import Any

from rich.table import Table

from softac.agents.registry import find_agent
from softac.cli.screen import Screen
from softac.config import as_text, default, expected, fields


def add_parser(subparsers: Any) -> None:
    """Add `defaults`."""
    parser = subparsers.add_parser(
        "defaults",
        help="the hyperparameters of an algorithm: default, range, meaning",
        description="The hyperparameters of an algorithm: default, range, meaning.",
    )
    parser.add_argument("algorithm", metavar="ALGO", nargs="?", default="sac", help="(default: sac)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a table of hyperparameters."""
    config = find_agent(args.algorithm).Config
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "default", "accepts", "meaning"):
        table.add_column(column, overflow="fold")
    for name, field in fields(config).items():
        table.add_row(name, as_text(default(config, name)), expected(field), field.description)
    Screen().print(table)
    return 0
