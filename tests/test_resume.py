"""A run that was stopped, killed or recorded differently ends in the same bits."""

import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import softac.run.checkpoint
from folders import memory_folder
from hashing import digests, metrics, training_digests
from jobs import Server
from reliability_envs import tiny
from softac import SAC
from softac.run.checkpoint import write_checkpoint
from softac.run.config import RecordConfig

PENDULUM: dict[str, Any] = {"env": "Pendulum-v1", "env_kwargs": {"max_episode_steps": 40}}
HOPPER: dict[str, Any] = {"env": "Hopper-v5"}
DICT: dict[str, Any] = {"env": "reliability/DictReach-v0"}
ENVS = {"pendulum": PENDULUM, "hopper": HOPPER, "dict": DICT}

# N is no multiple of an interval below, nor of four environments.
N = 101
FREQUENCIES = {"eval_freq": 60, "n_eval_episodes": 1, "save_freq": 45}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


@pytest.fixture(autouse=True)
def frequent_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softac.run.recorder.LOG_FREQ", 35)


def run(path: Path, steps: int, **arguments: Any) -> None:
    tiny(**(PENDULUM | arguments)).learn(steps, run_dir=path, **FREQUENCIES)


def resume(path: Path, steps: int, **frequencies: Any) -> SAC:
    return SAC.load(path).learn(steps, run_dir=path, **(FREQUENCIES | frequencies))


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("env", ENVS)
def test_twice_n_steps_are_n_steps_and_n_more(env: str, n_envs: int, n_steps: int, tmp_path: Path) -> None:
    arguments = ENVS[env] | {"n_envs": n_envs, "n_steps": n_steps}
    run(tmp_path / "whole", 2 * N, **arguments)
    run(tmp_path / "halves", N, **arguments)
    resume(tmp_path / "halves", N)
    assert digests(tmp_path / "halves") == digests(tmp_path / "whole")


def test_many_short_legs_are_one_run(tmp_path: Path) -> None:
    run(tmp_path / "whole", 2 * N, n_envs=4, n_steps=3)
    legs = [1, 2, 34, 35, 36, 59, 35]
    assert sum(legs) == 2 * N
    run(tmp_path / "legs", legs[0], n_envs=4, n_steps=3)
    for leg in legs[1:]:
        resume(tmp_path / "legs", leg)
    assert digests(tmp_path / "legs") == digests(tmp_path / "whole")


def test_two_seeds_differ_in_every_part(tmp_path: Path) -> None:
    # Without this, sums that cover nothing would pass every other test here.
    run(tmp_path / "0", N, seed=0)
    run(tmp_path / "1", N, seed=1)
    first, second = digests(tmp_path / "0"), digests(tmp_path / "1")
    assert [part for part in first if first[part] == second[part]] == []


@pytest.mark.parametrize(
    "differently",
    [
        {"n_eval_episodes": 0},
        {"n_eval_episodes": 2, "eval_freq": 17},
        {"save_freq": 7},
        {"save_freq": 0},
        {"callback": lambda model, row: model.predict(model.training.collector.observations) and None},
    ],
    ids=["no evaluation", "much evaluation", "much saving", "no saving", "callback that predicts"],
)
def test_recording_leaves_training_as_it_is(differently: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path / "usual", 2 * N)
    tiny(**PENDULUM).learn(2 * N, run_dir=tmp_path / "other", **(FREQUENCIES | differently))
    assert training_digests(tmp_path / "other") == training_digests(tmp_path / "usual")


def test_logging_leaves_training_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "usual", 2 * N)
    monkeypatch.setattr("softac.run.recorder.LOG_FREQ", 3)
    run(tmp_path / "often", 2 * N)
    often, usual = training_digests(tmp_path / "often"), training_digests(tmp_path / "usual")
    # The means since the last log row are kept in these two parts.
    for part in ("optimizer", "counters and episodes"):
        del often[part], usual[part]
    assert often == usual


def test_a_run_without_files_learns_the_same(tmp_path: Path) -> None:
    run(tmp_path / "files", 2 * N)
    model = tiny(**PENDULUM).learn(2 * N)
    model.save(tmp_path / "no files")
    files, no_files = training_digests(tmp_path / "files"), training_digests(tmp_path / "no files")
    assert no_files == files


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


KILLED: list[dict[str, Any]] = [
    {"env": "reliability/Drift-v0", "n_envs": 1},
    {"env": "reliability/DictReach-v0", "n_envs": 4, "n_steps": 3},
    {"env": "Hopper-v5", "n_envs": 1},
]


