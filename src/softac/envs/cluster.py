"""A Ray cluster, begun or joined: with a token, quietly, and leaving nothing behind."""

import importlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from softac.errors import ConfigError, missing_extra
from softac.words import clean

OBJECT_STORE = 256 * 2**20  # bytes; what softac sends at a time is less
PATIENCE = 5.0  # seconds for the head of a cluster to answer at all
TOKEN_FILE = Path(".ray", "auth_token")  # below the home folder
# No reports to anybody, no advice on variables of Ray's own.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

# Removes a folder once the process that has begun this is gone, however that happened, and once more if
# somebody was still writing there.
SWEEP = """import os, shutil, sys, time
if os.fork(): os._exit(0)
os.setsid()
sys.stdin.buffer.read()
for _ in range(100):
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    time.sleep(0.1)
    if not os.path.exists(sys.argv[1]): break
"""
# Exits with 0 where the cluster answers somebody who has no token.
KNOCK = """import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5)
"""

_joined = 0  # times, by users of this process that have not left yet


@contextmanager
def cluster(address: str | None, *, insecure: bool = False) -> Iterator[Any]:
    """The module `ray`, connected to a cluster; a second user in this process shares the connection.

    Args:
        address: HOST:PORT of the head of one; None: one of this machine's cores is begun, and ends with this.
        insecure: join one that anybody in its network can join.

    Raises:
        ConfigError: Ray is not installed, or the cluster cannot be joined, or is open.
    """
    global _joined
    ray = _imported()
    with ExitStack() as stack:
        if not _joined:
            stack.enter_context(_silent(ray))
            stack.enter_context(_own(ray) if address is None else _somebodys(ray, address, insecure))
        _joined += 1
        mine = stack.pop_all() if _joined == 1 else ExitStack()
    try:
        yield ray
    finally:
        _joined -= 1
        mine.close()


def _imported() -> Any:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise missing_extra("Ray as a place", "Ray", "ray") from None
    return ray


@contextmanager
def _silent(ray: Any) -> Iterator[None]:
    """Without the pages that Ray prints of each node it loses; softac says in a line which it was."""
    worker = ray._private.worker  # `log_to_driver=False` does not stop these
    before, worker._worker_logs_enabled = worker._worker_logs_enabled, False
    try:
        yield
    finally:
        worker._worker_logs_enabled = before


@contextmanager
def _own(ray: Any) -> Iterator[None]:
    """A cluster of this machine alone."""
    folder = Path(tempfile.mkdtemp(prefix="softac-ray-", dir="/tmp"))
    sweeper = subprocess.Popen(  # noqa: S603 - Python, with words of our own
        [sys.executable, "-I", "-c", SWEEP, str(folder)], stdin=subprocess.PIPE, process_group=0
    )
    sweeper.wait()
    try:
        with _token(secrets.token_hex(32)):
            _init(ray, "local", _temp_dir=str(folder), num_cpus=len(os.sched_getaffinity(0)))
            try:
                yield
            finally:
                ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        assert sweeper.stdin is not None  # noqa: S101 - for the type checker
        sweeper.stdin.close()


@contextmanager
def _somebodys(ray: Any, address: str, insecure: bool) -> Iterator[None]:
    _require_answer(address)
    if not insecure:
        if not _has_token():
            raise ConfigError(
                f"the Ray cluster at {address} was to be joined without a token",
                "expected the token that it was started with, in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or "
                f"~/{TOKEN_FILE}",
                "start it with RAY_AUTH_MODE=token, or add --insecure if everybody in its network may run "
                "programs on it",
            )
        if _is_open(address):
            raise ConfigError(
                f"the Ray cluster at {address} answers without a token",
                "expected one that was started with RAY_AUTH_MODE=token, since whoever reaches an open one runs "
                "programs on it",
                "start it so, or add --insecure where its network is yours alone",
            )
    with _token(None) if _has_token() else ExitStack():
        _init(ray, address)
        try:
            yield
        finally:
            ray.shutdown()


def _init(ray: Any, address: str, **settings: Any) -> None:
    import logging

    if address == "local":
        settings |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
        settings |= {"_system_config": {"worker_niceness": 0}}  # runs are not in the background here
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except Exception as error:
        what = "a Ray cluster could not be started" if address == "local" else f"{address} could not be joined"
        raise ConfigError(
            f"{what} ({clean(error)})",
            f"expected Ray {ray.__version__} and Python {sys.version_info.major}.{sys.version_info.minor} on all "
            "its machines, and the same token",
            "compare them with what runs there",
        ) from error


@contextmanager
def _token(new: str | None) -> Iterator[None]:
    """Have Ray ask for the token, here and in what is begun from here."""
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    before = {name: os.environ.get(name) for name in names}
    os.environ["RAY_AUTH_MODE"] = "token"
    if new is not None:
        os.environ["RAY_AUTH_TOKEN"] = new
    _read_again()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _read_again()


def _read_again() -> None:
    """Have Ray read its variables, which it keeps from when it was imported."""
    raylet: Any = importlib.import_module("ray._raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def _has_token() -> bool:
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / TOKEN_FILE).is_file()


def _is_open(address: str) -> bool:
    """Whether the head answers somebody who has no token."""
    stranger = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory() as nobodys_home:
        settings = {"RAY_AUTH_MODE": "disabled", "HOME": nobodys_home, **QUIET}
        try:
            knocked = subprocess.run(  # noqa: S603 - Python, with words of our own
                [sys.executable, "-I", "-c", KNOCK, address],
                env=stranger | settings,
                capture_output=True,
                timeout=60,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return knocked.returncode == 0


def _require_answer(address: str) -> None:
    """Refuse an address at which nobody listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), PATIENCE):
            return
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"--ray-address {address} was given ({clean(error)})",
            "expected HOST:PORT, where the head of a Ray cluster listens",
            "start one with `ray start --head`, which prints it, or leave the address out for one on this machine",
        ) from None
