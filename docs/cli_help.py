"""What `softac COMMAND --help` prints, as a directive: the page cannot disagree with the program."""

import os
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

WIDTH = "96"  # columns


class Help(SphinxDirective):
    """`{help} train`: the help text of one command; without an argument that of `softac` itself."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = help_text(*self.arguments)
        return [nodes.literal_block(text, text, language="text")]


def help_text(command: str = "") -> str:
    from softac.cli.main import build_parser

    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    try:
        parser: Any = build_parser([command] if command else [])
        if command:
            parser = parser._subparsers._group_actions[0].choices[command]
        return parser.format_help()
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("help", Help)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
