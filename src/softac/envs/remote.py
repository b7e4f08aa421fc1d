"""Environments on the machines of a Ray cluster: the worker of the pool, behind an actor.

Actions are chosen together and every episode has a seed of its own, so where an environment is stepped changes no
number. What goes wrong is told as in the pool, and a machine that is lost is a process that is.
"""

import logging
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from softac.envs.block import DONE, Block, State
from softac.envs.cluster import cluster
from softac.envs.machine import machine
from softac.envs.make import EnvSource
from softac.envs.process import CLOSING, Lost, Process, Worker
from softac.envs.processes import STARTING, ProcessVectorEnv, in_memory, packed
from softac.errors import one_line
from softac.types import FloatArray

MOST_LOSSES = 3  # machines that are lost one after the other
MARGIN = 60.0  # seconds that an answer may take longer than the environments

log = logging.getLogger("softac.envs")


@dataclass(frozen=True)
class Rows:
    """The rows of `softac.envs.block.Block` that belong to one worker, as they travel."""

    columns: dict[str, FloatArray]

    @classmethod
    def of(cls, block: Block, envs: range, names: tuple[str, ...]) -> "Rows":
        """A copy of these columns."""
        return cls({name: getattr(block, name)[envs.start : envs.stop].copy() for name in names})

    def into(self, block: Block, envs: range) -> None:
        """Write them into a block."""
        for name, values in self.columns.items():
            getattr(block, name)[envs.start : envs.stop] = values


class MachineLost(Lost):
    """A worker that cannot be reached any more, which is nobody's doing."""


ASKED = ("state", "seed", "action")
ANSWERED = ("state", "obs", "reward", "terminated", "truncated", "success")


class World:
    """What an actor does on its machine: it has a worker process step some of the environments.

    Args:
        source: what they are made from, packed.
        first: of all environments of the run, the first one here.
        stop: the one behind the last.
        timeout: seconds that making, resetting and stepping one may take.
        path: where modules are looked for, too, if it is there.
    """

    def __init__(self, source: bytes, first: int, stop: int, timeout: float, path: list[str]) -> None:
        sys.path += [folder for folder in path if folder not in sys.path]  # the worker's, too
        self.envs, self.timeout = range(first, stop), timeout
        self.descriptors = in_memory(source), in_memory(b"")
        self.process = Process(self.envs, *self.descriptors)
        self.block: Block

    def make(self) -> list[Any]:
        """Make the environments; what the worker says, the last of it that it has, or has not."""
        self.process.begin()
        said: list[Any] = [{"kind": "machine", **machine()}]
        patience = max(self.timeout, STARTING)
        try:
            while said[-1].get("kind") not in ("made", "refused"):
                said.append(self.process.receive(patience))
                patience = self.timeout
        except Lost as lost:
            said.append(str(lost))
        return said

    def do(self, asked: Rows) -> tuple[Rows, list[Any]]:
        """Have done what these rows ask for; the answers, and what the worker says."""
        if not hasattr(self, "block"):
            obs_dim, action_dim = asked.columns["obs"].shape[1], asked.columns["action"].shape[1]
            self.block = Block(self.descriptors[1], self.envs.stop, obs_dim, action_dim)
        asked.into(self.block, self.envs)
        self.process.wake()
        said: list[Any] = []
        states = self.block.state[self.envs.start : self.envs.stop]
        try:
            while (message := self.process.receive(self.timeout, states.tobytes)) != DONE:
                said.append(message)
            said.append(DONE)
        except Lost as lost:
            said.append(str(lost))
        return Rows.of(self.block, self.envs, ANSWERED), said

    def leave(self) -> list[Any]:
        """Close the environments; what the worker says meanwhile."""
        said: list[Any] = []
        self.process.leave()
        self.process.join(said.append)
        return said


