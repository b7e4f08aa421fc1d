"""REINFORCE: one step along the gradient of the log-probabilities, weighted with the rewards to go.

Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
Machine Learning 8, 1992; with a learned value as the baseline it is the vanilla policy gradient as
Spinning Up has it, with the advantages of Schulman et al., arXiv:1506.02438.
"""

from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.losses import policy_gradient_loss, value_loss
from softac.equations.returns import explained_variance, finished, gae, reward_to_go
from softac.errors import ConfigError
from softac.learning.learner import Learner
from softac.learning.state import live_tensors
from softac.nets import StochasticActor, ValueNet
from softac.types import EnvSpec, Metrics, Moment, Rollout


@dataclass(frozen=True, config=hp.STRICT)
class REINFORCEConfig:
    """Hyperparameters; rollout, step size and `value_steps` as in Spinning Up's vanilla policy gradient."""

    learning_rate: hp.LearningRate = 3e-4
    actor_learning_rate: hp.ActorLearningRate = None
    critic_learning_rate: hp.CriticLearningRate = None
    n_steps: hp.RolloutLength = 4_000
    gamma: hp.Gamma = 0.99
    baseline: Annotated[
        Literal["none", "mean", "value"],
        Field(description="taken from the reward to go: nothing, its mean over the rollout, or a learned V(s)"),
    ] = "none"
    gae_lambda: hp.GaeLambda = 1.0
    value_steps: Annotated[hp.Count, Field(le=10_000, description="gradient steps on V for each rollout")] = 80
    net_arch: hp.NetArch = (64, 64)
    actor_net_arch: hp.ActorNetArch = None
    critic_net_arch: hp.CriticNetArch = None
    activation: hp.Activation = "tanh"
    log_std_init: hp.LogStdInit = 0.0

    def __post_init__(self) -> None:
        """Refuse what no single field can see."""
        if self.baseline != "value" and self.gae_lambda != 1.0:
            raise ConfigError(
                f'gae_lambda={self.gae_lambda} was given with baseline="{self.baseline}"',
                "expected 1, the whole reward to go, where no V is learned",
                'leave gae_lambda out or choose baseline="value"',
            )


class REINFORCEAgent:
    """REINFORCE with rewards to go, for continuous and discrete actions.

    Without a learned V, only steps whose episode ended within the rollout count: the return of the
    others is not known. An episode that was truncated counts with the rewards it had.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = REINFORCEConfig
    actions = ("continuous", "discrete", "multi_discrete", "masked")
    on_policy = True

    def __init__(
        self, spec: EnvSpec, config: REINFORCEConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        rate, (pi_body, q_body) = config.learning_rate, hp.bodies(config)
        actor = StochasticActor(spec, log_std_init=config.log_std_init, **pi_body, generator=generator).to(device)
        self.draw = actor.noise
        self.actor = Learner(actor, config.actor_learning_rate or rate)
        self.critic: Learner | None = None
        if config.baseline == "value":
            critic = ValueNet(spec, **q_body, orthogonal=True, generator=generator).to(device)
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

    def update_noise(self, batch_size: int, _: torch.Generator) -> None:
        """Nothing: this update draws no samples.

        Raises:
            ConfigError: a rollout of one transition, whose return less their mean is 0.
        """
        if self.config.baseline == "mean" and batch_size == 1:
            raise ConfigError(
                'n_steps=1 was given with one environment and baseline="mean"',
                "expected at least 2 steps in a rollout, since a single return less its mean is 0",
                'raise n_steps or choose baseline="none"',
            )

    def update_(self, rollout: Rollout, _noise: None) -> Metrics:
        """One gradient step of the actor on the whole rollout, and `value_steps` of V if there is one."""
        s, a = rollout.obs.flatten(0, 1), rollout.action.flatten(0, 1)
        r, discount, continues = rollout.reward, rollout.discount, rollout.continues

        if self.critic is not None:
            with torch.no_grad():
                v, v2 = (self.critic(x.flatten(0, 1)).view(r.shape) for x in (rollout.obs, rollout.next_obs))
            advantage = gae(r, discount, v, v2, continues, self.config.gae_lambda)
            metrics = self._fit_value(s, reward_to_go(r, discount, continues, v2).flatten())
        else:
            known = finished(continues).to(r.dtype)
            returns = reward_to_go(r, discount, continues, torch.zeros_like(r))
            share = known.mean().clamp_min(1.0 / known.numel())  # of the steps whose return is known
            baseline = (known * returns).mean() / share if self.config.baseline == "mean" else 0.0
            advantage = known * (returns - baseline) / share
            metrics = {"train/known_returns": known.mean()}

        policy = self.actor(s)
        entropy = policy.entropy().detach().mean()
        pg_loss = policy_gradient_loss(policy.log_prob(a), advantage.flatten())
        # The one question this update asks the device: a step on nothing would be one of Adam's momentum.
        if self.critic is not None or bool(known.any()):
            self.actor.descend(pg_loss)
        return {"train/policy_gradient_loss": pg_loss.detach(), "train/entropy": entropy, **metrics}

    def _fit_value(self, s: Tensor, returns: Tensor) -> Metrics:
        """`value_steps` gradient steps of V towards the rewards to go."""
        critic = cast(Learner, self.critic)
        with torch.no_grad():
            explained = explained_variance(critic(s), returns)
        for _ in range(self.config.value_steps):
            v_loss = value_loss(critic(s), returns)
            critic.descend(v_loss)
        return {"train/value_loss": v_loss.detach(), "train/explained_variance": explained}

    def tensors(self) -> dict[str, Tensor]:
        """Networks and Adam moments."""
        return live_tensors(actor=self.actor, critic=self.critic)
