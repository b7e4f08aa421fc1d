"""Simulators that step many environments at once, behind the face of a `VectorEnv`.

`BatchEnv` is what such a simulator must offer. It is small, since every one of them can offer it: a reset of those
that are asked for, a step of all, and the true next observation also where an episode has ended, never that of a
reset. Simulators that reset by themselves are told not to; where they cannot be told so they lose an observation,
and must not be put behind this face.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from softac.envs.flat import item
from softac.envs.masks import MASK, allowing_all, is_maskless, misfit_of_mask, says_mask
from softac.envs.spaces import Spaces
from softac.envs.vector import FLOAT32_MAX, EnvFault, Step, close_env
from softac.errors import RAISED, ConfigError
from softac.types import FloatArray
from softac.words import described

Answers = tuple[Any, Any, Any, Any]


@runtime_checkable
class BatchEnv(Protocol):
    """`num_envs` environments N that are stepped together; none of them resets by itself.

    Arrays are NumPy's or tensors of any device; observations are of the observation space with one leading axis
    more, in a Dict or Tuple each part. They are copied once, to the host, where the replay lies.

    Attributes:
        num_envs: N.
        observation_space: of one environment.
        action_space: of one environment.
    """

    num_envs: int
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]

    def reset(self, mask: NDArray[np.bool], seeds: NDArray[np.int64]) -> Any:
        """Begin an episode where `mask` `[N]` is true, with its seed; the observations `[N, ...]`.

        The rows elsewhere are not looked at, and their environments are as they were.
        """
        ...

    def step(self, actions: NDArray[Any]) -> Answers:
        """Advance all by `actions` `[N, ...]`: observations, rewards `[N]`, terminated `[N]`, truncated `[N]`."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class BatchVectorEnv:
    """A `VectorEnv` of the environments of a `BatchEnv`.

    They can only be stepped together: a run's budget must be a multiple of their number, and where one fails the
    round of all is lost, and everything has to be reset.

    Args:
        batch: the simulator; closed with it.

    Raises:
        ConfigError: a space that cannot be learned on.
    """

    repeats = False  # one cannot be played again without the others

    def __init__(self, batch: BatchEnv) -> None:
        self.batch, self.num_envs = batch, batch.num_envs
        self.spaces = Spaces(batch.observation_space, batch.action_space)
        self._ready: dict[int, tuple[bytes, Step]] = {}  # answers by environment, with the action they answer
        self._broken: set[int] = set()  # environments that have to be reset after a failure

    def reset(self, index: int, seed: int) -> FloatArray:
        """Begin an episode in one environment; its first observation `[O]`."""
        mask = np.arange(self.num_envs) == index
        try:
            obs = self.batch.reset(mask, np.where(mask, seed, 0))
        except RAISED as error:
            raise EnvFault(f"raised {described(error)} in reset") from error
        first = self._row(_mapped(on_host, obs), index, ended=False)
        self._ready.pop(index, None)
        self._broken.discard(index)
        return first

    def step(self, first: int, actions: FloatArray) -> Iterator[Step]:
        """Advance environments first, first + 1, ... by one action `[A]` in [-1, 1] each: all, or none again."""
        asked = range(first, first + len(actions))
        if not all(i in self._ready and self._ready[i][0] == actions[i - first].tobytes() for i in asked):
            self._step(asked, actions)
        for i in asked:
            step = self._ready[i][1]
            if not (
                step.terminated or step.truncated
            ):  # an end is kept until the reset that follows has succeeded
                del self._ready[i]
            yield step

    def restart(self, index: int) -> None:
        """There is no instance of one; it is reset next."""

    def close(self) -> None:
        """Close the simulator."""
        close_env(self.batch)

    def _step(self, asked: range, actions: FloatArray) -> None:
        if len(asked) != self.num_envs:
            raise EnvFault("can only be stepped together with all the others")
        if self._broken:
            raise EnvFault("belongs to a simulator that has failed and was not reset since")
        self._broken.update(asked)  # until all is well
        try:
            obs, rewards, *ends = self.batch.step(np.stack([self.spaces.to_env(action) for action in actions]))
            rewards = on_host(rewards).astype(np.float64)
            terminated, truncated = (on_host(end).astype(bool) for end in ends)
        except RAISED as error:
            raise EnvFault(f"raised {described(error)} in step") from error
        hosted, answers = _mapped(on_host, obs), {}
        for i in asked:
            try:
                if not abs(rewards[i]) <= FLOAT32_MAX:
                    raise EnvFault(f"returned the reward {rewards[i]}, not a finite float32")
                row = self._row(hosted, i, ended=bool(terminated[i]))
            except EnvFault as fault:
                raise EnvFault(f"is stepped together with environment {i}, which {fault}") from None
            answers[i] = (
                actions[i].tobytes(),
                Step(row, float(rewards[i]), bool(terminated[i]), bool(truncated[i])),
            )
        self._ready = answers
        self._broken.clear()

    def _row(self, obs: Any, i: int, *, ended: bool) -> FloatArray:
        """The observation of one environment, flattened."""
        try:
            flat: FloatArray = self.spaces.flatten(item(self.spaces.observation_space, obs, i)).copy()
        except Exception as error:
            raise EnvFault(f"returned an observation that does not fit its space: {described(error)}") from None
        if not np.isfinite(flat).all():
            raise EnvFault(f"returned an observation with {self.spaces.infinite(flat)}")
        if ended:
            return allowing_all(self.spaces.spec, flat)
        if wrong := misfit_of_mask(self.spaces.spec, flat):
            raise EnvFault(f"returned {wrong}")
        return flat


