"""Hindsight: rows with other goals, rewarded anew, n steps and ends right, the same bits after resume."""

import re

import numpy as np
import pytest
import torch

import softac
from goal_envs import LENGTH, NEAR, Reach, paid, shuffled, unbatched
from softac.envs import EnvSource
from softac.envs.goals import Goals, goals_of
from softac.errors import CheckpointError, ConfigError, EnvironmentFailed
from softac.replay import Hindsight, HindsightReplay
from softac.types import EnvSpec, Row, SoftRow

GAMMA = 0.5
SPEC = EnvSpec(3, 1)  # achieved | desired | time; the goals are numbers
OFF_POLICY = {"learning_starts": 30, "batch_size": 32, "net_arch": [16], "hindsight": "future"}
CPU = torch.device("cpu")


class Numbers:
    """Goals that are one number each: the reward is 100 achieved + desired, and equal ones end an episode."""

    achieved, desired = slice(0, 1), slice(1, 2)

    def __init__(self, *, terminates: bool = False) -> None:
        self.terminates, self.asked = terminates, 0

    def rewards(self, achieved, desired):
        self.asked += 1
        return (100.0 * achieved + desired)[:, 0]

    def terminated(self, achieved, desired):
        return (achieved == desired)[:, 0]


def replay(n_envs=1, n_steps=1, capacity=1_000, strategy="future", bonus=False, sampled=4, **goals):
    how = Hindsight(Numbers(**goals), strategy, sampled, GAMMA, n_steps, n_envs)
    return HindsightReplay(capacity, SPEC, CPU, bonus, how)


def play(memory, lengths, *, terminated=False, ended=True):
    """An episode in each environment e: from 100 e + t to 100 e + t + 1 at step t, while 1,000 + e is wanted."""
    for t in range(lengths[0]):
        for e, length in enumerate(lengths):
            last = ended and t == length - 1
            here, there = ([100.0 * e + t + k, 1_000.0 + e, 0.0] for k in (0, 1))
            reward, discount = float(100 * there[0] + there[1]), GAMMA * (1.0 - (last and terminated))
            row = Row(np.float32(here), np.float32([memory.added]), reward, discount, np.float32(there), last)
            memory.add(SoftRow(*row, 10.0 + t) if memory.bonus else row)


