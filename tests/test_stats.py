"""Statistics of benchmark results: by hand, against scipy, and against what rliable computed.

`data/rliable.json` was made by benchmarks/stats/rliable_fixture.py and holds inputs, outputs and versions.
"""

import csv
import itertools
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from softac.errors import ConfigError
from softac.stats import (
    COVERAGE,
    at_steps,
    average_score_profile,
    bootstrap_band,
    bootstrap_interval,
    iqm,
    mean,
    median,
    normalise,
    optimality_gap,
    paired_comparison,
    performance_profile,
    power,
    probability_of_improvement,
    sample_efficiency,
    seeds_needed,
    t_band,
    t_interval,
)

ROOT = Path(__file__).parents[1]
RLIABLE = json.loads((ROOT / "tests/data/rliable.json").read_text(encoding="utf-8"))
CASES = RLIABLE["cases"]
TWO_TASKS = {"a": [0.0, 1.0, 2.0], "b": [10.0, 20.0]}
runs = st.integers(2, 12).flatmap(lambda n: arrays(np.float64, n, elements=st.floats(-100, 100)))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_task(matrix) -> dict[str, np.ndarray]:
    """rliable's [runs, tasks] as softac's task -> [runs]."""
    return {f"task {i}": column for i, column in enumerate(np.asarray(matrix).T)}


def equal(ours, expected) -> None:
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


# By hand


def test_normalise():
    equal(normalise([0.0, 50.0, 300.0], 100.0, 200.0), [-1.0, -0.5, 2.0])


def test_mean_and_median():
    # Task means 1 and 15, whatever the number of runs.
    assert mean(TWO_TASKS) == 8.0
    assert median(TWO_TASKS) == 8.0
    assert median(TWO_TASKS | {"c": [2.0]}) == 2.0
    assert mean([1.0, 2.0, 9.0]) == 4.0
    assert median([1.0, 2.0, 9.0]) == 2.0


def test_iqm():
    assert iqm([9.0, 1.0, 2.0, 100.0]) == 5.5  # 1 and 100 are cut off
    assert iqm([0.0, 1.0, 2.0, 4.0, 100.0]) == pytest.approx(7 / 3)  # floor(5 / 4) = 1 at either end
    assert iqm([0.0, 1.0, 8.0]) == 3.0  # nothing
    # Pooled: 0 1 2 10 20, of which 1 2 10 stay.
    assert iqm(TWO_TASKS) == pytest.approx(13 / 3)


def test_optimality_gap():
    assert optimality_gap([0.0, 0.5, 7.0]) == 0.5  # 1 - (0 + 0.5 + 1) / 3
    assert optimality_gap({"a": [0.0, 0.5, 7.0], "b": [1.0]}) == 0.25
    assert optimality_gap([0.0, 4.0], gamma=2.0) == 1.0


def test_profiles():
    tau = [0.0, 1.0, 12.0]
    equal(performance_profile(TWO_TASKS, tau), [(2 / 3 + 1) / 2, (1 / 3 + 1) / 2, (0 + 1 / 2) / 2])
    equal(performance_profile([0.0, 1.0, 2.0], tau), [2 / 3, 1 / 3, 0.0])
    equal(average_score_profile(TWO_TASKS, tau), [1.0, 0.5, 0.5])  # averages 1 and 15; 1 is not above 1


def test_probability_of_improvement():
    # Of six pairs x wins (2, 1), (3, 1), (3, 2), ties (1, 1), (2, 2), loses (1, 2).
    assert probability_of_improvement([1.0, 2.0, 3.0], [1.0, 2.0]) == pytest.approx((3 + 2 / 2) / 6)
    x, y = {"a": [2.0, 3.0], "b": [0.0]}, {"b": [1.0, 2.0], "a": [1.0]}  # the order of tasks does not matter
    assert probability_of_improvement(x, y) == 0.5


