"""Small environments for the reliability tests: well behaved ones, and ones that misbehave on request."""

import os
import random
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from softac import SAC

TINY = {"net_arch": [16, 16], "batch_size": 32, "learning_starts": 30, "buffer_size": 150}


def tiny(env: Any = "reliability/Drift-v0", **arguments: Any) -> SAC:
    """A model that learns within a second; its replay overflows after 150 steps."""
    return SAC(env, **(TINY | arguments))


class Drift(gym.Env[Any, Any]):
    """A point on a line that noise and the action push; ends when it strays, or after 20 steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(np.float32([-1.0, -3.0]), np.float32([2.0, 0.5]))
        self.x, self.t = np.zeros(3), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.x, self.t = self.np_random.normal(size=3), 0
        return self.x.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, ...]:
        self.t += 1
        self.x = 0.9 * self.x + 0.1 * np.append(action, 0.0) + 0.1 * self.np_random.normal(size=3)
        return (
            self.x.astype(np.float32),
            -float(np.square(self.x).sum()),
            bool(np.abs(self.x).max() > 3.0),
            self.t >= 20,
            {},
        )


class DictReach(gym.Env[Any, Any]):
    """A Dict observation with a nested part, a category and flags; ends at the goal or after 25 steps."""

    def __init__(self) -> None:
        box = spaces.Box(-10.0, 10.0, (2,), np.float64)
        self.observation_space = spaces.Dict(
            {
                "position": box,
                "task": spaces.Dict({"goal": box, "colour": spaces.Discrete(3, start=1)}),
                "touch": spaces.MultiBinary(2),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float64)

    def _obs(self) -> dict[str, Any]:
        task = {"goal": self.goal, "colour": self.colour}
        return {"position": self.position, "task": task, "touch": (self.position > self.goal).astype(np.int8)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.position, self.goal = self.np_random.normal(size=2), self.np_random.normal(size=2)
        self.colour, self.t = int(self.np_random.integers(1, 4)), 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, ...]:
        self.t += 1
        self.position = np.clip(self.position + 0.3 * action + 0.05 * self.np_random.normal(size=2), -10.0, 10.0)
        self.colour = int(self.np_random.integers(1, 4))
        distance = float(np.linalg.norm(self.position - self.goal))
        return self._obs(), -distance * self.colour, distance < 0.3, self.t >= 25, {}


class Unrepeatable(Drift):
    """`Drift`, except that its noise does not come from the seed."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        answer = super().reset(seed=seed)
        self.np_random = np.random.default_rng(int.from_bytes(os.urandom(8), "big"))
        return answer


class Reseeding(Drift):
    """`Drift`, except that it sets every global random generator at every step."""

    def step(self, action: Any) -> tuple[Any, ...]:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - the global generator is the point
        torch.manual_seed(0)
        print("a line on stdout")  # noqa: T201 - the noise is the point, too
        return super().step(action)


class Faulty(Drift):
    """`Drift`, until step number `at` (counted over all episodes), where it does `fault`.

    Args:
        fault: a key of `FAULTS`, or "reset", "constructor" and "close", which raise there; behind "leave in " they
            end the program instead.
        at: the step that goes wrong, from 1; for "reset" the reset.
        repaired: a file; where it exists, nothing goes wrong.
    """

    def __init__(self, fault: str, at: int = 1, repaired: str = "") -> None:
        super().__init__()
        self.fault, self.at, self.repaired = fault, at, repaired
        self.steps = self.resets = 0
        self._fail("constructor", "no simulator here")

    def _fail(self, where: str, text: str) -> None:
        if self.fault in (where, f"leave in {where}") and not self._is_repaired():
            raise RuntimeError(text) if self.fault == where else SystemExit(0)

    def _is_repaired(self) -> bool:
        return bool(self.repaired) and Path(self.repaired).exists()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        self.resets += 1
        if self.resets == self.at:
            self._fail("reset", "the model\nexploded")
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, ...]:
        self.steps += 1
        answer = super().step(action)
        if self.steps == self.at and self.fault in FAULTS and not self._is_repaired():
            return FAULTS[self.fault](*answer)
        return answer

    def close(self) -> None:
        self._fail("close", "the window is gone")


class WordlessError(RuntimeError):
    """An error that cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def _raise_wordless(*_: Any) -> Any:
    raise WordlessError


def _raise(*_: Any) -> Any:
    raise RuntimeError("the model\nexploded")


FAULTS: dict[str, Any] = {
    "raise": _raise,
    "error without words": _raise_wordless,
    "sys.exit": lambda *_: sys.exit(),
    "nan observation": lambda o, r, t, c, i: (np.array([0.0, np.nan, 0.0]), r, t, c, i),
    "infinite observation": lambda o, r, t, c, i: (np.array([0.0, np.inf, 0.0]), r, t, c, i),
    "observation beyond float32": lambda o, r, t, c, i: (np.array([0.0, 1e300, 0.0]), r, t, c, i),
    "nan reward": lambda o, r, t, c, i: (o, np.nan, t, c, i),
    "infinite reward": lambda o, r, t, c, i: (o, -np.inf, t, c, i),
    "reward beyond float32": lambda o, r, t, c, i: (o, 1e300, t, c, i),
    "reward beyond float64": lambda o, r, t, c, i: (o, 10**400, t, c, i),
    "no reward": lambda o, r, t, c, i: (o, None, t, c, i),
    "wrong shape": lambda o, r, t, c, i: (o[:2], r, t, c, i),
    "wrong dtype": lambda o, r, t, c, i: (np.array(["a", "b", "c"]), r, t, c, i),
    "no observation": lambda o, r, t, c, i: (None, r, t, c, i),
    "four values": lambda o, r, t, c, i: (o, r, t, i),
    "no tuple": lambda o, r, t, c, i: None,
    "flags that are not booleans": lambda o, r, t, c, i: (o, r, "no", c, i),
}


class Reusing(Drift):
    """`Drift`, except that it returns one and the same array, and scribbles into it later."""

    def __init__(self) -> None:
        super().__init__()
        self.out = np.zeros(3, np.float32)

    def _same(self, obs: Any) -> Any:
        self.out[:] = obs
        return self.out

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        self.out[:] = np.nan
        obs, info = super().reset(seed=seed)
        return self._same(obs), info

    def step(self, action: Any) -> tuple[Any, ...]:
        self.out[:] = np.nan
        obs, *rest = super().step(np.array(action))
        action[:] = np.nan
        return self._same(obs), *rest


for _class in (Drift, DictReach, Unrepeatable, Reseeding, Faulty, Reusing):
    gym.register(f"reliability/{_class.__name__}-v0", entry_point=_class)
