"""The losses of the family: by hand, against finite differences, and what each one is for."""

import math
import re

import pytest
import torch

from softac.equations.distributions import Categorical, Gaussian, SquashedMixture
from softac.equations.losses import (
    approximate_kl,
    clipped_surrogate_loss,
    deterministic_policy_loss,
    discrete_policy_loss,
    discrete_soft_value,
    huber_loss,
    mixture_policy_loss,
    policy_gradient_loss,
    policy_loss,
    q_loss,
    score_function_policy_loss,
    soft_value_target,
)
from softac.errors import ConfigError

pytestmark = pytest.mark.usefixtures("float64")


def t(*values) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, requires_grad=True)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check(result, value, gradients) -> None:
    """`result` is `value`; its sum has the gradient given for each tensor."""
    torch.testing.assert_close(result, torch.tensor(value))
    found = torch.autograd.grad(result.sum(), list(gradients), allow_unused=True, materialize_grads=True)
    for gradient, expected in zip(found, gradients.values(), strict=True):
        torch.testing.assert_close(gradient, torch.tensor(expected))


def test_huber_loss():
    q, target = t([1.0, 2.0], [3.0, 7.0]), t(1.5, 4.0)
    # Errors -0.5, -2 and 1.5, 3:  mean(0.125, 1.5) = 0.8125 and mean(1, 2.5) = 1.75.
    check(
        huber_loss(q, target),
        0.8125 + 1.75,
        {
            q: [[-0.25, -0.5], [0.5, 0.5]],  # the error clipped to [-1, 1], over B
            target: [0.25 - 0.5, 0.5 - 0.5],
        },
    )


def test_huber_loss_is_the_squared_one_for_small_errors_and_linear_for_large_ones():
    q, target = randn(3, 5).mul(0.2), torch.zeros(5)
    assert q.abs().max() < 1.0
    torch.testing.assert_close(huber_loss(q, target), q_loss(q, target))
    far = torch.full((1, 1), 1e6)
    assert huber_loss(far, torch.zeros(1)).item() == 1e6 - 0.5


def test_deterministic_policy_loss():
    q = t(3.0, -5.0, 8.0)
    check(deterministic_policy_loss(q), -2.0, {q: [-1.0 / 3.0] * 3})


def test_deterministic_policy_loss_is_the_policy_loss_at_temperature_zero():
    q = randn(6)
    assert torch.equal(deterministic_policy_loss(q), policy_loss(randn(6, seed=1), q, 0.0))


def test_score_function_policy_loss():
    log_prob, q, value, alpha = t(-1.0, 2.0), t(3.0, -5.0), t(1.0, 2.0), scalar(0.5)
    # Brackets: -0.5 - 3 + 1 = -2.5;  1 + 5 + 2 = 8.  Only log pi is differentiated, and only outside of them.
    check(
        score_function_policy_loss(log_prob, q, value, alpha),
        (-1.0 * -2.5 + 2.0 * 8.0) / 2.0,
        {log_prob: [-1.25, 4.0], q: [0.0, 0.0], value: [0.0, 0.0], alpha: 0.0},
    )


B = 200_000
ALPHA, CURVATURE, OFFSET, LOG_STD = 0.3, 1.5, 2.0, math.log(0.7)
# J = E[alpha log pi - Q] for Q = -k/2 a^2, a ~ N(m, s^2): dJ/dm = k m, dJ/d log s = k s^2 - alpha.
EXACT = (CURVATURE * OFFSET, CURVATURE * math.exp(2 * LOG_STD) - ALPHA)
SOFT_VALUE = -CURVATURE / 2 * (OFFSET**2 + math.exp(2 * LOG_STD)) + ALPHA * (
    LOG_STD + 0.5 * math.log(2 * math.pi * math.e)
)


