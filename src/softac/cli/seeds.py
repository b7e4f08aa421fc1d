"""Several seeds side by side: `softac train --seeds`, and `softac resume` on the folder that it makes."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from softac.cli.arguments import in_ranges
from softac.cli.display import Overview, RunLine
from softac.errors import ConfigError
from softac.model import Model
from softac.replay.ring import available_memory, forecast
from softac.run.config import RecordConfig
from softac.run.folder import CONFIG, RunFolder
from softac.run.plan import SEEDS, Plan, seed_folder, write_plan
from softac.run.pool import Job, last_line, run_jobs, usable_cores
from softac.run.signals import StopSignals
from softac.run.training import rows_kept

PROCESS = 400e6  # bytes of a process that has imported PyTorch, besides the replay
LONGEST_NAME = 40  # characters of seeds in the name of a folder


def folder_word(seeds: Sequence[int]) -> str:
    """What stands for the seeds in the folder's name: seeds-0-9, or 50-seeds where that is long."""
    word = f"seeds-{in_ranges(seeds)}"
    return word if len(word) <= LONGEST_NAME else f"{len(seeds)}-seeds"


def train_seeds(model: Model, seeds: Sequence[int], total: int, record: RecordConfig, path: Path) -> int:
    """Train from the beginning with each seed; returns the exit code.

    Args:
        model: with any of the seeds; shows that the configuration works, and is closed.
        seeds: ascending.
        total: environment steps of each.
        record: when each is evaluated and saved.
        path: the folder of them all.
    """
    if (path / SEEDS).exists() or (path / CONFIG).exists():
        raise ConfigError(
            f"{path} holds runs already; expected a new folder; choose another, or go on with `softac resume`"
        )
    model.threads = 1
    return run_seeds(Plan(tuple(seeds), model.description(), record, total), model, path, model.source.name)


def run_seeds(plan: Plan, model: Model, path: Path, env: str | None) -> int:
    """Begin or go on with each seed that has not reached the total; returns the exit code.

    Args:
        plan: seeds and total.
        model: with any of the seeds; is closed.
        path: the folder of them all.
        env: the environment as the user named it, where the files must not.
    """
    model.close()
    with RunFolder(path):
        lines = {seed: RunLine(f"{seed}", seed_folder(path, seed)) for seed in plan.seeds}
        for line in lines.values():
            line.state = "done" if plan.reached(line.folder) else "waiting"
        if all(line.state == "done" for line in lines.values()):
            raise ConfigError(
                f"every seed in {path} has made its {plan.total} steps; expected a larger total to go on to; give "
                f"one with -n, for instance -n {2 * plan.total}"
            )
        write_plan(path, plan)
        limit = at_once(model, plan)
        title = f"{model.description()['algorithm']} on {model.source.name}, seeds {in_ranges(plan.seeds)}"
        title += f", {plan.total:,} steps each, {limit} at a time"
        jobs = [_job(line, plan.total, env) for line in lines.values() if line.state == "waiting"]
        with StopSignals() as stop, Overview(title, str(path), plan.total, limit, lines.values()) as overview:

            def watch(running: Collection[str], codes: Mapping[str, int]) -> None:
                for line in lines.values():
                    _look(line, running, codes, stopping=stop())
                overview.draw()

            run_jobs(jobs, limit, stop=stop, watch=watch)
    run = shlex.quote(str(path)) + (f" --env {model.source.name}" if ":" in model.source.name else "")
    return _summary(plan, list(lines.values()), path, run, stop.received)


def at_once(model: Model, plan: Plan) -> int:
    """How many runs side by side: one for each core, as far as their replays fit in memory; one on a GPU."""
    if model.agent.device.type == "cuda":
        return 1
    rows = min(rows_kept(model.agent, model.run.n_envs), plan.total)
    fitting = int(available_memory() // (PROCESS + forecast(rows, model.spaces.spec)))
    return max(1, min(len(plan.seeds), usable_cores(), fitting))


def _job(line: RunLine, total: int, env: str | None) -> Job:
    words = ["resume", str(line.folder), "-n", str(total), *(["--env", env] if env else [])]
    return Job(line.name, words, line.folder)


def _look(line: RunLine, running: Collection[str], codes: Mapping[str, int], *, stopping: bool) -> None:
    line.progress.read()
    if line.name in running:
        line.state = "stopping" if stopping else "running"
    elif line.name in codes and line.code is None:
        line.code = codes[line.name]
        stopped = stopping and line.code == 143
        line.state = "done" if line.code == 0 else "stopped" if stopped else "failed"
        line.said = last_line(line.folder) if line.state == "failed" else ""


def _summary(plan: Plan, lines: Sequence[RunLine], path: Path, run: str, stopped_by: int | None) -> int:
    failed = [line for line in lines if line.state == "failed"]
    words = []
    returns = [
        mean
        for line in lines
        if line.state == "done" and line.progress.evaluated == plan.total
        if (mean := line.progress.value("eval/mean_reward")) is not None
    ]
    if returns:
        words.append(f"return   {over_seeds(returns)} at step {plan.total:,}")
    if failed:
        words.append(f"failed   {len(failed)} of {len(lines)} seeds")
        words += [f"         seed {line.name}: exit code {line.code}: {line.said}" for line in failed]
    words.append(f"runs     {path}")
    if returns:
        words.append(f"draw     softac plot {shlex.quote(str(path))}")
    if stopped_by is not None:
        words.append(f"stopped and saved; go on with: softac resume {run}")
    elif failed:
        words.append(f"go on    softac resume {run}")
    else:
        words.append(f"go on    softac resume {run} -n {2 * plan.total}")
    print("\n".join(words))  # noqa: T201
    if stopped_by is not None:
        return 128 + stopped_by
    return failed[0].code or 0 if failed else 0


def over_seeds(returns: Sequence[float]) -> str:
    """Mean, 95 % t-interval of that mean, and standard deviation (n - 1) in words."""
    if len(returns) == 1:
        return f"{returns[0]:,.1f} of 1 seed"
    from softac.stats import t_interval  # not before the first step: it loads scipy.stats

    mean, n = t_interval(returns), len(returns)
    interval = f"95 % interval {mean.low:,.1f} to {mean.high:,.1f}"
    return f"{mean.value:,.1f} ({interval}), std {np.std(returns, ddof=1):,.1f} over {n} seeds"
