"""A search as it advances: generations of trials, proposed together, each a suite of ordinary runs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

from softac.errors import (
    CheckpointError,
    ConfigError,
    DiskError,
    EnvironmentFailed,
    NumericalError,
    SoftacError,
)
from softac.experiments.command import OUTPUT
from softac.experiments.standing import Standing
from softac.experiments.suite import Suite
from softac.experiments.tuning.journal import Journal, proposal
from softac.experiments.tuning.search import Search, model_of, numbers, prefix, suite_of
from softac.experiments.tuning.trials import Trial, run_value
from softac.model import Model

KINDS = {
    kind.exit_code: kind for kind in (ConfigError, CheckpointError, EnvironmentFailed, DiskError, NumericalError)
}
FEWEST_TO_PRUNE = 5  # values to compare with

Execute = Callable[[Suite, Sequence[Model], Path], Sequence[Standing] | None]


@dataclass(frozen=True)
class Outcome:
    """What the runs of one trial have come to.

    Attributes:
        values: one for each seed that has one, in the order of the seeds.
        reason: why the first of the others failed; "" if none did.
        code: its exit code.
    """

    values: dict[int, float]
    reason: str = ""
    code: int = 0


def advance(
    search: Search,
    folder: Path,
    journal: Journal,
    execute: Execute,
    told: Callable[[Trial], None],
    *,
    trusted: bool,
) -> bool:
    """Go on with a search until each of its trials has ended.

    Args:
        search: what is searched.
        folder: of the search.
        journal: its trials so far.
        execute: runs a suite in a folder, with a model for each group, and says where each run stands in the order
            of the suite's members; None if it was stopped.
        told: called with each trial that has ended, in the order of their numbers.
        trusted: the environment may be `module:Env-v0`, since the user has named it.

    Returns:
        Whether all have ended; False if it was stopped.

    Raises:
        SoftacError: no trial works; the error is that of the first.
    """
    for first in range(0, search.trials, search.parallel):
        trials = _generation(search, journal, first)
        if all(trial.state != "running" for trial in trials):
            continue
        ended = _run(search, folder, trials, journal.trials(), execute, trusted=trusted)
        if ended is None:
            return False
        for trial in ended:
            if trials[trial.number - first].state == "running":
                journal.tell(trial)
                told(trial)
    return True


def _generation(search: Search, journal: Journal, first: int) -> list[Trial]:
    """The trials of a generation, which are proposed as far as they have not been."""
    past = journal.trials()
    for number in range(len(past), min(first + search.parallel, search.trials)):
        trial = proposal(search, past, number)
        journal.add(trial)
        past.append(trial)
    return past[first : first + search.parallel]


def _run(
    search: Search,
    folder: Path,
    trials: Sequence[Trial],
    all_trials: Sequence[Trial],
    execute: Execute,
    *,
    trusted: bool,
) -> list[Trial] | None:
    """How each trial of a generation has ended; None if it was stopped."""
    path, what, left, ended = folder / search.folder(trials[0].number), numbers(trials), list(trials), {}
    if search.prune:
        early = outcomes(search, trials, search.seeds, search.half, path, what, execute, trusted=trusted)
        if early is None:
            return None
        limit = _limit(search, folder, all_trials, trials[0].number)
        for trial in trials:
            found = early[trial.number]
            if (
                trial.state == "running"
                and not trial.name
                and not found.reason
                and fmean(found.values.values()) < limit
            ):
                ended[trial.number] = replace(trial, state="pruned", value=fmean(found.values.values()))
        left = [trial for trial in trials if trial.number not in ended and trial.state != "pruned"]
    late = outcomes(search, left, search.seeds, search.total, path, what, execute, trusted=trusted) if left else {}
    if late is None:
        return None
    _require_space(late, path)
    _require_one_that_works(search, all_trials, late, path)
    for trial in left:
        found = late[trial.number]
        if trial.state != "running":
            ended[trial.number] = trial
        elif found.reason:
            ended[trial.number] = replace(trial, state="failed", reason=found.reason)
        else:
            ended[trial.number] = replace(trial, state="done", value=fmean(found.values.values()))
    return [ended.get(trial.number, trial) for trial in trials]


def outcomes(
    search: Search,
    trials: Sequence[Trial],
    seeds: Sequence[int],
    until: int,
    path: Path,
    what: str,
    execute: Execute,
    *,
    trusted: bool,
) -> dict[int, Outcome] | None:
    """Run some trials up to a step, as one suite.

    Args:
        search: they belong to it.
        trials: at least one; those that cannot be made have failed.
        seeds: a run for each, of each trial.
        until: environment steps.
        path: the folder of the suite.
        what: the trials are, in words.
        execute: as in `advance`.
        trusted: as in `advance`.

    Returns:
        Number of the trial -> outcome; None if it was stopped.
    """
    works, models, found = _made(search, trials, seeds[0], trusted=trusted)
    if not works:
        return found
    suite = replace(suite_of(search, works, models, seeds, what), total=until)
    runs = execute(suite, models, path)
    if runs is None:
        return None
    placed = list(zip(suite.members, runs, strict=True))
    for trial, group in zip(works, suite.groups, strict=True):
        own = {member.seed: run for member, run in placed if member.group == group}
        found[trial.number] = _outcome(own, until)
    return found


def _made(
    search: Search, trials: Sequence[Trial], seed: int, *, trusted: bool
) -> tuple[list[Trial], list[Model], dict[int, Outcome]]:
    """The trials whose models can be made, these, and why the others cannot."""
    works: list[Trial] = []
    models: list[Model] = []
    refused: dict[int, Outcome] = {}
    for trial in trials:
        try:
            models.append(model_of(search, trial.settings, seed, trusted=trusted))
            works.append(trial)
        except SoftacError as error:
            refused[trial.number] = Outcome({}, str(error), error.exit_code)
    return works, models, refused


def _outcome(runs: dict[int, Standing], until: int) -> Outcome:
    values: dict[int, float] = {}
    reasons: list[tuple[str, int]] = []
    for seed, run in runs.items():
        value = run_value(run.folder, until)
        if run.state == "failed":
            reasons.append((f"seed {seed}: {run.said.removeprefix('softac: ')}", run.code or 1))
        elif value is None:
            lost = f"seed {seed}: one of its last evaluations is missing, or no finite number"
            reasons.append((lost, NumericalError.exit_code))
        else:
            values[seed] = value
    return Outcome(values, *(reasons[0] if reasons else ()))


def _limit(search: Search, folder: Path, trials: Sequence[Trial], first: int) -> float:
    """The median, over the trials of earlier generations, of what they were worth at half of their steps."""
    early = []
    for trial in trials[:first]:
        path = folder / search.folder(trial.number)
        values = [run_value(path / f"{prefix(trial)}{seed}", search.half) for seed in search.seeds]
        early += [fmean(value for value in values if value is not None)] if None not in values else []
    return median(early) if len(early) >= FEWEST_TO_PRUNE else -math.inf


def _require_space(now: dict[int, Outcome], path: Path) -> None:
    """A full disk is no fault of the settings."""
    if full := next((found for found in now.values() if found.code == DiskError.exit_code), None):
        raise DiskError(
            f"the runs in {path} could not be written ({full.reason})",
            "expected a disk that takes them",
            "free some space; the same command goes on",
        )


def _require_one_that_works(search: Search, told: Sequence[Trial], now: dict[int, Outcome], path: Path) -> None:
    """End a search in which nothing works: the reason of the first trial is probably that of all."""
    if any(trial.state == "done" for trial in told) or any(not found.reason for found in now.values()):
        return
    number, first = min(now.items())
    tried = len(now) + sum(trial.state == "failed" for trial in told)
    raise KINDS.get(first.code, SoftacError)(
        f"{search.title}: {'the only trial' if tried == 1 else f'all {tried} trials'} failed, trial {number} with "
        f"{first.reason}",
        f"expected one at least that makes its {search.total:,} steps",
        f"see what its runs have printed ({path}/*/{OUTPUT}), mend it, and give the command again",
    )
