"""The whole update of SAC against a plain implementation: autograd, torch.optim.Adam, one critic after the other.

The plain one shares nothing with the library but the initial weights: its layers are `torch.nn.Linear`, its
density is that of `torch.distributions`, its targets and losses are written out. Both run in float64, where
two right implementations agree to about 1e-12 after several updates and any wrong term shows.
"""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from softac.agents.sac import Noise, SACAgent
from softac.config import make_config
from softac.learning.state import load_state_, state_of
from softac.types import EnvSpec, Moment, Transition

SPEC = EnvSpec(obs_dim=3, action_dim=2)
BATCH = 16
UPDATES = 7
BASE = {"learning_rate": 1e-2, "tau": 0.1, "net_arch": (8, 6), "gamma": 0.9}


def make_agent(seed: int = 0, **config) -> SACAgent:
    generator = torch.Generator().manual_seed(seed)
    made = make_config(SACAgent.Config, BASE | config)
    agent = SACAgent(SPEC, made, generator=generator, device=torch.device("cpu"))
    # Outputs of the actor that reach beyond both bounds of log sigma, so that bounding it matters.
    with torch.no_grad():
        agent.actor.module.net[-1].weight[:, 2:] *= 60.0
    return agent


def make_batch(generator: torch.Generator) -> Transition:
    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    discount = 0.9 * (torch.rand(BATCH, generator=generator) > 0.3)
    return Transition(
        normal(BATCH, 3),
        normal(BATCH, 2).tanh(),
        normal(BATCH),
        discount.to(torch.get_default_dtype()),
        normal(BATCH, 3),
    )


def parameters(agent: SACAgent, *names: str) -> dict[str, torch.Tensor]:
    """Copies of the parameters whose names begin with one of `names` (all without)."""
    return {k: v for k, v in state_of(agent).items() if k.startswith(names or ("",)) and "optim." not in k}


