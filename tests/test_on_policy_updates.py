"""The updates of the on-policy family against plain implementations, in float64, with loops over the steps."""

import math

import pytest
import torch
from torch.distributions import Categorical, Normal

from plain import CONTINUOUS, DISCRETE, Plain, assert_same_metrics, assert_same_state, make_agent
from softac.learning.state import state_of
from softac.types import Rollout

pytestmark = pytest.mark.usefixtures("float64")

T, N = 9, 2
UPDATES = 3
BASE = {"learning_rate": 1e-2, "net_arch": (8, 6), "log_std_init": -0.5}
SPECS = {"continuous": CONTINUOUS, "discrete": DISCRETE}


def make_rollout(agent, generator: torch.Generator) -> Rollout:
    """Random steps with short episodes; the actions are those of the agent, as in training."""

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    obs = normal(T, N, 3)
    action = torch.stack([agent.act(row, agent.act_noise(N, generator, None)) for row in obs])
    terminated, truncated = (torch.rand(2, T, N, generator=generator) < 0.12).unbind()
    continues = (~(terminated | truncated)).double()
    return Rollout(obs, action, 3.0 * normal(T, N), 0.9 * (~terminated).double(), normal(T, N, 3), continues)


class OnPolicy(Plain):
    """What the plain on-policy algorithms share."""

    def v(self, obs):
        """The values of observations `[..., O]`, `[...]`."""
        return self.net("critic", obs, activation=torch.tanh)[..., 0]

    def policy(self, s, a):
        """Log-probabilities of the actions, `[B]`, and the mean entropy."""
        outputs = self.net("actor", s, activation=torch.tanh)
        if "actor.log_std" in self.tensors:
            law = Normal(outputs, self.tensors["actor.log_std"].exp())
            return law.log_prob(a).sum(1), law.entropy().sum(1).mean()
        law = Categorical(logits=outputs)
        return law.log_prob(a[:, 0].long()), law.entropy().mean()

    def advantages(self, rollout, v, v2):
        """sum_k (gamma lambda)^k delta_{t+k} over what is left of the episode, each sum on its own; `[T N]`."""
        r, discount = rollout.reward.tolist(), rollout.discount.tolist()
        advantage = torch.zeros(T, N)
        for n in range(N):
            for t in range(T):
                total, weight = 0.0, 1.0
                for k in range(t, T):
                    delta = r[k][n] + discount[k][n] * v2[k, n].item() - v[k, n].item()
                    total += weight * delta
                    weight *= discount[k][n] * self.config.gae_lambda
                    if rollout.continues[k, n] == 0:
                        break
                advantage[t, n] = total
        return advantage.flatten()

    @staticmethod
    def returns(rollout, v2):
        """The discounted rewards to the end of the episode, or of the rollout and then `v2`; `[T N]`."""
        r, discount = rollout.reward.tolist(), rollout.discount.tolist()
        result, ended = torch.zeros(T, N), torch.zeros(T, N, dtype=torch.bool)
        for n in range(N):
            for t in range(T):
                total, weight = 0.0, 1.0
                for k in range(t, T):
                    total += weight * r[k][n]
                    weight *= discount[k][n]
                    if rollout.continues[k, n] == 0:
                        ended[t, n] = True
                        break
                result[t, n] = total + weight * v2[k, n].item()
        return result.flatten(), ended.flatten()

    @staticmethod
    def explained(v, target):
        return 1 - (target - v).var() / target.var()


class PlainREINFORCE(OnPolicy):
    """Williams 1992 with rewards to go; with a value, the vanilla policy gradient."""

    def __init__(self, agent):
        learned = ["critic"] if agent.config.baseline == "value" else []
        super().__init__(agent, "actor", *learned)

    def update(self, rollout, noise):
        s, a = rollout.obs.flatten(0, 1), rollout.action.flatten(0, 1)
        if self.config.baseline == "value":
            with torch.no_grad():
                v, v2 = self.v(rollout.obs), self.v(rollout.next_obs)
            target, _ = self.returns(rollout, v2)
            advantage, counted = self.advantages(rollout, v, v2), range(T * N)
            metrics = {"train/explained_variance": self.explained(v.flatten(), target)}
            for _ in range(self.config.value_steps):
                v_loss = ((self.v(s) - target) ** 2).mean() / 2
                self.descend("critic", v_loss)
            metrics["train/value_loss"] = v_loss
        else:
            returns, ended = self.returns(rollout, torch.zeros(T, N))
            counted = [i for i in range(T * N) if ended[i]]
            known = [returns[i].item() for i in counted]
            baseline = sum(known) / len(known) if self.config.baseline == "mean" else 0.0
            advantage = returns - baseline
            metrics = {"train/known_returns": len(known) / (T * N)}

        log_prob, entropy = self.policy(s, a)
        loss = -sum(log_prob[i] * advantage[i] for i in counted) / len(counted)
        self.descend("actor", loss)
        return metrics | {"train/policy_gradient_loss": loss, "train/entropy": entropy}


