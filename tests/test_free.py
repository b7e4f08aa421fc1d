"""Environments that set their own pace: how many updates, how old a policy, and what a stop leaves."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from folders import memory_folder
from hashing import metrics
from softac import PPO, SAC
from softac.errors import ConfigError, EnvironmentFailed
from softac.run import free
from worlds import Drift, Paced

SMALL: dict[str, Any] = {"net_arch": [16], "batch_size": 16, "learning_starts": 20, "buffer_size": 2_000}


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


def model(n_envs: int = 3, **settings: Any) -> SAC:
    return SAC(Drift, n_envs=n_envs, env_workers=n_envs, collect="free", **(SMALL | settings))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("softac-env-")]


@pytest.mark.parametrize("settings", [{}, {"n_steps": 3}, {"train_freq": 5, "gradient_steps": 2}])
def test_the_updates_for_each_step_are_exact(folder: Path, settings: dict[str, Any]) -> None:
    sac = model(**settings)
    sac.learn(150, run_dir=folder / "run", eval_freq=0, n_eval_episodes=0)
    training = sac.training
    assert training is not None
    freq, each = settings.get("train_freq", 1), settings.get("gradient_steps", 1)
    assert (training.steps, training.updates) == (150, (150 - 20) // freq * freq * each)
    assert training.memory.added <= 150
    assert training.memory.added >= 150 - 3 * settings.get("n_steps", 1)
    row = metrics(folder / "run")[-1]
    assert 0 <= row["time/policy_age"] <= row["time/policy_age_max"] <= free.MOST_BEHIND + 3 * each * freq
    sac.close()
    assert threads() == []


def test_it_says_that_it_cannot_be_repeated(caplog: pytest.LogCaptureFixture) -> None:
    sac = model(1)
    with caplog.at_level(logging.WARNING):
        sac.learn(25)
    sac.close()
    said = "collect='free': the environments set their own pace, and this run cannot be repeated"
    assert said in [record.getMessage() for record in caplog.records]


def test_fast_environments_do_not_wait_for_a_slow_one(tmp_path: Path) -> None:
    """Steps of 5 ms in two of them and of 400 ms in the third: in lock-step 60 steps would take 8 seconds."""
    marks = tmp_path / "marks"
    marks.mkdir()
    sac = SAC(Paced, n_envs=3, env_workers=3, collect="free", env_kwargs={"marks": str(marks)}, **SMALL)
    sac.learn(3)
    began = time.monotonic()
    sac.learn(57)
    assert time.monotonic() - began < 5.0
    sac.close()


def test_a_policy_does_not_act_for_longer_than_the_bound(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with a bound of 10 updates: the fast ones wait."""
    monkeypatch.setattr(free, "MOST_BEHIND", 10)
    marks = tmp_path / "marks"
    marks.mkdir()
    sac = SAC(Paced, n_envs=3, env_workers=3, collect="free", env_kwargs={"marks": str(marks)}, **SMALL)
    sac.learn(90, run_dir=folder / "run", n_eval_episodes=0)
    sac.close()
    row = metrics(folder / "run")[-1]
    assert 8 <= row["time/policy_age_max"] <= 10 + 3


def test_a_run_goes_on_with_new_episodes_and_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    sac = SAC(Drift, n_envs=2, env_workers=2, collect="free", **SMALL)
    sac.learn(60, run_dir=folder / "run", n_eval_episodes=0)
    sac.close()
    before = sac.training.updates if sac.training else 0
    again = SAC.load(folder / "run", Drift)
    with caplog.at_level(logging.WARNING):
        again.learn(40, run_dir=folder / "run", n_eval_episodes=0)
    again.close()
    assert again.training is not None
    assert (again.training.steps, again.training.updates) == (100, before + 40)
    told = "every environment begins a new episode, since it sets its own pace: not bit for bit"
    assert told in [record.getMessage() for record in caplog.records]


def test_an_environment_that_fails_ends_the_run_or_is_made_anew() -> None:
    sac = SAC(Drift, n_envs=2, env_workers=2, collect="free", env_kwargs={"fault": "raise", "at": 15}, **SMALL)
    with pytest.raises(EnvironmentFailed, match="raised"):
        sac.learn(200)
    sac.close()
    assert threads() == []
    kwargs = {"fault": "raise", "at": 15}
    sac = SAC(Drift, n_envs=2, env_workers=2, collect="free", env_kwargs=kwargs, on_env_failure="restart", **SMALL)
    sac.learn(100)
    assert sac.training is not None
    assert sac.training.collector.restarts >= 4
    sac.close()


@pytest.mark.parametrize(
    ("kind", "settings", "given", "remedy"),
    [
        (SAC, {"n_envs": 2}, "collect='free' was given with n_envs=2 and env_workers=0", "give env_workers=2"),
        (
            PPO,
            {"env_workers": 1},
            "collect='free' was given with PPOAgent, which learns from its present policy",
            "leave collect out, or choose sac or td3, say",
        ),
        (
            SAC,
            {"env_workers": 1, "overlap": True},
            "collect='free' was given with overlap",
            "leave one of them out",
        ),
    ],
)
def test_what_does_not_go_with_it(kind: Any, settings: dict[str, Any], given: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as error:
        kind("Pendulum-v1", collect="free", **settings)
    assert (error.value.given, error.value.remedy) == (given, remedy)
