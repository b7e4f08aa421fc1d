"""Several choices at once, MultiDiscrete and MultiBinary: a product of categoricals, one log-probability."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

import softac
from choosing import Locks
from softac.envs import Spaces
from softac.equations.distributions import Categorical, MultiCategorical
from softac.errors import ConfigError
from softac.ship.export import export
from softac.types import EnvSpec

SPACES = {
    "MultiDiscrete": spaces.MultiDiscrete([2, 3, 4], start=[0, -1, 5]),
    "of two axes": spaces.MultiDiscrete([[2, 3], [4, 2]]),
    "MultiBinary": spaces.MultiBinary(3),
    "flags of two axes": spaces.MultiBinary((2, 2)),
}
ALGORITHMS = {
    "ppo": (softac.PPO, {"n_steps": 64, "batch_size": 32, "n_epochs": 4}),
    "a2c": (softac.A2C, {"n_steps": 16}),
    "reinforce": (softac.REINFORCE, {"n_steps": 64}),
}


def test_one_log_probability_by_hand():
    # Probabilities (1/4, 3/4) and (1/2, 1/3, 1/6).
    logits = torch.tensor([0.25, 0.75, 1 / 2, 1 / 3, 1 / 6]).log()
    policy = MultiCategorical(logits, (2, 3))
    assert float(policy.log_prob([1.0, 2.0])) == pytest.approx(math.log(3 / 4 * 1 / 6))
    assert float(policy.log_prob([0.0, 0.0])) == pytest.approx(math.log(1 / 8))
    first = -(1 / 4 * math.log(1 / 4) + 3 / 4 * math.log(3 / 4))
    second = -(1 / 2 * math.log(1 / 2) + 1 / 3 * math.log(1 / 3) + 1 / 6 * math.log(1 / 6))
    assert float(policy.entropy()) == pytest.approx(first + second)
    assert policy.mode().tolist() == [1.0, 0.0]


def test_samples_have_the_probabilities_of_the_product():
    logits = torch.tensor([0.25, 0.75, 1 / 2, 1 / 3, 1 / 6]).log()
    policy = MultiCategorical(logits.expand(60_000, -1), (2, 3))
    action, log_prob = policy.sample(torch.rand(60_000, 5, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(log_prob, policy.log_prob(action))
    counts = (3 * action[:, 0] + action[:, 1]).long().bincount(minlength=6) / 60_000
    wanted = [p * q for p in (1 / 4, 3 / 4) for q in (1 / 2, 1 / 3, 1 / 6)]
    assert counts.tolist() == pytest.approx(wanted, abs=0.008)  # four standard deviations


def test_one_choice_is_a_categorical():
    logits, noise = torch.randn(7, 4), torch.rand(7, 4)
    one, product = Categorical(logits), MultiCategorical(logits, (4,))
    assert torch.equal(product.sample(noise)[0].squeeze(-1).long(), one.sample(noise)[0])
    assert torch.equal(product.sample(noise)[1], one.sample(noise)[1])
    assert torch.equal(product.entropy(), one.entropy())


@pytest.mark.parametrize("name", SPACES)
def test_indices_become_actions_of_the_environment(name):
    space = SPACES[name]
    seen = Spaces(spaces.Box(-1.0, 1.0, (2,)), space)
    rng = np.random.default_rng(0)
    for _ in range(50):
        action = rng.integers(seen.spec.choices).astype(np.float32)
        acted = seen.to_env(action)
        assert space.contains(acted)
        first = space.start if isinstance(space, spaces.MultiDiscrete) else 0
        assert (acted - first).ravel().tolist() == action.tolist()
    assert Spaces.from_json(seen.to_json()).spec == seen.spec
    assert seen.difference(Spaces.from_json(seen.to_json())) == ""


def test_what_an_agent_is_told():
    told = {name: Spaces(spaces.Box(-1.0, 1.0, (2,)), space).spec for name, space in SPACES.items()}
    assert told == {
        "MultiDiscrete": EnvSpec(2, 3, None, (2, 3, 4)),
        "of two axes": EnvSpec(2, 4, None, (2, 3, 4, 2)),
        "MultiBinary": EnvSpec(2, 3, None, (2, 2, 2)),
        "flags of two axes": EnvSpec(2, 4, None, (2, 2, 2, 2)),
    }
    assert {spec.kinds for spec in told.values()} == {("multi_discrete",)}
    assert told["MultiDiscrete"].outputs == 9


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_algorithm_in_each_space(name, space):
    algorithm, config = ALGORITHMS[name]
    model = algorithm(lambda: Locks(SPACES[space]), n_envs=2, net_arch=[8], **config).learn(140)
    for deterministic in (True, False):
        obs = np.zeros(model.spaces.spec.obs_dim, np.float32)
        action, _ = model.predict(obs, deterministic)
        assert SPACES[space].contains(action)
        many, _ = model.predict(np.stack([obs, obs]), deterministic)
        assert all(SPACES[space].contains(one) for one in many)


@pytest.mark.parametrize("name", ["ppo", "a2c"])
def test_every_wheel_is_learned(name):
    algorithm, config = ALGORITHMS[name]
    make = lambda: Locks(spaces.MultiDiscrete([2, 3, 4], start=[0, -1, 5]))  # noqa: E731
    model = algorithm(make, gamma=0.0, learning_rate=3e-3, **config).learn(4_000)
    mean, _ = softac.evaluate_policy(model, make, 5)
    assert mean > 11.0  # of 12; at random 4.3


def test_several_choices_resume_with_the_same_bits(tmp_path):
    make = lambda: Locks(spaces.MultiBinary(3))  # noqa: E731
    whole = softac.PPO(make, seed=2, n_steps=32, batch_size=16, net_arch=[8]).learn(150)
    softac.PPO(make, seed=2, n_steps=32, batch_size=16, net_arch=[8]).learn(75, run_dir=tmp_path / "run")
    rest = softac.PPO.load(tmp_path / "run", env=make).learn(75)
    assert all(torch.equal(v, rest.agent.tensors()[k]) for k, v in whole.agent.tensors().items())


@pytest.mark.parametrize(
    ("algorithm", "chooses"),
    [(softac.SAC, "sac chooses continuous ones (a Box)"), (softac.DQN, "dqn chooses discrete ones (Discrete)")],
)
def test_algorithms_that_make_one_choice(algorithm, chooses):
    def make():
        return Locks(spaces.MultiBinary(3))

    with pytest.raises(ConfigError) as raised:
        algorithm(make)
    assert str(raised.value) == (
        f"make has 3 discrete choices at once and {chooses}; expected an algorithm for several discrete actions; "
        "choose reinforce, a2c or ppo"
    )


def test_several_choices_are_not_exported(tmp_path):
    model = softac.PPO(lambda: Locks(spaces.MultiBinary(3)), net_arch=[8])
    wanted = (
        "^ppo makes 3 choices at once; expected coordinates or a single choice, which is what exported files have"
    )
    with pytest.raises(ConfigError, match=wanted):
        export(model, "numpy", tmp_path / "policy")


def test_an_action_space_without_choices():
    with pytest.raises(ConfigError, match=r"^the action space is empty; expected at least one choice; add one$"):
        Spaces(spaces.Box(-1.0, 1.0, (2,)), spaces.MultiDiscrete([]))
