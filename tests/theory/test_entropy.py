"""Entropy: the worked examples of the slides (corrected), identities, quadrature against mpmath, refusals."""

import itertools
import math

import mpmath
import pytest
import torch

from softac.equations.entropy import (
    cross_entropy,
    entropy,
    expected_code_length,
    gaussian_entropy,
    information,
    kl,
    squashed_gaussian_entropy,
)
from softac.errors import ConfigError


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_distributions(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).mul(2.0).softmax(-1)


@pytest.mark.parametrize(
    ("p", "bits"),
    [
        (1 / math.factorial(52), 225.581),  # one exact order of a shuffled deck
        (math.factorial(4) ** 13 / math.factorial(52), 165.976),  # ordered by value, the suits free
        (1 / 2, 1.0),
        (1 / 4, 2.0),
        (1.0, 0.0),
    ],
)
def test_information_of_the_slides(p, bits):
    assert information(p).item() == pytest.approx(bits, abs=5e-4)


@pytest.mark.parametrize(
    ("prior", "bits"),
    [
        ((1 / 2, 1 / 2), 1.0),
        ((1 / 4, 1 / 4, 1 / 4, 1 / 4), 2.0),
        ((0.0, 0.0, 0.0, 1.0), 0.0),
        ((1 / 3, 1 / 3, 1 / 3), math.log2(3.0)),
        ((1 / 2, 1 / 4, 1 / 4), 1.5),
    ],
)
def test_entropy_of_the_slides(prior, bits):
    assert entropy(f64(*prior)).item() == pytest.approx(bits, abs=1e-12)


@pytest.mark.parametrize(
    ("prior", "bits"),
    [
        ((1 / 3, 1 / 3, 1 / 3), 5 / 3),  # the slides call this one entropy
        ((1 / 2, 1 / 4, 1 / 4), 1.5),
        ((1 / 4, 1 / 4, 1 / 4, 1 / 4), 2.0),
        ((0.0, 0.0, 0.0, 1.0), 0.0),
        ((0.4, 0.2, 0.2, 0.1, 0.1), 2.2),
    ],
)
def test_expected_code_length(prior, bits):
    assert expected_code_length(f64(*prior)).item() == pytest.approx(bits, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_code_is_the_best_of_all_prefix_codes(seed):
    p = random_distributions(5, seed=seed)
    # Kraft: a prefix code with these lengths exists exactly when sum 2^-length <= 1.
    codes = [ls for ls in itertools.product(range(1, 5), repeat=5) if sum(2.0**-n for n in ls) <= 1.0]
    best = min(float(p @ torch.tensor(ls, dtype=p.dtype)) for ls in codes)
    assert expected_code_length(p).item() == pytest.approx(best, abs=1e-12)
    assert entropy(p) <= expected_code_length(p) < entropy(p) + 1.0


def test_identities():
    p, q = random_distributions(7, 5, seed=1), random_distributions(7, 5, seed=2)
    torch.testing.assert_close(cross_entropy(p, q), entropy(p) + kl(p, q), rtol=1e-12, atol=1e-12)
    assert (kl(p, q) > 0.0).all()
    torch.testing.assert_close(kl(p, p), torch.zeros(7, dtype=p.dtype), rtol=0.0, atol=1e-15)
    torch.testing.assert_close(entropy(p, math.e), entropy(p) * math.log(2.0))
    torch.testing.assert_close(kl(p, q, math.e), kl(p, q) * math.log(2.0))
    torch.testing.assert_close(entropy(p), (p * information(p)).sum(-1))
    assert (entropy(p) <= math.log2(5.0)).all()


def test_zero_log_zero_is_zero():
    p, q = f64(0.5, 0.5, 0.0), f64(0.25, 0.25, 0.5)
    assert kl(p, q).item() == pytest.approx(1.0)
    assert cross_entropy(p, q).item() == pytest.approx(2.0)
    assert information(0.0).item() == math.inf


def test_dtype_is_kept():
    p = torch.full((3, 4), 0.25)
    assert entropy(p).dtype == torch.float32
    assert squashed_gaussian_entropy(torch.zeros(2), torch.ones(2)).dtype == torch.float32


def test_gaussian_entropy():
    std = f64(0.3, 2.0)
    torch_value = torch.distributions.Normal(torch.zeros(2, dtype=std.dtype), std).entropy().sum()
    assert gaussian_entropy(std).item() == pytest.approx(torch_value.item(), abs=1e-14)
    assert gaussian_entropy(torch.ones(3, 4, 2)).shape == (3, 4)
    assert gaussian_entropy(f64(0.24)) < 0.0 < gaussian_entropy(f64(0.25))
    assert gaussian_entropy(f64(1e-300)).item() < -600.0  # minus infinity, not zero, in the deterministic limit


@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, 0.1), (0.0, 0.87), (1.5, 0.5), (-3.0, 2.0), (0.5, 7.4), (10.0, 1.0), (0.0, 20.0)]
)
def test_squashed_entropy_against_mpmath(mean, std):
    def integrand(e):
        log_normal = -e * e / 2 - mpmath.log(std) - mpmath.log(2 * mpmath.pi) / 2
        log_slope = -2 * mpmath.log(mpmath.cosh(mean + std * e))
        return mpmath.npdf(e) * (log_slope - log_normal)

    centre = -mean / std
    exact = mpmath.quad(integrand, sorted([-12.0, -6.0, -2.0, min(max(centre, -11.0), 11.0), 2.0, 6.0, 12.0]))
    assert squashed_gaussian_entropy(f64(mean), f64(std)).item() == pytest.approx(float(exact), abs=1e-9)


def test_squashed_entropy_is_below_that_of_the_uniform():
    mean, std = (
        torch.zeros(50, 1, dtype=torch.float64),
        torch.linspace(0.05, 10.0, 50, dtype=torch.float64)[:, None],
    )
    values = squashed_gaussian_entropy(mean, std)
    assert values.max() < math.log(2.0)
    together = squashed_gaussian_entropy(mean.T, std.T)
    torch.testing.assert_close(together, values.sum()[None])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: information(1.5), r"p is 1\.5; a probability must be in \[0, 1\]; pass probabilities"),
        (lambda: information(f64(0.5, math.nan)), r"p\[1\] is nan; a probability"),
        (lambda: entropy(f64(0.5, 0.4)), r"p sums to 0\.9; a row of probabilities must sum to 1; divide"),
        (lambda: entropy(torch.tensor([[0.5, 0.5], [0.5, 0.6]])), r"p\[1\] sums to 1\.1"),
        (lambda: entropy(f64(1.0), base=1.0), r"base is 1\.0; it must be above 1; use 2 for bits"),
        (
            lambda: kl(f64(0.5, 0.5).expand(3, 2), torch.tensor([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]]).double()),
            r"q\[2, 1\] \(state 2, action 1\) is 0 where p is 0\.5; .* infinite .*; give q some probability",
        ),
        (lambda: cross_entropy(f64(0.5, 0.5), f64(1.0, 0.0)), r"q\[1\] is 0 where p is 0\.5"),
        (lambda: expected_code_length(torch.ones(2, 1)), r"p has shape \(2, 1\); .*; call once for each row"),
        (lambda: gaussian_entropy(f64(1.0, 0.0)), r"std has the entry 0; .* must be > 0; a deterministic"),
        (lambda: squashed_gaussian_entropy(f64(0.0), f64(-1.0)), r"std has the entry -1"),
    ],
)
def test_refusals(call, text):
    with pytest.raises(ConfigError, match=text):
        call()
