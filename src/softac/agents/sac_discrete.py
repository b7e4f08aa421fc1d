"""Soft actor-critic for discrete actions: every expectation over actions is an exact sum.

Christodoulou, "Soft Actor-Critic for Discrete Action Settings", arXiv:1910.07207, algorithm 1.
"""

import math
from copy import deepcopy
from typing import Annotated, cast

import torch
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.choices import forbidden_entropy
from softac.equations.losses import discrete_policy_loss, discrete_soft_value, q_loss, soft_reward, td_target
from softac.errors import ConfigError
from softac.learning.learner import Learner, polyak_
from softac.learning.state import live_tensors
from softac.learning.temperature import Temperature
from softac.nets import DiscreteCritic, SoftmaxActor
from softac.types import EnvSpec, Metrics, Moment, SoftTransition, Transition

AUTO_SHARE = 0.5


@dataclass(frozen=True, config=hp.STRICT)
class SACDiscreteConfig:
    """Hyperparameters; those of `sac` without its contested choices, and another target entropy."""

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
    target_entropy: Annotated[
        float | str,
        AfterValidator(hp.parse_target_entropy),
        Field(
            description='entropy asked for, nats between 0 and log(n actions); "auto": half of log(n allowed)',
            json_schema_extra={"expected": '"auto" or a number of nats between 0 and log(n actions)'},
        ),
    ] = "auto"
    net_arch: hp.NetArch = (256, 256)
    actor_net_arch: hp.ActorNetArch = None
    critic_net_arch: hp.CriticNetArch = None
    activation: hp.Activation = "relu"
    critic_layer_norm: hp.CriticLayerNorm = False


class SACDiscreteAgent:
    """Soft actor-critic with a softmax policy, for discrete actions.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.

    Raises:
        ConfigError: the target entropy cannot be had with so many actions.
    """

    Config = SACDiscreteConfig
    actions = ("discrete", "masked")
    on_policy = False

    def __init__(
        self, spec: EnvSpec, config: SACDiscreteConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self.n_actions = cast(int, spec.n_actions)
        sizes, (pi_body, q_body) = (spec, self.n_actions), hp.bodies(config)
        rate = config.learning_rate
        actor = SoftmaxActor(*sizes, **pi_body, generator=generator).to(device)
        critic = DiscreteCritic(*sizes, n_critics=config.n_critics, **q_body, generator=generator).to(device)
        self.actor = Learner(actor, config.actor_learning_rate or rate)
        self.critic = Learner(critic, config.critic_learning_rate or rate)
        self.target_critic = deepcopy(critic).requires_grad_(False)
        target = feasible_target_entropy(config.target_entropy, self.n_actions)
        self.temperature = Temperature(config.ent_coef, target, config.ent_coef_learning_rate or rate, device)
        self.share = AUTO_SHARE if spec.mask is not None and config.target_entropy == "auto" else 0.0
        self.n_updates = torch.zeros((), dtype=torch.int64)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, 1]` for `obs` `[B, O]`: sampled, or the most probable without noise."""
        with torch.no_grad():
            policy = self.actor(obs)
            action: Tensor = policy.mode() if noise is None else policy.sample(noise)[0]
            return action.unsqueeze(-1).float()

    def act_log_prob(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Log pi(a|s) `[B]` of the actions that `act` chooses with this noise."""
        with torch.no_grad():
            log_prob: Tensor = self.actor(obs).sample(noise)[1]
            return log_prob

    def act_noise(self, batch_size: int, generator: torch.Generator, _: Moment) -> Tensor:
        """Uniform in (0, 1), one for each action, `[B, A]`."""
        return torch.rand(batch_size, self.n_actions, generator=generator).to(self.device)

    def update_noise(self, batch_size: int, generator: torch.Generator) -> None:
        """Nothing: the sums over actions are exact."""

    def update_(self, batch: Transition | SoftTransition, _noise: None) -> Metrics:
        """One gradient step; every `target_update_interval`-th moves the targets."""
        self.n_updates += 1
        return self.gradient_step_(batch, int(self.n_updates) % self.config.target_update_interval == 0)

    def gradient_step_(self, batch: Transition | SoftTransition, move_targets: bool) -> Metrics:
        """Algorithm 1's gradient step: critics, actor, temperature, targets, in this order."""
        s, a, r, discount, s2, *bonus = batch
        index = a.long().expand(self.config.n_critics, -1, -1)
        alpha = self.temperature.alpha()
        r = soft_reward(r, bonus[0], alpha) if bonus else r

        with torch.no_grad():
            v2 = discrete_soft_value(self.target_critic(s2), self.actor(s2).log_probs(), alpha)
            y = td_target(r, discount, v2)
        q = self.critic(s).gather(-1, index).squeeze(-1)
        critic_loss = q_loss(q, y)
        self.critic.descend(critic_loss)

        policy = self.actor(s)
        with torch.no_grad():
            q_all = self.critic(s).amin(0)
        actor_loss = discrete_policy_loss(policy.log_probs(), q_all, alpha)
        entropy = policy.entropy().detach()
        self.actor.descend(actor_loss)

        spared = self.share * forbidden_entropy(policy.log_probs().detach()) if self.share else 0.0
        alpha_loss = self.temperature.descend(-spared - entropy)

        if move_targets:
            polyak_(self.target_critic.parameters(), self.critic.parameters, self.config.tau)

        return {
            "train/actor_loss": actor_loss.detach(),
            "train/critic_loss": critic_loss.detach(),
            "train/ent_coef": alpha,
            "train/ent_coef_loss": alpha_loss,
            "train/entropy": entropy.mean(),
            "train/q_mean": q.detach().mean(),
            "train/target_q_mean": y.mean(),
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


def feasible_target_entropy(target: float | str, n_actions: int) -> float:
    """The target in nats; "auto" is half of log n, and where a mask leaves k of the n actions, half of log k.

    At log n or beyond only the uniform policy satisfies it and alpha grows without end; at 0 or below
    every policy does and alpha vanishes.

    Raises:
        ConfigError: the target is not inside (0, log n), or there is a single action.
    """
    if n_actions == 1:
        raise ConfigError(
            "there is 1 discrete action, whose only policy has entropy 0",
            "expected at least 2, between which a policy can be undecided",
            "give the environment a choice, or take dqn",
        )
    most = math.log(n_actions)
    nats = AUTO_SHARE * most if target == "auto" else float(target)
    if not 0.0 < nats < most:
        raise ConfigError(
            f"target_entropy={target} was given for {n_actions} discrete actions",
            f"expected nats above 0 and below log({n_actions}) = {most:.3f}, that of the uniform policy",
            "leave it out for half of that",
        )
    return nats
