"""The places where jobs are executed, as a command line names them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from softac.experiments.jobs import Place
from softac.experiments.pool import run_jobs

PLACES = {"local": "the cores of this machine"}


@dataclass(frozen=True)
class Where:
    """Where jobs are executed.

    Attributes:
        on: one of `PLACES`.
    """

    on: str = "local"

    @property
    def here(self) -> bool:
        """Whether it is this machine, whose cores and memory say how many fit."""
        return self.on == "local"


HERE = Where()


@contextmanager
def opened_place(where: Where) -> Iterator[Place]:
    """The place, ready to execute jobs; what was begun for it has ended when this is left."""
    assert where.here  # noqa: S101 - the only one so far
    yield run_jobs
