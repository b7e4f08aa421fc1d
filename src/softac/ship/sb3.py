"""Policies of Stable-Baselines3: a zip becomes a model here, and nothing in it is executed.

What such a zip says in JSON and in tensors is taken; what it holds as pickles stays where it is. What
cannot come is named: in an error where the policy would be another one without it, in a note where it is
missed only when training goes on.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from softac.agents.registry import find_agent
from softac.envs.make import EnvLike
from softac.errors import CheckpointError, ConfigError
from softac.files import exists, read_regular, replace_text
from softac.learning.state import load_state_, state_of
from softac.model import Model
from softac.run.checkpoint import JSON_LIMIT, OPTIM_PREFIX, parse_json
from softac.run.config import RecordConfig
from softac.run.folder import CONFIG, RunFolder, write_description
from softac.ship.normalisation import read_normalisation
from softac.ship.sb3_networks import (
    ON_POLICY,
    Networks,
    in_units_of_the_bounds,
    on_raw_observations,
    read_networks,
)
from softac.ship.sb3_settings import Settings, find_algorithm, read_settings, require_bounds, require_plain
from softac.ship.torch_files import FILE_LIMIT, Archive, read_tensors
from softac.words import clean, counted

IMPORTED = "imported.json"
VERSION_FILE = "_stable_baselines3_version"
VERSION = re.compile(rb"[12]\.\d{1,3}\.\d{1,3}[\w.]{0,10}", re.ASCII)
USUAL_STEPS = 100_000
OFF_POLICY_STAYS = "the replay and the optimiser's moments, which begin empty"
ON_POLICY_STAYS = "the optimiser's moments, which begin at 0"
CLIPPED = (
    "the statistics of VecNormalize are part of the first layers now, which do not cut what lies more than "
    "{clip:g} standard deviations from the mean; rewards are not normalised"
)


@dataclass(frozen=True)
class Imported:
    """A policy of Stable-Baselines3, here.

    Attributes:
        model: predicts, evaluates, saves and learns on.
        notes: what stayed behind, a sentence each.
        facts: where it comes from.
    """

    model: Model
    notes: tuple[str, ...]
    facts: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write the model as a folder that every command takes, with what it is in `imported.json`.

        Raises:
            ConfigError: there is one already.
            SoftacError: as `Model.save`.
        """
        if exists(folder / CONFIG):
            raise ConfigError(
                f"{folder} holds a run already", "expected a new folder", "choose another with --run-dir"
            )
        self.model.save(folder)
        plan = {"record": asdict(RecordConfig()), "total_timesteps": USUAL_STEPS}
        with RunFolder(folder):
            write_description(folder, self.model.description() | plan)
            replace_text(folder / IMPORTED, json.dumps({**self.facts, "notes": self.notes}, indent=1) + "\n")


def import_sb3(
    path: Path,
    env: EnvLike,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    normalisation: Path | None = None,
    trust_module: bool = False,
) -> Imported:
    """The model of a zip that `save` of Stable-Baselines3 1 or 2 wrote: SAC, TD3, DDPG, DQN, PPO or A2C.

    Args:
        path: the zip.
        env: that it was trained in, as for `Model`. The zip holds its spaces as pickles, which stay closed.
        env_kwargs: keyword arguments of the environment.
        normalisation: an `.npz` of the statistics of a VecNormalize (see `read_normalisation`).
        trust_module: as for `Model`.

    Raises:
        CheckpointError: the file is damaged, hostile, or no such zip.
        ConfigError: the policy is of a kind that does not exist here, or does not fit the environment.
        EnvironmentFailed: the environment could not be made.
    """
    data = read_regular(path, FILE_LIMIT)
    archive = Archive(data, str(path))
    version = _version(archive)
    told = _told(archive)
    algorithm = find_algorithm(told, str(path))
    require_plain(told, algorithm, str(path))
    tensors, variables = (
        read_tensors(archive.read(name), f"{name} in {path}") for name in ("policy.pth", "pytorch_variables.pth")
    )
    networks = read_networks(algorithm, tensors, variables, str(path))
    settings = read_settings(told, algorithm)
    model = _model(settings, networks, env, env_kwargs, trust_module)
    _require_fits(networks, model, algorithm, path)
    require_bounds(told, model.spaces, model.source.name, str(path))
    notes = [*settings.notes, ON_POLICY_STAYS if model.agent.on_policy else OFF_POLICY_STAYS]
    if normalisation is not None:
        networks, clipped = _with(normalisation, networks)
        notes.append(clipped)
    if algorithm in ON_POLICY and not model.spaces.spec.choices:
        networks = in_units_of_the_bounds(networks, model.spaces.low, model.spaces.high)
    load_state_(model.agent, state_of(model.agent) | networks.state())
    facts = {"from": f"Stable-Baselines3 {version}", "file": path.name, "sha256": hashlib.sha256(data).hexdigest()}
    return Imported(model, tuple(notes), facts | {"steps": settings.steps})


