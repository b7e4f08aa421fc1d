"""Exercise 1. An action and its log-probability.

A policy for continuous actions is a Gaussian with independent coordinates.
"""

import math

from torch import Tensor


def sample_action(mean: Tensor, std: Tensor, noise: Tensor) -> Tensor:
    """Make actions from noise.

    Args:
        mean: [D].
        std: [D], the standard deviation of each coordinate.
        noise: [B, D], drawn from N(0, 1).

    Returns:
        [B, D], distributed as N(mean, diag(std**2)).
    """
    return mean + std * noise


def log_prob(action: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The log-density of each action, [B], for action [B, D], mean [D] and std [D].

    The three-dimensional action of one agent is one action: how many numbers should there be?
    """
    standardised = (action - mean) / std
    return (-0.5 * standardised**2 - std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
