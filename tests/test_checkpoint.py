"""Checkpoints: every changed byte is noticed, the one before is used, and nothing is replaced in place."""

import errno
import hashlib
import json
import logging
import os
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folders import memory_folder
from hashing import digests, newest_checkpoint, training_digests
from reliability_envs import tiny
from softac import SAC
from softac.errors import CheckpointError, ConfigError, NumericalError, SoftacError, one_line
from softac.run.checkpoint import checkpoints, prune, read_newest
from softac.run.folder import config_sha256, read_config

NEWEST, BEFORE = 101, 90


@pytest.fixture(scope="module")
def run() -> Iterator[Path]:
    """A run with two checkpoints. Tests put back what they change."""
    with memory_folder() as folder:
        tiny(n_envs=2).learn(NEWEST, run_dir=folder / "run", eval_freq=60, n_eval_episodes=1, save_freq=45)
        yield folder / "run"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


def load(run: Path) -> SAC:
    """Load everything, the replay included."""
    model = SAC.load(run, verify_replay=True)
    model.life.begun(1)
    return model


def checkpoint_files(run: Path) -> list[Path]:
    """Every file that the newest checkpoint consists of."""
    newest = newest_checkpoint(run)
    manifest = json.loads((newest / "manifest.json").read_bytes())
    before = json.loads((newest.parent / f"step-{BEFORE:09d}" / "manifest.json").read_bytes())
    # Segments that the checkpoint before shares are tried elsewhere: without them none is whole.
    own = [s["sha256"] for s in manifest["segments"] if s not in before["segments"]]
    segments = [p for p in (run / "replay").iterdir() if any(sha[:16] in p.name for sha in own)]
    assert len(own) == len(segments) == 1
    return [run / "config.json", *sorted(newest.iterdir()), *segments]


def sample_of_damages() -> list[tuple[int, str, float]]:
    """For each of 7 files: some bits to flip and some lengths to cut to, as fractions of its size."""
    draw = np.random.default_rng(0)
    flips = [(file, "flip", float(at)) for file in range(7) for at in draw.random(30)]
    cuts = [(file, "cut", float(at)) for file in range(7) for at in [0.0, 0.999999, *draw.random(13)]]
    return flips + cuts


