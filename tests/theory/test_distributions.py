"""Policies as distributions: densities that integrate to one, log-probs against mpmath, finite gradients."""

import math

import mpmath
import numpy as np
import pytest
import torch

from softac.equations.distributions import (
    Categorical,
    Deterministic,
    Gaussian,
    SquashedGaussian,
    SquashedMixture,
    change_of_variables,
    log_one_minus_tanh_squared,
)

D64 = torch.float64


def f64(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=D64)


def tanh_sinh() -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights on (-1, 1) that do not mind what the integrand does at the ends."""
    t = torch.linspace(-2.9, 2.9, 801, dtype=D64)
    inner = math.pi / 2 * t.sinh()
    return inner.tanh(), math.pi / 2 * t.cosh() / inner.cosh().square() * (t[1] - t[0])


def exact_log_prob(mean, log_std, noise) -> float:
    """log pi of the squashed Gaussian at the float32 parameters given, in 50 digits."""
    with mpmath.workdps(50):
        total = mpmath.mpf(0)
        for m, s, e in zip(mean, log_std, noise, strict=True):
            m, s, e = mpmath.mpf(float(m)), mpmath.mpf(float(s)), mpmath.mpf(float(e))
            u = m + mpmath.exp(s) * e
            total += -e * e / 2 - s - mpmath.log(2 * mpmath.pi) / 2 + 2 * mpmath.log(mpmath.cosh(u))
        return float(total)


MIXTURE = SquashedMixture(f64(0.3, -0.5, 1.0), f64([-1.0], [0.2], [1.5]), f64([-1.0], [0.3], [-0.5]))


@pytest.mark.parametrize(
    "policy",
    [
        SquashedGaussian(f64(0.0), f64(-3.0)),
        SquashedGaussian(f64(0.7), f64(0.0)),
        SquashedGaussian(f64(-2.0), f64(0.7)),
        MIXTURE,
    ],
)
def test_density_integrates_to_one(policy):
    a, weight = tanh_sinh()
    assert (policy.log_prob(a[:, None]).exp() * weight).sum().item() == pytest.approx(1.0, abs=1e-6)


def test_density_in_two_dimensions_integrates_to_one():
    a, weight = tanh_sinh()
    grid = torch.cartesian_prod(a, a)
    policy = SquashedMixture(f64(0.3, -0.5), f64([-1.0, 0.5], [0.7, 0.0]), f64([-1.0, 0.0], [0.3, -0.4]))
    total = (policy.log_prob(grid).exp() * torch.cartesian_prod(weight, weight).prod(-1)).sum()
    assert total.item() == pytest.approx(1.0, abs=1e-6)


def test_rsample_log_prob_in_float32_against_mpmath():
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(500):
        dim = int(rng.integers(1, 7))
        log_std = rng.uniform(-5.0, 2.0, dim).astype(np.float32)
        u, noise = rng.uniform(-20.0, 20.0, dim), rng.uniform(-4.0, 4.0, dim).astype(np.float32)
        mean = (u - np.exp(log_std) * noise).astype(np.float32)
        _, log_prob = SquashedGaussian(*map(torch.tensor, (mean, log_std))).rsample(torch.tensor(noise))
        exact = exact_log_prob(mean, log_std, noise)
        worst = max(worst, abs(log_prob.item() - exact) / max(1.0, abs(exact)))
    assert worst < 1e-5


def test_log_derivative_of_tanh_against_mpmath():
    u = torch.linspace(-20.0, 20.0, 401)
    exact = [float(-2 * mpmath.log(mpmath.cosh(float(x)))) for x in u]
    torch.testing.assert_close(log_one_minus_tanh_squared(u).double(), f64(*exact), rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("u", [-100.0, -20.0, -9.0, 0.0, 9.0, 20.0, 100.0])
@pytest.mark.parametrize("log_std", [-20.0, -5.0, 0.0, 2.0])
def test_gradients_are_finite_to_100(u, log_std):
    mean = torch.full((3,), u, requires_grad=True)
    log_std = torch.full((3,), log_std, requires_grad=True)
    noise = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
    action, log_prob = SquashedGaussian(mean, log_std).rsample(noise)
    for gradient in torch.autograd.grad(log_prob + action.sum(), (mean, log_std, noise)):
        assert gradient.isfinite().all()


def test_log_prob_of_given_actions_in_float32():
    u = torch.linspace(-4.0, 4.0, 801)[:, None]
    policy = SquashedGaussian(torch.zeros(1), torch.zeros(1))
    exact = f64(*(exact_log_prob((0.0,), (0.0,), (x.item(),)) for x in u))
    torch.testing.assert_close(policy.log_prob(u.tanh()).double(), exact, rtol=0.0, atol=1e-4)


def test_log_prob_is_clamped_at_the_ends():
    for dtype, reach in ((torch.float32, 8.66), (D64, 18.71)):
        policy = SquashedGaussian(torch.zeros(1, dtype=dtype), torch.zeros(1, dtype=dtype))
        end = torch.ones(1, dtype=dtype)
        last = torch.nextafter(end, torch.zeros_like(end))
        assert policy.log_prob(end) == policy.log_prob(last) == policy.log_prob(-end)
        assert last.atanh().item() == pytest.approx(reach, abs=0.01)
        assert policy.log_prob(end).isfinite()


BIJECTIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "sinh": torch.sinh,
    "scaled": lambda u: 0.4 * u.tanh() + 2.0,
    "decreasing": lambda u: -u - u.pow(3),
}


@pytest.mark.parametrize("name", BIJECTIONS)
def test_change_of_variables_against_the_jacobian_determinant(name):
    f = BIJECTIONS[name]
    u = f64(-1.3, 0.1, 0.9, 2.0)
    log_prob_u = Gaussian(torch.zeros(4, dtype=D64), torch.zeros(4, dtype=D64)).log_prob(u)
    a, log_prob = change_of_variables(f, u, log_prob_u)
    jacobian = torch.autograd.functional.jacobian(f, u)
    torch.testing.assert_close(a, f(u))
    torch.testing.assert_close(
        log_prob, log_prob_u - torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-12, atol=0.0
    )


def test_squashed_gaussian_is_the_change_of_variables_by_tanh():
    mean, log_std, noise = f64([0.3, -1.0], [2.0, 0.0]), f64([0.2, -1.0], [0.0, 0.5]), f64([1.0, -2.0], [0.1, 0.4])
    u, log_prob_u = Gaussian(mean, log_std).rsample(noise)
    a, log_prob = change_of_variables(torch.tanh, u, log_prob_u)
    action, exact = SquashedGaussian(mean, log_std).rsample(noise)
    torch.testing.assert_close(action, a)
    torch.testing.assert_close(exact, log_prob, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(SquashedGaussian(mean, log_std).log_prob(action), exact, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(SquashedGaussian(mean, log_std).mode(), mean.tanh())


def test_gaussian():
    mean, log_std, noise = torch.randn(3, 5, 2, dtype=D64, generator=torch.Generator().manual_seed(0))
    policy, reference = Gaussian(mean, log_std), torch.distributions.Normal(mean, log_std.exp())
    action, log_prob = policy.rsample(noise)
    torch.testing.assert_close(log_prob, reference.log_prob(action).sum(-1))
    torch.testing.assert_close(policy.log_prob(action), log_prob)
    torch.testing.assert_close(policy.entropy(), reference.entropy().sum(-1))
    assert policy.mode() is mean
    concentrated = Gaussian(f64(0.0), f64(-3.0))  # a density may exceed 1
    assert concentrated.log_prob(f64(0.0)) > 0.0
    assert concentrated.entropy() < 0.0


def test_deterministic():
    policy = Deterministic(torch.tensor([[0.5, -0.5], [0.0, 1.0]]))
    action, log_prob = policy.rsample(torch.randn(2, 2, generator=torch.Generator().manual_seed(0)))
    assert action is policy.action
    assert policy.mode() is policy.action
    assert log_prob.tolist() == [0.0, 0.0]
    assert policy.log_prob(torch.tensor([[0.5, -0.5], [0.0, 0.9]])).tolist() == [0.0, -math.inf]


def test_categorical():
    logits = torch.tensor([1.0, -math.inf, 0.0, 2.0])
    policy = Categorical(logits.expand(100_000, 4))
    action, log_prob = policy.sample(torch.rand(100_000, 4, generator=torch.Generator().manual_seed(0)))
    p = logits.softmax(-1)
    frequency = action.bincount(minlength=4) / 100_000
    assert frequency[1] == 0.0
    assert ((frequency - p).abs() <= 4.0 * (p * (1 - p) / 100_000).sqrt()).all()
    torch.testing.assert_close(log_prob, p.log()[action])
    assert policy.mode()[0] == 3
    torch.testing.assert_close(policy.entropy()[0], torch.special.entr(p).sum())


def test_categorical_entropy_has_finite_gradients_where_actions_are_forbidden():
    logits = torch.tensor([1.0, -math.inf, 0.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(Categorical(logits).entropy(), logits)
    assert gradient.isfinite().all()


def test_mixture_of_one_is_the_squashed_gaussian():
    mean, log_std, noise = f64(0.3, -1.0), f64(0.2, -1.0), f64(1.0, -2.0)
    mixture, single = SquashedMixture(f64(0.7), mean[None], log_std[None]), SquashedGaussian(mean, log_std)
    for (a, log_prob), (b, exact) in (
        (mixture.sample(noise, f64(0.5)), single.rsample(noise)),
        (mixture.rsample(noise[None]), single.rsample(noise[None])),
    ):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(log_prob, exact)
    torch.testing.assert_close(mixture.mode(), single.mode())


def test_mixture_agrees_with_itself_and_with_the_sum_of_densities():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, dtype=D64, generator=generator)
    means, log_stds, noise = torch.randn(3, 6, 3, 2, dtype=D64, generator=generator) * 0.7
    policy = SquashedMixture(logits, means, log_stds)
    actions, log_probs = policy.rsample(noise)
    assert actions.shape == (6, 3, 2)
    assert log_probs.shape == (6, 3)
    weights = logits.softmax(-1)
    for k in range(3):
        torch.testing.assert_close(policy.log_prob(actions[:, k]), log_probs[:, k])
        densities = [SquashedGaussian(means[:, j], log_stds[:, j]).log_prob(actions[:, k]).exp() for j in range(3)]
        torch.testing.assert_close(
            log_probs[:, k].exp(), sum(w * d for w, d in zip(weights.T, densities, strict=True))
        )
    action, log_prob = policy.sample(noise[:, 0], torch.rand(6, 3, dtype=D64, generator=generator))
    torch.testing.assert_close(policy.log_prob(action), log_prob)


def test_mixture_draws_components_by_their_weights_and_marginalises_without_bias():
    n, generator = 200_000, torch.Generator().manual_seed(0)
    wide = SquashedMixture(
        MIXTURE.logits.expand(n, 3), MIXTURE.means.expand(n, 3, 1), MIXTURE.log_stds.expand(n, 3, 1)
    )
    noise = torch.randn(n, 3, 1, dtype=D64, generator=generator)
    action, log_prob = wide.sample(noise[:, 0], torch.rand(n, 3, dtype=D64, generator=generator))
    actions, log_probs = wide.rsample(noise)
    w = MIXTURE.logits.softmax(-1)
    for drawn, marginal in (
        (action[:, 0], (w * actions[..., 0]).sum(-1)),
        (log_prob, (w * log_probs).sum(-1)),
    ):
        error = (drawn.var() / n + marginal.var() / n).sqrt()
        assert abs(drawn.mean() - marginal.mean()) < 4.0 * error
        assert marginal.var() < drawn.var()


def test_mixture_mode_is_the_densest_mean():
    policy = SquashedMixture(f64(0.5, 0.0), f64([-1.0], [1.0]), f64([1.0], [-3.0]))
    torch.testing.assert_close(policy.mode(), f64(1.0).tanh())  # lighter, and much narrower
