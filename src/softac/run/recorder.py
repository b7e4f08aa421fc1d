"""The recorder: logs, evaluates and saves while a run advances, and keeps its folder in order."""

import json
import logging
import math
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from softac.config import scheduled
from softac.envs import VectorEnv
from softac.errors import CheckpointError, DiskError, EnvironmentFailed, NumericalError, SoftacError
from softac.files import exists, read_regular, remove, replace_text
from softac.learning.state import state_of
from softac.run.checkpoint import (
    CHECKPOINTS,
    FOLDER_NAME,
    KEEP,
    Home,
    Snapshot,
    checkpoints,
    parse_json,
    prune,
    read_manifest,
    write_checkpoint,
)
from softac.run.config import RecordConfig
from softac.run.evaluate import LONGEST, Returns, evaluate, success_rate
from softac.run.folder import BEST, CRASH, REPLAY
from softac.run.free import FreeCollector
from softac.run.metrics import MetricsFile, TensorBoard
from softac.run.names import SCORE
from softac.run.training import Training
from softac.types import Sink

LOG_FREQ = 1_000  # environment steps
DISK_ATTEMPTS = 3

log = logging.getLogger("softac")


class Recorder:
    """What happens besides training: metrics every 1,000 steps, evaluations, checkpoints.

    None of it draws from training's random streams or changes its state, so that a run gives the
    same bits with any of it on or off.

    Args:
        training: what is recorded.
        folder: the run folder, or None to write no files.
        eval_envs: environments for evaluation, or None for no evaluation.
        record: when to evaluate, on how many episodes (each evaluation once deterministic and once
            stochastic), and when to save.
        config_sha256: identifies the configuration in checkpoints.
        home: the folder's files, where they belong to this state; None for a new run.
        other_task_until: the step up to which evaluations were of another task and say nothing of this one.
        sinks: get every row of metrics.
        callback: gets every row of metrics; returning False ends the training.
        stop: whether the process has been asked to stop.
        longest: steps after which an episode of evaluation is cut off.
    """

    def __init__(
        self,
        training: Training,
        folder: Path | None,
        eval_envs: VectorEnv | None,
        *,
        record: RecordConfig,
        config_sha256: str = "",
        home: Home | None = None,
        other_task_until: int = -1,
        sinks: Sequence[Sink] = (),
        callback: Callable[[dict[str, float]], bool | None] | None = None,
        stop: Callable[[], bool] = lambda: False,
        longest: int = LONGEST,
    ) -> None:
        self.training, self.folder, self.eval_envs = training, folder, eval_envs
        self.record, self.config_sha256 = record, config_sha256
        self.callback, self.stop, self.longest = callback, stop, longest
        self.sinks = list(sinks)
        self.metrics: MetricsFile | None = None
        if folder is not None:
            resume_step = None if home is None else training.steps
            try:
                self.metrics = MetricsFile(folder, resume_step)
                self.sinks.append(TensorBoard(folder, resume_step))
            except OSError as error:
                raise _refused("the metrics", folder, error) from None
            forget_best(folder / BEST, config_sha256, other_task_until + 1, training.steps)
        # What is due when: environment steps between two times, and what is done then; 0: only at the end.
        self.schedule: list[tuple[int, Callable[[], None]]] = [
            (LOG_FREQ, self._log),
            (record.eval_freq, self._evaluate_now),
            (record.save_freq, self.save),
        ]
        self.going = True
        self.segments = [] if home is None else list(home.segments)
        self.good = [] if home is None else list(home.good)
        self.failed_writes: Counter[str] = Counter()  # in a row, for each kind of file
        self._saved: tuple[int, int, bool] | None = None
        self._began = self._logged = time.monotonic()
        self._logged_steps = training.steps

    def begin(self) -> None:
        """Do the evaluation that a stop interrupted, if there is one."""
        if self.training.evaluation_due:
            self._evaluate(final=False)

    def after_round(self) -> bool:
        """Do what is due after a round; False ends the training."""
        for every, act in self.schedule:
            if self.training.crossed(every):
                act()
        return self.going and not self.stop()

    def finish(self) -> None:
        """Save, then log and evaluate what the intervals have not; called when training ends.

        Raises:
            DiskError: the last checkpoint could not be written.
        """
        self.save(last=True)
        if not self._at_interval(LOG_FREQ):
            self._log_row(final=True)
        if not self._at_interval(self.record.eval_freq) and not self.stop():
            self._evaluate(final=True)
        if self.metrics is not None:
            self._to_disk(self.metrics.derive, "metrics", "the metrics", last=True)

    def _at_interval(self, every: int) -> bool:
        """Whether the last round, if it is finished, has done what is due every so many steps."""
        return self.training.crossed(every) and not self.training.collector.cursor

    @property
    def home(self) -> Home | None:
        """The folder as it is now."""
        if self.folder is None:
            return None
        seen = frozenset(path.name for path in checkpoints(self.folder / CHECKPOINTS))
        return Home(self.folder, self.segments, self.good, seen)

    def crashed(self, error: EnvironmentFailed | NumericalError) -> None:
        """Save what can be saved, and write down how it came to this in `crash/`.

        After an environment's failure the state is whole and a checkpoint is written; after a
        numerical one the last checkpoint is what remains.
        """
        if self.folder is None:
            return
        try:
            if isinstance(error, EnvironmentFailed):
                self.save(last=True)
            report = self.folder / CRASH / f"step-{self.training.steps:09d}.txt"
            report.parent.mkdir(exist_ok=True)
            replace_text(report, f"{error}\n\n{''.join(traceback.format_exception(error))}")
        except (SoftacError, OSError) as further:
            log.warning("%s", further)

    def close(self) -> None:
        """Close every sink."""
        for sink in self.sinks:
            try:
                sink.close()
            except Exception as error:
                log.warning("%s could not be finished: %s", type(sink).__name__, error)

    def save(self, *, last: bool = False) -> None:
        """Write a checkpoint and forget those no longer needed; nothing without a folder.

        Raises:
            DiskError: it failed for the third time in a row, or it was the last.
            NumericalError: a parameter is not finite.
        """
        training = self.training
        training.seconds += time.monotonic() - self._began
        self._began = time.monotonic()
        state = (training.steps, training.updates, training.evaluation_due)
        if self.folder is None or state == self._saved:
            return
        if self.metrics is not None:
            self._to_disk(self.metrics.sync, "metrics", "the metrics", last=False)
        if self._to_disk(self._save, "checkpoint", f"the checkpoint of step {training.steps}", last=last):
            self._saved = state
        if self.metrics is not None:
            self._to_disk(self.metrics.derive, "metrics", "the metrics", last=False)

    def _save(self) -> None:
        assert self.folder is not None  # noqa: S101 - for the type checker; `save` has returned otherwise
        replay = self.folder / REPLAY
        snapshot = self.training.snapshot(replay, self.segments)
        require_finite(snapshot)
        written = write_checkpoint(self.folder / CHECKPOINTS, snapshot, self.config_sha256)
        self.segments = snapshot.segments
        self.good = [*self.good[-KEEP:], written]
        prune(self.folder / CHECKPOINTS, replay, self.good)

    def _log(self) -> None:
        self._log_row(final=False)
        self.training.means.reset()
        self.training.collector.rewards = 0.0, 0

    def _log_row(self, *, final: bool) -> None:
        training, now = self.training, time.monotonic()
        means = training.means.means()
        for name, value in means.items():
            if not math.isfinite(value):
                raise NumericalError(
                    f"{name} is {value} at step {training.steps}",
                    "expected finite numbers",
                    "lower the learning rate or scale the rewards down, then resume from the last checkpoint",
                )
        collector = training.collector
        recent = collector.recent
        row: dict[str, float] = {}
        if recent:
            row["rollout/ep_rew_mean"] = sum(r for r, _, _ in recent) / len(recent)
            row["rollout/ep_len_mean"] = sum(n for _, n, _ in recent) / len(recent)
            row |= success_rate("rollout/success_rate", [s for _, _, s in recent])
        elif collector.rewards[1]:  # no episode has ended so far
            row["rollout/rew_per_step_mean"] = collector.rewards[0] / collector.rewards[1]
        row |= means
        row["train/n_updates"] = training.updates
        row |= {f"train/{name}": value for name, value in scheduled(training.agent.config, training.steps).items()}
        row["time/total_timesteps"] = training.steps
        row["time/episodes"] = training.collector.episodes_done
        if training.collector.restarts:
            row["time/env_restarts"] = training.collector.restarts
        if training.overlap:
            row["time/action_delay"] = training.collector.delays.mean
            row["time/action_delay_max"] = training.collector.delays.longest
            training.collector.delays.reset()
        if isinstance(collector, FreeCollector):
            row["time/policy_age"] = collector.ages.mean
            row["time/policy_age_max"] = collector.ages.longest
            collector.ages.reset()
        row["time/fps"] = (training.steps - self._logged_steps) / max(now - self._logged, 1e-9)
        row["time/time_elapsed"] = training.seconds + now - self._began
        self._logged, self._logged_steps = now, training.steps
        self._write(row, final=final)
        if self.callback is not None and says_no(self.callback(row)):
            self.going = False

    def _evaluate_now(self) -> None:
        self.training.evaluation_due = True
        self._evaluate(final=False)

    def _evaluate(self, *, final: bool) -> None:
        if self.eval_envs is None or self.record.n_eval_episodes == 0:
            self.training.evaluation_due = False
            return
        mode, sampled = (self._episodes(deterministic=d) for d in (True, False))
        if len(sampled.returns) < self.record.n_eval_episodes and not sampled.cut:
            return  # asked to stop; the evaluation stays due
        self.training.evaluation_due = False
        row = {
            "eval/mean_reward": mode.mean,
            "eval/std_reward": mode.std,
            "eval/mean_ep_length": sum(mode.lengths) / len(mode.lengths),
            "eval/stochastic_mean_reward": sampled.mean,
            "eval/stochastic_std_reward": sampled.std,
        } | success_rate("eval/success_rate", mode.successes)
        self._write(row, final=final, returns=mode.returns)
        if self.folder is not None:
            self._to_disk(lambda: self._save_best(mode.mean), "best", "the best agent", last=False)

    def _episodes(self, *, deterministic: bool) -> Returns:
        assert self.eval_envs is not None  # noqa: S101 - for the type checker
        return evaluate(
            self.training.agent,
            self.eval_envs,
            self.record.n_eval_episodes,
            deterministic=deterministic,
            step=self.training.steps,
            stop=self.stop,
            on_env_failure=self.training.collector.on_env_failure,
            longest=self.longest,
        )

    def _save_best(self, mean: float) -> None:
        assert self.folder is not None  # noqa: S101 - for the type checker
        best = self.folder / BEST
        score = best / SCORE
        if mean <= _best_so_far(score):
            return
        networks = {k: v for k, v in state_of(self.training.agent).items() if not k.startswith("optim.")}
        snapshot = Snapshot(self.training.steps, networks, {}, self.training.collector.state()[1], [])
        require_finite(snapshot)
        written = write_checkpoint(best, snapshot, self.config_sha256)
        replace_text(score, json.dumps({"step": self.training.steps, "mean_reward": mean}))
        for old in checkpoints(best):
            if old != written:
                remove(old)

    def _write(self, row: Mapping[str, float], *, final: bool, returns: list[float] | None = None) -> None:
        step = self.training.steps
        if self.metrics is not None:
            whole: dict[str, Any] = {"step": step, **row}
            if returns is not None:
                whole["eval/returns"] = returns
            if final:
                whole["final"] = True
            metrics = self.metrics
            self._to_disk(lambda: metrics.append(whole), "metrics", "the metrics", last=False)
        for sink in list(self.sinks):
            try:
                sink.write(step, row)
            except Exception as error:
                log.warning("%s failed and is left out from now on: %s", type(sink).__name__, error)
                self.sinks.remove(sink)

    def _to_disk(self, write: Callable[[], None], kind: str, what: str, *, last: bool) -> bool:
        try:
            write()
        except OSError as error:
            self.failed_writes[kind] += 1
            refused = _refused(what, self.folder or Path(), error)
            if last or self.failed_writes[kind] >= DISK_ATTEMPTS:
                raise refused from None
            log.warning("%s", refused)
            return False
        self.failed_writes[kind] = 0
        return True


