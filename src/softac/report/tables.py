"""The numbers of a report, all by `softac.stats`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from softac import stats
from softac.report.published import anchor
from softac.report.results import Result, State
from softac.words import clean

FIXED_STEPS = (100_000, 300_000, 500_000, 1_000_000, 3_000_000)


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one name on one environment, which differ in the seed.

    Attributes:
        env: the id of the environment.
        name: of the curve.
        results: all of them, evaluated or not.
    """

    env: str
    name: str
    results: tuple[Result, ...]

    @property
    def algorithm(self) -> str:
        """That of its runs, as on the command line; "" if none can be read."""
        return next((clean(result.config["algorithm"]) for result in self.results if result.config), "")

    @cached_property
    def evaluated(self) -> list[Result]:
        """Those with an evaluation at least."""
        return [result for result in self.results if result.returns]

    @cached_property
    def steps(self) -> list[int]:
        """Steps at which all runs that finished were evaluated; where none did, those that have not failed."""
        for state in ("finished", "unfinished", "failed"):
            if leading := [set(result.returns) for result in self.evaluated if result.state == state]:
                return sorted(set.intersection(*leading))
        return []

    @property
    def last(self) -> int:
        """The last of these steps; 0 if there is none."""
        return self.steps[-1] if self.steps else 0


@dataclass(frozen=True)
class Estimate:
    """A mean over runs.

    Attributes:
        n: runs it is the mean of.
        mean: over them.
        interval: at 95 %, by Student's t; None for one run.
    """

    n: int
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Final:
    """What the runs of a group have come to.

    Attributes:
        step: when.
        n: runs that were evaluated then.
        mean: of their returns, like the following.
        std: with n - 1; None for one run.
        median: over runs.
        least: of the runs.
        iqm: over runs; the mean where they are fewer than 4.
        last_tenth: mean over the last tenth of the evaluations, and over the runs that made all of these.
        sampled: mean with sampled actions.
        success: mean share of episodes that ended in success; None where the environment does not say.
    """

    step: int
    n: int
    mean: float
    std: float | None
    median: float
    least: float
    iqm: float
    last_tenth: Estimate | None
    sampled: Estimate | None
    success: Estimate | None


@dataclass(frozen=True)
class Across:
    """An algorithm over several environments, returns divided by published ones.

    Attributes:
        name: of the algorithm.
        n: runs behind it.
        of: runs there should be.
        iqm: of all runs, like the following with the ends of its 95 % interval by stratified bootstrap.
        gap: optimality gap.
        better: probability that the first algorithm does better than this one; None for the first itself.
    """

    name: str
    n: int
    of: int
    iqm: tuple[float, float, float]
    gap: tuple[float, float, float]
    better: tuple[float, float, float] | None


def group_runs(results: Sequence[Result]) -> list[Group]:
    """The groups of runs with a name, environment by environment."""
    named = [result for result in results if result.name]
    return [
        Group(env, name, tuple(group))
        for (env, name), group in groupby(named, lambda result: (result.env, result.name))
    ]


