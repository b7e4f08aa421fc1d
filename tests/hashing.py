"""What a run has come to, as SHA-256 sums: equal sums are equal bits.

The files are read with the libraries' own readers and not with softac's, so that a reader and a
writer that are wrong in the same way do not agree.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

CLOCK = ("time/fps", "time/time_elapsed")


def newest_checkpoint(run: Path) -> Path:
    """The checkpoint of a run with the most steps; of equal ones the last."""
    return max((run / "checkpoints").glob("step-*"), key=lambda p: p.name)


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of each part of a run's newest checkpoint, and of its metrics without the clock."""
    checkpoint = newest_checkpoint(run)
    manifest = json.loads((checkpoint / "manifest.json").read_bytes())
    state = json.loads((checkpoint / "state.json").read_bytes())
    config = json.loads((run / "config.json").read_bytes())
    state.pop("seconds")
    networks = load_file(checkpoint / "networks.safetensors")
    optim = load_file(checkpoint / "optim.safetensors")
    random = {k: v for k, v in optim.items() if k.startswith("optim.random.")}
    assert random
    assert len(optim) > len(random)
    segments = [np.load(run / "replay" / _segment_name(s), allow_pickle=False) for s in manifest["segments"]]
    # An on-policy agent has no replay; its rollout is with the optimizer's tensors.
    rows = np.concatenate(segments)[-config["hyperparameters"]["buffer_size"] :] if segments else np.zeros(0)
    return {
        "parameters": _of_arrays(networks),
        "optimizer": _of_arrays({k: v for k, v in optim.items() if k not in random}),
        "random states": _of_arrays(random),
        "replay": _of_arrays({"rows": rows}),
        "counters and episodes": _of_json(state),
        "episode actions": _of_arrays({"a": np.load(checkpoint / "episode_actions.npy", allow_pickle=False)}),
        "metrics": _of_json(metrics(run)) if (run / "metrics.jsonl").exists() else "none",
    }


def training_digests(run: Path) -> dict[str, str]:
    """`digests` without the metrics, for runs that are recorded differently."""
    return {name: digest for name, digest in digests(run).items() if name != "metrics"}


def metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without what the clock says."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in rows]


def _segment_name(segment: dict[str, Any]) -> str:
    return f"seg-{segment['start']:012d}-{segment['stop']:012d}-{segment['sha256'][:16]}.npy"


def _of_arrays(arrays: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
