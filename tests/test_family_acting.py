"""How the agents of the family act: what is deterministic, how exploration is distributed, what is stored."""

import math
from itertools import count

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Normal

from plain import CONTINUOUS, DISCRETE, make_agent
from probes import SMALL, CountingEnv, SpaceEnv, unit_box
from softac import PPO, Model
from softac.agents.ddpg import DDPGAgent
from softac.learning.state import state_of
from softac.types import Moment, Transition

BOUNDED = ("sac_v", "sac_mixture", "gamid_pg", "ddpg", "td3")
DISCRETE_ONLY = ("sac_discrete", "dqn")
ON_POLICY = ("reinforce", "a2c", "ppo")
ALL = [
    *((name, CONTINUOUS) for name in (*BOUNDED, *ON_POLICY)),
    *((name, DISCRETE) for name in (*DISCRETE_ONLY, *ON_POLICY)),
]
NOW = Moment(0)


def agent(name, spec=CONTINUOUS, seed=0, **config):
    return make_agent(name, spec, seed, **{"net_arch": (16, 16)} | config)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def set_outputs(net, *outputs, member=None):
    """Make a network answer `outputs` whatever it is asked."""
    with torch.no_grad():
        weight, bias = net[-1].weight, net[-1].bias
        weight, bias = (weight, bias) if member is None else (weight[member], bias[member, 0])
        weight.zero_()
        bias.copy_(torch.tensor(outputs))


def evenly(counts, probabilities=None):
    """Whether counts may come from the probabilities (uniform ones by default): chi-square at one in 100,000."""
    counts = np.asarray(counts)
    expected = counts.sum() * (np.full(len(counts), 1 / len(counts)) if probabilities is None else probabilities)
    statistic = ((counts - expected) ** 2 / expected).sum()
    return statistic < stats.chi2.ppf(1 - 1e-5, len(counts) - 1)


# All of them


def expected_actions(name, spec, learner, obs):
    """What the agent does without noise, from the outputs of its networks."""
    if name == "dqn":
        return learner.critic.module.net(obs[None])[0].argmax(1, keepdim=True).float()
    if name == "gamid_pg":
        means = torch.stack([learner.actor(obs)[k] for k in range(5)])
        values = torch.stack([learner.target_critic(obs, mu).min(0).values for mu in means])
        return torch.stack([means[values[:, b].argmax(), b] for b in range(len(obs))])
    outputs = learner.actor.module.net(obs)
    if spec.n_actions is not None:
        return outputs.argmax(1, keepdim=True).float()
    if name == "sac_mixture":
        logits, means, log_stds = outputs[:, :4], outputs[:, 4:12].view(-1, 4, 2), outputs[:, 12:].view(-1, 4, 2)
        rows = []
        for w, m, log_std in zip(logits.softmax(1), means, log_stds, strict=True):
            law = Normal(m, log_std.exp())
            density = [(w * law.log_prob(m[k]).sum(1).exp()).sum() for k in range(4)]
            rows.append(m[torch.stack(density).argmax()].tanh())
        return torch.stack(rows)
    if name in ON_POLICY:
        return outputs
    return outputs[:, :2].tanh()


@pytest.mark.parametrize(("name", "spec"), ALL, ids=lambda x: x if isinstance(x, str) else x.actions)
def test_without_noise_the_action_is_the_mode(name, spec):
    learner, obs = agent(name, spec), 3.0 * randn(64, 3)
    action = learner.act(obs, None)
    with torch.no_grad():
        torch.testing.assert_close(action, expected_actions(name, spec, learner, obs))
    assert torch.equal(action, learner.act(obs, None))
    assert len(action.unique(dim=0)) > 1 or spec is DISCRETE


