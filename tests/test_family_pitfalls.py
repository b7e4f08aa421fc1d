"""The known ways to get the algorithms beside SAC almost right."""

import math
import re

import pytest
import torch

import softac
from plain import CONTINUOUS, DISCRETE, make_agent
from softac.agents.sac_discrete import feasible_target_entropy
from softac.errors import ConfigError
from softac.learning.parts import learners
from softac.learning.state import state_of
from softac.types import EnvSpec, Rollout, Transition

OFF_POLICY = ("sac", "sac_v", "sac_discrete", "sac_mixture", "gamid_pg", "ddpg", "td3", "dqn")
ON_POLICY = {
    "reinforce": {"baseline": "value", "value_steps": 1},
    "a2c": {},
    "ppo": {"gae_lambda": 1.0, "normalize_advantage": False, "n_epochs": 1},
}
SMALL = {"net_arch": (8, 6)}


def spec_of(name):
    return DISCRETE if name in ("sac_discrete", "dqn") else CONTINUOUS


def agent(name, spec=None, seed=0, **config):
    return make_agent(name, spec or spec_of(name), seed, **SMALL | config)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch(name, size=16, seed=0, discount=0.9):
    generator = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn(2, size, 3, generator=generator)
    action = torch.randn(size, 2, generator=generator).tanh()
    if spec_of(name) is DISCRETE:
        action = torch.randint(4, (size, 1), generator=generator).to(obs.dtype)
    return Transition(obs, action, torch.randn(size, generator=generator), torch.full((size,), discount), next_obs)


def rollout(learner, T=6, N=2, seed=0):
    """Steps in one long episode, with the agent's own actions."""
    generator = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn(2, T, N, 3, generator=generator)
    action = torch.stack([learner.act(row, learner.act_noise(N, generator, None)) for row in obs])
    return Rollout(obs, action, randn(T, N), torch.full((T, N), 0.9), next_obs, torch.ones(T, N))


def one_update(learner, name, seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    if name in OFF_POLICY:
        data, size = batch(name, seed=seed), 16
    else:
        data, size = rollout(learner, seed=seed), 12
    return learner.update_(data._replace(**changes), learner.update_noise(size, generator))


def set_outputs(net, *outputs):
    """Make a network answer `outputs` whatever it is asked."""
    with torch.no_grad():
        net[-1].weight.zero_()
        net[-1].bias.copy_(torch.tensor(outputs).view_as(net[-1].bias))


# Truncation is not termination

V = 10.0
LOG_PROB = -math.log(2 * math.pi)  # of the action 0 in two dimensions, under N(0, 1)


def two_steps(name, ending):
    """The metrics of a rollout of two steps with rewards 1 and 2, gamma 0.9 and a V that says 10 everywhere."""
    learner = agent(name, **ON_POLICY[name])
    set_outputs(learner.critic.module.net, V)
    set_outputs(learner.actor.module.net, 0.0, 0.0)
    reward, discount = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.9], [0.9 if ending == "truncated" else 0.0]])
    data = Rollout(
        randn(2, 1, 3), torch.zeros(2, 1, 2), reward, discount, randn(2, 1, 3), torch.tensor([[1.0], [0.0]])
    )
    return learner.update_(data, learner.update_noise(2, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("ending", "advantages"),
    [
        # TD errors 1 + 9 - 10 = 0 and 2 + 9 - 10 = 1; the second counts 0.9 for the first step.
        ("truncated", (0.9, 1.0)),
        # TD errors 0 and 2 - 10 = -8.
        ("terminated", (-7.2, -8.0)),
    ],
)
@pytest.mark.parametrize("name", ON_POLICY)
def test_truncation_bootstraps_and_termination_does_not(name, ending, advantages):
    metrics = two_steps(name, ending)
    mean = sum(advantages) / 2
    score = -mean if name == "ppo" else -mean * LOG_PROB
    assert metrics["train/policy_gradient_loss"].item() == pytest.approx(score, rel=1e-5)
    # The target is V + A, so the error of V is A.
    assert metrics["train/value_loss"].item() == pytest.approx(sum(A * A for A in advantages) / 4, rel=1e-5)


@pytest.mark.parametrize("ending", ["truncated", "terminated"])
@pytest.mark.parametrize(("baseline", "advantages"), [("none", (2.8, 2.0)), ("mean", (0.4, -0.4))])
def test_without_a_value_there_is_nothing_to_bootstrap_from(baseline, advantages, ending):
    learner = agent("reinforce", baseline=baseline)
    set_outputs(learner.actor.module.net, 0.0, 0.0)
    discount = torch.tensor([[0.9], [0.9 if ending == "truncated" else 0.0]])
    action = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])  # log-probabilities LOG_PROB and LOG_PROB - 1
    data = Rollout(
        randn(2, 1, 3),
        action,
        torch.tensor([[1.0], [2.0]]),
        discount,
        randn(2, 1, 3),
        torch.tensor([[1.0], [0.0]]),
    )
    metrics = learner.update_(data, None)
    expected = -(LOG_PROB * advantages[0] + (LOG_PROB - 1.0) * advantages[1]) / 2
    assert metrics["train/policy_gradient_loss"].item() == pytest.approx(expected, rel=1e-5)
    assert metrics["train/known_returns"].item() == 1.0


