"""Spaces: what can be learned on, how observations are flattened and actions rescaled.

Flattening order: a Box in C order; a Dict by sorted key; a Tuple by position; Discrete and
MultiDiscrete as one-hot vectors; MultiBinary as zeros and ones. All become float32.
"""

from collections.abc import Mapping
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from softac.errors import CheckpointError, ConfigError
from softac.types import EnvSpec, FloatArray

# Beyond this a bound says "any number": the policy covers the whole range from its first step.
LARGEST_BOUND = 1e6
MOST_ACTIONS = 1_000_000
DEPTH_LIMIT = 8
NOTHING = np.zeros(0, np.float32)


class Spaces:
    """The observation and action space of an environment, as the agent sees them.

    Args:
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them.
        action_space: a Box of finite bounds (any shape, any float type, bounds per dimension), or
            Discrete.

    Raises:
        ConfigError: no algorithm here can learn on one of them; the message has the remedy.
    """

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        _check_observation_space(observation_space, "observations")
        self.observation_space = observation_space
        self.action_space = _checked_action_space(action_space)
        obs_dim = _flat_size(observation_space)
        if isinstance(self.action_space, spaces.Discrete):
            self.low = self.high = np.zeros(0)
            self.spec = EnvSpec(obs_dim, 1, int(self.action_space.n))
        else:
            self.low = self.action_space.low.astype(np.float64).ravel()
            self.high = self.action_space.high.astype(np.float64).ravel()
            self.spec = EnvSpec(obs_dim, self.low.size)

    def flatten(self, obs: Any) -> FloatArray:
        """One observation as float32 `[obs_dim]`.

        Raises:
            ValueError: the observation does not have the shape of the space.
        """
        return _flatten(self.observation_space, obs)

    def flatten_batch(self, obs: Any) -> tuple[FloatArray, bool]:
        """One observation or a batch of them as `[B, obs_dim]`, and whether it was a batch.

        Raises:
            ValueError: it is neither.
        """
        space, part = _first_leaf(self.observation_space, obs)
        if np.ndim(part) == len(space.shape or ()):
            return self.flatten(obs)[None], False
        size = len(part)
        return np.stack([self.flatten(item(self.observation_space, obs, i)) for i in range(size)]), True

    def to_env(self, action: FloatArray) -> Any:
        """An action `[A]` of the agent as the environment takes it.

        Coordinates are scaled from [-1, 1] to the environment's own bounds, shape and dtype and cut
        there; the index of a discrete action is counted from the space's start.
        """
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return space.start + space.dtype.type(action[0])
        scaled = self.low + 0.5 * (action.astype(np.float64) + 1.0) * (self.high - self.low)
        # Cut before it is rounded: what lies far beyond may be too large for float32.
        return np.minimum(np.maximum(scaled, self.low), self.high).reshape(space.shape).astype(space.dtype)

    def require_actions(self, actions: NDArray[Any]) -> None:
        """Raise ValueError where no agent can have chosen `actions` `[..., A]`."""
        n = self.spec.n_actions
        if not np.isfinite(actions).all():
            raise ValueError("actions that are not finite")
        if n is not None and not ((actions >= 0) & (actions < n) & (actions == np.floor(actions))).all():
            raise ValueError(f"actions that are not indices below {n}")

    def to_json(self) -> dict[str, Any]:
        """Both spaces as plain data."""
        return {"observation": _to_json(self.observation_space), "action": _to_json(self.action_space)}

    @classmethod
    def from_json(cls, data: Any) -> "Spaces":
        """The inverse of `to_json`.

        Raises:
            CheckpointError: `data` is not what `to_json` writes.
        """
        try:
            return cls(_from_json(data["observation"]), _from_json(data["action"]))
        except (KeyError, TypeError, ValueError, AssertionError, OverflowError, MemoryError):
            raise CheckpointError(
                "the spaces in config.json are damaged",
                "expected what softac wrote",
                "restore the file",
            ) from None


