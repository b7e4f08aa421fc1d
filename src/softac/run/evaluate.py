"""Evaluation: whole episodes from fixed start states, in environments of their own."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softac.envs import EnvFault, Spaces, VectorEnv
from softac.envs.make import EnvLike
from softac.errors import ConfigError, EnvironmentFailed, NumericalError
from softac.run import habits
from softac.run.numerics import single_precision
from softac.run.seeding import Purpose, derive_seed, generator
from softac.types import Agent, FloatArray, Moment

LONGEST = 10_000  # steps of one episode of evaluation, unless its environment declares a longer time limit
MOST_FAILURES = 10  # one after the other, where a new instance takes the place of one that has failed

OnEnvFailure = Literal["stop", "restart"]

# An observation `[O]` and the noise before to actions `[1, A]` and their noise.
Choose = Callable[[FloatArray, Tensor | None], tuple[FloatArray, Tensor | None]]

log = logging.getLogger("softac")


class Played(NamedTuple):
    """One episode: its return and length, whether it was cut off, and whether it ended in success."""

    total: float
    length: int
    cut: bool
    success: bool | None = None


@dataclass(frozen=True)
class Returns:
    """The undiscounted returns and lengths of some episodes."""

    returns: list[float]
    lengths: list[int]
    cut: bool = False  # whether the last episode was cut off, and those after it left out
    successes: list[bool | None] = field(default_factory=list)  # None: the environment does not say

    @classmethod
    def of(cls, episodes: Sequence[Played]) -> Self:
        """Those of whole episodes."""
        totals, lengths, cut, successes = zip(*episodes, strict=True) if episodes else ((), (), (), ())
        return cls(list(totals), list(lengths), any(cut), list(successes))

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation over the episodes (not over seeds), as numpy's default computes it."""
        return float(np.std(self.returns))


class Evaluated(Protocol):
    """What can be evaluated: a `softac.Model`."""

    def evaluate(self, env: EnvLike | None, n_eval_episodes: int, *, deterministic: bool, seed: int) -> Returns:
        """The returns of whole episodes."""
        ...


def evaluate(
    agent: Agent,
    envs: VectorEnv,
    n_episodes: int,
    *,
    deterministic: bool,
    seed: int = 0,
    step: int = 0,
    stop: Callable[[], bool] = lambda: False,
    on_env_failure: OnEnvFailure = "stop",
    longest: int = LONGEST,
) -> Returns:
    """Run `n_episodes` episodes in the first environment of `envs`.

    Episode i begins with reset(seed derived from `seed` and i): the same `seed` gives the same
    start states to every agent at every time, and they are none of training's.

    Args:
        agent: acts.
        envs: an environment that nothing else uses meanwhile.
        n_episodes: at least 1.
        deterministic: the mode of the policy; otherwise sampled actions.
        seed: of the start states and of the sampled actions.
        step: environment steps of training so far, for exploration that fades with them.
        stop: asked at every step; True ends the evaluation after the episodes finished so far.
        on_env_failure: "stop", or "restart": a new instance begins the same episode again, ten times at most.
        longest: steps after which an episode is cut off. The evaluation ends with it, since in a task without
            an end every further episode would take as long.

    Raises:
        ConfigError: a number of episodes or a seed that cannot be.
        EnvironmentFailed: the environment raised or returned something that is not finite.
    """
    require_counts(n_episodes, seed)
    choose = choosing(agent, seed, step, deterministic=deterministic)
    attempts = MOST_FAILURES if on_env_failure == "restart" else 1
    episodes: list[Played] = []
    while len(episodes) < n_episodes and not (episodes and episodes[-1].cut):
        start = derive_seed(Purpose.EVALUATION_EPISODE, seed, len(episodes))
        played = _persist(partial(_play, envs, choose, start, stop, longest), envs, attempts)
        if played is None:
            break
        episodes.append(played)
    return Returns.of(episodes)


def success_rate(name: str, successes: Sequence[bool | None]) -> dict[str, float]:
    """The share of episodes that ended in success, under `name`; nothing where the environment does not say."""
    said = [success for success in successes if success is not None]
    return {name: sum(said) / len(said)} if said else {}


def choosing(agent: Agent, seed: int, step: int, *, deterministic: bool) -> Choose:
    """The policy, with a stream of noise of its own.

    Args:
        agent: acts.
        seed: of the noise.
        step: environment steps made so far.
        deterministic: the mode of the policy, without noise.

    Returns:
        What chooses an action, given an observation and the noise that the same episode had before; None at first.
    """
    stream = generator(Purpose.EVALUATION_NOISE, seed)

    def choose(obs: FloatArray, noise: Tensor | None) -> tuple[FloatArray, Tensor | None]:
        with single_precision():
            if not deterministic:
                noise = agent.act_noise(1, stream, Moment(step, noise))
            return act(agent, obs[None], noise), noise

    return choose


def _persist(play: Callable[[], Played | None], envs: VectorEnv, attempts: int) -> Played | None:
    """What `play` returns, tried again in a new instance where the environment fails."""
    for left in reversed(range(attempts)):
        try:
            return play()
        except EnvironmentFailed as failed:
            if left == 0:
                raise
            log.warning("%s; a new instance begins it again", failed.given)
            with suppress(EnvFault):  # then the next attempt says what is wrong
                envs.restart(0)
    return None


