"""Soft actor-critic: off-policy, maximum entropy, twin critics, learned temperature.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905, algorithm 1.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac.config import (
    STRICT,
    ActorLearningRate,
    BatchSize,
    BufferSize,
    CriticLearningRate,
    EntCoef,
    EntCoefLearningRate,
    Gamma,
    GradientSteps,
    LearningRate,
    LearningStarts,
    NCritics,
    NetArch,
    NSteps,
    TargetEntropy,
    TargetUpdateInterval,
    Tau,
    TrainFreq,
    initial_temperature,
    require_batch_fits,
)
from softac.equations.losses import (
    log_temperature_loss,
    policy_loss,
    q_loss,
    soft_q_target,
    temperature_loss,
)
from softac.learning.learner import Learner, copy_state_, live_tensors, polyak_
from softac.nets import EnsembleCritic, SquashedGaussianActor, Temperature, as_operations
from softac.nets.operations import Operation
from softac.types import EnvSpec, Metrics, Moment, Transition


@dataclass(frozen=True, config=STRICT)
class SACConfig:
    """Hyperparameters; names and defaults as in Stable-Baselines3, choices as in the paper."""

    learning_rate: LearningRate = 3e-4
    actor_learning_rate: ActorLearningRate = None
    critic_learning_rate: CriticLearningRate = None
    ent_coef_learning_rate: EntCoefLearningRate = None
    buffer_size: BufferSize = 1_000_000
    learning_starts: LearningStarts = 100
    batch_size: BatchSize = 256
    tau: Tau = 0.005
    gamma: Gamma = 0.99
    train_freq: TrainFreq = 1
    gradient_steps: GradientSteps = 1
    target_update_interval: TargetUpdateInterval = 1
    n_critics: NCritics = 2
    n_steps: NSteps = 1
    ent_coef: EntCoef = "auto"
    target_entropy: TargetEntropy = "auto"
    net_arch: NetArch = (256, 256)
    alpha_loss: Annotated[Literal["alpha", "log_alpha"], Field(description="what the dual loss multiplies")] = (
        "alpha"
    )
    actor_q: Annotated[Literal["min", "mean"], Field(description="which critics the actor climbs")] = "min"
    log_std: Annotated[
        Literal["clamp", "tanh"], Field(description="how log sigma is bounded: cut, or squashed")
    ] = "clamp"

    def __post_init__(self) -> None:
        """Refuse what no single field can see."""
        require_batch_fits(self.batch_size, self.buffer_size)


class Noise(NamedTuple):
    """The standard normal samples that one update consumes, each `[B, A]`."""

    now: Tensor  # for a ~ pi(.|s)
    next: Tensor  # for a' ~ pi(.|s')


class SACAgent:
    """Soft actor-critic with a squashed Gaussian policy, for continuous actions.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = SACConfig
    actions = ("continuous",)
    on_policy = False

    def __init__(
        self, spec: EnvSpec, config: SACConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.spec, self.config, self.device = spec, config, device
        sizes = (spec.obs_dim, spec.action_dim, config.net_arch)
        rate = config.learning_rate
        actor = SquashedGaussianActor(*sizes, config.log_std, generator=generator).to(device)
        critic = EnsembleCritic(*sizes, config.n_critics, generator=generator).to(device)
        self.actor = Learner(actor, config.actor_learning_rate or rate)
        self.critic = Learner(critic, config.critic_learning_rate or rate)
        self.target_critic = deepcopy(critic).requires_grad_(False)
        self.temperature: Learner | None = None
        if isinstance(config.ent_coef, str):
            temperature = Temperature(initial_temperature(config.ent_coef)).to(device)
            self.temperature = Learner(temperature, config.ent_coef_learning_rate or rate)
        self.target_entropy = (
            -float(spec.action_dim) if config.target_entropy == "auto" else float(config.target_entropy)
        )
        self.n_updates = torch.zeros((), dtype=torch.int64)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, A]` in [-1, 1] for `obs` `[B, O]`: sampled, or tanh(mean) without noise."""
        with torch.no_grad():
            policy = self.actor(obs)
            action: Tensor = policy.mode() if noise is None else policy.action(noise)
            return action

    def operations(self, obs: Operation) -> Operation:
        """`act` without noise as plain operations, to be exported."""
        return as_operations(self.actor.module, obs)

    def act_noise(self, batch_size: int, generator: torch.Generator, _: Moment) -> Tensor:
        """Standard normal `[B, A]`."""
        return torch.randn(batch_size, self.spec.action_dim, generator=generator).to(self.device)

    def update_noise(self, batch_size: int, generator: torch.Generator) -> Noise:
        """Standard normal samples for both expectations of one update."""
        return Noise(*torch.randn(2, batch_size, self.spec.action_dim, generator=generator).to(self.device))

    def update_(self, batch: Transition, noise: Noise) -> Metrics:
        """One gradient step; every `target_update_interval`-th moves the targets."""
        self.n_updates += 1
        return self.gradient_step_(batch, noise, int(self.n_updates) % self.config.target_update_interval == 0)

    def gradient_step_(self, batch: Transition, noise: Noise, move_targets: bool) -> Metrics:
        """Algorithm 1's gradient step: critics, actor, temperature, targets, in this order."""
        s, a, r, discount, s2 = batch
        alpha = self.alpha()

        with torch.no_grad():
            a2, log_pi2 = self.actor(s2).rsample(noise.next)
            y = soft_q_target(r, discount, self.target_critic(s2, a2), log_pi2, alpha)
        q = self.critic(s, a)
        critic_loss = q_loss(q, y)
        self.critic.descend(critic_loss)

        a_pi, log_pi = self.actor(s).rsample(noise.now)
        q_pi = self.critic(s, a_pi)
        q_pi = q_pi.amin(0) if self.config.actor_q == "min" else q_pi.mean(0)
        actor_loss = policy_loss(log_pi, q_pi, alpha)
        self.actor.descend(actor_loss)

        alpha_loss = torch.zeros_like(alpha)
        if self.temperature is not None:
            j_alpha = temperature_loss if self.config.alpha_loss == "alpha" else log_temperature_loss
            alpha_loss = j_alpha(self.temperature(), log_pi.detach(), self.target_entropy)
            self.temperature.descend(alpha_loss)

        if move_targets:
            polyak_(self.target_critic.parameters(), self.critic.parameters, self.config.tau)

        return {
            "train/actor_loss": actor_loss.detach(),
            "train/critic_loss": critic_loss.detach(),
            "train/ent_coef": alpha,
            "train/ent_coef_loss": alpha_loss.detach(),
            "train/entropy": -log_pi.detach().mean(),
            "train/q_mean": q.detach().mean(),
            "train/target_q_mean": y.mean(),
            "train/saturated_actions": (a_pi.detach().abs() > 0.99).float().mean(),
        }

    def alpha(self) -> Tensor:
        """The temperature now, a scalar tensor without gradient."""
        if self.temperature is None:
            return torch.full((), float(self.config.ent_coef), device=self.device)
        alpha: Tensor = self.temperature().detach().exp()
        return alpha

    def state_dict(self) -> dict[str, Tensor]:
        """Networks, targets, temperature, Adam moments and the update counter."""
        return {name: tensor.detach().clone() for name, tensor in self._tensors().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy `state` in; raises `CheckpointError` where names, shapes or dtypes differ."""
        copy_state_(self._tensors(), state)

    def _tensors(self) -> dict[str, Tensor]:
        return live_tensors(
            actor=self.actor,
            critic=self.critic,
            temperature=self.temperature,
            target_critic=self.target_critic,
            n_updates=self.n_updates,
        )
