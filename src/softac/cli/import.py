"""`softac import`."""  # noqa: N999 - the verb is this word

import argparse
import shlex
from pathlib import Path
from typing import Any

from softac.cli.arguments import add_env_kwargs, as_path, env_kwargs
from softac.run.folder import new_run_path
from softac.ship.sb3 import import_sb3


def add_parser(subparsers: Any) -> None:
    """Add `import`."""
    parser = subparsers.add_parser(
        "import",
        help="a policy of Stable-Baselines3 as a run folder, nothing in it executed",
        description="Turn a zip that Stable-Baselines3 saved (SAC, TD3, DDPG, DQN, PPO, A2C) into a folder that "
        "every command here takes. Nothing in the zip is unpickled; what cannot come is named.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "file", metavar="FILE.zip", type=as_path, help="what model.save of Stable-Baselines3 wrote"
    )
    parser.add_argument("--env", metavar="ENV", required=True, help="the environment it was trained in")
    add_env_kwargs(parser)
    parser.add_argument(
        "--normalize",
        type=as_path,
        metavar="FILE.npz",
        help="the statistics of its VecNormalize; the guide on Stable-Baselines3 has the lines that write them",
    )
    parser.add_argument(
        "--run-dir", type=as_path, metavar="DIR", help="the new folder (default: runs/ENV__ALGO__SEED__TIME)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Import, write the folder and say what stayed behind; returns the exit code."""
    imported = import_sb3(
        args.file,
        args.env,
        env_kwargs=env_kwargs(args.env_kwargs),
        normalisation=args.normalize,
        trust_module=True,
    )
    model = imported.model
    algorithm = model.description()["algorithm"]
    folder = args.run_dir or new_run_path(Path("runs"), args.env, algorithm, model.run.seed)
    imported.save(folder)
    # A file may not name a module to import, so that the next command has to.
    named = shlex.quote(str(folder)) + (f" --env {args.env}" if ":" in args.env else "")
    lines = [
        f"{algorithm} for {args.env}, after {imported.facts['steps']:,} steps with {imported.facts['from']}",
        *(f"stays    {note}" for note in imported.notes),
        f"run      {folder}",
        f"returns  softac eval {named}",
        f"go on    softac resume {named}",
    ]
    print("\n".join(lines))  # noqa: T201
    return 0
