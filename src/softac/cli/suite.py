"""Many runs side by side, shown: `softac train --seeds`, `softac bench`, and `softac resume` on their folder."""

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from softac.cli.display import Overview
from softac.cli.output import say
from softac.experiments.execute import Execution, opened
from softac.experiments.jobs import Job
from softac.experiments.places import Where, opened_place
from softac.experiments.standing import Standing
from softac.experiments.suite import Group, Suite, reached
from softac.model import Model
from softac.run.config import RecordConfig
from softac.run.signals import StopSignals
from softac.words import duration


def run_suite(suite: Suite, models: Sequence[Model], path: Path, env: str | None, where: Where) -> int:
    """Begin or go on with each run that has not reached the total; returns the exit code.

    Args:
        suite: the runs.
        models: one for each group; see `softac.experiments.execute.opened`.
        path: the folder of them all.
        env: the one environment that the user has named, where files must not.
        where: the runs are executed.
    """
    with opened(suite, models, path, env, where) as work:
        if all(run.state == "done" for run in work.runs):
            # Not an error: `until softac resume RUNS; do sleep 5; done` has to come to an end.
            print(  # noqa: T201
                f"every run in {path} has made its {suite.total:,} steps; to go on, give more with -n, as in "
                f"-n {2 * suite.total}"
            )
            return 0
        title = f"{suite.title}, {suite.total:,} steps each, {work.limit} at a time"
        with (
            opened_place(where) as place,  # before the signals, which a library that it needs may take for itself
            StopSignals() as stop,
            Overview(title, str(path), suite.total, work.limit, work.runs) as overview,
        ):
            work.advance(place, stop=stop, draw=overview.draw, done=_picture)
    named = f" --env {env}" if env else ""
    return _summary(work, path, f"{shlex.quote(str(path))}{named}", stop.received)


def run_elsewhere(
    path: Path, total: int, record: RecordConfig, words: Sequence[str], memory: int, where: Where
) -> int:
    """Go on with one run on another machine; returns the exit code.

    Args:
        path: the run folder.
        total: environment steps.
        record: when it is evaluated.
        words: of `softac resume`, besides these two.
        memory: bytes that it may come to need.
        where: that is.
    """
    run = Standing(path.name, path)
    with (
        opened_place(where) as place,
        StopSignals() as stop,
        Overview(f"{path.name}, {total:,} steps", str(path), total, 1, [run]) as overview,
    ):

        def watch(running: Mapping[str, str], codes: Mapping[str, int]) -> None:
            run.look(running, codes, stopping=stop(), reached=lambda path: reached(path, total, record))
            overview.draw()

        job = Job(run.name, ["resume", str(path), "-n", str(total), *words], path, memory)
        place([job], 1, stop=stop, watch=watch)
    if stop.received is not None:
        say(f"stopped and saved; go on with: softac resume {shlex.quote(str(path))}")
        return 128 + stop.received
    say(f"run      {path}")
    return run.code or 0


def print_plan(suite: Suite, models: Sequence[Model], path: Path, env: str | None) -> int:
    """Write the folder of a suite and print those of the runs that are left to do, one a line, for a job array.

    The arguments are those of `run_suite`.
    """
    with opened(suite, models, path, env) as work:
        left = [run.folder for run in work.runs if run.state == "waiting"]
    print("".join(f"{folder}\n" for folder in left), end="")  # noqa: T201
    return 0


def _picture(run: Path) -> None:
    from softac.report.plots import draw_run  # half a second before the first step, if above

    draw_run(run)


def _summary(work: Execution, path: Path, named: str, stopped_by: int | None) -> int:
    suite, failed = work.suite, [run for run in work.runs if run.state == "failed"]
    words = [words for group in suite.groups if (words := _return(group, suite, work.runs))]
    drawable = bool(words)
    if failed:
        words.append(f"failed   {len(failed)} of {len(work.runs)} runs")
        words += [f"         {run.name}: exit code {run.code}: {run.said}" for run in failed]
    took = duration(time.monotonic() - work.began)
    words += [f"took     {took}, and the runs {duration(work.used)} together", f"runs     {path}"]
    if drawable:
        words.append(f"draw     softac plot {shlex.quote(str(path))}")
        words.append(f"page     softac report {shlex.quote(str(path))}")
    if stopped_by is not None:
        words.append(f"stopped and saved; go on with: softac resume {named}")
    elif failed:
        words.append(f"go on    softac resume {named}")
    else:
        words.append(f"go on    softac resume {named} -n {2 * suite.total}")
    say("\n".join(words))
    if stopped_by is not None:
        return 128 + stopped_by
    return failed[0].code or 0 if failed else 0


def _return(group: Group, suite: Suite, runs: Sequence[Standing]) -> str:
    """What the finished runs of a group have reached, in words; "" if there is nothing to say."""
    returns = [
        mean
        for run in runs
        if run.kind == group.title and run.state == "done" and run.progress.evaluated == suite.total
        if (mean := run.progress.value("eval/mean_reward")) is not None
    ]
    of = "" if len(suite.groups) == 1 else f"{group.title}: "
    return f"return   {of}{over_seeds(returns)} at step {suite.total:,}" if returns else ""


def over_seeds(returns: Sequence[float]) -> str:
    """Mean, 95 % t-interval of that mean, and standard deviation (n - 1) in words."""
    if len(returns) == 1:
        return f"{returns[0]:,.1f} of 1 seed"
    from softac.stats import t_interval  # not before the first step: it loads scipy.stats

    mean, n = t_interval(returns), len(returns)
    interval = f"95 % interval {mean.low:,.1f} to {mean.high:,.1f}"
    return f"{mean.value:,.1f} ({interval}), std {np.std(returns, ddof=1):,.1f} over {n} seeds"