def _check_observation_space(space: gym.Space[Any], where: str) -> None:
    match space:
        case spaces.Dict() | spaces.Tuple():
            parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
            for key, part in parts:
                _check_observation_space(part, f"{where}[{key!r}]")
        case spaces.Box() if len(space.shape) >= 3 or (len(space.shape) == 2 and space.dtype == np.uint8):
            raise ConfigError(
                f"{where} are images {space.shape} of {space.dtype}",
                "expected vectors, which the fully connected networks here can read",
                "encode the image into features with a wrapper such as gymnasium.wrappers.TransformObservation",
            )
        case spaces.Box() | spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            pass
        case _:
            raise ConfigError(
                f"{where} are of kind {type(space).__name__}",
                "expected Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them",
                "turn them into a Box with gymnasium.wrappers.TransformObservation",
            )
    if where == "observations" and _flat_size(space) == 0:
        raise ConfigError(
            "observations are empty",
            "expected at least one number",
            "add one to the environment",
        )


def _checked_action_space(space: gym.Space[Any]) -> spaces.Box | spaces.Discrete:
    if isinstance(space, spaces.Discrete):
        if space.n > MOST_ACTIONS:
            raise ConfigError(
                f"there are {space.n:,} discrete actions",
                f"expected at most {MOST_ACTIONS:,}, each with a value of its own",
                "choose among fewer, or declare a Box",
            )
        return space
    if not isinstance(space, spaces.Box):
        hint = (
            "number all combinations as one Discrete"
            if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary)
            else "flatten them"
        )
        raise ConfigError(
            f"actions are of kind {type(space).__name__}",
            "expected a Box of finite bounds (continuous actions) or Discrete",
            f"{hint} with a gymnasium.ActionWrapper",
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


def _flat_size(space: gym.Space[Any]) -> int:
    match space:
        case spaces.Dict():
            return sum(_flat_size(s) for s in space.spaces.values())
        case spaces.Tuple():
            return sum(_flat_size(s) for s in space.spaces)
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum())
        case _:
            return int(np.prod(space.shape or (), dtype=np.int64))


def _flatten(space: gym.Space[Any], obs: Any) -> FloatArray:
    match space:
        case spaces.Box() | spaces.MultiBinary():
            # A copy: environments may write their next observation into the same array.
            with np.errstate(over="ignore"):
                array = np.array(obs, np.float32)
            if array.shape != space.shape:
                raise ValueError(f"an observation of shape {array.shape} where the space says {space.shape}")
            return array.ravel()
        case spaces.Dict():
            parts = sorted(space.spaces.items())
            return np.concatenate([NOTHING, *(_flatten(part, obs[key]) for key, part in parts)])
        case spaces.Tuple():
            return np.concatenate([NOTHING, *(_flatten(s, o) for s, o in zip(space.spaces, obs, strict=True))])
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


def _first_leaf(space: gym.Space[Any], obs: Any) -> tuple[gym.Space[Any], Any]:
    match space:
        case spaces.Dict():
            key = next(k for k, part in space.spaces.items() if _flat_size(part))
            return _first_leaf(space[key], obs[key])
        case spaces.Tuple():
            i = next(i for i, part in enumerate(space.spaces) if _flat_size(part))
            return _first_leaf(space[i], obs[i])
        case _:
            return space, obs


def item(space: gym.Space[Any], batch: Any, i: int) -> Any:
    """The `i`-th observation of a batch."""
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


def _from_json(data: Mapping[str, Any], depth: int = 0) -> gym.Space[Any]:
    if depth > DEPTH_LIMIT:
        raise ValueError("spaces nested too deeply")
    match data["kind"]:
        case "Box":
            dtype = np.dtype(data["dtype"])
            if dtype.kind not in "fiub":
                raise ValueError(dtype)
            shape = tuple(int(n) for n in data["shape"])
            low, high = (_array(data[key], dtype, shape) for key in ("low", "high"))
            return spaces.Box(low, high, dtype=cast(Any, dtype.type))
        case "Dict":
            return spaces.Dict({str(k): _from_json(v, depth + 1) for k, v in data["parts"].items()})
        case "Tuple":
            return spaces.Tuple([_from_json(v, depth + 1) for v in data["parts"]])
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
    size = int(np.prod(shape, dtype=np.int64))
    if values.size not in (1, size) or size > 10_000_000:
        raise ValueError(shape)
    return np.broadcast_to(values.reshape(shape) if values.size == size else values, shape).astype(dtype)
