"""`softac train` and `softac resume`."""

import argparse
import logging
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from softac.agents.presets import preset
from softac.agents.registry import AGENTS, find_agent
from softac.cli.arguments import (
    add_config,
    add_env_kwargs,
    add_run,
    env_kwargs,
    given,
    require_folder,
    steps,
)
from softac.cli.display import Display
from softac.cli.messages import messages_to, to_file_in
from softac.cli.reopen import begun, reopened
from softac.cli.suite import run_suite
from softac.config import as_text, fields, make_config
from softac.errors import CheckpointError, ConfigError, nearest
from softac.experiments.pool import stop_with_parent
from softac.experiments.suite import SUITE, Group, Member, Suite, evaluated, read_suite, typed
from softac.files import exists
from softac.model import Model
from softac.replay.ring import forecast, in_words
from softac.run.config import RecordConfig, RunConfig
from softac.run.folder import CONFIG, new_run_path, read_config
from softac.run.metrics import METRICS, read_rows
from softac.run.signals import StopSignals
from softac.run.training import rows_kept
from softac.seeds import in_ranges, read_seeds
from softac.types import ActionKind

DEFAULT_ENVS: dict[ActionKind, str] = {"continuous": "Pendulum-v1", "discrete": "CartPole-v1"}
FIRST_RUN_STEPS, USUAL_STEPS = 10_000, 100_000
LAST_N = re.compile(r" -n \d+$")
LONGEST_NAME = 40  # characters of seeds in the name of a folder

log = logging.getLogger("softac")


def add_train_parser(subparsers: Any, words: Sequence[str]) -> None:
    """Add `train`, with one flag for each hyperparameter of the algorithm that the command line names."""
    algorithm = next((word for word in words if word in AGENTS), "sac")
    parser = subparsers.add_parser(
        "train",
        help="train an agent in an environment",
        description="Train an agent; alone, `softac train` trains SAC on Pendulum-v1 for 10,000 steps.",
        allow_abbrev=False,
    )
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
        "--run-dir", type=Path, metavar="DIR", help="the run's own folder (default: runs/ENV__ALGO__SEED__TIME)"
    )
    parser.add_argument(
        "--preset", action="store_true", help="start from the tuned settings for ENV, and print them"
    )
    add_config(parser, RunConfig, "run")
    add_config(parser, RecordConfig, "evaluation and saving")
    add_config(parser, AGENTS[algorithm].Config, f"hyperparameters of {algorithm}")
    parser.set_defaults(run=run_train)


def add_resume_parser(subparsers: Any) -> None:
    """Add `resume`."""
    parser = subparsers.add_parser(
        "resume",
        help="go on with a run where it stopped",
        description="Go on with a run from its last checkpoint, bit for bit; before its first, start it again. In "
        "the folder of several seeds: with each that has not reached the total.",
        allow_abbrev=False,
    )
    add_run(parser)
    parser.add_argument("-n", "--total-timesteps", metavar="N", help="the new total of environment steps")
    parser.set_defaults(run=run_resume)


def run_train(args: argparse.Namespace) -> int:
    """Train from the beginning; returns the exit code."""
    algorithm, env_id = _algorithm_and_env(args.what)
    agent_class = find_agent(algorithm)
    tuned = preset(algorithm, env_id) if args.preset else {}
    chosen = tuned | given(args, agent_class.Config) | given(args, RunConfig)
    several = None if args.seeds is None else read_seeds(args.seeds)
    if several is not None:
        if args.seed is not None:
            raise ConfigError(
                f"--seed {args.seed} and --seeds {args.seeds} were given",
                "expected one of them",
                "leave --seed out",
            )
        chosen["seed"] = several[0]
    total = steps(args.total_timesteps or (USUAL_STEPS if args.what else FIRST_RUN_STEPS))
    record = make_config(RecordConfig, given(args, RecordConfig))
    kwargs = env_kwargs(args.env_kwargs)
    settings = asdict(make_config(RunConfig, {k: v for k, v in chosen.items() if k in fields(RunConfig)}))
    hyperparameters = {k: v for k, v in chosen.items() if k not in settings}
    model = Model(agent_class, env_id, env_kwargs=kwargs, trust_module=True, **settings, **hyperparameters)
    if args.preset:
        changed = ", ".join(f"{k}={as_text(v)}" for k, v in chosen.items())
        print(f"preset for {env_id}: {changed}; everything else as in `softac defaults {algorithm}`")  # noqa: T201
    if (first := _first_update(model)) > total:
        log.warning("the first update would come at step %d, and this run ends at step %d", first, total)
    word = model.run.seed if several is None else _folder_word(several)
    path = args.run_dir or new_run_path(Path("runs"), env_id, algorithm, word)
    if several is not None:
        return _train_seeds(model, several, total, record, path)
    return _train(model, total, record, path)


