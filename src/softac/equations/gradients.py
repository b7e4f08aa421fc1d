"""Two ways to differentiate E[q(a)] for a ~ N(mean, diag(std^2)), side by side, with their exact variances.

With a = mean + std noise and per coordinate, the two estimates from one noise vector are

    pathwise         d/d mean: dq/da                      d/d std: dq/da noise
    score function   d/d mean: (q - b) noise / std        d/d std: (q - b) (noise^2 - 1) / std

Both are unbiased; b is any baseline that does not depend on the noise. The first needs the slope of q, the
second only its values. Which one is less noisy depends on q: for the quadratic of
`quadratic_pathwise_variance` always the first, and by more in higher dimension; for a q that wiggles within
one std, such as `sine_pathwise_variance`'s, the second.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from softac.equations.inputs import Numbers, broadcast, scalar, tensor
from softac.errors import ConfigError

Baseline = Literal["none", "mean", "optimal"]


class Gradient(NamedTuple):
    """A number for the derivative with respect to each mean and each std: an estimate, or its variance."""

    mean: Tensor
    std: Tensor


def pathwise_gradient(q: Callable[[Tensor], Tensor], mean: Numbers, std: Numbers, noise: Numbers) -> Gradient:
    """Differentiate q along the path from the noise to the action: the reparameterization trick.

    The noise is sampled, and constant in the derivative; mean and std are what is differentiated.

    Args:
        q: differentiable, `[B, D]` -> `[B]`.
        mean: `[D]`.
        std: `[D]`, > 0.
        noise: `[B, D]`, drawn from N(0, 1).

    Returns:
        Estimates `[B, D]` of the derivative of E[q], one for each noise vector.

    Source: arXiv:1812.05905, eq. 10, the part that flows through the action.
    """
    mean, std, noise = _inputs(mean, std, noise)
    action = (mean + std * noise).detach().requires_grad_()
    (slope,) = torch.autograd.grad(q(action).sum(), action)
    return Gradient(slope, slope * noise)


def score_function_gradient(
    q: Callable[[Tensor], Tensor],
    mean: Numbers,
    std: Numbers,
    noise: Numbers,
    baseline: Gradient | Numbers = 0.0,
) -> Gradient:
    """Weigh the score, the gradient of log N(a; mean, std), by q: the likelihood-ratio trick, REINFORCE.

    Args:
        q: `[B, D]` -> `[B]`; need not be differentiable.
        mean: `[D]`.
        std: `[D]`, > 0.
        noise: `[B, D]`, drawn from N(0, 1).
        baseline: subtracted from q: a number, or a `Gradient` of one number for each parameter, as
            `mean_baseline` and `optimal_baseline` return. Estimate it on other noise than this, or the
            result is biased by a term of order 1 / B.

    Returns:
        Estimates `[B, D]` of the derivative of E[q], one for each noise vector.

    Source: Williams 1992.
    """
    mean, std, noise = _inputs(mean, std, noise)
    with torch.no_grad():
        value = q(mean + std * noise).unsqueeze(-1)
    both = baseline if isinstance(baseline, Gradient) else (baseline, baseline)
    for_mean, for_std = (tensor(b, "baseline") for b in both)
    score = _score(noise, std)
    return Gradient((value - for_mean) * score.mean, (value - for_std) * score.std)


def mean_baseline(q: Callable[[Tensor], Tensor], mean: Numbers, std: Numbers, noise: Numbers) -> Gradient:
    """Estimate E[q], the usual baseline, from `noise [B, D]`; the same number for every parameter, `[D]`."""
    mean, std, noise = _inputs(mean, std, noise)
    with torch.no_grad():
        average = q(mean + std * noise).mean().expand_as(mean)
    return Gradient(average, average)


def optimal_baseline(q: Callable[[Tensor], Tensor], mean: Numbers, std: Numbers, noise: Numbers) -> Gradient:
    """Estimate E[q score^2] / E[score^2] from `noise [B, D]`, for each parameter, `[D]`.

    There the derivative of E[(q - b)^2 score^2] with respect to b vanishes, so no constant baseline does
    better. For the mean it is E[q noise^2].

    Source: Greensmith, Bartlett & Baxter 2004, theorem 8, for constant baselines.
    """
    mean, std, noise = _inputs(mean, std, noise)
    with torch.no_grad():
        value = q(mean + std * noise).unsqueeze(-1)
        score = _score(noise, std)
        return Gradient(*((value * s.square()).mean(0) / s.square().mean(0) for s in score))


def quadratic_pathwise_variance(curvature: Numbers, offset: Numbers, std: Numbers) -> Gradient:
    """Exact variances of `pathwise_gradient` for q(a) = -k/2 ||a - c||^2, `[D]`.

    With x = delta + std noise the estimates are -k x and -k x noise. In the second, delta noise and
    std noise^2 are uncorrelated with variances delta^2 and 2 std^2. Hence

        mean: k^2 std^2            std: k^2 (delta^2 + 2 std^2)

    Args:
        curvature: k.
        offset: `[D]`, delta = mean - c.
        std: `[D]`, > 0; the coordinates may differ.
    """
    k2 = float(scalar(curvature, "curvature")) ** 2
    offset, std = _deviations("offset", offset, std)
    return Gradient(k2 * std.square(), k2 * (offset.square() + 2.0 * std.square()))


def quadratic_score_function_variance(
    curvature: Numbers, offset: Numbers, std: Numbers, baseline: Baseline = "mean"
) -> Gradient:
    """Exact variances of `score_function_gradient` for q(a) = -k/2 ||a - c||^2, `[D]`.

    Write q - E[q] = sum_j q_j with q_j = -k (delta_j std_j e_j + std_j^2 (e_j^2 - 1) / 2), independent, with
    variances v_j = k^2 (delta_j^2 std_j^2 + std_j^4 / 2), and let c = E[q] - b. The estimate for coordinate
    i is (q_i + rest + c) s_i, with s_i = e_i / std_i for the mean and (e_i^2 - 1) / std_i for the std. Its
    second moment is E[q_i^2 s_i^2] + (sum_{j != i} v_j + c^2) E[s_i^2] + 2 c E[q_i s_i^2]. With the Gaussian
    moments E[(e^2-1)^2 e^2] = 10, E[(e^2-1)^3] = 8, E[(e^2-1)^4] = 60, and less the squared derivatives
    -k delta_i and -k std_i:

        mean: k^2 (2 delta_i^2 + 5/2 std_i^2) + sum_{j != i} v_j / std_i^2 + c^2 / std_i^2 - 2 k c
        std:  k^2 (10 delta_i^2 + 14 std_i^2) + 2 sum_{j != i} v_j / std_i^2 + 2 c^2 / std_i^2 - 8 k c

    c = 0 is the baseline E[q]; the minimum over c lowers these by k^2 std_i^2 (at c = k std_i^2) and by
    8 k^2 std_i^2 (at c = 2 k std_i^2), which is the optimal baseline; no baseline is c = E[q].

    Args:
        curvature: k.
        offset: `[D]`, delta = mean - c.
        std: `[D]`, > 0; the coordinates may differ.
        baseline: "none", "mean" or "optimal".

    Raises:
        ConfigError: for another baseline.
    """
    k = float(scalar(curvature, "curvature"))
    offset, std = _deviations("offset", offset, std)
    delta2, var = offset.square(), std.square()
    v = k**2 * (delta2 * var + var.square() / 2.0)
    rest = (v.sum() - v) / var
    expected_q = -k / 2.0 * (delta2 + var).sum()
    c_mean, c_std = _by_baseline(
        baseline,
        none=Gradient(expected_q, expected_q),
        mean=Gradient(0.0 * var, 0.0 * var),
        optimal=Gradient(k * var, 2.0 * k * var),
    )
    return Gradient(
        k**2 * (2.0 * delta2 + 2.5 * var) + rest + c_mean**2 / var - 2.0 * k * c_mean,
        k**2 * (10.0 * delta2 + 14.0 * var) + 2.0 * rest + 2.0 * c_std**2 / var - 8.0 * k * c_std,
    )


def sine_pathwise_variance(frequency: Numbers, mean: Numbers, std: Numbers) -> Gradient:
    """Exact variances of `pathwise_gradient` for q(a) = sin(w a) in one dimension, elementwise.

    With t = w std, from E[exp(i t e)] = exp(-t^2 / 2) and its derivatives in t:

        mean: w^2 (1 + cos(2 w mean) exp(-2 t^2)) / 2 - (w cos(w mean) exp(-t^2 / 2))^2
        std:  w^2 (1 + cos(2 w mean) (1 - 4 t^2) exp(-2 t^2)) / 2 - (w t sin(w mean) exp(-t^2 / 2))^2

    Both grow like w^2 / 2, the squared slope of q, while those of the score function stay bounded: at w = 20,
    std = 0.5 the mean's variance is 200 against 2.0. "The reparameterised gradient has the lower variance" is
    a statement about smooth q.

    Args:
        frequency: w.
        mean: any shape.
        std: same shape, > 0.
    """
    w = float(scalar(frequency, "frequency"))
    mean, std = _deviations("mean", mean, std)
    t = w * std
    second = torch.cos(2.0 * w * mean) * torch.exp(-2.0 * t.square())
    slope = _sine_derivative(w, mean, std)
    return Gradient(
        w**2 * (1.0 + second) / 2.0 - slope.mean.square(),
        w**2 * (1.0 + second * (1.0 - 4.0 * t.square())) / 2.0 - slope.std.square(),
    )


def sine_score_function_variance(
    frequency: Numbers, mean: Numbers, std: Numbers, baseline: Baseline = "none"
) -> Gradient:
    """Exact variances of `score_function_gradient` for q(a) = sin(w a) in one dimension, elementwise.

    E[(q - b)^2 s^2] = E[q^2 s^2] - 2 b E[q s^2] + b^2 E[s^2] for the score s. With m_n(t) the factor in
    E[e^n exp(i t e)] = m_n(t) exp(-t^2 / 2), that is m_2 = 1 - t^2 and m_4 = 3 - 6 t^2 + t^4, and with
    q^2 = (1 - cos(2 w a)) / 2, every term is a sine or cosine of the mean times a polynomial in t = w std
    (2 t for q^2) times a Gaussian factor.

    Args:
        frequency: w.
        mean: any shape.
        std: same shape, > 0.
        baseline: "none", "mean" (E[q]) or "optimal" (E[q s^2] / E[s^2]).

    Raises:
        ConfigError: for another baseline.
    """
    w = float(scalar(frequency, "frequency"))
    mean, std = _deviations("mean", mean, std)
    t = w * std
    slope = _sine_derivative(w, mean, std)
    q = torch.sin(w * mean) * torch.exp(-t.square() / 2.0)
    q_e2 = Gradient(q * _second_moment(t), q * _second_moment_of_square(t))
    double = torch.cos(2.0 * w * mean) * torch.exp(-2.0 * t.square())
    q2_e2 = Gradient(
        (1.0 - double * _second_moment(2.0 * t)) / 2.0,
        (2.0 - double * _second_moment_of_square(2.0 * t)) / 2.0,
    )
    b = _by_baseline(
        baseline,
        none=Gradient(0.0 * q, 0.0 * q),
        mean=Gradient(q, q),
        optimal=Gradient(q_e2.mean, q_e2.std / 2.0),
    )
    return Gradient(
        (q2_e2.mean - 2.0 * b.mean * q_e2.mean + b.mean.square()) / std.square() - slope.mean.square(),
        (q2_e2.std - 2.0 * b.std * q_e2.std + 2.0 * b.std.square()) / std.square() - slope.std.square(),
    )


def _inputs(mean: Numbers, std: Numbers, noise: Numbers) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and std `[D]`, std positive, and noise `[B, D]`."""
    mean, std = _deviations("mean", mean, std)
    noise = tensor(noise, "noise")
    if noise.ndim < 2:
        raise ConfigError(
            f"noise has shape {tuple(noise.shape)}",
            "expected [B, D], a row for each sample",
            "write one sample as a list in a list",
        )
    mean, std, noise = broadcast(mean=mean, std=std, noise=noise)
    return mean, std, noise


