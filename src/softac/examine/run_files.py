"""Are the files of a run whole?"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softac.errors import CheckpointError
from softac.examine.findings import Finding
from softac.files import read_hashed
from softac.report.results import label
from softac.run.checkpoint import checkpoints, read_checkpoint
from softac.run.folder import BEST, CHECKPOINTS, REPLAY, config_sha256, in_use, read_config
from softac.run.metrics import METRICS, read_rows


def files(path: Path) -> Iterator[Finding]:
    """What a run folder holds, how far the run got, and whether its files are whole.

    Raises:
        CheckpointError: there is no readable config.json.
    """
    config = read_config(path)
    yield Finding("ok", f"run: {label(config)} on {config['env']['id']}, seed {config['run']['seed']}")
    if busy := in_use(path):
        yield Finding("ok", "another process is at work on it now")
    rows = read_rows(path / METRICS)
    reached = max((row["step"] for row in rows), default=0)
    if planned := int(config.get("total_timesteps", 0)):
        ending = "" if reached >= planned or busy else f"; go on with: softac resume {path}"
        yield Finding("ok", f"progress: {reached:,} of {planned:,} steps logged{ending}")
    good = 0
    for name, verdict in _checkpoints(path, config):
        good += name == CHECKPOINTS and verdict.level == "ok"
        yield verdict
    if not good:
        yield Finding(
            "problem",
            "no checkpoint verifies" if checkpoints(path / CHECKPOINTS) else "there is no checkpoint yet",
            "wait for the first one" if busy else f"restore one, or begin again: softac resume {path}",
            "there is no agent to evaluate or to go on with",
            exit_code=3,
        )


def _checkpoints(path: Path, config: dict[str, Any]) -> Iterator[tuple[str, Finding]]:
    """Read every checkpoint with its replay; the folder it lies in, and how it is."""
    verified: set[str] = set()
    for folder in (CHECKPOINTS, BEST):
        for checkpoint in checkpoints(path / folder):
            name = f"{folder}/{checkpoint.name}"
            try:
                snapshot = read_checkpoint(checkpoint, config_sha256(config), action_dim(config))
                for segment in snapshot.segments:
                    if segment.file_name not in verified:
                        read_hashed(path / REPLAY / segment.file_name, segment.size, segment.sha256)
                        verified.add(segment.file_name)
            except CheckpointError as error:
                if checkpoint.exists():  # a run that goes on deletes its old ones
                    what = f"{name} does not verify: {error.given}"
                    yield folder, Finding("problem", what, error.remedy, error.expected, exit_code=1)
            else:
                rows = sum(segment.stop - segment.start for segment in snapshot.segments)
                replay = f", with {rows:,} transitions of replay" if rows else ""
                yield folder, Finding("ok", f"{name} verifies{replay}")


def action_dim(description: dict[str, Any]) -> int:
    """How many numbers an action of a run has, from its config.json; one where it is discrete."""
    return math.prod(description["env"]["spaces"]["action"].get("shape", [1]))
