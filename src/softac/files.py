"""Bytes on disk: written whole and durably, read only if they are the ones that were written."""

import hashlib
import io
import json
import os
import re
import shutil
import stat
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from softac.errors import CheckpointError, ConfigError

LARGEST_TOML = 2**20
NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)"
    rb"\{'descr': '(<f4|\|u1)', 'fortran_order': False, 'shape': \((\d{1,18}), (\d{1,9})\), \} *\n",
    re.DOTALL,
)
SEALED = re.compile(rb'(.*,\n) "sha256": "([0-9a-f]{64})"\n\}\n', re.DOTALL)


def user_path(given: str | Path) -> Path:
    """What a user's path means, wherever the process goes later: absolute, ~ being the home folder.

    Raises:
        ConfigError: there can be no such file or folder.
    """
    try:
        path = Path(given).expanduser().absolute()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # whoever opens it says so
            path.lstat()
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"the path {str(given)!r:.100} cannot be used ({reason})",
            "expected that of a file or folder",
            "correct it",
        ) from None
    return path


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and flush it to the disk; a file that cannot be finished is removed.

    Raises:
        OSError: the disk is full, read-only or failing.
    """
    try:
        with new_file(path) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def new_file(path: Path) -> BinaryIO:
    """A new, empty file, open for writing.

    What has this name is removed and not written through: in a folder from a stranger it may be a
    link to a file somewhere else.
    """
    path.unlink(missing_ok=True)
    return path.open("xb")


def replace_bytes(path: Path, data: bytes) -> None:
    """Give a file new content all at once; not flushed to the disk. A link is replaced, not written through."""
    partial = path.with_name(f".tmp-{path.name}")
    with new_file(partial) as file:
        file.write(data)
    partial.replace(path)


def replace_durably(path: Path, data: bytes) -> None:
    """`replace_bytes`, and it is on the disk when this returns."""
    partial = path.with_name(f".tmp-{path.name}")
    write_durably(partial, data)
    partial.replace(path)
    sync_folder(path.parent)


def replace_text(path: Path, text: str) -> None:
    """`replace_bytes` for text, in UTF-8."""
    replace_bytes(path, text.encode())


def exists(path: Path) -> bool:
    """Whether there is something of this name: not where it is too long, or a folder before it cannot be read."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def remove(path: Path) -> None:
    """Delete a folder with all that is in it, or a file, or a link but not what it leads to; if possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


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
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
                raise CheckpointError(
                    f"{path} has {status.st_size} bytes or is not a regular file",
                    f"expected at most {limit} bytes",
                    "restore it or use an earlier checkpoint",
                )
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror})",
            "expected a regular file",
            "restore it or use an earlier checkpoint",
        ) from None


def read_toml(path: Path, expected: str, page: str) -> dict[str, Any]:
    """What a TOML file of at most 1 MiB says; a link means what it leads to, since a user has named it.

    Args:
        path: the file.
        expected: what it is to hold, in words.
        page: of the documentation, with an example.

    Raises:
        ConfigError: the file cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(read_regular(Path(os.path.realpath(user_path(path))), LARGEST_TOML).decode())
    except (CheckpointError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        detail = error.given if isinstance(error, CheckpointError) else f"{path}: {error}"
        raise ConfigError(detail, f"expected {expected}", f"see {page} for one, and correct the file") from None


def read_hashed(path: Path, size: int, sha256: str) -> bytes:
    """The bytes of a file, if they have this size and SHA-256.

    Raises:
        CheckpointError: the file is missing or its bytes are not the ones that were written.
    """
    data = read_regular(path, size)
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(
            f"{path} is damaged: its size or SHA-256 is not the one in the manifest",
            "expected the bytes that were written",
            "restore it or use an earlier checkpoint",
        )
    return data


def npy_bytes(rows: NDArray[Any]) -> bytes:
    """A table `[rows, width]` of float32 or uint8 as the bytes of a `.npy` file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, rows, allow_pickle=False)
    return buffer.getvalue()


def parse_npy(data: bytes, width: int, path: Path, kind: Any = np.float32) -> NDArray[Any]:
    """The inverse of `npy_bytes`, for tables of this `kind`.

    NumPy reads a header by parsing it as Python. Here it has to be, letter for letter, the header
    that NumPy writes for such rows.

    Raises:
        CheckpointError: anything but finite rows of this width.
    """
    header, dtype = _npy_header(data), np.dtype(kind)
    wrong, rows = "", np.zeros((0, width), kind)
    if header is None or header[2].decode() != dtype.str:
        wrong = f"not a table of {dtype}"
    elif int(header[4]) != width:
        wrong = f"{dtype} of shape ({header[3].decode()}, {header[4].decode()})"
    elif len(data) - header.end() != _npy_size(header):
        wrong = f"{len(data) - header.end()} bytes for {header[3].decode()} rows"
    else:
        rows = np.frombuffer(data, kind, offset=header.end()).reshape(-1, width)
        if not np.isfinite(rows).all():
            wrong = "numbers that are not finite"
    if wrong:
        raise CheckpointError(
            f"{path} does not hold what this run needs ({wrong})",
            f"expected finite {dtype} rows of {width} numbers",
            "use a checkpoint of this environment",
        )
    return rows


def npy_parts(data: bytes, n: int, path: Path) -> list[bytes]:
    """The `n` files of `npy_bytes` of which these bytes are one after the other, to be parsed.

    Raises:
        CheckpointError: they are not so many.
    """
    parts, rest = [], data
    while rest and (header := _npy_header(rest)) is not None:
        stop = header.end() + _npy_size(header)
        parts.append(rest[:stop])
        rest = rest[stop:]
    if rest or len(parts) != n:
        raise CheckpointError(
            f"{path} does not hold what this run needs ({len(parts)} tables and {len(rest)} bytes)",
            f"expected {n} tables",
            "use a checkpoint of this environment",
        )
    return parts


def _npy_header(data: bytes) -> re.Match[bytes] | None:
    header = NPY_HEADER.match(data)
    return None if header is None or int.from_bytes(header[1], "little") + 10 != header.end() else header


def _npy_size(header: re.Match[bytes]) -> int:
    return int(header[3]) * int(header[4]) * np.dtype(header[2].decode()).itemsize


def sealed_json(value: dict[str, Any]) -> bytes:
    """`value` as JSON whose last member is the SHA-256 of all that stands before it."""
    body = json.dumps(value, indent=1, allow_nan=False).removesuffix("\n}").encode() + b",\n"
    return body + f' "sha256": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def seal_is_whole(data: bytes) -> bool:
    """Whether these are, to the last bit, the bytes that `sealed_json` made."""
    sealed = SEALED.fullmatch(data)
    return sealed is not None and hashlib.sha256(sealed[1]).hexdigest() == sealed[2].decode()
