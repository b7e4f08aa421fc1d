"""Environments that set their own pace: each has a thread that acts in it, with a copy of the policy.

For robots and simulators that do not wait for a learner. Nobody can say in which order steps arrive, so such a run
is not repeatable; what is kept is the number of updates for each step, and a bound on how old a policy may act:
where an environment is so slow that `MOST_BEHIND` updates have been made while it steps, the others wait for it.
"""

import copy
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

import numpy as np
import torch

from softac.envs import FreeEnvs, VectorEnv
from softac.errors import ConfigError
from softac.learning.state import load_state_, state_of
from softac.run.collector import RECENT_EPISODES, Choose, Collector
from softac.run.config import RunConfig
from softac.run.episode import Delays
from softac.run.evaluate import OnEnvFailure, act, act_log_prob
from softac.run.numerics import single_precision
from softac.run.seeding import Purpose, derive_seed
from softac.run.warm_up import uniform_actions
from softac.types import Agent, FloatArray, Moment, Row, SoftRow

MOST_BEHIND = 500  # updates while an environment makes one step
LEAVING = 10.0  # seconds that a thread may need for its last step

Ended = tuple[float, int, bool | None]

log = logging.getLogger("softac")


@dataclass(frozen=True)
class Stepped:
    """One step of one environment.

    Attributes:
        rows: the transitions that it completes.
        reward: of it.
        ended: return, length and success of the episode that it ends; None: it ends none.
        version: the updates that had been made when its action was chosen.
    """

    rows: list[Row | SoftRow]
    reward: float
    ended: Ended | None
    version: int


def require_free(agent_class: type[Any], run: RunConfig) -> None:
    """Refuse environments that set their own pace for what needs all of them at one time.

    Raises:
        ConfigError: an agent without a replay, or what goes with rounds.
    """
    if agent_class.on_policy:
        raise ConfigError(
            f"collect='free' was given with {agent_class.__name__}, which learns from its present policy",
            "expected an algorithm with a replay, which takes older steps as well",
            "leave collect out, or choose sac or td3, say",
        )
    with_it = {"overlap": run.overlap, "normalize": run.normalize != "none", "hindsight": run.hindsight != "none"}
    if wrong := [name for name, there in with_it.items() if there]:
        raise ConfigError(
            f"collect='free' was given with {wrong[0]}",
            "expected it alone: updates are made beside the environments anyway, which do not wait for each other",
            "leave one of them out",
        )


class Player:
    """One environment, and the policy that acts in it.

    Args:
        index: of the environment.
        envs: it alone.
        agent: copied.
        seed: the run's seed.
        soft: whether transitions have entropy bonuses.
        on_env_failure: as for `softac.run.collector.Collector`.
    """

    def __init__(
        self, index: int, envs: VectorEnv, agent: Agent, seed: int, *, soft: bool, on_env_failure: OnEnvFailure
    ) -> None:
        self.index, self.agent, self.seed, self.soft = index, copy.deepcopy(agent), seed, soft
        self.spec = envs.spaces.spec
        self.rows: list[Row | SoftRow] = []
        self.bonuses = np.zeros(1, np.float32)
        self.noise = torch.zeros(0)
        self.version, self.steps = -1, 0  # of its copy, and of the whole run when it was copied
        self.waits = True  # for its step to be taken in, or for its thread to begin
        self.random = self.generator(0)
        self.collector = Collector(
            envs,
            self.rows.append,
            agent.config.gamma,
            agent.config.n_steps,
            derive_seed(Purpose.TRAINING_EPISODE, seed, index),
            on_env_failure=on_env_failure,
            weigh=(lambda: self.bonuses) if soft else None,
        )

    def generator(self, steps: int) -> torch.Generator:
        """Of its own noise, from so many steps of the run on."""
        return torch.Generator().manual_seed(derive_seed(Purpose.EXPLORATION, self.seed, self.index, steps))

    def step(self) -> Stepped:
        """Advance by one step; raises EnvironmentFailed as a collector does."""
        collector = self.collector
        before = collector.episodes_done
        self.rows.clear()
        collector.rewards = 0.0, 0
        collector.collect(self.choose, 1)
        ended = collector.recent[-1] if collector.episodes_done > before else None
        return Stepped(list(self.rows), collector.rewards[0], ended, self.version)

    def choose(self, obs: FloatArray) -> FloatArray:
        """An action: uniform during the warm-up, then the policy's."""
        if self.steps < self.agent.config.learning_starts:
            actions, self.bonuses = uniform_actions(self.spec, obs, self.random)
            return actions
        if len(self.noise) and self.collector.beginning[0]:
            self.noise = torch.zeros_like(self.noise)
        moment = Moment(self.steps, self.noise) if len(self.noise) else Moment(self.steps)
        with single_precision():
            self.noise = self.agent.act_noise(len(obs), self.random, moment)
            if self.soft:
                self.bonuses = -act_log_prob(self.agent, obs, self.noise)
            return act(self.agent, obs, self.noise)


