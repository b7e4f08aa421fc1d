"""Runs whose learner or one of whose workers is killed at random moments, and resumed until they are done.

    python benchmarks/worlds/kills.py [--runs 50]

Each run is compared with one that nobody killed and that was stepped in one process: SHA-256 of all it comes to.
After each death of a learner its workers have two seconds to be gone, and no file of theirs may be in /dev/shm.
Results: results/kills.csv, one row a run; rows that are there are not run again.
"""

import argparse
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import tasks
from common import Table

from hashing import training_digests
from softac import SAC

STEPS = 900
SMALL = {"net_arch": [16, 16], "batch_size": 32, "learning_starts": 60, "buffer_size": 500}
RECORD: dict[str, Any] = {"eval_freq": 400, "n_eval_episodes": 1, "save_freq": 45}
ENVS: dict[str, Any] = {"Pendulum-v1": "Pendulum-v1", "Hopper-v5": "Hopper-v5", "Dict": tasks.DictPoint}


def train(run: Path, env: Any, settings: dict[str, Any]) -> None:
    """Begin or go on."""
    if any(run.glob("checkpoints/step-*")):
        model = SAC.load(run, env if callable(env) else None)
    else:
        model = SAC(env, **SMALL, **settings)
    if model.num_timesteps < STEPS:  # it may have been killed between its last checkpoint and its end
        model.learn(STEPS - model.num_timesteps, run_dir=run, **RECORD)
    model.close()


def begun(run: Path, env: Any, settings: dict[str, Any]) -> int:
    """A process that trains; forked from this one, which has imported everything and computes nothing."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        code = 1
        try:
            train(run, env, settings)
            code = 0
        finally:
            os._exit(code)
    return pid


def workers_of(pid: int) -> list[int]:
    """The workers of a learner."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return [p for p in found if "softac.envs.worker" in read(f"/proc/{p}/cmdline")]


def read(path: str) -> str:
    """A file that may be gone."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    status = read(f"/proc/{pid}/status")
    return bool(status) and "State:\tZ" not in status


def shared_files(pids: list[int]) -> int:
    """Mappings of these processes that have a name in /dev/shm."""
    return sum(read(f"/proc/{pid}/maps").count("/dev/shm/") for pid in pids)  # noqa: S108


def one(seed: int, table: Table, references: dict[Any, dict[str, str]]) -> None:
    """One run, with its row."""
    if table.has(run=seed):
        return
    rng = random.Random(seed)  # noqa: S311
    env, n_envs, overlap = rng.choice(list(ENVS)), rng.choice((1, 4)), rng.random() < 0.3
    settings = {"n_envs": n_envs, "overlap": overlap}
    workers = rng.randint(1, min(n_envs, 2))
    row = {"run": seed, "env": env, "n_envs": n_envs, "overlap": overlap, "workers": workers}
    counts = {"learner": 0, "worker": 0, "orphans": 0, "in_shm": 0}
    with tempfile.TemporaryDirectory() as folder:
        if (env, n_envs, overlap) not in references:
            if os.waitpid(begun(Path(folder) / "whole", ENVS[env], settings), 0)[1]:
                raise RuntimeError("the reference failed")
            references[env, n_envs, overlap] = training_digests(Path(folder) / "whole")
        run, done = Path(folder) / "run", False
        while not done:
            pid = begun(run, ENVS[env], settings | {"env_workers": workers})
            kill = sum(counts[k] for k in ("learner", "worker")) < 8
            until = time.monotonic() + (rng.uniform(0.3, 4.0) if kill else 1e9)
            whom = rng.choice(("learner", "worker"))
            ended = (0, 0)
            while time.monotonic() < until and ended == (0, 0):
                time.sleep(0.01)
                ended = os.waitpid(pid, os.WNOHANG)
            if ended == (0, 0):
                its = workers_of(pid)
                counts["in_shm"] += shared_files([pid, *its])
                if whom == "worker" and its:
                    os.kill(rng.choice(its), signal.SIGKILL)
                else:
                    whom = "learner"
                    os.kill(pid, signal.SIGKILL)
                counts[whom] += 1
                ended = os.waitpid(pid, 0)
                time.sleep(2.0 if any(map(alive, its)) else 0.0)
                counts["orphans"] += sum(map(alive, its))
            done = ended[1] == 0
        found = training_digests(run)
    expected = references[env, n_envs, overlap]
    different = [k for k in expected if found[k] != expected[k]]
    table.add(**row, **counts, equal=not different, different=" ".join(different))


def main() -> None:
    """All runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    args = parser.parse_args()
    table = Table("kills", ("run",))
    references: dict[Any, dict[str, str]] = {}
    for seed in range(args.runs):
        one(seed, table, references)
    rows = table.rows
    total = {name: sum(int(row[name]) for row in rows) for name in ("learner", "worker", "orphans", "in_shm")}
    print(f"{sum(row['equal'] == 'True' for row in rows)} of {len(rows)} equal; {total}")


if __name__ == "__main__":
    main()
