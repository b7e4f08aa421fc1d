"""Many runs side by side: `softac train --seeds`, `softac bench`, and `softac resume` on their folder."""

import shlex
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from softac.cli.display import Overview, RunLine
from softac.cli.together import in_cohort, train_together
from softac.errors import ConfigError, either
from softac.experiments.pool import GRACE, POLL, Job, last_line, run_jobs, usable_cores
from softac.experiments.suite import Group, Member, Suite, write_suite
from softac.model import Model
from softac.replay.ring import available_memory, forecast
from softac.run.folder import RunFolder, in_use
from softac.run.signals import StopSignals
from softac.run.training import rows_kept
from softac.words import duration

PROCESS = 400e6  # bytes of a process that has imported PyTorch, besides the replay


def run_suite(suite: Suite, models: Sequence[Model], path: Path, env: str | None) -> int:
    """Begin or go on with each run that has not reached the total; returns the exit code.

    Args:
        suite: the runs.
        models: one for each group, with any of its seeds; they show that its configuration works,
            and are closed.
        path: the folder of them all.
        env: the one environment that the user has named, where files must not.
    """
    for model in models:
        model.close()
    envs = list(dict.fromkeys(group.env for group in suite.groups))
    if env is not None and env not in envs:
        raise ConfigError(
            f"--env {env} was given for runs on {either(envs)}",
            "expected one of these",
            "correct it",
        )
    with RunFolder(path):
        members = suite.members
        lines = [_line(member, path, several=len(suite.groups) > 1) for member in members]
        _wait_until_free(lines)
        for line in lines:
            line.state = "done" if suite.reached(line.folder) else "waiting"
        if all(line.state == "done" for line in lines):
            raise ConfigError(
                f"every run in {path} has made its {suite.total} steps",
                "expected a larger total to go on to",
                f"give one with -n, for instance -n {2 * suite.total}",
            )
        write_suite(path, suite)
        placed = list(zip(members, lines, strict=True))
        together = [group for group, model in zip(suite.groups, models, strict=True) if in_cohort(model)]
        alone = [(member, line) for member, line in placed if member.group not in together]
        jobs = [_job(member.group, line, suite.total, env) for member, line in alone if line.state == "waiting"]
        at_a_time = at_once(models, suite)
        limit = max([at_a_time, *(len(group.seeds) for group in together)])
        title = f"{suite.title}, {suite.total:,} steps each, {limit} at a time"
        clock = _Clock()
        with StopSignals() as stop, Overview(title, str(path), suite.total, limit, lines) as overview:

            def watch(running: Collection[str], codes: Mapping[str, int]) -> None:
                clock.look(running)
                for line in lines:
                    _look(line, running, codes, stopping=stop())
                overview.draw()

            for group in together:
                if not stop():
                    own = [line for member, line in placed if member.group == group]
                    train_together(suite, own, env if env == group.env else None, stop=stop, watch=watch)
            run_jobs(jobs, at_a_time, stop=stop, watch=watch)
    named = f" --env {env}" if env else ""
    return _summary(suite, lines, path, clock, f"{shlex.quote(str(path))}{named}", stop.received)


def at_once(models: Sequence[Model], suite: Suite) -> int:
    """How many runs side by side: a process for each core, as far as their replays fit in memory; one on a GPU."""
    if any(model.agent.device.type == "cuda" for model in models):
        return 1
    rows = [(min(rows_kept(model.agent, model.run.n_envs), suite.total), model.spaces.spec) for model in models]
    largest = PROCESS + max(forecast(n, spec) for n, spec in rows)
    return max(1, min(len(suite.members), usable_cores(), int(available_memory() // largest)))


class _Clock:
    """Seconds since the beginning, and those of all runs together."""

    def __init__(self) -> None:
        self.began = self._looked = time.monotonic()
        self.used = 0.0

    def look(self, running: Collection[str]) -> None:
        now = time.monotonic()
        self.used += len(running) * (now - self._looked)
        self._looked = now

    def __str__(self) -> str:
        return f"{duration(self._looked - self.began)}, and the runs {duration(self.used)} together"


def _line(member: Member, path: Path, *, several: bool) -> RunLine:
    name = f"{member.group.title}, seed {member.seed}" if several else f"seed {member.seed}"
    return RunLine(name, path / member.folder, member.group.title)


def _wait_until_free(lines: Sequence[RunLine]) -> None:
    """What a killed command had begun is saving and stopping for as long as `GRACE`."""
    until = time.monotonic() + GRACE + POLL
    while any(in_use(line.folder) for line in lines) and time.monotonic() < until:
        time.sleep(POLL)


def _job(group: Group, line: RunLine, total: int, env: str | None) -> Job:
    named = ["--env", group.env] if env == group.env else []
    return Job(line.name, ["resume", str(line.folder), "-n", str(total), *named], line.folder)


def _look(line: RunLine, running: Collection[str], codes: Mapping[str, int], *, stopping: bool) -> None:
    line.progress.read()
    if line.name in running:
        line.state = "stopping" if stopping else "running"
    elif line.name in codes and line.code is None:
        line.code = codes[line.name]
        stopped = stopping and line.code == 143
        line.state = "done" if line.code == 0 else "stopped" if stopped else "failed"
        line.said = last_line(line.folder) if line.state == "failed" else ""


def _summary(
    suite: Suite, lines: Sequence[RunLine], path: Path, clock: _Clock, run: str, stopped_by: int | None
) -> int:
    failed = [line for line in lines if line.state == "failed"]
    words = [words for group in suite.groups if (words := _return(group, suite, lines))]
    drawable = bool(words)
    if failed:
        words.append(f"failed   {len(failed)} of {len(lines)} runs")
        words += [f"         {line.name}: exit code {line.code}: {line.said}" for line in failed]
    words += [f"took     {clock}", f"runs     {path}"]
    if drawable:
        words.append(f"draw     softac plot {shlex.quote(str(path))}")
        words.append(f"page     softac report {shlex.quote(str(path))}")
    if stopped_by is not None:
        words.append(f"stopped and saved; go on with: softac resume {run}")
    elif failed:
        words.append(f"go on    softac resume {run}")
    else:
        words.append(f"go on    softac resume {run} -n {2 * suite.total}")
    print("\n".join(words))  # noqa: T201
    if stopped_by is not None:
        return 128 + stopped_by
    return failed[0].code or 0 if failed else 0


def _return(group: Group, suite: Suite, lines: Sequence[RunLine]) -> str:
    """What the finished runs of a group have reached, in words; "" if there is nothing to say."""
    returns = [
        mean
        for line in lines
        if line.kind == group.title and line.state == "done" and line.progress.evaluated == suite.total
        if (mean := line.progress.value("eval/mean_reward")) is not None
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
