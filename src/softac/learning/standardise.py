"""Observations of one size: the layer that normalises them. The run moves its statistics, no gradient does."""

import torch
from torch import Tensor, nn

BEYOND = 10.0  # standard deviations from the mean, where numbers are cut


class Standardise(nn.Module):
    """(x - mean) factor for each number x that is no part of an image, cut to [-10, 10]: `[..., n] -> [..., n]`.

    Until `softac.run.statistics` writes here what it has seen, only what lies beyond 10 is changed.

    Args:
        width: n.
        spans: where these numbers lie in a flattened observation.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, width: int, spans: tuple[slice, ...]) -> None:
        super().__init__()
        self.spans = spans
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("factor", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each row."""
        return ((x - self.mean) * self.factor).clamp(-BEYOND, BEYOND)
