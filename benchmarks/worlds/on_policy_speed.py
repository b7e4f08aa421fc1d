"""PPO and A2C with 8 environments of 2 ms: steps per second in one process and with 2 workers.

    python benchmarks/worlds/on_policy_speed.py [--repeats 3]

Results: results/on-policy.csv.
"""

import argparse
import time
from typing import Any

import tasks
from common import Table

from softac import A2C, PPO

SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {"PPO": (PPO, {"n_steps": 256}), "A2C": (A2C, {})}


def speed(name: str, workers: int, compute: bool) -> float:
    """Environment steps per second over whole rollouts with their updates."""
    kind, settings = SETTINGS[name]
    kwargs = {"milliseconds": 2.0, "compute": compute}
    model = kind(tasks.Free, env_kwargs=kwargs, n_envs=8, env_workers=workers, **settings)
    rollout = model.agent.config.n_steps * 8
    model.learn(rollout)
    rounds = max(1, 4_096 // rollout)
    began = time.perf_counter()
    model.learn(rounds * rollout)
    spent = time.perf_counter() - began
    model.close()
    return rounds * rollout / spent


def main() -> None:
    """All of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    table = Table("on-policy", ("algorithm", "step", "workers", "repeat"))
    for repeat in range(args.repeats):
        for name in SETTINGS:
            for compute in (False, True):
                for workers in (0, 2):
                    key = {
                        "algorithm": name,
                        "step": "computes" if compute else "waits",
                        "workers": workers,
                        "repeat": repeat,
                    }
                    if not table.has(**key):
                        table.add(**key, steps_per_second=f"{speed(name, workers, compute):.1f}")
    for name in SETTINGS:
        for step in ("waits", "computes"):
            rows = [row for row in table.rows if (row["algorithm"], row["step"]) == (name, step)]
            pick = {w: [float(r["steps_per_second"]) for r in rows if r["workers"] == w] for w in ("0", "2")}
            mean = {w: sum(v) / len(v) for w, v in pick.items()}
            print(f"{name}, {step}: {mean['0']:.0f} and {mean['2']:.0f} steps/s, {mean['2'] / mean['0']:.2f}")


if __name__ == "__main__":
    main()
