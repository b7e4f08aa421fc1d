"""Data sets: written in Minari's format, read as an agent sees them, refused in words where they are not sound."""

import json
import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from minari.dataset.minari_dataset import MinariDataset

import policies
import reliability_envs as reliability_envs  # registers its environments
from softac import DDPG, PPO, SAC, Model
from softac.cli.main import main
from softac.envs import Spaces
from softac.errors import CheckpointError, ConfigError, DiskError, EnvironmentFailed
from softac.run.datasets import Recording, dataset_folder, read_dataset
from softac.run.seeding import Purpose, derive_seed
from softac.ship import collect as collect_module
from softac.ship.collect import collect

SMALL: dict[str, Any] = {"env_kwargs": {"max_episode_steps": 40}, "net_arch": (8,), "batch_size": 16}


def recordings_of(name: str | Path, spaces: Spaces) -> list[Recording]:
    return list(read_dataset(name, spaces)[1])


@pytest.fixture(scope="module")
def model() -> Any:
    return SAC("Pendulum-v1", **SMALL)


@pytest.fixture
def data(model: Any, tmp_path: Path) -> Path:
    collect(model, tmp_path / "data-set", 3)
    return tmp_path / "data-set"


def test_what_is_played_is_what_is_read(model: Any, tmp_path: Path) -> None:
    found = collect(model, tmp_path / "set", 3, seed=5)
    assert (found.folder, found.steps, len(found.returns)) == (tmp_path / "set", 120, 3)
    recordings = recordings_of(tmp_path / "set", model.spaces)
    assert [recording.obs.shape for recording in recordings] == [(41, 3)] * 3
    assert [recording.terminated for recording in recordings] == [False] * 3  # truncated
    assert [float(r.rewards.sum()) for r in recordings] == found.returns
    env = gym.make("Pendulum-v1", max_episode_steps=40)
    for i, recording in enumerate(recordings):
        obs, _ = env.reset(seed=derive_seed(Purpose.EVALUATION_EPISODE, 5, i))
        for t, action in enumerate(recording.actions):
            assert np.array_equal(recording.obs[t], obs)
            obs, reward, *_ = env.step(model.spaces.to_env(action))
            assert recording.rewards[t] == pytest.approx(float(reward), rel=1e-5)
    assert not np.array_equal(recordings[0].actions, recordings[1].actions)
    again = collect(model, tmp_path / "again", 3, seed=5)
    assert again.returns == found.returns


def test_minari_itself_reads_it(data: Path, model: Any) -> None:
    theirs = MinariDataset(data / "data")
    assert (theirs.total_episodes, theirs.total_steps, theirs.id) == (3, 120, "softac/data-set-v0")
    assert theirs.observation_space == model.spaces.observation_space
    assert theirs.env_spec.id == "Pendulum-v1"
    episode = theirs[0]
    assert episode.observations.shape == (41, 3)
    assert episode.actions.shape == (40, 1)
    assert list(episode.truncations) == [False] * 39 + [True]
    assert np.abs(episode.actions).max() > 1.0  # in the environment's bounds


