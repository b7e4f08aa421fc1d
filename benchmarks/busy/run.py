"""What does a neighbour cost? Steps per second on a quiet machine, and with two endless loops beside.

    python benchmarks/busy/run.py [--sb3 PYTHON] [--windows 6]              the sweep, about 15 minutes
    python benchmarks/busy/run.py --quick --other CHECKOUT --sb3 PYTHON     the comparison, about 5 minutes

The sweep tries how long the threads of OpenMP spin before they sleep: as PyTorch does when left alone, values
of GOMP_SPINCOUNT, and OMP_WAIT_POLICY=passive; in the eager and the compiled engine, with networks of 256 and of
64. `--quick` compares default settings: softac as it is, softac at another checkout, Stable-Baselines3. With
`--openmp FILE` the library of Intel or LLVM is loaded in the place of GNU's, and KMP_BLOCKTIME is swept.

All processes of one task and engine are there at the same time and take turns, one window of a few seconds after
the other, in both orders alternately, so that all meet whatever else the machine does; those that are not measured
sleep. Each window is a row of results/NAME.csv as soon as it is measured; the same command goes on where it was
stopped. PYTHON is the interpreter of an environment with stable-baselines3 (README.md). Run it on a machine that
does nothing else.
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
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from select import select
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SIZES: dict[str, dict[str, Any]] = {
    "HalfCheetah-v5": {"net_arch": [256, 256], "batch_size": 256, "warm_up": 300},
    "Pendulum-v1": {"net_arch": [64, 64], "batch_size": 100, "warm_up": 400},
}
COLUMNS = (
    "contestant", "env", "engine", "waiting", "condition", "window",
    "steps", "seconds", "ran", "waited", "threads",
)  # fmt: skip
LEFT_ALONE, DEFAULT = "left alone", "default"
SPINS = tuple(f"GOMP_SPINCOUNT={n}" for n in (3_000, 1_000, 500, 300))
BLOCKS = tuple(f"KMP_BLOCKTIME={n}" for n in (200, 1, 0))
OTHERS = ("OMP_WAIT_POLICY=passive",)
VARIABLES = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
LOOPS = 2
START_LIMIT, WINDOW_LIMIT = 300, 120  # seconds


class Contestant(NamedTuple):
    """One process of the plan."""

    contestant: str  # softac, softac-other, sb3
    env: str
    engine: str
    waiting: str


def plan(args: argparse.Namespace) -> list[Contestant]:
    """All processes."""
    engines = ("compiled", "eager")
    peers = [Contestant("sb3", env, "eager", DEFAULT) for env in SIZES if args.sb3]
    if args.quick:
        names = ["softac", *(["softac-other"] if args.other else [])]
        return [Contestant(name, env, "compiled", DEFAULT) for env in SIZES for name in names] + peers
    large, small = SIZES
    values = (LEFT_ALONE, *(BLOCKS if args.openmp else SPINS), *OTHERS)
    few = (LEFT_ALONE, *(BLOCKS[-1:] if args.openmp else ("GOMP_SPINCOUNT=1000",)), *OTHERS)
    rows = [Contestant("softac", large, engine, value) for engine in engines for value in values]
    return rows + [Contestant("softac", small, engine, value) for engine in engines for value in few] + peers


def start(args: argparse.Namespace, who: Contestant) -> subprocess.Popen[str]:
    """Its process, before the warm-up."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment["PYTHONPATH"] = str((args.other if who.contestant == "softac-other" else ROOT) / "src")
    if "=" in who.waiting:
        name, _, value = who.waiting.partition("=")
        environment[name] = value
    if args.openmp:
        environment["LD_PRELOAD"] = str(args.openmp)
    name = "sb3" if who.contestant == "sb3" else "softac"
    settings = SIZES[who.env] | {"contestant": name, "env": who.env, "engine": who.engine}
    settings["torch_first"] = who.waiting == LEFT_ALONE
    python = args.sb3 if who.contestant == "sb3" else sys.executable
    return subprocess.Popen(
        [str(python), str(HERE / "train.py"), json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        cwd=tempfile.gettempdir(),
    )


def told(process: subprocess.Popen[str], limit: float) -> str:
    """The next line the process prints that is an answer; RuntimeError if there is none in time."""
    until = time.monotonic() + limit
    while (left := until - time.monotonic()) > 0:
        if process.stdout is None or not select([process.stdout], [], [], left)[0]:
            break
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"ended with code {process.wait()}")
        if line.startswith(("ready", "{")):
            return line.strip()
    raise RuntimeError(f"said nothing for {limit:.0f} s")


