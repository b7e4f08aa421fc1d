"""Exercise 7. The loss of the soft value function.

J = E_s[1/2 (V(s) - E_{a ~ pi}[Q(s, a) - alpha log pi(a|s)])^2]
"""

# ruff: noqa: F401 - some imports wait for your answer

import math

import torch
from torch import Tensor


def q_function(states: Tensor, actions: Tensor) -> Tensor:
    """A toy Q: Q(s, a) = sum_i s_i a_i. The value of each pair, [B], for states [B, D] and actions [B, D]."""
    raise NotImplementedError


def soft_v_loss(v: Tensor, q: Tensor, action_probs: Tensor, alpha: float) -> Tensor:
    """The loss, a scalar. Only v learns from it.

    Args:
        v: [B], the predictions V(s).
        q: [B, A], Q(s, a) of every action.
        action_probs: [B, A], pi(a|s), all positive.
        alpha: the temperature.
    """
    raise NotImplementedError