def test_dqn_bootstraps_from_a_truncated_step_and_not_from_a_terminated_one():
    learner = agent("dqn")
    set_outputs(learner.target_critic.net, 1.0, 3.0, 7.0, 5.0)
    data = batch("dqn", 2)._replace(reward=torch.tensor([1.0, 2.0]), discount=torch.tensor([0.9, 0.0]))
    # 1 + 0.9 7 = 7.3 and 2.
    assert learner.update_(data, None)["train/target_q_mean"].item() == pytest.approx((7.3 + 2.0) / 2)


@pytest.mark.parametrize("name", OFF_POLICY)
def test_a_terminal_state_has_neither_value_nor_entropy(name):
    scale = 5.0 if name == "sac_v" else 1.0
    rewards = batch(name).reward
    found = [one_update(agent(name), name, discount=torch.full((16,), d)) for d in (0.0, 0.9)]
    ended, goes_on = (metrics["train/target_q_mean"].item() for metrics in found)
    assert ended == pytest.approx(scale * rewards.mean().item(), rel=1e-5)
    assert abs(goes_on - ended) > 1e-3


# Rollouts


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("ending", ["truncated", "terminated"])
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("reinforce", {"baseline": "none"}),
        ("reinforce", {"baseline": "mean"}),
        ("reinforce", {"baseline": "value", "gae_lambda": 0.97}),
        ("a2c", {}),
        ("ppo", {"batch_size": 6, "n_epochs": 2}),
    ],
    ids=str,
)
def test_episodes_teach_the_same_one_after_the_other_as_side_by_side(name, config, ending):
    def after(side_by_side, leak=False):
        learner = agent(name, **config, learning_rate=1e-2)
        data = rollout(learner, 6, 1)
        data.continues[2] = 0.0
        data.discount[2] = 0.9 if ending == "truncated" else 0.0
        if leak:
            data.continues[2] = 1.0
        if side_by_side:
            data = Rollout(*(torch.stack((x[:3, 0], x[3:, 0]), 1) for x in data))
        learner.update_(data, learner.update_noise(6, torch.Generator().manual_seed(0)))
        return torch.cat([p.detach().flatten() for p in learner.actor.parameters])

    torch.testing.assert_close(after(False), after(True), rtol=1e-9, atol=1e-12)
    if ending == "truncated" or config.get("baseline") in ("none", "mean"):
        # Elsewhere the discount of a terminated step stops everything on its own.
        assert (after(False, leak=True) - after(False)).abs().max() > 1e-6


@pytest.mark.parametrize("baseline", ["none", "mean"])
def test_reinforce_learns_nothing_from_a_rollout_in_which_no_episode_ended(baseline):
    learner = agent("reinforce", baseline=baseline, learning_rate=1e-2)
    before = state_of(learner)
    metrics = one_update(learner, "reinforce")
    assert metrics["train/known_returns"].item() == 0.0
    assert metrics["train/policy_gradient_loss"].item() == 0.0
    for name, value in state_of(learner).items():
        assert torch.equal(value, before[name]), name
    # Nor later: Adam's momentum, of which there is some by now, moves nothing.
    ended = torch.ones(6, 2)
    ended[-1] = 0.0
    one_update(learner, "reinforce", continues=ended)
    assert learner.actor.exp_avgs[0].abs().max() > 0.0
    before = state_of(learner)
    for seed in range(5):
        metrics = one_update(learner, "reinforce", seed)
        assert all(value.isfinite() for value in metrics.values())
        assert metrics["train/entropy"] > 0.0
    for name, value in state_of(learner).items():
        assert torch.equal(value, before[name]), name
    one_update(learner, "reinforce", continues=ended)
    assert not torch.equal(learner.actor.parameters[0], before["actor.net.0.weight"])


