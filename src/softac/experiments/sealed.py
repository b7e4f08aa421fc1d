"""The files that say what a suite or a search is: JSON with its own SHA-256, of a known format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from softac.errors import CheckpointError, DiskError
from softac.files import read_regular, seal_is_whole, sealed_json, sync_folder, write_durably
from softac.run.checkpoint import parse_json

LARGEST_FILE = 2**25  # bytes

Said = TypeVar("Said")


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write `value` into `path`, the whole of it or nothing.

    Raises:
        OSError: the disk refused.
    """
    partial = path.with_name(f".tmp-{path.name}")
    write_durably(partial, sealed_json(value))
    partial.replace(path)
    sync_folder(path.parent)


def read_sealed(path: Path, form: str, made: Callable[[Any], Said], *, remedy: str = "restore the file") -> Said:
    """What `made` makes of the file that `write_sealed` wrote.

    Args:
        path: of the file.
        form: the format it must name.
        made: of what it says; whatever of its errors a wrong content can cause is refused.
        remedy: what to do where it cannot be used.

    Raises:
        CheckpointError: it is missing, damaged, of another format, or says what cannot be.
    """
    data = read_regular(path, LARGEST_FILE)
    said = parse_json(data, path)
    try:
        if said["format"] != form or not seal_is_whole(data):
            raise ValueError("another format, or changed since")
        return made(said)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} cannot be used ({error})", "expected what softac wrote", remedy) from None


def full(folder: Path, error: OSError) -> DiskError:
    """The error of a folder that the disk did not take a file into."""
    return DiskError(
        f"{folder} cannot be written ({error.strerror})",
        "expected a folder with space of your own",
        "free some space or choose another with --run-dir",
    )
