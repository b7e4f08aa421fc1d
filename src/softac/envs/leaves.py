"""The leaves of a space, and a name for each number of a flattened observation."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


def leaves(
    space: gym.Space[Any], name: str = "", path: tuple[Any, ...] = ()
) -> Iterator[tuple[str, tuple[Any, ...], gym.Space[Any]]]:
    """The leaves of a space in the order in which `Spaces.flatten` reads them: name, keys, space."""
    match space:
        case spaces.Dict():
            for key, part in sorted(space.spaces.items()):
                yield from leaves(part, f"{name}.{key}" if name else str(key), (*path, key))
        case spaces.Tuple():
            for i, part in enumerate(space.spaces):
                yield from leaves(part, f"{name}[{i}]", (*path, i))
        case _:
            yield name or "the observation", path, space


def coordinates(space: gym.Space[Any]) -> tuple[list[str], Any, Any, Any]:
    """For each flattened number: its name, its bounds, and whether it comes from a Box."""
    names: list[str] = []
    low, high, is_box = [], [], []
    for name, path, part in leaves(space):
        n = spaces.flatdim(part)
        prefix = name if path else ""
        names += [f"{prefix}[{i}]" if prefix else str(i) for i in range(n)]
        box = isinstance(part, spaces.Box)
        low.append(part.low.ravel() if isinstance(part, spaces.Box) else np.zeros(n))
        high.append(part.high.ravel() if isinstance(part, spaces.Box) else np.ones(n))
        is_box.append(np.full(n, box))
    with np.errstate(over="ignore"):
        bounds = [np.concatenate(b).astype(np.float32) for b in (low, high)]
    return names, bounds[0], bounds[1], np.concatenate(is_box)


def inside(obs: Any, path: tuple[Any, ...]) -> Any:
    """The part of an observation that lies under these keys."""
    for key in path:
        obs = obs[key]
    return obs
