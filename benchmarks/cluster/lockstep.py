"""Lock-step environments on Ray actors against in process: the same bits, and how many steps a second.

    python benchmarks/cluster/lockstep.py [--repeats 5]

SAC with 16 environments of 20 ms a step, which wait rather than compute, on 4 actors of this machine; all
take turns. Results: results/lockstep.csv.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from nodes import TESTS

sys.path.append(str(TESTS))
sys.path.append(str(Path(__file__).parents[1] / "worlds"))
import common

from hashing import digests
from softac import SAC
from worlds import Drift

common.RESULTS = Path(__file__).parent / "results"
SMALL = {"net_arch": [64, 64], "batch_size": 100, "learning_starts": 160, "buffer_size": 10_000}
SMALL |= {"engine": "compiled"}  # as a run that is long enough has it


def run(on: str, workers: int, steps: int) -> tuple[dict[str, str], float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        model = SAC(Drift, n_envs=16, env_kwargs={"pause": 0.02}, env_on=on, env_workers=workers, **SMALL)
        model.learn(320, run_dir=path, n_eval_episodes=0)  # the first updates, which wait for the compiler
        began = time.monotonic()
        model.learn(steps, run_dir=path, n_eval_episodes=0)
        speed = steps / (time.monotonic() - began)
        model.close()
        return digests(path), speed


def main(repeats: int) -> None:
    table = common.Table("lockstep", ("repeat", "on", "workers"))
    for repeat in range(repeats):
        if table.has(repeat=repeat, on="ray", workers=8):
            continue
        here, base = run("local", 0, 1_600)
        table.add(repeat=repeat, on="local", workers=0, steps_per_second=round(base, 1), times=1.0, equal="")
        for on, workers in (("local", 4), ("ray", 4), ("ray", 8)):
            there, speed = run(on, workers, 1_600)
            table.add(
                repeat=repeat,
                on=on,
                workers=workers,
                steps_per_second=round(speed, 1),
                times=round(speed / base, 2),
                equal=there == here,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    main(parser.parse_args().repeats)
