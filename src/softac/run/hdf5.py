"""HDF5 files from strangers, of data sets.

HDF5 has links to other files, data in other files, filters that are loaded as programs, and pieces that become far
larger than they say. Only what lies in the file itself is looked at: arrays of numbers that fit into the memory.
"""

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from softac.errors import CheckpointError, ConfigError, one_line
from softac.replay import available_memory

MOST_BYTES = 2**40  # of one array
DEFLATE, LZF = 1, 32000
FILTERS = {DEFLATE, 2, 3, LZF}  # and shuffle and checksum: those that HDF5 and h5py have themselves
GROWTH = {DEFLATE: 1032, LZF: 88}  # bytes that one may become, at most
UNSEEN = 2**30  # bytes that a piece may become whatever it says


def refused(folder: Path, what: str) -> CheckpointError:
    """That the data set in this folder has something that none has."""
    return CheckpointError(
        f"the data set {folder} cannot be used: {what}",
        "expected whole episodes of finite numbers as Minari stores them",
        "get it again, or choose another",
    )


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The HDF5 file, whatever is wrong with it refused in words."""
    import h5py

    if path.is_symlink() or not path.is_file():
        raise refused(path.parent, f"it has no {path.name}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (CheckpointError, ConfigError):
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise refused(path.parent, f"its {path.name} is damaged: {one_line(str(error), 200)}") from None
    except MemoryError:
        raise refused(path.parent, "it does not fit into the memory") from None


class Group:
    """A group, of which only what lies in this very file is looked at.

    Args:
        parent: the file, or a group in it.
        name: within `parent`; with slashes a path.
        folder: of the data set, for what is said.

    Raises:
        CheckpointError: there is none, or it lies elsewhere.
    """

    def __init__(self, parent: Any, name: str, folder: Path) -> None:
        import h5py

        self.folder, self.name = folder, name
        self.group = _own(parent, name, folder)
        if not isinstance(self.group, h5py.Group):
            raise refused(folder, f"{name!r} in it is no group")

    def inside(self, name: str) -> "Group":
        """The group of this name; raises as the class."""
        return Group(self.group, name, self.folder)

    def array(self, name: str) -> Any:
        """The numbers of this name, not yet read.

        Raises:
            CheckpointError: there are none, they lie elsewhere, only another program can unpack them, or they do
                not fit into the memory.
        """
        import h5py

        found = _own(self.group, name, self.folder)
        what = f"{name} of {self.name}"
        if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "fiub" or not found.shape:
            raise refused(self.folder, f"{what} are no array of numbers")
        made = found.id.get_create_plist()
        if found.is_virtual or made.get_external_count():
            raise refused(self.folder, f"{what} lie in another file")
        filters = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
        if set(filters) - FILTERS:
            raise refused(self.folder, f"{what} are packed in a way that only other programs know")
        if size(found) > min(MOST_BYTES, available_memory()):
            chunks = f", in pieces of {found.chunks}" if found.chunks else ""
            raise refused(self.folder, f"{what} do not fit into the memory: {found.shape}{chunks}")
        if _grows(found, filters):
            raise refused(self.folder, f"{what} are packed so that they may become far larger than they say")
        return found


def _own(parent: Any, name: str, folder: Path) -> Any:
    """What lies in `parent` under this name; a slash in it is a path, of which each part may lead elsewhere."""
    import h5py

    found = parent
    for part in name.split("/"):
        link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
        if link is None:
            raise refused(folder, f"{name!r} is missing")
        if not isinstance(link, h5py.HardLink):
            raise refused(folder, f"{name!r} in it leads to another place")
        found = found[part]
    return found


def size(array: Any) -> int:
    """Bytes that reading an array takes: its own, and those of a piece of it that is read as a whole."""
    numbers = math.prod(array.shape) + (math.prod(array.chunks) if array.chunks else 0)
    return int(array.dtype.itemsize * numbers)


def _grows(array: Any, filters: list[int]) -> bool:
    """Whether a packed piece may take more than 1 GiB that is not its own while it is unpacked.

    HDF5 unpacks a piece to its end, whatever size is declared. What lzf does not make smaller is stored as it is.
    """
    if not GROWTH.keys() & set(filters):
        return False
    stored: list[Any] = []
    array.id.chunk_iter(stored.append)
    declared = int(array.dtype.itemsize * math.prod(array.chunks))
    for piece in stored:
        packing = [kind for i, kind in enumerate(filters) if kind in GROWTH and not piece.filter_mask >> i & 1]
        growth = math.prod(GROWTH[kind] for kind in packing)
        if piece.size * growth <= max(declared, UNSEEN) or not packing:
            continue
        if packing != [DEFLATE] or not _inflates_to(array, piece, declared):
            return True
    return False


def _inflates_to(array: Any, piece: Any, declared: int) -> bool:
    """Whether a deflated piece is one, and of at most the size that is declared."""
    try:
        _, packed = array.id.read_direct_chunk(piece.chunk_offset)
        return len(zlib.decompressobj().decompress(packed, declared + 1)) <= declared
    except zlib.error:
        return False
