"""Whether an environment with goals can be learned with hindsight."""

from collections.abc import Iterator

import numpy as np
from gymnasium import spaces

from softac.envs.goals import ACHIEVED, DESIRED, Goals, goals_of
from softac.envs.make import EnvSource
from softac.envs.spaces import Spaces
from softac.errors import ConfigError, EnvironmentFailed
from softac.examine.findings import Finding
from softac.examine.random_steps import Log
from softac.words import counted


def hindsight(source: EnvSource, seen: Spaces, log: Log) -> Iterator[Finding]:
    """What is said of an environment whose observations have goals; nothing of others.

    Args:
        source: makes it.
        seen: its spaces.
        log: of random steps.
    """
    space = seen.observation_space
    if not isinstance(space, spaces.Dict) or not {ACHIEVED, DESIRED} <= space.spaces.keys():
        return
    try:
        goals = goals_of(source, seen)
    except ConfigError as error:
        yield Finding("note", error.given, error.remedy, error.expected)
        return
    try:
        yield _judged(goals, log)
    except EnvironmentFailed as error:
        yield Finding("note", error.given, error.remedy, error.expected)
    finally:
        goals.close()


def _judged(goals: Goals, log: Log) -> Finding:
    obs = np.stack(log.obs)
    again = goals.rewards(obs[:, goals.achieved], obs[:, goals.desired])
    odd = np.flatnonzero(~np.isclose(again, log.rewards, rtol=1e-3, atol=1e-4))
    if not odd.size:
        return Finding(
            "ok", "goals: compute_reward agrees with the rewards of step; --hindsight future can be used"
        )
    first = odd[0]
    return Finding(
        "note",
        f"compute_reward gives {again[first]:g} where step {first + 1} was rewarded with {log.rewards[first]:g}, "
        f"and something else in {counted(int(odd.size), 'step')}",
        "let both compute the same from achieved and desired goal, or do without hindsight",
        "with hindsight, rows with another goal would be rewarded by another rule than the rest",
    )