@pytest.mark.parametrize("arguments", KILLED, ids=lambda a: a["env"])
def test_killed_at_random_steps(arguments: dict[str, Any], server: Server, tmp_path: Path) -> None:
    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    server.start("advance", run=whole, until=2 * N, **arguments)
    assert server.wait() == 0
    draw = np.random.default_rng(0)
    for step in sorted(draw.choice(2 * N - 1, 4, replace=False).tolist()):
        server.start("advance", run=killed, until=2 * N, kill_at=step + 1, **arguments)
        assert server.wait() == -signal.SIGKILL
    server.start("advance", run=killed, until=2 * N, **arguments)
    assert server.wait() == 0
    assert digests(Path(killed)) == digests(Path(whole))


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments(seed: int, server: Server, tmp_path: Path) -> None:
    # Not between steps, as above, but anywhere: in an update, an evaluation, the middle of a file.
    arguments = KILLED[seed % len(KILLED)]
    whole = str(tmp_path / "whole")
    began = time.monotonic()
    server.start("advance", run=whole, until=2 * N, **arguments)
    assert server.wait() == 0
    longest = 0.8 * (time.monotonic() - began)
    draw = np.random.default_rng(seed)
    kills = 0
    while kills == 0:  # where the machine was busy before, the first moment may come when all is done
        killed = str(tmp_path / f"killed within {longest:.3f} s")
        for _ in range(5):
            pid = server.start("advance", run=killed, until=2 * N, **arguments)
            time.sleep(draw.uniform(0.05 * longest, longest))
            with suppress(ProcessLookupError):  # it may have ended already
                os.kill(pid, signal.SIGKILL)
            kills += server.wait() == -signal.SIGKILL
        longest /= 2.0
    server.start("advance", run=killed, until=2 * N, **arguments)
    assert server.wait() == 0
    assert digests(Path(killed)) == digests(Path(whole))


def test_an_environment_that_does_not_repeat_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path / "run", N, env="reliability/Unrepeatable-v0", env_kwargs={}, n_envs=2)
    before = metrics(tmp_path / "run")
    with caplog.at_level(logging.WARNING, "softac"):
        resume(tmp_path / "run", N)
    texts = [record.getMessage() for record in caplog.records]
    # An environment just reset has no action behind it and may well repeat that.
    assert 1 <= len(texts) <= 2
    for text in texts:
        assert re.fullmatch(
            r"environment [01] did not repeat episode \d+ from its seed and actions; "
            r"continuing with a new episode, not bit for bit",
            text,
        )
    after = metrics(tmp_path / "run")
    assert after[-1]["step"] == 2 * N
    kept = [row for row in before if not row.get("final")]
    assert after[: len(kept)] == kept


class StopAt:
    """Says stop from the `n`-th question on, as a signal handler would."""

    def __init__(self, n: int) -> None:
        self.asked, self.n = 0, n

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > self.n


def test_an_interrupted_evaluation_is_done_after_the_resume(tmp_path: Path) -> None:
    record = RecordConfig(**FREQUENCIES)
    run(tmp_path / "whole", N)
    model, asked = tiny(**PENDULUM), StopAt(20)
    # From step 60 on it is asked by its update, then at each step of the evaluation.
    model.train(N, record, tmp_path / "run", stop=lambda: model.num_timesteps == 60 and asked())
    rows = metrics(tmp_path / "run")
    assert rows[-1]["step"] == 60
    assert not any("eval/mean_reward" in row for row in rows)
    state = json.loads((tmp_path / "run/checkpoints/step-000000060/state.json").read_bytes())
    assert state["evaluation_due"] is True
    resume(tmp_path / "run", N - 60)
    assert [row["step"] for row in metrics(tmp_path / "run") if "eval/mean_reward" in row] == [60, N]
    assert digests(tmp_path / "run") == digests(tmp_path / "whole")


@pytest.mark.parametrize("questions", [0, 1, 2, 51, 52, 121, 125, 180, 200])
def test_stopped_anywhere_nothing_is_lost(questions: int, tmp_path: Path) -> None:
    run(tmp_path / "whole", N)
    stop = StopAt(questions)
    tiny(**PENDULUM).train(N, RecordConfig(**FREQUENCIES), tmp_path / "run", stop=stop)
    assert stop.asked > questions
    model = SAC.load(tmp_path / "run")
    assert model.num_timesteps < N
    resume(tmp_path / "run", N - model.num_timesteps)
    assert digests(tmp_path / "run") == digests(tmp_path / "whole")


