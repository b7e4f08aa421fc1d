"""How threads wait for work, and whether the processor is there for them.

The threads of OpenMP, which PyTorch computes with, spin for a while before they sleep. GNU's library spins for
milliseconds, where an update of softac has work for them every few microseconds or not for a long time. With a
neighbour on the same cores that is ruinous: what spins holds the core that the thread it waits for needs
(`benchmarks/busy`). How long they spin is read from the environment when PyTorch loads the library, and never
again, so this file must not import PyTorch.
"""

import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

# GNU's library counts turns, Intel's and LLVM's milliseconds; each reads its own.
BRIEFLY = {"GOMP_SPINCOUNT": "300", "KMP_BLOCKTIME": "1"}
WAIT_POLICY = "OMP_WAIT_POLICY"
LIBRARIES = {"libgomp": "GNU", "libiomp5": "Intel", "libomp": "LLVM"}
TASKS = Path("/proc/self/task")
FAIR, AT_LEAST = 0.6, 30.0  # of the time asked for; seconds before anything is said

log = logging.getLogger("softac")

_decided: list[str] = []  # who decided how threads wait, once that is settled


def wait_briefly() -> None:
    """Have the threads that PyTorch will start spin briefly, unless the user has decided or it is too late."""
    if _decided:
        return
    if all(os.environ.get(name) == value for name, value in BRIEFLY.items()):
        _decided.append("softac")  # a process that another softac has started
    elif any(name in os.environ for name in (WAIT_POLICY, *BRIEFLY)):
        _decided.append("user")
    elif "torch" in sys.modules:
        _decided.append("nobody")
    else:
        os.environ |= BRIEFLY
        _decided.append("softac")


def how_threads_wait() -> dict[str, Any]:
    """For the record: the OpenMP library that is loaded, what decides how its threads wait, and who chose it."""
    names = (WAIT_POLICY, *BRIEFLY)
    chosen = {name: os.environ[name] for name in names if name in os.environ} if _decided != ["nobody"] else {}
    return {"openmp": openmp(), "waiting": chosen, "waiting_chosen_by": "".join(_decided)}


def openmp() -> str:
    """The OpenMP libraries in this process, such as "GNU (libgomp.so.1)"; "" if none is known."""
    try:
        mapped = Path("/proc/self/maps").read_text(errors="replace")
    except OSError:
        return ""
    files = sorted(set(re.findall(r"/((?:libgomp|libiomp5|libomp)[-.\w]*\.so[.\d]*)$", mapped, re.MULTILINE)))
    return ", ".join(f"{LIBRARIES[re.split('[-.]', file)[0]]} ({file})" for file in files)


def cost_of_waiting(threads: int) -> str:
    """One sentence on what it costs that nobody decided how `threads` threads wait; "" where it costs nothing."""
    if threads == 1 or _decided != ["nobody"]:
        return ""
    return (
        "PyTorch was imported before softac, so its threads spin while they wait: beside other programs training "
        f"can be many times slower; import softac first, or set GOMP_SPINCOUNT={BRIEFLY['GOMP_SPINCOUNT']}"
    )


class ProcessorTime:
    """What share of the processor time that this process asks for it gets, from its making on.

    Linux counts for each thread the time it ran and the time it could have run but waited for a core.
    """

    def __init__(self) -> None:
        self._threads = _scheduled()
        self._began = time.monotonic()
        self._said = False

    def share(self) -> float | None:
        """Time run / (time run + time waited) since the last call; None if Linux does not say."""
        before, self._threads = self._threads, _scheduled()
        ran, waited = (
            sum(now[i] - before.get(task, (0, 0))[i] for task, now in self._threads.items()) for i in (0, 1)
        )
        return ran / (ran + waited) if ran + waited > 0 else None

    def watch(self, threads: int) -> None:
        """Warn, once, if this process with `threads` threads gets far less than it asks for; call it often."""
        if not self._said and (sentence := self.shortage(threads)):
            log.warning("%s", sentence)
            self._said = True

    def shortage(self, threads: int) -> str:
        """One sentence if the share is far below what was asked for, looked at every half minute; else ""."""
        if time.monotonic() - self._began < AT_LEAST:
            return ""
        self._began, share = time.monotonic(), self.share()
        if share is None or share >= FAIR:
            return ""
        fewer = f", or ask for less: OMP_NUM_THREADS=1 instead of {threads} threads" if threads > 1 else ""
        return (
            f"this process gets {share:.0%} of the processor time that it asks for; other programs take the rest: "
            f"end them{fewer}"
        )


def _scheduled() -> dict[str, tuple[int, int]]:
    """For each thread of this process the nanoseconds it has run, and has waited for a core."""
    threads = {}
    for task in TASKS.iterdir() if TASKS.is_dir() else ():
        try:
            ran, waited, _ = (task / "schedstat").read_text().split()
        except (OSError, ValueError):  # a thread that has just ended, or a system that does not count
            continue
        threads[task.name] = int(ran), int(waited)
    return threads
