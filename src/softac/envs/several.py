"""Several environments, here, in a thread, or in processes of their own: behind one face."""

from softac.envs.beside import BesideVectorEnv
from softac.envs.denormals import flush_denormals
from softac.envs.make import EnvSource
from softac.envs.processes import ProcessVectorEnv
from softac.envs.vector import VectorEnv


def open_envs(
    source: EnvSource, num_envs: int, *, workers: int, timeout: float, beside: bool = False
) -> VectorEnv:
    """Environments ready to be stepped; the caller closes them.

    Args:
        source: what they are made from.
        num_envs: how many.
        workers: processes that step them, at most one for each; 0: this one.
        timeout: seconds that making, resetting and stepping one in a worker may take.
        beside: whether the caller computes while they are stepped; without workers a thread steps them.

    Raises:
        ConfigError: what cannot work.
        EnvironmentFailed: one could not be made.
    """
    if workers:
        return ProcessVectorEnv(source, num_envs, workers, timeout)
    envs = source.vector(num_envs)
    return BesideVectorEnv(envs, flush_denormals) if beside else envs
