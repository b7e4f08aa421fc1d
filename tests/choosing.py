"""Environments whose actions are choices: some forbidden, or several at once.

    Lamps        a lamp is lit at random; to press its button is worth 1. Of `n` buttons two are allowed at a time
    Locks        several wheels at once, each to be turned to where its hand points

`Lamps` raises where a forbidden button is pressed, so that a test which plays it has checked every action.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

LENGTH = 12  # steps of an episode; every third is a terminal one


class Lamps(gym.Env[Any, Any]):
    """Which of the two allowed buttons is the right one is seen from the lamps.

    Args:
        n: buttons.
        by: how the mask is said: "info", "method", or "observation".
        start: the number of the first button.
        fault: what is wrong with the mask from step `at` on: "empty", "short", "missing", "number"; "" nothing.
        at: see `fault`; 0: from the first reset on.
    """

    def __init__(self, n: int = 5, by: str = "info", start: int = 0, fault: str = "", at: int = 3) -> None:
        self.n, self.by, self.fault, self.at = n, by, fault, at
        lamps = spaces.Box(0.0, 1.0, (n,), np.float32)
        parts = {"action_mask": spaces.MultiBinary(n), "lamps": lamps}
        self.observation_space = spaces.Dict(parts) if by == "observation" else lamps
        self.action_space = spaces.Discrete(n, start=start)
        self.pressed: list[int] = []
        if by == "method":
            self.action_masks = lambda: self.mask()

    def mask(self) -> Any:
        allowed = np.zeros(self.n, np.int8)
        allowed[self.allowed] = 1
        if self.fault and self.t >= self.at:
            return {"empty": 0 * allowed, "short": allowed[:-1], "missing": None, "number": 3 * allowed}[
                self.fault
            ]
        return allowed

    def answer(self) -> tuple[Any, dict[str, Any]]:
        self.allowed = np.sort(self.np_random.choice(self.n, 2, replace=False))
        self.lit = int(self.np_random.choice(self.allowed))
        lamps = np.zeros(self.n, np.float32)
        lamps[self.lit] = 1.0
        mask = self.mask()
        if self.by == "observation":
            return {"action_mask": mask, "lamps": lamps}, {}
        return lamps, {"action_mask": mask} if self.by == "info" and mask is not None else {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.answer()

    def step(self, action: Any) -> Any:
        pressed = int(action) - int(self.action_space.start)
        if pressed not in self.allowed:
            raise ValueError(f"button {pressed} is forbidden, allowed are {self.allowed}")
        self.pressed.append(pressed)
        reward = float(pressed == self.lit)
        self.t += 1
        ended = self.t >= LENGTH
        obs, info = self.answer()
        over = ended and bool(self.np_random.integers(2))
        return obs, reward, over, ended and not over, info


class Locks(gym.Env[Any, Any]):
    """The hands of the wheels are seen; the reward is the share of the wheels that were turned to them.

    Args:
        space: MultiDiscrete or MultiBinary.
    """

    def __init__(self, space: Any) -> None:
        self.action_space = space
        binary = isinstance(space, spaces.MultiBinary)
        self.n = np.full(space.shape, 2) if binary else space.nvec
        self.first = np.zeros(space.shape, int) if binary else space.start
        self.observation_space = spaces.Box(0.0, 1.0, (int(self.n.sum()),), np.float32)

    def see(self) -> Any:
        self.hands = self.np_random.integers(self.n)
        flat = zip(self.hands.ravel(), self.n.ravel(), strict=True)
        return np.concatenate([np.arange(n) == hand for hand, n in flat]).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.see(), {}

    def step(self, action: Any) -> Any:
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is not in {self.action_space}")
        reward = float((action - self.first == self.hands).mean())
        self.t += 1
        return self.see(), reward, False, self.t >= LENGTH, {}