def says_no(answer: object) -> bool:
    """Whether a callback's answer is false: a bool of Python, NumPy or PyTorch; None and other things are not."""
    if isinstance(answer, torch.Tensor | np.ndarray):
        return answer.ndim == 0 and not bool(answer)
    return isinstance(answer, bool | np.bool) and not answer


def _refused(what: str, folder: Path, error: OSError) -> DiskError:
    existing = next(p for p in (folder, *folder.absolute().parents) if exists(p))
    free = shutil.disk_usage(existing).free / 1e6
    return DiskError(
        f"{what} could not be written to {folder} ({error.strerror or error}, {free:.1f} MB free there)",
        "expected a disk that takes it",
        "free some space, then `softac resume` goes on from the last checkpoint",
    )


def forget_best(best: Path, config_sha256: str, first: int, last: int) -> None:
    """Remove the best agent where it is none of the run that goes on, and what was half written.

    Args:
        best: the folder it lies in.
        config_sha256: identifies the configuration of the run.
        first: step from which evaluations are of its task.
        last: step that it goes on from; what came later was of a branch that is given up.
    """
    kept = set()
    for path in best.iterdir() if best.is_dir() else ():
        named = FOLDER_NAME.fullmatch(path.name)
        if named is not None and first <= int(named[1]) <= last and _is_of(path, config_sha256):
            kept.add(int(named[1]))
        elif named is not None or path.name.startswith(".tmp-"):
            remove(path)
    if not kept or (found := _score(best / SCORE)) is None or found[0] not in kept:
        remove(best / SCORE)


def _is_of(path: Path, config_sha256: str) -> bool:
    try:
        return bool(read_manifest(path).get("config_sha256") == config_sha256)
    except CheckpointError:
        return False


def _best_so_far(score: Path) -> float:
    found = _score(score)
    return -math.inf if found is None else found[1]


def _score(path: Path) -> tuple[int, float] | None:
    """The step and the mean return of the best agent; None: there is none."""
    if not exists(path):
        return None
    try:
        score = parse_json(read_regular(path, 1000), path)
        return int(score["step"]), float(score["mean_reward"])
    except (CheckpointError, KeyError, TypeError, ValueError, OverflowError):
        log.warning("%s is damaged; the best agent is chosen anew from here on", path)
        return None


def require_finite(snapshot: Snapshot) -> None:
    """Refuse to save what could not be loaded.

    Raises:
        NumericalError: a tensor holds NaN or infinity.
    """
    for name, tensor in snapshot.tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NumericalError(
                f"{name} is not finite at step {snapshot.step}",
                "expected finite parameters",
                "lower the learning rate or scale the rewards down, then resume from the last checkpoint",
            )
