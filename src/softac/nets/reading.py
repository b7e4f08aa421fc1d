"""What a network makes of a flattened observation before its layers: the observation itself, or features of it.

Images go through an encoder; the numbers beside them are normalised if the spec says so.
"""

import torch
from torch import Tensor, nn

from softac.learning.standardise import BEYOND, Standardise
from softac.nets.encoders import make_encoder
from softac.nets.layers import as_operations
from softac.nets.operations import Operation, clip, concat, part, scale
from softac.types import EnvSpec, Image

Observed = int | EnvSpec  # O, or the spec, which also tells what is to be normalised or encoded


class Normalised(Standardise):
    """`softac.learning.standardise.Standardise`, which can be exported."""

    def operations(self, obs: Operation) -> Operation:
        """The layer as it stands, as plain operations."""
        return clip(scale(obs, self.mean, self.factor, 0.0), -BEYOND, BEYOND)


class Encoded(nn.Module):
    """The numbers of an observation, then the features of each of its images: `[..., O] -> [..., F]`.

    Args:
        spec: tells where the images are and how they are to be read.
        generator: draws the initial weights.

    Attributes:
        features: F.
    """

    def __init__(self, spec: EnvSpec, *, generator: torch.Generator) -> None:
        super().__init__()
        self.images, self.spans = spec.images, spec.numbers
        n = sum(span.stop - span.start for span in self.spans)
        self.normalise: nn.Module = Normalised(n, self.spans) if spec.normalize and n else nn.Identity()
        bounded = spec.actions == "continuous"
        made = [make_encoder(image, spec.encoder, generator, bounded=bounded) for image in self.images]
        self.encoders = nn.ModuleList(encoder for encoder, _ in made)
        self.features = n + sum(width for _, width in made)

    def forward(self, obs: Tensor) -> Tensor:
        """The features of each observation."""
        rows = obs.reshape(-1, obs.shape[-1])
        parts = [encoder(pixels(rows, image)) for image, encoder in zip(self.images, self.encoders, strict=True)]
        if self.spans:
            numbers = torch.cat([rows[:, span] for span in self.spans], dim=1)
            parts.insert(0, self.normalise(numbers))
        return torch.cat(parts, dim=1).view(*obs.shape[:-1], self.features)

    def operations(self, obs: Operation) -> Operation:
        """The same as plain operations.

        Raises:
            ConfigError: an encoder of the user's own does not say what it computes.
        """
        parts = [
            as_operations(encoder, obs, image) for image, encoder in zip(self.images, self.encoders, strict=True)
        ]
        if self.spans:
            numbers = concat(*(part(obs, span.start, span.stop) for span in self.spans))
            parts.insert(0, as_operations(self.normalise, numbers))
        return concat(*parts)


def pixels(rows: Tensor, image: Image) -> Tensor:
    """The image in each row, `[B, O] -> [B, S C, H, W]`, in parts of its largest value."""
    s, h, w, c = image.stack, image.height, image.width, image.channels
    x = rows[:, image.start : image.stop].reshape(-1, s, h, w, c).permute(0, 1, 4, 2, 3).reshape(-1, s * c, h, w)
    return x / image.high


def allowed(obs: Observed) -> slice | None:
    """Where in an observation its mask lies (`EnvSpec.mask`); None: there is none."""
    if isinstance(obs, int) or obs.mask is None:
        return None
    return slice(obs.mask, obs.mask + obs.outputs)


def reader(obs: Observed, *, generator: torch.Generator) -> tuple[nn.Module, int]:
    """The module that a network begins with, `[..., O] -> [..., F]`, and F.

    Args:
        obs: O, or the spec.
        generator: draws the initial weights of encoders.
    """
    if isinstance(obs, int):
        return nn.Identity(), obs
    if obs.images:
        encoded = Encoded(obs, generator=generator)
        return encoded, encoded.features
    return (Normalised(obs.obs_dim, obs.numbers) if obs.normalize else nn.Identity()), obs.obs_dim
