"""Small environments on which any agent can be tried, one for each kind of actions; they refuse those outside."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from softac.types import ActionKind

TERMINATION = 0.15  # probability in each step
LONGEST = 6  # steps, then an episode is truncated

ENVIRONMENTS = (gym.Env, gym.vector.VectorEnv)


class _Probe(gym.Env[Any, Any]):
    """A random walk that the action moves; its episodes are terminated or truncated within 6 steps.

    The reward is minus the mean square of the position after the step.
    """

    shape: tuple[int, ...] = (3,)  # of the position

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Draw the first position."""
        super().reset(seed=seed, options=options)
        self.position = self.np_random.normal(size=self.shape)
        self.steps = 0
        return self.position.copy(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Move; a ValueError for an action that is not in the space."""
        if not self.action_space.contains(action):
            raise ValueError(f"the action {action!r} is not in {self.action_space}")
        drift = 0.3 * np.mean(action) + self.np_random.normal(size=self.position.shape)
        self.position = 0.9 * self.position + 0.3 * drift
        self.steps += 1
        terminated = bool(self.np_random.random() < TERMINATION)
        reward = -float(np.square(self.position).mean())
        return self.position.copy(), reward, terminated, self.steps == LONGEST, {}


class ContinuousProbe(_Probe):
    """Observations of shape (2, 2), and three actions of which each has bounds of its own."""

    shape = (2, 2)
    observation_space = spaces.Box(-np.inf, np.inf, (2, 2), np.float64)
    action_space = spaces.Box(np.array([-1, 0, -3], np.float32), np.array([2, 10, -1], np.float32))


class DiscreteProbe(_Probe):
    """Observations of shape (3,), and four actions that are counted from -1."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.Discrete(4, start=-1)


class MultiDiscreteProbe(_Probe):
    """Observations of shape (3,), and three choices at once, of 2, 3 and 4, of which the last counts from 1."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.MultiDiscrete([2, 3, 4], start=[0, 0, 1])


class MaskedProbe(_Probe):
    """Like `DiscreteProbe`, with a mask that allows a random half of the actions; it refuses the others."""

    observation_space = spaces.Dict(
        {"action_mask": spaces.MultiBinary(4), "position": spaces.Box(-np.inf, np.inf, (3,), np.float64)}
    )
    action_space = spaces.Discrete(4, start=-1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """The first position, and what is allowed there."""
        super().reset(seed=seed, options=options)
        return self._masked(), {}

    def step(self, action: Any) -> Any:
        """Move; a ValueError for an action that is forbidden."""
        if self.action_space.contains(action) and not self.mask[action + 1]:
            raise ValueError(f"the action {action!r} is not in what {self.mask} allows")
        _, reward, terminated, truncated, info = super().step(action)
        return self._masked(), reward, terminated, truncated, info

    def _masked(self) -> Any:
        self.mask = self.np_random.permutation(np.array([1, 1, 0, 0], np.int8))
        return {"action_mask": self.mask.copy(), "position": self.position.copy()}


PROBES: Mapping[ActionKind, type[_Probe]] = {
    "continuous": ContinuousProbe,
    "discrete": DiscreteProbe,
    "multi_discrete": MultiDiscreteProbe,
    "masked": MaskedProbe,
}


def drawn(space: gym.Space[Any], n: int, rng: np.random.Generator) -> Any:
    """`n` observations such as a probe might return, as one batch."""
    if isinstance(space, spaces.Dict):
        masks = np.array([rng.permutation([1, 1, 0, 0]) for _ in range(n)])
        return {"action_mask": masks, "position": rng.normal(size=(n, 3))}
    return rng.normal(size=(n, *(space.shape or ())))
