"""A Ray cluster on one machine: a head, nodes with addresses of their own, one behind a cable that can be pulled.

The head and the nodes 2 to 9 are in this machine's network, the node 10 in a namespace of its own, joined by two
virtual interfaces. Needs to be root, for the namespace.
"""
# ruff: noqa: S607 - `ip` is looked for where everything else is

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STORE = 80 * 2**20  # bytes
NET, SPACE, HERE, THERE = "10.77.0", "softac-far", "softac-a", "softac-b"
PORT = 26379
TESTS = Path(__file__).parents[2] / "tests"


class Nodes:
    """Attributes: `address` of the head, and `environment` for whoever joins it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="softac-nodes-", dir="/tmp"))
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
        }
        self.address = f"{NET}.1:{PORT}"
        self.processes: dict[int, subprocess.Popen[bytes]] = {}  # by the last part of the address
        self._joining = threading.Lock()
        self._network()
        self._start(
            1,
            ["--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self.folder}"],
        )
        time.sleep(5)

    def join(self, number: int, cores: int = 1) -> None:
        """Another node; 10 is the one behind the cable. One after the other: two at once choose one socket."""
        with self._joining:
            self._start(number, [f"--address={self.address}", f"--num-cpus={cores}"], far=number >= 10)
            while not any(b"raylet/raylet" in _words(pid) for pid in self.pids(number)):
                if self.processes[number].poll() is not None:
                    raise SystemExit(f"node {number} did not start")
                time.sleep(0.1)
            time.sleep(2)

    def kill(self, number: int) -> None:
        """As a power cut would, as far as Ray can tell: the raylet of a node gets SIGKILL."""
        for pid in self.pids(number):
            if b"raylet/raylet" in _words(pid):
                os.kill(pid, signal.SIGKILL)
        self.processes.pop(number)

    def pause(self, number: int, *, go_on: bool = False) -> None:
        """Stop every process of a node, or let them go on."""
        for pid in self.pids(number):
            _signal(pid, signal.SIGCONT if go_on else signal.SIGSTOP)

    def cable(self, *, up: bool) -> None:
        """Plug or pull it."""
        _ip("link", "set", HERE, "up" if up else "down")

    def pids(self, number: int) -> list[int]:
        """The processes of a node: what `ray start` has begun, and all below."""
        found = [self.processes[number].pid]
        for pid in found:
            found += [child for child in _children(pid) if child not in found]
        return found

    def close(self) -> None:
        """End everything."""
        for number in [*self.processes]:
            for pid in reversed(self.pids(number)):
                _signal(pid, signal.SIGCONT)
                _signal(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", SPACE], check=False)
        subprocess.run(["ip", "link", "del", HERE], check=False, stderr=subprocess.DEVNULL)
        time.sleep(1)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, number: int, words: list[str], *, far: bool = False) -> None:
        inside = ["ip", "netns", "exec", SPACE] if far else []
        ray = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--block",
            f"--object-store-memory={STORE}",
            "--disable-usage-stats",
            f"--node-ip-address={NET}.{number}",
        ]
        self.processes[number] = subprocess.Popen(
            [*inside, *ray, *words],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _network(self) -> None:
        subprocess.run(["ip", "netns", "del", SPACE], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "del", HERE], check=False, stderr=subprocess.DEVNULL)
        _ip("netns", "add", SPACE)
        _ip("link", "add", HERE, "type", "veth", "peer", "name", THERE)
        _ip("link", "set", THERE, "netns", SPACE)
        for last in range(1, 10):
            _ip("addr", "add", f"{NET}.{last}/24", "dev", HERE)
        _ip("link", "set", HERE, "up")
        for words in (
            ["addr", "add", f"{NET}.10/24", "dev", THERE],
            ["link", "set", THERE, "up"],
            ["link", "set", "lo", "up"],
        ):
            subprocess.run(["ip", "netns", "exec", SPACE, "ip", *words], check=True)


@contextmanager
def cluster() -> Iterator[Nodes]:
    """Nodes that are gone afterwards."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    nodes = Nodes()
    try:
        yield nodes
    finally:
        nodes.close()


def left_behind() -> list[str]:
    """Seats that are still there after half a minute: processes and folders."""
    found: list[str] = []
    for _ in range(30):
        found = [str(path) for path in Path(tempfile.gettempdir()).glob("softac-seat-*")]
        found += [words.decode(errors="replace") for words in every().values() if b"softac-seat-" in words]
        if not found:
            return []
        time.sleep(1)
    return found


def every() -> dict[int, bytes]:
    """All processes with their words."""
    return {int(path.name): _words(int(path.name)) for path in Path("/proc").glob("[0-9]*")}


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            continue
    return found


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