def test_t_interval():
    # Mean 2, deviation 1; the quantile p of t_2 is (2p - 1) / sqrt(2 p (1 - p)), at 0.975 4.3027.
    interval, half = t_interval([1.0, 2.0, 3.0]), 0.95 / math.sqrt(2 * 0.975 * 0.025) / math.sqrt(3)
    equal([interval.value, interval.low, interval.high], [2.0, 2 - half, 2 + half])


def test_bootstrap_of_two_runs():
    # Resamples of (0, 1) have the means 0, 1/2, 1/2, 1: both ends are above 2.5 %.
    interval = bootstrap_interval(mean, [0.0, 1.0], rng=rng())
    assert (interval.value, interval.low, interval.high) == (0.5, 0.0, 1.0)
    middle = bootstrap_interval(mean, [0.0, 1.0], rng=rng(), confidence_level=0.4)
    assert (middle.low, middle.high) == (0.5, 0.5)


def test_bootstrap_is_stratified():
    # Runs never leave their task: the mean of task means is exact where each task's runs are alike.
    interval = bootstrap_interval(iqm, {"a": [0.0] * 4, "b": [1.0] * 4}, rng=rng())
    assert (interval.value, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_at_steps():
    curves = [[0.0, 10.0, 20.0], [1.0, 1.0, 3.0]]
    equal(at_steps(curves, [100, 200, 400], [200, 300, 100]), [[10.0, 15.0, 0.0], [1.0, 2.0, 1.0]])


def test_bands_are_intervals_at_each_step():
    curves = rng().normal(size=(5, 4)).cumsum(1)
    t, b = t_band(curves), bootstrap_band(iqm, {"a": curves, "b": curves[:3] + 1}, rng=rng(7))
    seed = int(rng(7).integers(2**63))
    for i in range(4):
        alone = t_interval(curves[:, i])
        assert (t.value[i], t.low[i], t.high[i]) == pytest.approx((alone.value, alone.low, alone.high))
        alone = bootstrap_interval(iqm, {"a": curves[:, i], "b": curves[:3, i] + 1}, rng=rng(seed))
        assert (b.value[i], b.low[i], b.high[i]) == (alone.value, alone.low, alone.high)
    one = bootstrap_band(mean, curves, rng=rng(7))
    equal(one.value, curves.mean(0))
    assert (one.low < one.value).all()
    assert (one.value < one.high).all()


def test_band_draws_whole_runs():
    # The same numbers at each step have the same interval.
    band = bootstrap_band(mean, np.repeat(rng().normal(size=(6, 1)), 5, axis=1), rng=rng())
    assert len(set(band.low)) == len(set(band.high)) == 1


def test_sample_efficiency():
    curves = {"a": [[0.0, 1.0], [0.0, 3.0]], "b": [[0.0, 4.0], [4.0, 8.0]]}
    # After 10 steps 1, 3, 4, 8, of which 3 and 4 are in the middle; half way 1/2, 3/2, 2, 6.
    curve = sample_efficiency(iqm, curves, [0, 10], [5, 10], rng=rng())
    equal(curve.value, [1.75, 3.5])
    assert curve.low.shape == curve.high.shape == (2,)


def test_paired_comparison():
    # Common seeds 1, 2, 3 with d = 1, 2, 3. Only +++ and --- reach |6|: p = 2/8.
    result = paired_comparison({3: 5.0, 1: 2.0, 2: 4.0, 9: 0.0}, {1: 1.0, 2: 2.0, 3: 2.0, 4: 7.0}, rng=rng())
    assert result.seeds == (1, 2, 3)
    assert result.left_out == (4, 9)
    assert result.differences.tolist() == [1.0, 2.0, 3.0]
    assert (result.p_value, result.exact) == (0.25, True)
    assert result.mean_difference.value == 2.0
    assert result.mean_difference.low == t_interval([1.0, 2.0, 3.0]).low


def test_sign_flips_that_tie_count():
    # Sums of 0.1, 0.2, -0.3 are rounded, their true sum is 0: every sign vector is as large.
    result = paired_comparison({1: 0.1, 2: 0.2, 3: -0.3}, {1: 0.0, 2: 0.0, 3: 0.0}, rng=rng())
    assert result.p_value == 1.0
    # |3 - 1| = 2 is reached by the sums 4, 2, -2, -4.
    assert paired_comparison({1: 3.0, 2: -1.0}, {1: 0.0, 2: 0.0}, rng=rng()).p_value == 1.0


def test_pairs_are_resampled_together():
    x, y = rng(1).normal(size=8), rng(2).normal(size=8)
    pairs = paired_comparison(dict(enumerate(x)), dict(enumerate(y)), rng=rng()).differences
    interval = bootstrap_interval(mean, pairs, rng=rng(3))
    index = rng(3).integers(0, 8, (2_000, 8))
    equal([interval.low, interval.high], np.quantile(x[index].mean(1) - y[index].mean(1), [0.025, 0.975]))


# Against scipy


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 10, 33])
def test_iqm_is_the_trimmed_mean(n):
    x = rng(n).normal(size=n)
    assert iqm(x) == scipy.stats.trim_mean(x, 0.25)
    kept = np.sort(x)[n // 4 : n - n // 4]
    equal(iqm(x), kept.sum() / len(kept))


def test_probability_of_improvement_is_mann_whitney():
    x, y = rng(1).integers(0, 6, 9), rng(2).integers(0, 6, 13)
    u = scipy.stats.mannwhitneyu(x, y, alternative="greater").statistic
    equal(probability_of_improvement(x, y), u / (9 * 13))


@pytest.mark.parametrize(("ours", "theirs"), [(mean, np.mean), (median, np.median)])
def test_bootstrap_of_one_task_against_scipy(ours, theirs):
    x = rng(4).normal(size=9)
    mine = bootstrap_interval(ours, x, rng=rng(5), n_resamples=500, confidence_level=0.9)
    reference = scipy.stats.bootstrap(
        (x,), theirs, n_resamples=500, confidence_level=0.9, method="percentile", rng=rng(5)
    ).confidence_interval
    equal([mine.low, mine.high], reference)  # the same draws


def test_bootstrap_of_two_algorithms_against_scipy():
    x, y = rng(4).normal(0.5, 1.0, 9), rng(5).normal(size=7)
    mine = bootstrap_interval(probability_of_improvement, x, y, rng=rng(6), n_resamples=20_000)
    reference = scipy.stats.bootstrap(
        (x, y), probability_of_improvement_along, n_resamples=20_000, method="percentile", rng=rng(7)
    ).confidence_interval
    np.testing.assert_allclose([mine.low, mine.high], reference, atol=0.016)  # one of 63 pairs


def probability_of_improvement_along(x, y, axis):
    assert axis == -1
    return (x[..., :, None] > y[..., None, :]).mean((-2, -1))


def test_t_interval_against_scipy():
    x = rng(4).normal(size=(3, 6))
    mine, reference = t_interval(x, 0.9), scipy.stats.ttest_1samp(x, 0, axis=1).confidence_interval(0.9)
    equal([mine.low, mine.high], reference)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_exact_p_value_against_scipy(n):
    d = rng(n).normal(0.7, 1.0, n)
    test = partial(scipy.stats.permutation_test, (d,), np.sum, permutation_type="samples", n_resamples=np.inf)
    mine = paired_comparison(dict(enumerate(d)), dict.fromkeys(range(n), 0.0), rng=rng())
    equal(mine.p_value, test().pvalue)
    assert mine.exact


def test_monte_carlo_p_value():
    d = rng(1).normal(0.2, 1.0, 17)
    mine = paired_comparison(dict(enumerate(d)), dict.fromkeys(range(17), 0.0), rng=rng())
    signs = 1 - 2.0 * (np.arange(2**17)[:, None] >> np.arange(17) & 1)
    exact = (np.abs(signs @ d) >= abs(d.sum()) - 1e-9).mean()
    assert not mine.exact
    assert 0.01 < exact < 0.5
    assert mine.p_value == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 2**16))
    certain = paired_comparison(dict.fromkeys(range(40), 1.0), dict.fromkeys(range(40), 0.0), rng=rng())
    assert certain.p_value == 1 / (1 + 2**16)  # never 0


