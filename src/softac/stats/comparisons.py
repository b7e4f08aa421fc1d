"""Two algorithms: paired by seeds, and how many seeds it takes. "Colas et al." is arXiv:1806.08295."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from softac.errors import ConfigError
from softac.stats.intervals import Interval, t_interval
from softac.stats.scores import Array, check_share, listed, numbers

MOST_SIGNS = 16  # the exact sign-flip test goes through 2^16 sign vectors at most


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
            f"the seeds {listed(x)} and {listed(y)} have {len(seeds)} in common",
            "expected at least 2",
            "run both algorithms with the same seeds, or compare them unpaired",
        )
    d = numbers([x[seed] for seed in seeds]) - numbers([y[seed] for seed in seeds])
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
    check_share("level", level)
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
    check_share("power", power)
    check_share("level", level)
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
    # The lower tail as the upper one of the mirrored t, which is a number where SciPy's own lower tail is NaN.
    return float(stats.nct.sf(critical, 2 * n - 2, shift) + stats.nct.sf(critical, 2 * n - 2, -shift))


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
