"""The folder of a run, kept alike on two machines while one of them writes it.

What a run writes makes that simple: checkpoints and segments of the replay never change once they have their name,
and metrics only grow. The order is what makes it safe: segments, then metrics, evaluations and the best agent, and
then the checkpoints that were there before these were looked at. So whatever is lost on the way, a checkpoint that
has arrived is whole and finds beside it all that was written before it.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from softac.errors import CheckpointError
from softac.experiments.command import OUTPUT
from softac.files import remove, sync_folder
from softac.run.names import (
    ACTIONS,
    BEST,
    CHECKPOINTS,
    CONFIG,
    CRASH,
    EVENTS,
    FOLDER_NAME,
    LOG,
    MANIFEST,
    METRICS,
    NETWORKS,
    OPTIM,
    REPLAY,
    SCORE,
    STATE,
)

ASIDE = ".mirror"  # where files lie that have not arrived as a whole
PARTS = (NETWORKS, OPTIM, STATE, ACTIONS, MANIFEST)  # of a checkpoint, in the order in which they are sent
SEGMENT = re.compile(r"seg-\d{12}-\d{12}-([0-9a-f]{16})\.npy", re.ASCII)
OTHER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
FOLDERS = {CHECKPOINTS, REPLAY, BEST, CRASH}
GROWING = (METRICS, OUTPUT, LOG, EVENTS)  # what the names of files begin with that only grow
LARGEST_FILE = 4 * 2**30  # bytes
WHOLE = "whole"

Have = dict[str, tuple[str, int]]


@dataclass(frozen=True)
class Piece:
    """Some bytes of a file.

    Attributes:
        path: in the folder, with "/" between its parts.
        token: the same for all pieces of one content.
        offset: of the first byte.
        data: the bytes.
        last: whether the file is whole with them.
    """

    path: str
    token: str
    offset: int
    data: bytes
    last: bool


@dataclass(frozen=True)
class News:
    """What one side has that the other has not, as far as it fits.

    Attributes:
        pieces: in the order in which they are to be taken in.
        kept: every checkpoint and segment there is; what is not among them is needed no more.
        complete: whether nothing is left to be sent.
    """

    pieces: tuple[Piece, ...]
    kept: frozenset[str]
    complete: bool


def news(folder: Path, have: Mapping[str, tuple[str, int]], budget: int) -> News:
    """What to send to a side that has `have`, at most `budget` bytes.

    Args:
        folder: of a run that may be writing.
        have: path -> token and number of bytes that have arrived.
        budget: at least 1.

    Raises:
        OSError: the disk refused.
    """
    saved, best = _checkpoints(folder, CHECKPOINTS), _checkpoints(folder, BEST)  # before all else is looked at
    segments = [f"{REPLAY}/{name}" for name in _names(folder / REPLAY) if SEGMENT.fullmatch(name)]
    kept = frozenset({*saved, *best, *segments})
    order = [
        *segments,
        *(f"{step}/{part}" for step in best for part in PARTS if step not in have),
        *_others(folder),
        *(f"{step}/{part}" for step in saved for part in PARTS if step not in have),
    ]
    pieces: list[Piece] = []
    gone: set[str] = set()  # checkpoints that are being deleted, as no longer needed
    for path in order:
        step, _, part = path.rpartition("/")
        if have.get(path, ("", 0))[0] == WHOLE or step in gone:
            continue
        try:
            for piece in _next_piece(folder, path, have.get(path), budget):
                pieces.append(piece)
                budget -= len(piece.data)
        except FileNotFoundError:
            if step.startswith(CHECKPOINTS) or part in (
                NETWORKS,
                MANIFEST,
            ):  # the best one does without the others
                gone.add(step)
        if budget <= 0:
            return News(tuple(pieces), kept, complete=False)
    return News(tuple(pieces), kept, complete=True)


def _next_piece(folder: Path, path: str, had: tuple[str, int] | None, budget: int) -> Iterator[Piece]:
    """The piece of one file that comes next; none if all of it has arrived."""
    descriptor = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            return
        # A file that is replaced is another one.
        token = f"{status.st_ino}" if path.startswith(GROWING) else f"{status.st_ino} {status.st_mtime_ns} {size}"
        offset = had[1] if had is not None and had[0] == token and had[1] <= size else 0
        if had == (token, size):
            return
        file.seek(offset)
        data = file.read(min(budget, size - offset))
        if data or size == 0:
            yield Piece(path, token, offset, data, last=offset + len(data) == size)


class Receiver:
    """The side that takes in.

    Args:
        folder: of the run.
        check: asked before anything gets its place in the folder, with the folder that it lies in till then, and
            its path in either: a file, or a checkpoint.

    Attributes:
        have: what has arrived, as `news` needs to know it.
        saved: how many checkpoints have.

    Raises:
        OSError: the disk refused.
    """

    def __init__(self, folder: Path, check: Callable[[Path, str], object] = lambda *_: None) -> None:
        self.folder, self.aside, self.check = folder, folder / ASIDE, check
        self.saved = 0
        remove(self.aside)
        steps = [*_checkpoints(folder, CHECKPOINTS), *_checkpoints(folder, BEST)]
        segments = [f"{REPLAY}/{name}" for name in _names(folder / REPLAY) if SEGMENT.fullmatch(name)]
        self.have: Have = dict.fromkeys((*steps, *segments), (WHOLE, 0))
        self._placed: set[str] = set()  # files that grow and have been given their place

    def take(self, sent: News) -> None:
        """Take in what was sent, and delete what it says is needed no more.

        Raises:
            CheckpointError: it is not what a run writes; what is wrong has not been given a place.
            OSError: the disk refused.
        """
        for piece in sent.pieces:
            self._take(piece)
        if sent.complete:
            self._forget(sent.kept)

    def close(self) -> None:
        """Remove what has not arrived as a whole."""
        remove(self.aside)

    def _take(self, piece: Piece) -> None:
        path, parent = piece.path, _parent(piece.path)
        size = piece.offset + len(piece.data)
        if size > LARGEST_FILE or (piece.offset and self.have.get(path) != (piece.token, piece.offset)):
            raise not_of_a_run(path, "is too large, or came in pieces that do not follow each other")
        appends = piece.offset > 0 and path in self._placed
        target = (self.folder if appends else self.aside) / path
        if not piece.offset:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            self._placed.discard(path)
        self._append(target, piece)
        self.have[path] = piece.token, size
        if parent.startswith((f"{CHECKPOINTS}/", f"{BEST}/")):
            if path.endswith(f"/{MANIFEST}") and piece.last:
                self._place(parent)
                self.saved += parent.startswith(CHECKPOINTS)
        elif piece.last and not appends:
            self._place(path)

    def _append(self, target: Path, piece: Piece) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(target, flags, 0o666), "ab") as file:
            if file.tell() != piece.offset:
                raise not_of_a_run(piece.path, "was changed by somebody else")
            file.write(piece.data)
            if piece.last:
                file.flush()
                os.fsync(file.fileno())

    def _place(self, path: str) -> None:
        """Put what has arrived into its place: a file, or a checkpoint."""
        arrived, place = self.aside / path, self.folder / path
        self.check(self.aside, path)
        place.parent.mkdir(exist_ok=True)
        if arrived.is_dir():
            sync_folder(arrived)
            remove(place)
        arrived.replace(place)
        sync_folder(place.parent)
        with suppress(OSError):  # something else is still arriving; else nothing is left here to be forgotten
            arrived.parent.rmdir()
            self.aside.rmdir()
        if path.startswith(GROWING):
            self._placed.add(path)
        elif SEGMENT.fullmatch(place.name) or FOLDER_NAME.fullmatch(place.name):
            self.have = {known: value for known, value in self.have.items() if not known.startswith(f"{path}/")}
            self.have[path] = WHOLE, 0

    def _forget(self, kept: frozenset[str]) -> None:
        """Delete checkpoints and segments that the other side has not, once all that it has is here."""
        if not kept <= self.have.keys():
            return
        # Segments last, and with a checkpoint that is left: none may miss what it needs.
        for kind in (CHECKPOINTS, BEST, REPLAY):
            if any(path.startswith(BEST if kind == BEST else CHECKPOINTS) for path in kept):
                for path in [p for p in self.have if p.startswith(f"{kind}/") and self.have[p][0] == WHOLE]:
                    if path not in kept:
                        remove(self.folder / path)
                        del self.have[path]


def _checkpoints(folder: Path, kind: str) -> list[str]:
    """Those in `folder`/`kind` that are complete, the oldest first, as paths in `folder`."""
    named = (name for name in _names(folder / kind) if FOLDER_NAME.fullmatch(name))
    return [f"{kind}/{name}" for name in named if (folder / kind / name / MANIFEST).is_file()]


def _others(folder: Path) -> list[str]:
    """All other files of a run, what describes it first."""
    crash = [f"{CRASH}/{name}" for name in _names(folder / CRASH) if OTHER.fullmatch(name)]
    score = [f"{BEST}/{SCORE}"] if (folder / BEST / SCORE).is_file() else []
    names = [name for name in _names(folder) if OTHER.fullmatch(name) and (folder / name).is_file()]
    return [*sorted(names, key=lambda name: name != CONFIG), *score, *crash]


def _names(folder: Path) -> list[str]:
    """The names in a folder; none where there is no folder."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are what is wanted
    except (FileNotFoundError, NotADirectoryError):
        return []


def _parent(path: str) -> str:
    """The folder of a file, if a run writes such a one; raises where none does."""
    parent, _, name = path.rpartition("/")
    kind, _, step = parent.partition("/")
    fits = {
        "": OTHER.fullmatch(name) and name not in FOLDERS,
        REPLAY: SEGMENT.fullmatch(name),
        CRASH: OTHER.fullmatch(name),
        BEST: name == SCORE,
    }
    if not (fits.get(parent) or (kind in (CHECKPOINTS, BEST) and FOLDER_NAME.fullmatch(step) and name in PARTS)):
        raise not_of_a_run(path, "is no file of a run")
    return parent


def not_of_a_run(path: str, why: str) -> CheckpointError:
    """The refusal of what another machine has sent."""
    return CheckpointError(
        f"{path!r:.200} {why}", "expected the files of the run that was sent there", "look at that machine"
    )
