"""Targets and losses of soft actor-critic and its relatives, one equation each.

Tensors are batch first. Per-sample scalars are `[B]`; an ensemble of N critics is `[N, B]`.
Lists and arrays of NumPy are taken, too; shapes that do not fit are a `ConfigError`.
Targets are functions of given tensors: whoever builds one decides what is differentiated by
calling it inside `torch.no_grad()` or not.
"""

import torch
from torch import Tensor
from torch.nn import functional

from softac.equations.inputs import Numbers, same_shape, scalar, tensor
from softac.errors import ConfigError


def td_target(reward: Numbers, discount: Numbers, next_value: Numbers) -> Tensor:
    """R + gamma (1 - terminated) V(s'): the one-step target, all `[B]`.

    Source: Sutton and Barto (2018), section 6.1; `discount` carries gamma and the mask.
    """
    reward, discount, next_value = same_shape("[B]", reward=reward, discount=discount, next_value=next_value)
    return reward + discount * next_value


def soft_reward(reward: Numbers, bonus: Numbers, alpha: Numbers) -> Tensor:
    """The rewards of n steps with the entropy bonuses between them, `[B]`: what a soft n-step target begins with.

    `reward` `[B]` is sum_{k=0}^{n-1} gamma^k r_k, `bonus` `[B]` is -sum_{k=1}^{n-1} gamma^k log pi(a_k|s_k) and
    `alpha` the temperature. The entropy of step 0 is no part of Q(s_0, a_0), that of step n is the value's.

    Source: arXiv:1812.05905, eq. 2 and 3, applied n times.
    """
    reward, bonus = same_shape("[B]", reward=reward, bonus=bonus)
    return reward + scalar(alpha, "alpha") * bonus


