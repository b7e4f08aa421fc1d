"""Aggregates over runs and tasks. "Agarwal et al." is arXiv:2108.13264."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from softac.errors import ConfigError
from softac.stats.scores import Array, Scores, mean_over, numbers, task_means, tasks_of, tasks_of_both


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
    return (numbers(scores) - low) / (high - low)


def mean(scores: Scores) -> Array:
    """Mean over tasks of the mean over runs (Agarwal et al.).

    Args:
        scores: `[..., runs]`, or task -> `[..., runs]`.

    Returns:
        `[...]`

    Raises:
        ConfigError: scores are missing or not finite.
    """
    return mean_over(task_means(scores))


def median(scores: Scores) -> Array:
    """Median over tasks of the mean over runs (Agarwal et al.); for one task that over its runs.

    Args:
        scores: `[..., runs]` for the median over runs, or task -> `[..., runs]` for the median over tasks.

    Returns:
        `[...]`

    Raises:
        ConfigError: scores are missing or not finite.
    """
    return np.median(task_means(scores) if isinstance(scores, Mapping) else tasks_of(scores)[0], axis=-1)


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
    return np.asarray(stats.trim_mean(np.concatenate(tasks_of(scores), axis=-1), 0.25, axis=-1))[()]


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
    return gamma - mean_over([mean_over(np.minimum(x, gamma)) for x in tasks_of(scores)], 0)


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
    thresholds = numbers(tau, "tau")
    return mean_over([mean_over(x[..., None, :] > thresholds[:, None]) for x in tasks_of(scores)], 0)


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
    return mean_over(task_means(scores)[..., None, :] > numbers(tau, "tau")[:, None])


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
    pairs = [(a[..., :, None], b[..., None, :]) for a, b in tasks_of_both(x, y)]
    return mean_over([mean_over((a > b) + 0.5 * (a == b), (-2, -1)) for a, b in pairs], 0)
