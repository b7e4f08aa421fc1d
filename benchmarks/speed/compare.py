"""Environment steps per second of a whole SAC training loop: softac beside other libraries, and beside the limit.

    python benchmarks/speed/compare.py --peer sb3=PYTHON --peer sbx=PYTHON --peer cleanrl=PYTHON:SCRIPT

PYTHON is the interpreter of an environment of the peer's own, SCRIPT is CleanRL's sac_continuous_action.py. The
contestants take turns in processes of their own, every other repeat in the opposite order, so that whatever else
the machine does meets all of them. Same algorithm, networks, batch, updates per step and threads; no evaluation,
no files. What is timed lies in the steady state, after everything has been compiled. In each repeat `limit.py`
measures the matrix products of the updates alone. A contestant that fails is reported, and the others go on.

Raw numbers go to results/, one row per process, as they come.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PEERS = ("sb3", "sbx", "cleanrl")
OURS: dict[str, dict[str, str]] = {
    "softac": {"engine": "compiled", "precision": "float32"},
    "softac-bf16": {"engine": "compiled", "precision": "bf16"},
    "softac-eager": {"engine": "eager", "precision": "float32"},
}
LIMITS = {"float32": "limit", "bf16": "limit-bf16"}
COLUMNS = (
    "repeat",
    "contestant",
    "env",
    "threads",
    "net_arch",
    "batch_size",
    "warm_up",
    "steps",
    "seconds",
    "versions",
)
SETTINGS = """\
the same for all
  batch                    {batch_size}
  hidden layers            {net_arch}, ReLU
  critics                  2, target networks, tau 0.005 every update
  learning rate            3e-4, Adam, for actor, critics and temperature
  temperature              learned, target entropy -dim(A)
  gamma                    0.99
  replay                   1,000,000
  updates                  1 per environment step, after 100 random steps
  threads                  {threads}; each process is kept to as many cores
  timed                    {steps} steps after {warm_up} of warm-up, {repeats} repeats
CleanRL differs: the actor and the temperature learn twice in every second step.
"""


def run(python: str, script: Path, *words: str, threads: int) -> dict[str, Any]:
    """The JSON in the last line that a script prints.

    Raises:
        RuntimeError: it failed; the end of what it said.
    """
    environment = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, str(script), *words], capture_output=True, text=True, cwd=folder, env=environment
        )
    if done.returncode:
        raise RuntimeError("\n".join(done.stderr.splitlines()[-8:]))
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the libraries."""
    cpu = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.split(":")[1].strip() for line in cpu if line.startswith("model name"))
    return {
        "processor": next(named, platform.machine()),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average_before": os.getloadavg(),
    }


def widths(text: str) -> list[int]:
    """`256,256` as numbers."""
    return [int(n) for n in text.split(",")]


def peer(text: str) -> tuple[str, str, str]:
    """`NAME=PYTHON` or `NAME=PYTHON:SCRIPT` as name, interpreter and script."""
    name, _, rest = text.partition("=")
    python, _, script = rest.partition(":")
    if name not in PEERS or not Path(python).is_file() or (name == "cleanrl") != Path(script).is_file():
        raise argparse.ArgumentTypeError(
            f"{text!r} was given; expected sb3=PYTHON, sbx=PYTHON or cleanrl=PYTHON:SCRIPT with files that exist; "
            "see README.md"
        )
    return name, str(Path(python).absolute()), str(Path(script).absolute())


