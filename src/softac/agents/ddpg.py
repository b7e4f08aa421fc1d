"""Deep deterministic policy gradient: one deterministic actor climbs one critic.

Lillicrap et al., "Continuous control with deep reinforcement learning", arXiv:1509.02971, algorithm 1.
"""

from copy import deepcopy
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.losses import deterministic_policy_loss, q_loss, td_target
from softac.learning.learner import Learner, polyak_
from softac.learning.state import live_tensors
from softac.nets import DeterministicActor, EnsembleCritic
from softac.types import EnvSpec, Metrics, Moment, Transition


@dataclass(frozen=True, config=hp.STRICT)
class DDPGConfig:
    """Hyperparameters; names and defaults as in Stable-Baselines3, Gaussian noise added."""

    learning_rate: hp.LearningRate = 1e-3
    actor_learning_rate: hp.ActorLearningRate = None
    critic_learning_rate: hp.CriticLearningRate = None
    buffer_size: hp.BufferSize = 1_000_000
    learning_starts: hp.LearningStarts = 100
    batch_size: hp.BatchSize = 256
    tau: hp.Tau = 0.005
    gamma: hp.Gamma = 0.99
    train_freq: hp.TrainFreq = 1
    gradient_steps: hp.GradientSteps = 1
    n_steps: hp.NSteps = 1
    net_arch: hp.NetArch = (400, 300)
    actor_net_arch: hp.ActorNetArch = None
    critic_net_arch: hp.CriticNetArch = None
    activation: hp.Activation = "relu"
    critic_layer_norm: hp.CriticLayerNorm = False
    action_noise: Annotated[
        Literal["gaussian", "ou"],
        Field(description="independent at each step, or an Ornstein-Uhlenbeck process within each episode"),
    ] = "gaussian"
    action_noise_std: hp.ActionNoiseStd = 0.1
    ou_theta: Annotated[hp.Share, Field(description="how fast the Ornstein-Uhlenbeck process returns to 0")] = 0.15


class DDPGAgent:
    """Deep deterministic policy gradient with one critic, for continuous actions.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = DDPGConfig
    actions = ("continuous",)
    on_policy = False

    def __init__(
        self, spec: EnvSpec, config: DDPGConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.spec, self.config, self.device = spec, config, device
        sizes, (pi_body, q_body) = (spec, spec.action_dim), hp.bodies(config)
        rate = config.learning_rate
        actor = DeterministicActor(*sizes, **pi_body, generator=generator).to(device)
        critic = EnsembleCritic(*sizes, n_critics=1, **q_body, generator=generator).to(device)
        self.actor = Learner(actor, config.actor_learning_rate or rate)
        self.critic = Learner(critic, config.critic_learning_rate or rate)
        self.target_actor = deepcopy(actor).requires_grad_(False)
        self.target_critic = deepcopy(critic).requires_grad_(False)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, A]` in [-1, 1] for `obs` `[B, O]`: mu(s), with the noise added if there is any."""
        with torch.no_grad():
            action: Tensor = self.actor(obs)
            return action if noise is None else (action + noise).clamp(-1.0, 1.0)

    def act_noise(self, batch_size: int, generator: torch.Generator, moment: Moment) -> Tensor:
        """What is added to the action, `[B, A]`; the process remembers what it was a step before."""
        fresh = torch.randn(batch_size, self.spec.action_dim, generator=generator).to(self.device)
        noise = hp.value_at(self.config.action_noise_std, moment.step) * fresh
        if self.config.action_noise == "ou" and moment.previous is not None:
            noise = noise + (1.0 - self.config.ou_theta) * moment.previous
        return noise

    def update_noise(self, batch_size: int, generator: torch.Generator) -> None:
        """Nothing: this update draws no samples."""

    def update_(self, batch: Transition, _noise: None) -> Metrics:
        """Algorithm 1's gradient step: critic, actor, targets, in this order."""
        s, a, r, discount, s2 = batch

        with torch.no_grad():
            a2 = self.target_actor(s2)
            y = td_target(r, discount, self.target_critic(s2, a2)[0])
        q = self.critic(s, a)
        critic_loss = q_loss(q, y)
        self.critic.descend(critic_loss)

        actor_loss = deterministic_policy_loss(self.critic(s, self.actor(s))[0])
        self.actor.descend(actor_loss)

        polyak_(self.target_actor.parameters(), self.actor.parameters, self.config.tau)
        polyak_(self.target_critic.parameters(), self.critic.parameters, self.config.tau)

        return {
            "train/actor_loss": actor_loss.detach(),
            "train/critic_loss": critic_loss.detach(),
            "train/q_mean": q.detach().mean(),
            "train/target_q_mean": y.mean(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Networks, targets and Adam moments."""
        return live_tensors(
            actor=self.actor,
            critic=self.critic,
            target_actor=self.target_actor,
            target_critic=self.target_critic,
        )
