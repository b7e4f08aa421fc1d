"""Checkpoints: folders without pickle, hashed, written aside and renamed once.

    step-000050000/
      manifest.json          format, step, every file with size and SHA-256, the replay's segments
      networks.safetensors   what `predict` needs
      optim.safetensors      Adam moments, running means, generator states
      state.json             counters and the episodes in flight
      episode_actions.npy    the actions of the episodes in flight

A folder appears complete or not at all. Nothing read from it is executed, and nothing in it is
trusted before its hash, names, shapes and finiteness have been checked.
"""

import errno
import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from softac._version import __version__, installed_version
from softac.envs.machine import processor
from softac.errors import CheckpointError, ConfigError, either, one_line
from softac.files import (
    npy_bytes,
    parse_npy,
    read_hashed,
    read_regular,
    remove,
    seal_is_whole,
    sealed_json,
    sync_folder,
    write_durably,
)
from softac.replay import Segment, forget_segments
from softac.run.names import ACTIONS, NETWORKS, OPTIM, STATE
from softac.run.names import CHECKPOINTS as CHECKPOINTS  # the folder they lie in
from softac.run.names import FOLDER_NAME as FOLDER_NAME
from softac.run.names import MANIFEST as MANIFEST
from softac.types import FloatArray
from softac.words import described

FORMAT = "softac-checkpoint-1"
JSON_LIMIT = 8 * 2**20
JSON_DEPTH = 32
KEEP = 2
FILE_LIMIT = 4 * 2**30
NOT_INSTALLED = "not installed"
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco")
OPTIM_PREFIX = "optim."
DTYPES = {torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool}

log = logging.getLogger("softac")


@dataclass(frozen=True)
class Snapshot:
    """Everything a run needs to go on, replay rows apart.

    Attributes:
        step: environment steps made.
        tensors: every tensor by name; those under `optim.` are not needed to act.
        state: plain data.
        actions: the actions of the episodes in flight, `[sum of lengths, A]`.
        segments: the replay's files, oldest first.
        made_on: the fingerprint of the machine that wrote it.
        path: where it was read from.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    actions: FloatArray
    segments: list[Segment]
    made_on: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True)
class Home:
    """The folder whose files the state of a training belongs to.

    Attributes:
        folder: of a run or a saved model.
        segments: the replay's files, oldest first.
        good: the checkpoints that this process has read, the one of this state at the end.
        seen: the names of all checkpoints that were there, so that those of others are recognised.
    """

    folder: Path
    segments: Sequence[Segment] = ()
    good: Sequence[Path] = ()
    seen: frozenset[str] = frozenset()

    def require_own(self) -> None:
        """Refuse to write where another process has gone on since; the folder has to be locked.

        Raises:
            ConfigError: there are checkpoints that this process has neither found nor written, or its own is gone.
        """
        there = {path.name for path in checkpoints(self.folder / CHECKPOINTS)}
        if there - self.seen or (self.good and self.good[-1].name not in there):
            raise ConfigError(
                f"{self.folder} is no longer as this model left or loaded it; another process has gone on there",
                "expected the checkpoint it goes on from to be the last",
                "load the model again, or choose another folder",
            )


def write_checkpoint(folder: Path, snapshot: Snapshot, config_sha256: str) -> Path:
    """Write `folder`/step-..., complete on disk when this returns.

    Nothing is ever replaced: if this step exists with other content, the new one gets a number. What has been
    written is read back.

    Args:
        folder: where checkpoints lie.
        snapshot: what to write.
        config_sha256: identifies the configuration these tensors belong to.

    Raises:
        OSError: it could not be written; nothing new remains.
    """
    files = _files(snapshot)
    manifest = {
        "format": FORMAT,
        "softac": __version__,
        "step": snapshot.step,
        "config_sha256": config_sha256,
        "fingerprint": fingerprint(),
        "files": {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
        },
        "segments": [asdict(segment) for segment in snapshot.segments],
    }
    partial = folder / f".tmp-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
        remove(partial)  # left by a dead process that had the same number
        partial.mkdir()
        for name, data in (files | {MANIFEST: sealed_json(manifest)}).items():
            write_durably(partial / name, data)
        sync_folder(partial)
        _require_written(partial, config_sha256, snapshot)
        final, n = folder / f"step-{snapshot.step:09d}", 1
        while final.exists():
            final, n = folder / f"step-{snapshot.step:09d}.{n:03d}", n + 1
        partial.rename(final)
        sync_folder(folder)
    except OSError:
        remove(partial)
        raise
    return final


def _require_written(path: Path, config_sha256: str, snapshot: Snapshot) -> None:
    """Raise OSError where a checkpoint that has just been written cannot be read."""
    try:
        read_checkpoint(path, config_sha256, snapshot.actions.shape[1])
    except CheckpointError as error:
        log.warning("what was written cannot be read back: %s", error)
        raise OSError(errno.EIO, os.strerror(errno.EIO)) from None


def _files(snapshot: Snapshot) -> dict[str, bytes]:
    """The files of a checkpoint by name, the manifest apart."""
    networks = {k: v for k, v in snapshot.tensors.items() if not k.startswith(OPTIM_PREFIX)}
    optim = {k: v for k, v in snapshot.tensors.items() if k.startswith(OPTIM_PREFIX)}
    files = {NETWORKS: safetensors.torch.save(networks)}
    if optim:
        files |= {
            OPTIM: safetensors.torch.save(optim),
            STATE: json.dumps(snapshot.state, indent=1, allow_nan=False).encode(),
            ACTIONS: npy_bytes(snapshot.actions),
        }
    return files


def prune(folder: Path, replay: Path, good: Sequence[Path]) -> None:
    """Delete what is needed no more: checkpoints, replay segments, what dead processes left.

    The last two of `good` stay. All others go: those that had to be passed over, and those that a run which went
    on from an earlier one has superseded.

    Args:
        folder: where checkpoints lie.
        replay: where segments lie.
        good: the checkpoints that this process has read, the one written last at the end.
    """
    kept = set(good[-KEEP:])
    for path in folder.iterdir():
        if path not in kept and path.name.startswith(("step-", ".tmp-")):
            remove(path)
    needed: set[str] = set()
    for path in checkpoints(folder):
        try:
            needed |= {_segment(entry).file_name for entry in read_manifest(path)["segments"]}
        except (CheckpointError, KeyError, TypeError, ValueError):
            return  # what a damaged checkpoint needs is not known
    forget_segments(replay, needed)


def fingerprint() -> dict[str, Any]:
    """What the bits of a run on a CPU depend on besides its configuration."""
    return {
        **{name: installed_version(name) or NOT_INSTALLED for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": processor(),
    }


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints below `folder`, newest first; not verified."""
    if not folder.is_dir():
        return []
    named = (p for p in folder.iterdir() if FOLDER_NAME.fullmatch(p.name))
    return sorted((p for p in named if (p / MANIFEST).is_file()), key=_order, reverse=True)


