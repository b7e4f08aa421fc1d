"""Action masks: which of the discrete actions an environment allows in its present state.

An environment says so in one of three ways: a part `action_mask` of a Dict observation, `info["action_mask"]`
of reset and of every step, or a method `action_masks()`. Here the last two become the first, so that a mask
travels wherever its observation does: into the replay, to the policy, through `predict`, into exported files.
"""

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from softac.envs.flat import flat_size
from softac.errors import RAISED, ConfigError
from softac.types import EnvSpec, FloatArray
from softac.words import counted

MASK, OBSERVATION, METHOD = "action_mask", "observation", "action_masks"
Choices = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


def choices_of(space: gym.Space[Any]) -> tuple[int, ...]:
    """How many there are to choose from, for each choice that an action consists of; empty for a Box."""
    match space:
        case spaces.Discrete():
            return (int(space.n),)
        case spaces.MultiDiscrete():
            return tuple(int(n) for n in space.nvec.ravel())
        case spaces.MultiBinary():
            return (2,) * int(np.prod(space.shape, dtype=np.int64))
        case _:
            return ()


def number_of_choices(space: gym.Space[Any]) -> int:
    """How many there are to choose from in all, 0 for a Box; not by listing them, since they may be billions."""
    many = isinstance(space, spaces.MultiBinary)
    return 2 * math.prod(space.shape or ()) if many else sum(choices_of(space))


def place_of_mask(space: gym.Space[Any], choices: tuple[int, ...]) -> int | None:
    """Where the mask begins in the flattened observation; None where there is none.

    Raises:
        ConfigError: the mask has another length than there are actions.
    """
    if not choices or not isinstance(space, spaces.Dict) or not _is_mask(space.spaces.get(MASK)):
        return None
    if (size := flat_size(space[MASK])) != sum(choices):
        raise ConfigError(
            f"observations[{MASK!r}] has {counted(size, 'number')} for {counted(sum(choices), 'action')}",
            "expected one for each, 1 where it is allowed, and of several choices one after the other",
            "correct the space, or rename the part if it is something else",
        )
    return sum(flat_size(part) for key, part in space.spaces.items() if key < MASK)


def _is_mask(space: gym.Space[Any] | None) -> bool:
    if isinstance(space, spaces.Box):
        return bool((space.low >= 0).all() and (space.high <= 1).all())
    return isinstance(space, spaces.MultiBinary)


