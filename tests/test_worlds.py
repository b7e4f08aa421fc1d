"""Where environments are stepped, and what follows when they fail: the same bits, or what was asked for."""

import importlib.util
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worlds
from folders import memory_folder
from hashing import digests, metrics, training_digests
from reliability_envs import TINY
from softac import A2C, DQN, PPO, REINFORCE, SAC, SACV, TD3, GamidPG, Model, SACDiscrete, SACMixture
from softac.cli.main import main
from softac.envs import BesideVectorEnv, EnvFault, EnvSource
from softac.errors import ConfigError, EnvironmentFailed
from softac.run.config import RecordConfig

N = 101  # no multiple of an interval below, nor of the numbers of environments
FREQUENCIES: dict[str, Any] = {"eval_freq": 60, "n_eval_episodes": 1, "save_freq": 45}
DRIFT = "worlds/Drift-v0"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


@pytest.fixture(autouse=True)
def frequent_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softac.run.recorder.LOG_FREQ", 35)


def run(
    path: Path, steps: int = N, kind: Any = SAC, env: Any = DRIFT, n_eval_episodes: int = 1, **arguments: Any
) -> Model:
    small: dict[str, Any] = {"net_arch": [8], "n_steps": 7} if kind in (PPO, A2C, REINFORCE) else TINY
    model = kind(env, **(small | arguments))
    try:
        model.learn(steps, run_dir=path, **FREQUENCIES | {"n_eval_episodes": n_eval_episodes})
    finally:
        model.close()
    return model


def go_on(path: Path, steps: int, **changes: Any) -> None:
    model = SAC.load(path, **changes)
    model.learn(steps, run_dir=path, **FREQUENCIES)
    model.close()


# --------------------------------------------------------------------- the same bits


@pytest.mark.parametrize("kind", [SAC, SACV, SACMixture, GamidPG, TD3, PPO, A2C, REINFORCE])
def test_workers_change_no_bit(kind: Any, tmp_path: Path) -> None:
    run(tmp_path / "here", kind=kind, n_envs=3)
    run(tmp_path / "there", kind=kind, n_envs=3, env_workers=2)
    assert digests(tmp_path / "there") == digests(tmp_path / "here")


@pytest.mark.parametrize("kind", [DQN, SACDiscrete, PPO])
def test_workers_change_no_bit_of_discrete_actions(kind: Any, tmp_path: Path) -> None:
    for name, workers in (("here", 0), ("there", 2)):
        run(tmp_path / name, kind=kind, env="CartPole-v1", n_envs=2, env_workers=workers)
    assert digests(tmp_path / "there") == digests(tmp_path / "here")


@pytest.mark.parametrize("env", ["Pendulum-v1", "Hopper-v5", "reliability/DictReach-v0"])
def test_workers_may_come_and_go_on_resume(env: str, tmp_path: Path) -> None:
    """A budget that ends inside a round, another number of workers after it, and none at the end."""
    run(tmp_path / "whole", 150, env=env, n_envs=4, n_steps=3)
    run(tmp_path / "legs", 66, env=env, n_envs=4, n_steps=3, env_workers=3)
    go_on(tmp_path / "legs", 35, env_workers=1)
    go_on(tmp_path / "legs", 49, env_workers=0)
    assert digests(tmp_path / "legs") == digests(tmp_path / "whole")


def test_many_short_calls_with_workers(tmp_path: Path) -> None:
    run(tmp_path / "whole", n_envs=4)
    model = SAC(DRIFT, **TINY, n_envs=4, env_workers=2)
    for steps in (1, 2, 34, 35, 29):
        model.learn(steps, run_dir=tmp_path / "legs", **FREQUENCIES)
    model.close()
    assert digests(tmp_path / "legs") == digests(tmp_path / "whole")


# --------------------------------------------------------------------- overlap


@pytest.mark.parametrize("n_envs", [1, 3])
def test_overlap_gives_the_same_bits_here_and_there_and_on_resume(n_envs: int, tmp_path: Path) -> None:
    run(tmp_path / "thread", 150, n_envs=n_envs, overlap=True)
    run(tmp_path / "workers", 150, n_envs=n_envs, overlap=True, env_workers=min(n_envs, 2))
    run(tmp_path / "legs", 66, n_envs=n_envs, overlap=True)
    go_on(tmp_path / "legs", 35, env_workers=1)
    go_on(tmp_path / "legs", 49, env_workers=0)
    for name in ("workers", "legs"):
        assert timeless(tmp_path / name) == timeless(tmp_path / "thread")


