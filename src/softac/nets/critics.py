"""Values: of an observation and an action, of every discrete action, of an observation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softac.equations.choices import RANDOM_BELOW, forbid, nth_allowed
from softac.nets import operations as ops
from softac.nets.layers import as_operations, mlp, orthogonal_mlp
from softac.nets.operations import Operation, add, concat, mean, part, subtract
from softac.nets.reading import Observed, allowed, reader
from softac.types import Activation


class EnsembleCritic(nn.Module):
    """Q_i(s, a) for i = 1..N as one stacked network: `[..., O], [..., A] -> [N, ...]`.

    Args:
        obs: O, or the spec.
        action_dim: A.
        net_arch: widths of the hidden layers.
        n_critics: N; 2 in the paper.
        activation: between the layers.
        layer_norm: whether each activation has a layer norm before it.
        generator: draws the initial weights, each member its own.
    """

    def __init__(
        self,
        obs: Observed,
        action_dim: int,
        net_arch: Sequence[int],
        n_critics: int,
        *,
        activation: Activation = "relu",
        layer_norm: bool = False,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.n_critics = n_critics
        self.read, width = reader(obs, generator=generator)
        sizes = (width + action_dim, *net_arch, 1)
        self.net = mlp(sizes, generator=generator, members=n_critics, activation=activation, layer_norm=layer_norm)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """The N values of each pair, `[N, B]` for `obs` `[B, O]` and `action` `[B, A]`."""
        pairs = torch.cat((self.read(obs), action), dim=-1)
        q: Tensor = self.net(pairs.reshape(-1, pairs.shape[-1]).expand(self.n_critics, -1, -1))
        return q.view(self.n_critics, *pairs.shape[:-1])

    def operations(self, obs: Operation, action: Operation, member: int) -> Operation:
        """The value that one member gives a pair, as plain operations."""
        return as_operations(self.net, concat(as_operations(self.read, obs), action), member)


class DiscreteCritic(nn.Module):
    """Q_i(s, a) of all actions a at once, for i = 1..N: `[B, O] -> [N, B, A]`.

    Args:
        obs: O, or the spec.
        n_actions: A.
        net_arch: widths of the hidden layers.
        n_critics: N.
        dueling: Q = V + advantage - mean advantage, from one output each (arXiv:1511.06581, eq. 9).
        activation: between the layers.
        layer_norm: whether each activation has a layer norm before it.
        masked: give what the mask forbids, if the spec has one, the value minus infinity.
        generator: draws the initial weights, each member its own.
    """

    def __init__(
        self,
        obs: Observed,
        n_actions: int,
        net_arch: Sequence[int],
        n_critics: int,
        *,
        dueling: bool = False,
        activation: Activation = "relu",
        layer_norm: bool = False,
        masked: bool = False,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.n_critics, self.dueling = n_critics, dueling
        self.allowed = allowed(obs) if masked else None
        self.random_below = n_actions if self.allowed is None else RANDOM_BELOW
        self.read, width = reader(obs, generator=generator)
        sizes = (width, *net_arch, n_actions + dueling)
        self.net = mlp(sizes, generator=generator, members=n_critics, activation=activation, layer_norm=layer_norm)

    def forward(self, obs: Tensor) -> Tensor:
        """The N values of each action, `[N, B, A]`."""
        q: Tensor = self.net(self.read(obs).expand(self.n_critics, -1, -1))
        if self.dueling:
            value, advantage = q[..., :1], q[..., 1:]
            q = value + advantage - advantage.mean(-1, keepdim=True)
        return q if self.allowed is None else forbid(q, obs[..., self.allowed])

    def explored(self, obs: Tensor, random: Tensor, best: Tensor) -> Tensor:
        """Actions `[B, 1]`: `random`, drawn below `random_below`, where it is not negative; elsewhere `best`."""
        chosen = random if self.allowed is None else nth_allowed(obs[..., self.allowed], random).float()
        return torch.where(random >= 0.0, chosen, best)

    def operations(self, obs: Operation, member: int) -> Operation:
        """The values of one member as plain operations."""
        q = as_operations(self.net, as_operations(self.read, obs), member)
        if self.dueling:
            value, advantage = part(q, 0, 1), part(q, 1, q.width)
            q = subtract(add(value, advantage), mean(advantage))
        return q if self.allowed is None else ops.forbid(q, part(obs, self.allowed.start, self.allowed.stop))


class ValueNet(nn.Module):
    """V(s): `[B, O] -> [B]`.

    Args:
        obs: O, or the spec.
        net_arch: widths of the hidden layers.
        activation: between the layers.
        layer_norm: whether each activation has a layer norm before it; not with orthogonal weights.
        orthogonal: orthogonal weights to begin with, as on-policy methods have them.
        generator: draws the initial weights.
    """

    def __init__(
        self,
        obs: Observed,
        net_arch: Sequence[int],
        *,
        activation: Activation = "relu",
        layer_norm: bool = False,
        orthogonal: bool = False,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.read, width = reader(obs, generator=generator)
        sizes = (width, *net_arch, 1)
        if orthogonal:
            self.net = orthogonal_mlp(sizes, 1.0, generator=generator, activation=activation)
        else:
            self.net = mlp(sizes, generator=generator, activation=activation, layer_norm=layer_norm)

    def forward(self, obs: Tensor) -> Tensor:
        """The value of each observation, `[B]`."""
        v: Tensor = self.net(self.read(obs))
        return v.squeeze(-1)
