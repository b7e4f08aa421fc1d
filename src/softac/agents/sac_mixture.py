"""Soft actor-critic whose policy is a squashed Gaussian mixture, with the exact density of the mixture.

The algorithm of Haarnoja et al., arXiv:1812.05905; the gradient of He et al., "Revisiting Mixture
Policies in Entropy-Regularized Actor-Critic", arXiv:2605.09157: the sum over components is exact.
"""

from copy import deepcopy
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.losses import (
    mixture_policy_loss,
    q_loss,
    score_function_policy_loss,
    soft_q_target,
    soft_reward,
)
from softac.learning.learner import Learner, polyak_
from softac.learning.state import live_tensors
from softac.learning.temperature import Temperature
from softac.nets import EnsembleCritic, SquashedMixtureActor
from softac.types import EnvSpec, Metrics, Moment, SoftTransition, Transition


@dataclass(frozen=True, config=hp.STRICT)
class SACMixtureConfig:
    """Hyperparameters; those of `sac` without its contested choices, and what belongs to the mixture."""

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
    n_components: hp.NComponents = 4
    actor_gradient: Annotated[
        Literal["marginalised", "score_function"],
        Field(description="pathwise in each component, summed over all; or the likelihood ratio of one sample"),
    ] = "marginalised"


class Noise(NamedTuple):
    """The samples that one update consumes; for one action D standard normals and K uniforms."""

    components: Tensor  # [B, K, D], for one action of every component at s
    now: Tensor  # [B, D + K], for a ~ pi(.|s)
    next: Tensor  # [B, D + K], for a' ~ pi(.|s')


class SACMixtureAgent:
    """Soft actor-critic with a squashed Gaussian mixture policy, for continuous actions.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = SACMixtureConfig
    actions = ("continuous",)
    on_policy = False

    def __init__(
        self, spec: EnvSpec, config: SACMixtureConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.spec, self.config, self.device = spec, config, device
        sizes, (pi_body, q_body) = (spec, spec.action_dim), hp.bodies(config)
        rate = config.learning_rate
        actor = SquashedMixtureActor(*sizes, n_components=config.n_components, **pi_body, generator=generator)
        critic = EnsembleCritic(*sizes, n_critics=config.n_critics, **q_body, generator=generator).to(device)
        self.actor = Learner(actor.to(device), config.actor_learning_rate or rate)
        self.critic = Learner(critic, config.critic_learning_rate or rate)
        self.target_critic = deepcopy(critic).requires_grad_(False)
        target = -float(spec.action_dim) if config.target_entropy == "auto" else float(config.target_entropy)
        self.temperature = Temperature(config.ent_coef, target, config.ent_coef_learning_rate or rate, device)
        self.n_updates = torch.zeros((), dtype=torch.int64)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, A]` in [-1, 1] for `obs` `[B, O]`: sampled, or the densest mean without noise."""
        with torch.no_grad():
            policy = self.actor(obs)
            action: Tensor = policy.mode() if noise is None else policy.sample(*self._split(noise))[0]
            return action

    def act_log_prob(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Log pi(a|s) `[B]` of the actions that `act` chooses with this noise."""
        with torch.no_grad():
            log_prob: Tensor = self.actor(obs).sample(*self._split(noise))[1]
            return log_prob

    def act_noise(self, batch_size: int, generator: torch.Generator, _: Moment) -> Tensor:
        """D standard normals for the action and K uniforms for the choice of component, `[B, D + K]`."""
        normal = torch.randn(batch_size, self.spec.action_dim, generator=generator)
        uniform = torch.rand(batch_size, self.config.n_components, generator=generator)
        return torch.cat((normal, uniform), dim=-1).to(self.device)

    def update_noise(self, batch_size: int, generator: torch.Generator) -> Noise:
        """What the expectations of one update draw."""
        shape = (batch_size, self.config.n_components, self.spec.action_dim)
        components = torch.randn(shape, generator=generator).to(self.device)
        now, following = (self.act_noise(batch_size, generator, Moment(0)) for _ in range(2))
        return Noise(components, now, following)

    def update_(self, batch: Transition | SoftTransition, noise: Noise) -> Metrics:
        """One gradient step; every `target_update_interval`-th moves the targets."""
        self.n_updates += 1
        return self.gradient_step_(batch, noise, int(self.n_updates) % self.config.target_update_interval == 0)

    def gradient_step_(self, batch: Transition | SoftTransition, noise: Noise, move_targets: bool) -> Metrics:
        """Critics, actor, temperature, targets, in this order."""
        s, a, r, discount, s2, *bonus = batch
        alpha = self.temperature.alpha()
        r = soft_reward(r, bonus[0], alpha) if bonus else r

        with torch.no_grad():
            a2, log_pi2 = self.actor(s2).sample(*self._split(noise.next))
            y = soft_q_target(r, discount, self.target_critic(s2, a2), log_pi2, alpha)
        q = self.critic(s, a)
        critic_loss = q_loss(q, y)
        self.critic.descend(critic_loss)

        policy = self.actor(s)
        log_w = policy.logits.log_softmax(-1)
        a_k, log_pi_k = policy.rsample(noise.components)
        q_k = self.critic(s.unsqueeze(1).expand(-1, self.config.n_components, -1), a_k).amin(0)
        if self.config.actor_gradient == "marginalised":
            actor_loss = mixture_policy_loss(log_w, log_pi_k, q_k, alpha)
        else:
            with torch.no_grad():  # a value of s from samples that are independent of the one below
                baseline = (log_w.exp() * (q_k - alpha * log_pi_k)).sum(-1)
            a_pi, log_pi = policy.sample(*self._split(noise.now))
            with torch.no_grad():
                q_pi = self.critic(s, a_pi).amin(0)
            actor_loss = score_function_policy_loss(log_pi, q_pi, baseline, alpha)
        mean_log_pi = (log_w.exp() * log_pi_k).sum(-1).detach()
        self.actor.descend(actor_loss)

        alpha_loss = self.temperature.descend(mean_log_pi)

        if move_targets:
            polyak_(self.target_critic.parameters(), self.critic.parameters, self.config.tau)

        return {
            "train/actor_loss": actor_loss.detach(),
            "train/critic_loss": critic_loss.detach(),
            "train/ent_coef": alpha,
            "train/ent_coef_loss": alpha_loss,
            "train/entropy": -mean_log_pi.mean(),
            "train/component_entropy": -(log_w.exp() * log_w).sum(-1).mean().detach(),
            "train/q_mean": q.detach().mean(),
            "train/target_q_mean": y.mean(),
            "train/saturated_actions": (a_k.detach().abs() > 0.99).float().mean(),
        }

    def _split(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        return noise[:, : self.spec.action_dim], noise[:, self.spec.action_dim :]

    def tensors(self) -> dict[str, Tensor]:
        """Networks, targets, temperature, Adam moments and the update counter."""
        return live_tensors(
            actor=self.actor,
            critic=self.critic,
            temperature=self.temperature.learner,
            target_critic=self.target_critic,
            n_updates=self.n_updates,
        )
