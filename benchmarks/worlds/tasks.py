"""Environments for the measurements: free ones, ones that take their time, and ones that misbehave."""

import ctypes
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Free(gym.Env[Any, Any]):
    """The spaces of HalfCheetah-v5 and next to no work: what is left is what stepping costs.

    Args:
        milliseconds: of each step.
        compute: spend them computing; otherwise waiting, as a robot or a remote simulator does.
        length: steps of an episode.
    """

    def __init__(self, milliseconds: float = 0.0, compute: bool = False, length: int = 1000) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (17,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (6,), np.float32)
        self.seconds, self.compute, self.length = milliseconds / 1000, compute, length
        self.x, self.t = np.zeros(17), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        """A random start."""
        super().reset(seed=seed)
        self.x, self.t = self.np_random.normal(size=17), 0
        return self.x, {}

    def step(self, action: Any) -> tuple[Any, ...]:
        """Move a little, after the time that it takes."""
        if self.compute:
            until = time.perf_counter() + self.seconds
            while time.perf_counter() < until:
                pass
        elif self.seconds:
            time.sleep(self.seconds)
        self.t += 1
        self.x = 0.95 * self.x
        self.x[:6] += 0.1 * np.asarray(action, np.float64)
        return self.x, -float(self.x @ self.x), False, self.t >= self.length, {}


class DictPoint(gym.Env[Any, Any]):
    """A point that is pushed towards a goal; a Dict observation with a nested part, a category and flags."""

    def __init__(self) -> None:
        box = spaces.Box(-10.0, 10.0, (2,), np.float64)
        task = spaces.Dict({"goal": box, "colour": spaces.Discrete(3, start=1)})
        self.observation_space = spaces.Dict({"position": box, "task": task, "touch": spaces.MultiBinary(2)})
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float64)

    def _obs(self) -> dict[str, Any]:
        touch = (self.position > self.goal).astype(np.int8)
        return {"position": self.position, "task": {"goal": self.goal, "colour": self.colour}, "touch": touch}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        """A random start and goal."""
        super().reset(seed=seed)
        self.position, self.goal = self.np_random.normal(size=2), self.np_random.normal(size=2)
        self.colour, self.t = int(self.np_random.integers(1, 4)), 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, ...]:
        """Push."""
        self.t += 1
        noise = 0.05 * self.np_random.normal(size=2)
        self.position = np.clip(self.position + 0.3 * action + noise, -10.0, 10.0)
        self.colour = int(self.np_random.integers(1, 4))
        distance = float(np.linalg.norm(self.position - self.goal))
        return self._obs(), -distance * self.colour, distance < 0.3, self.t >= 25, {}


class Faulty(gym.Env[Any, Any]):
    """A drifting point that misbehaves once, in step number `at` of the instance that comes to it first.

    Args:
        fault: a key of `FAULTS`.
        at: the step (for "raise in reset" and "hang in reset" the reset), counted over all episodes.
        once: a file that says that it has happened.
    """

    def __init__(self, fault: str, at: int, once: str) -> None:
        self.observation_space = spaces.Box(-5.0, 5.0, (3,), np.float32)
        self.action_space = spaces.Box(np.float32([-1.0, -3.0]), np.float32([2.0, 0.5]))
        self.fault, self.at, self.once = fault, at, Path(once)
        self.steps = self.resets = self.t = 0
        self.x = np.zeros(3)
        self.out = np.zeros(3, np.float32)
        if fault == "raise in constructor":
            self._raise("no simulator here")

    def _raise(self, text: str = "the model exploded") -> None:
        raise RuntimeError(text)

    def _due(self, n: int) -> bool:
        if n != self.at or self.once.exists():
            return False
        self.once.touch()
        return True

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        """A random start."""
        super().reset(seed=seed)
        self.resets += 1
        self.x, self.t = self.np_random.normal(size=3), 0
        if self.fault.endswith(" in reset") and self._due(self.resets):
            FAULTS[self.fault](self, None)
        if self.fault == "other space at reset":
            self.observation_space = spaces.Box(-9.0, 9.0, (4,), np.float32)
        return self._same(), {}

    def _same(self) -> Any:
        if self.fault == "one array, changed later":
            self.out[:] = self.x
            return self.out
        return self.x.astype(np.float32)

    def step(self, action: Any) -> tuple[Any, ...]:
        """Drift."""
        self.out[:] = np.nan
        self.steps, self.t = self.steps + 1, self.t + 1
        self.x = 0.9 * self.x + 0.1 * np.append(action, 0.0) + 0.1 * self.np_random.normal(size=3)
        answer = (self._same(), -float(self.x @ self.x), False, self.t >= 20, {})
        if not self.fault.endswith((" in reset", " in close", " in constructor")) and self._due(self.steps):
            other = FAULTS[self.fault](self, answer)
            answer = answer if other is None else other
        return answer

    def close(self) -> None:
        """Go."""
        if self.fault == "raise in close":
            self._raise("the window is gone")


def _hang(*_: Any) -> None:
    while True:
        time.sleep(0.1)


def _die(number: int) -> Any:
    def die(*_: Any) -> None:
        os.kill(os.getpid(), number)
        time.sleep(1)

    return die


def _reseed(*_: Any) -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global generator is the point


def _leak(env: Faulty, _: Any) -> None:
    env.at = -1  # from now on in every step
    env.leaked = [bytes(10**6)]  # type: ignore[attr-defined]


def _open_files(*_: Any) -> None:
    for _file in range(200):
        os.open("/dev/null", os.O_RDONLY)


FAULTS: dict[str, Any] = {
    "raise in constructor": None,
    "raise in reset": lambda env, _: env._raise(),
    "raise in close": None,
    "raise": lambda env, _: env._raise(),
    "nan observation": lambda e, a: (np.array([0.0, np.nan, 0.0]), *a[1:]),
    "infinite observation": lambda e, a: (np.array([0.0, np.inf, 0.0]), *a[1:]),
    "nan reward": lambda e, a: (a[0], np.nan, *a[2:]),
    "infinite reward": lambda e, a: (a[0], -np.inf, *a[2:]),
    "hang": _hang,
    "hang in reset": _hang,
    "hang holding the interpreter": lambda *_: ctypes.PyDLL(None).sleep(1000),
    "slow": lambda *_: time.sleep(0.5),
    "SIGKILL": _die(signal.SIGKILL),
    "SIGSEGV": _die(signal.SIGSEGV),
    "_exit": lambda *_: os._exit(9),
    "wrong shape": lambda e, a: (a[0][:2], *a[1:]),
    "wrong dtype": lambda e, a: (np.array(["a", "b", "c"]), *a[1:]),
    "outside its space": lambda e, a: (np.full(3, 50.0, np.float32), *a[1:]),
    "four values": lambda e, a: (*a[:3], a[4]),
    "flags that are not booleans": lambda e, a: (*a[:2], "no", *a[3:]),
    "one array, changed later": lambda *_: None,
    "other space at reset": lambda *_: None,
    "an observation of 1 GB": lambda e, a: (np.zeros(250_000_000, np.float32), *a[1:]),
    "reseeds the global generators": _reseed,
    "prints a megabyte": lambda *_: sys.stdout.write("x" * 10**6) and None,
    "opens 200 files": _open_files,
    "leaks 1 MB": _leak,
    "closes its descriptors": lambda *_: os.closerange(3, 256),
}

for _class in (Free, DictPoint, Faulty):
    gym.register(f"worlds/{_class.__name__}-v0", entry_point=_class)
