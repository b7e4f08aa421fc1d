"""Processor settings that change bits: set for a run, given back after it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch

from softac.learning.products import onednn_is_ahead

WORTH_A_THREAD = 4_000_000  # multiply-adds
WORTH_A_THREAD_BY_ONEDNN = 16_000_000  # the same, where a thread does more of them before it must wait
PER_PIXEL = 128  # multiply-adds of the first convolution of an encoder


@contextmanager
def numerics(threads: int) -> Iterator[None]:
    """Use `threads` threads and flush denormal numbers to zero while inside.

    The Adam moments of units that have died decay into denormal numbers, which make an update up
    to 13 times slower. PyTorch's worker threads take the mode over when they are started, so the
    first entry should come before other work in PyTorch; the calling thread gets its own back.
    May be nested: a callback that evaluates leaves the training around it as it was. Gradients are
    computed inside, also where the program around has switched them off.
    """
    before, flushing = torch.get_num_threads(), flushes_denormals()
    torch.set_flush_denormal(True)
    if threads != before:
        torch.set_num_threads(threads)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_flush_denormal(flushing)
        if threads != before:
            torch.set_num_threads(before)


def device_name(device: torch.device) -> str:
    """The device as what computes the bits: "cpu", or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


@contextmanager
def single_precision() -> Iterator[None]:
    """What PyTorch makes without being told a dtype is float32 while inside, which agents count on.

    Only agents are called inside: environments and callbacks keep the default that their program has set.
    """
    before = torch.get_default_dtype()
    if before is torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def usual_threads(batch_size: int, net_arch: Sequence[int], pixels: int = 0, *, may_compile: bool = True) -> int:
    """The threads that networks of these hidden layers are worth, at most as many as PyTorch would take.

    `pixels` is the numbers of an observation that are parts of images.

    One for each 4 million multiply-adds of the largest product of an update: for less than that, waking
    another thread costs more than it brings. Where compiled updates have them made by oneDNN, one for 16 million.
    """
    worth = WORTH_A_THREAD_BY_ONEDNN if may_compile and onednn_is_ahead() else WORTH_A_THREAD
    products = [a * b for a, b in pairwise(net_arch)] + [pixels * PER_PIXEL]
    largest = batch_size * max(products)
    return max(1, min(torch.get_num_threads(), largest // worth))


def flushes_denormals() -> bool:
    """Whether the calling thread takes denormal numbers for zero; PyTorch sets the mode but cannot tell."""
    return bool((torch.full((1,), 2.0**-130, dtype=torch.float32) * 2.0 == 0.0).item())
