"""`softac enjoy`."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from rich.console import Console

from softac.cli.arguments import add_run, require_run, whole_number
from softac.cli.screen import Screen
from softac.config import make_config
from softac.envs import InProcessVectorEnv, Step, VectorEnv
from softac.envs.rendering import draw, draw_unseen, frame_rate, has_display, require_render_mode
from softac.envs.video import Film, film, find_ffmpeg, require_encoder
from softac.errors import ConfigError, DiskError
from softac.model import Model
from softac.run.config import RunConfig
from softac.run.evaluate import evaluate
from softac.run.folder import require_no_link
from softac.run.numerics import numerics
from softac.run.signals import StopSignals
from softac.types import FloatArray

VIDEOS = "videos"
SHOWN, FILMED = 5, 1  # episodes, unless another number is asked for


def add_parser(subparsers: Any) -> None:
    """Add `enjoy`."""
    parser = subparsers.add_parser(
        "enjoy",
        help="watch a trained agent, or film it",
        description="Watch a trained agent in a window, or film it: the episodes of `softac eval` with the same "
        "--seed.",
        allow_abbrev=False,
    )
    add_run(parser)
    parser.add_argument(
        "--best", action="store_true", help="the agent of the best evaluation, not the last checkpoint"
    )
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mode")
    parser.add_argument("--seed", default=0, metavar="SEED", help="of the start states (default: 0)")
    parser.add_argument(
        "--n-episodes", metavar="N", help=f"episodes (default: {SHOWN} in a window, {FILMED} in a film)"
    )
    parser.add_argument(
        "--video",
        nargs="?",
        const=True,
        metavar="FILE",
        help="film without a window, into this .mp4 or .gif (default: RUN/videos/step-N.mp4; .gif without ffmpeg)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show or film whole episodes and print their returns; returns the exit code."""
    if args.video is None and not has_display():
        raise ConfigError(
            "there is no display here (DISPLAY and WAYLAND_DISPLAY are not set)",
            "expected one for a window",
            f"film instead: softac enjoy {args.run_dir} --video",
        )
    filming = args.video is not None
    if isinstance(args.video, str):
        require_encoder(Path(args.video))
    episodes = whole_number(args.n_episodes, "--n-episodes", FILMED if filming else SHOWN)
    seed = make_config(RunConfig, {"seed": args.seed}).seed
    model = Model.load(require_run(args.run_dir), args.env, best=args.best, trust_module=args.env is not None)
    name = model.source.name
    with ExitStack() as stack:
        stack.callback(model.close)
        mode = "rgb_array" if filming else "human"
        with closing(model.source.make()) as env:
            require_render_mode(name, env, mode)
        draw_unseen()
        env = model.source.make(mode)
        envs = stack.enter_context(closing(InProcessVectorEnv(lambda: env, 1)))
        console = Screen()
        status = stack.enter_context(console.status("filming" if filming else "showing"))
        making: Film | None = None
        if filming:
            path = _default_path(args.run_dir, model.num_timesteps) if args.video is True else Path(args.video)
            making = stack.enter_context(film(path, frame_rate(env)))

        def shoot() -> None:
            if making is not None:  # an environment with a window draws by itself
                making.add(draw(name, env))
                status.update(f"filming: {making.frames:,} pictures")

        stack.enter_context(numerics(model.threads))
        stop = stack.enter_context(StopSignals())
        watched = Watched(envs, shoot, console)
        evaluate(model.agent, watched, episodes, deterministic=not args.stochastic, seed=seed, stop=stop)
    if making is not None:
        print(f"film  {path}  ({making.frames:,} pictures, {frame_rate(env)} a second)")  # noqa: T201
    return 0 if stop.received is None else 128 + stop.received


class Watched:
    """A `VectorEnv` of one that calls `shoot` after every reset and step, and prints each episode's return."""

    def __init__(self, envs: VectorEnv, shoot: Callable[[], None], console: Console) -> None:
        self.envs, self.shoot, self.console = envs, shoot, console
        self.num_envs, self.spaces, self.repeats = 1, envs.spaces, envs.repeats
        self.episode = 0
        self.total, self.length = 0.0, 0

    def reset(self, index: int, seed: int) -> FloatArray:
        """Begin an episode and show its start."""
        obs = self.envs.reset(index, seed)
        self.total, self.length = 0.0, 0
        self.shoot()
        return obs

    def step(self, first: int, actions: FloatArray) -> Iterator[Step]:
        """Advance and show where that leads."""
        for step in self.envs.step(first, actions):
            self.total, self.length = self.total + step.reward, self.length + 1
            self.shoot()
            if step.terminated or step.truncated:
                line = f"episode {self.episode:>4}  return {self.total:>12,.3f}  length {self.length:>6,}"
                self.console.print(line, highlight=False, soft_wrap=True)
                self.episode += 1
            yield step

    def restart(self, index: int) -> None:
        """A new instance."""
        self.envs.restart(index)

    def close(self) -> None:
        """Close the environment."""
        self.envs.close()


def _default_path(run_dir: Path, step: int) -> Path:
    folder = run_dir / VIDEOS
    require_no_link(folder)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise DiskError(
            f"{folder} cannot be made ({error.strerror})",
            "expected a folder of your own",
            "name a file with --video",
        ) from None
    return folder / f"step-{step:09d}{'.mp4' if find_ffmpeg() else '.gif'}"
