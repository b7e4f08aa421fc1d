"""Tuned settings per environment, and published ones by name, from a data file."""

import tomllib
from importlib.resources import files
from typing import Any

from softac.errors import ConfigError, nearest


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
        f"a preset {name} was asked for {algorithm}{nearest(name, named)}",
        f"expected one of: {', '.join(named) or 'none has a name for this algorithm'}",
        "give preset without a name for the settings tuned for the environment, or leave it out",
    )


def _entries(algorithm: str) -> list[dict[str, Any]]:
    text = files("softac.agents").joinpath("presets.toml").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = tomllib.loads(text).get(algorithm, [])
    return entries


def _settings(entry: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k not in ("environments", "name", "source")}
