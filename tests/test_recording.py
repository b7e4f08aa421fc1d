"""What a run writes down, pinned by absolute numbers: two equal runs could share one error."""

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from probes import EarlyEndingEnv, Probe
from reliability_envs import tiny
from softac import SAC, Model
from softac.envs import make_env
from softac.equations.distributions import SquashedGaussian
from softac.equations.returns import explained_variance
from softac.errors import CheckpointError, ConfigError
from softac.nets.layers import orthogonal_mlp
from softac.replay import ring
from softac.run import recorder
from softac.run.checkpoint import checkpoints
from softac.run.config import RecordConfig
from softac.run.folder import RunFolder
from softac.run.metrics import METRICS, MetricsFile, TensorBoard, read_rows
from softac.run.progress import Progress
from tiny_agents import Remembering


class Numbered(Remembering):
    """Reports the number of each update, from 1."""

    updates = 0

    def update_(self, batch: Any, noise: Any) -> dict[str, torch.Tensor]:
        self.updates += 1
        return {"train/number": torch.tensor(float(self.updates))}


class Counted(Probe):
    """Episodes of one step; the n-th since it was made has the return n, or the n-th of `returns`."""

    def __init__(self, returns: list[float] | None = None) -> None:
        super().__init__()
        self.returns = returns

    def reward(self, action: Any) -> float:
        return float(self.resets if self.returns is None else self.returns[self.resets - 1])

    def ending(self) -> tuple[bool, bool]:
        return True, False


def steps(rows: list[dict[str, Any]], name: str) -> list[int]:
    return [row["step"] for row in rows if name in row]


def test_means_are_those_of_the_steps_since_the_last_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LOG_FREQ", 20)
    rows: list[dict[str, float]] = []
    Model(Numbered, EarlyEndingEnv, learning_starts=16).learn(50, callback=lambda _, row: rows.append(row))
    # Updates 1 to 4 fall between steps 16 and 20, 5 to 24 before step 40, 25 to 34 before the end.
    assert [row["train/number"] for row in rows] == [2.5, 14.5, 29.5]
    assert [row["train/n_updates"] for row in rows] == [4, 24, 34]


def test_means_of_a_row_at_the_end_go_on_with_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LOG_FREQ", 20)
    rows: list[dict[str, float]] = []
    model = Model(Numbered, EarlyEndingEnv, learning_starts=16)
    model.learn(30, callback=lambda _, row: rows.append(row))
    model.learn(10, callback=lambda _, row: rows.append(row))
    assert [row["train/number"] for row in rows] == [2.5, 9.5, 14.5]  # 5 to 14 at step 30, 5 to 24 at step 40


def test_what_is_due_when_with_three_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LOG_FREQ", 10)
    saved: list[str] = []
    write = recorder.write_checkpoint

    def noted(folder: Path, *rest: Any) -> Path:
        path: Path = write(folder, *rest)
        if folder.name == "checkpoints":
            saved.append(path.name)
        return path

    monkeypatch.setattr(recorder, "write_checkpoint", noted)
    tiny(n_envs=3).learn(50, run_dir=tmp_path / "run", eval_freq=20, n_eval_episodes=1, save_freq=15)
    rows = read_rows(tmp_path / "run" / METRICS)
    # Rounds end at 3, 6, ... 48; the last one is cut at 50. A row stands at the first end of a round beyond
    # each multiple.
    assert steps(rows, "time/fps") == [12, 21, 30, 42, 50]
    assert steps(rows, "eval/mean_reward") == [21, 42, 50]
    assert saved == ["step-000000015", "step-000000030", "step-000000045", "step-000000050"]
    assert [path.name for path in checkpoints(tmp_path / "run/checkpoints")] == saved[:1:-1]
    assert [row["final"] for row in rows if "final" in row] == [True, True]
    assert [row["time/total_timesteps"] for row in rows if "time/fps" in row] == [12, 21, 30, 42, 50]


@pytest.mark.parametrize("n_envs", [1, 3])
def test_zero_means_only_at_the_end(n_envs: int, tmp_path: Path) -> None:
    tiny(n_envs=n_envs).learn(50, run_dir=tmp_path / "run", eval_freq=0, n_eval_episodes=1, save_freq=0)
    assert steps(read_rows(tmp_path / "run" / METRICS), "eval/mean_reward") == [50]
    assert [path.name for path in checkpoints(tmp_path / "run/checkpoints")] == ["step-000000050"]