def read_newest(
    folder: Path, config_sha256: str, action_dim: int, *, replay: Path | None = None, step: int | None = None
) -> tuple[Snapshot, list[str]]:
    """The newest checkpoint below `folder` that verifies; with `replay` its segments there too.

    With `step`, the newest of those written at this step.

    Returns:
        The snapshot, and one sentence for each newer checkpoint that had to be passed over.

    Raises:
        CheckpointError: none verifies; the message is that of the newest.
    """
    failures: list[CheckpointError] = []
    found = checkpoints(folder)
    of_step = [path for path in found if step in (None, _order(path)[0])]
    if found and not of_step:
        steps = sorted({_order(path)[0] for path in found})
        raise CheckpointError(
            f"{folder} has no checkpoint of step {step}",
            f"expected {either(str(n) for n in steps)}, which it has",
            "choose one, or leave the step out for the newest",
        )
    for path in of_step:
        try:
            snapshot = read_checkpoint(path, config_sha256, action_dim)
            if replay is not None:
                for segment in snapshot.segments:
                    read_hashed(replay / segment.file_name, segment.size, segment.sha256)
        except CheckpointError as error:
            failures.append(error)
        else:
            return snapshot, [str(failure) for failure in failures]
    if failures:
        raise failures[0]
    raise CheckpointError(
        f"{folder} holds no checkpoint",
        "expected at least one folder step-...",
        "train first, or name the folder of a run",
    )


