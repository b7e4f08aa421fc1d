"""Memory of a replay of 1,000,000 transitions, softac and, if asked for, Stable-Baselines3.

    python benchmarks/speed/memory.py [--sb3 PYTHON] [--rows 1000000]

PYTHON is the interpreter of an environment with stable-baselines3. Transitions have HalfCheetah's widths (17 and 6
numbers) and random content; episodes have 1,000 steps and go through the collector's n-step window, n = 1. Each
replay fills in a process of its own, which tells the bytes of its arrays that are in use and by how much its
resident memory grew. softac's is also written to disk as a run does, every 10,000 rows, read again in a new
process and there filled once more. The numbers go to results/memory.csv.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

COMMON = """
import json, sys, time
from pathlib import Path
import numpy as np

O, A, LENGTH, SAVE = 17, 6, 1_000, 10_000
rng = np.random.default_rng(0)

def resident():
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) * 1024

def say(state, n_bytes, grown, seconds):
    print(json.dumps({"state": state, "bytes": n_bytes, "resident": grown, "seconds": round(seconds, 1)}))
"""
SOFTAC = (
    COMMON
    + """
import torch
from softac.envs import Step
from softac.replay import Replay, Segment, read_segments, write_segments
from softac.run.episode import NStep
from softac.types import EnvSpec

def fill(replay, rows, saved=lambda: None):
    for first in range(0, rows, LENGTH):
        window, seen = NStep(0.99, 1), [rng.normal(size=O).astype(np.float32) for _ in range(LENGTH + 1)]
        for k in range(min(LENGTH, rows - first)):
            action = rng.uniform(-1, 1, A).astype(np.float32)
            step = Step(seen[k + 1], 1.0, False, k == LENGTH - 1)
            for row in window.push(seen[k], action, step):
                replay.add(row)
        if (first + LENGTH) % SAVE == 0:
            saved()
    saved()

rows, folder = int(sys.argv[2]), Path(sys.argv[3])
manifest = folder / "segments.json"
spec, device = EnvSpec(O, A), torch.device("cpu")
small = Replay(LENGTH, spec, device)
fill(small, LENGTH)
write_segments(small, folder, [])
before, began = resident(), time.perf_counter()
replay = Replay(rows, spec, device)
if sys.argv[1] == "fill":
    segments = []
    def save():
        segments[:] = write_segments(replay, folder, segments)
    fill(replay, rows, save)
    say("filled, saved on the way", replay.nbytes, resident() - before, time.perf_counter() - began)
    manifest.write_text(json.dumps([vars(segment) for segment in segments]))
else:
    read_segments(replay, folder, [Segment(**s) for s in json.loads(manifest.read_text())], rows)
    say("read from disk", replay.nbytes, resident() - before, time.perf_counter() - began)
    began = time.perf_counter()
    fill(replay, rows)
    say("filled again", replay.nbytes, resident() - before, time.perf_counter() - began)
"""
)
SB3 = (
    COMMON
    + """
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import ReplayBuffer

def fill(replay, rows):
    for first in range(0, rows, LENGTH):
        seen = [rng.normal(size=(1, O)) for _ in range(LENGTH + 1)]
        for k in range(min(LENGTH, rows - first)):
            action = rng.uniform(-1, 1, (1, A)).astype(np.float32)
            last = np.array([k == LENGTH - 1])
            replay.add(seen[k], seen[k + 1], action, np.ones(1), last, [{"TimeLimit.truncated": bool(last[0])}])

rows = int(sys.argv[2])
spaces = Box(-np.inf, np.inf, (O,), np.float64), Box(-1.0, 1.0, (A,), np.float32)
fill(ReplayBuffer(LENGTH, *spaces, device="cpu"), LENGTH)
before, began = resident(), time.perf_counter()
replay = ReplayBuffer(rows, *spaces, device="cpu")
fill(replay, rows)
n_bytes = sum(value.nbytes for value in vars(replay).values() if isinstance(value, np.ndarray))
say("filled", n_bytes, resident() - before, time.perf_counter() - began)
"""
)


def main() -> None:
    """Fill one replay after the other, print and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sb3", metavar="PYTHON")
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    turns = [("softac", sys.executable, SOFTAC, "fill"), ("softac", sys.executable, SOFTAC, "read")]
    if args.sb3:
        turns.append(("sb3", args.sb3, SB3, "fill"))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for library, python, code, task in turns:
            words = [python, "-c", code, task, str(args.rows), folder]
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
            for answer in map(json.loads, done.stdout.splitlines()):
                results.append({"library": library, "rows": args.rows, **answer})
                each, grown = answer["bytes"] / args.rows, answer["resident"] / args.rows
                print(
                    f"{library:<7} {answer['state']:<25} {answer['bytes'] / 1e6:6.1f} MB in use, {each:5.1f} "
                    f"bytes a row; resident memory grew by {answer['resident'] / 1e6:6.1f} MB, {grown:5.1f} a row",
                    flush=True,
                )
    path = Path(__file__).parent / "results" / "memory.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(results[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(results)


if __name__ == "__main__":
    main()
