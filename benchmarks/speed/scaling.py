"""softac's environment steps per second against batch, width, environments and replay, one at a time.

    python benchmarks/speed/scaling.py [--precision bf16] [--threads 1] [--repeats 3]

SAC on HalfCheetah-v5 with the compiled engine and one update per environment step; around the default (batch 256,
two hidden layers of 256, one environment, a replay of 1,000,000 rows that has just begun). For the replay, each
capacity is filled to the last row before training begins, so that samples come from the whole table. One process
per row; what is timed is the steady state, as in `compare.py`. Rows that results/scaling.csv already holds are not
measured again: an interrupted run goes on where it was.
"""

import argparse
import csv
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from compare import RESULTS, machine, run

HERE = Path(__file__).parent
DEFAULT = {"batch_size": 256, "width": 256, "n_envs": 1, "buffer_size": 1_000_000}
FACTORS: dict[str, tuple[int, ...]] = {
    "batch_size": (64, 256, 1024, 4096),
    "width": (64, 128, 256, 512, 1024),
    "n_envs": (1, 2, 4, 8, 16),
    "buffer_size": (10_000, 100_000, 1_000_000),
}
WARM_UP = 512  # as STEPS and LEAST_STEPS a multiple of every n_envs: rounds are not cut
STEPS, LEAST_STEPS = 4_096, 256
COLUMNS = (*DEFAULT, "filled", "precision", "threads", "repeat", "steps", "seconds", "versions")


def points() -> list[dict[str, Any]]:
    """The settings to measure, each once; those of the replay are filled."""
    found: list[dict[str, Any]] = []
    for factor, values in FACTORS.items():
        for value in values:
            point = DEFAULT | {factor: value, "filled": factor == "buffer_size"}
            if point not in found:
                found.append(point)
    return found


def steps_for(point: dict[str, Any]) -> int:
    """Fewer steps where an update is large: the work of one grows with batch and width squared."""
    work = point["batch_size"] * point["width"] ** 2 / (DEFAULT["batch_size"] * DEFAULT["width"] ** 2)
    return int(max(LEAST_STEPS, min(STEPS, STEPS / work))) // 16 * 16


def key(row: dict[str, Any]) -> tuple[str, ...]:
    """What tells rows apart, as text, for rows read from a file compare with rows to be measured."""
    return tuple(str(row[name]) for name in (*DEFAULT, "filled", "precision", "threads", "repeat"))


def measure(point: dict[str, Any], args: argparse.Namespace, repeat: int) -> dict[str, Any]:
    """One process; its row."""
    steps = args.steps or steps_for(point)
    settings = {name: point[name] for name in ("batch_size", "n_envs", "buffer_size")} | {
        "contestant": "softac",
        "engine": "compiled",
        "precision": args.precision,
        "env": "HalfCheetah-v5",
        "net_arch": [point["width"]] * 2,
        "fill": point["filled"],
        "warm_up": WARM_UP,
        "steps": steps,
        "seed": repeat,
        "threads": args.threads,
    }
    answer = run(sys.executable, HERE / "peers" / "train.py", json.dumps(settings), threads=args.threads)
    versions = "; ".join(f"{package} {version}" for package, version in answer["versions"].items())
    known = {"precision": args.precision, "threads": args.threads, "repeat": repeat}
    return point | known | {"steps": steps, "seconds": answer["seconds"], "versions": versions}


def report(rows: list[dict[str, Any]]) -> None:
    """One table for each factor."""
    for precision in sorted({row["precision"] for row in rows}, reverse=True):
        for factor, values in FACTORS.items():
            print(f"\n{factor + ', ' + precision:<24}{'least':>10}{'median':>10}{'greatest':>10}  steps/s")
            for value in values:
                point = {k: str(v) for k, v in (DEFAULT | {factor: value}).items()}
                point |= {"filled": str(factor == "buffer_size"), "precision": precision}
                rates = [
                    float(row["steps"]) / float(row["seconds"])
                    for row in rows
                    if all(str(row[name]) == text for name, text in point.items())
                ]
                if rates:
                    print(f"{value:<24,}{min(rates):10.1f}{statistics.median(rates):10.1f}{max(rates):10.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="a multiple of 16; 0: by the size of the update")
    args = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "scaling.csv"
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        path.write_text(",".join(COLUMNS) + "\n")
        (RESULTS / "scaling-system.json").write_text(json.dumps(machine(), indent=2) + "\n")
    done = {key(row) for row in rows}
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        for repeat in range(args.repeats):
            for point in points() if repeat % 2 == 0 else points()[::-1]:
                named = point | {"precision": args.precision, "threads": args.threads, "repeat": repeat}
                if key(named) in done:
                    continue
                try:
                    row = measure(point, args, repeat)
                except RuntimeError as error:
                    print(f"{named} failed:\n{error}", flush=True)
                    continue
                writer.writerow(row)
                file.flush()
                rows.append(row)
                print(f"{repeat} {point} {row['steps'] / row['seconds']:.1f} steps/s", flush=True)
    report([row for row in rows if str(row["threads"]) == str(args.threads)])


if __name__ == "__main__":
    main()
