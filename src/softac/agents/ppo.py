"""Proximal policy optimisation: several passes over each rollout, with the policy's step clipped.

Schulman et al., "Proximal Policy Optimization Algorithms", arXiv:1707.06347, algorithm 1 with the
clipped objective; advantages of Schulman et al., arXiv:1506.02438.
"""

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from softac import config as hp
from softac.equations.losses import approximate_kl, clipped_surrogate_loss, value_loss
from softac.equations.returns import explained_variance, gae, normalized
from softac.errors import ConfigError
from softac.learning.learner import Learner
from softac.learning.schedules import Scheduled
from softac.learning.state import live_tensors
from softac.nets import StochasticActor, ValueNet
from softac.types import EnvSpec, Metrics, Moment, Rollout


@dataclass(frozen=True, config=hp.STRICT)
class PPOConfig:
    """Hyperparameters; names and defaults as in Stable-Baselines3."""

    learning_rate: hp.LearningRate = 3e-4
    actor_learning_rate: hp.ActorLearningRate = None
    critic_learning_rate: hp.CriticLearningRate = None
    n_steps: hp.RolloutLength = 2048
    batch_size: Annotated[hp.Count, Field(description="transitions in each gradient step")] = 64
    n_epochs: Annotated[hp.Count, Field(le=1_000, description="passes over each rollout")] = 10
    gamma: hp.Gamma = 0.99
    gae_lambda: hp.GaeLambda = 0.95
    clip_range: hp.ClipRange = 0.2
    normalize_advantage: hp.NormalizeAdvantage = True
    ent_coef: hp.FixedEntCoef = 0.0
    max_grad_norm: hp.MaxGradNorm = 0.5
    target_kl: Annotated[
        float | None,
        Field(gt=0.0, le=100.0, description="no further pass once the policy has moved 1.5 times as far, in nats"),
    ] = None
    net_arch: hp.NetArch = (64, 64)
    actor_net_arch: hp.ActorNetArch = None
    critic_net_arch: hp.CriticNetArch = None
    activation: hp.Activation = "tanh"
    log_std_init: hp.LogStdInit = 0.0

    def __post_init__(self) -> None:
        """Refuse what no single field can see."""
        if self.normalize_advantage and self.batch_size == 1:
            raise ConfigError(
                "batch_size=1 was given with normalize_advantage=True",
                "expected at least 2, since a single advantage less its mean is 0 and the actor would not move",
                "raise batch_size or set normalize_advantage=False",
            )


class PPOAgent:
    """Proximal policy optimisation with the clipped objective, for continuous and discrete actions.

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = PPOConfig
    actions = ("continuous", "discrete", "multi_discrete", "masked")
    on_policy = True

    def __init__(
        self, spec: EnvSpec, config: PPOConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        rate, (pi_body, q_body) = config.learning_rate, hp.bodies(config)
        actor = StochasticActor(spec, log_std_init=config.log_std_init, **pi_body, generator=generator).to(device)
        critic = ValueNet(spec, **q_body, orthogonal=True, generator=generator).to(device)
        self.draw, self.clip_range = actor.noise, Scheduled(config.clip_range)
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

    def update_noise(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """The order of each pass: permutations `[n_epochs, T N]`.

        Raises:
            ConfigError: a rollout of one transition, whose normalised advantage is 0.
        """
        if self.config.normalize_advantage and batch_size == 1:
            raise ConfigError(
                "n_steps=1 was given with one environment and normalize_advantage=True",
                "expected at least 2 steps in a rollout, since a single advantage less its mean is 0",
                "raise n_steps or set normalize_advantage=False",
            )
        orders = [torch.randperm(batch_size, generator=generator) for _ in range(self.config.n_epochs)]
        return torch.stack(orders).to(self.device)

    def update_(self, rollout: Rollout, orders: Tensor) -> Metrics:
        """Algorithm 1's optimisation: `n_epochs` passes in minibatches, fewer where the KL says so."""
        s, a, s2 = (x.flatten(0, 1) for x in (rollout.obs, rollout.action, rollout.next_obs))
        shape, config = rollout.reward.shape, self.config

        with torch.no_grad():
            v, v2 = self.critic(s), self.critic(s2)
            values = v.view(shape), v2.view(shape)
            advantage = gae(rollout.reward, rollout.discount, *values, rollout.continues, config.gae_lambda)
            advantage = advantage.flatten()
            target = advantage + v
            old_log_prob = self.actor(s).log_prob(a)

        steps = []
        for order in orders:
            kls = []
            for i in self._minibatches(order):
                step = self._descend(s[i], a[i], old_log_prob[i], advantage[i], target[i])
                steps.append(step)
                kls.append(step["train/approx_kl"])
            # The one question an update asks the device, once a pass and only where it is wanted.
            if config.target_kl is not None and float(torch.stack(kls).mean()) > 1.5 * config.target_kl:
                break
        means = {name: torch.stack([step[name] for step in steps]).mean() for name in steps[0]}
        return means | {
            "train/gradient_steps": torch.tensor(float(len(steps)), device=self.device),
            "train/value_mean": v.mean(),
            "train/explained_variance": explained_variance(v, target),
        }

    def _minibatches(self, order: Tensor) -> list[Tensor]:
        """The indices of each minibatch; a last one of a single transition joins the one before."""
        # Its advantage less the mean would be 0.
        parts = list(torch.split(order, self.config.batch_size))
        if self.config.normalize_advantage and len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts

    def _descend(self, s: Tensor, a: Tensor, old_log_prob: Tensor, advantage: Tensor, target: Tensor) -> Metrics:
        """One gradient step of actor and critic on a minibatch."""
        config = self.config
        if config.normalize_advantage:
            advantage = normalized(advantage)

        policy = self.actor(s)
        log_prob, entropy = policy.log_prob(a), policy.entropy().mean()
        pg_loss = clipped_surrogate_loss(log_prob, old_log_prob, advantage, self.clip_range.value)
        self.actor.descend(pg_loss - config.ent_coef * entropy, config.max_grad_norm)

        v_loss = value_loss(self.critic(s), target)
        self.critic.descend(v_loss, config.max_grad_norm)

        ratio = (log_prob.detach() - old_log_prob).exp()
        return {
            "train/policy_gradient_loss": pg_loss.detach(),
            "train/value_loss": v_loss.detach(),
            "train/entropy": entropy.detach(),
            "train/approx_kl": approximate_kl(log_prob.detach(), old_log_prob),
            "train/clip_fraction": ((ratio - 1.0).abs() > self.clip_range.value).float().mean(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Networks and Adam moments."""
        return live_tensors(actor=self.actor, critic=self.critic)
