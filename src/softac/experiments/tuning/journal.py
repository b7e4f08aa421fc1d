"""Optuna's part of a search: what to try next, and the journal, a file to which whole lines are added.

A proposal is a function of the seed, its number and the values of earlier generations alone, so that it does not
matter when a process was killed or which trial was finished first. In the journal it is one line, and its end one.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softac.config import as_text
from softac.errors import CheckpointError, ConfigError, DiskError, SoftacError, missing_extra
from softac.experiments.tuning.search import Search
from softac.experiments.tuning.space import Choice, Dimension, coordinate_name, coordinates, ends, value_at
from softac.experiments.tuning.trials import State, Trial
from softac.run.folder import require_no_link
from softac.words import described

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

JOURNAL, LOCK = "study.jsonl", "study.jsonl.lock"
LARGEST_FILE = 2**30  # bytes
STARTUP = 6  # trials with a value before proposals are more than random
ATTEMPTS = 20  # to propose what has not been tried
FEWEST = 10  # trials with a value before importances are worth a look
STATE_OF: dict[str, State] = {"RUNNING": "running", "COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}

log = logging.getLogger("softac")


def require_optuna() -> None:
    """Refuse to search without Optuna.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise missing_extra("softac tune", "optuna", "tune") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def proposal(search: Search, past: Sequence[Trial], number: int) -> Trial:
    """The trial of this number.

    Args:
        search: it belongs to it.
        past: all trials before it, in order; of those proposed together with it the values do not count.
        number: its own.
    """
    if number < len(search.first):
        name, settings = list(search.first.items())[number]
        return Trial(number, settings, name)
    first = search.generation(number)[0]
    known = [trial if trial.number < first else replace(trial, state="running") for trial in past[:number]]
    for attempt in range(ATTEMPTS):
        settings = search.base | _proposed(search, known, number, attempt)
        if settings not in [trial.settings for trial in known]:
            break
    return Trial(number, settings)


def _proposed(search: Search, known: Sequence[Trial], number: int, attempt: int) -> dict[str, Any]:
    """What Optuna's tree-structured Parzen estimator proposes, knowing these trials as they are here."""
    from optuna import create_study
    from optuna.samplers import TPESampler

    seed = int(np.random.SeedSequence([search.seed, number, attempt]).generate_state(1)[0])
    axes = _axes(search)
    with _quiet():
        study = create_study(direction="maximize", sampler=TPESampler(seed=seed, n_startup_trials=STARTUP))
        study.add_trials(
            [frozen for trial in known if (frozen := _as_the_sampler_sees(search, trial)) is not None]
        )
        asked = study.ask(axes).params
    named = {coordinate_name(name, dimension): (name, dimension) for name, dimension in search.space.items()}
    return {name: value_at(dimension, asked[axis]) for axis, (name, dimension) in named.items()}


def _as_the_sampler_sees(search: Search, trial: Trial) -> "optuna.trial.FrozenTrial | None":
    """A failed trial is worse than any other; one that lies outside of the space is no use."""
    from optuna.trial import TrialState, create_trial

    params, axes = coordinates(search.algorithm, search.space, trial.settings), _axes(search)
    if len(params) < len(axes):
        return None
    match trial.state:
        case "running":
            return create_trial(state=TrialState.RUNNING, params=params, distributions=axes)
        case "done":
            return create_trial(value=trial.value, params=params, distributions=axes)
        case "pruned" if trial.value is not None:
            early = {search.half: trial.value}
            return create_trial(
                state=TrialState.PRUNED, params=params, distributions=axes, intermediate_values=early
            )
        case _:
            return create_trial(state=TrialState.PRUNED, params=params, distributions=axes)


def _axes(search: Search) -> "dict[str, BaseDistribution]":
    return {coordinate_name(name, d): _distribution(d) for name, d in search.space.items()}


def _distribution(dimension: Dimension) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution([as_text(value) for value in dimension.values])
    low, high = ends(dimension)
    log_scale = dimension.scale in ("log", "log of 1 - x")
    if dimension.whole or dimension.scale == "powers of 2":
        return IntDistribution(int(low), int(high), log=log_scale)
    return FloatDistribution(low, high, log=log_scale)


