"""Targets and losses of soft actor-critic and its relatives, one equation each.

Tensors are batch first. Per-sample scalars are `[B]`; an ensemble of N critics is `[N, B]`.
Targets are functions of given tensors: whoever builds one decides what is differentiated by
calling it inside `torch.no_grad()` or not.
"""

import torch
from torch import Tensor
from torch.nn import functional


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """R + gamma (1 - terminated) V(s'): the one-step target, all `[B]`.

    Source: Sutton and Barto (2018), section 6.1; `discount` carries gamma and the mask.
    """
    _same_shape(reward, discount, next_value)
    return reward + discount * next_value


def soft_q_target(
    reward: Tensor, discount: Tensor, next_q: Tensor, next_log_prob: Tensor, alpha: Tensor | float
) -> Tensor:
    """R + gamma (1 - terminated) (min_i Q_i(s', a') - alpha log pi(a'|s')), a' ~ pi(.|s').

    Args:
        reward: `[B]`.
        discount: `[B]`, gamma^n (1 - terminated).
        next_q: `[N, B]`, the target critics at (s', a').
        next_log_prob: `[B]`, log pi(a'|s').
        alpha: the temperature, a scalar >= 0.

    Source: arXiv:1812.05905, eq. 6 with the minimum of section 6 and algorithm 1. The entropy
    stands inside the discount: a terminal state has neither value nor entropy.
    """
    return td_target(reward, discount, soft_value_target(next_q, next_log_prob, alpha))


def soft_value_target(q: Tensor, log_prob: Tensor, alpha: Tensor | float) -> Tensor:
    """min_i Q_i(s, a) - alpha log pi(a|s), a ~ pi: a one-sample estimate of V(s), `[B]`.

    Args:
        q: `[N, B]`.
        log_prob: `[B]`.
        alpha: the temperature, a scalar >= 0.

    Source: arXiv:1812.05905, eq. 3.
    """
    value = q.amin(0)
    _same_shape(value, log_prob)
    return value - alpha * log_prob


def q_loss(q: Tensor, target: Tensor) -> Tensor:
    """sum_i mean_B 1/2 (Q_i(s, a) - y)^2, a scalar, for `q` `[N, B]` and `target` `[B]`.

    Source: arXiv:1812.05905, eq. 5, summed over the critics, each with its own parameters.
    """
    _same_shape(q[0], target)
    return 0.5 * (q - target).square().mean(1).sum()


def categorical_soft_q_target(
    reward: Tensor,
    discount: Tensor,
    next_logits: Tensor,
    next_log_prob: Tensor,
    alpha: Tensor | float,
    atoms: Tensor,
) -> Tensor:
    """The distribution of R + gamma (1 - terminated) (Z_i(s', a') - alpha log pi(a'|s')) on the atoms, `[B, K]`.

    i is the critic with the least mean at (s', a'). Every atom moves to where the equation takes it, cut to the
    ends, and its probability is shared by the two atoms next to that place, in proportion to their nearness.

    Args:
        reward: `[B]`.
        discount: `[B]`, gamma^n (1 - terminated).
        next_logits: `[N, B, K]`, the logits of Z_i(s', a').
        next_log_prob: `[B]`, log pi(a'|s').
        alpha: the temperature, a scalar >= 0.
        atoms: `[K]`, K >= 2, evenly spaced and rising.

    Source: arXiv:1707.06887, eq. 7 and algorithm 1; the least of the critics as in arXiv:2509.25174.
    """
    _same_shape(reward, discount, next_log_prob, next_logits[0, :, 0])
    probabilities = next_logits.softmax(-1)
    least = (probabilities * atoms).sum(-1).argmin(0)
    chosen = torch.nn.functional.one_hot(least, len(probabilities)).to(probabilities.dtype)
    believed = (probabilities * chosen.T.unsqueeze(-1)).sum(0)
    moved = reward[:, None] + discount[:, None] * (atoms - alpha * next_log_prob[:, None])
    places = (moved.clamp(atoms[0], atoms[-1]) - atoms[0]) / (atoms[1] - atoms[0])  # [B, K], counted in atoms
    indices = torch.arange(len(atoms), device=atoms.device)
    nearness = (1.0 - (places.unsqueeze(-1) - indices).abs()).clamp_min(0.0)  # [B, K, K]
    return (believed.unsqueeze(-1) * nearness).sum(1)


