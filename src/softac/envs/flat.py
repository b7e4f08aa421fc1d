"""Observations as vectors of float32.

Order: a Box in C order; a Dict by sorted key; a Tuple by position; Discrete and MultiDiscrete as one-hot
vectors; MultiBinary as zeros and ones.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from softac.types import FloatArray

NOTHING = np.zeros(0, np.float32)
PIXELS = (np.uint8, np.bool_)


def flat_size(space: gym.Space[Any]) -> int:
    """How many numbers an observation becomes."""
    match space:
        case spaces.Dict():
            return sum(flat_size(s) for s in space.spaces.values())
        case spaces.Tuple():
            return sum(flat_size(s) for s in space.spaces)
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum())
        case _:
            return int(np.prod(space.shape or (), dtype=np.int64))


def flatten(space: gym.Space[Any], obs: Any) -> FloatArray:
    """One observation as `[flat_size]`; raises what comes up where it is none of the space."""
    match space:
        case spaces.Box() | spaces.MultiBinary():
            if isinstance(obs, np.ndarray):
                _require_shape(space, obs)  # before it is copied, since what is wrong may be huge
            # A copy: environments may write their next observation into the same array.
            with np.errstate(over="ignore"):
                array = np.array(obs, np.float32)
            _require_shape(space, array)
            if array.ndim > 1 and space.dtype in PIXELS and getattr(obs, "dtype", None) not in PIXELS:
                _require_whole(space, array)
            return array.ravel()
        case spaces.Dict():
            parts = sorted(space.spaces.items())
            return np.concatenate([NOTHING, *(flatten(part, obs[key]) for key, part in parts)])
        case spaces.Tuple():
            return np.concatenate([NOTHING, *(flatten(s, o) for s, o in zip(space.spaces, obs, strict=True))])
        case spaces.Discrete():
            return _one_hot(int(obs) - int(space.start), int(space.n))
        case spaces.MultiDiscrete():
            start = np.asarray(space.start)
            values = (np.asarray(obs) - start).ravel()
            return np.concatenate(
                [_one_hot(int(v), int(n)) for v, n in zip(values, space.nvec.ravel(), strict=True)]
            )
        case _:
            raise TypeError(type(space).__name__)


def _require_shape(space: gym.Space[Any], array: NDArray[Any]) -> None:
    if array.shape != space.shape:
        raise ValueError(f"an observation of shape {array.shape} where the space says {space.shape}")


def _require_whole(space: gym.Space[Any], array: NDArray[Any]) -> None:
    """Refuse what is acted on as it is, and would be learned from as whole numbers."""
    wrong = array[(array != np.rint(array)) | (array < 0) | (array > 255)]
    if wrong.size and np.isfinite(array).all():
        raise ValueError(f"{wrong[0]:g} among the pixels, where the space says {space.dtype}, whole from 0 to 255")


def item(space: gym.Space[Any], batch: Any, i: int) -> Any:
    """The observation at `i` of a batch."""
    match space:
        case spaces.Dict():
            return {key: item(part, batch[key], i) for key, part in space.spaces.items()}
        case spaces.Tuple():
            return tuple(item(part, b, i) for part, b in zip(space.spaces, batch, strict=True))
        case _:
            return batch[i]


def _one_hot(value: int, n: int) -> FloatArray:
    if not 0 <= value < n:
        raise ValueError(f"the category {value}, not one of {n}")
    encoded = np.zeros(n, np.float32)
    encoded[value] = 1.0
    return encoded
