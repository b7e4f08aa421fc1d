"""Agents as small as the protocol allows, which write down what they were given.

    OnPolicy        a Gaussian whose mean learns from each rollout; its actions often lie beyond [-1, 1]
    OnPolicyChoice  the same with a softmax over discrete actions
    Choice          Q-learning without targets, epsilon-greedy: off-policy, for discrete actions
    Remembering     off-policy; its noise is half of the last and a new normal

What they write down (`rollouts`, `moments`) is for the tests and no part of their state.
"""

from typing import Any, ClassVar

import torch
from pydantic.dataclasses import dataclass

from softac.config import STRICT
from softac.equations.losses import q_loss, td_target
from softac.learning.learner import Learner
from softac.nets import EnsembleCritic, mlp
from softac.types import ActionKind, EnvSpec, Metrics, Moment, Rollout, Transition


@dataclass(frozen=True, config=STRICT)
class OnPolicySettings:
    gamma: float = 0.5
    n_steps: int = 4


@dataclass(frozen=True, config=STRICT)
class OffPolicySettings:
    gamma: float = 0.5
    n_steps: int = 1
    buffer_size: int = 150
    learning_starts: int = 16
    batch_size: int = 8
    train_freq: int = 1
    gradient_steps: int = 1
    epsilon: float = 0.25


class Tiny:
    """What all of them share: one network, its Adam state, and the way through a checkpoint."""

    actions: ClassVar[tuple[ActionKind, ...]] = ("continuous",)

    def __init__(self, spec: EnvSpec, config: Any, *, generator: torch.Generator, device: torch.device) -> None:
        self.spec, self.config, self.device = spec, config, device
        self.net = Learner(self.network(generator).to(device), 0.01)
        self.rollouts: list[Rollout] = []
        self.moments: list[tuple[Moment, torch.Tensor]] = []

    def network(self, generator: torch.Generator) -> torch.nn.Module:
        outputs = self.spec.n_actions or self.spec.action_dim
        return mlp((self.spec.obs_dim, 8, outputs), generator=generator)

    def tensors(self) -> dict[str, torch.Tensor]:
        return self.net.tensors("net")


class OnPolicy(Tiny):
    Config = OnPolicySettings
    on_policy = True

    def act(self, obs: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        with torch.no_grad():
            mean: torch.Tensor = self.net(obs)
            return mean if noise is None else mean + 2.0 * noise

    def act_noise(self, batch_size: int, generator: torch.Generator, moment: Moment) -> torch.Tensor:
        noise = torch.randn(batch_size, self.spec.action_dim, generator=generator)
        self.moments.append((moment, noise))
        return noise

    def update_noise(self, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(batch_size, generator=generator)

    def update_(self, rollout: Rollout, noise: torch.Tensor) -> Metrics:
        self.rollouts.append(Rollout(*(tensor.clone() for tensor in rollout)))
        obs, action, reward = rollout.obs.flatten(0, 1), rollout.action.flatten(0, 1), rollout.reward.flatten()
        loss = ((reward + 0.1 * noise).unsqueeze(1) * self.error(self.net(obs), action)).mean()
        self.net.descend(loss)
        return {"train/loss": loss.detach()}

    def error(self, output: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """The negative log-probability of the actions, up to a constant."""
        return (action - output).square() / 8.0


class OnPolicyChoice(OnPolicy):
    actions = ("discrete",)

    def act(self, obs: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        with torch.no_grad():
            logits = self.net(obs)
            return (logits if noise is None else logits + noise).argmax(-1, keepdim=True).float()

    def act_noise(self, batch_size: int, generator: torch.Generator, moment: Moment) -> torch.Tensor:
        uniform = torch.rand(batch_size, self.spec.n_actions or 0, generator=generator)
        return -uniform.clamp_min(1e-6).log().neg().log()

    def error(self, output: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return -output.log_softmax(-1).gather(-1, action.long())


class Choice(Tiny):
    Config = OffPolicySettings
    actions = ("discrete",)
    on_policy = False

    def act(self, obs: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        with torch.no_grad():
            best = self.net(obs).argmax(-1, keepdim=True).float()
        if noise is None:
            return best
        any_ = (noise[:, 1:] * (self.spec.n_actions or 0)).floor()
        return torch.where(noise[:, :1] < self.config.epsilon, any_, best)

    def act_noise(self, batch_size: int, generator: torch.Generator, moment: Moment) -> torch.Tensor:
        return torch.rand(batch_size, 2, generator=generator)

    def update_noise(self, batch_size: int, generator: torch.Generator) -> None:
        return None

    def update_(self, batch: Transition, noise: None) -> Metrics:
        with torch.no_grad():
            target = td_target(batch.reward, batch.discount, self.net(batch.next_obs).amax(-1))
        loss = q_loss(self.net(batch.obs).gather(1, batch.action.long()).T, target)
        self.net.descend(loss)
        return {"train/loss": loss.detach()}


class Remembering(Tiny):
    Config = OffPolicySettings
    on_policy = False

    def network(self, generator: torch.Generator) -> torch.nn.Module:
        return EnsembleCritic(self.spec.obs_dim, self.spec.action_dim, (8,), 1, generator=generator)

    def act(self, obs: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        return torch.zeros(len(obs), self.spec.action_dim) if noise is None else noise.tanh()

    def act_noise(self, batch_size: int, generator: torch.Generator, moment: Moment) -> torch.Tensor:
        noise = torch.randn(batch_size, self.spec.action_dim, generator=generator)
        if moment.previous is not None:
            noise = noise + 0.5 * moment.previous
        self.moments.append((moment, noise.clone()))
        return noise

    def update_noise(self, batch_size: int, generator: torch.Generator) -> None:
        return None

    def update_(self, batch: Transition, noise: None) -> Metrics:
        loss = q_loss(self.net(batch.obs, batch.action), batch.reward)
        self.net.descend(loss)
        return {"train/loss": loss.detach()}
