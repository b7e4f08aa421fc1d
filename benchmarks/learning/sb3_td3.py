"""The peer of the suite td3-halfcheetah: Stable-Baselines3's TD3 with the same settings.

    python benchmarks/learning/sb3_td3.py SEED

Run it with a Python that has stable-baselines3 and gymnasium[mujoco]. One thread. Every 10,000 steps the
deterministic policy plays 10 episodes from the same ten seeds; rows are appended to
results/td3-halfcheetah-sb3.csv as each evaluation ends.
"""

import argparse
import csv
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise

RESULTS = Path(__file__).parent / "results" / "td3-halfcheetah-sb3.csv"
ENV, STEPS, EVERY, EPISODES = "HalfCheetah-v5", 100_000, 10_000, 10
VERSION = stable_baselines3.__version__


class Evaluate(BaseCallback):
    """Plays the evaluation episodes in an environment of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.env, self.seed, self.began = gym.make(ENV), seed, time.monotonic()

    def _on_step(self) -> bool:
        if self.num_timesteps % EVERY == 0:
            returns = [self._episode(k) for k in range(EPISODES)]
            row = [self.seed, self.num_timesteps, f"{np.mean(returns):.3f}", f"{np.std(returns):.3f}"]
            row += [" ".join(f"{r:.3f}" for r in returns), f"{time.monotonic() - self.began:.0f}", VERSION]
            new = not RESULTS.exists()
            with RESULTS.open("a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                if new:
                    writer.writerow(["seed", "step", "mean", "std", "returns", "seconds", "version"])
                writer.writerow(row)
            print(row[:4], flush=True)
        return True

    def _episode(self, k: int) -> float:
        obs, _ = self.env.reset(seed=1_000 + k)
        total, ended = 0.0, False
        while not ended:
            action, _ = self.model.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = self.env.step(action)
            total, ended = total + float(reward), terminated or truncated
        return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seed", type=int)
    seed = parser.parse_args().seed
    torch.set_num_threads(1)
    env = gym.make(ENV)
    size = env.action_space.shape[0]
    model = TD3(
        "MlpPolicy",
        env,
        learning_rate=3e-4,
        learning_starts=10_000,
        batch_size=256,
        policy_kwargs={"net_arch": [256, 256]},
        action_noise=NormalActionNoise(np.zeros(size), 0.1 * np.ones(size)),
        train_freq=1,
        gradient_steps=1,
        seed=seed,
        device="cpu",
    )
    model.learn(STEPS, callback=Evaluate(seed))


if __name__ == "__main__":
    main()
