"""Several seeds of one run: `softac train --seeds` against the same runs one after the other.

    python benchmarks/speed/seeds.py [--steps 10000] [--repeats 3]

SAC on HalfCheetah-v5, seeds 0 to 3, without evaluation, everything else as the command has it: engine, threads and
checkpoints. Timed is the whole, from the command to its end, by turns. One row per way and repeat in
results/seeds.csv.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from compare import RESULTS, machine

SEEDS = 4
COLUMNS = ("repeat", "way", "seeds", "steps", "seconds")


def train(steps: int, *words: str) -> None:
    """One command, in a folder that is thrown away, with as many threads as it takes itself."""
    command = [sys.executable, "-m", "softac", "train", "sac", "HalfCheetah-v5", "-n", str(steps)]
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, "--n-eval-episodes", "0", *words], cwd=folder, env=free, capture_output=True, text=True
        )
    if done.returncode:
        sys.exit("\n".join(done.stderr.splitlines()[-8:]))


def one_after_the_other(steps: int) -> None:
    for seed in range(SEEDS):
        train(steps, "--seed", str(seed))


def together(steps: int) -> None:
    train(steps, "--seeds", f"0-{SEEDS - 1}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    ways = {"one after the other": one_after_the_other, "together": together}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "seeds-system.json").write_text(json.dumps(machine(), indent=2) + "\n")
    times: dict[str, list[float]] = {way: [] for way in ways}
    with (RESULTS / "seeds.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for repeat in range(args.repeats):
            for way in list(ways)[:: 1 if repeat % 2 == 0 else -1]:
                began = time.perf_counter()
                ways[way](args.steps)
                times[way].append(time.perf_counter() - began)
                writer.writerow((repeat, way, SEEDS, args.steps, times[way][-1]))
                file.flush()
                print(f"{repeat} {way:<20} {times[way][-1]:8.1f} s", flush=True)
    for way, seconds in times.items():
        total = SEEDS * args.steps / statistics.median(seconds)
        print(
            f"{way:<20} median {statistics.median(seconds):.1f} s, {total:.1f} environment steps per second in all"
        )
    ratios = [a / b for a, b in zip(times["one after the other"], times["together"], strict=True)]
    print(f"ratio                median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
