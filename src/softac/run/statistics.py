"""What observations and rewards are like, as they are met: the numbers that normalise them.

Each environment step counts once, in the order in which the collector records it. The replay and the rollout
keep what the environment gave; it is normalised where it is read, with the statistics of that moment.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softac.learning.parts import networks
from softac.learning.standardise import BEYOND, Standardise
from softac.types import FloatArray

PREFIX = "optim.statistics."
LEAST_STD = 1e-30  # what varies less is constant: its deviations could not be divided by

Float64Array = NDArray[np.float64]


class Moments:
    """Mean and variance of what was added, in float64.

    Source: Welford, "Note on a method for calculating corrected sums of squares and products",
    Technometrics 4 (1962).

    Args:
        width: numbers in each row.
    """

    def __init__(self, width: int) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(width), np.zeros(width)

    def add(self, row: Any) -> None:
        """Take one row."""
        self.count += 1
        deviation = row - self.mean
        self.mean += deviation / self.count
        self.squares += deviation * (row - self.mean)

    @property
    def std(self) -> Float64Array:
        """The (biased) standard deviation of each number; 1 where it never varied."""
        std = np.sqrt(self.squares / max(self.count, 1))
        std[std < LEAST_STD] = 1.0
        return std

    def state(self) -> Tensor:
        """All of it, `[1 + 2 width]`."""
        return torch.from_numpy(np.concatenate([[self.count], self.mean, self.squares]))

    def load(self, state: Tensor) -> None:
        """The inverse of `state`.

        Raises:
            ValueError: it is not of this width, or no statistics.
        """
        width = len(self.mean)
        numbers = state.cpu().numpy()
        if numbers.shape != (1 + 2 * width,) or numbers.dtype != np.float64 or not np.isfinite(numbers).all():
            raise ValueError(f"statistics of {state.dtype} {tuple(state.shape)}")
        if numbers[0] < 0 or numbers[0] != int(numbers[0]) or (numbers[1 + width :] < 0).any():
            raise ValueError("statistics that nothing can have")
        self.count = int(numbers[0])
        self.mean, self.squares = numbers[1 : 1 + width].copy(), numbers[1 + width :].copy()


class Statistics:
    """The statistics of a run, and the layers of its agent that normalise by them.

    Args:
        agent: whose layers they are.
        gamma: discount of the returns by which rewards are normalised.
        n_envs: how many environments there are.
        rewards: whether rewards are normalised, too.

    Attributes:
        layers: of the agent; every one has the same numbers.
    """

    def __init__(self, agent: Any, gamma: float, n_envs: int, *, rewards: bool) -> None:
        self.layers = [m for network in networks(agent) for m in network.modules() if isinstance(m, Standardise)]
        self.gamma, self.rewards = gamma, rewards
        self.spans = self.layers[0].spans
        self.obs = Moments(len(self.layers[0].mean))
        self.returns, self._return = Moments(1), np.zeros(n_envs)

    def add(self, index: int, obs: FloatArray, reward: float, *, ended: bool) -> None:
        """Count one step of environment `index`: the observation `[O]` it was made from, and its reward."""
        self.obs.add(obs if len(obs) == len(self.obs.mean) else np.concatenate([obs[span] for span in self.spans]))
        if self.rewards:
            self._return[index] = self.gamma * self._return[index] + reward
            self.returns.add(self._return[index])
            if ended:
                self.lose(index)

    def lose(self, index: int) -> None:
        """Forget the return of an episode of environment `index` that will not go on."""
        self._return[index] = 0.0

    def publish(self) -> None:
        """Let the layers normalise by what has been counted so far."""
        mean, factor = (torch.from_numpy(x.astype(np.float32)) for x in (self.obs.mean, 1.0 / self.obs.std))
        for layer in self.layers:
            layer.mean.copy_(mean)
            layer.factor.copy_(factor)

    def scaled(self, reward: Tensor) -> Tensor:
        """Rewards divided by the standard deviation of the discounted returns met so far, cut to [-10, 10]."""
        return (reward / float(self.returns.std[0])).clamp(-BEYOND, BEYOND)

    def state(self) -> dict[str, Tensor]:
        """What has been counted, by name."""
        state = {"obs": self.obs.state()}
        if self.rewards:
            state |= {"returns": self.returns.state(), "return": torch.from_numpy(self._return.copy())}
        return {PREFIX + name: value for name, value in state.items()}

    def take_from(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state`: take what it gave out of all the tensors of a checkpoint.

        Raises:
            KeyError, ValueError: it is missing, or not of these environments.
        """
        self.obs.load(tensors.pop(PREFIX + "obs"))
        if self.rewards:
            self.returns.load(tensors.pop(PREFIX + "returns"))
            running = tensors.pop(PREFIX + "return").cpu().numpy()
            if running.shape != self._return.shape or running.dtype != np.float64:
                raise ValueError(f"returns of {len(running)} environments")
            self._return = running.copy()


def statistics_of(agent: Any, n_envs: int, normalize: str) -> Statistics | None:
    """The statistics that `normalize` asks for: "none", "obs", or "obs,reward"."""
    if normalize == "none":
        return None
    return Statistics(agent, agent.config.gamma, n_envs, rewards=normalize == "obs,reward")
