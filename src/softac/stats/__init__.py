"""Statistics of benchmark results: aggregates over runs and tasks, intervals, comparisons, numbers of seeds.

numpy float64 throughout. The scores of one task are `[runs]`, those of several a mapping from task to `[runs]`,
normalised by the caller; tasks may have different numbers of runs. All aggregates reduce the last axis and keep
the others: scores `[..., runs]` give `[...]`, and that is how they are bootstrapped at once.

"Agarwal et al." is arXiv:2108.13264, "Colas et al." arXiv:1806.08295.
"""

from softac.stats.aggregates import (
    average_score_profile,
    iqm,
    mean,
    median,
    normalise,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from softac.stats.comparisons import Comparison, paired_comparison, power, seeds_needed
from softac.stats.intervals import (
    COVERAGE,
    Interval,
    Statistic,
    at_steps,
    bootstrap_band,
    bootstrap_interval,
    sample_efficiency,
    t_band,
    t_interval,
)

__all__ = [
    "COVERAGE",
    "Comparison",
    "Interval",
    "Statistic",
    "at_steps",
    "average_score_profile",
    "bootstrap_band",
    "bootstrap_interval",
    "iqm",
    "mean",
    "median",
    "normalise",
    "optimality_gap",
    "paired_comparison",
    "performance_profile",
    "power",
    "probability_of_improvement",
    "sample_efficiency",
    "seeds_needed",
    "t_band",
    "t_interval",
]
