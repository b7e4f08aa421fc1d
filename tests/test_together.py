"""Several seeds in one process, as on a GPU: here on the processor, where only the decision is another."""

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from safetensors.torch import load_file

import softac
from folders import memory_folder
from hashing import digests, newest_checkpoint
from reliability_envs import Faulty
from softac.cli.display import Overview
from softac.cli.suite import over_seeds
from softac.experiments.together import _cohort, in_cohort
from test_seeds import SHORT, SMALL, last_evaluation, printed, wait_for

N = 200


@pytest.fixture(autouse=True)
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softac.experiments.execute.in_cohort", lambda model: not model.agent.on_policy)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


def train(path: Path, n: int, *words: Any) -> str:
    code, stdout, stderr = printed("train", "Pendulum-v1", "-n", n, *SHORT, "--run-dir", path, *words)
    assert (code, stderr) == (0, "")
    return stdout


@pytest.fixture
def three(folder: Path) -> Path:
    """The seeds 0, 1 and 5, trained together."""
    if not (folder / "three").exists():
        train(folder / "three", N, "--seeds", "0-1,5")
    return folder / "three"


@pytest.mark.parametrize(
    ("device", "settings", "expected"),
    [
        ("cuda", {}, True),
        ("cuda", {"engine": "cudagraph"}, True),
        ("cuda", {"engine": "eager"}, True),
        ("cuda", {"engine": "compiled"}, False),
        ("cpu", {}, False),
    ],
)
def test_when_seeds_are_trained_together(
    device: str, settings: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softac.model.require_engine", lambda *_: None)
    model = softac.SAC("Pendulum-v1", net_arch=[8, 8], **settings)
    monkeypatch.setattr(model.agent, "device", torch.device(device))
    assert in_cohort(model) == expected


@pytest.mark.parametrize(
    ("device", "engine", "expected"),
    [("cuda", "auto", True), ("cuda", "cudagraph", True), ("cuda", "eager", False), ("cpu", "auto", False)],
)
def test_on_a_gpu_their_updates_are_recorded(
    device: str, engine: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("softac.experiments.together.Cohort", lambda _, *, recorded: asked.append(recorded))
    monkeypatch.setattr("softac.model.require_engine", lambda *_: None)
    model = softac.SAC("Pendulum-v1", net_arch=[8, 8], engine=engine)
    monkeypatch.setattr(model.agent, "device", torch.device(device))
    _cohort([model], [(None, 0, model)], {})
    assert asked == [expected]


def test_an_on_policy_algorithm_is_trained_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = softac.PPO("Pendulum-v1", net_arch=[8, 8])
    monkeypatch.setattr(model.agent, "device", torch.device("cuda"))
    assert not in_cohort(model)


def test_each_seed_learns_what_it_learns_alone(three: Path, folder: Path) -> None:
    train(folder / "alone", N, "--seed", 5)
    alone, found = (
        load_file(newest_checkpoint(run) / "networks.safetensors") for run in (folder / "alone", three / "seed-5")
    )
    assert found.keys() == alone.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda t, n=name: f"{n}: {t}")
    exact, others = digests(folder / "alone"), digests(three / "seed-5")
    assert {part for part in exact if exact[part] == others[part]} >= {"random states"}


def test_what_is_printed_and_written(folder: Path) -> None:
    path = folder / "printed"
    lines = train(path, N, "--seeds", "0-1,5").splitlines()
    assert lines[0] == f"sac on Pendulum-v1, seeds 0-1,5, {N} steps each, 3 at a time -> {path}"
    for seed in (0, 1, 5):
        said = [line.split(" | ")[1] for line in lines if line.startswith(f"seed {seed} |") and "step" not in line]
        assert said == ["running", "done"]
        run = path / f"seed-{seed}"
        assert (run / "learning_curve.png").stat().st_size > 1000
        assert (run / "log.txt").read_text().splitlines() == [
            "engine cohort of 3 (several seeds at once), threads 1, float32"
        ]
        config = json.loads((run / "config.json").read_text())
        assert (config["run"]["engine"], config["run"]["seed"]) == ("auto", seed)
    returns = [last_evaluation(path / f"seed-{seed}") for seed in (0, 1, 5)]
    assert f"return   {over_seeds(returns)} at step {N}" in lines


def test_the_same_seeds_give_the_same_bits_and_go_on_bit_for_bit(three: Path, folder: Path) -> None:
    path = folder / "longer"
    train(path, N // 2, "--seeds", "0-1,5")
    assert printed("resume", path, "-n", N)[0] == 0
    for seed in (0, 1, 5):
        assert digests(path / f"seed-{seed}") == digests(three / f"seed-{seed}")


def test_stopped_and_one_far_behind_the_others(three: Path, folder: Path) -> None:
    """A signal stops all; then one is thrown back to its beginning and catches up alone."""
    path = folder / "stopped"

    def interrupt() -> None:
        wait_for(lambda: list((path / "seed-1").glob("checkpoints/step-*/manifest.json")))
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    words = ["train", "Pendulum-v1", "-n", N, *SHORT, "--seeds", "0-1,5", "--run-dir", path]
    code, stdout, stderr = printed(*words)
    watcher.join()
    assert (code, stderr) == (143, "")
    assert stdout.endswith(f"stopped and saved; go on with: softac resume {path}\n")
    assert [f"seed {seed} | stopped\n" in stdout for seed in (0, 1, 5)] == [True] * 3
    behind = path / "seed-1"
    for file in sorted(behind.rglob("*"), reverse=True):
        if file.name not in ("config.json", "command.txt", "system.json"):
            file.rmdir() if file.is_dir() else file.unlink()
    assert printed("resume", path)[0] == 0
    for seed in (0, 1, 5):
        assert digests(path / f"seed-{seed}") == digests(three / f"seed-{seed}")


def test_alone_a_seed_goes_on_with_another_engine(three: Path, tmp_path: Path) -> None:
    shutil.copytree(three / "seed-5", tmp_path / "seed-5")
    code, _, stderr = printed("resume", tmp_path / "seed-5", "-n", N + 10)
    said = "softac: warning: continuing, not bit for bit: engine was cohort of 3 and is eager\n"
    assert (code, stderr) == (0, said)


def test_several_groups(folder: Path) -> None:
    path = folder / "groups"
    off_policy = "settings = { net_arch = [8, 8], batch_size = 16, learning_starts = 20 }\n"
    suite = folder / "groups.toml"
    suite.write_text(
        'title = "Three"\ntotal_timesteps = 60\nn_eval_episodes = 1\nseeds = "0-1"\n'
        'environments = ["Pendulum-v1"]\n'
        f'[[algorithms]]\nalgorithm = "sac"\n{off_policy}[[algorithms]]\nalgorithm = "td3"\n{off_policy}'
        '[[algorithms]]\nalgorithm = "ppo"\nsettings = { n_steps = 20, batch_size = 20 }\n'
    )
    code, stdout, stderr = printed("bench", suite, "--run-dir", path)
    assert (code, stderr) == (0, "")
    assert stdout.count(" | done\n") == 6
    engines = {
        run.parents[2].name: json.loads(run.read_text())["engine"]
        for run in path.glob("*/checkpoints/*/state.json")
    }
    assert engines == {
        f"Pendulum-v1__{name}__{seed}": "eager" if name == "ppo" else "cohort of 2"
        for name in ("sac", "td3", "ppo")
        for seed in (0, 1)
    }


def test_what_cannot_be_shown_stops_the_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, drawn = folder / "unwatched", Overview.draw
    before = set(threading.enumerate())  # those that a package of an earlier test has begun among them

    def broken(self: Overview) -> None:
        drawn(self)
        if list(path.glob("seed-1/checkpoints/*/manifest.json")):
            raise RuntimeError("the terminal is gone")

    monkeypatch.setattr(Overview, "draw", broken)
    with pytest.raises(RuntimeError, match="the terminal is gone"):
        printed("train", "Pendulum-v1", "-n", 100_000, *SHORT, "--seeds", "0-1", "--run-dir", path)
    assert not set(threading.enumerate()) - before
    for seed in (0, 1):
        assert 50 <= int(newest_checkpoint(path / f"seed-{seed}").name.removeprefix("step-")) < 100_000


class Closed(BaseException):
    """No error, and nothing that an environment is expected to raise."""


class LeavesForSeed1(Faulty):
    """Ends the program in the run of seed 1 at step 40."""

    def __init__(self) -> None:
        super().__init__("none", at=40)

    def step(self, action: Any) -> Any:
        if self.steps == self.at and threading.current_thread().name == "seed 1":
            raise Closed("the window was closed")
        return super().step(action)


gym.register("together/LeavesForSeed1-v0", entry_point=LeavesForSeed1)


@pytest.mark.parametrize("full", [False, True])
def test_no_end_goes_unnoticed(full: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that is no error, nor one that nothing can be written about."""
    path, env = folder / f"leaves-{full}", "test_together:together/LeavesForSeed1-v0"

    def refuse(_: Path) -> Any:
        raise OSError(28, "No space left on device")

    if full:
        monkeypatch.setattr("softac.experiments.together.new_file", refuse)
    code, stdout, stderr = printed("train", env, "-n", 60, *SMALL, "--seeds", "1-2", "--run-dir", path)
    assert (code, stderr) == (1, "")
    assert (
        f"seed 1 | failed (exit code 1): {'' if full else 'test_together.Closed: the window was closed'}\n"
        in stdout
    )
    assert "seed 2 | done\n" in stdout


class FailsForSeed1(Faulty):
    """Raises in the run of seed 1 at step 40 until the file `repaired` exists."""

    def __init__(self, repaired: str) -> None:
        super().__init__("raise", at=40, repaired=repaired)

    def step(self, action: Any) -> Any:
        self.fault = "raise" if threading.current_thread().name == "seed 1" else "none"
        return super().step(action)


gym.register("together/FailsForSeed1-v0", entry_point=FailsForSeed1)


def test_a_seed_that_fails_does_not_stop_the_others(folder: Path) -> None:
    path, repaired, env = folder / "failing", folder / "repaired", "test_together:together/FailsForSeed1-v0"
    words = ["train", env, "-n", 60, *SMALL, "--seeds", "1-2", "--env-kwargs", f"repaired={repaired}"]
    code, stdout, stderr = printed(*words, "--run-dir", path)
    assert (code, stderr) == (4, "")
    said = (path / "seed-1" / "output.txt").read_text().rstrip("\n")
    assert re.match(r"softac: environment 0 raised RuntimeError: the model exploded in step at step \d+ ", said)
    assert f"seed 1 | failed (exit code 4): {said}\n" in stdout
    assert f"return   {over_seeds([last_evaluation(path / 'seed-2')])} at step 60\n" in stdout
    repaired.touch()
    code, stdout, stderr = printed("resume", path, "--env", env)
    assert (code, stderr) == (0, "")
    assert "over 2 seeds at step 60\n" in stdout
    assert "seed 2 |" not in stdout
    state = json.loads((newest_checkpoint(path / "seed-1") / "state.json").read_text())
    assert state["engine"] == "cohort of 2"
    assert not (path / "seed-1" / "output.txt").exists()
