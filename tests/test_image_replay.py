"""The replay of images: what is sampled is what was added, each plane is kept once, and files hold the same."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from softac.envs.images import images_of
from softac.errors import CheckpointError, ConfigError
from softac.replay import Replay, make_replay, read_segments, require_memory, write_segments
from softac.replay.images import ImageReplay
from softac.replay.ring import forecast
from softac.types import EnvSpec, Row

CPU = torch.device("cpu")


def box(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


MIXED = spaces.Dict(a=box(6, 7, 3), b=spaces.Box(-1.0, 1.0, (3,)), c=box(4, 8, 9), d=box(2, 6, 7, 3))


def spec_of(space: Any) -> EnvSpec:
    return EnvSpec(spaces.flatdim(space), 1, images=images_of(space))


def episodes(spec: EnvSpec, seed: int, lengths: list[int], n_steps: int = 1) -> list[Row]:
    """Rows of successive episodes; images are stacks that move on by one plane where they have several."""
    rng, rows = np.random.default_rng(seed), []
    for length in lengths:
        obs = [rng.normal(size=spec.obs_dim).astype(np.float32) for _ in range(length + 1)]
        for image in spec.images:
            s, h, w, c = image.stack, image.height, image.width, image.channels
            frames = rng.integers(0, 256, (length + s, h, w, c))
            for t, each in enumerate(obs):
                each[image.start : image.stop] = frames[t : t + s].ravel()
        for t in range(length):
            end = min(t + n_steps, length)
            rows.append(Row(obs[t], rng.normal(size=1).astype(np.float32), float(t), 0.9, obs[end], end == length))
    return rows


def both(capacity: int, spec: EnvSpec, rows: list[Row]) -> tuple[Replay, Replay]:
    """The same rows in a replay of floats and in one of planes."""
    plain, planes = Replay(capacity, spec, CPU), make_replay(capacity, spec, CPU)
    assert isinstance(planes, ImageReplay)
    for row in rows:
        plain.add(row)
        planes.add(row)
    return plain, planes


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("space", [box(8, 9, 3), box(4, 8, 9), box(40, 40), box(3, 8, 9, 3), MIXED], ids=str)
def test_it_samples_what_a_replay_of_floats_samples(space: Any, n_steps: int) -> None:
    spec = spec_of(space)
    plain, planes = both(50, spec, episodes(spec, 0, [1, 2, 30, 7, 45, 3, 20], n_steps))
    for _ in range(5):
        for seed in range(3):
            batches = [r.sample(16, torch.Generator().manual_seed(seed)) for r in (plain, planes)]
            assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))
    assert np.array_equal(plain.explicit_rows(60, 105), planes.explicit_rows(60, 105))


def test_no_plane_is_kept_that_nothing_refers_to() -> None:
    spec = spec_of(MIXED)
    _, planes = both(20, spec, episodes(spec, 1, [13, 1, 50, 40]))
    rows = np.concatenate([planes._obs[:20], planes._obs[planes._next[:20]]])
    live: dict[int, set[int]] = {size: set() for size in planes.packing.pools}
    for _, pool, numbers in planes.packing._each(rows):
        live[pool.size] |= {*numbers.ravel().tolist()}
    for size, pool in planes.packing.pools.items():
        assert {*np.flatnonzero(pool.references).tolist()} == live[size]
        assert pool.used == len(pool._free) + len(live[size])
        assert {*pool._known.values()} <= live[size]


def test_a_frame_of_a_stack_is_kept_once() -> None:
    spec = spec_of(box(4, 84, 84))
    _, planes = both(200, spec, episodes(spec, 2, [200]))
    (pool,) = planes.packing.pools.values()
    assert pool.used == 204  # 200 steps, one more observation, three frames before the first
    one_frame = 84 * 84
    assert planes.nbytes <= 1.05 * 204 * one_frame


@pytest.mark.parametrize("layout", [(84, 84, 4), (4, 84, 84)])
def test_the_forecast_is_what_it_takes(layout: tuple[int, ...]) -> None:
    spec = spec_of(box(*layout))
    n = 300
    plane, rng = 84 * 84, np.random.default_rng(0)
    frames = rng.integers(0, 256, (n + 4, 84, 84)).astype(np.float32)
    axis = 0 if layout[0] == 4 else 2
    replay = make_replay(n, spec, CPU)
    stacks = [np.moveaxis(frames[t : t + 4], 0, axis).ravel() for t in range(n + 1)]
    for t in range(n):
        replay.add(Row(stacks[t], np.zeros(1, np.float32), 0.0, 0.9, stacks[t + 1], False))
    assert forecast(n, spec) == n * (4 * (4 + 1 + 2) + 8 + plane + 12)
    assert replay.nbytes == pytest.approx(forecast(n, spec), rel=0.02)
    assert forecast(100_000, spec) <= 1.05 * 100_000 * plane


@pytest.mark.parametrize(
    ("shape", "new"), [((84, 84), 1), ((84, 84, 3), 3), ((84, 84, 12), 3), ((12, 84, 84), 3), ((4, 84, 84, 3), 3)]
)
def test_how_much_of_an_image_is_expected_to_be_new(shape: tuple[int, ...], new: int) -> None:
    spec = spec_of(box(*shape))
    assert forecast(1, spec) == 4 * (sum(i.planes for i in spec.images) + 1 + 2) + 8 + new * (84 * 84 + 12)


def test_a_replay_of_images_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the replay needs 7\.10 GB for 1,000,000 transitions of 7104 bytes"):
        require_memory(1_000_000, spec_of(box(84, 84, 4)), available=10**9)


def test_it_takes_no_more_memory_than_it_says(tmp_path: Path) -> None:
    """A process that fills one, by what the system says it holds."""
    code = """
