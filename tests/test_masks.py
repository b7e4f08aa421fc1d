"""Action masks: never a forbidden action, wherever one is chosen; and what is refused."""

import math
import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import softac
from choosing import Lamps
from softac.envs import EnvSource, Spaces
from softac.envs.masks import MaskObserved, require_allowed
from softac.equations.choices import RANDOM_BELOW, forbid, forbidden_entropy, nth_allowed
from softac.equations.distributions import Categorical, IndexedCategorical
from softac.equations.losses import discrete_policy_loss, discrete_soft_value
from softac.errors import ConfigError, EnvironmentFailed
from softac.run.warm_up import uniform_actions
from softac.ship.export import export
from softac.types import EnvSpec

OFF_POLICY = {"learning_starts": 30, "batch_size": 16, "train_freq": 1, "gradient_steps": 1, "net_arch": [16]}
ALGORITHMS = {
    "dqn": (softac.DQN, OFF_POLICY | {"double": True, "dueling": True, "exploration_steps": 60}),
    "sac_discrete": (softac.SACDiscrete, OFF_POLICY),
    "ppo": (softac.PPO, {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "net_arch": [16]}),
    "a2c": (softac.A2C, {"n_steps": 8, "net_arch": [16]}),
    "reinforce": (softac.REINFORCE, {"n_steps": 32, "net_arch": [16]}),
}
MASK = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0])


# ------------------------------------------------------------------------------------------ equations


def test_forbid():
    scores = forbid([3.0, 1.0, 9.0, -2.0, 0.0], MASK)
    assert scores.tolist() == [-math.inf, 1.0, -math.inf, -2.0, 0.0]


def test_nth_allowed_by_hand():
    assert [int(nth_allowed(MASK, torch.tensor([i]))) for i in range(7)] == [1, 3, 4, 1, 3, 4, 1]
    masks = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert nth_allowed(masks, torch.tensor([[5], [RANDOM_BELOW - 1]])).tolist() == [[0], [2]]


def test_actions_that_their_own_mask_forbids():
    spec = EnvSpec(6, 2, choices=(2, 3), mask=1)
    obs = np.array([[9, 1, 0, 0, 1, 1], [0, 1, 1, 1, 0, 0]], np.float32)
    require_allowed(spec, obs, np.array([[0, 2], [1, 0]], np.float32))
    for wrong, said in (([[1, 2], [1, 0]], "action 1, 2 of step 1"), ([[0, 1], [0, 2]], "action 0, 2 of step 2")):
        with pytest.raises(ValueError, match=f"^{said}, which its own mask forbids$"):
            require_allowed(spec, obs, np.array(wrong, np.float32))
    require_allowed(EnvSpec(6, 2, choices=(2, 3)), obs, np.array([[1, 0], [0, 2]], np.float32))


def test_random_choices_are_uniform_over_what_is_allowed():
    numbers = torch.randint(RANDOM_BELOW, (30_000, 1), generator=torch.Generator().manual_seed(0))
    counts = nth_allowed(MASK.expand(30_000, -1), numbers).flatten().bincount(minlength=5)
    assert counts[[0, 2]].tolist() == [0, 0]
    assert (counts[[1, 3, 4]] - 10_000).abs().max() < 300  # four standard deviations


def test_a_forbidden_action_has_probability_0_and_entropy_is_of_what_is_allowed():
    policy = Categorical(forbid(torch.zeros(5), MASK))
    assert policy.log_probs().exp().tolist() == pytest.approx([0.0, 1 / 3, 0.0, 1 / 3, 1 / 3])
    assert float(policy.entropy()) == pytest.approx(math.log(3.0))
    assert float(forbidden_entropy(policy.log_probs())) == pytest.approx(math.log(5.0 / 3.0))


def test_gradients_stay_finite_and_do_not_reach_what_is_forbidden():
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0, 0.3], requires_grad=True)
    log_probs = Categorical(forbid(logits, MASK)).log_probs()[None]
    q = torch.tensor([[9.0, 1.0, 9.0, 2.0, 3.0]])
    (gradient,) = torch.autograd.grad(discrete_policy_loss(log_probs, q, 0.2), logits)
    assert torch.isfinite(gradient).all()
    assert gradient[[0, 2]].tolist() == [0.0, 0.0]
    assert gradient[[1, 3, 4]].abs().min() > 0.0


