"""A job: a command of softac's own that somebody executes, here or elsewhere, and what it left behind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from softac.errors import one_line
from softac.experiments.command import OUTPUT
from softac.run.messages import ERROR, NOTE, WARNING

LONGEST_LINE = 500

Stop = Callable[[], bool]
Watch = Callable[[Mapping[str, str], Mapping[str, int]], None]


@dataclass(frozen=True)
class Job:
    """A command to run.

    Attributes:
        name: tells it from the others.
        words: what stands behind `softac` on the command line. One that is the path of `folder` names, where
            the job is executed on another machine, the folder it has there.
        folder: exists; what the process prints goes into its `output.txt`. Elsewhere it is all that the job
            has: what it needs is in it, and what it writes is brought back into it.
        memory: bytes that the job may come to need; 0: not known.
    """

    name: str
    words: Sequence[str]
    folder: Path
    memory: int = 0


class Place(Protocol):
    """Where jobs are executed.

    `softac.experiments.pool.run_jobs` does it on the cores of this machine;
    `softac.experiments.places.opened_place` hands out the one that the command line names.
    """

    def __call__(self, jobs: Sequence[Job], limit: int, *, stop: Stop, watch: Watch) -> dict[str, int]:
        """Run every job, at most `limit` at a time, in their order.

        Args:
            jobs: with different names.
            limit: at least 1.
            stop: asked a few times a second; True asks the running jobs to save and stop, and begins no other.
            watch: called a few times a second, and at the end, with the names of the running jobs, each with the
                machine it is on ("" for this one), and the exit codes of those that have ended.

        Returns:
            The exit code of each job that was begun; 128 + n for one that signal n ended.

        Raises:
            OSError: a job could not be begun; the others have saved and stopped.
            SoftacError: the place cannot be used any more; likewise.
        """
        ...


def last_line(folder: Path) -> str:
    """What the job in `folder` printed last; "" if that is nothing."""
    return one_line(next(iter(_from_the_last(folder)), ""), LONGEST_LINE)


def last_error(folder: Path) -> str:
    """The error that ended the job in `folder`, softac's own or the last line of a traceback; "" if none did."""
    last, *above = _from_the_last(folder) or [""]
    if last.startswith((WARNING, NOTE)):
        return ""
    if last.startswith(ERROR):
        return one_line(last.removeprefix(ERROR), LONGEST_LINE)
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
