"""Several environments, here, in a thread, or in processes of their own: behind one face."""

from collections.abc import Callable, Iterator

from softac.envs.batched import BatchVectorEnv, as_batch, number_of
from softac.envs.beside import BesideVectorEnv
from softac.envs.denormals import flush_denormals
from softac.envs.make import EnvSource
from softac.envs.processes import ProcessVectorEnv
from softac.envs.vector import Step, VectorEnv
from softac.errors import ConfigError
from softac.types import FloatArray


class FreeEnvs:
    """Environments that are stepped one by one, each at its own pace, in a process of its own.

    Args:
        source: what they are made from.
        num_envs: how many.
        timeout: seconds that making, resetting and stepping one may take.
        on: where their processes are: "local", or "ray".

    Attributes:
        each: a `VectorEnv` of one environment for each.
        before_closing: called before they are closed, since somebody may be stepping them.

    Raises:
        ConfigError: what cannot work.
        EnvironmentFailed: one could not be made.
    """

    repeats = False

    def __init__(self, source: EnvSource, num_envs: int, timeout: float, on: str) -> None:
        self.num_envs, self.each = num_envs, list[VectorEnv]()
        self.before_closing: list[Callable[[], None]] = []
        try:
            for _ in range(num_envs):
                self.each.append(open_envs(source, 1, workers=1, timeout=timeout, on=on))
        except BaseException:
            self.close()
            raise
        self.spaces = self.each[0].spaces

    def reset(self, index: int, seed: int) -> FloatArray:
        """Begin an episode in one environment; its first observation `[O]`."""
        return self.each[index].reset(0, seed)

    def step(self, first: int, actions: FloatArray) -> Iterator[Step]:
        """Advance environments first, first + 1, ... by one action `[A]` each, one after the other."""
        for one, action in zip(self.each[first:], actions, strict=False):
            yield from one.step(0, action[None])

    def restart(self, index: int) -> None:
        """Put a new instance in the place of one that has failed."""
        self.each[index].restart(0)

    def close(self) -> None:
        """Close every environment."""
        for leave in self.before_closing:
            leave()
        for one in self.each:
            one.close()


def open_envs(
    source: EnvSource, num_envs: int, *, workers: int, timeout: float, beside: bool = False, on: str = "local"
) -> VectorEnv:
    """Environments ready to be stepped; the caller closes them.

    Args:
        source: what they are made from.
        num_envs: how many.
        workers: processes that step them, at most one for each; 0: this one.
        timeout: seconds that making, resetting and stepping one in a worker may take.
        on: where these processes are: "local", or "ray", on the machines of a cluster.
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
    if on == "ray":
        from softac.envs.remote import RayVectorEnv  # an extra

        if not workers:
            raise ConfigError(
                "env_on='ray' was given without env_workers",
                "expected the number of processes that step the environments there",
                "give env_workers as well, at most n_envs",
            )
        return RayVectorEnv(source, num_envs, workers, timeout)
    if workers:
        return ProcessVectorEnv(source, num_envs, workers, timeout)
    envs = source.vector(num_envs)
    return BesideVectorEnv(envs, flush_denormals) if beside else envs
