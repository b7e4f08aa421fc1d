"""The squashed Gaussian as SAC uses it: float32 against float64 and quadrature, through the actor's network.

`theory/test_distributions.py` has the density itself: against mpmath, integrated, at the ends.
"""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest, norm

from softac.equations.distributions import SquashedGaussian, log_one_minus_tanh_squared
from softac.nets import SquashedGaussianActor
from softac.nets.actors import CLAMP, TANH

GRID = [-20.0, -12.0, -9.5, -6.0, -1.0, -0.1, 0.0, 0.3, 2.0, 7.0, 8.66, 10.0, 20.0]


def log_prob_and_gradients(mean: float, log_std: float, noise: float, dtype: torch.dtype) -> torch.Tensor:
    inputs = [torch.tensor([x], dtype=dtype, requires_grad=True) for x in (mean, log_std, noise)]
    _, log_prob = SquashedGaussian(*inputs[:2]).rsample(inputs[2])
    return torch.cat([log_prob[None].detach(), *torch.autograd.grad(log_prob, inputs)]).double()


@pytest.mark.parametrize("mean", GRID)
def test_float32_agrees_with_float64_in_value_and_gradient(mean):
    for log_std in (-5.0, -1.0, 0.0):
        for noise in (-2.0, 0.0, 0.5):
            single = log_prob_and_gradients(mean, log_std, noise, torch.float32)
            double = log_prob_and_gradients(mean, log_std, noise, torch.float64)
            torch.testing.assert_close(single, double, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("mean", GRID)
def test_gradient_in_the_mean_is_twice_the_action(mean):
    # -d/du log(1 - tanh(u)^2) = 2 tanh(u): it pulls a saturated policy back with full strength.
    noise = 0.5
    gradient = log_prob_and_gradients(mean, -1.0, noise, torch.float32)[1].item()
    assert gradient == pytest.approx(2.0 * math.tanh(mean + math.exp(-1.0) * noise), abs=1e-6)


@pytest.mark.parametrize(("u", "error"), [(6.0, 0.04), (7.0, 0.26), (8.0, 1.17), (10.0, 4.8)])
def test_the_form_with_epsilon_is_as_wrong_as_its_docstring_says(u, error):
    exact = log_one_minus_tanh_squared(torch.tensor(u)).item()
    a = math.tanh(u)
    assert exact == pytest.approx(-2.0 * math.log(math.cosh(u)), rel=1e-6)
    assert math.log(1.0 - a * a + 1e-6) - exact == pytest.approx(error, rel=0.15)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 0.3), (-3.0, 1.0), (0.0, 3.0)])
def test_samples_have_the_law_and_the_entropy_of_the_density(mean, std):
    n = 200_000
    policy = SquashedGaussian(torch.full((n, 1), mean), torch.full((n, 1), math.log(std)))
    action, log_prob = policy.rsample(torch.randn(n, 1, generator=torch.Generator().manual_seed(0)))
    u = action[:2_000, 0].double().atanh().numpy()
    assert kstest(u[abs(u) < 8.0], norm(mean, std).cdf).pvalue > 0.01

    # Entropy of tanh(u) = entropy of u + E log(1 - tanh^2), the expectation by quadrature.
    def integrand(u: float) -> float:
        return norm.pdf(u, mean, std) * -2.0 * math.log(math.cosh(u))

    correction, _ = quad(integrand, mean - 10 * std, mean + 10 * std)
    entropy = 0.5 * math.log(2 * math.pi * math.e * std**2) + correction
    error = log_prob.std().item() / math.sqrt(n)
    assert -log_prob.double().mean().item() == pytest.approx(entropy, abs=4.0 * error)


def test_no_squashed_gaussian_is_more_random_than_the_uniform():
    # An entropy target above log 2 per dimension can never be met.
    entropies = []
    for std in (0.5, 0.8, 0.87, 1.0, 1.5, 3.0):
        correction, _ = quad(lambda u, s=std: norm.pdf(u, 0, s) * -2 * math.log(math.cosh(u)), -10 * std, 10 * std)
        entropies.append(0.5 * math.log(2 * math.pi * math.e * std**2) + correction)
    assert max(entropies) == entropies[2]
    assert math.log(2.0) - 0.02 < max(entropies) < math.log(2.0)


def test_dimensions_add_up():
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = torch.randn(3, 5, 4, generator=generator)
    _, together = SquashedGaussian(mean, log_std).rsample(noise)
    one_by_one = [SquashedGaussian(mean[:, [i]], log_std[:, [i]]).rsample(noise[:, [i]])[1] for i in range(4)]
    assert together.shape == (5,)
    torch.testing.assert_close(together, sum(one_by_one))


def actor_with(mean: float, raw_log_std: float, log_std: str) -> SquashedGaussianActor:
    """An actor that answers every observation with these outputs of its last layer."""
    actor = SquashedGaussianActor(2, 1, (4,), log_std, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        actor.net[-1].weight.zero_()
        actor.net[-1].bias.copy_(torch.tensor([mean, raw_log_std]))
    return actor


@pytest.mark.parametrize("log_std", ["clamp", "tanh"])
@pytest.mark.parametrize("mean", [-100.0, -20.0, 0.0, 20.0, 100.0])
@pytest.mark.parametrize("raw", [-100.0, -20.0, 0.0, 2.0, 100.0])
def test_gradients_through_the_actor_are_finite(log_std, mean, raw):
    actor = actor_with(mean, raw, log_std)
    action, log_prob = actor(torch.ones(3, 2)).rsample(torch.tensor([[-3.0], [0.0], [3.0]]))
    assert action.abs().max() <= 1.0
    assert log_prob.isfinite().all()
    for gradient in torch.autograd.grad(log_prob.sum() + action.sum(), list(actor.parameters())):
        assert gradient.isfinite().all()


@pytest.mark.parametrize(("kind", "bounds"), [("clamp", CLAMP), ("tanh", TANH)])
def test_bounds_of_log_std(kind, bounds):
    low, high = bounds
    for raw, expected in ((-1e4, low), (1e4, high)):
        assert actor_with(0.0, raw, kind)(torch.ones(1, 2)).log_std.item() == pytest.approx(expected)
    middle = actor_with(0.0, 0.5, kind)(torch.ones(1, 2)).log_std.item()
    # tanh: -5 + 1/2 (2 + 5) (tanh(0.5) + 1)
    assert middle == pytest.approx(0.5 if kind == "clamp" else -5.0 + 3.5 * (math.tanh(0.5) + 1.0), abs=1e-6)
