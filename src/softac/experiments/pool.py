"""Several commands side by side: a process for each, so many at once and the next when one ends.

The processes are begun anew and never forked: a copy of a process that has used PyTorch would lack
its threads. Each has one thread, since for networks of this size the cores are better used by
several runs than by one.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from softac.errors import one_line
from softac.files import new_file

OUTPUT = "output.txt"
LIFELINE = "SOFTAC_LIFELINE"  # the number of a descriptor that ends when the parent does
POLL = 0.2  # seconds
GRACE = 10.0  # seconds for saving, once the parent is gone
LONGEST_LINE = 500


@dataclass(frozen=True)
class Job:
    """A command to run.

    Attributes:
        name: tells it from the others.
        words: what stands behind `softac` on the command line.
        folder: exists; what the process prints goes into its `output.txt`.
    """

    name: str
    words: Sequence[str]
    folder: Path


def usable_cores() -> int:
    """The processor cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def run_jobs(
    jobs: Sequence[Job],
    limit: int,
    *,
    stop: Callable[[], bool],
    watch: Callable[[Collection[str], Mapping[str, int]], None],
) -> dict[str, int]:
    """Run every job, at most `limit` at a time, in their order.

    Each process is in a group of its own, where a terminal's Ctrl-C does not reach it, and ends when
    this process does, however that happens.

    Args:
        jobs: with different names.
        limit: at least 1.
        stop: asked five times a second; True asks the running jobs to save and stop, and begins no other.
        watch: called five times a second, and at the end, with the names of the running jobs and the
            exit codes of those that have ended.

    Returns:
        The exit code of each job that was begun; 128 + n for one that signal n ended.

    Raises:
        OSError: a process could not be begun; the others have saved and stopped.
    """
    waiting = deque(jobs)
    running: dict[str, subprocess.Popen[bytes]] = {}
    codes: dict[str, int] = {}
    asked = False
    lifeline, held = os.pipe()
    try:
        while running or (waiting and not stop()):
            while waiting and len(running) < limit and not stop():
                job = waiting.popleft()
                running[job.name] = _begin(job, lifeline)
            if stop() and not asked:
                asked = True
                # Not SIGINT: one that is still importing would answer it with a traceback.
                for process in running.values():
                    process.terminate()
            watch(running.keys(), codes)
            time.sleep(POLL)
            for name, process in list(running.items()):
                if (code := process.poll()) is not None:
                    codes[name] = code if code >= 0 else 128 - code
                    del running[name]
    finally:
        os.close(held)
        os.close(lifeline)
        for process in running.values():
            process.wait()
    watch(running.keys(), codes)
    return codes


def _begin(job: Job, lifeline: int) -> subprocess.Popen[bytes]:
    # Unbuffered, so that the last line of the file is the last that was printed. -P: as for the installed
    # command, no module is looked for in the folder one stands in.
    settings = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", LIFELINE: str(lifeline)}
    with new_file(job.folder / OUTPUT) as output:
        return subprocess.Popen(  # noqa: S603 - this program, with words of its own
            [sys.executable, "-P", "-m", "softac", *job.words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | settings,
            pass_fds=[lifeline],
            process_group=0,
        )


def last_line(folder: Path) -> str:
    """What the job in `folder` printed last; "" if that is nothing."""
    return one_line(next(iter(_from_the_last(folder)), ""), LONGEST_LINE)


def last_error(folder: Path) -> str:
    """The error that ended the job in `folder`, softac's own or the last line of a traceback; "" if none did."""
    last, *above = _from_the_last(folder) or [""]
    if last.startswith("softac: "):
        return one_line(last.removeprefix("softac: "), LONGEST_LINE)
    title = next((line for line in above if not line.startswith(" ")), "")
    return one_line(last, LONGEST_LINE) if title.startswith("Traceback (most recent call last)") else ""


def _from_the_last(folder: Path) -> list[str]:
    """The last lines that the job in `folder` printed, the last one first, without empty ones."""
    path = folder / OUTPUT
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 10_000))
        lines = file.read().decode(errors="replace").split("\n")
    return [line for line in reversed(lines) if line.strip()]


def stop_with_parent() -> None:
    """In a process that `run_jobs` has begun: save and stop once its parent is gone; nothing in others."""
    if (text := os.environ.pop(LIFELINE, "")).isdecimal():
        os.set_inheritable(int(text), False)
        threading.Thread(target=_outlive, args=(int(text),), daemon=True).start()


def _outlive(lifeline: int) -> None:
    os.read(lifeline, 1)  # nobody writes: it returns when the parent, which holds the other end, is gone
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)
