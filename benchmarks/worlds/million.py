"""A million steps of a free environment through a worker: does anything grow?

    python benchmarks/worlds/million.py [--steps 1000000]

Results: results/million.csv, one row for each twentieth part.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import tasks
from common import Table

from softac.envs import EnvSource, ProcessVectorEnv


def kilobytes(pid: int) -> int:
    """Memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def main() -> None:
    """Step and look."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    args = parser.parse_args()
    table = Table("million", ("step",))
    table.rows = []
    envs = ProcessVectorEnv(EnvSource(tasks.Free, {}), 1, 1, 60.0)
    worker, actions = envs._processes[0].process.pid, np.zeros((1, 6), np.float32)
    envs.reset(0, 0)
    began = time.monotonic()
    for step in range(1, args.steps + 1):
        (answer,) = envs.step(0, actions)
        if answer.truncated:
            envs.reset(0, step)
        if step % (args.steps // 20) == 0:
            shared = sum(Path(f"/proc/{p}/maps").read_text().count("/dev/shm/") for p in ("self", worker))  # noqa: S108
            table.add(
                step=step,
                learner_kb=kilobytes(os.getpid()),
                worker_kb=kilobytes(worker),
                learner_descriptors=len(list(Path("/proc/self/fd").iterdir())),
                worker_descriptors=len(list(Path(f"/proc/{worker}/fd").iterdir())),
                in_shm=shared,
                seconds=f"{time.monotonic() - began:.1f}",
            )
    envs.close()


if __name__ == "__main__":
    main()
