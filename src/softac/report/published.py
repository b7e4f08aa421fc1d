"""Returns that others have published, from a data file."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

KNOWN = re.compile(r"([A-Za-z0-9]+)-v([345])", re.ASCII)


@dataclass(frozen=True)
class Source:
    """Where values come from.

    Attributes:
        name: in a few words.
        version: of the environments.
        seeds: runs behind each mean.
        metric: what was averaged.
        where: repository, commit and file.
        how: the numbers were taken from there.
    """

    name: str
    version: str
    seeds: int
    metric: str
    where: str
    how: str


@dataclass(frozen=True)
class Published:
    """The curve of one algorithm on one environment.

    Attributes:
        environment: without its version.
        algorithm: as on the command line.
        source: where it is from.
        drawn: whether it may stand beside deterministic evaluations.
        at: step -> mean and standard deviation over seeds, which may be None.
    """

    environment: str
    algorithm: str
    source: Source
    drawn: bool
    at: dict[int, tuple[float, float | None]]


def base(env: str) -> str:
    """The environment without its version, if it is one whose versions 3 to 5 are much alike; else ""."""
    match = KNOWN.fullmatch(env)
    return match[1] if match and match[1] in _data()["changes_to_v5"] else ""


def published(env: str, algorithm: str) -> list[Published]:
    """What has been published of an algorithm on an environment, in its version or another."""
    data, name = _data(), base(env)
    return [
        Published(
            name,
            algorithm,
            Source(**data["sources"][entry["source"]]),
            entry.get("drawn", False),
            {point[0]: (point[1], point[2] if len(point) > 2 else None) for point in entry["at"]},
        )
        for entry in data["values"]
        if entry["environment"] == name and entry["algorithm"] == algorithm
    ]


def anchor(env: str) -> float | None:
    """The return that counts as 1 across environments."""
    value: float | None = _data()["anchors"].get(base(env))
    return value


def change_to_v5(env: str) -> str:
    """What is different in version 5, in words; "" for other versions."""
    return str(_data()["changes_to_v5"][base(env)]) if base(env) and env.endswith("-v5") else ""


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(files("softac.report").joinpath("published.toml").read_text(encoding="utf-8"))
