"""Policies as distributions over actions: noise in, action and log-density out.

All tensors are batch first: parameters and actions are `[..., D]`, log-densities are `[...]`.

    Gaussian          u = mean + std noise                     rsample, sample, log_prob, mode, entropy
    SquashedGaussian  tanh of it                               rsample, sample, log_prob, mode
    SquashedMixture   tanh of one of K Gaussians               rsample, sample, log_prob, mode
    Deterministic     one action                               rsample, log_prob, mode
    Categorical       one of A actions, as an integer          sample, log_prob, mode, entropy
    IndexedCategorical  the same, as a row of one number       sample, log_prob, mode, entropy
    MultiCategorical  several choices at once, as a row of as many   sample, log_prob, mode, entropy

The noise is an argument of both ways to sample. From `rsample` the action is differentiable in the
parameters. From `sample` it is a constant, and the gradient of its log-density is the score. Lists and
arrays of NumPy are taken as well as tensors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from softac.equations.inputs import Numbers, tensor
from softac.errors import ConfigError

LOG_2 = math.log(2.0)
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def log_one_minus_tanh_squared(u: Numbers) -> Tensor:
    """log(1 - tanh(u)^2), the log-derivative of tanh, elementwise and exact to rounding.

    Computed as 2 (log 2 - u - softplus(-2u)). The form log(1 - a^2 + 1e-6) found in many codes
    is off by 0.04 at |u| = 6 and by 4.8 at |u| = 10, and its gradient vanishes there.

    Source: arXiv:1812.05905, appendix C, eq. 21, in a stable arrangement.
    """
    u = tensor(u, "u")
    return 2.0 * (LOG_2 - u - softplus(-2.0 * u))


def change_of_variables(
    bijection: Callable[[Tensor], Tensor], u: Numbers, log_prob: Numbers
) -> tuple[Tensor, Tensor]:
    """Density of a = f(u) for an elementwise bijection f: log p_a(a) = log p_u(u) - sum_i log |f'(u_i)|.

    The Jacobian of an elementwise map is diagonal, so the logarithm of its absolute determinant is a sum.
    The absolute value matters for decreasing maps; tanh happens not to need it.

    Args:
        bijection: differentiable, strictly monotone, acting on each element alone.
        u: `[..., D]`.
        log_prob: `[...]`, the log-density of u.

    Returns:
        a `[..., D]` and its log-density `[...]`. The derivative is taken of f as float arithmetic has it: for
        tanh it is 0 beyond |u| = 9 in float32, where `SquashedGaussian` stays exact.

    Source: arXiv:1812.05905, appendix C, eq. 20, with the determinant where the text says Jacobian.
    """
    u, log_prob = tensor(u, "u"), tensor(log_prob, "log_prob")
    a, pull_back = torch.func.vjp(bijection, u)[:2]
    (slope,) = pull_back(torch.ones_like(u))
    return a, log_prob - slope.abs().log().sum(-1)


@dataclass(frozen=True)
class Gaussian:
    """a ~ N(mean, diag(std^2)): the unbounded policy of on-policy methods.

    Args:
        mean: `[..., D]`.
        log_std: `[..., D]`, the logarithm of the standard deviation (not the variance).
    """

    mean: Tensor
    log_std: Tensor

    def __post_init__(self) -> None:
        _take(self, "mean", "log_std")

    def rsample(self, noise: Numbers) -> tuple[Tensor, Tensor]:
        """Map standard normal `noise [..., D]` to an action `[..., D]` and its log-density `[...]`."""
        noise = tensor(noise, "noise")
        action = self.mean + self.log_std.exp() * noise
        return action, (-0.5 * noise.square() - self.log_std - HALF_LOG_2PI).sum(-1)

    def sample(self, noise: Numbers) -> tuple[Tensor, Tensor]:
        """The same sample held constant, and its log-density, whose gradient is the score."""
        action = (self.mean + self.log_std.exp() * tensor(noise, "noise")).detach()
        return action, self.log_prob(action)

    def log_prob(self, action: Numbers) -> Tensor:
        """Log-density `[...]` of given actions `[..., D]`; above 0 where the density exceeds 1."""
        return _log_normal(tensor(action, "action"), self.mean, self.log_std)

    def mode(self) -> Tensor:
        """The mean `[..., D]`."""
        return self.mean

    def entropy(self) -> Tensor:
        """Differential entropy in nats, `[...]`; it may be negative."""
        return (0.5 + HALF_LOG_2PI + self.log_std).sum(-1)


@dataclass(frozen=True)
class SquashedGaussian:
    """a = tanh(u), u ~ N(mean, diag(std^2)): the policy of soft actor-critic.

    Args:
        mean: `[..., D]`, the mean of u.
        log_std: `[..., D]`, the logarithm of the standard deviation (not the variance) of u.

    Source: arXiv:1812.05905, appendix C.
    """

    mean: Tensor
    log_std: Tensor

    def __post_init__(self) -> None:
        _take(self, "mean", "log_std")

    def rsample(self, noise: Numbers) -> tuple[Tensor, Tensor]:
        """Map standard normal `noise` to an action and its log-density, differentiably.

        Args:
            noise: `[..., D]`, drawn from N(0, 1).

        Returns:
            The action `[..., D]` in [-1, 1] and log pi(action) `[...]`. The density is evaluated
            on the sample before the tanh, so it stays exact where float32 tanh rounds to 1.
        """
        noise = tensor(noise, "noise")
        u = self.mean + self.log_std.exp() * noise
        log_normal = -0.5 * noise.square() - self.log_std - HALF_LOG_2PI
        return u.tanh(), (log_normal - log_one_minus_tanh_squared(u)).sum(-1)

    def action(self, noise: Numbers) -> Tensor:
        """The action of `rsample` alone, for acting: the same bits, without its log-density."""
        return (self.mean + self.log_std.exp() * tensor(noise, "noise")).tanh()

    def sample(self, noise: Numbers) -> tuple[Tensor, Tensor]:
        """The same sample held constant, and its log-density, whose gradient is the score.

        The density is evaluated before the tanh, as in `rsample`.
        """
        u = (self.mean + self.log_std.exp() * tensor(noise, "noise")).detach()
        return u.tanh(), _log_normal(u, self.mean, self.log_std) - log_one_minus_tanh_squared(u).sum(-1)

    def log_prob(self, action: Numbers) -> Tensor:
        """Log-density `[...]` of given actions `[..., D]` in [-1, 1].

        tanh cannot be inverted where it has rounded to 1, so |action| is clamped to the largest
        number below 1 of its dtype (|u| <= 8.66 in float32, 18.7 in float64) and the value there
        is that of the clamp. Use `rsample` where the pre-tanh sample is known.
        """
        u = _atanh(action)
        return _log_normal(u, self.mean, self.log_std) - log_one_minus_tanh_squared(u).sum(-1)

    def mode(self) -> Tensor:
        """tanh(mean) `[..., D]`: the deterministic action used for evaluation.

        It is the median of each coordinate and the image of the Gaussian's mode; the density of
        the squashed variable itself can peak elsewhere.
        """
        return self.mean.tanh()


@dataclass(frozen=True)
class SquashedMixture:
    """a = tanh(u), u ~ sum_k w_k N(mean_k, diag(std_k^2)), with the exact density of the mixture.

    Args:
        logits: `[..., K]`, w = softmax(logits).
        means: `[..., K, D]`.
        log_stds: `[..., K, D]`.

    The log-density is that of the whole mixture, not of the component that was drawn: the latter
    underestimates the entropy of overlapping components.
    """

    logits: Tensor
    means: Tensor
    log_stds: Tensor

    def __post_init__(self) -> None:
        _take(self, "logits", "means", "log_stds")

    def rsample(self, noise: Numbers) -> tuple[Tensor, Tensor]:
        """Draw from every component at once, differentiably in the means and stds.

        Args:
            noise: `[..., K, D]`, drawn from N(0, 1).

        Returns:
            Actions `[..., K, D]`, one from each component, and the mixture's log-density at each, `[..., K]`.
            E[f] under the policy is the sum over k of w_k f(action_k), which is differentiable in the logits
            as well; a single draw from the mixture is not.
        """
        u = self.means + self.log_stds.exp() * tensor(noise, "noise")
        return u.tanh(), self._log_prob_before_tanh(u, extra_axis=True)

    def sample(self, noise: Numbers, uniform: Numbers) -> tuple[Tensor, Tensor]:
        """Draw one action, a constant; the gradient of its log-density is the score.

        Args:
            noise: `[..., D]`, drawn from N(0, 1).
            uniform: `[..., K]`, drawn from U(0, 1); it chooses the component.

        Returns:
            The action `[..., D]` and the mixture's log-density there, `[...]`.
        """
        chosen = _gumbel_argmax(self.logits, tensor(uniform, "uniform"))[..., None, None]
        index = chosen.expand(*chosen.shape[:-1], self.means.shape[-1])
        mean = self.means.gather(-2, index).squeeze(-2)
        log_std = self.log_stds.gather(-2, index).squeeze(-2)
        u = (mean + log_std.exp() * tensor(noise, "noise")).detach()
        return u.tanh(), self._log_prob_before_tanh(u, extra_axis=False)

    def log_prob(self, action: Numbers) -> Tensor:
        """Log-density `[...]` of given actions `[..., D]`, clamped at the ends as in `SquashedGaussian`."""
        return self._log_prob_before_tanh(_atanh(action), extra_axis=False)

    def mode(self) -> Tensor:
        """The tanh of the component mean where the mixture before the tanh is densest, `[..., D]`."""
        log_density = self._log_mixture(self.means, extra_axis=True)
        best = log_density.argmax(-1)[..., None, None]
        return self.means.gather(-2, best.expand(*best.shape[:-1], self.means.shape[-1])).squeeze(-2).tanh()

    def _log_mixture(self, u: Tensor, extra_axis: bool) -> Tensor:
        """Log-density of u `[..., D]`, or of `[..., M, D]` with the extra axis, before the tanh."""
        means, log_stds, log_weights = self.means, self.log_stds, self.logits.log_softmax(-1)
        if extra_axis:
            means, log_stds, log_weights = (
                means.unsqueeze(-3),
                log_stds.unsqueeze(-3),
                log_weights.unsqueeze(-2),
            )
        return (log_weights + _log_normal(u.unsqueeze(-2), means, log_stds)).logsumexp(-1)

    def _log_prob_before_tanh(self, u: Tensor, extra_axis: bool) -> Tensor:
        return self._log_mixture(u, extra_axis) - log_one_minus_tanh_squared(u).sum(-1)


@dataclass(frozen=True)
class Deterministic:
    """One action with certainty: the policy of DDPG and TD3.

    Args:
        action: `[..., D]`.

    It has no density against volume (that would be infinite, and its differential entropy minus infinity, not
    0), so probabilities are counted against the point itself: log 1 = 0 at the action, minus infinity
    elsewhere. With temperature 0 the soft equations then hold as they stand.
    """

    action: Tensor

    def __post_init__(self) -> None:
        _take(self, "action")

    def rsample(self, noise: Numbers) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - the face of the others
        """The action `[..., D]` and log-probability 0 `[...]`, whatever the noise."""
        return self.action, torch.zeros_like(self.action[..., 0])

    def log_prob(self, action: Numbers) -> Tensor:
        """0 where `action [..., D]` is exactly the action, minus infinity elsewhere, `[...]`."""
        same = (tensor(action, "action") == self.action).all(-1)
        return torch.zeros_like(self.action[..., 0]).masked_fill(~same, -math.inf)

    def mode(self) -> Tensor:
        """The action `[..., D]`."""
        return self.action


@dataclass(frozen=True)
class Categorical:
    """One of A actions with probabilities softmax(logits).

    Args:
        logits: `[..., A]`, unnormalised; minus infinity forbids an action.
    """

    logits: Tensor

    def __post_init__(self) -> None:
        _take(self, "logits")

    def log_probs(self) -> Tensor:
        """Log-probabilities of all actions, `[..., A]`."""
        return self.logits.log_softmax(-1)

    def sample(self, uniform: Numbers) -> tuple[Tensor, Tensor]:
        """Map `uniform [..., A]`, drawn from U(0, 1), to an action `[...]` (int64) and its log-probability.

        Adds Gumbel noise -log(-log uniform) to the logits and takes the largest.
        """
        action = _gumbel_argmax(self.logits, tensor(uniform, "uniform"))
        return action, self.log_prob(action)

    def log_prob(self, action: Numbers) -> Tensor:
        """Log-probability `[...]` of given actions `[...]` (integers)."""
        return self.log_probs().gather(-1, _index(action, self.logits.shape[-1]).unsqueeze(-1)).squeeze(-1)

    def mode(self) -> Tensor:
        """The most probable action `[...]` (int64)."""
        return self.logits.argmax(-1)

    def entropy(self) -> Tensor:
        """-sum_a p log p in nats, `[...]`; forbidden actions count as 0 log 0 = 0."""
        log_probs = self.log_probs()
        # 0 times minus infinity is NaN; any finite number gives p log p = 0 at p = 0, and so does its gradient.
        return -(log_probs.exp() * log_probs.masked_fill(log_probs.isneginf(), 0.0)).sum(-1)


@dataclass(frozen=True)
class IndexedCategorical:
    """A `Categorical` whose actions are rows of one number, the index, as a replay keeps them.

    It has the face of `Gaussian`, so that an on-policy method need not ask which of the two it has.

    Args:
        logits: `[..., A]`, unnormalised.
    """

    logits: Tensor

    def __post_init__(self) -> None:
        _take(self, "logits")

    def sample(self, noise: Numbers) -> tuple[Tensor, Tensor]:
        """Map `noise [..., A]`, drawn from U(0, 1), to an action `[..., 1]` and its log-probability `[...]`."""
        action, log_prob = Categorical(self.logits).sample(noise)
        return action.unsqueeze(-1).to(self.logits.dtype), log_prob

    def log_prob(self, action: Numbers) -> Tensor:
        """Log-probability `[...]` of given actions `[..., 1]`."""
        (index,) = _columns(action, 1)
        return Categorical(self.logits).log_prob(index)

    def mode(self) -> Tensor:
        """The most probable action `[..., 1]`."""
        return Categorical(self.logits).mode().unsqueeze(-1).to(self.logits.dtype)

    def entropy(self) -> Tensor:
        """-sum_a p log p in nats, `[...]`."""
        return Categorical(self.logits).entropy()


@dataclass(frozen=True)
class MultiCategorical:
    """Several choices at once, independent of each other: a product of categoricals, one log-probability.

    Actions are rows of one index for each choice.

    Args:
        logits: `[..., A_1 + ... + A_D]`, unnormalised, choice after choice.
        choices: (A_1, ..., A_D), how many there are to choose from in each.
    """

    logits: Tensor
    choices: tuple[int, ...]

    def __post_init__(self) -> None:
        _take(self, "logits")

    def _factors(self) -> list[Categorical]:
        return [Categorical(logits) for logits in torch.split(self.logits, list(self.choices), -1)]

    def sample(self, noise: Numbers) -> tuple[Tensor, Tensor]:
        """Map `noise` like the logits, drawn from U(0, 1), to an action `[..., D]` and its log-probability."""
        noises = torch.split(tensor(noise, "noise"), list(self.choices), -1)
        drawn = [factor.sample(part) for factor, part in zip(self._factors(), noises, strict=True)]
        action = torch.stack([index for index, _ in drawn], -1).to(self.logits.dtype)
        return action, torch.stack([log_prob for _, log_prob in drawn], -1).sum(-1)

    def log_prob(self, action: Numbers) -> Tensor:
        """Log-probability `[...]` of given actions `[..., D]`: the sum over the choices."""
        indices = _columns(action, len(self.choices))
        each = [factor.log_prob(index) for factor, index in zip(self._factors(), indices, strict=True)]
        return torch.stack(each, -1).sum(-1)

    def mode(self) -> Tensor:
        """The most probable action `[..., D]`."""
        return torch.stack([factor.mode() for factor in self._factors()], -1).to(self.logits.dtype)

    def entropy(self) -> Tensor:
        """In nats, `[...]`: the sum over the choices."""
        return torch.stack([factor.entropy() for factor in self._factors()], -1).sum(-1)


def _log_normal(u: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    standardised = (u - mean) * (-log_std).exp()
    return (-0.5 * standardised.square() - log_std - HALF_LOG_2PI).sum(-1)


def _take(distribution: Any, *names: str) -> None:
    """Let the fields of these names be tensors."""
    for name in names:
        value = getattr(distribution, name)
        if not isinstance(value, Tensor):
            object.__setattr__(distribution, name, tensor(value, name))


def _columns(action: Numbers, n: int) -> list[Numbers]:
    """Rows of `n` indices as one array for each; of what is no tensor none either, so that it is looked into."""
    rows = tensor(action, "action")
    if rows.ndim == 0 or rows.shape[-1] != n:
        raise ConfigError(
            f"action has shape {tuple(rows.shape)}",
            f"expected [..., {n}], one index for each choice",
            "write each action as a list",
        )
    columns = rows.unbind(-1)
    return list(columns) if isinstance(action, Tensor) else [column.numpy() for column in columns]


def _index(action: Numbers, n: int) -> Tensor:
    """Actions as indices. A tensor is trusted: to look into it would stop the device."""
    index = tensor(action, "action")
    if not isinstance(action, Tensor) and not bool(((index >= 0) & (index < n) & (index == index.floor())).all()):
        raise ConfigError(
            f"action is {action!r:.100}",
            f"expected whole numbers from 0 to {n - 1}",
            "count actions from 0",
        )
    return index.long()


def _atanh(action: Numbers) -> Tensor:
    action = tensor(action, "action")
    largest = 1.0 - torch.finfo(action.dtype).eps / 2.0
    return action.clamp(-largest, largest).atanh()


def _gumbel_argmax(logits: Tensor, uniform: Tensor) -> Tensor:
    # 0, which a generator gives once in 2^24 times, would make a possible choice as impossible as a forbidden one.
    uniform = uniform.clamp_min(torch.finfo(uniform.dtype).tiny)
    return (logits - (-uniform.log()).log()).argmax(-1)