# Numbers of seeds


@pytest.mark.parametrize(
    ("effect", "wanted", "level", "n"),
    [
        (0.8, 0.8, 0.05, 26),
        (0.5, 0.8, 0.05, 64),
        (0.2, 0.8, 0.05, 394),
        (0.5, 0.9, 0.05, 86),
        (0.5, 0.8, 0.01, 96),
    ],
)
def test_seeds_needed_as_in_the_tables(effect, wanted, level, n):
    # statsmodels 0.15.0, TTestIndPower().solve_power: 25.52, 63.77, 393.41, 85.03, 95.10, rounded up.
    assert seeds_needed(1.0, effect, wanted, level) == n
    assert seeds_needed(250.0, -250.0 * effect, wanted, level) == n
    assert power(n, 1.0, effect, level) >= wanted > power(n - 1, 1.0, effect, level)


def test_power_of_statsmodels():
    equal([power(5, 1.0, 0.7), power(6, 2.0, 3.0)], [0.16477451255242073, 0.6495814802297614])


def test_two_seeds_are_enough_for_a_huge_difference():
    assert seeds_needed(1.0, 50.0) == 2


def test_power_without_a_difference_is_the_level():
    assert power(7, 2.0, 0.0, 0.05) == pytest.approx(0.05, abs=1e-12)