def estimates(estimator: str, baseline: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """One estimate of the gradient in mean and log std from each of B actions, since each has its own copy."""
    mean = torch.full((B, 1), OFFSET, requires_grad=True)
    log_std = torch.full((B, 1), LOG_STD, requires_grad=True)
    policy = Gaussian(mean, log_std)
    action, log_prob = policy.rsample(randn(B, 1, seed=3))
    if estimator == "pathwise":
        loss = policy_loss(log_prob, -CURVATURE / 2 * action.square().sum(-1), ALPHA)
    else:
        action = action.detach()
        q = -CURVATURE / 2 * action.square().sum(-1)
        loss = score_function_policy_loss(policy.log_prob(action), q, torch.full((B,), baseline), ALPHA)
    for_mean, for_log_std = torch.autograd.grad(loss, (mean, log_std))
    return for_mean * B, for_log_std * B


@pytest.mark.parametrize(
    ("estimator", "baseline"), [("pathwise", 0.0), ("score function", 0.0), ("score function", SOFT_VALUE)]
)
def test_both_estimators_have_the_gradient_as_their_mean(estimator, baseline):
    for samples, exact in zip(estimates(estimator, baseline), EXACT, strict=True):
        error = samples.std().item() / B**0.5
        assert error < 0.05
        assert abs(samples.mean().item() - exact) < 4.0 * error


def test_the_soft_value_as_a_baseline_lowers_the_variance_and_the_path_lowers_it_further():
    raw, baseline, path = (
        samples[0].var().item()
        for samples in (
            estimates("score function"),
            estimates("score function", SOFT_VALUE),
            estimates("pathwise"),
        )
    )
    assert path < baseline < raw / 1.5


def test_discrete_soft_value():
    q = t([[4.0, 0.0], [1.0, 3.0]], [[2.0, 8.0], [5.0, 2.0]])
    log_probs = t([math.log(0.25), math.log(0.75)], [math.log(0.5), math.log(0.5)])
    alpha = scalar(0.2)
    # The least of both critics: (2, 0) and (1, 2).
    entropies = [0.25 * math.log(4.0) + 0.75 * math.log(4.0 / 3.0), math.log(2.0)]
    check(
        discrete_soft_value(q, log_probs, alpha),
        [0.5 + 0.2 * entropies[0], 1.5 + 0.2 * entropies[1]],
        {
            q: [[[0.0, 0.75], [0.5, 0.0]], [[0.25, 0.0], [0.0, 0.5]]],  # the probabilities, where Q is the least
            alpha: sum(entropies),
        },
    )


def test_discrete_policy_loss():
    log_probs, alpha = t([math.log(0.25), math.log(0.75)], [math.log(0.5), math.log(0.5)]), scalar(0.2)
    q = t([2.0, 0.0], [1.0, 2.0])
    entropies = 0.25 * math.log(4.0) + 0.75 * math.log(4.0 / 3.0) + math.log(2.0)
    check(
        discrete_policy_loss(log_probs, q, alpha),
        -(0.5 + 1.5 + 0.2 * entropies) / 2.0,
        {q: [[-0.125, -0.375], [-0.25, -0.25]], alpha: -entropies / 2.0},  # -pi / B and minus the mean entropy
    )


def test_discrete_equations_are_the_expectations_of_the_sampled_ones():
    q, log_probs, alpha = randn(2, 5, 4), randn(5, 4, seed=1).log_softmax(-1), 0.7
    value, loss = torch.zeros(5), 0.0
    for action in range(4):
        probability = log_probs[:, action].exp()
        value += probability * soft_value_target(q[:, :, action], log_probs[:, action], alpha)
        loss += (probability * (alpha * log_probs[:, action] - q[0, :, action])).mean()
    torch.testing.assert_close(discrete_soft_value(q, log_probs, alpha), value)
    torch.testing.assert_close(discrete_policy_loss(log_probs, q[0], alpha), loss)


def test_the_boltzmann_policy_of_q_minimises_the_discrete_loss():
    q, alpha = randn(3, 4), 0.4
    logits = (q / alpha).requires_grad_()
    loss = discrete_policy_loss(logits.log_softmax(-1), q, alpha)
    torch.testing.assert_close(loss, -alpha * (q / alpha).logsumexp(-1).mean())  # minus the mean soft value
    (slope,) = torch.autograd.grad(loss, logits)
    assert slope.abs().max() < 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 5.0])
def test_a_forbidden_action_counts_nothing(alpha, dtype):
    q = randn(2, 3, 4).to(dtype)
    logits = randn(3, 4, seed=1).to(dtype)
    logits[:, 2] = -math.inf
    logits.requires_grad_()
    rest = [0, 1, 3]

    def both(q, logits):
        log_probs = Categorical(logits).log_probs()
        return discrete_soft_value(q, log_probs, alpha).sum() * 7.0, discrete_policy_loss(
            log_probs, q[0], alpha
        ) * 7.0

    for whole, without in zip(both(q, logits), both(q[..., rest], logits[:, rest]), strict=True):
        torch.testing.assert_close(whole, without)
        (slope,) = torch.autograd.grad(whole, logits, retain_graph=True)
        (expected,) = torch.autograd.grad(without, logits, retain_graph=True)
        assert slope.isfinite().all()
        torch.testing.assert_close(slope, expected)
        assert (slope[:, 2] == 0.0).all()