def test_every_flipped_bit_and_every_cut_is_noticed(run: Path) -> None:
    files = checkpoint_files(run)
    assert len(files) == 7
    damages = sample_of_damages()
    assert len(damages) >= 300
    for file, kind, fraction in damages:
        path = files[file]
        whole = path.read_bytes()
        damaged = bytearray(whole)
        if kind == "flip":
            bit = int(fraction * 8 * len(whole))
            damaged[bit // 8] ^= 1 << bit % 8
        else:
            del damaged[int(fraction * len(whole)) :]
        path.write_bytes(damaged)
        try:
            if path.name == "config.json":
                with pytest.raises(CheckpointError, match=re.escape(str(path))):
                    SAC.load(run)
            else:
                config = read_config(run)
                snapshot, failures = read_newest(
                    run / "checkpoints", config_sha256(config), 2, replay=run / "replay"
                )
                assert snapshot.step == BEFORE, (path, kind, fraction)
                assert len(failures) == 1
                assert str(path) in failures[0]
                assert "restore it or use an earlier checkpoint" in failures[0]
        finally:
            path.write_bytes(whole)
    assert load(run).num_timesteps == NEWEST


@pytest.mark.parametrize("name", ["manifest.json", "config.json"])
def test_every_single_bit_of_the_json_files_counts(name: str, run: Path) -> None:
    # JSON has many spellings of one value: a parser alone would not notice 1e-05 becoming 1E-05.
    path = run / name if name == "config.json" else newest_checkpoint(run) / name
    whole = path.read_bytes()
    identity = config_sha256(read_config(run))
    from softac.files import seal_is_whole

    assert seal_is_whole(whole)
    assert identity == json.loads((newest_checkpoint(run) / "manifest.json").read_bytes())["config_sha256"]
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not seal_is_whole(bytes(damaged))


def test_the_checkpoint_before_is_used_and_the_log_says_why(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    path = newest_checkpoint(copy) / "networks.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING, "softac"):
        model = load(copy)
    assert model.num_timesteps == BEFORE
    assert caplog.messages == [
        f"{path} is damaged: its size or SHA-256 is not the one in the manifest; expected the bytes that were "
        f"written; restore it or use an earlier checkpoint; using the checkpoint of step {BEFORE}"
    ]


def test_going_on_from_the_checkpoint_before_gives_the_same_bits(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    path = newest_checkpoint(copy) / "optim.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    load(copy).learn(NEWEST - BEFORE, run_dir=copy, eval_freq=60, n_eval_episodes=1, save_freq=45)
    assert digests(copy) == digests(run)
    # The damaged one must not stay in the place of the newest.
    assert load(copy).num_timesteps == NEWEST
    assert checkpoints(copy / "checkpoints")[0].name == f"step-{NEWEST:09d}.001"


def test_a_later_checkpoint_that_was_passed_over_is_superseded(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    path = newest_checkpoint(copy) / "optim.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    load(copy).learn(5, run_dir=copy, n_eval_episodes=0)
    assert [p.name for p in checkpoints(copy / "checkpoints")] == ["step-000000095", f"step-{BEFORE:09d}"]
    assert load(copy).num_timesteps == 95


@pytest.mark.parametrize("name", ["manifest.json", "networks.safetensors", "state.json", "segment"])
@pytest.mark.parametrize("how", ["missing", "empty", "a folder", "unreadable"])
def test_missing_empty_and_unreadable_files(
    how: str, name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    path = next(p for p in checkpoint_files(copy) if p.name == name or (name == "segment" and "seg-" in p.name))
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    else:
        inode = path.stat().st_ino

        def failing(descriptor: int, *arguments: Any, **keywords: Any) -> Any:
            if os.fstat(descriptor).st_ino == inode:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return open(descriptor, *arguments, **keywords)

        monkeypatch.setattr(os, "fdopen", failing)
    assert load(copy).num_timesteps == BEFORE


@pytest.mark.parametrize("shared", [0, 1])
def test_a_damaged_segment_that_all_share(shared: int, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    manifest = json.loads((newest_checkpoint(copy) / "manifest.json").read_bytes())
    segment = next((copy / "replay").glob(f"seg-{manifest['segments'][shared]['start']:012d}-*"))
    data = bytearray(segment.read_bytes())
    data[200] ^= 1
    segment.write_bytes(data)
    text = (
        f"{segment} is damaged: its size or SHA-256 is not the one in the manifest; expected the bytes that were "
        "written; restore it or use an earlier checkpoint"
    )
    with pytest.raises(CheckpointError, match=f"^{re.escape(text)}$"):
        load(copy)
    # Acting needs no replay.
    model = SAC.load(copy)
    assert model.num_timesteps == NEWEST
    assert model.predict(np.zeros(3, np.float32), deterministic=True)[0].shape == (2,)
    with pytest.raises(CheckpointError, match=f"^{re.escape(text)}$"):
        model.learn(1)


def test_swapped_files_and_swapped_checkpoints(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    newest, before = checkpoints(copy / "checkpoints")
    for name in ("networks.safetensors", "state.json", "episode_actions.npy"):
        (newest / name).rename(tmp_path / "x")
        (before / name).rename(newest / name)
        (tmp_path / "x").rename(before / name)
    with pytest.raises(CheckpointError, match=re.escape(f"{newest / 'networks.safetensors'} ")):
        load(copy)


def test_a_checkpoint_of_another_run_is_refused(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    tiny(seed=1, n_envs=2).learn(200, run_dir=tmp_path / "other", n_eval_episodes=0)
    (newest_checkpoint(tmp_path / "other")).rename(copy / "checkpoints" / "step-000000200")
    config = read_config(copy)
    snapshot, failures = read_newest(copy / "checkpoints", config_sha256(config), 2)
    assert snapshot.step == NEWEST
    assert failures == [
        f"{copy}/checkpoints/step-000000200 was written with another configuration than the config.json beside "
        "it; expected the one it was trained with; restore that config.json"
    ]


def test_no_checkpoint_at_all(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(copy / "checkpoints")
    text = f"{copy}/checkpoints holds no checkpoint; expected at least one folder step-...; train first, or name"
    with pytest.raises(CheckpointError, match=re.escape(text)):
        load(copy)
    text = f"{tmp_path} holds a run or model; expected the folder of a run or of a saved model; give one of them"
    with pytest.raises(CheckpointError, match=re.escape(text)):
        load(tmp_path)


def test_a_changed_config_is_refused(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    path = copy / "config.json"
    path.write_bytes(path.read_bytes().replace(b'"eval_freq": 60', b'"eval_freq": 61'))
    text = (
        f"{path} has been changed: its SHA-256 is not the one it ends with; expected the bytes that softac "
        "wrote, which the checkpoints beside it belong to; restore the file"
    )
    with pytest.raises(CheckpointError, match=f"^{re.escape(text)}$"):
        load(copy)


def test_files_are_written_once(tmp_path: Path) -> None:
    """No file of a checkpoint or of the replay changes after it has appeared."""
    seen: dict[Path, tuple[int, str]] = {}

    def look(model: Any, row: Any) -> None:
        for path in [*tmp_path.glob("run/checkpoints/step-*/*"), *tmp_path.glob("run/replay/*")]:
            is_now = (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
            assert seen.setdefault(path, is_now) == is_now

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("softac.run.recorder.LOG_FREQ", 5)
        tiny().learn(300, run_dir=tmp_path / "run", n_eval_episodes=0, save_freq=20, callback=look)
    assert len({path.parent.name for path in seen if path.parent.name.startswith("step-")}) >= 14


def test_segments_are_kept_as_long_as_they_are_needed(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def names(step: int) -> set[str]:
        path = run / "checkpoints" / f"step-{step:09d}" / "manifest.json"
        segments = json.loads(path.read_bytes())["segments"]
        return {f"seg-{s['start']:012d}-{s['stop']:012d}-{s['sha256'][:16]}.npy" for s in segments}

    model = tiny(buffer_size=100)
    gone = 0
    before: set[str] = set()
    for step in range(40, 401, 40):
        model.learn(40, run_dir=run, n_eval_episodes=0)
        kept = {path.name for path in (run / "replay").iterdir()}
        assert kept == names(step) | (names(step - 40) if step > 40 else set())
        gone += len(before - kept)
        before = kept
        # The ring holds 100 rows: the segments reach back that far, and no further than they must.
        rows = sum(len(np.load(run / "replay" / name)) for name in names(step))
        assert min(step, 100) <= rows < 140
    assert gone > 0


def test_segments_stay_where_a_manifest_cannot_be_read(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    newest, before = checkpoints(copy / "checkpoints")
    (before / "manifest.json").write_text("?")
    stray = copy / "replay" / f"seg-{0:012d}-{1:012d}-{'0' * 16}.npy"
    stray.write_bytes(b"")
    kept = sorted((copy / "replay").iterdir())
    prune(copy / "checkpoints", copy / "replay", [before, newest])
    assert sorted((copy / "replay").iterdir()) == kept
    shutil.rmtree(before)
    prune(copy / "checkpoints", copy / "replay", [newest])
    assert not stray.exists()
    assert load(copy).num_timesteps == NEWEST


def test_what_dead_processes_left_is_cleaned_up(tmp_path: Path) -> None:
    run = tmp_path / "run"
    tiny().learn(40, run_dir=run, n_eval_episodes=0)
    # A process that died in a save, one with the number this process has now, one killed in `prune`.
    leavings = [run / f"checkpoints/.tmp-{pid}" for pid in (1, os.getpid())] + [run / "checkpoints/step-000000001"]
    for path in leavings:
        path.mkdir()
        (path / "networks.safetensors").write_bytes(b"half")
    (run / f"replay/.tmp-1-seg-{0:012d}-{40:012d}-{'0' * 16}.npy").write_bytes(b"half")
    SAC.load(run).learn(40, run_dir=run, n_eval_episodes=0)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-000000040", "step-000000080"]
    assert len(list((run / "replay").iterdir())) == 2


def test_saving_twice_at_one_step(tmp_path: Path) -> None:
    model = tiny().learn(40)
    for _ in range(3):
        model.save(tmp_path / "m")
    names = [path.name for path in checkpoints(tmp_path / "m/checkpoints")]
    assert len(names) == 2
    assert all(name.startswith("step-000000040") for name in names)
    assert SAC.load(tmp_path / "m").num_timesteps == 40


def test_one_checkpoint_where_the_end_falls_on_the_interval(tmp_path: Path) -> None:
    # A second copy of the same state would push the checkpoint before out of the last two.
    tiny().learn(90, run_dir=tmp_path / "run", n_eval_episodes=0, save_freq=45)
    assert [p.name for p in checkpoints(tmp_path / "run/checkpoints")] == ["step-000000090", "step-000000045"]


def test_what_was_saved_last_is_what_is_loaded(tmp_path: Path) -> None:
    model = tiny().learn(60)
    model.save(tmp_path / "m")
    model.learn(30).save(tmp_path / "m")
    model.save(tmp_path / "reference")
    loaded = load(tmp_path / "m")
    assert loaded.num_timesteps == 90
    loaded.save(tmp_path / "again")
    assert training_digests(tmp_path / "again") == training_digests(tmp_path / "reference")


def test_a_save_that_dies_before_its_end_leaves_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny().learn(60)
    model.save(tmp_path / "m")

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    for where, steps in (("write_checkpoint", 60), ("write_description", 70)):
        with monkeypatch.context() as patch:
            patch.setattr(f"softac.run.stored.{where}", dies)
            with pytest.raises(KeyboardInterrupt):
                model.learn(5).save(tmp_path / "m")
        assert load(tmp_path / "m").num_timesteps == steps


def test_steps_beyond_nine_digits_are_in_order(tmp_path: Path) -> None:
    names = ["step-999999999", "step-1000000000", "step-000000005.999", "step-000000005.1000", "step-000000005"]
    for name in [*names, "step-12", "step-x\n", "step-000000007 (copy)"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step-1000000000",
        "step-999999999",
        "step-000000005.1000",
        "step-000000005.999",
        "step-000000005",
    ]


def test_nothing_that_is_not_finite_is_saved(tmp_path: Path) -> None:
    model = tiny().learn(40)
    model.save(tmp_path / "m")
    model.agent.actor.parameters[0].data[0, 0] = np.nan
    text = (
        "actor.net.0.weight is not finite at step 40; expected finite parameters; lower the learning rate or "
        "scale the rewards down, then resume from the last checkpoint"
    )
    with pytest.raises(NumericalError, match=f"^{re.escape(text)}$"):
        model.save(tmp_path / "m")
    assert len(checkpoints(tmp_path / "m/checkpoints")) == 1
    assert load(tmp_path / "m").num_timesteps == 40


def test_arguments_that_are_not_plain_data() -> None:
    def make(thing: object) -> Any:
        return thing

    text = r"^env_kwargs thing=<object object at .*> was given, which cannot be written into config.json and "
    with pytest.raises(ConfigError, match=text):
        tiny(make, env_kwargs={"thing": object()})


def test_a_folder_in_use(tmp_path: Path) -> None:
    from softac.run.folder import RunFolder

    model = tiny().learn(5)
    text = (
        f"{tmp_path} is in use by another process; expected a run that nobody is writing; wait for it, stop it, "
        "or choose another folder"
    )
    with RunFolder(tmp_path), pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        model.save(tmp_path)
    # A lock file alone, left by a dead process, is not a lock.
    (tmp_path / ".lock").touch()
    model.save(tmp_path)


@pytest.mark.parametrize("kind", SoftacError.__subclasses__())
def test_every_message_is_one_line_of_bounded_length(kind: type[SoftacError]) -> None:
    error = kind("a\nb\tc  d", "expected; this", "do that")
    assert (error.given, error.expected, error.remedy) == ("a b c d", "expected; this", "do that")
    assert str(error) == "a b c d; expected; this; do that"
    assert str(error.within("x")) == "x: a b c d; expected; this; do that"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    assert (type(again), str(again)) == (kind, str(error))
    assert kind("red \x1b[31m bell \x07 \u202e", "", "").given == r"red \x1b[31m bell \x07 \u202e"
    long = str(kind("begin " + "x" * 10**6, "y" * 10**6, "z" * 10**6 + " end"))
    assert len(long) <= 2_000
    assert long.startswith("begin ")
    assert long.endswith(" end")
    assert one_line("short", 10) == "short"
