"""Return against wall-clock time on the same cores: softac's agents, Stable-Baselines3 and SBX, one at a time.

    python benchmarks/clock/run.py [--peer sb3=PYTHON --peer sbx=PYTHON] [--only "softac sac" ...]
    python benchmarks/clock/run.py --summary          # the table and the picture from the results again

PYTHON is the interpreter of an environment of the peer's own (see `benchmarks/speed/README.md`), outside this
repository. Each run is a process of its own, alone on the machine; a finished one is not repeated, an interrupted
one is done again, so the same command goes on. Results in results/, one file a run, and clock.png.
"""

import argparse
import csv
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
ENVIRONMENTS, SEEDS, MINUTES = ("HalfCheetah-v5", "Walker2d-v5"), (0, 1), (1, 2, 5, 10)
CONTESTANTS = ("softac sac", "softac crossq bf16", "sb3 sac", "sbx sac", "sbx crossq")
Runs = dict[tuple[str, str], list[list[dict[str, str]]]]


def finished(results: Path) -> Runs:
    """The rows of each run, by contestant and environment."""
    runs: Runs = {}
    for path in sorted(results.glob("*.csv")):
        rows = list(csv.DictReader(path.open()))
        runs.setdefault((rows[0]["contestant"], rows[0]["env"]), []).append(rows)
    return runs


def summary(results: Path, picture: Path) -> None:
    """Print what each has after some minutes, and draw the curves."""
    runs = finished(results)
    print("| task | contestant | seeds | " + " | ".join(f"{m} min" for m in MINUTES) + " | steps |")
    print("|" + "---|" * (len(MINUTES) + 4))
    for (contestant, env), several in sorted(runs.items(), key=lambda run: run[0][::-1]):
        cells = []
        for minute in MINUTES:
            found = [float(row["return"]) for rows in several for row in rows if float(row["mark"]) == 60 * minute]
            cells.append(f"{fmean(found):,.0f}" if len(found) == len(several) else "")
        steps = fmean(int(rows[-1]["steps"]) for rows in several)
        print(f"| {env} | {contestant} | {len(several)} | {' | '.join(cells)} | {steps:,.0f} |")
    draw(runs, picture)


def draw(runs: Runs, picture: Path) -> None:
    """A panel for each task: the mean of the seeds at each mark, and each seed thinly."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    tasks = sorted({env for _, env in runs})
    figure, panels = plt.subplots(1, len(tasks), figsize=(5 * len(tasks), 3.6), squeeze=False)
    for panel, env in zip(panels[0], tasks, strict=True):
        for colour, contestant in enumerate(sorted({name for name, _ in runs})):
            several = runs.get((contestant, env), [])
            curves = [{float(r["mark"]) / 60: float(r["return"]) for r in rows} for rows in several]
            shared = sorted(set.intersection(*map(set, curves))) if curves else []
            for curve in curves:
                panel.plot(list(curve), list(curve.values()), color=f"C{colour}", alpha=0.25, linewidth=0.8)
            means = [fmean(curve[x] for curve in curves) for x in shared]
            panel.plot(shared, means, color=f"C{colour}", marker=".", label=contestant)
        panel.set(title=env, xlabel="minutes of training", xticks=MINUTES)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("return")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.subplots_adjust(bottom=0.24)
    figure.savefig(picture, dpi=150, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", action="append", default=[], metavar="sb3=PYTHON")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--marks", nargs="*", default=[])
    parser.add_argument("--only", nargs="*", default=CONTESTANTS)
    parser.add_argument("--envs", nargs="*", default=ENVIRONMENTS)
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--engine", default="compiled")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--summary", action="store_true")
    args = parser.parse_args()
    pythons = {"softac": sys.executable} | dict(peer.split("=", 1) for peer in args.peer)
    args.results.mkdir(exist_ok=True)
    cores = str(os.cpu_count())
    environ = os.environ | {"OMP_NUM_THREADS": cores, "MKL_NUM_THREADS": cores, "NPROC": cores}
    for seed, env, contestant in () if args.summary else product(args.seeds, args.envs, args.only):
        file = args.results / f"{contestant.replace(' ', '-')}-{env}-{seed}.csv"
        python = pythons.get(contestant.split()[0])
        if file.exists() or python is None:
            print(
                f"{contestant} on {env}, seed {seed}: {'done before' if python else 'no interpreter given'}",
                flush=True,
            )
            continue
        words = [python, HERE / "train.py", contestant, env, seed, file, "--seconds", args.seconds]
        words += ["--engine", args.engine, *(["--marks", *args.marks] if args.marks else [])]
        with TemporaryDirectory() as empty:  # nobody has compiled anything before
            cold = environ | {"TORCHINDUCTOR_CACHE_DIR": empty}
            code = subprocess.run([str(word) for word in words], env=cold, check=False).returncode
        print(f"{contestant} on {env}, seed {seed}: exit code {code}", flush=True)
    folder = HERE if args.results == HERE / "results" else args.results
    summary(args.results, folder / "clock.png")


if __name__ == "__main__":
    main()
