"""Exercise 5. The improvement step, when all policies are allowed."""

# ruff: noqa: F401 - some imports wait for your answer

import math

import torch
from torch import Tensor


def improve(Q: Tensor, alpha: float) -> Tensor:
    """The new policy, [S, A], for Q [S, A]; entries of Q / alpha may be in the thousands."""
    raise NotImplementedError


def improved_value(Q: Tensor, alpha: float) -> Tensor:
    """E_{a ~ pi}[Q(s, a) - alpha log pi(a|s)] under the new policy, [S], for the same Q."""
    raise NotImplementedError
