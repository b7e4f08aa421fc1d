"""Time and memory of the tabular solvers against the number of states, and of one sweep against simpler code.

    python benchmarks/tabular/scaling.py            # measures, writes scaling.csv and scaling.png beside itself
    python benchmarks/tabular/scaling.py --plot     # draws scaling.png from scaling.csv again

Every solve runs in a process of its own, so that its peak memory is its own. Times are processor time on one
core, because the machine may be shared; sweeps are timed in turns, one of each kind per round, and the median
round counts.
"""

import os  # the number of threads must be set before numpy is imported

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import csv
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy

from softac.tabular import (
    FiniteMDP,
    gridworld,
    soft_optimality_backup,
    soft_policy_iteration,
    soft_value_iteration,
)

HERE = Path(__file__).parent
SIDES = (32, 50, 100, 200, 300, 400, 500)
GAMMA, ALPHA, TOL = 0.99, 0.01, 1e-6
ROUNDS = 9
DENSE_UP_TO = 2_500  # states; the dense table of 2,500 states and 4 actions takes 200 MB


def world(side: int) -> FiniteMDP:
    """An empty side x side gridworld with slippery moves: 3 next states for each of its 4 side^2 pairs."""
    rows = ["S" + "." * (side - 1)] + ["." * side] * (side - 2) + ["." * (side - 1) + "G"]
    return gridworld(rows, GAMMA, slip=0.1, step_reward=-0.01)


def solve(side: int, solver: str) -> None:
    """Solve one world in this process; print seconds, iterations, peak megabytes, relative error."""
    mdp = world(side)
    before = time.process_time()
    solution = (soft_value_iteration if solver == "value iteration" else soft_policy_iteration)(mdp, ALPHA, TOL)
    seconds = time.process_time() - before
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024  # unlike ru_maxrss not inherited from the parent
    exact = soft_policy_iteration(mdp, ALPHA, 1e-10).Q
    error = np.abs(solution.Q - exact).max() / np.abs(exact).max()
    print(seconds, solution.iterations, peak, error)


def python_sweep(mdp: FiniteMDP) -> Callable[[], object]:
    """The same backup in plain Python: lists and the math of one state at a time."""
    from math import exp, log

    S, A = mdp.r.shape
    r, terminal = mdp.r.tolist(), mdp.terminal.tolist()
    following = [
        [list(zip(*(x.tolist() for x in mdp.successors(s, a)), strict=True)) for a in range(A)] for s in range(S)
    ]
    Q = [[0.1 * (s % 7 + a) for a in range(A)] for s in range(S)]

    def sweep() -> list[list[float]]:
        V = [0.0] * S
        for s in range(S):
            if not terminal[s]:
                top = max(Q[s])
                V[s] = top + ALPHA * log(sum(exp((q - top) / ALPHA) for q in Q[s]))
        return [[r[s][a] + GAMMA * sum(p * V[t] for t, p in following[s][a]) for a in range(A)] for s in range(S)]

    return sweep


def sweeps(side: int) -> dict[str, float]:
    """Median seconds of one sweep of each kind."""
    mdp = world(side)
    S, A = mdp.r.shape
    Q = 0.1 * (np.arange(S)[:, None] % 7 + np.arange(A))
    kinds: dict[str, Callable[[], object]] = {"sparse": lambda: soft_optimality_backup(mdp, Q, ALPHA)}
    kinds["python"] = python_sweep(mdp)
    if S <= DENSE_UP_TO:
        P = mdp.P.toarray().reshape(S, A, S)
        dense = FiniteMDP(P, mdp.r, GAMMA, mdp.terminal)

        def einsum() -> object:
            top = Q.max(-1)
            V = np.where(mdp.terminal, 0.0, top + ALPHA * np.log(np.exp((Q - top[:, None]) / ALPHA).sum(-1)))
            return mdp.r + GAMMA * np.einsum("sat,t->sa", P, V)

        kinds["einsum"] = einsum
        kinds["dense"] = lambda: soft_optimality_backup(dense, Q, ALPHA)
    for sweep in kinds.values():
        np.testing.assert_allclose(np.array(sweep()), soft_optimality_backup(mdp, Q, ALPHA), rtol=1e-12)
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, sweep in kinds.items():
            repeats = 1 if kind == "python" else max(1, 50_000 // S)
            before = time.process_time()
            for _ in range(repeats):
                sweep()
            times[kind].append((time.process_time() - before) / repeats)
    return {kind: statistics.median(values) for kind, values in times.items()}


def measure() -> None:
    rows: list[tuple[int, str, str, float]] = []
    for side in SIDES:
        S = side * side
        for solver in ("value iteration", "policy iteration"):
            command = [sys.executable, __file__, "--solve", str(side), solver]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            for quantity, value in zip(
                ("seconds", "iterations", "peak MB", "relative error"), output, strict=True
            ):
                rows.append((S, solver, quantity, float(value)))
        rows += [(S, f"{kind} sweep", "seconds", seconds) for kind, seconds in sweeps(side).items()]
        print(*rows[-12:], sep="\n", flush=True)
    with (HERE / "scaling.csv").open("w", newline="") as file:
        file.write(
            f"# {platform.python_implementation()} {platform.python_version()}, numpy {np.__version__}, "
            f"scipy {scipy.__version__}, {platform.machine()}, {os.cpu_count()} cores shared with other programs; "
            f"processor time on one core, "
            f"gamma {GAMMA}, alpha {ALPHA}, tol {TOL}, median of {ROUNDS} rounds\n"
        )
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("states", "what", "quantity", "value"))
        writer.writerows((S, what, quantity, f"{value:.6g}") for S, what, quantity, value in rows)


def plot() -> None:
    from matplotlib.figure import Figure

    with (HERE / "scaling.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))

    def series(what: str, quantity: str) -> tuple[list[int], list[float]]:
        chosen = [row for row in rows if row["what"] == what and row["quantity"] == quantity]
        return [int(row["states"]) for row in chosen], [float(row["value"]) for row in chosen]

    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for kind, name in (
        ("python", "plain Python loop"),
        ("einsum", "dense numpy einsum"),
        ("dense", "softac, dense P"),
        ("sparse", "softac, sparse P"),
    ):
        left.loglog(*series(f"{kind} sweep", "seconds"), "o-", label=name)
    states, seconds = series("sparse sweep", "seconds")
    left.loglog(states, [seconds[-1] * s / states[-1] for s in states], "k:", label="proportional to states")
    left.set(xlabel="states", ylabel="seconds (processor, one core)", title="one sweep")
    for solver in ("value iteration", "policy iteration"):
        middle.loglog(*series(solver, "seconds"), "o-", label=solver)
        right.plot(*series(solver, "peak MB"), "o-", label=solver)
    middle.set(xlabel="states", ylabel="seconds (processor, one core)", title=f"solved to {TOL:g} relative")
    right.set(xlabel="states", ylabel="MB", ylim=(0, None), title="peak memory of the process")
    for ax in (left, middle, right):
        ax.grid(alpha=0.3)
        ax.legend()
    figure.savefig(HERE / "scaling.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--solve", nargs=2, metavar=("SIDE", "SOLVER"), help=argparse.SUPPRESS)
    parser.add_argument("--plot", action="store_true", help="only draw the picture again")
    args = parser.parse_args()
    if args.solve:
        solve(int(args.solve[0]), args.solve[1])
    else:
        if not args.plot:
            measure()
        plot()
