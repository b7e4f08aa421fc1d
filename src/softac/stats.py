"""Statistics of benchmark results: aggregates over runs and tasks, intervals, comparisons, numbers of seeds.

numpy float64 throughout. The scores of one task are `[runs]`, those of several a mapping from task to `[runs]`,
normalised by the caller; tasks may have different numbers of runs. All aggregates reduce the last axis and keep
the others: scores `[..., runs]` give `[...]`, and that is how they are bootstrapped at once.

"Agarwal et al." is arXiv:2108.13264, "Colas et al." arXiv:1806.08295.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from softac.errors import ConfigError

Array = NDArray[np.float64]
Scores: TypeAlias = ArrayLike | Mapping[str, ArrayLike]
Statistic: TypeAlias = Callable[..., Array]

MOST_SIGNS = 16  # the exact sign-flip test goes through 2^16 sign vectors at most

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


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two algorithms on the seeds that both have been run with.

    Attributes:
        seeds: the common seeds, ascending; n of them.
        left_out: seeds that only one of the two has, ascending.
        differences: `[n]`, score of x less score of y, seed by seed.
        mean_difference: their mean with its interval by Student's t.
        p_value: two-sided, of the sign-flip test.
        exact: all 2^n sign vectors were counted; otherwise the p-value is a Monte Carlo estimate.
    """

    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    differences: Array
    mean_difference: Interval
    p_value: float
    exact: bool


# Aggregates


def normalise(scores: ArrayLike, low: float, high: float) -> Array:
    """(scores - low) / (high - low): 0 at one anchor and 1 at the other (Agarwal et al.).

    Args:
        scores: `[...]`, of one task.
        low: the score that becomes 0, for example that of random actions.
        high: the score that becomes 1, for example a published one.

    Raises:
        ConfigError: `high` is not above `low`, or a number is not finite.
    """
    if not -math.inf < low < high < math.inf:
        raise ConfigError(
            f"low is {low} and high is {high}",
            "expected finite anchors with low < high",
            "give the scores that stand for 0 and 1",
        )
    return (_numbers(scores) - low) / (high - low)


def mean(scores: Scores) -> Array:
    """Mean over tasks of the mean over runs (Agarwal et al.).

    Args:
        scores: `[..., runs]`, or task -> `[..., runs]`.

    Returns:
        `[...]`

    Raises:
        ConfigError: scores are missing or not finite.
    """
    return _mean(_task_means(scores))


def median(scores: Scores) -> Array:
    """Median over tasks of the mean over runs (Agarwal et al.); for one task that over its runs.

    Args:
        scores: `[..., runs]` for the median over runs, or task -> `[..., runs]` for the median over tasks.

    Returns:
        `[...]`

    Raises:
        ConfigError: scores are missing or not finite.
    """
    return np.median(_task_means(scores) if isinstance(scores, Mapping) else _tasks(scores)[0], axis=-1)


def iqm(scores: Scores) -> Array:
    """Interquartile mean: that of the middle half of all runs of all tasks (Agarwal et al., section 4).

    Of K = sum_m n_m scores in ascending order, floor(K / 4) are cut off at either end. Fewer than 4 scores
    lose none and have the mean. A task with more runs than another weighs more.

    Args:
        scores: `[..., runs]`, or task -> `[..., runs]`.

    Returns:
        `[...]`

    Raises:
        ConfigError: scores are missing or not finite.
    """
    return np.asarray(stats.trim_mean(np.concatenate(_tasks(scores), axis=-1), 0.25, axis=-1))[()]


def optimality_gap(scores: Scores, gamma: float = 1.0) -> Array:
    """What is missing to `gamma`, with no credit for more of it: gamma - mean(min(score, gamma)).

    Agarwal et al., section 4. The mean is that over tasks of the mean over runs. Lower is better.

    Args:
        scores: `[..., runs]`, or task -> `[..., runs]`.
        gamma: the score beyond which improvement does not matter.

    Returns:
        `[...]`, at least 0.

    Raises:
        ConfigError: scores are missing or not finite.
    """
    return gamma - _mean([_mean(np.minimum(x, gamma)) for x in _tasks(scores)], 0)


