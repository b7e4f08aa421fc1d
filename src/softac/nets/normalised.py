"""Normalised networks: batch norm before every ReLU, units whose weights have norm 1, rewards of one size.

Together they keep the size of what a critic computes and of each step it takes the same on every task and at
every time of a run, which is what lets it learn fast, and without a target network.

Sources: arXiv:1902.05605 (CrossQ: batch norm over the pairs now and next), arXiv:2502.07523 (weight
normalisation for it), arXiv:2509.25174 (XQC: the layers as they are here).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from softac.equations.distributions import SquashedGaussian
from softac.nets.layers import Linear, as_operations
from softac.nets.operations import Operation, part, scale, tanh
from softac.nets.reading import Observed, reader

BATCH, RUNNING = True, False  # the statistics a pass is normalised with
DECAY, EPSILON = 0.99, 1e-3  # of the running statistics in each update; added to variances
LOG_STD = (-10.0, 2.0)
REWARD_DECAY = 0.999


class BatchNorm(nn.Module):
    """g (x - mean) / sqrt(variance + 0.001) + b, feature by feature: `[..., B, n] -> [..., B, n]`.

    Mean and (biased) variance are those of the B rows, through which the gradient flows, and the running ones
    then move towards them by a hundredth; or they are the running ones. g and b learn.

    Args:
        n: features.
        affine: whether there are g and b.
        members: N for `[N, B, n]`, each member with statistics of its own; None: `[B, n]`.

    Source: arXiv:1502.03167, algorithm 1; the constants are those of arXiv:1902.05605.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, n: int, *, affine: bool = True, members: int | None = None) -> None:
        super().__init__()
        shape = (1, n) if members is None else (members, 1, n)
        self.affine = affine
        if affine:
            self.gain = nn.Parameter(torch.ones(shape))
            self.bias = nn.Parameter(torch.zeros(shape))
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))

    def forward(self, x: Tensor, statistics: bool = RUNNING) -> Tensor:
        """Normalise by the statistics of the `BATCH`, or by the `RUNNING` ones."""
        # Seen from the running mean, mean and mean square come of one pass over the rows, without the cancellation
        # of large numbers; and with the factor and the constant of each feature, the backward pass is one more.
        x = x - self.running_mean
        offset, variance = torch.zeros_like(self.running_mean), self.running_var
        if statistics is BATCH:
            offset = x.mean(-2, keepdim=True)
            variance = (x.square().mean(-2, keepdim=True) - offset.square()).clamp_min(0.0)
            with torch.no_grad():
                self.running_mean.add_(offset, alpha=1.0 - DECAY)
                self.running_var.mul_(DECAY).add_(variance, alpha=1.0 - DECAY)
        factor = (variance + EPSILON).rsqrt()
        if not self.affine:
            return x * factor - offset * factor
        factor = self.gain * factor
        return x * factor + (self.bias - offset * factor)

    def operations(self, x: Operation) -> Operation:
        """What it computes with the running statistics, as a plain operation; not for ensembles."""
        per_deviation = (self.running_var.double() + EPSILON).rsqrt()
        if not self.affine:
            return scale(x, self.running_mean, per_deviation, 0.0)
        return scale(x, self.running_mean, self.gain * per_deviation, self.bias)


class NormalisedMLP(nn.Sequential):
    """x <- BN(x); x <- ReLU(BN(x W)) for each hidden layer; a linear layer with a bias at the end.

    Args:
        sizes: inputs, hidden layers, outputs.
        generator: draws the initial weights.
        members: how many at once, as in `softac.nets.layers.Linear`.

    Source: arXiv:2509.25174, section 4.
    """

    def __init__(self, sizes: Sequence[int], *, generator: torch.Generator, members: int | None = None) -> None:
        # After a layer with weights and batch norm of its own, other scales and means would change nothing.
        layers: list[nn.Module] = [BatchNorm(sizes[0], affine=False, members=members)]
        for n_in, n_out in pairwise(sizes[:-1]):
            # Batch norm takes a bias away again.
            layers += [
                Linear(n_in, n_out, bias=False, generator=generator, members=members),
                BatchNorm(n_out, members=members),
                nn.ReLU(),
            ]
        head = Linear(sizes[-2], sizes[-1], generator=generator, members=members)
        nn.init.zeros_(head.get_parameter("bias"))
        super().__init__(*layers, head)
        project_(self)

    def forward(self, x: Tensor, statistics: bool = RUNNING) -> Tensor:
        """The outputs, normalised by the statistics of the `BATCH` or by the `RUNNING` ones."""
        for layer in self:
            x = layer(x, statistics) if isinstance(layer, BatchNorm) else layer(x)
        return x


