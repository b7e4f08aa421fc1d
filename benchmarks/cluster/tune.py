"""Has a search that is killed the same trials, values and winner as one that is not? And what does a search find?

    python benchmarks/cluster/tune.py kills [--trials 20] [--steps 5000] [--kills 5] [--folder DIR]
    python benchmarks/cluster/tune.py gain [--folder DIR]

`kills`: SAC on Pendulum-v1, networks of 64, the space of `tune_pendulum.toml`, generations of four. One search
runs to its end; another is killed with SIGKILL at random moments, the command or, every second time, one of its
runs, and given again. Compared are settings, states and values of all trials, the file of the winner, and the
SHA-256 of the networks of every run. Results go to results/tune_kills.csv.

`gain`: SAC on HalfCheetah-v5, 30 trials of 50,000 steps, the space that comes with softac; what the best of them
and the preset reach with five fresh seeds goes to results/tune_gain.csv. Hours; both go on where they stopped.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SPACE = HERE / "tune_pendulum.toml"
SMALL = "--net-arch 64 64 --parallel 4 --n-eval-episodes 3 --fresh-seeds 1-2"


def words_of(args: argparse.Namespace, folder: Path) -> list[str]:
    """The command."""
    asked = (
        f"tune sac Pendulum-v1 -n {args.steps} --trials {args.trials} {SMALL} --space {SPACE} --run-dir {folder}"
    )
    return [sys.executable, "-m", "softac", *asked.split()]


def begin(words: list[str]) -> subprocess.Popen[bytes]:
    """In the background, silent."""
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rows(folder: Path) -> int:
    """How many rows of metrics all runs have written: how far the search is."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*/*/metrics.jsonl"))


def runs_below(pid: int) -> list[int]:
    """The processes that this one has begun."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        if parent == pid:
            found.append(int(status.parent.name))
    return found


def killed_until_done(
    words: list[str], folder: Path, moments: list[int], rng: random.Random
) -> list[dict[str, object]]:
    """Kill the command or one of its runs once it has written so many rows; then let it come to its end."""
    deaths: list[dict[str, object]] = []
    process = begin(words)
    for i, moment in enumerate(moments):
        while rows(folder) < moment and process.poll() is None:
            time.sleep(0.05)
        runs = runs_below(process.pid)
        what = "a run" if i % 2 and runs else "the command"
        if what == "a run":
            os.kill(rng.choice(runs), signal.SIGKILL)
        else:
            process.kill()
            process.wait()
            process = begin(words)
        deaths.append({"event": f"SIGKILL of {what}", "after rows": moment})
    if process.wait() != 0:
        raise SystemExit(f"the search ended with {process.returncode}")
    return deaths


def networks(folder: Path) -> dict[str, str]:
    """SHA-256 of the last networks of every run."""
    found = {}
    for run in sorted(folder.glob("*/trial-*")):
        last = sorted(run.glob("checkpoints/step-*/networks.safetensors"))[-1]
        found[str(run.relative_to(folder))] = hashlib.sha256(last.read_bytes()).hexdigest()
    return found


def trials(folder: Path) -> list[dict[str, object]]:
    """As `trials.json` has them."""
    return list(json.loads((folder / "trials.json").read_text())["trials"])


def winner(folder: Path) -> str:
    """The file of the winner, without the command."""
    return "".join((folder / "best.toml").read_text().splitlines(keepends=True)[1:])


def kills(args: argparse.Namespace) -> None:
    whole, killed = args.folder / "whole", args.folder / "killed"
    rng = random.Random(args.seed)  # noqa: S311 - when to kill, not a secret
    if begin(words_of(args, whole)).wait() != 0:
        raise SystemExit("the search failed")
    moments = sorted(rng.sample(range(5, rows(whole) - 5), args.kills))
    deaths = killed_until_done(words_of(args, killed), killed, moments, rng)
    own, other = networks(whole), networks(killed)
    table = [
        {
            "trial": one["number"],
            "settings equal": one["settings"] == two["settings"],
            "value": one["value"],
            "value of the killed search": two["value"],
            "equal": one == two,
        }
        for one, two in zip(trials(whole), trials(killed), strict=True)
    ]
    written = HERE / "results" / "tune_kills.csv"
    written.parent.mkdir(exist_ok=True)
    with written.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    print(*deaths, sep="\n")
    print(f"trials equal: {sum(bool(row['equal']) for row in table)} of {len(table)}")
    print(
        f"runs with equal networks: {sum(own[run] == other.get(run) for run in own)} of {len(own)}; "
        f"the killed search has {len(other)}"
    )
    print(f"winner equal: {winner(whole) == winner(killed)}\n{winner(whole)}")


def gain(args: argparse.Namespace) -> None:
    folder = args.folder / "gain"
    asked = f"tune sac HalfCheetah-v5 -n 50_000 --trials 30 --run-dir {folder}"
    if subprocess.run([sys.executable, "-m", "softac", *asked.split()]).returncode != 0:
        raise SystemExit("the search did not come to its end")
    found = []
    for config in sorted(folder.glob("confirm/trial-*/evaluations.csv")):
        evaluations = list(csv.DictReader(config.open()))
        last = evaluations[-max(1, len(evaluations) // 4) :]
        value = sum(float(row["eval/mean_reward"]) for row in last) / len(last)
        trial, _, seed = config.parent.name.removeprefix("trial-").partition("-seed-")
        found.append({"trial": int(trial), "seed": int(seed), "value": value})
    with (HERE / "results" / "tune_gain.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "gain"])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-tune"))
    arguments = parser.parse_args()
    {"kills": kills, "gain": gain}[arguments.what](arguments)
