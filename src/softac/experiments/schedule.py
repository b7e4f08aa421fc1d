"""Which job goes to which node of a cluster, and what becomes of those whose node is lost.

Nothing here knows a network or a clock: who calls says what has happened, and when. So the same lines place runs
on a cluster and in a simulation of a thousand of them.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from softac.experiments.jobs import Job

STARTING = 120.0  # seconds until the first answer after which a job's node counts as lost
SILENCE = 45.0  # seconds without a further one
AVOIDED = 15.0  # seconds that a node which has lost a job gets no other; twice as long with each further one
LONGEST_AVOIDED = 600.0
KILLS = 3  # times that a job may be killed in a row without a checkpoint in between
NODE_CODES = (2, 5)  # exit codes that speak of the node: it lacks something, or its disk is full
SAVED, KILLED = 143, 137  # exit codes: saved and stopped, ended by SIGKILL


@dataclass(frozen=True)
class Node:
    """What a node of the cluster offers.

    Attributes:
        name: for people.
        cores: of its processor, for jobs of ours.
        memory: bytes, for jobs of ours.
    """

    name: str
    cores: int
    memory: int


@dataclass
class Seat:
    """A job on a node.

    Attributes:
        job: what is there.
        node: where, by its id.
        heard: when it has answered last.
        answered: whether it has, since it was begun.
    """

    job: Job
    node: str
    heard: float
    answered: bool = False


class Schedule:
    """The state of all jobs.

    Args:
        jobs: in the order in which they are to be begun.
        limit: the most at a time.

    Attributes:
        waiting: jobs that are not on a node; those that were, first.
        seats: those that are, by name.
        codes: the exit codes of those that have ended.
    """

    def __init__(self, jobs: Sequence[Job], limit: int) -> None:
        self.waiting, self.limit = deque(jobs), limit
        self.seats: dict[str, Seat] = {}
        self.codes: dict[str, int] = {}
        self._avoided: dict[str, float] = {}  # nodes, until when
        self._losses: dict[str, int] = {}  # nodes, how many in a row
        self._unfit: dict[
            str, dict[str, int]
        ] = {}  # jobs, the nodes that cannot run them with the exit code there
        self._kills: dict[str, int] = {}  # jobs, how often in a row

    def assign(self, nodes: Mapping[str, Node], now: float) -> list[tuple[Job, str]]:
        """Give waiting jobs a seat each, as far as there is room.

        Args:
            nodes: those that can be used, by their ids.
            now: seconds.

        Returns:
            What is to be begun: jobs, each with the id of its node.
        """
        cores = {i: n.cores for i, n in nodes.items() if self._avoided.get(i, now) <= now}
        memory = {i: nodes[i].memory for i in cores}
        for seat in self.seats.values():
            if seat.node in cores:
                cores[seat.node] -= 1
                memory[seat.node] -= seat.job.memory
        begun, passed = [], []
        while self.waiting and len(self.seats) < self.limit and any(n > 0 for n in cores.values()):
            job = self.waiting.popleft()
            unfit = self._unfit.get(job.name, {})
            fits = [i for i in cores if cores[i] > 0 and memory[i] >= job.memory and i not in unfit]
            if fits:
                # Where most is free: nodes are filled evenly, and the memory of each lasts longest.
                chosen = max(fits, key=lambda i: (cores[i], memory[i]))
                cores[chosen], memory[chosen] = cores[chosen] - 1, memory[chosen] - job.memory
                self.seats[job.name] = Seat(job, chosen, now)
                begun.append((job, chosen))
            elif unfit and unfit.keys() >= nodes.keys():
                self.codes[job.name] = next(reversed(unfit.values()))
            else:
                passed.append(job)
        self.waiting.extendleft(reversed(passed))
        return begun

    def too_large(self, nodes: Mapping[str, Node]) -> list[Job]:
        """The waiting jobs that need more memory than any of these nodes has."""
        most = max((node.memory for node in nodes.values()), default=0)
        return [job for job in self.waiting if job.memory > most] if nodes else []

    def hear(self, name: str, now: float, *, saved: bool) -> None:
        """A job has answered; `saved`: with a checkpoint that has arrived here."""
        if (seat := self.seats.get(name)) is None:
            return
        seat.heard, seat.answered = now, True
        if saved:
            self._kills.pop(name, None)
            self._losses.pop(seat.node, None)

    def slept(self, seconds: float) -> None:
        """Whoever listens has not, for so long; nobody's silence is counted meanwhile."""
        for seat in self.seats.values():
            seat.heard += seconds

    def silent(self, now: float) -> list[str]:
        """The jobs that have not answered for too long."""
        patience = {True: SILENCE, False: STARTING}
        return [name for name, seat in self.seats.items() if now - seat.heard > patience[seat.answered]]

    def lose(self, name: str, now: float) -> None:
        """A job has lost its node: back to the front, and the node is left alone for a while."""
        seat = self.seats.pop(name)
        if self._avoided.get(seat.node, now) <= now:  # not once for each job that was there
            losses = self._losses[seat.node] = self._losses.get(seat.node, 0) + 1
            self._avoided[seat.node] = now + min(AVOIDED * 2 ** (losses - 1), LONGEST_AVOIDED)
        self.waiting.appendleft(seat.job)

    def end(self, name: str, code: int, *, asked: bool) -> bool:
        """A job's process has ended by itself; whether that is its end, or it goes on.

        What speaks of the node and not of the job is tried on another node: that something is missing there, that
        its disk is full, that somebody has stopped or killed the process.

        Args:
            name: of the job.
            code: its exit code.
            asked: whether it was asked to stop.
        """
        seat = self.seats.pop(name)
        kills = self._kills.get(name, 0) + (code == KILLED)
        if asked or code not in (*NODE_CODES, SAVED, KILLED) or kills > KILLS:
            self.codes[name] = code
            return True
        self._kills[name] = kills
        if code in NODE_CODES:
            self._unfit.setdefault(name, {})[seat.node] = code
        self.waiting.appendleft(seat.job)
        return False
