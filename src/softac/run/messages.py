"""Where the messages of the library go while a command runs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from softac.run.names import LOG

# What printed lines begin with: an error that ends the command, and what does not.
ERROR, WARNING, NOTE = "softac: ", "softac: warning: ", "softac: note: "


@contextmanager
def messages_to(*handlers: logging.Handler) -> Iterator[None]:
    """Send what the library logs to these handlers and nowhere else; as before afterwards."""
    logger = logging.getLogger("softac")
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = list(handlers), False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])
        for handler in handlers:
            handler.close()


def to_file_in(folder: Path) -> logging.Handler:
    """A handler that adds messages to the `log.txt` of a run.

    A link in its place is removed: in a folder from a stranger it may lead to a file somewhere else.
    """
    path = folder / LOG
    with suppress(OSError):
        if path.is_symlink():
            path.unlink()
    return logging.FileHandler(path, delay=True)


def to_stderr() -> logging.Handler:
    """A handler that prints messages beside the errors of the command."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    return handler


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return as_line(record)


def as_line(record: logging.LogRecord) -> str:
    """A message as the command prints it, told apart from the error that ends one."""
    return f"{WARNING if record.levelno >= logging.WARNING else NOTE}{record.getMessage()}"
