"""Environment steps per second of a whole training loop, softac beside Stable-Baselines3.

    python benchmarks/speed/compare.py --sb3 PYTHON [--steps 3000] [--repeats 5]

PYTHON is the interpreter of an environment with stable-baselines3 and the same PyTorch. The two
take turns in processes of their own, so that whatever else the machine does meets both. Same
algorithm, networks (256, 256), batch (256), one update per step, warm-up (100 steps) and threads; no
evaluation, no files. Raw numbers go to results/, one row per process.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

SOFTAC = """
import json, sys, time
import torch
from softac import SAC
model = SAC(sys.argv[1], seed=int(sys.argv[3]))
began = time.perf_counter()
model.learn(int(sys.argv[2]))
print(json.dumps({"seconds": time.perf_counter() - began, "threads": torch.get_num_threads()}))
"""
SB3 = """
import json, sys, time
import torch
from stable_baselines3 import SAC
model = SAC("MlpPolicy", sys.argv[1], seed=int(sys.argv[3]), device="cpu")
began = time.perf_counter()
model.learn(int(sys.argv[2]))
print(json.dumps({"seconds": time.perf_counter() - began, "threads": torch.get_num_threads()}))
"""
VERSIONS = """
import importlib.metadata as m, json, sys
print(json.dumps({p: m.version(p) for p in sys.argv[1:]}))
"""


def ask(python: str, code: str, *words: str) -> dict[str, float]:
    """Run code in an interpreter; its last line is JSON."""
    done = subprocess.run([python, "-c", code, *words], capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def processor() -> str:
    """The processor's name as the system gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def main() -> None:
    """Take turns, print ratios, keep the raw numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sb3", required=True, metavar="PYTHON")
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    contestants = {"softac": (sys.executable, SOFTAC), "sb3": (args.sb3, SB3)}
    rows = []
    for repeat in range(args.repeats):
        order = list(contestants) if repeat % 2 == 0 else list(contestants)[::-1]
        for name in order:
            answer = ask(*contestants[name], args.env, str(args.steps), str(repeat))
            rate = args.steps / answer["seconds"]
            rows.append({"repeat": repeat, "library": name, "env": args.env, "steps": args.steps, **answer})
            print(f"{repeat} {name:<7} {rate:7.1f} steps/s", flush=True)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    with (folder / f"{args.env}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "softac": ask(sys.executable, VERSIONS, "torch", "numpy", "gymnasium", "mujoco"),
        "sb3": ask(args.sb3, VERSIONS, "stable-baselines3", "torch", "numpy", "gymnasium", "mujoco"),
    }
    (folder / f"{args.env}-system.json").write_text(json.dumps(machine, indent=2) + "\n")
    rates = {name: [r["steps"] / r["seconds"] for r in rows if r["library"] == name] for name in contestants}
    for name, values in rates.items():
        print(f"{name:<7} median {statistics.median(values):.1f}, {min(values):.1f} to {max(values):.1f}")
    ratios = [a / b for a, b in zip(rates["softac"], rates["sb3"], strict=True)]
    print(f"ratio   median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
