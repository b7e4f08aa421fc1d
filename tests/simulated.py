"""A cluster in simulated time, for softac's own dispatch: nodes that fail and come back, runs that save."""

import heapq
from pathlib import Path
from random import Random

from softac.experiments.dispatch import Ended, Event, Heard, Lost, dispatch
from softac.experiments.jobs import Job
from softac.experiments.schedule import Node


class Simulation:
    """Runs of known lengths on nodes that are lost at random moments.

    Args:
        seconds: of work in each run.
        nodes: how many.
        cores: of each.
        save_every: seconds of work between two checkpoints.
        fail_every: seconds between two failures of a node on average; 0: there are none.
        away: seconds until a node that failed is back.
        begin: seconds until a run that was begun works.
        noticed: seconds until a loss is seen: of every second node, and, where it is cut off, of the others.
        pace: seconds between two looks of the driver.
        seed: of what is random.

    Attributes:
        now: simulated seconds.
        failures: of nodes.
        lost: runs that were on them.
        repeated: seconds of work done again.
        most_open: the most runs that the driver had open at a time.
    """

    def __init__(
        self,
        seconds: list[float],
        *,
        nodes: int,
        cores: int,
        save_every: float = 60.0,
        fail_every: float = 0.0,
        away: float = 300.0,
        begin: float = 5.0,
        noticed: tuple[float, float] = (2.0, 65.0),
        pace: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.work = {f"run {i}": length for i, length in enumerate(seconds)}
        self.saved = dict.fromkeys(self.work, 0.0)
        self.there = {f"node {i}": Node(f"node {i}", cores, 2**40) for i in range(nodes)}
        self.save_every, self.fail_every, self.away = save_every, fail_every, away
        self.begin_after, self.noticed, self.pace, self.random = begin, noticed, pace, Random(seed)  # noqa: S311
        self.now = 0.0
        self.failures = self.lost = self.most_open = 0
        self.repeated = 0.0
        self.seats: dict[str, tuple[str, float, int]] = {}  # run -> node, when its work began, which attempt
        self.attempts = dict.fromkeys(self.work, 0)
        self.down: set[str] = set()
        self.queue: list[tuple[float, int, str, str, int]] = []  # when, n, what, run or node, attempt
        self.n = 0
        if fail_every:
            self.put(self.random.expovariate(1 / fail_every), "failure", "", 0)

    def run(self) -> dict[str, int]:
        """Work everything off; the exit codes."""
        jobs = [Job(name, (), Path(name)) for name in self.work]
        return dispatch(self, jobs, len(jobs), stop=lambda: False, watch=lambda *_: None, clock=lambda: self.now)

    def put(self, after: float, what: str, name: str, attempt: int) -> None:
        self.n += 1
        heapq.heappush(self.queue, (self.now + after, self.n, what, name, attempt))

    # ------------------------------------------------------------- softac.experiments.dispatch.Cluster

    def nodes(self) -> dict[str, Node]:
        return {name: node for name, node in self.there.items() if name not in self.down}

    def begin(self, job: Job, node: str) -> None:
        self.attempts[job.name] += 1
        attempt = self.attempts[job.name]
        self.seats[job.name] = node, self.now + self.begin_after, attempt
        left = self.work[job.name] - self.saved[job.name]
        self.put(self.begin_after + left, "end", job.name, attempt)
        self.most_open = max(self.most_open, len(self.seats))

    def stop(self, name: str) -> None:
        raise AssertionError(name)

    def drop(self, name: str) -> None:
        self.seats.pop(name, None)

    def events(self, seconds: float) -> list[Event]:
        """Advance to the next look of the driver at which something has happened."""
        until = self.now + self.pace
        if not self.queue or self.queue[0][0] > until:  # nothing to do meanwhile
            until = min((self.queue[0][0] if self.queue else until) + self.pace, self.now + 4.0)
        told: list[Event] = []
        while self.queue and self.queue[0][0] <= until:
            self.now, _, what, name, attempt = heapq.heappop(self.queue)
            if what == "failure":
                self.fail()
            elif what == "back":
                self.down.discard(name)
            elif name in self.seats and self.seats[name][2] == attempt:
                told.append(Ended(name, 0, "") if what == "end" else Lost(name, "is lost"))
        self.now = until
        told += [Heard(name, saved=False) for name, seat in self.seats.items() if seat[0] not in self.down]
        return told

    def fail(self) -> None:
        """A node is gone, and what was on it since its last checkpoint."""
        self.failures += 1
        self.put(self.random.expovariate(1 / self.fail_every), "failure", "", 0)
        node = self.random.choice(sorted(self.nodes()))
        seen = self.noticed[self.failures % 2]
        self.down.add(node)
        self.put(self.away, "back", node, 0)
        for name, (where, began, attempt) in list(self.seats.items()):
            if where == node:
                self.lost += 1
                done = self.saved[name] + max(0.0, self.now - began)
                self.saved[name], done = max(self.saved[name], done // self.save_every * self.save_every), done
                self.repeated += done - self.saved[name]
                self.seats[name] = where, began, attempt + 1_000  # its end will not come
                self.attempts[name] = attempt + 1_000
                self.put(seen, "lost", name, attempt + 1_000)
