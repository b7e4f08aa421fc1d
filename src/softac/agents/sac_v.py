"""Soft actor-critic as first published: a value network beside the critics, a fixed temperature.

Haarnoja et al., "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with a
Stochastic Actor", arXiv:1801.01290, algorithm 1.
"""

from copy import deepcopy
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.losses import (
    policy_loss,
    q_loss,
    score_function_policy_loss,
    soft_reward,
    soft_value_target,
    td_target,
    value_loss,
)
from softac.learning.learner import Learner, polyak_
from softac.learning.state import live_tensors
from softac.nets import EnsembleCritic, SquashedGaussianActor, ValueNet
from softac.types import EnvSpec, Metrics, Moment, SoftTransition, Transition


@dataclass(frozen=True, config=hp.STRICT)
class SACVConfig:
    """Hyperparameters as in the paper: temperature 1, the reward scale in its place."""

    learning_rate: hp.LearningRate = 3e-4
    actor_learning_rate: hp.ActorLearningRate = None
    critic_learning_rate: hp.CriticLearningRate = None
    buffer_size: hp.BufferSize = 1_000_000
    learning_starts: hp.LearningStarts = 100
    batch_size: hp.BatchSize = 256
    tau: hp.Tau = 0.005
    gamma: hp.Gamma = 0.99
    train_freq: hp.TrainFreq = 1
    gradient_steps: hp.GradientSteps = 1
    n_critics: hp.NCritics = 2
    n_steps: hp.NSteps = 1
    n_step_return: hp.NStepReturn = "soft"
    net_arch: hp.NetArch = (256, 256)
    actor_net_arch: hp.ActorNetArch = None
    critic_net_arch: hp.CriticNetArch = None
    activation: hp.Activation = "relu"
    critic_layer_norm: hp.CriticLayerNorm = False
    ent_coef: hp.FixedEntCoef = 1.0
    reward_scale: Annotated[
        float, Field(gt=0.0, le=1e6, description="factor of every reward; 5 at alpha 1 is 1 at alpha 0.2")
    ] = 5.0
    actor_gradient: Annotated[
        Literal["pathwise", "score_function"],
        Field(description="through the critic's slope, or by the likelihood ratio with V as the baseline"),
    ] = "pathwise"


class SACVAgent:
    """Soft actor-critic of 2018 with a value network, for continuous actions.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = SACVConfig
    actions = ("continuous",)
    on_policy = False

    def __init__(
        self, spec: EnvSpec, config: SACVConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.spec, self.config, self.device = spec, config, device
        sizes, (pi_body, q_body) = (spec, spec.action_dim), hp.bodies(config)
        rate = config.learning_rate
        actor = SquashedGaussianActor(*sizes, log_std="clamp", **pi_body, generator=generator).to(device)
        critic = EnsembleCritic(*sizes, n_critics=config.n_critics, **q_body, generator=generator).to(device)
        value = ValueNet(spec, **q_body, generator=generator).to(device)
        self.actor = Learner(actor, config.actor_learning_rate or rate)
        self.critic = Learner(critic, config.critic_learning_rate or rate)
        self.value = Learner(value, config.critic_learning_rate or rate)
        self.target_value = deepcopy(value).requires_grad_(False)

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

    def update_noise(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Standard normal `[B, A]`, for a ~ pi(.|s)."""
        return torch.randn(batch_size, self.spec.action_dim, generator=generator).to(self.device)

    def update_(self, batch: Transition | SoftTransition, noise: Tensor) -> Metrics:
        """Algorithm 1's gradient step: value, critics, actor, target, in this order."""
        s, a, r, discount, s2, *bonus = batch
        alpha = self.config.ent_coef
        r = self.config.reward_scale * r
        r = soft_reward(r, bonus[0], alpha) if bonus else r

        policy, pathwise = self.actor(s), self.config.actor_gradient == "pathwise"
        a_pi, log_pi = policy.rsample(noise) if pathwise else policy.sample(noise)

        v = self.value(s)
        with torch.no_grad():
            v_target = soft_value_target(self.critic(s, a_pi), log_pi, alpha)
        v_loss = value_loss(v, v_target)
        self.value.descend(v_loss)

        with torch.no_grad():
            y = td_target(r, discount, self.target_value(s2))
        q = self.critic(s, a)
        critic_loss = q_loss(q, y)
        self.critic.descend(critic_loss)

        q_pi = self.critic(s, a_pi).amin(0)
        if pathwise:
            actor_loss = policy_loss(log_pi, q_pi, alpha)
        else:
            actor_loss = score_function_policy_loss(log_pi, q_pi, v, alpha)
        self.actor.descend(actor_loss)

        polyak_(self.target_value.parameters(), self.value.parameters, self.config.tau)

        return {
            "train/actor_loss": actor_loss.detach(),
            "train/critic_loss": critic_loss.detach(),
            "train/value_loss": v_loss.detach(),
            "train/entropy": -log_pi.detach().mean(),
            "train/q_mean": q.detach().mean(),
            "train/target_q_mean": y.mean(),
            "train/value_mean": v.detach().mean(),
            "train/saturated_actions": (a_pi.detach().abs() > 0.99).float().mean(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Networks, the target and Adam moments."""
        return live_tensors(actor=self.actor, critic=self.critic, value=self.value, target_value=self.target_value)
