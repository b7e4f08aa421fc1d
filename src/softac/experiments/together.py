"""Several seeds in one process, their updates executed as one: for a GPU, which has one thing to do at a time."""

import logging
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from signal import SIGTERM
from threading import Event, Thread
from time import sleep

from softac.errors import SoftacError
from softac.experiments.command import OUTPUT
from softac.experiments.jobs import Stop, Watch
from softac.experiments.pool import POLL
from softac.experiments.reopen import reopened
from softac.experiments.standing import Standing
from softac.experiments.suite import Suite
from softac.files import new_file
from softac.learning.cohort import Cohort
from softac.learning.engine import Engine
from softac.model import Model
from softac.run.folder import read_config
from softac.run.messages import ERROR, messages_to, to_file_in
from softac.run.numerics import numerics

Seat = tuple[Standing, int, Model]  # a run and its place in the cohort


def in_cohort(model: Model) -> bool:
    """Whether several seeds of `model` are trained together: on a GPU, unless each is to be compiled."""
    return model.agent.device.type == "cuda" and not model.agent.on_policy and model.run.engine != "compiled"


def train_together(
    suite: Suite,
    runs: Sequence[Standing],
    env: str | None,
    *,
    stop: Stop,
    watch: Watch,
    done: Callable[[Path], None],
) -> None:
    """Go on with each run of one group that waits, all at the same time, a thread for each.

    Args:
        suite: they belong to it.
        runs: every run of the group, in the order of its seeds, those that have finished among them.
        env: the environment, where the files must not name it.
        stop: True asks the runs to save and stop.
        watch: called five times a second, and at the end, with the names of the runs that go on and the
            exit codes of those that have ended.
        done: called with the folder of each run that has ended and was evaluated.
    """
    codes: dict[str, int] = {}
    models = [_opened(run, env, codes) if run.state == "waiting" else None for run in runs]
    seats = [(run, i, model) for i, (run, model) in enumerate(zip(runs, models, strict=True)) if model]
    if seats and (cohort := _cohort(models, seats, codes)):
        _train_all(suite, seats, cohort, codes, stop, watch)
    watch({}, codes)
    for run in runs:
        if codes.get(run.name) == 0 and run.progress.evaluated:
            done(run.folder)


def _opened(run: Standing, env: str | None, codes: dict[str, int]) -> Model | None:
    with messages_to(to_file_in(run.folder)):
        try:
            return reopened(read_config(run.folder), run.folder, env)
        except Exception as error:  # the other runs go on
            codes[run.name] = _failed(run.folder, error)
            return None


def _cohort(models: Sequence[Model | None], seats: Sequence[Seat], codes: dict[str, int]) -> Cohort | None:
    agents = [None if model is None else model.agent for model in models]
    try:
        model = seats[0][2]  # they have the same settings
        return Cohort(agents, recorded=model.agent.device.type == "cuda" and model.run.engine != "eager")
    except Exception as error:  # the other groups go on
        codes |= {run.name: _failed(run.folder, error) for run, _, _ in seats}
        return None


def _train_all(
    suite: Suite,
    seats: Sequence[Seat],
    cohort: Cohort,
    codes: dict[str, int],
    stop: Stop,
    watch: Watch,
) -> None:
    """Train all of them, each in its thread; the exit codes go into `codes` as they come."""
    broken = Event()

    def asked() -> bool:
        return stop() or broken.is_set()

    def advance(run: Standing, i: int, model: Model) -> None:
        try:
            with numerics(model.threads):  # also to leave, which may execute the update of the others
                try:
                    codes[run.name] = _train(model, suite, run.folder, cohort.engine(i), asked)
                finally:
                    cohort.leave(i)
        finally:
            codes.setdefault(run.name, 1)

    threads = [Thread(target=advance, args=seat, name=seat[0].name) for seat in seats]
    begun = 0
    with messages_to(*(_log_of(run) for run, _, _ in seats)):
        try:
            for thread in threads:
                thread.start()
                begun += 1
            while any(thread.is_alive() for thread in threads):
                watch({thread.name: "" for thread in threads if thread.is_alive()}, codes)
                sleep(POLL)
        except BaseException:
            broken.set()  # they save and stop
            raise
        finally:
            for _, i, _ in seats[begun:]:
                cohort.leave(i)
            for thread in threads[:begun]:
                thread.join()


def _train(model: Model, suite: Suite, folder: Path, engine: Engine, stop: Stop) -> int:
    """One run, in its thread; returns what the exit code of its process would be."""
    (folder / OUTPUT).unlink(missing_ok=True)  # of an earlier failure
    try:
        with closing(model):
            model.train(suite.total, suite.record, folder, stop=stop, engine=engine)
    except BaseException as error:  # the other runs go on, also if an environment calls sys.exit
        return _failed(folder, error)
    return 0 if suite.reached(folder) else 128 + SIGTERM


def _failed(folder: Path, error: BaseException) -> int:
    """Write down what has happened where the output of a process would be; returns the exit code."""
    if isinstance(error, SoftacError):
        text, code = f"{ERROR}{error}", error.exit_code
    else:
        text, code = "".join(traceback.format_exception(error)), 1
    with suppress(OSError), new_file(folder / OUTPUT) as output:
        output.write(f"{text}\n".encode(errors="backslashreplace"))
    return code


def _log_of(run: Standing) -> logging.Handler:
    """Takes what is logged in the thread of this run."""
    handler = to_file_in(run.folder)
    handler.addFilter(lambda record: record.threadName == run.name)
    return handler
