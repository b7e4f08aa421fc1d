"""The state of a training run, and the loop that advances it."""

from collections.abc import Callable
from pathlib import Path

import torch

from softac.envs import VectorEnv
from softac.errors import CheckpointError, ConfigError
from softac.replay import Replay, Segment, read_segments, write_segments
from softac.run.checkpoint import Snapshot
from softac.run.collector import Collector
from softac.run.evaluate import act
from softac.run.metrics import Means
from softac.run.seeding import Streams
from softac.types import Agent, AgentConfig, FloatArray


class Training:
    """Everything a run depends on, from one root: agent, replay, random streams, episodes, counters.

    Args:
        agent: learns.
        envs: what it learns in; owned by the caller, who closes them.
        seed: the run's seed.

    Raises:
        ConfigError: the replay cannot be reserved.
    """

    def __init__(self, agent: Agent, envs: VectorEnv, seed: int) -> None:
        config: AgentConfig = agent.config
        try:
            self.replay = Replay(config.buffer_size, envs.spaces.spec, agent.device)
        except RuntimeError:
            raise ConfigError(
                f"buffer_size={config.buffer_size} was given; expected a replay that the system can reserve; "
                "lower buffer_size"
            ) from None
        self.agent, self.envs, self.streams = agent, envs, Streams(seed)
        self.collector = Collector(envs, self.replay, config.gamma, config.n_steps, seed)
        self.means = Means()
        self.updates = 0
        self.evaluation_due = False
        self.seconds = 0.0

    @property
    def steps(self) -> int:
        """Environment steps made."""
        return self.collector.steps

    def choose(self, obs: FloatArray) -> FloatArray:
        """Actions for one round: uniform in [-1, 1] during the warm-up, then the policy's."""
        if self.steps < self.agent.config.learning_starts:
            shape = (len(obs), self.envs.spaces.spec.action_dim)
            uniform: FloatArray = torch.rand(shape, generator=self.streams.warm_up).mul_(2.0).sub_(1.0).numpy()
            return uniform
        return act(self.agent, obs, self.streams.exploration)

    def updates_due(self) -> int:
        """Updates that the steps made so far call for and that have not been done.

        `gradient_steps` for each environment step after the warm-up, whatever the number of
        environments, in rounds of `train_freq` steps.
        """
        config: AgentConfig = self.agent.config
        if len(self.replay) == 0:
            return 0
        learning = max(0, self.steps - config.learning_starts) // config.train_freq * config.train_freq
        return int(learning * config.gradient_steps) - self.updates

    def update(self) -> None:
        """One gradient step on a fresh batch."""
        size = self.agent.config.batch_size
        batch = self.replay.sample(size, self.streams.replay)
        noise = self.agent.update_noise(size, self.streams.update)
        self.means.add(self.agent.update_(batch, noise))
        self.updates += 1

    def crossed(self, every: int) -> bool:
        """Whether the round just finished passed a multiple of `every` steps; never if it is 0."""
        return every > 0 and self.steps // every > (self.steps - self.envs.num_envs) // every

    def snapshot(self, replay_folder: Path, written: list[Segment]) -> Snapshot:
        """The whole state; new replay rows go to `replay_folder` first.

        Raises:
            OSError: the rows could not be written.
        """
        replay_folder.mkdir(parents=True, exist_ok=True)
        segments = write_segments(self.replay, replay_folder, written)
        collector, actions = self.collector.state()
        means, sums = self.means.state()
        state = {
            "collector": collector,
            "means": means,
            "updates": self.updates,
            "replay_added": self.replay.added,
            "evaluation_due": self.evaluation_due,
            "seconds": self.seconds,
        }
        tensors = self.agent.state_dict() | {"optim.means": sums}
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
        try:
            streams = {name: tensors.pop(f"optim.random.{name}") for name in vars(self.streams)}
            sums = tensors.pop("optim.means")
            self.agent.load_state_dict(tensors)
            self.streams.load_state_dict(streams)
            self.means.load_state(state["means"], sums, self.agent.device)
            self.updates = int(state["updates"])
            if self.updates < 0 or int(state["collector"]["steps"]) != snapshot.step:
                raise ValueError("counters that contradict each other")
            self.evaluation_due = bool(state["evaluation_due"])
            self.seconds = float(state["seconds"])
            read_segments(self.replay, replay_folder, snapshot.segments, int(state["replay_added"]))
            return self.collector.load_state(state["collector"], snapshot.actions)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, RuntimeError) as error:
            detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise CheckpointError(
                f"the checkpoint of step {snapshot.step} does not fit this run ({detail}); expected the state "
                "of the same algorithm, environment and number of environments; resume it as it was trained"
            ) from None


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
    while not stop():
        # A round may have been left with its steps or its updates unfinished; that comes first.
        if training.collector.cursor > 0 or training.updates_due() == 0:
            if training.steps >= until:
                return
            training.collector.collect(training.choose, until - training.steps)
            if training.collector.cursor > 0:
                return  # the budget ends inside a round; its updates belong to its end
        while training.updates_due() > 0:
            if stop():
                return
            training.update()
        if not after_round():
            return
