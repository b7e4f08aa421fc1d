"""Environments of every space and models of every algorithm for them, to be exported."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from softac import Model
from softac.agents.registry import AGENTS

B = spaces.Box

OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "float32": B(-np.inf, np.inf, (5,)),
    "float64 table": B(-2.0, 3.0, (2, 3), np.float64),
    "float16": B(-1.0, 1.0, (4,), np.float16),
    "one number": B(-1.0, 1.0, ()),
    "wide": B(-1000.0, 1000.0, (4,)),
    "half bounded": B(np.array([-4.8, -np.inf, 0.0]), np.array([4.8, np.inf, np.inf]), dtype=np.float64),
    "uint8": B(0, 255, (6,), np.uint8),
    "int64": B(-5, 5, (3,), np.int64),
    "bool": B(0, 1, (3,), np.bool_),
    "Discrete": spaces.Discrete(5, start=2),
    "MultiDiscrete": spaces.MultiDiscrete([3, 4, 2], start=[0, -1, 5]),
    "MultiBinary": spaces.MultiBinary([2, 3]),
    "Dict": spaces.Dict(
        {
            "a/b": B(-1.0, 1.0, (2,)),
            "mode": spaces.Discrete(3, start=-1),
            "nested": spaces.Dict({"z": spaces.MultiBinary(2), "none": B(0.0, 1.0, (0,))}),
            "int": spaces.Tuple([B(-10, 10, (2,), np.int16), spaces.MultiDiscrete([2, 3])]),
        }
    ),
    "Dict of odd keys": spaces.Dict(
        {key: B(-1.0, 1.0, (2,)) for key in ("a b", "a b 2", "a_b", "what??/", "why???", "x */ /*/ \\")}
    ),
    "small image": B(0, 255, (12, 10, 2), np.uint8),
    "image of booleans": B(0, 1, (10, 10, 4), np.bool_),
    "planes first": B(0, 255, (3, 22, 24), np.uint8),
    "frames of colours": B(0, 255, (2, 36, 40, 3), np.uint8),
    "Dict with images": spaces.Dict(
        {
            "camera": B(0, 255, (21, 23, 3), np.uint8),
            "joints": B(-2.0, 2.0, (3,)),
            "map": B(0, 255, (9, 8), np.uint8),
        }
    ),
    "Tuple": spaces.Tuple([spaces.Discrete(2), B(-1.0, 1.0, (3, 1), np.float64)]),
}
CONTINUOUS: dict[str, spaces.Space[Any]] = {
    "[-1, 1]": B(-1.0, 1.0, (3,)),
    "own bounds": B(
        np.array([[-2.0, 0.0], [5.0, -0.5]], np.float32), np.array([[2.0, 1.0], [9.0, -0.25]], np.float32)
    ),
    "float64": B(-3.0, 7.0, (2,), np.float64),
    "float16": B(-2.0, 2.0, (2,), np.float16),
    "far away": B(1000.0, 1001.0, (2,)),
    "one number": B(-2.0, 2.0, ()),
    "no room": B(np.array([-1.0, 0.5], np.float32), np.array([1.0, 0.5], np.float32)),
}
DISCRETE: dict[str, spaces.Space[Any]] = {
    "Discrete": spaces.Discrete(4),
    "from -3": spaces.Discrete(6, start=-3),
}


class Spaced(gym.Env[Any, Any]):
    """An environment with these spaces that ends after ten steps; its reward tells actions apart."""

    def __init__(self, observation: spaces.Space[Any], action: spaces.Space[Any], note: str = "") -> None:
        self.observation_space, self.action_space, self.note = observation, action, note
        self.left = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = 10
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        reward = float(np.sum(np.asarray(action, np.float64) * (1.0 + self.left)))
        return self.observation_space.sample(), reward, self.left == 0, False, {}


def untrained(algorithm: str, observation: spaces.Space[Any], action: spaces.Space[Any], **config: Any) -> Model:
    """A model whose actions differ much: its weights are three times as large as at first.

    Not where it reads images, which are noise here: three times as steep, behind layer norm, the agent itself is
    1e-5 of the bounds' width from what float64 computes, and a file twice as far.
    """
    settings: dict[str, Any] = {"net_arch": (24, 16), "device": "cpu", "seed": 1} | config
    model = Model(AGENTS[algorithm], lambda: Spaced(observation, action), **settings)
    generator = torch.Generator().manual_seed(2)
    for name in ("actor", "critic", "target_critic"):
        part = getattr(model.agent, name, None)
        module = getattr(part, "module", part)
        if isinstance(module, torch.nn.Module):
            steeper = 1.0 if model.spaces.spec.images else 3.0
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.mul_(steeper)
                if algorithm in ("reinforce", "a2c", "ppo"):  # their last layer is small at first
                    module.net[-1].weight.mul_(20.0 if model.spaces.spec.images else 100.0)
                for key, statistic in module.named_buffers():
                    if "running" in key:  # of batch norm
                        statistic.add_(torch.rand(statistic.shape, generator=generator))
    return model