def test_the_soft_value_of_a_state_counts_what_is_allowed_alone():
    # Two of five, each with probability 1/2: V = (1 + 3) / 2 + 0.5 log 2, whatever the others are worth.
    mask = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0])
    q = torch.tensor([[[1e6, 1.0, 1e6, 3.0, 1e6]]])
    log_probs = Categorical(forbid(torch.zeros(1, 5), mask)).log_probs()
    assert float(discrete_soft_value(q, log_probs, 0.5)) == pytest.approx(2.0 + 0.5 * math.log(2.0))


def test_a_uniform_number_of_exactly_0_allows_nothing_forbidden():
    policy = IndexedCategorical(forbid(torch.zeros(5), torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])))
    assert policy.sample(torch.zeros(5))[0].tolist() == [4.0]


def test_the_warm_up_is_uniform_over_what_is_allowed():
    spec = EnvSpec(7, 1, 5, mask=1)
    obs = np.zeros((20_000, 7), np.float32)
    obs[:, 1:6] = MASK.numpy()
    actions, nats = uniform_actions(spec, obs, torch.Generator().manual_seed(0))
    counts = np.bincount(actions[:, 0].astype(int), minlength=5)
    assert counts[[0, 2]].tolist() == [0, 0]
    assert abs(counts[[1, 3, 4]] - 20_000 / 3).max() < 300
    assert nats == pytest.approx(math.log(3.0))


# ----------------------------------------------------------------------------- the whole way of a mask


@pytest.mark.parametrize("by", ["info", "method", "observation"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_forbidden_action_is_ever_chosen(name, by):
    algorithm, config = ALGORITHMS[name]
    model = algorithm(lambda: Lamps(by=by, start=-2), n_envs=2, **config).learn(200)
    mean, _ = softac.evaluate_policy(model, lambda: Lamps(by=by, start=-2), 3)  # `Lamps` raises where one is
    assert 0.0 <= mean <= 12.0


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_mask_is_part_of_what_is_learned_from(name):
    algorithm, config = ALGORITHMS[name]
    model = algorithm(lambda: Lamps(), **config).learn(40)
    rows = model.training.memory.rows if name in ("ppo", "a2c", "reinforce") else model.training.memory._obs
    assert (rows[:8, :5].sum(1) == 2).all()  # the flags come first, and two are 1
    assert model.spaces.spec == EnvSpec(10, 1, 5, (5,), 0)


@pytest.mark.parametrize("name", ["dqn", "sac_discrete", "ppo", "a2c"])
def test_it_learns_which_of_the_allowed_buttons_is_lit(name):
    algorithm, config = ALGORITHMS[name]
    longer = {"learning_rate": 3e-3} | ({"n_steps": 64} if name in ("ppo", "a2c") else {"gamma": 0.5})
    model = algorithm(lambda: Lamps(), **config | longer).learn(4_000 if name in ("ppo", "a2c") else 1_000)
    mean, _ = softac.evaluate_policy(model, lambda: Lamps(), 10)
    assert mean > 9.0  # of 12; at random 6


def test_masks_arrive_from_processes_and_threads_with_the_same_bits():
    def weights(**how):
        model = softac.DQN(Lamps, n_envs=2, **OFF_POLICY, **how).learn(80)
        state = {k: v.clone() for k, v in model.agent.tensors().items()}
        model.close()
        return state

    here, there = weights(), weights(env_workers=2)
    assert all(torch.equal(here[k], there[k]) for k in here)


def test_a_run_with_masks_resumes_with_the_same_bits(tmp_path):
    make = lambda: softac.SACDiscrete(Lamps, seed=3, **OFF_POLICY)  # noqa: E731
    whole = make().learn(160)
    make().learn(77, run_dir=tmp_path / "run", n_eval_episodes=1)
    rest = softac.SACDiscrete.load(tmp_path / "run", env=Lamps).learn(83)
    assert all(torch.equal(v, rest.agent.tensors()[k]) for k, v in whole.agent.tensors().items())


def test_the_target_entropy_follows_what_is_allowed():
    model = softac.SACDiscrete(lambda: Lamps(n=20), **OFF_POLICY | {"learning_rate": 1e-2, "gamma": 0.0})
    model.learn(1_500)
    # Half of log 20 = 1.5 nats cannot be had with two actions; half of log 2 can, so alpha does not explode.
    assert 0.01 < float(model.agent.temperature.alpha()) < 2.0
    assert model.agent.share == 0.5
    assert softac.SACDiscrete("CartPole-v1").agent.share == 0.0


# ------------------------------------------------------------------------------------------------ predict


def test_predict_takes_the_mask_beside_the_observation():
    model = softac.PPO(lambda: Lamps(), seed=1, net_arch=[8])
    lamps = np.eye(5, dtype=np.float32)
    for deterministic in (True, False):
        for only in range(5):
            action, _ = model.predict(lamps[0], deterministic, action_masks=np.arange(5) == only)
            assert action == only
    many, _ = model.predict(lamps, action_masks=np.eye(5, dtype=bool)[::-1])
    assert many.tolist() == [4, 3, 2, 1, 0]
    whole, _ = model.predict({"action_mask": np.eye(5, dtype=np.int8)[2], "observation": lamps[0]})
    assert whole == 2


def test_predict_with_a_mask_in_the_observation():
    model = softac.PPO(lambda: Lamps(by="observation"), net_arch=[8])
    obs = {"action_mask": np.array([0, 0, 1, 0, 0], np.int8), "lamps": np.zeros(5, np.float32)}
    assert model.predict(obs)[0] == 2
    assert model.predict(obs, action_masks=[0, 1, 0, 0, 0])[0] == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {},
            "an observation without its action mask was given; expected action_masks=, what the environment says",
        ),
        (
            {"action_masks": [0, 0, 0, 0, 0]},
            "an observation that does not fit was given (an action mask that allows ",
        ),
        (
            {"action_masks": [1, 1]},
            "part 'action_mask': ValueError: an observation of shape (2,) where the space says (5,)",
        ),
        ({"action_masks": [1, 0, 2, 0, 0]}, "an action mask with 2 for action 2, not 0 or 1"),
    ],
)
def test_predict_with_a_wrong_mask(arguments, text):
    model = softac.PPO(lambda: Lamps(), net_arch=[8])
    with pytest.raises(ConfigError, match=re.escape(text)):
        model.predict(np.zeros(5, np.float32), **arguments)


