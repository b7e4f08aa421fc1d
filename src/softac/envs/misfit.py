"""Spaces in words: what an observation has wrong, and what an agent sees and does."""

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from softac.envs.flat import flatten
from softac.envs.images import is_image
from softac.envs.leaves import leaves
from softac.words import counted, described


def misfit(space: gym.Space[Any], obs: Any, name: str = "") -> str:
    """In words, what an observation has wrong, and in which of its parts; "" if nothing.

    Args:
        space: where it should be from.
        obs: any object.
        name: of the part that it is, in the words of `leaves`.
    """
    match space:
        case spaces.Dict() if not isinstance(obs, Mapping):
            wrong, parts = f"{_kind(obs)} where the space is a Dict of {', '.join(space.spaces)}", []
        case spaces.Dict():
            missing = [key for key in space.spaces if key not in obs]
            wrong = f"no part {missing[0]!r}" if missing else ""
            parts = [(f"{name}.{k}" if name else k, space[k], obs[k]) for k in sorted(space.spaces) if not missing]
        case spaces.Tuple() if not isinstance(obs, tuple | list) or len(obs) != len(space.spaces):
            of = f" of {len(obs)}" if isinstance(obs, tuple | list) else ""
            wrong, parts = f"{_kind(obs)}{of} where the space is a Tuple of {len(space.spaces)}", []
        case spaces.Tuple():
            wrong, parts = "", [(f"{name}[{i}]", part, obs[i]) for i, part in enumerate(space.spaces)]
        case _:
            wrong, parts = _misfit_of_leaf(space, obs), []
    if wrong:
        return f"part {name!r}: {wrong}" if name else wrong
    return next(filter(None, (misfit(part, value, called) for called, part, value in parts)), "")


def _misfit_of_leaf(space: gym.Space[Any], obs: Any) -> str:
    if obs is None:
        return f"None where the space says {space}"
    if isinstance(space, spaces.Discrete) and np.ndim(obs):
        return f"an array of shape {np.shape(obs)} where the space has one whole number, {space}"
    try:
        flatten(space, obs)
    except Exception as error:  # it may be any object, and raise anything when looked at
        return described(error)
    return ""


def _kind(thing: Any) -> str:
    return "None" if thing is None else f"a {type(thing).__name__}"


def seen(space: gym.Space[Any]) -> Iterator[tuple[str, str]]:
    """What an agent sees of the parts of an observation, by name."""
    for name, _, part in leaves(space):
        match part:
            case spaces.Box() if is_image(part):
                yield name, f"{part.dtype} pixels {part.shape}"  # the networks take parts of their largest value
            case spaces.Box():
                yield name, f"{counted(int(np.prod(part.shape, dtype=int)), 'number')} {part.shape}"
            case spaces.MultiBinary():
                yield name, f"MultiBinary {part.shape}"  # which prints its size as it was given, 2 or (2,)
            case _:
                yield name, str(part)


def acted(space: gym.Space[Any]) -> str:
    """What an agent acts in."""
    if isinstance(space, spaces.MultiBinary):
        return f"MultiBinary {space.shape}"  # which prints its size as it was given, 2 or (2,)
    if not isinstance(space, spaces.Box):
        return str(space)
    bounds = [(f"{low:g}", f"{high:g}") for low, high in zip(space.low.ravel(), space.high.ravel(), strict=True)]
    alike = len(set(bounds)) == 1
    within = f"[{', '.join(bounds[0])}]" if alike else " x ".join(f"[{', '.join(pair)}]" for pair in bounds)
    return f"{counted(space.low.size, 'number')} {space.shape} in {within}"
