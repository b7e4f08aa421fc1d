"""A suite of eight runs of about a minute, `--on ray` with one node against `--on local`.

    python benchmarks/cluster/overhead.py [--steps 6000] [--repeats 3]

Both use the cores of this machine; the time is that of the whole command, the start of the cluster and its end
among it. They take turns. Results: results/overhead.csv.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "worlds"))
import common

common.RESULTS = Path(__file__).parent / "results"
SUITE = """
title = "Eight runs"
total_timesteps = {steps}
seeds = "0-7"
environments = ["Pendulum-v1"]

[[algorithms]]
algorithm = "sac"
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    table = common.Table("overhead", ("steps", "repeat", "on"))
    folder = Path(tempfile.gettempdir(), "softac-overhead")
    folder.mkdir(exist_ok=True)
    (folder / "suite.toml").write_text(SUITE.format(steps=args.steps))
    for repeat in range(args.repeats):
        for on in ("local", "ray"):
            if table.has(steps=args.steps, repeat=repeat, on=on):
                continue
            shutil.rmtree(folder / on, ignore_errors=True)
            words = ["bench", str(folder / "suite.toml"), "--run-dir", str(folder / on), "--on", on]
            began = time.monotonic()
            subprocess.run(
                [sys.executable, "-m", "softac", *words],
                check=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
            )
            table.add(steps=args.steps, repeat=repeat, on=on, seconds=round(time.monotonic() - began, 1))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
