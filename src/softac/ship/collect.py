"""A policy played into a data set: whole episodes in Minari's own format, for any library that reads it."""

from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from softac._version import __version__
from softac.envs.vector import checked_reward
from softac.errors import ConfigError, DiskError, missing_extra
from softac.files import exists, remove
from softac.model import Model
from softac.run.datasets import expanded
from softac.run.evaluate import LONGEST, Choose, choosing
from softac.run.numerics import numerics
from softac.run.seeding import Purpose, derive_seed
from softac.ship.play import copied, failures

DATA, PARTIAL = "data", ".tmp-data"


class Collected(NamedTuple):
    """What was written.

    Attributes:
        folder: with the data set, to be named to `--prior`.
        returns: of its episodes.
        steps: of all of them.
    """

    folder: Path
    returns: list[float]
    steps: int


def collect(
    model: Model,
    folder: str | Path,
    n_episodes: int = 100,
    *,
    deterministic: bool = False,
    seed: int = 0,
) -> Collected:
    """Play whole episodes and write them down, in the environment's own observations, actions and rewards.

    Episode i begins as the i-th of `softac eval` with the same seed. Every seed is in the data set, too.
    What ends it early leaves no data set.

    Args:
        model: acts; its training is left as it is.
        folder: of the data set; new, or empty.
        n_episodes: at least 1.
        deterministic: the mode of the policy; otherwise its exploration, whose actions differ.
        seed: of the start states and the exploration.

    Raises:
        ConfigError: minari is missing, the folder is not empty, there is less than one episode, or the environment
            is not known.
        EnvironmentFailed: the environment raised.
        DiskError: the folder cannot be written.
    """
    _require_count(n_episodes)
    folder = _require_new(expanded(folder))
    partial = folder.absolute() / PARTIAL  # absolute: Minari finds its files so alone
    choose = choosing(model.agent, seed, model.num_timesteps, deterministic=deterministic)
    seeds = [derive_seed(Purpose.EVALUATION_EPISODE, seed, i) for i in range(n_episodes)]
    unfinished = _made(folder, partial)
    try:
        found = _write(model, partial, seeds, choose, _metadata(model, folder, deterministic=deterministic))
        (partial / DATA).replace(folder / DATA)
        unfinished = partial
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        remove(unfinished)
    return Collected(folder, *found)


def _made(folder: Path, partial: Path) -> Path:
    """Make the folder if it is not there yet; what is to be removed again if there will be no data set."""
    new = not exists(folder)
    try:
        folder.mkdir(parents=True, exist_ok=not new)
        remove(partial)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return folder if new else partial


def _unwritable(folder: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{folder} cannot be written ({error.strerror})", "expected a disk that takes it", "choose another"
    )


def _write(
    model: Model, folder: Path, seeds: list[int], choose: Choose, metadata: dict[str, Any]
) -> tuple[list[float], int]:
    """Play an episode for each seed into a new folder; their returns, and the steps of all."""
    returns: list[float] = []
    steps = 0
    with numerics(model.threads), closing(model.source.make()) as env:
        storage = _storage(folder, env)
        for seed in seeds:
            episode = _play(model, env, seed, choose)
            storage.update_episodes([episode])
            returns.append(float(np.sum(episode.rewards)))
            steps += len(episode.rewards)
        storage.update_metadata(metadata)
    return returns, steps


def _require_count(n_episodes: Any) -> None:
    if not isinstance(n_episodes, int) or n_episodes < 1:
        raise ConfigError(
            f"{n_episodes!r:.100} episodes were asked for", "expected a whole number, at least 1", "give 100, say"
        )


def _require_new(folder: Path) -> Path:
    if find_spec("minari") is None or find_spec("h5py") is None:
        raise missing_extra("a data set", "minari", "data")
    if exists(folder) and (not folder.is_dir() or any(path.name != PARTIAL for path in folder.iterdir())):
        raise ConfigError(f"{folder} is not empty", "expected a new folder for the data set", "choose another")
    return folder


def _play(model: Model, env: Any, start: int, choose: Choose) -> Any:
    """One episode, as Minari's storage takes it."""
    from minari.data_collector import EpisodeBuffer

    ended, length = False, 0
    noise: Tensor | None = None
    actions: list[Any] = []
    rewards: list[float] = []
    ends: list[tuple[bool, bool]] = []
    with failures(model.source.name, start, lambda: length):
        obs, _ = env.reset(seed=start)
        observations = [copied(obs)]
        while not ended and length < LONGEST:
            (chosen,), noise = choose(model.spaces.flatten_batch(obs)[0][0], noise)
            action = model.spaces.to_env(chosen)
            obs, reward, terminated, truncated, _ = env.step(action)
            observations.append(copied(obs))
            actions.append(np.array(action))
            rewards.append(checked_reward(reward))
            ends.append((bool(terminated), bool(truncated)))
            ended, length = bool(terminated or truncated), length + 1
    if not ended:
        ends[-1] = (False, True)
    return EpisodeBuffer(
        seed=start,
        observations=_stacked(observations),
        actions=np.stack(actions),
        rewards=rewards,
        terminations=[bool(end[0]) for end in ends],
        truncations=[bool(end[1]) for end in ends],
    )


def _storage(folder: Path, env: Any) -> Any:
    from minari.dataset.minari_storage import MinariStorage

    folder.mkdir(parents=True)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    return MinariStorage.new(folder / DATA, **spaces, env_spec=_spec(env), data_format="hdf5", jpeg_encoding=False)


def _spec(env: Any) -> Any:
    """What Minari's tools make the environment by, if it can be written down."""
    try:
        env.spec.to_json()
    except Exception:  # an environment without a spec, or one that holds classes
        return None
    return env.spec


def _metadata(model: Model, folder: Path, *, deterministic: bool) -> dict[str, Any]:
    """What Minari's own tools want to know of a data set."""
    from importlib.metadata import version

    kind = "its mode" if deterministic else "its exploration"
    return {
        "dataset_id": f"softac/{folder.resolve().name}-v0",
        "minari_version": version("minari"),
        "algorithm_name": f"{model.life.algorithm} of softac {__version__}",
        "description": f"{model.source.name}, the policy of step {model.num_timesteps:,}, {kind}.",
    }


def _stacked(observations: list[Any]) -> Any:
    """A list of observations as one of arrays, dictionary by dictionary."""
    match observations[0]:
        case dict() as first:
            return {key: _stacked([obs[key] for obs in observations]) for key in first}
        case tuple() as first:
            return tuple(_stacked([obs[i] for obs in observations]) for i in range(len(first)))
        case _:
            return np.stack(observations)