@pytest.mark.parametrize(("n", "difference"), [(1000, 0.5), (2, 37.0), (20, 3.0), (100_000, 1e6)])
def test_power_of_large_differences(n, difference):
    assert power(n, 1.0, difference) == power(n, 1.0, -difference) == pytest.approx(1.0, abs=1e-9)


def test_power_against_simulated_t_tests():
    x, y = rng(1).normal(0.0, 2.0, (20_000, 6)), rng(2).normal(3.0, 2.0, (20_000, 6))
    seen = (scipy.stats.ttest_ind(x, y, axis=1).pvalue < 0.05).mean()
    assert power(6, 2.0, 3.0) == pytest.approx(seen, abs=4 * math.sqrt(0.25 / 20_000))


# Against rliable


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{len(c['x'])}x{len(c['x'][0])}")
@pytest.mark.parametrize("side", ["x", "y"])
def test_point_values_of_rliable(case, side):
    scores, expected = by_task(case[side]), case[f"of_{side}"]
    ours = {
        "mean": mean(scores),
        "median": median(scores),
        "iqm": iqm(scores),
        "optimality_gap": optimality_gap(scores),
        "optimality_gap_half": optimality_gap(scores, gamma=0.5),
        "performance_profile": performance_profile(scores, RLIABLE["tau"]),
        "average_score_profile": average_score_profile(scores, RLIABLE["tau"]),
    }
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{len(c['x'])}x{len(c['x'][0])}")
def test_probability_of_improvement_of_rliable(case):
    equal(probability_of_improvement(by_task(case["x"]), by_task(case["y"])), case["probability_of_improvement"])


@pytest.mark.parametrize(
    ("name", "statistic"),
    [
        ("mean", mean),
        ("median", median),
        ("iqm", iqm),
        ("optimality_gap", optimality_gap),
        ("probability_of_improvement", probability_of_improvement),
        ("performance_profile", partial(performance_profile, tau=RLIABLE["tau"])),
    ],
)
def test_intervals_of_rliable(name, statistic):
    data = RLIABLE["intervals"]
    sides = ["x", "y"] if name == "probability_of_improvement" else ["x"]
    scores = [by_task(data[side]) for side in sides]
    repeated = [bootstrap_interval(statistic, *scores, rng=rng(seed)) for seed in range(8)]
    expected = np.asarray(data[name])
    for row, end in enumerate(("low", "high")):
        ours = np.stack([np.atleast_1d(getattr(each, end)) for each in repeated])
        # Error of the ends: ours of 2,000 resamples, as they spread, and rliable's of 10,000. A profile also
        # moves in steps of one run of 50.
        error = ours.std(0, ddof=1) * math.sqrt(1 / 8 + 2_000 / RLIABLE["resamples"])
        step = 0.01 if name == "performance_profile" else 1e-12
        assert (np.abs(ours.mean(0) - expected[row]) <= 4 * error + step).all()


