"""The state of a training run, and the loop that advances it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softac.config import has_soft_returns
from softac.envs import FreeEnvs, VectorEnv
from softac.errors import CheckpointError, ConfigError
from softac.learning.engine import Engine
from softac.learning.parts import followers, images_read
from softac.learning.state import load_state_, state_of
from softac.replay import (
    Hindsight,
    HindsightReplay,
    Replay,
    RolloutStorage,
    Segment,
    draw_shifts,
    make_replay,
    read_segments,
    shift,
    write_segments,
)
from softac.run.checkpoint import Snapshot
from softac.run.collector import Collector
from softac.run.evaluate import OnEnvFailure, act, act_log_prob
from softac.run.free import FreeCollector
from softac.run.metrics import Means
from softac.run.numerics import device_name, single_precision
from softac.run.offline import Still
from softac.run.prior import ALL, Prior, require_same_data
from softac.run.seeding import Streams
from softac.run.statistics import statistics_of
from softac.run.warm_up import uniform_actions
from softac.types import Agent, FloatArray, Moment, OffPolicyConfig, OnPolicyConfig, Row, SoftRow
from softac.words import described


def rows_kept(agent: Agent, n_envs: int) -> int:
    """The most transitions that training keeps: of the replay, or of one rollout."""
    return int(agent.config.n_steps * n_envs if agent.on_policy else agent.config.buffer_size)


class Training:
    """Everything a run depends on, from one root: agent, memory, random streams, episodes, counters.

    The memory of an off-policy agent is a replay, that of an on-policy agent one rollout.

    Args:
        agent: learns.
        envs: what it learns in; owned by the caller, who closes them.
        seed: the run's seed.
        on_env_failure: "stop", or "restart" with a new instance and a new episode.
        overlap: update while the environments are stepped, with actions of the policy before the updates.
        hindsight: how a replay gives other goals; None: it does not.
        random_shift: pixels by which the images of each batch are moved at random; see `softac.replay.shift`.
        normalize: "none", "obs", or "obs,reward" for on-policy agents; see `softac.run.statistics`.
        prior: data of which every batch has its share.

    Attributes:
        engine: executes the updates; eager unless another is put in its place.

    Raises:
        ConfigError: the replay cannot be reserved, or the agent cannot say what soft n-step returns need.
    """

    def __init__(
        self,
        agent: Agent,
        envs: VectorEnv,
        seed: int,
        *,
        on_env_failure: OnEnvFailure = "stop",
        overlap: bool = False,
        normalize: str = "none",
        hindsight: Hindsight | None = None,
        random_shift: int = 0,
        prior: Prior | None = None,
    ) -> None:
        self.prior, self.offline = prior, prior is not None and prior.share == ALL
        self.agent, self.envs, self.streams, self.overlap = agent, envs, Streams(seed), overlap
        self.random_shift, self.images = random_shift, images_read(agent)
        self.soft = _is_soft(agent)
        self.statistics = statistics_of(agent, envs.num_envs, normalize)
        self.engine = Engine(agent)
        self.memory = _memory(agent, envs, hindsight, soft=self.soft)
        self.collector = self._collector(seed, on_env_failure, hindsight)
        self.bonuses = np.zeros(envs.num_envs, np.float32)  # -log pi of the last round's actions, if it is wanted
        self.noise = torch.zeros(0)  # of the last round, as the agent drew it
        self.means = Means()
        self.followers = followers(agent)
        self.updates = 0
        self.evaluation_due = False
        self.seconds = 0.0

    def _collector(
        self, seed: int, on_env_failure: OnEnvFailure, hindsight: Hindsight | None
    ) -> Collector | FreeCollector:
        agent, envs, memory = self.agent, self.envs, self.memory
        if isinstance(envs, FreeEnvs):
            made = lambda: self.updates  # noqa: E731
            return FreeCollector(
                envs, memory.add, agent, seed, made, soft=self.soft, on_env_failure=on_env_failure
            )
        return (Still if self.offline else Collector)(
            envs,
            memory.add if hindsight is None or not self.soft else self._add_weighed,
            agent.config.gamma,
            1 if agent.on_policy or hindsight is not None else agent.config.n_steps,
            seed,
            on_env_failure=on_env_failure,
            lose=getattr(memory, "cut", lambda _: None),
            weigh=(lambda: self.bonuses) if self.soft else None,
            statistics=self.statistics,
        )

    @property
    def steps(self) -> int:
        """Environment steps made."""
        return self.collector.steps

    def _add_weighed(self, row: Row | SoftRow) -> None:
        """Store a single step with the bonus of its own action; of n steps they are summed when they are drawn."""
        assert isinstance(self.collector, Collector)  # noqa: S101 - hindsight is refused with the other
        self.memory.add(SoftRow(*row[:6], float(self.collector.bonuses[self.collector.cursor])))

    def choose(self, obs: FloatArray) -> FloatArray:
        """Actions for one round: uniform over all there are during the warm-up, then the policy's."""
        if not self.agent.on_policy and self.steps < self.agent.config.learning_starts:
            chosen, self.bonuses = uniform_actions(self.envs.spaces.spec, obs, self.streams.warm_up)
            return chosen
        with single_precision():
            self.noise = self.agent.act_noise(len(obs), self.streams.exploration, self._moment())
            if self.soft:
                self.bonuses = -act_log_prob(self.agent, obs, self.noise)
            return act(self.agent, obs, self.noise)

    def _moment(self) -> Moment:
        if len(self.noise) == 0:
            return Moment(self.steps)
        assert isinstance(self.collector, Collector)  # noqa: S101 - the others choose for themselves
        beginning = self.collector.beginning
        if any(beginning):
            self.noise = self.noise.clone()
            self.noise[beginning] = 0.0
        return Moment(self.steps, self.noise)

    def updates_due(self) -> int:
        """Updates that the steps made so far call for and that have not been done.

        Off-policy: `gradient_steps` for each environment step after the warm-up, whatever the number
        of environments, in rounds of `train_freq` steps. On-policy: one for each full rollout.
        """
        if not self.agent.on_policy and len(self.memory) == 0 and not self.offline:
            return 0
        return self.updates_by(self.steps) - self.updates

    def updates_by(self, steps: int) -> int:
        """Updates that `steps` environment steps call for."""
        if self.agent.on_policy:
            rollout: OnPolicyConfig = self.agent.config
            return steps // (rollout.n_steps * self.envs.num_envs)
        config: OffPolicyConfig = self.agent.config
        warm_up = 0 if self.offline else config.learning_starts
        learning = max(0, steps - warm_up) // config.train_freq * config.train_freq
        return int(learning * config.gradient_steps)

    def update(self) -> None:
        """Learn from a fresh batch of the replay, or from the rollout, which is then forgotten."""
        for follower in self.followers:
            follower.follow(self.steps)
        with single_precision():
            if isinstance(self.memory, RolloutStorage):
                noise = self.agent.update_noise(len(self.memory), self.streams.update)
                rollout = self.memory.read()
                if self.statistics is not None and self.statistics.rewards:
                    rollout = rollout._replace(reward=self.statistics.scaled(rollout.reward))
                self.means.add(self.engine.update_(rollout, noise))
                self.memory.clear()
            else:
                size = self.agent.config.batch_size
                if self.prior is None:
                    batch = self.memory.sample(size, self.streams.replay)
                else:
                    batch = self.prior.batch(self.memory, size, self.streams.replay)
                if self.random_shift:
                    shifts = draw_shifts(size, self.random_shift, self.streams.update)
                    batch = shift(batch, self.images, shifts)
                noise = self.agent.update_noise(size, self.streams.update)
                self.means.add(self.engine.update_(batch, noise))
        self.updates += 1

    def crossed(self, every: int) -> bool:
        """Whether the round just finished passed a multiple of `every` steps; never if it is 0."""
        return every > 0 and self.steps // every > (self.steps - self.envs.num_envs) // every

    def snapshot(self, replay_folder: Path, written: list[Segment]) -> Snapshot:
        """The whole state; new replay rows go to `replay_folder` first.

        Raises:
            OSError: the rows could not be written.
        """
        segments: list[Segment] = []
        tensors = state_of(self.agent) | {"optim.noise": self.noise.cpu().contiguous()}
        if isinstance(self.memory, RolloutStorage):
            tensors["optim.rollout"] = self.memory.rows[: len(self.memory)].clone()
        else:
            replay_folder.mkdir(parents=True, exist_ok=True)
            segments = write_segments(self.memory, replay_folder, written)
        if isinstance(self.memory, HindsightReplay):
            tensors["optim.ends"] = self.memory.ends()
        collector, actions = self.collector.state()
        means, sums = self.means.state()
        state = {
            "collector": collector,
            "means": means,
            "updates": self.updates,
            "rows_added": self.memory.added,
            "evaluation_due": self.evaluation_due,
            "seconds": self.seconds,
            "engine": self.engine.name,
            "device": device_name(self.agent.device),
        }
        if self.prior is not None:
            state["prior"] = self.prior.sha256
        tensors["optim.means"] = sums
        if self.statistics is not None:
            tensors |= self.statistics.state()
        tensors |= {f"optim.random.{name}": value for name, value in self.streams.state_dict().items()}
        return Snapshot(self.steps, tensors, state, actions, segments)

    def restore(self, snapshot: Snapshot, replay_folder: Path) -> list[str]:
        """Go back to where `snapshot` was taken.

        Returns:
            One sentence for each episode in flight that could not be found again.

        Raises:
            CheckpointError: the snapshot does not fit this run.
            EnvironmentFailed: an environment failed while an episode was played again.
        """
        state, tensors = snapshot.state, dict(snapshot.tensors)
        require_same_data(self.prior, state.get("prior"))
        try:
            streams = {name: tensors.pop(f"optim.random.{name}") for name in vars(self.streams)}
            sums, noise = tensors.pop("optim.means"), tensors.pop("optim.noise")
            kept = {name: tensors.pop(name) for name in tuple(tensors) if name in ("optim.rollout", "optim.ends")}
            if self.statistics is not None:
                self.statistics.take_from(tensors)
            load_state_(self.agent, tensors)
            self.streams.load_state_dict(streams)
            self.means.load_state(state["means"], sums)
            self.updates, added = int(state["updates"]), int(state["rows_added"])
            if int(state["collector"]["steps"]) != snapshot.step:
                raise ValueError("counters that contradict each other")
            if not 0 <= self.updates <= self.updates_by(snapshot.step):
                raise ValueError(f"{self.updates} updates after {snapshot.step} steps")
            self.evaluation_due = bool(state["evaluation_due"])
            self.seconds = float(state["seconds"])
            with single_precision():
                like = self.agent.act_noise(self.envs.num_envs, torch.Generator(), Moment(snapshot.step))
            if len(noise) and (noise.shape, noise.dtype) != (like.shape, like.dtype):
                raise ValueError(f"noise of {noise.dtype} {tuple(noise.shape)}")
            self.noise = noise.to(self.agent.device)
            self._restore_memory(kept, snapshot, replay_folder, added)
            return self.collector.load_state(state["collector"], snapshot.actions)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, RuntimeError) as error:
            detail = described(error)
            raise CheckpointError(
                f"the checkpoint of step {snapshot.step} does not fit this run ({detail})",
                "expected the state of the same algorithm, environment and number of environments",
                "resume it as it was trained",
            ) from None

    def _restore_memory(
        self, kept: dict[str, Tensor], snapshot: Snapshot, replay_folder: Path, added: int
    ) -> None:
        if isinstance(self.memory, RolloutStorage):
            self._restore_rollout(self.memory, kept.pop("optim.rollout"), added, snapshot.step)
        else:
            read_segments(self.memory, replay_folder, snapshot.segments, added)
        if isinstance(self.memory, HindsightReplay):
            self.memory.load_ends(kept.pop("optim.ends"))
        if kept:
            raise ValueError(f"{min(kept)} for another kind of memory")
        self.envs.spaces.require_actions(self.memory.actions)

    def _restore_rollout(self, memory: RolloutStorage, rows: Tensor, added: int, steps: int) -> None:
        if added != steps - self.updates * len(memory.rows) or not 0 <= added <= len(memory.rows):
            raise ValueError(f"a rollout of {added} rows after {self.updates} updates and {steps} steps")
        if rows.shape != memory.rows[:added].shape or rows.dtype != torch.float32:
            raise ValueError(f"a rollout of {rows.dtype} {tuple(rows.shape)} where {added} rows were counted")
        memory.rows[:added] = rows
        memory.added = added