def soft_q_target(
    reward: Numbers, discount: Numbers, next_q: Numbers, next_log_prob: Numbers, alpha: Numbers
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
    next_q, next_log_prob = tensor(next_q, "next_q"), tensor(next_log_prob, "next_log_prob")
    return td_target(reward, discount, soft_value_target(next_q, next_log_prob, alpha))


def soft_value_target(q: Numbers, log_prob: Numbers, alpha: Numbers) -> Tensor:
    """min_i Q_i(s, a) - alpha log pi(a|s), a ~ pi: a one-sample estimate of V(s), `[B]`.

    Args:
        q: `[N, B]`.
        log_prob: `[B]`.
        alpha: the temperature, a scalar >= 0.

    Source: arXiv:1812.05905, eq. 3.
    """
    value, log_prob = same_shape("[B]", q=_least(q), log_prob=log_prob)
    return value - scalar(alpha, "alpha") * log_prob


def q_loss(q: Numbers, target: Numbers) -> Tensor:
    """sum_i mean_B 1/2 (Q_i(s, a) - y)^2, a scalar, for `q` `[N, B]` and `target` `[B]`.

    Source: arXiv:1812.05905, eq. 5, summed over the critics, each with its own parameters.
    """
    q, target = _critics(q, target)
    return 0.5 * (q - target).square().mean(1).sum()


def categorical_soft_q_target(
    reward: Numbers,
    discount: Numbers,
    next_logits: Numbers,
    next_log_prob: Numbers,
    alpha: Numbers,
    atoms: Numbers,
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
    next_logits, atoms = tensor(next_logits, "next_logits"), tensor(atoms, "atoms")
    reward, discount, next_log_prob = _samples(next_logits, atoms, reward, discount, next_log_prob)
    probabilities = next_logits.softmax(-1)
    least = (probabilities * atoms).sum(-1).argmin(0)
    chosen = torch.nn.functional.one_hot(least, len(probabilities)).to(probabilities.dtype)
    believed = (probabilities * chosen.T.unsqueeze(-1)).sum(0)
    moved = reward[:, None] + discount[:, None] * (atoms - scalar(alpha, "alpha") * next_log_prob[:, None])
    places = (moved.clamp(atoms[0], atoms[-1]) - atoms[0]) / (atoms[1] - atoms[0])  # [B, K], counted in atoms
    indices = torch.arange(len(atoms), device=atoms.device)
    nearness = (1.0 - (places.unsqueeze(-1) - indices).abs()).clamp_min(0.0)  # [B, K, K]
    return (believed.unsqueeze(-1) * nearness).sum(1)


def categorical_q_loss(logits: Numbers, target: Tensor) -> Tensor:
    """sum_i mean_B -sum_k target_k log softmax(logits_i)_k, a scalar: the cross-entropy of each critic.

    Args:
        logits: `[N, B, K]`.
        target: `[B, K]`, probabilities.

    Source: arXiv:1707.06887, algorithm 1, summed over the critics.
    """
    logits, target = _critics(logits, target, "logits", "[B, K]")
    return -(target * logits.log_softmax(-1)).sum(-1).mean(1).sum()


def huber_loss(q: Numbers, target: Numbers) -> Tensor:
    """sum_i mean_B h(Q_i(s, a) - y), a scalar, for `q` `[N, B]` and `target` `[B]`.

    h(e) = 1/2 e^2 for |e| <= 1 and |e| - 1/2 beyond: the squared error with its derivative clipped to [-1, 1].

    Source: Mnih et al. 2015, the error clipping of the methods.
    """
    q, target = _critics(q, target)
    return functional.huber_loss(q, target.expand_as(q), reduction="none").mean(1).sum()


def value_loss(v: Numbers, target: Numbers) -> Tensor:
    """mean_B 1/2 (V(s) - target)^2, a scalar, for `v` and `target` `[B]`.

    Source: arXiv:1801.01290, eq. 5.
    """
    v, target = same_shape("[B]", v=v, target=target)
    return 0.5 * (v - target).square().mean()


def policy_loss(log_prob: Numbers, q: Numbers, alpha: Numbers) -> Tensor:
    """mean_B (alpha log pi(a|s) - Q(s, a)), a scalar, a = f(noise; s) reparameterised.

    Args:
        log_prob: `[B]`.
        q: `[B]`, one value a sample (the minimum over the critics in the paper).
        alpha: the temperature, a scalar >= 0.

    Source: arXiv:1812.05905, eq. 9.
    """
    log_prob, q = same_shape("[B]", log_prob=log_prob, q=q)
    return (scalar(alpha, "alpha") * log_prob - q).mean()


def deterministic_policy_loss(q: Numbers) -> Tensor:
    """-mean_B Q(s, mu(s)), a scalar, for `q` `[B]`, differentiated through the action mu(s).

    Source: Silver et al. 2014, eq. 9; arXiv:1509.02971, eq. 6.
    """
    return -tensor(q, "q").mean()


def behaviour_penalty(action: Numbers, data_action: Numbers) -> Tensor:
    """|a - a_data|^2, `[B]`, summed over the coordinates of `action` and `data_action` `[B, A]`.

    Source: arXiv:2305.09836, section 3 (the penalties of actor and critics).
    """
    return (tensor(action, "action") - tensor(data_action, "data_action")).square().sum(-1)


def normalized_policy_loss(q: Numbers, penalty: Numbers) -> Tensor:
    """mean_B (penalty - Q / mean_B |Q|), a scalar, for `q` and `penalty` `[B]`; the mean |Q| carries no gradient.

    Values of any size thus weigh as much against the penalty.

    Source: arXiv:2106.06860, eq. 5; arXiv:2305.09836, section 3.
    """
    q, penalty = tensor(q, "q"), tensor(penalty, "penalty")
    return (penalty - q / q.detach().abs().mean()).mean()


def score_function_policy_loss(log_prob: Numbers, q: Numbers, value: Numbers, alpha: Numbers) -> Tensor:
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
    log_prob, q, value = same_shape("[B]", log_prob=log_prob, q=q, value=value)
    return (log_prob * (scalar(alpha, "alpha") * log_prob - q + value).detach()).mean()


def discrete_soft_value(q: Numbers, log_probs: Numbers, alpha: Numbers) -> Tensor:
    """sum_a pi(a|s) (min_i Q_i(s, a) - alpha log pi(a|s)): V(s), exact over the actions, `[B]`.

    Args:
        q: `[N, B, A]`.
        log_probs: `[B, A]`, normalised; minus infinity forbids an action, and 0 log 0 = 0.
        alpha: the temperature, a scalar >= 0.

    Source: arXiv:1910.07207, eq. 10, with the minimum over the critics.
    """
    value, log_probs = same_shape("[B, A]", q=_least(q), log_probs=log_probs)
    return (log_probs.exp() * (value - scalar(alpha, "alpha") * _finite(log_probs))).sum(1)


def discrete_policy_loss(log_probs: Numbers, q: Numbers, alpha: Numbers) -> Tensor:
    """mean_B sum_a pi(a|s) (alpha log pi(a|s) - Q(s, a)), a scalar, exact over the actions.

    Args:
        log_probs: `[B, A]`, normalised; minus infinity forbids an action, and 0 log 0 = 0.
        q: `[B, A]`, one value an action (the minimum over the critics in the paper).
        alpha: the temperature, a scalar >= 0.

    Source: arXiv:1910.07207, eq. 12.
    """
    log_probs, q = same_shape("[B, A]", log_probs=log_probs, q=q)
    return (log_probs.exp() * (scalar(alpha, "alpha") * _finite(log_probs) - q)).sum(1).mean()


def mixture_policy_loss(log_weights: Numbers, log_prob: Numbers, q: Numbers, alpha: Numbers) -> Tensor:
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
    log_weights, log_prob, q = same_shape("[B, K]", log_weights=log_weights, log_prob=log_prob, q=q)
    return (log_weights.exp() * (scalar(alpha, "alpha") * log_prob - q)).sum(1).mean()


def policy_gradient_loss(log_prob: Numbers, advantage: Numbers) -> Tensor:
    """-mean log pi(a|s) A, a scalar, over tensors of one shape, whatever it is.

    Its gradient is the policy gradient, sign turned; its value means nothing. `advantage` must carry no
    gradient: detach it.

    Source: Williams 1992; Sutton and Barto (2018), section 13.4, for a return less a baseline as A.
    """
    log_prob, advantage = same_shape("whatever it is", log_prob=log_prob, advantage=advantage)
    return -(log_prob * advantage).mean()


def clipped_surrogate_loss(
    log_prob: Numbers, old_log_prob: Numbers, advantage: Numbers, clip_range: Numbers
) -> Tensor:
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
    log_prob, old_log_prob, advantage = same_shape(
        "[B]", log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage
    )
    ratio, width = (log_prob - old_log_prob).exp(), float(scalar(clip_range, "clip_range"))
    clipped = ratio.clamp(1.0 - width, 1.0 + width)
    return -torch.minimum(ratio * advantage, clipped * advantage).mean()


def approximate_kl(log_prob: Numbers, old_log_prob: Numbers) -> Tensor:
    """mean_B ((r - 1) - log r), r = pi(a|s) / pi_old(a|s), a ~ pi_old: an estimate of KL(pi_old || pi) in nats.

    Unbiased, as mean_B -log r is, since E[r] = 1. Each term is at least 0, and the variance is low where the
    policies are close. `log_prob` and `old_log_prob` are `[B]`.

    Source: J. Schulman, "Approximating KL divergence", 2020, the estimator k3.
    """
    log_prob, old_log_prob = same_shape("[B]", log_prob=log_prob, old_log_prob=old_log_prob)
    log_ratio = log_prob - old_log_prob
    return (log_ratio.expm1() - log_ratio).mean()


def temperature_loss(log_alpha: Numbers, log_prob: Numbers, target_entropy: Numbers) -> Tensor:
    """-mean_B alpha (log pi(a|s) + target entropy), a scalar, with alpha = exp(log_alpha).

    Its derivative in log alpha is alpha (H - target): alpha falls while the policy is more random
    than asked. `log_prob` `[B]` must carry no gradient to the policy.

    Source: arXiv:1812.05905, eq. 18.
    """
    log_alpha, log_prob = tensor(log_alpha, "log_alpha"), tensor(log_prob, "log_prob")
    return -(log_alpha.exp() * (log_prob + scalar(target_entropy, "target_entropy"))).mean()


def log_temperature_loss(log_alpha: Numbers, log_prob: Numbers, target_entropy: Numbers) -> Tensor:
    """-mean_B log_alpha (log pi(a|s) + target entropy), a scalar.

    The variant of many codes: same sign and fixed point as `temperature_loss`, but its derivative
    H - target does not shrink with alpha.
    """
    log_alpha, log_prob = tensor(log_alpha, "log_alpha"), tensor(log_prob, "log_prob")
    return -(log_alpha * (log_prob + scalar(target_entropy, "target_entropy"))).mean()


def _finite(log_probs: Tensor) -> Tensor:
    # 0 times minus infinity is NaN; any finite number gives p log p = 0 at p = 0, and so does its gradient.
    return log_probs.masked_fill(log_probs.isneginf(), 0.0)


def _least(q: Numbers) -> Tensor:
    return tensor(q, "q").amin(0)


def _critics(q: Numbers, target: Numbers, name: str = "q", expected: str = "[B]") -> tuple[Tensor, Tensor]:
    """Critics `[N, ...]` and a target without the N, against which a target with it would broadcast."""
    q, target = tensor(q, name), tensor(target, "target")
    if q.ndim == 0:
        raise ConfigError(
            f"{name} is one number",
            f"expected [N, {expected[1:]}, a row for each of N critics",
            "put it into two lists",
        )
    same_shape(expected, **{f"each critic's {name}": q[0], "target": target})
    return q, target


def _samples(
    next_logits: Tensor, atoms: Tensor, reward: Numbers, discount: Numbers, next_log_prob: Numbers
) -> tuple[Tensor, ...]:
    """What there is of each sample, `[B]`, beside logits `[N, B, K]` for atoms `[K]`."""
    if next_logits.ndim != 3 or atoms.shape != next_logits.shape[-1:]:
        raise ConfigError(
            f"next_logits has shape {tuple(next_logits.shape)} and atoms {tuple(atoms.shape)}",
            "expected [N, B, K] and [K]",
            "give N critics, B samples and K atoms",
        )
    named = {"reward": reward, "discount": discount, "next_log_prob": next_log_prob}
    return same_shape("[B]", **named, **{"a critic's next_logits": next_logits[0, :, 0]})[:3]
