"""Exercise 2. The maximum-entropy objective.

The sum over an episode of gamma^t (r_t + alpha H(pi(.|s_t))), with the entropy in nats.
"""

# ruff: noqa: F401 - some imports wait for your answer

import math

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
    raise NotImplementedError
