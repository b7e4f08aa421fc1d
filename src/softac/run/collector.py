"""The collector: steps the environments and turns their answers into transitions.

It alone knows where episodes begin and end. An episode is determined by its seed and its actions,
which is how a stopped run finds its way back into the middle of one.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from softac.envs import EnvFault, Step, VectorEnv
from softac.errors import EnvironmentFailed
from softac.run.seeding import Purpose, derive_seed
from softac.types import FloatArray, Row

RECENT_EPISODES = 100


class NStep:
    """Folds n successive steps of one episode into one transition.

    A transition never reaches into the next episode: where an episode ends, what is left in the
    window leaves with as many rewards as there are.

    Args:
        gamma: discount per step.
        n: rewards summed before bootstrapping.
    """

    def __init__(self, gamma: float, n: int) -> None:
        self.gamma, self.n = gamma, n
        self.window: deque[tuple[FloatArray, FloatArray, float]] = deque()

    def push(self, obs: FloatArray, action: FloatArray, step: Step) -> Iterator[Row]:
        """Take one step; yield the transitions it completes."""
        self.window.append((obs, action, step.reward))
        ended = step.terminated or step.truncated
        while len(self.window) == self.n or (ended and self.window):
            reward = sum(self.gamma**k * r for k, (_, _, r) in enumerate(self.window))
            # The one place where a discount is made. Only termination ends the future:
            # a time limit says nothing about the value of the state it interrupts.
            discount = self.gamma ** len(self.window) * (1.0 - step.terminated)
            first_obs, first_action, _ = self.window.popleft()
            yield Row(first_obs, first_action, reward, discount, step.obs, ended)


@dataclass
class Episode:
    """The episode one environment is in."""

    index: int
    seed: int
    obs: FloatArray
    window: NStep
    actions: list[FloatArray] = field(default_factory=list)
    total: float = 0.0

    def take(self, action: FloatArray, step: Step) -> Iterator[Row]:
        """Advance by one step; yield the transitions it completes."""
        yield from self.window.push(self.obs, action, step)
        self.actions.append(action)
        self.total += step.reward
        self.obs = step.obs


class Collector:
    """Steps the environments in rounds and hands on the transitions.

    A round advances every environment once, with actions chosen together from the observations at
    its start. A budget may end inside a round; the next call then finishes the round with the
    actions chosen at its start, so that the sequence does not depend on where budgets end.

    Args:
        envs: the environments; each is reset with a seed of its own per episode.
        store: takes each transition.
        gamma: discount per step.
        n_steps: rewards summed before bootstrapping.
        seed: the run's seed.
    """

    def __init__(
        self, envs: VectorEnv, store: Callable[[Row], None], gamma: float, n_steps: int, seed: int
    ) -> None:
        self.envs, self.store, self.gamma, self.n_steps, self.seed = envs, store, gamma, n_steps, seed
        self.steps = 0
        self.episodes_done = 0
        self.recent: deque[tuple[float, int]] = deque(maxlen=RECENT_EPISODES)
        self.cursor = 0
        self.actions = np.zeros((envs.num_envs, envs.spaces.spec.action_dim), np.float32)
        self.chosen = False  # whether `actions` are those of a round that has not ended
        self.episodes: list[Episode] = []

    def begin(self) -> None:
        """Reset every environment for its first episode."""
        self.episodes = [self._reset(i, 0) for i in range(self.envs.num_envs)]

    @property
    def beginning(self) -> list[bool]:
        """Which environments are at the first observation of an episode."""
        return [not episode.actions for episode in self.episodes]

    @property
    def observations(self) -> FloatArray:
        """The observation each environment is in, `[n_envs, O]`."""
        return np.stack([episode.obs for episode in self.episodes])

    def collect(self, choose: Callable[[FloatArray], FloatArray], budget: int) -> None:
        """Advance to the end of the round, or by `budget` steps if that is less.

        Args:
            choose: observations `[n_envs, O]` to actions `[n_envs, A]`.
            budget: environment steps that may still be made, at least 1.

        Raises:
            EnvironmentFailed: an environment failed; the steps before it are kept, and calling
                again tries the same action again.
        """
        if not self.chosen:
            self.actions, self.chosen = choose(self.observations), True
        first = self.cursor
        results = self.envs.step(first, self.actions[first : first + budget])
        try:
            for step in results:
                self._record(self.cursor, step)
        except EnvFault as fault:
            raise self._located(fault) from fault
        if self.cursor == self.envs.num_envs:
            self.cursor, self.chosen = 0, False

    def _record(self, i: int, step: Step) -> None:
        episode = self.episodes[i]
        ended = step.terminated or step.truncated
        # Before anything is recorded: if the reset fails, this step has not happened.
        following = self._reset(i, episode.index + 1) if ended else episode
        for row in episode.take(self.actions[i].copy(), step):
            self.store(row)
        if ended:
            self.recent.append((episode.total, len(episode.actions)))
            self.episodes_done += 1
        self.episodes[i] = following
        self.steps += 1
        self.cursor += 1

    def _reset(self, i: int, index: int) -> Episode:
        seed = derive_seed(Purpose.TRAINING_EPISODE, self.seed, i, index)
        try:
            obs = self.envs.reset(i, seed)
        except EnvFault as fault:
            raise EnvironmentFailed(
                f"environment {i} {fault} at the start of episode {index} (seed {seed})",
                "expected a finite observation of the declared shape",
                f"correct its reset(seed={seed}), then resume",
            ) from fault
        return Episode(index, seed, obs, NStep(self.gamma, self.n_steps))

    def _located(self, fault: EnvFault) -> EnvironmentFailed:
        episode = self.episodes[self.cursor]
        action = self.envs.spaces.to_env(self.actions[self.cursor])
        return EnvironmentFailed(
            f"environment {self.cursor} {fault} at step {len(episode.actions) + 1} of episode {episode.index} "
            f"(seed {episode.seed}, action {np.array2string(action, precision=4)})",
            "expected a finite answer of the declared shape",
            "correct the environment, then resume",
        )

    def state(self) -> tuple[dict[str, Any], FloatArray]:
        """What is needed to go on: plain data, and the actions of the episodes in flight.

        The actions are one array `[sum of lengths, A]`, environment after environment.
        """
        actions = [a for episode in self.episodes for a in episode.actions]
        plain = {
            "steps": self.steps,
            "episodes_done": self.episodes_done,
            "recent": [[r, n] for r, n in self.recent],
            "cursor": self.cursor,
            "chosen": self.chosen,
            "actions": self.actions.tolist(),
            "episodes": [
                {"index": e.index, "length": len(e.actions), "obs_sha256": _fingerprint(e.obs)}
                for e in self.episodes
            ],
        }
        width = self.actions.shape[1]
        return plain, np.array(actions, np.float32).reshape(-1, width)

    def load_state(self, plain: dict[str, Any], actions: FloatArray) -> list[str]:
        """Go back to where `state` was taken: reset with each seed and play the actions again.

        Returns:
            One sentence for each episode that could not be found again, because the environment
            did not repeat itself; such an episode is dropped and the next one begun.
        """
        self._require_fitting(plain, actions)
        self.steps, self.episodes_done = int(plain["steps"]), int(plain["episodes_done"])
        self.recent.extend((float(r), int(n)) for r, n in plain["recent"])
        self.cursor, self.chosen = int(plain["cursor"]), bool(plain["chosen"])
        self.actions = np.array(plain["actions"], np.float32)
        self.episodes, lost, first = [], [], 0
        for i, saved in enumerate(plain["episodes"]):
            stop = first + int(saved["length"])
            episode = self._replayed(i, int(saved["index"]), actions[first:stop])
            if episode is None or _fingerprint(episode.obs) != saved["obs_sha256"]:
                lost.append(
                    f"environment {i} did not repeat episode {saved['index']} from its seed and actions; "
                    "continuing with a new episode, not bit for bit"
                )
                episode = self._reset(i, int(saved["index"]) + 1)
            self.episodes.append(episode)
            first = stop
        return lost

    def _require_fitting(self, plain: dict[str, Any], actions: FloatArray) -> None:
        """Raise ValueError where the state cannot be one of this collector's."""
        n, played = self.envs.num_envs, [int(episode["length"]) for episode in plain["episodes"]]
        with np.errstate(over="ignore"):
            chosen = np.array(plain["actions"], np.float32)
        if len(played) != n or min(played) < 0 or sum(played) != len(actions):
            raise ValueError(f"{len(played)} episodes with {len(actions)} actions for {n} environments")
        if chosen.shape != self.actions.shape:
            raise ValueError(f"actions of shape {chosen.shape}")
        self.envs.spaces.require_actions(chosen)
        self.envs.spaces.require_actions(actions)
        if not 0 <= int(plain["cursor"]) < n or min(int(plain["steps"]), int(plain["episodes_done"])) < 0:
            raise ValueError("counters out of range")

    def _replayed(self, i: int, index: int, actions: FloatArray) -> Episode | None:
        episode = self._reset(i, index)
        for action in actions:
            try:
                (step,) = self.envs.step(i, action[None])
            except EnvFault as fault:
                raise EnvironmentFailed(
                    f"environment {i} {fault} at step {len(episode.actions) + 1} of episode {index} (seed "
                    f"{episode.seed}), which it had passed before",
                    "expected it to repeat itself",
                    "correct the environment, then resume",
                ) from fault
            if step.terminated or step.truncated:
                return None
            for _ in episode.take(action, step):
                pass  # these transitions have been stored already
        return episode


def _fingerprint(obs: FloatArray) -> str:
    return hashlib.sha256(obs.tobytes()).hexdigest()
