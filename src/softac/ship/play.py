"""An exported policy in an environment, through the runtime it was exported for."""

from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from softac.envs import EnvFault, EnvSource, Spaces
from softac.envs.vector import checked_reward
from softac.errors import RAISED, ConfigError, EnvironmentFailed, one_line
from softac.run.evaluate import LONGEST, Returns, require_counts, say_cut_off
from softac.run.seeding import Purpose, derive_seed
from softac.ship.runtimes import Exported

KEPT, TIMED = 100, 1_000  # observations, actions


@dataclass(frozen=True)
class Played:
    """What came of it.

    Attributes:
        returns: of the episodes.
        microseconds: an action takes, the median over 1,000 on observations met.
    """

    returns: Returns
    microseconds: float


def play(policy: Exported, source: EnvSource, n_episodes: int, seed: int) -> Played:
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
    returns: list[float] = []
    lengths: list[int] = []
    met: list[Any] = []
    cut = False
    with closing(source.make()) as env:
        _require_same_spaces(policy, source.name, Spaces(env.observation_space, env.action_space))
        while len(returns) < n_episodes and not cut:
            start = derive_seed(Purpose.EVALUATION_EPISODE, seed, len(returns))
            total, length, cut = _episode(policy, source.name, env, start, met)
            returns.append(total)
            lengths.append(length)
    if cut:
        say_cut_off(lengths[-1])
    return Played(Returns(returns, lengths, cut), _microseconds(policy, met))


def _episode(policy: Exported, name: str, env: Any, start: int, met: list[Any]) -> tuple[float, int, bool]:
    """Return and length of one episode, and whether it was cut off; the first observations are added to `met`."""
    total, length, ended = 0.0, 0, False
    try:
        obs, _ = env.reset(seed=start)
        while not ended and length < LONGEST:
            if len(met) < KEPT:
                met.append(copied(obs))
            obs, reward, terminated, truncated, _ = env.step(policy.act(obs))
            total, length, ended = total + checked_reward(reward), length + 1, bool(terminated or truncated)
    except EnvFault as fault:
        raise EnvironmentFailed(
            f"{name} {fault} at step {length + 1} of the episode with seed {start}",
            f"expected {fault.expected}",
            "correct the environment",
        ) from fault
    except RAISED as error:
        raise EnvironmentFailed(
            f"{name} with {policy.runtime} raised {type(error).__name__}: {one_line(str(error), 300)} "
            f"at step {length + 1} of the episode with seed {start}",
            "expected finite observations of the declared space",
            "try `softac check` on the environment",
        ) from error
    return total, length, not ended


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
