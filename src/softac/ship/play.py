"""An exported policy in an environment, through the runtime it was exported for."""

from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from softac.envs import EnvSource, Spaces
from softac.errors import ConfigError, EnvironmentFailed, one_line
from softac.run.evaluate import Returns
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

    Observations go to the policy as the environment returns them, and its actions to the environment as they come.

    Args:
        policy: an opened file.
        source: makes the environment.
        n_episodes: at least 1.
        seed: of the start states.

    Raises:
        ConfigError: the environment has other spaces than the one the policy was trained in.
        EnvironmentFailed: the environment raised, or there is no action for what it returned.
    """
    returns: list[float] = []
    lengths: list[int] = []
    met: list[Any] = []
    with closing(source.make()) as env:
        _require_same_spaces(policy, source.name, Spaces(env.observation_space, env.action_space))
        for episode in range(n_episodes):
            start = derive_seed(Purpose.EVALUATION_EPISODE, seed, episode)
            total, length, ended = 0.0, 0, False
            try:
                obs, _ = env.reset(seed=start)
                while not ended:
                    if len(met) < KEPT:
                        met.append(copied(obs))
                    obs, reward, terminated, truncated, _ = env.step(policy.act(obs))
                    total, length, ended = total + float(reward), length + 1, bool(terminated or truncated)
            except Exception as error:
                raise EnvironmentFailed(
                    f"{source.name} with {policy.runtime} raised {type(error).__name__}: "
                    f"{one_line(str(error), 300)} at step {length + 1} of the episode with seed {start}",
                    "expected finite observations of the declared space",
                    "try `softac check` on the environment",
                ) from error
            returns.append(total)
            lengths.append(length)
    return Played(Returns(returns, lengths), _microseconds(policy, met))


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
