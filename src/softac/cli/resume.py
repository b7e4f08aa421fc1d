"""`softac resume`."""

import argparse
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from softac.agents.registry import AGENTS
from softac.cli.arguments import (
    add_config,
    add_env_kwargs,
    add_place,
    add_run,
    env_kwargs,
    foreseen,
    given,
    place,
    require_folder,
    require_here,
    steps,
)
from softac.cli.live import train_shown
from softac.cli.search import run_search
from softac.cli.suite import run_elsewhere, run_suite
from softac.config import make_config
from softac.errors import CheckpointError, ConfigError, SoftacError
from softac.experiments.execute import memory_of
from softac.experiments.pool import stop_with_parent
from softac.experiments.reopen import begun, reopened
from softac.experiments.suite import SUITE, Member, Suite, evaluated, read_suite
from softac.experiments.tuning.search import TUNE, read_search
from softac.files import exists
from softac.run.changes import changeable
from softac.run.config import EXCHANGEABLE, RecordConfig, RunConfig
from softac.run.folder import CONFIG, read_config

LAST_N = re.compile(r" -n \d+$")


def add_parser(subparsers: Any, words: Sequence[str]) -> None:
    """Add `resume`, with one flag for each hyperparameter that may be changed in the run that is named."""
    parser = subparsers.add_parser(
        "resume",
        help="go on with a run where it stopped",
        description="Go on with a run from its last checkpoint, bit for bit unless other settings are given; "
        "before its first, start it again. In the folder of several seeds: with each that has not reached the "
        "total.",
        allow_abbrev=False,
    )
    _add_arguments(parser)
    if config := _hyperparameters(words):
        title = "what may be changed, but not bit for bit; the run's history says so (left out: as before)"
        add_config(parser, config, title, changeable(config))
    parser.set_defaults(run=run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the hyperparameters of the run."""
    add_run(parser)
    parser.add_argument("-n", "--total-timesteps", metavar="N", help="the new total of environment steps")
    add_place(parser)
    add_env_kwargs(parser)
    add_config(parser, RunConfig, "what may be changed (left out: as before)", (*EXCHANGEABLE, "device"))


def _hyperparameters(words: Sequence[str]) -> type[Any] | None:
    """The configuration of the run that the command line names."""
    for path in map(Path, words[1:]):
        with suppress(SoftacError, OSError, ValueError, KeyError):  # what is wrong is said when it is opened
            if exists(path / CONFIG):
                config: type[Any] = AGENTS[str(read_config(path).get("algorithm"))].Config
                seen = foreseen(words, "resume", _add_arguments, config)
                if seen is not None and seen.run_dir == path:
                    return config
    return None


def run(args: argparse.Namespace) -> int:
    """Go on with a run, or with several in one folder; returns the exit code."""
    stop_with_parent()
    path = require_folder(args.run_dir)
    if exists(path / TUNE):
        return _resume_search(path, args)
    if exists(path / SUITE):
        return _resume_suite(read_suite(path), path, args)
    config = read_config(path)
    try:
        record = make_config(RecordConfig, config["record"])
        planned = int(config["total_timesteps"])
    except (ConfigError, KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"{path} is a saved model, not a run: its config.json has no plan to go on with",
            "expected the folder of a run",
            "train one with `softac train`",
        ) from None
    total = _total(args, planned)
    model = reopened(config, path, args.env, **_changes(args, str(config.get("algorithm"))))
    made = model.num_timesteps
    if made > total or (made == total and evaluated(path, total, record)):
        # Not an error: `until softac resume RUN; do sleep 5; done` has to come to an end.
        print(f"{path} has made {made:,} of {total:,} steps; to go on, give more with -n, as in -n {2 * made}")  # noqa: T201
        return 0
    if place(args).here:
        return train_shown(model, total, record, path)
    model.close()
    if changes := _changes(args, str(config.get("algorithm"))):
        require_here(place(args), f"with another {next(iter(changes))}", "make a step here with it first")
    return run_elsewhere(
        path, total, record, [] if args.env is None else ["--env", args.env], memory_of(model, total), place(args)
    )


def _total(args: argparse.Namespace, planned: int) -> int:
    """The new total of environment steps, or the one that was planned."""
    return steps(planned if args.total_timesteps is None else args.total_timesteps)


def _changes(args: argparse.Namespace, algorithm: str | None = None) -> dict[str, Any]:
    """What is to be otherwise than before."""
    changes = given(args, RunConfig)
    if algorithm in AGENTS:
        changes |= given(args, AGENTS[algorithm].Config)
    return changes | ({"env_kwargs": env_kwargs(args.env_kwargs)} if args.env_kwargs else {})


def _resume_search(path: Path, args: argparse.Namespace) -> int:
    search = read_search(path)
    if args.total_timesteps is not None or _changes(args):
        raise ConfigError(
            f"{path} is a search, and what it does was settled when it began",
            "expected nothing more than its folder",
            "give `softac tune` again for more --trials, or name the folder of one of its runs",
        )
    return run_search(search, path, args.env, place(args))


def _resume_suite(suite: Suite, path: Path, args: argparse.Namespace) -> int:
    if changes := _changes(args):
        raise ConfigError(
            f"--{next(iter(changes)).replace('_', '-')} was given for {path}, which holds several runs",
            "expected it for one run",
            "leave it out, or name the folder of one of them",
        )
    total = _total(args, suite.total)
    if total < suite.total:
        raise ConfigError(
            f"-n {total} was given for {path}, whose runs are to make {suite.total} steps",
            "expected as many, or more",
            "leave -n away to finish them",
        )
    if total > suite.total:
        # The last -n of a command counts, so that this one makes runs of that many steps.
        suite = replace(suite, total=total, command=f"{LAST_N.sub('', suite.command)} -n {total}")
    models = [
        begun(suite.config_of(Member(group, group.seeds[0])), path, args.env if args.env == group.env else None)
        for group in suite.groups
    ]
    return run_suite(suite, models, path, args.env, place(args))
