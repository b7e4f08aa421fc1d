"""The two bounds on the entropy of a Gaussian mixture: by hand, around Monte Carlo, and which way they push."""

import math

import pytest
import torch

from softac.equations.entropy import gaussian_entropy, mixture_entropy
from softac.errors import ConfigError

pytestmark = pytest.mark.usefixtures("float64")

BOTH = pytest.mark.parametrize("divergence", ["kl", "bhattacharyya"])


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        # Two components 2 std apart: D = 4 / 2 = 2 or 4 / 8 = 1/2.
        # H = 1/2 log(2 pi e) - log((1 + exp(-D)) / 2) = 1.418939 + 0.566219 or + 0.219070.
        ("kl", 1.985158),
        ("bhattacharyya", 1.638009),
    ],
)
def test_two_components(divergence, expected):
    assert mixture_entropy(torch.tensor([[-1.0], [1.0]]), 1.0, divergence).item() == pytest.approx(
        expected, abs=1e-6
    )


def test_the_upper_bound_is_the_default():
    means = randn(3, 2)
    assert mixture_entropy(means, 0.5) == mixture_entropy(means, 0.5, "kl")


@BOTH
def test_the_equation_term_by_term(divergence):
    means, std, scale = randn(2, 3, 4, 2), 0.8, {"kl": 2.0, "bhattacharyya": 8.0}[divergence]
    result = mixture_entropy(means, std, divergence)
    assert result.shape == (2, 3)
    for batch in range(2):
        for row in range(3):
            mu = means[batch, row].tolist()
            overlap = 0.0
            for a in mu:
                distances = [sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for b in mu]
                overlap += math.log(sum(math.exp(-d / (scale * std**2)) for d in distances) / 4) / 4
            expected = math.log(2 * math.pi * math.e * std**2) - overlap  # D/2 = 1
            assert result[batch, row].item() == pytest.approx(expected, abs=1e-12)


def monte_carlo(means: torch.Tensor, std: float, seed: int) -> tuple[float, float]:
    """The entropy of the mixture as the mean of -log p over 200,000 of its samples, and the standard error."""
    generator = torch.Generator().manual_seed(seed)
    component = torch.randint(len(means), (200_000,), generator=generator)
    x = means[component] + std * torch.randn(200_000, means.shape[1], generator=generator)
    normals = torch.distributions.Normal(means, std).log_prob(x.unsqueeze(1)).sum(-1)
    information = math.log(len(means)) - normals.logsumexp(-1)
    return information.mean().item(), information.std().item() / 200_000**0.5


@pytest.mark.parametrize(
    ("components", "dim", "spread", "std"),
    [(2, 1, 1.0, 1.0), (4, 3, 1.0, 1.0), (5, 2, 2.0, 0.5), (8, 6, 0.3, 0.2), (3, 1, 0.1, 1.0), (4, 2, 50.0, 0.1)],
)
def test_the_entropy_lies_between_the_bounds(components, dim, spread, std):
    means = spread * randn(components, dim, seed=components)
    entropy, error = monte_carlo(means, std, seed=dim)
    lower = mixture_entropy(means, std, "bhattacharyya").item()
    upper = mixture_entropy(means, std, "kl").item()
    assert error < 0.01
    assert lower - 4.0 * error <= entropy <= upper + 4.0 * error
    alone = gaussian_entropy(torch.full((dim,), std)).item()
    assert alone <= lower <= upper <= alone + math.log(components) + 1e-12


@BOTH
def test_both_are_exact_for_equal_and_for_distant_components(divergence):
    one = gaussian_entropy(torch.full((2,), 0.3)).item()
    equal = torch.tensor([0.4, -2.0]).expand(5, 2)
    assert mixture_entropy(equal, 0.3, divergence).item() == pytest.approx(one, abs=1e-14)
    distant = 1000.0 * torch.arange(10.0).reshape(5, 2)
    assert mixture_entropy(distant, 0.3, divergence).item() == pytest.approx(one + math.log(5.0), abs=1e-14)
    assert mixture_entropy(equal[:1], 0.3, divergence).item() == pytest.approx(one, abs=1e-14)


@BOTH
def test_gradient_against_finite_differences(divergence):
    means = randn(2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mixture_entropy(x, 0.9, divergence), means)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_against_the_closed_form(seed):
    means, std = randn(5, 3, seed=seed).requires_grad_(), 0.7
    (gradient,) = torch.autograd.grad(mixture_entropy(means, std), means)
    mu = means.detach()
    p = torch.zeros(5, 5)
    for i in range(5):
        for j in range(5):
            p[i, j] = math.exp(-(mu[i] - mu[j]).square().sum() / (2 * std**2))
        p[i] /= p[i].sum()
    for k in range(5):
        expected = sum((p[k, j] + p[j, k]) * (mu[k] - mu[j]) for j in range(5)) / (5 * std**2)
        torch.testing.assert_close(gradient[k], expected)


@BOTH
def test_ascent_pushes_components_apart(divergence):
    means = torch.tensor([[-0.3, 0.0], [0.5, 0.2]], requires_grad=True)
    (gradient,) = torch.autograd.grad(mixture_entropy(means, 0.4, divergence), means)
    apart = means.detach()[1] - means.detach()[0]
    assert gradient[1] @ apart > 0.0
    torch.testing.assert_close(gradient[0], -gradient[1])  # neither is moved without the other
    torch.testing.assert_close(gradient[1] / gradient[1].norm(), apart / apart.norm())


@BOTH
def test_ascent_spreads_a_crowd(divergence):
    crowd, std = (0.1 * randn(6, 2)).requires_grad_(), 0.4
    assert torch.pdist(crowd).min() < std / 4.0
    for _ in range(200):
        (gradient,) = torch.autograd.grad(mixture_entropy(crowd, std, divergence), crowd)
        crowd = (crowd + 0.1 * gradient).detach().requires_grad_()
    assert torch.pdist(crowd).min() > 2.0 * std


@BOTH
def test_the_push_dies_off(divergence):
    slopes = []
    for distance in (0.5, 20.0):
        means = torch.tensor([[0.0], [distance]], requires_grad=True)
        (gradient,) = torch.autograd.grad(mixture_entropy(means, 1.0, divergence), means)
        slopes.append(gradient[1].item())
    assert 0.0 <= slopes[1] < 1e-12 < 0.01 < slopes[0]


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_means_have_a_finite_gradient_of_zero(divergence, dtype):
    means = torch.full((2, 4, 3), 0.7, dtype=dtype, requires_grad=True)
    entropy = mixture_entropy(means, 0.1, divergence)
    assert entropy.dtype == dtype
    (gradient,) = torch.autograd.grad(entropy.sum(), means)
    assert torch.equal(gradient, torch.zeros_like(means))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: mixture_entropy(torch.zeros(2, 1), 0.0),
            "std is 0; the standard deviation must be > 0; "
            "a deterministic variable has no differential entropy, it tends to minus infinity",
        ),
        (
            lambda: mixture_entropy(torch.zeros(2, 1), math.nan),
            "std is nan; the standard deviation must be > 0; "
            "a deterministic variable has no differential entropy, it tends to minus infinity",
        ),
        (
            lambda: mixture_entropy(torch.zeros(2, 1), 1.0, "js"),
            "divergence is 'js'; it must be 'kl' or 'bhattacharyya'; pick 'kl' for the upper bound "
            "on the entropy, 'bhattacharyya' for the lower one",
        ),
    ],
)
def test_refusals(call, text):
    with pytest.raises(ConfigError) as error:
        call()
    assert str(error.value) == text
