"""Three tasks of a few numbers, with goals, with masks, with several choices at once; registered under ids."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

LENGTH = 25


class Place(gym.Env[Any, Any]):
    """A point in the plane that is to be moved to a goal; the reward there is 0 and ends the episode, else -1."""

    def __init__(self) -> None:
        place = spaces.Box(-1.0, 1.0, (2,), np.float64)
        parts = {"observation": place, "achieved_goal": place, "desired_goal": place}
        self.observation_space = spaces.Dict(parts)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def compute_reward(self, achieved: Any, desired: Any, _info: Any) -> Any:
        """0 at the goal, else -1."""
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.1).astype(np.float64)

    def compute_terminated(self, achieved: Any, desired: Any, info: Any) -> Any:
        """Whether the goal is reached."""
        return self.compute_reward(achieved, desired, info) == 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """A place and a goal."""
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1.0, 1.0, (2, 2))
        self.speed, self.t = np.zeros(2), 0
        return self._see(), {}

    def step(self, action: Any) -> Any:
        """Push."""
        self.speed = np.clip(0.8 * self.speed + 0.1 * action + 0.01 * self.np_random.normal(size=2), -1.0, 1.0)
        self.place = np.clip(self.place + self.speed, -1.0, 1.0)
        self.t += 1
        reward = float(self.compute_reward(self.place, self.goal, {}))
        reached = reward == 0.0
        return self._see(), reward, reached, self.t >= LENGTH, {"is_success": reached}

    def _see(self) -> Any:
        seen = {"observation": self.speed, "achieved_goal": self.place, "desired_goal": self.goal}
        return {name: part.copy() for name, part in seen.items()}


class Switches(gym.Env[Any, Any]):
    """Three choices at once, of 2, 3 and 4, in each of which one is forbidden at random; which is best is seen."""

    def __init__(self, *, one: bool = False) -> None:
        self.action_space = spaces.Discrete(4, start=-2) if one else spaces.MultiDiscrete([2, 3, 4])
        self.n = [4] if one else [2, 3, 4]
        self.observation_space = spaces.Box(0.0, 1.0, (sum(self.n),), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """The first numbers."""
        super().reset(seed=seed)
        self.t = 0
        return self._draw()

    def step(self, action: Any) -> Any:
        """Choose."""
        chosen = np.ravel(action - getattr(self.action_space, "start", 0))
        parts = zip(chosen, np.split(self.seen, np.cumsum(self.n)[:-1]), self.masks, strict=True)
        reward = 0.0
        for index, values, mask in parts:
            if not mask[index]:
                raise ValueError(f"{index} is forbidden")
            reward += float(values[index])
        self.t += 1
        obs, info = self._draw()
        return obs, reward, False, self.t >= LENGTH, info

    def _draw(self) -> Any:
        self.seen = self.np_random.uniform(size=sum(self.n)).astype(np.float32)
        self.masks = [(self.np_random.permutation(n) > 0).astype(np.int8) for n in self.n]
        return self.seen.copy(), {"action_mask": np.concatenate(self.masks)}


gym.register("Place-v0", Place)
gym.register("Switches-v0", Switches)
gym.register("Switch-v0", lambda: Switches(one=True))
