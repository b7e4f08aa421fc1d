"""A disk that is full or failing, and a process killed in the middle of a save."""

import errno
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import softac.files
from folders import memory_folder
from hashing import digests, metrics, training_digests
from jobs import Server
from reliability_envs import tiny
from softac import SAC
from softac.errors import DiskError
from softac.run.checkpoint import checkpoints, read_newest
from softac.run.folder import RunFolder, config_sha256, read_config
from softac.run.recorder import Recorder


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


def verified_step(run: Path) -> int:
    """The step of the newest checkpoint that is whole, its replay included."""
    identity = config_sha256(read_config(run))
    return read_newest(run / "checkpoints", identity, 2, replay=run / "replay")[0].step


class FailingFile:
    """A file whose write stops half way."""

    def __init__(self, file: Any, error: Callable[[], OSError]) -> None:
        self.file, self.error = file, error

    def __enter__(self) -> "FailingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> int:
        self.file.write(data[: len(data) // 2])
        raise self.error()


class Faults:
    """Counts what reaches for the disk, and makes the call number `at` fail."""

    PATH_METHODS = ("mkdir", "rename", "replace", "unlink")

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.at = self.calls = 0
        patch.setattr(os, "fsync", self.failing(os.fsync))
        for method in self.PATH_METHODS:
            patch.setattr(Path, method, self.failing(getattr(Path, method)))
        opened = softac.files.new_file

        def new_file(path: Path) -> Any:
            file = opened(path)
            return FailingFile(file, self.error) if self.due() else file

        patch.setattr(softac.files, "new_file", new_file)

    def error(self) -> OSError:
        number = (errno.ENOSPC, errno.EIO)[self.at % 2]
        return OSError(number, os.strerror(number))

    def due(self) -> bool:
        self.calls += 1
        return self.calls == self.at

    def failing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if self.due():
                raise self.error()
            return function(*arguments, **keywords)

        return call


def test_every_call_of_a_save_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every second save fails, each at its next call, until one has no call left to fail at."""
    run, steps = tmp_path / "run", 160
    how = {"n_eval_episodes": 0, "save_freq": 2}
    tiny().learn(steps, run_dir=tmp_path / "good", **how)
    save, at, warned, last_good, over = Recorder._save, 0, 0, 0, False
    with monkeypatch.context() as patch:
        faults = Faults(patch)

        def disturbed(recorder: Recorder) -> None:
            nonlocal at, warned, last_good, over
            step = recorder.training.steps
            fails = step % 4 == 0 and not over
            at += fails
            faults.calls, faults.at = 0, at if fails else 0
            try:
                save(recorder)
            except OSError:
                warned += 1
                faults.at = 0
                # The new one where the failure came after its rename, else the one before.
                assert verified_step(run) in (last_good, step)
                raise
            finally:
                over |= fails and faults.calls < at
                faults.at = 0
            # Without a failure, or with one that only keeps something superfluous from being deleted.
            last_good = step
            assert verified_step(run) == step

        patch.setattr(Recorder, "_save", disturbed)
        with caplog.at_level(logging.WARNING, "softac"):
            tiny().learn(steps, run_dir=run, **how)
    assert over, "the run was too short to fail at every call"
    assert at > 20
    assert warned > 15
    assert len(caplog.messages) == warned
    assert [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")] == []
    pattern = (
        rf"the checkpoint of step \d+ could not be written to {re.escape(str(run))} "
        r"\((No space left on device|Input/output error), \d+\.\d MB free there\); expected "
        r"a disk that takes it; free some space, then `softac resume` goes on from the last checkpoint"
    )
    for text in caplog.messages:
        assert re.fullmatch(pattern, text)
    assert digests(run) == digests(tmp_path / "good")


def refuse_checkpoints(patch: pytest.MonkeyPatch, refused: Callable[[int], bool]) -> None:
    from softac.run.checkpoint import write_checkpoint

    calls = 0

    def write(*arguments: Any) -> Path:
        nonlocal calls
        calls += 1
        if refused(calls):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_checkpoint(*arguments)

    patch.setattr("softac.run.recorder.write_checkpoint", write)


def test_the_third_failure_in_a_row_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    # Metrics go on being written, as in the last bytes of a disk: they must not hide it.
    monkeypatch.setattr("softac.run.recorder.LOG_FREQ", 3)
    refuse_checkpoints(monkeypatch, lambda n: n in (2, 3) or n >= 5)
    model = tiny()
    with pytest.raises(DiskError) as caught:
        model.learn(150, run_dir=run, n_eval_episodes=0, save_freq=10)
    assert caught.value.exit_code == 5
    free = shutil.disk_usage(run).free / 1e6
    found = re.fullmatch(
        rf"the checkpoint of step 70 could not be written to {re.escape(str(run))} \(No space left on device, "
        r"(\d+\.\d) MB free there\); expected a disk that takes it; free some space, then `softac resume` goes on "
        r"from the last checkpoint",
        str(caught.value),
    )
    assert found is not None
    assert float(found[1]) == pytest.approx(free, rel=0.5)
    assert len(caplog.messages) == 4
    assert verified_step(run) == 40
    assert metrics(run)[-1]["step"] == 69

    # When there is space again, the same model goes on in the same folder.
    monkeypatch.undo()
    monkeypatch.setattr("softac.run.recorder.LOG_FREQ", 3)
    model.learn(150 - 70, run_dir=run, n_eval_episodes=0, save_freq=10)
    tiny().learn(150, run_dir=tmp_path / "good", n_eval_episodes=0, save_freq=10)
    assert digests(run) == digests(tmp_path / "good")


def test_the_last_save_must_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_checkpoints(monkeypatch, lambda n: n == 3)
    with pytest.raises(DiskError, match=r"^the checkpoint of step 25 could not be written to .* MB free there"):
        tiny().learn(25, run_dir=tmp_path / "run", n_eval_episodes=0, save_freq=10)
    assert verified_step(tmp_path / "run") == 20


def test_metrics_that_could_not_be_written_come_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softac.run.recorder.LOG_FREQ", 10)
    how: dict[str, Any] = {"n_eval_episodes": 0, "save_freq": 25}
    tiny().learn(100, run_dir=tmp_path / "good", **how)
    opened = Path.open

    def refuse(path: Path, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        if mode == "r+b" and model.num_timesteps in (10, 40, 100):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, mode, *arguments, **keywords)

    model = tiny()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        # Its last row is refused, too: then the run says so, instead of ending as if nothing were missing.
        with pytest.raises(DiskError, match=r"^the metrics could not be written to "):
            model.learn(100, run_dir=tmp_path / "run", **how)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [*range(10, 91, 10)]
    assert training_digests(tmp_path / "run") == training_digests(tmp_path / "good")


def test_a_folder_that_is_removed_while_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "deep" / "run"

    def remove(model: Any, row: dict[str, float]) -> None:
        if row["time/total_timesteps"] == 30:
            shutil.rmtree(tmp_path / "deep")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("softac.run.recorder.LOG_FREQ", 10)
        with pytest.raises(DiskError, match=r"could not be written to .*No such file or directory"):
            tiny().learn(100, run_dir=run, n_eval_episodes=0, save_freq=0, callback=remove)
    assert caplog.messages


@pytest.mark.parametrize("what", ["config.json", "metrics"])
def test_a_disk_that_is_full_from_the_beginning(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(
        "softac.run.folder.write_durably" if what == "config.json" else "softac.run.metrics.replace_text", full
    )
    with pytest.raises(DiskError, match=r"No space left on device.*; expected "):
        tiny().learn(10, run_dir=tmp_path / "run")


def test_a_model_that_cannot_be_saved(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    text = (
        f"{blocked}/m cannot be written (Not a directory); expected a folder of your own; choose another with "
        "--run-dir"
    )
    with pytest.raises(DiskError, match=f"^{re.escape(text)}$"):
        tiny().learn(5).save(blocked / "m")
    (tmp_path / "m").mkdir()
    (tmp_path / "m/checkpoints").write_text("")
    text = (
        f"the model could not be written to {tmp_path}/m (File exists); expected a disk that takes it; free some "
        "space or choose another folder"
    )
    with pytest.raises(DiskError, match=f"^{re.escape(text)}$"):
        tiny().learn(5).save(tmp_path / "m")


MOUNT, UMOUNT, STRACE = (shutil.which(name) or "" for name in ("mount", "umount", "strace"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB of its own."""
    if os.geteuid() != 0 or not MOUNT or not UMOUNT:
        pytest.skip("mounting a disk needs root and the commands mount and umount")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        [MOUNT, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mount.returncode != 0:
        pytest.skip(f"no disk could be mounted: {mount.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run([UMOUNT, "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def test_a_real_disk_that_is_full_for_a_while_and_then_for_good(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("softac.run.recorder.LOG_FREQ", 35)
    how: dict[str, Any] = {"eval_freq": 60, "n_eval_episodes": 1, "save_freq": 45}
    run = small_disk / "run"

    def change(model: Any, row: dict[str, float]) -> None:
        if row["time/total_timesteps"] == 70:
            fill(small_disk)
        if row["time/total_timesteps"] == 105:
            (small_disk / "ballast").unlink()

    with caplog.at_level(logging.WARNING, "softac"):
        tiny().learn(202, run_dir=run, callback=change, **how)
    assert any(text.startswith("the checkpoint of step 90 could not be written to ") for text in caplog.messages)
    assert all(text.isprintable() for text in caplog.messages)
    tiny().learn(202, run_dir=tmp_path / "good", **how)
    assert digests(run) == digests(tmp_path / "good")

    model = SAC.load(run)
    fill(small_disk)
    with pytest.raises(DiskError) as caught:
        model.learn(202, run_dir=run, **how)
    assert re.search(r"\(No space left on device(, 0\.0 MB free there)?\); expected ", str(caught.value))
    # The old files are still there, and with space the run goes on from them.
    (small_disk / "ballast").unlink()
    assert verified_step(run) == 202
    SAC.load(run).learn(10, run_dir=run, **how)
    tiny().learn(212, run_dir=tmp_path / "longer", **how)
    assert digests(run) == digests(tmp_path / "longer")


def test_the_disk_fills_up_and_stays_full(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softac.run.recorder.LOG_FREQ", 35)
    run = small_disk / "run"

    def change(model: Any, row: dict[str, float]) -> None:
        if row["time/total_timesteps"] == 70:
            fill(small_disk)

    model = tiny()
    with pytest.raises(DiskError, match=r"\(No space left on device, 0\.0 MB free there\)"):
        model.learn(400, run_dir=run, n_eval_episodes=0, save_freq=45, callback=change)
    assert model.num_timesteps < 250
    assert verified_step(run) == 45


SYSTEM_CALLS = ("write", "fsync", "rename", "mkdir", "unlink", "unlinkat", "rmdir", "openat")


def test_killed_at_any_system_call_of_a_save(tmp_path: Path) -> None:
    if not STRACE:
        pytest.skip("strace is not installed")
    model = tiny()
    for _ in range(2):
        model.learn(10).save(tmp_path / "run")
    for steps in (20, 30):
        tiny().learn(steps).save(tmp_path / f"{steps} steps")
    good = {steps: training_digests(tmp_path / f"{steps} steps") for steps in (20, 30)}

    with Server() as server:

        def save(*injection: str) -> tuple[int, str]:
            """Save in a process that is traced; its exit code and the trace."""
            for name in ("victim", "ready", "go", "trace"):
                path = tmp_path / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            shutil.copytree(tmp_path / "run", tmp_path / "victim")
            files = {name: str(tmp_path / name) for name in ("ready", "go")}
            pid = server.start("save", run=str(tmp_path / "victim"), steps=10, **files)
            wait_for(lambda: (tmp_path / "ready").exists())
            command = [STRACE, "-q", "-y", "-o", str(tmp_path / "trace"), "-p", str(pid)]
            tracer = subprocess.Popen(
                [*command, "-e", f"trace={','.join(SYSTEM_CALLS)}", *injection], stderr=subprocess.PIPE, text=True
            )
            status = Path(f"/proc/{pid}/status")
            wait_for(lambda: tracer.poll() is not None or "TracerPid:\t0" not in status.read_text())
            if tracer.poll() is not None:
                (tmp_path / "go").touch()
                server.wait()
                pytest.skip(f"processes cannot be traced: {tracer.communicate()[1].strip()}")
            (tmp_path / "go").touch()
            code = server.wait()
            tracer.communicate()
            return code, (tmp_path / "trace").read_text()

        code, trace = save()
        assert code == 0
        assert training_digests(tmp_path / "victim") == good[30]
        counts = {call: len(re.findall(rf"^{call}\(", trace, re.MULTILINE)) for call in SYSTEM_CALLS}
        assert counts["fsync"] > 8
        assert counts["rename"] > 4
        # The segments' names reach the disk before the name of the checkpoint that lists them.
        order = [line for line in trace.splitlines() if line.startswith(("rename", "fsync"))]
        renames = [i for i, line in enumerate(order) if re.match(r"rename.*(/seg-|/step-)", line)]
        assert len(renames) == 2
        assert any(re.match(r"fsync\(\d+<.*/replay>\)", line) for line in order[renames[0] : renames[1]])

        points = [(call, n) for call, count in counts.items() for n in range(1, count + 1)]
        draw = np.random.default_rng(0)
        chosen = {points[i] for i in draw.choice(len(points), 8, replace=False)}
        # Always: the moments before and after the rename that makes the new one valid.
        last = sum("seg-" in line or "/step-" in line for line in order if line.startswith("rename"))
        chosen |= {("rename", last), ("rename", last + 1), ("mkdir", 1), ("fsync", counts["fsync"])}
        found = set()
        for call, n in sorted(chosen):
            code, _ = save("-e", f"inject={call}:signal=SIGKILL:when={n}")
            assert code == -9, (call, n)
            model = SAC.load(tmp_path / "victim", verify_replay=True)
            assert training_digests(tmp_path / "victim") == good[model.num_timesteps], (call, n)
            found.add(model.num_timesteps)
            # And the next save works, over whatever the dead process left.
            model.learn(5)
            model.save(tmp_path / "victim")
            assert verified_step(tmp_path / "victim") == model.num_timesteps
    assert found == {20, 30}


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_the_lock_is_let_go_of_where_the_folder_cannot_be_written(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "m"):
        pass
    assert not (tmp_path / "m/.lock").exists()
    assert checkpoints(tmp_path / "m/checkpoints") == []
