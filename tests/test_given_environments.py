"""Environments as people bring them: one object for everything, none that ends, other settings of PyTorch."""

import logging
import re
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from folders import memory_folder
from hashing import training_digests
from probes import CountingEnv, EarlyEndingEnv
from reliability_envs import Drift, tiny
from softac import DQN, PPO, SAC, SACDiscrete, SACMixture, evaluate_policy
from softac.cli.main import main
from softac.errors import ConfigError
from softac.run import evaluate, recorder
from softac.run.metrics import METRICS, read_rows


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


# --------------------------------------------------------------------------- one object for everything


def test_a_function_that_returns_the_same_environment_is_refused() -> None:
    env = CountingEnv()
    text = (
        "the function that makes the environments returned the same CountingEnv again; expected a new one from "
        "each call, since each plays an episode of its own; make it inside the function"
    )
    for make in (lambda: env, lambda: gym.wrappers.TimeLimit(env, 10)):  # also where another wrapper is around it
        with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
            tiny(make, n_envs=2)


def test_the_environment_of_training_is_not_evaluated_in(tmp_path: Path) -> None:
    env = CountingEnv()
    model = tiny(lambda: env)
    with pytest.raises(ConfigError, match=r"returned the environment that this model trains in, to evaluate in; "):
        model.learn(40, run_dir=tmp_path / "run", n_eval_episodes=1)
    assert not (tmp_path / "run").exists()
    for use in (
        lambda: model.evaluate(None, 1, deterministic=True, seed=0),
        lambda: evaluate_policy(model, lambda: env, 1),
        lambda: evaluate_policy(model, gym.wrappers.TimeLimit(env, 10), 1),
    ):
        with pytest.raises(
            ConfigError, match=r"^the environment this model trains in was given; expected another"
        ):
            use()
    assert env.closed == 0
    before = env.resets
    model.learn(40)  # without evaluation nothing is wrong with it
    assert env.resets == before + 8
    other = tiny(CountingEnv)
    with pytest.raises(ConfigError, match=r"^the environment another model trains in was given; expected an"):
        evaluate_policy(other, env, 1)


def test_two_models_on_one_environment_are_refused(tmp_path: Path) -> None:
    env = Drift()
    first = tiny(env)
    first.save(tmp_path / "m")
    text = (
        "this Drift belongs to another model, which steps it; expected an environment for each model, since both "
        "would cut each other's episodes; make a second one, or close() the other model first"
    )
    for second in (lambda: tiny(env), lambda: tiny(lambda: env), lambda: SAC.load(tmp_path / "m", env=env)):
        with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
            second()
    first.close()
    tiny(env).learn(5)


def test_an_environment_of_a_model_that_is_gone_is_free() -> None:
    env = Drift()
    model = tiny(env).learn(40)
    del model
    tiny(env).learn(40)


# --------------------------------------------------------------------------- evaluation of what was given


def test_an_environment_object_is_evaluated_in_a_second_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "softac")
    env = gym.make("reliability/Drift-v0")
    tiny(env).learn(40, run_dir=tmp_path / "run", eval_freq=20, n_eval_episodes=2)
    rows = read_rows(tmp_path / "run" / METRICS)
    assert [row["step"] for row in rows if "eval/mean_reward" in row] == [20, 40]
    assert "evaluations are made in a second Drift, made as the one that was given" in caplog.messages
    tiny("reliability/Drift-v0").learn(40, run_dir=tmp_path / "same", eval_freq=20, n_eval_episodes=2)
    same = [row["eval/returns"] for row in read_rows(tmp_path / "same" / METRICS) if "eval/returns" in row]
    assert [row["eval/returns"] for row in rows if "eval/returns" in row] == same


def test_an_object_that_cannot_be_made_again_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny(Drift()).learn(40, run_dir=tmp_path / "run", eval_freq=20, n_eval_episodes=2)
    assert [text for text in caplog.messages if "evaluation" in text] == [
        "no evaluation is made: there is only the one Drift that was given; pass its id or a function that makes "
        "it (or n_eval_episodes=0, to evaluate nothing)"
    ]


def test_what_has_no_effect_without_a_folder_is_said(caplog: pytest.LogCaptureFixture) -> None:
    tiny().learn(5, eval_freq=100, save_freq=50)
    assert caplog.messages == [
        "eval_freq=100, save_freq=50 has no effect without run_dir, the folder to evaluate and save in"
    ]
    caplog.clear()
    tiny().learn(5)
    tiny().learn(5, n_eval_episodes=0)
    assert caplog.messages == []


