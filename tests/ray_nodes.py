"""A Ray cluster of several nodes on one machine, each with an address of its own; nothing of it stays behind."""

import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'softac[ray]'")

STORE = 80 * 2**20  # bytes


class Nodes:
    """A head without cores, and nodes that join and are lost.

    Attributes:
        address: of the head.
        token: that opens the cluster.
        folder: of its files.
    """

    def __init__(self, folder: Path, token: str, *, mode: str = "token") -> None:
        from ray.cluster_utils import Cluster

        self.folder, self.token, self.mode = folder, token, mode
        self.environment = {
            "RAY_AUTH_MODE": mode,
            "RAY_AUTH_TOKEN": token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_worker_niceness": "0",
            "RAY_raylet_start_wait_time_s": "120",
            "RAY_TMPDIR": str(folder),  # where it also notes the address of the newest cluster
            "TMPDIR": str(folder / "seats"),
        }
        (folder / "ray").mkdir()
        (folder / "seats").mkdir()
        os.environ.update(self.environment)
        self._read_again()
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "node_ip_address": "127.0.0.2",
                "object_store_memory": STORE,
            },
        )
        self.address: str = self.cluster.address
        self.joined = 0
        self.first: Any = None  # of the nodes that have joined

    @staticmethod
    def _read_again() -> None:
        from ray._raylet import AuthenticationTokenLoader, Config

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()

    def join(self, cores: int = 1) -> Any:
        """Another node."""
        self.joined += 1
        return self.cluster.add_node(
            num_cpus=cores,
            node_ip_address=f"127.0.0.{2 + self.joined}",
            object_store_memory=STORE,
            wait=False,
        )

    def close(self) -> None:
        self.cluster.shutdown()


def kill(node: Any) -> None:
    """End a node as a power cut would, as far as Ray can tell: its raylet."""
    os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)


@contextmanager
def nodes(*, mode: str = "token") -> Iterator[Nodes]:
    """A cluster with a folder and a token of its own, or a reason to skip."""
    names = (
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_USAGE_STATS_ENABLED",
        "RAY_worker_niceness",
        "RAY_TMPDIR",
        "RAY_raylet_start_wait_time_s",
        "TMPDIR",
    )
    before = {name: os.environ.get(name) for name in names}
    folder = Path(tempfile.mkdtemp(prefix="softac-nodes-", dir="/tmp"))  # sockets need a short path
    try:
        there = Nodes(folder, secrets.token_hex(32), mode=mode)
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"Ray does not start here: {error}")
    try:
        yield there
    finally:
        there.close()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        Nodes._read_again()
        shutil.rmtree(folder, ignore_errors=True)


def left_behind(there: Nodes) -> list[str]:
    """Processes and folders of seats that are still there after some seconds."""
    seats = there.folder / "seats"
    found: list[str] = []
    for _ in range(300):
        found = [str(path) for path in seats.iterdir()]
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = process.read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:
                continue
            if str(seats) in words:
                found.append(words)
        if not found:
            return []
        time.sleep(0.1)
    return found
