"""Several copies of one environment, each reset explicitly and with a seed of its own.

Nothing here resets by itself. The collector decides when an episode begins and with which seed,
so there is no reset row to drop and no final observation to look up.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from softac.envs.masks import MASK, allowing_all, is_maskless, misfit_of_mask, says_mask
from softac.envs.spaces import Spaces, spaces_of
from softac.errors import RAISED, ConfigError, SoftacError
from softac.types import FloatArray
from softac.words import described

OBSERVATION = "a finite observation of the declared shape"
ANSWER = "a finite answer of the declared shape"
FIVE = "five values: observation, reward, terminated, truncated, info"
SINCE = "as in Gymnasium, and in gym since 0.26"
SUCCESS = "is_success"  # of info, as in Gymnasium-Robotics and Stable-Baselines3
FLOAT32_MAX = float(np.finfo(np.float32).max)

log = logging.getLogger("softac.envs")


class EnvFault(Exception):  # noqa: N818
    """What an environment did wrong; whoever stepped it knows where and when, and says so.

    Args:
        text: what it did.
        expected: what it should have done.
    """

    def __init__(self, text: str, expected: str = ANSWER) -> None:
        super().__init__(text)
        self.expected = expected


@dataclass(frozen=True)
class Step:
    """What one environment answered to one action."""

    obs: FloatArray  # [O]
    reward: float
    terminated: bool
    truncated: bool
    success: bool | None = None  # at the end of an episode, `info["is_success"]`, if the environment says it
    when: float = field(default_factory=time.monotonic, compare=False)  # in seconds of the monotonic clock


class VectorEnv(Protocol):
    """`num_envs` environments; a pool of processes can stand behind the same face."""

    num_envs: int
    spaces: Spaces
    repeats: bool  # whether an episode can be found again from its seed and actions

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

    repeats = True

    def __init__(self, make: Callable[[], gym.Env[Any, Any]], num_envs: int, *, renewable: bool = True) -> None:
        self.make, self.num_envs, self.renewable = make, num_envs, renewable
        self.envs: list[gym.Env[Any, Any]] = []
        try:
            for _ in range(num_envs):
                self.envs.append(make())
            _require_apart(self.envs)
            self.spaces = spaces_of(self.envs[0])
            self._maskless = is_maskless(self.spaces.observation_space, self.spaces.action_space)
        except BaseException:
            self.close()
            raise

    def reset(self, index: int, seed: int) -> FloatArray:
        """Begin an episode in one environment; its first observation `[O]`."""
        try:
            answer: Any = self.envs[index].reset(seed=seed)
        except RAISED as error:
            raise EnvFault(f"raised {described(error)} in reset", OBSERVATION) from error
        if not isinstance(answer, tuple) or len(answer) != 2:
            wanted = f"two values, observation and info, {SINCE}"
            raise EnvFault(f"returned {_size(answer)} from reset, not 2 values", wanted)
        self._require_no_late_mask(answer[1])
        return self._allowed(self._checked(answer[0], OBSERVATION), OBSERVATION)

    def step(self, first: int, actions: FloatArray) -> Iterator[Step]:
        """Advance environments first, first + 1, ... by one action `[A]` in [-1, 1] each."""
        for env, action in zip(self.envs[first:], actions, strict=False):
            try:
                answer: Any = env.step(self.spaces.to_env(action))
            except RAISED as error:
                raise EnvFault(f"raised {described(error)} in step") from error
            yield self._read(answer)

    def restart(self, index: int) -> None:
        """Put a new instance in the place of one that has failed; one that was given stays, to be reset."""
        if not self.renewable:
            return
        close_env(self.envs[index])  # before the next is made: there may be room for one only
        try:
            self.envs[index] = self.make()
        except SoftacError as error:
            raise EnvFault(f"could not be made again ({error.given})") from error

    def close(self) -> None:
        """Close every environment, also after one of them failed to."""
        for env in self.envs:
            close_env(env)

    def _read(self, answer: Any) -> Step:
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise EnvFault(f"returned {_size(answer)} from step, not 5", f"{FIVE}, {SINCE}")
        obs, reward, terminated, truncated, info = answer
        if not (isinstance(terminated, bool | np.bool_) and isinstance(truncated, bool | np.bool_)):
            flags = f"terminated={terminated!r:.40}, truncated={truncated!r:.40}"
            raise EnvFault(f"returned {flags}, not booleans", f"{FIVE}, {SINCE}")
        reward = checked_reward(reward)
        self._require_no_late_mask(info)
        flat = self._checked(obs)
        if self.spaces.spec.mask is not None:
            flat = allowing_all(self.spaces.spec, flat) if terminated else self._allowed(flat)
        success = success_of(info) if terminated or truncated else None
        return Step(flat, reward, bool(terminated), bool(truncated), success)

    def _allowed(self, flat: FloatArray, expected: str = ANSWER) -> FloatArray:
        if wrong := misfit_of_mask(self.spaces.spec, flat):
            raise EnvFault(f"returned {wrong}", f"{expected}, and at least one action to choose")
        return flat

    def _require_no_late_mask(self, info: Any) -> None:
        """Refuse a mask that would be passed over, since the environment was taken for one without."""
        if self._maskless and says_mask(info):
            raise EnvFault(
                f"returned info[{MASK!r}], which the first reset did not",
                "a mask in the info of every reset and step, of ones where everything is allowed",
            )

    def _checked(self, obs: Any, expected: str = ANSWER) -> FloatArray:
        try:
            flat = self.spaces.flatten(obs)
        except Exception as error:  # an observation may be any object, and raise anything when looked at
            wrong = self._misfit(obs, error)
            raise EnvFault(f"returned an observation that does not fit its space: {wrong}", expected) from None
        if not np.isfinite(flat).all():
            raise EnvFault(f"returned an observation with {self.spaces.infinite(flat)}", expected)
        return flat

    def _misfit(self, obs: Any, error: Exception) -> str:
        try:
            return self.spaces.misfit(obs)
        except Exception:  # as above
            return described(error)


def checked_reward(reward: Any) -> float:
    """A reward as a number.

    Raises:
        EnvFault: it is none that can be learned from.
    """
    try:
        number = _number(reward)
    except (TypeError, ValueError, OverflowError):
        raise EnvFault(f"returned the reward {reward!r:.100}, not a number") from None
    if not abs(number) <= FLOAT32_MAX:
        raise EnvFault(f"returned the reward {number}, not a finite float32")
    return number


def _number(reward: Any) -> float:
    """A number, or what holds one; a text is neither."""
    if isinstance(reward, str | bytes):
        raise TypeError("a text")
    return float(reward.item() if hasattr(reward, "item") else reward)


def success_of(info: Any) -> bool | None:
    """Whether the task has been solved; None where the environment does not say so."""
    try:
        said = info[SUCCESS]
        return None if said is None else bool(said)
    except RAISED:  # it may be any object, and nothing depends on it
        return None


def close_env(env: Any) -> None:
    """Close an environment or a simulator of many; what it raises is told, and ends nothing."""
    try:
        env.close()
    except RAISED as error:
        log.warning("an environment raised %s in close", described(error))


def _require_apart(envs: Sequence[gym.Env[Any, Any]]) -> None:
    if len({id(env.unwrapped) for env in envs}) < len(envs):
        raise ConfigError(
            f"the function that makes the environments returned the same {type(envs[0].unwrapped).__name__} again",
            "expected a new one from each call, since each plays an episode of its own",
            "make it inside the function",
        )


def _size(answer: Any) -> str:
    return f"{len(answer)} values" if isinstance(answer, tuple) else f"a {type(answer).__name__}"
