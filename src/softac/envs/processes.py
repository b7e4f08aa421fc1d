"""Environments in processes of their own: the same answers, in the same order, to the last bit.

A worker is a new process, never a copy of this one, and holds some of the environments. It checks what they
answer as a run in one process does. What an environment does to its process it does to that alone: where one
dies, hangs or answers nonsense, the process is ended and another begun, in which the environments that shared
it are brought back by playing their episodes again, from the seed and the actions.
"""

import logging
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.reduction import ForkingPickler
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper

from softac.envs.block import DONE, Block, State
from softac.envs.make import EnvSource
from softac.envs.process import Lost, Process, Worker
from softac.envs.spaces import Spaces
from softac.envs.vector import EnvFault, Step
from softac.errors import ConfigError, EnvironmentFailed, SoftacError
from softac.types import FloatArray
from softac.words import described

LONGEST_EPISODE = 100_000  # steps of one that is played again
STARTING = 60.0  # seconds that a new process may take to import what it needs, at least
DOING = {State.RESET: "in reset", State.STEP: "in step", State.REMAKE: "while it was made again"}

log = logging.getLogger("softac.envs")


class Remote(Exception):  # noqa: N818
    """The traceback of an error in another process."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


@dataclass
class Played:
    """The episode that one environment is in, as far as it takes to find it again."""

    seed: int
    obs: FloatArray  # the last one
    actions: list[bytes] = field(default_factory=list)
    length: int = 0


class ProcessVectorEnv:
    """A `VectorEnv` whose environments are stepped by `workers` processes at the same time.

    Args:
        source: what each worker makes its environments from.
        num_envs: how many, in total.
        workers: processes, at most as many as environments.
        timeout: seconds that making, resetting and stepping one environment may take.

    Raises:
        ConfigError: what cannot be sent to another process, more workers than environments, or a space that
            cannot be learned on.
        EnvironmentFailed: an environment could not be made.
        EnvFault: (from `reset` and `step`) what one did wrong: as in this process, or that it ended its
            process, did not answer in time, or answered what makes no sense.
    """

    repeats = True

    def __init__(self, source: EnvSource, num_envs: int, workers: int, timeout: float) -> None:
        _require_few(workers, num_envs)
        self.num_envs, self.timeout, self.source = num_envs, timeout, source
        self._descriptors = in_memory(packed(source)), in_memory(b"")
        bounds = [num_envs * w // workers for w in range(workers + 1)]
        self._processes = [self._worker(range(*pair)) for pair in pairwise(bounds)]
        self._home = [process for process in self._processes for _ in process.envs]
        self._end = weakref.finalize(self, _end, self._processes, self._descriptors, os.getpid())
        self._asked: dict[int, State] = {}
        self._ready: dict[int, tuple[bytes, Step]] = {}  # answers by environment, with the action they answer
        self._faults: dict[int, EnvFault] = {}
        self._played: dict[int, Played] = {}
        self._stale: set[int] = set()  # environments that are not where their episode is
        try:
            for process in self._processes:
                process.begin()
            self.spaces = self._made(self._processes[0])
            for process in self._processes[1:]:
                _require_alike(self._made(process), self.spaces, process.envs[0])
        except BaseException:
            for process in self._processes:
                if not process.serving:
                    process.kill()
            self.close()
            raise
        spec = self.spaces.spec
        self._block = Block(self._descriptors[1], num_envs, spec.obs_dim, spec.action_dim)

    def reset(self, index: int, seed: int) -> FloatArray:
        """Begin an episode in one environment; its first observation `[O]`."""
        self._settle()
        self._faults.pop(index, None)
        obs = self._begin(index, seed)
        self._ready.pop(index, None)
        return obs

    def step(self, first: int, actions: FloatArray) -> Iterator[Step]:
        """Advance environments first, first + 1, ... by one action `[A]` in [-1, 1] each, all at once.

        They are under way when this returns; the iterator waits for each. Where one fails, the answers of
        those behind it are kept, and handed out when the same actions are asked for again.
        """
        self._settle()
        asked = []
        for i, action in enumerate(actions, first):
            kept = self._ready.get(i)
            if i in self._faults or (kept is not None and kept[0] == action.tobytes()):
                continue
            if kept is not None and not _ended(kept[1]):
                raise RuntimeError(f"environment {i} was asked for another action than the one it has taken")
            self._find_again(i)
            if i not in self._faults:
                asked.append(i)
        for i in asked:
            self._block.action[i] = actions[i - first]
        self._ask(asked, State.STEP)
        return self._answers(range(first, first + len(actions)))

    def restart(self, index: int) -> None:
        """Put a new instance in the place of one; its next call must be `reset`.

        Raises:
            EnvFault: it could not be made.
        """
        self._settle()
        self._ready.pop(index, None)
        self._faults.pop(index, None)
        self._played.pop(index, None)
        if self._home[index].alive:  # otherwise the next process makes it anew
            self._do(index, State.REMAKE)

    def close(self) -> None:
        """Close every environment and end every process, also after one of them failed to."""
        if not self._end.alive:
            return
        for process in self._processes:
            process.leave()
        for process in self._processes:
            process.join(lambda message: self._take(message))
        self._end()

    def __reduce__(self) -> Any:
        raise TypeError("environments in processes of their own cannot be copied; save the model and load it")

    def _worker(self, envs: range) -> Worker:
        """What steps these environments; not begun yet."""
        return Process(envs, *self._descriptors)

    # ----------------------------------------------------------------------- asking and waiting

    def _begin(self, index: int, seed: int) -> FloatArray:
        """Begin an episode, and remember it."""
        self._block.seed[index] = seed
        self._do(index, State.RESET)
        obs: FloatArray = self._block.obs[index].copy()
        self._played[index] = Played(seed, obs)
        if self._home[index].alive:  # it may have died right after the answer
            self._stale.discard(index)
        return obs

    def _do(self, index: int, what: State) -> None:
        """Ask one environment for something and wait until it has done it."""
        self._revive(self._home[index])
        self._ask([index], what)
        self._wait(self._home[index])
        if index in self._faults:
            raise self._faults.pop(index)

    def _ask(self, indices: Sequence[int], what: State) -> None:
        for i in indices:
            self._block.state[i] = what
            self._asked[i] = what
        for process in {id(self._home[i]): self._home[i] for i in indices}.values():
            process.wake()

    def _answers(self, indices: range) -> Iterator[Step]:
        for i in indices:
            if i not in self._ready and i not in self._faults:
                self._wait(self._home[i])
            if i in self._faults:
                raise self._faults.pop(i)
            step = self._ready[i][1]
            if not _ended(step):  # an end is kept until the reset that follows has succeeded
                del self._ready[i]
            yield step

    def _settle(self) -> None:
        """Take in the answers that nobody has waited for."""
        for process in self._processes:
            self._wait(process)

    def _wait(self, process: Worker) -> None:
        if not process.busy:
            return
        states = self._block.state[process.envs[0] : process.envs[-1] + 1]
        try:
            while (message := process.receive(self.timeout, states.tobytes)) != DONE:
                self._take(message)
        except Lost as lost:
            self._lose(process, lost)
        process.busy = False
        for i in process.envs:
            if (what := self._asked.pop(i, None)) is not None:
                self._collect(i, what)

    def _collect(self, i: int, what: State) -> None:
        """Read what one environment has left in the block."""
        block, state = self._block, State(self._block.state[i])
        block.state[i] = State.IDLE
        if i in self._faults or (i in self._stale and state != State.ANSWERED):
            return
        obs, reward = block.obs[i], float(block.reward[i])
        if state != State.ANSWERED or not (np.isfinite(obs).all() and np.isfinite(reward)):
            self._faults[i] = EnvFault(f"left no answer that makes sense in the memory it shares {DOING[what]}")
        elif what == State.STEP:
            action, copied = block.action[i].tobytes(), obs.copy()
            ends = bool(block.terminated[i]), bool(block.truncated[i])
            success = None if block.success[i] == 0 else bool(block.success[i] == 2)
            step = Step(copied, reward, *ends, success, when=float(block.when[i]))
            self._ready[i] = action, step
            self._note(i, action, copied)

    def _note(self, i: int, action: bytes, obs: FloatArray) -> None:
        played = self._played[i]
        played.obs, played.length = obs, played.length + 1
        if played.length <= LONGEST_EPISODE:
            played.actions.append(action)
        else:
            played.actions.clear()

    def _take(self, message: Any) -> None:
        match message:
            case {"kind": "log", "name": str(name), "level": int(level), "text": str(text)}:
                logging.getLogger(name).log(level, "%s", text)
            case {
                "kind": "fault",
                "index": int(i),
                "text": str(text),
                "expected": str(expected),
                "traceback": trace,
            } if i in self._asked:
                self._faults[i] = EnvFault(text, expected)
                self._faults[i].__cause__ = Remote(trace)
            case {"kind": "making"}:
                pass
            case _:
                raise Lost("answered what was not asked")

    # ----------------------------------------------------------------------- losing and finding again

    def _lose(self, process: Worker, how: Lost) -> None:
        """End a process that cannot be trusted any more, and say which environment's doing it was."""
        process.kill()
        states = {i: State(self._block.state[i]) for i in process.envs if i in self._asked}
        open_ones = [i for i, state in states.items() if state not in (State.ANSWERED, State.FAILED)]
        # Where it was; else where it would have been next; else, with all answers given, who gave the last.
        suspects = [i for i in open_ones if states[i] == State.BUSY] + open_ones + list(states)[-1:]
        for i in suspects[:1]:
            self._faults[i] = EnvFault(f"{how} {DOING[self._asked[i]]}")
        self._stale.update(process.envs)

    def _revive(self, process: Worker) -> None:
        if process.alive:
            return
        process.begin()
        try:
            self._made(process)
        except SoftacError as error:
            process.kill()
            raise EnvFault(f"could not be made again in a new process ({error.given})") from error

    def _find_again(self, i: int) -> None:
        """Bring an environment back to where its episode was, in a new process."""
        if i not in self._stale:
            return
        played = self._played[i]
        try:
            if played.length > LONGEST_EPISODE:
                raise EnvFault(f"was {played.length} steps into an episode, too many to be played again,")
            self._begin(i, played.seed)
            for action in played.actions:
                self._block.action[i] = np.frombuffer(action, np.float32)
                self._do(i, State.STEP)
                del self._ready[i]
            if self._played[i].obs.tobytes() != played.obs.tobytes():
                raise EnvFault("did not repeat its episode from the seed and the actions")
        except EnvFault as fault:
            self._faults[i] = EnvFault(f"{fault} after its process had been lost")
            self._faults[i].__cause__ = fault
            self._played[i] = played
            self._stale.add(i)

    def _made(self, process: Worker) -> Spaces:
        """Wait until a process has made its environments."""
        patience = max(self.timeout, STARTING)
        try:
            while True:
                message = process.receive(patience)
                patience = self.timeout
                match message:
                    case {"kind": "made", "spaces": spaces}:
                        process.serving = True
                        return Spaces.from_json(spaces)
                    case {"kind": "refused", "error": str(name), "fields": fields, "traceback": str(trace)}:
                        kind = ConfigError if name == "ConfigError" else EnvironmentFailed
                        raise kind(*map(str, fields)) from Remote(trace)
                    case _:
                        self._take(message)
        except Lost as lost:
            process.kill()
            raise EnvironmentFailed(
                f"{self.source.name} {lost} while it was made",
                "expected a Gymnasium environment that comes up in time",
                "check the environment, or raise env_timeout where it only needs longer",
            ) from None