def curve(group: Group) -> list[tuple[int, Estimate]]:
    """Mean and interval at each step of the group, over the runs that were evaluated there."""
    found: list[tuple[int, Estimate]] = []

    def there(step: int) -> tuple[Result, ...]:
        return tuple(result for result in group.evaluated if step in result.returns)

    # The runs are the same at most steps, and one call for all of these is much faster.
    for results, part in groupby(group.steps, there):
        steps = list(part)
        values = np.array([[result.returns[step] for step in steps] for result in results])
        if len(results) == 1:
            found += [
                (step, Estimate(1, float(value), None)) for step, value in zip(steps, values[0], strict=True)
            ]
        else:
            band = stats.t_band(values)
            ends = zip(steps, band.value, band.low, band.high, strict=True)
            found += [(s, Estimate(len(results), float(m), (float(a), float(b)))) for s, m, a, b in ends]
    return found


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and interval of the values of some runs; None without any."""
    if not values:
        return None
    if len(values) == 1:
        return Estimate(1, values[0], None)
    interval = stats.t_interval(values)
    return Estimate(len(values), float(interval.value), (float(interval.low), float(interval.high)))


def fixed_steps(groups: Sequence[Group]) -> list[int]:
    """The usual steps and the totals, as far as some group has come."""
    totals = {result.total for group in groups for result in group.results}
    reached = max(group.last for group in groups)
    return sorted(step for step in totals.union(FIXED_STEPS) if 0 < step <= reached) or [reached] * (reached > 0)


def at_step(group: Group, step: int) -> Estimate | None:
    """Mean and interval at a step, over the runs that reached it."""
    values = [_value_at(result, step) for result in group.evaluated]
    return estimate([value for value in values if value is not None])


def is_interpolated(result: Result, step: int) -> bool:
    """Whether the return at a step lies on the line between two evaluations; one that was lost does not."""
    there = step in result.returns or step in result.lost
    return not there and min(result.returns) < step < max(result.returns)


def _value_at(result: Result, step: int) -> float | None:
    if is_interpolated(result, step):
        steps = sorted(result.returns)
        return float(stats.at_steps([[result.returns[s] for s in steps]], steps, [step])[0, 0])
    return result.returns.get(step)


def final(group: Group) -> Final | None:
    """What the group has come to at its last step; None if its runs have no step in common."""
    if not group.steps:
        return None
    step, there = group.last, [result for result in group.evaluated if group.last in result.returns]
    values = [result.returns[step] for result in there]
    tenth = group.steps[-math.ceil(len(group.steps) / 10) :]
    whole = [result for result in there if all(s in result.returns for s in tenth)]
    return Final(
        step,
        len(values),
        float(stats.mean(values)),
        float(np.std(values, ddof=1)) if len(values) > 1 else None,
        float(stats.median(values)),
        min(values),
        float(stats.iqm(values)),
        estimate([float(stats.mean([result.returns[s] for s in tenth])) for result in whole]),
        estimate([result.sampled[step] for result in there if step in result.sampled]),
        estimate([result.success[step] for result in there if step in result.success]),
    )


def across(groups: Sequence[Group]) -> tuple[dict[str, int], list[Across], list[str]]:
    """The algorithms over the environments that have a published return to measure by.

    Returns:
        Environment -> the steps at which its runs are compared, what each algorithm has come to, and the names
        that lack two runs somewhere. All empty where fewer than two environments can be used.
    """
    names = list(dict.fromkeys(group.name for group in groups))
    by_env = {env: list(g) for env, g in groupby(groups, lambda group: group.env) if anchor(env) is not None}
    compared: dict[str, int] = {}
    scores: dict[str, dict[str, Any]] = {name: {} for name in names}
    for env, members in by_env.items():
        members = [group for group in members if sum(g.state == "finished" for g in group.results) > 1]
        common = set.intersection(*(set(group.steps) for group in members)) if members else set()
        if not common:
            continue
        compared[env] = step = max(common)
        for group in members:
            values = [result.returns[step] for result in group.evaluated if step in result.returns]
            scores[group.name][env] = stats.normalise(values, 0.0, float(anchor(env) or 0.0))
    whole = [name for name in names if len(scores[name]) == len(compared)]
    if len(compared) < 2 or not whole:
        return {}, [], []
    rows = [
        Across(
            name,
            sum(len(x) for x in scores[name].values()),
            sum(len(group.results) for group in groups if group.name == name and group.env in compared),
            _bootstrap(stats.iqm, scores[name]),
            _bootstrap(stats.optimality_gap, scores[name]),
            _bootstrap(stats.probability_of_improvement, scores[whole[0]], scores[name])
            if name != whole[0]
            else None,
        )
        for name in whole
    ]
    return compared, rows, [name for name in names if name not in whole]


def _bootstrap(statistic: stats.Statistic, *scores: Any) -> tuple[float, float, float]:
    # A generator for each, so that one row does not depend on the rows above it.
    interval = stats.bootstrap_interval(statistic, *scores, rng=np.random.default_rng(0))
    return float(interval.value), float(interval.low), float(interval.high)


def count(results: Sequence[Result], state: State) -> int:
    """How many are in this state."""
    return sum(result.state == state for result in results)
