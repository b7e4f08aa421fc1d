"""Runs into a tracker, from their files, in a process of its own: during them or afterwards, each row once."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softac.errors import CheckpointError
from softac.report.results import folders_of_runs
from softac.run.folder import CONFIG, read_config
from softac.run.metrics import LONGEST_LINE, METRICS, parse_row
from softac.ship.trackers import START, Place, Subject, Tracker, after, failures_of, open_tracker, plain

POLL = 2.0  # seconds

log = logging.getLogger("softac")


class Rows:
    """The rows of a `metrics.jsonl` as it grows, each once and in order.

    A run that goes on takes back the rows after its checkpoint and writes them again. They are the same, and
    are left out here.

    Args:
        folder: the run folder; need not exist yet.
        last: the last row that is known already.
    """

    def __init__(self, folder: Path, last: Place = START) -> None:
        self.path, self.last = folder / METRICS, last
        self._seen: tuple[int, int] | None = None

    def new(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """What has come since the last call; a line that is half written comes with the next."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            if (seen := (status.st_mtime_ns, status.st_size)) == self._seen:
                return
            self._seen, place = seen, START
            while line := file.readline(LONGEST_LINE):
                if len(line) < LONGEST_LINE and not line.endswith(b"\n"):
                    return
                if (row := parse_row(line)) is None:
                    continue
                place = after(place, row["step"])
                if place > self.last:
                    self.last = place
                    yield place, row


@dataclass
class Tracked:
    """A run on its way into a tracker.

    Attributes:
        folder: the run folder.
        name: that the tracker shows.
        rows: how many were sent.
    """

    folder: Path
    name: str
    rows: int = 0
    _tracker: Tracker | None = field(default=None, repr=False)
    _reader: Rows | None = field(default=None, repr=False)

    def send_new(self, tracker: str, project: str) -> None:
        """Send what is new; nothing before the run has begun.

        Raises:
            SoftacError: as `open_tracker`.
        """
        if self._tracker is None or self._reader is None:
            try:
                config = read_config(self.folder)
            except CheckpointError as error:
                if (self.folder / CONFIG).exists():
                    log.warning("%s", error)
                return
            subject = Subject.of(self.name, project, _identity(config))
            self._tracker = open_tracker(tracker, subject)
            self._reader = Rows(self.folder, self._tracker.sent)
        for place, row in self._reader.new():
            with failures_of(tracker):
                self._tracker.send(place, plain(row))
            self.rows += 1

    @property
    def finished(self) -> bool:
        """Whether nothing more will come unless somebody asks for more steps."""
        try:
            config = read_config(self.folder)
        except CheckpointError:
            return False
        total, record = config.get("total_timesteps", 0), config.get("record", {})
        last = START if self._reader is None else self._reader.last
        due = 1 + (isinstance(record, dict) and record.get("n_eval_episodes") != 0)
        return last >= Place(total, due)

    def close(self) -> None:
        """Finish with the tracker."""
        if self._tracker is not None:
            self._tracker.close()


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """What a run is, without what is only decided when it begins."""
    run = config.get("run")
    parts = {part: config.get(part) for part in ("algorithm", "env", "hyperparameters")}
    return parts | {"seed": run.get("seed") if isinstance(run, dict) else None}


def track(
    folders: Sequence[Path],
    tracker: str,
    project: str,
    *,
    follow: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> list[Tracked]:
    """Send what the runs in `folders` have measured, and go on while they do if asked to.

    Args:
        folders: run folders, folders of run folders, and those of suites.
        tracker: "wandb", "trackio" or "mlflow".
        project: of the tracker.
        follow: until every run is finished, or `stop` says so.
        stop: asked between two looks at the runs.

    Returns:
        The runs, with the number of rows that were sent of each.

    Raises:
        ConfigError: there is no such tracker, it is not installed or fails, or a folder holds no run.
    """
    runs = [Tracked(path, name) for name, path in folders_of_runs(folders).items()]
    try:
        _send(runs, tracker, project, follow=follow, stop=stop)
    except BaseException:
        for run in runs:
            with suppress(Exception):  # what is said is what came first
                run.close()
        raise
    for run in runs:
        with failures_of(tracker):
            run.close()
    return runs


def _send(runs: list[Tracked], tracker: str, project: str, *, follow: bool, stop: Callable[[], bool]) -> None:
    while True:
        for run in runs:
            run.send_new(tracker, project)
        if not follow or stop() or all(run.finished for run in runs):
            return
        until = time.monotonic() + POLL
        while time.monotonic() < until and not stop():
            time.sleep(0.1)
