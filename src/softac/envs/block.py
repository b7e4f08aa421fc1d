"""The memory that a learner and the processes of its environments share, and what travels beside it.

Observations, actions and rewards lie in one block that has no name in any file system, so that nothing
of it can be left behind. One byte through a pipe says that something in it is to be done, one byte back
that it has been done; whatever is rare travels through the same pipe as a JSON object.
"""

import json
import mmap
import os
from enum import IntEnum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

GO, DONE, MESSAGE = b"g", b".", b"!"  # a learner's byte, and the two of a worker
LENGTH_BYTES = 4
LONGEST_TEXT = 100_000  # characters of one text in a message
LOST = 77  # the exit code of a worker whose pipes are gone


class State(IntEnum):
    """What one environment is asked for, is at, or has done."""

    IDLE = 0
    RESET = 1  # asked for
    STEP = 2  # asked for
    REMAKE = 3  # asked for: a new instance
    BUSY = 4
    ANSWERED = 5
    FAILED = 6  # a message says how


class Block:
    """Arrays of one row for each environment, in memory that both sides see.

    Args:
        descriptor: of a file in memory, which is grown to the size that is needed and may be closed afterwards.
        num_envs: rows.
        obs_dim: length of a flattened observation.
        action_dim: numbers in one action.
    """

    def __init__(self, descriptor: int, num_envs: int, obs_dim: int, action_dim: int) -> None:
        size = num_envs * self.row_bytes(obs_dim, action_dim)
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        memory, taken = mmap.mmap(descriptor, size), 0

        def array(kind: Any, *shape: int) -> NDArray[Any]:
            nonlocal taken
            first, taken = taken, taken + prod(shape) * np.dtype(kind).itemsize
            return np.frombuffer(memory, kind, prod(shape), first).reshape(shape)

        # The widest numbers first, so that each array is aligned.
        self.seed = array(np.int64, num_envs)
        self.reward = array(np.float64, num_envs)
        self.when = array(np.float64, num_envs)  # of the monotonic clock, which all processes share
        self.obs = array(np.float32, num_envs, obs_dim)
        self.action = array(np.float32, num_envs, action_dim)
        self.state = array(np.uint8, num_envs)
        self.terminated = array(np.uint8, num_envs)
        self.truncated = array(np.uint8, num_envs)
        self.success = array(np.uint8, num_envs)  # 0: the environment does not say; 1: no; 2: yes

    @staticmethod
    def row_bytes(obs_dim: int, action_dim: int) -> int:
        """The bytes of one environment."""
        return 3 * 8 + 4 * (obs_dim + action_dim) + 4


def frame(message: dict[str, Any]) -> bytes:
    """A message as it goes through the pipe."""
    text = json.dumps(message).encode()
    return MESSAGE + len(text).to_bytes(LENGTH_BYTES, "little") + text
