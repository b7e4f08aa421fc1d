"""A process that steps some of a run's environments; `softac.envs.processes` begins it and talks to it.

It imports no PyTorch: 40 MB and a fifth of a second are what a worker costs besides its environments.
"""

import logging
import os
import select
import signal
import sys
import threading
import traceback
from multiprocessing.reduction import ForkingPickler
from typing import Any

import gymnasium as gym

from softac.envs.block import DONE, GO, LONGEST_TEXT, LOST, Block, State, frame
from softac.envs.denormals import flush_denormals
from softac.envs.make import EnvSource
from softac.envs.vector import EnvFault, InProcessVectorEnv
from softac.errors import RAISED, ConfigError, SoftacError
from softac.words import described


class PipesGone(Exception):  # noqa: N818
    """An environment has closed the descriptors of its process."""


def main(source: int, block: int, commands: int, answers: int, lifeline: int, first: int, stop: int) -> None:
    """Serve the environments `first` to `stop` until the pipe of commands ends.

    Args:
        source: descriptor of what the environments are made from.
        block: descriptor of the shared memory.
        commands: descriptor to read from.
        answers: descriptor to write to.
        lifeline: descriptor that ends when the learner does.
        first: the worker's first environment.
        stop: the one behind its last.
    """
    end_if_alone(lifeline)
    for number in (signal.SIGINT, signal.SIGTERM):
        # The learner decides when to stop. Not SIG_IGN, which programs begun by an environment would inherit.
        signal.signal(number, lambda *_: None)
    code = 1
    try:
        flush_denormals()
        _Worker(block, commands, answers, first, stop).run(source)
        code = 0
    except PipesGone:
        code = LOST
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                continue  # an environment has closed it
        os._exit(code)  # without waiting for threads that an environment has begun


def end_if_alone(lifeline: int) -> None:
    """End, with all that was begun here, if the learner had died before the kernel was told to see to it."""
    if select.select([lifeline], [], [], 0)[0]:  # nobody writes: it has ended
        os.killpg(0, signal.SIGKILL)


class _Worker:
    def __init__(self, block: int, commands: int, answers: int, first: int, stop: int) -> None:
        self.descriptor, self.commands, self.answers = block, commands, answers
        self.first, self.stop = first, stop
        self.writing = threading.Lock()  # threads of an environment may log
        self.block: Block

    def run(self, source: int) -> None:
        logger = logging.getLogger("softac")
        logger.addHandler(_Forward(self))
        logger.propagate = False
        try:
            self.envs = self._made(source)
        except SoftacError as error:
            fields = [error.given, error.expected, error.remedy]
            self._send("refused", error=type(error).__name__, fields=fields, traceback=_traceback(error))
            return
        self._send("made", spaces=self.envs.spaces.to_json())
        while self._next() == GO:
            if not hasattr(self, "block"):
                self._map()
            self._serve()
            self._write(DONE)
        self.envs.close()

    def _made(self, descriptor: int) -> InProcessVectorEnv:
        try:
            # What the learner has written for this process, and nobody else.
            source, self.spec = ForkingPickler.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0)).fn()
        except RAISED as error:
            raise ConfigError(
                f"the environment cannot be made in another process ({described(error)})",
                "expected an id, a function or a class that a new process can import as well",
                "put it into a module, or leave env_workers out",
            ) from error
        os.close(descriptor)
        if self.spec is not None and self.spec.id not in gym.registry:
            gym.registry[self.spec.id] = self.spec
        return InProcessVectorEnv(lambda: self._make(source), self.stop - self.first)

    def _make(self, source: EnvSource) -> gym.Env[Any, Any]:
        self._send("making")
        try:
            return source.make()
        except SoftacError as error:
            missing = error.__cause__ or error.__context__
            made_from = str(getattr(self.spec, "entry_point", ""))
            if isinstance(missing, ModuleNotFoundError) and missing.name and made_from.startswith(missing.name):
                raise ConfigError(
                    f"{source.name} is made from the module {missing.name!r}, which its process cannot import",
                    "expected a module that a new process finds as well",
                    "save it as a file beside the program, or leave env_workers out",
                ) from error
            raise

    def _map(self) -> None:
        spec = self.envs.spaces.spec
        rows = os.fstat(self.descriptor).st_size // Block.row_bytes(spec.obs_dim, spec.action_dim)
        self.block = Block(self.descriptor, rows, spec.obs_dim, spec.action_dim)
        os.close(self.descriptor)

    def _serve(self) -> None:
        block = self.block
        for i in range(self.first, self.stop):
            asked = block.state[i]
            if asked not in (State.RESET, State.STEP, State.REMAKE):
                continue
            block.state[i] = State.BUSY
            try:
                self._answer(i, asked)
            except EnvFault as fault:
                self._send(
                    "fault",
                    index=i,
                    text=str(fault)[:LONGEST_TEXT],
                    expected=fault.expected,
                    traceback=_traceback(fault),
                )
                block.state[i] = State.FAILED
            else:
                block.state[i] = State.ANSWERED

    def _answer(self, i: int, asked: int) -> None:
        block, own = self.block, i - self.first
        if asked == State.RESET:
            block.obs[i] = self.envs.reset(own, int(block.seed[i]))
        elif asked == State.REMAKE:
            self.envs.restart(own)
        else:
            (step,) = self.envs.step(own, block.action[i : i + 1].copy())
            block.obs[i], block.reward[i] = step.obs, step.reward
            block.terminated[i], block.truncated[i], block.when[i] = step.terminated, step.truncated, step.when
            block.success[i] = 0 if step.success is None else 1 + step.success

    def _next(self) -> bytes:
        try:
            return os.read(self.commands, 1)
        except OSError:
            raise PipesGone from None

    def _send(self, kind: str, **content: Any) -> None:
        self._write(frame({"kind": kind, **content}))

    def _write(self, data: bytes) -> None:
        with self.writing:
            while data:
                try:
                    data = data[os.write(self.answers, data) :]
                except OSError:
                    raise PipesGone from None


class _Forward(logging.Handler):
    """Hands what is logged here to the learner, which shows it as its own."""

    def __init__(self, worker: _Worker) -> None:
        super().__init__()
        self.worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()[:LONGEST_TEXT]
        self.worker._send("log", name=record.name, level=record.levelno, text=text)


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-LONGEST_TEXT:]
