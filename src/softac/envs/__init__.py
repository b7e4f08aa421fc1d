"""Environments: from an id to stepped episodes whose actions lie in [-1, 1]."""

from softac.envs.make import EnvSource, make_env
from softac.envs.spaces import Spaces
from softac.envs.vector import EnvFault, InProcessVectorEnv, Step, VectorEnv

__all__ = ["EnvFault", "EnvSource", "InProcessVectorEnv", "Spaces", "Step", "VectorEnv", "make_env"]