def test_what_minari_writes_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import minari
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    rng = np.random.default_rng(0)
    spaces = {
        "observation_space": gym.spaces.Box(-np.inf, np.inf, (2,)),
        "action_space": gym.spaces.Box(-4, 8, (1,)),
    }
    buffer = EpisodeBuffer(
        observations=list(rng.normal(size=(4, 2))),
        actions=[np.array([-4.0]), np.array([8.0]), np.array([5.0])],
        rewards=[1.0, 2.0, 3.0],
        terminations=[False, False, True],
        truncations=[False] * 3,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it is not told about the author and the code
        minari.create_dataset_from_buffers("mine/point/some-v0", [buffer], ref_min_score=0.0, **spaces)
    (recording,) = recordings_of("mine/point/some-v0", Spaces(*spaces.values()))
    assert recording.actions.ravel().tolist() == [-1.0, 1.0, 0.5]
    assert recording.rewards.tolist() == [1.0, 2.0, 3.0]
    assert recording.terminated
    np.testing.assert_array_equal(recording.obs, np.array(buffer.observations, np.float32))


def test_dicts_and_choices(tmp_path: Path) -> None:
    found = Model(_agent("dqn"), "CartPole-v1", net_arch=(8,))
    collect(found, tmp_path / "choices", 2)
    recordings = recordings_of(tmp_path / "choices", found.spaces)
    assert set(np.concatenate([r.actions.ravel() for r in recordings])) == {0.0, 1.0}
    assert all(recording.terminated for recording in recordings)
    nested = Model(_agent("sac"), "reliability/DictReach-v0", net_arch=(8,))
    collect(nested, tmp_path / "dict", 2)
    (first, _) = recordings_of(tmp_path / "dict", nested.spaces)
    assert first.obs.shape[1] == nested.spaces.spec.obs_dim
    own = SAC("reliability/DictReach-v0", net_arch=(8,), batch_size=8, prior=tmp_path / "dict").learn(120)
    assert own.training.prior.replay.added == sum(
        len(r.rewards) for r in recordings_of(tmp_path / "dict", nested.spaces)
    )


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.MultiDiscrete([2, 3], start=[5, -1]),
        gym.spaces.MultiDiscrete([[2], [3]]),
        gym.spaces.MultiBinary((2, 2)),
    ],
)
def test_several_choices_at_once(space: Any, tmp_path: Path) -> None:
    class Chosen(gym.Env[Any, Any]):
        observation_space, action_space = gym.spaces.Box(-1.0, 1.0, (2,)), space

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            self.t = 0
            return np.zeros(2, np.float32), {}

        def step(self, action: Any) -> Any:
            assert space.contains(action)
            self.t += 1
            return np.zeros(2, np.float32), float(np.sum(action)), self.t >= 20, False, {}

    played = PPO(Chosen, net_arch=(8,))
    collect(played, tmp_path / "set", 2)
    for recording in recordings_of(tmp_path / "set", played.spaces):
        given = [played.spaces.to_env(action) for action in recording.actions]
        assert [float(action.sum()) for action in given] == recording.rewards.tolist()
    with pytest.raises(ValueError, match="actions that are not indices below 2"):
        played.spaces.from_env(np.full((1, *space.shape), 9))


def _agent(name: str) -> Any:
    from softac.agents.registry import AGENTS

    return AGENTS[name]


def test_actions_beyond_the_bounds_are_cut_as_the_environment_cuts_them(model: Any) -> None:
    assert model.spaces.from_env(np.array([[9.0], [-9.0], [1.0]])).ravel().tolist() == [1.0, -1.0, 0.5]
    for action in np.linspace(-1.0, 1.0, 7, dtype=np.float32):
        there = np.asarray(model.spaces.to_env(np.array([action])))
        np.testing.assert_allclose(model.spaces.from_env(there[None])[0], [action], atol=1e-6)