def _memory(agent: Agent, envs: VectorEnv, hindsight: Hindsight | None, *, soft: bool) -> Replay | RolloutStorage:
    """What an agent learns from, empty; refuses one that cannot be reserved."""
    spec, config = envs.spaces.spec, agent.config
    try:
        if agent.on_policy:
            return RolloutStorage(config.n_steps, envs.num_envs, spec, agent.device)
        if hindsight is not None:
            return HindsightReplay(config.buffer_size, replace(spec, images=()), agent.device, soft, hindsight)
        return make_replay(config.buffer_size, spec, agent.device, soft)
    except RuntimeError:
        name = "n_steps" if agent.on_policy else "buffer_size"
        raise ConfigError(
            f"{name}={getattr(config, name)} was given",
            "expected a memory that the system can reserve",
            f"lower {name}",
        ) from None


def _is_soft(agent: Agent) -> bool:
    """Whether rows keep the entropies in between; refuses an agent that does not tell them."""
    soft = not agent.on_policy and has_soft_returns(agent.config)
    if soft and not callable(getattr(agent, "act_log_prob", None)):
        raise ConfigError(
            f'n_step_return="soft" was given for {type(agent).__name__}, which has no act_log_prob',
            "expected log pi of the actions that act chooses, see softac.types.Agent",
            'add it or choose n_step_return="plain"',
        )
    return soft


