"""The replay: a ring that keeps each observation once, uniform sampling, segments on disk, the memory forecast."""

import hashlib
import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import softac.run.lifecycle
from probes import SMALL, CountingEnv, EarlyEndingEnv, trained
from softac import SAC
from softac.envs import Step
from softac.errors import CheckpointError, ConfigError
from softac.replay import Replay, Segment, forget_segments, read_segments, require_memory, write_segments
from softac.replay.ring import available_memory, forecast
from softac.run.episode import NStep
from softac.types import EnvSpec, FloatArray, Row

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


def held(replay: Replay) -> FloatArray:
    """All that `replay` holds, oldest first, with both observations in each row."""
    return replay.explicit_rows(replay.added - len(replay), replay.added)


def test_a_row_comes_back_as_it_was_added():
    assert ring(10, 4).explicit_rows(3, 4).tolist() == [[3.0, -3.0, 0.375, 30.0, 0.75, 4.0, 0.0]]
    batch = ring(1, 4).sample(1, torch.Generator())
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
    first = replay.sample(16, torch.Generator().manual_seed(5)).obs.clone()
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


def test_the_next_batch_overwrites_the_one_before():
    replay, generator = ring(50, 50), torch.Generator().manual_seed(0)
    first = replay.sample(8, generator)
    second = replay.sample(8, generator)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    assert {x.untyped_storage().data_ptr() for x in first} == {replay.lent.untyped_storage().data_ptr()}
    assert len(replay.sample(3, generator).obs) == 3
    assert len(replay.sample(8, generator).obs) == 8


# --------------------------------------------------------------------------- each observation once

Plain = tuple[FloatArray, FloatArray, float, float, FloatArray, bool]


def stream(seed: int, n_envs: int, n_steps: int, longest: int, values: int) -> Iterator[Row]:
    """What a collector hands on: environments in turn, n-step windows, episodes of 1 to `longest` steps.

    Observations are two of `values` numbers, 0.0 and -0.0 among them, so that few of them return by chance.
    """
    rng = np.random.default_rng(seed)
    numbers = np.concatenate([[0.0, -0.0], rng.normal(size=values)]).astype(np.float32)

    def episode() -> tuple[NStep, FloatArray, int]:
        return NStep(0.5, n_steps), rng.choice(numbers, 2), int(rng.integers(1, longest + 1))

    running = [episode() for _ in range(n_envs)]
    while True:
        for i, (window, obs, left) in enumerate(running):
            terminated = left == 1 and bool(rng.integers(2))
            step = Step(rng.choice(numbers, 2), float(rng.normal()), terminated, left == 1 and not terminated)
            yield from window.push(obs, rng.normal(size=1).astype(np.float32), step)
            running[i] = episode() if left == 1 else (window, step.obs, left - 1)


def plain(row: Row) -> Plain:
    """A copy of all that a row says."""
    return row.obs.copy(), row.action.copy(), row.reward, row.discount, row.next_obs.copy(), row.ended


def table(rows: list[Plain]) -> FloatArray:
    """The rows with both observations in each, as an independent reading of them."""
    whole = [[*obs, *action, reward, discount, *after] for obs, action, reward, discount, after, _ in rows]
    return np.array(whole, np.float32).reshape(-1, 7)


def unlinked(rows: list[Plain]) -> int:
    """How many of the rows go on in none of the later ones."""
    later: set[bytes] = set()
    alone = 0
    for obs, *_, next_obs, ended in reversed(rows):
        alone += ended or next_obs.tobytes() not in later
        later.add(obs.tobytes())
    return alone


def spare(replay: Replay) -> int:
    """How many spare rows are in use; each is one row's own, and no other is lost."""
    own = replay._next[: len(replay)]
    own = own[own >= replay.capacity].tolist()
    assert sorted(own + replay._free) == list(range(replay.capacity, replay.capacity + replay._spared))
    return len(own)


def waiting(replay: Replay) -> int:
    """How many rows wait for an observation; none is waited for in vain."""
    assert all(replay._waiting.values())
    return sum(map(len, replay._waiting.values()))


def reopened(replay: Replay, cut: int) -> Replay:
    """The replay after a resume, from segments that meet at row `cut`."""
    found, oldest = ring(replay.capacity), replay.added - len(replay)
    cut = min(max(cut, oldest), replay.added)
    found.load(oldest, replay.explicit_rows(oldest, cut))
    found.load(cut, replay.explicit_rows(cut, replay.added))
    found.added = replay.added
    return found


CASES = {
    "capacity": st.integers(1, 50),
    "n_envs": st.integers(1, 4),
    "n_steps": st.integers(1, 4),
    "longest": st.sampled_from([1, 2, 5, 30]),
    "values": st.sampled_from([0, 1, 50]),
    "seed": st.integers(0, 10**6),
}