def _play(envs: VectorEnv, choose: Choose, seed: int, stop: Callable[[], bool], longest: int) -> Played | None:
    """One episode; None if asked to stop."""
    total, length = 0.0, 0
    noise: Tensor | None = None
    try:
        obs, ended = envs.reset(0, seed), False
        while not ended and length < longest:
            if stop():
                return None
            actions, noise = choose(obs, noise)
            (answer,) = envs.step(0, actions)
            obs, ended = answer.obs, answer.terminated or answer.truncated
            total, length = total + answer.reward, length + 1
    except EnvFault as fault:
        raise EnvironmentFailed(
            f"the evaluation environment {fault} at step {length + 1} of the episode with seed {seed}",
            f"expected {fault.expected}",
            "correct the environment",
        ) from fault
    if not ended:
        say_cut_off(length)
    return Played(total, length, not ended, answer.success if ended else None)


def say_cut_off(length: int) -> None:
    """Log that an episode had no end."""
    log.warning(
        "an evaluation episode was cut off after %d steps, and the evaluation ends with it; if the task has no "
        "end, give it a time limit (gymnasium.wrappers.TimeLimit)",
        length,
    )


def require_counts(n_episodes: int, seed: int) -> None:
    """Refuse a number of episodes or a seed that cannot be.

    Raises:
        ConfigError: it cannot.
    """
    if not isinstance(n_episodes, int) or n_episodes < 1:
        raise ConfigError(
            f"n_eval_episodes={n_episodes!r} was given",
            "expected a whole number >= 1",
            "give 10, say",
        )
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ConfigError(
            f"seed={seed!r} was given",
            "expected a whole number from 0 to 4294967295",
            "give 0, say",
        )


def act(agent: Agent, obs: FloatArray, noise: Tensor | None) -> FloatArray:
    """Actions `[B, A]` for observations `[B, O]`; without noise the mode.

    Raises:
        NumericalError: an action is not finite. It must not reach the environment, which would be
            blamed for what it makes of it.
    """
    actions: FloatArray = agent.act(torch.from_numpy(obs).to(agent.device), noise).cpu().numpy()
    if not np.isfinite(actions).all():
        raise NumericalError(
            "the policy's action is not a number",
            "expected finite networks and observations",
            "lower the learning rate or scale the rewards down, then go on from the last checkpoint",
        )
    return actions


def observations(spaces: Spaces, obs: Any, action_masks: Any = None) -> tuple[FloatArray, bool]:
    """What a user gives, as `[B, O]`, and whether it was a batch.

    Raises:
        ConfigError: it is neither one observation of the space nor a batch of them, or a mask is missing or
            allows nothing.
    """
    try:
        return spaces.flatten_batch(obs, action_masks)
    except ConfigError:
        raise
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ConfigError(
            f"an observation that does not fit was given ({error})",
            f"expected {spaces.observation_space} or a batch of such",
            "pass it as the environment returns it",
        ) from None


def predict(
    agent: Agent, spaces: Spaces, obs: Any, draw: torch.Generator | None, steps: int, action_masks: Any = None
) -> NDArray[Any]:
    """The action for one observation or a batch of them, as the environment takes it; see `Model.predict`.

    Args:
        agent: acts.
        spaces: of its environment.
        obs: as the environment returns it, or with one leading dimension more.
        draw: gives the noise of a sampled action; None: the mode of the policy.
        steps: environment steps made so far.
        action_masks: what is allowed, where that is not a part of `obs`.

    Raises:
        ConfigError: the observation is not of the environment's shape, or its mask is missing.
    """
    flat, batched = observations(spaces, obs, action_masks)
    with single_precision():
        noise = None if draw is None else agent.act_noise(len(flat), draw, Moment(steps))
        actions = [spaces.to_env(action) for action in act(agent, flat, noise)]
    action: NDArray[Any] = np.stack(actions) if batched else actions[0]
    return action


def act_log_prob(agent: Any, obs: FloatArray, noise: Tensor) -> FloatArray:
    """The log-probabilities `[B]` of the actions that `act(agent, obs, noise)` chooses."""
    log_prob: FloatArray = agent.act_log_prob(torch.from_numpy(obs).to(agent.device), noise).cpu().numpy()
    return log_prob


def evaluate_policy(
    model: Evaluated,
    env: EnvLike,
    n_eval_episodes: int = 10,
    deterministic: bool = True,
    seed: int = 0,
) -> tuple[float, float]:
    """Mean and standard deviation of the undiscounted return over whole episodes.

    Args:
        model: acts; its training is left as it is.
        env: an id, a function, or an environment that nothing else uses meanwhile.
        n_eval_episodes: at least 1.
        deterministic: the mode of the policy; otherwise sampled actions.
        seed: of the start states; the same seed gives every model the same ones.

    Raises:
        ConfigError: the environment has other spaces than the model, or is the one it trains in.
        EnvironmentFailed: the environment raised or returned what it must not.
    """
    returns = habits.model(model).evaluate(env, n_eval_episodes, deterministic=deterministic, seed=seed)
    return returns.mean, returns.std
