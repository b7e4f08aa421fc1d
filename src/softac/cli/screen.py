"""The consoles of the command: rich's, but for what follows where they cannot be written to."""

import sys
from typing import Any, cast

from rich.console import Console

from softac.cli.output import Lenient


class Screen(Console):
    """A console whose broken output is an error like any other, and not the end of the process."""

    def on_broken_pipe(self) -> None:
        """Called where that error is handled: raise it again."""
        raise


def meanwhile() -> Console:
    """A console for what is shown while something goes on, which it must never end."""
    return Console(file=None if sys.stdout is None else cast(Any, Lenient(sys.stdout)))


def ascii_only(console: Console) -> bool:
    """Whether the terminal shows no other characters."""
    return not console.encoding.lower().startswith("utf")
