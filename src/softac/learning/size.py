"""How many weights networks would have: counted as they are made, without memory for any of them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

from softac.types import EnvSpec

# The sizes of parameters; None: they are not counted but made.
_COUNTS: ContextVar[list[int] | None] = ContextVar("_COUNTS", default=None)


def new_weights(*shape: int) -> nn.Parameter:
    """A parameter of this shape, not yet filled; while weights are counted, an empty one."""
    counts = _COUNTS.get()
    if counts is None:
        return nn.Parameter(torch.empty(*shape))
    counts.append(math.prod(shape))
    return nn.Parameter(torch.empty([0] * len(shape)))


def weights_of(agent_class: type[Any], spec: EnvSpec, config: Any) -> int:
    """The weights in the layers of an agent's networks, copies of networks apart.

    Args:
        agent_class: of softac's own, whose networks are of `softac.nets`.
        spec: sizes of observations and actions.
        config: an instance of `agent_class.Config`.

    Raises:
        ConfigError: an encoder does not fit the images.
    """
    with _counted() as counts:
        agent_class(spec, config, generator=torch.Generator(), device=torch.device("cpu"))
    return sum(counts)


@contextmanager
def _counted() -> Iterator[list[int]]:
    counts: list[int] = []
    token = _COUNTS.set(counts)
    try:
        yield counts
    finally:
        _COUNTS.reset(token)
