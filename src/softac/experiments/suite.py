"""A suite: runs that belong together, in one folder with `suite.json` beside their run folders."""

import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from softac._version import __version__
from softac.config import make_config
from softac.errors import CheckpointError, ConfigError
from softac.experiments.sealed import full, read_sealed, write_sealed
from softac.files import exists
from softac.run.checkpoint import FOLDER_NAME, checkpoints
from softac.run.config import RecordConfig
from softac.run.folder import CHECKPOINTS, CONFIG, IDENTITY, read_config, write_description
from softac.run.metrics import METRICS, read_rows
from softac.seeds import are_seeds
from softac.words import listed

SUITE = "suite.json"
FORMAT = "softac-suite-1"
FOLDER_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,239}", re.ASCII)


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed.

    Attributes:
        name: of what is compared, and of its curve; "" where the settings say it all.
        prefix: of the names of the run folders; the seed follows.
        seeds: ascending.
        config: what the `config.json` of each run says, except for its seed.
    """

    name: str
    prefix: str
    seeds: tuple[int, ...]
    config: dict[str, Any]

    @property
    def env(self) -> str:
        """The id of the environment."""
        return str(self.config["env"]["id"])

    @property
    def title(self) -> str:
        """Algorithm and environment, in words."""
        return f"{self.name or self.config['algorithm']} on {self.env}"


@dataclass(frozen=True)
class Member:
    """One run of a suite."""

    group: Group
    seed: int

    @property
    def folder(self) -> str:
        """The name of its run folder in that of the suite."""
        return f"{self.group.prefix}{self.seed}"


@dataclass(frozen=True)
class Suite:
    """Runs that belong together.

    Attributes:
        title: what they are, in words.
        command: what was typed to run them.
        groups: one for each algorithm and environment.
        record: when each run is evaluated and saved.
        total: environment steps of each.
    """

    title: str
    command: str
    groups: tuple[Group, ...]
    record: RecordConfig
    total: int

    @property
    def members(self) -> list[Member]:
        """The runs in the order in which they are begun: one seed of every group, then the next."""
        seeds = sorted({seed for group in self.groups for seed in group.seeds})
        return [Member(group, seed) for seed in seeds for group in self.groups if seed in group.seeds]

    def config_of(self, member: Member) -> dict[str, Any]:
        """What the `config.json` of one run says."""
        run = member.group.config["run"] | {"seed": member.seed}
        return member.group.config | {"run": run, "record": asdict(self.record), "total_timesteps": self.total}

    def reached(self, path: Path) -> bool:
        """Whether the run in `path` has made its steps and its last evaluation."""
        return reached(path, self.total, self.record)


def typed() -> str:
    """The command as it was typed, but for the place of the program."""
    return shlex.join(["softac", *sys.argv[1:]])


def reached(path: Path, total: int, record: RecordConfig) -> bool:
    """Whether the run in `path` has made `total` steps and its last evaluation."""
    newest = next(iter(checkpoints(path / CHECKPOINTS)), None)
    named = None if newest is None else FOLDER_NAME.fullmatch(newest.name)
    steps = 0 if named is None else int(named[1])
    return steps > total or (steps == total and evaluated(path, steps, record))


def evaluated(path: Path, step: int, record: RecordConfig) -> bool:
    """Whether the evaluation that ends a run of `step` steps has been made, or was not asked for."""
    made = (row["step"] for row in read_rows(path / METRICS) if "eval/mean_reward" in row)
    return record.n_eval_episodes == 0 or step in made


def write_suite(path: Path, suite: Suite) -> None:
    """Write `suite.json`, and `config.json` into each run folder that has none.

    Raises:
        ConfigError: a run folder is a link, or holds another run.
        DiskError: the disk refused.
    """
    whole = {
        "format": FORMAT,
        "softac": __version__,
        "title": suite.title,
        "command": suite.command,
        "total_timesteps": suite.total,
        "record": asdict(suite.record),
        "groups": [asdict(group) for group in suite.groups],
    }
    try:
        for member in suite.members:
            _require_own(path / member.folder, suite.config_of(member))
        write_sealed(path / SUITE, whole)
        for member in suite.members:
            if not (path / member.folder / CONFIG).exists():
                write_description(path / member.folder, suite.config_of(member))
    except OSError as error:
        raise full(path, error) from None


def _require_own(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse what would not become the run of this configuration."""
    if folder.is_symlink():
        raise ConfigError(
            f"{folder} is a link",
            "expected a folder of its own, since it is written to",
            "put what it leads to in its place",
        )
    if not exists(folder / CONFIG):
        return
    try:
        found = read_config(folder)
    except CheckpointError:
        return  # the run itself will say so, and the others go on
    if other := other_parts(found, config):
        raise ConfigError(
            f"{folder} holds another run (see {listed(other)} in its {CONFIG})",
            "expected one of this suite",
            "move it away, or choose another folder with --run-dir",
        )


def other_parts(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The parts of the description `found` that make it another run than `config`."""
    run = found.get("run")
    if config["run"]["engine"] == "auto" and isinstance(run, dict):
        found = {**found, "run": run | {"engine": "auto"}}  # it has been chosen since
    return [part for part in IDENTITY if _plain(found.get(part)) != _plain(config[part])]


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def read_suite(path: Path) -> Suite:
    """The suite that `write_suite` wrote.

    Raises:
        CheckpointError: it is missing, damaged, or of another format.
    """
    return read_sealed(path / SUITE, FORMAT, _suite)


def _suite(said: Mapping[str, Any]) -> Suite:
    groups, total = tuple(map(_group, said["groups"])), said["total_timesteps"]
    suite = Suite(
        str(said["title"]), str(said["command"]), groups, make_config(RecordConfig, said["record"]), total
    )
    folders = [member.folder for member in suite.members]
    if not isinstance(total, int) or total < 1 or not folders or len(set(folders)) < len(folders):
        raise ValueError("impossible steps or runs")
    return suite


def _group(data: Mapping[str, Any]) -> Group:
    name, prefix, seeds = str(data["name"]), str(data["prefix"]), tuple(data["seeds"])
    if not are_seeds(seeds):
        raise ValueError("impossible seeds")
    if not FOLDER_PREFIX.fullmatch(prefix):
        raise ValueError("a folder somewhere else")
    config = {part: data["config"][part] for part in IDENTITY}
    dict(config["run"])
    str(config["env"]["id"])
    return Group(name, prefix, seeds, config)
