"""What has been learned is not lost: damaged files, other people's folders, interruptions, loops that resume."""

import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from folders import memory_folder
from hashing import digests, training_digests
from reliability_envs import Drift, tiny
from softac import SAC
from softac.cli.main import main
from softac.errors import ConfigError
from softac.files import sealed_json
from softac.run.checkpoint import checkpoints
from softac.run.folder import RunFolder, config_sha256, in_use, read_config
from softac.run.metrics import MetricsFile
from softac.run.signals import Interruption

RECORD: dict[str, Any] = {"n_eval_episodes": 0, "save_freq": 100}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


def names(run: Path) -> list[str]:
    return [path.name for path in checkpoints(run / "checkpoints")]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


# --------------------------------------------------------------------------- damaged files


def test_a_damaged_segment_is_written_again_and_the_good_checkpoint_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    tiny(buffer_size=1_000).learn(200, run_dir=run, **RECORD)
    _, second = sorted((run / "replay").iterdir())
    flip(second)
    SAC.load(run, verify_replay=True).learn(200, run_dir=run, **RECORD)
    assert names(run) == ["step-000000300", "step-000000200.001"]
    for path in checkpoints(run / "checkpoints"):
        assert SAC.load(run, verify_replay=True).num_timesteps == 300, path
    tiny(buffer_size=1_000).learn(300, run_dir=tmp_path / "good", **RECORD)
    assert digests(run) == digests(tmp_path / "good")


def test_the_checkpoint_gone_on_from_stays_until_two_newer_ones_are_there(tmp_path: Path) -> None:
    run = tmp_path / "run"
    tiny().learn(200, run_dir=run, **RECORD)
    flip(run / "checkpoints/step-000000200/optim.safetensors")
    model = SAC.load(run)
    model.learn(20, run_dir=run, **RECORD)
    assert names(run) == ["step-000000120", "step-000000100"]  # the damaged one is not one of the two
    model.learn(20, run_dir=run, **RECORD)
    assert names(run) == ["step-000000140", "step-000000120"]


