"""Processor settings that change bits: set for a run, given back after it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch

WORTH_A_THREAD = 4_000_000  # multiply-adds


@contextmanager
def numerics(threads: int) -> Iterator[None]:
    """Use `threads` threads and flush denormal numbers to zero while inside.

    The Adam moments of units that have died decay into denormal numbers, which make an update up
    to 13 times slower. PyTorch's worker threads take the mode over when they are started, so the
    first entry should come before other work in PyTorch; the calling thread gets its own back.
    May be nested: a callback that evaluates leaves the training around it as it was.
    """
    before, flushing = torch.get_num_threads(), flushes_denormals()
    torch.set_flush_denormal(True)
    if threads != before:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushing)
        if threads != before:
            torch.set_num_threads(before)


def usual_threads(batch_size: int, net_arch: Sequence[int]) -> int:
    """The threads that networks of these hidden layers are worth, at most as many as PyTorch would take.

    One for each 4 million multiply-adds of the largest product of an update: for less than that, waking
    another thread costs more than it brings.
    """
    largest = batch_size * max((a * b for a, b in pairwise(net_arch)), default=0)
    return max(1, min(torch.get_num_threads(), largest // WORTH_A_THREAD))


def flushes_denormals() -> bool:
    """Whether the calling thread takes denormal numbers for zero; PyTorch sets the mode but cannot tell."""
    return bool((torch.full((1,), 2.0**-130, dtype=torch.float32) * 2.0 == 0.0).item())
