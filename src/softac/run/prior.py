"""Prior data: a data set beside the replay, of which every batch has its share, or all.

Half of each batch from the data and half from the replay (arXiv:2302.02948, RLPD) does not depend on how many the
data are; layer norm in the critics is what keeps their values from running away beyond them.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softac.config import fields, has_soft_returns
from softac.envs import Spaces
from softac.errors import CheckpointError, ConfigError, either
from softac.replay import Replay, make_replay
from softac.run.config import RunConfig
from softac.run.datasets import Recording, dataset_folder, expanded, read_dataset
from softac.run.given import require_one_scale, rows_of
from softac.types import Agent, DataTransition, FloatArray

SHARE, ALL = 0.5, 1.0
CHUNK = 2**25  # bytes of rows that are hashed at once
NO_DATA = "expected prior, a data set to learn from", "give prior=DATASET (--prior DATASET)"

log = logging.getLogger("softac")


@dataclass(frozen=True)
class Prior:
    """Data that an agent learns from beside its own steps.

    Attributes:
        replay: its rows; nothing is added to them.
        next_actions: what was done in the following step, `[rows, A]`, for agents that learn from that.
        share: of every batch.
        sha256: of the rows, by which they are known again.
        told: what they are, in words.
    """

    replay: Replay
    next_actions: Tensor | None
    share: float
    sha256: str
    told: str

    def batch(self, own: Replay, size: int, generator: torch.Generator) -> Any:
        """`size` transitions, the agent's `own` first."""
        theirs = size if self.share == ALL else min(max(round(self.share * size), 1), size - 1)
        drawn = () if theirs == size else own.sample(size - theirs, generator)
        prior = self.replay.sample(theirs, generator)
        if self.next_actions is not None:
            following = self.next_actions[self.replay.drawn].to(prior.action.device)
            return DataTransition(prior.obs, prior.action, prior.reward, prior.discount, prior.next_obs, following)
        return prior if theirs == size else type(prior)(*map(torch.cat, zip(drawn, prior, strict=True)))


def named(prior: str | Path | None) -> str | None:
    """A data set as a run keeps it: a folder by its place, wherever the run goes on, else an id.

    Raises:
        ConfigError: there is none.
    """
    if not isinstance(prior, str | Path):
        return prior
    dataset_folder(prior)
    folder = expanded(prior)
    return str(folder.absolute() if folder.is_dir() else prior)


def open_prior(run: RunConfig, agent: Agent, spaces: Spaces) -> Prior | None:
    """The prior data of a run; None if it has none.

    Raises:
        ConfigError: there is no such data set, it is of other spaces, does not fit into memory, or cannot be
            learned from with these settings.
        CheckpointError: it is empty, damaged or hostile.
    """
    if run.prior is None:
        if learns_offline(type(agent)):
            raise ConfigError(
                f"no data were given to {type(agent).__name__}, which learns from them alone", *NO_DATA
            )
        return None
    require_one_scale(agent, f"prior={run.prior!r} was")
    if share_of(run, type(agent)) < ALL and agent.config.batch_size == 1:
        raise ConfigError(
            "batch_size=1 was given with prior data, which are to be a part of each batch",
            "expected at least 2, or prior_share=1",
            "raise batch_size",
        )
    steps, recordings = read_dataset(run.prior, spaces)
    replay = make_replay(steps, spaces.spec, agent.device, has_soft_returns(agent.config))
    following: list[FloatArray] = []
    returns: list[float] = []
    for recording in recordings:
        following.append(_joined(replay, recording, agent))
        returns.append(float(recording.rewards.sum()))
    if replay.added == 0:
        raise CheckpointError(
            f"the data set {run.prior} has no step behind which another follows",
            "expected longer episodes",
            "choose another",
        )
    told = (
        f"prior data {run.prior}: {len(returns)} episodes, {replay.added} transitions, "
        f"mean return {np.mean(returns):.1f}"
    )
    next_actions = torch.from_numpy(np.concatenate(following)) if learns_offline(type(agent)) else None
    return Prior(replay, next_actions, share_of(run, type(agent)), _sha256(replay, following), told)


