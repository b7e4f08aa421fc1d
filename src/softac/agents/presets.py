"""Tuned settings per environment, published ones by name, and those of a file, all of one form."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from softac.agents.registry import find_agent
from softac.config import make_config
from softac.errors import ConfigError, nearest
from softac.files import read_toml

NO_SETTINGS = ("agent_class", "env", "env_kwargs", "self", "trust_module")
TABLE = 'a table [[{algorithm}]] with settings in it, and perhaps environments = ["Pendulum-v1"]'


def find_preset(algorithm: str, env_id: str, asked: bool | str | Path | None) -> dict[str, Any]:
    """The settings that `--preset`, or preset= in Python, means.

    Args:
        algorithm: as on the command line.
        env_id: of the environment.
        asked: True for those tuned for the environment, the name of published ones, or a file that ends in .toml.

    Returns:
        Hyperparameters, perhaps with `n_envs` among them; nothing if none were asked for.

    Raises:
        ConfigError: there are none.
    """
    if asked is None or asked is False:
        return {}
    if asked is True:
        return preset(algorithm, env_id)
    if not isinstance(asked, str | Path):
        raise ConfigError(
            f"preset={asked!r:.100} was given",
            "expected True, the name of published settings, or a file such as softac tune writes (.toml)",
            "write one of them",
        )
    name = str(asked)
    return file_preset(algorithm, env_id, name) if name.endswith(".toml") else named_preset(algorithm, name)


def require_settings(algorithm: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that are arguments of a model and no hyperparameters: the environment, and whom to trust.

    Raises:
        ConfigError: one of them is given.
    """
    for name in NO_SETTINGS:
        if name in settings:
            make_config(find_agent(algorithm).Config, {name: settings[name]})  # which has none of this name


def preset(algorithm: str, env_id: str) -> dict[str, Any]:
    """The tuned hyperparameters of an algorithm for an environment.

    Raises:
        ConfigError: there are none.
    """
    entries = [entry for entry in _entries(algorithm) if "environments" in entry]
    for entry in entries:
        if env_id in entry["environments"]:
            return _settings(entry)
    known = sorted(name for entry in entries for name in entry["environments"])
    raise ConfigError(
        f"a preset was asked for {algorithm} on {env_id}, which has none",
        f"expected one of: {', '.join(known) or 'nothing for this algorithm'}",
        "leave preset out",
    )


def named_preset(algorithm: str, name: str) -> dict[str, Any]:
    """The hyperparameters of an algorithm that have a name, for any environment.

    Raises:
        ConfigError: none of this algorithm is called so.
    """
    named = {entry["name"]: entry for entry in _entries(algorithm) if "name" in entry}
    if name in named:
        return _settings(named[name])
    raise ConfigError(
        f"a preset {name or repr(name)} was asked for {algorithm}{nearest(name, named)}",
        f"expected one of: {', '.join(named) or 'none has a name for this algorithm'}",
        "give preset without a name for the settings tuned for the environment, or leave it out",
    )


def file_preset(algorithm: str, env_id: str, file: str) -> dict[str, Any]:
    """The hyperparameters that a file has for an algorithm on an environment, or on any.

    Args:
        algorithm: the name of the table, `[[sac]]`.
        env_id: one of its `environments`; a table without them is for any that no other table of the file names.
        file: of the form of softac's own presets, as `softac tune` writes it.

    Raises:
        ConfigError: it cannot be read, has none, or has what is no setting.
    """
    whole = read_toml(Path(file), "settings in TOML, such as `softac tune` writes", "docs/guide/tuning.md")
    entries = whole.get(algorithm, [])
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise ConfigError(
            f"{file}: what stands under {algorithm} is no list of tables with environments that are one of texts",
            f"expected {TABLE.format(algorithm=algorithm)}",
            "correct the file",
        )
    entries.sort(key=lambda entry: "environments" not in entry)
    for entry in entries:
        if env_id in entry.get("environments", [env_id]):
            settings = _settings(entry)
            require_settings(algorithm, settings)
            return settings
    there = [f"{name} on {env}" for name, table in whole.items() for env in _environments(table)]
    raise ConfigError(
        f"{file} has no settings for {algorithm} on {env_id}",
        f"expected {TABLE.format(algorithm=algorithm)}" + (f"; it has {', '.join(there[:9])}" if there else ""),
        "add them, or take the environments out where they are to be for any",
    )


def _is_entry(entry: Any) -> bool:
    envs = entry.get("environments", []) if isinstance(entry, dict) else None
    return isinstance(envs, list) and all(isinstance(env, str) for env in envs)


def _environments(table: Any) -> list[str]:
    entries = [entry for entry in table if _is_entry(entry)] if isinstance(table, list) else []
    return [env for entry in entries for env in entry.get("environments", ["any environment"])]


def _entries(algorithm: str) -> list[dict[str, Any]]:
    text = files("softac.agents").joinpath("presets.toml").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = tomllib.loads(text).get(algorithm, [])
    return entries


def _settings(entry: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k not in ("environments", "name", "source")}
