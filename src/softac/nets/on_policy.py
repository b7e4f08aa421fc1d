"""The networks of on-policy methods, for continuous and discrete actions alike."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softac.equations.distributions import Gaussian, IndexedCategorical
from softac.nets.layers import as_operations, orthogonal_mlp
from softac.nets.operations import Operation, argmax
from softac.nets.reading import reader
from softac.types import Activation, EnvSpec


class StochasticActor(nn.Module):
    """pi(.|s): `[B, O]` to a `Gaussian`, or to an `IndexedCategorical` where actions are discrete.

    The Gaussian is not bounded, the environment room cuts its actions to [-1, 1]; its standard
    deviations are parameters of their own and the same in all states. The first policy is nearly the
    same in all states, too.

    Args:
        spec: sizes of observations and actions.
        net_arch: widths of the hidden layers, of orthogonal weights.
        log_std_init: log sigma to begin with; of no effect where actions are discrete.
        activation: between the layers.
        generator: draws the initial weights.
    """

    def __init__(
        self,
        spec: EnvSpec,
        net_arch: Sequence[int],
        log_std_init: float,
        *,
        activation: Activation = "tanh",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.spec = spec
        outputs = spec.n_actions or spec.action_dim
        self.read, width = reader(spec, generator=generator)
        sizes = (width, *net_arch, outputs)
        self.net = orthogonal_mlp(sizes, 0.01, generator=generator, activation=activation)
        if spec.n_actions is None:
            self.log_std = nn.Parameter(torch.full((spec.action_dim,), log_std_init))

    def forward(self, obs: Tensor) -> Gaussian | IndexedCategorical:
        """The policy at each observation."""
        outputs: Tensor = self.net(self.read(obs))
        if self.spec.n_actions is None:
            return Gaussian(outputs, self.log_std.expand_as(outputs))
        return IndexedCategorical(outputs)

    def operations(self, obs: Operation) -> Operation:
        """The mode, the mean or the most probable action, as plain operations."""
        outputs = as_operations(self.net, as_operations(self.read, obs))
        return argmax(outputs) if self.spec.n_actions else outputs

    def noise(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """What `sample` of the policy takes: N(0, 1) `[B, A]`, or U(0, 1) for each discrete action."""
        if self.spec.n_actions is None:
            return torch.randn(batch_size, self.spec.action_dim, generator=generator)
        return torch.rand(batch_size, self.spec.n_actions, generator=generator)
