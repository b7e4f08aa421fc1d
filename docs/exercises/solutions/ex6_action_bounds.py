"""Exercise 6. Enforcing action bounds.

u is Gaussian and unbounded, the action a = tanh(u) is not, and

    log pi(a|s) = log mu(u|s) - sum_i log(1 - tanh(u_i)^2)
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus


def question_1_squash(u: Tensor) -> Tensor:
    """1. Why the tanh? Map u [B, D] into (-1, 1) so that the result has a density and a gradient everywhere."""
    return torch.tanh(u)


def question_2_log_det(u: Tensor) -> Tensor:
    """2. What is subtracted, and why? Compute log |det da/du|, [B], for a = tanh(u), u [B, D].

    |u| may be 30, where tanh(u) is 1 in floating point: 1 - tanh(u)^2 = 4 / (e^u + e^-u)^2 may help.
    """
    return (2.0 * (math.log(2.0) - u - softplus(-2.0 * u))).sum(-1)


def question_3_transformed_log_prob(log_prob_u: Tensor, slopes: Tensor) -> Tensor:
    """3. What is the mathematics behind it? Do the same for any elementwise bijection a_i = f_i(u_i).

    Args:
        log_prob_u: [B], the log-density of u.
        slopes: [B, D], the derivatives f_i'(u_i); they may be negative.

    Returns:
        [B], the log-density of a.
    """
    return log_prob_u - slopes.abs().log().sum(-1)