def performance_profile(scores: Scores, tau: ArrayLike) -> Array:
    """Share of runs that score above tau: mean over tasks of (1 / n_m) sum_i 1[x_mi > tau].

    The run-score distribution of Agarwal et al., section 4.

    Args:
        scores: `[..., runs]`, or task -> `[..., runs]`.
        tau: `[thresholds]`

    Returns:
        `[..., thresholds]`, in [0, 1].

    Raises:
        ConfigError: scores or thresholds are missing or not finite.
    """
    thresholds = _numbers(tau, "tau")
    return _mean([_mean(x[..., None, :] > thresholds[:, None]) for x in _tasks(scores)], 0)


def average_score_profile(scores: Mapping[str, ArrayLike], tau: ArrayLike) -> Array:
    """Share of tasks whose mean over runs is above tau (Agarwal et al., section 4).

    The average-score distribution. Unlike `performance_profile` it is biased where runs are few, and hides
    how they spread.

    Args:
        scores: task -> `[..., runs]`
        tau: `[thresholds]`

    Returns:
        `[..., thresholds]`, in [0, 1].

    Raises:
        ConfigError: scores or thresholds are missing or not finite.
    """
    return _mean(_task_means(scores)[..., None, :] > _numbers(tau, "tau")[:, None])


def probability_of_improvement(x: Scores, y: Scores) -> Array:
    """P(X > Y): mean over tasks of (1 / (n m)) sum_ij (1[x_i > y_j] + 1/2 1[x_i = y_j]).

    Agarwal et al., section 4; n m P is the Mann-Whitney statistic U of a task. 1/2: no difference.

    Args:
        x: `[..., runs]`, or task -> `[..., runs]`.
        y: the other algorithm's, for the same tasks; numbers of runs may differ.

    Returns:
        `[...]`, in [0, 1].

    Raises:
        ConfigError: scores are missing or not finite, or the tasks differ.
    """
    pairs = [(a[..., :, None], b[..., None, :]) for a, b in _tasks_of_both(x, y)]
    return _mean([_mean((a > b) + 0.5 * (a == b), (-2, -1)) for a, b in pairs], 0)


# Intervals


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
    _check_share("confidence_level", confidence_level)
    x = _numbers(scores)
    n = _several(x, "scores").shape[-1]
    half = stats.t.ppf((1 + confidence_level) / 2, n - 1) * x.std(-1, ddof=1) / math.sqrt(n)
    middle = _mean(x)
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
    _check_share("confidence_level", confidence_level)
    if n_resamples < 1:
        raise ConfigError(
            f"n_resamples is {n_resamples}",
            "expected 1 or more",
            "2000 is usual",
        )
    drawn = statistic(*(_each(partial(_resample, rng, n_resamples), each) for each in scores))
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
    return t_interval(_curves(_numbers(curves), "curves").T, confidence_level)


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
    whole = _each(_curves, curves)
    steps = _same_length([*whole.values()] if isinstance(whole, dict) else [whole])
    seed = int(rng.integers(2**63))
    intervals = [
        bootstrap_interval(
            statistic,
            _each(partial(_column, i), whole),
            rng=np.random.default_rng(seed),
            n_resamples=n_resamples,
            confidence_level=confidence_level,
        )
        for i in range(steps)
    ]
    return Interval(*(np.stack([getattr(each, end) for each in intervals]) for end in ("value", "low", "high")))


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
    y, x, asked = _curves(_numbers(curves), "curves"), _numbers(steps, "steps"), _numbers(at, "at")
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
    asked = {task: at_steps(_numbers(curve, _of(task)), steps, at) for task, curve in curves.items()}
    return bootstrap_band(statistic, asked, rng=rng, n_resamples=n_resamples, confidence_level=confidence_level)


# Comparisons


