"""One tuning run of crossq or xqc: a row of CSV every so many steps, complete up to wherever it is stopped.

    python benchmarks/modern/tune.py VARIANT ENV SEED FILE.csv [--steps 100000] [--seconds 500] [--precision bf16]

VARIANT is one of `VARIANTS`. Deterministic evaluation over 5 episodes on fixed start states; `train_return` is the
mean of the sampled episodes since the row before. Seeds from 100 are for tuning; what is reported uses 0 to 2.
"""

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import torch

from softac import Model, evaluate_policy
from softac.agents.registry import find_agent

EVERY, EPISODES = 5_000, 5
TARGET = {"target_network": True}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sac": ("sac", {}),
    "one": ("crossq", {"target_network": False}),
    "one-3e-4": ("crossq", {"target_network": False, "learning_rate": 3e-4}),
    "one-beta-0.9": ("crossq", {"target_network": False, "adam_beta_1": 0.9}),
    "target": ("crossq", TARGET),
    "target-3e-4": ("crossq", TARGET | {"learning_rate": 3e-4}),
    "target-actor-3e-4": ("crossq", TARGET | {"actor_learning_rate": 3e-4}),
    "target-entropy": ("crossq", TARGET | {"target_entropy": "full"}),
    "target-delay-1": ("crossq", TARGET | {"policy_delay": 1}),
    "target-gamma-0.995": ("crossq", TARGET | {"gamma": 0.995}),
    # Adam's steps beside what is learned: with rows of norm 1, smaller steps or larger values.
    "one-1e-4": ("crossq", {"target_network": False, "learning_rate": 1e-4}),
    "one-scale-30": ("crossq", {"target_network": False, "value_scale": 30.0, "ent_coef": "auto_0.1"}),
    "one-3e-4-delay-1": ("crossq", {"target_network": False, "learning_rate": 3e-4, "policy_delay": 1}),
    "target-scale-30": ("crossq", TARGET | {"value_scale": 30.0, "ent_coef": "auto_0.1"}),
    "target-scale-30-3e-4": (
        "crossq",
        TARGET | {"value_scale": 30.0, "ent_coef": "auto_0.1", "learning_rate": 3e-4},
    ),
    "xqc": ("xqc", {}),
    "xqc-3e-4": ("xqc", {"learning_rate": 3e-4}),
    "xqc-3e-4-entropy": ("xqc", {"learning_rate": 3e-4, "target_entropy": "full"}),
}
METRICS = ("ent_coef", "entropy", "q_mean", "critic_loss", "reward_scale")
COLUMNS = ("variant", "env", "seed", "step", "return", "train_return", "seconds", *METRICS)


def made(variant: str, env: str, seed: int, precision: str, engine: str) -> Model:
    """The model of a variant."""
    algorithm, chosen = VARIANTS[variant]
    values = {"learning_starts": 100 if env == "Pendulum-v1" else 5_000} | chosen
    if values.get("target_entropy") == "full":  # -dim(A), as SAC has it
        import gymnasium as gym

        (n,) = gym.make(env).action_space.shape or (1,)
        values = values | {"target_entropy": -float(n)}
    return Model(find_agent(algorithm), env, seed=seed, device="cpu", precision=precision, engine=engine, **values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("env")
    parser.add_argument("seed", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--every", type=int, default=EVERY)
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument("--engine", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(1)
    begun, recent = time.monotonic(), []
    model = made(args.variant, args.env, args.seed, args.precision, args.engine)
    with args.file.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()

        def after(model: Model, metrics: dict[str, float]) -> bool:
            step = model.num_timesteps
            recent.append(metrics.get("rollout/ep_rew_mean", float("nan")))
            if step % args.every == 0:
                mean, _ = evaluate_policy(model, args.env, n_eval_episodes=EPISODES, seed=0)
                known = {name: f"{metrics.get(f'train/{name}', float('nan')):.5g}" for name in METRICS}
                first = {"variant": args.variant, "env": args.env, "seed": args.seed, "step": step}
                means = {"return": f"{mean:.1f}", "train_return": f"{recent[-1]:.1f}"}
                writer.writerow(first | means | {"seconds": f"{time.monotonic() - begun:.0f}"} | known)
                file.flush()
            return time.monotonic() - begun < args.seconds

        model.learn(args.steps, callback=after)
    print(args.variant, args.env, args.seed, "engine", model.run.engine, "steps", model.num_timesteps)


if __name__ == "__main__":
    main()
