"""An environment that is stepped with random actions, and what it did."""

import time
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from softac.envs.leaves import inside, leaves
from softac.envs.spaces import Spaces
from softac.envs.vector import InProcessVectorEnv
from softac.types import FloatArray


class Spy(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the last answer as the environment gave it, and the time it took."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.obs: Any = None
        self.seconds = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Keep the first observation."""
        began = time.perf_counter()
        answer = self.env.reset(seed=seed, options=options)
        self.seconds += time.perf_counter() - began
        self.obs = answer[0] if isinstance(answer, tuple) else answer
        return answer

    def step(self, action: Any) -> Any:
        """Keep the next observation."""
        began = time.perf_counter()
        answer = self.env.step(action)
        self.seconds += time.perf_counter() - began
        if isinstance(answer, tuple) and len(answer) == 5:
            self.obs = answer[0]
        return answer


@dataclass
class Log:
    """What happened during the random steps."""

    spaces: Spaces
    obs: list[FloatArray] = field(default_factory=list)
    starts: list[FloatArray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    terminated: list[bool] = field(default_factory=list)
    dtypes: dict[str, str] = field(default_factory=dict)
    reused: bool = False
    seconds: float = 0.0
    over: bool = False

    @property
    def steps(self) -> int:
        """How many were made."""
        return len(self.rewards)


def roll(envs: InProcessVectorEnv, spy: Spy, log: Log, steps: int) -> None:
    """Make random steps and note what happens.

    Raises:
        EnvFault: the environment failed; the log says how far it came.
    """
    rng = np.random.default_rng(0)
    episode, length, before = 0, 0, None
    log.starts.append(envs.reset(0, episode))
    obs = log.starts[0]
    for _ in range(steps):
        before = _arrays(log, spy.obs, before)
        (step,) = envs.step(0, random_action(rng, log.spaces, obs)[None])
        obs = step.obs
        log.obs.append(obs)
        log.rewards.append(step.reward)
        length += 1
        if step.terminated or step.truncated:
            log.lengths.append(length)
            log.terminated.append(step.terminated)
            episode, length = episode + 1, 0
            obs = envs.reset(0, episode)
            log.starts.append(obs)
    _arrays(log, spy.obs, before)
    log.seconds, log.over = spy.seconds, True


def _arrays(log: Log, obs: Any, before: list[Any] | None) -> list[Any]:
    """Note the dtypes of one raw observation, and whether it lies where the one before did."""
    parts = [(name, space, inside(obs, path)) for name, path, space in leaves(log.spaces.observation_space)]
    for name, space, value in parts:
        if isinstance(space, spaces.Box) and (dtype := np.asarray(value).dtype) != space.dtype:
            log.dtypes[name] = f"{dtype} where the space says {space.dtype}"
    arrays = [value for _, _, value in parts if isinstance(value, np.ndarray)]
    if before is not None:
        log.reused |= any(np.may_share_memory(a, b) for a, b in zip(arrays, before, strict=False))
    return arrays


def random_action(rng: np.random.Generator, seen: Spaces, obs: FloatArray) -> FloatArray:
    """An action `[A]` as an agent gives it, one that the mask of `obs` `[O]` allows."""
    spec = seen.spec
    if not spec.choices:
        return rng.uniform(-1.0, 1.0, spec.action_dim).astype(np.float32)
    if spec.mask is None:
        return rng.integers(spec.choices).astype(np.float32)
    masks = np.split(obs[spec.mask : spec.mask + spec.outputs], np.cumsum(spec.choices)[:-1])
    return np.array([rng.choice(np.flatnonzero(mask)) for mask in masks], np.float32)