def paired_comparison(
    x: Mapping[int, float], y: Mapping[int, float], *, rng: np.random.Generator, confidence_level: float = 0.95
) -> Comparison:
    """Two algorithms on one task and the same seeds: mean difference, interval, and the sign-flip test.

    If the algorithms are alike, d_i = x_i - y_i may as well have been -d_i. The p-value is the share of all
    sign vectors s for which |sum_i s_i d_i| >= |sum_i d_i|: of all 2^n of them up to n = 16, else
    (1 + count) / (1 + 2^16) of as many that are drawn. It is never below 2 / 2^n: 5 seeds cannot show p < 0.05.

    The bootstrap that draws seeds in pairs is `bootstrap_interval(mean, comparison.differences, rng=rng)`.

    Args:
        x: seed -> score.
        y: seed -> score of the other algorithm.
        rng: draws the signs where there are more than 16 common seeds.
        confidence_level: as in `t_interval`.

    Raises:
        ConfigError: fewer than 2 common seeds, or a score that is not finite.
    """
    seeds = tuple(sorted(x.keys() & y.keys()))
    if len(seeds) < 2:
        raise ConfigError(
            f"the seeds {_listed(x)} and {_listed(y)} have {len(seeds)} in common",
            "expected at least 2",
            "run both algorithms with the same seeds, or compare them unpaired",
        )
    d = _numbers([x[seed] for seed in seeds]) - _numbers([y[seed] for seed in seeds])
    exact = len(d) <= MOST_SIGNS
    if exact:
        signs = 1.0 - 2.0 * (np.arange(2 ** len(d))[:, None] >> np.arange(len(d)) & 1)
    else:
        signs = rng.choice([-1.0, 1.0], (2**MOST_SIGNS, len(d)))
    # Sums that are equal but for the order of addition count as equal.
    as_large = np.abs(signs @ d) >= abs(d.sum()) - 1e-12 * np.abs(d).sum()
    p_value = as_large.mean() if exact else (1 + as_large.sum()) / (1 + len(signs))
    left_out = tuple(sorted(x.keys() ^ y.keys()))
    return Comparison(seeds, left_out, d, t_interval(d, confidence_level), float(p_value), exact)


def power(n: int, std: float, difference: float, level: float = 0.05) -> float:
    """Probability that the two-sided t-test with `n` seeds for each of two algorithms sees a true difference.

    With t distributed as noncentral t with 2n - 2 degrees of freedom and noncentrality
    (difference / std) sqrt(n / 2): P(|t| > t_crit). Normal scores of equal deviation are assumed
    (Colas et al.).

    Args:
        n: seeds for each algorithm.
        std: standard deviation of a score over seeds.
        difference: of the true means, in the unit of `std`.
        level: probability to see a difference where there is none.

    Raises:
        ConfigError: `n` < 2, `std` not above 0, a level outside (0, 1), or a number that is not finite.
    """
    if n < 2:
        raise ConfigError(
            f"n is {n}",
            "expected 2 seeds or more for each algorithm",
            "ask for at least 2",
        )
    _check_effect(std, difference)
    _check_share("level", level)
    return _power(n, std, difference, level)


def seeds_needed(std: float, difference: float, power: float = 0.8, level: float = 0.05) -> int:
    """The fewest seeds for each of two algorithms with which `power(n, std, difference, level)` is reached.

    About 16 (std / difference)^2 by default (Colas et al.).

    Args:
        std: standard deviation of a score over seeds.
        difference: the least difference of true means that is to be seen, in the unit of `std`.
        power: probability to see it.
        level: probability to see a difference where there is none.

    Returns:
        2 or more.

    Raises:
        ConfigError: a difference below a thousandth of `std`, or as `power`.
    """
    _check_effect(std, difference)
    _check_share("power", power)
    _check_share("level", level)
    if abs(difference) < std / 1000:
        raise ConfigError(
            f"a difference of {difference} was given with std={std}",
            "expected at least a thousandth of std, for which millions of seeds are needed",
            "ask for a difference that matters",
        )
    enough = 2
    while _power(enough, std, difference, level) < power:
        enough *= 2
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _power(middle, std, difference, level) < power:
            too_few = middle
        else:
            enough = middle
    return enough


def _power(n: int, std: float, difference: float, level: float) -> float:
    shift = abs(difference) / std * math.sqrt(n / 2)
    critical = stats.t.isf(level / 2, 2 * n - 2)
    return float(stats.nct.sf(critical, 2 * n - 2, shift) + stats.nct.cdf(-critical, 2 * n - 2, shift))


# Shapes and checks


def _each(function: Callable[[Array, str], Array], scores: Scores) -> dict[str, Array] | Array:
    """`function(array, its name in messages)` for every task, in the form in which the scores came."""
    if isinstance(scores, Mapping):
        return {task: function(_numbers(x, _of(task)), _of(task)) for task, x in scores.items()}
    return function(_numbers(scores), "scores")