def test_a_mask_for_a_model_that_has_none():
    with pytest.raises(
        ConfigError, match=r"^action_masks were given, and the environment of this model has none; "
    ):
        softac.PPO("CartPole-v1", net_arch=[8]).predict(np.zeros(4, np.float32), action_masks=[1, 0])


# ---------------------------------------------------------------------------------------------- bad masks

WRONG = {
    "empty": "an action mask that allows no action, of 5",
    "short": "an observation that does not fit its space: part 'action_mask': ValueError: an observation of shape "
    "(4,) where the space says (5,)",
    "missing": "an observation that does not fit its space: no part 'action_mask'",
    "number": "an action mask with 3 for action",
}


@pytest.mark.parametrize("by", ["info", "method"])
@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_mask_is_the_environments_fault_and_is_said_with_its_step(fault, by):
    model = softac.A2C(lambda: Lamps(by=by, fault=fault), n_steps=8, net_arch=[8])
    wanted = rf"^environment 0 returned {re.escape(WRONG[fault])}.* at step 3 of episode 0 \(seed \d+, action "
    with pytest.raises(EnvironmentFailed, match=wanted):
        model.learn(50)


def test_a_wrong_mask_of_the_first_observation():
    model = softac.A2C(lambda: Lamps(by="method", fault="empty", at=0), n_steps=8, net_arch=[8])
    wanted = r"^environment 0 returned an action mask that allows no action, of 5 at the start of episode 0"
    with pytest.raises(EnvironmentFailed, match=wanted):
        model.learn(50)


def test_a_terminal_state_may_allow_nothing():
    # Half of the episodes end by termination at step 12, and what is said of a terminal state does not matter.
    env = EnvSource(lambda: Lamps(fault="empty", at=12), {}).vector(1)
    ends = []
    for seed in range(20):
        obs = env.reset(0, seed)
        for _ in range(12):
            action = np.array([[np.flatnonzero(obs[:5])[0]]], np.float32)
            try:
                (answer,) = env.step(0, action)
            except Exception as error:
                ends.append(str(error))
                break
            obs = answer.obs
        else:
            assert answer.terminated
            assert obs[:5].tolist() == [1.0] * 5
            ends.append("terminated")
    assert set(ends) == {"terminated", "returned an action mask that allows no action, of 5"}