def _ended(step: Step) -> bool:
    return step.terminated or step.truncated


def _require_few(workers: int, num_envs: int) -> None:
    if workers > num_envs:
        raise ConfigError(
            f"env_workers={workers} was given with n_envs={num_envs}",
            "expected at most one worker for each environment",
            f"give env_workers={num_envs}, or more environments",
        )


def _require_alike(given: Spaces, expected: Spaces, index: int) -> None:
    if given.to_json() != expected.to_json():
        raise ConfigError(
            f"environment {index} has other spaces than environment 0",
            f"expected {expected.observation_space} and {expected.action_space}",
            "make them all alike",
        )


def packed(source: EnvSource) -> bytes:
    """What a worker makes environments from, as bytes; functions of the main program travel whole."""
    if not source.repeatable:
        raise ConfigError(
            f"an environment object ({source.name}) was given with env_workers",
            "expected an id or a function, since an object cannot be sent to another process",
            "pass one that makes it",
        )
    spec = gym.registry.get(source.env) if isinstance(source.env, str) else None
    try:
        return bytes(ForkingPickler.dumps(CloudpickleWrapper(lambda: (source, spec))))
    except Exception as error:
        what = "the registration of" if isinstance(source.env, str) else "the function or class"
        raise ConfigError(
            f"{what} {source.name} cannot be sent to another process ({described(error)})",
            "expected an id that an import registers, or a function that holds plain data",
            "write module:Env-v0, with the module that registers it, or make inside the function what it needs",
        ) from None


def in_memory(data: bytes) -> int:
    """A descriptor of a file that has no name and lies in memory."""
    descriptor = os.memfd_create("softac")
    with suppress(BlockingIOError):
        while data:
            data = data[os.write(descriptor, data) :]
    return descriptor


def _end(processes: Sequence[Worker], descriptors: Sequence[int], owner: int) -> None:
    """Leave nothing behind; in a copy of the learner's process leave everything as it is."""
    if os.getpid() != owner:
        return
    for process in processes:
        process.kill()
    for descriptor in descriptors:
        os.close(descriptor)
