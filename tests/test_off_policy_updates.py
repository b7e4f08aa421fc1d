"""The updates of the off-policy family against plain implementations, in float64, where any wrong term shows."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, TanhTransform

from plain import CONTINUOUS, DISCRETE, Plain, assert_same_metrics, assert_same_state, make_agent
from softac.types import Transition

pytestmark = pytest.mark.usefixtures("float64")

BATCH = 16
UPDATES = 7
BASE = {"learning_rate": 1e-2, "tau": 0.1, "net_arch": (8, 6)}


def make_batch(generator: torch.Generator, spec=CONTINUOUS) -> Transition:
    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    discount = 0.9 * (torch.rand(BATCH, generator=generator) > 0.3).double()
    if spec.n_actions is None:
        action = normal(BATCH, spec.action_dim).tanh()
    else:
        action = torch.randint(spec.n_actions, (BATCH, 1), generator=generator).double()
    return Transition(normal(BATCH, 3), action, normal(BATCH), discount, normal(BATCH, 3))


class OffPolicy(Plain):
    """What the plain off-policy algorithms share."""

    def q(self, name, s, a):
        """The values of each critic, `[N, B]`."""
        n = getattr(self.config, "n_critics", 1)
        return torch.stack([self.net(name, torch.cat([s, a], 1), i)[:, 0] for i in range(n)])

    @staticmethod
    def squared(q, target):
        return sum(((q_i - target) ** 2).mean() / 2 for q_i in q)

    def q_metrics(self, loss, q, target):
        return {"train/critic_loss": loss, "train/q_mean": q.mean(), "train/target_q_mean": target.mean()}

    def alpha(self):
        fixed = "temperature" not in self.optimizers
        return float(self.config.ent_coef) if fixed else self.tensors["temperature.log_alpha"].exp().item()

    def adapt(self, log_prob, target_entropy):
        """The temperature's step, if it learns; its loss."""
        if "temperature" not in self.optimizers:
            return 0.0
        alpha = self.tensors["temperature.log_alpha"].exp()
        loss = (alpha * (-log_prob.detach() - target_entropy)).mean()
        self.descend("temperature", loss)
        return loss.item()

    def count(self, interval):
        """Whether this update is one of those that move the targets."""
        self.tensors["n_updates"] = self.tensors["n_updates"] + 1
        return self.tensors["n_updates"].item() % interval == 0


def minus_slope(u):
    """-log |d tanh(u) / du|, summed over the coordinates."""
    return -TanhTransform().log_abs_det_jacobian(u, u.tanh()).sum(-1)


class PlainSACV(OffPolicy):
    """Algorithm 1 of arXiv:1801.01290."""

    def __init__(self, agent):
        super().__init__(agent, "actor", "critic", "value")

    def policy(self, s, noise, constant=False):
        mean, log_std = self.net("actor", s).chunk(2, 1)
        law = Normal(mean, log_std.clamp(-20, 2).exp())
        u = law.mean + law.stddev * noise
        u = u.detach() if constant else u
        return u.tanh(), law.log_prob(u).sum(1) + minus_slope(u)

    def update(self, batch, noise):
        s, a, r, discount, s2 = batch
        alpha = self.config.ent_coef
        with torch.no_grad():
            action, log_prob = self.policy(s, noise)
            v_target = self.q("critic", s, action).min(0).values - alpha * log_prob
            q_target = self.config.reward_scale * r + discount * self.net("target_value", s2)[:, 0]
        v, q = self.net("value", s)[:, 0], self.q("critic", s, a)
        v_loss, q_loss = ((v - v_target) ** 2).mean() / 2, self.squared(q, q_target)
        self.descend("value", v_loss)
        self.descend("critic", q_loss)

        if self.config.actor_gradient == "pathwise":
            action, log_prob = self.policy(s, noise)
            loss = (alpha * log_prob - self.q("critic", s, action).min(0).values).mean()
        else:
            action, log_prob = self.policy(s, noise, constant=True)
            q_now = self.q("critic", s, action).min(0).values.detach()
            bracket = alpha * log_prob.detach() - q_now + v.detach()
            loss = (log_prob * bracket).mean()
        self.descend("actor", loss)
        self.follow("target_value", "value")
        return self.q_metrics(q_loss, q, q_target) | {
            "train/actor_loss": loss,
            "train/value_loss": v_loss,
            "train/entropy": -log_prob.mean(),
            "train/value_mean": v.mean(),
            "train/saturated_actions": (action.abs() > 0.99).double().mean(),
        }


