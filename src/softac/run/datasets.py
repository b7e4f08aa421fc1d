"""Data sets from elsewhere, in Minari's format (local HDF5), read as an agent sees transitions.

A data set comes from strangers. Nothing in it is executed: `env_spec`, which names what Minari would import, is
not looked at, and no object is unpickled. Only the arrays of observations, actions, rewards and ends are read, and
of them only what lies in this very file, in numbers, and fits into memory.
"""

import json
import math
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softac.envs import Spaces
from softac.envs.leaves import leaves
from softac.envs.masks import allowing_all_at_the_end, require_allowed
from softac.errors import CheckpointError, ConfigError, missing_extra, one_line
from softac.files import exists, read_regular
from softac.replay import available_memory, forecast
from softac.replay.ring import in_words
from softac.run.hdf5 import Group, opened, refused, size
from softac.types import FloatArray

MAIN, METADATA = "main_data.hdf5", "metadata.json"
METADATA_LIMIT = 8 * 2**20
MOST_EPISODES = 10_000_000
WORKING = 40  # bytes for each number beside observations, while it is read
FLOAT32_MAX = float(np.finfo(np.float32).max)


class Recording(NamedTuple):
    """One episode of T steps, as an agent sees it."""

    obs: FloatArray  # [T + 1, O]
    actions: FloatArray  # [T, A], in [-1, 1]; a discrete action as its index from 0
    rewards: NDArray[np.float64]  # [T]
    terminated: bool  # whether its last step ended it; otherwise it broke off there


def dataset_folder(name: str | Path) -> Path:
    """Where a data set lies: a folder, or Minari's id of a local one, such as "softac/halfcheetah/medium-v0".

    Ids are looked up in `MINARI_DATASETS_PATH`, or in ~/.minari/datasets.

    Raises:
        ConfigError: there is none.
    """
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    for place in (expanded(name), root / name):
        for folder in (place, place / "data"):
            if exists(folder / METADATA) and (folder / METADATA).is_file():
                return folder.absolute()
    raise ConfigError(
        f"there is no data set {str(name)!r}",
        f"expected a folder with data/{METADATA} and data/{MAIN}, or an id below {root}",
        "make one with `softac collect RUN`, or download one with Minari",
    )