@pytest.mark.parametrize(("name", "spec"), ALL, ids=lambda x: x if isinstance(x, str) else x.actions)
def test_actions_are_rows_of_float32_inside_their_bounds(name, spec):
    learner, generator, obs = agent(name, spec), torch.Generator().manual_seed(0), 10.0 * randn(200, 3)
    for action in (learner.act(obs, None), learner.act(obs, learner.act_noise(200, generator, NOW))):
        assert action.shape == (200, spec.action_dim)
        assert action.dtype == torch.float32
        assert not action.requires_grad
        if spec is DISCRETE:
            assert set(action[:, 0].tolist()) <= {0.0, 1.0, 2.0, 3.0}
        elif name not in ON_POLICY:
            assert action.abs().max() <= 1.0


@pytest.mark.parametrize(("name", "spec"), ALL, ids=lambda x: x if isinstance(x, str) else x.actions)
def test_the_noise_decides_and_the_generator_alone_makes_it(name, spec):
    learner, obs = agent(name, spec), randn(64, 3)

    def drawn(seed):
        return learner.act(obs, learner.act_noise(64, torch.Generator().manual_seed(seed), NOW))

    torch.manual_seed(0)
    first = drawn(0)
    torch.manual_seed(1)
    assert torch.equal(first, drawn(0))
    assert not torch.equal(first, drawn(1))
    assert not torch.equal(first, learner.act(obs, None))


# Policies that are sampled


@pytest.mark.parametrize("name", ["sac_discrete", *ON_POLICY])
def test_discrete_actions_follow_their_probabilities(name):
    learner, generator = agent(name, DISCRETE), torch.Generator().manual_seed(0)
    probabilities = np.array([0.1, 0.2, 0.3, 0.4])
    set_outputs(learner.actor.module.net, *np.log(probabilities).tolist())
    action = learner.act(torch.zeros(20_000, 3), learner.act_noise(20_000, generator, NOW))
    assert evenly(action[:, 0].long().bincount(minlength=4), probabilities)
    assert learner.act(torch.zeros(1, 3), None).tolist() == [[3.0]]


def test_samples_of_the_mixture_follow_its_weights():
    learner, generator = agent("sac_mixture"), torch.Generator().manual_seed(0)
    weights, means = np.array([0.1, 0.2, 0.3, 0.4]), [-0.9, -0.3, 0.3, 0.9]
    stds = [0.01, 0.02, 0.02, 0.04]
    pre_tanh = [math.atanh(mean) for mean in means for _ in range(2)]
    log_stds = [math.log(std) for std in stds for _ in range(2)]
    set_outputs(learner.actor.module.net, *np.log(weights).tolist(), *pre_tanh, *log_stds)
    action = learner.act(torch.zeros(20_000, 3), learner.act_noise(20_000, generator, NOW))
    component = (action[:, :1] - torch.tensor(means)).abs().argmin(1)
    assert evenly(component.bincount(minlength=4), weights)
    for k in range(4):  # and each of them is its Gaussian
        u = action[component == k].atanh().flatten()
        assert abs(u.mean() - math.atanh(means[k])) < 4.5 * stds[k] / len(u) ** 0.5
        assert u.std().item() == pytest.approx(stds[k], rel=4.5 / (2 * len(u)) ** 0.5)
    # The densest is the first: a quarter of the last one's weight, but 16 times as concentrated.
    assert learner.act(torch.zeros(1, 3), None)[0].tolist() == pytest.approx([-0.9, -0.9])


@pytest.mark.parametrize("name", ON_POLICY)
def test_the_stored_action_is_the_one_before_the_environment_cuts_it(name):
    learner, obs = agent(name, log_std_init=0.7), randn(500, 3)
    action = learner.act(obs, learner.act_noise(500, torch.Generator().manual_seed(0), NOW))
    assert (action.abs() > 1.0).float().mean() > 0.4
    with torch.no_grad():
        law = Normal(learner.actor.module.net(obs), math.exp(0.7))
        found = learner.actor(obs).log_prob(action)
        torch.testing.assert_close(found, law.log_prob(action).sum(1))
        assert not torch.allclose(found, law.log_prob(action.clamp(-1.0, 1.0)).sum(1), atol=0.1)


