"""The temperature as something that learns."""

import torch
from torch import Tensor, nn


class Temperature(nn.Module):
    """log alpha, the dual variable of the entropy constraint.

    Args:
        initial: alpha to begin with, > 0.
    """

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.tensor(initial).log())

    def forward(self) -> Tensor:
        """Log alpha, a scalar."""
        return self.log_alpha
