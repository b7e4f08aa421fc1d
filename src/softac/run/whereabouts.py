"""What a path leads to that is neither a run nor a saved model, and where these are meant to be."""

import os
from pathlib import Path

from softac.errors import CheckpointError
from softac.files import exists
from softac.run.checkpoint import FOLDER_NAME

MOST_LISTED = 1_000  # folders that are looked into
ELSEWHERE = "look for it under runs/, or correct the path"
EXPECTED = "expected the folder of a run or of a saved model"


def require_described(path: Path, config: str) -> None:
    """Refuse a path where there is no description to read.

    Args:
        path: should be the folder of a run or of a saved model.
        config: the name of the description in it.

    Raises:
        CheckpointError: saying what is there, and which path to give.
    """
    if os.path.lexists(path / config):
        return
    if not exists(path):
        raise CheckpointError(f"{path} does not exist", EXPECTED, ELSEWHERE)
    if not path.is_dir():
        saved = path.suffix == ".zip"
        raise CheckpointError(
            f"{path} is a file" + (", as Stable-Baselines3 saves models" if saved else ""),
            EXPECTED,
            f"write `softac import {path} --env ENV` to make one of it" if saved else f"give {path.parent}",
        )
    above = (path.parent.parent, path.parent) if FOLDER_NAME.fullmatch(path.name) else (path.parent,)
    if run := next((folder for folder in above if os.path.lexists(folder / config)), None):
        raise CheckpointError(f"{path} is a part of a run", EXPECTED, f"give {run}")
    inside = _inside(path, config)
    if inside:
        several = f"{len(inside)} runs or models" if len(inside) > 1 else "a run or model"
        raise CheckpointError(f"{path} holds {several}", EXPECTED, f"give one of them, for instance {inside[0]}")
    raise CheckpointError(f"{path} has no {config} in it", EXPECTED, ELSEWHERE)


def _inside(path: Path, config: str) -> list[Path]:
    try:
        found = sorted(path.iterdir())[:MOST_LISTED]
    except OSError:
        return []
    return [folder for folder in found if os.path.lexists(folder / config)]
