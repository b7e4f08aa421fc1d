"""The border between an environment and its agent as plain data: leaves of observations, form of actions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from softac.envs.spaces import Spaces

Keys = tuple[str | int, ...]
Float64Array = NDArray[np.float64]

LARGEST_DRAWN = 1e6


@dataclass(frozen=True)
class Leaf:
    """One array of an observation.

    Attributes:
        name: "observation", and behind a slash the key or number of each Dict or Tuple it lies in; slashes and
            tildes of keys are written as in a JSON pointer (RFC 6901).
        path: these keys and numbers.
        shape: of the array.
        dtype: of the array, by NumPy's name.
        categories: how many there are for each number, which becomes one-hot; empty: numbers stay as they are.
        starts: the first category of each.
    """

    name: str
    path: Keys
    shape: tuple[int, ...]
    dtype: str
    categories: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers the array has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def width(self) -> int:
        """How many numbers of the flattened observation it becomes."""
        return sum(self.categories) if self.categories else self.size


@dataclass(frozen=True)
class ActionForm:
    """What an action of the environment looks like.

    Attributes:
        shape: of the array; () for one discrete action.
        dtype: by NumPy's name.
        low: the bounds of each number, flattened; empty where actions are discrete.
        high: likewise.
        n: how many discrete actions there are; 0 where they are continuous, or several choices at once.
        start: the first of them.
    """

    shape: tuple[int, ...]
    dtype: str
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    n: int = 0
    start: int = 0

    @property
    def resting(self) -> NDArray[Any]:
        """The action within the bounds that is nearest to 0, or the first: the safest without knowing anything."""
        if self.n:
            return np.array(self.start, self.dtype)
        nearest: NDArray[Any] = np.clip(0.0, np.array(self.low), np.array(self.high))
        return nearest.reshape(self.shape).astype(self.dtype)


def leaves(space: gym.Space[Any], name: str = "observation", path: Keys = ()) -> Iterator[Leaf]:
    """The leaves in the order in which `Spaces.flatten` reads them."""
    match space:
        case spaces.Dict():
            for key, part in sorted(space.spaces.items()):
                yield from leaves(part, f"{name}/{_escaped(str(key))}", (*path, key))
        case spaces.Tuple():
            for i, part in enumerate(space.spaces):
                yield from leaves(part, f"{name}/{i}", (*path, i))
        case spaces.Discrete():
            yield Leaf(name, path, (), str(np.dtype(space.dtype)), (int(space.n),), (int(space.start),))
        case spaces.MultiDiscrete():
            n, start = (tuple(int(v) for v in np.ravel(values)) for values in (space.nvec, space.start))
            yield Leaf(name, path, space.shape, str(np.dtype(space.dtype)), n, start)
        case _:
            yield Leaf(name, path, space.shape or (), str(np.dtype(space.dtype)))


def action_form(given: Spaces) -> ActionForm:
    """The form of the actions of this environment."""
    space = given.action_space
    dtype = str(np.dtype(space.dtype))
    if isinstance(space, spaces.Discrete):
        return ActionForm((), dtype, n=int(space.n), start=int(space.start))
    return ActionForm(space.shape, dtype, tuple(given.low.tolist()), tuple(given.high.tolist()))


def draw(space: gym.Space[Any], n: int, generator: np.random.Generator) -> Any:
    """`n` observations of the space as one batch, of its own structure.

    Bounded numbers are uniform between their bounds, others normal, with a standard deviation between 0.1 and 10
    that each observation draws for itself.
    """
    match space:
        case spaces.Dict():
            return {key: draw(part, n, generator) for key, part in space.spaces.items()}
        case spaces.Tuple():
            return tuple(draw(part, n, generator) for part in space.spaces)
        case spaces.Box():
            return _draw_box(space, n, generator)
        case spaces.Discrete():
            return generator.integers(space.n, size=n).astype(space.dtype) + space.start
        case spaces.MultiDiscrete():
            return generator.integers(space.nvec, size=(n, *space.shape)).astype(space.dtype) + space.start
        case _:
            return generator.integers(2, size=(n, *(space.shape or ()))).astype(space.dtype)


def _draw_box(space: spaces.Box, n: int, generator: np.random.Generator) -> NDArray[Any]:
    low, high = (bound.astype(np.float64) for bound in (space.low, space.high))
    bounded = (low >= -LARGEST_DRAWN) & (high <= LARGEST_DRAWN)
    size = (n, *space.shape)
    spread = 10.0 ** generator.uniform(-1.0, 1.0, (n, *(1 for _ in space.shape)))
    normal = np.clip(spread * generator.standard_normal(size), low, high)
    uniform = generator.uniform(np.where(bounded, low, 0.0), np.where(bounded, high, 0.0), size)
    numbers = np.where(bounded, uniform, normal)
    if np.issubdtype(space.dtype, np.floating):
        return numbers.astype(space.dtype)
    return np.clip(np.rint(numbers), low, high).astype(space.dtype)


def part_of(obs: Any, path: Keys) -> Any:
    """The part of an observation that lies under these keys."""
    for key in path:
        obs = obs[key]
    return obs


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
