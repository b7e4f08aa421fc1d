"""Standard output: what cannot be printed there, or not in its letters, ends nothing that goes on."""

import codecs
import logging
import os
import sys
from contextlib import suppress
from typing import Any

# Letters that not every terminal has, and those that stand for them there.
PLAIN = {"−": "-", "±": "+-", "µ": "u", "·": ".", "…": ".", "×": "x", "≥": ">=", "≤": "<="}

log = logging.getLogger("softac")


class Lenient:
    """An output for what is shown meanwhile: where it cannot be written to, it falls silent.

    Args:
        stream: writes what it can.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._silent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write, if that can be."""
        self._attempt(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Write what is still to be written, if that can be."""
        self._attempt(self.stream.flush)

    def _attempt(self, what: Any, *arguments: str) -> None:
        try:
            if not self._silent:
                what(*arguments)
        except OSError as error:
            self._silent = True
            silence(self.stream)
            if not isinstance(error, BrokenPipeError):  # otherwise the reader has left and knows it
                log.warning("nothing more can be shown (%s); what has begun goes on", error.strerror)


def say(text: str) -> None:
    """Print a line about what goes on or has ended; where that cannot be, nothing is lost but the line."""
    if sys.stdout is not None:
        print(text, file=Lenient(sys.stdout), flush=True)


def silence(stream: Any) -> None:
    """Send what is written to a stream from here on to nowhere, and what waits in it."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def in_its_letters() -> None:
    """Have standard output print others in place of the letters that it does not have."""
    codecs.register_error("softac", _plain)
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict":
            stream.reconfigure(errors="softac")  # type: ignore[union-attr]


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