def test_the_rollout_holds_what_the_policy_gave_and_the_environment_gets_it_cut():
    envs = []

    def make():
        envs.append(SpaceEnv(unit_box(2)))
        return envs[-1]

    model = PPO(make, n_steps=64, net_arch=(8,), log_std_init=0.5).learn(60)
    stored = model.training.memory.actions
    assert (abs(stored) > 1.0).mean() > 0.3
    assert np.array_equal(np.array(envs[0].actions), np.clip(stored, -1.0, 1.0))


@pytest.mark.parametrize("name", ON_POLICY)
def test_log_prob_of_a_discrete_action(name):
    learner, obs = agent(name, DISCRETE), randn(50, 3)
    action = learner.act(obs, learner.act_noise(50, torch.Generator().manual_seed(0), NOW))
    with torch.no_grad():
        expected = Categorical(logits=learner.actor.module.net(obs)).log_prob(action[:, 0].long())
        torch.testing.assert_close(learner.actor(obs).log_prob(action), expected)


# Deterministic policies with noise


@pytest.mark.parametrize("name", ["ddpg", "td3"])
def test_gaussian_noise_has_its_standard_deviation_and_no_memory(name):
    learner, generator = agent(name, action_noise_std=0.3), torch.Generator().manual_seed(0)
    first = learner.act_noise(20_000, generator, NOW)
    second = learner.act_noise(20_000, generator, Moment(1, first))
    for noise in (first, second):
        assert abs(noise.mean()) < 4.5 * 0.3 / 200
        assert noise.std().item() == pytest.approx(0.3, rel=4.5 / 283)
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 4.5 / 200


@pytest.mark.parametrize("name", ["ddpg", "td3"])
def test_noise_is_added_and_the_sum_is_cut(name):
    learner, obs = agent(name), randn(64, 3)
    noise = 2.0 * randn(64, 2, seed=1)
    action = learner.act(obs, noise)
    assert torch.equal(action, (learner.act(obs, None) + noise).clamp(-1.0, 1.0))
    assert (action.abs() == 1.0).float().mean() > 0.3
    assert torch.equal(learner.act(obs, torch.zeros(64, 2)), learner.act(obs, None))


