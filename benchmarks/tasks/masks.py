"""Twenty buttons of which two may be pressed at a time: action masks beside a penalty for what is forbidden.

    python benchmarks/tasks/masks.py                     every algorithm, seed and variant that has no result yet
    python benchmarks/tasks/masks.py dqn --seeds 0       these

A light stands at one of the twenty places; a button is worth 1 less its distance from the light, so that the
better one of the two allowed buttons is to be found. With a mask, a forbidden button raises an error. With a
penalty, what is allowed is seen as twenty numbers, and a forbidden button costs 1 and changes nothing else. An
episode has 50 steps. Every 250 steps the greedy policy plays 20 episodes. Rows go to results/masks.csv:

    algorithm, variant, seed, step, mean return, forbidden buttons pressed in training so far, seconds

`--steps 100000` is the run in which no forbidden button may be pressed.
"""

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

import softac

RESULTS = Path(__file__).parent / "results" / "masks.csv"
N, ALLOWED, LENGTH = 20, 2, 50
EVERY, EPISODES = 250, 20
ALGORITHMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dqn": (softac.DQN, {"gamma": 0.9, "learning_rate": 1e-3, "target_update_interval": 250}),
    "ppo": (softac.PPO, {"gamma": 0.9, "n_steps": 512, "learning_rate": 1e-3}),
    "sac_discrete": (softac.SACDiscrete, {"gamma": 0.9, "net_arch": [64, 64], "batch_size": 64}),
}


class Buttons(gym.Env[Any, Any]):
    """See above.

    Args:
        masked: whether forbidden buttons are masked, and raise; else they are fined.

    Attributes:
        forbidden: how many were pressed in all instances of one run.
    """

    forbidden = 0

    def __init__(self, *, masked: bool) -> None:
        self.masked = masked
        seen = N if masked else 2 * N
        self.observation_space = spaces.Box(0.0, 1.0, (seen,), np.float32)
        self.action_space = spaces.Discrete(N)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """The first light."""
        super().reset(seed=seed)
        self.t = 0
        self._light()
        return self._answer()

    def step(self, action: Any) -> Any:
        """Press a button."""
        self.t += 1
        if self.mask[action]:
            reward = 1.0 - abs(int(action) - self.light) / (N - 1)
            self._light()
        else:
            type(self).forbidden += 1
            if self.masked:
                raise ValueError(f"button {action} is forbidden")
            reward = -1.0
        obs, info = self._answer()
        return obs, reward, False, self.t >= LENGTH, info

    def _light(self) -> None:
        self.light = int(self.np_random.integers(N))
        self.mask = np.zeros(N, np.int8)
        self.mask[self.np_random.choice(N, ALLOWED, replace=False)] = 1

    def _answer(self) -> tuple[Any, dict[str, Any]]:
        light = np.zeros(N, np.float32)
        light[self.light] = 1.0
        if self.masked:
            return light, {"action_mask": self.mask.copy()}
        return np.concatenate([light, self.mask]).astype(np.float32), {}


def returns_of(choose: Any, episodes: int) -> float:
    """Mean return of a policy that sees light and mask."""
    env, total = Buttons(masked=True), 0.0
    for seed in range(episodes):
        env.reset(seed=seed)
        ended = False
        while not ended:
            _, reward, _, ended, _ = env.step(choose(env))
            total += reward
    return total / episodes


def bounds() -> tuple[float, float]:
    """The mean returns of the first allowed button and of the better one, over 1,000 episodes."""
    first = returns_of(lambda env: int(np.flatnonzero(env.mask)[0]), 1_000)
    best = returns_of(lambda env: min(np.flatnonzero(env.mask), key=lambda a: abs(a - env.light)), 1_000)
    return first, best


def run(name: str, variant: str, seed: int, steps: int) -> None:
    """One training; rows are appended."""
    algorithm, config = ALGORITHMS[name]

    def make() -> Buttons:
        return Buttons(masked=variant == "mask")

    Buttons.forbidden, began = 0, time.monotonic()
    model = algorithm(make, seed=seed, engine="eager", **config)
    while model.num_timesteps < steps:
        model.learn(EVERY)
        pressed = Buttons.forbidden
        mean, _ = softac.evaluate_policy(model, make, EPISODES)
        Buttons.forbidden = pressed
        seconds = time.monotonic() - began
        write([name, variant, seed, model.num_timesteps, f"{mean:.3f}", pressed, f"{seconds:.0f}"])


def reached(name: str, variant: str, seed: int, level: float) -> int | None:
    """The first step at which the mean return was at `level`; None if it never was."""
    with RESULTS.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row[:3] == [name, variant, str(seed)]]
    return next((int(row[3]) for row in rows if float(row[4]) >= level), None)


def write(row: list[Any]) -> None:
    """Append to the results."""
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(["algorithm", "variant", "seed", "step", "mean", "forbidden", "seconds"])
        writer.writerow(row)
    print(*row, flush=True)


def done(name: str, variant: str, seed: int, steps: int) -> bool:
    """Whether the results have this run."""
    if not RESULTS.exists():
        return False
    with RESULTS.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row[:3] == [name, variant, str(seed)]]
    return any(int(row[3]) >= steps for row in rows)


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("algorithms", nargs="*", default=list(ALGORITHMS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="*", default=["mask", "penalty"])
    parser.add_argument("--steps", type=int, default=20_000)
    args = parser.parse_args()
    first, best = bounds()
    level = first + 0.9 * (best - first)
    print(f"first allowed {first:.2f}, better allowed {best:.2f}; learned from {level:.2f} on", flush=True)
    for name in args.algorithms:
        for seed in args.seeds:
            for variant in args.variants:
                if not done(name, variant, seed, args.steps):
                    run(name, variant, seed, args.steps)
                print(name, variant, seed, "learned at step", reached(name, variant, seed, level), flush=True)


if __name__ == "__main__":
    main()
