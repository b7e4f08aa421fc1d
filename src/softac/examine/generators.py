"""Whether somebody draws from the random generators of the process, which belong to the user."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

UNLIKELY = 3_141_592_653  # a seed that nobody sets: who sets the one that is set already is not seen to move


@contextmanager
def process_generators() -> Iterator[Callable[[], list[str]]]:
    """Inside they stand where nobody puts them, and asking says which have moved; afterwards where they were."""
    before = _states()
    _put(
        random.Random(UNLIKELY).getstate(),  # noqa: S311 - not to draw from
        np.random.RandomState(UNLIKELY).get_state(legacy=False),
        torch.Generator().manual_seed(UNLIKELY).get_state(),
    )
    begun = _states()

    def moved() -> list[str]:
        now = _states()
        same_numpy = np.array_equal(now[1]["state"]["key"], begun[1]["state"]["key"])
        return [
            name
            for name, same in (
                ("random", now[0] == begun[0]),
                ("np.random", same_numpy and now[1]["state"]["pos"] == begun[1]["state"]["pos"]),
                ("torch", torch.equal(now[2], begun[2])),
            )
            if not same
        ]

    try:
        yield moved
    finally:
        _put(*before)


def _states() -> tuple[Any, Any, torch.Tensor]:
    return random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()  # noqa: NPY002


def _put(of_random: Any, of_numpy: Any, of_torch: torch.Tensor) -> None:
    random.setstate(of_random)
    np.random.set_state(of_numpy)  # noqa: NPY002
    torch.set_rng_state(of_torch)
