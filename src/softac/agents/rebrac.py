"""Revisited behaviour-regularised actor-critic: TD3 on data alone, held near what the data did.

Tarasov et al., "Revisiting the Minimalist Approach to Offline Reinforcement Learning", arXiv:2305.09836,
section 3; to be read beside `softac.agents.td3`. It never steps an environment: each batch comes from a data set.
"""

from copy import deepcopy
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.losses import behaviour_penalty, normalized_policy_loss, q_loss, td_target
from softac.learning.learner import Learner, polyak_
from softac.learning.state import live_tensors
from softac.nets import DeterministicActor, EnsembleCritic
from softac.types import DataTransition, EnvSpec, Metrics, Moment


@dataclass(frozen=True, config=hp.STRICT)
class ReBRACConfig:
    """Hyperparameters as published for locomotion; the two coefficients belong to the data."""

    learning_rate: hp.LearningRate = 1e-3
    actor_learning_rate: hp.ActorLearningRate = None
    critic_learning_rate: hp.CriticLearningRate = None
    batch_size: hp.BatchSize = 1024
    tau: hp.Tau = 0.005
    gamma: hp.Gamma = 0.99
    n_critics: hp.NCritics = 2
    net_arch: hp.NetArch = (256, 256, 256)
    actor_net_arch: hp.ActorNetArch = None
    critic_net_arch: hp.CriticNetArch = None
    activation: hp.Activation = "relu"
    critic_layer_norm: hp.CriticLayerNorm = True
    policy_delay: hp.PolicyDelay = 2
    target_policy_noise: hp.TargetPolicyNoise = 0.2
    target_noise_clip: hp.TargetNoiseClip = 0.5
    actor_bc_coef: Annotated[
        hp.NotNegative, Field(description="weight of the actor's distance from the data's actions")
    ] = 0.01
    critic_bc_coef: Annotated[
        hp.NotNegative, Field(description="weight, in the critics' targets, of the next action's distance")
    ] = 0.01

    # One update for each step that is counted, from the first on; what the run stores is nothing.
    buffer_size: ClassVar[int] = 1
    learning_starts: ClassVar[int] = 0
    train_freq: ClassVar[int] = 1
    gradient_steps: ClassVar[int] = 1
    n_steps: ClassVar[int] = 1


class ReBRACAgent:
    """Revisited BRAC for continuous actions: learns from data alone.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = ReBRACConfig
    actions = ("continuous",)
    on_policy = False
    offline = True

    def __init__(
        self, spec: EnvSpec, config: ReBRACConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.spec, self.config, self.device = spec, config, device
        sizes, (pi_body, q_body) = (spec, spec.action_dim), hp.bodies(config)
        rate = config.learning_rate
        actor = DeterministicActor(*sizes, **pi_body, generator=generator).to(device)
        critic = EnsembleCritic(*sizes, n_critics=config.n_critics, **q_body, generator=generator).to(device)
        self.actor = Learner(actor, config.actor_learning_rate or rate)
        self.critic = Learner(critic, config.critic_learning_rate or rate)
        self.target_actor = deepcopy(actor).requires_grad_(False)
        self.target_critic = deepcopy(critic).requires_grad_(False)
        self.n_updates = torch.zeros((), dtype=torch.int64)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, A]` in [-1, 1] for `obs` `[B, O]`: mu(s), with the noise added if there is any."""
        with torch.no_grad():
            action: Tensor = self.actor(obs)
            return action if noise is None else (action + noise).clamp(-1.0, 1.0)

    def act_noise(self, batch_size: int, generator: torch.Generator, _: Moment) -> Tensor:
        """What is added to the action, `[B, A]`: nothing, since this agent does not explore."""
        del generator
        return torch.zeros(batch_size, self.spec.action_dim, device=self.device)

    def update_noise(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Standard normal `[B, A]`, for the smoothing of the target policy."""
        return torch.randn(batch_size, self.spec.action_dim, generator=generator).to(self.device)

    def update_(self, batch: DataTransition, noise: Tensor) -> Metrics:
        """One gradient step; every `policy_delay`-th moves actor and targets."""
        self.n_updates += 1
        return self.gradient_step_(batch, noise, int(self.n_updates) % self.config.policy_delay == 0)

    def gradient_step_(self, batch: DataTransition, noise: Tensor, move_actor: bool) -> Metrics:
        """The critics, then actor and targets if their turn has come."""
        s, a, r, discount, s2, data_a2 = batch
        config = self.config

        with torch.no_grad():
            clip = config.target_noise_clip
            smoothing = (config.target_policy_noise * noise).clamp(-clip, clip)
            a2 = (self.target_actor(s2) + smoothing).clamp(-1.0, 1.0)
            next_q = self.target_critic(s2, a2).amin(0) - config.critic_bc_coef * behaviour_penalty(a2, data_a2)
            y = td_target(r, discount, next_q)
        q = self.critic(s, a)
        critic_loss = q_loss(q, y)
        self.critic.descend(critic_loss)
        metrics = {
            "train/critic_loss": critic_loss.detach(),
            "train/q_mean": q.detach().mean(),
            "train/target_q_mean": y.mean(),
        }

        if move_actor:
            a_pi = self.actor(s)
            distance = behaviour_penalty(a_pi, a)
            actor_loss = normalized_policy_loss(self.critic(s, a_pi).amin(0), config.actor_bc_coef * distance)
            self.actor.descend(actor_loss)
            metrics["train/actor_loss"] = actor_loss.detach()
            metrics["train/behaviour_distance"] = distance.detach().mean()
            polyak_(self.target_actor.parameters(), self.actor.parameters, config.tau)
            polyak_(self.target_critic.parameters(), self.critic.parameters, config.tau)
        return metrics

    def tensors(self) -> dict[str, Tensor]:
        """Networks, targets, Adam moments and the update counter."""
        return live_tensors(
            actor=self.actor,
            critic=self.critic,
            target_actor=self.target_actor,
            target_critic=self.target_critic,
            n_updates=self.n_updates,
        )