class Journal:
    """The trials of a search, kept in the file `study.jsonl` that Optuna and its tools read.

    Args:
        folder: of the search; the caller holds it, so that nobody else writes here.
        search: what the journal has to be of.

    Raises:
        CheckpointError: the file is damaged.
        ConfigError: it is the journal of another search, or Optuna is not installed.
        DiskError: the disk refused.
    """

    def __init__(self, folder: Path, search: Search) -> None:
        require_optuna()
        self.path, self.search = folder / JOURNAL, search
        require_no_link(self.path)
        with _refusing(self.path):
            _mend(self.path)
            (folder / LOCK).unlink(missing_ok=True)  # left by a process that was killed while it wrote
        with _refusing(self.path, reading=True):
            self._study = self._opened()

    def _opened(self) -> "optuna.Study":
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        name, identity = self.search.title, "search"
        self._storage = JournalStorage(JournalFileBackend(str(self.path)))
        names = optuna.get_all_study_names(self._storage)
        if names:
            study = optuna.load_study(storage=self._storage, study_name=name if name in names else names[0])
        else:
            study = optuna.create_study(storage=self._storage, study_name=name, direction="maximize")
        found, own = study.user_attrs.get(identity), self.search.sha256()
        if names not in ([], [name]) or (found != own and (found is not None or study.trials)):
            raise ConfigError(
                f"{self.path} is the journal of another search ({', '.join(names)})",
                f"expected that of the search which tune.json beside it describes, {name}",
                "move it away: it is made again from the run folders, which the same command then goes on with",
            )
        if found is None:
            study.set_user_attr(identity, own)
        return study

    def trials(self) -> list[Trial]:
        """All trials, in the order of their numbers.

        Raises:
            CheckpointError: the file is damaged.
        """
        with _refusing(self.path, reading=True):
            return [
                Trial(
                    trial.number,
                    dict(trial.user_attrs["settings"]),
                    str(trial.user_attrs.get("name", "")),
                    STATE_OF[trial.state.name],
                    None if trial.value is None else float(trial.value),
                    str(trial.user_attrs.get("reason", "")),
                )
                for trial in self._study.trials
            ]

    def add(self, trial: Trial) -> None:
        """Write down a trial that is to be run, the next one.

        Raises:
            DiskError: the disk refused.
        """
        from optuna.trial import TrialState, create_trial

        params, axes = coordinates(self.search.algorithm, self.search.space, trial.settings), _axes(self.search)
        said = {"settings": dict(trial.settings), "folder": self.search.folder(trial.number)}
        with _refusing(self.path):
            self._study.add_trial(
                create_trial(
                    state=TrialState.RUNNING,
                    params=params,
                    distributions={name: axis for name, axis in axes.items() if name in params},
                    user_attrs=said | ({"name": trial.name} if trial.name else {}),
                )
            )

    def tell(self, trial: Trial) -> None:
        """Write down how a trial has ended.

        Raises:
            DiskError: the disk refused.
        """
        from optuna.trial import TrialState

        study = self._storage.get_study_id_from_name(self.search.title)
        with _refusing(self.path):
            own = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
            if trial.reason:
                self._storage.set_trial_user_attr(own, "reason", trial.reason)
            if trial.state == "done":
                self._study.tell(trial.number, trial.value)
            elif trial.state == "pruned" and trial.value is not None:
                self._storage.set_trial_intermediate_value(own, self.search.half, trial.value)
                self._study.tell(trial.number, state=TrialState.PRUNED)
            else:
                self._study.tell(trial.number, state=TrialState.FAIL)


def importances(search: Search, trials: Sequence[Trial]) -> dict[str, float]:
    """How much each hyperparameter had to do with being among the best trials, by PED-ANOVA; they sum to 1.

    Returns:
        Name -> share, the largest first; empty where too few trials have a value to say.
    """
    from optuna import create_study
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with _quiet():
        seen = [_as_the_sampler_sees(search, trial) for trial in trials if trial.state == "done"]
        whole = [trial for trial in seen if trial is not None]
        if len(whole) < FEWEST:
            return {}
        study = create_study(direction="maximize")
        study.add_trials(whole)
        # Of the best quarter and not, as usual, tenth: that would be one or two trials.
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.25))
    names = {coordinate_name(name, dimension): name for name, dimension in search.space.items()}
    return {names[axis]: float(share) for axis, share in found.items()}


def _mend(path: Path) -> None:
    """Take away half a line at the end, which a power cut leaves and to which the next line would be joined."""
    if not path.exists():
        return
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise CheckpointError(
            f"{path} has {size} bytes",
            f"expected at most {LARGEST_FILE} bytes",
            "move it away: it is made again from the run folders, which the same command then goes on with",
        )
    with path.open("r+b") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)
            os.fsync(file.fileno())
            log.warning("%s ended in half a line, which was taken away", path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Optuna says of its studies in memory and of what is new in it."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def _refusing(path: Path, *, reading: bool = False) -> Iterator[None]:
    """Say in softac's words what goes wrong with the journal."""
    try:
        yield
    except SoftacError:
        raise
    except OSError as error:
        raise DiskError(
            f"{path} cannot be written ({error.strerror})",
            "expected a folder with space of your own",
            "free some space; the same command goes on",
        ) from None
    except Exception as error:
        if not reading:
            raise
        raise CheckpointError(
            f"{path} is damaged ({described(error, 200)})",
            "expected the journal that softac tune wrote",
            "move it away: it is made again from the run folders, which the same command then goes on with",
        ) from None
