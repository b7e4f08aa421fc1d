"""Which goals do the policies of sac, sac_mixture and gamid_pg reach on the four-goal task?

    python benchmarks/multigoal/run.py [--runs FOLDER]

Each algorithm is trained on softac/MultiGoal-v0 with its preset and seeds 0 to 2 (a run that was
interrupted is resumed, a finished one not repeated). Then 400 episodes of the stochastic policy start
exactly at the centre, where the four ways are equally good, and 400 where the environment starts them.
Of gamid_pg also each component's mean alone is followed from the centre. Counts go to
results/goals.csv, the picture to results/goals.png.
"""

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle

import softac
from softac.envs.multigoal import GOALS
from softac.types import Moment

RESULTS = Path(__file__).parent / "results"
ENV, STEPS, SEEDS, EPISODES, DRAWN = "softac/MultiGoal-v0", 15_000, (0, 1, 2), 400, 60
ALGORITHMS = ("sac", "sac_mixture", "gamid_pg")
COLOURS = ("#3366cc", "#dd6b20", "#2f855a", "#9f3fbf")


def train(algorithm: str, seed: int, folder: Path) -> None:
    """Train with the command and one thread, unless that has been done."""
    words = ["train", algorithm, ENV, "-n", str(STEPS), "--preset", "--seed", str(seed), "--run-dir", str(folder)]
    if (folder / "config.json").exists():
        words = ["resume", str(folder)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "softac", *words], env=one_thread, capture_output=True, text=True)
    if done.returncode != 0 and "expected a larger total" not in done.stderr:
        raise SystemExit(done.stderr)


def follow(model: softac.Model, episodes: int, centre: bool, component: int | None = None) -> list[tuple]:
    """(goal or None, undiscounted return, path) of each episode; a component means its mean alone."""
    env, agent = gym.make(ENV), model.agent
    draw, outcomes = torch.Generator().manual_seed(0), []
    for episode in range(episodes):
        obs, info = env.reset(seed=10_000 + episode, options={"position": (0.0, 0.0)} if centre else None)
        path, total, ended = [obs], 0.0, False
        while not ended:
            s = torch.from_numpy(obs)[None]
            if component is None:
                action = agent.act(s, agent.act_noise(1, draw, Moment(STEPS)))[0]
            else:
                with torch.no_grad():
                    action = agent.actor(s)[component, 0]
            obs, reward, terminated, truncated, info = env.step(action.numpy())
            path.append(obs)
            total, ended = total + float(reward), terminated or truncated
        outcomes.append((info["goal"], total, path))
    return outcomes


def row(algorithm: str, seed: int, start: str, outcomes: list[tuple]) -> dict[str, object]:
    counts = [sum(goal == g for goal, _, _ in outcomes) for g in range(len(GOALS))]
    return {
        "algorithm": algorithm,
        "seed": seed,
        "start": start,
        "episodes": len(outcomes),
        **{f"goal_{g}": n for g, n in enumerate(counts)},
        "none": len(outcomes) - sum(counts),
        "least_share": min(counts) / len(outcomes),
        "mean_return": f"{np.mean([total for _, total, _ in outcomes]):.3f}",
    }


def draw(paths: dict[str, list[tuple]]) -> Figure:
    """One panel for each algorithm: where episodes from the centre lead."""
    figure = Figure(figsize=(3.3 * len(paths), 3.6), layout="constrained")
    for axis, (name, outcomes) in zip(
        figure.subplots(1, len(paths), squeeze=False)[0], paths.items(), strict=True
    ):
        for goal, _, path in outcomes[:DRAWN]:
            xy = np.array(path)
            axis.plot(xy[:, 0], xy[:, 1], lw=0.8, alpha=0.6, color="#999999" if goal is None else COLOURS[goal])
        for g, (x, y) in enumerate(GOALS):
            axis.add_patch(Circle((x, y), 1.0, fill=False))
            share = np.mean([goal == g for goal, _, _ in outcomes])
            axis.annotate(f"{share:.0%}", (x, y), ha="center", va="center", fontsize=9)
        axis.set(title=name, xlim=(-7, 7), ylim=(-7, 7), aspect="equal", xticks=[], yticks=[])
    return figure


def main() -> None:
    """Train what is missing, then count and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/multigoal"))
    runs = parser.parse_args().runs
    torch.set_num_threads(1)
    rows, paths = [], {}
    for algorithm in ALGORITHMS:
        for seed in SEEDS:
            folder = runs / f"{algorithm}-{seed}"
            train(algorithm, seed, folder)
            model = softac.Model.load(folder)
            centre = follow(model, EPISODES, centre=True)
            rows += [
                row(algorithm, seed, "centre", centre),
                row(algorithm, seed, "reset", follow(model, EPISODES, centre=False)),
            ]
            shown = centre
            if algorithm == "gamid_pg":
                shown = []
                for k in range(model.agent.config.n_components):
                    shown += follow(model, 1, centre=True, component=k)
                rows.append(row(algorithm, seed, "centre, each component's mean", shown))
            if seed == SEEDS[0]:
                paths[f"{algorithm}, component means" if algorithm == "gamid_pg" else algorithm] = shown
            print(rows[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "goals.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(paths).savefig(RESULTS / "goals.png", dpi=150)


if __name__ == "__main__":
    main()