import resource, sys
import numpy as np, torch
from gymnasium import spaces
from softac.envs.images import images_of
from softac.replay import make_replay
from softac.types import EnvSpec, Row
spec = EnvSpec(4 * 84 * 84, 1, images=images_of(spaces.Box(0, 255, (4, 84, 84), np.uint8)))
def resident():
    return int(open('/proc/self/statm').read().split()[1]) * 4096
replay = make_replay(10_000, spec, torch.device('cpu'))
rng, action = np.random.default_rng(0), np.zeros(1, np.float32)
def frame():
    return rng.integers(0, 256, 84 * 84).astype(np.float32)
stack = [frame() for _ in range(4)]
obs = np.concatenate(stack)
def fill(n):
    global obs, stack
    for _ in range(n):
        stack = [*stack[1:], frame()]
        following = np.concatenate(stack)
        replay.add(Row(obs, action, 0.0, 0.9, following, False))
        obs = following
fill(100)
before = resident()
fill(8_000)
print((resident() - before) / (8_000 * 84 * 84))
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert 0.99 < float(done.stdout) <= 1.05


# ---------------------------------------------------------------- files


def stored(replay: Replay, folder: Path, cuts: list[int], rows: list[Row]) -> list[Any]:
    folder.mkdir()
    segments: list[Any] = []
    for first, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        for row in rows[first:stop]:
            replay.add(row)
        segments = write_segments(replay, folder, segments)
    return segments


@pytest.mark.parametrize("capacity", [30, 200])
def test_files_give_the_same_rows_and_take_as_little_memory(capacity: int, tmp_path: Path) -> None:
    spec = spec_of(MIXED)
    rows = episodes(spec, 3, [10, 25, 60, 5])
    replay = make_replay(capacity, spec, CPU, True)
    segments = stored(replay, tmp_path / "a", [4, 33, 71], rows)
    again = make_replay(capacity, spec, CPU, True)
    read_segments(again, tmp_path / "a", segments, replay.added)
    oldest = replay.added - len(replay)
    assert np.array_equal(again.explicit_rows(oldest, 100), replay.explicit_rows(oldest, 100))
    for batch in zip(*(r.sample(64, torch.Generator().manual_seed(0)) for r in (replay, again)), strict=True):
        assert torch.equal(*batch)
    for mine, its in zip(replay.packing.pools.values(), again.packing.pools.values(), strict=True):  # type: ignore[attr-defined]
        assert (mine.references > 0).sum() == (its.references > 0).sum()
        assert mine.references.sum() == its.references.sum()
    # It goes on as the other does, and its files are the same.
    for row in episodes(spec, 4, [40]):
        replay.add(row)
        again.add(row)
    files = [write_segments(r, tmp_path / "a", segments)[-1] for r in (replay, again)]
    assert files[0] == files[1]
    assert np.array_equal(again.explicit_rows(110, 140), replay.explicit_rows(110, 140))


def test_a_file_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softac.replay.segments.MOST_BYTES", 10_000)
    spec = spec_of(box(8, 9, 3))
    rows = episodes(spec, 5, [120])
    replay, again = (make_replay(200, spec, CPU) for _ in range(2))
    segments = stored(replay, tmp_path / "a", [], rows)
    assert len(segments) > 3
    read_segments(again, tmp_path / "a", segments, 120)
    assert np.array_equal(again.explicit_rows(0, 120), replay.explicit_rows(0, 120))


def forged(tmp_path: Path, change: Any) -> str:
    """What is said where the bytes of a file are changed, its hash with them."""
    spec = spec_of(box(8, 9, 3))
    replay = make_replay(200, spec, CPU)
    for row in episodes(spec, 6, [20]):
        replay.add(row)
    data = change(replay.as_bytes(0, 20))
    with pytest.raises(CheckpointError) as refused:
        make_replay(200, spec, CPU).from_bytes(data, tmp_path)
    return str(refused.value)


def test_what_no_replay_has_written_is_refused(tmp_path: Path) -> None:
    width = 2 * 3 + 3
    header = 128
    assert "1 tables and 0 bytes); expected 2 tables" in forged(
        tmp_path, lambda data: data[: header + 20 * width * 4]
    )
    assert "4535 bytes for 63 rows" in forged(tmp_path, lambda data: data[:-1])
    assert "(0 tables and " in forged(tmp_path, lambda data: data[1:])
    assert "(2 tables and 128 bytes)" in forged(tmp_path, lambda data: data + data[-header:])

    def numbers(value: float) -> Any:
        return lambda data: data[:header] + np.float32(value).tobytes() + data[header + 4 :]

    for value in (-1.0, 0.5, 1e9):
        assert "numbers that no plane has" in forged(tmp_path, numbers(value))
    assert "not finite" in forged(tmp_path, numbers(np.nan))