class PlainA2C(OnPolicy):
    """One step of actor and critic on the whole rollout."""

    def __init__(self, agent):
        super().__init__(agent, "actor", "critic")

    def update(self, rollout, noise):
        s, a = rollout.obs.flatten(0, 1), rollout.action.flatten(0, 1)
        with torch.no_grad():
            v, v2 = self.v(rollout.obs), self.v(rollout.next_obs)
        advantage = self.advantages(rollout, v, v2)
        target = v.flatten() + advantage

        log_prob, entropy = self.policy(s, a)
        loss = -(log_prob * advantage).mean()
        self.descend("actor", loss - self.config.ent_coef * entropy, self.config.max_grad_norm)
        v_loss = ((self.v(s) - target) ** 2).mean() / 2
        self.descend("critic", v_loss, self.config.max_grad_norm)
        return {
            "train/policy_gradient_loss": loss,
            "train/value_loss": v_loss,
            "train/entropy": entropy,
            "train/value_mean": v.mean(),
            "train/explained_variance": self.explained(v.flatten(), target),
        }


class PlainPPO(OnPolicy):
    """Algorithm 1 of arXiv:1707.06347, sample by sample in the clipped objective."""

    def __init__(self, agent):
        super().__init__(agent, "actor", "critic")
        self.kls = []  # of each pass over the last rollout

    def update(self, rollout, orders):
        s, a, c = rollout.obs.flatten(0, 1), rollout.action.flatten(0, 1), self.config
        with torch.no_grad():
            v, v2 = self.v(rollout.obs), self.v(rollout.next_obs)
            old, _ = self.policy(s, a)
        advantage = self.advantages(rollout, v, v2)
        target = v.flatten() + advantage

        steps, self.kls = [], []
        for order in orders.tolist():
            passes = [order[i : i + c.batch_size] for i in range(0, T * N, c.batch_size)]
            steps += [self.step(s[i], a[i], old[i], advantage[i], target[i]) for i in passes]
            self.kls.append(sum(step["train/approx_kl"] for step in steps[-len(passes) :]) / len(passes))
            if c.target_kl is not None and self.kls[-1] > 1.5 * c.target_kl:
                break
        means = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
        return means | {
            "train/gradient_steps": len(steps),
            "train/value_mean": v.mean(),
            "train/explained_variance": self.explained(v.flatten(), target),
        }

    def step(self, s, a, old, advantage, target):
        c = self.config
        if c.normalize_advantage:
            centred = advantage - advantage.mean()
            advantage = centred / (centred.square().mean().sqrt() + 1e-8)
        log_prob, entropy = self.policy(s, a)
        gains, outside, kl = [], 0, 0.0
        for new, before, A in zip(log_prob, old.tolist(), advantage.tolist(), strict=True):
            ratio = torch.exp(new - before)
            # Beyond the range on the side that A asks for, the gain has no slope.
            bound = 1 + c.clip_range if A > 0 else 1 - c.clip_range
            beyond = ratio.item() > bound if A > 0 else ratio.item() < bound
            gains.append(0.0 * ratio + bound * A if beyond else ratio * A)
            outside += abs(ratio.item() - 1) > c.clip_range
            kl += (ratio.item() - 1 - math.log(ratio.item())) / len(s)
        loss = -sum(gains) / len(s)
        self.descend("actor", loss - c.ent_coef * entropy, c.max_grad_norm)
        v_loss = ((self.v(s) - target) ** 2).mean() / 2
        self.descend("critic", v_loss, c.max_grad_norm)
        return {
            "train/policy_gradient_loss": loss.item(),
            "train/value_loss": v_loss.item(),
            "train/entropy": entropy.item(),
            "train/approx_kl": kl,
            "train/clip_fraction": outside / len(s),
        }


