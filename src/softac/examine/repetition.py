"""Does an environment repeat itself: one episode, played twice in it and once in a new one?"""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from softac.envs.make import EnvSource
from softac.envs.vector import InProcessVectorEnv
from softac.examine.findings import Finding
from softac.examine.random_steps import random_action
from softac.types import FloatArray
from softac.words import counted

TRACE, TRACE_SEED = 200, 12345  # steps and seed of the episode
CONSEQUENCE = "a resumed run begins a new episode where the stopped one was inside one: not bit for bit"

Trace = list[tuple[FloatArray, float, bool, bool]]


def repetition(
    envs: InProcessVectorEnv, env: gym.Env[Any, Any], source: EnvSource, steps: int
) -> Iterator[Finding]:
    """Judge whether the seed and the actions decide what happens.

    Args:
        envs: around `env`.
        env: was made by `source`.
        source: makes another one, if it can.
        steps: of the episode, at most.

    Raises:
        EnvFault: the environment failed.
    """
    first, again = (_play(envs, steps) for _ in range(2))
    at = _parting(first, again)
    if at is None:
        fresh = source.make() if source.repeatable else env
        # A function may return one environment again and again.
        at = None if fresh is env else _parting(first, _play_and_close(fresh, steps))
        yield _carried(at) if at is not None else _deterministic(len(first) - 1)
    else:
        yield _unlike(at)
    starts = [envs.reset(0, seed) for seed in range(1, 6)]
    if at != 0 and all(np.array_equal(start, starts[0]) for start in starts):
        yield Finding(
            "note",
            "every seed gives the same first observation",
            "nothing, if the task has one start state; else draw it from self.np_random in reset",
            "deterministic evaluation then repeats one episode, whatever --n-eval-episodes is",
        )


def _unlike(at: int) -> Finding:
    if at == 0:
        return Finding(
            "note",
            "reset(seed=...) is not honoured: the same seed gave two different first observations",
            "begin reset with super().reset(seed=seed) and draw from self.np_random alone",
            f"evaluations start elsewhere each time, and {CONSEQUENCE}",
        )
    return Finding(
        "note",
        f"it does not repeat itself: the same seed and actions gave something else after {counted(at, 'step')}",
        "draw all randomness from self.np_random, and let nothing depend on time or threads",
        CONSEQUENCE,
    )


def _carried(at: int) -> Finding:
    return Finding(
        "note",
        "it carries something from one episode into the next: a new environment answered differently "
        f"after {counted(at, 'step')} with the same seed and actions",
        "set everything back in reset",
        CONSEQUENCE,
    )


def _deterministic(steps: int) -> Finding:
    return Finding(
        "ok",
        f"deterministic: {counted(steps, 'step')} with the same seed and actions repeated "
        "exactly, so resuming is bit for bit inside an episode",
    )


def _play(envs: InProcessVectorEnv, steps: int) -> Trace:
    rng = np.random.default_rng(1)
    trace: Trace = [(envs.reset(0, TRACE_SEED), 0.0, False, False)]
    for _ in range(steps):
        (step,) = envs.step(0, random_action(rng, envs.spaces, trace[-1][0])[None])
        trace.append((step.obs, step.reward, step.terminated, step.truncated))
        if step.terminated or step.truncated:
            break
    return trace


def _play_and_close(env: gym.Env[Any, Any], steps: int) -> Trace:
    envs = InProcessVectorEnv(lambda: env, 1)
    try:
        return _play(envs, steps)
    finally:
        envs.close()


def _parting(first: Trace, second: Trace) -> int | None:
    """The first step after which two traces differ; None if they do not."""
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if not np.array_equal(a[0], b[0]) or a[1:] != b[1:]:
            return i
    return None if len(first) == len(second) else min(len(first), len(second))
