"""`softac eval`."""

import argparse
from typing import Any

from softac.cli.arguments import add_run, require_run
from softac.cli.episodes import show_episodes, summary
from softac.config import make_config
from softac.model import Model
from softac.run.config import RecordConfig, RunConfig


def add_parser(subparsers: Any) -> None:
    """Add `eval`."""
    parser = subparsers.add_parser(
        "eval",
        help="returns of a trained agent over whole episodes",
        description="Run whole episodes with a trained agent; the same --seed gives every agent the same starts.",
        allow_abbrev=False,
    )
    add_run(parser)
    parser.add_argument(
        "--best", action="store_true", help="the agent of the best evaluation, not the last checkpoint"
    )
    parser.add_argument("--n-eval-episodes", default=10, metavar="N", help="episodes (default: 10)")
    parser.add_argument("--seed", default=0, metavar="SEED", help="of the start states (default: 0)")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mode")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; returns the exit code."""
    episodes = make_config(RecordConfig, {"n_eval_episodes": args.n_eval_episodes}).n_eval_episodes
    seed = make_config(RunConfig, {"seed": args.seed}).seed
    model = Model.load(require_run(args.run_dir), args.env, best=args.best, trust_module=args.env is not None)
    returns = model.evaluate(None, episodes, deterministic=not args.stochastic, seed=seed)
    show_episodes(returns)
    kind = "stochastic" if args.stochastic else "deterministic"
    print(  # noqa: T201
        f"{summary(returns)}  over {len(returns.returns)} {kind} episodes, agent of step {model.num_timesteps:,}"
    )
    return 0