def _tasks(scores: Scores) -> list[Array]:
    """The scores of each task, all with the same leading axes."""
    if not isinstance(scores, Mapping):
        return [_numbers(scores)]
    if not scores:
        raise ConfigError(
            "scores of no task were given",
            "expected at least one task",
            "give task -> scores of its runs",
        )
    arrays = [_numbers(x, _of(task)) for task, x in scores.items()]
    if len(shapes := {x.shape[:-1] for x in arrays}) > 1:
        raise ConfigError(
            f"the leading axes of the tasks are {' and '.join(str(list(s)) for s in sorted(shapes))}",
            "expected the same for all",
            "only the last axis, that of the runs, may differ",
        )
    return arrays


def _numbers(values: ArrayLike, what: str = "scores") -> Array:
    """An array with at least one axis and one number, all finite."""
    try:
        x = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{what}: not an array of numbers",
            "expected rows of equal lengths",
            "cut the longer rows off, or leave unfinished runs out and say so",
        ) from None
    if x.ndim == 0 or x.size == 0:
        raise ConfigError(
            f"{what}: shape {list(x.shape)} was given",
            "expected a list of one number or more",
            "give those of runs",
        )
    if (bad := x.size - np.count_nonzero(np.isfinite(x))) > 0:
        raise ConfigError(
            f"{what}: {bad} of {x.size} numbers are NaN or infinite",
            "expected finite ones",
            "give a failed run the last score that it had, or count it as a failure and say so",
        )
    return x


def _of(task: str) -> str:
    return f"scores of {task!r}"


def _tasks_of_both(x: Scores, y: Scores) -> list[tuple[Array, Array]]:
    if isinstance(x, Mapping) and isinstance(y, Mapping):
        if x.keys() != y.keys():
            raise ConfigError(
                f"only one of the two algorithms has {_listed(x.keys() ^ y.keys())}",
                "expected the same tasks for both",
                "leave these out or run them",
            )
        y = {task: y[task] for task in x}
    elif isinstance(x, Mapping) or isinstance(y, Mapping):
        raise ConfigError(
            "tasks were named for one algorithm and not for the other",
            "expected the same form for both",
            "give [runs] of one task, or task -> [runs], twice",
        )
    return list(zip(_tasks(x), _tasks(y), strict=True))


def _mean(x: NDArray[Any] | list[Array], axis: int | tuple[int, ...] = -1) -> Array:
    result: Array = np.mean(x, axis=axis)
    return result


def _task_means(scores: Scores) -> Array:
    """Of each task, `[..., tasks]`."""
    return np.stack([_mean(x) for x in _tasks(scores)], axis=-1)


def _several(x: Array, what: str) -> Array:
    if x.shape[-1] < 2:
        raise ConfigError(
            f"{what}: {x.shape[-1]} run was given",
            "expected at least 2, for one says nothing about the next",
            "run more seeds, or show the number without an interval",
        )
    return x


def _resample(rng: np.random.Generator, n_resamples: int, x: Array, what: str) -> Array:
    """`[..., runs]` -> `[n_resamples, ..., runs]`, drawn with replacement."""
    n = _several(x, what).shape[-1]
    return np.moveaxis(x[..., rng.integers(0, n, (n_resamples, n))], -2, 0)


def _curves(x: Array, what: str) -> Array:
    if x.ndim != 2:
        raise ConfigError(
            f"{what}: shape {list(x.shape)} was given",
            "expected curves [runs, steps]",
            "stack one row for each run",
        )
    return x


def _column(i: int, x: Array, _what: str) -> Array:
    return x[:, i]


def _same_length(curves: list[Array]) -> int:
    lengths: list[int] = sorted({x.shape[1] for x in curves})
    if len(lengths) != 1:
        raise ConfigError(
            f"the curves of the tasks have {' and '.join(map(str, lengths)) or 'no'} steps",
            "expected as many for each",
            "take them at the same steps with `at_steps`",
        )
    return lengths[0]


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigError(
            f"{name} is {value}",
            "expected a number between 0 and 1",
            "write 0.95 for 95 %",
        )


def _check_effect(std: float, difference: float) -> None:
    if not 0 < std < math.inf:
        raise ConfigError(
            f"std is {std}",
            "expected a finite number above 0",
            "estimate it from earlier runs",
        )
    if not math.isfinite(difference):
        raise ConfigError(
            f"difference is {difference}",
            "expected a finite number",
            "give the one that matters",
        )


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, sorted(names, key=str))) or "none"