def test_the_seconds_of_a_run_are_those_of_all_its_processes(tmp_path: Path) -> None:
    model = tiny().learn(20)
    assert model.training is not None
    model.training.seconds = 1_000.0
    model.save(tmp_path / "m")
    rows: list[dict[str, float]] = []
    SAC.load(tmp_path / "m").learn(10, callback=lambda _, row: rows.append(row))
    assert 1_000.0 < rows[-1]["time/time_elapsed"] < 1_100.0


def test_a_run_that_is_asked_to_stop_is_not_evaluated(tmp_path: Path) -> None:
    made: list[EarlyEndingEnv] = []

    def make() -> EarlyEndingEnv:
        made.append(EarlyEndingEnv())
        return made[-1]

    model = tiny(make)
    record = RecordConfig(eval_freq=0, n_eval_episodes=2)
    model.train(40, record, tmp_path / "run", stop=lambda: model.num_timesteps >= 20)
    assert model.num_timesteps == 20
    assert made[-1].resets == 0
    assert steps(read_rows(tmp_path / "run" / METRICS), "eval/mean_reward") == []
    assert [path.name for path in checkpoints(tmp_path / "run/checkpoints")] == ["step-000000020"]


def test_the_last_hundred_episodes_are_averaged() -> None:
    rows: list[dict[str, float]] = []
    tiny(Counted, learning_starts=1_000).learn(150, callback=lambda _, row: rows.append(row))
    assert rows[-1]["time/episodes"] == 150
    assert rows[-1]["rollout/ep_rew_mean"] == 100.5  # the mean of 51 to 150
    assert rows[-1]["rollout/ep_len_mean"] == 1.0


def test_the_best_agent_is_that_of_the_best_evaluation(tmp_path: Path) -> None:
    # Each evaluation plays one episode with the mode and one that is sampled; only the first counts.
    scripts = iter([None, [3.0, 9.0, 5.0, 1.0, 4.0, 9.0]])
    model = tiny(lambda: Counted(next(scripts)), learning_starts=5)
    model.learn(30, run_dir=tmp_path / "run", eval_freq=10, n_eval_episodes=1)
    rows = read_rows(tmp_path / "run" / METRICS)
    assert [row["eval/mean_reward"] for row in rows if "eval/mean_reward" in row] == [3.0, 5.0, 4.0]
    assert [row["eval/stochastic_mean_reward"] for row in rows if "eval/mean_reward" in row] == [9.0, 1.0, 9.0]
    assert json.loads((tmp_path / "run/best/score.json").read_text()) == {"step": 20, "mean_reward": 5.0}
    assert [path.name for path in checkpoints(tmp_path / "run/best")] == ["step-000000020"]


def test_of_two_equal_evaluations_the_first_is_the_best(tmp_path: Path) -> None:
    scripts = iter([None, [3.0, 0.0, 5.0, 0.0, 5.0, 0.0]])
    tiny(lambda: Counted(next(scripts))).learn(30, run_dir=tmp_path / "run", eval_freq=10, n_eval_episodes=1)
    assert json.loads((tmp_path / "run/best/score.json").read_text()) == {"step": 20, "mean_reward": 5.0}


def test_tensorboard_shows_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LOG_FREQ", 1)
    folder = tmp_path / "run"
    record = RecordConfig(eval_freq=0, n_eval_episodes=0, save_freq=0)
    tiny().train(10, record, folder)
    # What a killed run leaves: rows beyond its last checkpoint.
    events = next(folder.glob("events.out.tfevents.*"))
    writer = TensorBoard.__new__(TensorBoard)
    writer.__dict__ |= TensorBoard(tmp_path, None).__dict__ | {"path": events}
    for step in (11, 12, 13):
        writer.write(step, {"time/total_timesteps": -1.0})
    SAC.load(folder).train(14, record, folder)
    shown = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload().Scalars("time/total_timesteps")
    assert [(event.step, event.value) for event in shown] == [(step, float(step)) for step in range(1, 15)]


def test_a_lock_on_a_file_that_is_no_longer_there_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        # Between opening and locking, the last holder leaves and the next one comes.
        monkeypatch.setattr("softac.run.folder.fcntl.flock", flock)
        (tmp_path / ".lock").unlink()
        holder.append(RunFolder(tmp_path))
        flock(descriptor, how)

    holder: list[RunFolder] = []
    monkeypatch.setattr("softac.run.folder.fcntl.flock", late)
    with pytest.raises(ConfigError, match="is in use by another process"):
        RunFolder(tmp_path)
    holder[0].release()
    RunFolder(tmp_path).release()


def test_half_a_row_is_cut_off_before_the_next(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path, None)
    file.append({"step": 1, "a": 1.0})
    with (tmp_path / METRICS).open("ab") as torn:
        torn.write(b'{"step": 2, "a": 0.123456789, "b": 0.12345')
    file.append({"step": 2, "a": 2.0})
    assert (tmp_path / METRICS).read_text() == '{"step": 1, "a": 1.0}\n{"step": 2, "a": 2.0}\n'


