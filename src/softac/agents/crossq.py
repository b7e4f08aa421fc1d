"""Soft actor-critic with normalised networks: CrossQ, and XQC.

Bhatt et al., arXiv:1902.05605 (CrossQ), algorithm 1, with the weight normalisation of Palenicek et al.,
arXiv:2502.07523; and Palenicek et al., arXiv:2509.25174 (XQC), which adds a categorical critic and a target
network. Both at SAC's size and of one body (`softac.nets.normalised`); to be read beside `softac.agents.sac`.
"""

from copy import deepcopy
from typing import NamedTuple

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.losses import (
    categorical_q_loss,
    categorical_soft_q_target,
    policy_loss,
    q_loss,
    soft_q_target,
    soft_reward,
)
from softac.learning.learner import Learner, polyak_
from softac.learning.state import live_tensors
from softac.learning.temperature import Temperature
from softac.nets import NormalisedActor, NormalisedCritic, RewardScale
from softac.nets.normalised import BATCH, RUNNING, project_
from softac.types import EnvSpec, Metrics, Moment, SoftTransition, Transition

USUAL_TAU, USUAL_V_MAX = 0.005, 5.0


@dataclass(frozen=True, config=hp.STRICT)
class CrossQConfig:
    """Hyperparameters; names as in SAC, defaults from `benchmarks/modern`."""

    learning_rate: hp.LearningRate = 1e-3
    actor_learning_rate: hp.ActorLearningRate = None
    critic_learning_rate: hp.CriticLearningRate = None
    ent_coef_learning_rate: hp.EntCoefLearningRate = None
    adam_beta_1: hp.AdamBeta1 = 0.5
    buffer_size: hp.BufferSize = 1_000_000
    learning_starts: hp.LearningStarts = 100
    batch_size: hp.BatchSize = 256
    gamma: hp.Gamma = 0.99
    train_freq: hp.TrainFreq = 1
    gradient_steps: hp.GradientSteps = 1
    policy_delay: hp.ActorDelay = 2
    n_critics: hp.NCritics = 2
    n_steps: hp.NSteps = 1
    n_step_return: hp.NStepReturn = "soft"
    target_network: hp.TargetNetwork = False
    tau: hp.TargetTau = None
    n_atoms: hp.NAtoms = 1
    v_max: hp.VMax = None
    value_scale: hp.ValueScale = 3.0
    ent_coef: hp.EntCoef = "auto_0.01"
    target_entropy: hp.HalfTargetEntropy = "auto"
    net_arch: hp.NetArch = (256, 256)
    actor_net_arch: hp.ActorNetArch = None
    critic_net_arch: hp.CriticNetArch = None

    def __post_init__(self) -> None:
        """Refuse what no single field can see."""
        hp.require_batch_statistics(self.batch_size)
        hp.require_discounting(self.gamma)
        hp.require_target_network(self.tau, self.target_network)
        hp.require_support_fits(self.n_atoms, self.v_max, USUAL_V_MAX, self.value_scale)


@dataclass(frozen=True, config=hp.STRICT)
class XQCConfig(CrossQConfig):
    """CrossQ's hyperparameters, with the critic of XQC."""

    target_network: hp.TargetNetwork = True
    n_atoms: hp.NAtoms = 101
    value_scale: hp.ValueScale = 2.0


class Noise(NamedTuple):
    """The standard normal samples that one update consumes, each `[B, A]`."""

    now: Tensor  # for a ~ pi(.|s)
    next: Tensor  # for a' ~ pi(.|s')


