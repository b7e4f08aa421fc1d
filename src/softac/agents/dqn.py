"""Deep Q-network: the greedy policy of one critic, with a frozen copy as its target.

Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015, algorithm 1;
double: van Hasselt et al., arXiv:1509.06461; dueling: Wang et al., arXiv:1511.06581.
"""

from copy import deepcopy
from typing import Annotated, cast

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.losses import huber_loss, td_target
from softac.learning.learner import Learner, polyak_
from softac.learning.state import live_tensors
from softac.nets import DiscreteCritic, as_operations
from softac.nets.operations import Operation, argmax
from softac.types import EnvSpec, Metrics, Moment, Transition


@dataclass(frozen=True, config=hp.STRICT)
class DQNConfig:
    """Hyperparameters as in Stable-Baselines3, counted in updates for each step and in steps."""

    learning_rate: hp.LearningRate = 1e-4
    buffer_size: hp.BufferSize = 1_000_000
    learning_starts: hp.LearningStarts = 100
    batch_size: hp.BatchSize = 32
    tau: hp.Tau = 1.0
    gamma: hp.Gamma = 0.99
    train_freq: hp.TrainFreq = 4
    gradient_steps: hp.GradientSteps = 0.25
    target_update_interval: hp.TargetUpdateInterval = 2_500
    n_steps: hp.NSteps = 1
    max_grad_norm: hp.MaxGradNorm = 10.0
    net_arch: hp.NetArch = (64, 64)
    activation: hp.Activation = "relu"
    critic_layer_norm: hp.CriticLayerNorm = False
    double: Annotated[bool, Field(description="the online critic chooses, the target rates")] = False
    dueling: Annotated[bool, Field(description="the critic is a value plus advantages")] = False
    exploration_initial_eps: Annotated[hp.Share, Field(description="share of random actions at step 0")] = 1.0
    exploration_final_eps: Annotated[hp.Share, Field(description="share of random actions in the end")] = 0.05
    exploration_steps: Annotated[
        hp.CountOrZero, Field(description="environment steps over which the share falls, linearly")
    ] = 10_000


class DQNAgent:
    """Deep Q-network with epsilon-greedy exploration, for discrete actions.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = DQNConfig
    actions = ("discrete", "masked")
    on_policy = False

    def __init__(
        self, spec: EnvSpec, config: DQNConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        sizes, (_, body) = (spec, cast(int, spec.n_actions)), hp.bodies(config)
        critic = DiscreteCritic(
            *sizes, n_critics=1, dueling=config.dueling, masked=True, **body, generator=generator
        )
        self.critic = Learner(critic.to(device), config.learning_rate)
        self.target_critic = deepcopy(critic).requires_grad_(False)
        self.n_updates = torch.zeros((), dtype=torch.int64)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, 1]` for `obs` `[B, O]`: the best, or the random one where the noise has one."""
        with torch.no_grad():
            best = self.critic(obs)[0].argmax(-1, keepdim=True).float()
            action: Tensor = best if noise is None else self.critic.module.explored(obs, noise, best)
            return action

    def operations(self, obs: Operation) -> Operation:
        """`act` without noise as plain operations, to be exported."""
        return argmax(as_operations(self.critic.module, obs, 0))

    def act_noise(self, batch_size: int, generator: torch.Generator, moment: Moment) -> Tensor:
        """Random actions `[B, 1]` with probability epsilon, elsewhere -1."""
        explore = torch.rand(batch_size, 1, generator=generator) < self.epsilon(moment.step)
        action = torch.randint(self.critic.module.random_below, (batch_size, 1), generator=generator)
        return torch.where(explore, action, -1).float().to(self.device)

    def epsilon(self, step: int) -> float:
        """The share of random actions at environment step `step`."""
        config = self.config
        faded = min(1.0, step / max(1, config.exploration_steps))
        return config.exploration_initial_eps + faded * (
            config.exploration_final_eps - config.exploration_initial_eps
        )

    def update_noise(self, batch_size: int, generator: torch.Generator) -> None:
        """Nothing: this update draws no samples."""

    def update_(self, batch: Transition, _noise: None) -> Metrics:
        """One gradient step; every `target_update_interval`-th moves the targets."""
        self.n_updates += 1
        return self.gradient_step_(batch, int(self.n_updates) % self.config.target_update_interval == 0)

    def gradient_step_(self, batch: Transition, move_targets: bool) -> Metrics:
        """Algorithm 1's gradient step: the critic, then the target if its turn has come."""
        s, a, r, discount, s2 = batch
        index = a.long()

        with torch.no_grad():
            next_q = self.target_critic(s2)[0]
            chooser = self.critic(s2)[0] if self.config.double else next_q
            best = chooser.argmax(-1, keepdim=True)
            y = td_target(r, discount, next_q.gather(-1, best).squeeze(-1))
        q = self.critic(s)[0].gather(-1, index).squeeze(-1)
        loss = huber_loss(q.unsqueeze(0), y)
        self.critic.descend(loss, self.config.max_grad_norm)

        if move_targets:
            polyak_(self.target_critic.parameters(), self.critic.parameters, self.config.tau)

        return {
            "train/loss": loss.detach(),
            "train/q_mean": q.detach().mean(),
            "train/target_q_mean": y.mean(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """The network, its target, Adam moments and the update counter."""
        return live_tensors(critic=self.critic, target_critic=self.target_critic, n_updates=self.n_updates)