def timeless(path: Path) -> dict[str, Any]:
    delays = ("time/action_delay", "time/action_delay_max")
    rows = [{k: v for k, v in row.items() if k not in delays} for row in metrics(path)]
    return training_digests(path) | {"rows": rows}


def test_overlap_gives_the_same_bits_whatever_the_timing(tmp_path: Path) -> None:
    run(tmp_path / "quick", 60, n_envs=2, overlap=True)
    run(tmp_path / "slow", 60, n_envs=2, overlap=True, env_kwargs={"pause": 0.004})
    found, expected = timeless(tmp_path / "slow"), timeless(tmp_path / "quick")
    assert {k: v for k, v in found.items() if k != "counters and episodes"} == {
        k: v for k, v in expected.items() if k != "counters and episodes"
    }


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_stop_leaves_unfinished_is_done_before_the_round_is_recorded(workers: int, tmp_path: Path) -> None:
    """A stop between the updates that run while the environments are stepped."""
    settings: dict[str, Any] = TINY | {"gradient_steps": 3, "overlap": True, "env_workers": workers}
    record = RecordConfig(eval_freq=60, n_eval_episodes=1, save_freq=45)
    whole = SAC(DRIFT, **settings)
    whole.train(80, record, tmp_path / "whole")
    whole.close()
    model = SAC(DRIFT, **settings)
    again = 0
    while model.num_timesteps < 80:
        questions = iter(range(31 + again))
        model.train(80, record, tmp_path / "legs", stop=lambda q=questions: next(q, None) is None)
        again += 1
        if again == 3:  # the third time in a new process, as it were
            model.close()
            model = SAC.load(tmp_path / "legs")
    model.train(80, record, tmp_path / "legs")
    model.close()
    assert again > 5
    assert training_digests(tmp_path / "legs") == training_digests(tmp_path / "whole")


def test_overlap_is_a_delay_of_one_update_and_of_nothing_else(tmp_path: Path) -> None:
    """Pinned by hand: which policy acts in each round, and how many rows each update sees."""
    seen: list[tuple[str, int, int]] = []
    model = SAC(DRIFT, **TINY | {"learning_starts": 2}, overlap=True)
    training = model.life.begun(10)
    choose, update = training.choose, training.update

    def noted_choose(obs: Any) -> Any:
        seen.append(("act", training.updates, len(training.memory)))
        return choose(obs)

    def noted_update() -> None:
        seen.append(("update", training.updates, len(training.memory)))
        update()

    training.choose, training.update = noted_choose, noted_update  # type: ignore[method-assign]
    model.learn(6)
    model.close()
    assert seen == [
        ("act", 0, 0),
        ("act", 0, 1),
        ("act", 0, 2),  # two steps of warm-up, then one that has called for an update
        ("act", 0, 3),
        ("update", 0, 3),
        ("act", 1, 4),
        ("update", 1, 4),
        ("act", 2, 5),
        ("update", 2, 5),
    ]
    assert training.updates_due() == 1  # of the last round; it is done with the next


def test_the_environment_is_stepped_while_the_agent_learns() -> None:
    pause, updates = 0.2, 0.2
    times = {}
    for overlap in (False, True):
        model = SAC(DRIFT, **TINY | {"learning_starts": 2}, env_kwargs={"pause": pause}, overlap=overlap)
        training = model.life.begun(30)
        update = training.update

        def slow_update(update: Any = update) -> None:
            time.sleep(updates)
            update()

        training.update = slow_update  # type: ignore[method-assign]
        model.learn(3)
        began = time.perf_counter()
        model.learn(5)
        times[overlap] = time.perf_counter() - began
        model.close()
    assert times[True] < 0.85 * times[False]


def test_how_late_actions_are_is_a_metric(tmp_path: Path) -> None:
    model = run(tmp_path / "run", 80, overlap=True)
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "time/fps" in row]
    assert rows
    assert model.run.overlap
    for row in rows:
        assert 0.0 < row["time/action_delay"] <= row["time/action_delay_max"] < 10.0
    run(tmp_path / "without", 80)
    assert "time/action_delay" not in (tmp_path / "without/metrics.jsonl").read_text()


def test_an_observation_waits_for_the_update_that_outlasts_the_step() -> None:
    model = SAC(DRIFT, **TINY | {"learning_starts": 2}, overlap=True, env_workers=1)
    training = model.life.begun(30)
    update = training.update

    def slow_update() -> None:
        time.sleep(0.1)
        update()

    training.update = slow_update  # type: ignore[method-assign]
    rows: list[dict[str, float]] = []
    model.learn(8, callback=lambda _, row: rows.append(row))
    model.close()
    assert 0.03 < rows[-1]["time/action_delay"] < 1.0  # the step was ready almost at once


