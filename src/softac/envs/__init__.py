"""Environments: from an id to stepped episodes whose actions lie in [-1, 1]."""

import gymnasium as gym

from softac.envs.batched import BatchEnv, BatchVectorEnv, EnvPoolBatch, GymnasiumBatch, as_batch, number_of
from softac.envs.beside import BesideVectorEnv
from softac.envs.make import EnvSource, make_env
from softac.envs.multigoal import MultiGoalEnv
from softac.envs.processes import ProcessVectorEnv
from softac.envs.several import FreeEnvs, open_envs
from softac.envs.spaces import Spaces
from softac.envs.vector import EnvFault, InProcessVectorEnv, Step, VectorEnv

__all__ = [
    "BatchEnv",
    "BatchVectorEnv",
    "BesideVectorEnv",
    "EnvFault",
    "EnvPoolBatch",
    "EnvSource",
    "FreeEnvs",
    "GymnasiumBatch",
    "InProcessVectorEnv",
    "MultiGoalEnv",
    "ProcessVectorEnv",
    "Spaces",
    "Step",
    "VectorEnv",
    "as_batch",
    "make_env",
    "number_of",
    "open_envs",
]

if "softac/MultiGoal-v0" not in gym.registry:  # a second registration, on reload, would warn
    gym.register("softac/MultiGoal-v0", "softac.envs.multigoal:MultiGoalEnv", max_episode_steps=30)
