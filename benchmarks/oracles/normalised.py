"""CrossQ and XQC against exact values, at the temperature that they have in the environment's unit.

    python benchmarks/oracles/normalised.py     # a quarter of an hour of one core; goes on where it was stopped

Both learn from scaled rewards, so their temperature alpha weighs an entropy against `scale` times a reward: in the
environment's unit it is alpha / scale. The scale follows the replay, so the answer to compare with is looked
for after the run, at the mean of alpha / scale over its end. Where the temperature is learned, it is known before.

The problems are those of `problems.py`; in the one of one step, observations differ, though they say nothing:
where all are alike batch norm leaves nothing of what the layers compute, and acts by statistics that lag behind
the weights. Results: results/normalised.csv.
"""

import os  # the number of threads must be set before torch is imported

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import csv
from pathlib import Path
from typing import Any

import numpy as np
import problems as p
import torch

from softac import Model
from softac.agents.registry import find_agent

RESULTS = Path(__file__).parent / "results" / "normalised.csv"
UPDATES, SEEDS = 5_000, 3
BOTH = {"net_arch": (64, 64), "batch_size": 128, "learning_rate": 3e-4, "learning_starts": 1_000}
# With a discount of 0.5 and this value scale, rewards are scaled to a root mean square of 1.
ONE_STEP = BOTH | {"gamma": 0.5, "value_scale": 2.0}
FIXED, LEARNED = ONE_STEP | {"ent_coef": 0.3}, {"ent_coef": "auto_0.5", "ent_coef_learning_rate": 5e-3}
TWO_STEPS = BOTH | {"gamma": p.GAMMA, "ent_coef": 0.08}
SEEN = (-0.8, -0.4, 0.0, 0.4, 0.8)  # observations, which say nothing
PLACES = np.tanh([0.0, 0.3, 0.6])  # where the first action may lead
SETTINGS: dict[tuple[str, str, str], dict[str, Any]] = {
    ("one step", "crossq", "fixed temperature"): FIXED,
    ("one step", "crossq", "learned temperature"): ONE_STEP | LEARNED | {"target_entropy": -0.8},
    ("one step", "xqc", "fixed temperature"): FIXED,
    ("two steps", "crossq", "two critics"): TWO_STEPS,
    ("two steps", "crossq", "one critic"): TWO_STEPS | {"n_critics": 1},
    ("two steps", "crossq", "target network"): TWO_STEPS | {"target_network": True, "tau": 0.02},
}


def one_step(model: Model, target_entropy: float | None) -> dict[str, Any]:
    """Beside the best Gaussian at the temperature that the run has had, or at the one that has this entropy."""

    def look(agent: Any) -> Any:
        theta = np.mean([p.policy_of(agent, x) for x in SEEN], axis=0)
        return theta, np.mean([p.q_of(agent, x) for x in SEEN], axis=0), *p.scales(agent)

    found, q, scale, alpha = means(model, look)
    rewards = p.two_bumps(p.ACTIONS)
    if target_entropy is None:
        exact, theta = alpha, p.local_bests(rewards, alpha, 1, 4)[0][1]
    else:
        exact, theta = p.best_at_entropy(target_entropy)
    value = p.soft_value(theta, rewards, exact)
    error = p.soft_value(theta, q / scale, exact) - value
    row = compared(scale, alpha, exact, value, error, found, theta)
    return row | {"policy_distance": p.distance(found, theta)}


def two_steps(model: Model) -> dict[str, Any]:
    """Beside the best Gaussians at the temperature that the run has had."""

    def look(agent: Any) -> Any:
        second = [p.policy_of(agent, 1.0, x) for x in PLACES]
        return p.policy_of(agent, 0.0, 0.0), p.q_of(agent, 0.0, 0.0), *p.scales(agent), second

    first, q, scale, alpha, second = means(model, look)
    answer = p.two_step_answer(float(alpha))
    error = p.soft_value(answer.first, q / scale, alpha) - answer.value
    distances = [p.distance(found, answer.second(x)) for found, x in zip(second, PLACES, strict=True)]
    row = compared(scale, alpha, alpha, answer.value, error, first, answer.first)
    return row | {"policy_distance": max(p.distance(first, answer.first), *distances)}


def means(model: Model, look: Any) -> list[Any]:
    """What `look` sees, over the last of the updates: Adam never comes to rest on sampled batches."""
    seen = p.watch(model.learn(1_000 + UPDATES), 100, 10, look)
    return [np.mean([one[i] for one in seen], axis=0) for i in range(len(seen[0]))]


def compared(
    scale: float, alpha: float, exact: float, value: float, error: float, found: Any, theta: Any
) -> dict[str, Any]:
    """The columns that both problems have."""
    row = {"scale": scale, "alpha": alpha, "exact_alpha": exact, "exact_value": value, "value_error": error}
    return row | {"mean_error": found[1] - theta[1], "log_std_error": found[2] - theta[2]}


def main() -> None:
    torch.set_num_threads(1)
    rows = list(csv.DictReader(RESULTS.open())) if RESULTS.exists() else []
    done = {(row["problem"], row["algorithm"], row["setting"], row["seed"]) for row in rows}
    for (problem, algorithm, setting), settings in SETTINGS.items():
        for seed in range(SEEDS):
            if (problem, algorithm, setting, str(seed)) in done:
                continue
            one = problem == "one step"
            model = Model(find_agent(algorithm), p.OneStepSeen if one else p.TwoSteps, seed=seed, **settings)
            row = {"problem": problem, "algorithm": algorithm, "setting": setting, "seed": seed}
            found = one_step(model, settings.get("target_entropy")) if one else two_steps(model)
            rows.append(row | {name: f"{float(number):.6g}" for name, number in found.items()})
            print(*rows[-1].values(), flush=True)
            with RESULTS.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