def _deviations(name: str, first: Numbers, std: Numbers) -> tuple[Tensor, Tensor]:
    """What has this name, and standard deviations that are positive."""
    first, std = broadcast(**{name: first, "std": std})
    if not bool((std > 0.0).all()):
        raise ConfigError(
            f"std has the entry {float(std.min()):g}",
            "standard deviations must be > 0",
            "a deterministic variable has no score, and no path either",
        )
    return first, std


def _second_moment(t: Tensor) -> Tensor:
    """E[e^2 exp(i t e)] / exp(-t^2 / 2)."""
    return 1.0 - t.square()


def _second_moment_of_square(t: Tensor) -> Tensor:
    """E[(e^2 - 1)^2 exp(i t e)] / exp(-t^2 / 2), from m_4 - 2 m_2 + 1."""
    return 2.0 - 4.0 * t.square() + t.pow(4)


def _score(noise: Tensor, std: Tensor) -> Gradient:
    """Gradient of log N(mean + std noise; mean, std), `[B, D]`."""
    return Gradient(noise / std, (noise.square() - 1.0) / std)


def _sine_derivative(w: float, mean: Tensor, std: Tensor) -> Gradient:
    """Gradient of E[sin(w a)] = sin(w mean) exp(-(w std)^2 / 2)."""
    decay = torch.exp(-(w * std).square() / 2.0)
    return Gradient(w * torch.cos(w * mean) * decay, -(w**2) * std * torch.sin(w * mean) * decay)


def _by_baseline(baseline: str, *, none: Gradient, mean: Gradient, optimal: Gradient) -> Gradient:
    choices = {"none": none, "mean": mean, "optimal": optimal}
    if baseline not in choices:
        raise ConfigError(
            f"baseline is {baseline!r}",
            "it must be 'none', 'mean' or 'optimal'",
            "pick one of the three",
        )
    return choices[baseline]
