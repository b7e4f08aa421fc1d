"""`softac train`."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from softac.agents.presets import find_preset
from softac.agents.registry import AGENTS, find_agent
from softac.cli.arguments import (
    add_config,
    add_env_kwargs,
    add_place,
    as_path,
    env_kwargs,
    foreseen,
    given,
    place,
    require_here,
    steps,
)
from softac.cli.live import train_shown
from softac.cli.output import say
from softac.cli.suite import run_suite
from softac.config import as_text, fields, make_config
from softac.errors import ConfigError, nearest
from softac.experiments.places import Where
from softac.experiments.suite import SUITE, Group, Suite, typed
from softac.files import exists
from softac.model import Model
from softac.run.config import RecordConfig, RunConfig
from softac.run.folder import CONFIG, new_run_path
from softac.run.training import rows_kept
from softac.seeds import in_ranges, read_seeds
from softac.types import ActionKind

DEFAULT_ENVS: dict[ActionKind, str] = {"continuous": "Pendulum-v1", "discrete": "CartPole-v1"}
FIRST_RUN_STEPS, USUAL_STEPS = 10_000, 100_000
LONGEST_NAME = 40  # characters of seeds in the name of a folder

log = logging.getLogger("softac")


def add_parser(subparsers: Any, words: Sequence[str]) -> None:
    """Add `train`, with one flag for each hyperparameter of the algorithm that the command line names."""
    algorithm = _algorithm(words)
    parser = subparsers.add_parser(
        "train",
        help="train an agent in an environment",
        description="Train an agent; alone, `softac train` trains SAC on Pendulum-v1 for 10,000 steps.",
        allow_abbrev=False,
    )
    _add_arguments(parser)
    add_config(parser, AGENTS[algorithm].Config, f"hyperparameters of {algorithm}")
    parser.set_defaults(run=run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the hyperparameters of the algorithm."""
    parser.add_argument(
        "what",
        nargs="*",
        metavar="[ALGO] [ENV]",
        help="default: sac Pendulum-v1, CartPole-v1 for discrete actions; a lone ENV is understood",
    )
    parser.add_argument("-n", "--total-timesteps", metavar="N", help="environment steps")
    parser.add_argument(
        "--seeds",
        metavar="SEEDS",
        help="one run for each of several seeds, side by side: 0-9 or 0,3,7 (one thread each, one per core; on a "
        "GPU all in one process)",
    )
    add_env_kwargs(parser)
    parser.add_argument(
        "--run-dir", type=as_path, metavar="DIR", help="the run's own folder (default: runs/ENV__ALGO__SEED__TIME)"
    )
    parser.add_argument(
        "--preset",
        nargs="?",
        const=True,
        metavar="NAME|FILE",
        help="start from the tuned settings for ENV, from the published ones of this name, or from those that "
        "`softac tune` has written into FILE.toml, and print them",
    )
    add_place(parser)
    add_config(parser, RunConfig, "run")
    add_config(parser, RecordConfig, "evaluation and saving")


def _algorithm(words: Sequence[str]) -> str:
    """The algorithm that is named, which is not every word that is the name of one: of a folder, say."""
    for name in dict.fromkeys([*(word for word in words if word in AGENTS), "sac"]):
        seen = foreseen(words, "train", _add_arguments, AGENTS[name].Config)
        if seen is not None and name in _what_and_preset(seen)[0][:1]:
            return name
    return "sac"


def _what_and_preset(args: argparse.Namespace) -> tuple[list[str], bool | str | None]:
    named = isinstance(args.preset, str) and not args.preset.endswith(".toml")
    if args.preset in AGENTS or (named and not args.what):
        # `--preset sac Pendulum-v1`: a flag that may have a word has taken the first of those that stand alone.
        return [args.preset, *args.what], True
    return args.what, args.preset


def run(args: argparse.Namespace) -> int:
    """Train from the beginning; returns the exit code."""
    args.what, args.preset = _what_and_preset(args)
    algorithm, env_id = _algorithm_and_env(args.what)
    agent_class = find_agent(algorithm)
    chosen = find_preset(algorithm, env_id, args.preset) | given(args, agent_class.Config) | given(args, RunConfig)
    several, where = None if args.seeds is None else read_seeds(args.seeds), place(args)
    if several is None:
        require_here(where, "without --seeds", "give --seeds 0 for one run there")
    if several is not None:
        if args.seed is not None:
            raise ConfigError(
                f"--seed {args.seed} and --seeds {args.seeds} were given",
                "expected one of them",
                "leave --seed out",
            )
        chosen["seed"] = several[0]
    usual = USUAL_STEPS if args.what else FIRST_RUN_STEPS
    total = steps(usual if args.total_timesteps is None else args.total_timesteps)
    record = make_config(RecordConfig, given(args, RecordConfig))
    kwargs = env_kwargs(args.env_kwargs)
    settings = asdict(make_config(RunConfig, {k: v for k, v in chosen.items() if k in fields(RunConfig)}))
    hyperparameters = {k: v for k, v in chosen.items() if k not in settings}
    model = Model(agent_class, env_id, env_kwargs=kwargs, trust_module=True, **settings, **hyperparameters)
    if args.preset:
        changed = ", ".join(f"{k}={as_text(v)}" for k, v in chosen.items())
        name = env_id if args.preset is True else args.preset
        say(f"preset for {name}: {changed}; everything else as in `softac defaults {algorithm}`")
    if (first := _first_update(model)) > total:
        log.warning("the first update would come at step %d, and this run ends at step %d", first, total)
    word = model.run.seed if several is None else _folder_word(several)
    path = args.run_dir or new_run_path(Path("runs"), env_id, algorithm, word)
    if several is not None:
        return _train_seeds(model, several, total, record, path, where)
    return train_shown(model, total, record, path)


def _algorithm_and_env(words: list[str]) -> tuple[str, str]:
    match words:
        case []:
            return "sac", DEFAULT_ENVS["continuous"]
        case [algorithm] if algorithm in AGENTS:
            return algorithm, DEFAULT_ENVS[AGENTS[algorithm].actions[0]]
        case [word]:
            if nearest(word, AGENTS):
                find_agent(word)  # raises: a misspelt algorithm, not an environment
            return "sac", word
        case [algorithm, env_id]:
            find_agent(algorithm)
            return algorithm, env_id
        case _:
            raise ConfigError(
                f"{' '.join(words)} was given",
                "expected an algorithm and an environment",
                "write for instance softac train sac Pendulum-v1",
            )


def _train_seeds(
    model: Model, seeds: tuple[int, ...], total: int, record: RecordConfig, path: Path, where: Where
) -> int:
    if exists(path / SUITE) or exists(path / CONFIG):
        raise ConfigError(
            f"{path} holds runs already",
            "expected a new folder",
            "choose another, or go on with `softac resume`",
        )
    model.life.threads = 1
    group, env = Group("", "seed-", seeds, model.description()), model.source.name
    suite = Suite(f"{group.title}, seeds {in_ranges(seeds)}", typed(), (group,), record, total)
    return run_suite(suite, [model], path, env if ":" in env else None, where)


def _folder_word(seeds: Sequence[int]) -> str:
    """What stands for the seeds in the folder's name: seeds-0-9, or 50-seeds where that is long."""
    word = f"seeds-{in_ranges(seeds)}"
    return word if len(word) <= LONGEST_NAME else f"{len(seeds)}-seeds"


def _first_update(model: Model) -> int:
    config = model.agent.config
    if model.agent.on_policy:
        return rows_kept(model.agent, model.run.n_envs)
    return int(config.learning_starts + config.train_freq)