@pytest.mark.parametrize(
    ("at", "where"),
    [
        (1, "at step 1 of episode 0 (seed"),
        (5, "at step 1 of episode 1 (seed"),
        (4, "at the start of episode 1 (seed"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_mask_that_the_first_reset_lacked_is_not_passed_over(at, where, workers):
    """Answer 0 is looked at for a mask; 1 to 4 are the first episode, of three steps, 5 to 8 the second."""

    class Late(gym.Env):
        observation_space, action_space = spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(3)

        def __init__(self):
            self.answers = -1

        def info(self):
            self.answers += 1
            return {"action_mask": np.ones(3, np.int8) if self.answers > at else None}

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.t, info = 0, self.info()
            return np.zeros(2, np.float32), info

        def step(self, action):
            self.t += 1
            return np.zeros(2, np.float32), 0.0, False, self.t == 3, self.info()

    model = softac.DQN(Late, net_arch=[8], env_workers=workers)
    with pytest.raises(EnvironmentFailed) as failed:
        model.learn(20)
    assert str(failed.value).startswith(
        f"environment 0 returned info['action_mask'], which the first reset did not {where}"
    )
    assert "; expected a mask in the info of every reset and step, of ones where everything is allowed; " in str(
        failed.value
    )


def test_a_mask_of_the_wrong_length_is_seen_in_the_space():
    space = spaces.Dict({"action_mask": spaces.MultiBinary(3), "x": spaces.Box(-1.0, 1.0, (2,))})
    with pytest.raises(ConfigError) as raised:
        Spaces(space, spaces.Discrete(4))
    assert str(raised.value) == (
        "observations['action_mask'] has 3 numbers for 4 actions; expected one for each, 1 where it is allowed, "
        "and of several choices one after the other; correct the space, or rename the part if it is something else"
    )


def test_what_is_no_mask():
    part = {"x": spaces.Box(-1.0, 1.0, (2,))}
    flags, numbers = spaces.MultiBinary(3), spaces.Box(-5.0, 5.0, (3,))
    continuous = spaces.Box(-1.0, 1.0, (3,))
    assert Spaces(spaces.Dict(part | {"action_mask": flags}), continuous).spec.mask is None
    assert Spaces(spaces.Dict(part | {"action_mask": numbers}), spaces.Discrete(3)).spec.mask is None
    assert Spaces(spaces.Dict(part | {"action_mask": flags}), spaces.Discrete(3)).spec.mask == 0
    behind = {"a": spaces.Discrete(4), "action_mask": spaces.Box(0, 1, (3,), np.int8)} | part
    assert Spaces(spaces.Dict(behind), spaces.Discrete(3)).spec.mask == 4
    assert not isinstance(EnvSource("CartPole-v1", {}).make(), MaskObserved)
    assert isinstance(EnvSource("Taxi-v4", {}).make(), MaskObserved)


def test_an_algorithm_that_takes_no_mask():
    class Plain(softac.agents.dqn.DQNAgent):
        actions = ("discrete",)

    with pytest.raises(ConfigError) as raised:
        softac.Model(Plain, "Taxi-v4")
    assert str(raised.value) == (
        "Taxi-v4 has an action mask and Plain takes none; expected an algorithm for masked actions; choose "
        "sac_discrete, dqn, reinforce, a2c or ppo"
    )


def test_masks_of_several_choices_at_once():
    class Both(gym.Env):
        observation_space = spaces.Box(-1.0, 1.0, (2,))
        action_space = spaces.MultiDiscrete([2, 3], start=[5, 0])

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(2, np.float32), {"action_mask": self.draw()}

        def draw(self):
            self.mask = tuple(np.array(self.np_random.permutation(n) == 0, np.int8) for n in (2, 3))
            return self.mask

        def step(self, action):
            assert self.mask[0][action[0] - 5] == 1
            assert self.mask[1][action[1]] == 1
            return np.zeros(2, np.float32), 0.0, False, False, {"action_mask": self.draw()}

    model = softac.PPO(Both, n_steps=16, batch_size=8, net_arch=[8]).learn(40)
    assert model.spaces.spec == EnvSpec(7, 2, None, (2, 3), 0)
    action, _ = model.predict(np.zeros(2, np.float32), action_masks=[0, 1, 0, 0, 1])
    assert action.tolist() == [6, 2]


@pytest.mark.parametrize("to", ["numpy", "c"])
@pytest.mark.parametrize("name", ["dqn", "sac_discrete", "ppo"])
def test_an_exported_policy_obeys_its_mask(name, to, tmp_path):
    algorithm, config = ALGORITHMS[name]
    model = algorithm(lambda: Lamps(start=-1), **config)
    paths, agreement = export(model, to, tmp_path / "policy")  # which compares, each mask random
    assert paths
    assert agreement.observations > 0
