"""Steps per second where a step takes 5 ms: without and with overlap; what waits, and what computes.

    python benchmarks/worlds/overlap_speed.py [--repeats 3]

SAC with two layers of 256, batch 256, one update a step, compiled. An environment that waits stands for a robot or
a remote simulator; one that computes needs a core of its own. What bounds both is the slower of them alone: the
environment, stepped by itself ("alone": to wait for 5 ms takes a little longer), or the updates ("free": a step
takes no time). Results: results/overlap.csv.
"""

import argparse
import time
from typing import Any

import tasks
from common import Table

from softac import SAC

WARM_UP, STEPS = 150, 600
SETTINGS: dict[str, Any] = {"learning_starts": 100, "engine": "compiled"}  # as a run that is long enough has it


def speed(compute: bool, overlap: bool, workers: int, milliseconds: float = 5.0) -> float:
    """Environment steps per second once updates have begun."""
    kwargs = {"milliseconds": milliseconds, "compute": compute}
    model = SAC(tasks.Free, env_kwargs=kwargs, overlap=overlap, env_workers=workers, **SETTINGS)
    model.learn(WARM_UP)
    began = time.perf_counter()
    model.learn(STEPS)
    spent = time.perf_counter() - began
    model.close()
    return STEPS / spent


def alone(milliseconds: float = 5.0) -> float:
    """Steps per second of the environment that waits, without an agent."""
    env = tasks.Free(milliseconds=milliseconds)
    env.reset(seed=0)
    action = env.action_space.sample()
    began = time.perf_counter()
    for _ in range(STEPS):
        env.step(action)
    return STEPS / (time.perf_counter() - began)


def main() -> None:
    """All of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    table = Table("overlap", ("step", "overlap", "workers", "repeat"))
    for repeat in range(args.repeats):
        key = {"step": "alone", "overlap": False, "workers": 0, "repeat": repeat}
        if not table.has(**key):
            table.add(**key, steps_per_second=f"{alone():.1f}")
        key = {"step": "free", "overlap": False, "workers": 0, "repeat": repeat}
        if not table.has(**key):
            table.add(**key, steps_per_second=f"{speed(False, False, 0, 0.0):.1f}")
        for compute in (False, True):
            for overlap, workers in ((False, 0), (False, 1), (True, 0), (True, 1)):
                key = {
                    "step": "computes" if compute else "waits",
                    "overlap": overlap,
                    "workers": workers,
                    "repeat": repeat,
                }
                if not table.has(**key):
                    table.add(**key, steps_per_second=f"{speed(compute, overlap, workers):.1f}")
    means: dict[tuple[str, ...], list[float]] = {}
    for row in table.rows:
        means.setdefault((row["step"], row["overlap"], row["workers"]), []).append(float(row["steps_per_second"]))
    mean = {key: sum(v) / len(v) for key, v in means.items()}
    slower = min(mean["alone", "False", "0"], mean["free", "False", "0"])
    for step in ("waits", "computes"):
        base = mean[step, "False", "0"]
        for overlap, workers in (("False", "1"), ("True", "0"), ("True", "1")):
            found = mean[step, overlap, workers]
            print(
                f"{step}, overlap {overlap}, workers {workers}: {found:.1f} steps/s, {found / base:.2f} of plain "
                f"({base:.1f}), {found / slower:.2f} of what the slower of both allows ({slower:.1f})"
            )


if __name__ == "__main__":
    main()
