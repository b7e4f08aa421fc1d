"""Returns and advantages of a rollout, one equation each.

A rollout is T rounds of N environments, time first: every tensor is `[T, N]`. Three of them say how its steps
hang together:

    discount    gamma (1 - terminated): the weight of what comes after step t
    next_value  V of the true next observation, also where the episode ended; the first observation of the
                next episode is never asked
    continues   1.0 where step t + 1 belongs to the same episode, 0.0 where the episode ended, by termination
                or by truncation. In the last row 1.0 means that the episode goes on after the rollout.

A truncated step thus keeps its discount and bootstraps; a terminated one has discount 0 and does not; neither
lets anything of the next episode through.
"""

import torch
from torch import Tensor

from softac.equations.inputs import Numbers, same_shape, scalar, tensor
from softac.equations.losses import td_target


def gae(
    reward: Numbers,
    discount: Numbers,
    value: Numbers,
    next_value: Numbers,
    continues: Numbers,
    gae_lambda: Numbers,
) -> Tensor:
    """A_t = delta_t + discount_t lambda continues_t A_{t+1}: the generalised advantage estimate, `[T, N]`.

    delta_t = r_t + discount_t V(s_{t+1}) - V(s_t) is the TD error. After the last row A is 0: the rest of an
    episode that goes on stands in the `next_value` of that row.

    lambda = 0 is the TD error itself: the least variance, and the errors of V as bias. lambda = 1 is the
    return less V(s_t), with V a mere baseline but where the episode or the rollout was cut off: it equals
    `reward_to_go(reward, discount, continues, next_value) - value` if `next_value` is the `value` of the next
    row wherever the episode continues there.

    Args:
        reward: `[T, N]`.
        discount: `[T, N]`, gamma (1 - terminated).
        value: `[T, N]`, V(s_t).
        next_value: `[T, N]`, V of the true next observation.
        continues: `[T, N]`, 0.0 where the episode ended, else 1.0.
        gae_lambda: in [0, 1].

    Raises:
        ConfigError: if the shapes differ.

    Source: arXiv:1506.02438, eq. 16, as a recursion; lambda = 0 and 1 are its eqs. 17 and 18.
    """
    reward, discount, value, next_value, continues = same_shape(
        "[T, N]", reward=reward, discount=discount, value=value, next_value=next_value, continues=continues
    )
    delta = td_target(reward, discount, next_value) - value
    weight = scalar(gae_lambda, "gae_lambda") * discount * continues
    advantage = torch.zeros_like(delta[0])
    advantages = []
    for delta_t, weight_t in zip(reversed(delta.unbind()), reversed(weight.unbind()), strict=True):
        advantage = delta_t + weight_t * advantage
        advantages.append(advantage)
    return torch.stack(advantages[::-1])


def reward_to_go(reward: Numbers, discount: Numbers, continues: Numbers, last_value: Numbers) -> Tensor:
    """G_t = r_t + discount_t (G_{t+1} if the episode continues in the rollout, else last_value_t), `[T, N]`.

    With `last_value` zero everywhere it is the Monte-Carlo return of what the rollout holds, complete where
    `finished` says so. With `last_value` V of the true next observation, what was cut off is bootstrapped.

    Args:
        reward: `[T, N]`.
        discount: `[T, N]`, gamma (1 - terminated).
        continues: `[T, N]`, 0.0 where the episode ended, else 1.0.
        last_value: `[T, N]`, read only where the episode ended and in the last row.

    Raises:
        ConfigError: if the shapes differ.

    Source: Sutton and Barto (2018), eq. 3.9.
    """
    reward, discount, continues, last_value = same_shape(
        "[T, N]", reward=reward, discount=discount, continues=continues, last_value=last_value
    )
    rows = zip(*(reversed(x.unbind()) for x in (reward, discount, continues > 0.0, last_value)), strict=True)
    returns: list[Tensor] = []
    for reward_t, discount_t, continues_t, last_value_t in rows:
        rest = torch.where(continues_t, returns[-1], last_value_t) if returns else last_value_t
        returns.append(reward_t + discount_t * rest)
    return torch.stack(returns[::-1])


def finished(continues: Numbers) -> Tensor:
    """Whether the episode of step t ended within the rollout, so that its return is complete; `[T, N]`, bool.

    Args:
        continues: `[T, N]`, 0.0 where the episode ended, else 1.0.
    """
    continues = tensor(continues, "continues")
    return continues.flip(0).cumprod(0).flip(0) == 0.0


def normalized(advantage: Numbers) -> Tensor:
    """The advantages with mean 0 and standard deviation 1, same shape; all 0 where they are all equal."""
    advantage = tensor(advantage, "advantage")
    scaled = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
    return scaled.masked_fill(_all_equal(advantage), 0.0)


def explained_variance(value: Numbers, target: Numbers) -> Tensor:
    """1 - Var[target - value] / Var[target], a scalar: 1 is a perfect V, 0 no better than a constant.

    Both `[B]`. Where the targets do not vary it is 0.
    """
    value, target = same_shape("[B]", value=value, target=target)
    variance = target.var(correction=0)
    ratio = (target - value).var(correction=0) / variance.clamp_min(1e-12)
    return torch.where((variance > 1e-12) & ~_all_equal(target), 1.0 - ratio, 0.0)


def _all_equal(values: Tensor) -> Tensor:
    """Whether all are one number: their mean may be another, rounded, from which they then seem to deviate."""
    return (values == values.flatten()[:1]).all()
