"""The replay on disk: immutable `.npy` segments, written once and named by their content.

A ring only gains rows, so a checkpoint costs the rows that are new since the one before. Row
number k is the k-th transition ever added; a segment holds the rows [start, stop), both observations
in each.
"""

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from softac.errors import CheckpointError
from softac.files import read_hashed, remove, sync_folder, write_durably
from softac.replay.ring import Replay

ROWS_PER_SEGMENT, MOST_BYTES = 50_000, 10**8


@dataclass(frozen=True)
class Segment:
    """The rows [start, stop) in one file, with the size and SHA-256 of its bytes."""

    start: int
    stop: int
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        """Unique to these rows and this content, so that no file is ever written twice."""
        return f"seg-{self.start:012d}-{self.stop:012d}-{self.sha256[:16]}.npy"


def write_segments(replay: Replay, folder: Path, written: list[Segment]) -> list[Segment]:
    """Write the rows that `written` lacks; return the segments that hold the ring as it is now.

    Every new file is complete, flushed to the disk and read back before this returns; one that is there already
    counts only if it holds these bytes.

    Raises:
        OSError: a file could not be written; what was there before is untouched.
    """
    oldest = max(0, replay.added - replay.capacity)
    kept = [s for s in written if s.stop > oldest]
    start = max(oldest, kept[-1].stop if kept else 0)
    at_a_time = max(1, min(ROWS_PER_SEGMENT, MOST_BYTES // replay.bytes_a_row))
    for first in range(start, replay.added, at_a_time):
        stop = min(first + at_a_time, replay.added)
        data = replay.as_bytes(first, stop)
        segment = Segment(first, stop, len(data), hashlib.sha256(data).hexdigest())
        path = folder / segment.file_name
        if not _is_whole(path, segment):
            partial = folder / f".tmp-{os.getpid()}-{segment.file_name}"
            write_durably(partial, data)
            if not _is_whole(partial, segment):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            remove(path)  # damaged, or a link; a good file is never written twice
            partial.rename(path)
        kept.append(segment)
    # A checkpoint that lists a file must not reach the disk before the file's name has.
    sync_folder(folder)
    return kept


def _is_whole(path: Path, segment: Segment) -> bool:
    """Whether the file holds what its name says; a name alone says nothing."""
    try:
        read_hashed(path, segment.size, segment.sha256)
    except CheckpointError:
        return False
    return True


def read_segments(replay: Replay, folder: Path, segments: list[Segment], added: int) -> None:
    """Fill an empty ring from `segments`, which must reach from its oldest row to `added`.

    Raises:
        CheckpointError: a segment is missing, damaged, of another shape, or leaves a gap; the ring is
            then of no more use.
    """
    expected = max(0, added - replay.capacity)
    for segment in segments:
        if not segment.start <= expected < segment.stop or segment.stop > added:
            break
        path = folder / segment.file_name
        rows = replay.from_bytes(read_hashed(path, segment.size, segment.sha256), path)
        if len(rows) != segment.stop - segment.start:
            break
        replay.load(expected, rows[expected - segment.start :])
        expected = segment.stop
    if expected != added:
        raise CheckpointError(
            f"the replay segments reach row {expected}",
            f"expected {added}",
            "use an earlier checkpoint or load without the replay",
        )
    replay.added = added


def forget_segments(folder: Path, needed: set[str]) -> None:
    """Delete the segment files that no remaining checkpoint needs."""
    for path in folder.glob("*seg-*.npy"):
        if path.name not in needed:
            path.unlink(missing_ok=True)
