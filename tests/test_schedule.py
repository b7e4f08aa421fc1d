"""Which job goes where, and what becomes of those whose node is lost; a thousand of them in simulated time."""

from pathlib import Path

import pytest

from simulated import Simulation
from softac.errors import ConfigError
from softac.experiments import schedule
from softac.experiments.dispatch import Ended, Heard, Lost, dispatch
from softac.experiments.jobs import Job
from softac.experiments.schedule import AVOIDED, KILLS, SILENCE, STARTING, Node, Schedule

GB = 10**9


def jobs(*names: str, memory: int = 0) -> list[Job]:
    return [Job(name, ("resume",), Path(name), memory) for name in names]


def nodes(**cores: int) -> dict[str, Node]:
    return {i: Node(f"node {i}", n, 4 * GB) for i, n in cores.items()}


def begun(plan: Schedule, there: dict[str, Node], now: float = 0.0) -> list[tuple[str, str]]:
    return [(job.name, node) for job, node in plan.assign(there, now)]


def test_jobs_are_begun_in_order_where_most_is_free() -> None:
    plan = Schedule(jobs("1", "2", "3", "4", "5"), 10)
    assert begun(plan, nodes(a=1, b=3)) == [("1", "b"), ("2", "b"), ("3", "a"), ("4", "b")]
    assert begun(plan, nodes(a=1, b=3)) == []
    assert plan.end("3", 0, asked=False)
    assert begun(plan, nodes(a=1, b=3)) == [("5", "a")]
    assert plan.codes == {"3": 0}


def test_at_most_so_many() -> None:
    plan = Schedule(jobs("1", "2", "3"), 2)
    assert len(begun(plan, nodes(a=8))) == 2


def test_memory_is_room_as_well_and_a_large_job_does_not_stop_the_small_ones_behind_it() -> None:
    plan = Schedule(
        [*jobs("large", memory=3 * GB), *jobs("large too", memory=3 * GB), *jobs("small", memory=GB)], 9
    )
    assert begun(plan, nodes(a=8)) == [("large", "a"), ("small", "a")]
    assert [job.name for job in plan.waiting] == ["large too"]
    assert plan.too_large(nodes(a=8)) == []
    assert [job.name for job in plan.too_large({"b": Node("b", 1, GB)})] == ["large too"]


def test_a_lost_job_goes_on_before_all_others_and_its_node_is_left_alone() -> None:
    plan = Schedule(jobs("1", "2", "3", "4"), 10)
    assert begun(plan, nodes(a=2)) == [("1", "a"), ("2", "a")]
    plan.lose("1", 100.0)
    assert [job.name for job in plan.waiting] == ["1", "3", "4"]
    assert begun(plan, nodes(a=2), 100.0 + AVOIDED - 1) == []
    assert begun(plan, nodes(a=2, b=1), 100.0) == [("1", "b")]
    assert begun(plan, nodes(a=2, b=1), 100.0 + AVOIDED) == [("3", "a")]


def test_a_node_that_loses_one_job_after_the_other_is_left_alone_for_longer() -> None:
    plan, now = Schedule(jobs("1"), 1), 0.0
    for n in range(3):
        assert begun(plan, nodes(a=1), now) == [("1", "a")]
        plan.lose("1", now)
        assert begun(plan, nodes(a=1), now + AVOIDED * 2**n - 0.1) == []
        now += AVOIDED * 2**n
    assert begun(plan, nodes(a=1), now) == [("1", "a")]
    plan.hear("1", now, saved=True)  # it works after all
    plan.lose("1", now)
    assert begun(plan, nodes(a=1), now + AVOIDED) == [("1", "a")]


def test_all_jobs_of_a_lost_node_count_once() -> None:
    plan = Schedule(jobs("1", "2", "3"), 9)
    begun(plan, nodes(a=3))
    for name in "123":
        plan.lose(name, 5.0)
    assert [job.name for job in plan.waiting] == ["3", "2", "1"]
    assert len(begun(plan, nodes(a=3), 5.0 + AVOIDED)) == 3


