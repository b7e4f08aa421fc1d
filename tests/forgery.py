"""A run folder whose files can be replaced by others with correct sizes, hashes and seals."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from hashing import newest_checkpoint
from softac.files import npy_bytes, sealed_json
from softac.run.folder import config_sha256

NETWORKS, OPTIM, STATE, ACTIONS = "networks.safetensors", "optim.safetensors", "state.json", "episode_actions.npy"


class Forgery:
    """A run folder with one checkpoint, whose parts can be replaced by others that verify."""

    def __init__(self, run: Path) -> None:
        self.run, self.outside = run, run.parent / "outside"
        self.checkpoint = newest_checkpoint(run)
        self.outside.mkdir()

    def put(self, name: str, data: bytes) -> None:
        """Give a file of the checkpoint other bytes."""
        (self.checkpoint / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        self.manifest(lambda m: m["files"].__setitem__(name, {"size": len(data), "sha256": digest}))

    def manifest(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the manifest."""
        self._change(self.checkpoint / "manifest.json", change)

    def config(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the description of the run, and let the manifest agree with it."""
        identity = config_sha256(self._change(self.run / "config.json", change))
        self.manifest(lambda m: m.update(config_sha256=identity))

    def state(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change state.json."""
        state = json.loads((self.checkpoint / STATE).read_bytes())
        change(state)
        self.put(STATE, json.dumps(state).encode())

    def tensors(self, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the tensors of a file."""
        tensors = load((self.checkpoint / name).read_bytes())
        change(tensors)
        self.put(name, save(tensors))

    def segment(self, data: bytes) -> None:
        """Give the first replay segment other bytes."""

        def change(manifest: dict[str, Any]) -> None:
            segment = manifest["segments"][0]
            segment |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            name = f"seg-{segment['start']:012d}-{segment['stop']:012d}-{segment['sha256'][:16]}.npy"
            (self.run / "replay" / name).write_bytes(data)

        self.manifest(change)

    def rows(self, change: Callable[[Any], Any]) -> None:
        """Change the rows of the first replay segment."""
        rows = np.load(self.path("replay/SEG"))
        change(rows)
        self.segment(npy_bytes(rows))

    def actions(self, change: Callable[[Any], Any]) -> None:
        """Change the actions of the episodes in flight."""
        actions = np.load(self.path(f"CKPT/{ACTIONS}"))
        change(actions)
        self.put(ACTIONS, npy_bytes(actions))

    def link(self, path: str, target: str | Path) -> None:
        """Put a link in the place of a file or folder."""
        self.clear(path).symlink_to(target)

    def clear(self, path: str) -> Path:
        """Remove a file or folder; its path."""
        whole = self.path(path)
        if whole.is_dir():
            shutil.rmtree(whole)
        whole.unlink(missing_ok=True)
        return whole

    def path(self, path: str) -> Path:
        """A path below the run; CKPT is the checkpoint and SEG the first segment."""
        segment = sorted((self.run / "replay").iterdir())[0].name if "SEG" in path else ""
        return self.run / path.replace("CKPT", f"checkpoints/{self.checkpoint.name}").replace("SEG", segment)

    def _change(self, path: Path, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        value = json.loads(path.read_bytes())
        del value["sha256"]
        change(value)
        path.write_bytes(sealed_json(value))
        return dict(value)
