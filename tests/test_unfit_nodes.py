"""Nodes of a cluster that cannot be used, and disks that are full: what is said, without a cluster."""

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'softac[ray]'")

from softac import SAC
from softac.errors import ConfigError, DiskError
from softac.experiments.dispatch import Ended
from softac.experiments.jobs import Job
from softac.experiments.on_ray import RayCluster
from softac.run.folder import system

SMALL: dict[str, Any] = {"net_arch": [8, 8], "batch_size": 16, "learning_starts": 10}


class RayError(Exception):
    pass


def number(i: int) -> str:
    """A node's id, as Ray writes them."""
    return f"{i + 1:056x}"


class FakeRay:
    """What `RayCluster` asks of Ray: each node says one thing, and every answer is there at once."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, **said: Any) -> None:
        self.said = said

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "NodeID": number(i),
                "Alive": True,
                "NodeManagerHostname": name,
                "NodeManagerAddress": f"10.0.0.{i}",
                "Resources": {"CPU": 2.0, "memory": 2**30},
            }
            for i, name in enumerate(self.said)
        ]

    def remote(self, _: Any) -> Any:
        def options(**options: Any) -> Any:
            place = int(options["scheduling_strategy"].node_id, 16) - 1
            return SimpleNamespace(remote=lambda: list(self.said.values())[place])

        return SimpleNamespace(options=options)

    def wait(self, calls: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return calls, []

    def get(self, call: Any) -> Any:
        if isinstance(call, Exception):
            raise call
        return call

    def kill(self, _: Any) -> None:
        pass


WITHOUT = {"missing": "No module named 'softac'"}


def other(**changes: str) -> dict[str, Any]:
    return system() | changes


def test_a_node_without_softac_is_named_and_the_others_are_used(caplog: pytest.LogCaptureFixture) -> None:
    cluster = RayCluster(FakeRay(bare=WITHOUT, good=system()), any_node=False)
    assert [(node.name, node.cores) for node in cluster.nodes().values()] == [("10.0.0.1", 2)]
    assert caplog.messages == ["node bare (10.0.0.0) has no softac (No module named 'softac'); it is not used"]


def test_where_no_node_can_be_used_it_says_why() -> None:
    cluster = RayCluster(FakeRay(bare=WITHOUT), any_node=False)
    with pytest.raises(ConfigError) as caught:
        cluster.nodes()
    message = str(caught.value)
    assert message.startswith(
        "no node of the cluster can be used: bare (10.0.0.0) has no softac (No module named 'softac'); "
    )
    assert message.endswith("install them there, or add --any-node to use them as they are")


@pytest.mark.parametrize("part", ["softac", "torch", "numpy", "processor"])
def test_a_node_of_another_version_is_used_only_where_any_will_do(
    part: str, caplog: pytest.LogCaptureFixture
) -> None:
    there = other(**{part: "9.9"})
    difference = f"node old (10.0.0.0) is not like this machine: {part} 9.9 instead of {system()[part]}"
    with pytest.raises(ConfigError, match=f"{part} 9.9 instead of"):
        RayCluster(FakeRay(old=there), any_node=False).nodes()
    assert caplog.messages == [f"{difference}; it is not used"]
    caplog.clear()
    assert list(RayCluster(FakeRay(old=there), any_node=True).nodes()) == [number(0)]
    assert caplog.messages == [f"{difference}; its runs may end in other bits"]


def test_what_is_no_other_bit_is_no_difference(caplog: pytest.LogCaptureFixture) -> None:
    there = other(threads="64", mujoco="not installed")
    assert list(RayCluster(FakeRay(plain=there), any_node=False).nodes()) == [number(0)]
    assert caplog.messages == []


def test_a_node_that_dies_while_it_is_asked_is_asked_again() -> None:
    ray = FakeRay(shy=RayError("gone"))
    cluster = RayCluster(ray, any_node=False)
    assert cluster.nodes() == {}
    ray.said["shy"] = system()
    cluster._looked = float("-inf")
    assert list(cluster.nodes()) == [number(0)]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({}, "no node of the cluster offers a core; the runs wait until one joins: ray start --address HOST:PORT"),
        ({"dumb": RayError("gone")}, "no node of the cluster has answered yet; the runs wait until one does"),
    ],
)
def test_a_cluster_without_a_node_that_can_be_used_is_waited_for_and_that_is_said_once(
    there: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [1_000.0]
    monkeypatch.setattr("softac.experiments.on_ray.time.monotonic", lambda: clock[0])
    ray = FakeRay(**there)
    cluster = RayCluster(ray, any_node=False)

    def nodes_after(seconds: float) -> int:
        clock[0] += seconds
        return len(cluster.nodes())

    assert [nodes_after(19.9), caplog.messages] == [0, []]
    assert [nodes_after(0.2), caplog.messages] == [0, [said]]
    assert [nodes_after(500.0), caplog.messages] == [0, [said]]
    ray.said = {"good": system()}
    assert nodes_after(2.0) == 1
    ray.said = {}
    assert [nodes_after(10.0), caplog.messages] == [0, [said]]
    nodes_after(20.1)
    assert len(caplog.messages) == 2


@pytest.fixture
def placed(tmp_path: Path) -> tuple[RayCluster, Path]:
    """A cluster with a job on one of its nodes."""
    folder = tmp_path / "run"
    SAC("Pendulum-v1", **SMALL).learn(20, run_dir=folder, n_eval_episodes=0).close()
    (folder / ".lock").unlink(missing_ok=True)
    ray = FakeRay(good=system())
    cluster = RayCluster(ray, any_node=False)
    ray.said["good"] = SimpleNamespace(take=SimpleNamespace(remote=lambda part: "asked"))
    cluster.begin(Job("one", ["resume", str(folder)], folder), number(0))
    return cluster, folder


def test_a_full_disk_there_ends_that_run(placed: tuple[RayCluster, Path]) -> None:
    cluster, _ = placed
    full = OSError(errno.ENOSPC, "No space left on device")
    assert cluster._answer("one", full) == Ended("one", DiskError.exit_code, "[Errno 28] No space left on device")
    cluster.drop("one")


def test_a_full_disk_here_ends_the_command(
    placed: tuple[RayCluster, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, folder = placed

    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cluster._placed["one"].receiver, "take", full)
    with pytest.raises(DiskError) as caught:
        cluster._answer("one", (None, None))
    assert str(caught.value) == (
        f"{folder} cannot be written (No space left on device); expected a disk that takes what the runs send "
        "back; free some space and give the command again: every run goes on from its last checkpoint here"
    )
    cluster.drop("one")
    assert not (folder / ".lock").exists()
