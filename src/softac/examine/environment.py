"""What soft actor-critic will and will not like about an environment."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym

from softac.envs.make import EnvLike, EnvSource
from softac.envs.spaces import spaces_of
from softac.envs.vector import EnvFault, InProcessVectorEnv
from softac.errors import ConfigError
from softac.examine import verdicts
from softac.examine.findings import Finding
from softac.examine.generators import process_generators
from softac.examine.goals import hindsight
from softac.examine.pays import update_seconds, worth
from softac.examine.random_steps import Log, Spy, roll
from softac.examine.repetition import TRACE, repetition
from softac.experiments.pool import usable_cores


def check_env(
    env: EnvLike,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    steps: int = 1_000,
    trust_module: bool = False,
) -> list[Finding]:
    """Run an environment with random actions and judge what it does.

    The random generators of the process are left as they were. What is found depends on where random
    actions lead: a reward that looks constant may only be hard to reach.

    Args:
        env: a Gymnasium id, a function that makes an environment, or an environment (reset and stepped
            here, not closed).
        env_kwargs: keyword arguments of the environment.
        steps: random steps to make, at least 1.
        trust_module: accept an id "module:Env-v0", which imports the module.

    Returns:
        What was found. Where `exit_code` is not 0 the environment cannot be trained on: 2 for a space,
        4 for an environment that failed.

    Raises:
        ConfigError: there is no such environment, or `steps` is less than 1.
        EnvironmentFailed: its constructor raised.
    """
    if steps < 1:
        raise ConfigError(
            f"steps={steps} was given",
            "expected at least 1",
            "give 1000, say",
        )
    source = EnvSource(env, dict(env_kwargs or {}), trust_module)
    with process_generators() as generators:
        made = source.make()
        try:
            return _examine(made, source, steps, generators)
        finally:
            if source.repeatable:
                made.close()


def _examine(
    env: gym.Env[Any, Any], source: EnvSource, steps: int, generators: Callable[[], list[str]]
) -> list[Finding]:
    try:
        seen = spaces_of(env)
    except ConfigError as error:
        return [Finding("problem", error.given, error.remedy, error.expected, exit_code=2)]
    findings = [verdicts.observation_space(seen), *verdicts.action_space(seen)]
    spy = Spy(env)
    envs = InProcessVectorEnv(lambda: spy, 1)
    log = Log(seen)
    try:
        roll(envs, spy, log, steps)
        findings += [
            *repetition(envs, env, source, min(TRACE, steps)),
            *verdicts.process_randomness(generators()),
            *verdicts.episodes(env, log),
            *verdicts.rewards(log),
            *verdicts.observations(log),
            *verdicts.manners(log),
            *hindsight(source, seen, log),
            *verdicts.cost(seen, log),
            *worth(log.seconds / max(log.steps, 1), update_seconds(seen.spec), usable_cores()),
        ]
    except EnvFault as fault:
        where = (
            f"at step {log.steps + 1} of {steps} random ones" if not log.over else "when an episode was repeated"
        )
        findings.append(
            Finding(
                "problem",
                f"the environment {fault} {where}",
                "correct the environment, then check it again",
                "training stops at the first such answer, since it must not enter the replay",
                exit_code=4,
            )
        )
    return findings
