"""Two small environments on which any agent can be tried; they refuse actions outside their space."""

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


class _Probe(gym.Env[NDArray[np.float64], Any]):
    """A random walk that the action moves; its episodes are terminated or truncated within 6 steps.

    The reward is minus the mean square of the position after the step.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Draw the first position."""
        super().reset(seed=seed, options=options)
        self.position = self.np_random.normal(size=self.observation_space.shape)
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

    observation_space = spaces.Box(-np.inf, np.inf, (2, 2), np.float64)
    action_space = spaces.Box(np.array([-1, 0, -3], np.float32), np.array([2, 10, -1], np.float32))


class DiscreteProbe(_Probe):
    """Observations of shape (3,), and four actions that are counted from -1."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.Discrete(4, start=-1)


PROBES: Mapping[ActionKind, type[_Probe]] = {"continuous": ContinuousProbe, "discrete": DiscreteProbe}
