"""One contestant's training by the clock: a row of CSV at each mark of training time.

    PYTHON benchmarks/clock/train.py CONTESTANT ENV SEED FILE.csv [--seconds 600] [--marks 30 60 ...]

The clock runs from the first line of this file on, so that importing and compiling count; it stands while the
agent is evaluated (the mode of the policy, ten episodes from start states that are the same for all). PYTHON is an
interpreter that has the contestant; nothing of softac is imported for another one. The file gets its name when the
last row is in it.
"""

import time

BEGUN = time.perf_counter()

import argparse  # noqa: E402
import csv  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gymnasium as gym  # noqa: E402
import numpy as np  # noqa: E402

WARM_UP, EPISODES, FIRST_SEED, FOREVER = 5_000, 10, 10_000, 10**9
SOFTAC: dict[str, tuple[str, dict[str, Any]]] = {
    "softac sac": ("sac", {}),
    "softac sac bf16": ("sac", {"precision": "bf16"}),
    "softac crossq": ("crossq", {}),
    "softac crossq bf16": ("crossq", {"precision": "bf16"}),
    "softac xqc bf16": ("xqc", {"precision": "bf16"}),
}
OTHERS = {"sb3 sac": ("stable_baselines3", "SAC"), "sbx sac": ("sbx", "SAC"), "sbx crossq": ("sbx", "CrossQ")}
COLUMNS = ("contestant", "env", "seed", "mark", "seconds", "steps", "return", "std")


class Marks:
    """Evaluates whenever the clock has passed a mark, and says when the time is over."""

    def __init__(self, args: argparse.Namespace, writer: Any, flush: Callable[[], None]) -> None:
        self.args, self.writer, self.flush = args, writer, flush
        self.marks = sorted({m for m in args.marks if m < args.seconds} | {args.seconds})
        self.standing = 0.0
        self.env = gym.make(args.env)

    def pass_by(self, model: Any) -> bool:
        """Whether to go on."""
        seconds = time.perf_counter() - BEGUN - self.standing
        if self.marks and seconds >= self.marks[0]:
            while len(self.marks) > 1 and seconds >= self.marks[1]:
                del self.marks[0]
            began = time.perf_counter()
            returns = [self._episode(model, FIRST_SEED + i) for i in range(EPISODES)]
            a = self.args
            row = (a.contestant, a.env, a.seed, f"{self.marks.pop(0):g}", f"{seconds:.1f}", model.num_timesteps)
            numbers = (*row, f"{np.mean(returns):.1f}", f"{np.std(returns):.1f}")
            self.writer.writerow(dict(zip(COLUMNS, numbers, strict=True)))
            self.flush()
            self.standing += time.perf_counter() - began
        return bool(self.marks)

    def _episode(self, model: Any, seed: int) -> float:
        obs, _ = self.env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = self.env.step(action)
            total, over = total + float(reward), terminated or truncated
        return total


def train_softac(args: argparse.Namespace, marks: Marks) -> None:
    """One of ours, compiled; crossq with its preset for the task."""
    from softac import Model
    from softac.agents.presets import preset
    from softac.agents.registry import find_agent

    algorithm, settings = SOFTAC[args.contestant]
    agent = find_agent(algorithm)
    settings = {"engine": args.engine, "seed": args.seed, "device": "cpu", "learning_starts": WARM_UP} | settings
    if algorithm == "crossq":
        settings |= preset(algorithm, args.env)
    Model(agent, args.env, **settings).learn(FOREVER, callback=lambda model, _: marks.pass_by(model))


def train_other(args: argparse.Namespace, marks: Marks) -> None:
    """One with the interface of Stable-Baselines3, its defaults but for the warm-up."""
    from importlib import import_module

    from stable_baselines3.common.callbacks import BaseCallback

    class Callback(BaseCallback):
        def _on_step(self) -> bool:
            return self.num_timesteps % 1_000 != 0 or marks.pass_by(self.model)  # as often as softac asks

    module, name = OTHERS[args.contestant]
    model = getattr(import_module(module), name)("MlpPolicy", args.env, seed=args.seed, learning_starts=WARM_UP)
    model.learn(FOREVER, callback=Callback())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contestant", choices=[*SOFTAC, *OTHERS])
    parser.add_argument("env")
    parser.add_argument("seed", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--marks", type=float, nargs="*", default=[30.0, *(60.0 * m for m in range(1, 11))])
    parser.add_argument("--engine", default="compiled")
    args = parser.parse_args()
    part = args.file.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        marks = Marks(args, writer, file.flush)
        (train_softac if args.contestant in SOFTAC else train_other)(args, marks)
    part.rename(args.file)


if __name__ == "__main__":
    main()
