"""Choices that are not all allowed: what masks do to scores, random choices and entropies.

A mask has a number for each action: 0 where it is forbidden, else 1, and at least one is allowed. Forbidden
actions have the score minus infinity, hence probability 0, and are never the best.

Source: Huang and Ontanon, arXiv:2006.14171 (invalid action masking in policy gradient algorithms).
"""

import math

import torch
from torch import Tensor

from softac.equations.inputs import Numbers, tensor

RANDOM_BELOW = 2**24  # up to here float32 has all whole numbers


def forbid(scores: Numbers, mask: Numbers) -> Tensor:
    """`scores` `[..., A]`, minus infinity where `mask` `[..., A]` is 0."""
    return tensor(scores, "scores").masked_fill(tensor(mask, "mask") == 0.0, -math.inf)


def nth_allowed(mask: Numbers, number: Numbers) -> Tensor:
    """The action `[..., 1]` that is number `number` (mod k) of the k allowed ones, counted from 0.

    Of a whole number that is uniform below 2^24 (`RANDOM_BELOW`), this is one of the allowed actions, each with
    probability 1/k to within 2^-24.

    Args:
        mask: `[..., A]`.
        number: `[..., 1]`, whole and not negative.
    """
    allowed = tensor(mask, "mask") != 0.0
    rank = tensor(number, "number").long() % allowed.sum(-1, keepdim=True)
    return (allowed.cumsum(-1) > rank).byte().argmax(-1, keepdim=True)


def forbidden_entropy(log_probs: Numbers) -> Tensor:
    """Log A - log k, `[...]`: nats that the uniform policy loses where k of A actions are allowed.

    Args:
        log_probs: `[..., A]`, minus infinity where an action is forbidden.
    """
    log_probs = tensor(log_probs, "log_probs")
    allowed = (~log_probs.isneginf()).sum(-1)
    return math.log(log_probs.shape[-1]) - torch.log(allowed.to(log_probs.dtype))