def test_a_probability_that_underflows_counts_nothing():
    logits = torch.tensor([[0.0, -1e4]], dtype=torch.float32, requires_grad=True)
    loss = discrete_policy_loss(Categorical(logits).log_probs(), torch.tensor([[1.0, 9.0]]).float(), 2.0)
    assert loss.item() == -1.0
    assert torch.autograd.grad(loss, logits)[0].tolist() == [[0.0, 0.0]]


def test_mixture_policy_loss():
    log_weights, log_prob = t([math.log(0.25), math.log(0.75)], [0.0, -math.inf]), t([-1.0, 2.0], [4.0, 1.0])
    q, alpha = t([3.0, -5.0], [1.0, 100.0]), scalar(0.5)
    # Terms: -0.5 - 3 = -3.5 and 1 + 5 = 6;  2 - 1 = 1 and 0.5 - 100, of weight 0.
    check(
        mixture_policy_loss(log_weights, log_prob, q, alpha),
        (0.25 * -3.5 + 0.75 * 6.0 + 1.0) / 2.0,
        {
            log_weights: [[-0.4375, 2.25], [0.5, 0.0]],  # w times the term, over B
            log_prob: [[0.0625, 0.1875], [0.25, 0.0]],  # alpha w / B
            q: [[-0.125, -0.375], [-0.5, 0.0]],
            alpha: (0.25 * -1.0 + 0.75 * 2.0 + 4.0) / 2.0,
        },
    )


def test_mixture_policy_loss_of_one_component_is_the_policy_loss():
    log_prob, q = randn(6), randn(6, seed=1)
    one = mixture_policy_loss(torch.zeros(6, 1), log_prob[:, None], q[:, None], 0.3)
    torch.testing.assert_close(one, policy_loss(log_prob, q, 0.3))


MIXTURE = (
    torch.tensor([0.3, -0.5, 0.9], dtype=torch.float64),
    torch.tensor([-1.2, 0.1, 0.8], dtype=torch.float64),
    torch.tensor([-0.7, -0.2, -1.1], dtype=torch.float64),
)


def wavy(action: torch.Tensor) -> torch.Tensor:
    return torch.sin(4.0 * action) + 2.0 * action


def integrated_objective(logits: torch.Tensor, means: torch.Tensor, log_stds: torch.Tensor) -> float:
    """E[alpha log pi - Q] under the squashed mixture, integrated over u = artanh(a) on a fine grid."""
    u = torch.linspace(-12.0, 12.0, 40_001)
    normal = torch.distributions.Normal(means, log_stds.exp())
    log_density = (logits.log_softmax(-1) + normal.log_prob(u[:, None])).logsumexp(-1)
    log_pi = log_density + 2.0 * torch.cosh(u).log()
    integrand = log_density.exp() * (0.3 * log_pi - wavy(u.tanh()))
    return torch.trapezoid(integrand, u).item()


def test_marginalised_reparameterisation_has_the_gradient_of_the_integrated_objective():
    # The noise is the quantiles of the normal distribution, equally spaced: a sum over it is an integral.
    uniform = (torch.arange(20_000) + 0.5) / 20_000
    noise = torch.special.ndtri(uniform)[:, None, None].expand(-1, 3, 1)
    logits, means, log_stds = (x.clone().requires_grad_() for x in MIXTURE)
    policy = SquashedMixture(
        logits.expand(20_000, 3), means[:, None].expand(20_000, 3, 1), log_stds[:, None].expand(20_000, 3, 1)
    )
    action, log_prob = policy.rsample(noise)
    log_weights = policy.logits.log_softmax(-1)
    loss = mixture_policy_loss(log_weights, log_prob, wavy(action.squeeze(-1)), 0.3)
    assert loss.item() == pytest.approx(integrated_objective(*MIXTURE), abs=1e-4)
    gradients = torch.autograd.grad(loss, (logits, means, log_stds))
    for argument, gradient in enumerate(gradients):
        for k in range(3):
            ends = []
            for step in (1e-4, -1e-4):
                moved = [x.clone() for x in MIXTURE]
                moved[argument][k] += step
                ends.append(integrated_objective(*moved))
            assert gradient[k].item() == pytest.approx((ends[0] - ends[1]) / 2e-4, abs=5e-4)


