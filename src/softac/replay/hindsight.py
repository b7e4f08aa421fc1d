"""Hindsight: what was achieved later is taken for what had been wanted, and rewarded anew, when a row is drawn.

Andrychowicz et al., "Hindsight Experience Replay", arXiv:1707.01495, with the goals drawn from the rest of the
same episode ("future") or from its end ("final"). Rows keep single steps. Several steps are summed when they are
drawn, since with another goal each of them has another reward, and may end the episode earlier or later.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softac.replay.ring import Replay
from softac.types import EnvSpec, FloatArray, Row, SoftRow, SoftTransition, Transition

Strategy = Literal["future", "final"]
Indices = NDArray[np.int64]
IN_FLIGHT = -1


class Judge(Protocol):
    """Where goals lie in a flattened observation, and what is said of a pair of them; see `softac.envs.goals`."""

    achieved: slice
    desired: slice
    terminates: bool

    def rewards(self, achieved: FloatArray, desired: FloatArray) -> FloatArray:
        """The rewards `[M]` of M pairs of goals `[M, G]`."""
        ...

    def terminated(self, achieved: FloatArray, desired: FloatArray) -> NDArray[np.bool]:
        """Which of them end an episode, `[M]`; asked where `terminates`."""
        ...


@dataclass(frozen=True)
class Hindsight:
    """How rows get other goals.

    Attributes:
        goals: rewards any pair of goals.
        strategy: "future": what was achieved at a random one of this and the later steps of the episode;
            "final": at its last one so far.
        n_sampled_goal: rows with another goal for each with its own, in the mean.
        gamma: discount per step.
        n_steps: rewards summed before bootstrapping.
        n_envs: environments, of which each gives every n-th row.
    """

    goals: Judge
    strategy: Strategy
    n_sampled_goal: int
    gamma: float
    n_steps: int
    n_envs: int


class HindsightReplay(Replay):
    """A `Replay` of single steps, whose batches are of n steps and in part of other goals.

    Row number k is a step of environment k mod n_envs, so that the step after it is row k + n_envs as long as the
    episode goes on. Rows of episodes that have not ended are drawn, too, with the goals achieved so far.

    Args:
        capacity: rows kept.
        spec: sizes of observations and actions.
        device: where batches are delivered.
        bonus: whether rows have an entropy bonus, -log pi of their own action.
        how: how rows get other goals.
    """

    def __init__(self, capacity: int, spec: EnvSpec, device: torch.device, bonus: bool, how: Hindsight) -> None:
        super().__init__(capacity, spec, device, bonus)
        self.how = how
        self._left = np.full(capacity, IN_FLIGHT, np.int32)  # rows behind this one in its episode, if it has ended
        self._first = list(range(how.n_envs))  # number of the first row of each environment's episode

    def add(self, row: Row | SoftRow) -> None:
        """Append one step of the environment whose turn it is."""
        number = self.added
        self._left[number % self.capacity] = IN_FLIGHT
        super().add(row)
        if row.ended:
            self._end(number)

    def cut(self, index: int) -> None:
        """Environment `index` has lost its episode: nothing follows on its last row."""
        if (last := self._last(index)) >= self._first[index]:
            self._end(last)

    def sample(self, batch_size: int, generator: torch.Generator) -> Transition | SoftTransition:
        """`batch_size` rows drawn uniformly with replacement, some of them with another goal than they had.

        Raises:
            EnvironmentFailed: the environment does not reward a pair of goals.
        """
        slots = torch.randint(len(self), (batch_size,), generator=generator).numpy()
        uniform = torch.rand(2, batch_size, generator=generator, dtype=torch.float64).numpy()
        how, left = self.how, self._behind(slots)
        other = uniform[0] * (how.n_sampled_goal + 1) < how.n_sampled_goal
        ahead = (uniform[1] * (left + 1)).astype(np.int64) if how.strategy == "future" else left
        goals = self._obs[slots, how.goals.desired]
        goals[other] = self._achieved(self._later(slots[other], ahead[other]))
        reward, discount, last, bonus = self._summed(slots, left, goals, other)
        obs, next_obs = self._obs[slots], self._obs[self._next[last]]
        obs[:, how.goals.desired] = next_obs[:, how.goals.desired] = goals
        arrays = (obs, self._action[slots], reward, discount, next_obs, *([bonus] if self.bonus else []))
        batch = [torch.from_numpy(array).to(self.device) for array in arrays]
        return SoftTransition(*batch) if self.bonus else Transition(*batch)

    def ends(self) -> Tensor:
        """Which of the rows end an episode, the oldest first, as bits; for a checkpoint."""
        slots = np.arange(self.added - len(self), self.added) % self.capacity
        return torch.from_numpy(np.packbits(self._left[slots] == 0))

    def load_ends(self, bits: Tensor) -> None:
        """The inverse of `ends`, after the rows have been loaded.

        Raises:
            ValueError: they are of another number of rows.
        """
        if bits.dtype != torch.uint8 or bits.shape != (-(-len(self) // 8),):
            raise ValueError(f"ends of episodes as {bits.dtype} {tuple(bits.shape)} for {len(self)} rows")
        ended = np.unpackbits(bits.cpu().numpy(), count=len(self)).astype(bool)
        oldest, n = self.added - len(self), self.how.n_envs
        self._left[:] = IN_FLIGHT
        self._first = [oldest + (i - oldest) % n for i in range(n)]
        for number in np.flatnonzero(ended) + oldest:
            self._end(int(number))

    def _summed(
        self, slots: Indices, left: Indices, goals: FloatArray, other: NDArray[np.bool]
    ) -> tuple[FloatArray, FloatArray, Indices, FloatArray]:
        """Reward and discount of n steps from each row towards its goal, the last of their rows, and their bonus.

        An n-step return ends early where the episode does, or where the goal that a row got would have ended it.
        """
        reward, bonus = np.zeros(len(slots), np.float32), np.zeros(len(slots), np.float32)
        weight, last = np.ones(len(slots), np.float32), slots.copy()
        for k in range(self.how.n_steps):
            going = (k <= left) & (weight > 0.0)
            if not going.any():
                break
            rows = self._later(slots, k * going)
            r, d = self._judged(rows, goals, other & going)
            reward += going * weight * r
            if self.bonus and k:
                bonus += going * weight * self._bonus[rows]
            weight = np.where(going, weight * d, weight)
            last = np.where(going, rows, last)
        return reward, weight, last, bonus

    def _judged(self, rows: Indices, goals: FloatArray, other: NDArray[np.bool]) -> tuple[FloatArray, FloatArray]:
        """Reward and discount of single rows, those of `other` with these goals."""
        reward, discount = self._reward[rows], self._discount[rows]
        if other.any():
            judge, pairs = self.how.goals, (self._achieved(rows[other]), goals[other])
            reward[other] = judge.rewards(*pairs)
            if judge.terminates:
                discount[other] = self.how.gamma * (1.0 - judge.terminated(*pairs).astype(np.float32))
        return reward, discount

    def _achieved(self, rows: Indices) -> FloatArray:
        """What the step of each row achieved."""
        achieved: FloatArray = self._obs[self._next[rows], self.how.goals.achieved]
        return achieved

    def _later(self, slots: Indices, steps: Indices | int) -> Indices:
        """The slots of the rows so many steps later, of the same episodes."""
        later: Indices = (slots + steps * self.how.n_envs) % self.capacity
        return later

    def _behind(self, slots: Indices) -> Indices:
        """How many rows there are behind these in their episodes, so far."""
        oldest = max(0, self.added - self.capacity)
        numbers = oldest + (slots - oldest) % self.capacity
        n, newest = self.how.n_envs, self.added - 1
        in_flight = (newest - numbers) // n
        left = self._left[slots].astype(np.int64)
        return np.where(left == IN_FLIGHT, in_flight, left)

    def _last(self, index: int) -> int:
        """The number of the youngest row of environment `index`; less than 0 if it has none."""
        newest = self.added - 1
        return newest - (newest - index) % self.how.n_envs

    def _end(self, last: int) -> None:
        """Note that an episode has ended with row number `last`."""
        n = self.how.n_envs
        first = self._first[last % n]
        kept = max(first, last - (last - max(0, self.added - self.capacity)) // n * n)
        numbers = np.arange(kept, last + 1, n)
        self._left[numbers % self.capacity] = (last - numbers) // n
        self._first[last % n] = last + n
