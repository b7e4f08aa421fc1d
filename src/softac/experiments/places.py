"""The places where jobs are executed, as a command line names them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from softac.errors import ConfigError
from softac.experiments.jobs import Place
from softac.experiments.pool import run_jobs

PLACES = {"local": "the cores of this machine", "ray": "a Ray cluster"}


@dataclass(frozen=True)
class Where:
    """Where jobs are executed.

    Attributes:
        on: one of `PLACES`.
        ray_address: HOST:PORT of the head of a Ray cluster; None: one of this machine's cores is begun.
        any_node: use nodes, too, that may compute other bits.
        insecure: join a cluster that anybody in its network can join.

    Raises:
        ConfigError: something of Ray's is given for another place.
    """

    on: str = "local"
    ray_address: str | None = None
    any_node: bool = False
    insecure: bool = False

    def __post_init__(self) -> None:
        given = {"--ray-address": self.ray_address, "--any-node": self.any_node, "--insecure": self.insecure}
        if self.here and (flags := [flag for flag, value in given.items() if value]):
            raise ConfigError(f"{flags[0]} was given without --on ray", "expected it there alone", "add --on ray")

    @property
    def here(self) -> bool:
        """Whether it is this machine, whose cores and memory say how many fit."""
        return self.on == "local"


HERE = Where()


@contextmanager
def opened_place(where: Where) -> Iterator[Place]:
    """The place, ready to execute jobs; what was begun for it has ended when this is left.

    Raises:
        ConfigError: it cannot be used.
    """
    if where.here:
        yield run_jobs
        return
    from softac.experiments.on_ray import ray_place  # half a second, and an extra

    with ray_place(where.ray_address, any_node=where.any_node, insecure=where.insecure) as place:
        yield place
