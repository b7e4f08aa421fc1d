"""Where tests keep their runs."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A new folder in main memory, if the system has such.

    A run flushes every file of a checkpoint to the disk. Tests that save hundreds of times and are
    not about the disk would spend most of their time waiting for it.
    """
    memory = "/dev/shm"  # noqa: S108 - a new folder in it is made with a name of its own
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)