def categorical_q_loss(logits: Tensor, target: Tensor) -> Tensor:
    """sum_i mean_B -sum_k target_k log softmax(logits_i)_k, a scalar: the cross-entropy of each critic.

    Args:
        logits: `[N, B, K]`.
        target: `[B, K]`, probabilities.

    Source: arXiv:1707.06887, algorithm 1, summed over the critics.
    """
    _same_shape(logits[0], target, expected="[B, K]")
    return -(target * logits.log_softmax(-1)).sum(-1).mean(1).sum()


def huber_loss(q: Tensor, target: Tensor) -> Tensor:
    """sum_i mean_B h(Q_i(s, a) - y), a scalar, for `q` `[N, B]` and `target` `[B]`.

    h(e) = 1/2 e^2 for |e| <= 1 and |e| - 1/2 beyond: the squared error with its derivative clipped to [-1, 1].

    Source: Mnih et al. 2015, the error clipping of the methods.
    """
    _same_shape(q[0], target)
    return functional.huber_loss(q, target.expand_as(q), reduction="none").mean(1).sum()


def value_loss(v: Tensor, target: Tensor) -> Tensor:
    """mean_B 1/2 (V(s) - target)^2, a scalar, for `v` and `target` `[B]`.

    Source: arXiv:1801.01290, eq. 5.
    """
    _same_shape(v, target)
    return 0.5 * (v - target).square().mean()


def policy_loss(log_prob: Tensor, q: Tensor, alpha: Tensor | float) -> Tensor:
    """mean_B (alpha log pi(a|s) - Q(s, a)), a scalar, a = f(noise; s) reparameterised.

    Args:
        log_prob: `[B]`.
        q: `[B]`, one value a sample (the minimum over the critics in the paper).
        alpha: the temperature, a scalar >= 0.

    Source: arXiv:1812.05905, eq. 9.
    """
    _same_shape(log_prob, q)
    return (alpha * log_prob - q).mean()


def deterministic_policy_loss(q: Tensor) -> Tensor:
    """-mean_B Q(s, mu(s)), a scalar, for `q` `[B]`, differentiated through the action mu(s).

    Source: Silver et al. 2014, eq. 9; arXiv:1509.02971, eq. 6.
    """
    return -q.mean()


def score_function_policy_loss(log_prob: Tensor, q: Tensor, value: Tensor, alpha: Tensor | float) -> Tensor:
    """mean_B log pi(a|s) [alpha log pi(a|s) - Q(s, a) + V(s)], a scalar; the bracket carries no gradient.

    Its gradient estimates that of E[alpha log pi - Q] without the slope of Q: the likelihood-ratio trick. The
    value of the loss means nothing.

    Args:
        log_prob: `[B]`, log pi(a|s) of actions that were sampled and carry no gradient.
        q: `[B]`.
        value: `[B]`, a baseline that may depend on s and not on a; V(s) makes the bracket small.
        alpha: the temperature, a scalar >= 0.

    Source: Williams 1992 for the estimator; arXiv:1801.01290, section 4.2, which then takes the pathwise one
    of eq. 13.
    """
    _same_shape(log_prob, q, value)
    return (log_prob * (alpha * log_prob - q + value).detach()).mean()


def discrete_soft_value(q: Tensor, log_probs: Tensor, alpha: Tensor | float) -> Tensor:
    """sum_a pi(a|s) (min_i Q_i(s, a) - alpha log pi(a|s)): V(s), exact over the actions, `[B]`.

    Args:
        q: `[N, B, A]`.
        log_probs: `[B, A]`, normalised; minus infinity forbids an action, and 0 log 0 = 0.
        alpha: the temperature, a scalar >= 0.

    Source: arXiv:1910.07207, eq. 10, with the minimum over the critics.
    """
    value = q.amin(0)
    _same_shape(value, log_probs, expected="[B, A]")
    return (log_probs.exp() * (value - alpha * _finite(log_probs))).sum(1)


def discrete_policy_loss(log_probs: Tensor, q: Tensor, alpha: Tensor | float) -> Tensor:
    """mean_B sum_a pi(a|s) (alpha log pi(a|s) - Q(s, a)), a scalar, exact over the actions.

    Args:
        log_probs: `[B, A]`, normalised; minus infinity forbids an action, and 0 log 0 = 0.
        q: `[B, A]`, one value an action (the minimum over the critics in the paper).
        alpha: the temperature, a scalar >= 0.

    Source: arXiv:1910.07207, eq. 12.
    """
    _same_shape(log_probs, q, expected="[B, A]")
    return (log_probs.exp() * (alpha * _finite(log_probs) - q)).sum(1).mean()


