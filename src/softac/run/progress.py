"""How far a run has come, told from its folder while another process writes it."""

import os
from pathlib import Path
from typing import Any

from softac.run.config import MOST_STEPS
from softac.run.metrics import LARGEST_FILE, METRICS, as_number, parse_row


class Progress:
    """What the `metrics.jsonl` of a run says, read as it grows.

    Attributes:
        steps: environment steps made at the last row.
        latest: the newest value of each metric.
        evaluated: the step of the last evaluation; 0 before the first.
        returns: step -> mean return of the evaluation there.

    Args:
        folder: the run folder; need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
        self._begin(0)

    def _begin(self, inode: int) -> None:
        self.steps = self.evaluated = 0
        self.latest: dict[str, Any] = {}
        self.returns: dict[int, float] = {}
        self._inode, self._offset = inode, 0

    def read(self) -> None:
        """Take in the lines that are new since the last call."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            # A run that goes on replaces the file, without the rows after its checkpoint.
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode:
                self._begin(status.st_ino)
            if status.st_size > LARGEST_FILE:
                return  # as below
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        if (row := parse_row(line)) is None or not 0 <= row["step"] <= MOST_STEPS:
            return  # whoever reads the file as a whole says so
        self.steps = row["step"]
        self.latest |= row
        if "eval/mean_reward" in row:
            self.evaluated = self.steps
            if (returned := as_number(row["eval/mean_reward"])) is not None:
                self.returns[self.steps] = returned

    def value(self, name: str) -> float | None:
        """The newest value of a metric; None where there is none yet."""
        return as_number(self.latest.get(name))