class FreeCollector:
    """What a training sees of environments that set their own pace; the face of `softac.run.collector.Collector`.

    Args:
        envs: they.
        store: takes each transition.
        agent: acts, as a copy in each of them.
        seed: the run's seed.
        updates: how many have been made.
        soft: whether transitions have entropy bonuses.
        on_env_failure: as for `softac.run.collector.Collector`.

    Attributes:
        ages: of the policies that acted, in updates.
    """

    cursor, chosen = 0, False  # a round is a number of steps, in whatever order they come

    def __init__(
        self,
        envs: FreeEnvs,
        store: Callable[[Row | SoftRow], None],
        agent: Agent,
        seed: int,
        updates: Callable[[], int],
        *,
        soft: bool,
        on_env_failure: OnEnvFailure,
    ) -> None:
        self.envs, self.store, self.agent, self.updates = envs, store, agent, updates
        self.on_env_failure, self.seed = on_env_failure, seed
        self.players = [
            Player(i, one, agent, seed, soft=soft, on_env_failure=on_env_failure)
            for i, one in enumerate(envs.each)
        ]
        self.steps = self.episodes_done = 0
        self.recent: deque[Ended] = deque(maxlen=RECENT_EPISODES)
        self.rewards = 0.0, 0
        self.delays, self.ages = Delays(), Delays()
        self._turn = Condition()
        self._policy, self._version = state_of(agent), 0
        self._done: deque[tuple[Player, Stepped | BaseException]] = deque()
        self._threads: dict[int, Thread] = {}
        self._closed = False
        envs.before_closing.append(self.close)
        log.warning("collect='free': the environments set their own pace, and this run cannot be repeated")

    @property
    def restarts(self) -> int:
        """Instances that took the place of one that had failed."""
        return sum(player.collector.restarts for player in self.players)

    def begin(self) -> None:
        """Reset every environment for its first episode."""
        for player in self.players:
            player.collector.begin()

    def collect(self, choose: Choose, budget: int) -> None:  # noqa: ARG002 - every environment chooses for itself
        """Take in as many steps as there are environments, or `budget` if that is less, from whichever come first.

        Raises:
            EnvironmentFailed: an environment failed, and it is to stop then.
        """
        with self._turn:
            if self._version != self.updates():
                self._policy, self._version = state_of(self.agent), self.updates()
        for player in self.players:
            if player.index not in self._threads:
                thread = Thread(target=self._play, args=(player,), name=f"softac-env-{player.index}", daemon=True)
                self._threads[player.index] = thread
                thread.start()
        for _ in range(min(budget, len(self.players))):
            self._record(*self._next())

    def disregard_time(self) -> None:
        """Nothing is timed here."""

    def close(self) -> None:
        """Have every thread make its last step."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        for thread in self._threads.values():
            thread.join(LEAVING)

    def state(self) -> tuple[dict[str, Any], FloatArray]:
        """What is needed to go on, with new episodes; see `Collector.state`."""
        plain = {
            "steps": self.steps,
            "episodes_done": self.episodes_done,
            "recent": [list(ended) for ended in self.recent],
            "rewards": list(self.rewards),
            "indices": [player.collector.episodes[0].index for player in self.players],
        }
        return plain, np.zeros((0, self.envs.spaces.spec.action_dim), np.float32)

    def load_state(self, plain: dict[str, Any], actions: FloatArray) -> list[str]:  # noqa: ARG002 - there are none
        """Go on from where `state` was taken, with a new episode in each environment.

        Returns:
            A sentence that says so.
        """
        indices = [int(index) for index in plain["indices"]]
        if len(indices) != len(self.players) or min(indices) < 0:
            raise ValueError(f"{len(indices)} episodes for {len(self.players)} environments")
        self.steps, self.episodes_done = int(plain["steps"]), int(plain["episodes_done"])
        if min(self.steps, self.episodes_done) < 0:
            raise ValueError("counters out of range")
        self.recent.extend((float(r), int(n), None if s is None else bool(s)) for r, n, s in plain["recent"])
        self.rewards = float(plain["rewards"][0]), int(plain["rewards"][1])
        self._policy, self._version = state_of(self.agent), self.updates()
        for player, index in zip(self.players, indices, strict=True):
            player.random = player.generator(self.steps)
            player.collector.begin(index + 1)
        return ["every environment begins a new episode, since it sets its own pace: not bit for bit"]

    # ----------------------------------------------------------------------- threads

    def _play(self, player: Player) -> None:
        """The thread of one environment: a step, with the newest policy, when the one before has been taken in."""
        try:
            while True:
                with self._turn:
                    self._turn.wait_for(lambda: player.waits or self._closed)
                    if self._closed:
                        return
                    player.waits = False
                    if player.version != self._version:
                        load_state_(player.agent, self._policy)
                    player.version, player.steps = self._version, self.steps
                self._tell(player, player.step())
        except BaseException as error:  # raised by whoever takes it in
            self._tell(player, error)

    def _tell(self, player: Player, what: Stepped | BaseException) -> None:
        with self._turn:
            self._done.append((player, what))
            self._turn.notify_all()

    def _next(self) -> tuple[Player, Stepped | BaseException]:
        """The next step, and whose; that of the slowest, if its policy would become too old otherwise."""
        with self._turn:
            self._turn.wait_for(lambda: self._first() is not None)
            i = self._first() or 0
            found = self._done[i]
            del self._done[i]
            return found

    def _first(self) -> int | None:
        """Which of the steps that wait may be taken in next."""
        under_way = [player for player in self.players if not player.waits]
        slowest = min(under_way, key=lambda player: player.version, default=None)
        too_old = slowest is not None and self.updates() - slowest.version >= MOST_BEHIND
        allowed = (
            i
            for i, (player, what) in enumerate(self._done)
            if not too_old or player is slowest or isinstance(what, BaseException)
        )
        return next(allowed, None)

    def _record(self, player: Player, what: Stepped | BaseException) -> None:
        if isinstance(what, BaseException):
            self._threads.pop(player.index).join()
            player.waits = True  # a further call tries again
            raise what
        for row in what.rows:
            self.store(row)
        self.ages.add(self.updates() - what.version)
        self.rewards = self.rewards[0] + what.reward, self.rewards[1] + 1
        self.steps += 1
        if what.ended is not None:
            self.recent.append(what.ended)
            self.episodes_done += 1
        with self._turn:
            player.waits = True
            self._turn.notify_all()
