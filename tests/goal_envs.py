"""A point on a line that is to be moved to where it is wanted, rewarded there alone: a task with goals.

Reach     the form of Gymnasium-Robotics; what is wrong with it, if anything, is an argument
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

NEAR = 0.1
LENGTH = 10


def paid(achieved: Any, desired: Any, info: Any) -> Any:
    return -(np.linalg.norm(achieved - desired, axis=-1) > NEAR).astype(np.float64)


def unbatched(achieved: Any, desired: Any, info: Any) -> Any:
    return -float(np.linalg.norm(achieved - desired) > NEAR)


def shuffled(achieved: Any, desired: Any, info: Any) -> Any:
    return paid(achieved, desired, info) if achieved.ndim == 1 else paid(achieved, desired[::-1], info)


class Reach(gym.Env[Any, Any]):
    """Two coordinates, moved by at most 0.2 a step; the reward is 0 at the goal, else -1.

    Args:
        reward: `compute_reward`; None: there is none.
        stops: whether an episode is terminated at its goal; then there is a `compute_terminated`.
        at: the episode is truncated after so many steps, plus its seed mod 3.
    """

    def __init__(self, reward: Any = paid, *, stops: bool = False, at: int = LENGTH) -> None:
        place = spaces.Box(-1.0, 1.0, (2,), np.float64)
        parts = {"observation": spaces.Box(-1.0, 1.0, (3,), np.float64), "achieved_goal": place}
        self.observation_space = spaces.Dict(parts | {"desired_goal": place})
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.stops, self.at = stops, at
        if reward is not None:
            self.compute_reward = reward
        if stops:
            self.compute_terminated = lambda achieved, desired, info: paid(achieved, desired, info) == 0.0

    def see(self) -> Any:
        parts = {"observation": np.append(self.place, self.t / self.length), "achieved_goal": self.place}
        return {name: part.copy() for name, part in (parts | {"desired_goal": self.goal}).items()}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1.0, 1.0, (2, 2))
        self.t, self.length = 0, self.at + int(self.np_random.integers(3))
        return self.see(), {}

    def step(self, action: Any) -> Any:
        self.place = np.clip(self.place + 0.2 * action, -1.0, 1.0)
        self.t += 1
        reward = float(paid(self.place, self.goal, {}))
        reached = reward == 0.0
        return self.see(), reward, reached and self.stops, self.t >= self.length, {"is_success": reached}
