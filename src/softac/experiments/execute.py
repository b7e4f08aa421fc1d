"""The runs of a suite, begun or gone on with, as many at a time as there is room for."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from softac.errors import ConfigError, either
from softac.experiments.command import GRACE
from softac.experiments.jobs import Job, Place, Stop
from softac.experiments.places import HERE, Where
from softac.experiments.pool import POLL, usable_cores
from softac.experiments.standing import Standing
from softac.experiments.suite import Group, Member, Suite, write_suite
from softac.experiments.together import in_cohort, train_together
from softac.model import Model
from softac.replay.ring import available_memory, forecast
from softac.run.folder import RunFolder, in_use
from softac.run.training import rows_kept

PROCESS = 400e6  # bytes of a process that has imported PyTorch, besides the replay


@dataclass
class Execution:
    """What is left to do of a suite.

    Attributes:
        suite: the runs.
        runs: where each stands, in the order of the suite's members.
        env: the one environment that the user has named, where files must not.
        together: the groups whose seeds are trained in this process, as one.
        at_a_time: the most processes side by side, for the others.
        needs: bytes of memory that each run of a group may come to need, by the prefix of the group.
        began: when, in seconds of the monotonic clock.
        used: seconds that all runs have taken together.
    """

    suite: Suite
    runs: Sequence[Standing]
    env: str | None
    together: Sequence[Group]
    at_a_time: int
    needs: Mapping[str, int]
    began: float = field(default_factory=time.monotonic)
    used: float = 0.0

    @property
    def limit(self) -> int:
        """The most runs that advance at a time."""
        return max([self.at_a_time, *(len(group.seeds) for group in self.together)])

    def advance(self, place: Place, *, stop: Stop, draw: Callable[[], None], done: Callable[[Path], None]) -> None:
        """Go on with every run that waits, until it ends or is stopped.

        Args:
            place: executes the runs that are not trained together, each as a command.
            stop: True asks the runs to save and stop.
            draw: called whenever `runs` have been looked at.
            done: called with the folder of each run that has ended in this process.
        """
        looked = self.began

        def watch(running: Mapping[str, str], codes: Mapping[str, int]) -> None:
            nonlocal looked
            now = time.monotonic()
            self.used, looked = self.used + len(running) * (now - looked), now
            for run in self.runs:
                run.look(running, codes, stopping=stop(), reached=self.suite.reached)
            draw()

        placed = list(zip(self.suite.members, self.runs, strict=True))
        for group in self.together:
            if not stop():
                own = [run for member, run in placed if member.group == group]
                train_together(self.suite, own, self._named(group), stop=stop, watch=watch, done=done)
        alone = [(member.group, run) for member, run in placed if member.group not in self.together]
        jobs = [self._job(group, run) for group, run in alone if run.state == "waiting"]
        place(jobs, self.at_a_time, stop=stop, watch=watch)

    def _named(self, group: Group) -> str | None:
        return self.env if self.env == group.env else None

    def _job(self, group: Group, run: Standing) -> Job:
        named = ["--env", group.env] if self._named(group) else []
        words = ["resume", str(run.folder), "-n", str(self.suite.total), *named]
        return Job(run.name, words, run.folder, self.needs[group.prefix])


@contextmanager
def opened(
    suite: Suite, models: Sequence[Model], path: Path, env: str | None, where: Where = HERE
) -> Iterator[Execution]:
    """Hold the folder of a suite, whose runs are written into it, and say what is left to do.

    Args:
        suite: the runs.
        models: one for each group, with any of its seeds; they show that its configuration works,
            and are closed.
        path: the folder of them all.
        env: the one environment that the user has named, where files must not.
        where: the runs are to be executed.

    Raises:
        ConfigError: `env` is none of the suite's, or another process is at work here.
        DiskError: the disk refused.
    """
    for model in models:
        model.close()
    require_named(env, [group.env for group in suite.groups])
    with RunFolder(path):
        runs = [_standing(member, path, several=len(suite.groups) > 1) for member in suite.members]
        _wait_until_free(runs)
        for run in runs:
            run.state = "done" if suite.reached(run.folder) else "waiting"
        write_suite(path, suite)
        by_group = list(zip(suite.groups, models, strict=True))
        together = [group for group, model in by_group if where.here and in_cohort(model)]
        most = at_once(models, suite) if where.here else len(suite.members)
        needs = {group.prefix: memory_of(model, suite.total) for group, model in by_group}
        yield Execution(suite, runs, env, together, most, needs)


def require_named(env: str | None, envs: Sequence[str]) -> None:
    """Refuse an environment that the user has named, if the runs are on others.

    Raises:
        ConfigError: `env` is none of `envs`.
    """
    if env is not None and env not in envs:
        raise ConfigError(
            f"--env {env or repr(env)} was given for runs on {either(dict.fromkeys(envs))}",
            "expected one of these",
            "correct it",
        )


def at_once(models: Sequence[Model], suite: Suite) -> int:
    """How many runs side by side: a process for each core, as far as their replays fit in memory; one on a GPU."""
    if any(model.agent.device.type == "cuda" for model in models):
        return 1
    largest = max(memory_of(model, suite.total) for model in models)
    return max(1, min(len(suite.members), usable_cores(), available_memory() // largest))


def memory_of(model: Model, total: int) -> int:
    """Bytes that a process may come to need which trains `model` for `total` steps."""
    rows = min(rows_kept(model.agent, model.run.n_envs), total)
    return int(PROCESS + forecast(rows, model.spaces.spec))


def _standing(member: Member, path: Path, *, several: bool) -> Standing:
    name = f"{member.group.title}, seed {member.seed}" if several else f"seed {member.seed}"
    return Standing(name, path / member.folder, member.group.title)


def _wait_until_free(runs: Sequence[Standing]) -> None:
    """What a killed command had begun is saving and stopping for as long as `GRACE`."""
    until = time.monotonic() + GRACE + POLL
    while any(in_use(run.folder) for run in runs) and time.monotonic() < until:
        time.sleep(POLL)
