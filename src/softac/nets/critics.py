"""Action values."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softac.nets.layers import mlp


class EnsembleCritic(nn.Module):
    """Q_i(s, a) for i = 1..N as one stacked network: `[B, O], [B, A] -> [N, B]`.

    Args:
        obs_dim: O.
        action_dim: A.
        net_arch: widths of the hidden layers.
        n_critics: N; 2 in the paper.
        generator: draws the initial weights, each member its own.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        net_arch: Sequence[int],
        n_critics: int,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.n_critics = n_critics
        self.net = mlp((obs_dim + action_dim, *net_arch, 1), generator=generator, members=n_critics)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """The N values of each pair, `[N, B]`."""
        x = torch.cat((obs, action), dim=-1).expand(self.n_critics, -1, -1)
        q: Tensor = self.net(x)
        return q.squeeze(-1)