@pytest.mark.parametrize("what", ["a folder", "a link", "half of it"])
def test_what_has_the_name_of_a_segment_is_not_trusted(what: str, tmp_path: Path) -> None:
    model = tiny().learn(60)
    model.save(tmp_path / "m")
    (segment,) = (tmp_path / "m/replay").iterdir()
    data = segment.read_bytes()
    segment.unlink()
    if what == "a folder":
        segment.mkdir()
    elif what == "a link":
        (tmp_path / "elsewhere").write_bytes(data)
        segment.symlink_to(tmp_path / "elsewhere")
    else:
        segment.write_bytes(data[: len(data) // 2])
    model.save(tmp_path / "m")
    assert segment.read_bytes() == data
    assert not segment.is_symlink()
    assert SAC.load(tmp_path / "m", verify_replay=True).learn(10).num_timesteps == 70


def test_a_checkpoint_that_cannot_be_read_back_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    model = tiny()
    model.learn(100, run_dir=run, **RECORD)
    write = sys.modules["softac.run.checkpoint"].write_durably

    def forgets(path: Path, data: bytes) -> None:
        write(path, data[:-1] + b"?" if path.name == "networks.safetensors" else data)

    monkeypatch.setattr("softac.run.checkpoint.write_durably", forgets)
    with pytest.raises(
        Exception, match=r"the checkpoint of step 200 could not be written to .*Input/output error"
    ):
        model.learn(100, run_dir=run, **RECORD)
    assert names(run) == ["step-000000100"]
    monkeypatch.undo()
    assert SAC.load(run, verify_replay=True).num_timesteps == 100


# --------------------------------------------------------------------------- other people's folders


def test_saving_over_a_run_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = tiny()
    trained.learn(100, run_dir=run, **RECORD)
    before = digests(run)
    text = (
        f"{run} holds a run already; expected a new folder, or one that this model was saved to or loaded from; "
        "choose another; `learn(run_dir=...)` saves a run by itself"
    )
    for model in (tiny().learn(5), SAC.load(run), trained):
        with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
            model.save(run)
    assert digests(run) == before
    assert main(["resume", str(run), "-n", "120"]) == 0


def test_saving_over_another_model_is_refused(tmp_path: Path) -> None:
    model = tiny().learn(40)
    model.save(tmp_path / "m")
    text = (
        f"{tmp_path / 'm'} holds a saved model already; expected a new folder, or one that this model was "
        "saved to or loaded from; choose another"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        tiny().learn(50).save(tmp_path / "m")
    model.learn(10).save(tmp_path / "m")
    SAC.load(tmp_path / "m").learn(10).save(tmp_path / "m")
    assert names(tmp_path / "m") == ["step-000000060", "step-000000050"]


@pytest.mark.parametrize("later", ["learn", "save"])
def test_of_two_that_go_on_from_one_folder_the_later_one_is_refused(later: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    tiny().learn(40).save(folder)
    first, second = SAC.load(folder), SAC.load(folder)
    first.learn(10).save(folder)
    kept = names(folder)
    assert kept == ["step-000000050", "step-000000040"]
    text = (
        f"{folder} is no longer as this model left or loaded it; another process has gone on there; expected the "
        "checkpoint it goes on from to be the last; load the model again, or choose another folder"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        second.learn(20, run_dir=folder) if later == "learn" else second.learn(20).save(folder)
    assert names(folder) == kept
    second.save(tmp_path / "other")
    assert SAC.load(folder, verify_replay=True).learn(10).num_timesteps == 60


def test_a_model_that_is_saved_goes_on_in_its_run(tmp_path: Path) -> None:
    model = tiny()
    model.learn(40, run_dir=tmp_path / "run", **RECORD)
    model.save(tmp_path / "m")
    model.learn(40, run_dir=tmp_path / "run", **RECORD)
    assert names(tmp_path / "run") == ["step-000000080", "step-000000040"]
    assert names(tmp_path / "m") == ["step-000000040"]


def test_the_best_agent_of_an_abandoned_run_is_forgotten(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "best").mkdir(parents=True)
    (run / "best/score.json").write_text('{"step": 10, "mean_reward": 1e9}')
    (run / "crash").mkdir()
    (run / "crash/step-000000010.txt").write_text("long ago")
    tiny().learn(40, run_dir=run, n_eval_episodes=1)
    assert SAC.load(run, best=True).num_timesteps == 40
    assert not (run / "crash").exists()


def with_best(run: Path, step: int) -> Path:
    """A run of 60 steps, evaluated every 20, whose best agent is one of this step that nothing will ever beat."""
    tiny().learn(60, run_dir=run, eval_freq=20, n_eval_episodes=1, save_freq=20)
    (best,) = checkpoints(run / "best")
    best.rename(best.with_name(f"step-{step:09d}"))
    (run / "best/score.json").write_text(f'{{"step": {step}, "mean_reward": 1e9}}')
    (run / "best/.tmp-12345").mkdir()  # of a process that was killed
    return run


def best_of(run: Path) -> tuple[int, float]:
    score = json.loads((run / "best/score.json").read_text())
    assert sorted(path.name for path in (run / "best").iterdir()) == ["score.json", f"step-{score['step']:09d}"]
    return score["step"], score["mean_reward"]


@pytest.mark.parametrize(
    ("step", "go_on_from", "changes", "kept"),
    [
        (40, 60, {}, True),
        (60, 60, {"learning_rate": 0.5}, True),
        (60, 40, {"learning_rate": 0.5}, False),  # of the branch that is given up
        (60, 60, {"env_kwargs": {"max_episode_steps": 3}}, False),  # of another task
    ],
)
def test_the_best_agent_is_one_of_the_run_that_goes_on(
    step: int, go_on_from: int, changes: dict[str, Any], kept: bool, tmp_path: Path
) -> None:
    run = with_best(tmp_path / "run", step)
    SAC.load(run, step=go_on_from, **changes).learn(20, run_dir=run, eval_freq=20, n_eval_episodes=1)
    assert (best_of(run) == (step, 1e9)) == kept
    if not kept:
        assert best_of(run)[0] == go_on_from + 20
        chosen = best_of(run)
        SAC.load(run).learn(1, run_dir=run, n_eval_episodes=0)
        assert best_of(run) == chosen


def test_a_best_agent_that_a_score_does_not_belong_to_is_chosen_anew(tmp_path: Path) -> None:
    run = with_best(tmp_path / "run", 40)
    (run / "best/score.json").write_text('{"step": 41, "mean_reward": 1e9}')
    SAC.load(run).learn(20, run_dir=run, eval_freq=20, n_eval_episodes=1)
    assert best_of(run)[0] == 80


def test_rows_are_on_the_disk_before_a_checkpoint_that_they_lead_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, synced = tmp_path / "run", []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(run).as_posix())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    tiny().learn(40, run_dir=run, n_eval_episodes=0, save_freq=40)
    assert synced.index(".tmp-metrics.jsonl") < synced.index("metrics.jsonl") < synced.index("checkpoints")


# --------------------------------------------------------------------------- looking and locking


def test_looking_never_keeps_a_run_from_starting(tmp_path: Path) -> None:
    over = threading.Event()
    looks = 0

    def look() -> None:
        nonlocal looks
        while not over.is_set():
            in_use(tmp_path)
            looks += 1

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(300):
            RunFolder(tmp_path).release()
    finally:
        over.set()
        for looker in lookers:
            looker.join()
    assert looks > 100


def test_a_look_that_takes_a_moment_is_waited_for(tmp_path: Path) -> None:
    RunFolder(tmp_path).release()
    with (tmp_path / ".lock").open("w") as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        look = threading.Timer(0.1, fcntl.flock, (looked_at, fcntl.LOCK_UN))
        look.start()
        RunFolder(tmp_path).release()
        look.join()


def test_there_is_one_way_to_ask_whether_a_folder_is_in_use() -> None:
    source = Path(sys.modules["softac.run.folder"].__file__ or "").parent.parent
    asking = [path.name for path in source.rglob("*.py") if "flock(" in path.read_text(encoding="utf-8")]
    assert asking == ["folder.py"]


def test_the_loop_of_preemptible_machines_ends(tmp_path: Path) -> None:
    run = tmp_path / "run"
    tiny().learn(40, run_dir=run, n_eval_episodes=1)
    loop = f"until {sys.executable} -m softac resume {run}; do sleep 0.1; done"
    done = subprocess.run(["/bin/sh", "-c", loop], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{run} has made 40 of 40 steps; to go on, give more with -n, as in -n 80\n"


# --------------------------------------------------------------------------- metrics


def test_metrics_are_neither_read_nor_written_whole_at_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = MetricsFile(tmp_path, None)
    read: list[int] = []
    rows_from = sys.modules["softac.run.metrics"].rows_from
    monkeypatch.setattr(
        "softac.run.metrics.rows_from",
        lambda path, offset: read.append(path.stat().st_size - offset) or rows_from(path, offset),
    )
    for step in range(1, 201):
        file.append({"step": step, "a": float(step)})
        if step % 20 == 0:
            file.derive()
    assert max(read) < 2_000  # twenty rows, not two hundred
    lines = (tmp_path / "progress.csv").read_text().splitlines()
    assert lines[0] == "step,a"
    assert lines[1:] == [f"{step},{float(step)}" for step in range(1, 201)]
    file.append({"step": 201, "b": 1.0})
    file.append({"step": 201, "eval/mean_reward": 2.0, "eval/returns": [1.0, 3.0]})
    file.derive()
    file.append({"step": 202, "a": 5.0})
    file.derive()
    lines = (tmp_path / "progress.csv").read_text().splitlines()
    assert (lines[0], lines[-2], lines[-1]) == ("step,a,b", "201,,1.0", "202,5.0,")
    assert len(lines) == 203
    assert (tmp_path / "evaluations.csv").read_text() == "step,eval/mean_reward,eval/returns\n201,2.0,1.0 3.0\n"


def test_a_table_that_could_not_be_written_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MetricsFile(tmp_path, None)
    for step in (1, 2):
        file.append({"step": step, "a": 0.5})
        file.derive()
    file.append({"step": 3, "a": 0.5})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("softac.run.metrics.Table.append", full)
        with pytest.raises(OSError, match="No space"):
            file.derive()
    (tmp_path / "progress.csv").write_text("step,a\n1,0.5\n2,0.5\n3,0.")
    file.derive()
    assert (tmp_path / "progress.csv").read_text() == "step,a\n1,0.5\n2,0.5\n3,0.5\n"


# --------------------------------------------------------------------------- callbacks


@pytest.mark.parametrize("answer", [False, np.False_, torch.tensor(False), np.array(False), torch.tensor(0.0)])
def test_whatever_is_false_stops(answer: Any) -> None:
    assert tiny(learning_starts=10_000).learn(2_000, callback=lambda *_: answer).num_timesteps == 1_000


@pytest.mark.parametrize("answer", [None, True, np.True_, torch.tensor(True), [], {}, "", np.zeros(2)])
def test_what_is_not_false_does_not_stop(answer: Any) -> None:
    assert tiny(learning_starts=10_000).learn(1_500, callback=lambda *_: answer).num_timesteps == 1_500


# --------------------------------------------------------------------------- Ctrl-C


class Pressing(Drift):
    """`Drift`, in whose n-th step somebody presses Ctrl-C; `hard`: it is raised there, as a second one is."""

    def __init__(self, at: int = 0, hard: bool = False) -> None:
        super().__init__()
        self.at, self.hard, self.steps = at, hard, 0

    def step(self, action: Any) -> tuple[Any, ...]:
        self.steps += 1
        answer = super().step(action)
        if self.steps == self.at:
            if self.hard:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)
        return answer


def test_ctrl_c_in_python_saves_and_is_raised(tmp_path: Path) -> None:
    made = iter([Pressing(70), Pressing()])
    model = tiny(lambda: next(made))
    with pytest.raises(KeyboardInterrupt):
        model.learn(150, run_dir=tmp_path / "run", n_eval_episodes=1, save_freq=0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert model.num_timesteps == 70
    assert names(tmp_path / "run") == ["step-000000070"]
    SAC.load(tmp_path / "run", env=Pressing).learn(80, run_dir=tmp_path / "run", n_eval_episodes=0, save_freq=0)
    tiny(Pressing).learn(150, run_dir=tmp_path / "good", n_eval_episodes=0, save_freq=0)
    assert training_digests(tmp_path / "run") == training_digests(tmp_path / "good")


def test_ctrl_c_without_a_folder_leaves_the_model_whole() -> None:
    model = tiny(Pressing(70))
    with pytest.raises(KeyboardInterrupt):
        model.learn(150)
    model.learn(80)
    good = tiny(Pressing).learn(150)
    assert model.training is not None
    assert good.training is not None
    assert np.array_equal(model.training.memory.rows[:150], good.training.memory.rows[:150])


def test_an_interruption_within_a_step_leaves_no_false_transition() -> None:
    model = tiny(lambda: Pressing(70, hard=True))
    with pytest.raises(KeyboardInterrupt):
        model.learn(150)
    assert model.num_timesteps == 69
    model.learn(60)
    good = tiny(Pressing).learn(129)
    assert model.training is not None
    assert good.training is not None
    assert np.array_equal(model.training.memory.rows[:129], good.training.memory.rows[:129])


def test_a_program_that_handles_ctrl_c_itself_is_left_alone() -> None:
    def own(*_: Any) -> None:
        pressed.append(model.num_timesteps)

    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, own)
    try:
        model = tiny(Pressing(20))
        model.learn(40)
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [19]
    assert model.num_timesteps == 40


def test_a_second_ctrl_c_ends_at_once() -> None:
    def twice() -> None:
        with Interruption() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            asked.append(stop())
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("it was not raised")

    asked: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        twice()
    assert asked == [True]


# --------------------------------------------------------------------------- arguments and devices


class Kept(Drift):
    def __init__(self, given: Any = None) -> None:
        super().__init__()
        self.given = given


gym.register("kept/Kept-v0", entry_point=Kept)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        ((1, 2), [1, 2]),
        ({"a": [np.int8(1), None, "b"]}, {"a": [1, None, "b"]}),
    ],
)
def test_arguments_are_what_a_file_gives_back(given: Any, taken: Any, tmp_path: Path) -> None:
    model = tiny("kept/Kept-v0", env_kwargs={"given": given}).learn(5)
    model.save(tmp_path / "m")
    for envs in (model.life.envs, SAC.load(tmp_path / "m").life.envs):
        made = envs.envs[0].unwrapped.given
        assert (type(made), made) == (type(taken), taken)


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    "given",
    [
        np.zeros(2),
        Path("here"),
        Colour.RED,
        signal.SIGINT,
        float("inf"),
        np.float64("nan"),
        int,
        {1: 2},
        {"a": {3}},
    ],
    ids=str,
)
def test_arguments_that_a_file_cannot_give_back_are_refused_at_once(given: Any) -> None:
    with pytest.raises(ConfigError) as error:
        tiny("kept/Kept-v0", env_kwargs={"given": given})
    assert error.value.given.startswith("env_kwargs given")
    assert error.value.given.endswith(" was given, which cannot be written into config.json and read back")
    assert error.value.remedy == "pass a function that makes the environment instead"


def without_gpu(folder: Path) -> None:
    """As a machine with a GPU would have written the model."""
    config = json.loads((folder / "config.json").read_text())
    del config["sha256"]
    config["run"]["device"] = "cuda"
    (folder / "config.json").write_bytes(sealed_json(config))
    for path in checkpoints(folder / "checkpoints"):
        manifest = json.loads((path / "manifest.json").read_text())
        del manifest["sha256"]
        state = json.loads((path / "state.json").read_text()) | {"device": "NVIDIA H100"}
        data = json.dumps(state).encode()
        (path / "state.json").write_bytes(data)
        manifest["files"]["state.json"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest["config_sha256"] = config_sha256(config)
        (path / "manifest.json").write_bytes(sealed_json(manifest))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_model_of_a_gpu_is_used_without_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    tiny().learn(40, run_dir=run, **RECORD)
    without_gpu(run)
    model = SAC.load(run)
    assert caplog.messages == ["device cuda, which this model was trained on, is not here; it is now on cpu"]
    caplog.clear()
    assert model.agent.device.type == "cpu"
    assert model.evaluate(None, 1, deterministic=True, seed=0).lengths
    model.learn(10, run_dir=run, **RECORD)
    assert "continuing, not bit for bit: device was NVIDIA H100 and is cpu" in caplog.messages
    assert read_config(run)["run"]["device"] == "cuda"  # which it goes back to where there is one
    caplog.clear()
    assert SAC.load(run, device="cpu").num_timesteps == 50
    assert caplog.messages == []
    with pytest.raises(ConfigError, match=r"^device='cuda' was given; expected auto, cpu, or a CUDA device"):
        SAC.load(run, device="cuda")
    assert main(["eval", str(run), "--n-eval-episodes", "1"]) == 0
    assert main(["resume", str(run), "-n", "60"]) == 0


def test_on_the_same_device_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny().learn(40).save(tmp_path / "m")
    SAC.load(tmp_path / "m").learn(5)
    assert "continuing" not in caplog.text


def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny().learn(5).save("~/m")
    tiny().learn(5, run_dir="~/run", n_eval_episodes=0)
    assert SAC.load("~/m").num_timesteps == SAC.load("~/run").num_timesteps == 5
    assert {path.name for path in tmp_path.iterdir()} == {"m", "run"}
