"""Trackers of other people: wandb, trackio and mlflow behind three members, each row sent once.

A tracker remembers what it got; nothing is written down beside it. Where it can be asked, it is asked
(mlflow, wandb online). Where it leaves out what it has already, everything is offered again (trackio). Where
it can do neither, the file is made anew and takes the place of the old one (wandb offline).
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from softac.errors import ConfigError, SoftacError, either
from softac.files import remove
from softac.run.metrics import as_number
from softac.words import described

PROJECT, SQLITE = "softac", "sqlite:///"
STEPS = "time/total_timesteps"
NUMBER = "softac/row"  # of a row among those of its step; with the step it says what a tracker has


class Place(NamedTuple):
    """Where a row stands: its environment step, and its number among the rows of that step, from 1."""

    step: int
    number: int


START = Place(-1, 0)


@dataclass(frozen=True)
class Subject:
    """The run that is tracked.

    Attributes:
        name: that the tracker shows.
        id: that it is found again by.
        project: it belongs to.
        config: plain data: algorithm, environment, hyperparameters, run.
    """

    name: str
    id: str
    project: str = PROJECT
    config: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, name: str, project: str, config: Mapping[str, Any]) -> "Subject":
        """The run of this name and configuration; both make its id."""
        text = json.dumps([name, config], sort_keys=True)
        return cls(name, hashlib.sha256(text.encode()).hexdigest()[:16], project, config)


class Tracker(Protocol):
    """Where the rows of one run go.

    Attributes:
        sent: the last row it is known to have; `START` if there is none, or if it leaves out twice-sent rows.
    """

    sent: Place

    def send(self, place: Place, row: Mapping[str, float]) -> None:
        """Take one row, whole or not at all."""
        ...

    def close(self) -> None:
        """Finish what was begun."""
        ...


class Wandb:
    """Weights & Biases. Offline (`WANDB_MODE=offline`) one folder `wandb/offline-run-*-ID`, to `wandb sync`.

    A run that goes on offline gets a second folder there, and syncing both loses rows. So offline the folder is
    made from the first row each time, and what earlier processes made of the same run is removed once it is whole.
    """

    def __init__(self, subject: Subject) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb: Any = _module("wandb")
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
        )
        self._run = wandb.init(
            project=subject.project,
            id=subject.id,
            name=subject.name,
            config=dict(subject.config or {}),
            resume=None if _is_offline(wandb) else "allow",
            reinit="create_new",
            settings=settings,
        )
        self._run.define_metric("*", step_metric=STEPS)
        self._offline = bool(self._run.offline)
        known = {} if self._offline else self._run.summary
        self.sent = Place(int(known.get(STEPS, -1)), int(known.get(NUMBER, 0)))

    def send(self, place: Place, row: Mapping[str, float]) -> None:
        """Log one row; its place goes with it."""
        self._run.log({**row, STEPS: place.step, NUMBER: place.number})

    def close(self) -> None:
        """Finish the run; offline it now takes the place of what was made before."""
        folder = Path(self._run.dir).parent
        self._run.finish()
        if self._offline:
            for old in folder.parent.glob(f"offline-run-*-{self._run.id}"):
                if old.name != folder.name:
                    remove(old)


class Trackio:
    """trackio, in its local database (`TRACKIO_DIR`). Every row has an id, and one that is there is left out."""

    sent = START

    def __init__(self, subject: Subject) -> None:
        self._store: Any = _module("trackio.sqlite_storage").SQLiteStorage
        self._subject, self._config = subject, dict(subject.config or {})

    def send(self, place: Place, row: Mapping[str, float]) -> None:
        """Write one row, in one transaction."""
        subject = self._subject
        self._store.bulk_log(
            project=subject.project,
            run=subject.name,
            run_id=subject.id,
            metrics_list=[dict(row)],
            steps=[place.step],
            log_ids=[f"{subject.id}:{place.step}:{place.number}"],
            config=self._config,
        )
        self._config = {}

    def close(self) -> None:
        """Nothing is left to do: each row is in the database."""


class Mlflow:
    """MLflow, where `MLFLOW_TRACKING_URI` says, else `sqlite:///mlflow.db`."""

    def __init__(self, subject: Subject) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._entities: Any = _module("mlflow.entities")
        where = os.environ.get("MLFLOW_TRACKING_URI", SQLITE + "mlflow.db")
        opened: Callable[..., Any] = _module("mlflow.tracking").MlflowClient
        file = Path(where.removeprefix(SQLITE))
        if re.fullmatch(SQLITE + "[^?:]+", where) and not file.exists():  # a file, without options
            # MLflow cannot go on with a database that it was killed in making, so it appears as a whole.
            partial = file.with_name(f".tmp-{os.getpid()}-{file.name}")
            opened(tracking_uri=SQLITE + str(partial)).search_experiments()
            with suppress(FileExistsError):  # another has been as fast
                file.hardlink_to(partial)
            partial.unlink()
        self._client: Any = opened(tracking_uri=where)
        self._id = self._run_of(subject)
        history = self._client.get_metric_history(self._id, NUMBER)
        self.sent = max((Place(m.step, int(m.value)) for m in history), default=START)

    def _run_of(self, subject: Subject) -> str:
        client = self._client
        experiment = client.get_experiment_by_name(subject.project)
        where = experiment.experiment_id if experiment else client.create_experiment(subject.project)
        if found := client.search_runs([where], filter_string=f"tags.`softac.id` = '{subject.id}'"):
            return str(found[0].info.run_id)
        run = client.create_run(where, run_name=subject.name, tags={"softac.id": subject.id})
        for name, value in (subject.config or {}).items():
            client.log_param(run.info.run_id, name, json.dumps(value)[:500])
        return str(run.info.run_id)

    def send(self, place: Place, row: Mapping[str, float]) -> None:
        """Write one row, in one transaction with its place."""
        now = int(time.time() * 1000)
        whole = {**row, NUMBER: float(place.number)}
        metrics = [self._entities.Metric(name, value, now, place.step) for name, value in whole.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._id)


TRACKERS: dict[str, Callable[[Subject], Tracker]] = {"wandb": Wandb, "trackio": Trackio, "mlflow": Mlflow}


class TrackerSink:
    """A tracker as a `Sink`: `model.train(..., sinks=[TrackerSink("wandb", "my run")])`.

    Args:
        tracker: "wandb", "trackio" or "mlflow".
        name: of the run; the same name and configuration go on with the same run.
        project: it belongs to.
        config: plain data to show beside it.

    Raises:
        ConfigError: there is no such tracker, or it is not installed.
    """

    def __init__(
        self, tracker: str, name: str, project: str = PROJECT, config: Mapping[str, Any] | None = None
    ) -> None:
        self._tracker = open_tracker(tracker, Subject.of(name, project, dict(config or {})))
        self._last = START

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of environment step `step`."""
        self._last = after(self._last, step)
        if self._last > self._tracker.sent:
            self._tracker.send(self._last, plain(metrics))

    def close(self) -> None:
        """Finish the run."""
        self._tracker.close()


