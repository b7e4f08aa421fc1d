"""Environment steps per second of crossq with its preset beside sac with its own, in turns within one process.

    python benchmarks/modern/loop.py [--turns 9] [--threads 1] > FILE.csv

HalfCheetah-v5, both compiled, in both precisions, on a machine that is free. A turn is 2,000 steps of the whole
loop, acting, environment, replay and updates, after the random steps and compiling; no evaluation, no files.
Printed are the medians of the turns, and that of crossq's speed divided by sac's of the same round.
"""

import argparse
import csv
import statistics
import sys
import time

import torch

from softac import Model
from softac.agents.presets import preset
from softac.agents.registry import find_agent

ENV, TURN, WARM_UP = "HalfCheetah-v5", 2_000, 1_000


def model_of(algorithm: str, precision: str) -> Model:
    """One that has learned for as long as it takes to compile."""
    settings = preset(algorithm, ENV) | {"learning_starts": WARM_UP - 100}
    model = Model(
        find_agent(algorithm), ENV, seed=0, device="cpu", engine="compiled", precision=precision, **settings
    )
    return model.learn(WARM_UP)


def seconds(model: Model) -> float:
    """What a turn takes."""
    begun = time.perf_counter()
    model.learn(TURN)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for precision in ("float32", "bf16"):
        sac, crossq = (model_of(algorithm, precision) for algorithm in ("sac", "crossq"))
        turns = [(seconds(sac), seconds(crossq)) for _ in range(args.turns)]
        rows.append(
            {
                "env": ENV,
                "threads": args.threads,
                "precision": precision,
                "sac": f"{TURN / statistics.median(s for s, _ in turns):.0f}",
                "crossq": f"{TURN / statistics.median(c for _, c in turns):.0f}",
                "crossq_over_sac": f"{statistics.median(s / c for s, c in turns):.3f}",
                "turns": args.turns,
                "torch": torch.__version__,
            }
        )
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


if __name__ == "__main__":
    main()
