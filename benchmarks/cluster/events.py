"""A suite on three nodes of which everything is killed, stopped and cut off: the bits of one machine?

    python benchmarks/cluster/events.py [--events 10] [--steps 3000] [--seed 0] [--pause 25]

Eight runs: sac and ppo, Pendulum-v1 and Hopper-v5, two seeds. Once at home (`--on local`), once on a Ray cluster
of three nodes with random events, each some seconds after the one before: SIGKILL of a raylet (another joins),
of an actor, of a run, of the command (which is given again); SIGSTOP of a whole node; the cable of one pulled.
Without events (--events 0) it is the first row of the table in README.md. Results: results/events.csv, one row for
each event and one for the suite, and what the command printed, results/events-lines.txt, which again.py reads.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from nodes import TESTS, Nodes, cluster, every, left_behind

sys.path.append(str(TESTS))
sys.path.append(str(Path(__file__).parents[1] / "worlds"))
import common

from hashing import digests

common.RESULTS = Path(__file__).parent / "results"
SUITE = """
title = "Four pairs"
total_timesteps = {steps}
eval_freq = {every}
n_eval_episodes = 1
save_freq = {save}
seeds = "0-1"
environments = ["Pendulum-v1", "Hopper-v5"]

[[algorithms]]
algorithm = "sac"
settings = {{ net_arch = [64, 64], batch_size = 64, learning_starts = 200 }}

[[algorithms]]
algorithm = "ppo"
settings = {{ n_steps = 128, batch_size = 64, n_epochs = 4 }}
"""
KINDS = ("raylet", "actor", "run", "driver", "stop", "cable")


class Command:
    """`softac bench --on ray`, given again when it is killed; what it prints, with the time."""

    def __init__(self, nodes: Nodes, suite: Path, path: Path) -> None:
        words = ["bench", suite, "--run-dir", path, "--on", "ray", "--ray-address", nodes.address]
        self.words = [sys.executable, "-m", "softac", *map(str, words)]
        self.environment, self.lines = nodes.environment, list[tuple[float, str]]()
        self.begin()

    def begin(self) -> None:
        """Give it, for the first time or again."""
        self.process = subprocess.Popen(
            self.words, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def _read(self, stream) -> None:
        for line in stream:
            self.lines.append((time.monotonic(), line.rstrip()))
            print("   ", line.rstrip(), flush=True)

    def kill(self) -> None:
        """Kill it, and give it again."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        time.sleep(1)
        self.begin()

    def running(self) -> dict[str, str]:
        """Where each run is."""
        there: dict[str, str] = {}
        for _, line in self.lines:
            if found := re.match(r"(.*) \| running on (.*)", line):
                there[found[1]] = found[2]
            elif found := re.match(r"(.*) \| (done|waiting|failed)", line):
                there.pop(found[1], None)
        return there

    def gone_on(self, since: float, runs: set[str]) -> float | None:
        """Seconds from `since` until all of `runs` were running again or done."""
        ends = {}
        for when, line in self.lines:
            found = re.match(r"(.*) \| (running on|done)", line)
            if found and when > since and found[1] in runs:
                ends.setdefault(found[1], when - since)
        return max(ends.values()) if ends.keys() == runs and ends else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=25.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "softac-events"))
    args = parser.parse_args()
    table = common.Table("events", ("events", "seed", "n"))
    args.folder.mkdir(exist_ok=True)
    suite, home = args.folder / "suite.toml", args.folder / f"home-{args.steps}"
    save = args.steps // 10
    suite.write_text(SUITE.format(steps=args.steps, every=args.steps // 3, save=save))
    bench = [sys.executable, "-m", "softac", "bench", str(suite), "--run-dir"]
    subprocess.run([*bench, str(home)], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    path = args.folder / "ray"
    shutil.rmtree(path, ignore_errors=True)
    began = time.monotonic()
    with cluster() as nodes:
        for number in (2, 3, 10):
            nodes.join(number)
        command = Command(nodes, suite, path)
        events = happen(nodes, command, path, args)
        while command.process.poll() is None:
            time.sleep(0.5)
    took = time.monotonic() - began
    said = [line for _, line in command.lines if " | " in line or line.startswith(("softac: ", "--- "))]
    (common.RESULTS / "events-lines.txt").write_text("\n".join(said) + "\n")
    runs = sorted(p.name for p in home.iterdir() if (p / "config.json").exists())
    equal = [name for name in runs if digests(path / name) == digests(home / name)]
    for n, event in enumerate(events):
        again = command.gone_on(event["at"], event["runs"])
        table.add(
            events=args.events,
            seed=args.seed,
            n=n,
            what=event["what"],
            lost_runs=len(event["runs"]),
            goes_on_after="" if again is None else round(again, 1),
            save_freq=save,
        )
    table.add(
        events=args.events,
        seed=args.seed,
        n="suite",
        what=f"exit code {command.process.returncode}",
        equal=f"{len(equal)} of {len(runs)}",
        seconds=round(took),
        steps=args.steps,
        save_freq=save,
        repeated=json.dumps(repeated(path)),
        left_behind=len(left_behind()),
    )


def happen(nodes: Nodes, command: Command, path: Path, args: argparse.Namespace) -> list[dict]:
    """Let random things happen until there were enough, or the suite has ended."""
    chance, told, next_node = random.Random(args.seed), [], 4  # noqa: S311
    while not command.running() and command.process.poll() is None:
        time.sleep(0.5)
    for n in range(args.events):
        time.sleep(args.pause)
        if command.process.poll() is not None:
            break
        what = KINDS[n % len(KINDS)] if n < len(KINDS) else chance.choice(KINDS)
        there, far = command.running(), "10.77.0.10"
        near = [number for number in nodes.processes if 1 < number < 10]
        runs: set[str] = set()
        at = time.monotonic()
        command.lines.append((at, f"--- event {n}: {what}"))
        print(command.lines[-1][1], flush=True)
        if what in ("raylet", "stop"):
            number = chance.choice(near)
            runs = {run for run, node in there.items() if node == f"10.77.0.{number}"}
            if what == "raylet":
                nodes.kill(number)
                threading.Timer(5.0, nodes.join, (next_node,)).start()
                next_node += 1
            else:
                nodes.pause(number)
                threading.Timer(75.0, nodes.pause, (number,), {"go_on": True}).start()
                threading.Timer(80.0, nodes.join, (next_node,)).start()
                next_node += 1
        elif what == "cable":
            runs = {run for run, node in there.items() if node == far}
            nodes.cable(up=False)
            threading.Timer(80.0, nodes.cable, (), {"up": True}).start()
            time.sleep(90.0)
            nodes.processes.pop(10, None)
            nodes.join(10)
        elif what == "driver":
            runs = set(there)
            command.kill()
        else:
            wanted = b"ray::Seat" if what == "actor" else b"softac-seat-"
            pids = [pid for pid, words in every().items() if wanted in words and b"keeper" not in words]
            if pids:
                os.kill(chance.choice(pids), signal.SIGKILL)
        told.append({"what": what, "at": at, "runs": runs})
    return told


def repeated(path: Path) -> dict[str, int]:
    """How many checkpoints each run has gone on from, as its log says."""
    return {p.parent.name: p.read_text().count("engine ") - 1 for p in path.glob("*/log.txt")}


if __name__ == "__main__":
    main()