def test_silence_is_a_loss_and_a_beginning_may_take_longer() -> None:
    plan = Schedule(jobs("1", "2"), 9)
    begun(plan, nodes(a=2))
    plan.hear("1", 10.0, saved=False)
    assert plan.silent(10.0 + SILENCE) == []
    assert plan.silent(10.1 + SILENCE) == ["1"]
    assert plan.silent(STARTING + 0.1) == ["1", "2"]
    plan.slept(100.0)
    assert plan.silent(STARTING + 0.1) == []
    assert plan.silent(STARTING + 100.1) == ["1", "2"]


@pytest.mark.parametrize(("code", "goes_on"), [(0, False), (1, False), (4, False), (6, False), (139, False)])
def test_a_run_that_fails_by_itself_has_failed(code: int, goes_on: bool) -> None:
    plan = Schedule(jobs("1"), 1)
    begun(plan, nodes(a=1, b=1))
    assert plan.end("1", code, asked=False) is not goes_on
    assert plan.codes == {"1": code}


@pytest.mark.parametrize("code", [2, 5])
def test_what_a_node_lacks_is_looked_for_on_another(code: int) -> None:
    plan, there = Schedule(jobs("1"), 1), nodes(a=2, b=1)
    assert begun(plan, there) == [("1", "a")]
    assert not plan.end("1", code, asked=False)
    assert begun(plan, there) == [("1", "b")]
    assert not plan.end("1", code, asked=False)
    assert begun(plan, there) == []
    assert plan.codes == {"1": code}
    assert not plan.waiting


def test_a_run_that_is_killed_goes_on_until_it_is_killed_too_often() -> None:
    plan = Schedule(jobs("1"), 1)
    for n in range(KILLS):
        begun(plan, nodes(a=1))
        assert not plan.end("1", 137, asked=False), n
    begun(plan, nodes(a=1))
    plan.hear("1", 0.0, saved=True)  # the count begins anew
    for _ in range(KILLS):
        assert not plan.end("1", 137, asked=False)
        begun(plan, nodes(a=1))
    assert plan.end("1", 137, asked=False)
    assert plan.codes == {"1": 137}


def test_saved_and_stopped_by_somebody_else_goes_on_and_by_us_does_not() -> None:
    plan = Schedule(jobs("1"), 1)
    begun(plan, nodes(a=1))
    assert not plan.end("1", 143, asked=False)
    begun(plan, nodes(a=1))
    assert plan.end("1", 143, asked=True)


class Scripted:
    """A cluster that tells what it was given to tell, one list of events after the other."""

    def __init__(self, *told: list[object], there: dict[str, Node]) -> None:
        self.told, self.there = list(told), there
        self.done: list[object] = []

    def nodes(self) -> dict[str, Node]:
        return self.there

    def begin(self, job: Job, node: str) -> None:
        self.done.append(("begin", job.name, node))

    def stop(self, name: str) -> None:
        self.done.append(("stop", name))

    def drop(self, name: str) -> None:
        self.done.append(("drop", name))

    def events(self, seconds: float) -> list[object]:
        return self.told.pop(0) if self.told else []


def test_the_loop_tells_where_each_job_is_and_how_it_ended(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[dict[str, str], dict[str, int]]] = []
    cluster = Scripted(
        [Heard("1", saved=True)],
        [Lost("1", "is lost (ActorDiedError)"), Ended("2", 1, "no good")],
        [],
        [Ended("1", 0, "")],
        there=nodes(a=1, b=3),
    )
    codes = dispatch(
        cluster,  # type: ignore[arg-type]
        jobs("1", "2"),
        9,
        stop=lambda: False,
        watch=lambda running, codes: seen.append((dict(running), dict(codes))),
    )
    assert codes == {"1": 0, "2": 1}
    assert seen[0] == ({"1": "node b", "2": "node b"}, {})
    assert seen[2] == ({"1": "node a"}, {"2": 1})
    assert seen[-1] == ({}, codes)
    began = [("begin", "1", "b"), ("begin", "2", "b")]
    assert cluster.done == [*began, ("drop", "1"), ("drop", "2"), ("begin", "1", "a"), ("drop", "1")]
    told = "1: node node b is lost (ActorDiedError); it goes on elsewhere from its last checkpoint"
    assert [record.getMessage() for record in caplog.records] == [told]


