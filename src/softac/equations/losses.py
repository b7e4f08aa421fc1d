"""Targets and losses of soft actor-critic, one equation each.

Tensors are batch first. Per-sample scalars are `[B]`; an ensemble of N critics is `[N, B]`.
Targets are functions of given tensors: whoever builds one decides what is differentiated by
calling it inside `torch.no_grad()` or not.
"""

from torch import Tensor


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


def _same_shape(*tensors: Tensor) -> None:
    # [B, 1] against [B] would broadcast to [B, B] without a word.
    if any(t.shape != tensors[0].shape for t in tensors):
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
        raise ValueError(
            f"tensors of shapes {shapes} were given where one shape was expected; "
            "squeeze or index them so that every per-sample quantity is [B]"
        )
