"""Ray as a place for jobs: a seat on a node for each, and its folder kept alike here."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from softac._version import __version__
from softac.envs.cluster import cluster
from softac.errors import CheckpointError, ConfigError, DiskError, one_line
from softac.experiments.arrival import Arrival
from softac.experiments.dispatch import Ended, Event, Heard, Lost, dispatch
from softac.experiments.jobs import Job, Place, last_line
from softac.experiments.mirror import Have, Receiver, news
from softac.experiments.schedule import Node
from softac.experiments.seat import HERE, Seat
from softac.run.checkpoint import NOT_INSTALLED, fingerprint
from softac.run.folder import RunFolder, system

LOOK = 0.5  # seconds between two looks at a job, at least
LOOKS = 100  # at all jobs together, in a second
IN_FLIGHT = 64 * 2**20  # bytes that may come at a time, of all jobs together
LEAST, MOST = 2**18, 2**23  # bytes that may come of one job at a time
NODES = 1.0  # seconds between two looks at the cluster
EMPTY = 20.0  # seconds without a node after which that is said
JOIN = "ray start --address HOST:PORT"

log = logging.getLogger("softac")


@contextmanager
def ray_place(address: str | None, *, any_node: bool, insecure: bool) -> Iterator[Place]:
    """A `Place` whose jobs are executed on the nodes of a Ray cluster.

    Args:
        address: as for `softac.envs.cluster.cluster`.
        any_node: use nodes, too, that may compute other bits.
        insecure: as for `softac.envs.cluster.cluster`.

    Raises:
        ConfigError: the cluster cannot be used.
    """
    with cluster(address, insecure=insecure) as ray:
        yield partial(dispatch, RayCluster(ray, any_node=any_node))


@dataclass
class _Placed:
    """A job on a node, from this side.

    Attributes:
        job: what is there.
        actor: a `Seat`.
        receiver: of its folder here.
        held: its folder here, which nobody else may go on with.
        theirs: what has arrived there.
        begun: whether the command has been.
        stop: whether it is to save and stop.
        due: when it is to be asked next.
        told: checkpoints that have arrived and been told of.
        sending: whether the last part of the folder has been sent there.
    """

    job: Job
    actor: Any
    receiver: Receiver
    held: RunFolder
    theirs: Have = field(default_factory=dict)
    begun: bool = False
    stop: bool = False
    due: float = 0.0
    told: int = 0
    sending: bool = True


class RayCluster:
    """The nodes of a Ray cluster, as `softac.experiments.dispatch.Cluster` says.

    Args:
        ray: the module, connected.
        any_node: use nodes, too, that may compute other bits.
    """

    def __init__(self, ray: Any, *, any_node: bool) -> None:
        self.ray, self.any_node = ray, any_node
        self._seat = ray.remote(Seat)
        self._placed: dict[str, _Placed] = {}
        self._calls: dict[Any, str] = {}  # answers that are due, and whose
        self._fit: dict[str, Node] = {}  # nodes that can be used
        self._unfit: dict[str, str] = {}  # nodes that cannot, and why
        self._asked: dict[str, Any] = {}  # nodes, and what they are to say of themselves
        self._alive: list[dict[str, Any]] = []
        self._looked = float("-inf")
        self._empty_at = time.monotonic() + EMPTY  # when to say that no node can be used

    # ----------------------------------------------------------------------- the face

    def nodes(self) -> Mapping[str, Node]:
        """Those that can be used now, by their ids.

        Raises:
            ConfigError: there are nodes, and none of them can.
        """
        now = time.monotonic()
        if now - self._looked > NODES:
            self._looked = now
            self._alive = [n for n in self.ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1]
            for node in self._alive:
                if node["NodeID"] not in self._asked:
                    self._asked[node["NodeID"]] = self._at(self.ray.remote(_examiner()), node["NodeID"]).remote()
        for node in self._alive:
            self._examine(node)
        there = {node["NodeID"] for node in self._alive}
        if there and there <= self._unfit.keys() and not self._placed:
            raise ConfigError(
                f"no node of the cluster can be used: {next(iter(self._unfit.values()))}",
                f"expected softac {__version__} with the packages and the processor of this machine, for the same "
                "bits",
                "install them there, or add --any-node to use them as they are",
            )
        usable = {i: node for i, node in self._fit.items() if i in there}
        if usable:
            self._empty_at = now + EMPTY
        elif now > self._empty_at:
            self._empty_at = float("inf")
            lacks = ("has answered yet", "does") if there else ("offers a core", "joins: " + JOIN)
            log.warning("no node of the cluster %s; the runs wait until one %s", *lacks)
        return usable

    def begin(self, job: Job, node: str) -> None:
        """Begin a job there, from what its folder holds."""
        held = RunFolder(job.folder)
        receiver = Receiver(job.folder, Arrival(job.folder))
        actor = self._at(self._seat, node, num_cpus=1, memory=job.memory or None).remote()
        self._placed[job.name] = _Placed(job, actor, receiver, held)
        self._send(job.name)

    def stop(self, name: str) -> None:
        """Ask a job to save and stop."""
        self._placed[name].stop = True

    def drop(self, name: str) -> None:
        """Think no more of a job, whatever becomes of it there."""
        placed = self._placed.pop(name)
        self._calls = {call: whose for call, whose in self._calls.items() if whose != name}
        with suppress(Exception):  # it may be dead
            self.ray.kill(placed.actor)
        placed.receiver.close()
        placed.held.release()

    def events(self, seconds: float) -> list[Event]:
        """What has happened since the last call; waits for it as long as this."""
        now = time.monotonic()
        waited_for = set(self._calls.values())
        for name, placed in self._placed.items():
            if name not in waited_for and placed.begun and placed.due <= now:
                call = placed.actor.look.remote(placed.receiver.have, self._budget, stop=placed.stop)
                self._calls[call] = name
        if not self._calls:
            time.sleep(seconds)
            return []
        ready, _ = self.ray.wait(list(self._calls), num_returns=len(self._calls), timeout=seconds)
        return [event for call in ready if (event := self._answer(self._calls.pop(call), call)) is not None]

    # ----------------------------------------------------------------------- nodes

    def _at(self, remote: Any, node: str, **options: Any) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(node, soft=False)
        return remote.options(**({"num_cpus": 0} | options), scheduling_strategy=where)

    def _examine(self, node: dict[str, Any]) -> None:
        """Take in what a node says of itself, once it has."""
        name, number = str(node["NodeManagerHostname"]), node["NodeID"]
        if number in self._fit or number in self._unfit or number not in self._asked:
            return
        ready, _ = self.ray.wait([self._asked[number]], timeout=0)
        if not ready:
            return
        try:
            said = self.ray.get(ready[0])
        except self.ray.exceptions.RayError:
            del self._asked[number]  # it has gone, or will be asked again
            return
        name = f"{name} ({node['NodeManagerAddress']})"
        wrong = f"{name} has no softac ({said['missing']})" if "missing" in said else ""
        if not wrong and (differs := _differences(said)):
            wrong = f"{name} is not like this machine: {differs}"
            if self.any_node:
                log.warning("node %s; its runs may end in other bits", wrong)
                wrong = ""
        if wrong:
            self._unfit[number] = wrong
            log.warning("node %s; it is not used", wrong)
            return
        resources = node["Resources"]
        self._fit[number] = Node(
            node["NodeManagerAddress"], int(resources["CPU"]), int(resources.get("memory", 0))
        )

    # ----------------------------------------------------------------------- jobs

    @property
    def _budget(self) -> int:
        return min(MOST, max(LEAST, IN_FLIGHT // max(1, len(self._placed))))

    def _send(self, name: str) -> None:
        """Send the next part of a folder to its node."""
        placed = self._placed[name]
        part = news(placed.job.folder, placed.theirs, self._budget)
        placed.sending = not part.complete
        self._calls[placed.actor.take.remote(part)] = name

    def _begin(self, name: str) -> None:
        placed = self._placed[name]
        words = [HERE if word == str(placed.job.folder) else word for word in placed.job.words]
        placed.begun = True
        self._calls[placed.actor.begin.remote(words)] = name

    def _answer(self, name: str, call: Any) -> Event | None:
        """What an answer of a seat means."""
        try:
            answer = self.ray.get(call)
        except OSError as error:  # raised there
            return Ended(name, DiskError.exit_code, one_line(str(error), 200))
        except Exception as error:
            return Lost(name, f"is lost ({type(error).__name__})")
        try:
            return self._take(name, answer)
        except CheckpointError as error:
            return Lost(name, f"has sent what is no file of its run: {error}")
        except OSError as error:
            folder = self._placed[name].job.folder
            raise DiskError(
                f"{folder} cannot be written ({error.strerror or error})",
                "expected a disk that takes what the runs send back",
                "free some space and give the command again: every run goes on from its last checkpoint here",
            ) from error

    def _take(self, name: str, answer: Any) -> Event | None:
        placed = self._placed[name]
        if isinstance(answer, dict):  # of `Seat.take`
            placed.theirs = answer
            if placed.sending:
                self._send(name)
            else:
                self._begin(name)
        elif answer is not None:  # of `Seat.look`
            found, code = answer
            placed.receiver.take(found)
            if code is not None:
                return Ended(name, code, last_line(placed.job.folder))
            pace = max(LOOK, len(self._placed) / LOOKS)
            placed.due = time.monotonic() + pace if found.complete else 0.0
        saved = placed.receiver.saved > placed.told
        placed.told = placed.receiver.saved
        return Heard(name, saved)


def _examiner() -> Callable[[], dict[str, Any]]:
    """A function that travels whole, since the node that it examines may lack softac."""

    def examine() -> dict[str, Any]:
        try:
            from softac.run.folder import system
        except ImportError as error:
            return {"missing": str(error)}
        return system()

    return examine


def _differences(said: Mapping[str, Any]) -> str:
    """In words, where a node may compute other bits than this machine; "" if nowhere."""
    here, names = system(), ["softac", *fingerprint()]
    differ = [name for name in names if name != "threads" and said.get(name) != here[name]]
    if NOT_INSTALLED in (said.get("mujoco"), here["mujoco"]):
        differ = [name for name in differ if name != "mujoco"]  # who needs it says so
    return ", ".join(f"{name} {one_line(str(said.get(name)), 100)} instead of {here[name]}" for name in differ)
