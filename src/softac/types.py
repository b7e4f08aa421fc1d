"""The nouns that the rooms hand to each other, and the protocols a third party may implement."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.float32]
Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class EnvSpec:
    """What an agent may know of its environment.

    Attributes:
        obs_dim: length of a flattened observation.
        action_dim: number of action coordinates; the agent's actions lie in [-1, 1]^action_dim
            and the environment room rescales them to the environment's own bounds.
    """

    obs_dim: int
    action_dim: int


class Transition(NamedTuple):
    """A batch of B transitions, as an update receives it.

    `discount` is gamma^n (1 - terminated): the weight of the value of `next_obs`. It is made in
    one place, `softac.run.collector`; a truncated episode keeps its full discount.
    """

    obs: Tensor  # [B, obs_dim]
    action: Tensor  # [B, action_dim], in [-1, 1]
    reward: Tensor  # [B], the discounted sum of n rewards
    discount: Tensor  # [B]
    next_obs: Tensor  # [B, obs_dim], the true one, also where the episode ended


class AgentConfig(Protocol):
    """The part of an off-policy agent's configuration that the run reads."""

    buffer_size: int
    learning_starts: int
    batch_size: int
    gamma: float
    n_steps: int
    train_freq: int
    gradient_steps: int


class Agent(Protocol):
    """An off-policy learner. It sees tensors only: no environment, no replay, no logger.

    A class that offers these members can be trained with `softac.Model(AgentClass, env)`.
    """

    Config: ClassVar[type[Any]]
    config: Any
    device: torch.device

    def __init__(
        self, spec: EnvSpec, config: Any, *, generator: torch.Generator, device: torch.device
    ) -> None: ...

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, action_dim]` in [-1, 1] for `obs` `[B, obs_dim]`; no noise: deterministic."""
        ...

    def act_noise(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """The noise that `act` turns into exploration, first dimension `batch_size`."""
        ...

    def update_noise(self, batch_size: int, generator: torch.Generator) -> Any:
        """All noise that one `update_` consumes."""
        ...

    def update_(self, batch: Transition, noise: Any) -> Metrics:
        """One gradient step on every learner, in place; 0-D tensors to log."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Everything the next update depends on; optimizer state under keys that begin `optim.`."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy `state` in; raises `CheckpointError` where names or shapes differ."""
        ...


class Sink(Protocol):
    """Where metrics go: TensorBoard, the terminal, a tracker of one's own."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of environment step `step`."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...
