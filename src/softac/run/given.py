"""Transitions that come from elsewhere and join the agent's own in its replay."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from softac.config import has_soft_returns
from softac.envs import Spaces, Step
from softac.envs.masks import allowing_all_at_the_end, require_allowed
from softac.errors import ConfigError
from softac.replay import Replay
from softac.run.datasets import FLOAT32_MAX, Recording, require_whole
from softac.run.episode import NStep
from softac.types import Agent, Row, SoftRow

log = logging.getLogger("softac")


def rows_of(recording: Recording, config: Any) -> Iterator[Row | SoftRow]:
    """The transitions that an agent learns from, of one episode.

    n-step returns are made as of the agent's own steps; but not for soft agents, since nobody knows the entropies
    in between of someone else's actions: their transitions are of one step.

    Args:
        recording: the episode.
        config: of the agent: its gamma and n_steps.
    """
    soft = has_soft_returns(config)
    window = NStep(config.gamma, 1 if soft else config.n_steps, bonus=soft)
    last = len(recording.rewards) - 1
    for t, reward in enumerate(recording.rewards.tolist()):
        step = Step(
            recording.obs[t + 1], reward, terminated=t == last and recording.terminated, truncated=t == last
        )
        yield from window.push(recording.obs[t], recording.actions[t], step)


def require_one_scale(agent: Agent, given: str) -> None:
    """Refuse transitions of one step where rewards are scaled as those of several, as the agent's own are.

    Args:
        agent: learns from them.
        given: what was given, and the verb.

    Raises:
        ConfigError: they have no scale in common.
    """
    if hasattr(agent, "reward_scale") and has_soft_returns(agent.config):
        raise ConfigError(
            f"{given} given to {type(agent).__name__} with n_steps={agent.config.n_steps}, which scales rewards "
            "as those of so many steps; what others did makes transitions of one step",
            "expected n_steps=1, or n_step_return='plain'",
            "leave n_steps out",
        )


def add(
    model: Any, obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any, truncated: Any = False
) -> int:
    """Put transitions from elsewhere into the replay: one, or a whole episode, checked as the environment's own.

    They count as no environment steps. What does not end by itself is taken to break off behind its last step.

    Args:
        model: whose replay; written `model.add(obs, ...)`.
        obs: as the environment returns it; of an episode with one leading dimension more, T.
        action: in the environment's bounds; of an episode `[T, ...]`.
        reward: of one step, or `[T]`.
        next_obs: the observation that followed, the true one where the episode ended.
        terminated: whether the step ended the episode; of an episode `[T]`, only the last may.
        truncated: whether it was cut off; likewise.

    Returns:
        How many transitions joined the replay.

    Raises:
        ConfigError: they do not fit the spaces, are not finite, do not belong to one episode, or the algorithm has
            no replay.
    """
    with model.life.prepared() as training:
        _require_replay(model, training)
        try:
            recording = _recording(model.spaces, obs, action, reward, next_obs, terminated, truncated)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ConfigError(
                f"transitions that cannot be learned from were given ({error})",
                "expected observations, actions and rewards as the environment's own, finite and of one episode",
                "correct them",
            ) from None
        before = training.memory.added
        for row in rows_of(recording, model.agent.config):
            training.memory.add(row)
        joined: int = training.memory.added - before
        return joined


def _require_replay(model: Any, training: Any) -> None:
    if not isinstance(training.memory, Replay):
        raise ConfigError(
            f"transitions were given to {type(model.agent).__name__}, which learns from its last rollout only",
            "expected an algorithm with a replay",
            "choose sac or td3, say",
        )
    require_one_scale(model.agent, "transitions were")
    if training.offline:
        raise ConfigError(
            "transitions were given to a model that learns from its prior data alone",
            "expected one whose batches are of its replay, too",
            "make one data set of both, or leave prior_share out",
        )
    if model.run.hindsight != "none":
        raise ConfigError(
            "transitions were given to a replay with hindsight, which takes goals from its own episodes",
            "expected hindsight='none'",
            "leave hindsight out",
        )


def _recording(spaces: Spaces, obs: Any, action: Any, reward: Any, next_obs: Any, *ends: Any) -> Recording:
    flat, several = spaces.flatten_batch(obs)
    if bool(np.asarray(ends[0]).reshape(-1)[-1]):
        next_obs = allowing_all_at_the_end(spaces.spec, next_obs, several=several)
    following, also = spaces.flatten_batch(next_obs)
    rewards = np.asarray(reward, np.float64).reshape(-1)
    flags = [np.asarray(end).reshape(-1) for end in ends]
    flags = [np.broadcast_to(end, rewards.shape) if end.size == 1 and not end.any() else end for end in flags]
    sizes = {len(flat), len(following), len(rewards), *(len(end) for end in flags)}
    if several != also or len(sizes) != 1 or (not several and len(flat) != 1):
        raise ValueError(f"{len(flat)} observations, {len(rewards)} rewards and {len(following)} that follow")
    if any(end.dtype != bool for end in flags):
        raise ValueError("ends that are not booleans")
    if not (np.abs(rewards) <= FLOAT32_MAX).all():
        raise ValueError(f"a reward of {rewards[~(np.abs(rewards) <= FLOAT32_MAX)][0]}")
    if (flags[0][:-1] | flags[1][:-1]).any():
        raise ValueError("an episode that ends before its last step")
    if not np.array_equal(flat[1:], following[:-1]):
        raise ValueError("observations of which one is not the one that followed before it")
    require_whole(flat, spaces)
    chosen = np.asarray(action)
    actions = spaces.from_env(chosen if several else chosen[None])
    if len(actions) != len(rewards):
        raise ValueError(f"{len(actions)} actions and {len(rewards)} rewards")
    require_allowed(spaces.spec, flat, actions)
    return Recording(np.concatenate([flat, following[-1:]]), actions, rewards, bool(flags[0][-1]))