def test_policy_gradient_loss():
    log_prob, advantage = t(-1.0, 2.0, 0.5), torch.tensor([3.0, -5.0, 2.0])
    # -mean(-3, -10, 1) = 4: the more probable the actions of positive advantage, the lower.
    check(policy_gradient_loss(log_prob, advantage), 4.0, {log_prob: [-1.0, 5.0 / 3.0, -2.0 / 3.0]})
    rollout = log_prob.detach().expand(2, 3)
    assert policy_gradient_loss(rollout, advantage.expand(2, 3)).item() == pytest.approx(4.0)


def test_policy_gradient_of_a_bandit():
    # Every action once, weighted by its probability: the exact gradient of E[r] is pi (r - E[r]).
    logits, reward = t(0.2, -0.4, 1.1), torch.tensor([1.0, 5.0, -2.0])
    log_probs = logits.log_softmax(-1)
    probabilities = log_probs.detach().exp()
    loss = policy_gradient_loss(log_probs, 3 * probabilities * reward)
    expected = probabilities * (reward - (probabilities * reward).sum())
    torch.testing.assert_close(-torch.autograd.grad(loss, logits)[0], expected)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.5, 2.0, -2.4, 0.0),  # far enough up: min(3, 2.4)
        (1.5, -2.0, 3.0, 3.0),  # up where it should have gone down: min(-3, -2.4)
        (0.5, 2.0, -1.0, -1.0),  # down where it should have gone up: min(1, 1.6)
        (0.5, -2.0, 1.6, 0.0),  # far enough down: min(-1, -1.6)
        (1.1, 2.0, -2.2, -2.2),  # within the range the loss is -r A, with slope -r A in log pi
        (0.9, -2.0, 1.8, 1.8),
        (1.0, 2.0, -2.0, -2.0),  # the first step of an update: the plain policy gradient
    ],
)
def test_clipped_surrogate_loss(ratio, advantage, loss, slope):
    log_prob, old = t(math.log(ratio) - 1.0), torch.tensor([-1.0])
    check(clipped_surrogate_loss(log_prob, old, torch.tensor([advantage]), 0.2), loss, {log_prob: [slope]})


def test_clipped_surrogate_loss_is_a_mean():
    log_prob, old = t(math.log(1.5), math.log(0.5)), torch.zeros(2)
    check(
        clipped_surrogate_loss(log_prob, old, torch.tensor([2.0, 2.0]), 0.2),
        (-2.4 - 1.0) / 2.0,
        {log_prob: [0.0, -0.5]},
    )


def test_at_the_old_policy_the_surrogate_has_the_policy_gradient():
    log_prob, advantage = randn(9).requires_grad_(), randn(9, seed=1)
    surrogate = clipped_surrogate_loss(log_prob, log_prob.detach(), advantage, 0.2)
    gradients = [
        torch.autograd.grad(loss, log_prob)[0] for loss in (surrogate, policy_gradient_loss(log_prob, advantage))
    ]
    torch.testing.assert_close(*gradients)


def test_approximate_kl():
    # r = 2 and 1/2: 1 - log 2 and -1/2 + log 2, whose mean is 1/4.
    log_prob, old = t(math.log(2.0), math.log(0.5)), torch.zeros(2)
    check(approximate_kl(log_prob, old), 0.25, {log_prob: [0.5, -0.25]})  # (r - 1) / B
    assert approximate_kl(old, old).item() == 0.0


def test_approximate_kl_is_unbiased_and_less_noisy_than_the_mean_log_ratio():
    old, new = Gaussian(torch.zeros(1), torch.zeros(1)), Gaussian(torch.tensor([0.1]), torch.tensor([0.05]))
    action, old_log_prob = old.rsample(randn(B, 1))
    log_prob = new.log_prob(action)
    # KL(N(0, 1) || N(m, s^2)) = log s + (1 + m^2) / (2 s^2) - 1/2.
    exact = 0.05 + (1.0 + 0.01) / (2.0 * math.exp(0.1)) - 0.5
    terms = torch.stack([approximate_kl(n, o) for n, o in zip(log_prob[:2000], old_log_prob[:2000], strict=True)])
    assert (terms >= 0.0).all()
    assert terms.std() < (old_log_prob - log_prob).std() / 5.0
    error = terms.std().item() / B**0.5
    assert abs(approximate_kl(log_prob, old_log_prob).item() - exact) < 4.0 * error


def test_approximate_kl_is_not_negative_in_float32():
    log_ratio = torch.logspace(-12.0, 1.0, 2001, dtype=torch.float32)
    for sign in (1.0, -1.0):
        for value in sign * log_ratio:
            assert approximate_kl(value, torch.zeros_like(value)).item() >= 0.0


