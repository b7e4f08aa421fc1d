"""Twin delayed deep deterministic policy gradient: DDPG that believes its critics less.

Fujimoto et al., "Addressing Function Approximation Error in Actor-Critic Methods", arXiv:1802.09477,
algorithm 1.
"""

from copy import deepcopy

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.losses import deterministic_policy_loss, q_loss, td_target
from softac.learning.learner import Learner, polyak_
from softac.learning.state import live_tensors
from softac.nets import DeterministicActor, EnsembleCritic
from softac.types import EnvSpec, Metrics, Moment, Transition


@dataclass(frozen=True, config=hp.STRICT)
class TD3Config:
    """Hyperparameters; names and defaults as in Stable-Baselines3, exploration noise as in the paper."""

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
    n_critics: hp.NCritics = 2
    n_steps: hp.NSteps = 1
    net_arch: hp.NetArch = (400, 300)
    actor_net_arch: hp.ActorNetArch = None
    critic_net_arch: hp.CriticNetArch = None
    activation: hp.Activation = "relu"
    critic_layer_norm: hp.CriticLayerNorm = False
    policy_delay: hp.PolicyDelay = 2
    target_policy_noise: hp.TargetPolicyNoise = 0.2
    target_noise_clip: hp.TargetNoiseClip = 0.5
    action_noise_std: hp.ActionNoiseStd = 0.1


class TD3Agent:
    """Twin delayed DDPG: least of two critics, smoothed targets, for continuous actions.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = TD3Config
    actions = ("continuous",)
    on_policy = False

    def __init__(
        self, spec: EnvSpec, config: TD3Config, *, generator: torch.Generator, device: torch.device
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

    def act_noise(self, batch_size: int, generator: torch.Generator, moment: Moment) -> Tensor:
        """What is added to the action, `[B, A]`."""
        fresh = torch.randn(batch_size, self.spec.action_dim, generator=generator).to(self.device)
        return hp.value_at(self.config.action_noise_std, moment.step) * fresh

    def update_noise(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Standard normal `[B, A]`, for the smoothing of the target policy."""
        return torch.randn(batch_size, self.spec.action_dim, generator=generator).to(self.device)

    def update_(self, batch: Transition, noise: Tensor) -> Metrics:
        """One gradient step; every `policy_delay`-th moves actor and targets."""
        self.n_updates += 1
        return self.gradient_step_(batch, noise, int(self.n_updates) % self.config.policy_delay == 0)

    def gradient_step_(self, batch: Transition, noise: Tensor, move_actor: bool) -> Metrics:
        """Algorithm 1's gradient step: critics, then actor and targets if their turn has come."""
        s, a, r, discount, s2 = batch
        config = self.config

        with torch.no_grad():
            clip = config.target_noise_clip
            smoothing = (config.target_policy_noise * noise).clamp(-clip, clip)
            a2 = (self.target_actor(s2) + smoothing).clamp(-1.0, 1.0)
            y = td_target(r, discount, self.target_critic(s2, a2).amin(0))
        q = self.critic(s, a)
        critic_loss = q_loss(q, y)
        self.critic.descend(critic_loss)
        metrics = {
            "train/critic_loss": critic_loss.detach(),
            "train/q_mean": q.detach().mean(),
            "train/target_q_mean": y.mean(),
        }

        if move_actor:
            actor_loss = deterministic_policy_loss(self.critic(s, self.actor(s))[0])
            self.actor.descend(actor_loss)
            metrics["train/actor_loss"] = actor_loss.detach()
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
