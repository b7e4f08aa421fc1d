"""Where randomness comes from: one seed, one generator per purpose, one seed per episode.

Purposes never share a stream, so evaluating, rendering or logging more or less often leaves
training as it is. No global generator is touched.
"""

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Purpose(IntEnum):
    """What a stream is for. The numbers are part of the results: never change or reuse one."""

    INITIAL_WEIGHTS = 0
    WARM_UP = 1
    EXPLORATION = 2
    REPLAY = 3
    UPDATE = 4
    TRAINING_EPISODE = 5
    EVALUATION_EPISODE = 6
    EVALUATION_NOISE = 7
    PREDICTION = 8


def derive_seed(purpose: Purpose, *key: int) -> int:
    """A 31-bit seed that depends on the purpose and every number of the key."""
    return int(np.random.SeedSequence([int(purpose), *key]).generate_state(1)[0]) >> 1


def generator(purpose: Purpose, seed: int) -> torch.Generator:
    """A CPU generator for one purpose of the run with this seed."""
    return torch.Generator().manual_seed(derive_seed(purpose, seed))


class Streams:
    """The generators that training draws from.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.warm_up = generator(Purpose.WARM_UP, seed)
        self.exploration = generator(Purpose.EXPLORATION, seed)
        self.replay = generator(Purpose.REPLAY, seed)
        self.update = generator(Purpose.UPDATE, seed)

    def state_dict(self) -> dict[str, Tensor]:
        """The state of each generator as bytes."""
        return {name: stream.get_state() for name, stream in vars(self).items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Set every generator; the inverse of `state_dict`."""
        for name, stream in vars(self).items():
            stream.set_state(state[name])
