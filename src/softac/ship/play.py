"""An exported policy in an environment, through the runtime it was exported for."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from softac.envs import EnvFault, EnvSource, Spaces
from softac.envs.vector import checked_reward, success_of
from softac.errors import RAISED, ConfigError, EnvironmentFailed, one_line
from softac.run.evaluate import LONGEST, Played, Returns, require_counts, say_cut_off
from softac.run.seeding import Purpose, derive_seed
from softac.ship.runtimes import Exported

KEPT, TIMED = 100, 1_000  # observations, actions


@dataclass(frozen=True)
class Timed:
    """What came of it.

    Attributes:
        returns: of the episodes.
        microseconds: an action takes, the median over 1,000 on observations met.
    """

    returns: Returns
    microseconds: float


def play(policy: Exported, source: EnvSource, n_episodes: int, seed: int) -> Timed:
    """Whole episodes, from the start states that `softac eval` has with the same seed.

    An episode without an end is cut off as there, and is the last.

    Observations go to the policy as the environment returns them, and its actions to the environment as they come.

    Args:
        policy: an opened file.
        source: makes the environment.
        n_episodes: at least 1.
        seed: of the start states.

    Raises:
        ConfigError: the environment has other spaces than the one the policy was trained in; or a number of
            episodes or a seed that cannot be.
        EnvironmentFailed: the environment raised, there is no action for what it returned, or its reward is none.
    """
    require_counts(n_episodes, seed)
    episodes: list[Played] = []
    met: list[Any] = []
    with closing(source.make()) as env:
        _require_same_spaces(policy, source.name, Spaces(env.observation_space, env.action_space))
        while len(episodes) < n_episodes and not (episodes and episodes[-1].cut):
            start = derive_seed(Purpose.EVALUATION_EPISODE, seed, len(episodes))
            episodes.append(_episode(policy, source.name, env, start, met))
    if episodes[-1].cut:
        say_cut_off(episodes[-1].length)
    return Timed(Returns.of(episodes), _microseconds(policy, met))


def _episode(policy: Exported, name: str, env: Any, start: int, met: list[Any]) -> Played:
    """One episode; the first observations are added to `met`."""
    total, length, ended, success = 0.0, 0, False, None
    with failures(name, start, lambda: length, f" with {policy.runtime}"):
        obs, _ = env.reset(seed=start)
        while not ended and length < LONGEST:
            if len(met) < KEPT:
                met.append(copied(obs))
            obs, reward, terminated, truncated, info = env.step(policy.act(obs))
            total, length, ended = total + checked_reward(reward), length + 1, bool(terminated or truncated)
            success = success_of(info) if ended else None
    return Played(total, length, not ended, success)


@contextmanager
def failures(name: str, seed: int, steps: Callable[[], int], beside: str = "") -> Iterator[None]:
    """What goes wrong in an episode, in words.

    Args:
        name: of the environment.
        seed: of its start state.
        steps: tells how many have been made.
        beside: what else may have raised.

    Raises:
        EnvironmentFailed: in place of what was raised.
    """
    try:
        yield
    except EnvFault as fault:
        raise EnvironmentFailed(
            f"{name} {fault} at step {steps() + 1} of the episode with seed {seed}",
            f"expected {fault.expected}",
            "correct the environment",
        ) from fault
    except RAISED as error:
        raise EnvironmentFailed(
            f"{name}{beside} raised {type(error).__name__}: {one_line(str(error), 300)} "
            f"at step {steps() + 1} of the episode with seed {seed}",
            "expected finite observations of the declared space",
            "try `softac check` on the environment",
        ) from error


def _microseconds(policy: Exported, met: list[Any]) -> float:
    times = []
    for i in range(TIMED):
        obs = met[i % len(met)]
        begin = perf_counter()
        policy.act(obs)
        times.append(perf_counter() - begin)
    return float(1e6 * np.median(times))


def copied(obs: Any) -> Any:
    """An observation that the environment cannot write into any more."""
    match obs:
        case dict():
            return {key: copied(part) for key, part in obs.items()}
        case tuple():
            return tuple(copied(part) for part in obs)
        case _:
            return np.array(obs)


def _require_same_spaces(policy: Exported, name: str, given: Spaces) -> None:
    if given.to_json() != policy.spaces.to_json():
        raise ConfigError(
            f"{name} has other spaces than the environment the policy was trained in",
            f"expected {policy.spaces.observation_space} and {policy.spaces.action_space}",
            "name that environment, or one like it",
        )