def test_reinforce_counts_only_steps_whose_return_is_known():
    # Of the second episode the return is not known: whatever is in it changes nothing.
    def after(change):
        learner = agent("reinforce", baseline="mean")
        data = rollout(learner, 6, 1)
        data.continues[2] = 0.0
        data.reward[3:] += change
        learner.update_(data, None)
        return torch.cat([p.detach().flatten() for p in learner.actor.parameters])

    assert torch.equal(after(0.0), after(1000.0))


# PPO


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE], ids=lambda spec: spec.actions)
def test_the_ratio_is_one_in_the_first_minibatch_and_is_never_renewed(spec):
    learner = agent("ppo", spec)
    data = rollout(learner, 6, 2)
    s, a = data.obs.flatten(0, 1), data.action.flatten(0, 1)
    orders = learner.update_noise(12, torch.Generator().manual_seed(0))

    def trained(passes):
        """One gradient step a pass."""
        config = {"batch_size": 12, "n_epochs": passes, "normalize_advantage": False, "clip_range": 0.01}
        each = agent("ppo", spec, learning_rate=1e-2, **config)
        metrics = each.update_(data, orders[:passes])
        with torch.no_grad():
            return metrics, each.actor(s).log_prob(a)

    with torch.no_grad():
        old = learner.actor(s).log_prob(a)
    first, after_one = trained(1)
    assert first["train/approx_kl"].abs() < 1e-14
    assert first["train/clip_fraction"] == 0.0
    # The ratio of the later passes is to the policy of the rollout, not to that of the pass before.
    _, after_two = trained(2)
    third, _ = trained(3)
    moved = [0.0 * old, after_one - old, after_two - old]
    kl = sum((x.exp() - 1.0 - x).mean() for x in moved) / 3
    assert third["train/approx_kl"].item() == pytest.approx(kl.item(), rel=1e-9)
    clipped = sum(((x.exp() - 1.0).abs() > 0.01).double().mean() for x in moved) / 3
    assert third["train/clip_fraction"].item() == pytest.approx(clipped.item(), rel=1e-6)
    assert clipped > 0.1


@pytest.mark.parametrize("normalize", [True, False])
def test_advantages_are_normalised_in_each_minibatch(normalize):
    # Rewards 5 and 1 with V = 0 and gamma 0: advantages 5, 5, 1, 1. Within (5, 5) and within (1, 1) there is
    # nothing to prefer; over the whole rollout there would be.
    learner = agent("ppo", batch_size=2, n_epochs=1, normalize_advantage=normalize)
    set_outputs(learner.critic.module.net, 0.0)
    learner.critic.learning_rate = 1e-30
    data = rollout(learner, 4, 1)._replace(
        reward=torch.tensor([[5.0], [5.0], [1.0], [1.0]]), discount=torch.zeros(4, 1), continues=torch.zeros(4, 1)
    )
    before = [p.detach().clone() for p in learner.actor.parameters]
    learner.update_(data, torch.tensor([[0, 1, 2, 3]]))
    still = all(map(torch.equal, before, learner.actor.parameters))
    assert still == normalize
    learner.update_(data, torch.tensor([[0, 2, 1, 3]]))  # a 5 and a 1 in each
    assert not any(map(torch.equal, before, learner.actor.parameters))


@pytest.mark.parametrize(
    ("normalize", "sizes"), [(True, [[4, 5], [3], [4, 4]]), (False, [[1, 4, 4], [3], [4, 4]])]
)
def test_no_minibatch_has_a_single_advantage_where_it_would_be_0(normalize, sizes, monkeypatch):
    learner = agent("ppo", batch_size=4, n_epochs=1, normalize_advantage=normalize)
    seen = []
    descend = learner._descend
    monkeypatch.setattr(learner, "_descend", lambda *batch: seen.append(len(batch[0])) or descend(*batch))
    for n, expected in zip((9, 3, 8), sizes, strict=True):
        learner.update_(rollout(learner, n, 1), learner.update_noise(n, torch.Generator().manual_seed(0)))
        assert sorted(seen) == expected
        seen.clear()


