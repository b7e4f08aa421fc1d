"""What rliable computes, for the tests: tests/data/rliable.json, so that the suite does not need rliable.

pip install rliable==1.2.0 'pandas<3'    # in an environment of its own
python benchmarks/stats/rliable_fixture.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rliable import library, metrics

TAU = [-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5]
RESAMPLES = 10_000


def interval(function, *scores):
    """Ends of rliable's percentile interval."""
    # Its bootstrap draws from NumPy's global generator, whatever random_state it is given.
    np.random.seed(0)  # noqa: NPY002
    given = {"x": scores[0] if len(scores) == 1 else list(scores)}
    _, ends = library.get_interval_estimates(given, lambda *a: np.atleast_1d(function(*a)), reps=RESAMPLES)
    return ends["x"].tolist()


def aggregates(scores):
    """Everything rliable says of one algorithm, [runs, tasks]."""
    return {
        "mean": metrics.aggregate_mean(scores),
        "median": metrics.aggregate_median(scores),
        "iqm": metrics.aggregate_iqm(scores),
        "optimality_gap": metrics.aggregate_optimality_gap(scores),
        "optimality_gap_half": metrics.aggregate_optimality_gap(scores, gamma=0.5),
        "performance_profile": library.score_distributions(scores, TAU).tolist(),
        "average_score_profile": library.average_score_distributions(scores, TAU).tolist(),
    }


def main() -> None:
    rng = np.random.default_rng(0)
    cases = []
    for n, m, tasks in ((3, 3, 1), (5, 3, 2), (8, 6, 4), (10, 10, 5), (7, 9, 26)):
        # One decimal: ties between the algorithms and with the thresholds occur.
        x = np.round(rng.normal(0.7, 0.5, (n, tasks)), 1)
        y = np.round(rng.normal(0.5, 0.8, (m, tasks)), 1)
        if n == m:
            y[:, 0] = x[:, 0]
        both = metrics.probability_of_improvement(x, y)
        cases.append({"x": x.tolist(), "y": y.tolist(), "of_x": aggregates(x), "of_y": aggregates(y)})
        cases[-1]["probability_of_improvement"] = both

    x, y = rng.normal(0.7, 0.5, (10, 5)), rng.normal(0.5, 0.8, (8, 5))
    intervals = {
        "x": x.tolist(),
        "y": y.tolist(),
        "mean": interval(metrics.aggregate_mean, x),
        "median": interval(metrics.aggregate_median, x),
        "iqm": interval(metrics.aggregate_iqm, x),
        "optimality_gap": interval(metrics.aggregate_optimality_gap, x),
        "probability_of_improvement": interval(metrics.probability_of_improvement, x, y),
        "performance_profile": interval(lambda s: library.score_distributions(s, TAU), x),
    }
    curves = np.cumsum(rng.normal(0.1, 0.3, (6, 3, 4)), axis=-1)

    def iqm_of_frames(s):
        return np.array([metrics.aggregate_iqm(s[..., frame]) for frame in range(s.shape[-1])])

    sample_efficiency = {
        "curves": curves.tolist(),
        "iqm": iqm_of_frames(curves).tolist(),
        "interval": interval(iqm_of_frames, curves),
    }
    result = {
        "made_by": "benchmarks/stats/rliable_fixture.py",
        "versions": {name: version(name) for name in ("rliable", "arch", "numpy", "scipy")},
        "tau": TAU,
        "resamples": RESAMPLES,
        "cases": cases,
        "intervals": intervals,
        "sample_efficiency": sample_efficiency,
    }
    target = Path(__file__).parents[2] / "tests/data/rliable.json"
    target.write_text(json.dumps(result, default=float) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