@settings(max_examples=150, deadline=None)
@given(**CASES, resumes=st.lists(st.integers(1, 40), max_size=4))
def test_the_ring_against_a_list(capacity, n_envs, n_steps, longest, values, seed, resumes):
    replay, rows, most = ring(capacity), [], 0
    source = stream(seed, n_envs, n_steps, longest, values)
    marks = np.cumsum(resumes)
    for count, row in zip(range(1, 131), source, strict=False):
        rows.append(plain(row))
        replay.add(row)
        expected = table(rows[-capacity:])
        assert held(replay).tobytes() == expected.tobytes()
        alone = unlinked(rows[-capacity:])
        most = max(most, alone)
        if count < min(marks, default=1000):
            assert spare(replay) == alone
            assert replay._spared == most  # a place that is free is used before a new one
        else:
            # Whether an episode ended in a row is not on the disk, so chance may link more.
            assert spare(replay) <= alone
        assert len(replay) == min(count, capacity)
        if count in marks:
            replay = reopened(replay, count - seed % 7)
            assert held(replay).tobytes() == expected.tobytes()
            assert spare(replay) <= alone
        if count % 10 == 0:
            batch = replay.sample(5, torch.Generator().manual_seed(count))
            drawn = torch.randint(len(replay), (5,), generator=torch.Generator().manual_seed(count))
            slots = np.roll(expected, replay.added % capacity if replay.added > capacity else 0, axis=0)
            parts = [part[:, None] if part.ndim == 1 else part for part in batch]
            assert torch.cat(parts, dim=1).numpy().tobytes() == slots[drawn.numpy()].tobytes()


@pytest.mark.parametrize(("n_envs", "n_steps"), [(1, 1), (3, 1), (1, 3), (4, 5)])
def test_what_waits_is_bounded_by_the_rows_in_flight(n_envs, n_steps):
    replay = ring(100)
    for _, row in zip(range(1_000), stream(0, n_envs, n_steps, 20, 10**6), strict=False):
        replay.add(row)
        assert waiting(replay) <= n_envs * n_steps
    found = reopened(replay, 950)
    assert held(found).tobytes() == held(replay).tobytes()
    assert spare(found) == spare(replay)


def endless(k: int, behind: int) -> Row:
    """Row k of an episode whose rows go on `behind` rows later."""
    obs, next_obs = np.array([k, 0], np.float32), np.array([k + behind, 0], np.float32)
    return Row(obs, np.zeros(1, np.float32), 0.0, 1.0, next_obs, ended=False)


@pytest.mark.parametrize(("behind", "in_use"), [(1, 1), (3, 3), (4, 20), (100, 20)])
def test_how_long_a_row_waits(monkeypatch, behind, in_use):
    monkeypatch.setattr("softac.replay.ring.REACH", 4)
    replay = ring(20)
    for k in range(50):
        replay.add(endless(k, behind))
        assert waiting(replay) == min(behind, k + 1, 4)
    assert spare(replay) == in_use
    for cut in (45, 50):
        found = reopened(replay, cut)
        assert spare(found) == min(behind, 20)  # what lies in one piece on the disk is found at any distance
        assert waiting(found) == min(behind, 4)
    found.add(endless(50, behind))
    assert waiting(found) == min(behind, 4)


def test_an_observation_that_returns_unchanged():
    # Every row begins and ends with the same observation, so no row but the youngest needs another place.
    replay = ring(10)
    for k in range(25):
        replay.add(endless(0, 0)._replace(reward=k))
        assert spare(replay) == 1
    assert held(replay)[:, 3].tolist() == list(range(15, 25))
    assert not held(replay)[:, -2:].any()


def test_an_array_that_is_written_again_does_not_change_a_row():
    replay, shared = ring(10), np.zeros(2, np.float32)
    for k in range(3):
        before = shared.copy()
        shared[:] = k + 1
        replay.add(Row(before, np.zeros(1, np.float32), 0.0, 1.0, shared, ended=False))
    shared[:] = 7
    replay.add(Row(shared, np.zeros(1, np.float32), 0.0, 1.0, shared, ended=False))
    assert held(replay)[:, 0].tolist() == [0.0, 1.0, 2.0, 7.0]
    assert held(replay)[:, -2].tolist() == [1.0, 2.0, 3.0, 7.0]


