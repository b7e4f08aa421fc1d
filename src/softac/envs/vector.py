"""Several copies of one environment, each reset explicitly and with a seed of its own.

Nothing here resets by itself. The collector decides when an episode begins and with which seed,
so there is no reset row to drop and no final observation to look up.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from softac.envs.spaces import Spaces
from softac.errors import SoftacError
from softac.types import FloatArray
from softac.words import described

FLOAT32_MAX = float(np.finfo(np.float32).max)

log = logging.getLogger("softac.envs")


class EnvFault(Exception):  # noqa: N818
    """What an environment did wrong; whoever stepped it knows where and when, and says so."""


@dataclass(frozen=True)
class Step:
    """What one environment answered to one action."""

    obs: FloatArray  # [O]
    reward: float
    terminated: bool
    truncated: bool
    when: float = field(default_factory=time.monotonic, compare=False)  # in seconds of the monotonic clock


class VectorEnv(Protocol):
    """`num_envs` environments; a pool of processes can stand behind the same face."""

    num_envs: int
    spaces: Spaces

    def reset(self, index: int, seed: int) -> FloatArray:
        """Begin an episode in one environment; its first observation `[O]`."""
        ...

    def step(self, first: int, actions: FloatArray) -> Iterator[Step]:
        """Advance environments first, first + 1, ... by one action `[A]` in [-1, 1] each.

        Yields one `Step` for each action, in order. Where an environment fails, and where the iterator is
        left, the answers of those behind it are still due: the same call for them, with the same actions,
        gets them, whether they are advanced then or have been meanwhile.
        """
        ...

    def restart(self, index: int) -> None:
        """Put a new instance in the place of one that has failed; `reset` it next.

        Raises:
            EnvFault: it could not be made.
        """
        ...

    def close(self) -> None:
        """Release the environments."""
        ...


class InProcessVectorEnv:
    """A `VectorEnv` in this process, one environment after the other.

    Everything the environments return is checked before it is handed on.

    Args:
        make: makes one environment.
        num_envs: how many.
        renewable: whether `make` can make another in the place of one that has failed.

    Raises:
        ConfigError: a space that cannot be learned on.
        EnvFault: (from `reset` and `step`) an environment raised, or returned NaN, infinity or a
            wrong shape.
    """

    def __init__(self, make: Callable[[], gym.Env[Any, Any]], num_envs: int, *, renewable: bool = True) -> None:
        self.make, self.num_envs, self.renewable = make, num_envs, renewable
        self.envs: list[gym.Env[Any, Any]] = []
        try:
            for _ in range(num_envs):
                self.envs.append(make())
            self.spaces = Spaces(self.envs[0].observation_space, self.envs[0].action_space)
        except BaseException:
            self.close()
            raise

    def reset(self, index: int, seed: int) -> FloatArray:
        """Begin an episode in one environment; its first observation `[O]`."""
        try:
            answer: Any = self.envs[index].reset(seed=seed)
        except Exception as error:
            raise EnvFault(f"raised {described(error)} in reset") from error
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise EnvFault(f"returned {_size(answer)} from reset, not 2 values")
        return self._checked(answer[0])

    def step(self, first: int, actions: FloatArray) -> Iterator[Step]:
        """Advance environments first, first + 1, ... by one action `[A]` in [-1, 1] each."""
        for env, action in zip(self.envs[first:], actions, strict=False):
            try:
                answer: Any = env.step(self.spaces.to_env(action))
            except Exception as error:
                raise EnvFault(f"raised {described(error)} in step") from error
            yield self._read(answer)

    def restart(self, index: int) -> None:
        """Put a new instance in the place of one that has failed; one that was given stays, to be reset."""
        if not self.renewable:
            return
        _close(self.envs[index])  # before the next is made: there may be room for one only
        try:
            self.envs[index] = self.make()
        except SoftacError as error:
            raise EnvFault(f"could not be made again ({error.given})") from error

    def close(self) -> None:
        """Close every environment, also after one of them failed to."""
        for env in self.envs:
            _close(env)

    def _read(self, answer: Any) -> Step:
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise EnvFault(f"returned {_size(answer)} from step, not 5")
        obs, reward, terminated, truncated, _ = answer
        if not (isinstance(terminated, bool | np.bool_) and isinstance(truncated, bool | np.bool_)):
            raise EnvFault(f"returned terminated={terminated!r}, truncated={truncated!r}, not booleans")
        try:
            reward = float(reward)
        except (TypeError, ValueError, OverflowError):
            raise EnvFault(f"returned the reward {reward!r:.100}, not a number") from None
        if not abs(reward) <= FLOAT32_MAX:
            raise EnvFault(f"returned the reward {reward}, not a finite float32")
        return Step(self._checked(obs), reward, bool(terminated), bool(truncated))

    def _checked(self, obs: Any) -> FloatArray:
        try:
            flat = self.spaces.flatten(obs)
        except Exception as error:  # an observation may be any object, and raise anything when looked at
            raise EnvFault(f"returned an observation that does not fit its space: {described(error)}") from None
        if not np.isfinite(flat).all():
            raise EnvFault(f"returned an observation with {flat[~np.isfinite(flat)][0]} in it")
        return flat


def _close(env: gym.Env[Any, Any]) -> None:
    try:
        env.close()
    except Exception as error:
        log.warning("an environment raised %s in close", described(error))


def _size(answer: Any) -> str:
    return f"{len(answer)} values" if isinstance(answer, tuple) else f"a {type(answer).__name__}"
