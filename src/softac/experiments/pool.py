"""Several commands side by side: a process for each, so many at once and the next when one ends.

The processes are begun anew and never forked: a copy of a process that has used PyTorch would lack
its threads. Each has one thread, since for networks of this size the cores are better used by
several runs than by one.
"""

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence

from softac.experiments.command import GRACE, LIFELINE, begin_command
from softac.experiments.jobs import Job, Stop, Watch

POLL = 0.2  # seconds

Processes = dict[str, subprocess.Popen[bytes]]


def usable_cores() -> int:
    """The processor cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def run_jobs(jobs: Sequence[Job], limit: int, *, stop: Stop, watch: Watch) -> dict[str, int]:
    """Run every job, as `softac.experiments.jobs.Place` says, in processes of this machine.

    Each ends when this process does, however that happens.
    """
    waiting = deque(jobs)
    running: Processes = {}
    codes: dict[str, int] = {}
    asked = False
    lifeline, held = os.pipe()
    try:
        while running or (waiting and not stop()):
            while waiting and len(running) < limit and not stop():
                job = waiting.popleft()
                running[job.name] = begin_command(job.words, job.folder, lifeline, os.environ)
            if stop() and not asked:
                asked = True
                # Not SIGINT: one that is still importing would answer it with a traceback.
                for process in running.values():
                    process.terminate()
            watch(dict.fromkeys(running, ""), codes)
            time.sleep(POLL)
            codes |= _ended(running)
    finally:
        os.close(held)
        os.close(lifeline)
        for process in running.values():
            process.wait()
    watch({}, codes)
    return codes


def _ended(running: Processes) -> dict[str, int]:
    """Take out the processes that have ended; their exit codes."""
    codes = {name: code for name, process in running.items() if (code := process.poll()) is not None}
    for name in codes:
        del running[name]
    return {name: code if code >= 0 else 128 - code for name, code in codes.items()}


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
