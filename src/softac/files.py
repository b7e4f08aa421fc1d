"""Bytes on disk: written whole and durably, read only if they are the ones that were written."""

import hashlib
import io
import os
import stat
from pathlib import Path

import numpy as np

from softac.errors import CheckpointError
from softac.types import FloatArray


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk; a file that cannot be finished is removed.

    Raises:
        OSError: the disk is full, read-only or failing.
    """
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; links and devices are refused.

    Raises:
        CheckpointError: the file is missing, unreadable, too large or not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); expected a regular file; restore it or use an "
            "earlier checkpoint"
        ) from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise CheckpointError(
                f"{path} has {status.st_size} bytes or is not a regular file; expected at most {limit} "
                "bytes; restore it or use an earlier checkpoint"
            )
        return file.read()


def read_hashed(path: Path, size: int, sha256: str) -> bytes:
    """The bytes of a file, if they have this size and SHA-256.

    Raises:
        CheckpointError: the file is missing or its bytes are not the ones that were written.
    """
    data = read_regular(path, size)
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(
            f"{path} is damaged: its size or SHA-256 is not the one in the manifest; expected the bytes "
            "that were written; restore it or use an earlier checkpoint"
        )
    return data


def npy_bytes(rows: FloatArray) -> bytes:
    """A float32 array `[rows, width]` as the bytes of a `.npy` file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, rows, allow_pickle=False)
    return buffer.getvalue()


def parse_npy(data: bytes, width: int, path: Path) -> FloatArray:
    """The inverse of `npy_bytes`; the header is checked before the body is looked at.

    Raises:
        CheckpointError: anything but finite float32 rows of this width.
    """
    stream = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of the format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=1000)
        if fortran or dtype != np.float32 or len(shape) != 2 or shape[1] != width:
            raise ValueError(f"{dtype} of shape {shape}")
        rows = np.frombuffer(data, np.float32, offset=stream.tell()).reshape(shape)
        if not np.isfinite(rows).all():
            raise ValueError("numbers that are not finite")
    except (ValueError, OverflowError, SyntaxError) as error:
        raise CheckpointError(
            f"{path} does not hold what this run needs ({error}); expected finite float32 rows of {width} "
            "numbers; use a checkpoint of this environment"
        ) from None
    return rows
