"""What has been learned is not lost: damaged files, other people's folders, interruptions, loops that resume."""

import fcntl
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from folders import memory_folder
from hashing import digests
from reliability_envs import tiny
from softac import SAC
from softac.cli.main import main
from softac.errors import ConfigError
from softac.run.checkpoint import checkpoints
from softac.run.folder import RunFolder, in_use
from softac.run.metrics import MetricsFile

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
    parse = sys.modules["softac.run.metrics"].parse_rows
    monkeypatch.setattr(
        "softac.run.metrics.parse_rows", lambda text, path: read.append(len(text)) or parse(text, path)
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
