"""Metrics: running means of what updates report, and the files they end in.

`metrics.jsonl` is the truth: one JSON object a line, environment steps first. `progress.csv` and
`evaluations.csv` are made from it; TensorBoard mirrors it.
"""

import csv
import io
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softac.errors import CheckpointError
from softac.files import replace_durably, replace_text
from softac.run.names import EVENTS
from softac.run.names import METRICS as METRICS
from softac.types import Metrics

PROGRESS, EVALUATIONS = "progress.csv", "evaluations.csv"
Row = dict[str, Any]

MOST_WAITING = 1_000  # updates
LARGEST = 1e100  # the square of one is still finite
LARGEST_FILE, LONGEST_LINE = 2**32, 2**24  # bytes

log = logging.getLogger("softac")


class Means:
    """Means of the metrics since the last reset.

    What updates report is copied and summed when somebody asks, so that an update waits for no device.
    Not every update need report the same names: a delayed actor has a loss every second time.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._waiting: list[tuple[tuple[str, ...], Tensor]] = []

    def add(self, metrics: Metrics) -> None:
        """Take the metrics of one update, all 0-D tensors, as they are now."""
        if not metrics:
            return
        self._waiting.append((tuple(metrics), torch.stack(list(metrics.values()))))
        if len(self._waiting) == MOST_WAITING:
            self._sum()

    def means(self) -> dict[str, float]:
        """The means by name; empty before the first update."""
        self._sum()
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def reset(self) -> None:
        """Begin a new interval."""
        self.sums, self.counts, self._waiting = {}, {}, []

    def state(self) -> tuple[list[dict[str, Any]], Tensor]:
        """Plain data, and the sums in the same order."""
        self._sum()
        plain = [{"name": name, "count": count} for name, count in self.counts.items()]
        return plain, torch.tensor(list(self.sums.values()), dtype=torch.float64)

    def load_state(self, plain: list[dict[str, Any]], sums: Tensor) -> None:
        """The inverse of `state`."""
        self.reset()
        if sums.dtype != torch.float64 or sums.shape != (len(plain),):
            raise ValueError(f"sums of {sums.dtype} {tuple(sums.shape)} for {len(plain)} metrics")
        for part, total in zip(plain, sums.tolist(), strict=True):
            name, count = str(part["name"]), int(part["count"])
            if count < 1 or name in self.sums:
                raise ValueError(f"a sum of {count} values of {name}, or a second one")
            self.sums[name], self.counts[name] = total, count

    def _sum(self) -> None:
        # One after the other, so that the sums do not depend on when they were asked for.
        values = iter(torch.cat([values for _, values in self._waiting]).tolist() if self._waiting else [])
        for names, _ in self._waiting:
            for name in names:
                self.sums[name] = self.sums.get(name, 0.0) + next(values)
                self.counts[name] = self.counts.get(name, 0) + 1
        self._waiting = []


class MetricsFile:
    """The rows of `metrics.jsonl`, appended whole or not at all.

    A row of a run that ended between two log intervals is marked "final". When the run goes on,
    such rows are dropped, so that the file becomes that of a run that was never stopped.

    Args:
        folder: the run folder.
        resume_step: drop the rows after this step; None: a new file.
    """

    def __init__(self, folder: Path, resume_step: int | None) -> None:
        self.folder, self.path = folder, folder / METRICS
        kept = [] if resume_step is None else rows_until(self.path, resume_step)
        data = "".join(json.dumps(row) + "\n" for row in kept).encode()
        replace_durably(self.path, data)
        self._size = len(data)
        self._waiting: list[Row] = []
        # What is made of the rows, and the bytes of them that are in it; 0: none, it is made anew.
        self._tables = Table(folder / PROGRESS), Table(folder / EVALUATIONS)
        self._derived = 0

    def append(self, row: Row) -> None:
        """Add a row, and those that could not be added before.

        Raises:
            OSError: the disk refused; the rows wait for the next call.
        """
        self._waiting.append(row)
        self._flush()

    def _flush(self) -> None:
        data = "".join(json.dumps(r) + "\n" for r in self._waiting).encode()
        with self.path.open("r+b") as file:
            file.truncate(self._size)  # half a line may be left from a write that failed
            file.seek(self._size)
            file.write(data)
        self._size += len(data)
        self._waiting.clear()

    def sync(self) -> None:
        """Flush the rows to the disk: nothing writes those again that a checkpoint has left behind.

        Raises:
            OSError: the disk refused.
        """
        if self._waiting:
            self._flush()
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def derive(self) -> None:
        """Bring `progress.csv` and `evaluations.csv` up to the rows.

        Raises:
            OSError: the disk refused; both files are made anew the next time.
        """
        if self._waiting:
            self._flush()
        since, self._derived = self._derived, 0
        parts = self._rows_since(since)
        if since and not all(table.takes(rows) for table, rows in zip(self._tables, parts, strict=True)):
            since, parts = 0, self._rows_since(0)
        for table, rows in zip(self._tables, parts, strict=True):
            if since:
                table.append(rows)
            else:
                table.replace(rows)
        self._derived = self._size

    def _rows_since(self, offset: int) -> tuple[list[Row], list[Row]]:
        """Rows of training and rows of evaluations from this byte on."""
        rows = list(rows_from(self.path, offset))
        evaluations = [row for row in rows if isinstance(row.get("eval/returns"), list)]
        for row in evaluations:
            row["eval/returns"] = " ".join(map(repr, row["eval/returns"]))
        return [row for row in rows if "eval/returns" not in row], evaluations


class Table:
    """A CSV file of rows that need not have the same columns.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []

    def takes(self, rows: Iterable[Row]) -> bool:
        """Whether the file is there and has a column for all that they hold."""
        return self.path.is_file() and all(name in self.names for row in rows for name in row)

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows that it takes."""
        if rows:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                self._writer(file).writerows(rows)

    def replace(self, rows: Sequence[Row]) -> None:
        """Give it these rows, and the columns that they have."""
        self.names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(rows)
        replace_text(self.path, text.getvalue())

    def _writer(self, file: Any) -> "csv.DictWriter[str]":
        return csv.DictWriter(file, self.names, restval="", lineterminator="\n")


class TensorBoard:
    """A `Sink` that mirrors the metrics into TensorBoard event files.

    Args:
        folder: the run folder.
        resume_step: hide what an earlier process wrote after this step.
    """

    def __init__(self, folder: Path, resume_step: int | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        # Not PyTorch's SummaryWriter: it writes in a thread of its own, where a full disk ends in a
        # traceback on the terminal.
        self._event, self._summary, self._record_writer = Event, Summary, RecordWriter
        name, n = f"{EVENTS}{int(time.time()):010d}.softac.{os.getpid()}", 0
        while (path := folder / f"{name}.{n}").exists():
            n += 1
        self.path = path
        purge = 0 if resume_step is None else resume_step + 1
        self._append(Event(wall_time=time.time(), step=purge, file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._append(Event(wall_time=time.time(), step=purge, session_log=start))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of environment step `step`.

        Raises:
            OSError: the disk refused.
        """
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._append(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def close(self) -> None:
        """Nothing is left to do: every row is written at once."""

    def _append(self, event: Any) -> None:
        with self.path.open("ab") as file:
            self._record_writer(file).write(event.SerializeToString())


def read_rows(path: Path) -> list[Row]:
    """The rows of a `metrics.jsonl`; a last line that was cut off is left out.

    Raises:
        CheckpointError: the file is larger than that of any run.
    """
    if not path.is_file():  # a device in the file's place is not read
        return []
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise CheckpointError(
            f"{path} has {size} bytes",
            f"expected at most {LARGEST_FILE} bytes",
            "restore it, or remove it to go on without what was logged",
        )
    return list(rows_from(path, 0))


def rows_from(path: Path, offset: int) -> Iterator[Row]:
    """The rows of a `metrics.jsonl` from this byte on."""
    whole = True
    with path.open("rb") as file:
        file.seek(offset)
        while line := file.readline(LONGEST_LINE):
            if (row := parse_row(line)) is not None:
                yield row
            elif whole:  # a damaged byte costs its line, not the rest
                whole = False
                log.warning("damaged lines in %s were left out", path)


def parse_row(line: bytes) -> Row | None:
    """One line of a `metrics.jsonl`; None where it is damaged."""
    try:
        row = json.loads(line.decode())
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()  # half a character cannot be written again
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None


def numbers(rows: Iterable[Row], name: str) -> dict[int, float]:
    """A metric by environment steps, without the rows that have none, or no number (see `as_number`)."""
    values = ((row["step"], as_number(row.get(name))) for row in rows)
    return {step: value for step, value in values if value is not None}


def as_number(value: object) -> float | None:
    """What a row holds, or None where it is no finite number that can be computed with."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        return None
    return float(value)


def rows_until(path: Path, step: int) -> list[Row]:
    """The rows a run keeps when it goes on from `step`."""
    return [r for r in read_rows(path) if r["step"] <= step and not r.get("final")]
