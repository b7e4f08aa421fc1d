"""A search, shown while it advances: `softac tune`, and `softac resume` on its folder."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from softac.cli.arguments import as_pairs
from softac.cli.display import Overview
from softac.cli.output import say
from softac.config import as_text
from softac.experiments.execute import Execution, opened, require_named
from softac.experiments.jobs import Place
from softac.experiments.places import Where, opened_place
from softac.experiments.standing import Standing
from softac.experiments.suite import Suite
from softac.experiments.tuning.advance import advance
from softac.experiments.tuning.journal import Journal, importances
from softac.experiments.tuning.search import BEST, Search, write_search
from softac.experiments.tuning.trials import Trial, best
from softac.experiments.tuning.winner import Confirmed, against_the_first, confirm, write_best, write_trials
from softac.model import Model
from softac.run.folder import RunFolder
from softac.run.signals import StopSignals
from softac.seeds import in_ranges
from softac.words import number

TRIES = 3  # of a run whose process was killed


def run_search(search: Search, path: Path, env: str | None, where: Where) -> int:
    """Begin a search or go on with it until the winner is known; returns the exit code.

    Args:
        search: what is searched.
        path: its folder.
        env: the environment that the user has named, where files must not.
        where: the runs are executed.

    Raises:
        ConfigError: `env` is not that of the search.
    """
    require_named(env, [search.env])  # before any model is made, which imports the module that the file names
    with (
        RunFolder(path),
        opened_place(where) as place,  # before the signals, which a library that it needs may take for itself
        StopSignals() as stop,
    ):
        write_search(path, search)
        journal = Journal(path, search)

        def execute(suite: Suite, models: Sequence[Model], folder: Path) -> Sequence[Standing] | None:
            for _ in range(TRIES):
                with opened(suite, models, folder, env, where) as work:
                    runs = _advanced(work, suite, folder, place, stop)
                if stop() or not any(run.state == "failed" and (run.code or 0) > 128 for run in runs):
                    break
            return None if stop() else runs

        def told(trial: Trial) -> None:
            say(_line(search, trial))
            write_trials(search, path, journal.trials(), {})

        again = None
        if advance(search, path, journal, execute, told, trusted=env is not None):
            trials = journal.trials()
            write_trials(search, path, trials, importances(search, trials))
            again = confirm(search, path, trials, execute, trusted=env is not None)
    if again is None:
        named = f" --env {env}" if env else ""
        say(f"stopped and saved; go on with: softac resume {shlex.quote(str(path))}{named}")
        return 128 + (stop.received or 0)
    _summary(search, path, trials, again)
    return 0


def _advanced(work: Execution, suite: Suite, folder: Path, place: Place, stop: StopSignals) -> Sequence[Standing]:
    """Where the runs of a suite stand after each has ended or was stopped."""
    if any(run.state != "done" for run in work.runs):
        title = f"{suite.title}, {suite.total:,} steps each, {work.limit} at a time"
        with Overview(title, str(folder), suite.total, work.limit, work.runs) as overview:
            work.advance(place, stop=stop, draw=overview.draw, done=lambda _: None)
    return work.runs


def _line(search: Search, trial: Trial) -> str:
    match trial.state:
        case "failed":
            how = f"failed: {trial.reason}"
        case "pruned":
            how = f"{_value(trial)} at step {search.half:,}, stopped there"
        case _:
            how = _value(trial)
    return f"{trial.title} | {how} | {_searched(search, trial)}"


def _value(trial: Trial) -> str:
    return "-" if trial.value is None else number(trial.value, 1)


def _searched(search: Search, trial: Trial) -> str:
    """What the search varies, as it is in this trial; of the first ones what is not at its default."""
    names = [name for name in search.space if name in trial.settings] or list(trial.settings)
    return ", ".join(f"{name}={as_text(trial.settings[name])}" for name in names) or "as `softac defaults` has it"


def _summary(search: Search, path: Path, trials: Sequence[Trial], again: Sequence[Confirmed]) -> None:
    states = [trial.state for trial in trials]
    counts = [f"{states.count(state)} {state}" for state in ("done", "pruned", "failed") if state in states]
    words = [f"trials   {', '.join(counts)}; the best with the seeds of the search, {in_ranges(search.seeds)}:"]
    words += [f"         {_line(search, trial)}" for trial in best(trials, len(again))]
    words += [f"fresh    with the seeds {in_ranges(search.fresh)}, which no trial has seen:"]
    words += [
        f"         {one.trial.title}: {f'failed: {one.reason}' if one.reason else one.in_words()}" for one in again
    ]
    winner, more = again[0], against_the_first(again)
    file = write_best(search, path, winner)
    words += [f"winner   {winner.trial.title}{f': {more}' if more else ''}", f"preset   {file}"]
    quoted = [shlex.quote(str(place)) for place in (path / BEST, path)]
    pairs = "".join(f" {shlex.quote(pair)}" for pair in as_pairs(search.env_kwargs))
    kwargs = f" --env-kwargs{pairs}" if pairs else ""
    words += [f"train    softac train {search.algorithm} {shlex.quote(search.env)} --preset {quoted[0]}{kwargs}"]
    words += [
        f"page     softac report {quoted[1]}",
        f"go on    the same command with more --trials than {search.trials}",
    ]
    say("\n".join(words))
