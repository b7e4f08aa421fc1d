"""Where each of several runs stands, read from its folder while other processes write there."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from pathlib import Path
from signal import SIGTERM
from statistics import fmean
from typing import Literal

from softac.experiments.jobs import last_line
from softac.run.progress import Progress

SHORT = "its process has ended before its steps were made"

State = Literal["waiting", "running", "stopping", "stopped", "done", "failed"]


@dataclass(eq=False)
class Standing:
    """One of several runs.

    Attributes:
        name: of the run among the others.
        folder: its run folder.
        kind: runs of one kind are taken to be equally fast.
        state: where it stands.
        code: the exit code of its process, once that has ended.
        said: what it printed last, if it failed.
        node: the machine it is or was on; "" for this one.
        progress: read from its folder.
    """

    name: str
    folder: Path
    kind: str = ""
    state: State = "waiting"
    code: int | None = None
    said: str = ""
    node: str = ""
    progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        self.progress = Progress(self.folder)

    def look(
        self,
        running: Mapping[str, str],
        codes: Mapping[str, int],
        *,
        stopping: bool,
        reached: Callable[[Path], bool],
    ) -> None:
        """Read on. One that has lost its machine waits again.

        Args:
            running: the names of the runs that go on, and where.
            codes: the exit codes of those that have ended.
            stopping: whether they have been asked to stop.
            reached: whether the run in a folder has made its steps; without them the exit code 0 is no success.
        """
        self.progress.read()
        if self.name in running:
            self.node = running[self.name]
            self.state = "stopping" if stopping else "running"
        elif self.name in codes and self.code is None:
            short = codes[self.name] == 0 and not reached(self.folder)
            self.code = 1 if short else codes[self.name]
            stopped = stopping and self.code == 128 + SIGTERM
            self.state = "done" if self.code == 0 else "stopped" if stopped else "failed"
            self.said = SHORT if short else last_line(self.folder) if self.state == "failed" else ""
        elif self.code is None and self.state in ("running", "stopping"):
            self.state = "waiting"


def time_left(runs: Sequence[Standing], until: int, limit: int) -> float | None:
    """Seconds until all have made `until` steps, `limit` at a time; None while no speed is known.

    Those that wait are taken to be as fast as others of their kind on average, else as all others.
    """
    speeds = {run.name: speed for run in runs if (speed := run.progress.value("time/fps"))}
    if not speeds:
        return None
    kinds: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        if run.name in speeds:
            kinds[run.kind].append(speeds[run.name])
    usual = fmean(speeds.values())
    seconds = {
        run.name: max(0, until - run.progress.steps)
        / (speeds.get(run.name) or (fmean(kinds[run.kind]) if run.kind in kinds else usual))
        for run in runs
    }
    ends = [seconds[run.name] for run in runs if run.state == "running"]
    ends += [0.0] * (limit - len(ends))
    heapify(ends)
    for run in runs:
        if run.state == "waiting":
            heapreplace(ends, ends[0] + seconds[run.name])  # the place that is free first
    return max(ends)
