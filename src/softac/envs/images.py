"""Which parts of an observation are images, and where they lie in the flattened one.

An image is a Box of all the values of uint8, or of booleans, with two sides and, before or behind them, its
channels; one dimension more makes a stack of images. Everything else is a vector of numbers, unless an encoder is
asked for.
"""

import logging
import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from softac.envs.flat import flat_size
from softac.envs.leaves import leaves
from softac.errors import ConfigError
from softac.types import AsEncoder, EnvSpec, Image

MOST_CHANNELS = 16  # a stack of four RGB pictures has 12
SMALLEST_SIDE, SMALLEST_GREY = 5, 32  # pixels; without an axis of channels a small table is no picture
GRID, LARGEST_CODE = 20, 10.0  # below so many pixels a side bytes are codes, of which MiniGrid has 0 to 10

log = logging.getLogger("softac")


def is_image(space: gym.Space[Any]) -> bool:
    """Whether a space is an image, or a stack of them, by the rule of this module.

    So the memory of a console (4, 128), boards, which have fewer values, and grids of floats are vectors.
    """
    if not isinstance(space, spaces.Box) or not (_bytes(space) or space.dtype == bool):
        return False
    layout = _layout(space.shape)
    if layout is None:
        return False
    least = SMALLEST_GREY if len(space.shape) == 2 else SMALLEST_SIDE
    return min(layout[1:3]) >= least and _channels(space.shape) <= MOST_CHANNELS


def image_of(space: gym.Space[Any], start: int = 0) -> Image | None:
    """How a Box that is read as an image lies in a flattened observation, from `start` on; None: it cannot."""
    layout = _layout(space.shape) if isinstance(space, spaces.Box) else None
    if not isinstance(space, spaces.Box) or layout is None:
        return None
    largest = float(np.maximum(np.abs(space.low.astype(np.float64)), np.abs(space.high.astype(np.float64))).max())
    high = largest if 0.0 < largest < np.inf else 1.0
    if _bytes(space) and min(layout[1:3]) < GRID:
        high = LARGEST_CODE
    return Image(start, *layout, high=high)


def images_of(space: gym.Space[Any]) -> tuple[Image, ...]:
    """The images in an observation, by rule."""
    return tuple(image for start, part in _placed(space) if is_image(part) and (image := image_of(part, start)))


def read_with(spec: EnvSpec, space: gym.Space[Any], encoder: AsEncoder) -> EnvSpec:
    """The spec for networks that read with this encoder.

    Args:
        spec: of the environment.
        space: of its observations.
        encoder: "auto": the images found by rule; "none": all numbers as one vector; otherwise these images or,
            where there are none, every array of two to four dimensions, in this encoder.

    Raises:
        ConfigError: there is nothing to encode.
    """
    if encoder == "none":
        return spec.reading((), encoder)
    images = spec.images
    if encoder != "auto" and not images:
        found = (image_of(part, start) for start, part in _placed(space))
        images = tuple(image for image in found if image is not None)
        if not images:
            raise ConfigError(
                f"encoder={encoder!r} was given for observations of {space}",
                "expected an array of two to four dimensions among them",
                "leave encoder out: vectors are read as they are",
            )
    return spec.reading(images, encoder)


def say_what_may_be_images(space: gym.Space[Any], encoder: AsEncoder) -> None:
    """Log which parts are read as vectors and have the shape of pictures, where no encoder was asked for."""
    if encoder != "auto":
        return
    for _, part in _placed(space):
        if isinstance(part, spaces.Box) and not is_image(part) and _looks_like_an_image(part.shape):
            log.warning(
                "observations %s of %s are read as a vector of %s numbers; if they are images, declare them as "
                "uint8 from 0 to 255, or ask for an encoder (encoder='nature')",
                part.shape,
                part.dtype,
                f"{flat_size(part):,}",
            )


def require_at_most_four_dimensions(space: gym.Space[Any], where: str) -> None:
    """Refuse pixels of which nothing tells what their axes are.

    Raises:
        ConfigError: they have five dimensions or more.
    """
    if isinstance(space, spaces.Box) and _bytes(space) and len(space.shape) > 4:
        raise ConfigError(
            f"{where} are pixels of {len(space.shape)} dimensions {space.shape}",
            "expected (height, width), with channels before or behind them, and a stack of such at most",
            "stack along one axis, or flatten them with gymnasium.wrappers.FlattenObservation",
        )


def _placed(space: gym.Space[Any]) -> list[tuple[int, gym.Space[Any]]]:
    """The leaves of a space, each with its place in the flattened observation."""
    placed, start = [], 0
    for _, _, part in leaves(space):
        placed.append((start, part))
        start += flat_size(part)
    return placed


def _bytes(space: spaces.Box) -> bool:
    return space.dtype == np.uint8 and not space.low.any() and bool((space.high == 255).all())


def _layout(shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """A shape as `[S, H, W, C]`."""
    match shape:
        case (height, width):
            return 1, height, width, 1
        case (*stack, first, middle, last) if len(stack) <= 1:
            n = math.prod(stack)
            return (n * first, middle, last, 1) if _leading(shape) else (n, first, middle, last)
    return None


def _leading(shape: tuple[int, ...]) -> bool:
    """Whether the channels of an image stand before its sides.

    Two neighbours that are equal are the sides; otherwise the channels are the shorter of first and last axis, of
    equal ones the last.
    """
    first, middle, last = shape[-3:]
    return middle == last if (first == middle) != (middle == last) else first < last


def _channels(shape: tuple[int, ...]) -> int:
    return 1 if len(shape) == 2 else shape[-3] if _leading(shape) else shape[-1]


def _looks_like_an_image(shape: tuple[int, ...]) -> bool:
    layout = _layout(shape) if len(shape) == 3 else None
    return layout is not None and min(layout[1:3]) >= SMALLEST_GREY and _channels(shape) <= 4