def as_batch(env: object) -> BatchEnv | None:
    """`env`, if it is a simulator of many environments."""
    others = (type, gym.Env, gym.vector.VectorEnv)
    return env if isinstance(env, BatchEnv) and not isinstance(env, others) else None


def number_of(env: object, n_envs: int) -> int:
    """How many environments there are: those of a simulator, else `n_envs`.

    Raises:
        ConfigError: `n_envs` is another number than the simulator has.
    """
    batch = as_batch(env)
    if batch is None:
        return n_envs
    if n_envs not in (1, batch.num_envs):
        raise ConfigError(
            f"n_envs={n_envs} was given with a simulator of {batch.num_envs} environments",
            f"expected {batch.num_envs}",
            "leave n_envs out",
        )
    return int(batch.num_envs)


class GymnasiumBatch:
    """A vector environment of Gymnasium as a `BatchEnv`; made with `autoreset_mode=AutoresetMode.DISABLED`.

    Args:
        envs: the vector environment.

    Raises:
        ConfigError: it resets by itself, or its action masks are no part of its observations.
    """

    def __init__(self, envs: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        mode = envs.metadata.get("autoreset_mode")
        if mode != AutoresetMode.DISABLED:
            raise ConfigError(
                f"a vector environment that resets by itself was given (autoreset_mode is {mode})",
                "expected one that leaves that to softac, which has a seed for every episode",
                "make it with autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED",
            )
        self.envs: Any = envs
        self.num_envs = envs.num_envs
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space
        _, info = self.envs.reset(seed=0)  # as a whole, before one of them can be
        if is_maskless(self.observation_space, self.action_space) and says_mask(info):
            raise ConfigError(
                f"a vector environment that says its action masks in info[{MASK!r}] was given",
                f"expected them in its observations, a part {MASK!r} of a Dict",
                "give one environment and n_envs instead, or put them there",
            )

    def reset(self, mask: NDArray[np.bool], seeds: NDArray[np.int64]) -> Any:
        """As `BatchEnv.reset`."""
        chosen = [int(seed) if wanted else None for seed, wanted in zip(seeds, mask, strict=True)]
        return self.envs.reset(seed=chosen, options={"reset_mask": mask.copy()})[0]

    def step(self, actions: NDArray[Any]) -> Answers:
        """As `BatchEnv.step`."""
        answers: Answers = self.envs.step(actions)[:4]
        return answers

    def close(self) -> None:
        """As `BatchEnv.close`."""
        self.envs.close()


class EnvPoolBatch:
    """A pool of EnvPool as a `BatchEnv`.

    EnvPool resets by itself in the step after an end, unless it has been reset before: so it is, and no row has to
    be dropped. Its seeds are fixed when it is made and `reset` takes none. So no episode can be found again: a run
    that is stopped and resumed begins new ones, and says so.

    Args:
        pool: what `envpool.make(..., env_type="gymnasium")` returns, with all environments in each batch.

    Raises:
        ConfigError: it is of another kind.
    """

    def __init__(self, pool: Any) -> None:
        config = getattr(pool, "config", {})
        n = config.get("num_envs", -1)
        if not isinstance(pool, gym.vector.VectorEnv) or n < 1 or config.get("batch_size", 0) not in (0, n):
            raise ConfigError(
                f"a {type(pool).__name__} was given",
                'expected what envpool.make(..., env_type="gymnasium", num_envs=N) returns, without a batch_size',
                "make it so",
            )
        self.pool, self.num_envs = pool, int(n)
        self.observation_space, self.action_space = pool.observation_space, pool.action_space
        self._obs: Any = None

    def reset(self, mask: NDArray[np.bool], seeds: NDArray[np.int64]) -> Any:  # noqa: ARG002
        """As `BatchEnv.reset`; the seeds have no effect."""
        if self._obs is None:
            self._obs = _mapped(np.array, self.pool.reset()[0])
        obs, info = self.pool.reset(options={"reset_mask": mask.copy()})
        # EnvPool answers with the rows that were reset, in the order of their numbers.
        order = np.argsort(info["env_id"])
        _scatter(self._obs, np.flatnonzero(mask), _mapped(lambda part: part[order], obs))
        return self._obs

    def step(self, actions: NDArray[Any]) -> Answers:
        """As `BatchEnv.step`."""
        obs, reward, terminated, truncated, info = self.pool.step(actions)
        order = np.argsort(info["env_id"])
        self._obs = _mapped(lambda part: part[order], obs)
        return self._obs, reward[order], terminated[order], truncated[order]

    def close(self) -> None:
        """As `BatchEnv.close`."""
        self.pool.close()


def on_host(array: Any) -> NDArray[Any]:
    """An array or a tensor of any device as NumPy's."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)


def _mapped(function: Any, obs: Any) -> Any:
    if isinstance(obs, Mapping):
        return {key: _mapped(function, part) for key, part in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_mapped(function, part) for part in obs)
    return function(obs)


def _scatter(into: Any, rows: NDArray[np.int64], obs: Any) -> None:
    if isinstance(into, dict):
        for key, part in into.items():
            _scatter(part, rows, obs[key])
    elif isinstance(into, tuple):
        for one, other in zip(into, obs, strict=True):
            _scatter(one, rows, other)
    else:
        into[rows] = obs