def mixture_policy_loss(log_weights: Tensor, log_prob: Tensor, q: Tensor, alpha: Tensor | float) -> Tensor:
    """mean_B sum_k w_k (alpha log pi(a_k|s) - Q(s, a_k)), a scalar: marginalised reparameterisation.

    The sum over the components is exact, so the weights have a gradient; within each component the gradient
    is pathwise.

    Args:
        log_weights: `[B, K]`, w = exp(log_weights), normalised.
        log_prob: `[B, K]`, the log-density of the whole mixture at a_k, which component k reparameterised.
        q: `[B, K]`, one value a sample.
        alpha: the temperature, a scalar >= 0.

    Source: arXiv:2605.09157.
    """
    _same_shape(log_weights, log_prob, q, expected="[B, K]")
    return (log_weights.exp() * (alpha * log_prob - q)).sum(1).mean()


def policy_gradient_loss(log_prob: Tensor, advantage: Tensor) -> Tensor:
    """-mean log pi(a|s) A, a scalar, over tensors of one shape, whatever it is.

    Its gradient is the policy gradient, sign turned; its value means nothing. `advantage` must carry no
    gradient: detach it.

    Source: Williams 1992; Sutton and Barto (2018), section 13.4, for a return less a baseline as A.
    """
    _same_shape(log_prob, advantage, expected="of one shape")
    return -(log_prob * advantage).mean()


def clipped_surrogate_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """-mean_B min(r A, clip(r, 1 - c, 1 + c) A), r = pi(a|s) / pi_old(a|s), a scalar: the loss of PPO.

    Where r has already moved beyond the range in the direction that A asks for, the gradient is 0; where it
    has moved the other way, it is not.

    Args:
        log_prob: `[B]`, log pi(a|s).
        old_log_prob: `[B]`, under the policy that sampled a; must carry no gradient.
        advantage: `[B]`, must carry no gradient.
        clip_range: c, above 0.

    Source: arXiv:1707.06347, eq. 7, sign turned.
    """
    _same_shape(log_prob, old_log_prob, advantage)
    ratio = (log_prob - old_log_prob).exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return -torch.minimum(ratio * advantage, clipped * advantage).mean()


def approximate_kl(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """mean_B ((r - 1) - log r), r = pi(a|s) / pi_old(a|s), a ~ pi_old: an estimate of KL(pi_old || pi) in nats.

    Unbiased, as mean_B -log r is, since E[r] = 1. Each term is at least 0, and the variance is low where the
    policies are close. `log_prob` and `old_log_prob` are `[B]`.

    Source: J. Schulman, "Approximating KL divergence", 2020, the estimator k3.
    """
    _same_shape(log_prob, old_log_prob)
    log_ratio = log_prob - old_log_prob
    return (log_ratio.expm1() - log_ratio).mean()


def temperature_loss(log_alpha: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """-mean_B alpha (log pi(a|s) + target entropy), a scalar, with alpha = exp(log_alpha).

    Its derivative in log alpha is alpha (H - target): alpha falls while the policy is more random
    than asked. `log_prob` `[B]` must carry no gradient to the policy.

    Source: arXiv:1812.05905, eq. 18.
    """
    return -(log_alpha.exp() * (log_prob + target_entropy)).mean()


def log_temperature_loss(log_alpha: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """-mean_B log_alpha (log pi(a|s) + target entropy), a scalar.

    The variant of many codes: same sign and fixed point as `temperature_loss`, but its derivative
    H - target does not shrink with alpha.
    """
    return -(log_alpha * (log_prob + target_entropy)).mean()


def _finite(log_probs: Tensor) -> Tensor:
    # 0 times minus infinity is NaN; any finite number gives p log p = 0 at p = 0, and so does its gradient.
    return log_probs.masked_fill(log_probs.isneginf(), 0.0)


def _same_shape(*tensors: Tensor, expected: str = "[B]") -> None:
    # [B, 1] against [B] would broadcast to [B, B] without a word.
    if any(t.shape != tensors[0].shape for t in tensors):
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
        raise ValueError(
            f"tensors of shapes {shapes} were given where one shape was expected; "
            f"squeeze or index them so that every per-sample quantity is {expected}"
        )
