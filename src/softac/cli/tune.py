"""`softac tune`."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from softac.agents.presets import find_preset, preset
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
    steps,
)
from softac.cli.search import run_search
from softac.config import as_text, fields, make_config
from softac.errors import ConfigError
from softac.experiments.suite import SUITE, typed
from softac.experiments.tuning.journal import require_optuna
from softac.experiments.tuning.search import (
    MOST_TRIALS,
    TUNE,
    Search,
    model_of,
    read_search,
    require_same_search,
)
from softac.experiments.tuning.space import Space, default_space, read_space
from softac.files import exists
from softac.run.config import RecordConfig, RunConfig
from softac.run.folder import CONFIG
from softac.seeds import LARGEST_SEED, in_ranges, read_seeds

EVALUATIONS, LEAST_SAVES = 16, 5  # of each run
MOST_BETWEEN_SAVES = 10_000  # steps
FRESH = 5  # seeds


def add_parser(subparsers: Any, words: Sequence[str]) -> None:
    """Add `tune`, with one flag for each hyperparameter of the algorithm that the command line names."""
    algorithm = _algorithm(words)
    parser = subparsers.add_parser(
        "tune",
        help="search for hyperparameters, resumable; the winner is a file for --preset",
        description="Search for hyperparameters with Optuna: trials side by side, the best three again with fresh "
        "seeds, the winner as a file that --preset takes. The same command goes on where it was interrupted. A "
        "hyperparameter that is given here has that value in every trial.",
        allow_abbrev=False,
    )
    _add_arguments(parser)
    add_config(parser, AGENTS[algorithm].Config, f"hyperparameters of {algorithm}, the same in every trial")
    parser.set_defaults(run=run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the hyperparameters of the algorithm."""
    parser.add_argument("algorithm", metavar="ALGO", help="`softac list` names them")
    parser.add_argument("env", metavar="ENV", nargs="?", help="the id of an environment")
    parser.add_argument("-n", "--total-timesteps", metavar="N", help="environment steps of each run")
    _add_search(parser)
    parser.add_argument(
        "--preset",
        nargs="?",
        const=True,
        metavar="NAME|FILE",
        help="the settings of the first trial (default: those tuned for ENV, if there are any)",
    )
    add_env_kwargs(parser)
    parser.add_argument(
        "--run-dir", type=as_path, metavar="DIR", help="the folder of the search (default: runs/tune-ALGO-ENV)"
    )
    add_place(parser)
    add_config(parser, RunConfig, "run", [name for name in fields(RunConfig) if name != "seed"])
    add_config(parser, RecordConfig, "evaluation and saving")


def _algorithm(words: Sequence[str]) -> str:
    """The algorithm that is named, which is not every word that is the name of one: of a folder, say."""
    for name in dict.fromkeys(word for word in words if word in AGENTS):
        seen = foreseen(words, "tune", _add_arguments, AGENTS[name].Config)
        if seen is not None and seen.algorithm == name:
            return name
    return "sac"


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", metavar="N", default="30", help="how many (default: %(default)s)")
    parser.add_argument(
        "--space", type=as_path, metavar="FILE.toml", help="what is searched (default: see --print-space)"
    )
    parser.add_argument(
        "--print-space", action="store_true", help="print what is searched, in the form of --space, and stop"
    )
    parser.add_argument(
        "--seeds",
        metavar="SEEDS",
        default="0",
        help="a run for each in every trial: 0-2, say (default: %(default)s)",
    )
    parser.add_argument(
        "--fresh-seeds",
        metavar="SEEDS",
        help=f"with which the best three are run again (default: the {FRESH} after the largest of --seeds)",
    )
    parser.add_argument(
        "--parallel",
        metavar="N",
        default="8",
        help="trials proposed at once, before any of them has ended (default: %(default)s)",
    )
    parser.add_argument("--prune", action="store_true", help="stop trials that are in the worse half at half time")
    parser.add_argument("--seed", metavar="SEED", default="0", help="of the proposals (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Search, or go on with it; returns the exit code."""
    if args.print_space:
        print(default_space(args.algorithm), end="")  # noqa: T201
        return 0
    require_optuna()
    search = _search(args)
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in search.env)
    path = args.run_dir or Path("runs") / f"tune-{search.algorithm}-{name}"
    if exists(path / TUNE):
        require_same_search(read_search(path), search, path)
    elif exists(path / CONFIG) or exists(path / SUITE):
        raise ConfigError(
            f"{path} holds runs already",
            "expected a new folder, or that of a search",
            "choose another with --run-dir",
        )
    return run_search(search, path, search.env if ":" in search.env else None, place(args))