class PlainSACDiscrete(OffPolicy):
    """Algorithm 1 of arXiv:1910.07207; one action after the other."""

    def __init__(self, agent):
        learned = ["temperature"] if isinstance(agent.config.ent_coef, str) else []
        super().__init__(agent, "actor", "critic", *learned)
        wanted = self.config.target_entropy
        self.target_entropy = math.log(4) / 2 if wanted == "auto" else wanted

    def all_q(self, name, s):
        return torch.stack([self.net(name, s, i) for i in range(self.config.n_critics)])

    def update(self, batch, noise):
        s, a, r, discount, s2 = batch
        alpha = self.alpha()
        with torch.no_grad():
            law, q2 = Categorical(logits=self.net("actor", s2)), self.all_q("target_critic", s2).min(0).values
            v2 = sum(law.probs[:, i] * (q2[:, i] - alpha * law.logits[:, i]) for i in range(4))
            target = r + discount * v2
        chosen = [int(i) for i in a[:, 0]]
        q = torch.stack([q_i[range(BATCH), chosen] for q_i in self.all_q("critic", s)])
        q_loss = self.squared(q, target)
        self.descend("critic", q_loss)

        law, q_all = Categorical(logits=self.net("actor", s)), self.all_q("critic", s).min(0).values.detach()
        loss = sum((law.probs[:, i] * (alpha * law.logits[:, i] - q_all[:, i])).mean() for i in range(4))
        entropy = law.entropy()
        self.descend("actor", loss)
        alpha_loss = self.adapt(-entropy, self.target_entropy)
        if self.count(self.config.target_update_interval):
            self.follow("target_critic", "critic")
        return self.q_metrics(q_loss, q, target) | {
            "train/actor_loss": loss,
            "train/ent_coef": alpha,
            "train/ent_coef_loss": alpha_loss,
            "train/entropy": entropy.mean(),
        }


class PlainSACMixture(OffPolicy):
    """SAC whose policy is a `MixtureSameFamily`; the sum over components is a loop."""

    def __init__(self, agent):
        learned = ["temperature"] if isinstance(agent.config.ent_coef, str) else []
        super().__init__(agent, "actor", "critic", *learned)
        self.target_entropy = -2.0 if self.config.target_entropy == "auto" else self.config.target_entropy

    def law(self, s):
        k = self.config.n_components
        logits, means, log_stds = self.net("actor", s).split([k, 2 * k, 2 * k], 1)
        stds = log_stds.clamp(-20, 2).exp().view(-1, k, 2)
        return MixtureSameFamily(Categorical(logits=logits), Independent(Normal(means.view(-1, k, 2), stds), 1))

    def draw(self, law, noise):
        """One draw: the component that wins a race of exponentials, at the rate of its weight."""
        k = (-noise[:, 2:].log() / law.mixture_distribution.probs).argmin(1)
        normal, rows = law.component_distribution.base_dist, range(BATCH)
        u = (normal.mean[rows, k] + normal.stddev[rows, k] * noise[:, :2]).detach()
        return u.tanh(), law.log_prob(u) + minus_slope(u)

    def update(self, batch, noise):
        s, a, r, discount, s2 = batch
        alpha = self.alpha()
        with torch.no_grad():
            a2, log_prob2 = self.draw(self.law(s2), noise.next)
            target = r + discount * (self.q("target_critic", s2, a2).min(0).values - alpha * log_prob2)
        q = self.q("critic", s, a)
        q_loss = self.squared(q, target)
        self.descend("critic", q_loss)

        law = self.law(s)
        normal, weights = law.component_distribution.base_dist, law.mixture_distribution.probs
        terms, log_probs, saturated = [], [], []
        for k in range(self.config.n_components):
            u = normal.mean[:, k] + normal.stddev[:, k] * noise.components[:, k]
            log_prob_k = law.log_prob(u) + minus_slope(u)
            q_k = self.q("critic", s, u.tanh()).min(0).values
            terms.append(weights[:, k] * (alpha * log_prob_k - q_k))
            log_probs.append(weights[:, k] * log_prob_k)
            saturated.append((u.tanh().abs() > 0.99).double().mean())
        if self.config.actor_gradient == "marginalised":
            loss = sum(terms).mean()
        else:
            action, log_prob = self.draw(law, noise.now)
            q_now = self.q("critic", s, action).min(0).values
            loss = (log_prob * (alpha * log_prob - q_now - sum(terms)).detach()).mean()
        mean_log_prob = sum(log_probs)
        self.descend("actor", loss)
        alpha_loss = self.adapt(mean_log_prob, self.target_entropy)
        if self.count(self.config.target_update_interval):
            self.follow("target_critic", "critic")
        return self.q_metrics(q_loss, q, target) | {
            "train/actor_loss": loss,
            "train/ent_coef": alpha,
            "train/ent_coef_loss": alpha_loss,
            "train/entropy": -mean_log_prob.mean(),
            "train/component_entropy": law.mixture_distribution.entropy().mean(),
            "train/saturated_actions": sum(saturated) / len(saturated),
        }


