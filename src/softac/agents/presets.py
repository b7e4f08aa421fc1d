"""Tuned settings per environment, from a data file."""

import tomllib
from importlib.resources import files
from typing import Any

from softac.errors import ConfigError


def preset(algorithm: str, env_id: str) -> dict[str, Any]:
    """The tuned hyperparameters of an algorithm for an environment.

    Raises:
        ConfigError: there are none.
    """
    entries = tomllib.loads(files("softac.agents").joinpath("presets.toml").read_text(encoding="utf-8")).get(
        algorithm, []
    )
    for entry in entries:
        if env_id in entry["environments"]:
            return {k: v for k, v in entry.items() if k not in ("environments", "source")}
    known = sorted(name for entry in entries for name in entry["environments"])
    raise ConfigError(
        f"a preset was asked for {algorithm} on {env_id}, which has none",
        f"expected one of: {', '.join(known) or 'nothing for this algorithm'}",
        "leave preset out",
    )
