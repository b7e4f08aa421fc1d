"""Several seeds in one process, their updates executed as one: for a GPU, which has one thing to do at a time."""

import logging
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from signal import SIGTERM
from threading import Thread
from time import sleep

from softac.cli.display import RunLine
from softac.cli.messages import messages_to
from softac.cli.reopen import reopened
from softac.cohort import Cohort
from softac.engine import Engine
from softac.errors import SoftacError
from softac.files import new_file
from softac.model import Model
from softac.run.folder import read_config
from softac.run.pool import OUTPUT, POLL
from softac.run.suite import Suite

Watch = Callable[[Collection[str], Mapping[str, int]], None]


def in_cohort(model: Model) -> bool:
    """Whether several seeds of `model` are trained together: on a GPU, unless each is to be compiled."""
    return model.agent.device.type == "cuda" and not model.agent.on_policy and model.run.engine != "compiled"


def train_together(
    suite: Suite, lines: Sequence[RunLine], env: str | None, *, stop: Callable[[], bool], watch: Watch
) -> None:
    """Go on with each run of one group that waits, all at the same time, a thread for each.

    Args:
        suite: they belong to it.
        lines: of every run of the group, in the order of its seeds, those that have finished among them.
        env: the environment, where the files must not name it.
        stop: True asks the runs to save and stop.
        watch: called five times a second, and at the end, with the names of the runs that go on and the
            exit codes of those that have ended.
    """
    from softac.plots import draw_run  # half a second before the first step, if above

    codes: dict[str, int] = {}
    models: list[Model | None] = []
    for line in lines:
        model = None
        if line.state == "waiting":
            try:
                model = reopened(read_config(line.folder), line.folder, env)
            except SoftacError as error:
                codes[line.name] = _failed(line.folder, error)
        models.append(model)
    opened = [model for model in models if model is not None]
    if opened:
        recorded = opened[0].run.engine == "cudagraph"
        cohort = Cohort([None if model is None else model.agent for model in models], recorded=recorded)

        def run(i: int, model: Model) -> None:
            try:
                codes[lines[i].name] = _train(model, suite, lines[i].folder, cohort.engine(i), stop)
            finally:
                cohort.leave(i)

        places = [(i, model) for i, model in enumerate(models) if model is not None]
        threads = [Thread(target=run, args=place, name=lines[place[0]].name) for place in places]
        with messages_to(*(_log_of(lines[i]) for i, _ in places)):
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                watch([thread.name for thread in threads if thread.is_alive()], codes)
                sleep(POLL)
    watch([], codes)
    for line in lines:
        if codes.get(line.name) == 0 and line.progress.evaluated:
            draw_run(line.folder)


def _train(model: Model, suite: Suite, folder: Path, engine: Engine, stop: Callable[[], bool]) -> int:
    """One run, in its thread; returns what the exit code of its process would be."""
    try:
        with closing(model):
            model.train(suite.total, suite.record, folder, stop=stop, engine=engine)
    except Exception as error:  # the other runs go on
        return _failed(folder, error)
    return 0 if suite.reached(folder) else 128 + SIGTERM


def _failed(folder: Path, error: Exception) -> int:
    """Write down what has happened where the output of a process would be; returns the exit code."""
    known = isinstance(error, SoftacError)
    text = f"softac: {error}" if known else "".join(traceback.format_exception(error))
    with new_file(folder / OUTPUT) as output:
        output.write(f"{text}\n".encode(errors="backslashreplace"))
    return error.exit_code if isinstance(error, SoftacError) else 1


def _log_of(line: RunLine) -> logging.Handler:
    """Takes what is logged in the thread of this run."""
    handler = logging.FileHandler(line.folder / "log.txt", delay=True)
    handler.addFilter(lambda record: record.threadName == line.name)
    return handler
