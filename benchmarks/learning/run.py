"""Learning benchmarks: train with the command, evaluate on fixed starts, collect the raw numbers.

    python benchmarks/learning/run.py SUITE [--workers 2] [--runs FOLDER] [--only JOB ...]

Each job is a run folder made by `softac train` with one thread; a job that was interrupted is
resumed, a finished one is not repeated. Results are collected in results/: one CSV of learning curves
and one of the returns of the final agent for each suite, and the versions and the processor.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
MUJOCO = ("Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5", "Swimmer-v5")


def jobs(suite: str) -> dict[str, tuple[list[str], int]]:
    """Job name -> (arguments of `softac train`, episodes of the final evaluation)."""
    eager = ["--engine", "eager"]  # as the results that are kept were made
    cheetah = ["sac", "HalfCheetah-v5", "-n", "100000", "--eval-freq", "10000", "--save-freq", "20000"]
    match suite:
        case "pendulum":
            return {
                f"pendulum-{seed}": (["sac", "Pendulum-v1", "-n", "10000", "--seed", str(seed)], 100)
                for seed in range(5)
            }
        case "halfcheetah":
            words = [*cheetah, "--preset", *eager]
            return {f"preset-{seed}": ([*words, "--seed", str(seed)], 10) for seed in range(3)}
        case "halfcheetah-engines":
            engines = {"compiled": ["compiled", "float32"], "bf16": ["compiled", "bf16"]}
            return {
                f"{name}-{seed}": (
                    [*cheetah, "--preset", "--engine", engine, "--precision", precision, "--seed", str(seed)],
                    10,
                )
                for seed in range(3)
                for name, (engine, precision) in engines.items()
            }
        case "halfcheetah-choices":
            choices = {
                "warmup100": ["--learning-starts", "100"],
                "warmup5000": ["--learning-starts", "5000"],
                "mean": ["--preset", "--actor-q", "mean"],
                "log_alpha": ["--preset", "--alpha-loss", "log_alpha"],
                "tanh": ["--preset", "--log-std", "tanh"],
            }
            words = [*cheetah, *eager, "--seed", "0"]
            return {f"{name}-0": ([*words, *flags], 10) for name, flags in choices.items()}
        case "family":
            words = ["--preset", *eager]
            tasks = [
                *((name, "Pendulum-v1", "20000") for name in ("sac_v", "sac_mixture", "ddpg", "td3", "gamid_pg")),
                *((name, "CartPole-v1", "50000") for name in ("sac_discrete", "dqn")),
                *(("ppo", env, "200000") for env in ("CartPole-v1", "Pendulum-v1")),
                *((name, "CartPole-v1", "300000") for name in ("a2c", "reinforce")),
            ]
            return {
                f"{name}-{env}-{seed}": (
                    [name, env, "-n", n, *words, "--eval-freq", str(int(n) // 10), "--seed", str(seed)],
                    100,
                )
                for name, env, n in tasks
                for seed in range(3)
            }
        case "td3-halfcheetah":
            words = ["td3", *cheetah[1:], "--preset", *eager]
            return {f"td3-{seed}": ([*words, "--seed", str(seed)], 10) for seed in range(2)}
        case "mujoco":
            short = ["-n", "5000", "--preset", "--learning-starts", "1000"]
            return {env: (["sac", env, *short], 3) for env in MUJOCO}
        case _:
            raise SystemExit(f"unknown suite {suite!r}; see the cases above")


def softac(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "softac", *words], env=environment, capture_output=True, text=True, check=False
    )


def run(name: str, arguments: list[str], folder: Path) -> None:
    """Train one job, or go on with it."""
    began = time.monotonic()
    if (folder / "config.json").exists():
        done = softac("resume", str(folder))
        if "expected a larger total" in done.stderr:
            return
    else:
        done = softac("train", *arguments, "--run-dir", str(folder))
    if done.returncode != 0 or done.stderr:
        print(f"{name}: exit {done.returncode}: {done.stderr.strip()}", flush=True)
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    """Run a suite and collect its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"))
    parser.add_argument("--only", nargs="+")
    args = parser.parse_args()
    todo = {n: j for n, j in jobs(args.suite).items() if not args.only or n in args.only}
    with ThreadPoolExecutor(args.workers) as pool:
        list(pool.map(lambda job: run(job[0], job[1][0], args.runs / job[0]), todo.items()))
    collect(args.suite, args.runs, args.workers)


def collect(suite: str, runs: Path, workers: int) -> None:
    """Evaluate the finished jobs of a suite and write its CSVs."""
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    curves, finals = [], []
    finished = {n: j for n, j in jobs(suite).items() if (runs / n / "evaluations.csv").exists()}
    with ThreadPoolExecutor(workers) as pool:
        evaluated = pool.map(
            lambda job: softac("eval", str(runs / job[0]), "--n-eval-episodes", str(job[1][1])), finished.items()
        )
    for (name, (arguments, _)), done in zip(finished.items(), evaluated, strict=True):
        folder = runs / name
        (results / f"{suite}-system.json").write_text((folder / "system.json").read_text())
        seed = json.loads((folder / "config.json").read_text())["run"]["seed"]
        with (folder / "evaluations.csv").open() as file:
            curves += [{"job": name, "seed": seed, **row} for row in csv.DictReader(file)]
        printed = done.stdout.splitlines()
        for line in printed[:-1]:
            _, episode, _, total, _, length = line.replace(",", "").split()
            finals.append({"job": name, "seed": seed, "episode": episode, "return": total, "length": length})
        print(f"{name}: {printed[-1]}  (train {' '.join(arguments)})", flush=True)
    for kind, rows in (("curves", curves), ("final", finals)):
        with (results / f"{suite}-{kind}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
