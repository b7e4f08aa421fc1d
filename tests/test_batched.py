"""Simulators that step many environments at once: the transitions of one by one, and what cannot be promised."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import worlds
from reliability_envs import TINY
from softac import PPO, SAC
from softac.envs import BatchVectorEnv, EnvFault, EnvPoolBatch, EnvSource, GymnasiumBatch
from softac.errors import ConfigError, EnvironmentFailed


def pendulums(n: int, mode: AutoresetMode = AutoresetMode.DISABLED) -> Any:
    def make() -> Any:
        return gym.make("Pendulum-v1", disable_env_checker=True, max_episode_steps=13)

    return SyncVectorEnv([make] * n, autoreset_mode=mode)


class Counting:
    """Observation (number of the episode, step of it) of three environments; ends after 3, 4 and 5 steps."""

    num_envs = 3
    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, bad: float | None = None) -> None:
        self.obs = torch.zeros(3, 2)
        self.seeds: list[int] = []
        self.bad, self.steps = bad, 0

    def reset(self, mask: Any, seeds: Any) -> torch.Tensor:
        self.seeds += seeds[mask].tolist()
        self.obs[torch.from_numpy(mask), 0] += 1
        self.obs[torch.from_numpy(mask), 1] = 0
        out = self.obs.clone()
        out[torch.from_numpy(~mask)] = 77.0  # these are not looked at
        return out

    def step(self, actions: Any) -> tuple[Any, ...]:
        assert actions.shape == (3, 1)
        self.steps += 1
        self.obs[:, 1] += 1
        if self.bad is not None and self.steps == 5:
            self.obs[1, 0] = self.bad
        ended = self.obs[:, 1] >= torch.tensor([3, 4, 5])
        return self.obs, self.obs[:, 1].clone(), ended & (torch.arange(3) == 0), ended & (torch.arange(3) > 0)

    def close(self) -> None:
        self.obs = torch.zeros(0)


def test_the_same_run_as_one_by_one() -> None:
    """A vector environment of Gymnasium that does not reset by itself gives the bits of `n_envs`."""
    one_by_one = SAC("Pendulum-v1", n_envs=3, env_kwargs={"max_episode_steps": 13}, **TINY).learn(120)
    together = SAC(GymnasiumBatch(pendulums(3)), **TINY).learn(120)
    assert together.run.n_envs == 3
    a, b = one_by_one.agent.tensors(), together.agent.tensors()
    assert all(torch.equal(a[name], b[name]) for name in a)
    together.close()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_one_that_resets_by_itself_is_refused(mode: AutoresetMode) -> None:
    with pytest.raises(ConfigError) as caught:
        GymnasiumBatch(pendulums(2, mode))
    assert str(caught.value) == (
        f"a vector environment that resets by itself was given (autoreset_mode is {mode}); expected one that "
        "leaves that to softac, which has a seed for every episode; make it with "
        "autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED"
    )


def test_masks_beside_the_observations_are_refused() -> None:
    taxis = gym.make_vec(
        "Taxi-v4", 2, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED}
    )
    with pytest.raises(ConfigError) as caught:
        GymnasiumBatch(taxis)
    assert str(caught.value) == (
        "a vector environment that says its action masks in info['action_mask'] was given; expected them in its "
        "observations, a part 'action_mask' of a Dict; give one environment and n_envs instead, or put them there"
    )


def test_rows_are_those_of_each_episode() -> None:
    """Tensors in; the true last observation, never that of a reset, and a seed for each episode."""
    batch = Counting()
    model = SAC(batch, **TINY | {"buffer_size": 500, "n_steps": 1}).learn(60)
    rows = model.training.memory.explicit_rows(0, 60)
    episode, t, next_episode, next_t = rows[:, 0], rows[:, 1], rows[:, -2], rows[:, -1]
    assert (episode == next_episode).all()
    assert (next_t == t + 1).all()
    assert (rows[:, 3] == next_t).all()  # the rewards
    discounts = rows[:, 4].reshape(20, 3)
    assert (discounts[:, 1:] == np.float32(0.99)).all()  # these are truncated
    assert (discounts[2::3, 0] == 0).all()
    assert len(set(batch.seeds)) == len(batch.seeds)
    model.close()


def test_answers_are_handed_out_once_however_they_are_asked_for() -> None:
    batch = Counting()
    envs = BatchVectorEnv(batch)
    for i in range(3):
        envs.reset(i, i)
    actions = np.zeros((3, 1), np.float32)
    next(envs.step(0, actions))
    assert [step.reward for step in envs.step(1, actions[1:])] == [1.0, 1.0]
    assert batch.steps == 1


def test_a_budget_is_a_multiple() -> None:
    model = SAC(Counting(), **TINY)
    with pytest.raises(ConfigError) as caught:
        model.learn(100)
    assert str(caught.value) == (
        "100 steps were asked for of 3 environments that are stepped together; expected a multiple of 3; ask for "
        "102"
    )


def test_what_a_simulator_cannot_have() -> None:
    with pytest.raises(ConfigError, match=r"^n_envs=2 was given with a simulator of 3 environments; expected 3; "):
        SAC(Counting(), n_envs=2, **TINY)
    with pytest.raises(ConfigError, match=r"^on_env_failure='restart' was given with a simulator \(Counting\); "):
        SAC(Counting(), on_env_failure="restart", **TINY)
    with pytest.raises(ConfigError, match=r"^an environment object \(Counting\) was given with env_workers; "):
        SAC(Counting(), env_workers=1, **TINY)


def test_a_row_that_is_not_finite_ends_the_run_before_its_round() -> None:
    model = SAC(Counting(bad=float("nan")), **TINY)
    with pytest.raises(EnvironmentFailed) as caught:
        model.learn(60)
    assert str(caught.value).startswith(
        "environment 0 is stepped together with environment 1, which returned an observation with nan in it"
    )
    assert model.num_timesteps == 12
    with pytest.raises(EnvironmentFailed, match="has failed and was not reset since"):
        model.learn(48)


def test_one_alone_cannot_be_stepped() -> None:
    envs = BatchVectorEnv(Counting())
    for i in range(3):
        envs.reset(i, i)
    with pytest.raises(EnvFault, match=r"^can only be stepped together with all the others$"):
        list(envs.step(1, np.zeros((1, 1), np.float32)))


@pytest.mark.parametrize("overlap", [False, True])
def test_a_run_goes_on_with_new_episodes(overlap: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    SAC(Counting(), overlap=overlap, **TINY).learn(60, run_dir=tmp_path / "run")
    model = SAC.load(tmp_path / "run", Counting()).learn(30, run_dir=tmp_path / "run")
    assert model.num_timesteps == 90
    # One is not played again without the others.
    assert len([m for m in caplog.messages if "continuing with a new episode, not bit for bit" in m]) == 3


def test_overlap_and_on_policy_agents_work_with_it() -> None:
    for kind, settings in ((SAC, TINY | {"overlap": True}), (PPO, {"n_steps": 7, "net_arch": [8]})):
        model = kind(Counting(), **settings).learn(63)
        assert model.num_timesteps == 63
        model.close()


def test_envpool() -> None:
    """Its resets handled as they are: in the step after an end, unless it has been reset before."""
    envpool = pytest.importorskip("envpool")
    pool = envpool.make("Pendulum-v1", env_type="gymnasium", num_envs=3, seed=0)
    model = SAC(EnvPoolBatch(pool), **TINY | {"buffer_size": 2_000}).learn(1_230)
    rows = model.training.memory.explicit_rows(0, 1_230)
    obs, next_obs = rows[:, :3].reshape(-1, 3, 3), rows[:, -3:].reshape(-1, 3, 3)
    ends = np.arange(410) % 200 == 199
    for i in range(3):
        follows = obs[1:, i] == next_obs[:-1, i]
        assert follows[~ends[:-1]].all()  # within an episode each begins where the one before ended
        assert not follows[ends[:-1]].any()
        assert (np.abs(np.linalg.norm(next_obs[:, i, :2], axis=1) - 1) < 1e-3).all()
    assert (rows[:, 5] == np.float32(0.99)).all()  # time limits do not end the future
    assert (rows[:, 4] < 0).mean() > 0.99  # no row of a reset, whose reward is 0
    assert model.training.collector.episodes_done == 6
    model.close()


def test_what_envpool_did_not_make() -> None:
    with pytest.raises(ConfigError, match=r"^a SyncVectorEnv was given; expected what envpool\.make"):
        EnvPoolBatch(pendulums(2))


def test_a_class_with_the_members_is_no_simulator() -> None:
    assert EnvSource(Counting, {}).repeatable  # it would be called, as any function
    assert not EnvSource(Counting(), {}).repeatable
    assert not EnvSource(worlds.Drift(), {}).repeatable