def train(training: Training, until: int, after_round: Callable[[], bool], stop: Callable[[], bool]) -> None:
    """Advance `training` to `until` environment steps.

    Args:
        training: begun or restored.
        until: total environment steps; reached exactly, whatever the number of environments.
        after_round: called when a round and its updates are done; False ends the training.
        stop: asked before every round and every update; True ends the training.

    Raises:
        EnvironmentFailed: an environment failed; the state is that before the failing step.
    """
    training.collector.disregard_time()
    advance = _overlapping if training.overlap else _in_turn
    while not stop() and advance(training, until, stop) and after_round():
        pass


def _in_turn(training: Training, until: int, stop: Callable[[], bool]) -> bool:
    """A round, then the updates it calls for; False where the budget or a stop ends it."""
    # A round may have been left with its steps or its updates unfinished; that comes first.
    if training.collector.cursor > 0 or training.updates_due() == 0:
        if training.steps >= until:
            return False
        training.collector.collect(training.choose, until - training.steps)
        if training.collector.cursor > 0:
            return False  # the budget ends inside a round; its updates belong to its end
    while training.updates_due() > 0:
        if stop():
            return False
        training.update()
    return True


def _overlapping(training: Training, until: int, stop: Callable[[], bool]) -> bool:
    """A round, and meanwhile the updates that the rounds before it call for.

    The actions are those of the policy before these updates, and the updates see the memory without this
    round, however long either takes. What a stop leaves unfinished is done before the round is recorded.
    """
    if training.steps >= until:
        return False
    collector = training.collector
    assert isinstance(collector, Collector)  # noqa: S101 - `softac.run.stored.require_fitting` refuses the other
    collector.start(training.choose)
    while collector.cursor == 0 and training.updates_due() > 0:
        if stop():
            return False
        training.update()
    collector.finish(training.choose, until - training.steps)
    return collector.cursor == 0
