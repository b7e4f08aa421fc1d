"""A folder of runs that differ in the seed: `seeds.json` beside one run folder for each seed."""

import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from softac._version import __version__
from softac.config import make_config
from softac.errors import CheckpointError, ConfigError, DiskError
from softac.files import read_regular, replace_text, seal_is_whole, sealed_json, sync_folder, write_durably
from softac.run.checkpoint import FOLDER_NAME, checkpoints, parse_json
from softac.run.config import RecordConfig
from softac.run.folder import CHECKPOINTS, CONFIG, IDENTITY, write_description
from softac.run.metrics import METRICS, read_rows

SEEDS, COMMAND = "seeds.json", "command.txt"
FORMAT = "softac-seeds-1"
MOST_SEEDS = 1_000
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Plan:
    """What is to be trained.

    Attributes:
        seeds: ascending.
        config: what the `config.json` of each run says, except for its seed.
        record: when each is evaluated and saved.
        total: environment steps of each.
    """

    seeds: tuple[int, ...]
    config: dict[str, Any]
    record: RecordConfig
    total: int

    def config_of(self, seed: int) -> dict[str, Any]:
        """What the `config.json` of one run says."""
        run = self.config["run"] | {"seed": seed}
        return self.config | {"run": run, "record": asdict(self.record), "total_timesteps": self.total}

    def reached(self, path: Path) -> bool:
        """Whether the run in `path` has made its steps and its last evaluation."""
        newest = next(iter(checkpoints(path / CHECKPOINTS)), None)
        named = None if newest is None else FOLDER_NAME.fullmatch(newest.name)
        steps = 0 if named is None else int(named[1])
        return steps > self.total or (steps == self.total and evaluated(path, steps, self.record))


def evaluated(path: Path, step: int, record: RecordConfig) -> bool:
    """Whether the evaluation that ends a run of `step` steps has been made, or was not asked for."""
    made = (row["step"] for row in read_rows(path / METRICS) if "eval/mean_reward" in row)
    return record.n_eval_episodes == 0 or step in made


def seed_folder(path: Path, seed: int) -> Path:
    """Where one seed's run lies."""
    return path / f"seed-{seed}"


def write_plan(path: Path, plan: Plan) -> None:
    """Write `seeds.json`, at first `command.txt`, and `config.json` into the folder of each seed that has none.

    Raises:
        ConfigError: a seed's folder is a link.
        DiskError: the disk refused.
    """
    whole = {"format": FORMAT, "softac": __version__, "seeds": plan.seeds, **plan.config_of(plan.seeds[0])}
    folders = {seed: seed_folder(path, seed) for seed in plan.seeds}
    for folder in folders.values():
        if folder.is_symlink():
            raise ConfigError(
                f"{folder} is a link; expected a folder of its own, since it is written to; put what it leads to "
                "in its place"
            )
    try:
        if not (path / SEEDS).exists():
            replace_text(path / COMMAND, f"{shlex.join(sys.argv)}\n")
        partial = path / f".tmp-{SEEDS}"
        write_durably(partial, sealed_json(whole))
        partial.replace(path / SEEDS)
        sync_folder(path)
        for seed, folder in folders.items():
            if not (folder / CONFIG).exists():
                write_description(folder, plan.config_of(seed))
    except OSError as error:
        raise DiskError(
            f"{path} cannot be written ({error.strerror}); expected a folder with space of your own; free some "
            "space or choose another with --run-dir"
        ) from None


def read_plan(path: Path) -> Plan:
    """The plan that `write_plan` wrote.

    Raises:
        CheckpointError: it is missing, damaged, or of another format.
    """
    data = read_regular(path / SEEDS, 2**20)
    config = parse_json(data, path / SEEDS)
    try:
        if config.pop("format") != FORMAT or not seal_is_whole(data):
            raise ValueError("another format, or changed since")
        seeds, total = tuple(config.pop("seeds")), config.pop("total_timesteps")
        if not seeds or list(seeds) != sorted({int(seed) for seed in seeds}) or not total >= 1:
            raise ValueError("impossible seeds or steps")
        if not 0 <= seeds[0] <= seeds[-1] <= LARGEST_SEED or len(seeds) > MOST_SEEDS:
            raise ValueError("impossible seeds")
        record = make_config(RecordConfig, config.pop("record"))
        config = {name: config[name] for name in IDENTITY}
        dict(config["run"])
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path / SEEDS} cannot be used ({error}); expected what softac wrote; restore the file"
        ) from None
    return Plan(seeds, config, record, total)
