"""One tuning run of crossq or xqc, which goes on where it was stopped; its rows as CSV, complete up to there.

    python benchmarks/modern/tune.py VARIANT ENV SEED FILE.csv [--steps 100000] [--run-dir runs/tune]

VARIANT is one of `VARIANTS`. Deterministic evaluation over 5 episodes on fixed start states; `train_return` is the
mean of the last sampled episodes. Seeds from 100 are for tuning; what is reported uses 0 to 2. The run lies in a
folder of its own in `--run-dir`; the same command goes on from its last checkpoint, also to more `--steps`.
"""

import argparse
import csv
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from softac import Model
from softac.agents.registry import find_agent

EVERY, SAVE_EVERY, EPISODES = 5_000, 10_000, 5
TARGET = {"target_network": True}
TWICE = TARGET | {"batch_size": 64, "gradient_steps": 2}
DECAY = {"learning_rate": "linear 1e-3 2e-4 100000"}
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
    # A smaller batch: what a target network costs, paid for.
    "one-128": ("crossq", {"target_network": False, "batch_size": 128}),
    "target-128": ("crossq", TARGET | {"batch_size": 128}),
    "target-128-n3": ("crossq", TARGET | {"batch_size": 128, "n_steps": 3}),
    "target-128-gamma-0.995": ("crossq", TARGET | {"batch_size": 128, "gamma": 0.995}),
    "target-128-3e-4": ("crossq", TARGET | {"batch_size": 128, "learning_rate": 3e-4}),
    # The same large steps at first, smaller ones once there is a policy to spoil.
    "target-128-decay": ("crossq", TARGET | DECAY | {"batch_size": 128}),
    # A smaller batch still, and two updates for each step: nearly the same work.
    "target-64-two": ("crossq", TWICE),
    "target-64-two-entropy": ("crossq", TWICE | {"target_entropy": "full"}),
    "target-64-two-scale-10": ("crossq", TWICE | {"value_scale": 10.0, "ent_coef": "auto_0.03"}),
    "target-64-two-decay": ("crossq", TWICE | DECAY),
    # Others beside it: smaller and larger steps, a target network that follows faster, targets over three steps.
    "target-64-two-3e-4-decay": ("crossq", TWICE | {"learning_rate": "linear 3e-4 3e-5 100000"}),
    "target-64-two-2e-3-decay": ("crossq", TWICE | {"learning_rate": "linear 2e-3 2e-4 100000"}),
    "target-64-two-decay-tau-0.01": ("crossq", TWICE | DECAY | {"tau": 0.01}),
    "target-64-two-decay-tau-0.02": ("crossq", TWICE | DECAY | {"tau": 0.02}),
    "target-64-two-decay-n3": ("crossq", TWICE | DECAY | {"n_steps": 3}),
    # More chance at first, against what HalfCheetah finds early and stays with.
    "target-64-two-decay-start-10": ("crossq", TWICE | DECAY | {"learning_starts": 10_000}),
    "target-64-two-decay-ent-0.1": ("crossq", TWICE | DECAY | {"ent_coef": "auto_0.1"}),
    # For Ant and Humanoid, within 200,000 steps.
    "target-decay-200": ("crossq", TARGET | {"learning_rate": "linear 1e-3 2e-4 200000"}),
    "target-64-two-3e-4": ("crossq", TWICE | {"learning_rate": 3e-4}),
    "target-64-two-3e-4-decay-200": ("crossq", TWICE | {"learning_rate": "linear 3e-4 3e-5 200000"}),
    "xqc-128": ("xqc", {"batch_size": 128}),
    # For Swimmer: a discount that sees its stroke, alone, and with what helps sac there.
    "target-128-gamma-0.9999": ("crossq", TARGET | {"batch_size": 128, "gamma": 0.9999}),
    "target-128-n10": (
        "crossq",
        TARGET
        | {"batch_size": 128, "gamma": 0.999, "n_steps": 10, "n_step_return": "plain", "net_arch": (64, 64)},
    ),
}
METRICS = ("ent_coef", "entropy", "q_mean", "critic_loss", "reward_scale")
COLUMNS = ("variant", "env", "seed", "step", "return", "train_return", *METRICS)


def model_of(variant: str, env: str, seed: int, **run: str) -> Model:
    """The model of a variant, at its beginning."""
    algorithm, chosen = VARIANTS[variant]
    values = {"learning_starts": 100 if env == "Pendulum-v1" else 5_000} | chosen
    if values.get("target_entropy") == "full":  # -dim(A), as SAC has it
        import gymnasium as gym

        (n,) = gym.make(env).action_space.shape or (1,)
        values = values | {"target_entropy": -float(n)}
    return Model(find_agent(algorithm), env, seed=seed, device="cpu", **run, **values)


def rows(folder: Path) -> list[dict[str, str]]:
    """What the run's metrics say at each evaluation."""
    at: dict[int, dict[str, float]] = defaultdict(dict)
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        at[row["step"]] |= row

    def number(row: dict[str, float], name: str, form: str) -> str:
        return format(row[name], form) if name in row else "nan"

    return [
        {
            "step": str(step),
            "return": number(row, "eval/mean_reward", ".1f"),
            "train_return": number(row, "rollout/ep_rew_mean", ".1f"),
        }
        | {name: number(row, f"train/{name}", ".5g") for name in METRICS}
        for step, row in sorted(at.items())
        if "eval/mean_reward" in row
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("env")
    parser.add_argument("seed", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/tune"))
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--every", type=int, default=EVERY)
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument("--engine", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.monotonic()
    name = {"variant": args.variant, "env": args.env, "seed": str(args.seed)}
    folder = args.run_dir / "-".join(name.values())
    if (folder / "checkpoints").is_dir():
        model = Model.load(folder)
    else:
        model = model_of(args.variant, args.env, args.seed, precision=args.precision, engine=args.engine)
    try:
        model.learn(
            args.steps - model.num_timesteps,
            run_dir=folder,
            eval_freq=args.every,
            n_eval_episodes=EPISODES,
            save_freq=SAVE_EVERY,
            callback=lambda model, metrics: time.monotonic() - begun < args.seconds,
        )
    finally:
        with args.file.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(name | row for row in rows(folder))
    print(*name.values(), "engine", model.run.engine, "steps", model.num_timesteps)


if __name__ == "__main__":
    main()
