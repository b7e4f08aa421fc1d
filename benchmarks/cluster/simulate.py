"""A thousand runs on two hundred nodes that fail, in simulated time, with softac's own dispatch.

    python benchmarks/cluster/simulate.py

Against the same cluster if nothing fails and a run begins at once. Every ten minutes on average a node is lost,
with what its run has done since the last checkpoint; the loss is seen after 2 s (killed) or 65 s (cut off), and
the node is back after five minutes. Results: results/simulation.csv.
"""

import resource
import sys
import time
from pathlib import Path

from nodes import TESTS

sys.path.append(str(TESTS))
sys.path.append(str(Path(__file__).parents[1] / "worlds"))
import common

from simulated import Simulation

common.RESULTS = Path(__file__).parent / "results"
LENGTHS = {
    "40 minutes each": [2_400.0] * 1_000,
    "20 to 60 minutes": [1_200.0 + 2_400.0 * (i * 617 % 1_000) / 1_000 for i in range(1_000)],
    "2 hours each": [7_200.0] * 1_000,
}


def main() -> None:
    table = common.Table("simulation", ("runs", "save_every", "seed"))
    for name, lengths in LENGTHS.items():
        ideal = Simulation(lengths, nodes=200, cores=1, begin=0.0)
        ideal.run()
        for save_every in (120.0, 600.0):
            for seed in range(5):
                if table.has(runs=name, save_every=save_every, seed=seed):
                    continue
                before = time.process_time()
                real = Simulation(lengths, nodes=200, cores=1, save_every=save_every, fail_every=600.0, seed=seed)
                codes = real.run()
                if [*codes.values()] != [0] * 1_000:
                    raise SystemExit("a run was lost")
                table.add(
                    runs=name,
                    save_every=save_every,
                    seed=seed,
                    failures=real.failures,
                    lost=real.lost,
                    repeated_hours=round(real.repeated / 3600, 2),
                    hours=round(real.now / 3600, 3),
                    ideal=round(ideal.now / 3600, 3),
                    over_ideal=f"{real.now / ideal.now - 1:.2%}",
                    most_open=real.most_open,
                    cpu_seconds=round(time.process_time() - before, 1),
                    peak_MB=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                )


if __name__ == "__main__":
    main()
