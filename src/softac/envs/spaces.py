"""Spaces: how an agent sees observations, how its actions reach the environment, and both in a file."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from softac.envs.flat import flat_size, flatten, item
from softac.envs.images import images_of, read_with
from softac.envs.learnable import check_observation_space, checked_action_space
from softac.envs.leaves import coordinates, inside, leaves
from softac.envs.masks import choices_of, misfit_of_mask, place_of_mask, with_mask
from softac.envs.misfit import acted, misfit, seen
from softac.errors import CheckpointError, ConfigError
from softac.types import AsEncoder, EnvSpec, FloatArray

DEPTH_LIMIT, LARGEST = 8, 10_000_000  # of what comes from a file
PLAIN = re.compile(r"[a-z]+[0-9]*")


class Spaces:
    """The observation and action space of an environment, as the agent sees them.

    Args:
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them.
        action_space: a Box of finite bounds (any shape, any float type, bounds per dimension),
            Discrete, MultiDiscrete or MultiBinary.

    Raises:
        ConfigError: no algorithm here can learn on one of them; the message has the remedy.
    """

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        check_observation_space(observation_space, "observations")
        self.observation_space = observation_space
        self.action_space = checked_action_space(action_space)
        obs_dim, images = flat_size(observation_space), images_of(observation_space)
        if isinstance(self.action_space, spaces.Box):
            self.low = self.action_space.low.astype(np.float64).ravel()
            self.high = self.action_space.high.astype(np.float64).ravel()
            self.spec = EnvSpec(obs_dim, self.low.size, images=images)
        else:
            self.low = self.high = np.zeros(0)
            choices = choices_of(self.action_space)
            n_actions = choices[0] if isinstance(self.action_space, spaces.Discrete) else None
            mask = place_of_mask(observation_space, choices)
            self.spec = EnvSpec(obs_dim, len(choices), n_actions, choices, mask, images=images)

    def read_with(self, encoder: AsEncoder, *, normalize: bool) -> EnvSpec:
        """The spec for networks that read images with this encoder; see `softac.envs.images.read_with`."""
        return replace(read_with(self.spec, self.observation_space, encoder), normalize=normalize)

    def flatten(self, obs: Any) -> FloatArray:
        """One observation as float32 `[obs_dim]`.

        Raises:
            ValueError: the observation does not have the shape of the space.
        """
        return flatten(self.observation_space, obs)

    def flatten_batch(self, obs: Any, action_masks: Any = None) -> tuple[FloatArray, bool]:
        """One observation or a batch of them as `[B, obs_dim]`, and whether it was a batch.

        Raises:
            ValueError: it is neither.
            ConfigError: its mask is missing, see `softac.envs.masks.with_mask`.
        """
        if called := self._returned_by(obs):
            raise ValueError(called)
        obs = with_mask(self.observation_space, self.spec, obs, action_masks)
        space = self.observation_space
        try:
            parts = [(part, inside(obs, path)) for _, path, part in leaves(space)]
            deeper = [value for part, value in parts if np.ndim(value) != len(part.shape or ())]
            batched = 2 * len(deeper) > len(parts)  # else the odd part is wrong
            each = [item(space, obs, i) for i in range(len(deeper[0]))] if batched else [obs]
        except Exception:  # it may be any object, and raise anything when looked at
            raise ValueError(self.misfit(obs)) from None
        if not each:
            raise ValueError("a batch of none")
        return np.stack([self._flattened(one) for one in each]), batched

    def _flattened(self, obs: Any) -> FloatArray:
        try:
            flat = self.flatten(obs)
        except Exception:  # as above
            raise ValueError(self.misfit(obs)) from None
        if wrong := self.infinite(flat) or misfit_of_mask(self.spec, flat):
            raise ValueError(wrong)
        return flat

    def _returned_by(self, obs: Any) -> str:
        """In words, that this is all that `reset` or `step` returned, and not the observation in it; "" if not."""
        if not isinstance(obs, tuple) or len(obs) not in (2, 5) or not isinstance(obs[-1], dict):
            return ""
        if isinstance(self.observation_space, spaces.Tuple) and len(self.observation_space) == len(obs):
            return ""
        if len(obs) == 2:
            return "observation and info, as reset returns them; write obs, info = env.reset() and pass obs"
        return "all that step returns; write obs, reward, terminated, truncated, info = env.step(...) and pass obs"

    def misfit(self, obs: Any) -> str:
        """In words, what an observation that cannot be flattened has wrong, and in which part of it."""
        return misfit(self.observation_space, obs) or "it does not fit"

    def infinite(self, flat: FloatArray) -> str:
        """In words, the first number of a flattened observation that is not finite; "" if all are."""
        wrong = np.flatnonzero(~np.isfinite(flat))
        if not wrong.size:
            return ""
        names = coordinates(self.observation_space)[0]
        return f"{flat[wrong[0]]} in it, at {'index ' if names[0] == '0' else ''}{names[wrong[0]]}"

    def difference(self, other: "Spaces") -> str:
        """In words, where `other` is not what these are, as far as an agent sees it; "" if nowhere.

        The bounds and the precision of observations do not count, but for images: all numbers are read as float32.
        Those of actions do, since a policy in [-1, 1] is mapped onto them.
        """
        here, there = (dict(seen(part.observation_space)) for part in (self, other))
        for name in [*here, *there]:
            if here.get(name) != there.get(name):
                return f"{name} is {there.get(name, 'missing')} and was {here.get(name, 'not there')}"
        mine, its = (acted(part.action_space) for part in (self, other))
        return "" if mine == its else f"actions are {its} and were {mine}"

    def to_env(self, action: FloatArray) -> Any:
        """An action `[A]` of the agent as the environment takes it.

        Coordinates are scaled from [-1, 1] to the environment's own bounds, shape and dtype and cut
        there; the index of a discrete action, or of each of several, is counted from the space's start.
        """
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return space.start + space.dtype.type(action[0])
        if not isinstance(space, spaces.Box):
            first = space.start if isinstance(space, spaces.MultiDiscrete) else 0
            return (action.reshape(space.shape) + first).astype(space.dtype)
        scaled = self.low + 0.5 * (action.astype(np.float64) + 1.0) * (self.high - self.low)
        # Cut before it is rounded: what lies far beyond may be too large for float32.
        return np.minimum(np.maximum(scaled, self.low), self.high).reshape(space.shape).astype(space.dtype)

    def from_env(self, actions: NDArray[Any]) -> FloatArray:
        """Actions `[T, ...]` of the environment as the agent would have chosen them, `[T, A]`: `to_env` undone.

        What lies beyond the bounds is cut, as the environment cut it.

        Raises:
            ValueError: they are of another shape, not finite, or not among the choices.
        """
        space = self.action_space
        wanted = (len(actions), *(space.shape or ()))
        if actions.shape != wanted:
            raise ValueError(f"actions of shape {actions.shape[1:]} where the space says {wanted[1:]}")
        numbers = actions.reshape(len(actions), -1).astype(np.float64)
        if not isinstance(space, spaces.Box):
            first = 0 if isinstance(space, spaces.MultiBinary) else np.ravel(space.start)
            chosen = (numbers - first).astype(np.float32)
        elif np.isfinite(numbers).all():
            width = np.where(self.high > self.low, self.high - self.low, 1.0)
            chosen = np.clip(2.0 * (numbers - self.low) / width - 1.0, -1.0, 1.0).astype(np.float32)
        else:
            raise ValueError("actions that are not finite")
        self.require_actions(chosen)
        return chosen

    def require_actions(self, actions: NDArray[Any]) -> None:
        """Raise ValueError where no agent can have chosen `actions` `[..., A]`."""
        n = self.spec.choices
        if not np.isfinite(actions).all():
            raise ValueError("actions that are not finite")
        if n and not ((actions >= 0) & (actions < np.array(n)) & (actions == np.floor(actions))).all():
            raise ValueError(f"actions that are not indices below {', '.join(map(str, dict.fromkeys(n)))}")

    def to_json(self) -> dict[str, Any]:
        """Both spaces as plain data."""
        return {"observation": _to_json(self.observation_space), "action": _to_json(self.action_space)}

    @classmethod
    def from_json(cls, data: Any, file: str = "config.json") -> "Spaces":
        """The inverse of `to_json`.

        Args:
            data: what was read.
            file: where it was.

        Raises:
            CheckpointError: `data` is not what `to_json` writes.
        """
        try:
            if sum(_size(data[part]) for part in ("observation", "action")) > LARGEST:
                raise ValueError("spaces that are too large")
            return cls(_from_json(data["observation"]), _from_json(data["action"]))
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError, OverflowError, MemoryError):
            raise CheckpointError(
                f"the spaces in {file} are damaged",
                "expected what softac wrote",
                "restore the file",
            ) from None


def spaces_of(env: gym.Env[Any, Any]) -> Spaces:
    """The spaces of an environment.

    Raises:
        ConfigError: no algorithm here can learn on one of them.
    """
    space, inner = env.action_space, env
    while isinstance(inner, gym.Wrapper):
        if isinstance(inner, gym.wrappers.ClipAction) and isinstance(space, spaces.Box) and not space.is_bounded():
            raise ConfigError(
                "the environment is wrapped in ClipAction, which declares actions without bounds",
                "expected the bounds of the environment itself: softac maps actions onto them and cuts them there",
                "leave gymnasium.wrappers.ClipAction away",
            )
        inner = inner.env
    return Spaces(env.observation_space, space)


def _to_json(space: gym.Space[Any]) -> dict[str, Any]:
    match space:
        case spaces.Box():
            return {
                "kind": "Box",
                "low": _numbers(space.low),
                "high": _numbers(space.high),
                "shape": list(space.shape),
                "dtype": str(space.dtype),
            }
        case spaces.Dict():
            return {"kind": "Dict", "parts": {k: _to_json(s) for k, s in space.spaces.items()}}
        case spaces.Tuple():
            return {"kind": "Tuple", "parts": [_to_json(s) for s in space.spaces]}
        case spaces.Discrete():
            return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
        case spaces.MultiDiscrete():
            return {"kind": "MultiDiscrete", "n": space.nvec.tolist(), "start": space.start.tolist()}
        case spaces.MultiBinary():
            return {"kind": "MultiBinary", "shape": list(space.shape)}
        case _:
            raise TypeError(type(space).__name__)


def _size(data: Mapping[str, Any], depth: int = 0) -> int:
    """How many numbers all parts with a shape have together: each bound takes memory, which no file decides on."""
    if depth > DEPTH_LIMIT:
        raise ValueError("spaces nested too deeply")
    parts = data.get("parts", ())
    inner = parts.values() if isinstance(parts, dict) else parts
    own = math.prod(int(n) for n in data["shape"]) if "shape" in data else 0
    return abs(own) + sum(_size(part, depth + 1) for part in inner)


def _from_json(data: Mapping[str, Any]) -> gym.Space[Any]:
    match data["kind"]:
        case "Box":
            # A name before it is a dtype: NumPy would parse what describes records.
            if not PLAIN.fullmatch(data["dtype"]) or (dtype := np.dtype(data["dtype"])).kind not in "fiub":
                raise ValueError(data["dtype"])
            shape = tuple(int(n) for n in data["shape"])
            low, high = (_array(data[key], dtype, shape) for key in ("low", "high"))
            return spaces.Box(low, high, dtype=cast(Any, dtype.type))
        case "Dict":
            return spaces.Dict({str(k): _from_json(v) for k, v in data["parts"].items()})
        case "Tuple":
            return spaces.Tuple([_from_json(v) for v in data["parts"]])
        case "Discrete":
            return spaces.Discrete(int(data["n"]), start=int(data["start"]))
        case "MultiDiscrete":
            return spaces.MultiDiscrete(np.asarray(data["n"]), start=np.asarray(data["start"]))
        case "MultiBinary":
            return spaces.MultiBinary([int(n) for n in data["shape"]])
        case kind:
            raise ValueError(kind)


def _numbers(bounds: Any) -> Any:
    # JSON has no infinity, and most bounds are one number repeated.
    flat = np.asarray(bounds, np.float64).ravel()
    if flat.size > 1 and (flat == flat[0]).all():
        flat = flat[:1]
    return [float(v) if np.isfinite(v) else ("inf" if v > 0 else "-inf") for v in flat]


def _array(numbers: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    values = np.array([float(n) for n in numbers])
    size = math.prod(shape)
    if values.size not in (1, size):
        raise ValueError(shape)
    return np.broadcast_to(values.reshape(shape) if values.size == size else values, shape).astype(dtype)