def edit(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
            change(file)

    return apply


def put(name: str, values: Any, **options: Any) -> Callable[[Path], None]:
    def change(file: Any) -> None:
        del file[f"episode_1/{name}"]
        if values is not None:
            file.create_dataset(f"episode_1/{name}", data=values, **options)

    return edit(change)


def linked(link: Any) -> Callable[[Path], None]:
    def change(file: Any) -> None:
        del file["episode_1/rewards"]
        file["episode_1/rewards"] = link

    return edit(change)


def outside(file: Any) -> None:
    del file["episode_1/rewards"]
    file["episode_1"].create_dataset("rewards", (40,), "f8", external=[("/etc/passwd", 0, 320)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((40,), "f8")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (40,))  # noqa: S108
    del file["episode_1/rewards"]
    file["episode_1"].create_virtual_dataset("rewards", layout)


def huge(file: Any) -> None:
    del file["episode_1/rewards"]
    file["episode_1"].create_dataset("rewards", (2**45,), "f8", chunks=(2**20,), compression="gzip")


def objects(file: Any) -> None:
    del file["episode_1/rewards"]
    file["episode_1"].create_dataset("rewards", data=["import os"] * 40, dtype=h5py.string_dtype())


def grouped(file: Any) -> None:
    del file["episode_1/rewards"]
    file.create_group("episode_1/rewards")


def flat(file: Any) -> None:
    del file["episode_1"]
    file.create_dataset("episode_1", data=[1])


def metadata(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "data" / "metadata.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return apply


def text(content: bytes, name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "data" / name).write_bytes(content) and None


def nan(shape: tuple[int, ...], at: int) -> Any:
    values = np.zeros(shape)
    values[at] = np.nan
    return values


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "an observation that is NaN": (put("observations", nan((41, 3), 7)), "an observation that does not fit: nan"),
    "an action that is NaN": (put("actions", nan((40, 1), 7)), "has actions that are not finite"),
    "a reward that is NaN": (put("rewards", nan((40,), 7)), "the reward of step 8 of episode_1 is nan"),
    "too few observations": (put("observations", np.zeros((40, 3))), "has 40 steps and 40 observations"),
    "too few actions": (put("actions", np.zeros((39, 1))), "has 40 rewards and 39 actions"),
    "too few ends": (put("terminations", np.zeros(39, bool)), "has 40 rewards and 39 terminations"),
    "an end too early": (put("terminations", np.arange(40) == 3), "ends at step 4 and has 40"),
    "observations of another size": (put("observations", np.zeros((41, 4))), "an observation that does not fit"),
    "actions of another size": (put("actions", np.zeros((40, 2))), "has actions of shape (2,)"),
    "no steps": (
        lambda folder: [put(n, np.zeros((k, *s)))(folder) for n, k, s in [
            ("rewards", 0, ()), ("observations", 1, (3,)), ("actions", 0, (1,)), ("terminations", 0, ()),
            ("truncations", 0, ())]] and None,
        "has no steps",
    ),
    "no rewards": (put("rewards", None), "'rewards' is missing"),
    "no episode": (edit(lambda file: [file.__delitem__(key) for key in list(file)]), "it has no episode"),
    "a link out of it": (linked(h5py.ExternalLink("/tmp/other.h5", "x")), "leads to another place"),  # noqa: S108
    "a soft link": (linked(h5py.SoftLink("/episode_0/rewards")), "leads to another place"),
    "data in another file": (edit(outside), "lie in another file"),
    "a view of another file": (edit(virtual), "lie in another file"),
    "more than there is memory": (edit(huge), "do not fit into the memory"),
    "objects": (edit(objects), "are no array of numbers"),
    "a group for an array": (edit(grouped), "are no array of numbers"),
    "an array for a group": (edit(flat), "'episode_1' in it is no group"),
    "no HDF5": (text(b"import os; os.system('touch /tmp/pwned')", "main_data.hdf5"), "is damaged"),
    "half a file": (lambda folder: (folder / "data" / "main_data.hdf5").write_bytes(
        (folder / "data" / "main_data.hdf5").read_bytes()[:9000]) and None, "is damaged"),
    "no file": (lambda folder: (folder / "data" / "main_data.hdf5").unlink(), "it has no main_data.hdf5"),
    "no JSON": (text(b"{", "metadata.json"), "its metadata.json cannot be used"),
    "deep JSON": (text(b"[" * 10**5, "metadata.json"), "its metadata.json cannot be used"),
    "a space that is none": (metadata(observation_space="[]"), "its metadata.json cannot be used"),
    "a dtype that is no name": (
        metadata(observation_space='{"type":"Box","shape":[3],"dtype":"(,)f4","low":[0],"high":[1]}'),
        "the spaces in metadata.json are damaged",
    ),
    "bounds of 400 digits": (
        metadata(observation_space=json.dumps(
            {"type": "Box", "shape": [3], "dtype": "float32", "low": [-(10**400)], "high": [1]}
        )),
        "its metadata.json cannot be used",
    ),
    "one observation for all steps": (
        lambda folder: [put(n, np.zeros((k, *s)))(folder) for n, k, s in [
            ("rewards", 2, ()), ("observations", 3, ()), ("actions", 2, (1,)), ("terminations", 2, ()),
            ("truncations", 2, ())]] and None,
        "an observation that does not fit: 1 of them where there are 3",
    ),
    "bounds that are NaN": (
        metadata(observation_space='{"type":"Box","shape":[3],"dtype":"float32","low":[NaN],"high":[1]}'),
        "its metadata.json cannot be used",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_not_sound_is_refused_in_words(kind: str, data: Path, model: Any) -> None:
    change, expected = HOSTILE[kind]
    change(data)
    with pytest.raises(CheckpointError) as caught:
        recordings_of(data, model.spaces)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"the data set {data}/data cannot be used: ")
    assert str(caught.value).endswith(
        "; expected whole episodes of finite numbers as Minari stores them; get it again, or choose another"
    )
    assert not Path("/tmp/pwned").exists()  # noqa: S108


@pytest.mark.parametrize(
    ("key", "kind"), [("robot/pos", "group"), ("robot/arm/pos", "group"), ("robot/pos", "array")]
)
def test_a_slash_in_a_key_leads_nowhere_else(key: str, kind: str, tmp_path: Path) -> None:
    spaces = gym.spaces.Dict({key: gym.spaces.Box(-8, 8, (3,))}), gym.spaces.Discrete(2)
    write(tmp_path / "own", {f"observations/{key}": np.ones((5, 3))})
    assert recordings_of(tmp_path / "own", Spaces(*spaces))[0].obs.tolist() == [[1.0] * 3] * 5
    with h5py.File(tmp_path / "victim.h5", "w") as victim:
        victim.create_dataset(key.removeprefix("robot/"), data=np.full((5, 3), 7.25))
    first, rest = key.split("/", 1)
    link = h5py.ExternalLink(tmp_path / "victim.h5", "/" if kind == "group" else rest)
    write(tmp_path / "set", {f"observations/{first if kind == 'group' else key}": link})
    with pytest.raises(CheckpointError, match=f"'{key}' in it leads to another place"):
        recordings_of(tmp_path / "set", Spaces(*spaces))


FEW = Spaces(gym.spaces.Box(-8, 8, (3,)), gym.spaces.Discrete(2))


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "set", {"observations": np.zeros((5, 3), np.uint8)}, episodes=3)
    replay = (3 * 4 + 3) * (4 * (3 + 1 + 2) + 8)
    one = 4 * (8 + 8 + 1 + 1) + 15 + 2 * 4 * 15 + 40 * 16
    monkeypatch.setattr("softac.run.datasets.available_memory", lambda: replay + one)
    assert len(recordings_of(folder, FEW)) == 3
    monkeypatch.setattr("softac.run.datasets.available_memory", lambda: replay + one - 1)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", None)
    with pytest.raises(ConfigError) as caught:
        recordings_of(folder, FEW)
    assert str(caught.value) == (
        f"the data set {folder}/data needs 1 kB of memory for its 12 steps; expected at most the 1 kB that are "
        "free now; free memory, or choose a smaller one"
    )


def test_small_files_that_become_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of one byte that become eight, and one piece of far more than is asked for."""
    for room in ("datasets", "hdf5"):
        monkeypatch.setattr(f"softac.run.{room}.available_memory", lambda: 10**9)
    steps, few = 10**8, {"chunks": (2**20,), "compression": "gzip"}

    def narrow(file: Any) -> None:
        del file["episode_0"]
        for name in ("rewards", "actions", "terminations", "truncations"):
            file.create_dataset(f"episode_0/{name}", (steps,), "i1", **few)
        file.create_dataset("episode_0/observations", (steps + 1, 3), "i1", chunks=(1, 3))

    def broad(file: Any) -> None:
        del file["episode_0/rewards"]
        file["episode_0"].create_dataset("rewards", (4,), "i1", chunks=(2 * 10**9,), maxshape=(None,))

    folder = write(tmp_path / "set", {"observations": np.zeros((5, 3))})
    edit(broad)(folder)
    with pytest.raises(CheckpointError, match=r"the memory: \(4,\), in pieces of \(2000000000,\)"):
        recordings_of(folder, FEW)
    edit(narrow)(folder)
    with pytest.raises(ConfigError, match=r"needs \d\d.\d\d GB of memory for its 100,000,000 steps"):
        recordings_of(folder, FEW)


def test_a_piece_that_becomes_far_larger_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 unpacks to the end of what is packed; here pieces are 2^15 times smaller than those it is about."""
    monkeypatch.setattr("softac.run.hdf5.UNSEEN", 2**15)
    folder = write(tmp_path / "set", {"observations": np.zeros((5, 3))})

    def packed(piece: bytes, length: int, **how: Any) -> Callable[[Any], None]:
        def change(file: Any) -> None:
            del file["episode_0/rewards"]
            array = file["episode_0"].create_dataset(
                "rewards", (4,), "i1", chunks=(length,), maxshape=(None,), **how
            )
            array.id.write_direct_chunk((0,), piece)

        return change

    text = "rewards of episode_0 are packed so that they may become far larger than they say"
    for bomb in (zlib.compress(bytes(2**16), 9), bytes(64)):  # the second is not deflated at all
        edit(packed(bomb, 4, compression="gzip"))(folder)
        with pytest.raises(CheckpointError, match=text):
            recordings_of(folder, FEW)
    edit(packed(bytes(400), 4, compression="lzf"))(folder)
    with pytest.raises(CheckpointError, match=text):
        recordings_of(folder, FEW)
    noise = np.random.default_rng(0).integers(-128, 128, 2**16).astype("i1")  # that packing does not make smaller
    loud = write(tmp_path / "loud", {"observations": np.zeros((2**16 + 1, 3))}, steps=2**16)
    for packing in ("gzip", "lzf"):
        with h5py.File(loud / "data" / "main_data.hdf5", "a") as file:
            del file["episode_0/rewards"]
            file["episode_0"].create_dataset("rewards", data=noise, chunks=(2**16,), compression=packing)
        assert recordings_of(loud, FEW)[0].rewards.tolist() == noise.tolist()
    for length in (4, 2**16):  # as large as they say
        edit(packed(zlib.compress(bytes(length), 9), length, compression="gzip"))(folder)
        assert recordings_of(folder, FEW)[0].rewards.tolist() == [0, 0, 0, 0]


def test_episodes_are_read_one_after_another(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {"observations": np.zeros((1001, 3))}, steps=1000, episodes=40)
    steps, recordings = read_dataset(folder, FEW)
    tracemalloc.start()
    assert steps == sum(len(recording.rewards) for recording in recordings) == 40_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 1000 * (24 + 12 + 8 + 8 + 2 + 8 * 3 + 200)


def test_an_action_that_its_own_mask_forbids(tmp_path: Path) -> None:
    masked = gym.spaces.Dict({"action_mask": gym.spaces.MultiBinary(3), "x": gym.spaces.Box(-1, 1, (2,))})
    spaces = Spaces(masked, gym.spaces.Discrete(3))
    masks = {"observations/action_mask": np.tile([1, 1, 0], (5, 1)), "observations/x": np.zeros((5, 2))}
    write(tmp_path / "sound", masks | {"actions": np.array([0, 1, 1, 0])})
    assert recordings_of(tmp_path / "sound", spaces)[0].actions.ravel().tolist() == [0, 1, 1, 0]
    write(tmp_path / "set", masks | {"actions": np.array([0, 1, 2, 0])})
    with pytest.raises(CheckpointError, match="episode_0 has action 2 of step 3, which its own mask forbids;"):
        recordings_of(tmp_path / "set", spaces)


def test_a_mask_that_allows_nothing_where_the_episode_has_ended(tmp_path: Path) -> None:
    """Nobody acts there; where an episode breaks off somebody would have."""
    masked = gym.spaces.Dict({"action_mask": gym.spaces.MultiBinary(3), "x": gym.spaces.Box(-1, 1, (2,))})
    spaces = Spaces(masked, gym.spaces.Discrete(3))
    masks = np.tile([1, 1, 0], (5, 1))
    masks[-1] = 0
    given = {"observations/action_mask": masks, "observations/x": np.zeros((5, 2))}
    write(tmp_path / "ended", given | {"terminations": np.array([False, False, False, True])})
    [recording] = recordings_of(tmp_path / "ended", spaces)
    assert recording.obs[:, :3].tolist() == [[1, 1, 0]] * 4 + [[1, 1, 1]]
    write(tmp_path / "cut", given | {"truncations": np.array([False, False, False, True])})
    with pytest.raises(CheckpointError, match="an action mask that allows no action, of 3"):
        recordings_of(tmp_path / "cut", spaces)


def write(folder: Path, changes: dict[str, Any], steps: int = 4, episodes: int = 1) -> Path:
    """A data set of discrete actions, without a description of its spaces."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "metadata.json").write_text("{}")
    ends = np.zeros(steps, bool)
    usual = {"actions": np.zeros(steps, int), "rewards": np.ones(steps), "terminations": ends, "truncations": ends}
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as file:
        for i in range(episodes):
            group = file.create_group(f"episode_{i}")
            for name, values in (usual | changes).items():
                group[name] = values
    return folder


def test_only_the_fields_that_are_needed_are_read(data: Path, model: Any) -> None:
    def more(file: Any) -> None:
        file["episode_1"].create_dataset("infos", data=["import os"] * 40, dtype=h5py.string_dtype())
        file["episode_1/elsewhere"] = h5py.ExternalLink("/tmp/other.h5", "x")  # noqa: S108
        file["notes"] = h5py.ExternalLink("/tmp/other.h5", "x")  # noqa: S108

    edit(more)(data)
    # Minari would import what this names, to make the environment.
    metadata(env_spec='{"id": "Evil-v0", "entry_point": "os:abort"}', code_permalink="x" * 1000)(data)
    assert len(recordings_of(data, model.spaces)) == 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (metadata(data_format="arrow"),
         "is stored as 'arrow'; expected 'hdf5', the format of Minari that is one file"),
        (metadata(action_space='{"type":"Box","shape":[1],"dtype":"float32","low":[-1],"high":[1]}'),
         "is of other spaces than the environment: actions are"),
        (metadata(action_space='{"type":"Discrete","dtype":"int64","n":2,"start":0}'),
         "is of other spaces than the environment: actions are"),
        (metadata(observation_space='{"type":"Box","shape":[4],"dtype":"float32","low":[0,0,0,0],"high":[1,1,1,1]}'),
         "is of other spaces than the environment: "),
    ],
)  # fmt: skip
def test_data_of_other_kinds(change: Callable[[Path], None], expected: str, data: Path, model: Any) -> None:
    change(data)
    with pytest.raises(ConfigError) as caught:
        recordings_of(data, model.spaces)
    assert expected in str(caught.value)


def test_names(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Any) -> None:
    assert dataset_folder(data) == dataset_folder(data / "data") == data / "data"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(data.parent))
    assert dataset_folder("data-set") == data / "data"
    with pytest.raises(ConfigError) as caught:
        recordings_of("no/such-v0", model.spaces)
    assert str(caught.value) == (
        f"there is no data set 'no/such-v0'; expected a folder with data/metadata.json and data/main_data.hdf5, "
        f"or an id below {data.parent}; make one with `softac collect RUN`, or download one with Minari"
    )


def test_a_folder_that_is_not_empty(model: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(ConfigError, match="is not empty"):
        collect(model, tmp_path, 1)


def test_what_ends_early_leaves_nothing(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = collect_module._play

    def second_fails(*args: Any) -> Any:
        if len(calls) == 1:
            raise EnvironmentFailed("it fell", "expected it to stand", "hold it")
        calls.append(0)
        return played(*args)

    calls: list[int] = []
    monkeypatch.setattr(collect_module, "_play", second_fails)
    with pytest.raises(EnvironmentFailed):
        collect(model, tmp_path / "new", 2)
    assert (calls, list(tmp_path.iterdir())) == ([0], [])


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda: sys.exit(3), "raised SystemExit: 3 at step 1 of the episode with seed "),
        (lambda: np.nan, "returned the reward nan, not a finite float32 at step 1 of the episode with seed "),
    ],
    ids=["leaves", "no reward"],
)
def test_an_environment_that_fails(fault: Callable[[], float], said: str, tmp_path: Path) -> None:
    class Faulty(policies.Spaced):
        def step(self, action: Any) -> Any:
            obs, _, *rest = super().step(action)
            return obs, fault(), *rest

    model = SAC(lambda: Faulty(policies.OBSERVATIONS["float32"], policies.CONTINUOUS["[-1, 1]"]), net_arch=(8,))
    with pytest.raises(EnvironmentFailed) as failed:
        collect(model, tmp_path / "set", 1)
    assert f" {said}" in failed.value.given
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_and_empty(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("here", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "target" / ".tmp-data").mkdir()  # of a process that was killed
    monkeypatch.chdir(tmp_path / "here")
    collect(model, ".", 1)
    collect(model, tmp_path / "link", 1)
    for name in ("here", "target"):
        assert [path.name for path in (tmp_path / name).iterdir()] == ["data"]
        assert len(recordings_of(tmp_path / name, model.spaces)) == 1
        assert MinariDataset(tmp_path / name / "data").id == f"softac/{name}-v0"
    for name in ("x" * 300, "here/data/metadata.json/set"):
        with pytest.raises(DiskError, match="cannot be written"):
            collect(model, tmp_path / name, 1)


@pytest.mark.parametrize("n", [0, -1, 1.5, "3"])
def test_a_number_of_episodes_that_is_none(n: Any, model: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        collect(model, tmp_path / "set", n)
    assert (
        str(caught.value) == f"{n!r} episodes were asked for; expected a whole number, at least 1; give 100, say"
    )


def test_noise_is_carried_through_an_episode_and_not_into_the_next(tmp_path: Path) -> None:
    played = DDPG("Pendulum-v1", **SMALL, action_noise="ou", action_noise_std=0.05)
    collect(played, tmp_path / "set", 20)
    first, previous, following = [], [], []
    for recording in recordings_of(tmp_path / "set", played.spaces):
        mode = played.predict(recording.obs[:-1], deterministic=True)[0] / 2.0
        noise = (recording.actions - mode).ravel()
        first.append(noise[0])
        previous.append(noise[:-1])
        following.append(noise[1:])
    carried = np.corrcoef(np.concatenate(previous), np.concatenate(following))[0, 1]
    assert carried == pytest.approx(0.85, abs=0.1)
    assert np.std(first) < 0.07 < np.std(np.concatenate(following))  # it begins anew


def test_without_the_extra(model: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("softac.run.datasets.find_spec", "softac.ship.collect.find_spec"):
        monkeypatch.setattr(place, lambda name: None)
    line = "expected softac with its extra 'data'; run `pip install 'softac[data]'`"
    with pytest.raises(ConfigError, match="h5py, which is not installed") as caught:
        recordings_of(data, model.spaces)
    assert str(caught.value).endswith(line)
    with pytest.raises(ConfigError, match="minari, which is not installed"):
        collect(model, tmp_path / "new", 1)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    SAC("Pendulum-v1", **SMALL).learn(50, run_dir=run, n_eval_episodes=0)
    monkeypatch.chdir(tmp_path)
    assert main(["collect", "run", "--episodes", "1"]) == 0
    assert capsys.readouterr().out.endswith(" in run/data\n")
    assert main(["collect", str(run), "--episodes", "2", "-o", str(tmp_path / "set")]) == 0
    assert capsys.readouterr().out.startswith("2 episodes, 80 steps, mean return -")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "set"}
    command = ["train", "sac", "Pendulum-v1", "-n", "150", "--prior", str(tmp_path / "set"), "--net-arch", "8"]
    command += ["--env-kwargs", "max_episode_steps=40", "--n-eval-episodes", "0"]
    assert main([*command, "--run-dir", str(tmp_path / "new")]) == 0
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["run"]["prior"] == str(tmp_path / "set")
    assert config["hyperparameters"]["critic_layer_norm"] is True
    for episodes in ("0", "x"):
        assert main(["collect", "run", "--episodes", episodes, "-o", str(tmp_path / "worse")]) == 2
        assert (
            f"--episodes {episodes} was given; expected a whole number, at least 1; leave it out for 100"
        ) in " ".join(capsys.readouterr().err.split())
    assert main([*command, "--run-dir", str(tmp_path / "worse"), "--prior", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "worse").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_on_policy_algorithms_have_no_use_for_them(data: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        PPO("Pendulum-v1", prior=data)
    assert str(caught.value) == (
        f"prior='{data}' was given with PPOAgent, which learns from each rollout of its present policy; expected "
        "an algorithm with a replay; leave prior out, or choose sac, td3 or dqn, say"
    )
