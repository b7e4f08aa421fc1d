"""The replay of observations with images: a ring of rows that refer to planes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softac.errors import CheckpointError
from softac.files import npy_bytes, npy_parts, parse_npy
from softac.replay.planes import Packing
from softac.replay.ring import REACH, Replay, forecast
from softac.types import EnvSpec, FloatArray, Row, SoftRow, SoftTransition, Transition


class ImageReplay(Replay):
    """A `Replay` that keeps each image, and each frame of a stack, once and as bytes; see `softac.replay.planes`.

    Its own rows have the numbers of planes in the place of pixels, so whatever is true of the observations of a
    `Replay` is true of them. Batches are whole again.

    Args:
        capacity: as for `Replay`, as the others.
        spec: with the images.
        device: where batches are delivered.
        bonus: whether entropy bonuses are kept.
    """

    def __init__(self, capacity: int, spec: EnvSpec, device: torch.device, bonus: bool = False) -> None:
        self.packing = Packing(spec, 2 * min(capacity, REACH))
        self.delivered, self.obs_dim = device, spec.obs_dim
        packed = replace(spec, obs_dim=self.packing.width, images=())
        super().__init__(capacity, packed, torch.device("cpu"), bonus)
        self.bytes_a_row = forecast(1, spec)

    @property
    def nbytes(self) -> int:
        """Bytes of the memory touched so far: rows, spare rows, pointers and planes."""
        return super().nbytes + self.packing.nbytes

    @property
    def lent(self) -> Tensor:
        """The memory that the observations of a batch are views of."""
        return self._whole

    def add(self, row: Row | SoftRow) -> None:
        """Append one transition."""
        if self.added >= self.capacity:
            self.packing.release(self._obs[self.added % self.capacity])
        super().add(row._replace(obs=self.packing.packed(row.obs), next_obs=self.packing.packed(row.next_obs)))

    def sample(self, batch_size: int, generator: torch.Generator) -> Transition | SoftTransition:
        """As `Replay.sample`, with whole observations."""
        batch = super().sample(batch_size, generator)
        self.packing.unpack(self._drawn_numbers[:, : self.packing.width], self._whole)
        moved = (part.to(self.delivered) for part in batch)
        return type(batch)(*moved)._replace(obs=self._whole[:batch_size], next_obs=self._whole[batch_size:])

    def explicit_rows(self, first: int, stop: int) -> FloatArray:
        """As `Replay.explicit_rows`, with whole observations."""
        rows, k = super().explicit_rows(first, stop), self.packing.width
        packed = np.concatenate([rows[:, :k], rows[:, -k:]])
        whole = self.packing.unpack(packed, torch.empty(len(packed), self.obs_dim)).numpy()
        return np.concatenate([whole[: len(rows)], rows[:, k:-k], whole[len(rows) :]], axis=1)

    def as_bytes(self, first: int, stop: int) -> bytes:
        """As `Replay.as_bytes`, then a `.npy` of the planes that these rows refer to, for each size of planes."""
        rows, k = super().explicit_rows(first, stop), self.packing.width
        pairs, tables = self.packing.localised(np.stack([rows[:, :k], rows[:, -k:]], axis=1))
        rows[:, :k], rows[:, -k:] = pairs[:, 0], pairs[:, 1]
        rows = np.concatenate([rows, self.bonuses(first, stop)], axis=1)
        return npy_bytes(rows) + b"".join(npy_bytes(table) for table in tables)

    def from_bytes(self, data: bytes, path: Path) -> FloatArray:
        """The inverse of `as_bytes`, to be loaded at once: nothing refers to the planes before."""
        first, *others = npy_parts(data, 1 + len(self.packing.pools), path)
        rows = super().from_bytes(first, path).copy()
        own, following = self._sides(rows)
        tables = [
            parse_npy(part, size, path, np.uint8) for part, size in zip(others, self.packing.pools, strict=True)
        ]
        try:
            pairs = self.packing.globalised(np.stack([own, following], axis=1), tables)
        except ValueError as error:
            raise CheckpointError(
                f"{path} does not hold what this run needs ({error})",
                "expected rows that refer to its own planes",
                "use a checkpoint of this environment",
            ) from None
        own[:], following[:] = pairs[:, 0], pairs[:, 1]
        return rows

    def load(self, first: int, rows: FloatArray) -> None:
        """As `Replay.load`, of what `from_bytes` gave."""
        own, following = self._sides(rows)
        self.packing.retain(own)
        self.packing.retain(following)
        super().load(first, rows)
        # Where a row's next obs is another row's own, that one holds its planes.
        places = self._next[np.arange(first, first + len(rows)) % self.capacity]
        self.packing.release(following[places < self.capacity])
        self.packing.forget_unused()

    def _sides(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The observations of explicit rows, with or without bonuses behind them, and the next ones; views."""
        k, end = self.packing.width, rows.shape[1] - self.bonus
        return rows[:, :k], rows[:, end - k : end]

    def _vacate(self, place: int) -> None:
        self.packing.release(self._obs[place])
        super()._vacate(place)

    def _make_batch(self, size: int) -> None:
        super()._make_batch(size)
        self._whole = torch.empty(2 * size, self.obs_dim, dtype=torch.float32, device=self.delivered)


def make_replay(capacity: int, spec: EnvSpec, device: torch.device, bonus: bool = False) -> Replay:
    """The replay for these observations; see `Replay` for the arguments."""
    return (ImageReplay if spec.images else Replay)(capacity, spec, device, bonus)
