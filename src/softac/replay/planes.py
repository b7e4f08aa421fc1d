"""The planes of images: each kept once, as bytes, and observations that consist of their numbers.

A plane is one channel of one image. An observation is stored as its other numbers and, for each plane of its
images, the plane's number. Planes are recognised by their bytes. So an image is kept once, whether it is the
observation before or after an action, and so is each frame of a stack, along whichever axis it was stacked.
"""

import mmap
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softac.types import EnvSpec, FloatArray, Image

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int32]

GROWTH = 2**26  # bytes by which the memory of planes grows
PER_PLANE = 4 + 8  # bytes beside each plane: how often it is referred to, and its hash
COLOURS = (1, 3)  # channels of one picture; of another number of planes, each is taken for a frame of its own


class Planes:
    """Planes of one size, numbered, each kept as long as something refers to it.

    Args:
        size: bytes of a plane.
        recent: how many of the last planes are recognised when they come again.
    """

    def __init__(self, size: int, recent: int) -> None:
        self.size, self.recent = size, recent
        self._memory = self._reserved(1)
        self.table: Bytes = self._view()
        self.references = np.zeros(len(self.table), np.int32)
        self._hashes = np.zeros(len(self.table), np.int64)
        self._known: dict[int, int] = {}  # numbers by hash, those met last at the end
        self._free: list[int] = []
        self.used = 0  # planes ever touched

    def number(self, plane: Bytes) -> int:
        """The number of this plane `[size]`; a new one unless it is among those met last."""
        key = hash(plane.tobytes())
        found = self._known.pop(key, None)
        if found is not None and not np.array_equal(self.table[found], plane):
            found = None  # another one with the same hash, which from now on is forgotten
        number = self._new(plane, key) if found is None else found
        self._known[key] = number
        if len(self._known) > self.recent:
            del self._known[next(iter(self._known))]
        return number

    def retain(self, numbers: Numbers) -> None:
        """Count a reference to each of these."""
        np.add.at(self.references, numbers.ravel(), 1)

    def release(self, numbers: Numbers) -> None:
        """Take a reference to each of these back; what nothing refers to is forgotten."""
        for number in numbers.ravel().tolist():
            self.references[number] -= 1
            if self.references[number] == 0:
                self._forget(number)

    def forget_unused(self) -> None:
        """Forget all that nothing refers to."""
        for number in {*np.flatnonzero(self.references[: self.used] == 0).tolist()} - {*self._free}:
            self._forget(number)

    @property
    def nbytes(self) -> int:
        """Bytes of the memory touched so far."""
        return self.used * (self.size + PER_PLANE)

    def _new(self, plane: Bytes, key: int) -> int:
        if self._free:
            number = self._free.pop()
        else:
            if self.used == len(self.table):
                self._grow()
            number, self.used = self.used, self.used + 1
        self.table[number], self._hashes[number], self.references[number] = plane, key, 0
        return number

    def _forget(self, number: int) -> None:
        key = int(self._hashes[number])
        if self._known.get(key) == number:
            del self._known[key]
        self._free.append(number)

    def _reserved(self, planes: int) -> mmap.mmap:
        # Private and anonymous: it can grow where it is, without a copy and without two of it at a time.
        size = -(-planes * self.size // GROWTH) * GROWTH
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def _view(self) -> Bytes:
        planes = len(self._memory) // self.size
        return np.frombuffer(self._memory, np.uint8, planes * self.size).reshape(planes, self.size)

    def _grow(self) -> None:
        del self.table  # memory that somebody looks at cannot be moved
        self._memory.resize(len(self._memory) + -(-self.size // GROWTH) * GROWTH)
        self.table = self._view()
        more = len(self.table) - len(self.references)
        self.references = np.append(self.references, np.zeros(more, np.int32))
        self._hashes = np.append(self._hashes, np.zeros(more, np.int64))


class Packing:
    """Observations with images as rows of numbers, of which the last ones are the numbers of planes.

    Args:
        spec: where the images are.
        recent: how many of the last observations' planes are recognised when they come again.

    Attributes:
        width: numbers in a packed row; planes' numbers are int32, in the bits of a float32.
    """

    def __init__(self, spec: EnvSpec, recent: int) -> None:
        self.spec, self.images = spec, spec.images
        self._n = sum(span.stop - span.start for span in spec.numbers)
        self.width = packed_width(spec)
        sizes = {image.height * image.width for image in self.images}
        self.pools = {size: Planes(size, recent * sum(i.planes for i in self.images)) for size in sorted(sizes)}
        edges = [self._n]
        for image in self.images:
            edges.append(edges[-1] + image.planes)
        self._columns = [slice(*pair) for pair in pairwise(edges)]  # of each image's planes, in a packed row

    @property
    def nbytes(self) -> int:
        """Bytes of the memory that planes have touched so far."""
        return sum(pool.nbytes for pool in self.pools.values())

    def packed(self, obs: FloatArray) -> FloatArray:
        """One observation `[O]` as a row `[width]`; its planes are referred to once more."""
        row = np.empty(self.width, np.float32)
        row[: self._n] = _joined(obs, self.spec.numbers)
        for image, pool, numbers in self._each(row):
            planes = _planes(obs[image.start : image.stop].astype(np.uint8), image)
            numbers[:] = [pool.number(plane) for plane in planes]
            pool.retain(numbers)
        return row

    def retain(self, rows: FloatArray) -> None:
        """Count a reference to each plane of these rows `[..., width]`."""
        for _, pool, numbers in self._each(rows):
            pool.retain(numbers)

    def release(self, rows: FloatArray) -> None:
        """Take a reference to each plane of these rows `[..., width]` back."""
        for _, pool, numbers in self._each(rows):
            pool.release(numbers)

    def unpack(self, rows: FloatArray, out: Tensor) -> Tensor:
        """The observations that these rows `[n, width]` stand for, written into `out` `[n, O]`, on its device."""
        start = 0
        for span in self.spec.numbers:
            stop = start + span.stop - span.start
            out[:, span] = torch.from_numpy(rows[:, start:stop])
            start = stop
        for image, pool, numbers in self._each(rows):
            planes = torch.from_numpy(pool.table.take(numbers.ravel(), 0)).to(out.device)
            s, h, w, c = image.stack, image.height, image.width, image.channels
            into = out[:, image.start : image.stop].view(-1, s, h, w, c)
            into.copy_(planes.view(-1, s, c, h, w).permute(0, 1, 3, 4, 2))
        return out

    def localised(self, rows: FloatArray) -> tuple[FloatArray, list[Bytes]]:
        """Rows `[..., width]` whose planes are numbered from 0 in the order in which they come, and these planes.

        The numbers are float32, and planes that are equal have one number, so that both depend on nothing but the
        observations. Planes are in one table `[m, size]` for each size.
        """
        rows = rows.copy()
        found: dict[int, dict[bytes, int]] = {size: {} for size in self.pools}
        for _, pool, numbers in self._each(rows):
            known = found[pool.size]
            each, places = np.unique(numbers, return_inverse=True)
            first = np.full(len(each), numbers.size)
            np.minimum.at(first, places.ravel(), np.arange(numbers.size))
            local = np.empty(len(each), np.float32)
            for i in np.argsort(first):
                local[i] = known.setdefault(pool.table[each[i]].tobytes(), len(known))
            numbers.view(np.float32)[...] = local[places].reshape(numbers.shape)
        return rows, [np.frombuffer(b"".join(known), np.uint8).reshape(-1, size) for size, known in found.items()]

    def globalised(self, rows: FloatArray, tables: list[Bytes]) -> FloatArray:
        """The inverse of `localised`: rows that refer to planes here, of which no reference is counted yet.

        Raises:
            ValueError: a number that no plane has.
        """
        rows = rows.copy()
        for _, pool, numbers in self._each(rows):
            local, size = numbers.view(np.float32), len(tables[list(self.pools).index(pool.size)])
            if not ((local >= 0) & (local < size) & (local == np.floor(local))).all():
                raise ValueError("numbers that no plane has")
        here = {
            pool.size: np.array([pool.number(plane) for plane in table], np.int32)
            for pool, table in zip(self.pools.values(), tables, strict=True)
        }
        for _, pool, numbers in self._each(rows):
            numbers[...] = here[pool.size][numbers.view(np.float32).astype(np.int64)]
        return rows

    def forget_unused(self) -> None:
        """Forget all planes that nothing refers to."""
        for pool in self.pools.values():
            pool.forget_unused()

    def _each(self, rows: FloatArray) -> Iterator[tuple[Image, Planes, Numbers]]:
        """Each image with its planes and their numbers in rows `[..., width]`, which are a view."""
        for image, columns in zip(self.images, self._columns, strict=True):
            yield image, self.pools[image.height * image.width], rows.view(np.int32)[..., columns]


def packed_width(spec: EnvSpec) -> int:
    """How many numbers a replay keeps in a row for an observation: an image's are the numbers of its planes."""
    return spec.obs_dim - spec.pixels + sum(image.planes for image in spec.images)


def new_bytes(spec: EnvSpec) -> int:
    """The bytes of planes that an observation is expected to bring: those of the last picture of each stack."""
    total = 0
    for image in spec.images:
        colours = image.channels if image.stack > 1 and image.channels > 1 else image.planes
        new = colours if colours in COLOURS else 3 if colours % 3 == 0 else 1
        total += new * (image.height * image.width + PER_PLANE)
    return total


def _planes(numbers: Bytes, image: Image) -> Bytes:
    """An image as its planes `[S C, H W]`."""
    s, h, w, c = image.stack, image.height, image.width, image.channels
    if c == 1:
        return numbers.reshape(s, h * w)
    return np.ascontiguousarray(numbers.reshape(s, h * w, c).transpose(0, 2, 1)).reshape(s * c, h * w)


def _joined(obs: FloatArray, spans: tuple[slice, ...]) -> FloatArray:
    return np.concatenate([obs[span] for span in spans]) if spans else obs[:0]
