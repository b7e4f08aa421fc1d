"""How often an interval of nominally 95 % contains the true value: results/coverage.csv, under two minutes.

    python benchmarks/stats/coverage.py

Scores of one task are drawn from a known distribution, `softac.stats` makes an interval of them, and the share of
experiments in which it contains the true value is counted.

    normal      N(0, 1)
    lognormal   exp(N(0, 1)): skewed, as of an algorithm that rarely does very well
    bimodal     N(1, 0.1^2) with probability 0.8, N(0, 0.1^2) otherwise: some seeds fail

Methods: t is `t_interval`, bootstrap is `bootstrap_interval` of the mean, bootstrap_iqm that of the interquartile
mean. The standard error of a share is sqrt(p (1 - p) / 10000): 0.002 at 0.95, 0.005 at 0.5.
"""

import os  # the number of threads must be set before numpy is imported

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from softac.stats import Interval, bootstrap_interval, iqm, mean, t_interval

EXPERIMENTS = 10_000
BLOCK = 100  # experiments that share their resamples: it bounds the memory
RUNS = (3, 5, 10, 20)
Array = NDArray[np.float64]


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return rng.standard_normal(shape)


def lognormal(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return np.exp(rng.standard_normal(shape))


def bimodal(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return (rng.random(shape) < 0.8) + 0.1 * rng.standard_normal(shape)


def true_iqm(quantile: Callable[[Array], Array]) -> float:
    """Mean of the quantiles between a quarter and three quarters, by the midpoint rule."""
    n = 100_000
    return float(quantile(0.25 + 0.5 * (np.arange(n) + 0.5) / n).mean())


def bimodal_quantile(p: Array) -> Array:
    x = np.linspace(-1.0, 2.0, 300_001)
    return np.interp(p, 0.8 * stats.norm.cdf(x, 1.0, 0.1) + 0.2 * stats.norm.cdf(x, 0.0, 0.1), x)


DISTRIBUTIONS = {  # how to draw scores, their mean, their interquartile mean
    "normal": (normal, 0.0, 0.0),
    "lognormal": (lognormal, math.exp(0.5), true_iqm(lambda p: np.exp(stats.norm.ppf(p)))),
    "bimodal": (bimodal, 0.8, true_iqm(bimodal_quantile)),
}


def coverage(method: str, distribution: str, runs: int) -> float:
    """Share of experiments whose interval contains the truth."""
    draw, true_mean, true_middle = DISTRIBUTIONS[distribution]
    truth = true_middle if method == "bootstrap_iqm" else true_mean
    rng = np.random.default_rng([list(DISTRIBUTIONS).index(distribution), runs])  # the same scores for each method
    hits = 0
    for _ in range(EXPERIMENTS // BLOCK):
        interval = intervals(method, draw(rng, (BLOCK, runs)), rng)
        hits += np.count_nonzero((interval.low <= truth) & (truth <= interval.high))
    return hits / EXPERIMENTS


def intervals(method: str, scores: Array, rng: np.random.Generator) -> Interval:
    """One interval for each row of `[experiments, runs]`."""
    if method == "t":
        return t_interval(scores)
    return bootstrap_interval(iqm if method == "bootstrap_iqm" else mean, scores, rng=rng)


def main() -> None:
    with (Path(__file__).parent / "results/coverage.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "runs", *DISTRIBUTIONS])
        for method in ("t", "bootstrap", "bootstrap_iqm"):
            for runs in RUNS:
                row = [method, runs, *(f"{coverage(method, name, runs):.4f}" for name in DISTRIBUTIONS)]
                writer.writerow(row)
                print(*row)


if __name__ == "__main__":
    main()