def test_memory_of_long_episodes():
    # HalfCheetah: 17 observations, 6 actions, reward, discount are 25 numbers of 4 bytes, a pointer 8 more.
    # Stable-Baselines3 2.9.2 keeps 2 * 17 * 8 + 6 * 4 + 3 * 4 = 308 bytes a row.
    spec = EnvSpec(17, 6)
    replay, rng, rows = Replay(10_000, spec, torch.device("cpu")), np.random.default_rng(0), 10_000
    for _ in range(10):
        seen = rng.normal(size=(1_001, 17)).astype(np.float32)
        for k in range(1_000):
            replay.add(Row(seen[k], np.zeros(6, np.float32), 0.0, 1.0, seen[k + 1], ended=k == 999))
    assert replay.nbytes == rows * 108 + 10 * 100  # the last observation of each episode
    assert forecast(rows, spec) == rows * 108
    assert replay.nbytes < 0.4 * 308 * rows
    found = Replay(10_000, spec, torch.device("cpu"))
    for first in range(0, rows, 2_500):
        found.load(first, replay.explicit_rows(first, first + 2_500))
    found.added = rows
    assert rows * 108 + 10 * 100 <= found.nbytes <= rows * 108 + 11 * 100
    assert held(found).tobytes() == held(replay).tobytes()


def test_memory_of_a_run():
    # Rounds of 3 environments, 2 rewards a row: episodes of 50 steps leave 2 rows each without a successor.
    replay = trained(lambda: CountingEnv(50), 1_500, n_envs=3, n_steps=2, learning_starts=2_000).training.memory
    assert isinstance(replay, Replay)
    assert replay.capacity == 1_000
    assert spare(replay) <= 2 * (1_000 // 50 + 3)


def test_memory_of_the_shortest_episodes():
    replay = ring(100)
    for k in range(250):
        replay.add(endless(k, 1)._replace(ended=True))
    assert spare(replay) == replay._spared == 100
    assert replay.nbytes == 100 * (20 + 8 + 20)
    assert not replay._waiting


# --------------------------------------------------------------------------- on disk


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
        assert np.array_equal(held(found), held(replay))


def test_the_files_are_what_they_were(tmp_path):
    # The name holds the SHA-256 of what the ring of two observations a row wrote.
    (segment,) = write_segments(ring(7, 10), tmp_path, [])
    assert segment.file_name == "seg-000000000003-000000000010-e0f9eced39964dd4.npy"


def test_a_file_made_elsewhere_is_read(tmp_path):
    rows = np.arange(21, dtype=np.float32).reshape(3, 7)
    buffer = io.BytesIO()
    np.save(buffer, rows)
    data = buffer.getvalue()
    segment = Segment(0, 3, len(data), hashlib.sha256(data).hexdigest())
    (tmp_path / segment.file_name).write_bytes(data)
    replay = ring(5)
    read_segments(replay, tmp_path, [segment], 3)
    assert np.array_equal(held(replay), rows)
    assert write_segments(replay, tmp_path, []) == [segment]


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
    assert np.array_equal(held(found), held(replay))


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
    # obs 2 + action 1 + reward 1 + discount 1 = 5 numbers of 4 bytes, and 8 to say where the next obs is
    assert forecast(1_000, SPEC) == 28_000
    require_memory(1_000, SPEC, available=28_000)
    with pytest.raises(ConfigError, match=r"^the replay needs 28 kB for 1,000 transitions of 28 bytes; "):
        require_memory(1_000, SPEC, available=27_999)
    with pytest.raises(ConfigError) as error:
        require_memory(1_000_000_000, SPEC, available=2_800_000_000)
    assert str(error.value) == (
        "the replay needs 28.00 GB for 1,000,000,000 transitions of 28 bytes; expected at most the 2.80 GB of "
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

    monkeypatch.setattr(softac.run.lifecycle, "require_memory", refuse)
    monkeypatch.setattr("softac.run.training.Replay", None)  # reserving would raise another error
    model = SAC(EarlyEndingEnv, **SMALL)
    with pytest.raises(ConfigError, match=r"^the replay needs 36 kB for 1,000 transitions of 36 bytes; "):
        model.learn(2_000)
    with pytest.raises(ConfigError, match="lower buffer_size to 25 or free memory"):
        model.learn(500)
    assert [rows for rows, _ in asked] == [1_000, 500]  # never more than the budget can fill


def test_the_forecast_looks_at_every_budget(monkeypatch):
    asked = []
    monkeypatch.setattr(
        softac.run.lifecycle, "require_memory", lambda rows, spec, rollout_envs: asked.append(rows)
    )
    model = SAC(EarlyEndingEnv, **SMALL)
    model.learn(30)
    model.learn(40)
    model.life.begun(2_000_000)
    assert asked == [30, 70 - 30, 1_000 - 70]  # rows that are in use already are no longer free memory


def test_a_replay_that_the_system_will_not_reserve(monkeypatch):
    def refuse(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory")

    monkeypatch.setattr("softac.run.training.make_replay", refuse)
    with pytest.raises(ConfigError) as error:
        SAC(EarlyEndingEnv, **SMALL).learn(10)
    assert str(error.value) == (
        "buffer_size=1000 was given; expected a memory that the system can reserve; lower buffer_size"
    )