def _joined(replay: Replay, recording: Recording, agent: Agent) -> FloatArray:
    """Put an episode into the replay; what was done behind each of its rows, `[rows, A]`, if that is wanted."""
    follows = learns_offline(type(agent))
    # No action follows the last step: of one where the episode breaks off, such an agent learns nothing.
    kept = len(recording.rewards) - (follows and not recording.terminated)
    for row in islice(rows_of(recording, agent.config), kept):
        replay.add(row)
    following = np.concatenate([recording.actions[1:], recording.actions[-1:]])
    return following[: kept if follows else 0]


def learns_offline(agent_class: type[Any]) -> bool:
    """Whether an agent learns from data alone."""
    return bool(getattr(agent_class, "offline", False))


def share_of(run: RunConfig, agent_class: type[Any]) -> float:
    """How much of every batch is prior data; 1: no environment is stepped."""
    if run.prior is None:
        return 0.0
    return (ALL if learns_offline(agent_class) else SHARE) if run.prior_share is None else run.prior_share


def require_prior_fits(agent_class: type[Any], run: RunConfig) -> None:
    """Refuse prior data for an agent without a replay, and settings that mean nothing with them or without.

    Raises:
        ConfigError: the agent learns from its own rollouts, or settings contradict each other.
    """
    name, offline = agent_class.__name__, learns_offline(agent_class)
    if run.prior is None and run.prior_share is not None:
        raise ConfigError(f"prior_share={run.prior_share} was given", *NO_DATA)
    if run.prior is None:
        return
    if agent_class.on_policy:
        raise ConfigError(
            f"prior={run.prior!r} was given with {name}, which learns from each rollout of its present policy",
            "expected an algorithm with a replay",
            "leave prior out, or choose sac, td3 or dqn, say",
        )
    share = share_of(run, agent_class)
    if offline and share != ALL:
        raise ConfigError(
            f"prior_share={share} was given with {name}, which learns from data alone",
            "expected 1",
            "leave prior_share out, or choose sac or td3, say",
        )
    about_steps = {
        "n_envs": run.n_envs > 1,
        "overlap": run.overlap,
        "normalize": run.normalize != "none",
        "collect": run.collect != "lockstep",
        "hindsight": run.hindsight != "none",
    }
    if share == ALL and any(about_steps.values()):
        raise ConfigError(
            f"prior_share=1 was given, with which no environment is stepped, and {either(about_steps)}",
            "expected none of these, which are about steps",
            "leave them out",
        )


def with_norm(agent_class: type[Any], config: dict[str, Any], prior: Any) -> dict[str, Any]:
    """`config` with layer norm in the critics, where there are prior data and nothing else was said."""
    if prior is None or "critic_layer_norm" in config or "critic_layer_norm" not in fields(agent_class.Config):
        return config
    log.info("critic_layer_norm=True, for the prior data; critic_layer_norm=False leaves it out")
    return {**config, "critic_layer_norm": True}


def require_same_data(prior: Prior | None, told: Any) -> None:
    """Refuse other data than a run began with, of which its checkpoint tells.

    Raises:
        CheckpointError: they are others.
    """
    if told is not None and prior is not None and told != prior.sha256:
        raise CheckpointError(
            "the prior data are no longer those that this run began with",
            f"expected transitions with the SHA-256 {str(told)[:16]}...",
            "restore the data set",
        )


def _sha256(replay: Replay, next_actions: Sequence[FloatArray]) -> str:
    found = hashlib.sha256()
    step = max(CHUNK // replay.explicit_rows(0, 1).nbytes, 1)
    for first in range(0, replay.added, step):
        found.update(replay.explicit_rows(first, min(first + step, replay.added)).tobytes())
    for action in next_actions:
        found.update(action.tobytes())
    return found.hexdigest()