PLAIN = {"reinforce": PlainREINFORCE, "a2c": PlainA2C, "ppo": PlainPPO}
DEFAULTS = {"reinforce": {"value_steps": 3}, "a2c": {}, "ppo": {"batch_size": 7, "n_epochs": 3}}
RATES = {"actor_learning_rate": 1e-3, "critic_learning_rate": 5e-3}
OPTIONS = {
    "reinforce": [
        {},
        {"baseline": "mean"},
        {"baseline": "value"},
        {"baseline": "value", "gae_lambda": 0.97},
        {"baseline": "value", "gae_lambda": 0.0},
        {"baseline": "value", "value_steps": 1},
        {"baseline": "value"} | RATES,
    ],
    "a2c": [
        {},
        {"gae_lambda": 0.95},
        {"gae_lambda": 0.0},
        {"ent_coef": 0.1},
        {"ent_coef": 0.1, "gae_lambda": 0.95},
        {"max_grad_norm": 1e6},
        {"max_grad_norm": 0.01},
        RATES,
    ],
    "ppo": [
        {},
        {"normalize_advantage": False},
        {"gae_lambda": 1.0},
        {"gae_lambda": 0.0},
        {"clip_range": 0.02},
        {"clip_range": 0.9},
        {"ent_coef": 0.1},
        {"max_grad_norm": 1e6},
        {"max_grad_norm": 0.01},
        {"target_kl": 1e-4},
        {"n_epochs": 1},
        {"batch_size": 18},
        {"batch_size": 64, "n_epochs": 5},
        {"normalize_advantage": False, "clip_range": 0.02, "target_kl": 1e-3, "ent_coef": 0.1},
        RATES,
    ],
}
CASES = [(name, option) for name, options in OPTIONS.items() for option in options]


def build(name, actions, option):
    agent = make_agent(name, SPECS[actions], **BASE | DEFAULTS[name] | option)
    with torch.no_grad():  # a policy that is not the same in all states
        agent.actor.module.net[-1].weight *= 100.0
    return agent


def updated(agent, plain=None):
    """The metrics of each update; the plain one is held against the agent after each."""
    generator, history = torch.Generator().manual_seed(1), []
    for _ in range(UPDATES):
        rollout = make_rollout(agent, generator)
        noise = agent.update_noise(T * N, generator)
        history.append(agent.update_(rollout, noise))
        if plain is not None:
            assert_same_metrics(history[-1], plain.update(rollout, noise))
            assert_same_state(agent, plain)
    return history


@pytest.mark.parametrize("actions", SPECS)
@pytest.mark.parametrize(("name", "option"), CASES, ids=str)
def test_updates_agree_with_the_plain_implementation(name, option, actions):
    agent = build(name, actions, option)
    updated(agent, PLAIN[name](agent))


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_changes_the_result(name):
    # Otherwise the comparison above would not know whether the option does anything.
    results = []
    for option in OPTIONS[name]:
        agent = build(name, "continuous", option)
        updated(agent)
        results.append(torch.cat([p.detach().flatten() for p in agent.actor.parameters]))
    for i, first in enumerate(results):
        for j, second in enumerate(results[:i]):
            assert (first - second).abs().max() > 1e-7, (OPTIONS[name][i], OPTIONS[name][j])


@pytest.mark.parametrize("actions", SPECS)
def test_target_kl_ends_the_passes_where_the_policy_has_moved_too_far(actions):
    generator = torch.Generator().manual_seed(1)
    agent = build("ppo", actions, {})
    rollout, orders = make_rollout(agent, generator), agent.update_noise(T * N, generator)
    plain = PlainPPO(agent)
    plain.update(rollout, orders)
    assert plain.kls == sorted(plain.kls)

    def passes(target_kl):
        agent = build("ppo", actions, {"target_kl": target_kl})
        steps = agent.update_(rollout, orders)["train/gradient_steps"].item()
        return steps / 3, state_of(agent)  # 7, 7 and 4 transitions

    first, second, third = (kl / 1.5 for kl in plain.kls)
    for k, target_kl in ((1, 0.99 * first), (2, 1.01 * first), (2, 0.99 * second), (3, 1.01 * second)):
        assert passes(target_kl)[0] == k
    # Where it is never reached it changes nothing.
    whole = build("ppo", actions, {})
    whole.update_(rollout, orders)
    n_passes, state = passes(1.01 * third)
    assert n_passes == 3
    assert all(torch.equal(value, state[name]) for name, value in state_of(whole).items())


@pytest.mark.parametrize("actions", SPECS)
def test_the_clip_was_reached_in_the_comparison(actions):
    assert max(metrics["train/clip_fraction"] for metrics in updated(build("ppo", actions, {}))) > 0.1
