"""Encoders: an image becomes features, `[B, C, H, W] -> [B, F]`.

    small    MinAtar's: one convolution, for grids and images below 20 pixels (arXiv:1903.03176, section 4)
    drq      four convolutions of stride 2, 1, 1, 1 and 50 bounded features (arXiv:2107.09645, section 3)
    nature   three convolutions with large strides and 512 features (doi:10.1038/nature14236, methods)

Where actions are continuous all of them end as drq: in 50 features between -1 and 1. A critic reads the action
beside them, and one number beside hundreds is not heard.

"auto" takes by the shorter side: below 20 pixels small, below 36 drq, otherwise nature, which needs 36 and takes a
fifth of the time of drq.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from softac.errors import ConfigError, either
from softac.learning.size import new_weights
from softac.nets.layers import Linear, as_operations, uniform_fan_in_
from softac.nets.operations import Operation, add, affine, convolution, part
from softac.types import AsEncoder, Image
from softac.words import described

BOUNDED = 50  # features between -1 and 1

Shape = tuple[int, int, int]  # C, H, W
ALL = slice(None)


class Conv(nn.Module):
    """A convolution without padding, initialised from a generator one owns: `[B, C, H, W] -> [B, C', H', W']`.

    Args:
        n_in: C.
        n_out: C'.
        kernel: its side, in pixels.
        stride: in pixels.
        generator: draws the initial weights, as PyTorch does for convolutions.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = new_weights(n_out, n_in, kernel, kernel)
        self.bias = new_weights(n_out)
        for parameter in (self.weight, self.bias):
            uniform_fan_in_(parameter, n_in * kernel * kernel, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return functional.conv2d(x, self.weight, self.bias, self.stride)

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """H', W' for H, W."""
        return (height - self.kernel) // self.stride + 1, (width - self.kernel) // self.stride + 1

    def operations(
        self, x: Operation, sides: tuple[int, int], channels: slice = ALL, factor: float = 1.0
    ) -> Operation:
        """The layer as a plain operation, of some of its input's channels: the first of them bring the bias."""
        weight = self.weight[:, channels].permute(2, 3, 1, 0) * factor
        bias = self.bias if not channels.start else torch.zeros_like(self.bias)
        return convolution(x, weight, bias, *sides, self.stride)


class Encoder(nn.Sequential):
    """Convolutions with ReLU behind each, then a linear layer with ReLU, or with layer normalisation and tanh.

    Args:
        shape: C, H, W.
        generator: draws the initial weights.
        bounded: whether the features are 50 between -1 and 1.
    """

    convolutions: ClassVar[Sequence[tuple[int, int, int]]]  # channels, kernel, stride of each
    units: ClassVar[int | None]  # features where they are not bounded; None: they always are
    least: ClassVar[int]  # pixels of the shorter side

    def __init__(self, shape: Shape, generator: torch.Generator, *, bounded: bool = False) -> None:
        channels, height, width = shape
        layers: list[nn.Module] = []
        for n, kernel, stride in self.convolutions:
            layers += [Conv(channels, n, kernel, stride, generator=generator), nn.ReLU()]
            channels, (height, width) = n, cast(Conv, layers[-2]).sides(height, width)
        units = None if bounded else self.units
        features = units or BOUNDED
        end = [nn.ReLU()] if units else [nn.LayerNorm(features), nn.Tanh()]
        super().__init__(
            *layers, nn.Flatten(), Linear(channels * height * width, features, generator=generator), *end
        )
        self.features = features

    def operations(self, obs: Operation, image: Image) -> Operation:
        """The encoder of an image in an observation as plain operations, on images with their channels last."""
        size, first = image.height * image.width * image.channels, cast(Conv, self[0])
        frames = [
            first.operations(
                part(obs, image.start + i * size, image.start + (i + 1) * size),
                (image.height, image.width),
                slice(i * image.channels, (i + 1) * image.channels),
                1.0 / image.high,
            )
            for i in range(image.stack)
        ]
        x = reduce(add, frames)
        sides = first.sides(image.height, image.width)
        for layer in list(self)[1:]:
            match layer:
                case Conv():
                    x, sides = layer.operations(x, sides), layer.sides(*sides)
                case Linear():  # whose inputs are flattened with their channels first
                    channels = x.width // (sides[0] * sides[1])
                    weight = layer.weight.view(channels, *sides, -1).permute(1, 2, 0, 3)
                    x = affine(x, weight.reshape(x.width, -1), layer.bias)
                case nn.Flatten():
                    pass
                case _:
                    x = as_operations(layer, x)
        return x


class Small(Encoder):
    """16 channels of 3x3, and 128 units.

    Source: Young and Tian, "MinAtar", arXiv:1903.03176, section 4.
    """

    convolutions, units, least = ((16, 3, 1),), 128, 3


class DrQ(Encoder):
    """Four times 32 channels of 3x3, then 50 bounded features.

    Source: Yarats et al., "Mastering visual continuous control", arXiv:2107.09645, section 3 and its code.
    """

    convolutions, units, least = ((32, 3, 2), (32, 3, 1), (32, 3, 1), (32, 3, 1)), None, 15


class Nature(Encoder):
    """32 channels of 8x8, 64 of 4x4, 64 of 3x3, and 512 units.

    Source: Mnih et al., "Human-level control through deep reinforcement learning", Nature 518 (2015), methods.
    """

    convolutions, units, least = ((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512, 36


ENCODERS: dict[str, type[Encoder]] = {"small": Small, "drq": DrQ, "nature": Nature}


def encoder_name(image: Image) -> str:
    """The encoder of an image, by rule."""
    side = min(image.height, image.width)
    return "small" if side < 20 else "drq" if side < Nature.least else "nature"


def make_encoder(
    image: Image, chosen: AsEncoder, generator: torch.Generator, *, bounded: bool
) -> tuple[nn.Module, int]:
    """The encoder for an image, and how many features it gives.

    Args:
        image: of C = S C planes.
        chosen: "auto", a name, or what makes a module of (C, H, W) and the generator.
        generator: draws the initial weights.
        bounded: whether the features of a named one are to be 50 between -1 and 1.

    Raises:
        ConfigError: the name is unknown, the image too small, or the module gives something else.
    """
    shape = (image.planes, image.height, image.width)
    if not isinstance(chosen, str):
        return _own(chosen, shape, generator)
    name = encoder_name(image) if chosen == "auto" else chosen
    if name not in ENCODERS:
        raise ConfigError(
            f"encoder={name!r} was given",
            f"expected auto, none, {either(ENCODERS)}, or what makes a module, which only Python can give",
            "leave it out for auto",
        )
    kind = ENCODERS[name]
    if min(image.height, image.width) < kind.least:
        raise ConfigError(
            f"encoder={name!r} was given for images of {image.height} x {image.width}",
            f"expected sides of {kind.least} pixels or more",
            f"leave it out for {encoder_name(image)}",
        )
    made = kind(shape, generator, bounded=bounded)
    return made, made.features


def _own(make: Any, shape: Shape, generator: torch.Generator) -> tuple[nn.Module, int]:
    """A module of the user's own, and what it gives, tried on two images."""
    name = getattr(make, "__name__", type(make).__name__)
    if isinstance(make, nn.Module) or not callable(make):
        raise ConfigError(
            f"encoder={name} was given, which makes no modules",
            "expected what makes a new module of (C, H, W) and a generator, each time it is called",
            f"give encoder=lambda shape, generator: {name}(...)",
        )
    features: Any = None
    try:
        module = make(shape, generator)
        name = type(module).__name__
        with torch.no_grad():
            features = module(torch.zeros(2, *shape))
        gives = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        wrong = f"gives {gives}"
    except Exception as error:  # it is somebody else's
        wrong = f"raised {described(error)}"
    right = isinstance(features, Tensor) and features.dim() == 2 and len(features) == 2
    if right and not features.isfinite().all():
        wrong, right = "gives numbers that are not finite", False
    if not right:
        raise ConfigError(
            f"the encoder {name} {wrong} for images (2, {', '.join(map(str, shape))})",
            "expected features (2, F)",
            "end it with torch.nn.Flatten(), say",
        )
    return module, features.shape[1]
