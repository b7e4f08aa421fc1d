"""What people type: tensors as they are; numbers, lists and arrays of NumPy as tensors of their own."""

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from softac.errors import ConfigError

Numbers: TypeAlias = Tensor | ArrayLike


def tensor(value: Numbers, name: str) -> Tensor:
    """A tensor as it is; anything else made of numbers as a new one, in float64 unless it is an array of float32.

    Args:
        value: a tensor, a number, a list, an array.
        name: of the argument.

    Raises:
        ConfigError: it is not made of numbers, or its rows have different lengths.
    """
    if isinstance(value, Tensor):
        return value
    try:
        array = np.asarray(value)
        known = array.dtype.kind in "fiub"
    except (RuntimeError, TypeError, ValueError):  # rows of different lengths, tensors with a gradient
        known = False
    if not known:
        raise ConfigError(
            f"{name} is {value!r:.100}",
            "expected a tensor, an array or a list of numbers, with rows of one length",
            "convert it, or put several tensors together with torch.stack",
        )
    return torch.tensor(array if array.dtype == np.float32 else array.astype(np.float64))


def scalar(value: Any, name: str) -> Tensor | float:
    """A number, or a tensor of one without axes; whatever else holds one number as a float.

    Raises:
        ConfigError: it does not hold one number.
    """
    if isinstance(value, float):
        return value
    whole = tensor(value, name)
    if whole.numel() != 1:
        raise ConfigError(
            f"{name} has shape {tuple(whole.shape)}",
            "expected one number",
            "call once for each",
        )
    return whole.reshape(()) if isinstance(value, Tensor) else float(whole)


def same_shape(expected: str, /, **named: Numbers) -> tuple[Tensor, ...]:
    """The tensors of these names, which must have one shape: `[B, 1]` against `[B]` would broadcast to `[B, B]`.

    Args:
        expected: the shape in words.
        named: what is given, by the name of the argument.

    Raises:
        ConfigError: the shapes differ, or something is not made of numbers.
    """
    tensors = tuple(tensor(value, name) for name, value in named.items())
    if any(t.shape != tensors[0].shape for t in tensors):
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in zip(named, tensors, strict=True))
        raise ConfigError(
            f"shapes differ: {shapes}",
            f"expected one shape, {expected}",
            "squeeze or index them until they agree",
        )
    return tensors


def broadcast(**named: Numbers) -> tuple[Tensor, ...]:
    """The tensors of these names, whose shapes must fit together.

    Raises:
        ConfigError: they do not, or something is not made of numbers.
    """
    tensors = tuple(tensor(value, name) for name, value in named.items())
    try:
        np.broadcast_shapes(*(tuple(t.shape) for t in tensors))
    except ValueError:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in zip(named, tensors, strict=True))
        raise ConfigError(
            f"shapes do not fit together: {shapes}",
            "expected one shape, or 1 wherever they differ",
            "index or unsqueeze them until they fit",
        ) from None
    return tensors
