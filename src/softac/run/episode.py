"""One episode of one environment, and the n-step transitions it gives."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from softac.envs import Step
from softac.types import FloatArray, Row, SoftRow


class Sums(NamedTuple):
    """Of successive steps k = 0 .. n - 1."""

    reward: float  # sum of gamma^k r_k
    bonus: float  # sum of gamma^k b_k without b_0
    first: float  # b_0
    discount: float  # gamma^n

    def then(self, later: "Sums") -> "Sums":
        """These steps and the `later` ones."""
        return Sums(
            self.reward + self.discount * later.reward,
            self.bonus + self.discount * (later.first + later.bonus),
            self.first,
            self.discount * later.discount,
        )


MOST_KEPT = 100_000  # steps of an episode whose actions are kept


class NStep:
    """Folds n successive steps of one episode into one transition.

    A transition never reaches into the next episode: where an episode ends, what is left in the
    window leaves with as many rewards as there are.

    The window is a queue of two parts. The younger steps have one sum of all. Of the older ones each has the sum
    from itself to the youngest of them. When there is no older one left, the younger become the older: so a step
    takes three additions of sums, however long the window is, and no sum is ever taken apart, which loses digits.

    Args:
        gamma: discount per step.
        n: rewards summed before bootstrapping.
        bonus: whether rows have the entropy bonuses of their steps.
    """

    def __init__(self, gamma: float, n: int, *, bonus: bool = False) -> None:
        self.gamma, self.n, self.bonus = gamma, n, bonus
        self._begun: deque[tuple[FloatArray, FloatArray]] = deque()  # obs and action of each step in the window
        self._older: list[Sums] = []  # the oldest step's last
        self._younger: list[Sums] = []
        self._sum = Sums(0.0, 0.0, 0.0, 1.0)  # of the younger

    def push(self, obs: FloatArray, action: FloatArray, step: Step, bonus: float = 0.0) -> Iterator[Row | SoftRow]:
        """Take one step, with its -log pi if that is wanted; yield the transitions it completes."""
        self._begun.append((obs, action))
        alone = Sums(step.reward, 0.0, bonus, self.gamma)
        self._sum = self._sum.then(alone) if self._younger else alone
        self._younger.append(alone)
        ended = step.terminated or step.truncated
        while len(self._begun) == self.n or (ended and self._begun):
            yield self._pop(step.obs, ended, terminated=step.terminated)

    def cut(self, obs: FloatArray) -> Iterator[Row | SoftRow]:
        """What is left in the window where an episode breaks off at `obs`, with as many rewards as there are."""
        while self._begun:
            yield self._pop(obs, ended=True, terminated=False)

    def _pop(self, obs: FloatArray, ended: bool, *, terminated: bool) -> Row | SoftRow:
        """The transition from the oldest step to `obs`."""
        if not self._older:
            for alone in reversed(self._younger):
                self._older.append(alone.then(self._older[-1]) if self._older else alone)
            self._younger = []
        total = self._older.pop()
        if self._younger:
            total = total.then(self._sum)
        # The one place where a discount is made. Only termination ends the future:
        # a time limit says nothing about the value of the state it interrupts.
        discount = self.gamma ** len(self._begun) * (1.0 - terminated)
        first_obs, first_action = self._begun.popleft()
        row = Row(first_obs, first_action, total.reward, discount, obs, ended)
        return SoftRow(*row, total.bonus) if self.bonus else row


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
    bonuses: deque[float] = field(default_factory=partial(deque, maxlen=0))  # -log pi of the steps in the window
    seen: float | None = None  # when `obs` was there, in seconds of the monotonic clock; None: not to be counted

    def take(self, action: FloatArray, step: Step, bonus: float = 0.0) -> Iterator[Row | SoftRow]:
        """Advance by one step; yield the transitions it completes."""
        yield from self.window.push(self.obs, action, step, bonus)
        self.bonuses.append(bonus)
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