class PlainSAC:
    """Algorithm 1 of arXiv:1812.05905, as a student would write it."""

    def __init__(self, agent: SACAgent) -> None:
        c = self.config = agent.config
        self.actor = self.mlp(agent.actor.module.net)
        self.critics = [self.mlp(agent.critic.module.net, i) for i in range(c.n_critics)]
        self.targets = copy.deepcopy(self.critics)
        self.learned = isinstance(c.ent_coef, str)
        first = {"auto": 1.0, "auto_0.1": 0.1}[c.ent_coef] if self.learned else c.ent_coef
        self.log_alpha = torch.tensor(math.log(first) if first > 0 else -math.inf, requires_grad=self.learned)
        self.target_entropy = -2.0 if c.target_entropy == "auto" else c.target_entropy
        self.actor_optimizer = self.adam(self.actor.parameters(), c.actor_learning_rate)
        self.critic_optimizers = [self.adam(q.parameters(), c.critic_learning_rate) for q in self.critics]
        self.alpha_optimizer = self.adam([self.log_alpha], c.ent_coef_learning_rate)
        self.updates = 0

    def adam(self, parameters, rate):
        return torch.optim.Adam(parameters, lr=rate or self.config.learning_rate, foreach=False)

    @staticmethod
    def mlp(net, member=None):
        """The same network out of nn.Linear; of an ensemble, one member."""
        layers = []
        for layer in net:
            if isinstance(layer, nn.ReLU):
                layers.append(nn.ReLU())
                continue
            weight, bias = layer.weight.detach(), layer.bias.detach()
            if member is not None:
                weight, bias = weight[member], bias[member, 0]
            linear = nn.Linear(*weight.shape)
            linear.weight.data, linear.bias.data = weight.T.clone().contiguous(), bias.clone()
            layers.append(linear)
        return nn.Sequential(*layers)

    def policy(self, obs, noise):
        mean, raw = self.actor(obs).split(2, dim=1)
        log_std = raw.clamp(-20, 2) if self.config.log_std == "clamp" else -5 + 3.5 * (raw.tanh() + 1)
        law = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)])
        action = law.transforms[0](mean + log_std.exp() * noise)
        return action, law.log_prob(action).sum(1)

    @staticmethod
    def values(critics, obs, action):
        return torch.stack([q(torch.cat([obs, action], 1)).squeeze(1) for q in critics])

    def update(self, batch, noise):
        s, a, r, discount, s2 = batch
        alpha = self.log_alpha.exp().item()
        with torch.no_grad():
            a2, log_prob2 = self.policy(s2, noise.next)
            soft_value = self.values(self.targets, s2, a2).min(0).values - alpha * log_prob2
            target = r + discount * soft_value
        critic_loss, q_sum = 0.0, 0.0
        for critic, optimizer in zip(self.critics, self.critic_optimizers, strict=True):
            q = self.values([critic], s, a)[0]
            loss = ((q - target) ** 2).mean() / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            critic_loss, q_sum = critic_loss + loss.item(), q_sum + q.mean().item()

        action, log_prob = self.policy(s, noise.now)
        q = self.values(self.critics, s, action)
        q = q.min(0).values if self.config.actor_q == "min" else q.mean(0)
        actor_loss = (alpha * log_prob - q).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()

        alpha_loss = torch.tensor(0.0)
        if self.learned:
            multiplier = self.log_alpha.exp() if self.config.alpha_loss == "alpha" else self.log_alpha
            alpha_loss = (multiplier * (-log_prob.detach() - self.target_entropy)).mean()
            self.alpha_optimizer.zero_grad()
            alpha_loss.backward()
            self.alpha_optimizer.step()

        self.updates += 1
        if self.updates % self.config.target_update_interval == 0:
            for target_critic, critic in zip(self.targets, self.critics, strict=True):
                for old, new in zip(target_critic.parameters(), critic.parameters(), strict=True):
                    old.data = (1 - self.config.tau) * old.data + self.config.tau * new.data

        return {
            "train/actor_loss": actor_loss.item(),
            "train/critic_loss": critic_loss,
            "train/ent_coef": alpha,
            "train/ent_coef_loss": alpha_loss.item(),
            "train/entropy": -log_prob.mean().item(),
            "train/q_mean": q_sum / len(self.critics),
            "train/target_q_mean": target.mean().item(),
            "train/saturated_actions": (action.abs() > 0.99).double().mean().item(),
        }