def _with(path: Path, networks: Networks) -> tuple[Networks, str]:
    """The networks with the statistics in `path` as part of them, and the note on it."""
    statistics = read_normalisation(path)
    if len(statistics.mean) != networks.policy.sizes[0]:
        raise ConfigError(
            f"{path} has statistics of {counted(len(statistics.mean), 'number')}",
            f"expected {networks.policy.sizes[0]}, as many as the policy observes",
            "write it from the VecNormalize of this policy",
        )
    return on_raw_observations(networks, statistics), CLIPPED.format(clip=statistics.clip)


def _version(archive: Archive) -> str:
    if VERSION_FILE not in archive.names:
        raise archive.refusal(f"there is no {VERSION_FILE} in it, so it is no model")
    version = archive.read(VERSION_FILE, 100).strip()
    if not VERSION.fullmatch(version):
        raise archive.refusal(f"it was written by version {clean(version.decode(errors='replace'), 20)}")
    return version.decode()


def _told(archive: Archive) -> dict[str, Any]:
    try:
        told = parse_json(archive.read("data", JSON_LIMIT), Path("data"))
    except CheckpointError as error:
        raise archive.refusal(error.given) from None
    if not isinstance(told, dict):
        raise archive.refusal("its data is no object")
    return told


def _model(
    settings: Settings, networks: Networks, env: EnvLike, env_kwargs: Mapping[str, Any] | None, trust_module: bool
) -> Model:
    hyperparameters = settings.hyperparameters | networks.net_arch
    if settings.algorithm in ("sac", "td3"):
        hyperparameters["n_critics"] = len(networks.parts["critic"].members)
    return Model(
        find_agent(settings.algorithm),
        env,
        seed=settings.seed,
        n_envs=settings.n_envs,
        env_kwargs=env_kwargs,
        trust_module=trust_module,
        **hyperparameters,
    )


def _require_fits(networks: Networks, model: Model, algorithm: str, path: Path) -> None:
    spec, sizes = model.spaces.spec, networks.policy.sizes
    wanted = spec.outputs
    outputs = sizes[-1] // 2 if algorithm == "sac" else sizes[-1]  # means and standard deviations
    if sizes[0] != spec.obs_dim or outputs != wanted:
        raise ConfigError(
            f"{path} observes {counted(sizes[0], 'number')} and has {counted(outputs, 'output')}; "
            f"{model.source.name} has {spec.obs_dim} and {wanted}",
            "expected the environment it was trained in",
            "name it with --env",
        )
    needed = {name for name in model.agent.tensors() if not name.startswith(OPTIM_PREFIX)} - {"n_updates"}
    if odd := sorted(needed ^ networks.state().keys()):
        raise CheckpointError(
            f"{path} and {algorithm} here differ in {', '.join(odd)}",
            "expected networks, targets and temperature as Stable-Baselines3 saves them",
            "save the model again",
        )
