"""Exercise 2. The maximum-entropy objective.

The sum over an episode of gamma^t (r_t + alpha H(pi(.|s_t))), with the entropy in nats.
"""

import torch
from torch import Tensor


def soft_return(rewards: Tensor, action_probs: Tensor, alpha: float, gamma: float) -> Tensor:
    """The discounted sum, a scalar.

    Args:
        rewards: [T].
        action_probs: [T, A], the policy in the state of each step; a probability may be 0.
        alpha: the temperature.
        gamma: the discount; the first step counts in full.
    """
    entropy = -torch.special.xlogy(action_probs, action_probs).sum(-1)
    discounts = gamma ** torch.arange(len(rewards), dtype=rewards.dtype)
    return (discounts * (rewards + alpha * entropy)).sum()