ARGUMENTS = {
    huber_loss: ((3, 5), (5,)),
    deterministic_policy_loss: ((5,),),
    discrete_soft_value: ((3, 5, 4), (5, 4), ()),
    discrete_policy_loss: ((5, 4), (5, 4), ()),
    mixture_policy_loss: ((5, 4), (5, 4), (5, 4), ()),
    policy_gradient_loss: ((5, 2), (5, 2)),
    approximate_kl: ((5,), (5,)),
}


@pytest.mark.parametrize("function", ARGUMENTS, ids=lambda f: f.__name__)
def test_gradients_against_finite_differences(function):
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator, requires_grad=True) for shape in ARGUMENTS[function]]
    assert torch.autograd.gradcheck(function, inputs)


def test_clipped_surrogate_gradient_against_finite_differences():
    old, advantage = randn(20, seed=1), randn(20, seed=2)
    log_prob = (old + 0.3 * randn(20)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: clipped_surrogate_loss(x, old, advantage, 0.2), log_prob)


B_, B1, NB, BA, A_, NBA = (torch.zeros(s) for s in ((4,), (4, 1), (2, 4), (4, 3), (3,), (2, 4, 3)))
MISTAKES = {
    "huber_loss, target [B, 1]": (lambda: huber_loss(NB, B1), "(4,), (4, 1)", "[B]"),
    "huber_loss, one critic [B]": (lambda: huber_loss(B_, B_), "(), (4,)", "[B]"),
    "score_function_policy_loss, log_prob [B, 1]": (
        lambda: score_function_policy_loss(B1, B_, B_, 0.1),
        "(4, 1), (4,), (4,)",
        "[B]",
    ),
    "score_function_policy_loss, q [N, B]": (
        lambda: score_function_policy_loss(B_, NB, B_, 0.1),
        "(4,), (2, 4), (4,)",
        "[B]",
    ),
    "score_function_policy_loss, value [B, 1]": (
        lambda: score_function_policy_loss(B_, B_, B1, 0.1),
        "(4,), (4,), (4, 1)",
        "[B]",
    ),
    "discrete_soft_value, log_probs [A]": (lambda: discrete_soft_value(NBA, A_, 0.1), "(4, 3), (3,)", "[B, A]"),
    "discrete_soft_value, one critic [B, A]": (lambda: discrete_soft_value(BA, BA, 0.1), "(3,), (4, 3)", "[B, A]"),
    "discrete_policy_loss, q [N, B, A]": (
        lambda: discrete_policy_loss(BA, NBA, 0.1),
        "(4, 3), (2, 4, 3)",
        "[B, A]",
    ),
    "mixture_policy_loss, log_weights [K]": (
        lambda: mixture_policy_loss(A_, BA, BA, 0.1),
        "(3,), (4, 3), (4, 3)",
        "[B, K]",
    ),
    "mixture_policy_loss, log_prob [B, 1]": (
        lambda: mixture_policy_loss(BA, B1, BA, 0.1),
        "(4, 3), (4, 1), (4, 3)",
        "[B, K]",
    ),
    "mixture_policy_loss, q [N, B, K]": (
        lambda: mixture_policy_loss(BA, BA, NBA, 0.1),
        "(4, 3), (4, 3), (2, 4, 3)",
        "[B, K]",
    ),
    "policy_gradient_loss, advantage [B, 1]": (
        lambda: policy_gradient_loss(B_, B1),
        "(4,), (4, 1)",
        "whatever it is",
    ),
    "clipped_surrogate_loss, old_log_prob [B, 1]": (
        lambda: clipped_surrogate_loss(B_, B1, B_, 0.2),
        "(4,), (4, 1), (4,)",
        "[B]",
    ),
    "clipped_surrogate_loss, advantage [B, 1]": (
        lambda: clipped_surrogate_loss(B_, B_, B1, 0.2),
        "(4,), (4,), (4, 1)",
        "[B]",
    ),
    "approximate_kl, old_log_prob [B, 1]": (lambda: approximate_kl(B_, B1), "(4,), (4, 1)", "[B]"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_shapes_that_would_broadcast_are_refused(mistake):
    call, shapes, expected = MISTAKES[mistake]
    with pytest.raises(ConfigError) as error:
        call()
    assert re.findall(r"\([\d, ]*\)", error.value.given) == re.findall(r"\([\d, ]*\)", shapes)
    assert error.value.given.startswith("shapes differ: ")
    assert error.value.expected == f"expected one shape, {expected}"
    assert error.value.remedy == "squeeze or index them until they agree"
