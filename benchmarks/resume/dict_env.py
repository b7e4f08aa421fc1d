"""Pendulum with a Dict observation, registered as DictPendulum-v0."""

from typing import Any

import gymnasium as gym
from gymnasium import spaces


class DictPendulum(gym.ObservationWrapper[dict[str, Any], Any, Any]):
    """The angle and the velocity under names of their own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(gym.make("Pendulum-v1", **kwargs))
        low, high = self.env.observation_space.low, self.env.observation_space.high
        self.observation_space = spaces.Dict(
            {"angle": spaces.Box(low[:2], high[:2]), "velocity": spaces.Box(low[2:], high[2:])}
        )

    def observation(self, observation: Any) -> dict[str, Any]:
        """Split."""
        return {"angle": observation[:2], "velocity": observation[2:]}


gym.register("DictPendulum-v0", DictPendulum)
