"""Memory of a full replay of stacks of four frames of 84 x 84, as the system counts it.

    python benchmarks/tasks/memory.py softac [FRAMES]
    python benchmarks/tasks/memory.py sb3|sb3-optimised [FRAMES]     with a Python that has stable-baselines3

Frames are random bytes, so that none is like another; episodes have 1,000 steps. FRAMES is 100,000. It prints the
bytes that the process grew by, their share of those of single frames, and the seconds that it took.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIDE, STACK, EPISODE = 84, 4, 1_000
Add = Callable[[Any, Any, bool], None]


def resident() -> int:
    """Bytes of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def fill(add: Add, n: int) -> None:
    """Add `n` transitions."""
    rng = np.random.default_rng(0)
    for t in range(n):
        if t % EPISODE == 0:
            obs = np.repeat(rng.integers(0, 256, (1, SIDE, SIDE), np.uint8), STACK, axis=0)
        following = np.concatenate([obs[1:], rng.integers(0, 256, (1, SIDE, SIDE), np.uint8)])
        add(obs, following, t % EPISODE == EPISODE - 1)
        obs = following


def softac_replay(n: int) -> Add:
    """A replay of softac."""
    import gymnasium as gym
    import torch

    from softac.envs.images import images_of
    from softac.replay import make_replay
    from softac.types import EnvSpec, Row

    space = gym.spaces.Box(0, 255, (STACK, SIDE, SIDE), np.uint8)
    replay = make_replay(n, EnvSpec(STACK * SIDE * SIDE, 1, images=images_of(space)), torch.device("cpu"))
    action = np.zeros(1, np.float32)

    def add(obs: Any, following: Any, ended: bool) -> None:
        one, other = (x.astype(np.float32).ravel() for x in (obs, following))
        replay.add(Row(one, action, 0.0, 0.99, other, ended))

    return add


def sb3_replay(n: int, optimised: bool) -> Add:
    """A replay of Stable-Baselines3."""
    import gymnasium as gym
    from stable_baselines3.common.buffers import ReplayBuffer

    space = gym.spaces.Box(0, 255, (STACK, SIDE, SIDE), np.uint8)
    replay = ReplayBuffer(
        n,
        space,
        gym.spaces.Discrete(4),
        device="cpu",
        optimize_memory_usage=optimised,
        handle_timeout_termination=not optimised,
    )
    action, zero = np.zeros((1, 1)), np.zeros(1)

    def add(obs: Any, following: Any, ended: bool) -> None:
        replay.add(obs[None], following[None], action, zero, np.array([ended]), [{}])

    return add


def main() -> None:
    what, n = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    add = softac_replay(n) if what == "softac" else sb3_replay(n, what == "sb3-optimised")
    before, began = resident(), time.monotonic()
    fill(add, n)
    grown = resident() - before
    single = n * SIDE * SIDE
    print(f"{what},{n},{grown},{grown / single:.3f},{time.monotonic() - began:.0f}")


if __name__ == "__main__":
    main()
