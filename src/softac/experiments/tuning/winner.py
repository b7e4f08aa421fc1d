"""What comes of a search: its best trials again with fresh seeds, the winner as a preset, all as plain data."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from softac import stats
from softac.errors import ConfigError, DiskError, one_line
from softac.experiments.sealed import read_sealed
from softac.experiments.tuning.advance import Execute, outcomes
from softac.experiments.tuning.search import BEST, CONFIRM, TUNE, Search
from softac.experiments.tuning.trials import STATES, Trial, best
from softac.files import replace_bytes, replace_text, sealed_json
from softac.seeds import in_ranges
from softac.words import number

TRIALS = "trials.json"
FORMAT = "softac-trials-1"
MOST_CONFIRMED = 3


@dataclass(frozen=True)
class Confirmed:
    """A trial with fresh seeds.

    Attributes:
        trial: with the value that it had in the search.
        values: seed -> the same measure with a fresh seed.
        reason: why one of these runs failed; then it cannot win.
    """

    trial: Trial
    values: Mapping[int, float]
    reason: str = ""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values.values())

    def in_words(self) -> str:
        """The mean with its 95 % interval by Student's t."""
        if len(self.values) < 2:
            return f"{self.mean:,.1f} of 1 seed"
        interval = stats.t_interval(list(self.values.values()))
        low, high = (number(float(end), 1) for end in (interval.low, interval.high))
        return f"{number(self.mean, 1)} (95 % interval {low} to {high})"


def confirm(
    search: Search, folder: Path, trials: Sequence[Trial], execute: Execute, *, trusted: bool
) -> list[Confirmed] | None:
    """Run the three best trials and the first one, to compare with, again with fresh seeds.

    Args:
        search: they belong to it.
        folder: of the search.
        trials: all of them.
        execute: as in `softac.experiments.tuning.advance.advance`.
        trusted: see there.

    Returns:
        What they come to, the best first; None if it was stopped.

    Raises:
        ConfigError: each of them failed with one of the fresh seeds.
    """
    chosen = best(trials, MOST_CONFIRMED)
    if trials[0].state == "done" and trials[0] not in chosen:
        chosen.append(trials[0])
    what, path = f"the best of {len(trials)} trials with fresh seeds", folder / CONFIRM
    found = outcomes(search, chosen, search.fresh, search.total, path, what, execute, trusted=trusted)
    if found is None:
        return None
    again = [Confirmed(t, found[t.number].values, found[t.number].reason) for t in chosen]
    if all(one.reason for one in again):
        raise ConfigError(
            f"the best trials of {search.title} failed with fresh seeds, trial {again[0].trial.number} with "
            f"{again[0].reason}",
            "expected one at least that makes its steps with each of them",
            f"see what its runs have printed in {folder / CONFIRM}, mend it, and give the command again",
        )
    return sorted(again, key=lambda one: (bool(one.reason), -one.mean if not one.reason else 0.0))


def against_the_first(again: Sequence[Confirmed]) -> str:
    """The winner less the first trial in words, seed by seed; "" where they are one, or nothing can be said."""
    winner, first = again[0], next((one for one in again if one.trial.number == 0), None)
    if first is None or winner is first or first.reason or len(winner.values) < 2:
        return ""
    found = stats.paired_comparison(winner.values, first.values, rng=np.random.default_rng(0)).mean_difference
    more, low, high = (number(float(end), 1) for end in (found.value, found.low, found.high))
    return f"{'+' if found.value > 0 else ''}{more} against the {first.trial.name} (95 % interval {low} to {high})"


def write_best(search: Search, folder: Path, winner: Confirmed) -> Path:
    """Write the winner as a file that `--preset` takes.

    Raises:
        DiskError: the disk refused.
    """
    source = (
        f"{winner.trial.title} of {search.trials}, {search.total:,} steps each: {winner.in_words()} "
        f"on the fresh seeds {in_ranges(search.fresh)}"
    )
    said = {"environments": [search.env], "source": source} | dict(winner.trial.settings)
    lines = [f"[[{search.algorithm}]]", *(f"{name} = {_as_toml(value)}" for name, value in said.items())]
    try:
        replace_text(folder / BEST, "\n".join([f"# Found by: {one_line(search.command, 1_000)}", *lines]) + "\n")
    except OSError as error:
        raise _full(folder, error) from None
    return folder / BEST


def _as_toml(value: Any) -> str:
    # JSON of texts, numbers, truth values and lists of them is TOML, except for what it escapes.
    return json.dumps(value, ensure_ascii=False)


def write_trials(search: Search, folder: Path, trials: Sequence[Trial], importances: Mapping[str, float]) -> None:
    """Write all trials as plain data, for the report and for others.

    Raises:
        DiskError: the disk refused.
    """
    said = [asdict(trial) for trial in trials]
    try:
        replace_bytes(
            folder / TRIALS,
            sealed_json(
                {"format": FORMAT, "search": search.title, "importances": dict(importances), "trials": said}
            ),
        )
    except OSError as error:
        raise _full(folder, error) from None


def read_trials(folder: Path) -> tuple[list[Trial], dict[str, float]]:
    """The trials and importances that `write_trials` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or of another format.
    """
    again = f"give the command in {TUNE} again, which writes it"
    return read_sealed(folder / TRIALS, FORMAT, _trials, remedy=again)


def _trials(said: Mapping[str, Any]) -> tuple[list[Trial], dict[str, float]]:
    trials = [_trial(entry) for entry in said["trials"]]
    return trials, {str(name): float(share) for name, share in said["importances"].items()}


def _trial(entry: Mapping[str, Any]) -> Trial:
    state, value = entry["state"], entry["value"]
    worth = isinstance(value, float) and math.isfinite(value)
    if state not in STATES or (state in ("done", "pruned")) != worth:
        raise ValueError(f"a trial that is {state!r} with the value {value!r}")
    return Trial(
        int(entry["number"]), dict(entry["settings"]), str(entry["name"]), state, value, str(entry["reason"])
    )


def _full(folder: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{folder} cannot be written ({error.strerror})",
        "expected a folder with space of your own",
        "free some space; the same command goes on",
    )