# --------------------------------------------------------------------------- tasks without an end


class Endless(CountingEnv):
    """Reward 0.5 a step, for ever."""

    def __init__(self) -> None:
        super().__init__(10**9)

    def reward(self, action: Any) -> float:
        self.actions.clear()
        return 0.5


gym.register("given/Endless-v0", entry_point=Endless)
gym.register("given/Limited-v0", entry_point=Endless, max_episode_steps=70)


def test_an_evaluation_of_a_task_without_an_end_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("softac.run.lifecycle.LONGEST", 50)
    monkeypatch.setattr(recorder, "LOG_FREQ", 20)
    caplog.set_level(logging.INFO, "softac")
    tiny("given/Endless-v0").learn(40, run_dir=tmp_path / "run", n_eval_episodes=3)
    assert (
        "given/Endless-v0 declares no time limit: an evaluation episode is cut off after 50 steps; where episodes "
        "may never end, put gymnasium.wrappers.TimeLimit around it"
    ) in caplog.messages
    cut = "an evaluation episode was cut off after 50 steps, and the evaluation ends with it"
    assert sum(text.startswith(cut) for text in caplog.messages) == 2  # the mode's, and the sampled one's
    rows = read_rows(tmp_path / "run" / METRICS)
    (evaluation,) = (row for row in rows if "eval/returns" in row)
    assert evaluation["eval/returns"] == [25.0]
    assert evaluation["eval/mean_ep_length"] == 50
    training = [row for row in rows if "time/fps" in row]
    assert [row["rollout/rew_per_step_mean"] for row in training] == [0.5, 0.5]
    assert all("rollout/ep_rew_mean" not in row for row in training)


def test_a_time_limit_that_is_longer_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr("softac.run.lifecycle.LONGEST", 50)
    caplog.set_level(logging.INFO, "softac")
    tiny("given/Limited-v0").learn(40, run_dir=tmp_path / "run", n_eval_episodes=2)
    (evaluation,) = (row for row in read_rows(tmp_path / "run" / METRICS) if "eval/returns" in row)
    assert evaluation["eval/returns"] == [35.0, 35.0]
    assert "time limit" not in caplog.text


