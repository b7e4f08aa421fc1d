"""An agent of one's own: AWAC, whose actor imitates those stored actions that turned out well.

It maximises log pi(a|s) of the actions in the replay, each weighted with exp(advantage / temperature)
(Nair et al., arXiv:2006.09359, equation 13); no gradient of a critic reaches it. `check_agent` tries
the class, then it learns to swing up a pendulum: `python examples/own_agent.py`.
"""

import sys
from copy import deepcopy

import torch
from pydantic.dataclasses import dataclass

from softac import Model, check_agent, evaluate_policy
from softac import config as ranges
from softac.equations.losses import q_loss, td_target
from softac.learning.learner import Learner, polyak_
from softac.learning.state import live_tensors
from softac.nets import EnsembleCritic, SquashedGaussianActor


@dataclass(frozen=True, config=ranges.STRICT)
class AWACConfig:
    """Hyperparameters: the seven that a run reads, then the agent's own."""

    buffer_size: ranges.BufferSize = 100_000
    learning_starts: ranges.LearningStarts = 500
    batch_size: ranges.BatchSize = 128
    gamma: ranges.Gamma = 0.98
    n_steps: ranges.NSteps = 1
    train_freq: ranges.TrainFreq = 1
    gradient_steps: ranges.GradientSteps = 1
    learning_rate: ranges.LearningRate = 1e-3
    tau: ranges.Tau = 0.01
    temperature: ranges.Rate = 1.0  # of the weights; the lower, the fewer actions are imitated
    net_arch: ranges.NetArch = (64, 64)


class AWAC:
    """Advantage-weighted actor-critic, for continuous actions."""

    Config = AWACConfig
    actions = ("continuous",)
    on_policy = False

    def __init__(self, spec, config, *, generator, device):
        self.spec, self.config, self.device = spec, config, device
        sizes = (spec, spec.action_dim, config.net_arch)
        actor = SquashedGaussianActor(*sizes, "clamp", generator=generator).to(device)
        critic = EnsembleCritic(*sizes, n_critics=2, generator=generator).to(device)
        self.actor, self.critic = Learner(actor, config.learning_rate), Learner(critic, config.learning_rate)
        self.target_critic = deepcopy(critic).requires_grad_(False)

    def act(self, obs, noise):
        with torch.no_grad():
            return self.actor(obs).mode() if noise is None else self.actor(obs).rsample(noise)[0]

    def act_noise(self, batch_size, generator, _moment):
        return torch.randn(batch_size, self.spec.action_dim, generator=generator).to(self.device)

    def update_noise(self, batch_size, generator):
        return torch.randn(2, batch_size, self.spec.action_dim, generator=generator).to(self.device)

    def update_(self, batch, noise):
        s, a, r, discount, s2 = batch
        with torch.no_grad():
            a2, _ = self.actor(s2).rsample(noise[0])
            y = td_target(r, discount, self.target_critic(s2, a2).amin(0))
        critic_loss = q_loss(self.critic(s, a), y)
        self.critic.descend(critic_loss)

        with torch.no_grad():
            a_pi, _ = self.actor(s).rsample(noise[1])
            advantage = self.critic(s, a).amin(0) - self.critic(s, a_pi).amin(0)
            weight = torch.softmax(advantage / self.config.temperature, dim=0)
        actor_loss = -(weight * self.actor(s).log_prob(a)).sum()
        self.actor.descend(actor_loss)

        polyak_(self.target_critic.parameters(), self.critic.parameters, self.config.tau)
        return {"train/critic_loss": critic_loss.detach(), "train/actor_loss": actor_loss.detach()}

    def tensors(self):
        return live_tensors(actor=self.actor, critic=self.critic, target_critic=self.target_critic)


if __name__ == "__main__":
    for finding in check_agent(AWAC):
        print(f"{finding.level:<6}{finding.what}")
    model = Model(AWAC, "Pendulum-v1", seed=0).learn(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)
    mean, std = evaluate_policy(model, "Pendulum-v1", n_eval_episodes=10)
    print(f"return {mean:.1f} +- {std:.1f} after {model.num_timesteps:,} steps")