def read_checkpoint(path: Path, config_sha256: str, action_dim: int) -> Snapshot:
    """Read and verify one checkpoint; one with networks only has an empty state.

    Raises:
        CheckpointError: a file is missing, damaged or hostile, of another format, or belongs to
            another configuration.
    """
    data = read_regular(path / MANIFEST, JSON_LIMIT)
    manifest = _object(parse_json(data, path / MANIFEST))
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {str(manifest.get('format'))[:40]!r}",
            f"expected {FORMAT!r}",
            f"read it with the softac that wrote it ({str(manifest.get('softac'))[:20]})",
        )
    if not seal_is_whole(data):
        raise _damaged(path / MANIFEST, ValueError("its SHA-256 is not the one it ends with"))
    if manifest.get("config_sha256") != config_sha256:
        raise CheckpointError(
            f"{path} was written with another configuration than the config.json beside it",
            "expected the one it was trained with",
            "restore that config.json",
        )
    try:
        step = int(manifest["step"])
        segments = [_segment(s) for s in manifest["segments"]]
        if any(a.stop != b.start for a, b in pairwise(segments)):
            raise ValueError("segments that do not follow each other")
        files = manifest["files"]
        names = [n for n in (NETWORKS, OPTIM, STATE, ACTIONS) if n in files or n == NETWORKS]
        listed = {name: (_size(files[name]["size"]), str(files[name]["sha256"])) for name in names}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _damaged(path / MANIFEST, error) from None
    contents = {name: read_hashed(path / name, *size_and_hash) for name, size_and_hash in listed.items()}
    tensors = _tensors(contents[NETWORKS], path / NETWORKS)
    if OPTIM not in contents or STATE not in contents or ACTIONS not in contents:
        return Snapshot(step, tensors, {}, np.zeros((0, action_dim), np.float32), segments, path=path)
    tensors |= _tensors(contents[OPTIM], path / OPTIM)
    state = _object(parse_json(contents[STATE], path / STATE))
    actions = parse_npy(contents[ACTIONS], action_dim, path / ACTIONS)
    return Snapshot(step, tensors, state, actions, segments, _object(manifest.get("fingerprint")), path)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, parsed but not verified.

    Raises:
        CheckpointError: it is missing or not JSON.
    """
    return _object(parse_json(read_regular(path / MANIFEST, JSON_LIMIT), path / MANIFEST))


def parse_json(data: bytes, path: Path) -> Any:
    """Parse untrusted JSON: no duplicate keys, no NaN, at most 32 levels deep.

    Raises:
        CheckpointError: it is anything else.
    """
    try:
        value = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        _require_depth(value, JSON_DEPTH)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    return value


def _tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load(data)
        if odd := {tensor.dtype for tensor in tensors.values()} - DTYPES:
            raise ValueError(f"tensors of {odd.pop()}")
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise _damaged(path, error) from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{path} holds a {name} that is not finite",
                "expected finite numbers",
                "use an earlier checkpoint",
            )
    return tensors


def _order(path: Path) -> tuple[int, int]:
    """Sorts checkpoints by step, and those of one step by the number behind it."""
    named = FOLDER_NAME.fullmatch(path.name)
    return (int(named[1]), int(named[2] or 0)) if named else (-1, 0)


def _segment(entry: Mapping[str, Any]) -> Segment:
    segment = Segment(int(entry["start"]), int(entry["stop"]), _size(entry["size"]), str(entry["sha256"]))
    if not 0 <= segment.start < segment.stop or set(segment.sha256) - set("0123456789abcdef"):
        raise ValueError(f"segment {segment}")
    return segment


def _size(value: Any) -> int:
    if not 0 <= int(value) <= FILE_LIMIT:
        raise ValueError(f"a file of {value} bytes")
    return int(value)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:20]}")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"the constant {name}")


def _require_depth(value: Any, depth: int) -> None:
    if depth == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _require_depth(part, depth - 1)


def _damaged(path: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged ({described(error)})",
        "expected what softac writes",
        "restore it or use an earlier checkpoint",
    )


def differences(made_on: Mapping[str, Any]) -> str:
    """In words, where this process differs from the one with the fingerprint `made_on`; "" if nowhere."""
    here = fingerprint()
    changed = [name for name in here if name in made_on and made_on[name] != here[name]]
    if NOT_INSTALLED in (made_on.get("mujoco"), here["mujoco"]):
        changed = [name for name in changed if name != "mujoco"]  # then this environment does without it
    return ", ".join(f"{name} was {one_line(str(made_on[name]), 100)} and is {here[name]}" for name in changed)