class RemoteProcess:
    """A worker process on another machine, with the face of `softac.envs.process.Process`.

    Args:
        envs: the environments it steps.
        begin: begins a `World` for them.
        rows: the block of all environments, once there is one.
        ray: the module, connected.
    """

    def __init__(self, envs: range, begin: Callable[[range], Any], rows: Callable[[], Block], ray: Any) -> None:
        self.envs, self._begin, self._rows, self._ray = envs, begin, rows, ray
        self.alive = self.serving = self.busy = False
        self._said: deque[Any] = deque()
        self._left = self._shaped = False

    def begin(self) -> None:
        """Begin it; what it says first is that it makes its environments."""
        self._world = self._begin(self.envs)
        self._said.clear()
        self._call = self._world.make.remote()
        self.alive, self.serving, self.busy, self._left, self._shaped = True, False, False, False, False

    def wake(self) -> None:
        """Tell it that something in its rows is to be done."""
        self.busy = True
        names = ASKED if self._shaped else (*ASKED, "obs")  # whose width it does not know yet
        self._call, self._shaped = self._world.do.remote(Rows.of(self._rows(), self.envs, names)), True

    def receive(self, timeout: float, progress: Callable[[], bytes] = bytes) -> Any:  # noqa: ARG002 - its own face
        """Wait for what it says next: `DONE`, or a message.

        Args:
            timeout: seconds that one environment may take.
            progress: is watched where the worker is.

        Raises:
            Lost: it has ended, is silent for too long, or its machine is lost.
        """
        if not self._said:
            self._hear(timeout * len(self.envs) + MARGIN)
        message = self._said.popleft()
        if isinstance(message, str):
            raise Lost(message)
        return message

    def leave(self) -> None:
        """Ask it to close its environments and end."""
        if self.alive and not self._left:
            self._call, self._left = self._world.leave.remote(), True

    def join(self, take: Callable[[Any], None]) -> None:
        """Wait for its end after `leave`; what it says is handed to `take`."""
        if not self.alive:
            return
        self._said.clear()
        with suppress(Lost):
            self._hear(CLOSING + 2.0)
            for message in self._said:
                take(message)
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        if not self.alive:
            return
        self.alive = self.serving = self.busy = False
        with suppress(Exception):  # the cluster may be gone
            self._ray.kill(self._world)

    def _hear(self, patience: float) -> None:
        """Wait for the answer that is due, and take it apart."""
        try:
            answer = self._ray.get(self._call, timeout=patience)
        except self._ray.exceptions.GetTimeoutError:
            raise MachineLost(f"their machine did not answer within {patience:g} s") from None
        except Exception as error:
            what = one_line(f"{type(error).__name__}: {error}", 200)
            raise MachineLost(f"their machine is lost ({what})") from None
        if isinstance(answer, tuple):
            rows, said = answer
            rows.into(self._rows(), self.envs)
            self._rows().when[self.envs.start : self.envs.stop] = time.monotonic()
        else:
            said = answer
        self._said.extend(said)


class RayVectorEnv(ProcessVectorEnv):
    """A `VectorEnv` whose environments are stepped on the machines of a Ray cluster.

    The cluster is the one that `RAY_ADDRESS` names, or one of this machine's cores.

    Args, raised errors: as for `ProcessVectorEnv`.
    """

    def __init__(self, source: EnvSource, num_envs: int, workers: int, timeout: float) -> None:
        self._connection = ExitStack()
        insecure = os.environ.get("RAY_AUTH_MODE") == "disabled"
        self._ray = self._connection.enter_context(cluster(os.environ.get("RAY_ADDRESS"), insecure=insecure))
        self._disconnect = weakref.finalize(self, self._connection.close)
        self._told: set[str] = set()
        self._moving, self._losses = False, 0  # a machine has been lost; how many have been, with no answer since
        try:
            self._source = packed(source)
            super().__init__(source, num_envs, workers, timeout)
        except BaseException:
            self._disconnect()
            raise

    def close(self) -> None:
        """Close every environment and end every process, also after one of them failed to."""
        super().close()
        self._disconnect()

    def _worker(self, envs: range) -> RemoteProcess:
        ray, source, timeout, path = self._ray, self._source, self.timeout, [*sys.path]

        def begin(envs: range) -> Any:
            # Spread, and no core is booked: a simulator that waits for a clock or a device needs none.
            options = {"num_cpus": 0, "scheduling_strategy": "SPREAD"}
            return ray.remote(World).options(**options).remote(source, envs.start, envs.stop, timeout, path)

        this = weakref.proxy(self)
        return RemoteProcess(envs, begin, lambda: this._block, ray)

    def _wait(self, process: Worker) -> None:
        """As in the pool; what a machine that was lost had been asked for is asked of another."""
        asked = {i: (self._asked[i], self._block.action[i].copy()) for i in process.envs if i in self._asked}
        super()._wait(process)
        if process.alive or not self._moving:
            return
        self._moving = False
        for i, (what, action) in asked.items():
            if i in self._ready or i in self._faults or what == State.REMAKE:  # the next process makes it anew
                continue
            if what == State.STEP:
                self._find_again(i)
                self._block.action[i] = action
            if i not in self._faults:
                self._revive(process)
                self._ask([i], what)
                self._wait(process)
        self._losses = 0

    def _lose(self, process: Worker, how: Lost) -> None:
        if not isinstance(how, MachineLost) or self._losses >= MOST_LOSSES:
            super()._lose(process, how)
            return
        self._losses += 1
        log.warning("environments %d to %d: %s; another goes on with them", process.envs[0], process.envs[-1], how)
        process.kill()
        self._stale.update(process.envs)
        self._moving = True

    def _take(self, message: Any) -> None:
        if isinstance(message, dict) and message.get("kind") == "machine":
            self._compare(message)
        else:
            super()._take(message)

    def _compare(self, theirs: dict[str, Any]) -> None:
        """Say where a machine may answer with other bits than this one."""
        here, name = machine(), str(theirs.get("host"))
        differ = [part for part in here if part != "host" and theirs.get(part) != here[part]]
        if differ and name not in self._told:
            self._told.add(name)
            said = ", ".join(f"{p} {one_line(str(theirs.get(p)), 100)} instead of {here[p]}" for p in differ)
            log.warning("environments on %s may answer with other bits than here: %s", name, said)
