"""The run folder: its name, its lock, and the plain files that describe the run."""

import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from softac._version import __version__
from softac.config.make import ONCE
from softac.errors import CheckpointError, ConfigError, DiskError
from softac.files import read_regular, seal_is_whole, sealed_json, sync_folder, user_path, write_durably
from softac.run.checkpoint import fingerprint, parse_json
from softac.run.config import EXCHANGEABLE, LATER
from softac.run.names import BEST as BEST
from softac.run.names import CHECKPOINTS as CHECKPOINTS
from softac.run.names import CONFIG as CONFIG
from softac.run.names import CRASH as CRASH
from softac.run.names import LOCK as LOCK
from softac.run.names import REPLAY as REPLAY
from softac.run.waiting import how_threads_wait
from softac.run.whereabouts import require_described

FORMAT = "softac-run-1"
PATIENCE, ATTEMPTS = 0.02, 25  # seconds between two attempts to lock, since a look at the folder locks it, too
IDENTITY = ("algorithm", "env", "hyperparameters", "run")


class RunFolder:
    """A run folder, locked against other processes while it is held.

    Args:
        path: the folder; made if it does not exist.

    Raises:
        ConfigError: another process holds it, parts of it are links, or there can be no such folder.
        DiskError: it cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = user_path(path)
        try:
            # Nothing is written or deleted through links: in a folder from a stranger they lead somewhere else.
            for name in (LOCK, CHECKPOINTS, REPLAY, BEST, CRASH):
                require_no_link(path / name)
            self._made = [p for p in (path, *path.parents) if not p.exists()]
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise DiskError(
                f"{path} cannot be written ({error.strerror})",
                "expected a folder of your own",
                "choose another with --run-dir",
            ) from None
        try:
            _lock_patiently(self._lock)
            # The last holder removes the file; one that was opened just before locks nothing.
            if not os.path.samestat(os.fstat(self._lock), (path / LOCK).stat()):
                raise BlockingIOError
        except OSError:
            os.close(self._lock)
            raise ConfigError(
                f"{path} is in use by another process",
                "expected a run that nobody is writing",
                "wait for it, stop it, or choose another folder",
            ) from None

    def release(self, *, discard: bool = False) -> None:
        """Let go of the folder; with `discard` remove what this object made, if it is still empty."""
        with suppress(OSError):
            (self.path / LOCK).unlink()
        os.close(self._lock)
        for folder in self._made if discard else ():
            try:
                folder.rmdir()
            except OSError:
                return  # something was written into it

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(discard=error is not None)


def _lock_patiently(lock: int) -> None:
    """Lock for writing; a process that only looks lets go at once, so that it never keeps one from starting."""
    for left in reversed(range(ATTEMPTS)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if left == 0:
                raise
            time.sleep(PATIENCE)
        else:
            return


def require_no_link(path: Path) -> None:
    """Refuse to write through a link.

    Raises:
        ConfigError: there is one in this place.
    """
    if path.is_symlink():
        raise ConfigError(
            f"{path} is a link",
            "expected a file or folder of its own, since it is written to and old things in it are deleted",
            "put what it leads to in its place",
        )


def in_use(path: Path) -> bool:
    """Whether a process holds the run folder; the only way to ask, since a look must not stop one that starts."""
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def new_run_path(root: Path, env_id: str, algorithm: str, seed: int | str) -> Path:
    """`root`/{env}__{algo}__{seed}__{time}, with a number behind it if that exists."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", env_id)
    base = f"{name}__{algorithm}__{seed}__{time.strftime('%Y%m%d-%H%M%S')}"
    path, n = root / base, 2
    while path.exists():
        path, n = root / f"{base}-{n}", n + 1
    return path


def write_description(path: Path, config: dict[str, Any]) -> None:
    """Write `config.json`, `command.txt` and `system.json`, each complete or not at all.

    Raises:
        OSError: the disk refused.
    """
    whole = {"format": FORMAT, "softac": __version__, **config}
    files = {
        CONFIG: sealed_json(whole),
        "command.txt": f"{shlex.join(sys.argv)}\n".encode(errors="backslashreplace"),
        "system.json": f"{json.dumps(system(), indent=2)}\n".encode(),
    }
    path.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        partial = path / f".tmp-{name}"
        write_durably(partial, data)
        partial.replace(path / name)
    sync_folder(path)


def read_config(path: Path) -> dict[str, Any]:
    """The `config.json` of a run or a saved model.

    Raises:
        CheckpointError: it is missing, damaged, or of another format.
    """
    require_described(path, CONFIG)
    data = read_regular(path / CONFIG, 2**20)
    config = parse_json(data, path / CONFIG)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(
            f"{path / CONFIG} is not the description of a run",
            f"expected format {FORMAT!r}",
            "name the folder of a run or model that this version wrote",
        )
    if not seal_is_whole(data):
        raise CheckpointError(
            f"{path / CONFIG} has been changed: its SHA-256 is not the one it ends with",
            "expected the bytes that softac wrote, which the checkpoints beside it belong to",
            "restore the file",
        )
    return config


def config_sha256(config: dict[str, Any]) -> str:
    """The hash of what the tensors of a run depend on: algorithm, environment, hyperparameters, run.

    Where the environments are stepped is not part of it, and neither is what a run without an option lacks.

    Raises:
        ConfigError: something in it is not plain data.
    """
    identity = {name: config.get(name) for name in IDENTITY}
    if isinstance(said := identity["hyperparameters"], dict):
        identity["hyperparameters"] = {k: v for k, v in said.items() if k not in ONCE or v != ONCE[k]}
    if isinstance(identity["run"], dict):
        run = {name: value for name, value in identity["run"].items() if name not in EXCHANGEABLE}
        identity["run"] = {k: v for k, v in run.items() if k not in LATER or v != LATER[k]}
    try:
        text = json.dumps(identity, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the environment's arguments cannot be written into {CONFIG} ({error})",
            "expected texts, finite numbers, booleans, and lists and dicts of them",
            "pass a function that makes the environment instead",
        ) from None
    return hashlib.sha256(text.encode()).hexdigest()


def system() -> dict[str, Any]:
    """The machine and the versions, for the record."""
    return {
        "softac": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        **how_threads_wait(),
        "cuda": torch.version.cuda,
        **fingerprint(),
    }
