"""The collector and the loop: which transitions, how many steps and updates, which seeds."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probes import SMALL, AsymmetricEnv, CountingEnv, EarlyEndingEnv, TerminatingEnv, TruncatingEnv, rows, trained
from softac import SAC, Model
from softac.agents.sac import SACAgent
from softac.envs import InProcessVectorEnv, Step
from softac.errors import EnvironmentFailed
from softac.learning.state import state_of
from softac.replay import Replay
from softac.run.collector import Collector
from softac.run.episode import NStep
from softac.run.seeding import Purpose, derive_seed


def obs(x: float) -> np.ndarray:
    return np.array([x], np.float32)


def fold(rewards, n, gamma=0.5, terminated=False, truncated=False):
    """What n-step folding makes of one episode from state 0 on: (s, a, R, discount, s', ended)."""
    window, out = NStep(gamma, n), []
    for t, reward in enumerate(rewards):
        last = t == len(rewards) - 1
        step = Step(obs(t + 1), reward, terminated and last, truncated and last)
        for s, a, r, d, s2, ended in window.push(obs(t), obs(-t), step):
            out.append((s.item(), a.item(), r, d, s2.item(), ended))
    return out


# With gamma = 1/2 and rewards 1, 10, 100, 1000:
#   R0 = 1 + 10/2 + 100/4 = 31;  R1 = 10 + 100/2 + 1000/4 = 310;  R2 = 100 + 1000/2 = 600;  R3 = 1000


def test_three_steps_in_the_middle_of_an_episode():
    assert fold([1, 10, 100, 1000], n=3) == [
        (0, 0, 31, 1 / 8, 3, False),
        (1, -1, 310, 1 / 8, 4, False),
    ]


def test_three_steps_at_a_termination():
    assert fold([1, 10, 100, 1000], n=3, terminated=True) == [
        (0, 0, 31, 1 / 8, 3, False),  # does not reach the end
        (1, -1, 310, 0, 4, True),
        (2, -2, 600, 0, 4, True),
        (3, -3, 1000, 0, 4, True),
    ]


def test_three_steps_at_a_truncation():
    assert fold([1, 10, 100, 1000], n=3, truncated=True) == [
        (0, 0, 31, 1 / 8, 3, False),
        (1, -1, 310, 1 / 8, 4, True),
        (2, -2, 600, 1 / 4, 4, True),  # fewer rewards, so a bootstrap of its own: gamma^2, gamma^1
        (3, -3, 1000, 1 / 2, 4, True),
    ]


def test_termination_wins_over_truncation():
    assert fold([1, 10], n=1, terminated=True, truncated=True) == [
        (0, 0, 1, 1 / 2, 1, False),
        (1, -1, 10, 0, 2, True),
    ]


@pytest.mark.parametrize(("ending", "discounts"), [("terminated", [0, 0]), ("truncated", [1 / 4, 1 / 2])])
def test_an_episode_shorter_than_the_window(ending, discounts):
    expected = [(0, 0, 1 + 10 / 2, discounts[0], 2, True), (1, -1, 10, discounts[1], 2, True)]
    assert fold([1, 10], n=5, **{ending: True}) == expected


def test_one_step():
    assert fold([1, 10], n=1) == [(0, 0, 1, 1 / 2, 1, False), (1, -1, 10, 1 / 2, 2, False)]


def test_an_unfinished_window_keeps_its_steps():
    assert fold([1, 10], n=3) == []


@given(
    rewards=st.lists(st.floats(-10, 10), min_size=1, max_size=12),
    n=st.integers(1, 6),
    gamma=st.floats(0, 1),
    ending=st.sampled_from(["terminated", "truncated"]),
)
def test_folding_an_episode_equals_the_definition(rewards, n, gamma, ending):
    found = fold(rewards, n, gamma, **{ending: True})
    length = len(rewards)
    assert len(found) == length
    for t, (s, a, reward, discount, s2, ended) in enumerate(found):
        stop = min(t + n, length)
        assert ended == (stop == length)
        over = ending == "terminated" and stop == length
        assert (s, a, s2) == (t, -t, stop)
        assert reward == pytest.approx(sum(gamma ** (k - t) * rewards[k] for k in range(t, stop)))
        assert discount == (0.0 if over else pytest.approx(gamma ** (stop - t)))


@pytest.mark.parametrize("ending", ["truncated", "terminated", "both"])
@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_no_row_crosses_an_episode_and_the_final_observation_is_the_true_one(ending, n_steps, n_envs):
    model = trained(lambda: CountingEnv(5, ending), 90, n_steps=n_steps, n_envs=n_envs, gamma=0.5)
    data = rows(model)
    (episode, t), (next_episode, next_t) = data.obs.T, data.next_obs.T
    assert torch.equal(episode, next_episode)
    assert len(t) == 90  # every step of a finished episode begins exactly one row
    assert sorted(t.tolist()) == sorted([0, 1, 2, 3, 4] * 18)
    expected_next = (t + n_steps).clamp(max=5)
    assert torch.equal(next_t, expected_next)
    alive = (next_t < 5) | (torch.tensor(ending == "truncated"))
    assert torch.equal(data.discount, 0.5 ** (next_t - t) * alive)
    # reward k is earned on arriving at k: t+1 + (t+2)/2 + ...
    expected = sum(torch.where(t + k < next_t, 0.5**k * (t + k + 1), 0.0) for k in range(n_steps))
    assert torch.equal(data.reward, expected)


def test_stored_actions_are_the_ones_the_environment_got():
    envs = []

    def make():
        envs.append(AsymmetricEnv())
        return envs[-1]

    model = trained(make, 40)
    spaces = model.spaces
    stored = [spaces.to_env(action) for action in rows(model).action.numpy()]
    assert np.array_equal(stored, envs[0].actions)


@settings(max_examples=30)
@given(n_envs=st.integers(1, 5), budgets=st.lists(st.integers(1, 25), min_size=1, max_size=4))
def test_budgets_are_exact(n_envs, budgets):
    envs = []

    def make():
        envs.append(EarlyEndingEnv())
        return envs[-1]

    model = SAC(make, n_envs=n_envs, **SMALL | {"learning_starts": 1_000})
    total = 0
    for budget in budgets:
        model.learn(budget)
        total += budget
        assert model.num_timesteps == total
        assert sum(env.steps for env in envs) == total
        assert max(env.steps for env in envs) - min(env.steps for env in envs) <= 1
    assert len(rows(model).reward) == total


@settings(max_examples=10)
@given(
    n_envs=st.integers(1, 5),
    cuts=st.lists(st.integers(1, 49), max_size=4, unique=True),
    n_steps=st.sampled_from([1, 3]),
)
def test_where_budgets_end_changes_nothing(n_envs, cuts, n_steps):
    def learned(budgets):
        model = SAC(EarlyEndingEnv, n_envs=n_envs, n_steps=n_steps, **SMALL)
        for budget in budgets:
            model.learn(budget)
        return model

    ends = [*sorted(cuts), 50]
    parts = [b - a for a, b in zip([0, *ends], ends, strict=False)]
    whole, parted = learned([50]), learned(parts)
    assert all(map(torch.equal, rows(whole), rows(parted)))
    expected = state_of(whole.agent)
    assert all(torch.equal(value, expected[name]) for name, value in state_of(parted.agent).items())


def test_each_episode_has_the_seed_of_its_environment_and_number():
    envs = []

    def make():
        envs.append(TruncatingEnv(4))
        return envs[-1]

    SAC(make, seed=7, n_envs=2, **SMALL).learn(32)
    for i, env in enumerate(envs):
        assert env.seeds == [derive_seed(Purpose.TRAINING_EPISODE, 7, i, k) for k in range(5)]
    seeds = [seed for env in envs for seed in env.seeds]
    assert len(set(seeds)) == len(seeds)


def test_seeds_depend_on_every_part_of_the_key():
    seeds = {derive_seed(p, s, i, k) for p in (Purpose.TRAINING_EPISODE, Purpose.EVALUATION_EPISODE)
             for s in range(3) for i in range(3) for k in range(20)}  # fmt: skip
    assert len(seeds) == 2 * 3 * 3 * 20
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_an_environment_is_reset_only_at_the_ends_of_episodes():
    envs = []

    def make():
        envs.append(TerminatingEnv(5))
        return envs[-1]

    trained(make, 40)
    assert envs[0].resets == 1 + 40 // 5


def test_warm_up_is_uniform_in_the_bounds_of_the_environment():
    envs = []

    def make():
        envs.append(AsymmetricEnv())
        return envs[-1]

    SAC(make, **SMALL | {"learning_starts": 3_000}).learn(3_000)
    actions = np.array(envs[0].actions)
    low, high = AsymmetricEnv.action_space.low, AsymmetricEnv.action_space.high
    unit = np.sort((actions - low) / (high - low), axis=0)
    # Kolmogorov-Smirnov at 1 % for 3,000 samples: 1.63 / sqrt(3000) = 0.030
    grid = (np.arange(3_000) + 0.5)[:, None] / 3_000
    assert abs(unit - grid).max() < 0.030
    assert abs(np.corrcoef(actions.T) - np.eye(3)).max() < 0.06


class CountsUpdates(SACAgent):
    """Counts its updates instead of doing them."""

    def update_(self, batch, noise):
        self.done = getattr(self, "done", 0) + 1
        self.batches = [*getattr(self, "batches", []), batch.obs.clone()]
        return {"train/nothing": torch.zeros(())}


def updates(steps: int, n_envs: int = 1, **config) -> int:
    model = Model(CountsUpdates, EarlyEndingEnv, n_envs=n_envs, **SMALL | config).learn(steps)
    return getattr(model.agent, "done", 0)


@pytest.mark.parametrize("n_envs", [1, 2, 4, 5])
@pytest.mark.parametrize("gradient_steps", [0.25, 1, 3])
def test_updates_follow_environment_steps_whatever_the_number_of_environments(n_envs, gradient_steps):
    assert updates(100, n_envs, learning_starts=20, gradient_steps=gradient_steps) == 80 * gradient_steps


@pytest.mark.parametrize("train_freq", [1, 4, 10])
def test_train_freq_groups_updates_and_does_not_drop_them(train_freq):
    assert updates(100, learning_starts=20, train_freq=train_freq, gradient_steps=2) == 160
    assert (
        updates(99, learning_starts=20, train_freq=train_freq, gradient_steps=2)
        == 79 // train_freq * train_freq * 2
    )


@pytest.mark.parametrize(("steps", "made"), [(23, 0), (24, 1), (26, 1), (27, 2), (30, 3)])
def test_an_update_in_several_steps_is_due_when_the_steps_are_made(steps, made):
    assert updates(steps, learning_starts=20, gradient_steps=0.3) == made


def test_no_update_before_learning_starts():
    assert updates(20, learning_starts=20) == 0
    assert updates(21, learning_starts=20) == 1
    assert updates(5, learning_starts=0) == 5


def test_updates_wait_for_the_first_row_and_catch_up():
    # With 4-step returns the first row is complete at step 4.
    model = Model(CountsUpdates, lambda: TruncatingEnv(50), **SMALL | {"learning_starts": 0, "n_steps": 4})
    model.learn(3)
    assert not hasattr(model.agent, "done")
    model.learn(1)
    assert model.agent.done == 4


def test_every_update_has_a_batch_of_its_own():
    model = Model(CountsUpdates, EarlyEndingEnv, **SMALL | {"gradient_steps": 4}).learn(40)
    batches = model.agent.batches
    assert len(batches) == 24 * 4
    assert not any(torch.equal(a, b) for a, b in pairwise(batches))


def test_recent_returns_and_lengths():
    model = trained(lambda: TruncatingEnv(4), 10)
    collector = model.training.collector
    assert list(collector.recent) == [(1 + 2 + 3 + 4, 4, None)] * 2
    assert collector.episodes_done == 2


def zeros(observations):
    return np.zeros((len(observations), 1), np.float32)


def repeat(made, rounds, choose=zeros):
    for _ in range(rounds):
        made.collect(choose, made.envs.num_envs)


class Failing(CountingEnv):
    """Raises once, at step 3 of episode 2."""

    failed = False

    def step(self, action):
        if self.resets == 2 and self.t == 2 and not Failing.failed:
            Failing.failed = True
            raise RuntimeError("motor\non fire")
        return super().step(action)


def collector(make, n_envs=1):
    envs = InProcessVectorEnv(make, n_envs)
    replay = Replay(100, envs.spaces.spec, torch.device("cpu"))
    made = Collector(envs, replay.add, gamma=0.9, n_steps=1, seed=3)
    made.begin()
    return made, replay


def test_a_failing_step_is_located_and_can_be_tried_again():
    Failing.failed = False
    made, replay = collector(lambda: Failing(4))
    chosen = []

    def choose(observations):
        chosen.append(len(chosen))
        return np.full((1, 1), 0.25, np.float32)

    with pytest.raises(EnvironmentFailed) as error:
        repeat(made, 20, choose)
    seed = derive_seed(Purpose.TRAINING_EPISODE, 3, 0, 1)
    assert str(error.value) == (
        f"environment 0 raised RuntimeError: motor on fire in step at step 3 of episode 1 (seed {seed}, "
        "action [0.25]); expected a finite answer of the declared shape; correct the environment, then resume"
    )
    assert made.steps == len(replay) == 6
    assert len(chosen) == 7
    made.collect(choose, 1)
    assert len(chosen) == 7  # the action chosen before is tried again, no other
    assert made.steps == len(replay) == 7
    assert replay.explicit_rows(6, 7)[0, -2:].tolist() == [2.0, 3.0]  # it went on in the same episode


class FailingReset(CountingEnv):
    def reset(self, *, seed=None, options=None):
        if self.resets == 1:
            raise OSError("no more worlds")
        return super().reset(seed=seed)


def test_a_failing_reset_is_located_and_its_step_has_not_happened():
    made, replay = collector(lambda: FailingReset(4))
    with pytest.raises(EnvironmentFailed) as error:
        repeat(made, 9)
    seed = derive_seed(Purpose.TRAINING_EPISODE, 3, 0, 1)
    assert str(error.value) == (
        f"environment 0 raised OSError: no more worlds in reset at the start of episode 1 (seed {seed}); "
        f"expected a finite observation of the declared shape; correct its reset(seed={seed}), then resume"
    )
    assert made.steps == len(replay) == 3


class Answering(CountingEnv):
    """Answers its second step with what the test gives it."""

    answer = None

    def step(self, action):
        good = super().step(action)
        return Answering.answer(*good) if self.t == 2 else good


ANSWER = "a finite answer of the declared shape"
FIVE = "five values: observation, reward, terminated, truncated, info, as in Gymnasium, and in gym since 0.26"
MISFIT = "returned an observation that does not fit its space: ValueError: "
WRONG_ANSWERS = {
    "nan in the observation": (
        lambda o, r, e, u, i: (np.array([1.0, np.nan], np.float32), r, e, u, i),
        "returned an observation with nan in it, at index 1",
    ),
    "an infinite observation": (
        lambda o, r, e, u, i: (np.array([-np.inf, 0.0], np.float32), r, e, u, i),
        "returned an observation with -inf in it, at index 0",
    ),
    "beyond float32": (
        lambda o, r, e, u, i: (np.array([1e39, 0.0]), r, e, u, i),
        "returned an observation with inf in it, at index 0",
    ),
    "a wrong shape": (
        lambda o, r, e, u, i: (np.zeros(3, np.float32), r, e, u, i),
        MISFIT + "an observation of shape (3,) where the space says (2,)",
    ),
    "text": (
        lambda o, r, e, u, i: ("left", r, e, u, i),
        MISFIT + "could not convert string to float: 'left'",
    ),
    "a nan reward": (
        lambda o, r, e, u, i: (o, float("nan"), e, u, i),
        "returned the reward nan, not a finite float32",
    ),
    "a reward beyond float32": (
        lambda o, r, e, u, i: (o, 1e39, e, u, i),
        "returned the reward 1e+39, not a finite float32",
    ),
    "no reward": (lambda o, r, e, u, i: (o, None, e, u, i), "returned the reward None, not a number"),
    "four values": (lambda o, r, e, u, i: (o, r, e, i), "returned 4 values from step, not 5"),
    "a list": (lambda o, r, e, u, i: [o, r, e, u, i], "returned a list from step, not 5"),
    "a number for done": (
        lambda o, r, e, u, i: (o, r, 1, u, i),
        "returned terminated=1, truncated=False, not booleans",
    ),
}


@pytest.mark.parametrize("case", WRONG_ANSWERS)
def test_a_wrong_answer_never_enters_the_replay(case):
    answer, said = WRONG_ANSWERS[case]
    Answering.answer = staticmethod(answer)
    made, replay = collector(Answering)
    with pytest.raises(EnvironmentFailed) as error:
        repeat(made, 3)
    assert str(error.value).startswith(f"environment 0 {said} at step 2 of episode 0 (seed ")
    of_another_interface = case in ("no tuple", "four values", "a list", "a number for done", "None")
    assert error.value.expected == f"expected {FIVE if of_another_interface else ANSWER}"
    assert error.value.remedy == "correct the environment, then resume"
    assert len(replay) == 1


def test_numpy_booleans_and_numbers_are_accepted():
    Answering.answer = staticmethod(lambda o, r, e, u, i: (o, np.float64(r), np.bool_(e), np.bool_(u), i))
    made, replay = collector(Answering)
    repeat(made, 3)
    assert len(replay) == 3


def test_a_fault_in_one_of_several_environments_keeps_the_steps_before_it():
    Failing.failed = False
    made, _ = collector(lambda: Failing(4), n_envs=3)
    with pytest.raises(EnvironmentFailed, match=r"^environment 0 raised"):
        repeat(made, 20)
    assert made.steps == 18
    repeat(made, 2)
    assert made.steps == 24


def test_an_environment_that_does_not_repeat_itself_loses_one_episode_and_says_so():
    class Forgetful(TruncatingEnv):
        made = 0

        def __init__(self):
            super().__init__(6)
            Forgetful.made += 1
            self.shift = Forgetful.made

        def observe(self):
            return super().observe() + np.float32(self.shift)

    first, _ = collector(Forgetful)
    repeat(first, 9)
    second, _ = collector(Forgetful)
    sentences = second.load_state(*first.state())
    assert sentences == [
        "environment 0 did not repeat episode 1 from its seed and actions; continuing with a new episode, "
        "not bit for bit"
    ]
    assert second.episodes[0].index == 2
    assert second.steps == 9


def test_an_episode_in_flight_is_found_again():
    first, _ = collector(EarlyEndingEnv, n_envs=2)
    generator = np.random.default_rng(0)
    for budget in (2, 2, 2, 2, 1):  # ends inside a round
        first.collect(lambda o: generator.uniform(-1, 1, (2, 2)).astype(np.float32), budget)
    second, _ = collector(EarlyEndingEnv, n_envs=2)
    assert second.load_state(*first.state()) == []
    assert second.cursor == first.cursor == 1
    assert np.array_equal(second.observations, first.observations)
    assert np.array_equal(second.actions, first.actions)
    assert [e.total for e in second.episodes] == [e.total for e in first.episodes]
    for made in (first, second):
        made.collect(lambda o: np.zeros((2, 2), np.float32), 1)
    assert np.array_equal(second.observations, first.observations)
