"""A robot arm that is to reach, or to push, rewarded at the goal alone: SAC with hindsight, softac and its peer.

    python benchmarks/tasks/panda.py softac PandaReach-v3 10000 --seeds 0 1 2
    python benchmarks/tasks/panda.py sb3 PandaPush-v3 300000 --seeds 0

Run it with a Python that has softac (or stable-baselines3) and panda-gym 3.0.7; README.md says how to make one.
Both libraries get the settings SHARED and NET_ARCH, and one thread. Every EVERY steps the deterministic policy
plays 100 episodes from the same hundred seeds. Rows go to results/panda.csv as each evaluation ends:

    library, version, env, seed, step, success rate, mean return, seconds of training, seconds in all

A run of softac is saved in `--folder` and goes on from there when it is started again.
"""

import argparse
import csv
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import panda_gym  # noqa: F401 - registers the environments
import torch

RESULTS = Path(__file__).parent / "results" / "panda.csv"
EPISODES = 100
EVERY = {"PandaReach-v3": 2_500, "PandaPush-v3": 20_000}
SHARED = {"learning_rate": 1e-3, "gamma": 0.95, "tau": 0.05, "batch_size": 256, "learning_starts": 1_000}
NET_ARCH = {"PandaReach-v3": [64, 64], "PandaPush-v3": [256, 256]}
N_SAMPLED_GOAL = 4


def play(predict: Any, env: gym.Env[Any, Any]) -> tuple[float, float]:
    """Success rate and mean return over the evaluation episodes."""
    successes, returns = 0, 0.0
    for k in range(EPISODES):
        obs, _ = env.reset(seed=1_000_000 + k)
        ended, info = False, {}
        while not ended:
            obs, reward, terminated, truncated, info = env.step(predict(obs))
            returns, ended = returns + float(reward), bool(terminated or truncated)
        successes += bool(info["is_success"])
    return successes / EPISODES, returns / EPISODES


def softac_runs(env_id: str, seed: int, steps: int, folder: Path) -> None:
    """Train with softac."""
    from softac import SAC

    home = folder / f"{env_id}-softac-{seed}"
    if home.exists():
        model = SAC.load(home, env=env_id)
    else:
        config = SHARED | {"net_arch": NET_ARCH[env_id], "hindsight": "future", "n_sampled_goal": N_SAMPLED_GOAL}
        model = SAC(env_id, seed=seed, engine="compiled" if steps > 50_000 else "eager", **config)

    def learn() -> Any:
        model.learn(EVERY[env_id])
        return lambda obs: model.predict(obs, deterministic=True)[0]

    def save() -> None:
        model.save(home)

    evaluated("softac", env_id, seed, range(model.num_timesteps, steps, EVERY[env_id]), learn, save)


def sb3_runs(env_id: str, seed: int, steps: int, _folder: Path) -> None:
    """Train with Stable-Baselines3."""
    from stable_baselines3 import SAC, HerReplayBuffer

    model = SAC(
        "MultiInputPolicy",
        gym.make(env_id),
        seed=seed,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": N_SAMPLED_GOAL, "goal_selection_strategy": "future"},
        policy_kwargs={"net_arch": NET_ARCH[env_id]},
        **SHARED,
    )

    def learn() -> Any:
        model.learn(EVERY[env_id], reset_num_timesteps=False)
        return lambda obs: model.predict(obs, deterministic=True)[0]

    evaluated("stable-baselines3", env_id, seed, range(0, steps, EVERY[env_id]), learn, lambda: None)


def evaluated(library: str, env_id: str, seed: int, parts: range, learn: Any, save: Any) -> None:
    """Learn part after part, and write a row after each."""
    env, began, training = gym.make(env_id), time.monotonic(), 0.0
    for step in parts:
        before = time.monotonic()
        predict = learn()
        training += time.monotonic() - before
        success, mean = play(predict, env)
        save()
        row = [library, version(library), env_id, seed, step + EVERY[env_id], f"{success:.2f}", f"{mean:.2f}"]
        write([*row, f"{training:.0f}", f"{time.monotonic() - began:.0f}"])


def write(row: list[Any]) -> None:
    """Append to the results."""
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            names = [
                "library",
                "version",
                "env",
                "seed",
                "step",
                "success",
                "return",
                "training_seconds",
                "seconds",
            ]
            writer.writerow(names)
        writer.writerow(row)
    print(*row, flush=True)


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=["softac", "sb3"])
    parser.add_argument("env", choices=list(EVERY))
    parser.add_argument("steps", type=int)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where models are saved")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in args.seeds:
        (softac_runs if args.library == "softac" else sb3_runs)(args.env, seed, args.steps, args.folder)


if __name__ == "__main__":
    main()