def test_overlap_with_an_agent_that_learns_from_its_rollouts() -> None:
    with pytest.raises(ConfigError) as caught:
        PPO(DRIFT, overlap=True)
    assert str(caught.value) == (
        "overlap was given with PPOAgent, which learns from each rollout of its present policy; expected an "
        "algorithm with a replay, which may learn while the environments are stepped; leave overlap out, or "
        "choose sac or td3, say"
    )


def test_overlap_is_part_of_what_a_run_is(tmp_path: Path) -> None:
    run(tmp_path / "run", 40, overlap=True)
    config = tmp_path / "run/config.json"
    assert json.loads(config.read_text())["run"]["overlap"] is True
    model = SAC.load(tmp_path / "run")
    assert model.run.overlap
    model.close()


def test_a_thread_hands_out_answers_as_without_it() -> None:
    envs, calm = BesideVectorEnv(EnvSource(DRIFT, {}).vector(3)), EnvSource(DRIFT, {}).vector(3)
    for i in range(3):
        np.testing.assert_array_equal(envs.reset(i, i), calm.reset(i, i))
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 2)).astype(np.float32)
    next(envs.step(0, actions))
    found = [step.obs for step in envs.step(1, actions[1:])]  # asked for again: not stepped again
    expected = [step.obs for step in calm.step(0, actions)]
    np.testing.assert_array_equal(found, expected[1:])
    envs.close()


def test_a_thread_tells_faults_in_order() -> None:
    envs = BesideVectorEnv(EnvSource(DRIFT, {"fault": "raise", "at": 2}).vector(2))
    zero = np.zeros((2, 2), np.float32)
    for i in range(2):
        envs.reset(i, i)
    assert len(list(envs.step(0, zero))) == 2
    with pytest.raises(EnvFault, match=r"^raised RuntimeError: the model exploded in step$"):
        list(envs.step(0, zero))
    envs.restart(0)
    envs.reset(0, 3)
    with pytest.raises(EnvFault):
        list(envs.step(0, zero))  # the second one has its fault still before it
    envs.close()


# --------------------------------------------------------------------- failures


