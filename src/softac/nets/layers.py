"""Linear layers, alone and as an ensemble, initialised from a generator one owns."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def uniform_fan_in_(tensor: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Fill with U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for linear layers."""
    bound = fan_in**-0.5
    with torch.no_grad():
        tensor.copy_(torch.empty_like(tensor, device="cpu").uniform_(-bound, bound, generator=generator))


class Linear(nn.Module):
    """x W + b for N members at once.

    With `members=None`: `[B, in] -> [B, out]`. With `members=N`:
    `[N, B, in] -> [N, B, out]` by one batched product, each member with its own weights.
    """

    def __init__(self, n_in: int, n_out: int, *, generator: torch.Generator, members: int | None = None) -> None:
        super().__init__()
        lead = () if members is None else (members,)
        row = () if members is None else (1,)
        self.weight = nn.Parameter(torch.empty(*lead, n_in, n_out))
        self.bias = nn.Parameter(torch.empty(*lead, *row, n_out))
        uniform_fan_in_(self.weight, n_in, generator)
        uniform_fan_in_(self.bias, n_in, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; see the class for shapes."""
        if self.weight.dim() == 2:
            return torch.addmm(self.bias, x, self.weight)
        return torch.baddbmm(self.bias, x, self.weight)


def mlp(sizes: Sequence[int], *, generator: torch.Generator, members: int | None = None) -> nn.Sequential:
    """Linear layers of the given sizes with ReLU between them and none after the last."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Linear(n_in, n_out, generator=generator, members=members), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def tanh_mlp(sizes: Sequence[int], output_gain: float, *, generator: torch.Generator) -> nn.Sequential:
    """Linear layers with tanh between them, orthogonal weights and no biases to begin with.

    The networks of on-policy methods. A small gain of the last layer makes the first policy the same
    in all states.

    Args:
        sizes: inputs, hidden layers, outputs.
        output_gain: of the last layer; the others have sqrt(2).
        generator: draws the weights.

    Source: arXiv:2005.12729 (the code-level details of PPO), section 2.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        linear = Linear(n_in, n_out, generator=generator)
        nn.init.orthogonal_(linear.weight, 2.0**0.5, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    nn.init.orthogonal_(linear.weight, output_gain, generator=generator)
    return nn.Sequential(*layers[:-1])
