"""The replay: a ring that wraps around, uniform sampling, segments on disk, the memory forecast."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import softac.model
from probes import SMALL, EarlyEndingEnv
from softac import SAC
from softac.errors import CheckpointError, ConfigError
from softac.replay import Replay, forget_segments, read_segments, require_memory, write_segments
from softac.replay.ring import available_memory, forecast
from softac.types import EnvSpec, Row

SPEC = EnvSpec(obs_dim=2, action_dim=1)


def add(replay: Replay, first: int, stop: int) -> Replay:
    """Add transitions number `first` to `stop - 1`, each recognisable by its number."""
    for k in range(first, stop):
        obs, next_obs = np.array([k, -k], np.float32), np.array([k + 1, 0], np.float32)
        replay.add(Row(obs, np.array([k / 8], np.float32), k * 10.0, k / 4, next_obs, ended=False))
    return replay


def ring(capacity: int, added: int = 0) -> Replay:
    return add(Replay(capacity, SPEC, torch.device("cpu")), 0, added)


def numbers(replay: Replay) -> list[int]:
    """The numbers of the transitions that `replay` holds, in the order of its rows."""
    return replay.rows[: len(replay), 0].int().tolist()


def test_a_row_comes_back_as_it_was_added():
    batch = ring(10, 4).unpack(ring(10, 4).rows[3:4])
    assert batch.obs.tolist() == [[3.0, -3.0]]
    assert batch.action.tolist() == [[0.375]]
    assert batch.reward.tolist() == [30.0]
    assert batch.discount.tolist() == [0.75]
    assert batch.next_obs.tolist() == [[4.0, 0.0]]


def test_the_oldest_row_is_overwritten_first():
    replay = ring(5, 5)
    assert numbers(replay) == [0, 1, 2, 3, 4]
    add(replay, 5, 7)
    assert numbers(replay) == [5, 6, 2, 3, 4]
    add(replay, 7, 16)
    assert numbers(replay) == [15, 11, 12, 13, 14]
    assert len(replay) == 5
    assert replay.added == 16


def test_shapes_and_types_of_a_batch():
    batch = ring(10, 7).sample(4, torch.Generator().manual_seed(0))
    assert [tuple(x.shape) for x in batch] == [(4, 2), (4, 1), (4,), (4,), (4, 2)]
    assert {x.dtype for x in batch} == {torch.float32}


@pytest.mark.parametrize(("capacity", "added"), [(50, 20), (20, 20), (20, 73)])
def test_sampling_is_uniform_over_what_is_there(capacity, added):
    replay, n = ring(capacity, added), 40_000
    batch = replay.sample(n, torch.Generator().manual_seed(0))
    counts = (batch.obs[:, 0].int() - (added - len(replay))).bincount(minlength=20)
    assert counts.sum() == n
    assert len(counts) == 20
    # chi-squared with 19 degrees of freedom: 1 in 1,000 lies above 43.8
    chi2 = ((counts - n / 20) ** 2 / (n / 20)).sum()
    assert chi2 < 43.8
    # a row is a whole: its parts belong together
    assert torch.equal(batch.reward, batch.obs[:, 0] * 10)
    assert torch.equal(batch.next_obs[:, 0], batch.obs[:, 0] + 1)


def test_sampling_depends_on_the_generator_alone():
    replay = ring(50, 50)
    torch.manual_seed(0)
    first = replay.sample(16, torch.Generator().manual_seed(5)).obs
    torch.manual_seed(1)
    assert torch.equal(first, replay.sample(16, torch.Generator().manual_seed(5)).obs)
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(first, replay.sample(16, generator).obs)
    assert not torch.equal(first, replay.sample(16, generator).obs)


def test_a_batch_does_not_change_with_the_ring():
    replay = ring(3, 3)
    batch = replay.sample(8, torch.Generator().manual_seed(0))
    kept = batch.obs.clone()
    add(replay, 3, 9)
    assert torch.equal(batch.obs, kept)


@pytest.mark.parametrize("capacity", [7, 100])
def test_segments_bring_back_the_ring(tmp_path, capacity):
    replay, written = ring(capacity), []
    added = 0
    for count in (4, 0, 2, 9, 1, 25):  # with 7 rows: full, over the edge, several times around
        add(replay, added, added + count)
        added += count
        written = write_segments(replay, tmp_path, written)
        found = ring(capacity)
        read_segments(found, tmp_path, written, added)
        assert found.added == added
        assert numbers(found) == numbers(replay)
        assert torch.equal(found.rows[: len(found)], replay.rows[: len(replay)])


@settings(max_examples=25)
@given(capacity=st.integers(1, 12), counts=st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_segments_at_any_wrap_around(tmp_path_factory, capacity, counts):
    folder = tmp_path_factory.mktemp("replay")
    replay, written, added = ring(capacity), [], 0
    for count in counts:
        add(replay, added, added + count)
        added += count
        written = write_segments(replay, folder, written)
    found = ring(capacity)
    read_segments(found, folder, written, added)
    assert numbers(found) == numbers(replay)


def test_a_segment_is_written_once(tmp_path):
    replay = ring(100, 10)
    first = write_segments(replay, tmp_path, [])
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    add(replay, 10, 15)
    both = write_segments(replay, tmp_path, first)
    assert [(s.start, s.stop) for s in both] == [(0, 10), (10, 15)]
    assert both[0] == first[0]
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.name in before} == before
    assert write_segments(replay, tmp_path, both) == both
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(s.file_name for s in both)


def test_long_stretches_are_split(tmp_path, monkeypatch):
    monkeypatch.setattr("softac.replay.segments.ROWS_PER_SEGMENT", 4)
    replay = ring(100, 10)
    segments = write_segments(replay, tmp_path, [])
    assert [(s.start, s.stop) for s in segments] == [(0, 4), (4, 8), (8, 10)]
    found = ring(100)
    read_segments(found, tmp_path, segments, 10)
    assert torch.equal(found.rows[:10], replay.rows[:10])


def test_segments_that_were_overwritten_are_forgotten(tmp_path):
    replay = ring(5, 5)
    old = write_segments(replay, tmp_path, [])
    add(replay, 5, 12)
    new = write_segments(replay, tmp_path, old)
    assert [(s.start, s.stop) for s in new] == [(7, 12)]
    forget_segments(tmp_path, {s.file_name for s in new})
    assert [p.name for p in tmp_path.iterdir()] == [new[0].file_name]


def damaged(tmp_path, change):
    """Why the segments cannot be read after `change(path of the first, segments)`."""
    replay = ring(100, 6)
    segments = write_segments(replay, tmp_path, [])
    segments = write_segments(add(replay, 6, 9), tmp_path, segments)
    path = tmp_path / segments[0].file_name
    segments = change(path, segments) or segments
    found = ring(100)
    with pytest.raises(CheckpointError) as error:
        read_segments(found, tmp_path, segments, 9)
    assert found.added == 0
    return str(error.value), path


def test_a_missing_segment_is_named(tmp_path):
    said, path = damaged(tmp_path, lambda path, _: path.unlink())
    assert said == (
        f"{path} cannot be read (No such file or directory); expected a regular file; restore it or use an "
        "earlier checkpoint"
    )


def test_a_flipped_bit_is_noticed(tmp_path):
    def flip(path, _):
        data = bytearray(path.read_bytes())
        data[-9] ^= 4
        path.write_bytes(data)

    said, path = damaged(tmp_path, flip)
    assert said == (
        f"{path} is damaged: its size or SHA-256 is not the one in the manifest; expected the bytes that were "
        "written; restore it or use an earlier checkpoint"
    )


def test_a_gap_is_noticed(tmp_path):
    said, _ = damaged(tmp_path, lambda _, segments: segments[1:])
    assert said == (
        "the replay segments reach row 0; expected 9; use an earlier checkpoint or load without the replay"
    )
    said, _ = damaged(tmp_path, lambda _, segments: segments[:1])
    assert said.startswith("the replay segments reach row 6; expected 9;")


def test_rows_of_another_environment_are_refused(tmp_path):
    segments = write_segments(ring(10, 3), tmp_path, [])
    other = Replay(10, EnvSpec(obs_dim=5, action_dim=1), torch.device("cpu"))
    with pytest.raises(CheckpointError) as error:
        read_segments(other, tmp_path, segments, 3)
    assert str(error.value) == (
        f"{tmp_path / segments[0].file_name} does not hold what this run needs (float32 of shape (3, 7)); "
        "expected finite float32 rows of 13 numbers; use a checkpoint of this environment"
    )


def test_memory_forecast():
    # obs 2 + action 1 + reward 1 + discount 1 + next obs 2 = 7 numbers of 4 bytes
    assert forecast(1_000, SPEC) == 28_000
    require_memory(1_000, SPEC, available=28_000)
    with pytest.raises(ConfigError, match=r"^the replay needs 28 kB for 1,000 transitions of 7 numbers; "):
        require_memory(1_000, SPEC, available=27_999)
    with pytest.raises(ConfigError) as error:
        require_memory(1_000_000_000, SPEC, available=2_800_000_000)
    assert str(error.value) == (
        "the replay needs 28.00 GB for 1,000,000,000 transitions of 7 numbers; expected at most the 2.80 GB of "
        "memory free now; lower buffer_size to 90,000,000 or free memory"
    )


def test_the_forecast_asks_for_what_the_system_has():
    assert 10_000_000 < available_memory() < 10**15
    with pytest.raises(ConfigError, match="the replay needs"):
        require_memory(10**15, SPEC)


def test_a_replay_that_cannot_fit_is_refused_before_it_is_reserved(monkeypatch):
    asked = []

    def refuse(rows, spec, rollout_envs):
        asked.append((rows, spec))
        require_memory(rows, spec, available=1_000, rollout_envs=rollout_envs)

    monkeypatch.setattr(softac.model, "require_memory", refuse)
    monkeypatch.setattr("softac.run.training.Replay", None)  # reserving would raise another error
    model = SAC(EarlyEndingEnv, **SMALL)
    with pytest.raises(ConfigError, match=r"^the replay needs 40 kB for 1,000 transitions of 10 numbers; "):
        model.learn(2_000)
    with pytest.raises(ConfigError, match="lower buffer_size to 22 or free memory"):
        model.learn(500)
    assert [rows for rows, _ in asked] == [1_000, 500]  # never more than the budget can fill


def test_the_forecast_looks_at_every_budget(monkeypatch):
    asked = []
    monkeypatch.setattr(softac.model, "require_memory", lambda rows, spec, rollout_envs: asked.append(rows))
    model = SAC(EarlyEndingEnv, **SMALL)
    model.learn(30)
    model.learn(40)
    model._ready(2_000_000)
    assert asked == [30, 70 - 30, 1_000 - 70]  # rows that are in use already are no longer free memory


def test_a_replay_that_the_system_will_not_reserve(monkeypatch):
    def refuse(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory")

    monkeypatch.setattr("softac.run.training.Replay", refuse)
    with pytest.raises(ConfigError) as error:
        SAC(EarlyEndingEnv, **SMALL).learn(10)
    assert str(error.value) == (
        "buffer_size=1000 was given; expected a memory that the system can reserve; lower buffer_size"
    )
