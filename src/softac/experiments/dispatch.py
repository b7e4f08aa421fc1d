"""The loop that works jobs off on a cluster, whatever the cluster is."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from softac.errors import ConfigError
from softac.experiments.jobs import Job, Stop, Watch
from softac.experiments.schedule import Node, Schedule
from softac.words import listed

POLL = 0.2  # seconds
ASLEEP = 5.0  # seconds of one turn of the loop that are not spent on anything in it

log = logging.getLogger("softac")


@dataclass(frozen=True)
class Heard:
    """A job goes on; `saved`: another checkpoint of it has arrived."""

    name: str
    saved: bool


@dataclass(frozen=True)
class Ended:
    """A job's process has ended, and all that it wrote has arrived."""

    name: str
    code: int
    said: str  # last


@dataclass(frozen=True)
class Lost:
    """A job's node does not answer, or not as it should."""

    name: str
    why: str


Event = Heard | Ended | Lost


class Cluster(Protocol):
    """Nodes that execute jobs; nothing here waits for one of them, `events` apart."""

    def nodes(self) -> Mapping[str, Node]:
        """Those that can be used now, by their ids."""
        ...

    def begin(self, job: Job, node: str) -> None:
        """Begin a job there, from what its folder holds."""
        ...

    def stop(self, name: str) -> None:
        """Ask a job to save and stop."""
        ...

    def drop(self, name: str) -> None:
        """Think no more of a job, whatever becomes of it there."""
        ...

    def events(self, seconds: float) -> Iterable[Event]:
        """What has happened since the last call; waits for it as long as this."""
        ...


def dispatch(
    cluster: Cluster,
    jobs: Sequence[Job],
    limit: int,
    *,
    stop: Stop,
    watch: Watch,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, int]:
    """Run every job as `softac.experiments.jobs.Place` says, each on a node of the cluster.

    A job whose node is lost begins again before all others, from the last checkpoint that has arrived here. One
    that fails by itself has failed.

    Raises:
        ConfigError: a job needs more memory than any node has.
        DiskError: what comes back cannot be written here.
    """
    schedule, asked, names, turned = Schedule(jobs, limit), False, dict[str, str](), clock()
    try:
        while schedule.seats or (schedule.waiting and not stop()):
            if (turn := clock() - turned) > ASLEEP:
                schedule.slept(turn)
            turned += turn
            if stop() and not asked:
                asked = True
                for name in schedule.seats:
                    cluster.stop(name)
            if not asked:
                nodes = cluster.nodes()
                names |= {i: node.name for i, node in nodes.items()}
                _require_room(schedule, nodes)
                for job, node in schedule.assign(nodes, clock()):
                    cluster.begin(job, node)
            watch({name: names[seat.node] for name, seat in schedule.seats.items()}, schedule.codes)
            for event in cluster.events(POLL):
                _take(event, schedule, cluster, names, clock(), asked=asked)
            for name in schedule.silent(clock()):
                _take(Lost(name, "has not answered for too long"), schedule, cluster, names, clock(), asked=asked)
    finally:
        for name in schedule.seats:
            cluster.drop(name)
    watch({}, schedule.codes)
    return schedule.codes


def _take(
    event: Event, schedule: Schedule, cluster: Cluster, names: Mapping[str, str], now: float, *, asked: bool
) -> None:
    if (seat := schedule.seats.get(event.name)) is None:
        return
    node = names[seat.node]
    match event:
        case Heard(name, saved):
            schedule.hear(name, now, saved=saved)
            return
        case Ended(name, code, said):
            if not schedule.end(name, code, asked=asked):
                why = f"exit code {code}" + (f": {said}" if said else "")
                log.warning("%s ended on %s (%s) and goes on elsewhere", name, node, why)
        case Lost(name, why):
            schedule.lose(name, now)
            if not asked:
                log.warning("%s: node %s %s; it goes on elsewhere from its last checkpoint", name, node, why)
    cluster.drop(event.name)


def _require_room(schedule: Schedule, nodes: Mapping[str, Node]) -> None:
    if not schedule.seats and (large := schedule.too_large(nodes)):
        most = max(node.memory for node in nodes.values())
        raise ConfigError(
            f"{listed([job.name for job in large][:3])} may need {large[0].memory / 1e9:.1f} GB of memory, and no "
            f"node offers more than {most / 1e9:.1f} GB",
            "expected a node with as much",
            "lower buffer_size, or add a larger node to the cluster",
        )
