"""One episode of one environment, and the n-step transitions it gives."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from softac.envs import Step
from softac.types import FloatArray, Row

MOST_KEPT = 100_000  # steps of an episode whose actions are kept


class NStep:
    """Folds n successive steps of one episode into one transition.

    A transition never reaches into the next episode: where an episode ends, what is left in the
    window leaves with as many rewards as there are.

    Args:
        gamma: discount per step.
        n: rewards summed before bootstrapping.
    """

    def __init__(self, gamma: float, n: int) -> None:
        self.gamma, self.n = gamma, n
        self.window: deque[tuple[FloatArray, FloatArray, float]] = deque()

    def push(self, obs: FloatArray, action: FloatArray, step: Step) -> Iterator[Row]:
        """Take one step; yield the transitions it completes."""
        self.window.append((obs, action, step.reward))
        ended = step.terminated or step.truncated
        while len(self.window) == self.n or (ended and self.window):
            reward = sum(self.gamma**k * r for k, (_, _, r) in enumerate(self.window))
            # The one place where a discount is made. Only termination ends the future:
            # a time limit says nothing about the value of the state it interrupts.
            discount = self.gamma ** len(self.window) * (1.0 - step.terminated)
            first_obs, first_action, _ = self.window.popleft()
            yield Row(first_obs, first_action, reward, discount, step.obs, ended)

    def cut(self, obs: FloatArray) -> Iterator[Row]:
        """What is left in the window where an episode breaks off at `obs`, with as many rewards as there are."""
        while self.window:
            reward = sum(self.gamma**k * r for k, (_, _, r) in enumerate(self.window))
            discount = self.gamma ** len(self.window)
            first_obs, first_action, _ = self.window.popleft()
            yield Row(first_obs, first_action, reward, discount, obs, ended=True)


class Actions:
    """The actions of one episode, by which it is found again; beyond `MOST_KEPT` steps they are forgotten.

    An episode that never ends would otherwise fill the memory, and be played from its beginning on every load.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._data = bytearray()

    def __len__(self) -> int:
        return self._steps

    def append(self, action: FloatArray) -> None:
        """Add one, `[A]`."""
        self._steps += 1
        if self._steps <= MOST_KEPT:
            self._data += action.astype(np.float32, copy=False).tobytes()
        else:
            self._data.clear()

    def rows(self, width: int) -> FloatArray:
        """All of them `[len, A]`, `width` being A; none where they have been forgotten."""
        return np.frombuffer(bytes(self._data), np.float32).reshape(-1, width)


@dataclass
class Episode:
    """The episode one environment is in."""

    index: int
    seed: int
    obs: FloatArray
    window: NStep
    actions: Actions = field(default_factory=Actions)
    total: float = 0.0
    seen: float | None = None  # when `obs` was there, in seconds of the monotonic clock; None: not to be counted

    def take(self, action: FloatArray, step: Step) -> Iterator[Row]:
        """Advance by one step; yield the transitions it completes."""
        yield from self.window.push(self.obs, action, step)
        self.actions.append(action)
        self.total += step.reward
        self.obs, self.seen = step.obs, step.when


class Delays:
    """How long observations waited for their action, in seconds, since the last reset."""

    def __init__(self) -> None:
        self.count, self.total, self.longest = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.count, self.total, self.longest = self.count + 1, self.total + seconds, max(self.longest, seconds)

    @property
    def mean(self) -> float:
        """The mean; 0 if there is none."""
        return self.total / max(self.count, 1)

    def reset(self) -> None:
        """Begin anew."""
        self.count, self.total, self.longest = 0, 0.0, 0.0
