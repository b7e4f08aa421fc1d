"""Whether somebody draws from the random generators of the process, which belong to the user."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def process_generators() -> Iterator[Callable[[], list[str]]]:
    """Inside, asking says which of the process's own generators have moved; after it they have not."""
    before = random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()  # noqa: NPY002

    def moved() -> list[str]:
        numpy_now: Any = np.random.get_state(legacy=False)  # noqa: NPY002
        numpy_then: Any = before[1]
        same_keys = np.array_equal(numpy_now["state"]["key"], numpy_then["state"]["key"])
        return [
            name
            for name, same in (
                ("random", random.getstate() == before[0]),
                ("np.random", same_keys and numpy_now["state"]["pos"] == numpy_then["state"]["pos"]),
                ("torch", torch.equal(torch.get_rng_state(), before[2])),
            )
            if not same
        ]

    try:
        yield moved
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])
