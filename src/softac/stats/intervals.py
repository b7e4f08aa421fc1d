"""Intervals of aggregates and bands of learning curves. "Agarwal et al." is arXiv:2108.13264."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from softac.errors import ConfigError
from softac.stats.scores import (
    Array,
    Scores,
    as_curves,
    check_share,
    each,
    mean_over,
    named,
    numbers,
    same_length,
    several,
)

Statistic: TypeAlias = Callable[..., Array]

# Method, runs -> how often an interval of nominally 95 % has contained the true value, for scores drawn from three
# distributions. From benchmarks/stats/results/coverage.csv.
COVERAGE: dict[tuple[str, int], dict[str, float]] = {
    ("t", 3): {"normal": 0.9484, "lognormal": 0.8430, "bimodal": 0.7456},
    ("t", 5): {"normal": 0.9516, "lognormal": 0.8223, "bimodal": 0.6938},
    ("t", 10): {"normal": 0.9518, "lognormal": 0.8350, "bimodal": 0.8828},
    ("t", 20): {"normal": 0.9486, "lognormal": 0.8657, "bimodal": 0.9235},
    ("bootstrap", 3): {"normal": 0.7523, "lognormal": 0.6410, "bimodal": 0.5030},
    ("bootstrap", 5): {"normal": 0.8385, "lognormal": 0.7255, "bimodal": 0.6542},
    ("bootstrap", 10): {"normal": 0.9027, "lognormal": 0.8024, "bimodal": 0.8702},
    ("bootstrap", 20): {"normal": 0.9259, "lognormal": 0.8574, "bimodal": 0.9183},
    ("bootstrap_iqm", 3): {"normal": 0.7523, "lognormal": 0.7507, "bimodal": 0.7543},
    ("bootstrap_iqm", 5): {"normal": 0.9011, "lognormal": 0.8969, "bimodal": 0.8955},
    ("bootstrap_iqm", 10): {"normal": 0.9338, "lognormal": 0.9336, "bimodal": 0.9311},
    ("bootstrap_iqm", 20): {"normal": 0.9400, "lognormal": 0.9402, "bimodal": 0.9443},
}


@dataclass(frozen=True, eq=False)
class Interval:
    """A statistic and its confidence interval.

    Attributes:
        value: the statistic of the scores themselves; `[]`, or `[steps]` for a curve.
        low: lower end, of the same shape.
        high: upper end, of the same shape.
    """

    value: Array
    low: Array
    high: Array


def t_interval(scores: ArrayLike, confidence_level: float = 0.95) -> Interval:
    """The mean over the runs of one task, and mean -+ t_(n-1) s / sqrt(n) with the sample deviation s.

    Exact for normally distributed scores. `COVERAGE` has what it is worth for others.

    Args:
        scores: `[..., runs]`
        confidence_level: share of experiments whose interval shall contain the true mean.

    Returns:
        Value and ends `[...]`.

    Raises:
        ConfigError: fewer than 2 runs, scores that are not finite, or a level outside (0, 1).
    """
    check_share("confidence_level", confidence_level)
    x = numbers(scores)
    n = several(x, "scores").shape[-1]
    half = stats.t.ppf((1 + confidence_level) / 2, n - 1) * x.std(-1, ddof=1) / math.sqrt(n)
    middle = mean_over(x)
    return Interval(middle, middle - half, middle + half)


def bootstrap_interval(
    statistic: Statistic,
    *scores: Scores,
    rng: np.random.Generator,
    n_resamples: int = 2_000,
    confidence_level: float = 0.95,
) -> Interval:
    """A statistic of scores and its interval by the stratified bootstrap (Agarwal et al., section 4).

    Within each task as many runs are drawn with replacement as it has; the ends are percentiles of the statistic
    over the resamples. Too narrow for few runs: see `COVERAGE`.

    Args:
        statistic: of one or more sets of scores: `mean`, `iqm`, `probability_of_improvement` or another that
            reduces the last axis and keeps the first; its own options by `functools.partial`.
        *scores: its arguments, each `[..., runs]` or task -> `[..., runs]`, resampled independently of each other.
        rng: draws the resamples.
        n_resamples: how many.
        confidence_level: share of experiments whose interval shall contain the true value.

    Returns:
        Value and ends with the shape of `statistic(*scores)`.

    Raises:
        ConfigError: a task with fewer than 2 runs, scores that are not finite, or an option out of range.
    """
    check_share("confidence_level", confidence_level)
    if n_resamples < 1:
        raise ConfigError(
            f"n_resamples is {n_resamples}",
            "expected 1 or more",
            "2000 is usual",
        )
    drawn = statistic(*(each(partial(_resample, rng, n_resamples), one) for one in scores))
    low, high = np.quantile(drawn, [(1 - confidence_level) / 2, (1 + confidence_level) / 2], axis=0)
    return Interval(statistic(*scores), low, high)


def t_band(curves: ArrayLike, confidence_level: float = 0.95) -> Interval:
    """The mean learning curve of one task, with the t-interval at each step.

    Each interval is for its own step; the whole curve is inside the band less often.

    Args:
        curves: `[runs, steps]`
        confidence_level: as in `t_interval`.

    Returns:
        Value and ends `[steps]`.

    Raises:
        ConfigError: fewer than 2 runs, curves of unequal lengths, or a number that is not finite.
    """
    return t_interval(as_curves(numbers(curves), "curves").T, confidence_level)


def bootstrap_band(
    statistic: Statistic,
    curves: Scores,
    *,
    rng: np.random.Generator,
    n_resamples: int = 2_000,
    confidence_level: float = 0.95,
) -> Interval:
    """A statistic at each step of learning curves, with its stratified bootstrap interval.

    Whole runs are drawn, the same for all steps, so that the band does not tremble from step to step. Each
    interval is for its own step; the whole curve is inside the band less often.

    Args:
        statistic: as in `bootstrap_interval`, of one set of scores.
        curves: `[runs, steps]`, or task -> `[runs, steps]` with as many steps for each task.
        rng: draws the resamples.
        n_resamples: how many.
        confidence_level: as in `bootstrap_interval`.

    Returns:
        Value and ends `[steps]`.

    Raises:
        ConfigError: a task with fewer than 2 runs, curves of unequal lengths, or a number that is not finite.
    """
    whole = each(as_curves, curves)
    steps = same_length([*whole.values()] if isinstance(whole, dict) else [whole])
    seed = int(rng.integers(2**63))
    intervals = [
        bootstrap_interval(
            statistic,
            each(partial(_column, i), whole),
            rng=np.random.default_rng(seed),
            n_resamples=n_resamples,
            confidence_level=confidence_level,
        )
        for i in range(steps)
    ]
    return Interval(*(np.stack([getattr(one, end) for one in intervals]) for end in ("value", "low", "high")))


def at_steps(curves: ArrayLike, steps: ArrayLike, at: ArrayLike) -> Array:
    """The values of learning curves at given steps, by linear interpolation between two evaluations.

    Args:
        curves: `[runs, points]`
        steps: `[points]`, ascending: when they were evaluated.
        at: `[steps]`, within the range of `steps`.

    Returns:
        `[runs, steps]`

    Raises:
        ConfigError: curves and steps of unequal lengths, steps that do not ascend, or one asked for outside them.
    """
    y, x, asked = as_curves(numbers(curves), "curves"), numbers(steps, "steps"), numbers(at, "at")
    if x.shape != y.shape[1:]:
        raise ConfigError(
            f"curves have {y.shape[1]} points and steps has shape {list(x.shape)}",
            "expected one step for each point",
            "give the steps at which these curves were evaluated",
        )
    if not (np.diff(x) > 0).all():
        raise ConfigError(
            "the steps of the curves do not ascend",
            "expected each above the one before",
            "sort them",
        )
    if asked.min() < x[0] or asked.max() > x[-1]:
        raise ConfigError(
            f"values at steps {asked.min():,.0f} to {asked.max():,.0f} were asked for",
            f"expected steps from {x[0]:,.0f} to {x[-1]:,.0f}, where there are evaluations",
            "leave the others out",
        )
    return np.stack([np.interp(asked, x, curve) for curve in y])


def sample_efficiency(
    statistic: Statistic,
    curves: Mapping[str, ArrayLike],
    steps: ArrayLike,
    at: ArrayLike,
    *,
    rng: np.random.Generator,
    n_resamples: int = 2_000,
    confidence_level: float = 0.95,
) -> Interval:
    """An aggregate over tasks after given numbers of steps, with its interval (Agarwal et al., section 4).

    Args:
        statistic: as in `bootstrap_interval`, of one set of scores; usually `iqm`.
        curves: task -> `[runs, points]`, normalised.
        steps: `[points]`, when all of them were evaluated.
        at: `[steps]`, as in `at_steps`.
        rng: draws the resamples.
        n_resamples: how many.
        confidence_level: as in `bootstrap_interval`.

    Returns:
        Value and ends `[steps]`.

    Raises:
        ConfigError: as `at_steps` and `bootstrap_band`.
    """
    asked = {task: at_steps(numbers(curve, named(task)), steps, at) for task, curve in curves.items()}
    return bootstrap_band(statistic, asked, rng=rng, n_resamples=n_resamples, confidence_level=confidence_level)


def _resample(rng: np.random.Generator, n_resamples: int, x: Array, what: str) -> Array:
    """`[..., runs]` -> `[n_resamples, ..., runs]`, drawn with replacement."""
    n = several(x, what).shape[-1]
    return np.moveaxis(x[..., rng.integers(0, n, (n_resamples, n))], -2, 0)


def _column(i: int, x: Array, _what: str) -> Array:
    return x[:, i]