def drawn(memory, n=4_000, seed=0):
    return memory.sample(n, torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------- which goals


@pytest.mark.parametrize("n_envs", [1, 3])
def test_goals_are_what_the_same_episode_achieved_later(n_envs):
    memory = replay(n_envs)
    play(memory, [6] * n_envs)
    play(memory, [4] * n_envs, ended=False)
    batch = drawn(memory, 20_000)
    number = batch.action[:, 0].long()
    episode, t = (
        (number >= 6 * n_envs).long(),
        torch.where(number < 6 * n_envs, number, number - 6 * n_envs) // n_envs,
    )
    env = number % n_envs
    desired = batch.obs[:, 1]
    own = desired >= 1_000.0
    assert abs(float(own.float().mean()) - 0.2) < 0.012  # one in five; four standard deviations
    assert (desired[own] == 1_000.0 + env[own]).all()
    step = (desired - 100.0 * env)[~own]  # the goal is the place after the step with this number, less 1
    last = torch.where(episode == 0, 6, 4)[~own]
    assert (step >= t[~own] + 1).all()
    assert (step <= last).all()
    assert torch.equal(batch.next_obs[:, 1], desired)
    assert torch.equal(batch.obs[:, 0], 100.0 * env + t)
    # Uniform over what is left: from the first of six, each of the places 1 to 6.
    counts = step[(number[~own] == 0)].long().bincount(minlength=7)[1:]
    assert counts.min() > 0.7 * counts.sum() / 6


def test_the_goal_at_the_end():
    memory = replay(strategy="final", sampled=1_000)
    play(memory, [6])
    play(memory, [3], ended=False)
    batch = drawn(memory)
    other = batch.obs[:, 1] < 1_000.0
    assert other.float().mean() > 0.99
    wanted = torch.where(batch.action[:, 0] < 6, 6.0, 3.0)
    assert torch.equal(batch.obs[other, 1], wanted[other])


def test_the_share_of_other_goals():
    memory = replay(sampled=1)
    play(memory, [6])
    assert abs(float((drawn(memory, 20_000).obs[:, 1] < 1_000.0).float().mean()) - 0.5) < 0.015


# ------------------------------------------------------------------------- rewards, several steps, ends


def test_one_step_is_rewarded_for_the_goal_it_got():
    memory = replay()
    play(memory, [6])
    batch = drawn(memory)
    assert torch.equal(batch.reward, 100.0 * batch.next_obs[:, 0] + batch.obs[:, 1])
    assert batch.discount.unique().tolist() == [GAMMA]
    assert memory.how.goals.asked == 1  # in one call


def test_termination_stays_where_the_environment_does_not_say_what_ends():
    memory = replay()
    play(memory, [6], terminated=True)
    batch = drawn(memory)
    assert torch.equal(batch.discount == 0.0, batch.action[:, 0] == 5)


def test_several_steps_by_hand():
    memory = replay(n_steps=3)
    play(memory, [5])
    batch = drawn(memory)
    for number, goal, reward, discount, place in zip(
        batch.action[:, 0], batch.obs[:, 1], batch.reward, batch.discount, batch.next_obs[:, 0], strict=True
    ):
        steps = min(3, 5 - int(number))  # the episode is truncated after five
        wanted = sum(GAMMA**k * (100.0 * (number + k + 1) + goal) for k in range(steps))
        assert (float(reward), float(discount)) == (pytest.approx(float(wanted)), GAMMA**steps)
        assert place == number + steps


def test_several_steps_end_where_the_new_goal_is_reached():
    memory = replay(n_steps=3, terminates=True, sampled=1_000)
    play(memory, [5], terminated=True)
    batch = drawn(memory)
    met = set()
    for number, goal, reward, discount, place in zip(
        batch.action[:, 0].int().tolist(), batch.obs[:, 1].int().tolist(), batch.reward, batch.discount,
        batch.next_obs[:, 0], strict=True,
    ):  # fmt: skip
        if goal >= 1_000:
            continue
        steps = min(3, 5 - number, goal - number)  # the place `goal` is reached after that many
        wanted = sum(GAMMA**k * (100.0 * (number + k + 1) + goal) for k in range(steps))
        reached = number + steps == goal
        assert (float(reward), float(discount)) == (pytest.approx(wanted), 0.0 if reached else GAMMA**steps)
        assert place == number + steps
        met.add((number, goal))
    assert len(met) == 15  # each step with each of the places to come


def test_soft_returns_bring_the_entropies_of_the_steps_in_between():
    memory = replay(n_steps=3, bonus=True, terminates=True, sampled=1)
    play(memory, [5], terminated=True)
    batch = drawn(memory)
    for number, goal, bonus in zip(batch.action[:, 0].int().tolist(), batch.obs[:, 1], batch.bonus, strict=True):
        steps = min(3, 5 - number, int(goal) - number)
        wanted = sum(GAMMA**k * (10.0 + number + k) for k in range(1, steps))
        assert float(bonus) == pytest.approx(wanted)


def test_an_episode_that_is_lost_ends_where_it_was():
    memory = replay(n_envs=2, n_steps=4, sampled=1_000)
    play(memory, [3, 3], ended=False)
    memory.cut(1)
    play(memory, [3, 3])
    batch = drawn(memory)
    number, goal = batch.action[:, 0].int(), batch.obs[:, 1]
    lost = (number < 6) & (number % 2 == 1) & (goal < 1_000)
    assert (goal[lost] <= 103.0).all()
    kept = (number < 6) & (number % 2 == 0) & (goal < 1_000)
    assert (number[kept] // 2 < 3).all()
    assert (batch.next_obs[lost, 0] <= 103.0).all()
    memory.cut(0)  # nothing is in flight: nothing changes
    assert torch.equal(drawn(memory).obs, batch.obs)


@pytest.mark.parametrize("capacity", [7, 10, 64])
def test_a_full_ring_draws_what_it_still_has(capacity):
    memory = replay(n_envs=2, n_steps=2, capacity=capacity)
    for length in (5, 3, 9, 4, 6):
        play(memory, [length, length])
        batch = drawn(memory, 500)
        oldest = memory.added - len(memory)
        assert (batch.action[:, 0] >= oldest).all()
        first = memory.added - 2 * length  # of the youngest episodes
        number, goal, env = batch.action[:, 0], batch.obs[:, 1], batch.action[:, 0] % 2
        young = (number >= first) & (goal < 1_000)
        assert (goal[young] > 100 * env[young] + (number[young] - first) // 2).all()
        assert (goal[young] <= 100 * env[young] + length).all()


def test_ends_come_back_from_a_checkpoint():
    memory, other = replay(3, 2), replay(3, 2)
    play(memory, [4, 4, 4])
    play(memory, [5, 5, 5], ended=False)
    memory.cut(2)
    other.load(0, memory.explicit_rows(0, memory.added))
    other.added = memory.added
    other.load_ends(memory.ends())
    for a, b in zip(drawn(memory), drawn(other), strict=True):
        assert torch.equal(a, b)
    play(memory, [2, 2, 2])
    play(other, [2, 2, 2])
    assert all(torch.equal(a, b) for a, b in zip(drawn(memory), drawn(other), strict=True))
    with pytest.raises(ValueError, match=r"ends of episodes as torch.uint8"):
        other.load_ends(torch.zeros(1, dtype=torch.uint8))


# ------------------------------------------------------------------------------------------ whole runs


@pytest.mark.parametrize("name", ["sac", "td3", "ddpg", "sac_v", "sac_mixture", "gamid_pg", "crossq"])
def test_every_off_policy_agent_learns_with_hindsight(name):
    from softac.agents.registry import find_agent

    model = softac.Model(find_agent(name), Reach, n_envs=2, n_steps=2, **OFF_POLICY).learn(80)
    assert model.training.updates == 50
    assert isinstance(model.training.memory, HindsightReplay)


def test_a_reward_of_training_is_the_environments_own():
    model = softac.SAC(lambda: Reach(stops=True), n_envs=3, n_steps=3, gamma=0.9, **OFF_POLICY).learn(200)
    memory = model.training.memory
    batch = memory.sample(2_000, torch.Generator().manual_seed(0))
    one = memory.how.n_steps == 3
    goal, place = batch.obs[:, 2:4], batch.next_obs[:, 0:2]
    reached = (goal - place).norm(dim=1) <= NEAR
    assert one
    assert (batch.discount[reached] == 0.0).all()
    assert (batch.discount[~reached] > 0.7).all()
    assert reached.float().mean() > 0.3


def test_it_learns_what_it_does_not_learn_without():
    def success(**how):
        config = {
            "learning_rate": 3e-3,
            "gamma": 0.9,
            "learning_starts": 100,
            "net_arch": [64, 64],
            "batch_size": 128,
        }
        model = softac.SAC(Reach, seed=1, **config | how).learn(1_500)
        with model.life.other_envs(None) as envs:
            from softac.run.evaluate import evaluate

            ended = evaluate(model.agent, envs, 30, deterministic=True).successes
        return sum(ended) / len(ended)

    assert success() <= 0.3
    assert success(hindsight="future") >= 0.7


@pytest.mark.parametrize("how", [{}, {"n_steps": 3}, {"n_steps": 3, "n_step_return": "plain"}, {"n_envs": 3}])
def test_a_run_resumes_with_the_same_bits(how, tmp_path):
    make = lambda: softac.SAC(lambda: Reach(stops=True), seed=5, **OFF_POLICY | how)  # noqa: E731
    whole = make().learn(160)
    make().learn(77, run_dir=tmp_path / "run", n_eval_episodes=1)
    rest = softac.SAC.load(tmp_path / "run", env=lambda: Reach(stops=True)).learn(83)
    assert all(torch.equal(v, rest.agent.tensors()[k]) for k, v in whole.agent.tensors().items())
    assert rest.run.hindsight == "future"


def test_workers_and_threads_change_no_bit():
    def weights(**how):
        model = softac.SAC(Reach, n_envs=2, **OFF_POLICY, **how).learn(80)
        state = {k: v.clone() for k, v in model.agent.tensors().items()}
        model.close()
        return state

    here, there = weights(), weights(env_workers=1)
    assert all(torch.equal(here[k], there[k]) for k in here)


# ---------------------------------------------------------------------------------------- success rates


def test_the_success_rate_is_a_metric(tmp_path):
    from softac.run.metrics import read_rows

    softac.SAC(Reach, **OFF_POLICY).learn(1_000, run_dir=tmp_path / "run", eval_freq=500, n_eval_episodes=4)
    rows = read_rows(tmp_path / "run/metrics.jsonl")
    rates = [row["rollout/success_rate"] for row in rows if "rollout/success_rate" in row]
    assert rates
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    evaluated = [row for row in rows if "eval/mean_reward" in row]
    assert all(row["eval/success_rate"] * 4 in range(5) for row in evaluated)


def test_success_is_counted_at_the_end_of_an_episode_and_survives_a_checkpoint(tmp_path):
    model = softac.SAC(Reach, seed=2, **OFF_POLICY).learn(100)
    ends = [success for _, _, success in model.training.collector.recent]
    assert len(ends) >= 7
    assert set(ends) <= {True, False}
    model.save(tmp_path / "model")
    again = softac.SAC.load(tmp_path / "model", env=Reach).learn(1)
    assert [s for _, _, s in again.training.collector.recent][: len(ends)] == ends


def test_environments_that_do_not_speak_of_success(tmp_path):
    from softac.run.metrics import read_rows

    softac.DDPG("Pendulum-v1", learning_starts=2_000).learn(1_000, run_dir=tmp_path / "run", n_eval_episodes=1)
    assert not any("success_rate" in name for row in read_rows(tmp_path / "run/metrics.jsonl") for name in row)


# --------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Reach(None), "which has no compute_reward; expected compute_reward(achieved_goal, desired_goal"),
        (lambda: Reach(unbatched), "compute_reward of make returned the shape () for 5 pairs of goals; expected"),
        (lambda: Reach(shuffled), "compute_reward of make returned ["),
        (lambda: Reach(lambda a, d, info: info["x"]), "compute_reward of make raised KeyError: 'x'; expected"),
    ],
)  # fmt: skip
def test_a_reward_that_cannot_be_computed_anew(make, text):
    make.__name__ = "make"
    with pytest.raises(ConfigError, match=re.escape(text)):
        softac.SAC(make, **OFF_POLICY)


@pytest.mark.parametrize("never", [False, np.False_], ids=["False", "numpy"])
def test_one_answer_to_many_pairs_is_that_to_each(never):
    """As Gymnasium-Robotics has it: `compute_terminated` of Fetch returns False, however many are asked."""
    env = Reach()
    env.compute_terminated = lambda achieved, desired, info: never
    goals = goals_of(EnvSource(env, {}), EnvSource(env, {}).vector(1).spaces)
    pairs = np.zeros((3, 2), np.float32)
    assert goals.terminates
    assert goals.terminated(pairs, pairs).tolist() == [False] * 3


def test_one_end_for_pairs_that_differ_is_refused():
    env = Reach()
    env.compute_terminated = lambda achieved, desired, info: bool(np.linalg.norm(achieved - desired) < NEAR)
    with pytest.raises(ConfigError) as raised:
        softac.SAC(lambda: env, **OFF_POLICY)
    assert "compute_terminated of" in raised.value.given
    assert "returned [0.0, 0.0, 0.0, 0.0, 0.0] for 5 pairs of goals, and [1.0, 1.0, 0.0" in raised.value.given
    assert raised.value.remedy == "compute along the last axis: np.linalg.norm(achieved - desired, axis=-1) < 0.05"


def test_the_environments_are_closed_where_no_model_comes_of_it(tmp_path, monkeypatch):
    made = []

    class Closing(Reach):
        closed = 0

        def __init__(self):
            super().__init__()
            made.append(self)

        def close(self):
            self.closed += 1

    with pytest.raises(ConfigError, match="engine='cudagraph' was given"):
        softac.SAC(Closing, engine="cudagraph", device="cpu", **OFF_POLICY)
    softac.SAC(Closing, **OFF_POLICY).save(tmp_path / "model")
    del made[:]

    def misfit(*_):
        raise CheckpointError("networks of another size", "expected its own", "restore the file")

    monkeypatch.setattr("softac.run.lifecycle.load_state_", misfit)
    with pytest.raises(CheckpointError, match="of another size"):
        softac.SAC.load(tmp_path / "model", Closing)
    assert [env.closed for env in made] == [1, 1]  # that it learns in, and the one that is asked for rewards


def test_goals_to_sample_without_hindsight_are_refused():
    with pytest.raises(ConfigError) as raised:
        softac.SAC(Reach, n_sampled_goal=8)
    assert str(raised.value) == (
        "n_sampled_goal=8 was given without hindsight; expected hindsight, which takes other goals for those that "
        "were wanted; give hindsight='future' as well, or leave n_sampled_goal out"
    )


def test_an_environment_without_goals():
    with pytest.raises(ConfigError) as raised:
        softac.SAC("Pendulum-v1", hindsight="future")
    assert str(raised.value) == (
        "hindsight was given with Pendulum-v1, whose observations are a Box; expected a Dict with achieved_goal "
        "and desired_goal; leave hindsight out, or choose an environment with goals"
    )


def test_goals_of_two_shapes():
    class Odd(Reach):
        def __init__(self):
            super().__init__()
            from gymnasium import spaces

            parts = dict(self.observation_space.spaces) | {"desired_goal": spaces.Box(-1.0, 1.0, (3,))}
            self.observation_space = spaces.Dict(parts)

    with pytest.raises(ConfigError, match="expected two arrays of one shape"):
        softac.SAC(Odd, hindsight="future")


def test_an_on_policy_algorithm():
    with pytest.raises(ConfigError, match=r"^hindsight was given with PPOAgent, which learns from what"):
        softac.PPO(Reach, hindsight="future")


def test_a_reward_that_goes_wrong_later():
    goals = goals_of(EnvSource(Reach, {}), EnvSource(Reach, {}).vector(1).spaces)
    assert isinstance(goals, Goals)
    zeros = np.zeros((4, 2), np.float32)
    assert goals.rewards(zeros, zeros).tolist() == [0.0] * 4
    goals._reward = lambda a, d, info: np.full(len(a), np.nan)
    with pytest.raises(EnvironmentFailed, match=r"^compute_reward of Reach returned the reward nan; expected a"):
        goals.rewards(zeros, zeros)
    goals._reward = lambda a, d, info: paid(a[0], d[0], info)
    with pytest.raises(EnvironmentFailed, match=r"returned the shape \(\) for 4 pairs of goals"):
        goals.rewards(zeros, zeros)


def test_the_length_of_an_episode_of_the_task():
    model = softac.SAC(Reach, **OFF_POLICY).learn(60)
    assert all(LENGTH <= length <= LENGTH + 2 for _, length, _ in model.training.collector.recent)


# ------------------------------------------------------------------------------------------ softac check


def told(make):
    from softac.examine.environment import check_env

    return [f for f in check_env(make, steps=60) if "goals" in f.what or "compute_reward" in f.what]


def test_check_says_whether_hindsight_can_be_used():
    (fine,) = told(Reach)
    assert (fine.level, fine.what) == (
        "ok",
        "goals: compute_reward agrees with the rewards of step; --hindsight future can be used",
    )
    (missing,) = told(lambda: Reach(None))
    assert missing.level == "note"
    assert "which has no compute_reward" in missing.what
    (other,) = told(lambda: Reach(lambda a, d, info: 2.0 * paid(a, d, info)))
    assert other.what.startswith(
        "compute_reward gives -2 where step 1 was rewarded with -1, and something else in "
    )