@pytest.mark.parametrize(("sigma", "theta"), [(0.1, 0.15), (0.3, 0.5), (0.2, 1.0)])
def test_ornstein_uhlenbeck_noise_against_theory(sigma, theta):
    config = {"action_noise": "ou", "action_noise_std": sigma, "ou_theta": theta}
    learner, generator = agent("ddpg", **config), torch.Generator().manual_seed(0)
    n = 40_000  # processes of two independent coordinates
    noise = torch.zeros(n // 2, 2)  # as at the beginning of an episode
    for t in range(1, 41):
        previous, noise = noise, learner.act_noise(n // 2, generator, Moment(t, noise))
        if t in (1, 2, 3):
            variance = sigma**2 * sum((1 - theta) ** (2 * k) for k in range(t))
            assert noise.std().item() == pytest.approx(variance**0.5, rel=4.5 / (2 * n) ** 0.5)
    assert noise.std().item() == pytest.approx(sigma / (1 - (1 - theta) ** 2) ** 0.5, rel=4.5 / (2 * n) ** 0.5)
    correlation = torch.corrcoef(torch.stack([previous.flatten(), noise.flatten()]))[0, 1].item()
    assert correlation == pytest.approx(1 - theta, abs=4.5 * max(1 - (1 - theta) ** 2, 0.1) / n**0.5)
    # The coordinates have nothing to do with each other.
    assert abs(torch.corrcoef(noise.T)[0, 1]) < 4.5 / (n / 2) ** 0.5


def test_without_a_past_the_process_begins_at_zero():
    learner = agent("ddpg", action_noise="ou")
    none, zero = (
        learner.act_noise(5, torch.Generator().manual_seed(3), moment)
        for moment in (Moment(0), Moment(0, torch.zeros(5, 2)))
    )
    assert torch.equal(none, zero)


class Recording(DDPGAgent):
    def act_noise(self, batch_size, generator, moment):
        noise = super().act_noise(batch_size, generator, moment)
        previous = None if moment.previous is None else moment.previous.clone()
        self.seen = [*getattr(self, "seen", []), (moment.step, previous, noise.clone())]
        return noise


def test_the_process_begins_anew_with_each_episode_of_each_environment():
    lengths, made = (3, 5), count()
    model = Model(
        Recording,
        lambda: CountingEnv(lengths[next(made) % 2], "truncated"),
        n_envs=2,
        action_noise="ou",
        **SMALL | {"learning_starts": 10},
    ).learn(60)
    seen = model.agent.seen
    assert [step for step, _, _ in seen] == list(range(10, 60, 2))
    assert seen[0][1] is None
    beginnings = 0
    for (step, previous, _), (_, _, before) in zip(seen[1:], seen, strict=False):
        for i, length in enumerate(lengths):
            begins = (step // 2) % length == 0
            beginnings += begins
            assert torch.equal(previous[i], torch.zeros(1) if begins else before[i])
    assert beginnings == 8 + 4


# DQN


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {0: 1.0, 1_000: 0.905, 5_000: 0.525, 10_000: 0.05, 10**9: 0.05}),
        ({"exploration_steps": 1, "exploration_final_eps": 0.2}, {0: 1.0, 1: 0.2, 2: 0.2}),
        ({"exploration_steps": 0, "exploration_final_eps": 0.2}, {0: 1.0, 1: 0.2, 2: 0.2}),
        ({"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}, {0: 0.0, 5_000: 0.0, 20_000: 0.0}),
        (
            {"exploration_initial_eps": 0.2, "exploration_final_eps": 0.6, "exploration_steps": 4},
            {0: 0.2, 1: 0.3, 2: 0.4, 4: 0.6, 5: 0.6},
        ),
    ],
    ids=str,
)
def test_epsilon_falls_linearly_over_absolute_steps(config, expected):
    learner = agent("dqn", DISCRETE, **config)
    assert {step: learner.epsilon(step) for step in expected} == pytest.approx(expected)


@pytest.mark.parametrize("step", [0, 2_000, 5_000, 9_000, 20_000])
def test_the_share_of_random_actions_is_epsilon(step):
    learner, n = agent("dqn", DISCRETE), 20_000
    noise = learner.act_noise(n, torch.Generator().manual_seed(step), Moment(step))
    random, epsilon = (noise >= 0.0)[:, 0], learner.epsilon(step)
    assert abs(random.sum() - epsilon * n) <= 4.5 * (n * epsilon * (1.0 - epsilon)) ** 0.5
    assert evenly(noise[random, 0].long().bincount(minlength=4))  # all four, the best one among them
    # Where there is no random action there is the best one.
    obs = randn(n, 3)
    action, best = learner.act(obs, noise), learner.act(obs, None)
    assert torch.equal(action, torch.where(random[:, None], noise, best))
    assert torch.equal(noise[~random], torch.full_like(noise[~random], -1.0))


# Gamid-PG


def spread(n_components=5, **config):
    """An agent whose components are apart and whose critics prefer the last but one, in every state."""
    learner = agent("gamid_pg", n_components=n_components, action_noise_std=1e-4, **config)
    means = torch.linspace(-0.8, 0.8, n_components)
    for k, mean in enumerate(means):
        set_outputs(learner.actor.module.net, math.atanh(mean), 0.0, member=k)
    with torch.no_grad():
        # Q(s, a) = -|a_1 - preferred|, by two units of the first layer that the second hands on.
        for p in learner.target_critic.parameters():
            p.zero_()
        net = learner.target_critic.net
        for unit, sign in enumerate((1.0, -1.0)):
            net[0].weight[:, 3, unit] = sign
            net[0].bias[:, 0, unit] = -sign * means[-2]
            net[2].weight[:, unit, unit] = 1.0
            net[4].weight[:, unit, 0] = -1.0
    return learner, means


def component_of(action, means):
    distance = (action[:, :1] - means).abs()
    assert distance.min(1).values.max() < 1e-3
    return distance.argmin(1)


@pytest.mark.parametrize("n_envs", [1, 1_000])
def test_exploration_draws_every_component_equally_often_also_in_one_environment(n_envs):
    # The published code drew an index below the number of environments: with one, always the first component.
    learner, means = spread(exploration_eps=1.0)
    generator, obs = torch.Generator().manual_seed(0), torch.zeros(n_envs, 3)
    actions = [learner.act(obs, learner.act_noise(n_envs, generator, NOW)) for _ in range(1_000 // n_envs)]
    assert evenly(component_of(torch.cat(actions), means).bincount(minlength=5))


def test_without_exploration_the_preferred_component_acts():
    learner, means = spread(exploration_eps=0.0)
    obs = randn(2_000, 3)
    noise = learner.act_noise(2_000, torch.Generator().manual_seed(0), NOW)
    action = learner.act(obs, noise)
    assert (component_of(action, means) == 3).all()
    assert (component_of(learner.act(obs, None), means) == 3).all()
    # The Gaussian around it is the same as around any other.
    assert (action - learner.act(obs, None)).std().item() == pytest.approx(1e-4, rel=0.1)


def test_the_share_of_random_components_is_exploration_eps():
    learner, means = spread(exploration_eps=0.4)
    noise = learner.act_noise(20_000, torch.Generator().manual_seed(0), NOW)
    counts = component_of(learner.act(torch.zeros(20_000, 3), noise), means).bincount(minlength=5)
    assert evenly(counts, np.array([0.08, 0.08, 0.08, 0.68, 0.08]))  # the preferred one is drawn at random, too


def test_the_noise_of_a_component_is_cut_at_the_bounds():
    learner = agent("gamid_pg", action_noise_std=2.0)
    obs = randn(500, 3)
    action = learner.act(obs, learner.act_noise(500, torch.Generator().manual_seed(0), NOW))
    assert (action.abs() == 1.0).float().mean() > 0.3


def flat(**config):
    """A Gamid-PG agent whose critics say 0 everywhere, and a batch that does not change their mind."""
    learner = agent("gamid_pg", policy_delay=1, action_noise_std=0.3, n_components=4, learning_rate=1e-3, **config)
    for critic in (learner.critic.module, learner.target_critic):
        for member in range(2):
            set_outputs(critic.net, 0.0, member=member)
    zero = torch.zeros(32)
    return learner, Transition(randn(32, 3), randn(32, 2, seed=1).tanh(), zero, zero, randn(32, 3, seed=2))


def distance(learner, obs):
    with torch.no_grad():
        mu = learner.actor(obs)
    return (mu.unsqueeze(0) - mu.unsqueeze(1)).norm(dim=-1).mean().item()


def test_entropy_pushes_the_components_apart():
    # The published code has the sign of the pull: its loss grows with the distance.
    learner, batch = flat(ent_coef=0.1)
    distances, entropies = [distance(learner, batch.obs)], []
    for seed in range(20):
        entropies.append(learner.update_(batch, randn(32, 2, seed=seed))["train/entropy"].item())
        distances.append(distance(learner, batch.obs))
    assert distances == sorted(distances)
    assert entropies == sorted(entropies)
    assert distances[-1] > 1.3 * distances[0]
    assert entropies[-1] < math.log(4) + 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.3))


def test_without_entropy_and_with_flat_critics_the_components_stay():
    learner, batch = flat(ent_coef=0.0)
    before = learner.actor.module.state_dict()
    before = {k: v.clone() for k, v in before.items()}
    learner.update_(batch, randn(32, 2))
    assert all(torch.equal(value, before[k]) for k, value in learner.actor.module.state_dict().items())


def test_equal_components_give_no_nan_and_almost_equal_ones_part():
    for offset in (0.0, 1e-6):
        learner, batch = flat(ent_coef=0.1)
        with torch.no_grad():
            for p in learner.actor.parameters:
                p.copy_(p[:1].expand_as(p))
            learner.actor.module.net[-1].bias[1] += offset
        for seed in range(30):
            learner.update_(batch, randn(32, 2, seed=seed))
        assert all(value.isfinite().all() for value in state_of(learner).values())
        apart = distance(learner, batch.obs)
        assert apart == 0.0 if offset == 0.0 else apart > 1e-3
