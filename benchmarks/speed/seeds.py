"""Several seeds of one run: `softac train --seeds` against the same runs one after the other.

    python benchmarks/speed/seeds.py [--seeds 1 2 3 4] [--steps 10000] [--repeats 3]

SAC on HalfCheetah-v5, so many seeds, compiled, without evaluation, everything else as the command has it: threads
and checkpoints. Timed is the whole, from the command to its end, by turns. One row per number, way and repeat is
added to results/seeds.csv.
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
from typing import TextIO

from compare import RESULTS, machine

COLUMNS = ("repeat", "way", "seeds", "steps", "seconds")


def train(steps: int, *words: str) -> None:
    """One command, in a folder that is thrown away, with as many threads as it takes itself."""
    command = [sys.executable, "-m", "softac", "train", "sac", "HalfCheetah-v5", "-n", str(steps)]
    command += ["--engine", "compiled", "--n-eval-episodes", "0", *words]
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=free, capture_output=True, text=True)
    if done.returncode:
        sys.exit("\n".join(done.stderr.splitlines()[-8:]))


def one_after_the_other(seeds: int, steps: int) -> None:
    for seed in range(seeds):
        train(steps, "--seed", str(seed))


def together(seeds: int, steps: int) -> None:
    train(steps, "--seeds", ",".join(map(str, range(seeds))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[4])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    results = RESULTS / "seeds.csv"
    if not results.exists():
        results.write_text(",".join(COLUMNS) + "\n")
    (RESULTS / "seeds-system.json").write_text(json.dumps(machine(), indent=2) + "\n")
    with results.open("a", newline="") as file:
        for seeds in args.seeds:
            measure(seeds, args.steps, args.repeats, file)


def measure(seeds: int, steps: int, repeats: int, file: TextIO) -> None:
    """Both ways, by turns; the rows go into the file, a summary to the terminal."""
    ways = {"one after the other": one_after_the_other, "together": together}
    times: dict[str, list[float]] = {way: [] for way in ways}
    writer = csv.writer(file, lineterminator="\n")
    for repeat in range(repeats):
        for way in list(ways)[:: 1 if repeat % 2 == 0 else -1]:
            began = time.perf_counter()
            ways[way](seeds, steps)
            times[way].append(time.perf_counter() - began)
            writer.writerow((repeat, way, seeds, steps, times[way][-1]))
            file.flush()
            print(f"{seeds} seeds, {repeat} {way:<20} {times[way][-1]:8.1f} s", flush=True)
    for way, seconds in times.items():
        total = seeds * steps / statistics.median(seconds)
        print(
            f"{way:<20} median {statistics.median(seconds):.1f} s, {total:.1f} environment steps per second in all"
        )
    ratios = [a / b for a, b in zip(times["one after the other"], times["together"], strict=True)]
    print(f"ratio                median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
