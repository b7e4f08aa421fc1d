"""Train in one of the tasks and note the curve: resumable, one thread.

    python benchmarks/tasks/run.py NAME SEED [--runs FOLDER] [--device cuda --engine cudagraph]
    python benchmarks/tasks/run.py collect [--runs FOLDER]

The run folders lie in FOLDER (runs/tasks); a run that was interrupted goes on, a finished one is left as it is.
`collect` writes results/NAME.csv from them.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
import softac
import worlds  # noqa: F401 - registers the environments

RESULTS = Path(__file__).parent / "results"

BREAKOUT_DQN: dict[str, Any] = {
    "buffer_size": 100_000,
    "learning_starts": 5_000,
    "batch_size": 32,
    "train_freq": 4,
    "gradient_steps": 0.25,
    "target_update_interval": 250,  # updates: every 1,000 steps
    "learning_rate": 2.5e-4,
    "exploration_steps": 100_000,
    "exploration_final_eps": 0.1,
    "net_arch": [128],
}
BREAKOUT_PPO: dict[str, Any] = {
    "n_envs": 8,
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 4,
    "learning_rate": 1e-3,
    "ent_coef": 0.01,
    "net_arch": [128],
}
PICTURES: dict[str, Any] = {
    "buffer_size": 30_000,
    "learning_starts": 1_000,
    "gradient_steps": 0.5,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "gamma": 0.98,
    "net_arch": [256, 256],
    "random_shift": 2,
}
CHEETAH: dict[str, Any] = {"learning_starts": 10_000}

# Algorithm, environment, steps, steps between evaluations, settings.
Job = tuple[type[Any], str, int, int, dict[str, Any]]
JOBS: dict[str, Job] = {
    "breakout-dqn": (softac.DQN, "Tasks/Breakout-v0", 500_000, 50_000, BREAKOUT_DQN),
    "breakout-ppo": (softac.PPO, "Tasks/Breakout-v0", 500_000, 50_000, BREAKOUT_PPO),
    "pendulum-pictures": (softac.SAC, "Tasks/PendulumPictures-v0", 30_000, 2_500, PICTURES),
    "cheetah": (softac.SAC, "HalfCheetah-v5", 100_000, 10_000, CHEETAH),
    "mixed-units": (softac.SAC, "Tasks/MixedUnits-v0", 100_000, 10_000, CHEETAH),
    "mixed-units-normalised": (
        softac.SAC,
        "Tasks/MixedUnits-v0",
        100_000,
        10_000,
        {**CHEETAH, "normalize": "obs"},
    ),
}


def train(name: str, seed: int, runs: Path, **where: str) -> None:
    """Begin or go on with a run; `where` is the device and the engine."""
    algorithm, env, steps, every, settings = JOBS[name]
    folder = runs / f"{name}-{seed}"
    if any((folder / "checkpoints").glob("step-*")):
        model = algorithm.load(folder, env=env)
    else:
        model = algorithm(env, seed=seed, **settings, **where)
    left = steps - model.num_timesteps
    if left > 0:
        model.learn(left, run_dir=folder, eval_freq=every, n_eval_episodes=10, save_freq=every)


def collect(runs: Path) -> None:
    """One CSV for each job."""
    for name in JOBS:
        rows = []
        for path in sorted(runs.glob(f"{name}-[0-9]/evaluations.csv")):
            with path.open(newline="") as file:
                rows.extend(
                    [path.parent.name[-1], row["step"], f"{float(row['eval/mean_reward']):.3f}"]
                    for row in csv.DictReader(file)
                )
        if rows:
            RESULTS.mkdir(exist_ok=True)
            with (RESULTS / f"{name}.csv").open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([["seed", "step", "mean"], *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*JOBS, "collect"])
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/tasks"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engine", default="auto")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.name == "collect":
        collect(given.runs)
    else:
        train(given.name, given.seed, given.runs, device=given.device, engine=given.engine)


if __name__ == "__main__":
    main()
