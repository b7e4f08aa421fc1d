"""One worker process, from the side of the learner: begun, woken, listened to and ended."""

import fcntl
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from softac.envs.block import DONE, GO, LENGTH_BYTES, LOST, MESSAGE

LOOK = 0.5  # seconds between two looks at what a process that is silent is doing
ENDING = 1.0  # seconds from the end of its pipe to its own
CLOSING = 10.0  # seconds for closing the environments
LARGEST_MESSAGE = 2**26  # bytes

PROGRAM = """import json, sys
sys.path[:] = json.loads(sys.argv[1])
from softac.envs.worker import main
main(*map(int, sys.argv[2:]))"""

log = logging.getLogger("softac.envs")


class Lost(Exception):  # noqa: N818
    """A process that has ended, hangs or cannot be trusted; the text says which."""


class Worker(Protocol):
    """What steps some of the environments, from the side of the learner: `Process`, or one on another machine."""

    envs: range
    alive: bool  # begun and not known to have ended
    serving: bool  # its environments have been made
    busy: bool

    def begin(self) -> None: ...  # noqa: D102 - see Process

    def wake(self) -> None: ...  # noqa: D102

    def receive(self, timeout: float, progress: Callable[[], bytes] = bytes) -> Any: ...  # noqa: D102

    def leave(self) -> None: ...  # noqa: D102

    def join(self, take: Callable[[Any], None]) -> None: ...  # noqa: D102

    def kill(self) -> None: ...  # noqa: D102


class Process:
    """A worker process; not begun yet.

    Args:
        envs: the environments it steps.
        source: descriptor of what they are made from.
        block: descriptor of the memory that is shared.
    """

    def __init__(self, envs: range, source: int, block: int) -> None:
        self.envs, self.source, self.block = envs, source, block
        self.alive = False  # begun and not known to have ended
        self.serving = False  # its environments have been made
        self.busy = False

    def begin(self) -> None:
        """Begin it; what it says first is that it makes its environments."""
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        lifeline, self.lifeline = os.pipe()
        theirs = [self.source, self.block, commands, answers, lifeline]
        numbers = [*theirs, self.envs.start, self.envs.stop]
        try:
            # In a group of its own, where a terminal's Ctrl-C does not reach it: the learner decides when to stop.
            self.process = subprocess.Popen(  # noqa: S603 - Python, with words of our own
                [sys.executable, "-P", "-c", PROGRAM, json.dumps(sys.path), *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                pass_fds=theirs,
                process_group=0,
            )
            _die_with(lifeline, self.process.pid)
            self.ended = os.pidfd_open(self.process.pid)
        except BaseException:
            for descriptor in (self.commands, self.answers, self.lifeline):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (commands, answers, lifeline):
                os.close(descriptor)
        self.poll = select.poll()
        self.poll.register(self.answers, select.POLLIN)
        self.poll.register(self.ended, select.POLLIN)
        self.alive, self.serving, self.busy, self._left = True, False, False, False
        _begun.add(self)

    def wake(self) -> None:
        """Tell it that something in the shared memory is to be done."""
        self.busy = True
        with suppress(BrokenPipeError):  # it has ended, which `receive` will see
            os.write(self.commands, GO)

    def receive(self, timeout: float, progress: Callable[[], bytes] = bytes) -> Any:
        """Wait for what it says next: `DONE`, or a message.

        Args:
            timeout: seconds that it may be silent without making progress.
            progress: what it has done so far; a change counts as a sign of life.

        Raises:
            Lost: it has ended, is silent for too long, or says what has no meaning.
        """
        said = self._read(1, timeout, progress)
        if said == DONE:
            return DONE
        if said != MESSAGE:
            raise Lost(f"wrote {said!r} into the pipe to the learner")
        size = int.from_bytes(self._read(LENGTH_BYTES, timeout, progress), "little")
        if size > LARGEST_MESSAGE:
            raise Lost("wrote into the pipe to the learner")
        try:
            return json.loads(self._read(size, timeout, progress))
        except ValueError:
            raise Lost("wrote into the pipe to the learner") from None

    def leave(self) -> None:
        """Ask it to close its environments and end."""
        if self.alive and not self._left:
            os.close(self.commands)
            self._left = True

    def join(self, take: Callable[[Any], None]) -> None:
        """Wait for its end after `leave`, for ten seconds; what it says is handed to `take`."""
        if not self.alive:
            return
        until = time.monotonic() + CLOSING
        try:
            while (left := until - time.monotonic()) > 0:
                if (message := self.receive(left)) != DONE:
                    take(message)
            raise Lost("is still busy")
        except Lost:
            if self.process.poll() is None:
                log.warning("environments were not closed within %g s; their process is ended", CLOSING)
        self.kill()

    def kill(self) -> None:
        """End it and every process it has begun, at once."""
        if not self.alive:
            return
        self.alive = self.serving = self.busy = False
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.forget()

    def forget(self) -> None:
        """Close this side's descriptors."""
        descriptors = [self.answers, self.lifeline, self.ended]
        if not self._left:
            descriptors.append(self.commands)
        for descriptor in descriptors:
            os.close(descriptor)
        _begun.discard(self)

    def _read(self, size: int, timeout: float, progress: Callable[[], bytes]) -> bytes:
        data, seen, since = b"", progress(), time.monotonic()
        look = int(1000 * min(LOOK, timeout)) + 1
        while len(data) < size:
            ready = [descriptor for descriptor, _ in self.poll.poll(look)]
            if self.answers in ready:
                if not (more := os.read(self.answers, size - len(data))):
                    raise Lost(self._ending())
                data += more
            elif ready:
                raise Lost(self._ending())
            elif (now := progress()) != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > timeout:
                raise Lost(f"did not answer within {timeout:g} s")
        return data

    def _ending(self) -> str:
        try:
            code = self.process.wait(ENDING)
        except subprocess.TimeoutExpired:
            code = LOST
        if code == LOST:
            return "closed the descriptors of its process"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"ended its process ({how})"


def _die_with(lifeline: int, group: int) -> None:
    """Have the kernel kill a group of processes when nobody can write into this pipe any more.

    The kernel, and from here: a process that is still importing, or hangs in compiled code, runs no code of ours.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -group)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC)


_begun: weakref.WeakSet[Process] = weakref.WeakSet()


def _forget_all() -> None:
    for process in list(_begun):
        process.alive = False
        process.forget()


# In a copy of the learner's process, which would otherwise keep the workers alive when the learner has died.
os.register_at_fork(after_in_child=_forget_all)
