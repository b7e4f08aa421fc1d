"""Goals: environments whose observation says what is wanted and what has been achieved, and that reward any pair.

The form is that of Gymnasium-Robotics and Stable-Baselines3: a Dict observation with `observation`,
`achieved_goal` and `desired_goal`, and a method `compute_reward(achieved_goal, desired_goal, info)` that takes one
pair, or many at once and then a list of as many empty infos. Where an environment has `compute_terminated` of the
same form, it decides which of these pairs ends an episode; one answer to many, as the `False` of Fetch, is that to
each.
"""

from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from softac.envs.batched import as_batch
from softac.envs.borders import draw
from softac.envs.flat import flat_size
from softac.envs.make import EnvSource
from softac.envs.spaces import Spaces
from softac.envs.vector import close_env
from softac.errors import RAISED, ConfigError, EnvironmentFailed
from softac.types import FloatArray
from softac.words import described

ACHIEVED, DESIRED = "achieved_goal", "desired_goal"
REWARD, TERMINATED = "compute_reward", "compute_terminated"
ALONG = {
    REWARD: "-(np.linalg.norm(achieved - desired, axis=-1) > 0.05).astype(float)",
    TERMINATED: "np.linalg.norm(achieved - desired, axis=-1) < 0.05",
}

GoalSpace = spaces.Box | spaces.MultiBinary


