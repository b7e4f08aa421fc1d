"""Policies: observation to distribution."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from softac.equations.choices import forbid
from softac.equations.distributions import Categorical, SquashedGaussian, SquashedMixture
from softac.nets import operations as ops
from softac.nets.layers import as_operations, mlp
from softac.nets.operations import Operation, argmax, choose, clip, mixture_density, part, tanh
from softac.nets.reading import Observed, allowed, reader
from softac.types import Activation

CLAMP = (-20.0, 2.0)
TANH = (-5.0, 2.0)


class SquashedGaussianActor(nn.Module):
    """pi(.|s): `[B, O]` to a `SquashedGaussian` over `[B, A]`.

    Args:
        obs: O, or the spec.
        action_dim: A.
        net_arch: widths of the hidden layers.
        log_std: "clamp" cuts log sigma to [-20, 2], where its gradient is zero outside; "tanh"
            maps it smoothly into [-5, 2].
        activation: between the layers.
        generator: draws the initial weights.
    """

    def __init__(
        self,
        obs: Observed,
        action_dim: int,
        net_arch: Sequence[int],
        log_std: Literal["clamp", "tanh"],
        *,
        activation: Activation = "relu",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.log_std = log_std
        self.read, width = reader(obs, generator=generator)
        self.net = mlp((width, *net_arch, 2 * action_dim), generator=generator, activation=activation)

    def forward(self, obs: Tensor) -> SquashedGaussian:
        """The policy at each observation."""
        mean, log_std = self.net(self.read(obs)).chunk(2, dim=-1)
        if self.log_std == "clamp":
            log_std = log_std.clamp(*CLAMP)
        else:
            low, high = TANH
            log_std = low + 0.5 * (high - low) * (log_std.tanh() + 1.0)
        return SquashedGaussian(mean, log_std)

    def operations(self, obs: Operation) -> Operation:
        """The mode, tanh(mean), as plain operations."""
        outputs = as_operations(self.net, as_operations(self.read, obs))
        return tanh(part(outputs, 0, outputs.width // 2))


class SquashedMixtureActor(nn.Module):
    """pi(.|s): `[B, O]` to a `SquashedMixture` of K components over `[B, A]`.

    Args:
        obs: O, or the spec.
        action_dim: A.
        net_arch: widths of the hidden layers.
        n_components: K.
        activation: between the layers.
        generator: draws the initial weights.
    """

    def __init__(
        self,
        obs: Observed,
        action_dim: int,
        net_arch: Sequence[int],
        n_components: int,
        *,
        activation: Activation = "relu",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.n_components, self.action_dim = n_components, action_dim
        outputs = n_components * (1 + 2 * action_dim)
        self.read, width = reader(obs, generator=generator)
        self.net = mlp((width, *net_arch, outputs), generator=generator, activation=activation)

    def forward(self, obs: Tensor) -> SquashedMixture:
        """The policy at each observation."""
        k, d = self.n_components, self.action_dim
        logits, means, log_stds = self.net(self.read(obs)).split([k, k * d, k * d], dim=-1)
        return SquashedMixture(logits, means.unflatten(-1, (k, d)), log_stds.unflatten(-1, (k, d)).clamp(*CLAMP))

    def operations(self, obs: Operation) -> Operation:
        """The mode, the densest of the means, as plain operations."""
        k, d = self.n_components, self.action_dim
        outputs = as_operations(self.net, as_operations(self.read, obs))
        means, log_stds = part(outputs, k, k + k * d), clip(part(outputs, k + k * d, outputs.width), *CLAMP)
        return choose(mixture_density(part(outputs, 0, k), means, log_stds), tanh(means))


class DeterministicActor(nn.Module):
    """mu(s) in [-1, 1]: `[B, O] -> [B, A]`, or of K actors at once, `[B, O] -> [K, B, A]`.

    Args:
        obs: O, or the spec.
        action_dim: A.
        net_arch: widths of the hidden layers.
        members: K; None: one actor, without the leading axis.
        activation: between the layers.
        generator: draws the initial weights.
    """

    def __init__(
        self,
        obs: Observed,
        action_dim: int,
        net_arch: Sequence[int],
        *,
        members: int | None = None,
        activation: Activation = "relu",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.members = members
        self.read, width = reader(obs, generator=generator)
        self.net = mlp((width, *net_arch, action_dim), generator=generator, members=members, activation=activation)

    def forward(self, obs: Tensor) -> Tensor:
        """The action at each observation."""
        x = self.read(obs)
        x = x if self.members is None else x.expand(self.members, -1, -1)
        return torch.tanh(self.net(x))

    def operations(self, obs: Operation, member: int | None = None) -> Operation:
        """The action of one member as plain operations."""
        return tanh(as_operations(self.net, as_operations(self.read, obs), member))


class SoftmaxActor(nn.Module):
    """pi(.|s) = softmax of the outputs: `[B, O]` to a `Categorical` of A actions; 0 for what a mask forbids.

    Args:
        obs: O, or the spec.
        n_actions: A.
        net_arch: widths of the hidden layers.
        activation: between the layers.
        generator: draws the initial weights.
    """

    def __init__(
        self,
        obs: Observed,
        n_actions: int,
        net_arch: Sequence[int],
        *,
        activation: Activation = "relu",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.allowed = allowed(obs)
        self.read, width = reader(obs, generator=generator)
        self.net = mlp((width, *net_arch, n_actions), generator=generator, activation=activation)

    def forward(self, obs: Tensor) -> Categorical:
        """The policy at each observation."""
        logits: Tensor = self.net(self.read(obs))
        return Categorical(logits if self.allowed is None else forbid(logits, obs[..., self.allowed]))

    def operations(self, obs: Operation) -> Operation:
        """The most probable action as plain operations."""
        logits = as_operations(self.net, as_operations(self.read, obs))
        if self.allowed is not None:
            logits = ops.forbid(logits, part(obs, self.allowed.start, self.allowed.stop))
        return argmax(logits)