@pytest.mark.parametrize(
    ("said", "why"), [("", "exit code 137"), ("softac: no good", "exit code 137: softac: no good")]
)
def test_a_killed_run_that_goes_on_elsewhere_is_told(
    caplog: pytest.LogCaptureFixture, said: str, why: str
) -> None:
    cluster = Scripted([Ended("1", 137, said)], [Ended("1", 0, "")], there=nodes(a=1))
    codes = dispatch(cluster, jobs("1"), 1, stop=lambda: False, watch=lambda *_: None)  # type: ignore[arg-type]
    assert codes == {"1": 0}
    assert caplog.messages == [f"1 ended on node a ({why}) and goes on elsewhere"]


def test_a_stop_asks_each_job_and_begins_no_other() -> None:
    asked = False

    def watch(running: object, codes: object) -> None:
        nonlocal asked
        asked = True

    cluster = Scripted([Ended("1", 143, ""), Lost("2", "is lost")], there=nodes(a=2))
    codes = dispatch(cluster, jobs("1", "2", "3"), 2, stop=lambda: asked, watch=watch)  # type: ignore[arg-type]
    assert codes == {}  # neither has ended by itself, and neither is begun again
    assert cluster.done == [("begin", "1", "a"), ("begin", "2", "a"), ("drop", "1"), ("drop", "2")]
    cluster, asked = Scripted([], [Ended("1", 143, "")], [Ended("2", 0, "")], there=nodes(a=2)), False
    codes = dispatch(cluster, jobs("1", "2", "3"), 2, stop=lambda: asked, watch=watch)  # type: ignore[arg-type]
    assert codes == {"1": 143, "2": 0}
    assert cluster.done[2:4] == [("stop", "1"), ("stop", "2")]
    assert not any(done[:2] == ("begin", "3") for done in cluster.done)  # type: ignore[index]


def test_a_job_that_no_node_has_room_for_says_so() -> None:
    cluster = Scripted(there=nodes(a=2))
    with pytest.raises(ConfigError) as error:
        dispatch(cluster, jobs("1", memory=5 * GB), 2, stop=lambda: False, watch=lambda *_: None)  # type: ignore[arg-type]
    assert error.value.given == "1 may need 5.0 GB of memory, and no node offers more than 4.0 GB"
    assert error.value.expected == "expected a node with as much"
    assert error.value.remedy == "lower buffer_size, or add a larger node to the cluster"


@pytest.mark.parametrize("equal", [True, False], ids=["two hours each", "20 to 60 minutes"])
def test_a_thousand_runs_on_two_hundred_nodes_that_fail(equal: bool) -> None:
    """Within 5 % of a cluster that never fails and a driver that needs no time."""
    seconds = [7_200.0] * 1_000 if equal else [1_200.0 + 2_400.0 * (i * 617 % 1_000) / 1_000 for i in range(1_000)]
    simulation = Simulation(seconds, nodes=200, cores=1, save_every=120.0, fail_every=600.0, away=300.0, seed=1)
    ideal = Simulation(seconds, nodes=200, cores=1, seed=1, begin=0.0)
    assert set(simulation.run().values()) == {0} == set(ideal.run().values())
    assert simulation.failures > 15
    assert simulation.lost > 10
    assert simulation.now <= 1.05 * ideal.now
    assert simulation.most_open <= 200
    assert schedule.SILENCE < 90
