"""An environment that misbehaves: one clear line, nothing wrong in the replay, nothing lost."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from folders import memory_folder
from hashing import digests, newest_checkpoint, training_digests
from reliability_envs import FAULTS, Drift, Faulty, tiny
from softac import SAC
from softac.errors import ConfigError, EnvironmentFailed
from softac.run.collector import Purpose, derive_seed

STEPS = 80
QUIET: dict[str, Any] = {"n_eval_episodes": 0, "save_freq": 50}

SAID = {
    "raise": "raised RuntimeError: the model exploded in step",
    "error without words": "raised WordlessError: ",
    "sys.exit": "raised SystemExit: ",
    "nan observation": "returned an observation with nan in it",
    "infinite observation": "returned an observation with inf in it",
    "observation beyond float32": "returned an observation with inf in it",
    "nan reward": "returned the reward nan, not a finite float32",
    "infinite reward": "returned the reward -inf, not a finite float32",
    "reward beyond float32": "returned the reward 1e+300, not a finite float32",
    "reward beyond float64": f"returned the reward 1{99 * '0'}, not a number",
    "no reward": "returned the reward None, not a number",
    "wrong shape": "returned an observation that does not fit its space: ValueError: an observation of shape (2,) "
    "where the space says (3,)",
    "wrong dtype": "returned an observation that does not fit its space: ValueError: could not convert string to ",
    "no observation": "returned an observation that does not fit its space: ",
    "four values": "returned 4 values from step, not 5",
    "no tuple": "returned a NoneType from step, not 5",
    "flags that are not booleans": "returned terminated='no', truncated=False, not booleans",
}


FIVE = "five values: observation, reward, terminated, truncated, info, as in Gymnasium, and in gym since 0.26"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


def test_every_fault_has_its_sentence() -> None:
    assert SAID.keys() == FAULTS.keys()


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_a_random_step(fault: str, n_envs: int, tmp_path: Path) -> None:
    run, repaired = tmp_path / "run", tmp_path / "repaired"
    # Between the end of the warm-up and the end of the run, in every environment's own count of steps.
    at = int(np.random.default_rng([sorted(FAULTS).index(fault), n_envs]).integers(11, STEPS // n_envs))
    arguments = {"fault": fault, "at": at, "repaired": str(repaired)}
    model = tiny("reliability/Faulty-v0", n_envs=n_envs, env_kwargs=arguments)
    with pytest.raises(EnvironmentFailed) as caught:
        model.learn(STEPS, run_dir=run, **QUIET)
    assert caught.value.exit_code == 4
    text = str(caught.value)
    assert text.isprintable()

    # The first environment meets the fault first. What it did until then is in the checkpoint.
    found = re.fullmatch(
        r"environment 0 (?P<what>.*) at step (?P<step>\d+) of episode (?P<episode>\d+) \(seed (?P<seed>\d+), "
        r"action \[(?P<action>[-. \d]+)\]\); expected (?P<expected>.*); correct the environment, then resume",
        text,
    )
    assert found is not None, text
    assert found["what"].startswith(SAID[fault])
    of_another_interface = fault in ("four values", "no tuple", "flags that are not booleans")
    assert found["expected"] == (FIVE if of_another_interface else "a finite answer of the declared shape")
    assert int(found["seed"]) == derive_seed(Purpose.TRAINING_EPISODE, 0, 0, int(found["episode"]))
    assert model.num_timesteps == (at - 1) * n_envs

    # The message is enough to see it again: this seed, the actions so far, and then this action.
    again = tiny(Faulty, env_kwargs={"fault": "none"}).life.envs.envs[0]
    obs, _ = again.reset(seed=int(found["seed"]))
    actions = np.load(newest_checkpoint(run) / "episode_actions.npy")
    played = model.training.collector.episodes[0].actions.rows(2)
    assert len(played) == int(found["step"]) - 1
    np.testing.assert_array_equal(actions[: len(played)], played)
    for action in played:
        obs, *_ = again.step(model.spaces.to_env(action))
    np.testing.assert_array_equal(obs, model.training.collector.episodes[0].obs)
    last = np.array(found["action"].split(), float)
    np.testing.assert_allclose(model.spaces.to_env(model.training.collector.actions[0]), last, atol=1e-3)

    # Nothing is lost, and nothing of the bad step is there.
    replay = model.training.memory
    assert replay.added == (at - 1) * n_envs
    assert np.isfinite(replay.explicit_rows(0, replay.added)).all()

    # Once it is repaired, the run becomes the one that never failed.
    repaired.touch()
    SAC.load(run).learn(STEPS - model.num_timesteps, run_dir=run, **QUIET)
    tiny("reliability/Faulty-v0", n_envs=n_envs, env_kwargs=arguments).learn(
        STEPS, run_dir=tmp_path / "good", **QUIET
    )
    assert digests(run) == digests(tmp_path / "good")


@pytest.mark.parametrize(
    ("at", "n_envs", "fault", "said"),
    [(at, n_envs, "reset", "RuntimeError: the model exploded") for at, n_envs in [(2, 1), (5, 1), (2, 3), (3, 3)]]
    + [(2, 1, "leave in reset", "SystemExit: 0")],
)
def test_a_reset_that_raises(at: int, n_envs: int, fault: str, said: str, tmp_path: Path) -> None:
    run, repaired = tmp_path / "run", tmp_path / "repaired"
    arguments = {"fault": fault, "at": at, "repaired": str(repaired)}
    model = tiny("reliability/Faulty-v0", n_envs=n_envs, env_kwargs=arguments)
    with pytest.raises(EnvironmentFailed) as caught:
        model.learn(130, run_dir=run, **QUIET)
    seed = derive_seed(Purpose.TRAINING_EPISODE, 0, 0, at - 1)
    assert str(caught.value) == (
        f"environment 0 raised {said} in reset at the start of episode {at - 1} "
        f"(seed {seed}); expected a finite observation of the declared shape; correct its reset(seed={seed}), "
        "then resume"
    )
    repaired.touch()
    SAC.load(run).learn(130 - model.num_timesteps, run_dir=run, **QUIET)
    tiny("reliability/Faulty-v0", n_envs=n_envs, env_kwargs=arguments).learn(
        130, run_dir=tmp_path / "good", **QUIET
    )
    assert digests(run) == digests(tmp_path / "good")


def test_the_first_reset_raises(tmp_path: Path) -> None:
    model = tiny("reliability/Faulty-v0", env_kwargs={"fault": "reset", "at": 1})
    with pytest.raises(EnvironmentFailed, match=r"^environment 0 raised .* in reset at the start of episode 0 "):
        model.learn(STEPS, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fault", "said"),
    [("constructor", "RuntimeError: no simulator here"), ("leave in constructor", "SystemExit: 0")],
)
def test_a_constructor_that_raises(fault: str, said: str) -> None:
    text = (
        f"reliability/Faulty-v0 could not be made with {{'fault': '{fault}'}}: {said}; "
        "expected a Gymnasium environment; check --env-kwargs and the environment"
    )
    with pytest.raises(EnvironmentFailed, match=f"^{re.escape(text)}$"):
        tiny("reliability/Faulty-v0", env_kwargs={"fault": fault})


def test_a_later_environment_that_cannot_be_made_closes_the_first() -> None:
    made: list[Any] = []

    def make() -> Drift:
        if len(made) == 2:
            raise RuntimeError("no third window")

        class Closing(Drift):
            closed = False

            def close(self) -> None:
                self.closed = True

        made.append(Closing())
        return made[-1]

    with pytest.raises(EnvironmentFailed, match="no third window"):
        tiny(make, n_envs=3)
    assert [env.closed for env in made] == [True, True]


@pytest.mark.parametrize(
    ("fault", "said"), [("close", "RuntimeError: the window is gone"), ("leave in close", "SystemExit: 0")]
)
def test_an_environment_that_fails_to_close(fault: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny("reliability/Faulty-v0", n_envs=2, env_kwargs={"fault": fault}).learn(40)
    model.close()
    assert caplog.messages == [f"an environment raised {said} in close"] * 2


class Unsayable:
    """Neither true nor false, and without words."""

    def __bool__(self) -> bool:
        raise RuntimeError("neither")


@pytest.mark.parametrize(
    "info",
    [None, [], np.zeros(3), {"is_success": torch.tensor([True, False])}, {"is_success": Unsayable()}],
    ids=["none", "list", "array", "tensor", "object"],
)
def test_an_info_that_says_nothing_ends_nothing(info: Any) -> None:
    class Odd(Drift):
        def step(self, action: Any) -> tuple[Any, ...]:
            return (*super().step(action)[:4], info)

    assert tiny(Odd).learn(60).num_timesteps == 60


def test_a_fault_in_the_evaluation(tmp_path: Path) -> None:
    run, repaired = tmp_path / "run", tmp_path / "repaired"
    # By step 20 the training environment has made 20 steps, and the one of the evaluations soon 30.
    arguments = {"fault": "nan reward", "at": 30, "repaired": str(repaired)}
    often = {"eval_freq": 20, "n_eval_episodes": 1, "save_freq": 50}
    model = tiny("reliability/Faulty-v0", env_kwargs=arguments)
    with pytest.raises(EnvironmentFailed) as caught:
        model.learn(STEPS, run_dir=run, **often)
    assert re.fullmatch(
        r"the evaluation environment returned the reward nan, not a finite float32 at step \d+ of the episode "
        r"with seed \d+; expected a finite answer of the declared shape; correct the environment",
        str(caught.value),
    )
    assert model.num_timesteps == 20
    repaired.touch()
    SAC.load(run).learn(STEPS - 20, run_dir=run, **often)
    tiny("reliability/Faulty-v0", env_kwargs=arguments).learn(STEPS, run_dir=tmp_path / "good", **often)
    assert digests(run) == digests(tmp_path / "good")


def test_a_fault_while_an_episode_is_played_again(tmp_path: Path) -> None:
    run, repaired = tmp_path / "run", tmp_path / "repaired"
    repaired.touch()
    arguments = {"fault": "raise", "at": 5, "repaired": str(repaired)}
    tiny("reliability/Faulty-v0", env_kwargs=arguments).learn(15, run_dir=run, **QUIET)
    repaired.unlink()
    seed = derive_seed(Purpose.TRAINING_EPISODE, 0, 0, 0)
    text = (
        f"environment 0 raised RuntimeError: the model exploded in step at step 5 of episode 0 (seed {seed}), "
        "which it had passed before; expected it to repeat itself; correct the environment, then resume"
    )
    with pytest.raises(EnvironmentFailed, match=f"^{re.escape(text)}$"):
        SAC.load(run).learn(5, run_dir=run, **QUIET)
    repaired.touch()
    assert SAC.load(run).learn(5, run_dir=run, **QUIET).num_timesteps == 20


def test_a_fault_where_the_disk_is_full_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("softac.run.recorder.write_checkpoint", full)
    model = tiny("reliability/Faulty-v0", env_kwargs={"fault": "raise", "at": 40})
    # The first thing that went wrong is the one to name; the other is in the log.
    with pytest.raises(EnvironmentFailed, match="the model exploded"):
        model.learn(STEPS, run_dir=tmp_path / "run", n_eval_episodes=0, save_freq=0)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the checkpoint of step 39 could not be written to ")


@pytest.mark.parametrize("kind", ["Reseeding", "Reusing"])
def test_bad_manners_change_nothing(kind: str, tmp_path: Path) -> None:
    """Setting the global generators, printing, and scribbling into arrays already returned."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        for name in ("Drift", kind):
            tiny(f"reliability/{name}-v0", n_steps=3).learn(STEPS, run_dir=tmp_path / name, **QUIET)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
    assert training_digests(tmp_path / kind) == training_digests(tmp_path / "Drift")


def test_training_touches_no_global_generator() -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002

    before = states()
    tiny(n_envs=2).learn(STEPS)
    assert states() == before


def test_a_reset_of_the_old_kind() -> None:
    class Old(Drift):
        def reset(self, **arguments: Any) -> Any:
            return super().reset(**arguments)[0]

    with pytest.raises(EnvironmentFailed, match=r"^environment 0 returned a ndarray from reset, not 2 values at "):
        tiny(Old).learn(1)


def test_another_environment_than_the_one_trained_in(tmp_path: Path) -> None:
    tiny().learn(40, run_dir=tmp_path / "run", **QUIET)
    with pytest.raises(ConfigError) as caught:
        SAC.load(tmp_path / "run", env="Pendulum-v1")
    assert str(caught.value) == (
        "Pendulum-v1 has other spaces than the environment of this model: actions are 1 number (1,) in [-2, 2] "
        "and were 2 numbers (2,) in [-1, 2] x [-3, 0.5]; expected what it was trained with; pass one that has "
        "the same"
    )
