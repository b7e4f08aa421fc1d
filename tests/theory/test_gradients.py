"""Both gradient estimators: unbiased, with the variances of the formulas, and neither always the better."""

import pytest
import torch

from softac.equations.gradients import (
    mean_baseline,
    optimal_baseline,
    pathwise_gradient,
    quadratic_pathwise_variance,
    quadratic_score_function_variance,
    score_function_gradient,
    sine_pathwise_variance,
    sine_score_function_variance,
)
from softac.errors import ConfigError

N = 200_000


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def draw(dim: int, seed: int) -> torch.Tensor:
    return torch.randn(N, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_variance(samples: torch.Tensor, exact: torch.Tensor) -> None:
    """The sample variance is within 3 of its standard errors of the exact one, on either side."""
    centred = samples - samples.mean(0)
    variance = centred.square().mean(0)
    error = ((centred.pow(4).mean(0) - variance.square()) / N).sqrt()
    assert ((variance - exact).abs() <= 3.0 * error).all(), ((variance - exact) / error).tolist()


def assert_mean(samples: torch.Tensor, exact: torch.Tensor) -> None:
    error = samples.std(0) / N**0.5
    assert ((samples.mean(0) - exact).abs() <= 4.0 * error).all()


BASELINES = {
    "none": lambda *_: 0.0,
    "mean": mean_baseline,
    "optimal": optimal_baseline,
}

QUADRATICS = {
    "one dimension": (1.0, f64(0.5), f64(0.3)),
    "three equal": (1.0, f64(0.5, 0.5, 0.5), f64(0.3, 0.3, 0.3)),
    "unequal": (1.7, f64(0.5, -1.0), f64(0.3, 0.8)),
    "at the optimum": (2.0, f64(0.0, 0.0), f64(0.4, 1.0)),
}


@pytest.mark.parametrize("case", QUADRATICS)
def test_quadratic_pathwise(case):
    k, offset, std = QUADRATICS[case]
    estimate = pathwise_gradient(lambda a: -k / 2 * a.square().sum(-1), offset, std, draw(len(std), seed=1))
    exact = quadratic_pathwise_variance(k, offset, std)
    assert_mean(estimate.mean, -k * offset)
    assert_mean(estimate.std, -k * std)
    assert_variance(estimate.mean, exact.mean)
    assert_variance(estimate.std, exact.std)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("case", QUADRATICS)
def test_quadratic_score_function(case, baseline):
    k, offset, std = QUADRATICS[case]

    def q(a):
        return -k / 2 * a.square().sum(-1)

    b = BASELINES[baseline](q, offset, std, draw(len(std), seed=2))
    estimate = score_function_gradient(q, offset, std, draw(len(std), seed=3), b)
    exact = quadratic_score_function_variance(k, offset, std, baseline)
    assert_mean(estimate.mean, -k * offset)
    assert_mean(estimate.std, -k * std)
    assert_variance(estimate.mean, exact.mean)
    assert_variance(estimate.std, exact.std)


def test_quadratic_numbers():
    k, offset, std = QUADRATICS["one dimension"]
    assert quadratic_pathwise_variance(k, offset, std).mean.item() == pytest.approx(0.09)
    numbers = {"none": 1.386, "mean": 0.725, "optimal": 0.635}
    for baseline, number in numbers.items():
        exact = quadratic_score_function_variance(k, offset, std, baseline).mean.item()
        assert exact == pytest.approx(number, abs=5e-4)
    three = quadratic_score_function_variance(*QUADRATICS["three equal"])
    assert three.mean[0].item() == pytest.approx(1.315)


@pytest.mark.parametrize("baseline", BASELINES)
def test_pathwise_wins_on_every_quadratic_and_by_more_in_higher_dimension(baseline):
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        offset = torch.randn(4, dtype=torch.float64, generator=generator)
        std = torch.rand(4, dtype=torch.float64, generator=generator) + 0.01
        path = quadratic_pathwise_variance(1.0, offset, std)
        score = quadratic_score_function_variance(1.0, offset, std, baseline)
        assert (score.mean >= 1.5 * path.mean).all()
        assert (score.std >= 3.0 * path.std).all()
        alone = quadratic_score_function_variance(1.0, offset[:1], std[:1], baseline)
        assert score.mean[0] > alone.mean[0]


SINES = {"slow": (1.3, f64(0.4), f64(0.6)), "fast": (20.0, f64(0.3), f64(0.5)), "odd": (3.0, f64(-1.1), f64(0.2))}


@pytest.mark.parametrize("case", SINES)
def test_sine(case):
    w, mean, std = SINES[case]

    def q(a):
        return torch.sin(w * a).sum(-1)

    estimate, exact = pathwise_gradient(q, mean, std, draw(1, seed=4)), sine_pathwise_variance(w, mean, std)
    assert_variance(estimate.mean, exact.mean)
    assert_variance(estimate.std, exact.std)
    for baseline, find in BASELINES.items():
        estimate = score_function_gradient(q, mean, std, draw(1, seed=5), find(q, mean, std, draw(1, seed=6)))
        exact = sine_score_function_variance(w, mean, std, baseline)
        assert_variance(estimate.mean, exact.mean)
        assert_variance(estimate.std, exact.std)


def test_score_function_wins_where_q_wiggles():
    path, score = (f(20.0, f64(0.0), f64(0.5)) for f in (sine_pathwise_variance, sine_score_function_variance))
    assert path.mean.item() == pytest.approx(200.0)
    assert score.mean.item() == pytest.approx(2.0)
    assert path.std.item() > 40.0 * score.std.item()


def test_the_mean_is_not_always_a_better_baseline_than_none():
    w, mean, std = SINES["slow"]
    variance = {b: sine_score_function_variance(w, mean, std, b).mean.item() for b in BASELINES}
    assert variance["optimal"] < variance["none"] < variance["mean"]


def test_the_noise_is_constant_and_the_score_function_needs_no_derivative():
    mean, std, noise = f64(0.1), f64(0.5), f64(0.3, -1.0)[:, None]
    step = score_function_gradient(lambda a: (a > 0.0).double().sum(-1), mean, std, noise)
    assert step.mean.tolist() == [[0.6], [0.0]]
    assert not step.mean.requires_grad
    assert not pathwise_gradient(lambda a: a.square().sum(-1), mean, std, noise).mean.requires_grad


@pytest.mark.parametrize("variance", [quadratic_score_function_variance, sine_score_function_variance])
def test_unknown_baseline(variance):
    with pytest.raises(ConfigError, match=r"baseline is 'best'; it must be 'none', 'mean' or 'optimal'; pick one"):
        variance(1.0, f64(0.0), f64(1.0), "best")
