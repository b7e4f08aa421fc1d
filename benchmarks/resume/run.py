"""Is a run that was stopped and resumed the same as one that was not? Bit for bit, by SHA-256.

    python benchmarks/resume/run.py [--kills 3]

For each set-up: one run of 2N steps; one of N steps, resumed to 2N; one killed with SIGKILL at
random moments and resumed until it is done. N is no multiple of any interval. Compared are the
parameters, the optimizer, the random states, the replay, the counters and the metrics without times.
Results go to results/resume.csv.
"""

import argparse
import csv
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

N = 2_777
COMMON = (
    "--net-arch 64 64 --batch-size 64 --eval-freq 600 --save-freq 500 --n-eval-episodes 2 --learning-starts 200"
)
SETUPS = {
    "Pendulum-v1, n_envs 1": "Pendulum-v1",
    "Pendulum-v1, n_envs 4": "Pendulum-v1 --n-envs 4",
    "Hopper-v5, n_envs 1": "Hopper-v5",
    "Hopper-v5, n_envs 4, 3-step returns": "Hopper-v5 --n-envs 4 --n-steps 3",
    "Dict observations, n_envs 1": "dict_env:DictPendulum-v0",
    "Dict observations, n_envs 4": "dict_env:DictPendulum-v0 --n-envs 4",
}
UNTIMED = ("time/fps", "time/time_elapsed")


def start(words: list[str]) -> subprocess.Popen[bytes]:
    """The command, in the background; `dict_env` lies beside this file."""
    return subprocess.Popen(
        [sys.executable, "-m", "softac", *words],
        cwd=Path(__file__).parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def resume(folder: Path, env: str) -> list[str]:
    """How to go on; an environment that imports a module must be named again."""
    return ["resume", str(folder), *(["--env", env] if ":" in env else [])]


def hashes(folder: Path) -> dict[str, str]:
    """What must be equal, hashed."""
    checkpoint = sorted((folder / "checkpoints").glob("step-*"))[-1]
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    found = {name: file["sha256"] for name, file in manifest["files"].items() if name != "state.json"}
    state = json.loads((checkpoint / "state.json").read_text())
    del state["seconds"]
    found["state"] = digest(json.dumps(state, sort_keys=True).encode())
    names = ("seg-{start:012d}-{stop:012d}-".format(**s) + s["sha256"][:16] + ".npy" for s in manifest["segments"])
    found["replay"] = digest(
        b"".join(np.load(folder / "replay" / name).tobytes() for name in names)
    )  # one, or none
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    untimed = [{k: v for k, v in row.items() if k not in UNTIMED} for row in rows]
    found["metrics"] = digest(json.dumps(untimed).encode())
    return found


def digest(data: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    """Run every set-up and print what is equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3)
    args = parser.parse_args()
    delays = random.Random(0)  # noqa: S311 - when to kill, not a secret
    rows = []
    for name, flags in SETUPS.items():
        work = Path(tempfile.mkdtemp())
        train = ["train", *flags.split(), *COMMON.split(), "--run-dir"]
        env = flags.split()[0]
        whole, halves, killed = work / "whole", work / "halves", work / "killed"
        start([*train, str(whole), "-n", str(2 * N)]).wait()
        start([*train, str(halves), "-n", str(N)]).wait()
        start([*resume(halves, env), "-n", str(2 * N)]).wait()
        again = [*train, str(killed), "-n", str(2 * N)]
        process, kills = start(again), 0
        while kills < args.kills:
            time.sleep(delays.uniform(2.5, 7.0))
            if process.poll() is not None:
                break  # done before the next kill
            process.kill()
            process.wait()
            kills += 1
            process = start(resume(killed, env) if (killed / "config.json").exists() else again)
        process.wait()
        reference = hashes(whole)
        for kind, folder in (("N + resume + N", halves), (f"{kills} x SIGKILL", killed)):
            found = hashes(folder)
            rows.append(
                {"set-up": name, "interruption": kind, "steps": 2 * N, "identical": found == reference, **found}
            )
            print(f"{name:<36} {kind:<16} {'identical' if found == reference else 'DIFFERENT'}", flush=True)
        shutil.rmtree(work)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    with (results / "resume.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