@pytest.mark.parametrize("fault", ["raise", "kill", "hang", "close descriptors", "lie"])
@pytest.mark.parametrize("overlap", [False, True])
def test_a_failure_in_a_worker_ends_the_run_and_all_before_it_is_saved(
    fault: str, overlap: bool, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    arguments: dict[str, Any] = {
        "n_envs": 3,
        "env_workers": 2,
        "env_timeout": 1.0,
        "overlap": overlap,
        "env_kwargs": {"fault": fault, "at": 17, "once": str(once)},
    }
    with pytest.raises(EnvironmentFailed) as caught:
        run(tmp_path / "run", 80, **arguments)
    assert "in step at step 17 of episode 0 (seed " in str(caught.value)
    # It has happened: the next process goes on, and the run becomes the one that never failed.
    go_on(tmp_path / "run", 80 - SAC.load(tmp_path / "run", env_workers=0).num_timesteps)
    run(tmp_path / "good", 80, **arguments)
    assert training_digests(tmp_path / "run") == training_digests(tmp_path / "good")


@pytest.mark.parametrize("fault", ["raise", "kill", "hang"])
def test_the_same_model_goes_on_where_it_failed(fault: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = TINY | {
        "n_envs": 3,
        "env_workers": 2,
        "env_timeout": 1.0,
        "env_kwargs": {"fault": fault, "at": 17, "once": str(tmp_path / "once"), "seed": None},
    }
    model = SAC(DRIFT, **arguments)
    with pytest.raises(EnvironmentFailed):
        model.learn(80, run_dir=tmp_path / "run", **FREQUENCIES)
    model.learn(80 - model.num_timesteps, run_dir=tmp_path / "run", **FREQUENCIES)
    model.close()
    if fault != "raise":  # there the instance itself has moved on
        run(tmp_path / "good", 80, **{k: v for k, v in arguments.items() if k not in TINY})
        assert training_digests(tmp_path / "run") == training_digests(tmp_path / "good")


class Dead(worlds.Drift):
    """Refuses to be stepped from its tenth step on until it is reset."""

    dead = False

    def reset(self, **arguments: Any) -> Any:
        self.dead = False
        return super().reset(**arguments)

    def step(self, action: Any) -> Any:
        self.dead |= self.steps == 9
        if self.dead:
            self.steps = 10
            raise ConnectionResetError("the simulator has gone")
        return super().step(action)


def test_a_dead_environment_is_brought_back_when_trying_again_does_not_help() -> None:
    model = SAC(Dead, **TINY)
    with pytest.raises(EnvironmentFailed, match="the simulator has gone"):
        model.learn(15)
    assert model.num_timesteps == 9
    with pytest.raises(EnvironmentFailed, match="the simulator has gone"):
        model.learn(6)  # a new instance comes to its tenth step, too
    model = SAC(Dead(), **TINY)
    with pytest.raises(EnvironmentFailed, match="the simulator has gone"):
        model.learn(15)
    model.learn(6)  # this one was given, and only reset; its episode is the same
    assert model.num_timesteps == 15
    assert model.training is not None
    assert [e.index for e in model.training.collector.episodes] == [0]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_restart_begins_a_new_episode_with_the_next_seed(
    workers: int, n_steps: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kwargs = {"fault": "raise", "at": 17, "once": str(tmp_path / "once"), "length": 40}
    model = run(
        tmp_path / "run",
        90,
        n_envs=2,
        n_steps=n_steps,
        env_workers=workers,
        env_kwargs=kwargs,
        on_env_failure="restart",
    )
    assert model.num_timesteps == 90
    collector = model.training.collector
    assert collector.restarts == 1
    (line,) = [m for m in caplog.messages if "new instance" in m]
    # Which of two workers comes first to its 17th step is left to them.
    assert re.match(r"environment [01] raised RuntimeError: the model exploded in step at step 17 of ep", line)
    assert line.endswith("; a new instance begins episode 1")
    rows = [json.loads(text) for text in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert rows[-1].get("time/env_restarts", rows[-2].get("time/env_restarts")) == 1
    # Every step that was answered is there, with as many rewards as there were; nothing else is.
    replay = model.training.memory
    assert replay.added == 90 - sum(len(e.window._begun) for e in collector.episodes)
    assert np.isfinite(replay.explicit_rows(0, replay.added)).all()


def test_restart_gives_the_same_bits_with_and_without_workers(tmp_path: Path) -> None:
    """Where the fault belongs to the instance and not to the process: at its 17th step, always."""
    for name, workers in (("here", 0), ("there", 2)):
        kwargs = {"fault": "nan", "at": 17, "length": 12}
        run(tmp_path / name, 90, n_envs=2, env_workers=workers, env_kwargs=kwargs, on_env_failure="restart")
    assert training_digests(tmp_path / "there") == training_digests(tmp_path / "here")


def test_restart_after_a_failed_reset(tmp_path: Path) -> None:
    kwargs = {"fault": "raise", "place": "reset", "at": 2, "length": 10}
    model = run(tmp_path / "run", 45, env_kwargs=kwargs, on_env_failure="restart")
    collector = model.training.collector
    # Each instance has one episode: its second reset raises, and the next instance has the episode after it.
    assert [e.index for e in collector.episodes] == [8]
    assert collector.restarts == 4
    assert collector.episodes_done == 4


@pytest.mark.parametrize("place", ["step", "reset"])
def test_restart_gives_up_after_ten_in_a_row(place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kwargs = {"fault": "raise", "place": place, "at": 2, "length": 100 if place == "step" else 1}
    if place == "reset":
        kwargs["at"] = 1
    with pytest.raises(EnvironmentFailed) as caught:
        run(tmp_path / "run", 90, env_kwargs=kwargs, on_env_failure="restart")
    where = "step at step 2 of episode 9 (seed " if place == "step" else "reset at the start of episode 9 (seed "
    assert str(caught.value).startswith(
        "10 episodes of environment 0 failed one after the other, the last one: environment 0 raised "
        f"RuntimeError: the model exploded in {where}"
    )
    assert len([m for m in caplog.messages if "new instance" in m]) == 9


def test_restart_where_the_very_first_reset_fails(tmp_path: Path) -> None:
    kwargs = {"fault": "raise", "place": "reset", "at": 1, "once": str(tmp_path / "once"), "length": 10}
    collector = run(tmp_path / "run", 15, env_kwargs=kwargs, on_env_failure="restart").training.collector
    assert (collector.restarts, collector.episodes_done, collector.failures) == (1, 1, [0])
    assert [e.index for e in collector.episodes] == [2]


def test_how_many_have_failed_is_part_of_the_state(tmp_path: Path) -> None:
    kwargs = {"fault": "raise", "at": 2, "length": 100}
    run(tmp_path / "run", 5, env_kwargs=kwargs, on_env_failure="restart", n_eval_episodes=0)
    model = SAC.load(tmp_path / "run")
    model.life.begun(6)
    assert model.training.collector.restarts == 4
    assert model.training.collector.failures == [4]


def test_a_rollout_does_not_reach_over_a_failure() -> None:
    model = PPO(DRIFT, n_steps=8, net_arch=[8], env_kwargs={"fault": "raise", "at": 4, "length": 100},
                on_env_failure="restart")  # fmt: skip
    model.learn(7)
    storage = model.training.memory
    continues = storage.rows[:7, -1]
    assert continues.tolist() == [1, 1, 0, 1, 1, 0, 1]


def test_an_evaluation_goes_on_in_a_new_instance(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    once = tmp_path / "once"
    kwargs = {"fault": "kill", "at": 33, "once": str(once), "length": 20}
    # Training makes 30 steps, the evaluations two episodes each.
    model = SAC(DRIFT, **TINY, env_kwargs=kwargs, env_workers=1, on_env_failure="restart")
    model.learn(30, run_dir=tmp_path / "run", n_eval_episodes=1, eval_freq=0)
    model.close()
    (line,) = [m for m in caplog.messages if "new instance" in m]
    assert line.startswith(
        "the evaluation environment ended its process (SIGKILL) in step at step 13 of the episode"
    )
    assert once.exists()


def test_a_worker_that_is_killed_from_outside(tmp_path: Path) -> None:
    model = SAC(DRIFT, **TINY, n_envs=2, env_workers=2, on_env_failure="restart")
    killed: list[int] = []

    def kill(training: Any) -> None:
        if training.steps == 40:
            process = model.life.envs._processes[1].process
            process.kill()
            killed.append(process.pid)

    model.train(80, RecordConfig(0, 0, 0), None, heartbeat=kill)
    assert killed
    assert model.training.collector.restarts == 1
    assert model.num_timesteps == 80
    model.close()


# --------------------------------------------------------------------- the command


def test_the_flags_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "train sac Pendulum-v1 -n 60 --n-envs 2 --env-workers 2 --env-timeout 50 --overlap"
    small = "--on-env-failure restart "
    small += "--net-arch 8 --batch-size 8 --learning-starts 10 --n-eval-episodes 0"
    assert main([*words.split(), *small.split(), "--run-dir", str(tmp_path / "run")]) == 0
    settings = json.loads((tmp_path / "run/config.json").read_text())["run"]
    assert (settings["env_workers"], settings["env_timeout"]) == (2, 50.0)
    assert (settings["on_env_failure"], settings["overlap"]) == ("restart", True)
    assert main(["resume", str(tmp_path / "run"), "-n", "90", "--env-workers", "0"]) == 0
    assert json.loads((tmp_path / "run/config.json").read_text())["run"]["env_workers"] == 0
    capsys.readouterr()
    assert main(["train", "sac", "Pendulum-v1", "--env-workers", "2"]) == 2
    assert capsys.readouterr().err == (
        "softac: env_workers=2 was given with n_envs=1; expected at most one worker for each environment; give "
        "env_workers=1, or more environments\n"
    )
    assert main(["train", "ppo", "Pendulum-v1", "--overlap"]) == 2
    assert main(["train", "sac", "Pendulum-v1", "--on-env-failure", "repeat"]) == 2


def test_a_run_from_before_these_options_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "run", 60)
    run(tmp_path / "whole", 100)
    config = tmp_path / "run/config.json"
    data = json.loads(config.read_text())
    for name in ("env_workers", "env_timeout", "on_env_failure", "overlap"):
        del data["run"][name]
    from softac.run.folder import config_sha256

    assert config_sha256(data) == config_sha256(json.loads(config.read_text()))


def test_the_pendulum_of_the_example_does_not_wait() -> None:
    path = Path(__file__).parents[1] / "examples/real_time.py"
    spec = importlib.util.spec_from_file_location("real_time", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    env = module.RealTimePendulum(hertz=20.0, length=9)
    env.reset(seed=0)
    began = time.monotonic()
    env.step(np.zeros(1))
    assert time.monotonic() - began > 0.04  # it answers at its tick
    angle = env.angle
    time.sleep(0.26)  # five ticks and more, in which nobody acts
    *_, truncated, info = env.step(np.ones(1))
    assert info["missed"] >= 5
    assert env.ticks >= 7
    assert env.angle != angle
    while not truncated:
        *_, truncated, info = env.step(np.ones(1))
