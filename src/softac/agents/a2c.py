"""Advantage actor-critic: one step of actor and critic on each short rollout.

Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", arXiv:1602.01783, algorithm S3,
with all workers in step; advantages of Schulman et al., arXiv:1506.02438.
"""

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.losses import policy_gradient_loss, value_loss
from softac.equations.returns import explained_variance, gae
from softac.learning.learner import Learner
from softac.learning.state import live_tensors
from softac.nets import StochasticActor, ValueNet
from softac.types import EnvSpec, Metrics, Moment, Rollout


@dataclass(frozen=True, config=hp.STRICT)
class A2CConfig:
    """Hyperparameters; names and defaults as in Stable-Baselines3, the optimiser Adam."""

    learning_rate: hp.LearningRate = 7e-4
    actor_learning_rate: hp.ActorLearningRate = None
    critic_learning_rate: hp.CriticLearningRate = None
    n_steps: hp.RolloutLength = 5
    gamma: hp.Gamma = 0.99
    gae_lambda: hp.GaeLambda = 1.0
    ent_coef: hp.FixedEntCoef = 0.0
    max_grad_norm: hp.MaxGradNorm = 0.5
    net_arch: hp.NetArch = (64, 64)
    actor_net_arch: hp.ActorNetArch = None
    critic_net_arch: hp.CriticNetArch = None
    activation: hp.Activation = "tanh"
    log_std_init: hp.LogStdInit = 0.0


class A2CAgent:
    """Advantage actor-critic, for continuous and discrete actions.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = A2CConfig
    actions = ("continuous", "discrete", "multi_discrete", "masked")
    on_policy = True

    def __init__(
        self, spec: EnvSpec, config: A2CConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        rate, (pi_body, q_body) = config.learning_rate, hp.bodies(config)
        actor = StochasticActor(spec, log_std_init=config.log_std_init, **pi_body, generator=generator).to(device)
        critic = ValueNet(spec, **q_body, orthogonal=True, generator=generator).to(device)
        self.draw = actor.noise
        self.actor = Learner(actor, config.actor_learning_rate or rate)
        self.critic = Learner(critic, config.critic_learning_rate or rate)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, A]` for `obs` `[B, O]`: sampled, or the mode without noise."""
        with torch.no_grad():
            policy = self.actor(obs)
            action: Tensor = policy.mode() if noise is None else policy.sample(noise)[0]
            return action

    def act_noise(self, batch_size: int, generator: torch.Generator, _: Moment) -> Tensor:
        """What the policy's sample takes, `[B, ...]`."""
        return self.draw(batch_size, generator).to(self.device)

    def update_noise(self, batch_size: int, generator: torch.Generator) -> None:
        """Nothing: this update draws no samples."""

    def update_(self, rollout: Rollout, _noise: None) -> Metrics:
        """One gradient step of actor and critic on the whole rollout."""
        s, a, s2 = (x.flatten(0, 1) for x in (rollout.obs, rollout.action, rollout.next_obs))
        shape, config = rollout.reward.shape, self.config

        v = self.critic(s)
        with torch.no_grad():
            v2 = self.critic(s2).view(shape)
            advantage = gae(
                rollout.reward, rollout.discount, v.view(shape), v2, rollout.continues, config.gae_lambda
            ).flatten()
            target = advantage + v

        policy = self.actor(s)
        entropy = policy.entropy().mean()
        pg_loss = policy_gradient_loss(policy.log_prob(a), advantage)
        self.actor.descend(pg_loss - config.ent_coef * entropy, config.max_grad_norm)

        v_loss = value_loss(v, target)
        self.critic.descend(v_loss, config.max_grad_norm)

        return {
            "train/policy_gradient_loss": pg_loss.detach(),
            "train/value_loss": v_loss.detach(),
            "train/entropy": entropy.detach(),
            "train/value_mean": v.detach().mean(),
            "train/explained_variance": explained_variance(v.detach(), target),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Networks and Adam moments."""
        return live_tensors(actor=self.actor, critic=self.critic)