class Goals:
    """Where the goals lie in a flattened observation, and what an environment says of a pair of them.

    Args:
        env: has `compute_reward`.
        name: of the environment, for messages.
        observation_space: its observations.
        owned: whether `close` closes `env`.

    Attributes:
        achieved: the numbers of the goal that has been achieved.
        desired: those of the goal that is wanted.
        terminates: whether the environment says which pairs end an episode.

    Raises:
        ConfigError: there are no goals, or `compute_reward` is missing or takes no batches.
    """

    def __init__(self, env: Any, name: str, observation_space: gym.Space[Any], *, owned: bool) -> None:
        self.env, self.name, self.owned = env, name, owned
        self.space, self.achieved, self.desired = _goals_in(observation_space, name)
        self._reward = _method(env, REWARD)
        if self._reward is None:
            raise ConfigError(
                f"hindsight was given with {name}, which has no {REWARD}",
                f"expected {REWARD}(achieved_goal, desired_goal, info), which says what other goals would pay",
                "add it to the environment, or leave hindsight out",
            )
        self._terminated = _method(env, TERMINATED)
        self.terminates = self._terminated is not None
        self._require_batches(REWARD, self._reward)
        if self._terminated is not None:
            self._require_batches(TERMINATED, self._terminated)

    def rewards(self, achieved: FloatArray, desired: FloatArray) -> FloatArray:
        """The rewards `[M]` of M pairs of goals, each `[M, G]` as they lie in observations.

        Raises:
            EnvironmentFailed: the environment raised, or returned what is no reward.
        """
        rewards: FloatArray = self._asked(REWARD, self._reward, achieved, desired).astype(np.float32)
        if not np.isfinite(rewards).all():
            raise self._failed(f"returned the reward {rewards[~np.isfinite(rewards)][0]}")
        return rewards

    def terminated(self, achieved: FloatArray, desired: FloatArray) -> NDArray[np.bool]:
        """Which of M pairs of goals end an episode, `[M]`; only where the environment says so.

        Raises:
            EnvironmentFailed: as `rewards`.
        """
        ended: NDArray[np.bool] = self._asked(TERMINATED, self._terminated, achieved, desired).astype(bool)
        return ended

    def close(self) -> None:
        """Close the environment, if it is this one's own."""
        if self.owned:
            close_env(self.env)

    def _asked(self, method: str, ask: Any, achieved: FloatArray, desired: FloatArray) -> NDArray[Any]:
        pairs = [self._of_the_space(goals) for goals in (achieved, desired)]
        try:
            answer = _many(method, ask, *pairs)
        except RAISED as error:
            raise self._failed(f"raised {described(error)}", method) from error
        if answer.shape != (len(achieved),):
            raise self._failed(f"returned the shape {answer.shape} for {len(achieved)} pairs of goals", method)
        return answer

    def _failed(self, what: str, method: str = REWARD) -> EnvironmentFailed:
        return EnvironmentFailed(
            f"{method} of {self.name} {what}",
            "expected a finite number for each pair of goals that its observations can hold",
            "correct it, then resume",
        )

    def _of_the_space(self, flat: FloatArray) -> NDArray[Any]:
        shaped: NDArray[Any] = flat.reshape(len(flat), *self.space.shape).astype(self.space.dtype)
        return shaped

    def _require_batches(self, method: str, ask: Callable[..., Any]) -> None:
        """Refuse a method that answers to many pairs otherwise than to each of them."""
        rng, n = np.random.default_rng(0), 5 + (5 in self.space.shape)
        achieved, desired = draw(self.space, n, rng), draw(self.space, n, rng)
        achieved[: n // 2] = desired[: n // 2]  # some are reached
        try:
            alone = [float(np.asarray(ask(achieved[i], desired[i], {})).item()) for i in range(n)]
            many = _many(method, ask, achieved, desired).astype(np.float64)
            wrong = "" if many.shape == (n,) else f"returned the shape {many.shape} for {n} pairs of goals"
            if not wrong and not np.allclose(many, alone, rtol=1e-4, atol=1e-6):
                wrong = f"returned {many.tolist()} for {n} pairs of goals, and {alone} for each by itself"
        except RAISED as error:
            wrong = f"raised {described(error)}"
        if wrong:
            raise ConfigError(
                f"{method} of {self.name} {wrong}",
                "expected a method that takes many pairs at once, [M, ...], and a list of infos, and returns [M]",
                f"compute along the last axis: {ALONG[method]}",
            )


def goals_of(source: EnvSource, seen: Spaces) -> Goals:
    """The goals of the environments that `source` makes.

    They are asked in one that nothing steps, where another can be made.

    Raises:
        ConfigError: as `Goals`.
        EnvironmentFailed: it could not be made.
    """
    batch = as_batch(source.env)
    owned = batch is None and source.repeatable
    env: Any = batch if batch is not None else source.make() if owned else source.env
    try:
        if owned:
            _begin(env, source.name)  # some have what they judge by only then
        return Goals(env, source.name, seen.observation_space, owned=owned)
    except BaseException:
        if owned:
            close_env(env)
        raise


def _begin(env: Any, name: str) -> None:
    try:
        env.reset(seed=0)
    except RAISED as error:
        raise EnvironmentFailed(
            f"{name} raised {described(error)} in reset",
            "expected a first observation",
            "correct the environment",
        ) from error


def _goals_in(space: gym.Space[Any], name: str) -> tuple[GoalSpace, slice, slice]:
    if not isinstance(space, spaces.Dict) or not {ACHIEVED, DESIRED} <= space.spaces.keys():
        raise ConfigError(
            f"hindsight was given with {name}, whose observations are {_kind(space)}",
            f"expected a Dict with {ACHIEVED} and {DESIRED}",
            "leave hindsight out, or choose an environment with goals",
        )
    achieved, desired = space[ACHIEVED], space[DESIRED]
    if (
        not isinstance(achieved, GoalSpace)
        or achieved.shape != desired.shape
        or type(achieved) is not type(desired)
    ):
        raise ConfigError(
            f"hindsight was given with {name}, whose goals are {achieved} achieved and {desired} desired",
            "expected two arrays of one shape (Box or MultiBinary), so that what was achieved can be desired",
            "correct the spaces, or leave hindsight out",
        )
    places, start = {}, 0
    for key, part in sorted(space.spaces.items()):
        places[key] = slice(start, start + flat_size(part))
        start = places[key].stop
    return cast(GoalSpace, achieved), places[ACHIEVED], places[DESIRED]


def _kind(space: gym.Space[Any]) -> str:
    return (
        f"a Dict of {', '.join(space.spaces)}" if isinstance(space, spaces.Dict) else f"a {type(space).__name__}"
    )


def _many(method: str, ask: Callable[..., Any], achieved: NDArray[Any], desired: NDArray[Any]) -> NDArray[Any]:
    """What the environment says of pairs of goals, `[M]` if it keeps to the form."""
    answer = np.asarray(ask(achieved, desired, [{} for _ in achieved]))
    return np.full(len(achieved), answer) if method == TERMINATED and answer.ndim == 0 else answer


def _method(env: Any, name: str) -> Any:
    """A method of the environment or of one of its wrappers, the outermost; None if there is none."""
    if isinstance(env, gym.Env):
        found = env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None
    else:
        found = getattr(env, name, None)
    return found if callable(found) else None