def assert_same(plain: nn.Module, net, member=None) -> None:
    linears = [layer for layer in plain if isinstance(layer, nn.Linear)]
    ours = [layer for layer in net if not isinstance(layer, nn.ReLU)]
    for linear, layer in zip(linears, ours, strict=True):
        weight = layer.weight if member is None else layer.weight[member]
        bias = layer.bias if member is None else layer.bias[member, 0]
        torch.testing.assert_close(weight.T, linear.weight, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(bias, linear.bias, rtol=1e-9, atol=1e-10)


OPTIONS = {
    "defaults": {},
    "alpha_loss=log_alpha": {"alpha_loss": "log_alpha"},
    "actor_q=mean": {"actor_q": "mean"},
    "log_std=tanh": {"log_std": "tanh"},
    "n_critics=1": {"n_critics": 1},
    "n_critics=3": {"n_critics": 3},
    "n_critics=3, actor_q=mean": {"n_critics": 3, "actor_q": "mean"},
    "ent_coef=auto_0.1": {"ent_coef": "auto_0.1"},
    "ent_coef=auto_0.1, alpha_loss=log_alpha": {"ent_coef": "auto_0.1", "alpha_loss": "log_alpha"},
    "ent_coef=0.2": {"ent_coef": 0.2},
    "ent_coef=0": {"ent_coef": 0},
    "target_update_interval=3": {"target_update_interval": 3},
    "target_entropy=0.5": {"target_entropy": 0.5},
    "tau=1": {"tau": 1.0},
    "a rate for each": {"actor_learning_rate": 1e-3, "critic_learning_rate": 5e-3, "ent_coef_learning_rate": 0.05},
    "all at once": {
        "alpha_loss": "log_alpha", "actor_q": "mean", "log_std": "tanh", "n_critics": 3,
        "ent_coef": "auto_0.1", "target_update_interval": 3, "target_entropy": -1.0,
    },
}  # fmt: skip


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("option", OPTIONS)
def test_updates_agree_with_the_plain_implementation(option):
    agent = make_agent(**OPTIONS[option])
    plain = PlainSAC(agent)
    generator = torch.Generator().manual_seed(1)
    for _ in range(UPDATES):
        batch, noise = make_batch(generator), agent.update_noise(BATCH, generator)
        metrics, expected = agent.update_(batch, noise), plain.update(batch, noise)
        assert metrics.keys() == expected.keys()
        for name, value in metrics.items():
            assert value.shape == ()
            assert not value.requires_grad
            assert value.item() == pytest.approx(expected[name], rel=1e-9, abs=1e-10), name
    assert_same(plain.actor, agent.actor.module.net)
    for i in range(agent.config.n_critics):
        assert_same(plain.critics[i], agent.critic.module.net, i)
        assert_same(plain.targets[i], agent.target_critic.net, i)
    assert agent.temperature.alpha().item() == pytest.approx(plain.log_alpha.exp().item(), rel=1e-9)
    assert agent.n_updates == UPDATES


@pytest.mark.usefixtures("float64")
def test_each_option_changes_the_result():
    # Otherwise the comparison above would not know whether the option does anything.
    def result(**config):
        agent = make_agent(**config)
        generator = torch.Generator().manual_seed(1)
        for _ in range(UPDATES):
            agent.update_(make_batch(generator), agent.update_noise(BATCH, generator))
        return torch.cat(
            [*(p.detach().flatten() for p in agent.actor.parameters), agent.temperature.alpha()[None]]
        )

    defaults = result()
    for option, config in OPTIONS.items():
        if config and "n_critics" not in config:
            assert (result(**config) - defaults).abs().max() > 1e-6, option


@pytest.mark.usefixtures("float64")
def test_log_std_was_bounded_in_the_comparison():
    agent = make_agent()
    raw = agent.actor.module.net(make_batch(torch.Generator().manual_seed(1)).obs)[:, 2:]
    assert 0.1 < (raw > 2.0).double().mean() < 0.9


def one_update(agent: SACAgent, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    return agent.update_(make_batch(generator), agent.update_noise(BATCH, generator))


def test_every_learner_moves_and_the_targets_follow():
    agent = make_agent()
    before = parameters(agent)
    one_update(agent)
    for name, after in parameters(agent).items():
        assert not torch.equal(after, before[name]), name


@pytest.mark.parametrize(
    ("frozen", "moved"),
    [("actor", "critic"), ("critic", "actor"), ("temperature", "actor"), ("critic", "temperature")],
)
def test_a_learner_descends_on_its_own_parameters_only(frozen, moved):
    # A learner with a vanishing step keeps its parameters exactly, whatever the others do: nothing
    # else may write to them. (float32 + 1e-30 is the same float32.)
    agent = make_agent(ent_coef="auto_0.1")
    learners = {"actor": agent.actor, "critic": agent.critic, "temperature": agent.temperature.learner}
    learners[frozen].learning_rate = 1e-30
    before = parameters(agent)
    one_update(agent)
    after = parameters(agent)
    for name in before:
        if name.startswith(frozen + "."):
            assert torch.equal(after[name], before[name]), name
        if name.startswith(moved + "."):
            assert not torch.equal(after[name], before[name]), name


def test_updates_leave_no_gradient_behind():
    agent = make_agent()
    one_update(agent)
    everything = [*agent.actor.parameters, *agent.critic.parameters, *agent.temperature.learner.parameters]
    assert all(p.grad is None for p in everything)
    assert not any(p.requires_grad for p in agent.target_critic.parameters())


def test_critics_do_not_depend_on_the_noise_of_the_actor_step_nor_the_actor_on_that_of_the_target():
    generator = torch.Generator().manual_seed(1)
    batch = make_batch(generator)
    now, following, other = (torch.randn(BATCH, 2, generator=generator) for _ in range(3))

    def after(noise, **rates):
        agent = make_agent(**rates)
        agent.update_(batch, noise)
        return agent

    same, changed = after(Noise(now, following)), after(Noise(other, following))
    assert all(map(torch.equal, same.critic.parameters, changed.critic.parameters))
    assert not torch.equal(same.actor.parameters[0], changed.actor.parameters[0])
    # The target's noise reaches the actor only through the critics' step, which is switched off here.
    still = {"critic_learning_rate": 1e-30}
    same, changed = after(Noise(now, following), **still), after(Noise(now, other), **still)
    assert all(map(torch.equal, same.actor.parameters, changed.actor.parameters))


def test_act_has_no_gradient_and_stays_inside():
    agent = make_agent()
    generator = torch.Generator().manual_seed(0)
    obs = 100.0 * torch.randn(64, 3, generator=generator)
    for action in (agent.act(obs, None), agent.act(obs, agent.act_noise(64, generator, Moment(0)))):
        assert action.shape == (64, 2)
        assert not action.requires_grad
        assert action.abs().max() <= 1.0


def test_stochastic_actions_vary_and_deterministic_ones_do_not():
    agent = make_agent()
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(1, 3, generator=generator)
    drawn = torch.cat([agent.act(obs, agent.act_noise(1, generator, Moment(0))) for _ in range(50)])
    assert (drawn.std(0) > 0.01).all()
    assert torch.cat([agent.act(obs, None) for _ in range(5)]).std(0).tolist() == [0.0, 0.0]


def test_two_seeds_differ_and_one_repeats():
    def weights(seed):
        agent = make_agent(seed)
        one_update(agent)
        return torch.cat([p.flatten() for p in state_of(agent).values()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_critics_begin_apart_and_targets_begin_as_copies():
    agent = make_agent(n_critics=3)
    for online, target in zip(agent.critic.parameters, agent.target_critic.parameters(), strict=True):
        assert torch.equal(online, target)
        assert online.data_ptr() != target.data_ptr()
        assert not torch.equal(online[0], online[1])
        assert not torch.equal(online[1], online[2])


def test_initial_weights_have_the_range_of_torch_linear():
    agent = make_agent(net_arch=(256, 256))
    # Layer 2 of the critics: fan-in 256 whatever the number of critics.
    weight = agent.critic.module.net[2].weight
    assert weight.abs().max() <= 1.0 / 16.0
    assert weight.std().item() == pytest.approx(1.0 / 16.0 / math.sqrt(3.0), rel=0.02)


def test_saved_state_goes_on_bit_for_bit():
    config = {"target_update_interval": 3, "ent_coef": "auto_0.1"}
    whole, halved = make_agent(**config), make_agent(**config)
    for seed in range(4):
        one_update(whole, seed)
        one_update(halved, seed)
    resumed = make_agent(seed=9, **config)
    load_state_(resumed, state_of(halved))
    for seed in range(4, 9):
        one_update(whole, seed)
        one_update(resumed, seed)
    expected = state_of(whole)
    assert expected.keys() == state_of(resumed).keys()
    for name, value in state_of(resumed).items():
        assert torch.equal(value, expected[name]), name


def test_a_state_is_a_copy():
    agent = make_agent()
    saved = state_of(agent)
    kept = {k: v.clone() for k, v in saved.items()}
    one_update(agent)
    assert all(torch.equal(saved[k], kept[k]) for k in saved)