def measure(args: argparse.Namespace, name: str, repeat: int) -> list[dict[str, Any]]:
    """One process; its rows."""
    common = {
        "env": args.env,
        "net_arch": args.net_arch,
        "batch_size": args.batch_size,
        "warm_up": args.warm_up,
        "threads": args.threads,
    }
    row = common | {"repeat": repeat, "net_arch": "x".join(map(str, args.net_arch))}
    if name == "limit":
        env = gym.make(args.env)
        sizes = {"obs": gym.spaces.flatdim(env.observation_space), "actions": gym.spaces.flatdim(env.action_space)}
        given = sizes | {
            "net-arch": ",".join(map(str, args.net_arch)),
            "batch-size": args.batch_size,
            "threads": args.threads,
        }
        words = [str(w) for key, value in given.items() for w in (f"--{key}", value)]
        answer = run(sys.executable, HERE / "limit.py", *words, threads=args.threads)
        return [
            row | {"contestant": label, "warm_up": 0, "steps": 1, "seconds": 1.0 / answer[precision]}
            for precision, label in LIMITS.items()
        ]
    python, script = args.peers.get(name, (sys.executable, ""))
    settings = common | {"contestant": name, "steps": args.steps, "seed": repeat, "script": script}
    settings |= OURS.get(name, {})
    answer = run(python, HERE / "peers" / "train.py", json.dumps(settings), threads=args.threads)
    versions = "; ".join(f"{package} {version}" for package, version in answer["versions"].items())
    timed = {"steps": args.steps, "seconds": answer["seconds"], "threads": answer["threads"], "versions": versions}
    return [row | timed | {"contestant": name}]


def spread(values: list[float], digits: int = 1) -> str:
    """Least, median and greatest."""
    return "".join(f"{v:10.{digits}f}" for v in (min(values), statistics.median(values), max(values)))


def report(rows: list[dict[str, Any]]) -> None:
    """The tables: steps per second, ratios to each peer, shares of the limit."""
    rates: dict[str, dict[int, float]] = {}
    for row in rows:
        rates.setdefault(row["contestant"], {})[row["repeat"]] = row["steps"] / row["seconds"]
    order = [name for name in (*OURS, *PEERS, *LIMITS.values()) if name in rates]
    print(f"\n{'environment steps per second':<34}{'least':>10}{'median':>10}{'greatest':>10}")
    for name in order:
        unit = " (updates)" if name in LIMITS.values() else ""
        print(f"{name + unit:<34}{spread(list(rates[name].values()))}")

    def compare(title: str, pairs: list[tuple[str, str]]) -> None:
        print(f"\n{title:<34}{'least':>10}{'median':>10}{'greatest':>10}   of medians")
        for a, b in pairs:
            shared = sorted(rates.get(a, {}).keys() & rates.get(b, {}).keys())
            if shared:
                ratios = [rates[a][r] / rates[b][r] for r in shared]
                whole = statistics.median(rates[a].values()) / statistics.median(rates[b].values())
                print(f"{a + ' / ' + b:<34}{spread(ratios, 2)}{whole:13.2f}")

    compare(
        "ratio, repeat by repeat",
        [(ours, name) for ours in OURS for name in (*PEERS, "softac-eager") if ours != name],
    )
    limits = {name: "limit-bf16" if name == "softac-bf16" else "limit" for name in (*OURS, *PEERS)}
    compare("share of the limit", list(limits.items()))


def main() -> None:
    """Take turns, keep the raw numbers, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", action="append", type=peer, default=[], metavar="NAME=PYTHON[:SCRIPT]")
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--net-arch", type=widths, default=[256, 256], metavar="N,N")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--warm-up", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.peers = {name: (python, script) for name, python, script in args.peer}
    contestants = [*OURS, *args.peers, "limit"]
    net = "x".join(map(str, args.net_arch))
    stem = f"{args.env}-{net}-batch{args.batch_size}-threads{args.threads}"
    print(SETTINGS.format(**{**vars(args), "net_arch": net}))
    RESULTS.mkdir(exist_ok=True)
    system = machine()
    rows: list[dict[str, Any]] = []
    with (RESULTS / f"{stem}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for repeat in range(args.repeats):
            for name in contestants if repeat % 2 == 0 else contestants[::-1]:
                try:
                    found = measure(args, name, repeat)
                except RuntimeError as error:
                    print(f"{repeat} {name:<14} failed:\n{error}", flush=True)
                    continue
                for row in found:
                    print(
                        f"{repeat} {row['contestant']:<14} {row['steps'] / row['seconds']:8.1f} per second",
                        flush=True,
                    )
                writer.writerows(found)
                file.flush()
                rows += found
    system["versions"] = {row["contestant"]: row["versions"] for row in rows if "versions" in row}
    (RESULTS / f"{stem}-system.json").write_text(json.dumps(system, indent=2) + "\n")
    report(rows)


if __name__ == "__main__":
    main()
