"""Random shifts: each image of a batch moved by some pixels, so that a critic does not learn them by heart.

Source: Kostrikov, Yarats and Fergus, "Image augmentation is all you need" (DrQ), arXiv:2004.13649, section 3.
"""

import torch
from torch import Tensor

from softac.types import Image, SoftTransition, Transition

Batch = Transition | SoftTransition


def draw_shifts(batch_size: int, most: int, generator: torch.Generator) -> Tensor:
    """Pixels down and to the right, -most to most, for each obs and each next_obs: `[2, B, 2]` of int64."""
    return torch.randint(-most, most + 1, (2, batch_size, 2), generator=generator)


def shift(batch: Batch, images: tuple[Image, ...], shifts: Tensor) -> Batch:
    """The batch with the images of obs and next_obs moved by `shifts` `[2, B, 2]`; the frames of a stack alike.

    What moves in is the pixel at the edge, as if the image had been padded by its edges and cut.
    """
    obs, next_obs = batch.obs.clone(), batch.next_obs.clone()
    for rows, moves in zip((obs, next_obs), shifts.to(obs.device), strict=True):
        for image in images:
            _move(rows[:, image.start : image.stop], image, moves)
    return batch._replace(obs=obs, next_obs=next_obs)


def _move(rows: Tensor, image: Image, moves: Tensor) -> None:
    """Move the image in each of these rows, in place."""
    y, x = (
        (torch.arange(size, device=rows.device) - by[:, None]).clamp_(0, size - 1)
        for size, by in ((image.height, moves[:, 0]), (image.width, moves[:, 1]))
    )
    places = (y[:, :, None] * image.width + x[:, None, :]).view(-1, 1, image.height * image.width, 1)
    frames = rows.view(-1, image.stack, image.height * image.width, image.channels)
    rows.copy_(frames.gather(2, places.expand_as(frames)).flatten(1))
