"""Soft actor-critic: off-policy, maximum entropy, twin critics, learned temperature.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905, algorithm 1.
"""

from copy import deepcopy
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.losses import policy_loss, q_loss, soft_q_target, soft_reward
from softac.learning.learner import Learner, polyak_
from softac.learning.state import live_tensors
from softac.learning.temperature import Temperature
from softac.nets import EnsembleCritic, SquashedGaussianActor
from softac.types import EnvSpec, Metrics, Moment, SoftTransition, Transition


@dataclass(frozen=True, config=hp.STRICT)
class SACConfig:
    """Hyperparameters; names and defaults as in Stable-Baselines3, choices as in the paper."""

    learning_rate: hp.LearningRate = 3e-4
    actor_learning_rate: hp.ActorLearningRate = None
    critic_learning_rate: hp.CriticLearningRate = None
    ent_coef_learning_rate: hp.EntCoefLearningRate = None
    buffer_size: hp.BufferSize = 1_000_000
    learning_starts: hp.LearningStarts = 100
    batch_size: hp.BatchSize = 256
    tau: hp.Tau = 0.005
    gamma: hp.Gamma = 0.99
    train_freq: hp.TrainFreq = 1
    gradient_steps: hp.GradientSteps = 1
    target_update_interval: hp.TargetUpdateInterval = 1
    n_critics: hp.NCritics = 2
    n_steps: hp.NSteps = 1
    n_step_return: hp.NStepReturn = "soft"
    ent_coef: hp.EntCoef = "auto"
    target_entropy: hp.TargetEntropy = "auto"
    net_arch: hp.NetArch = (256, 256)
    actor_net_arch: hp.ActorNetArch = None
    critic_net_arch: hp.CriticNetArch = None
    activation: hp.Activation = "relu"
    critic_layer_norm: hp.CriticLayerNorm = False
    alpha_loss: Annotated[Literal["alpha", "log_alpha"], Field(description="what the dual loss multiplies")] = (
        "alpha"
    )
    actor_q: Annotated[Literal["min", "mean"], Field(description="which critics the actor climbs")] = "min"
    log_std: Annotated[
        Literal["clamp", "tanh"], Field(description="how log sigma is bounded: cut, or squashed")
    ] = "clamp"


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
        sizes, (pi_body, q_body) = (spec, spec.action_dim), hp.bodies(config)
        rate = config.learning_rate
        actor = SquashedGaussianActor(*sizes, log_std=config.log_std, **pi_body, generator=generator).to(device)
        critic = EnsembleCritic(*sizes, n_critics=config.n_critics, **q_body, generator=generator).to(device)
        self.actor = Learner(actor, config.actor_learning_rate or rate)
        self.critic = Learner(critic, config.critic_learning_rate or rate)
        self.target_critic = deepcopy(critic).requires_grad_(False)
        target = -float(spec.action_dim) if config.target_entropy == "auto" else float(config.target_entropy)
        temperature_rate = config.ent_coef_learning_rate or rate
        self.temperature = Temperature(config.ent_coef, target, temperature_rate, device, config.alpha_loss)
        self.n_updates = torch.zeros((), dtype=torch.int64)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, A]` in [-1, 1] for `obs` `[B, O]`: sampled, or tanh(mean) without noise."""
        with torch.no_grad():
            policy = self.actor(obs)
            action: Tensor = policy.mode() if noise is None else policy.action(noise)
            return action

    def act_log_prob(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Log pi(a|s) `[B]` of the actions that `act` chooses with this noise."""
        with torch.no_grad():
            log_prob: Tensor = self.actor(obs).rsample(noise)[1]
            return log_prob

    def act_noise(self, batch_size: int, generator: torch.Generator, _: Moment) -> Tensor:
        """Standard normal `[B, A]`."""
        return torch.randn(batch_size, self.spec.action_dim, generator=generator).to(self.device)

    def update_noise(self, batch_size: int, generator: torch.Generator) -> Noise:
        """Standard normal samples for both expectations of one update."""
        return Noise(*torch.randn(2, batch_size, self.spec.action_dim, generator=generator).to(self.device))

    def update_(self, batch: Transition | SoftTransition, noise: Noise) -> Metrics:
        """One gradient step; every `target_update_interval`-th moves the targets."""
        self.n_updates += 1
        return self.gradient_step_(batch, noise, int(self.n_updates) % self.config.target_update_interval == 0)

    def gradient_step_(self, batch: Transition | SoftTransition, noise: Noise, move_targets: bool) -> Metrics:
        """Algorithm 1's gradient step: critics, actor, temperature, targets, in this order."""
        s, a, r, discount, s2, *bonus = batch
        alpha = self.temperature.alpha()
        r = soft_reward(r, bonus[0], alpha) if bonus else r

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

        alpha_loss = self.temperature.descend(log_pi)

        if move_targets:
            polyak_(self.target_critic.parameters(), self.critic.parameters, self.config.tau)

        return {
            "train/actor_loss": actor_loss.detach(),
            "train/critic_loss": critic_loss.detach(),
            "train/ent_coef": alpha,
            "train/ent_coef_loss": alpha_loss,
            "train/entropy": -log_pi.detach().mean(),
            "train/q_mean": q.detach().mean(),
            "train/target_q_mean": y.mean(),
            "train/saturated_actions": (a_pi.detach().abs() > 0.99).float().mean(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Networks, targets, temperature, Adam moments and the update counter."""
        return live_tensors(
            actor=self.actor,
            critic=self.critic,
            temperature=self.temperature.learner,
            target_critic=self.target_critic,
            n_updates=self.n_updates,
        )
