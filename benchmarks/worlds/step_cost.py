"""What a step through a worker costs above the environment's own, beside the process pools of others.

    python benchmarks/worlds/step_cost.py [--repeats 5]

Gymnasium's AsyncVectorEnv (shared memory) and, where it is installed, Stable-Baselines3's SubprocVecEnv, on
HalfCheetah-v5 and on a free environment of the same spaces; 1, 4 and 16 environments, softac's pool with 1 and 2
workers. The contestants take turns; a row is one repeat, in microseconds a step of one environment. Results:
results/step-cost.csv; the last lines printed are the medians and what is above the environment's own.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import tasks
from common import Table

from softac.envs import EnvSource, ProcessVectorEnv

ENVS: dict[str, Any] = {"free": tasks.Free, "HalfCheetah-v5": "HalfCheetah-v5"}


def make(env: Any) -> gym.Env[Any, Any]:
    """One environment."""
    return gym.make(env, disable_env_checker=True) if isinstance(env, str) else env()


class Maker:
    """A function that can be sent to a process."""

    def __init__(self, env: Any) -> None:
        self.env = env

    def __call__(self) -> gym.Env[Any, Any]:
        """One environment."""
        return make(self.env)


def alone(env: Any, n: int, rounds: int) -> float:
    """The environment's own time."""
    envs = [make(env) for _ in range(n)]
    for one in envs:
        one.reset(seed=0)
    action = np.zeros(6, np.float32)
    began = time.perf_counter()
    for _ in range(rounds):
        for one in envs:
            *_, terminated, truncated, _info = one.step(action)
            if terminated or truncated:
                one.reset()
    return (time.perf_counter() - began) / rounds / n


def ours(workers: int) -> Callable[[Any, int, int], float]:
    """Softac, in one process or in workers."""

    def run(env: Any, n: int, rounds: int) -> float:
        source = EnvSource(env, {})
        envs = ProcessVectorEnv(source, n, min(workers, n), 60.0) if workers else source.vector(n)
        for i in range(n):
            envs.reset(i, i)
        actions = np.zeros((n, 6), np.float32)
        began = time.perf_counter()
        for _ in range(rounds):
            for i, step in enumerate(envs.step(0, actions)):
                if step.terminated or step.truncated:
                    envs.reset(i, 1)
        spent = time.perf_counter() - began
        envs.close()
        return spent / rounds / n

    return run


def gymnasium_async(env: Any, n: int, rounds: int) -> float:
    """Gymnasium's pool."""
    envs = gym.vector.AsyncVectorEnv([Maker(env)] * n, shared_memory=True, context="spawn")
    envs.reset(seed=0)
    return stepped(envs, n, rounds)


def sb3_subproc(env: Any, n: int, rounds: int) -> float:
    """Stable-Baselines3's pool."""
    from stable_baselines3.common.vec_env import SubprocVecEnv

    envs = SubprocVecEnv([Maker(env)] * n, start_method="spawn")
    envs.reset()
    return stepped(envs, n, rounds)


def stepped(envs: Any, n: int, rounds: int) -> float:
    """Seconds that one step of one environment takes."""
    actions = np.zeros((n, 6), np.float32)
    began = time.perf_counter()
    for _ in range(rounds):
        envs.step(actions)
    spent = time.perf_counter() - began
    envs.close()
    return spent / rounds / n


CONTESTANTS = {
    "alone": alone,
    "softac, one process": ours(0),
    "softac, 1 worker": ours(1),
    "softac, 2 workers": ours(2),
    "gymnasium AsyncVectorEnv": gymnasium_async,
    "sb3 SubprocVecEnv": sb3_subproc,
}


def main() -> None:
    """All of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8_000, help="of one environment, in each row")
    args = parser.parse_args()
    table = Table("step-cost", ("env", "n_envs", "who", "repeat"))
    for repeat in range(args.repeats):
        for env, made in ENVS.items():
            for n in (1, 4, 16):
                for who in list(CONTESTANTS)[:: 1 if repeat % 2 == 0 else -1]:
                    key = {"env": env, "n_envs": n, "who": who, "repeat": repeat}
                    if table.has(**key) or (who == "softac, 2 workers" and n == 1):
                        continue
                    try:
                        spent = CONTESTANTS[who](made, n, args.steps // n)
                    except ImportError:
                        continue
                    table.add(**key, microseconds=f"{1e6 * spent:.2f}")
    for env in ENVS:
        for n in (1, 4, 16):
            times: dict[str, float] = {}
            for who in CONTESTANTS:
                found = [float(r["microseconds"]) for r in table.rows
                         if (r["env"], r["n_envs"], r["who"]) == (env, str(n), who)]  # fmt: skip
                if found:
                    times[who] = statistics.median(found)
            own = times["alone"]
            print(f"{env} x {n}: " + ", ".join(f"{w} {t:.0f} ({t - own:+.0f})" for w, t in times.items()))


if __name__ == "__main__":
    main()
