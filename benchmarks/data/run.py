"""What data from elsewhere are worth on HalfCheetah-v5.

    python benchmarks/data/run.py source      a SAC of 100,000 steps, stopped half-trained
    python benchmarks/data/run.py collect     its policy as two data sets: 10 and 100 episodes of 1,000 steps
    python benchmarks/data/run.py prior       20,000 new steps with the small one as prior data, and without
    python benchmarks/data/run.py offline     the large one alone: rebrac, and plain SAC, 50,000 updates
    python benchmarks/data/run.py table       the rows of results/data.csv in words
    python benchmarks/data/run.py picture     results/alone.png: learning from the large one alone

Each can be stopped and called again: finished runs are left, others resumed. Seeds 0 to 2, one thread, one run at
a time; `--seed 0` makes one seed only, `--device cuda --engine cudagraph` uses a GPU. The rows of every evaluation
go to results/data.csv when its run ends.
"""

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results" / "data.csv"
ENV = "HalfCheetah-v5"
SETTINGS: dict[str, list[str]] = {
    "none": ["sac", "--preset"],
    "prior": ["sac", "--preset", "--prior", "{small}"],
    "norm alone": ["sac", "--preset", "--critic-layer-norm"],
    "rebrac": ["rebrac", "--prior", "{large}", "--precision", "bf16"],
    "sac alone": [
        "sac",
        "--prior",
        "{large}",
        "--prior-share",
        "1",
        "--no-critic-layer-norm",
        "--precision",
        "bf16",
    ],
}
GROUPS = {
    "prior": (("none", "prior", "norm alone"), 20_000, 5_000),
    "offline": (("rebrac", "sac alone"), 50_000, 10_000),
}


def softac(*words: str) -> None:
    """Run the command in a process of its own, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "softac", *words], check=True, env=environment)


def trained(folder: Path, words: list[str], steps: int, every: int, seed: int, where: list[str]) -> None:
    """A run of `steps` steps, begun or gone on with."""
    if (folder / "checkpoints").is_dir():
        softac("resume", str(folder), "-n", str(steps))
        return
    frequencies = ["--eval-freq", str(every), "--n-eval-episodes", "10", "--save-freq", str(every)]
    softac("train", words[0], ENV, *words[1:], *where, "-n", str(steps), "--seed", str(seed), *frequencies,
           "--run-dir", str(folder))  # fmt: skip


def evaluations(folder: Path) -> list[tuple[Any, ...]]:
    """Step, mean and standard deviation over its episodes of each evaluation of a run."""
    with (folder / "evaluations.csv").open(newline="") as file:
        return [(row["step"], row["eval/mean_reward"], row["eval/std_reward"]) for row in csv.DictReader(file)]


def returns(data: Path) -> tuple[int, float, float]:
    """Transitions of a data set, mean and standard deviation of its episodes' returns."""
    with h5py.File(data / "data" / "main_data.hdf5") as file:
        rewards = [np.asarray(episode["rewards"]) for episode in file.values()]
    each = [float(episode.sum()) for episode in rewards]
    return sum(map(len, rewards)), float(np.mean(each)), float(np.std(each))


def record(kind: str, seed: int, found: list[tuple[Any, ...]]) -> None:
    """Append rows of step, mean and standard deviation, once."""
    known = set()
    if RESULTS.exists():
        with RESULTS.open(newline="") as file:
            known = {(row["kind"], row["seed"]) for row in csv.DictReader(file)}
    if (kind, str(seed)) in known:
        return
    rows = [(kind, seed, *row) for row in found]
    RESULTS.parent.mkdir(exist_ok=True)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(("kind", "seed", "step", "mean", "std"))
        writer.writerows(rows)


def table() -> None:
    """Mean over the seeds of the last evaluation, each kind."""
    with RESULTS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for kind in dict.fromkeys(row["kind"] for row in rows):
        last = {row["seed"]: float(row["mean"]) for row in rows if row["kind"] == kind}
        print(f"{kind:<12} {np.mean(list(last.values())):8.0f}   {', '.join(f'{v:.0f}' for v in last.values())}")


def picture() -> None:
    """Returns over updates from the large data set alone, seed by seed, beside those of its episodes."""
    with RESULTS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    [data] = [float(row["mean"]) for row in rows if row["kind"] == "data"]
    figure = Figure((6.4, 4.0), layout="constrained")
    axis = figure.subplots()
    for kind, colour in (("rebrac", "#2f855a"), ("sac alone", "#3366cc")):
        for seed in sorted({row["seed"] for row in rows if row["kind"] == kind}):
            points = [(int(r["step"]), float(r["mean"])) for r in rows if (r["kind"], r["seed"]) == (kind, seed)]
            label = f"{kind.removesuffix(' alone')}, each seed" if seed == "0" else None
            axis.plot(
                *zip(*points, strict=True), color=colour, linewidth=1.5, marker="o", markersize=4, label=label
            )
    axis.axhline(data, color="#555555", linestyle="--", label="mean return of the data's episodes")
    axis.set_title(f"{ENV} from 100,000 transitions, no environment")
    axis.set_xlabel("updates")
    axis.set_ylabel("return of ten episodes")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small")
    figure.savefig(RESULTS.with_name("alone.png"), dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["source", "collect", *GROUPS, "table", "picture"])
    parser.add_argument("--runs", type=Path, default=Path("runs/data"), help="where the runs and data sets lie")
    parser.add_argument("--seed", type=int, choices=range(3))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engine", default="auto")
    args = parser.parse_args()
    where = ["--device", args.device, "--engine", args.engine]
    source, sets = args.runs / "source", {"small": args.runs / "small", "large": args.runs / "large"}
    if args.what == "table":
        table()
    elif args.what == "picture":
        picture()
    elif args.what == "source":
        trained(source, ["sac", "--preset"], 100_000, 20_000, 0, where)  # seed 100 learns late
    elif args.what == "collect":
        for name, episodes in (("small", 10), ("large", 100)):
            softac("collect", str(source), "--episodes", str(episodes), "-o", str(sets[name]))
        record("source", 0, evaluations(source))
        record("data", 0, [returns(sets["large"])])
    else:
        kinds, steps, every = GROUPS[args.what]
        for seed in range(3) if args.seed is None else [args.seed]:
            for kind in kinds:
                folder = args.runs / f"{kind.replace(' ', '-')}-{seed}"
                words = [word.format(**sets) for word in SETTINGS[kind]]
                trained(folder, words, steps, every, seed, where)
                record(kind, seed, evaluations(folder))


if __name__ == "__main__":
    main()
