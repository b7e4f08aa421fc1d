"""The collector: steps the environments and turns their answers into transitions.

It alone knows where episodes begin and end. An episode is determined by its seed and its actions,
which is how a stopped run finds its way back into the middle of one.
"""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice, repeat
from typing import Any

import numpy as np

from softac.envs import EnvFault, Step, VectorEnv
from softac.errors import EnvironmentFailed
from softac.run.episode import MOST_KEPT, Delays, Episode, NStep
from softac.run.evaluate import MOST_FAILURES, OnEnvFailure
from softac.run.seeding import Purpose, derive_seed
from softac.run.statistics import Statistics
from softac.types import FloatArray, Row, SoftRow

RECENT_EPISODES = 100
Choose = Callable[[FloatArray], FloatArray]  # observations `[n_envs, O]` to actions `[n_envs, A]`

log = logging.getLogger("softac")


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
        on_env_failure: "stop", or "restart": a new instance and a new episode, until ten of one environment have
            failed one after the other.
        lose: told which environment breaks its episode off.
        weigh: -log pi of the actions that were chosen last, `[n_envs]`; None: transitions have no bonus.
        statistics: of what is met; None: nobody asks for them.

    Attributes:
        restarts: instances that took the place of one that had failed.
        delays: how long observations waited for their action.
    """

    def __init__(
        self,
        envs: VectorEnv,
        store: Callable[[Row | SoftRow], None],
        gamma: float,
        n_steps: int,
        seed: int,
        *,
        on_env_failure: OnEnvFailure = "stop",
        lose: Callable[[int], None] = lambda _: None,
        weigh: Callable[[], FloatArray] | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        self.envs, self.store, self.gamma, self.n_steps, self.seed = envs, store, gamma, n_steps, seed
        self.on_env_failure, self.statistics, self._lose = on_env_failure, statistics, lose
        self.steps = 0
        self.episodes_done = 0
        self.recent: deque[tuple[float, int, bool | None]] = deque(maxlen=RECENT_EPISODES)
        self.cursor = 0
        self.actions = np.zeros((envs.num_envs, envs.spaces.spec.action_dim), np.float32)
        self.chosen = False  # whether `actions` are those of a round that has not ended
        self.bonuses = np.zeros(envs.num_envs, np.float32)  # -log pi of them
        self.weigh = weigh or (lambda: self.bonuses)
        self._weighs = weigh is not None
        self._kept_bonuses = 0 if weigh is None else n_steps - 1  # of each episode
        self.episodes: list[Episode] = []
        self.rewards = 0.0, 0  # their sum, and of how many steps, since the last row of metrics
        self.restarts = 0
        self.failures = [0] * envs.num_envs  # episodes in a row, for each environment
        self.delays = Delays()
        self._answers: Iterator[Step] = iter(())
        self._failed: tuple[int, int] | None = None  # the environment that ended the last call, and at which step
        self._ended: int | None = None  # one that has made a step which was not recorded

    def begin(self, index: int = 0) -> None:
        """Reset every environment for its first episode, or for the one of this index."""
        self.episodes = [self._begin(i, index) for i in range(self.envs.num_envs)]

    @property
    def beginning(self) -> list[bool]:
        """Which environments are at the first observation of an episode."""
        return [not episode.actions for episode in self.episodes]

    @property
    def observations(self) -> FloatArray:
        """The observation each environment is in, `[n_envs, O]`."""
        return np.stack([episode.obs for episode in self.episodes])

    def collect(self, choose: Choose, budget: int) -> None:
        """Advance to the end of the round, or by `budget` steps if that is less.

        Args:
            choose: observations `[n_envs, O]` to actions `[n_envs, A]`.
            budget: environment steps that may still be made, at least 1.

        Raises:
            EnvironmentFailed: an environment failed, and it is to stop then; the steps before it are kept,
                and calling again tries the same action again.
        """
        self.start(choose)
        self.finish(choose, budget)

    def start(self, choose: Choose) -> None:
        """Choose the actions of a round, if they have not been, and have the environments begin with them.

        What else is computed until `finish` is, where the environments have a thread or processes of their own,
        computed while they are stepped.
        """
        if self._ended is not None:
            self._find_again(self._ended, choose)
        if not self.chosen:
            self.actions, self.chosen = choose(self.observations), True
            self.bonuses = self.weigh()
        self._answers = self.envs.step(self.cursor, self.actions[self.cursor :])
        now = time.monotonic()
        for episode in self.episodes[self.cursor :]:
            if episode.seen is not None:
                self.delays.add(now - episode.seen)

    def finish(self, choose: Choose, budget: int) -> None:
        """Record what the environments answer: the rest of `collect`, and its arguments."""
        stop = min(self.cursor + budget, self.envs.num_envs)
        while self.cursor < stop:
            try:
                for step in islice(self._answers, stop - self.cursor):
                    self._record(self.cursor, step)
            except EnvFault as fault:
                self._mend(self.cursor, fault, choose)
                self._answers = self.envs.step(self.cursor, self.actions[self.cursor :])
            except BaseException:  # an interruption: whether the environment has made its step, nobody knows
                self._ended = self.cursor
                raise
        if self.cursor == self.envs.num_envs:
            self.cursor, self.chosen = 0, False
            if self.statistics is not None:
                self.statistics.publish()

    def disregard_time(self) -> None:
        """Do not count how long observations have waited so far; nobody was there to act."""
        for episode in self.episodes:
            episode.seen = None

    def _record(self, i: int, step: Step) -> None:
        episode = self.episodes[i]
        ended = step.terminated or step.truncated
        # Before anything is recorded: if the reset fails, this step has not happened.
        following = self._begin(i, episode.index + 1) if ended else episode
        if self.statistics is not None:
            self.statistics.add(i, episode.obs, step.reward, ended=ended)
        for row in episode.take(self.actions[i].copy(), step, float(self.bonuses[i])):
            self.store(row)
        if ended:
            self.recent.append((episode.total, len(episode.actions), step.success))
            self.episodes_done += 1
            self.failures[i] = 0
        self.episodes[i] = following
        self.rewards = self.rewards[0] + step.reward, self.rewards[1] + 1
        self.steps += 1
        self.cursor += 1

    def _mend(self, i: int, fault: EnvFault, choose: Choose) -> None:
        """Get an environment that failed in a step ready to be stepped again, or say how it failed.

        A call after one that ended with this failure has tried the same action again; where that fails too, the
        environment is brought back in a new instance, and the action tried once more.
        """
        episode = self.episodes[i]
        located = self._located(fault)
        if self.on_env_failure == "restart":
            for row in episode.window.cut(episode.obs):
                self.store(row)
            self._break_off(i)
            self.episodes[i] = self._renewed(i, episode.index + 1, located, fault)
            self._choose_again(i, choose)
        elif self._failed == (i, self.steps):
            self._failed = None
            self._find_again(i, choose)
        else:
            self._failed = i, self.steps
            raise located from fault

    def _break_off(self, i: int) -> None:
        """Leave an episode behind that will not go on."""
        self._lose(i)
        if self.statistics is not None:
            self.statistics.lose(i)

    def _begin(self, i: int, index: int) -> Episode:
        """Reset for an episode; where that fails, a new instance and the episode after it, if that is wanted."""
        try:
            return self._reset(i, index)
        except EnvironmentFailed as failed:
            if self.on_env_failure == "stop":
                self._ended = i
                raise
            return self._renewed(i, index + 1, failed, failed.__cause__)

    def _renewed(self, i: int, index: int, failed: EnvironmentFailed, cause: BaseException | None) -> Episode:
        """The first episode from `index` on that a new instance begins.

        Raises:
            EnvironmentFailed: too many have failed one after the other.
        """
        while True:
            self.failures[i] += 1
            if self.failures[i] >= MOST_FAILURES:
                raise EnvironmentFailed(
                    f"{self.failures[i]} episodes of environment {i} failed one after the other, the last one: "
                    f"{failed.given}",
                    failed.expected,
                    failed.remedy,
                ) from cause
            log.warning("%s; a new instance begins episode %d", failed.given, index)
            self.restarts += 1
            try:
                self.envs.restart(i)
                return self._reset(i, index)
            except EnvFault as fault:
                failed, cause = self._unmade(i, fault), fault
            except EnvironmentFailed as again:
                failed, cause, index = again, again.__cause__, index + 1

    def _find_again(self, i: int, choose: Choose) -> None:
        """Bring an environment that has failed back to where its episode was, in a new instance."""
        episode = self.episodes[i]
        try:
            self.envs.restart(i)
        except EnvFault as fault:
            raise self._unmade(i, fault) from fault
        played = episode.actions.rows(self.actions.shape[1]), episode.bonuses
        found = self._replayed(i, episode.index, *played) if self.envs.repeats else None
        if found is None or found.obs.tobytes() != episode.obs.tobytes():
            log.warning("%s", _unrepeated(i, episode.index))
            self._break_off(i)
            self.episodes[i] = self._reset(i, episode.index + 1)
            if self.chosen:
                self._choose_again(i, choose)
        self._ended = None

    def _choose_again(self, i: int, choose: Choose) -> None:
        self.actions[i] = choose(self.observations)[i]
        self.bonuses[i] = self.weigh()[i]

    def _reset(self, i: int, index: int) -> Episode:
        seed = derive_seed(Purpose.TRAINING_EPISODE, self.seed, i, index)
        try:
            obs = self.envs.reset(i, seed)
        except EnvFault as fault:
            raise EnvironmentFailed(
                f"environment {i} {fault} at the start of episode {index} (seed {seed})",
                f"expected {fault.expected}",
                f"correct its reset(seed={seed}), then resume",
            ) from fault
        bonuses = deque[float](maxlen=self._kept_bonuses)
        window = NStep(self.gamma, self.n_steps, bonus=self._kept_bonuses > 0)
        return Episode(index, seed, obs, window, bonuses=bonuses, seen=time.monotonic())

    def _unmade(self, i: int, fault: EnvFault) -> EnvironmentFailed:
        return EnvironmentFailed(
            f"environment {i} {fault}", "expected a Gymnasium environment", "correct it, then resume"
        )

    def _located(self, fault: EnvFault) -> EnvironmentFailed:
        episode = self.episodes[self.cursor]
        action = self.envs.spaces.to_env(self.actions[self.cursor])
        return EnvironmentFailed(
            f"environment {self.cursor} {fault} at step {len(episode.actions) + 1} of episode {episode.index} "
            f"(seed {episode.seed}, action {np.array2string(action, precision=4)})",
            f"expected {fault.expected}",
            "correct the environment, then resume",
        )

    def state(self) -> tuple[dict[str, Any], FloatArray]:
        """What is needed to go on: plain data, and the actions of the episodes in flight.

        The actions are one array `[sum of lengths, A]`, environment after environment.
        """
        width = self.actions.shape[1]
        actions = [episode.actions.rows(width) for episode in self.episodes]
        plain = {
            "steps": self.steps,
            "episodes_done": self.episodes_done,
            "recent": [[r, n] if s is None else [r, n, s] for r, n, s in self.recent],
            "cursor": self.cursor,
            "chosen": self.chosen,
            "actions": self.actions.tolist(),
            "restarts": self.restarts,
            "failures": list(self.failures),
            "episodes": [
                {"index": e.index, "length": len(rows), "obs_sha256": _fingerprint(e.obs)}
                | ({"forgotten": True} if len(rows) < len(e.actions) else {})
                for e, rows in zip(self.episodes, actions, strict=True)
            ],
            "rewards": list(self.rewards),
        }
        if self._weighs:
            # Of the last steps of each episode that can be found again.
            kept = (list(e.bonuses)[: len(rows)] for e, rows in zip(self.episodes, actions, strict=True))
            plain["bonuses"] = [self.bonuses.tolist(), *kept]
        return plain, np.concatenate(actions)

    def load_state(self, plain: dict[str, Any], actions: FloatArray) -> list[str]:
        """Go back to where `state` was taken: reset with each seed and play the actions again.

        Returns:
            One sentence for each episode that could not be found again, because the environment
            did not repeat itself; such an episode is dropped and the next one begun.
        """
        self._require_fitting(plain, actions)
        self.steps, self.episodes_done = int(plain["steps"]), int(plain["episodes_done"])
        self.recent.extend((float(r), int(n), _flag(*s) if s else None) for r, n, *s in plain["recent"])
        self.cursor, self.chosen = int(plain["cursor"]), bool(plain["chosen"])
        self.actions = np.array(plain["actions"], np.float32)
        self.rewards = float((plain.get("rewards") or (0.0, 0))[0]), int((plain.get("rewards") or (0.0, 0))[1])
        self.restarts = int(plain.get("restarts", 0))
        self.failures = [int(n) for n in plain.get("failures", self.failures)]
        chosen, *bonuses = plain.get("bonuses", [self.bonuses, *([] for _ in plain["episodes"])])
        self.bonuses = np.array(chosen, np.float32)
        self.episodes, lost, first = [], [], 0
        for i, saved in enumerate(plain["episodes"]):
            stop = first + int(saved["length"])
            index, gone = int(saved["index"]), saved.get("forgotten") or not self.envs.repeats
            episode = None if gone else self._found(i, index, actions[first:stop], bonuses[i])
            if episode is None or _fingerprint(episode.obs) != saved["obs_sha256"]:
                lost.append(_unkept(i, index) if saved.get("forgotten") else _unrepeated(i, index))
                self._break_off(i)
                episode = self._begin(i, index + 1)
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
        if len(plain.get("failures", played)) != n:
            raise ValueError("failures of another number of environments")
        if chosen.shape != self.actions.shape:
            raise ValueError(f"actions of shape {chosen.shape}")
        if self._weighs:
            lengths = [len(each) for each in plain["bonuses"]]
            if lengths != [n, *(min(length, self._kept_bonuses) for length in played)]:
                raise ValueError(f"{lengths} bonuses for episodes of {played} steps")
        self.envs.spaces.require_actions(chosen)
        self.envs.spaces.require_actions(actions)
        if not 0 <= int(plain["cursor"]) < n or min(int(plain["steps"]), int(plain["episodes_done"])) < 0:
            raise ValueError("counters out of range")

    def _found(self, i: int, index: int, actions: FloatArray, bonuses: Sequence[float]) -> Episode | None:
        """`_replayed`, with a new instance and None where the environment fails and that is wanted."""
        try:
            return self._replayed(i, index, actions, bonuses)
        except EnvironmentFailed as failed:
            if self.on_env_failure == "stop":
                raise
            log.warning("%s", failed.given)
            with suppress(EnvFault):  # then the next reset says what is wrong
                self.envs.restart(i)
            return None

    def _replayed(self, i: int, index: int, actions: FloatArray, bonuses: Sequence[float]) -> Episode | None:
        """The episode played again, up to `actions`; of its last steps with these bonuses, as they were."""
        episode = self._reset(i, index)
        last = list(bonuses)[: len(actions)]  # none, where the actions have been forgotten
        earlier = repeat(0.0, len(actions) - len(last))  # of steps that have left the window
        for action, bonus in zip(actions, chain(earlier, last), strict=True):
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
            for _ in episode.take(action, step, float(bonus)):
                pass  # these transitions have been stored already
        episode.seen = None
        return episode


def _unkept(i: int, index: int) -> str:
    return (
        f"episode {index} of environment {i} was longer than {MOST_KEPT:,} steps, whose actions are not kept; "
        "continuing with a new episode, not bit for bit"
    )


def _unrepeated(i: int, index: int) -> str:
    return (
        f"environment {i} did not repeat episode {index} from its seed and actions; "
        "continuing with a new episode, not bit for bit"
    )


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r:.40} where a success was kept")
    return value


def _fingerprint(obs: FloatArray) -> str:
    return hashlib.sha256(obs.tobytes()).hexdigest()