def _search(args: argparse.Namespace) -> Search:
    """What the command line asks for, tried by making the models of the first trials."""
    agent_class, algorithm, env = find_agent(args.algorithm), args.algorithm, args.env
    if env is None:
        raise ConfigError(
            f"softac tune {algorithm} was given without an environment",
            "expected one",
            f"write for instance softac tune {algorithm} Pendulum-v1",
        )
    if args.total_timesteps is None:
        raise ConfigError(
            "the steps of a run were not given",
            "expected a budget in which good settings can be told from bad ones",
            "give it with -n, for instance -n 50_000",
        )
    total, seeds = steps(args.total_timesteps), read_seeds(args.seeds)
    fixed = given(args, agent_class.Config) | given(args, RunConfig)
    del fixed["seed"]  # here that of the proposals
    space = read_space(algorithm, args.space)
    _require_apart(space, fixed)
    search = Search(
        algorithm,
        env,
        env_kwargs(args.env_kwargs),
        _first(algorithm, env, args.preset, fixed),
        space,
        total,
        _record(args, total),
        seeds,
        _fresh(args.fresh_seeds, seeds),
        _count(args.trials, "--trials", MOST_TRIALS),
        _count(args.parallel, "--parallel", MOST_TRIALS),
        args.prune,
        make_config(RunConfig, {"seed": args.seed}).seed,
        typed(),
    )
    return _typed(search)


def _first(algorithm: str, env: str, asked: bool | str | None, fixed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The preset and the defaults; the latter alone where there is no preset."""
    try:
        tuned = preset(algorithm, env) if asked is None else find_preset(algorithm, env, asked)
    except ConfigError:
        if asked is not None:
            raise
        return {"defaults": fixed}
    return {"preset": tuned | fixed, "defaults": fixed}


def _typed(search: Search) -> Search:
    """The same with values for what was typed, which the models of the first trials have."""
    first = {}
    for name, settings in search.first.items():
        model = model_of(search, settings, search.seeds[0], trusted=True)
        model.close()
        made = asdict(model.agent.config) | asdict(model.run)
        first[name] = {key: list(v) if isinstance(v := made[key], tuple) else v for key in settings}
    if len(first) > 1 and first["preset"] == first["defaults"]:
        del first["preset"]
    return replace(search, first=first)


def _record(args: argparse.Namespace, total: int) -> RecordConfig:
    usual = {
        "eval_freq": max(1, total // EVALUATIONS),
        "save_freq": max(1, min(MOST_BETWEEN_SAVES, total // LEAST_SAVES)),
    }
    record: RecordConfig = make_config(RecordConfig, usual | given(args, RecordConfig))
    if record.n_eval_episodes == 0:
        raise ConfigError(
            "--n-eval-episodes 0 was given",
            "expected evaluations, since a trial is worth what they say",
            "leave it out for 10",
        )
    if args.prune and not 0 < 2 * record.eval_freq <= total:
        raise ConfigError(
            f"--prune was given with --eval-freq {record.eval_freq}",
            f"expected evaluations by half of the {total:,} steps, since they say what is stopped",
            f"give --eval-freq {usual['eval_freq']}, say",
        )
    return record


def _require_apart(space: Space, fixed: dict[str, Any]) -> None:
    if both := [name for name in space if name in fixed]:
        raise ConfigError(
            f"--{both[0].replace('_', '-')} {as_text(fixed[both[0]])} was given, and the search varies it",
            "expected one of the two",
            "leave it out, or give a --space without it (--print-space prints one to begin with)",
        )


def _fresh(asked: str | None, seeds: Sequence[int]) -> tuple[int, ...]:
    if asked is None:
        if seeds[-1] + FRESH > LARGEST_SEED:
            raise ConfigError(
                f"--seeds {in_ranges(seeds)} was given without --fresh-seeds",
                f"expected room for {FRESH} larger ones, up to {LARGEST_SEED}, with which the best are run again",
                "give --fresh-seeds, or smaller seeds",
            )
        return tuple(range(seeds[-1] + 1, seeds[-1] + 1 + FRESH))
    fresh = read_seeds(asked)
    if both := sorted(set(fresh) & set(seeds)):
        raise ConfigError(
            f"--fresh-seeds {asked} and --seeds {in_ranges(seeds)} have {in_ranges(both)} in common",
            "expected others, since settings are the best of many with the seeds of the search",
            "leave it out, or give others",
        )
    return fresh


def _count(text: str, flag: str, most: int) -> int:
    digits = len(str(most))  # of more, even Python refuses to make a number
    if not (text.isdecimal() and len(text) <= digits and 1 <= int(text) <= most):
        raise ConfigError(
            f"{flag} {text or repr(text):.100} was given",
            f"expected a whole number from 1 to {most:,}",
            "give 30, say",
        )
    return int(text)
