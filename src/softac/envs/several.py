"""Several environments, here, in a thread, or in processes of their own: behind one face."""

from softac.envs.batched import BatchVectorEnv, as_batch, number_of
from softac.envs.beside import BesideVectorEnv
from softac.envs.denormals import flush_denormals
from softac.envs.make import EnvSource
from softac.envs.processes import ProcessVectorEnv
from softac.envs.vector import VectorEnv
from softac.errors import ConfigError


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
    batch = as_batch(source.env)
    if batch is not None and not workers:
        if num_envs != number_of(batch, num_envs):
            raise ConfigError(
                f"a run of {num_envs} environments was given a simulator of {batch.num_envs}",
                "expected as many",
                "make it with as many",
            )
        batched = BatchVectorEnv(batch)
        return BesideVectorEnv(batched, flush_denormals) if beside else batched
    if workers:
        return ProcessVectorEnv(source, num_envs, workers, timeout)
    envs = source.vector(num_envs)
    return BesideVectorEnv(envs, flush_denormals) if beside else envs
