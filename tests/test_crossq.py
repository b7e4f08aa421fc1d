"""CrossQ and XQC: the whole update against a plain implementation in float64, their parts, and what they refuse.

The plain one takes nothing from the library but the initial tensors: batch norm is PyTorch's function, running
statistics, rows of norm 1, the reward scale and the projection onto the atoms are written out.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from plain import CONTINUOUS, assert_same_metrics, assert_same_state, make_agent
from softac import SAC, XQC, CrossQ
from softac.agents.crossq import CrossQAgent, CrossQConfig, XQCConfig
from softac.config import make_config
from softac.equations.losses import categorical_q_loss, categorical_soft_q_target
from softac.errors import ConfigError
from softac.learning.state import state_of
from softac.nets.layers import round_hidden_products
from softac.nets.normalised import BATCH, RUNNING, BatchNorm, NormalisedCritic, RewardScale, project_
from softac.types import Moment, Transition
from test_off_policy_updates import OffPolicy, make_batch, minus_slope

UPDATES = 7
BASE = {"learning_rate": 1e-2, "net_arch": (8, 6), "batch_size": 16}
CATEGORIES = {"n_atoms": 11, "value_scale": 2.0}
TARGETS = {"target_network": True, "tau": 0.1}


class PlainCrossQ(OffPolicy):
    """Algorithm 1 of arXiv:1902.05605 with rows of norm 1, scaled rewards, and the critic of arXiv:2509.25174."""

    def __init__(self, agent: CrossQAgent) -> None:
        learned = ("temperature",) if isinstance(agent.config.ent_coef, str) else ()
        super().__init__(agent, "actor", "critic", *learned)
        c = self.config
        v_max = c.v_max or 5.0
        self.z = [-v_max + 2.0 * v_max * k / (c.n_atoms - 1) for k in range(c.n_atoms)] if c.n_atoms > 1 else [0.0]

    def outputs(self, name: str, x: Tensor, batch: bool, member: int | None = None, move: bool = False) -> Tensor:
        """`[B, out]` of a normalised network, member by member; `move` its running statistics."""
        last = max(int(k.split(".")[2]) for k in self.of(name))
        for i in range(last + 1):
            at = {k.split(".")[3]: v for k, v in self.of(name).items() if k.split(".")[2] == str(i)}
            if member is not None:
                at = {k: v[member] for k, v in at.items()}
            if "running_mean" in at:
                mean, var = at["running_mean"][0].clone(), at["running_var"][0].clone()
                if move:
                    at["running_mean"][0] = 0.99 * mean + 0.01 * x.detach().mean(0)
                    at["running_var"][0] = 0.99 * var + 0.01 * x.detach().var(0, correction=0)
                gain, bias = (at["gain"][0], at["bias"][0]) if i > 0 else (None, None)
                stats = (None, None) if batch else (mean, var)
                x = functional.batch_norm(x, *stats, gain, bias, training=batch, eps=1e-3)
                x = torch.relu(x) if i > 0 else x
            elif "weight" in at:
                x = x @ at["weight"] + (at["bias"].reshape(-1) if i == last else 0.0)
        return x

    def project(self, name: str) -> None:
        for k, w in self.of(name).items():
            if k.endswith(".weight"):
                w.data /= w.data.square().sum(-2, keepdim=True).sqrt()

    def policy(self, s: Tensor, noise: Tensor, batch: bool) -> tuple[Tensor, Tensor]:
        mean, log_std = self.outputs("actor", s, batch, move=batch).chunk(2, 1)
        law = torch.distributions.Normal(mean, log_std.clamp(-10, 2).exp())
        u = law.mean + law.stddev * noise
        return u.tanh(), law.log_prob(u).sum(1) + minus_slope(u)

    def value(self, outputs: Tensor) -> Tensor:
        return outputs[:, 0] if len(self.z) == 1 else (outputs.softmax(1) * torch.tensor(self.z)).sum(1)

    def projected(self, believed: Tensor, rho: float, discount: float, bonus: float) -> Tensor:
        """Algorithm 1 of arXiv:1707.06887 for one transition."""
        target, gap = torch.zeros(len(self.z)), self.z[1] - self.z[0]
        for p, z in zip(believed, self.z, strict=True):
            b = (min(max(rho + discount * (z + bonus), self.z[0]), self.z[-1]) - self.z[0]) / gap
            below = min(math.floor(b), len(self.z) - 2)
            target[below] += p * (below + 1 - b)
            target[below + 1] += p * (b - below)
        return target

    def update(self, batch: Transition, noise: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        c, (s, a, r, discount, s2) = self.config, batch
        n, alpha, t = c.n_critics, self.alpha(), self.tensors
        t["reward_scale.mean_square"] = 0.999 * t["reward_scale.mean_square"] + 0.001 * (r**2).mean()
        t["reward_scale.weight"] = 0.999 * t["reward_scale.weight"] + 0.001
        rms = (t["reward_scale.mean_square"] / t["reward_scale.weight"]).sqrt()
        scale = c.value_scale * (1 - c.gamma**c.n_steps) / rms if rms > 0 else torch.tensor(1.0)

        with torch.no_grad():
            a2, log_prob2 = self.policy(s2, noise[1], batch=False)
        both = torch.cat([torch.cat([s, a], 1), torch.cat([s2, a2], 1)])
        heads = [self.outputs("critic", both, True, i, move=True) for i in range(n)]
        later = [h[len(s) :].detach() for h in heads]
        if c.target_network:
            with torch.no_grad():
                later = [self.outputs("target_critic", both, True, i, move=True)[len(s) :] for i in range(n)]
        values = torch.stack([self.value(h) for h in later])
        if c.n_atoms == 1:
            y = scale * r + discount * (values.min(0).values - alpha * log_prob2)
            critic_loss = sum(((h[: len(s), 0] - y) ** 2).mean() / 2 for h in heads)
        else:
            y = torch.stack(
                [
                    self.projected(later[int(values[:, b].argmin())][b].softmax(0), x, d, -alpha * lp)
                    for b, (x, d, lp) in enumerate(
                        zip((scale * r).tolist(), discount.tolist(), log_prob2.tolist(), strict=True)
                    )
                ]
            )
            critic_loss = sum(functional.cross_entropy(h[: len(s)], y) for h in heads)
        q_mean = torch.stack([self.value(h[: len(s)]) for h in heads]).mean() / scale
        self.descend("critic", critic_loss)
        self.project("critic")
        if c.target_network:
            for k in self.learned("target_critic"):
                online = t["critic" + k.removeprefix("target_critic")].detach()
                t[k] = t[k] + (c.tau or 0.005) * (online - t[k])
        metrics = {
            "train/critic_loss": critic_loss.detach(),
            "train/ent_coef": alpha,
            "train/q_mean": q_mean.detach(),
            "train/reward_scale": scale,
        }
        if not self.count(c.policy_delay):
            return metrics

        action, log_prob = self.policy(s, noise[0], batch=True)
        pairs = torch.cat([s, action], 1)
        q = torch.stack([self.value(self.outputs("critic", pairs, False, i)) for i in range(n)]).min(0).values
        actor_loss = (alpha * log_prob - q).mean()
        self.descend("actor", actor_loss)
        self.project("actor")
        target_entropy = -1.0 if c.target_entropy == "auto" else c.target_entropy  # of two coordinates
        return metrics | {
            "train/actor_loss": actor_loss.detach(),
            "train/ent_coef_loss": self.adapt(log_prob, target_entropy),
            "train/entropy": -log_prob.detach().mean(),
            "train/saturated_actions": (action.abs() > 0.99).double().mean(),
        }


OPTIONS = [
    {},
    TARGETS,
    {"target_network": True},
    CATEGORIES,
    CATEGORIES | TARGETS,
    CATEGORIES | {"v_max": 7.0},
    {"n_atoms": 2, "value_scale": 0.5, "v_max": 1.0},
    {"value_scale": 1.0},
    {"gamma": 0.9},
    {"n_steps": 3},
    {"policy_delay": 1},
    {"policy_delay": 3},
    {"n_critics": 1},
    {"n_critics": 3},
    CATEGORIES | {"n_critics": 1},
    CATEGORIES | {"n_critics": 3},
    {"adam_beta_1": 0.9},
    {"ent_coef": "auto"},
    {"ent_coef": 0.2},
    {"ent_coef": 0.0},
    {"target_entropy": 0.5},
    {"critic_net_arch": (10,)},
    {"net_arch": (8, 6, 4)},
    {"actor_learning_rate": 1e-3, "critic_learning_rate": 5e-3, "ent_coef_learning_rate": 0.05},
]


def make(option: dict[str, object]) -> CrossQAgent:
    """An agent whose log sigma reaches beyond both bounds, and no critic of which is the least everywhere."""
    agent = make_agent("crossq", CONTINUOUS, **BASE | option)
    batch = make_batch(torch.Generator().manual_seed(1))
    with torch.no_grad():
        agent.actor.module.net[-1].weight[:, 2:] *= 8.0
        head = agent.critic.module.net[-1].bias
        if agent.config.n_atoms == 1:
            head -= agent.critic(batch.obs, batch.action, RUNNING).mean(1).view_as(head)
            if agent.target_critic is not None:
                agent.target_critic.load_state_dict(agent.critic.module.state_dict())
    least = agent.critic(batch.obs, batch.action).argmin(0)
    assert len(least.unique()) >= min(2, agent.config.n_critics)
    return agent


def updated(agent: CrossQAgent, plain: PlainCrossQ | None = None, updates: int = UPDATES) -> CrossQAgent:
    generator = torch.Generator().manual_seed(1)
    for _ in range(updates):
        batch, noise = make_batch(generator), agent.update_noise(16, generator)
        metrics = agent.update_(batch, noise)
        if plain is not None:
            assert_same_metrics(metrics, plain.update(batch, noise))
            assert_same_state(agent, plain)
    return agent


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_updates_agree_with_the_plain_implementation(option):
    agent = make(option)
    updated(agent, PlainCrossQ(agent))


@pytest.mark.usefixtures("float64")
def test_each_option_changes_the_result():
    results = [torch.cat([p.detach().flatten() for p in updated(make(o)).actor.parameters]) for o in OPTIONS]
    for i, first in enumerate(results):
        for j, second in enumerate(results[:i]):
            if first.shape == second.shape:
                assert (first - second).abs().max() > 1e-7, (OPTIONS[i], OPTIONS[j])


@pytest.mark.parametrize("head", [{}, CATEGORIES], ids=["one value", "categories"])
def test_targets_that_follow_at_once_are_no_targets(head):
    # Both are normalised by the statistics of the same rows.
    at_once, none = (updated(make(head | o)) for o in ({"target_network": True, "tau": 1.0}, {}))
    assert all(map(torch.equal, at_once.critic.parameters, none.critic.parameters))


@pytest.mark.usefixtures("float64")
def test_log_std_was_bounded_in_the_comparison():
    raw = make({}).actor.module.net(make_batch(torch.Generator().manual_seed(1)).obs, BATCH)[:, 2:]
    assert 0.02 < (raw > 2.0).double().mean() < 0.9
    assert (raw < -10.0).any()


# --------------------------------------------------------------------------- its parts


def test_batch_norm_by_hand():
    norm = BatchNorm(1)
    with torch.no_grad():
        norm.gain.fill_(2.0)
        norm.bias.fill_(1.0)
    x = torch.tensor([[0.0], [4.0]])  # mean 2, variance 4
    torch.testing.assert_close(norm(x, RUNNING), 1.0 + 2.0 * x / math.sqrt(1.001))
    assert norm.running_mean.item() == 0.0
    torch.testing.assert_close(norm(x, BATCH), torch.tensor([[-1.0], [3.0]]), rtol=1e-3, atol=0)
    assert norm.running_mean.item() == pytest.approx(0.02)
    assert norm.running_var.item() == pytest.approx(0.99 + 0.01 * 4.0)


def test_statistics_are_those_of_both_halves_and_the_gradient_flows_into_both():
    # Two passes over the halves, or a cut between them, would be another algorithm (arXiv:1902.05605, section 3).
    norm = BatchNorm(1, affine=False)
    x = torch.tensor([[0.0], [2.0], [10.0], [20.0]], requires_grad=True)
    now, later = norm(x, BATCH).chunk(2)
    assert now.max() < 0.0 < later.min()
    (gradient,) = torch.autograd.grad(now.square().sum(), x)
    assert (gradient[2:] != 0.0).all()


def test_members_have_their_own_statistics():
    norm = BatchNorm(3, members=2)
    x = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9.0])[:, None, None]
    for member, rows in zip(norm(x, BATCH), x, strict=True):
        torch.testing.assert_close(member, functional.batch_norm(rows, None, None, training=True, eps=1e-3))
    assert norm.running_var[0].max() < 1.5 < norm.running_var[1].min()


def test_rows_of_every_layer_have_norm_1_from_the_first_step_to_the_last():
    agent = make_agent("crossq", CONTINUOUS, **BASE | {"net_arch": (8, 6, 4)})
    for _ in range(2):
        for learner in (agent.actor, agent.critic):
            weights = [p for k, p in learner.module.named_parameters() if k.endswith(".weight")]
            assert len(weights) == 4
            for w in weights:
                torch.testing.assert_close(w.norm(dim=-2), torch.ones(w.norm(dim=-2).shape))
        updated(agent)
    w = agent.critic.module.net[1].weight
    assert w.shape == (2, 5, 8)  # members, inputs, units: the norm is over the inputs
    with torch.no_grad():
        w *= 3.0
    project_(agent.critic.module)
    assert w.norm(dim=-2).max().item() == pytest.approx(1.0)


def test_the_reward_scale_by_hand():
    scale = RewardScale(0.5)
    assert scale().item() == 1.0
    scale.observe_(torch.zeros(4))
    assert scale().item() == 1.0  # no reward yet but 0
    scale = RewardScale(0.5)
    scale.observe_(torch.tensor([3.0, -1.0, 1.0, 1.0]))  # rms sqrt(3), whatever the weight of one batch
    assert scale().item() == pytest.approx(0.5 / math.sqrt(3.0))
    scale.observe_(torch.tensor([0.0, 0.0, 0.0, 0.0]))
    assert scale().item() == pytest.approx(0.5 / math.sqrt(3.0 * 0.999 / 1.999), rel=1e-5)


def test_the_typical_reward_for_ever_is_worth_the_value_scale():
    for n_steps, gamma in ((1, 0.99), (1, 0.9), (5, 0.9)):
        agent = make_agent("crossq", CONTINUOUS, **BASE | {"n_steps": n_steps, "gamma": gamma, "value_scale": 2.0})
        total = 7.0 * sum(gamma**k for k in range(n_steps))  # of n rewards of 7
        agent.reward_scale.observe_(torch.full((16,), total))
        assert (agent.reward_scale() * 7.0 / (1.0 - gamma)).item() == pytest.approx(2.0, rel=1e-5)


def test_a_target_distribution_by_hand():
    atoms = torch.tensor([-1.0, 0.0, 1.0])
    sure = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).log()  # of two critics: worth 0, and worth 1
    for reward, expected in ((0.25, [0.0, 0.75, 0.25]), (-0.5, [0.5, 0.5, 0.0]), (9.0, [0.0, 0.0, 1.0])):
        r = torch.tensor([reward])
        y = categorical_soft_q_target(r, torch.ones(1), sure[:, None], torch.zeros(1), 0.1, atoms)
        torch.testing.assert_close(y, torch.tensor([expected]))
    # The entropy of a' counts, inside the discount: 0 + 0.5 (0 - 0.1 * -5) = 0.25; nothing follows an end.
    half, log_prob = torch.tensor([0.5]), torch.tensor([-5.0])
    y = categorical_soft_q_target(torch.zeros(1), half, sure[:, None], log_prob, 0.1, atoms)
    torch.testing.assert_close(y, torch.tensor([[0.0, 0.75, 0.25]]))
    y = categorical_soft_q_target(torch.zeros(1), torch.zeros(1), sure[1:, None], log_prob, 0.1, atoms)
    torch.testing.assert_close(y, torch.tensor([[0.0, 1.0, 0.0]]))
    loss = categorical_q_loss(torch.zeros(2, 1, 3), torch.tensor([[0.0, 0.75, 0.25]]))
    assert loss.item() == pytest.approx(2.0 * math.log(3.0))


def test_values_of_a_categorical_critic_are_means():
    critic = NormalisedCritic(3, 2, (8,), 2, 101, 5.0, generator=torch.Generator().manual_seed(0))
    outputs = torch.full((2, 1, 101), -100.0)
    outputs[0, 0, 0], outputs[1, 0, 60] = 100.0, 100.0
    torch.testing.assert_close(critic.values(outputs), torch.tensor([[-5.0], [1.0]]))
    assert "atoms" not in str(list(critic.state_dict()))


# --------------------------------------------------------------------------- state and names


def test_running_statistics_and_the_reward_scale_are_in_checkpoints_and_acting_uses_them():
    agent = updated(make_agent("crossq", CONTINUOUS, **BASE | TARGETS))
    state = state_of(agent)
    kept = [k for k in state if "running_" in k]
    assert len(kept) == 3 * 3 * 2  # actor, critics, targets: three layers of two statistics
    assert not any(k.startswith("optim.") for k in kept)  # acting needs them
    assert {"reward_scale.mean_square", "reward_scale.weight", "n_updates"} <= state.keys()
    obs = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    before = agent.act(obs, None)
    torch.testing.assert_close(agent.act(obs[:1], None), before[:1])  # it does not depend on who else is asked
    with torch.no_grad():
        agent.actor.module.net[0].running_mean += 1.0
    assert not torch.equal(agent.act(obs, None), before)


@pytest.mark.parametrize("name", ["crossq", "xqc"])
def test_in_bf16_only_the_products_between_hidden_layers_are_rounded(name):
    """Batch norm, heads, statistics, losses and what is learned stay in float32."""

    def after_an_update(rounded: bool) -> dict[str, Tensor]:
        agent = make_agent(name, CONTINUOUS, batch_size=32, net_arch=(64, 64), policy_delay=1)
        networks = (agent.actor.module, agent.critic.module, agent.target_critic)
        for network in networks if rounded else ():
            assert network is None or round_hidden_products(network) == 1
        generator = torch.Generator().manual_seed(1)
        s, s2 = torch.randn(2, 32, 3, generator=generator)
        a, r = torch.randn(32, 2, generator=generator).tanh(), torch.randn(32, generator=generator)
        batch = Transition(s, a, r, torch.full((32,), 0.99), s2)
        metrics = agent.update_(batch, agent.update_noise(32, generator))
        assert all(metric.dtype == torch.float32 for metric in metrics.values())
        state = state_of(agent)
        assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.int64}
        return state | metrics

    exact, rounded = after_an_update(False), after_an_update(True)
    seen = [state["critic.net.0.running_mean"][..., :3] for state in (exact, rounded)]
    assert torch.equal(*seen)  # the observations; actions come of a rounded actor
    after, moved = (state["critic.net.5.running_var"] - 0.99 for state in (exact, rounded))
    assert 0.0 < (after - moved).abs().max() < 0.02 * after.abs().max()
    assert 0.0 < abs(exact["train/critic_loss"] / rounded["train/critic_loss"] - 1.0) < 0.05


def test_the_actor_step_leaves_the_statistics_of_the_critics_alone():
    # They are those of the replay's actions and the policy's at s', never of actions that the actor tries.
    agent = make_agent("crossq", CONTINUOUS, **BASE)
    batch, noise = make_batch(torch.Generator().manual_seed(1)), agent.update_noise(16, torch.Generator())
    before = agent.critic.module.net[0].running_mean.clone()
    agent.improve_(batch.obs, noise.now, agent.temperature.alpha())
    assert torch.equal(agent.critic.module.net[0].running_mean, before)


def test_both_names_and_their_defaults():
    assert (CrossQConfig().n_atoms, CrossQConfig().target_network) == (1, False)
    assert (XQCConfig().n_atoms, XQCConfig().target_network) == (101, True)
    assert CrossQ.agent_class.Config is CrossQConfig
    assert XQC.agent_class.Config is XQCConfig
    same = {k: v for k, v in vars(CrossQConfig()).items() if vars(XQCConfig())[k] != v}
    assert same.keys() == {"n_atoms", "target_network", "value_scale"}


@pytest.mark.parametrize("model_class", [CrossQ, XQC])
def test_it_goes_on_from_its_files(model_class, tmp_path):
    small = {"net_arch": [32, 32], "batch_size": 32, "learning_starts": 50, "seed": 0}
    whole = model_class("Pendulum-v1", **small).learn(150)
    halved = model_class("Pendulum-v1", **small).learn(100)
    halved.save(tmp_path / "model")
    resumed = model_class.load(tmp_path / "model").learn(50)
    for name, tensor in state_of(whole.agent).items():
        assert torch.equal(tensor, state_of(resumed.agent)[name]), name
    obs = torch.zeros(3).numpy()
    (first, _), (second, _) = whole.predict(obs, deterministic=True), resumed.predict(obs, deterministic=True)
    assert (first == second).all()


def test_acting_stays_inside_for_observations_far_away():
    agent = make_agent("crossq", CONTINUOUS, **BASE)
    generator = torch.Generator().manual_seed(0)
    obs = 100.0 * torch.randn(64, 3, generator=generator)
    for action in (agent.act(obs, None), agent.act(obs, agent.act_noise(64, generator, Moment(0)))):
        assert not action.requires_grad
        assert action.abs().max() <= 1.0


# --------------------------------------------------------------------------- what is refused


def refusal(config, **values) -> tuple[str, str, str]:
    with pytest.raises(ConfigError) as caught:
        make_config(config, values)
    return caught.value.given, caught.value.expected, caught.value.remedy


@pytest.mark.parametrize(
    ("config", "values", "expected"),
    [
        (
            CrossQConfig, {"batch_size": 15},
            ("batch_size=15 was given",
             "expected 16 or more: the networks are normalised by the statistics of the batch",
             "leave it out for 256"),
        ),
        (
            CrossQConfig, {"gamma": 1.0},
            ("gamma=1.0 was given", "expected less than 1: rewards are scaled by 1 - gamma", "give 0.999, say"),
        ),
        (
            CrossQConfig, {"tau": 0.01},
            ("tau=0.01 was given with target_network=False",
             "expected tau only with a target network, which it moves",
             "give target_network=true, or leave tau out"),
        ),
        (
            XQCConfig, {"tau": 0.01, "target_network": "false"},
            ("tau=0.01 was given with target_network=False",
             "expected tau only with a target network, which it moves",
             "give target_network=true, or leave tau out"),
        ),
        (
            CrossQConfig, {"n_atoms": 101},
            ("n_atoms=101 was given with values in [-5, 5] and value_scale=3",
             "expected v_max >= 2 value_scale = 6: what lies beyond the last atom is cut off",
             "give v_max=6, or value_scale=2.5"),
        ),
        (
            XQCConfig, {"v_max": 3.0},
            ("n_atoms=101 was given with values in [-3, 3] and value_scale=2",
             "expected v_max >= 2 value_scale = 4: what lies beyond the last atom is cut off",
             "give v_max=4, or value_scale=1.5"),
        ),
        (
            CrossQConfig, {"v_max": 5.0},
            ("v_max=5.0 was given with n_atoms=1",
             "expected v_max only with several atoms, of which it is the largest",
             "give n_atoms=101, or leave v_max out"),
        ),
    ],
)  # fmt: skip
def test_what_is_refused(config, values, expected):
    assert refusal(config, **values) == expected


def test_what_fits_is_accepted():
    make_config(CrossQConfig, {"batch_size": 16, "gamma": 0.9999})
    make_config(CrossQConfig, {"tau": 1.0, "target_network": True})
    make_config(CrossQConfig, {"n_atoms": 101, "v_max": 6.0})
    make_config(XQCConfig, {"n_atoms": 1})
    assert SAC.agent_class.Config(batch_size=1).batch_size == 1