def run_resume(args: argparse.Namespace) -> int:
    """Go on with a run, or with several in one folder; returns the exit code."""
    stop_with_parent()
    path = require_folder(args.run_dir)
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
    total = steps(args.total_timesteps or planned)
    model = reopened(config, path, args.env)
    made = model.num_timesteps
    if made > total or (made == total and evaluated(path, total, record)):
        raise ConfigError(
            f"{path} has made {made} of {total} steps",
            "expected a larger total to go on to",
            f"give one with -n, for instance -n {2 * made}",
        )
    return _train(model, total, record, path)


def _folder_word(seeds: Sequence[int]) -> str:
    """What stands for the seeds in the folder's name: seeds-0-9, or 50-seeds where that is long."""
    word = f"seeds-{in_ranges(seeds)}"
    return word if len(word) <= LONGEST_NAME else f"{len(seeds)}-seeds"


def _train_seeds(model: Model, seeds: tuple[int, ...], total: int, record: RecordConfig, path: Path) -> int:
    if exists(path / SUITE) or exists(path / CONFIG):
        raise ConfigError(
            f"{path} holds runs already",
            "expected a new folder",
            "choose another, or go on with `softac resume`",
        )
    model.threads = 1
    group, env = Group("", "seed-", seeds, model.description()), model.source.name
    suite = Suite(f"{group.title}, seeds {in_ranges(seeds)}", typed(), (group,), record, total)
    return run_suite(suite, [model], path, env if ":" in env else None)


def _resume_suite(suite: Suite, path: Path, args: argparse.Namespace) -> int:
    total = steps(args.total_timesteps or suite.total)
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
    return run_suite(suite, models, path, args.env)


def _first_update(model: Model) -> int:
    config = model.agent.config
    if model.agent.on_policy:
        return rows_kept(model.agent, model.run.n_envs)
    return int(config.learning_starts + config.train_freq)


def _train(model: Model, total: int, record: RecordConfig, path: Path) -> int:
    name = model.description()["algorithm"]
    title = f"{name} on {model.source.name}, seed {model.run.seed}"
    if not model.agent.on_policy:
        kept = min(rows_kept(model.agent, model.run.n_envs), total)
        title += f", replay up to {in_words(forecast(kept, model.spaces.spec))}"
    with (
        StopSignals() as stop,
        Display(title, str(path), total) as display,
        messages_to(display, to_file_in(path)),
    ):
        model.train(total, record, path, sinks=[display], heartbeat=display.heartbeat, stop=stop)
    rows = read_rows(path / METRICS)
    # A file may not name a module to import, so that the next command has to.
    run = shlex.quote(str(path)) + (f" --env {model.source.name}" if ":" in model.source.name else "")
    if stop.received is not None:
        print(f"stopped and saved at step {model.num_timesteps:,}; go on with: softac resume {run}")  # noqa: T201
        return 128 + stop.received
    return _summary(path, run, rows, model.num_timesteps)


def _summary(path: Path, run: str, rows: list[dict[str, Any]], steps_made: int) -> int:
    evaluations = [row for row in rows if "eval/mean_reward" in row]
    lines = []
    if evaluations:
        from softac.report.plots import draw_run  # half a second before the first step, if above

        last = evaluations[-1]
        lines += [
            f"return {last['eval/mean_reward']:,.1f} +- {last['eval/std_reward']:,.1f} over "
            f"{len(last['eval/returns'])} evaluation episodes at step {last['step']:,} "
            f"(stochastic {last['eval/stochastic_mean_reward']:,.1f})",
            f"picture  {draw_run(path)}",
        ]
    lines += [
        f"run      {path}",
        f"go on    softac resume {run} -n {2 * steps_made}",
        f"watch    softac enjoy {run}",
    ]
    print("\n".join(lines))  # noqa: T201
    return 0


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
