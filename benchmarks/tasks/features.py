"""Does a critic hear an action beside 512 features? SAC on Pendulum as pictures behind 512, and behind 50.

    python benchmarks/tasks/features.py bounded --runs FOLDER    # or unbounded; ten minutes each

One thread, seed 100, 7,000 steps with an update each. Every 1,000 steps the deterministic policy plays 5 episodes;
rows go to results/features.csv when a run has ended.
"""

import argparse
import csv
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from run import PICTURES, RESULTS

from softac import SAC
from softac.nets.encoders import Nature


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", choices=["bounded", "unbounded"])
    parser.add_argument("--runs", type=Path, default=Path("runs/features"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.runs / args.features
    model = SAC(
        "Tasks/PendulumPictures-v0",
        seed=100,
        encoder=partial(Nature, bounded=args.features == "bounded"),
        **PICTURES | {"gradient_steps": 1},
    )
    model.learn(7_000, run_dir=folder, eval_freq=1_000, n_eval_episodes=5)
    path = RESULTS / "features.csv"
    new = not path.exists()
    with path.open("a", newline="") as file, (folder / "evaluations.csv").open(newline="") as evaluations:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(["features", "step", "mean"])
        writer.writerows(
            [args.features, row["step"], f"{float(row['eval/mean_reward']):.3f}"]
            for row in csv.DictReader(evaluations)
        )


if __name__ == "__main__":
    main()
