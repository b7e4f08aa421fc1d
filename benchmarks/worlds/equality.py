"""Do processes change a bit? SHA-256 of everything a run comes to, here and in workers.

    python benchmarks/worlds/equality.py

For each environment, number of environments and of workers, without and with overlap: one run of 1,003 steps (no
multiple of anything), and one in three legs, of which the first ends inside a round and each has another number of
workers. Compared with the run in one process: parameters, optimiser, random streams, replay, counters, episodes,
metrics without times. Then every algorithm, with 4 environments and 2 workers. Results: results/equality.csv.
"""

import tempfile
from pathlib import Path
from typing import Any

import tasks
from common import Table

import softac
from hashing import digests
from softac import PPO, SAC

N = 1_003
SMALL = {"net_arch": [32, 32], "batch_size": 32, "learning_starts": 100, "buffer_size": 600}
RECORD: dict[str, Any] = {"eval_freq": 400, "n_eval_episodes": 1, "save_freq": 300}
ENVS = {"Pendulum-v1": "Pendulum-v1", "Hopper-v5": "Hopper-v5", "Dict": tasks.DictPoint}
ON_POLICY = {"net_arch": [16], "n_steps": 24}
CONTINUOUS = ("SAC", "SACV", "SACMixture", "GamidPG", "DDPG", "TD3", "REINFORCE", "A2C", "PPO")
DISCRETE = ("SACDiscrete", "DQN", "PPO", "A2C", "REINFORCE")


def come_to(kind: Any, env: Any, legs: list[tuple[int, int]], **settings: Any) -> dict[str, str]:
    """The hashes of a run of several legs, each of some steps with some workers."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        model = None
        for steps, workers in legs:
            if model is None:
                model = kind(env, env_workers=workers, **settings)
            else:
                model = kind.load(run, env if callable(env) else None, env_workers=workers)
            model.learn(steps, run_dir=run, **RECORD)
            model.close()
        return {k: v for k, v in digests(run).items() if k != "metrics" or not settings.get("overlap")}


def sac() -> None:
    """SAC on three environments."""
    table = Table("equality", ("algorithm", "env", "n_envs", "overlap", "workers"))
    for name, env in ENVS.items():
        for n_envs in (1, 4, 16):
            for overlap in (False, True):
                settings = SMALL | {"n_envs": n_envs, "overlap": overlap, "n_steps": 3 if n_envs == 4 else 1}
                plans = {str(w): [(N, w)] for w in (1, 2, 4) if w <= n_envs}
                most = min(4, n_envs)
                plans["legs"] = [(417, most), (318, min(2, most)), (N - 417 - 318, 0)]
                key: dict[str, Any] = {"algorithm": "SAC", "env": name, "n_envs": n_envs, "overlap": overlap}
                due = {k: plan for k, plan in plans.items() if not table.has(**key, workers=k)}
                if not due:
                    continue
                expected = come_to(SAC, env, [(N, 0)], **settings)
                for workers, plan in due.items():
                    found = come_to(SAC, env, plan, **settings)
                    different = [k for k in expected if found[k] != expected[k]]
                    shown = {"different": " ".join(different), "parameters": found["parameters"][:16]}
                    table.add(**key, workers=workers, equal=not different, **shown)


def family() -> None:
    """The other algorithms."""
    table = Table("equality", ("algorithm", "env", "n_envs", "overlap", "workers"))
    for env, names in (("Pendulum-v1", CONTINUOUS), ("CartPole-v1", DISCRETE)):
        for name in names:
            key: dict[str, Any] = {"algorithm": name, "env": env, "n_envs": 4, "overlap": False, "workers": 2}
            if table.has(**key) or (name == "SAC"):
                continue
            kind = getattr(softac, name)
            settings = (ON_POLICY if kind in (PPO, softac.A2C, softac.REINFORCE) else SMALL) | {"n_envs": 4}
            expected = come_to(kind, env, [(N, 0)], **settings)
            found = come_to(kind, env, [(N, 2)], **settings)
            different = [k for k in expected if found[k] != expected[k]]
            table.add(
                **key, equal=not different, different=" ".join(different), parameters=found["parameters"][:16]
            )


if __name__ == "__main__":
    sac()
    family()
