"""The environments of these benchmarks: MinAtar, Pendulum as pictures, HalfCheetah in mixed units.

Importing this registers Tasks/Breakout-v0, Tasks/PendulumPictures-v0 and Tasks/MixedUnits-v0.
"""

import logging
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.pendulum import PendulumEnv

# It is for films, which nobody asks for.
logging.getLogger().addFilter(lambda record: "seaborn" not in record.getMessage())


class Breakout(gym.Wrapper[Any, Any, Any, Any]):
    """MinAtar's Breakout with its three useful actions; the sticky action is forgotten at the end of an episode.

    The package keeps it, so that an episode would depend on the one before.
    """

    def __init__(self) -> None:
        from minatar.gym import BaseEnv

        super().__init__(BaseEnv("breakout", use_minimal_action_set=True))

    def reset(self, **arguments: Any) -> Any:
        """Begin without a last action."""
        self.env.unwrapped.game.last_action = 0
        return self.env.reset(**arguments)


class PendulumPictures(PendulumEnv):
    """Pendulum-v1 as its last three pictures of 64 x 64 pixels, `[3, 64, 64]` of uint8.

    A pole, white on black, smooth at its edges, so that angles far smaller than a pixel can be seen.
    """

    SIDE, LENGTH, HALF_WIDTH = 64, 26.0, 1.6

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = gym.spaces.Box(0, 255, (3, self.SIDE, self.SIDE), np.uint8)
        axis = np.arange(self.SIDE) - 0.5 * (self.SIDE - 1)
        self.x, self.y = np.meshgrid(axis, -axis)
        self.pictures = np.zeros((3, self.SIDE, self.SIDE), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The first picture, three times."""
        super().reset(seed=seed, options=options)
        self.pictures[:] = self._picture()
        return self.pictures.copy(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As Pendulum-v1."""
        _, *rest = super().step(action)
        self.pictures = np.concatenate([self.pictures[1:], self._picture()[None]])
        return (self.pictures.copy(), *rest)

    def _picture(self) -> Any:
        theta = self.state[0]  # 0: upright
        along = self.x * np.sin(theta) + self.y * np.cos(theta)
        across = self.x * np.cos(theta) - self.y * np.sin(theta)
        beyond = np.maximum(np.maximum(along - self.LENGTH, -along), 0.0)
        distance = np.minimum(np.hypot(across, beyond), np.hypot(self.x, self.y) - 2.0)
        return (255.0 * np.clip(self.HALF_WIDTH + 0.5 - distance, 0.0, 1.0)).astype(np.uint8)


def mixed_units() -> gym.Env[Any, Any]:
    """HalfCheetah-v5 with coordinates multiplied by 1e-3 ... 1e4, evenly spread in their logarithm, shuffled."""
    env = gym.make("HalfCheetah-v5").env
    factors = 10.0 ** np.random.default_rng(0).permutation(np.linspace(-3.0, 4.0, 17))
    space = gym.spaces.Box(-np.inf, np.inf, (17,), np.float64)
    return gym.wrappers.TransformObservation(env, lambda obs: obs * factors, space)


gym.register("Tasks/Breakout-v0", entry_point=Breakout)
gym.register("Tasks/PendulumPictures-v0", entry_point=PendulumPictures, max_episode_steps=200)
gym.register("Tasks/MixedUnits-v0", entry_point=mixed_units, max_episode_steps=1_000)