class NormalisedActor(nn.Module):
    """pi(.|s): `[B, O]` to a `SquashedGaussian` over `[B, A]`, log sigma cut to [-10, 2].

    Args:
        obs: O, or the spec.
        action_dim: A.
        net_arch: widths of the hidden layers.
        generator: draws the initial weights.
    """

    def __init__(
        self, obs: Observed, action_dim: int, net_arch: Sequence[int], *, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.read, width = reader(obs, generator=generator)
        self.net = NormalisedMLP((width, *net_arch, 2 * action_dim), generator=generator)

    def forward(self, obs: Tensor, statistics: bool = RUNNING) -> SquashedGaussian:
        """The policy at each observation."""
        mean, log_std = self.net(self.read(obs), statistics).chunk(2, dim=-1)
        return SquashedGaussian(mean, log_std.clamp(*LOG_STD))

    def operations(self, obs: Operation) -> Operation:
        """The mode, tanh(mean), as plain operations."""
        outputs = as_operations(self.net, as_operations(self.read, obs))
        return tanh(part(outputs, 0, outputs.width // 2))


class NormalisedCritic(nn.Module):
    """Q_i(s, a) for i = 1..N: a value, or the mean of a distribution over K of them.

    Args:
        obs: O, or the spec.
        action_dim: A.
        net_arch: widths of the hidden layers.
        n_critics: N.
        n_atoms: K, the values z_k between -v_max and v_max whose probabilities the head gives; 1: it gives Q.
        v_max: the largest atom.
        generator: draws the initial weights, each member its own.

    Source: arXiv:1707.06887 for the categories.
    """

    atoms: Tensor

    def __init__(
        self,
        obs: Observed,
        action_dim: int,
        net_arch: Sequence[int],
        n_critics: int,
        n_atoms: int,
        v_max: float,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.n_critics = n_critics
        self.read, width = reader(obs, generator=generator)
        sizes = (width + action_dim, *net_arch, n_atoms)
        self.net = NormalisedMLP(sizes, generator=generator, members=n_critics)
        self.register_buffer("atoms", torch.linspace(-v_max, v_max, n_atoms), persistent=False)

    def forward(self, obs: Tensor, action: Tensor, statistics: bool = RUNNING) -> Tensor:
        """The N values of each pair, `[N, B]` for `obs` `[B, O]` and `action` `[B, A]`."""
        return self.values(self.outputs(obs, action, statistics))

    def values(self, outputs: Tensor) -> Tensor:
        """The values `[N, B]` that outputs `[N, B, K]` stand for: themselves, or the means of distributions."""
        return outputs.squeeze(-1) if len(self.atoms) == 1 else (outputs.softmax(-1) * self.atoms).sum(-1)

    def outputs(self, obs: Tensor, action: Tensor, statistics: bool) -> Tensor:
        """What the head gives, `[N, B, K]`: the value, or a logit for each atom."""
        pairs = torch.cat((self.read(obs), action), dim=-1)
        outputs: Tensor = self.net(pairs.expand(self.n_critics, -1, -1), statistics)
        return outputs


class RewardScale(nn.Module):
    """What rewards are multiplied by so that their root mean square becomes `size`.

    The mean is that over the batches seen, the latest of which count most: it needs no episodes, changes with
    what the replay holds, and no single outlier sets it.

    Args:
        size: the root mean square of the scaled rewards.

    Source: arXiv:2501.16142, which divides by the replay's mean absolute reward; the root mean square tells
    rare rewards from frequent small ones.
    """

    mean_square: Tensor
    weight: Tensor

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean_square", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))  # of all batches together; of those to come 1 - weight

    def observe_(self, reward: Tensor) -> None:
        """Take the rewards `[B]` of one more batch into the mean."""
        self.mean_square.mul_(REWARD_DECAY).add_(reward.square().mean(), alpha=1.0 - REWARD_DECAY)
        self.weight.mul_(REWARD_DECAY).add_(1.0 - REWARD_DECAY)

    def forward(self) -> Tensor:
        """The factor, a scalar; 1 as long as all rewards were 0."""
        seen = self.mean_square > 0.0
        rms = (torch.where(seen, self.mean_square, 1.0) / self.weight).sqrt()
        return torch.where(seen, self.size / rms, 1.0)


def project_(module: nn.Module) -> None:
    """Divide the weights into each unit of the linear layers by their Euclidean norm, in place.

    Source: arXiv:2502.07523, section 4; arXiv:2509.25174.
    """
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, Linear):
                layer.weight.copy_(functional.normalize(layer.weight, dim=-2))
