"""Observations that were normalised before a policy saw them: the statistics become part of its first layer."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softac.files import read_regular
from softac.ship.torch_files import Archive

Array = NDArray[np.float64]
LIMIT = 2**24
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '<f8', 'fortran_order': False, 'shape': \((\d{0,9}),?\), \} *\n", re.DOTALL
)


@dataclass(frozen=True)
class Normalisation:
    """z = (s - mean) / std of every observation s, cut to [-clip, clip].

    Attributes:
        mean: `[O]`.
        std: `[O]`, > 0.
        clip: where z was cut; the layer that takes its place does not cut.
    """

    mean: Array
    std: Array
    clip: float

    def into(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """The layer z W + b as a layer of s: W' = W / std, b' = b - (mean / std) W.

        Args:
            weight: `[O + ..., out]`; what follows the O inputs was never normalised.
            bias: `[out]`.
        """
        n = len(self.mean)
        scaled = weight[:n] / self.std[:, None]
        return np.concatenate((scaled, weight[n:])), bias - self.mean @ scaled


def read_normalisation(path: Path) -> Normalisation:
    """The statistics of a VecNormalize, from an uncompressed `.npz` with `mean`, `var`, `epsilon` and `clip`.

    Raises:
        CheckpointError: it is anything else.
    """
    archive = Archive(read_regular(path, LIMIT), str(path))
    mean, var, epsilon, clip = (
        _vector(archive, name) for name in ("mean.npy", "var.npy", "epsilon.npy", "clip.npy")
    )
    if mean.shape != var.shape or (epsilon.size, clip.size) != (1, 1) or not (var + epsilon > 0).all():
        raise archive.refusal("mean and var differ in length, or a variance is negative")
    return Normalisation(mean, np.sqrt(var + epsilon), float(clip[0]))


def _vector(archive: Archive, name: str) -> Array:
    data = archive.read(name, LIMIT)
    header = HEADER.match(data)
    if header is None or int.from_bytes(header[1], "little") + 10 != header.end():
        raise archive.refusal(f"{name} is no list of float64")
    count = int(header[2] or 1)
    if len(data) - header.end() != 8 * count:
        raise archive.refusal(f"{name} has {len(data) - header.end()} bytes for {count} numbers")
    numbers = np.frombuffer(data, "<f8", offset=header.end())
    if not np.isfinite(numbers).all():
        raise archive.refusal(f"{name} is not finite")
    return numbers