def test_the_reward_a_step_is_that_of_the_last_interval(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(recorder, "LOG_FREQ", 10)
    rows: list[dict[str, float]] = []

    def learn(model: SAC, steps: int) -> SAC:
        return model.learn(steps, callback=lambda _, row: rows.append(row))

    learn(tiny(lambda: CountingEnv(10**6)), 15).save(tmp_path / "m")  # reward t at step t
    learn(SAC.load(tmp_path / "m", env=lambda: CountingEnv(10**6)), 5)
    assert [row["rollout/rew_per_step_mean"] for row in rows] == [5.5, 13.0, 15.5]


def test_an_episode_that_never_ends_is_not_kept_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("softac.run.episode.MOST_KEPT", 60)
    monkeypatch.setattr("softac.run.collector.MOST_KEPT", 60)
    model = tiny(Endless, n_envs=2).learn(118)
    assert model.training is not None
    assert [len(rows) for rows in (e.actions.rows(1) for e in model.training.collector.episodes)] == [59, 59]
    model.learn(4).save(tmp_path / "m")
    assert [len(episode.actions) for episode in model.training.collector.episodes] == [61, 61]
    assert sum(e.actions.rows(1).size for e in model.training.collector.episodes) == 0
    SAC.load(tmp_path / "m", env=Endless).learn(2)
    assert caplog.messages == [
        f"episode 0 of environment {i} was longer than 60 steps, whose actions are not kept; continuing with a "
        "new episode, not bit for bit"
        for i in range(2)
    ]


def test_memory_does_not_grow_with_an_episode() -> None:
    model = tiny(Endless, learning_starts=10**6).learn(2_000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        model.learn(10_000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000 * 20  # bytes; a list of arrays takes 150 a step


def test_evaluate_policy_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluate.LONGEST == 10_000
    assert evaluate_policy(tiny(Endless), Endless, 3) == (5_000.0, 0.0)


# --------------------------------------------------------------------------- other settings of PyTorch


@pytest.mark.parametrize("algorithm", [SAC, SACMixture, PPO, DQN, SACDiscrete])
def test_a_program_that_counts_in_float64(algorithm: Any, tmp_path: Path, float64: None) -> None:
    seen: set[torch.dtype] = set()

    class Own(EarlyEndingEnv):
        action_space = gym.spaces.Discrete(2) if algorithm in (DQN, SACDiscrete) else EarlyEndingEnv.action_space

        def step(self, action: Any) -> Any:
            seen.add(torch.zeros(1).dtype)
            self.state = 0.9 * self.state + 0.1 * self.np_random.normal(size=3)
            self.t += 1
            return self.state, float(np.sum(action)), *self.ending(), {}

    small: dict[str, Any] = {"net_arch": [8, 8]}
    small |= {"n_steps": 16} if algorithm is PPO else {"learning_starts": 16, "batch_size": 8, "buffer_size": 100}

    def run(folder: Path) -> None:
        model = algorithm(Own, **small)
        model.learn(60, run_dir=folder, n_eval_episodes=1, eval_freq=30)
        model.predict(np.zeros(3))

    run(tmp_path / "double")
    assert seen == {torch.float64}  # the environment keeps what its program has chosen
    torch.set_default_dtype(torch.float32)
    run(tmp_path / "single")
    assert training_digests(tmp_path / "double") == training_digests(tmp_path / "single")


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("algorithm", [SAC, PPO])
def test_learning_where_gradients_are_switched_off(around: Any, algorithm: Any, tmp_path: Path) -> None:
    small: dict[str, Any] = {"net_arch": [8, 8], "n_steps": 16} if algorithm is PPO else {"net_arch": [8, 8]}
    small |= {} if algorithm is PPO else {"learning_starts": 16, "batch_size": 8}
    with around():
        model = algorithm(Drift, **small)
        model.learn(60)
        assert not torch.is_grad_enabled()
        model.save(tmp_path / "off")
    algorithm(Drift, **small).learn(60).save(tmp_path / "on")
    assert training_digests(tmp_path / "off") == training_digests(tmp_path / "on")


def test_a_folder_with_brackets_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a[/b]c", "a[bold]b", "[red]"):
        run = tmp_path / name
        words = ["train", "Pendulum-v1", "-n", "20", "--n-eval-episodes", "0", "--net-arch", "8"]
        assert main([*words, "--run-dir", str(run)]) == 0
        assert f"-> {run}\n" in capsys.readouterr().out


# --------------------------------------------------------------------------- left behind


class Open(EarlyEndingEnv):
    """Counts how many have been made and not closed."""

    open = 0

    def __init__(self) -> None:
        super().__init__()
        Open.open += 1

    def close(self) -> None:
        Open.open -= 1


@pytest.mark.parametrize(
    "refused",
    [
        lambda folder: DQN(Open),
        lambda folder: PPO(Open, engine="compiled"),
        lambda folder: SAC(Open, precision="bf16", net_arch=[8]),
        lambda folder: SAC.load(folder, env=Open),
        lambda folder: evaluate_policy(tiny(Drift), Open, 1),
    ],
)
def test_an_environment_that_is_refused_is_closed(refused: Any, tmp_path: Path) -> None:
    tiny(Drift).learn(5).save(tmp_path / "m")
    Open.open = 0
    with pytest.raises(ConfigError):
        refused(tmp_path / "m")
    assert Open.open == 0


def test_an_environment_object_that_is_refused_stays_open() -> None:
    env = CountingEnv()
    with pytest.raises(ConfigError):
        DQN(env)
    assert env.closed == 0


def test_only_what_the_caller_names_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "strange_room.py").write_text(
        "import gymnasium as gym\ngym.register('Strange-v0', 'reliability_envs:Drift')\n"
    )
    monkeypatch.chdir(tmp_path)
    tiny("strange_room:Strange-v0", trust_module=True).learn(5).save(tmp_path / "m")
    monkeypatch.delitem(sys.modules, "strange_room")
    gym.registry.pop("Strange-v0")
    model = SAC.load(tmp_path / "m", trust_module=True)
    assert "strange_room" not in sys.modules
    with pytest.raises(ConfigError, match="would import the module 'strange_room'"):
        model.learn(5)
    named = SAC.load(tmp_path / "m", env="strange_room:Strange-v0", trust_module=True)
    assert named.learn(5).num_timesteps == 10
    gym.registry.pop("Strange-v0")


def test_no_film_is_written_through_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    SAC("Pendulum-v1", net_arch=[8]).learn(5, run_dir=run, n_eval_episodes=0)
    (tmp_path / "elsewhere").mkdir()
    (run / "videos").symlink_to(tmp_path / "elsewhere")
    assert main(["enjoy", str(run), "--video"]) == 2
    assert f"{run / 'videos'} is a link; expected a file or folder of its own" in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []
