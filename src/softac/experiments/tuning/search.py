"""A search: what `tune.json` says, and the runs of its trials."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from softac._version import __version__
from softac.agents.presets import require_settings
from softac.agents.registry import find_agent
from softac.config import fields, make_config
from softac.errors import ConfigError
from softac.experiments.plan import first_difference
from softac.experiments.sealed import full, read_sealed, write_sealed
from softac.experiments.suite import Group, Suite
from softac.experiments.tuning.space import Space, as_data, parse_space
from softac.experiments.tuning.trials import Trial
from softac.model import Model
from softac.run.config import RecordConfig, RunConfig
from softac.seeds import are_seeds

TUNE, CONFIRM, BEST = "tune.json", "confirm", "best.toml"
FORMAT = "softac-tune-1"
MOST_TRIALS = 10_000


@dataclass(frozen=True)
class Search:
    """What is searched, where and how. All of it but `trials` and `command` tells it from another search.

    Attributes:
        algorithm: as on the command line.
        env: the id of the environment.
        env_kwargs: its keyword arguments.
        first: name -> settings of the first trials, which are not proposed: the preset, if there is one, and the
            defaults. The others have those of the first of them where they are not searched.
        space: what is searched.
        total: environment steps of each run.
        record: when each run is evaluated and saved.
        seeds: of each trial.
        fresh: seeds with which the best are run again.
        trials: how many there are to be.
        parallel: how many are proposed at once, none of which knows how the others do.
        prune: whether the worse half of them stops at half of their steps.
        seed: of the proposals.
        command: what was typed.
    """

    algorithm: str
    env: str
    env_kwargs: dict[str, Any]
    first: dict[str, dict[str, Any]]
    space: Space
    total: int
    record: RecordConfig
    seeds: tuple[int, ...]
    fresh: tuple[int, ...]
    trials: int
    parallel: int
    prune: bool
    seed: int
    command: str

    @property
    def title(self) -> str:
        """Algorithm and environment, in words."""
        return f"{self.algorithm} on {self.env}"

    @property
    def base(self) -> dict[str, Any]:
        """The settings of every proposed trial, where they are not searched."""
        return next(iter(self.first.values()))

    @property
    def half(self) -> int:
        """The step of the first evaluation in the second half of a run, where the worse ones may be stopped."""
        freq = self.record.eval_freq or self.total
        return min(self.total, -(-self.total // 2 // freq) * freq)

    def identity(self) -> dict[str, Any]:
        """What tells it from another search, as plain data."""
        said = json.loads(json.dumps(asdict(self) | {"space": as_data(self.space)}))
        return {name: value for name, value in said.items() if name not in ("trials", "command")}

    def sha256(self) -> str:
        """The hash of the identity."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()

    def generation(self, number: int) -> range:
        """The numbers of the trials that are proposed together with this one, were the search long enough."""
        first = number - number % self.parallel
        return range(first, first + self.parallel)

    def folder(self, number: int) -> str:
        """The name of the folder of the suite that this trial is part of."""
        generation = self.generation(number)
        return f"trials-{generation[0]:03d}-{generation[-1]:03d}"


def model_of(search: Search, settings: Mapping[str, Any], seed: int, *, trusted: bool) -> Model:
    """The model of a run, as it is made.

    Raises:
        SoftacError: the settings cannot work, or the environment cannot be made.
    """
    require_settings(search.algorithm, settings)
    run = {k: v for k, v in settings.items() if k in fields(RunConfig)} | {"seed": seed}
    hyperparameters = {k: v for k, v in settings.items() if k not in run}
    agent_class = find_agent(search.algorithm)
    model = Model(
        agent_class, search.env, env_kwargs=search.env_kwargs, trust_module=trusted, **run, **hyperparameters
    )
    model.life.threads = 1
    return model


def suite_of(
    search: Search, trials: Sequence[Trial], models: Sequence[Model], seeds: Sequence[int], what: str
) -> Suite:
    """The runs of some trials, a group for each.

    Args:
        search: they belong to it.
        trials: at least one.
        models: one for each trial, with any of its seeds.
        seeds: of each trial.
        what: these trials are, in words.
    """
    groups = tuple(
        Group(trial.title, prefix(trial), tuple(seeds), model.description())
        for trial, model in zip(trials, models, strict=True)
    )
    return Suite(f"{search.title}, {what}", search.command, groups, search.record, search.total)


def prefix(trial: Trial) -> str:
    """The beginning of the names of its run folders; the seed follows."""
    return f"trial-{trial.number:03d}-seed-"


def numbers(trials: Sequence[Trial]) -> str:
    """Trial 3; or trials 8 to 15."""
    found = sorted(trial.number for trial in trials)
    return f"trial {found[0]}" if len(found) == 1 else f"trials {found[0]} to {found[-1]}"


def write_search(path: Path, search: Search) -> None:
    """Write `tune.json`.

    Raises:
        DiskError: the disk refused.
    """
    said = search.identity() | {"trials": search.trials, "command": search.command}
    try:
        write_sealed(path / TUNE, {"format": FORMAT, "softac": __version__, **said})
    except OSError as error:
        raise full(path, error) from None


def read_search(path: Path) -> Search:
    """The search that `write_search` wrote.

    Raises:
        CheckpointError: it is missing, damaged, or of another format.
    """
    return read_sealed(path / TUNE, FORMAT, lambda said: _search(said, path))


def _search(said: Mapping[str, Any], path: Path) -> Search:
    first = {str(name): dict(settings) for name, settings in said["first"].items()}
    seeds, fresh = tuple(said["seeds"]), tuple(said["fresh"])
    total, trials, parallel, seed = (said[name] for name in ("total", "trials", "parallel", "seed"))
    counts = all(type(n) is int and n >= 1 for n in (total, trials, parallel)) and type(seed) is int and seed >= 0
    if not (first and counts and are_seeds(seeds) and are_seeds(fresh) and trials <= MOST_TRIALS):
        raise ValueError("impossible trials, steps or seeds")
    algorithm, record = str(said["algorithm"]), make_config(RecordConfig, said["record"])
    space = parse_space(algorithm, said["space"], str(path / TUNE))
    return Search(
        algorithm,
        str(said["env"]),
        dict(said["env_kwargs"]),
        first,
        space,
        total,
        record,
        seeds,
        fresh,
        trials,
        parallel,
        bool(said["prune"]),
        seed,
        str(said["command"]),
    )


def require_same_search(old: Search, new: Search, path: Path) -> None:
    """Refuse to go on in the folder of a search with another one; more trials are no other.

    Raises:
        ConfigError: something is different, or there would be fewer trials.
    """
    wrong = first_difference(old.identity(), new.identity())
    if not wrong and new.trials < old.trials:
        wrong = f"it has {old.trials} trials and is to have {new.trials}"
    if wrong:
        raise ConfigError(
            f"{path} holds another search ({wrong})",
            "expected the same, or one with more trials",
            "choose another folder with --run-dir",
        )
