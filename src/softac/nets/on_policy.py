"""The networks of on-policy methods, for continuous and discrete actions alike."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softac.equations.choices import forbid
from softac.equations.distributions import Gaussian, IndexedCategorical, MultiCategorical
from softac.nets import operations as ops
from softac.nets.layers import as_operations, orthogonal_mlp
from softac.nets.operations import Operation, argmax, part
from softac.nets.reading import allowed, reader
from softac.types import Activation, EnvSpec


class StochasticActor(nn.Module):
    """pi(.|s): `[B, O]` to a `Gaussian`, an `IndexedCategorical`, or of several choices a `MultiCategorical`.

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
        self.allowed = allowed(spec)
        self.read, width = reader(spec, generator=generator)
        sizes = (width, *net_arch, spec.outputs)
        self.net = orthogonal_mlp(sizes, 0.01, generator=generator, activation=activation)
        if not spec.choices:
            self.log_std = nn.Parameter(torch.full((spec.action_dim,), log_std_init))

    def forward(self, obs: Tensor) -> Gaussian | IndexedCategorical | MultiCategorical:
        """The policy at each observation."""
        outputs: Tensor = self.net(self.read(obs))
        if not self.spec.choices:
            return Gaussian(outputs, self.log_std.expand_as(outputs))
        if self.allowed is not None:
            outputs = forbid(outputs, obs[..., self.allowed])
        if self.spec.n_actions is None:
            return MultiCategorical(outputs, self.spec.choices)
        return IndexedCategorical(outputs)

    def operations(self, obs: Operation) -> Operation:
        """The mode, the mean or the most probable action, as plain operations."""
        outputs = as_operations(self.net, as_operations(self.read, obs))
        if self.allowed is not None:
            outputs = ops.forbid(outputs, part(obs, self.allowed.start, self.allowed.stop))
        return argmax(outputs) if self.spec.choices else outputs

    def noise(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """What `sample` of the policy takes: N(0, 1) `[B, A]`, or U(0, 1) for all there is to choose from."""
        draw = torch.rand if self.spec.choices else torch.randn
        return draw(batch_size, self.spec.outputs, generator=generator)
