"""Gaussian Mixture Deterministic Policy Gradient: TD3 with several actors kept apart by an entropy.

"Comparing Deterministic and Soft Policy Gradients for Optimizing Gaussian Mixture Actors", TMLR 2024
(openreview.net/forum?id=qS9pPu8ODt). The entropy of the mixture is written from its formula, the
pairwise estimate of Kolchinsky and Tracey 2017.
"""

from copy import deepcopy
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from softac import config as hp
from softac.equations.entropy import mixture_entropy
from softac.equations.losses import deterministic_policy_loss, q_loss, td_target
from softac.learning.learner import Learner, polyak_
from softac.learning.state import live_tensors
from softac.nets import DeterministicActor, EnsembleCritic, as_operations
from softac.nets.operations import Operation, choose, concat, minimum
from softac.types import EnvSpec, Metrics, Moment, Transition


@dataclass(frozen=True, config=hp.STRICT)
class GamidPGConfig:
    """Hyperparameters; those of `td3` and what belongs to the mixture."""

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
    net_arch: hp.NetArch = (256, 256)
    actor_net_arch: hp.ActorNetArch = None
    critic_net_arch: hp.CriticNetArch = None
    activation: hp.Activation = "relu"
    critic_layer_norm: hp.CriticLayerNorm = False
    policy_delay: hp.PolicyDelay = 2
    target_policy_noise: hp.TargetPolicyNoise = 0.2
    target_noise_clip: hp.TargetNoiseClip = 0.5
    action_noise_std: Annotated[
        float, Field(gt=0.0, le=1e6, description="standard deviation of every component, in [-1, 1] units")
    ] = 0.1
    n_components: hp.NComponents = 5
    ent_coef: hp.FixedEntCoef = 0.1
    exploration_eps: hp.ExplorationEps = 0.1


class Choice(NamedTuple):
    """The component that a critic prefers at each of B states."""

    action: Tensor  # [B, A]
    value: Tensor  # [B], the least of the critics there
    component: Tensor  # [B], 0 to K - 1


class GamidPGAgent:
    """Gaussian mixture deterministic policy gradient, for continuous actions.

    The policy is a mixture of K Gaussians with equal weights around deterministic actors, of which
    the best is chosen: pi(.|s) = N(mu_k*(s), std^2), k* = argmax_k min_j Q_j(s, mu_k(s)).

    Args:
        spec: sizes of observations and actions.
        config: the hyperparameters.
        generator: draws the initial weights; not kept.
        device: where the networks live.
    """

    Config = GamidPGConfig
    actions = ("continuous",)
    on_policy = False

    def __init__(
        self, spec: EnvSpec, config: GamidPGConfig, *, generator: torch.Generator, device: torch.device
    ) -> None:
        self.spec, self.config, self.device = spec, config, device
        sizes, (pi_body, q_body) = (spec, spec.action_dim), hp.bodies(config)
        rate = config.learning_rate
        actors = DeterministicActor(*sizes, members=config.n_components, **pi_body, generator=generator)
        critic = EnsembleCritic(*sizes, n_critics=config.n_critics, **q_body, generator=generator).to(device)
        self.actor = Learner(actors.to(device), config.actor_learning_rate or rate)
        self.critic = Learner(critic, config.critic_learning_rate or rate)
        self.target_actor = deepcopy(actors).requires_grad_(False)
        self.target_critic = deepcopy(critic).requires_grad_(False)
        self.n_updates = torch.zeros((), dtype=torch.int64)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions `[B, A]` in [-1, 1] for `obs` `[B, O]`: the preferred component's, noisy if asked."""
        with torch.no_grad():
            mu = self.actor(obs)
            best = greedy(mu, obs, self.target_critic)
            if noise is None:
                return best.action
            normal, component = noise[:, :-1], noise[:, -1].long()
            chosen = torch.where(component >= 0, component, best.component)
            action: Tensor = mu[chosen, torch.arange(len(obs), device=self.device)]
            return (action + self.config.action_noise_std * normal).clamp(-1.0, 1.0)

    def operations(self, obs: Operation) -> Operation:
        """`act` without noise as plain operations, to be exported."""
        config, critic = self.config, self.target_critic
        mu = [as_operations(self.actor.module, obs, k) for k in range(config.n_components)]
        q = [minimum(*(as_operations(critic, obs, a, j) for j in range(config.n_critics))) for a in mu]
        return choose(concat(*q), concat(*mu))

    def act_noise(self, batch_size: int, generator: torch.Generator, moment: Moment) -> Tensor:
        """A standard normals, and a random component or -1 for the preferred one, `[B, A + 1]`."""
        normal = torch.randn(batch_size, self.spec.action_dim, generator=generator)
        eps = hp.value_at(self.config.exploration_eps, moment.step)
        explore = torch.rand(batch_size, 1, generator=generator) < eps
        component = torch.randint(self.config.n_components, (batch_size, 1), generator=generator)
        return torch.cat((normal, torch.where(explore, component, -1)), dim=-1).to(self.device)

    def update_noise(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Standard normal `[B, A]`, for the smoothing of the target policy."""
        return torch.randn(batch_size, self.spec.action_dim, generator=generator).to(self.device)

    def update_(self, batch: Transition, noise: Tensor) -> Metrics:
        """One gradient step; every `policy_delay`-th moves actor and targets."""
        self.n_updates += 1
        return self.gradient_step_(batch, noise, int(self.n_updates) % self.config.policy_delay == 0)

    def gradient_step_(self, batch: Transition, noise: Tensor, move_actor: bool) -> Metrics:
        """Critics, then actors and targets if their turn has come."""
        s, a, r, discount, s2 = batch
        config = self.config

        with torch.no_grad():
            clip = config.target_noise_clip
            smoothing = (config.target_policy_noise * noise).clamp(-clip, clip)
            preferred = greedy(self.target_actor(s2), s2, self.target_critic)
            a2 = (preferred.action + smoothing).clamp(-1.0, 1.0)
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
            mu = self.actor(s)
            climb = deterministic_policy_loss(self.critic(s.expand(len(mu), -1, -1), mu)[0])
            # The sign of the principle: more entropy is less loss, so that the means move apart.
            entropy = mixture_entropy(mu.transpose(0, 1), config.action_noise_std).mean()
            actor_loss = climb - config.ent_coef * entropy
            self.actor.descend(actor_loss)
            metrics["train/actor_loss"] = actor_loss.detach()
            metrics["train/entropy"] = entropy.detach()
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


def greedy(mu: Tensor, obs: Tensor, critic: nn.Module) -> Choice:
    """The component with the best least value: argmax_k min_j Q_j(s, mu_k(s)).

    Args:
        mu: `[K, B, A]`, the actions of the components.
        obs: `[B, O]`.
        critic: observations and actions to values, as `EnsembleCritic`.
    """
    q = critic(obs.expand(len(mu), -1, -1), mu).amin(0)
    value, component = q.max(0)
    action = mu[component, torch.arange(len(obs), device=mu.device)]
    return Choice(action, value, component)