class CrossQAgent:
    """Soft actor-critic with normalised networks, for continuous actions.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = CrossQConfig
    actions = ("continuous",)
    on_policy = False

    def __init__(
        self, spec: EnvSpec, config: CrossQConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.spec, self.config, self.device = spec, config, device
        sizes = (spec, spec.action_dim)
        support = (config.n_atoms, config.v_max or USUAL_V_MAX)
        rate, beta = config.learning_rate, config.adam_beta_1
        critic_arch = config.critic_net_arch or config.net_arch
        actor = NormalisedActor(*sizes, config.actor_net_arch or config.net_arch, generator=generator).to(device)
        critic = NormalisedCritic(*sizes, critic_arch, config.n_critics, *support, generator=generator).to(device)
        self.actor = Learner(actor, config.actor_learning_rate or rate, beta)
        self.critic = Learner(critic, config.critic_learning_rate or rate, beta)
        self.target_critic = deepcopy(critic).requires_grad_(False) if config.target_network else None
        target = -0.5 * spec.action_dim if config.target_entropy == "auto" else float(config.target_entropy)
        self.temperature = Temperature(config.ent_coef, target, config.ent_coef_learning_rate or rate, device)
        # The replay's rms reward in every step is worth value_scale: its discounted sum, in n-step targets, too.
        self.reward_scale = RewardScale(config.value_scale * (1.0 - config.gamma**config.n_steps)).to(device)
        self.n_updates = torch.zeros((), dtype=torch.int64)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, A]` in [-1, 1] for `obs` `[B, O]`: sampled, or tanh(mean) without noise."""
        with torch.no_grad():
            policy = self.actor(obs, RUNNING)
            action: Tensor = policy.mode() if noise is None else policy.action(noise)
            return action

    def act_log_prob(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Log pi(a|s) `[B]` of the actions that `act` chooses with this noise."""
        with torch.no_grad():
            log_prob: Tensor = self.actor(obs, RUNNING).rsample(noise)[1]
            return log_prob

    def act_noise(self, batch_size: int, generator: torch.Generator, _: Moment) -> Tensor:
        """Standard normal `[B, A]`."""
        return torch.randn(batch_size, self.spec.action_dim, generator=generator).to(self.device)

    def update_noise(self, batch_size: int, generator: torch.Generator) -> Noise:
        """Standard normal samples for both expectations of one update."""
        return Noise(*torch.randn(2, batch_size, self.spec.action_dim, generator=generator).to(self.device))

    def update_(self, batch: Transition | SoftTransition, noise: Noise) -> Metrics:
        """One gradient step; every `policy_delay`-th moves actor and temperature."""
        self.n_updates += 1
        return self.gradient_step_(batch, noise, int(self.n_updates) % self.config.policy_delay == 0)

    def gradient_step_(self, batch: Transition | SoftTransition, noise: Noise, move_actor: bool) -> Metrics:
        """Algorithm 1's gradient step: critics and targets, then actor and temperature if their turn has come."""
        s, a, r, discount, s2, *bonus = batch
        alpha = self.temperature.alpha()
        self.reward_scale.observe_(r)
        scale = self.reward_scale()
        r = scale * r
        r = soft_reward(r, bonus[0], alpha) if bonus else r

        with torch.no_grad():
            a2, log_pi2 = self.actor(s2, RUNNING).rsample(noise.next)
        # One pass over pairs now and next, whose statistics are those of the replay's actions and the policy's.
        joint = (torch.cat((s, s2)), torch.cat((a, a2)), BATCH)
        now, later = self.critic.module.outputs(*joint).chunk(2, dim=1)
        with torch.no_grad():
            if self.target_critic is not None:
                later = self.target_critic.outputs(*joint).chunk(2, dim=1)[1]
            y = self.target(r, discount, later, log_pi2, alpha)
        critic_loss = q_loss(now.squeeze(-1), y) if self.config.n_atoms == 1 else categorical_q_loss(now, y)
        self.critic.descend(critic_loss)
        project_(self.critic.module)
        if self.target_critic is not None:
            polyak_(self.target_critic.parameters(), self.critic.parameters, self.config.tau or USUAL_TAU)

        metrics = {
            "train/critic_loss": critic_loss.detach(),
            "train/ent_coef": alpha,
            "train/q_mean": self.critic.module.values(now.detach()).mean() / scale,
            "train/reward_scale": scale,
        }
        return metrics | (self.improve_(s, noise.now, alpha) if move_actor else {})

    def target(self, rho: Tensor, discount: Tensor, later: Tensor, log_pi2: Tensor, alpha: Tensor) -> Tensor:
        """What the critics are to say of (s, a): a value each, `[B]`, or probabilities of the atoms, `[B, K]`."""
        if self.config.n_atoms == 1:
            return soft_q_target(rho, discount, later.squeeze(-1), log_pi2, alpha)
        return categorical_soft_q_target(rho, discount, later, log_pi2, alpha, self.critic.module.atoms)

    def improve_(self, s: Tensor, noise: Tensor, alpha: Tensor) -> Metrics:
        """The step of actor and temperature."""
        a_pi, log_pi = self.actor(s, BATCH).rsample(noise)
        actor_loss = policy_loss(log_pi, self.critic(s, a_pi, RUNNING).amin(0), alpha)
        self.actor.descend(actor_loss)
        project_(self.actor.module)

        alpha_loss = self.temperature.descend(log_pi)
        return {
            "train/actor_loss": actor_loss.detach(),
            "train/ent_coef_loss": alpha_loss,
            "train/entropy": -log_pi.detach().mean(),
            "train/saturated_actions": (a_pi.detach().abs() > 0.99).float().mean(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Networks, running statistics, targets, temperature, reward scale, Adam moments, the update counter."""
        return live_tensors(
            actor=self.actor,
            critic=self.critic,
            temperature=self.temperature.learner,
            target_critic=self.target_critic,
            reward_scale=self.reward_scale,
            n_updates=self.n_updates,
        )


class XQCAgent(CrossQAgent):
    """The same with the critic of XQC: categorical, with a target network."""

    Config = XQCConfig
