"""Environments that do something to their process. No import of softac: workers come up quickly."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Drift(gym.Env[Any, Any]):
    """A point that noise and the action push; ends when it strays, or after `length` steps.

    Args:
        fault: a key of `FAULTS`.
        at: at which step, counted over all episodes of this instance.
        once: a file; the fault is done only where it does not exist, and makes it.
        seed: the fault is done only in an episode of this seed, if it is given.
        length: steps of an episode.
        pause: seconds that a step takes.
        place: "step", "reset" (number `at`), "constructor" or "close".
    """

    def __init__(
        self,
        fault: str = "none",
        at: int = 1,
        once: str = "",
        seed: int | None = None,
        length: int = 20,
        pause: float = 0.0,
        place: str = "step",
    ) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(np.float32([-1.0, -3.0]), np.float32([2.0, 0.5]))
        self.fault, self.at, self.once, self.seed = fault, at, once, seed
        self.length, self.pause, self.place = length, pause, place
        self.steps = self.resets = 0
        self.current: int | None = None
        self.x, self.t = np.zeros(3), 0
        if place == "constructor":
            self._misbehave()

    def _misbehave(self) -> Any:
        if self.seed is not None and self.seed != self.current:
            return None
        if self.once:
            try:  # made in one step: two workers come to this line together
                Path(self.once).touch(exist_ok=False)
            except FileExistsError:
                return None
        return FAULTS[self.fault](self)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.current = seed
        self.resets += 1
        if self.place == "reset" and self.resets == self.at:
            self._misbehave()
        self.x, self.t = self.np_random.normal(size=3), 0
        return self.x.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, ...]:
        self.t += 1
        self.steps += 1
        if self.pause:
            time.sleep(self.pause)
        self.x = 0.9 * self.x + 0.1 * np.append(action, 0.0) + 0.1 * self.np_random.normal(size=3)
        answer = (
            self.x.astype(np.float32),
            -float(np.square(self.x).sum()),
            bool(np.abs(self.x).max() > 3.0),
            self.t >= self.length,
            {},
        )
        if self.place == "step" and self.steps == self.at:
            other = self._misbehave()
            answer = answer if other is None else other
        return answer

    def close(self) -> None:
        if self.place == "close":
            self._misbehave()


class WithThread(Drift):
    """Begins a thread that never ends, and a program."""

    def __init__(self, note: str = "") -> None:
        super().__init__()
        threading.Thread(target=threading.Event().wait).start()
        self.program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        if note:
            Path(note).write_text(str(self.program.pid))


def _raise(_: Drift) -> Any:
    raise RuntimeError("the model\nexploded")


def _hang(_: Drift) -> Any:
    while True:
        time.sleep(0.1)


def _hang_in_c(_: Drift) -> Any:
    ctypes.PyDLL(None).sleep(1000)  # holds the interpreter's lock: no other thread runs


def _segfault(_: Drift) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(1)


def _kill(_: Drift) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1)


def _lie(_: Drift) -> Any:
    for link in list(Path("/proc/self/fd").iterdir()):  # whatever is a pipe to the learner gets a byte
        try:
            if int(link.name) > 2 and "pipe:" in str(link.readlink()):
                os.write(int(link.name), b"xx")
        except OSError:
            continue
    time.sleep(0.2)


def _scribble(_: Drift) -> Any:
    return np.array([0.0, np.nan, 0.0], np.float32), 0.0, False, False, {}


class Paced(Drift):
    """The third instance that is made is slow.

    Args:
        marks: a folder in which the instances count themselves.
    """

    def __init__(self, marks: str) -> None:
        for n in range(100):
            try:
                (Path(marks) / str(n)).touch(exist_ok=False)
            except FileExistsError:
                continue
            break
        super().__init__(pause=0.4 if n == 2 else 0.005)


FAULTS: dict[str, Any] = {
    "none": lambda env: None,
    "raise": _raise,
    "nan": _scribble,
    "hang": _hang,
    "hang in C": _hang_in_c,
    "segfault": _segfault,
    "kill": _kill,
    "exit": lambda env: os._exit(3),
    "sys.exit": lambda env: sys.exit(4),
    "close descriptors": lambda env: os.closerange(3, 4096),
    "lie": _lie,
    "print megabytes": lambda env: sys.stdout.write("x" * 3_000_000) and None,
    "change directory": lambda env: os.chdir("/"),
    "slow": lambda env: time.sleep(0.3),
}

for _class in (Drift, WithThread):
    gym.register(f"worlds/{_class.__name__}-v0", entry_point=_class)
