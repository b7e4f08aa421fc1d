"""Actions before the policy's: uniform over all there are."""

import math

import numpy as np
import torch
from torch import Tensor

from softac.equations.choices import RANDOM_BELOW, nth_allowed
from softac.types import EnvSpec, FloatArray


def uniform_actions(spec: EnvSpec, obs: FloatArray, generator: torch.Generator) -> tuple[FloatArray, FloatArray]:
    """Random actions `[B, A]` for observations `[B, O]`, and -log of their probability or density `[B]`."""
    shape = (len(obs), spec.action_dim)
    if not spec.choices:
        uniform = torch.rand(shape, generator=generator, dtype=torch.float32).mul_(2.0).sub_(1.0)
        # Uniform in [-1, 1] the density is 1/2 in each coordinate.
        nats = spec.action_dim * math.log(2.0)
    elif spec.mask is not None:
        numbers = torch.randint(RANDOM_BELOW, shape, generator=generator)
        mask = torch.from_numpy(obs[:, spec.mask : spec.mask + spec.outputs])
        return _uniform_allowed(spec, mask, numbers)
    else:
        each = [torch.randint(n, (len(obs), 1), generator=generator) for n in spec.choices]
        uniform = torch.cat(each, -1).float()
        nats = sum(math.log(n) for n in spec.choices)
    return uniform.numpy(), np.full(len(obs), nats, np.float32)


def _uniform_allowed(spec: EnvSpec, mask: Tensor, numbers: Tensor) -> tuple[FloatArray, FloatArray]:
    masks = torch.split(mask, list(spec.choices), -1)
    chosen = [nth_allowed(part, n) for part, n in zip(masks, torch.split(numbers, 1, -1), strict=True)]
    nats = torch.stack([part.sum(-1).log() for part in masks]).sum(0)
    return torch.cat(chosen, -1).float().numpy(), nats.numpy()
