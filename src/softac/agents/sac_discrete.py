"""Soft actor-critic for discrete actions: every expectation over actions is an exact sum.

Christodoulou, "Soft Actor-Critic for Discrete Action Settings", arXiv:1910.07207, algorithm 1.
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, cast

import torch
from pydantic import AfterValidator, Field
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
    TargetUpdateInterval,
    Tau,
    TrainFreq,
    initial_temperature,
    parse_target_entropy,
    require_batch_fits,
)
from softac.equations.losses import (
    discrete_policy_loss,
    discrete_soft_value,
    q_loss,
    td_target,
    temperature_loss,
)
from softac.errors import ConfigError
from softac.learning.learner import Learner, copy_state_, live_tensors, polyak_
from softac.nets import DiscreteCritic, SoftmaxActor, Temperature, as_operations
from softac.nets.operations import Operation
from softac.types import EnvSpec, Metrics, Moment, Transition

AUTO_SHARE = 0.5


@dataclass(frozen=True, config=STRICT)
class SACDiscreteConfig:
    """Hyperparameters; those of `sac` without its contested choices, and another target entropy."""

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
    target_entropy: Annotated[
        float | str,
        AfterValidator(parse_target_entropy),
        Field(
            description='entropy asked for, nats between 0 and log(n actions); "auto" is half of the latter',
            json_schema_extra={"expected": '"auto" or a number of nats between 0 and log(n actions)'},
        ),
    ] = "auto"
    net_arch: NetArch = (256, 256)

    def __post_init__(self) -> None:
        """Refuse what no single field can see."""
        require_batch_fits(self.batch_size, self.buffer_size)


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
    actions = ("discrete",)
    on_policy = False

    def __init__(
        self, spec: EnvSpec, config: SACDiscreteConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self.n_actions = cast(int, spec.n_actions)
        sizes = (spec.obs_dim, self.n_actions, config.net_arch)
        rate = config.learning_rate
        actor = SoftmaxActor(*sizes, generator=generator).to(device)
        critic = DiscreteCritic(*sizes, config.n_critics, generator=generator).to(device)
        self.actor = Learner(actor, config.actor_learning_rate or rate)
        self.critic = Learner(critic, config.critic_learning_rate or rate)
        self.target_critic = deepcopy(critic).requires_grad_(False)
        self.temperature: Learner | None = None
        if isinstance(config.ent_coef, str):
            temperature = Temperature(initial_temperature(config.ent_coef)).to(device)
            self.temperature = Learner(temperature, config.ent_coef_learning_rate or rate)
        self.target_entropy = feasible_target_entropy(config.target_entropy, self.n_actions)
        self.n_updates = torch.zeros((), dtype=torch.int64)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, 1]` for `obs` `[B, O]`: sampled, or the most probable without noise."""
        with torch.no_grad():
            policy = self.actor(obs)
            action: Tensor = policy.mode() if noise is None else policy.sample(noise)[0]
            return action.unsqueeze(-1).float()

    def operations(self, obs: Operation) -> Operation:
        """`act` without noise as plain operations, to be exported."""
        return as_operations(self.actor.module, obs)

    def act_noise(self, batch_size: int, generator: torch.Generator, _: Moment) -> Tensor:
        """Uniform in (0, 1), one for each action, `[B, A]`."""
        return torch.rand(batch_size, self.n_actions, generator=generator).to(self.device)

    def update_noise(self, batch_size: int, generator: torch.Generator) -> None:
        """Nothing: the sums over actions are exact."""

    def update_(self, batch: Transition, _noise: None) -> Metrics:
        """One gradient step; every `target_update_interval`-th moves the targets."""
        self.n_updates += 1
        return self.gradient_step_(batch, int(self.n_updates) % self.config.target_update_interval == 0)

    def gradient_step_(self, batch: Transition, move_targets: bool) -> Metrics:
        """Algorithm 1's gradient step: critics, actor, temperature, targets, in this order."""
        s, a, r, discount, s2 = batch
        index = a.long().expand(self.config.n_critics, -1, -1)
        alpha = self.alpha()

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

        alpha_loss = torch.zeros_like(alpha)
        if self.temperature is not None:
            alpha_loss = temperature_loss(self.temperature(), -entropy, self.target_entropy)
            self.temperature.descend(alpha_loss)

        if move_targets:
            polyak_(self.target_critic.parameters(), self.critic.parameters, self.config.tau)

        return {
            "train/actor_loss": actor_loss.detach(),
            "train/critic_loss": critic_loss.detach(),
            "train/ent_coef": alpha,
            "train/ent_coef_loss": alpha_loss.detach(),
            "train/entropy": entropy.mean(),
            "train/q_mean": q.detach().mean(),
            "train/target_q_mean": y.mean(),
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


def feasible_target_entropy(target: float | str, n_actions: int) -> float:
    """The target in nats; "auto" is half of log n.

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