def observe_mask(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """The environment, its mask a part of its observations if it says one elsewhere.

    Whether `info` brings one is seen from a reset.
    """
    if not is_maskless(env.observation_space, env.action_space):
        return env
    if env.has_wrapper_attr(METHOD) and callable(env.get_wrapper_attr(METHOD)):
        return MaskObserved(env, by_method=True)
    try:
        _, info = env.reset(seed=0)
    except RAISED:  # the first reset that matters says what is wrong
        return env
    return MaskObserved(env, by_method=False) if says_mask(info) else env


def is_maskless(observations: gym.Space[Any], actions: gym.Space[Any]) -> bool:
    """Whether there are actions to mask and observations have no part for it."""
    part = isinstance(observations, spaces.Dict) and MASK in observations.spaces
    return number_of_choices(actions) > 0 and not part


def says_mask(info: Any) -> bool:
    """Whether an environment's `info`, which may be any object, brings a mask."""
    return isinstance(info, Mapping) and info.get(MASK) is not None


class MaskObserved(gym.Wrapper[Any, Any, Any, Any]):
    """Observations `{"action_mask": ..., "observation": ...}` of an environment that gives its mask elsewhere.

    Args:
        env: the environment.
        by_method: whether `action_masks()` says it; else `info["action_mask"]`.
    """

    def __init__(self, env: gym.Env[Any, Any], *, by_method: bool) -> None:
        super().__init__(env)
        self.by_method, self.size = by_method, number_of_choices(env.action_space)
        mask = spaces.MultiBinary(self.size)
        self.observation_space = spaces.Dict({MASK: mask, OBSERVATION: env.observation_space})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """The first observation with its mask."""
        answer: Any = self.env.reset(seed=seed, options=options)
        if not isinstance(answer, tuple) or len(answer) != 2:
            return answer  # which is refused where every answer is looked at
        obs, info = answer
        return self._with_mask(obs, info, terminated=False), info

    def step(self, action: Any) -> Any:
        """The next observation with its mask."""
        answer: Any = self.env.step(action)
        if not isinstance(answer, tuple) or len(answer) != 5:
            return answer
        obs, reward, terminated, truncated, info = answer
        return self._with_mask(obs, info, terminated=bool(terminated)), reward, terminated, truncated, info

    def _with_mask(self, obs: Any, info: Any, *, terminated: bool) -> dict[str, Any]:
        if terminated:  # nobody acts any more, and many environments say nothing sensible then
            mask: Any = np.ones(self.size)
        else:
            mask = self.env.get_wrapper_attr(METHOD)() if self.by_method else info.get(MASK)
        if isinstance(mask, tuple | list) and np.ndim(mask[0] if mask else mask):  # an array for each choice
            mask = np.concatenate([np.ravel(part) for part in mask])
        return {OBSERVATION: obs} if mask is None else {MASK: mask, OBSERVATION: obs}


def with_mask(space: gym.Space[Any], spec: EnvSpec, obs: Any, mask: Any) -> Any:
    """What a user gives as an observation, or many of them, and a mask beside it, as the space has it.

    Raises:
        ConfigError: the mask is missing, or there is none to be given.
    """
    beside = spec.mask is not None and space.keys() == {MASK, OBSERVATION}  # type: ignore[attr-defined]
    if mask is not None and spec.mask is None:
        raise ConfigError(
            "action_masks were given, and the environment of this model has none",
            f"expected one that says info[{MASK!r}] when it is reset, or has a method {METHOD}()",
            "leave them out, or train it there",
        )
    if mask is not None:
        return {MASK: np.asarray(mask), OBSERVATION: obs} if beside else {**obs, MASK: np.asarray(mask)}
    if beside and not (isinstance(obs, dict) and MASK in obs):
        raise ConfigError(
            "an observation without its action mask was given",
            f"expected action_masks=, what the environment says in info[{MASK!r}] or {METHOD}()",
            f"call predict(obs, action_masks=info[{MASK!r}]), say",
        )
    return obs


def misfit_of_mask(spec: EnvSpec, flat: FloatArray) -> str:
    """In words, what the mask in a flattened observation has wrong; "" if nothing, or if there is none."""
    if spec.mask is None:
        return ""
    mask = flat[spec.mask : spec.mask + sum(spec.choices)]
    if (odd := np.flatnonzero((mask != 0.0) & (mask != 1.0))).size:
        return f"an action mask with {mask[odd[0]]:g} for action {odd[0]}, not 0 or 1"
    first = 0
    for i, n in enumerate(spec.choices):
        if not mask[first : first + n].any():
            which = "action" if len(spec.choices) == 1 else f"action {i}"
            return f"an action mask that allows no {which}, of {n}"
        first += n
    return ""


def require_allowed(spec: EnvSpec, obs: FloatArray, actions: FloatArray) -> None:
    """Raise ValueError where one of `actions` `[T, A]` is forbidden by the mask in its own of `obs` `[T, O]`."""
    if spec.mask is None:
        return
    first = spec.mask + np.cumsum((0, *spec.choices[:-1]))
    allowed = np.take_along_axis(obs, first + actions.astype(np.int64), 1) > 0.0
    if (wrong := np.flatnonzero(~allowed.all(1))).size:
        chosen = ", ".join(f"{index:g}" for index in actions[wrong[0]])
        raise ValueError(f"action {chosen} of step {wrong[0] + 1}, which its own mask forbids")


def allowing_all(spec: EnvSpec, flat: FloatArray) -> FloatArray:
    """A terminal observation whose mask allows everything: nobody acts on it, and no target looks at its value."""
    if spec.mask is not None:
        flat[spec.mask : spec.mask + sum(spec.choices)] = 1.0
    return flat


def allowing_all_at_the_end(spec: EnvSpec, obs: Any, *, several: bool) -> Any:
    """The observations of an episode that terminates, or its last one alone, as `allowing_all` has them."""
    if spec.mask is None or not isinstance(obs, dict) or MASK not in obs:
        return obs  # what lacks a mask is refused where it is read
    mask = np.array(obs[MASK])
    mask[-1 if several else ...] = 1
    return {**obs, MASK: mask}


def allowing_some(spec: EnvSpec, obs: Any) -> Any:
    """Observations that were drawn at random, as one batch; where a mask allows nothing of a choice, its first."""
    if spec.mask is not None:
        mask, first = obs[MASK].reshape(len(obs[MASK]), -1), 0
        mask[:] = mask > 0.5  # flags of a Box are drawn between 0 and 1
        for n in spec.choices:
            mask[~mask[:, first : first + n].any(1), first] = 1
            first += n
    return obs
