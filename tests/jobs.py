"""A process that has imported everything and forks a child for each job.

A test that kills processes needs many, and importing PyTorch takes each of them seconds. The
server itself never computes, so that forking it is safe.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

JOBS: dict[str, Callable[..., None]] = {}


def job(function: Callable[..., None]) -> Callable[..., None]:
    """Make `function` known to the server by its name; its arguments travel as JSON."""
    JOBS[function.__name__] = function
    return function


@job
def advance(run: str, until: int, env: str, kill_at: int = 0, agent: str = "", **arguments: Any) -> None:
    """Begin the run, or resume it, and train until `until` steps; SIGKILL oneself at step `kill_at`.

    `agent` names one of `tiny_agents`; without it, it is SAC that learns.
    """
    import softac.run.recorder
    import tiny_agents
    from reliability_envs import tiny
    from softac import Model
    from softac.run.config import RecordConfig

    softac.run.recorder.LOG_FREQ = 35
    agent_class = getattr(tiny_agents, agent) if agent else None
    model: Model
    if any(Path(run, "checkpoints").glob("step-*")):
        model = Model.load(run, agent_class=agent_class)
    else:
        model = Model(agent_class, env, **arguments) if agent_class else tiny(env, **arguments)

    def die(training: Any) -> None:
        if kill_at and training.steps >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    record = RecordConfig(eval_freq=60, n_eval_episodes=1, save_freq=45)
    model.train(until, record, Path(run), heartbeat=die)


@job
def save(run: str, steps: int, ready: str, go: str) -> None:
    """Load a model, train it for some steps, and save it again where it came from.

    Makes the file `ready` before the save, and begins it when the file `go` exists.
    """
    from softac import SAC

    model = SAC.load(run).learn(steps)
    Path(ready).touch()
    while not Path(go).exists():
        time.sleep(0.002)
    model.save(run)


class Server:
    """The server, from the side of the tests; a context manager."""

    def __enter__(self) -> "Server":
        here = Path(__file__).parent
        paths = [str(here), str(here.parent / "src")]
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import jobs; jobs.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def start(self, name: str, **arguments: Any) -> int:
        """Begin a job; the id of its process."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """Wait for the end of the job begun last; its exit code, negative for a signal."""
        return self._answer()

    def _answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


def serve() -> None:
    """Fork a child for each line of standard input; answer with its id and its exit code."""
    import reliability_envs  # noqa: F401
    import tiny_agents  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what children print must not be taken for an answer
    for line in sys.stdin:
        name, arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                JOBS[name](**arguments)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(pid, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)