def open_tracker(name: str, subject: Subject) -> Tracker:
    """The tracker called `name`, ready for the rows of a run.

    Raises:
        ConfigError: there is no such tracker, it is not installed, or it cannot be used.
    """
    if name not in TRACKERS:
        raise ConfigError(
            f"unknown tracker {name!r}", f"expected {either(TRACKERS)}", "TensorBoard needs none: softac writes it"
        )
    with failures_of(name):
        return TRACKERS[name](subject)


@contextmanager
def failures_of(name: str) -> Iterator[None]:
    """What a tracker raises, in a sentence.

    Raises:
        ConfigError: it has raised something inside.
    """
    try:
        yield
    except SoftacError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{name} failed ({described(error)})",
            "expected a tracker that can be reached and takes what it is given",
            "correct what it says and give the command again: it sends what is missing",
        ) from error


def after(last: Place, step: int) -> Place:
    """The place of a row of `step` that follows the one at `last`."""
    return Place(step, last.number + 1 if step == last.step else 1)


def plain(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row that a tracker can draw, without its step."""
    return {name: value for name, cell in row.items() if name != "step" and (value := as_number(cell)) is not None}


def _is_offline(wandb: Any) -> bool:
    return os.environ.get("WANDB_MODE", wandb.Settings().mode) in ("offline", "dryrun")


def _module(name: str) -> Any:
    package = name.partition(".")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{package} is not installed ({error.name} is missing)",
            "expected the tracker beside softac",
            f"pip install {package}",
        ) from None
