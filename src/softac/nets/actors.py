"""Policies: observation to distribution."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from softac.equations.distributions import SquashedGaussian
from softac.nets.layers import mlp

CLAMP = (-20.0, 2.0)
TANH = (-5.0, 2.0)


class SquashedGaussianActor(nn.Module):
    """pi(.|s): `[B, O]` to a `SquashedGaussian` over `[B, A]`.

    Args:
        obs_dim: O.
        action_dim: A.
        net_arch: widths of the hidden layers.
        log_std: "clamp" cuts log sigma to [-20, 2], where its gradient is zero outside; "tanh"
            maps it smoothly into [-5, 2].
        generator: draws the initial weights.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        net_arch: Sequence[int],
        log_std: Literal["clamp", "tanh"],
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.log_std = log_std
        self.net = mlp((obs_dim, *net_arch, 2 * action_dim), generator=generator)

    def forward(self, obs: Tensor) -> SquashedGaussian:
        """The policy at each observation."""
        mean, log_std = self.net(obs).chunk(2, dim=-1)
        if self.log_std == "clamp":
            log_std = log_std.clamp(*CLAMP)
        else:
            low, high = TANH
            log_std = low + 0.5 * (high - low) * (log_std.tanh() + 1.0)
        return SquashedGaussian(mean, log_std)