def expanded(path: str | Path) -> Path:
    """The path with a home folder for its ~, or as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_dataset(name: str | Path, spaces: Spaces) -> tuple[int, Iterator[Recording]]:
    """How many steps a data set has, and its episodes, each read when its turn comes.

    Args:
        name: as for `dataset_folder`.
        spaces: of the environment that the agent learns in; those of the data set must be the same to it.

    Raises:
        ConfigError: there is no such data set, it is of other spaces, a replay of it does not fit into memory, or
            h5py is missing.
        CheckpointError: it is empty, damaged or hostile; what only its numbers tell, as they are read.
    """
    if find_spec("h5py") is None:
        raise missing_extra(f"the data set {name}", "h5py", "data")
    folder = dataset_folder(name)
    _require_spaces(folder, spaces)
    steps = largest = 0
    with opened(folder / MAIN) as file:
        names = sorted((key for key in file if key.startswith("episode_")), key=_number)
        if not names:
            raise refused(folder, "it has no episode")
        if len(names) > MOST_EPISODES:
            raise refused(folder, f"it has {len(names)} episodes")
        for key in names:
            stored = _stored(file, key, spaces, folder)
            steps, largest = steps + stored.steps, max(largest, _bytes_to_read(stored, spaces))
    # The last observation of an episode has a row of its own.
    needed, free = forecast(steps + len(names), spaces.spec) + largest, available_memory()
    if needed > free:
        raise ConfigError(
            f"the data set {folder} needs {in_words(needed)} of memory for its {steps:,} steps",
            f"expected at most the {in_words(free)} that are free now",
            "free memory, or choose a smaller one",
        )
    return steps, _recordings(folder, names, spaces)


def _recordings(folder: Path, names: list[str], spaces: Spaces) -> Iterator[Recording]:
    with opened(folder / MAIN) as file:
        for name in names:
            yield _recording(_stored(file, name, spaces, folder), spaces, folder)


def _require_spaces(folder: Path, spaces: Spaces) -> None:
    """Refuse a data set whose description says that it is of other spaces, or in another format."""
    try:
        told = json.loads(read_regular(folder / METADATA, METADATA_LIMIT))
        kind = str(told.get("data_format", "hdf5"))
        described = [told.get(f"{part}_space") for part in ("observation", "action")]
        theirs = None
        if all(isinstance(text, str) for text in described):
            observation, action = (_as_ours(json.loads(str(text))) for text in described)
            theirs = Spaces.from_json({"observation": observation, "action": action}, METADATA)
    except ConfigError as error:
        raise ConfigError(
            f"{folder} is of spaces that no algorithm here has ({error.given})", error.expected, "choose another"
        ) from None
    except CheckpointError as error:
        raise refused(folder, error.given) from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise refused(folder, f"its {METADATA} cannot be used: {one_line(str(error), 200)}") from None
    if kind != "hdf5":
        raise ConfigError(
            f"{folder} is stored as {kind[:40]!r}",
            "expected 'hdf5', the format of Minari that is one file",
            "write it again with data_format='hdf5'",
        )
    if theirs is not None and (different := spaces.difference(theirs)):
        raise ConfigError(
            f"{folder} is of other spaces than the environment: {different}",
            "expected data of the same environment",
            "name that environment, or another data set",
        )


def _as_ours(space: Any) -> dict[str, Any]:
    """A space as Minari writes it, as `Spaces.from_json` reads it."""
    match space["type"]:
        case "Box":
            bounds = {name: _numbers(space[name]) for name in ("low", "high")}
            return {"kind": "Box", "shape": space["shape"], "dtype": space["dtype"], **bounds}
        case "Discrete":
            return {"kind": "Discrete", "n": space["n"], "start": space["start"]}
        case "MultiDiscrete":
            return {"kind": "MultiDiscrete", "n": space["nvec"], "start": space["start"]}
        case "MultiBinary":
            n = space["n"]
            return {"kind": "MultiBinary", "shape": n if isinstance(n, list) else [n]}
        case "Dict":
            return {"kind": "Dict", "parts": {str(k): _as_ours(s) for k, s in space["subspaces"].items()}}
        case "Tuple":
            return {"kind": "Tuple", "parts": [_as_ours(s) for s in space["subspaces"]]}
        case kind:
            raise ValueError(f"a space of type {kind!r:.40}")


def _numbers(bounds: Any) -> list[Any]:
    flat = np.asarray(bounds, np.float64).ravel().tolist()
    if any(math.isnan(number) for number in flat):
        raise ValueError("bounds that are not numbers")
    return [number if math.isfinite(number) else ("inf" if number > 0 else "-inf") for number in flat]


class _Stored(NamedTuple):
    """One episode as it lies in the file: arrays that have not been read, of lengths that belong together."""

    name: str
    steps: int
    rewards: Any
    actions: Any
    ends: tuple[Any, Any]
    obs: list[tuple[tuple[Any, ...], Any]]  # with the path to each part


def _stored(file: Any, name: str, spaces: Spaces, folder: Path) -> _Stored:
    group = Group(file, name, folder)
    found = {key: group.array(key) for key in ("rewards", "actions", "terminations", "truncations")}
    rewards, actions, *ends = found.values()
    steps = rewards.shape[0]
    if odd := [(array.shape[0], key) for key, array in found.items() if array.shape[0] != steps]:
        raise refused(folder, f"{name} has {steps} rewards and {odd[0][0]} {odd[0][1]}")
    if steps == 0 or any(array.ndim != 1 for array in (rewards, *ends)):
        raise refused(folder, f"{name} has no steps, or several rewards for one")
    obs = _observed(group, spaces)
    if many := [array.shape[0] for _, array in obs if array.shape[0] != steps + 1]:
        raise refused(
            folder, f"{name} has {steps} steps and {many[0]} observations: one more than steps belongs to them"
        )
    return _Stored(name, steps, rewards, actions, (ends[0], ends[1]), obs)


def _observed(group: Group, spaces: Spaces) -> list[tuple[tuple[Any, ...], Any]]:
    """The arrays of the parts of observations, each with the path to it."""
    parts: list[tuple[tuple[Any, ...], Any]] = []
    for _, path, _part in leaves(spaces.observation_space):
        keys = [key if isinstance(key, str) else f"_index_{key}" for key in ("observations", *path)]
        within = group
        for key in keys[:-1]:
            within = within.inside(key)
        parts.append((path, within.array(keys[-1])))
    return parts


def _bytes_to_read(stored: _Stored, spaces: Spaces) -> int:
    """What reading an episode takes: its arrays as they are stored, and as an agent sees them."""
    others = [stored.rewards, stored.actions, *stored.ends]
    arrays = [*others, *(array for _, array in stored.obs)]
    seen = 2 * 4 * (stored.steps + 1) * spaces.spec.obs_dim  # one by one, then all in one array
    numbers = sum(int(math.prod(array.shape)) for array in others)
    return sum(map(size, arrays)) + seen + WORKING * numbers


def _recording(stored: _Stored, spaces: Spaces, folder: Path) -> Recording:
    """The episode, read."""
    name, rewards = stored.name, np.asarray(stored.rewards[()], np.float64)
    ends = [np.asarray(end[()], bool) for end in stored.ends]
    if early := np.flatnonzero(ends[0][:-1] | ends[1][:-1]).tolist():
        raise refused(folder, f"{name} ends at step {early[0] + 1} and has {stored.steps}")
    if not (np.abs(rewards) <= FLOAT32_MAX).all():
        step = int(np.flatnonzero(~(np.abs(rewards) <= FLOAT32_MAX))[0])
        raise refused(folder, f"the reward of step {step + 1} of {name} is {rewards[step]}")
    obs = _observations(stored, spaces, folder, terminated=bool(ends[0][-1]))
    try:
        actions = spaces.from_env(stored.actions[()])
        require_allowed(spaces.spec, obs[:-1], actions)
        return Recording(obs, actions, rewards, bool(ends[0][-1]))
    except ValueError as error:
        raise refused(folder, f"{name} has {error}") from None


def _observations(stored: _Stored, spaces: Spaces, folder: Path, *, terminated: bool) -> FloatArray:
    try:
        obs = _nested([(path, array[()]) for path, array in stored.obs])
        if terminated:
            obs = allowing_all_at_the_end(spaces.spec, obs, several=True)
        flat, batched = spaces.flatten_batch(obs)
        if not batched:
            raise ValueError(f"{len(flat)} of them where there are {stored.steps + 1}")
        require_whole(flat, spaces)
        return flat
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise refused(folder, f"{stored.name} has an observation that does not fit: {error}") from None


def require_whole(obs: FloatArray, spaces: Spaces) -> None:
    """Raise ValueError where flattened observations lack what the environment's have: masks of actions."""
    if obs.shape[1] != spaces.spec.obs_dim:
        raise ValueError("observations without masks of actions, which the environment's have")


def _nested(parts: list[tuple[tuple[Any, ...], NDArray[Any]]]) -> Any:
    """Arrays as the batch of observations that they are the parts of."""
    if len(parts) == 1 and not parts[0][0]:
        return parts[0][1]
    keys = dict.fromkeys(path[0] for path, _ in parts)
    inside = {key: _nested([(path[1:], x) for path, x in parts if path[0] == key]) for key in keys}
    return inside if all(isinstance(key, str) for key in keys) else tuple(inside.values())


def _number(name: str) -> int:
    digits = name.removeprefix("episode_")
    return int(digits) if digits.isascii() and digits.isdigit() else -1
