"""`softac run`."""

import argparse
from typing import Any

from softac.cli.arguments import add_env_kwargs, as_path, env_kwargs
from softac.cli.episodes import show_episodes, summary
from softac.config import make_config
from softac.envs import EnvSource
from softac.run.config import RecordConfig, RunConfig
from softac.ship.play import play
from softac.ship.runtimes import open_policy


def add_parser(subparsers: Any) -> None:
    """Add `run`."""
    parser = subparsers.add_parser(
        "run",
        help="play an exported policy in an environment",
        description="Play an exported policy in an environment through what it was exported for: the episodes of "
        "`softac eval` with the same --seed, and the time that one action takes.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "file", metavar="FILE", type=as_path, help="policy.onnx, policy.py, policy.safetensors or policy.c"
    )
    parser.add_argument("env", metavar="ENV", help="a Gymnasium id; module:Env-v0 imports the module")
    add_env_kwargs(parser)
    parser.add_argument("--n-eval-episodes", default=10, metavar="N", help="episodes (default: 10)")
    parser.add_argument("--seed", default=0, metavar="SEED", help="of the start states (default: 0)")
    parser.add_argument(
        "--trust", action="store_true", help="compile and run policy.c, which is a program and not data"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Play and print; returns the exit code."""
    episodes = make_config(RecordConfig, {"n_eval_episodes": args.n_eval_episodes}).n_eval_episodes
    seed = make_config(RunConfig, {"seed": args.seed}).seed
    policy = open_policy(args.file, trust=args.trust)
    source = EnvSource(args.env, env_kwargs(args.env_kwargs), trust_module=True)
    played = play(policy, source, episodes, seed)
    returns = played.returns
    show_episodes(returns)
    step, time = int(policy.about["step"]), f"{played.microseconds:.1f} µs an action"
    print(  # noqa: T201
        f"{summary(returns)}  over {len(returns.returns)} episodes, agent of step {step:,} through "
        f"{policy.runtime}, {time}"
    )
    return 0