def test_a_save_that_fails_leaves_training_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path / "whole", 2 * N)
    calls = 0

    def failing(*arguments: Any) -> Path:
        nonlocal calls
        calls += 1
        if calls in (1, 3):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return write_checkpoint(*arguments)

    monkeypatch.setattr("softac.run.recorder.write_checkpoint", failing)
    run(tmp_path / "run", 2 * N)
    assert calls > 3
    assert len(caplog.records) == 2
    assert digests(tmp_path / "run") == digests(tmp_path / "whole")


def command(*words: Any, folder: Path | None = None) -> subprocess.Popen[str]:
    """The command `softac`, in a process of its own, started in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(Path(softac.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    whole = [sys.executable, "-m", "softac", *map(str, words)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(whole, text=True, env=environment, cwd=folder, **pipes)


def test_the_command_killed_and_resumed(tmp_path: Path) -> None:
    tiny = ["--net-arch", "16", "16", "--batch-size", "32", "--learning-starts", "30", "--buffer-size", "150"]
    train = ["train", "Pendulum-v1", "-n", 600, *tiny, "--n-eval-episodes", 0, "--save-freq", 45, "--run-dir"]
    whole = command(*train, tmp_path / "whole")
    _, stderr = whole.communicate(timeout=120)
    assert (whole.returncode, stderr) == (0, "")
    process = command(*train, tmp_path / "killed")
    until = time.monotonic() + 60
    while not list((tmp_path / "killed").glob("checkpoints/step-*/manifest.json")):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    _, stderr = process.communicate()
    assert process.returncode == -signal.SIGKILL, stderr
    resumed = command("resume", tmp_path / "killed")
    _, stderr = resumed.communicate(timeout=120)
    assert (resumed.returncode, stderr) == (0, "")
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_another_number_of_threads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The number of the run is used again, whatever the process had; so the bits stay the same."""
    run(tmp_path / "whole", 2 * N)
    run(tmp_path / "halves", N)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        resume(tmp_path / "halves", N)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert caplog.messages == []
    assert digests(tmp_path / "halves") == digests(tmp_path / "whole")


def test_another_version_or_machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        before = softac.run.checkpoint.fingerprint()
        elsewhere = before | {"torch": "1.0\x1b[31m", "cpu": "NO AVX"}
        patch.setattr("softac.run.checkpoint.fingerprint", lambda: elsewhere)
        run(tmp_path / "run", N)
    resume(tmp_path / "run", N)
    assert caplog.messages == [
        rf"continuing, not bit for bit: torch was 1.0\x1b[31m and is {before['torch']}, cpu was NO AVX and is "
        f"{before['cpu']}"
    ]


def test_looking_at_a_run_leaves_it_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A film, an evaluation and a picture between the halves: the run goes on as if nobody had looked."""
    # The film needs no window; without this, pygame would look for one.
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    run(tmp_path / "whole", 2 * N)
    run(tmp_path / "halves", N)
    for words in (["enjoy", "--video", "film.gif"], ["eval", "--n-eval-episodes", "2"], ["plot"]):
        verb, *options = words
        looked = command(verb, tmp_path / "halves", *options, folder=tmp_path)
        _, stderr = looked.communicate(timeout=120)
        assert looked.returncode == 0, stderr
    assert (tmp_path / "film.gif").stat().st_size > 0
    resume(tmp_path / "halves", N)
    assert digests(tmp_path / "halves") == digests(tmp_path / "whole")


@pytest.mark.parametrize("updates", [1, 17, 39])
def test_a_stop_between_the_updates_of_one_round_loses_none(updates: int, tmp_path: Path) -> None:
    """Rounds of 40 updates, left after some of them."""
    arguments = {"train_freq": 40, "learning_starts": 20}
    run(tmp_path / "whole", 2 * N, **arguments)
    model = tiny(**PENDULUM, **arguments)
    record = RecordConfig(**FREQUENCIES)
    model.train(2 * N, record, tmp_path / "stopped", stop=lambda: model.training.updates == 40 + updates)
    assert model.training.updates_due() == 40 - updates
    SAC.load(tmp_path / "stopped").train(2 * N, record, tmp_path / "stopped")
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")
