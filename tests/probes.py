"""Small environments whose right answers are known, and helpers to train in them.

All count what is done to them (`resets`, `steps`, `actions`, `closed`), so that a test can ask not only what
came out but also what was done.

    CountingEnv      observation (episode, t), reward t: every row shows where it comes from
    TruncatingEnv    CountingEnv, cut off after `length` steps
    TerminatingEnv   CountingEnv, over after `length` steps
    EarlyEndingEnv   terminates at random, is truncated otherwise; random start and random steps
    AsymmetricEnv    three actions, each with other bounds; refuses what is outside
    DictEnv          observations are a Dict of Box, Discrete, MultiBinary and a nested Dict
    SpaceEnv         any observation and action space
    BanditEnv        one step; the reward is quadratic in the action
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from softac import SAC
from softac.types import Transition

SMALL = {"net_arch": (8, 8), "batch_size": 8, "learning_starts": 16, "buffer_size": 1_000}
"""Hyperparameters for tests that look at the machinery and not at what is learned."""


def unit_box(n: int = 1) -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (n,), np.float32)


class Probe(gym.Env[Any, Any]):
    """Counts what is done to it and refuses actions outside its space."""

    observation_space: spaces.Space[Any] = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space: spaces.Space[Any] = unit_box()

    def __init__(self) -> None:
        self.seeds: list[int | None] = []
        self.actions: list[Any] = []
        self.closed = 0
        self.t = 0

    @property
    def resets(self) -> int:
        return len(self.seeds)

    @property
    def steps(self) -> int:
        return len(self.actions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        if not self.action_space.contains(action):
            raise ValueError(f"the action {action!r} is not in {self.action_space}")
        self.actions.append(np.array(action))
        self.t += 1
        terminated, truncated = self.ending()
        return self.observe(), self.reward(action), terminated, truncated, {}

    def close(self) -> None:
        self.closed += 1

    def observe(self) -> Any:
        return np.array([self.resets, self.t], np.float32)

    def reward(self, action: Any) -> float:
        return float(self.t)

    def ending(self) -> tuple[bool, bool]:
        return False, False


class CountingEnv(Probe):
    """Observation (episode, t), counted from 1 and 0; reward t; ends after `length` steps as asked.

    The array it returns is its own and changes with the next step, as some environments do.
    """

    def __init__(self, length: int = 5, ending: str = "truncated") -> None:
        super().__init__()
        self.length, self.how = length, ending
        self.array = np.zeros(2, np.float32)

    def observe(self) -> Any:
        self.array[:] = self.resets, self.t
        return self.array

    def ending(self) -> tuple[bool, bool]:
        last = self.t >= self.length
        return last and self.how in ("terminated", "both"), last and self.how in ("truncated", "both")


class TruncatingEnv(CountingEnv):
    def __init__(self, length: int = 5) -> None:
        super().__init__(length, "truncated")


class TerminatingEnv(CountingEnv):
    def __init__(self, length: int = 5) -> None:
        super().__init__(length, "terminated")


class EarlyEndingEnv(Probe):
    """A noisy walk that terminates with probability 0.2 a step and is truncated at step 9."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = unit_box(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=3)
        return self.state, {}

    def step(self, action: Any) -> Any:
        self.state = 0.9 * self.state + 0.1 * self.np_random.normal(size=3) + 0.3 * float(action[0])
        return super().step(action)

    def observe(self) -> Any:
        return getattr(self, "state", None)

    def reward(self, action: Any) -> float:
        return float(-np.square(self.state).sum() - 0.1 * np.square(action).sum())

    def ending(self) -> tuple[bool, bool]:
        return bool(self.np_random.random() < 0.2), self.t >= 9


class AsymmetricEnv(Probe):
    """Bounds [-1, 2], [0, 10] and [-3, -1]; the observation is the last action."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(np.array([-1, 0, -3], np.float32), np.array([2, 10, -1], np.float32))

    def observe(self) -> Any:
        return np.array(self.actions[-1] if self.t else np.zeros(3), np.float32)

    def reward(self, action: Any) -> float:
        return float(-np.square(action - np.array([1.0, 3.0, -2.5])).sum())

    def ending(self) -> tuple[bool, bool]:
        return False, self.t >= 10


class DictEnv(Probe):
    """Observations of four kinds; the state moves with the action, starts and steps are random."""

    observation_space = spaces.Dict(
        {
            "position": spaces.Box(-10.0, 10.0, (2,), np.float64),
            "mode": spaces.Discrete(3, start=1),
            "flags": spaces.MultiBinary([2]),
            "inner": spaces.Dict({"speed": spaces.Box(-np.inf, np.inf, (), np.float32)}),
        }
    )
    action_space = unit_box(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.position, self.speed = self.np_random.uniform(-1.0, 1.0, 2), 0.0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        before = self.position
        self.position = np.clip(before + 0.1 * action + 0.01 * self.np_random.normal(size=2), -10.0, 10.0)
        self.speed = float(np.linalg.norm(self.position - before))
        return super().step(action)

    def observe(self) -> Any:
        if not hasattr(self, "position"):
            return None
        return {
            "position": self.position.copy(),
            "mode": np.int64(1 + self.t % 3),
            "flags": (self.position > 0.0).astype(np.int8),
            "inner": {"speed": np.array(self.speed, np.float32)},
        }

    def reward(self, action: Any) -> float:
        return float(-np.square(self.position).sum())

    def ending(self) -> tuple[bool, bool]:
        return bool(np.abs(self.position).max() > 1.5), self.t >= 12


class SpaceEnv(Probe):
    """Random observations of any space; episodes of 8 steps."""

    def __init__(
        self, observation_space: spaces.Space[Any] | None = None, action_space: spaces.Space[Any] | None = None
    ) -> None:
        super().__init__()
        self.observation_space = unit_box(2) if observation_space is None else observation_space
        self.action_space = unit_box(1) if action_space is None else action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.observation_space.seed(seed)
        return super().reset(seed=seed)

    def observe(self) -> Any:
        return self.observation_space.sample()

    def ending(self) -> tuple[bool, bool]:
        return False, self.t >= 8


class BanditEnv(Probe):
    """One step from one state: reward -weight (action - best)^2, then the episode is over."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, best: float = 0.4, weight: float = 1.0) -> None:
        super().__init__()
        self.best, self.weight = best, weight

    def observe(self) -> Any:
        return np.ones(1, np.float32)

    def reward(self, action: Any) -> float:
        return -self.weight * (float(action[0]) - self.best) ** 2

    def ending(self) -> tuple[bool, bool]:
        return True, False


def trained(env: Any, steps: int = 64, **arguments: Any) -> SAC:
    """A small SAC after `steps` steps in `env`."""
    return SAC(env, **(SMALL | arguments)).learn(steps)


def rows(model: SAC) -> Any:
    """The transitions in the replay of a model that has learned, oldest first, as a `Transition`."""
    replay = model.training.memory
    spec = model.spaces.spec  # that of a replay of images counts their planes
    o, a = spec.obs_dim, spec.action_dim
    table = torch.from_numpy(replay.explicit_rows(replay.added - len(replay), replay.added))
    obs, action, reward, discount, next_obs = table.split([o, a, 1, 1, o], dim=1)
    return Transition(obs, action, reward[:, 0], discount[:, 0], next_obs)
