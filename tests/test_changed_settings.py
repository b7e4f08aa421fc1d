"""A run goes on with other settings where they are named: it says so, keeps a history, and stays one run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from folders import memory_folder
from softac import DQN, PPO, SAC, Model
from softac.agents.registry import AGENTS
from softac.cli.main import main
from softac.config import fields
from softac.errors import CheckpointError, ConfigError
from softac.experiments.reopen import begun
from softac.learning.learner import Learner
from softac.learning.state import state_of
from softac.run.changes import KEPT, changeable
from softac.run.folder import read_config

SMALL: dict[str, Any] = {"env_kwargs": {"max_episode_steps": 40}, "net_arch": (8,), "batch_size": 16}
RECORD: dict[str, Any] = {"n_eval_episodes": 0, "save_freq": 50}


@pytest.fixture
def tmp_path():
    with memory_folder() as path:
        yield path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    SAC("Pendulum-v1", **SMALL).learn(150, run_dir=tmp_path / "run", **RECORD)
    return tmp_path / "run"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if "bit for bit" in r.message]


def states(*models: Any) -> list[dict[str, torch.Tensor]]:
    return [state_of(model.agent) for model in models]


def equal(a: Any, b: Any) -> bool:
    first, second = states(a, b)
    return all(torch.equal(second[name], tensor) for name, tensor in first.items())


def test_a_learning_rate_and_a_batch_size(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = SAC.load(run, learning_rate=1e-4, batch_size=32)
    rates = [learner.learning_rate for learner in (model.agent.actor, model.agent.critic)]
    assert rates == [1e-4, 1e-4]
    assert said(caplog) == []  # nothing has gone on yet
    model.learn(50, run_dir=run, **RECORD)
    assert said(caplog) == [
        "continuing, not bit for bit: learning_rate was 0.0003 and is 0.0001",
        "continuing, not bit for bit: batch_size was 16 and is 32",
    ]
    assert len(model.training.memory._rows) == 32
    config = read_config(run)
    assert config["hyperparameters"]["learning_rate"] == 3e-4  # as it was begun
    assert config["history"] == [
        {"step": 150, "name": "learning_rate", "was": 3e-4, "now": 1e-4},
        {"step": 150, "name": "batch_size", "was": 16, "now": 32},
    ]
    assert not equal(model, SAC("Pendulum-v1", **SMALL).learn(200))


def test_it_goes_on_with_what_was_changed(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    SAC.load(run, learning_rate=1e-3).learn(50, run_dir=run, **RECORD)
    caplog.clear()
    again = SAC.load(run)
    assert again.agent.config.learning_rate == 1e-3
    again.learn(50, run_dir=run, **RECORD)
    assert said(caplog) == []  # the same bits as a run that had not been stopped in between
    whole = SAC.load(run, step=200).learn(50)
    assert equal(again, whole)
    SAC.load(run, learning_rate="linear 1e-3 0 400").learn(10, run_dir=run, **RECORD)
    assert [(entry["step"], entry["was"], entry["now"]) for entry in read_config(run)["history"]] == [
        (150, 3e-4, 1e-3),
        (250, 1e-3, "linear 1e-3 0 400"),
    ]


def test_what_is_as_before_is_no_change(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = SAC.load(run, learning_rate=3e-4, batch_size=16, env_kwargs={"max_episode_steps": 40})
    model.learn(50, run_dir=run, **RECORD)
    assert said(caplog) == []
    assert "history" not in read_config(run)
    assert equal(model, SAC("Pendulum-v1", **SMALL).learn(200))


def test_other_arguments_of_the_environment(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = SAC.load(run, env_kwargs={"max_episode_steps": 40, "g": 1.0})
    assert model.life.envs.envs[0].unwrapped.g == 1.0
    model.learn(50, run_dir=run, **RECORD)
    assert said(caplog)[-1:] == [
        "continuing, not bit for bit: env_kwargs was {'max_episode_steps': 40} and is "
        "{'max_episode_steps': 40, 'g': 1.0}"
    ]
    assert read_config(run)["env"]["kwargs"] == {"max_episode_steps": 40}
    assert SAC.load(run).life.envs.envs[0].unwrapped.g == 1.0


def test_another_device_is_in_the_history(run: Path) -> None:
    model = SAC.load(run, device="cpu")
    model.learn(50, run_dir=run, **RECORD)
    assert read_config(run)["history"] == [{"step": 150, "name": "device", "was": "auto", "now": "cpu"}]
    assert equal(model, SAC("Pendulum-v1", **SMALL).learn(200))


def test_a_saved_model_keeps_its_history(tmp_path: Path) -> None:
    SAC("Pendulum-v1", **SMALL).learn(120).save(tmp_path / "a")
    changed = SAC.load(tmp_path / "a", tau=0.02).learn(30)
    changed.save(tmp_path / "a")  # in the same place: what was there before can still be read
    changed.save(tmp_path / "b")
    for folder in ("a", "b"):
        again = SAC.load(tmp_path / folder)
        assert again.agent.config.tau == 0.02
        assert [change.name for change in again.life.past.history] == ["tau"]
        assert equal(again.learn(1), SAC.load(tmp_path / "b").learn(1))
    assert SAC.load(tmp_path / "a", step=120).num_timesteps == 120


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("net_arch", (16,), "net_arch=(16,) was given for a run that goes on; expected net_arch=(8,), as it was "
         "begun: the networks were made with it; leave it out, or train from the start"),
        ("gamma", 0.9, "gamma=0.9 was given for a run that goes on; expected gamma=0.99, as it was begun: what it "
         "has stored was made with it; leave it out, or train from the start"),
        ("gradient_steps", 2,
         "gradient_steps=2 was given for a run that goes on; expected gradient_steps=1, as it "
         "was begun: updates are counted with it from the first step on; leave it out, or train from the start"),
    ],
)  # fmt: skip
def test_what_a_run_keeps(run: Path, name: str, value: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SAC.load(run, **{name: value})
    assert str(caught.value) == text


def test_what_does_not_exist_or_cannot_work(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'lr'"):
        SAC.load(run, lr=1)
    with pytest.raises(ConfigError, match=r"unknown setting 'learning_rat'; did you mean 'learning_rate'"):
        SAC.load(run, learning_rat=1)
    with pytest.raises(ConfigError, match=r"learning_rate=-1 was given; expected a number > 0"):
        SAC.load(run, learning_rate=-1)
    with pytest.raises(ConfigError, match=r"batch_size=\d+ was given with buffer_size=1000000"):
        SAC.load(run, batch_size=10**7)
    with pytest.raises(ConfigError, match=r"env_kwargs x="):
        SAC.load(run, env_kwargs={"x": object()})


LEARNED = "expected ent_coef='auto', as it was begun: it is learned and goes on from where it is"
FIXED = "expected a number, as it was begun: nothing of it has been learned"


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [("auto", 0.2, LEARNED), ("auto", "auto_5.0", LEARNED), (0.2, "auto", FIXED), (0.2, "auto_0.2", FIXED)],
)
def test_a_temperature_stays_learned_or_fixed(was: Any, now: Any, expected: str, tmp_path: Path) -> None:
    SAC("Pendulum-v1", **SMALL, ent_coef=was).learn(20).save(tmp_path / "m")
    with pytest.raises(ConfigError) as caught:
        SAC.load(tmp_path / "m", ent_coef=now)
    assert str(caught.value) == (
        f"ent_coef={now!r} was given for a run that goes on; {expected}; leave it out, or train from the start"
    )
    assert SAC.load(tmp_path / "m", ent_coef=was).learn(1).life.past.made == ()


def test_a_fixed_temperature_may_be_another(tmp_path: Path) -> None:
    SAC("Pendulum-v1", **SMALL, ent_coef=0.2).learn(20).save(tmp_path / "m")
    assert SAC.load(tmp_path / "m", ent_coef="0.3").agent.temperature.alpha() == pytest.approx(0.3)


def test_every_hyperparameter_that_shapes_tensors_is_kept() -> None:
    """Each other one is changed to what is allowed, and the agent keeps its tensors."""
    for name, agent in AGENTS.items():
        for field in changeable(agent.Config):
            assert not field.endswith("arch"), (name, field)
            assert field not in ("n_critics", "activation", "n_steps")
    every = {field for agent in AGENTS.values() for field in fields(agent.Config)}
    assert set(KEPT) <= every  # none that is spelt otherwise


@pytest.mark.parametrize("model", [PPO, DQN])
def test_others(model: Any, tmp_path: Path) -> None:
    env, change = ("Pendulum-v1", {"clip_range": 0.1}) if model is PPO else ("CartPole-v1", {"double": True})
    model(env, net_arch=(8,)).learn(40).save(tmp_path / "m")
    loaded = model.load(tmp_path / "m", **change, learning_rate=1e-5)
    assert {name: getattr(loaded.agent.config, name) for name in change} == change
    assert all(part.learning_rate == 1e-5 for part in vars(loaded.agent).values() if isinstance(part, Learner))
    if model is PPO:
        assert loaded.agent.clip_range.value == 0.1


def test_resume_takes_them_as_flags(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["resume", str(run), "-n", "200", "--learning-rate", "1e-4", "--env-kwargs", "max_episode_steps=30"]
    assert main(command) == 0
    assert [entry["name"] for entry in read_config(run)["history"]] == ["learning_rate", "env_kwargs"]
    log = (run / "log.txt").read_text()
    assert "continuing, not bit for bit: learning_rate was 0.0003 and is 0.0001" in log
    assert read_config(run)["hyperparameters"]["net_arch"] == [8]
    capsys.readouterr()
    assert main(["resume", str(run), "--gamma", "0.9"]) == 2
    assert "unknown argument" in capsys.readouterr().err


def test_before_the_first_checkpoint_they_are_simply_its_settings(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.rename(run / f"gone-{path.name}")
    assert main(["resume", str(run), "-n", "60", "--learning-rate", "1e-4"]) == 0
    config = read_config(run)
    assert config["hyperparameters"]["learning_rate"] == 1e-4
    assert "history" not in config


def test_a_history_that_is_damaged(run: Path) -> None:
    from softac.files import sealed_json

    config = json.loads((run / "config.json").read_text())
    config.pop("sha256", None)
    for history in ([{"step": 1}], "x", [3], [{"step": "x", "name": "tau", "was": 1, "now": 2}]):
        (run / "config.json").write_bytes(sealed_json({**config, "history": history}))
        with pytest.raises(CheckpointError, match="cannot be used"):
            SAC.load(run)
    bad = [{"step": 1, "name": "tau", "was": 1, "now": "x"}]
    (run / "config.json").write_bytes(sealed_json({**config, "history": bad}))
    with pytest.raises(CheckpointError, match="tau='x' was given"):
        SAC.load(run)


def test_an_agent_of_ones_own(tmp_path: Path) -> None:
    from tiny_agents import Choice

    Model(Choice, "CartPole-v1").learn(40).save(tmp_path / "own")
    loaded = Model.load(tmp_path / "own", agent_class=Choice, epsilon=0.0)
    assert loaded.agent.config.epsilon == 0.0


def test_the_record_of_a_run_shows_it(run: Path) -> None:
    from softac.report.results import label

    SAC.load(run, learning_rate=1e-4).learn(50, run_dir=run, **RECORD)
    assert label(read_config(run)).endswith("learning_rate=0.0001 from step 150")


@pytest.mark.parametrize(
    ("env", "arguments"), [(None, SMALL["env_kwargs"]), ("Pendulum-v1", SMALL["env_kwargs"]), ("Reacher-v5", {})]
)
def test_arguments_of_an_environment_are_not_those_of_another(env: str | None, arguments: Any, run: Path) -> None:
    """Of a run without a checkpoint: as `load` has it where there is one."""
    model = begun(read_config(run), run, env)
    assert model.source.kwargs == arguments
    model.close()