class PlainGamidPG(OffPolicy):
    """TD3 with several actors and the entropy of their mixture, pair by pair."""

    def __init__(self, agent):
        super().__init__(agent, "actor", "critic")

    def actions(self, name, s):
        return [self.net(name, s, k).tanh() for k in range(self.config.n_components)]

    def entropy(self, means):
        """Kolchinsky and Tracey's upper bound: `means` is a list of `[B, 2]`."""
        variance, n = self.config.action_noise_std**2, len(means)
        entropy = math.log(2 * math.pi * math.e * variance)
        for m in means:
            overlap = sum(torch.exp(-((m - other) ** 2).sum(1) / (2 * variance)) for other in means)
            entropy = entropy - torch.log(overlap / n).mean() / n
        return entropy

    def update(self, batch, noise):
        s, a, r, discount, s2 = batch
        c = self.config
        with torch.no_grad():
            means = self.actions("target_actor", s2)
            values = torch.stack([self.q("target_critic", s2, m).min(0).values for m in means])
            best = torch.stack([means[values[:, b].argmax()][b] for b in range(BATCH)])
            clip = c.target_noise_clip
            a2 = (best + (c.target_policy_noise * noise).clamp(-clip, clip)).clamp(-1, 1)
            target = r + discount * self.q("target_critic", s2, a2).min(0).values
        q = self.q("critic", s, a)
        q_loss = self.squared(q, target)
        self.descend("critic", q_loss)
        metrics = self.q_metrics(q_loss, q, target)
        if self.count(c.policy_delay):
            means = self.actions("actor", s)
            entropy = self.entropy(means)
            climb = sum(self.q("critic", s, m)[0].mean() for m in means) / len(means)
            loss = -climb - c.ent_coef * entropy
            self.descend("actor", loss)
            self.follow("target_actor", "actor")
            self.follow("target_critic", "critic")
            metrics |= {"train/actor_loss": loss, "train/entropy": entropy}
        return metrics


class PlainDDPG(OffPolicy):
    """Algorithm 1 of arXiv:1509.02971."""

    def __init__(self, agent):
        super().__init__(agent, "actor", "critic")

    def update(self, batch, noise):
        s, a, r, discount, s2 = batch
        with torch.no_grad():
            target = r + discount * self.q("target_critic", s2, self.net("target_actor", s2).tanh())[0]
        q = self.q("critic", s, a)
        q_loss = self.squared(q, target)
        self.descend("critic", q_loss)
        loss = -self.q("critic", s, self.net("actor", s).tanh())[0].mean()
        self.descend("actor", loss)
        self.follow("target_actor", "actor")
        self.follow("target_critic", "critic")
        return self.q_metrics(q_loss, q, target) | {"train/actor_loss": loss}


class PlainTD3(OffPolicy):
    """Algorithm 1 of arXiv:1802.09477."""

    def __init__(self, agent):
        super().__init__(agent, "actor", "critic")

    def update(self, batch, noise):
        s, a, r, discount, s2 = batch
        c = self.config
        with torch.no_grad():
            clip = c.target_noise_clip
            smoothing = (c.target_policy_noise * noise).clamp(-clip, clip)
            a2 = (self.net("target_actor", s2).tanh() + smoothing).clamp(-1, 1)
            target = r + discount * self.q("target_critic", s2, a2).min(0).values
        q = self.q("critic", s, a)
        q_loss = self.squared(q, target)
        self.descend("critic", q_loss)
        metrics = self.q_metrics(q_loss, q, target)
        if self.count(c.policy_delay):
            loss = -self.q("critic", s, self.net("actor", s).tanh())[0].mean()
            self.descend("actor", loss)
            self.follow("target_actor", "actor")
            self.follow("target_critic", "critic")
            metrics["train/actor_loss"] = loss
        return metrics


class PlainDQN(OffPolicy):
    """Algorithm 1 of Mnih et al. 2015, sample by sample, with the two later ideas."""

    def __init__(self, agent):
        super().__init__(agent, "critic")

    def all_q(self, name, s):
        out = self.net(name, s, 0)
        if not self.config.dueling:
            return out
        return out[:, :1] + out[:, 1:] - out[:, 1:].sum(1, keepdim=True) / 4

    def update(self, batch, noise):
        s, a, r, discount, s2 = batch
        with torch.no_grad():
            rated = self.all_q("target_critic", s2)
            chooser = self.all_q("critic", s2) if self.config.double else rated
            target = torch.stack([r[b] + discount[b] * rated[b, chooser[b].argmax()] for b in range(BATCH)])
        q = self.all_q("critic", s)[range(BATCH), [int(i) for i in a[:, 0]]]
        error = (q - target).abs()
        loss = torch.where(error <= 1, error**2 / 2, error - 0.5).mean()
        self.descend("critic", loss, self.config.max_grad_norm)
        if self.count(self.config.target_update_interval):
            self.follow("target_critic", "critic")
        return {"train/loss": loss, "train/q_mean": q.mean(), "train/target_q_mean": target.mean()}


PLAIN = {
    "sac_v": PlainSACV,
    "sac_discrete": PlainSACDiscrete,
    "sac_mixture": PlainSACMixture,
    "gamid_pg": PlainGamidPG,
    "ddpg": PlainDDPG,
    "td3": PlainTD3,
    "dqn": PlainDQN,
}
RATES = {"actor_learning_rate": 1e-3, "critic_learning_rate": 5e-3}
DEFAULTS = {
    # The noise of the target is large enough to be cut, the components near enough to repel each other.
    "td3": {"target_policy_noise": 0.5},
    "gamid_pg": {"target_policy_noise": 0.5, "action_noise_std": 0.5},
    "dqn": {"target_update_interval": 2},
}
OPTIONS = {
    "sac_v": [
        {},
        {"actor_gradient": "score_function"},
        {"n_critics": 1},
        {"n_critics": 1, "actor_gradient": "score_function"},
        {"n_critics": 3},
        {"reward_scale": 1.0},
        {"reward_scale": 0.5},
        {"ent_coef": 0.2},
        {"ent_coef": 0.0},
        {"ent_coef": 0.2, "actor_gradient": "score_function"},
        {"tau": 1.0},
        RATES,
    ],
    "sac_discrete": [
        {},
        {"ent_coef": "auto_0.1"},
        {"ent_coef": 0.2},
        {"ent_coef": 0.0},
        {"target_entropy": 1.3},
        {"n_critics": 1},
        {"n_critics": 3},
        {"target_update_interval": 3},
        {"tau": 1.0},
        RATES | {"ent_coef_learning_rate": 0.05},
    ],
    "sac_mixture": [
        {},
        {"n_components": 1},
        {"actor_gradient": "score_function"},
        {"actor_gradient": "score_function", "n_components": 1},
        {"actor_gradient": "score_function", "ent_coef": 0.2},
        {"ent_coef": "auto_0.1"},
        {"ent_coef": 0.2},
        {"ent_coef": 0.0},
        {"target_entropy": 0.5},
        {"n_critics": 1},
        {"target_update_interval": 3},
        {"tau": 1.0},
        RATES | {"ent_coef_learning_rate": 0.05},
    ],
    "gamid_pg": [
        {},
        {"ent_coef": 0.0},
        {"ent_coef": 2.0},
        {"policy_delay": 1},
        {"policy_delay": 3},
        {"n_components": 1},
        {"n_critics": 1},
        {"action_noise_std": 0.1},
        {"target_policy_noise": 0.0},
        {"target_noise_clip": 0.1},
        {"tau": 1.0},
        RATES,
    ],
    "ddpg": [{}, {"tau": 1.0}, RATES],
    "td3": [
        {},
        {"policy_delay": 1},
        {"policy_delay": 3},
        {"n_critics": 1},
        {"n_critics": 3},
        {"target_policy_noise": 0.0},
        {"target_policy_noise": 0.2},
        {"target_noise_clip": 0.1},
        {"tau": 1.0},
        RATES,
    ],
    "dqn": [
        {},
        {"double": True},
        {"dueling": True},
        {"double": True, "dueling": True},
        {"target_update_interval": 3},
        {"target_update_interval": 1, "double": True},
        {"tau": 1.0},
        {"tau": 0.01},
        {"tau": 1.0, "target_update_interval": 1},
        {"max_grad_norm": 0.1},
    ],
}
SCALED = {
    "sac_v": {"actor": 40.0},
    "sac_discrete": {"actor": 15.0},
    "sac_mixture": {"actor": 40.0},
    "gamid_pg": {"actor": 15.0, "target_actor": 15.0},
    "ddpg": {"actor": 15.0, "target_actor": 15.0},
    "td3": {"actor": 15.0, "target_actor": 15.0},
    "dqn": {"critic": 15.0, "target_critic": -15.0},
}
CASES = [(name, option) for name, options in OPTIONS.items() for option in options]


def let_cross(critic, spec):
    """Shift the critics so that each is the least one somewhere."""
    batch = make_batch(torch.Generator().manual_seed(1), spec)
    inputs = (batch.obs,) if spec is DISCRETE else (batch.obs, batch.action)
    bias = critic.net[-1].bias
    bias -= critic(*inputs).mean(1).view_as(bias)
    assert len(critic(*inputs).argmin(0).unique()) == len(bias)


def build(name, option):
    spec = DISCRETE if name in ("sac_discrete", "dqn") else CONTINUOUS
    agent = make_agent(name, spec, **BASE | DEFAULTS.get(name, {}) | option)
    # Outputs far apart, so that bounds and the choice of the best matter; a DQN's target chooses otherwise.
    with torch.no_grad():
        for net, scale in SCALED[name].items():
            module = getattr(agent, net)
            getattr(module, "module", module).net[-1].weight *= scale
        if name != "dqn":
            let_cross(agent.critic.module, spec)
        if name not in ("dqn", "sac_v"):
            let_cross(agent.target_critic, spec)
    return agent, spec


def updated(agent, spec, plain=None):
    """The agent after its updates; the plain one is held against it after each."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(UPDATES):
        batch, noise = make_batch(generator, spec), agent.update_noise(BATCH, generator)
        metrics = agent.update_(batch, noise)
        if plain is not None:
            assert_same_metrics(metrics, plain.update(batch, noise))
            assert_same_state(agent, plain)
    return agent


@pytest.mark.parametrize(("name", "option"), CASES, ids=lambda x: x if isinstance(x, str) else str(x))
def test_updates_agree_with_the_plain_implementation(name, option):
    agent, spec = build(name, option)
    updated(agent, spec, PLAIN[name](agent))


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_changes_the_result(name):
    # Otherwise the comparison above would not know whether the option does anything.
    kind = "critic" if name == "dqn" else "actor"

    def result(option):
        return torch.cat([p.detach().flatten() for p in getattr(updated(*build(name, option)), kind).parameters])

    results = [result(option) for option in OPTIONS[name]]
    for i, first in enumerate(results):
        for j, second in enumerate(results[:i]):
            same_size = first.shape == second.shape
            assert not same_size or (first - second).abs().max() > 1e-7, (OPTIONS[name][i], OPTIONS[name][j])
