"""A small process between a node of a cluster and the run on it: it ends the run, and leaves nothing behind.

What begins a run on a node may be killed at any time, and then runs no code of ours. This process notices it, has
the run save and stop, and removes its folder. It also ends a run that nobody has asked for in a while: that node
has been cut off from the others, or has been given up. It imports the standard library alone.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from softac.experiments.command import GRACE, begin_command

ALIVE, STOP = b".", b"s"  # orders: somebody asks for the run; it is to save and stop
LEASE = 120.0  # seconds that a run goes on without being asked for
LOOK = 0.2  # seconds
ASLEEP = 5.0  # seconds between two looks that say that this process was stopped meanwhile


def begin_keeper(folder: Path, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Begin a keeper of this folder.

    Its standard input takes a line with the words of a run, then orders; where it ends, everything does. Its
    standard output gives the exit code of the run as a line.
    """
    return subprocess.Popen(  # noqa: S603 - this module, with a path of our own
        [sys.executable, "-P", "-m", "softac.experiments.keeper", str(folder), str(os.getppid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environment),
        process_group=0,
    )


def main(folder: Path, node: int) -> None:
    """Keep the run in `folder` until standard input ends, or the process `node` that all of this belongs to."""
    above, here = os.pidfd_open(node), os.pidfd_open(os.getppid())
    if os.fork():  # nobody's child: who begins runs on a node may end its children without asking
        os._exit(0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # the end of standard input is what counts
    keeper = _Keeper(folder)
    try:
        if keeper.keep(above):
            signal.pidfd_send_signal(here, signal.SIGKILL)  # it does not always notice
    finally:
        keeper.end()
        shutil.rmtree(folder, ignore_errors=True)


class _Keeper:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run: subprocess.Popen[bytes] | None = None
        self.told = self.stopped = False
        self.words, self.heard = b"", time.monotonic()
        self.lifeline, self.held = os.pipe()

    def keep(self, node: int) -> bool:
        """Whether the end was that of the node."""
        looked = time.monotonic()
        while True:
            if (since := time.monotonic() - looked) > ASLEEP:
                self.heard += since
            looked += since
            ready = select.select([0, node], [], [], LOOK)[0]
            if node in ready:
                return True
            if ready:
                if not (orders := os.read(0, 2**16)):
                    return False
                self.obey(orders)
            if time.monotonic() - self.heard > LEASE:
                self.stop()
            if self.run is not None and not self.told and (code := self.run.poll()) is not None:
                self.told = True
                os.write(1, f"{code if code >= 0 else 128 - code}\n".encode())

    def obey(self, orders: bytes) -> None:
        self.heard = time.monotonic()
        if self.run is None:
            self.words += orders
            line, end, orders = self.words.partition(b"\n")
            if not end:
                return
            self.run = begin_command(json.loads(line), self.folder, self.lifeline, os.environ)
        if STOP in orders:
            self.stop()

    def stop(self) -> None:
        if self.run is not None and not self.stopped:
            self.stopped = True
            self.run.terminate()

    def end(self) -> None:
        """Have the run save and stop, and end what is left of it."""
        if self.run is None:
            return
        self.stop()
        with suppress(subprocess.TimeoutExpired):
            self.run.wait(GRACE)
        with suppress(ProcessLookupError):
            os.killpg(self.run.pid, signal.SIGKILL)  # also what it has begun and not ended
        self.run.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
