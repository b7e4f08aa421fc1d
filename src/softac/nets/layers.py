"""Linear layers, alone and as an ensemble, initialised from a generator one owns."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from softac.errors import ConfigError
from softac.learning.size import new_weights
from softac.nets.operations import Operation, affine, elu, relu, scale, silu, standardise, tanh
from softac.types import Activation

ROUNDED_FROM = 32  # rows
NORM_EPSILON = 1e-5  # added to variances
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "silu": nn.SiLU}


def uniform_fan_in_(tensor: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Fill with U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for linear layers."""
    bound = fan_in**-0.5
    with torch.no_grad():
        tensor.copy_(torch.empty_like(tensor, device="cpu").uniform_(-bound, bound, generator=generator))


class Linear(nn.Module):
    """x W + b for N members at once.

    With `members=None`: `[B, in] -> [B, out]`. With `members=N`:
    `[N, B, in] -> [N, B, out]` by one batched product, each member with its own weights.

    Args:
        n_in: numbers in a row of x.
        n_out: units.
        bias: whether there is a b.
        generator: draws the initial weights.
        members: N.

    Attributes:
        rounded: whether the factors of the products are rounded to bfloat16, forward and backward, for
            batches of 32 or more; for less, rounding the weights takes longer than using them. Weights,
            bias and result stay as they are.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        generator: torch.Generator,
        members: int | None = None,
    ) -> None:
        super().__init__()
        lead = () if members is None else (members,)
        row = () if members is None else (1,)
        self.weight = new_weights(*lead, n_in, n_out)
        uniform_fan_in_(self.weight, n_in, generator)
        self.bias: nn.Parameter | None = None
        if bias:
            self.bias = new_weights(*lead, *row, n_out)
            uniform_fan_in_(self.bias, n_in, generator)
        self.rounded = False

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; see the class for shapes."""
        weight, bias = self.weight, self.bias
        if self.rounded and x.shape[-2] >= ROUNDED_FROM:
            product = torch.matmul(x.bfloat16(), weight.bfloat16()).to(weight.dtype)
        elif weight.shape[-1] == 1:
            # One column is no work for a matrix kernel; a compiler joins this with what comes before it.
            product = (x * weight.mT).sum(-1, keepdim=True)
        elif bias is not None and weight.dim() == 2:
            return torch.addmm(bias, x, weight)
        else:
            product = torch.matmul(x, weight)
        return product if bias is None else product + bias

    def operations(self, x: Operation, member: int | None = None) -> Operation:
        """The layer of one member as a plain operation; its factors are not rounded, as for a single row."""
        weight = self.weight if member is None else self.weight[member]
        if self.bias is None:
            return affine(x, weight, torch.zeros(weight.shape[-1]))
        return affine(x, weight, self.bias if member is None else self.bias[member])


class LayerNorm(nn.Module):
    """g (x - mean) / sqrt(variance + 1e-5) + b, mean and variance over the n numbers of each row; g and b learn.

    Args:
        n: numbers in a row.
        members: N for `[N, B, n]`, each member with its own g and b; None: `[B, n]`.

    Source: arXiv:1607.06450, equation 4.
    """

    def __init__(self, n: int, *, members: int | None = None) -> None:
        super().__init__()
        shape = (n,) if members is None else (members, 1, n)
        self.gain, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each row."""
        return nn.functional.layer_norm(x, x.shape[-1:], eps=NORM_EPSILON) * self.gain + self.bias

    def operations(self, x: Operation, member: int | None = None) -> Operation:
        """The norm of one member as plain operations."""
        gain, bias = (self.gain, self.bias) if member is None else (self.gain[member], self.bias[member])
        return scale(standardise(x), 0.0, gain, bias)


def mlp(
    sizes: Sequence[int],
    *,
    generator: torch.Generator,
    members: int | None = None,
    activation: Activation = "relu",
    layer_norm: bool = False,
) -> nn.Sequential:
    """Linear layers of the given sizes with an activation between them and none after the last.

    Args:
        sizes: inputs, hidden layers, outputs.
        generator: draws the weights.
        members: how many at once, as in `Linear`.
        activation: one of `ACTIVATIONS`.
        layer_norm: whether each activation has a `LayerNorm` before it.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes[:-1]):
        layers.append(Linear(n_in, n_out, generator=generator, members=members))
        layers += [LayerNorm(n_out, members=members)] * layer_norm
        layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers, Linear(sizes[-2], sizes[-1], generator=generator, members=members))


def as_operations(module: Any, *inputs: Any) -> Operation:
    """What a module computes as plain operations.

    Args:
        module: layers one after the other, or anything with a method `operations`.
        inputs: what that method takes, first the operation whose result the module is given. Layers of an ensemble
            take the number of a member besides.

    Raises:
        ConfigError: nothing says what the module computes.
    """
    match module:
        case _ if hasattr(module, "operations"):
            result: Operation = module.operations(*inputs)
            return result
        case nn.Identity():
            return cast(Operation, inputs[0])
        case nn.ReLU():
            return relu(inputs[0])
        case nn.Tanh():
            return tanh(inputs[0])
        case nn.ELU():
            return elu(inputs[0])
        case nn.SiLU():
            return silu(inputs[0])
        case nn.LayerNorm() if module.eps == NORM_EPSILON and module.bias is not None:
            return scale(standardise(inputs[0]), 0.0, module.weight, module.bias)
        case nn.Sequential():
            x, *rest = inputs
            for layer in module:
                x = as_operations(layer, x, *rest)
            return cast(Operation, x)
    raise ConfigError(
        f"a {type(module).__name__} does not say what it computes",
        "expected a method operations(x), of softac.nets.operations",
        "write one, or make the policy of layers that have it",
    )


def round_hidden_products(module: nn.Module) -> int:
    """Compute the products between hidden layers in bfloat16 from now on; returns how many there are.

    They are nearly all of the work. The first and the last layers stay as they are: to round them, too,
    would save next to no time and lose digits of what the network sees and says.
    """
    n = 0
    for net in module.modules():
        if isinstance(net, nn.Sequential):
            linear = [layer for layer in net if isinstance(layer, Linear)]
            for layer in linear[1:-1]:
                layer.rounded, n = True, n + 1
    return n


def orthogonal_mlp(
    sizes: Sequence[int], output_gain: float, *, generator: torch.Generator, activation: Activation = "tanh"
) -> nn.Sequential:
    """Linear layers with an activation between them, orthogonal weights and no biases to begin with.

    The networks of on-policy methods. A small gain of the last layer makes the first policy the same
    in all states.

    Args:
        sizes: inputs, hidden layers, outputs.
        output_gain: of the last layer; the others have sqrt(2).
        generator: draws the weights.
        activation: one of `ACTIVATIONS`.

    Source: arXiv:2005.12729 (the code-level details of PPO), section 2.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        linear = Linear(n_in, n_out, generator=generator)
        nn.init.orthogonal_(linear.weight, 2.0**0.5, generator=generator)
        nn.init.zeros_(linear.get_parameter("bias"))
        layers += [linear, ACTIVATIONS[activation]()]
    nn.init.orthogonal_(linear.weight, output_gain, generator=generator)
    return nn.Sequential(*layers[:-1])
