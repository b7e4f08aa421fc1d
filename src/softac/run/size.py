"""How large the networks of a configuration are, asked before there is memory for them."""

from typing import Any

import torch
from torch import nn

from softac.envs import Spaces
from softac.errors import ConfigError
from softac.learning.size import weights_of
from softac.replay import available_memory
from softac.replay.ring import in_words
from softac.run.config import RunConfig
from softac.run.numerics import single_precision

WEIGHT, WITH_ADAM = 4, 12  # bytes of a weight, alone and with its two moments


def weights_described(agent_class: type[Any], config: Any, run: RunConfig, spaces: Spaces) -> int:
    """The weights that one of softac's own agents would have, an encoder of the user's own apart.

    Nothing is said of a configuration that is refused for something else: 0.
    """
    if not set(spaces.spec.kinds) <= set(agent_class.actions):
        return 0
    encoder = _one_feature if run.encoder == "own" else run.encoder
    try:
        with single_precision():
            return weights_of(agent_class, spaces.read_with(encoder, normalize=run.normalize != "none"), config)
    except ConfigError:
        return 0


def require_memory_for(weights: int, device: torch.device) -> None:
    """Refuse networks that do not fit, with what Adam keeps of them, into the memory that is free now.

    Those of another device are made in this memory, too, before they are moved there.

    Raises:
        ConfigError: they do not.
    """
    needed, free = weights * (WITH_ADAM if device.type == "cpu" else WEIGHT), available_memory()
    if needed > free:
        raise ConfigError(
            f"the networks need {in_words(needed)} for {weights:,} weights",
            f"expected at most the {in_words(free)} of memory free now",
            "lower net_arch, say, or free memory",
        )


def _one_feature(_shape: tuple[int, int, int], _generator: torch.Generator) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(1))