@pytest.mark.parametrize(("dtype", "end"), [(torch.float32, 8.66433976), (torch.float64, 18.71497388)])
def test_an_action_at_the_end_counts_as_the_largest_number_below_one(dtype: torch.dtype, end: float) -> None:
    # atanh(1 - 2^-24) = ln(2^25 - 1) / 2 = 8.66433976, atanh(1 - 2^-53) = ln(2^54 - 1) / 2 = 18.71497388. There
    # log(1 - tanh(u)^2) = 2 (ln 2 - u - ln(1 + e^-2u)), and the density of u is that of the standard normal.
    policy = SquashedGaussian(torch.zeros(1, dtype=dtype), torch.zeros(1, dtype=dtype))
    normal = -0.5 * end**2 - 0.5 * np.log(2.0 * np.pi)
    expected = normal - 2.0 * (np.log(2.0) - end - np.log1p(np.exp(-2.0 * end)))
    for action in (1.0, -1.0):
        found = policy.log_prob(torch.tensor([action], dtype=dtype))
        assert float(found) == pytest.approx(expected, rel=1e-5)


def test_explained_variance_of_targets_that_hardly_vary() -> None:
    target = torch.tensor([0.0, 2e-3], dtype=torch.float64)  # variance 1e-6
    value = torch.tensor([0.0, 1e-3], dtype=torch.float64)  # of the rest 2.5e-7
    assert float(explained_variance(value, target)) == pytest.approx(0.75)
    still = torch.tensor([0.0, 1.8e-6], dtype=torch.float64)  # variance 8.1e-13
    assert float(explained_variance(still, still)) == 0.0


def test_the_first_weights_of_a_tanh_network_are_orthogonal_with_gain_root_two() -> None:
    net = orthogonal_mlp((3, 5, 4, 2), 0.01, generator=torch.Generator().manual_seed(0))
    first, second, last = (layer.weight.detach() for layer in net if hasattr(layer, "weight"))
    torch.testing.assert_close(first @ first.T, 2.0 * torch.eye(3))
    torch.testing.assert_close(second.T @ second, 2.0 * torch.eye(4))
    torch.testing.assert_close(last.T @ last, 1e-4 * torch.eye(2))
    assert all(float(layer.bias.detach().abs().max()) == 0.0 for layer in net if hasattr(layer, "bias"))


def test_a_module_that_is_named_leaves_the_path_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "room_of_envs.py").write_text(
        "import gymnasium as gym\ngym.register('RoomOfEnvs-v0', 'probes:EarlyEndingEnv')\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    make_env("room_of_envs:RoomOfEnvs-v0", trust_module=True).close()
    assert sys.path == before
    with pytest.raises(ConfigError, match="cannot be imported"):
        make_env("no_such_room:Env-v0", trust_module=True)
    assert sys.path == before
    gym.registry.pop("RoomOfEnvs-v0")
    sys.modules.pop("room_of_envs")


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [("3000000", "1000000", 2_000_000), ("1000000", "3000000", 0), ("max", "1000000", 8_000_000 * 1024)],
)
def test_the_memory_limit_of_a_container_counts(
    limit: str, used: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n",
        "/sys/fs/cgroup/memory.max": f"{limit}\n",
        "/sys/fs/cgroup/memory.current": f"{used}\n",
    }
    for i, (name, text) in enumerate(files.items()):
        (tmp_path / str(i)).write_text(text)
        files[name] = str(tmp_path / str(i))
    monkeypatch.setattr(ring, "Path", lambda name: Path(files[name]))
    assert ring.available_memory() == expected


def test_metrics_too_large_for_any_run_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    path.write_text('{"step": 1}\n')
    os.truncate(path, 2**32 + 1)
    with pytest.raises(CheckpointError) as refused:
        read_rows(path)
    assert str(refused.value) == (
        f"{path} has 4294967297 bytes; expected at most 4294967296 bytes; restore it, or remove it to go on "
        "without what was logged"
    )
    progress = Progress(tmp_path)
    progress.read()
    assert progress.steps == 0


def test_damaged_lines_cost_themselves_and_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / METRICS
    path.write_bytes(b'{"step": 1}\n\xff\n{"step": true}\n{"step": 2, "\\ud800": 1}\n{"step": 3, "\\u00e9": 1}\n[')
    assert read_rows(path) == [{"step": 1}, {"step": 3, "\u00e9": 1}]
    assert caplog.messages == [f"damaged lines in {path} were left out"]
