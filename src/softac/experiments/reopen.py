"""The model of a run folder, however far the run has come."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from softac.agents.registry import find_agent
from softac.model import Model
from softac.run.checkpoint import checkpoints
from softac.run.folder import CHECKPOINTS
from softac.run.stored import Description


def reopened(config: dict[str, Any], path: Path, env: str | None, **changes: Any) -> Model:
    """The model of the run in `path` at its last checkpoint; before its first, as it was made.

    Args:
        config: what its `config.json` says.
        path: the run folder.
        env: the environment, where the file must not name it.
        changes: what is to be otherwise than before, as for `Model.load`.

    Raises:
        SoftacError: as `Model.load`.
    """
    if checkpoints(path / CHECKPOINTS):
        return Model.load(path, env, verify_replay=True, trust_module=env is not None, **changes)
    return begun(config, path, env, **changes)


def begun(config: dict[str, Any], path: Path, env: str | None, **changes: Any) -> Model:
    """The model of a run as it was made; see `reopened`."""
    described = Description.read(path, find_agent, config)
    asked = {name: value for name, value in changes.items() if value is not None}
    model = Model(
        described.agent_class,
        described.env_id if env is None else env,
        trust_module=env is not None,
        env_kwargs=asked.pop("env_kwargs", described.env_kwargs if env in (None, described.env_id) else {}),
        **(asdict(described.run) | asdict(described.hyperparameters) | asked),
    )
    model.life.threads = described.threads
    return model
