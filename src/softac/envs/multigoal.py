"""The point that may go to any of four goals: a task whose soft-optimal policy has four modes."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import ArrayLike, NDArray

from softac.errors import ConfigError
from softac.types import FloatArray

GOALS = np.array([(5.0, 0.0), (-5.0, 0.0), (0.0, 5.0), (0.0, -5.0)])
GOAL_RADIUS = 1.0
SIDE = 7.0  # positions lie in [-SIDE, SIDE]^2
START_STD = 0.1
ACTION_COST, DISTANCE_COST, GOAL_REWARD = 3.0, 0.1, 1.0


class MultiGoalEnv(gym.Env[FloatArray, FloatArray]):
    """A point in the plane and four goals, at (5, 0), (-5, 0), (0, 5) and (0, -5).

    The observation is the position s, float32 `[2]` in [-7, 7]. The action a, float32 `[2]` in [-1, 1], is the
    displacement: s' = clip(s + a, -7, 7). An episode starts at N(0, 0.1² I) and is terminated on coming nearer
    than 1 to a goal. With d the distance from s' to the nearest goal, the reward is
    -3 |a|² - 0.1 d², plus 1 on arrival. `info["goal"]` is the index of the goal reached, or None.

    "softac/MultiGoal-v0" is this environment with at most 30 steps an episode.

    The task is that of Haarnoja et al. 2017 (1702.08165), section 5, with the constants of its authors' code,
    github.com/haarnoja/softqlearning. Two things differ. Rewards are a tenth of theirs (30, 1 and 10), which
    is the factor that their training script multiplies rewards with, so that a temperature here means what it
    means there and returns are of an ordinary size, near -11. Actions outside the box are refused, not clipped.

    With gamma 0.99, value iteration on a grid of 0.05 gives V(0) = -10.9: straight to a goal in 9 steps. The
    soft-optimal density at the centre has four equal maxima, 0.9 from it towards the goals. At the temperature
    0.3 it falls to 0.016 of that between two of them, soft V(0) is -13.9, and a goal is reached after about 7
    steps. At 1.0, which is the temperature of the authors' script, it falls to 0.45 only. From 1.5 on, entropy
    is worth more than arriving: more than half of the episodes are cut off.
    """

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-SIDE, SIDE, (2,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._position: FloatArray | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Draw the first position, or take it from `options={"position": (x, y)}`."""
        super().reset(seed=seed, options=options)
        drawn = self.np_random.normal(0.0, START_STD, 2)
        self._position = np.array((options or {}).get("position", drawn), np.float32)
        if not self.observation_space.contains(self._position):
            raise ConfigError(
                f"the position is {self._position.tolist()}",
                f"it must be two numbers from {-SIDE:g} to {SIDE:g}",
                "give (0, 0) for the centre",
            )
        return self._position.copy(), {"goal": None}

    def step(self, action: FloatArray) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Move by `action`, `[2]` in [-1, 1].

        Raises:
            ResetNeeded: before the first `reset` and after the end of an episode.
            ConfigError: for an action outside the box, of another shape or not a number.
        """
        if self._position is None:
            raise ResetNeeded("step was called without an episode; an episode starts with reset(); call reset()")
        a = np.asarray(action, np.float32)
        if not self.action_space.contains(a):
            raise ConfigError(
                f"the action is {action!r}",
                "it must be two numbers from -1 to 1, the displacement along x and y",
                "clip it, or draw one from action_space",
            )
        arrived = np.clip(self._position + a, -SIDE, SIDE)
        goal = goal_of(arrived)
        reward = (
            -ACTION_COST * np.square(a, dtype=np.float64).sum() - DISTANCE_COST * _squared_distances(arrived).min()
        )
        if goal is not None:
            reward += GOAL_REWARD
        self._position = None if goal is not None else arrived
        return arrived.copy(), float(reward), goal is not None, False, {"goal": goal}


def goal_of(position: ArrayLike) -> int | None:
    """The index in `GOALS` of the goal that is nearer than 1 to `position` `[2]`, or None."""
    squared = _squared_distances(position)
    nearest = int(squared.argmin())
    return nearest if squared[nearest] < GOAL_RADIUS**2 else None


def _squared_distances(position: ArrayLike) -> NDArray[np.float64]:
    squared: NDArray[np.float64] = np.square(GOALS - np.asarray(position)).sum(-1)
    return squared
