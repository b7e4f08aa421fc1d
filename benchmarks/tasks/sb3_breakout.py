"""The peer of breakout-dqn: Stable-Baselines3's DQN with the same settings and the same encoder.

    python benchmarks/tasks/sb3_breakout.py SEED

Run it with a Python that has stable-baselines3, gymnasium and minatar. One thread. Every 50,000 steps the greedy
policy plays 10 episodes from the same ten seeds; rows go to results/breakout-sb3.csv as each evaluation ends.
"""

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import worlds  # noqa: F401 - registers the environments

RESULTS = Path(__file__).parent / "results" / "breakout-sb3.csv"
STEPS, EVERY, EPISODES, LONGEST = 500_000, 50_000, 10, 10_000
EPSILON = 0.1


class Small(BaseFeaturesExtractor):
    """The encoder `small` of softac."""

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space, 128)
        self.net = nn.Sequential(
            nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 8 * 8, 128), nn.ReLU()
        )

    def forward(self, x: Any) -> Any:
        """Features of images `[B, 4, 10, 10]`."""
        return self.net(x)


class PlanesFirst(gym.ObservationWrapper[Any, Any, Any]):
    """What PyTorch's convolutions take, as floats of 0 and 1."""

    def __init__(self) -> None:
        super().__init__(gym.make("Tasks/Breakout-v0"))
        self.observation_space = gym.spaces.Box(0.0, 1.0, (4, 10, 10), np.float32)

    def observation(self, obs: Any) -> Any:
        """Channels first."""
        return obs.transpose(2, 0, 1).astype(np.float32)


class Evaluate(BaseCallback):
    """Plays the evaluation episodes in an environment of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.env, self.seed, self.began = PlanesFirst(), seed, time.monotonic()

    def _on_step(self) -> bool:
        if self.num_timesteps % EVERY == 0:
            returns = [self._episode(k) for k in range(EPISODES)]
            row = [self.seed, self.num_timesteps, f"{np.mean(returns):.3f}", " ".join(f"{r:g}" for r in returns)]
            row += [f"{time.monotonic() - self.began:.0f}", stable_baselines3.__version__]
            new = not RESULTS.exists()
            RESULTS.parent.mkdir(exist_ok=True)
            with RESULTS.open("a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                if new:
                    writer.writerow(["seed", "step", "mean", "returns", "seconds", "version"])
                writer.writerow(row)
            print(row[:4], flush=True)
        return True

    def _episode(self, k: int) -> float:
        obs, _ = self.env.reset(seed=1_000 + k)
        total, ended, steps = 0.0, False, 0
        while not ended and steps < LONGEST:
            action, _ = self.model.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = self.env.step(int(action))
            total, ended, steps = total + float(reward), terminated or truncated, steps + 1
        return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seed", type=int)
    seed = parser.parse_args().seed
    torch.set_num_threads(1)
    model = DQN(
        "MlpPolicy",
        PlanesFirst(),
        buffer_size=100_000,
        learning_starts=5_000,
        batch_size=32,
        train_freq=4,
        gradient_steps=1,
        target_update_interval=1_000,
        learning_rate=2.5e-4,
        exploration_fraction=0.2,
        exploration_final_eps=EPSILON,
        policy_kwargs={"features_extractor_class": Small, "net_arch": [128]},
        seed=seed,
        device="cpu",
    )
    model.learn(STEPS, callback=Evaluate(seed))


if __name__ == "__main__":
    main()
