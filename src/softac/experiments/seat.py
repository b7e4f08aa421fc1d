"""A place for one run on a node of a cluster: what a Ray actor does there."""

import json
import os
import select
import tempfile
from collections.abc import Sequence
from pathlib import Path

from softac.experiments.keeper import ALIVE, STOP, begin_keeper
from softac.experiments.mirror import Have, News, Receiver, news

HERE = "\0folder"  # stands for the folder of the run among the words of a command


class Seat:
    """Takes in the folder of a run, executes a command on it, and tells what becomes of the folder.

    It only is a place: the run is an ordinary process, in a private folder that is gone when this is.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="softac-seat-"))
        # What opens the doors of the cluster is no business of an environment's.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.keeper = begin_keeper(self.folder, environment)
        self.receiver = Receiver(self.folder)
        self.code: int | None = None

    def take(self, sent: News) -> Have:
        """Take in a part of the folder; returns what has arrived.

        Raises:
            OSError: the disk refused.
        """
        self.receiver.take(sent)
        return self.receiver.have

    def begin(self, words: Sequence[str]) -> None:
        """Begin the command `softac WORDS`."""
        self.receiver.close()
        self._order(json.dumps([str(self.folder) if word == HERE else word for word in words]).encode() + b"\n")

    def look(self, have: Have, budget: int, *, stop: bool) -> tuple[News, int | None]:
        """What is new in the folder, and, once all of it has been told, the exit code.

        Args:
            have: what the caller has of the folder.
            budget: bytes that may be sent now.
            stop: the run is to save and stop.

        Raises:
            OSError: the disk refused.
            RuntimeError: the run can be watched no longer.
        """
        self._order(STOP if stop else ALIVE)
        assert self.keeper.stdout is not None  # noqa: S101 - for the type checker
        answers = self.keeper.stdout.fileno()
        if self.code is None and select.select([answers], [], [], 0)[0]:
            if not (answer := os.read(answers, 100)):
                raise RuntimeError("the process that watches the run has ended")
            self.code = int(answer)
        found = news(self.folder, have, budget)  # after the code has been asked for: then nothing more is written
        return found, self.code if found.complete else None

    def _order(self, order: bytes) -> None:
        assert self.keeper.stdin is not None  # noqa: S101 - for the type checker
        try:
            self.keeper.stdin.write(order)
            self.keeper.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError("the process that watches the run has ended") from None