def test_sample_efficiency_of_rliable():
    data = RLIABLE["sample_efficiency"]
    curves = np.asarray(data["curves"])  # [runs, tasks, steps]
    frames = np.arange(curves.shape[2])
    ours = sample_efficiency(
        iqm, {str(i): curves[:, i] for i in range(3)}, frames, frames, rng=rng(), n_resamples=10_000
    )
    equal(ours.value, data["iqm"])
    width = ours.high - ours.low
    low, high = np.asarray(data["interval"])
    assert (np.abs(ours.low - low) < 0.03 * width).all()
    assert (np.abs(ours.high - high) < 0.03 * width).all()


# Coverage


def test_coverage_is_that_of_the_file():
    with (ROOT / "benchmarks/stats/results/coverage.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ("normal", "lognormal", "bimodal")
    assert {(r["method"], int(r["runs"])): {name: float(r[name]) for name in names} for r in rows} == COVERAGE


def test_coverage_where_it_can_be_calculated():
    phi = scipy.stats.norm.cdf
    for n in (3, 5, 10, 20):
        assert COVERAGE["t", n]["normal"] == pytest.approx(0.95, abs=4 * 0.0022)
    # Of 3 runs a resample has only the lowest with probability 1/27 > 0.025, so the bootstrap of the mean reaches
    # from the lowest run to the highest. With F at the mean it contains the mean with 1 - F^3 - (1 - F)^3.
    for name, F in (("normal", 0.5), ("lognormal", phi(0.5)), ("bimodal", 0.2 + 0.8 * phi(-2.0))):
        exact = 1 - F**3 - (1 - F) ** 3
        assert COVERAGE["bootstrap", 3][name] == pytest.approx(exact, abs=4 * 0.005)


def test_t_covers_no_less_than_the_bootstrap():
    for (method, n), share in COVERAGE.items():
        if method == "bootstrap":
            assert all(COVERAGE["t", n][name] >= share[name] for name in share)


# Invariances


STATISTICS = [mean, median, iqm]


@given(runs, st.randoms(use_true_random=False))
def test_the_order_of_runs_does_not_matter(x, random):
    shuffled = x.copy()
    random.shuffle(shuffled)
    for statistic in [*STATISTICS, optimality_gap]:
        np.testing.assert_allclose(statistic(shuffled), statistic(x), rtol=0, atol=1e-9)
    tau = [-1.0, 0.0, 50.0]
    equal(performance_profile(shuffled, tau), performance_profile(x, tau))


@given(runs, runs, st.floats(0.1, 10), st.floats(-10, 10))
def test_affine_equivariance(x, y, a, b):
    for statistic in STATISTICS:
        for scores, moved in ((x, a * x + b), ({"x": x, "y": y}, {"x": a * x + b, "y": a * y + b})):
            np.testing.assert_allclose(statistic(moved), a * statistic(scores) + b, rtol=0, atol=1e-9)
        ours = bootstrap_interval(statistic, x, rng=rng(), n_resamples=20)
        moved = bootstrap_interval(statistic, a * x + b, rng=rng(), n_resamples=20)
        np.testing.assert_allclose([moved.low, moved.high], [a * ours.low + b, a * ours.high + b], atol=1e-9)
    gap = optimality_gap(a * x + b, gamma=a + b)
    np.testing.assert_allclose(gap, a * optimality_gap(x, gamma=1.0), atol=1e-9)


@given(runs, runs)
def test_improvement_is_symmetric(x, y):
    equal(probability_of_improvement(x, y) + probability_of_improvement(y, x), 1.0)
    assert probability_of_improvement(x, x) == 0.5


@given(runs, runs)
def test_values_lie_in_their_range(x, y):
    scores = {"x": x, "y": y}
    lowest, highest = min(x.min(), y.min()), max(x.max(), y.max())
    for statistic in STATISTICS:
        interval = bootstrap_interval(statistic, scores, rng=rng(), n_resamples=20)
        for each in (interval.value, interval.low, interval.high):
            assert lowest - 1e-9 <= each <= highest + 1e-9
        assert interval.low <= interval.high
    assert optimality_gap(scores) >= -1e-12
    profile = performance_profile(scores, np.linspace(-101, 101, 9))
    assert profile[0] == 1.0
    assert profile[-1] == 0.0
    assert (np.diff(profile) <= 0).all()


@given(runs)
def test_p_value_does_not_change_with_the_sides(d):
    d = d[:8]
    zero, x = dict.fromkeys(range(len(d)), 0.0), dict(enumerate(d))
    ours, swapped = paired_comparison(x, zero, rng=rng()), paired_comparison(zero, x, rng=rng())
    assert ours.p_value == swapped.p_value >= 2 / 2 ** len(d)
    equal(ours.mean_difference.low, -swapped.mean_difference.high)
    sums = [
        abs(sum(s * v for s, v in zip(signs, d, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(d))
    ]
    slack = 1e-12 * np.abs(d).sum()
    assert ours.p_value == np.mean([s >= abs(d.sum()) - slack for s in sums])


def test_leading_axes_are_kept():
    x, y = rng(1).normal(size=(4, 3, 6)), rng(2).normal(size=(4, 3, 5))
    for statistic in [*STATISTICS, optimality_gap]:
        for scores, one in ((x, x[2, 1]), ({"x": x, "y": y}, {"x": x[2, 1], "y": y[2, 1]})):
            assert statistic(scores).shape == (4, 3)
            equal(statistic(scores)[2, 1], statistic(one))
    assert probability_of_improvement(x, y).shape == (4, 3)
    equal(probability_of_improvement(x, y)[2, 1], probability_of_improvement(x[2, 1], y[2, 1]))
    assert performance_profile(x, [0.0, 1.0]).shape == (4, 3, 2)
    equal(performance_profile(x, [0.0, 1.0])[2, 1], performance_profile(x[2, 1], [0.0, 1.0]))
    both = {"x": x, "y": y}
    assert average_score_profile(both, [0.0]).shape == (4, 3, 1)
    assert bootstrap_interval(mean, x, rng=rng(), n_resamples=50).low.shape == (4, 3)


# Errors


NOT_FINITE = (
    "numbers are NaN or infinite; expected finite ones; give a failed run the last score that it had, or count it "
    "as a failure and say so"
)
ONE_RUN = (
    "1 run was given; expected at least 2, for one says nothing about the next; run more seeds, or show the "
    "number without an interval"
)
CURVES = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mean([]),
            "scores: shape [0] was given; expected a list of one number or more; give those of runs",
        ),
        (
            lambda: iqm({"Ant-v5": []}),
            "scores of 'Ant-v5': shape [0] was given; expected a list of one number or more; give those of runs",
        ),
        (
            lambda: mean({}),
            "scores of no task were given; expected at least one task; give task -> scores of its runs",
        ),
        (
            lambda: median([1.0, math.nan, math.inf]),
            f"scores: 2 of 3 {NOT_FINITE}",
        ),
        (
            lambda: sample_efficiency(iqm, {"a": CURVES, "b": [[1.0, math.nan]]}, [1, 2], [2], rng=rng()),
            f"scores of 'b': 1 of 2 {NOT_FINITE}",
        ),
        (
            lambda: t_band([[1.0, 2.0], [3.0]]),
            "scores: not an array of numbers; expected rows of equal lengths; cut the longer rows off, or leave "
            "unfinished runs out and say so",
        ),
        (
            lambda: mean({"a": [[1.0, 2.0]], "b": [1.0]}),
            "the leading axes of the tasks are [] and [1]; expected the same for all; only the last axis, that of "
            "the runs, may differ",
        ),
        (
            lambda: normalise([1.0], 3.0, 3.0),
            "low is 3.0 and high is 3.0; expected finite anchors with low < high; give the scores that "
            "stand for 0 and 1",
        ),
        (
            lambda: t_interval([1.0]),
            f"scores: {ONE_RUN}",
        ),
        (
            lambda: bootstrap_interval(iqm, {"a": [1.0, 2.0], "b": [1.0]}, rng=rng()),
            f"scores of 'b': {ONE_RUN}",
        ),
        (
            lambda: bootstrap_interval(mean, [1.0, 2.0], rng=rng(), n_resamples=0),
            "n_resamples is 0; expected 1 or more; 2000 is usual",
        ),
        (
            lambda: t_interval([1.0, 2.0], 95),
            "confidence_level is 95; expected a number between 0 and 1; write 0.95 for 95 %",
        ),
        (
            lambda: probability_of_improvement({"a": [1.0], "b": [1.0]}, {"a": [1.0], "c": [1.0]}),
            "only one of the two algorithms has b, c; expected the same tasks for both; leave "
            "these out or run them",
        ),
        (
            lambda: probability_of_improvement({"a": [1.0]}, [1.0]),
            "tasks were named for one algorithm and not for the other; expected the same form for both; give "
            "[runs] of one task, or task -> [runs], twice",
        ),
        (
            lambda: bootstrap_band(mean, {"a": CURVES, "b": [[1.0], [2.0]]}, rng=rng()),
            "the curves of the tasks have 1 and 2 steps; expected as many for each; take them at the same steps "
            "with `at_steps`",
        ),
        (
            lambda: bootstrap_band(mean, {}, rng=rng()),
            "the curves of the tasks have no steps; expected as many for each; take them at the same steps with "
            "`at_steps`",
        ),
        (
            lambda: t_band([1.0, 2.0]),
            "curves: shape [2] was given; expected curves [runs, steps]; stack one row for each run",
        ),
        (
            lambda: at_steps(CURVES, [1, 2, 3], [1]),
            "curves have 2 points and steps has shape [3]; expected one step for each point; give the steps at "
            "which these curves were evaluated",
        ),
        (
            lambda: at_steps(CURVES, [2, 2], [2]),
            "the steps of the curves do not ascend; expected each above the one before; sort them",
        ),
        (
            lambda: at_steps(CURVES, [1000, 2000], [1500, 3000]),
            "values at steps 1,500 to 3,000 were asked for; expected steps from 1,000 to 2,000, where there are "
            "evaluations; leave the others out",
        ),
        (
            lambda: paired_comparison({1: 1.0, 2: 2.0}, {2: 1.0, 3: 1.0}, rng=rng()),
            "the seeds 1, 2 and 2, 3 have 1 in common; expected at least 2; run both algorithms with the same "
            "seeds, or compare them unpaired",
        ),
        (
            lambda: paired_comparison({1: 1.0, 2: math.nan}, {2: 1.0, 1: 1.0}, rng=rng()),
            f"scores: 1 of 2 {NOT_FINITE}",
        ),
        (
            lambda: power(1, 1.0, 1.0),
            "n is 1; expected 2 seeds or more for each algorithm; ask for at least 2",
        ),
        (
            lambda: power(5, 0.0, 1.0),
            "std is 0.0; expected a finite number above 0; estimate it from earlier runs",
        ),
        (
            lambda: seeds_needed(1.0, math.nan),
            "difference is nan; expected a finite number; give the one that matters",
        ),
        (
            lambda: seeds_needed(1.0, 0.0),
            "a difference of 0.0 was given with std=1.0; expected at least a thousandth of std, for which "
            "millions of seeds are needed; ask for a difference that matters",
        ),
        (
            lambda: seeds_needed(1.0, 1.0, power=1.0),
            "power is 1.0; expected a number between 0 and 1; write 0.95 for 95 %",
        ),
    ],
)
def test_errors_have_three_parts(call, message):
    with pytest.raises(ConfigError) as error:
        call()
    assert str(error.value) == message