@contextmanager
def neighbours(number: int) -> Iterator[None]:
    """Endless loops beside."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    time.sleep(0.3)
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(args: argparse.Namespace, group: list[Contestant], first: int) -> Iterator[dict[str, Any]]:
    """Windows `first`, ... of some contestants that are there at the same time and take turns, quiet and busy."""
    processes: dict[Contestant, subprocess.Popen[str]] = {}
    try:
        for who in group:
            processes[who] = start(args, who)
            told(processes[who], START_LIMIT)
        for window in range(first, args.windows):
            for condition, loops in (("quiet", 0), ("busy", LOOPS)):
                for who in group if window % 2 == 0 else group[::-1]:
                    with neighbours(loops):
                        print(f"measure {args.seconds}", file=processes[who].stdin, flush=True)
                        answer = json.loads(told(processes[who], args.seconds + WINDOW_LIMIT))
                    yield {**who._asdict(), "condition": condition, "window": window, **answer}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def report(rows: list[dict[str, Any]]) -> None:
    """Medians over all windows, and what a neighbour leaves of them."""
    rates: dict[Contestant, dict[str, list[float]]] = {}
    for row in rows:
        found = rates.setdefault(of(row), {"quiet": [], "busy": []})
        found[row["condition"]].append(float(row["steps"]) / float(row["seconds"]))
    print(f"\n{'':<62}{'quiet':>26}{'busy':>26}   busy / quiet")
    for who, found in rates.items():
        texts = []
        for condition in ("quiet", "busy"):
            values = found[condition]
            middle = statistics.median(values) if values else float("nan")
            texts.append(f"{middle:9.1f} ({min(values, default=0):.0f} to {max(values, default=0):.0f})")
        ratio = float("nan")
        if found["quiet"] and found["busy"]:
            ratio = statistics.median(found["busy"]) / statistics.median(found["quiet"])
        print(
            f"{who.contestant:<13}{who.env:<16}{who.engine:<10}{who.waiting:<23}{texts[0]:>26}{texts[1]:>26}{ratio:11.2f}"
        )


def of(row: dict[str, Any]) -> Contestant:
    """Whose row it is."""
    return Contestant(*(row[name] for name in Contestant._fields))


def kind(who: Contestant) -> tuple[str, bool]:
    """What contestants that take turns have in common; the peer is beside softac's compiled engine."""
    return who.env, who.contestant != "sb3" and who.engine == "eager"


def read(path: Path) -> list[dict[str, Any]]:
    """The rows there are."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="default settings only")
    parser.add_argument("--other", type=Path, metavar="CHECKOUT", help="of softac, with --quick")
    parser.add_argument("--sb3", type=Path, metavar="PYTHON")
    parser.add_argument("--openmp", type=Path, metavar="FILE", help="libiomp5.so or libomp.so to load instead")
    parser.add_argument("--windows", type=int, default=6, help="of each condition")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window")
    parser.add_argument("--name", default="", help="of the file in results/")
    args = parser.parse_args()
    stem = args.name or ("quick" if args.quick else "sweep") + (f"-{args.openmp.name}" if args.openmp else "")
    path = HERE / "results" / f"{stem}.csv"
    path.parent.mkdir(exist_ok=True)
    rows = read(path)
    if not rows:
        path.write_text(",".join(COLUMNS) + "\n")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        for _, members in groupby(sorted(plan(args), key=kind), kind):
            group = list(members)
            finished = min(sum(of(row) == who for row in rows) for who in group) // 2
            for row in measure(args, group, finished):
                writer.writerow(row)
                file.flush()
                rows.append(row)
                share = row["ran"] / max(row["ran"] + row["waited"], 1e-9)
                words = f"{row['condition']:<6}{row['steps'] / row['seconds']:8.1f} steps/s"
                print(row["window"], *of(row), f"{words}, {share:.0%} of the processor time", flush=True)
    report(rows)


if __name__ == "__main__":
    main()
