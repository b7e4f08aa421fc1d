"""Which spaces can be learned on, and what to do about the others."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from softac.envs.flat import flat_size
from softac.envs.images import require_at_most_four_dimensions
from softac.envs.masks import number_of_choices
from softac.errors import ConfigError

ActionSpace = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary

# Beyond this a bound says "any number": the policy covers the whole range from its first step.
LARGEST_BOUND = 1e6
MOST_ACTIONS = 1_000_000


def check_observation_space(space: gym.Space[Any], where: str = "observations") -> None:
    """Raise ConfigError for a space, or a part of it, that no algorithm here can read."""
    match space:
        case spaces.Dict() | spaces.Tuple():
            parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
            for key, part in parts:
                if isinstance(space, spaces.Dict) and not isinstance(key, str):
                    raise ConfigError(
                        f"{where} have the key {key!r}",
                        "expected texts as keys, which have an order and can be written into files",
                        "rename it with gymnasium.wrappers.TransformObservation",
                    )
                check_observation_space(part, f"{where}[{key!r}]")
        case spaces.Box():
            require_at_most_four_dimensions(space, where)
        case spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            pass
        case _:
            raise ConfigError(
                f"{where} are of kind {type(space).__name__}",
                "expected Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them",
                "turn them into a Box with gymnasium.wrappers.TransformObservation",
            )
    if where == "observations" and flat_size(space) == 0:
        raise ConfigError(
            "observations are empty",
            "expected at least one number",
            "add one to the environment",
        )


def checked_action_space(space: gym.Space[Any]) -> ActionSpace:
    """The space, if some algorithm here can act in it; else ConfigError."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        if not (n := number_of_choices(space)):
            raise ConfigError("the action space is empty", "expected at least one choice", "add one")
        if n > MOST_ACTIONS:
            raise ConfigError(
                f"there are {n:,} discrete actions",
                f"expected at most {MOST_ACTIONS:,}, each with a value of its own",
                "choose among fewer, or declare a Box",
            )
        return space
    if not isinstance(space, spaces.Box):
        raise ConfigError(
            f"actions are of kind {type(space).__name__}",
            "expected a Box of finite bounds (continuous actions), Discrete, MultiDiscrete or MultiBinary",
            "flatten them with a gymnasium.ActionWrapper",
        )
    if not np.issubdtype(space.dtype, np.floating):
        raise ConfigError(
            f"actions are a Box of {space.dtype}",
            "expected floating-point actions",
            "declare the space with dtype=np.float32, or Discrete for a method with discrete actions",
        )
    if space.low.size == 0:
        raise ConfigError(
            "the action space is empty",
            "expected at least one dimension",
            "add one",
        )
    largest = float(np.maximum(np.abs(space.low), np.abs(space.high)).max())
    if not largest <= LARGEST_BOUND:
        raise ConfigError(
            f"actions are bounded by {largest:g}",
            f"expected finite bounds of at most {LARGEST_BOUND:g}, since the policy explores all of them",
            "declare useful bounds, or wrap the environment in gymnasium.wrappers.TransformAction with a bounded "
            "Box",
        )
    return space