def test_a_rollout_of_one_transition_is_refused():
    text = (
        "n_steps=1 was given with one environment and normalize_advantage=True; expected at least 2 steps in a "
        "rollout, since a single advantage less its mean is 0; raise n_steps or set normalize_advantage=False"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        softac.PPO("CartPole-v1", n_steps=1, net_arch=(8,)).learn(5)
    assert softac.PPO("CartPole-v1", n_steps=1, net_arch=(8,), n_envs=2).learn(4).training.updates == 2
    allowed = softac.PPO("CartPole-v1", n_steps=1, net_arch=(8,), normalize_advantage=False).learn(4)
    assert allowed.training.updates == 4


def test_a_mean_of_one_return_is_refused_as_a_baseline():
    text = (
        'n_steps=1 was given with one environment and baseline="mean"; expected at least 2 steps in a rollout, '
        'since a single return less its mean is 0; raise n_steps or choose baseline="none"'
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        softac.REINFORCE("CartPole-v1", n_steps=1, baseline="mean", net_arch=(8,)).learn(5)
    assert softac.REINFORCE("CartPole-v1", n_steps=1, net_arch=(8,)).learn(4).training.updates == 4


# DQN


@pytest.mark.parametrize(("double", "expected"), [(False, 1.0 + 0.5 * 7.0), (True, 1.0 + 0.5 * 2.0)])
def test_double_lets_the_online_critic_choose_and_the_target_rate(double, expected):
    learner = agent("dqn", double=double)
    set_outputs(learner.critic.module.net, 0.0, 9.0, 0.0, 0.0)
    set_outputs(learner.target_critic.net, 7.0, 2.0, 0.0, 0.0)
    data = batch("dqn", discount=0.5)._replace(reward=torch.ones(16))
    assert learner.update_(data, None)["train/target_q_mean"].item() == pytest.approx(expected)


def test_dueling_is_identifiable():
    # Q = V + advantage - mean advantage: the mean of Q is V, and adding to all advantages adds nothing.
    learner, obs = agent("dqn", dueling=True), randn(16, 3)
    net = learner.critic.module.net
    with torch.no_grad():
        q, outputs = learner.critic(obs)[0], net(obs[None])[0]
        assert outputs.shape == (16, 5)
        torch.testing.assert_close(q.mean(1), outputs[:, 0])
        torch.testing.assert_close(q - q.mean(1, keepdim=True), outputs[:, 1:] - outputs[:, 1:].mean(1, True))
        net[-1].bias[..., 1:] += 3.0
        torch.testing.assert_close(learner.critic(obs)[0], q)
        net[-1].bias[..., 0] += 3.0
        torch.testing.assert_close(learner.critic(obs)[0], q + 3.0)


def test_the_error_of_dqn_is_clipped():
    # An error of 1000 in one sample of 16 moves the loss by 999.5 / 16, not by half of its square.
    learner = agent("dqn")
    set_outputs(learner.critic.module.net, 0.0, 0.0, 0.0, 0.0)
    reward = torch.zeros(16)
    reward[3] = 1000.0
    loss = learner.update_(batch("dqn", discount=0.0)._replace(reward=reward), None)["train/loss"]
    assert loss.item() == pytest.approx(999.5 / 16)


# The target entropy of discrete actions


@pytest.mark.parametrize("n", [2, 4, 1000])
@pytest.mark.parametrize("value", ["0", "log n", "beyond", "negative"])
def test_a_target_entropy_that_no_policy_has_is_refused(value, n):
    nats = {"0": 0.0, "log n": math.log(n), "beyond": math.log(n) + 1.0, "negative": -1.0}[value]
    text = (
        f"target_entropy={nats} was given for {n} discrete actions; expected nats above 0 and below log({n}) = "
        f"{math.log(n):.3f}, that of the uniform policy; leave it out for half of that"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        agent("sac_discrete", EnvSpec(3, 1, n), target_entropy=nats)


def test_the_default_target_entropy_is_one_that_policies_have():
    for n in range(2, 1001):
        assert feasible_target_entropy("auto", n) == math.log(n) / 2
        assert 0.0 < feasible_target_entropy("auto", n) < math.log(n)
    assert agent("sac_discrete", EnvSpec(3, 1, 2)).temperature.target_entropy == pytest.approx(0.3466, abs=1e-4)


@pytest.mark.parametrize("config", [{}, {"target_entropy": 0.1}, {"ent_coef": 0.2}], ids=str)
def test_a_single_action_has_no_entropy(config):
    text = (
        "there is 1 discrete action, whose only policy has entropy 0; expected at least 2, between which a policy "
        "can be undecided; give the environment a choice, or take dqn"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        agent("sac_discrete", EnvSpec(3, 1, 1), **config)


# Who touches what


@pytest.mark.parametrize(
    ("name", "config"),
    [
        *((name, {}) for name in (*OFF_POLICY, *ON_POLICY)),
        ("reinforce", ON_POLICY["reinforce"]),
        ("sac_v", {"actor_gradient": "score_function"}),
        ("sac_mixture", {"actor_gradient": "score_function"}),
    ],
    ids=str,
)
def test_each_step_moves_one_learner_and_nothing_else(name, config):
    learner = agent(name, **config)
    steps = []

    def watched(part, descend):
        def watching(*arguments):
            before = state_of(learner)
            descend(*arguments)
            after = state_of(learner)
            own = (f"{part}.", f"optim.{part}.")
            for key, value in after.items():
                if not key.startswith(own):
                    assert torch.equal(value, before[key]), f"the step of the {part} moved {key}"
            assert any(not torch.equal(after[k], v) for k, v in before.items() if k.startswith(own[0]))
            steps.append(part)

        return watching

    parts = [p for p in ("actor", "critic", "value", "temperature") if getattr(learner, p, None) is not None]
    for part in parts:
        each = getattr(learner, part)
        each.descend = watched(part, each.descend)
    changes = {} if name in OFF_POLICY else {"continues": torch.zeros(6, 2)}
    for seed in range(2):  # of which one is the delayed update
        one_update(learner, name, seed, **changes)
    assert set(steps) == set(parts)


@pytest.mark.parametrize("name", [*OFF_POLICY, *ON_POLICY])
def test_updates_leave_no_gradient_behind_and_targets_have_none(name):
    learner = agent(name)
    for seed in range(2):
        one_update(learner, name, seed)
    for part in learners(learner):
        for p in part.parameters:
            assert p.requires_grad
            assert p.grad is None
    targets = [n for n in ("target_actor", "target_critic", "target_value") if hasattr(learner, n)]
    assert bool(targets) == (name in OFF_POLICY)
    for target in targets:
        for p in getattr(learner, target).parameters():
            assert not p.requires_grad
            assert p.grad is None


@pytest.mark.parametrize("name", OFF_POLICY)
def test_targets_begin_as_copies_of_their_own(name):
    learner = agent(name)
    state = state_of(learner)
    targets = [k for k in state if k.startswith("target_")]
    assert targets
    for key in targets:
        assert torch.equal(state[key], state[key.removeprefix("target_")])
    one_update(learner, name)
    for part in ("actor", "critic", "value"):
        if hasattr(learner, f"target_{part}"):
            online = {p.data_ptr() for p in getattr(learner, part).parameters}
            assert online.isdisjoint(p.data_ptr() for p in getattr(learner, f"target_{part}").parameters())


@pytest.mark.parametrize("name", [*OFF_POLICY, *ON_POLICY])
def test_an_update_is_a_function_of_state_data_and_noise(name):
    ends = []
    for global_seed in range(2):
        torch.manual_seed(global_seed)
        learner = agent(name)
        for seed in range(2):
            one_update(learner, name, seed)
        ends.append(state_of(learner))
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


# Contradictions


def never():
    raise AssertionError("an environment was made")


CONTRADICTIONS = [
    *(
        (
            model,
            {"batch_size": 100, "buffer_size": 50},
            "batch_size=100 was given with buffer_size=50; expected a batch no larger than the replay; lower "
            "batch_size or raise buffer_size",
        )
        for model in ("SACV", "SACDiscrete", "SACMixture", "GamidPG", "DDPG", "TD3", "DQN")
    ),
    *(
        (
            "REINFORCE",
            {"gae_lambda": 0.9} | baseline,
            f'gae_lambda=0.9 was given with baseline="{baseline.get("baseline", "none")}"; expected 1, the whole '
            'reward to go, where no V is learned; leave gae_lambda out or choose baseline="value"',
        )
        for baseline in ({}, {"baseline": "none"}, {"baseline": "mean"})
    ),
    (
        "PPO",
        {"batch_size": 1},
        "batch_size=1 was given with normalize_advantage=True; expected at least 2, since a single advantage less "
        "its mean is 0 and the actor would not move; raise batch_size or set normalize_advantage=False",
    ),
]


@pytest.mark.parametrize(("model", "config", "text"), CONTRADICTIONS, ids=str)
def test_options_that_contradict_each_other_are_refused_before_an_environment_is_made(model, config, text):
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        getattr(softac, model)(never, **config)


def test_options_that_go_together_are_not():
    assert agent("reinforce", baseline="value", gae_lambda=0.9).config.gae_lambda == 0.9
    assert agent("reinforce", baseline="mean", gae_lambda=1.0).config.baseline == "mean"
    assert agent("ppo", batch_size=1, normalize_advantage=False).config.batch_size == 1


ANY_TEMPERATURE = '"auto", "auto_0.1" (its initial value, >= 1e-30) or a number >= 0 and <= 1e+06'
OR_SCHEDULE = ', or "linear START END STEPS" or "cosine START END STEPS" of such or 0'


@pytest.mark.parametrize(
    ("model", "name", "value", "expected"),
    [
        ("SACV", "actor_gradient", "likelihood", '"pathwise" or "score_function"'),
        ("SACV", "ent_coef", "auto", "a number >= 0 and <= 1e+06"),
        ("SACV", "reward_scale", 0, "a number > 0 and <= 1e+06"),
        ("SACDiscrete", "target_entropy", "half", '"auto" or a number of nats between 0 and log(n actions)'),
        ("SACDiscrete", "ent_coef", -1, ANY_TEMPERATURE),
        *(
            ("SAC", "ent_coef", value, ANY_TEMPERATURE)
            for value in (1e39, "1e7", "auto_1e39", "auto_1e-320", "auto_0", "auto_nan")
        ),
        ("SACMixture", "actor_gradient", "pathwise", '"marginalised" or "score_function"'),
        ("SACMixture", "n_components", 0, "a whole number >= 1 and <= 64"),
        ("GamidPG", "action_noise_std", 0, "a number > 0 and <= 1e+06"),
        ("GamidPG", "exploration_eps", 1.1, "a number >= 0 and <= 1" + OR_SCHEDULE),
        ("DDPG", "action_noise", "pink", '"gaussian" or "ou"'),
        ("DDPG", "ou_theta", 1.5, "a number >= 0 and <= 1"),
        ("DDPG", "action_noise_std", -0.1, "a number >= 0 and <= 1e+06" + OR_SCHEDULE),
        ("TD3", "policy_delay", 0, "a whole number >= 1 and <= 1e+09"),
        ("TD3", "target_noise_clip", -0.5, "a number >= 0 and <= 1e+06"),
        ("DQN", "double", "perhaps", "true or false"),
        ("DQN", "exploration_steps", -1, "a whole number >= 0 and <= 1e+12"),
        ("DQN", "exploration_final_eps", 1.01, "a number >= 0 and <= 1"),
        ("REINFORCE", "baseline", "median", '"none" or "mean" or "value"'),
        ("REINFORCE", "value_steps", 0, "a whole number >= 1 and <= 10000"),
        ("A2C", "gae_lambda", 1.1, "a number >= 0 and <= 1"),
        ("A2C", "max_grad_norm", 0, "a number > 0 and <= 1e+06"),
        ("PPO", "clip_range", 1, "a number > 0 and < 1" + OR_SCHEDULE),
        ("PPO", "target_kl", 0, "a number > 0 and <= 100"),
        ("PPO", "normalize_advantage", "perhaps", "true or false"),
        ("PPO", "log_std_init", 3, "a number >= -10 and <= 2"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_before_an_environment_is_made(model, name, value, expected):
    text = f"{name}={value!r} was given; expected {expected}; leave it out for the default "
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}[^;]+$"):
        getattr(softac, model)(never, **{name: value})
