"""Every kind of fault, at a random step, here and in a worker, with either policy: does it end as specified?

    python benchmarks/worlds/faults.py

Specified is: a fault stops the run within its deadline and two seconds, with all that came before it saved and a
sentence that names environment, episode, step, seed and action; or a new instance takes its place and the run
makes all its steps. What is no fault changes no bit. Nothing that is not finite comes into the replay. In one
process, nothing can be done against what ends or stops it; these rows say so. Results: results/faults.csv.
"""

import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import Table
from tasks import FAULTS, Faulty

from hashing import training_digests
from softac import SAC
from softac.errors import EnvironmentFailed

STEPS, DEADLINE, LONGEST = 120, 2.0, 250
SMALL = {"net_arch": [16, 16], "batch_size": 32, "learning_starts": 30, "buffer_size": 500}
# No fault: the run is the one without them, or may differ in what it sees.
HARMLESS = {
    "slow", "one array, changed later", "other space at reset", "reseeds the global generators",
    "prints a megabyte", "opens 200 files", "leaks 1 MB", "outside its space",
}  # fmt: skip
DEADLY = {"SIGKILL", "SIGSEGV", "_exit", "hang", "hang in reset", "hang holding the interpreter"}
# Which of the two environments comes first to the step is left to the processes.
PLACE = re.compile(r"environment [01] .* at step \d+ of episode \d+ \(seed \d+, action \[[-. \de]+\]\)")
RESET = re.compile(r"environment [01] .* at the start of episode \d+ \(seed \d+\)")


class Said(logging.Handler):
    """Collects what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.lines.append(record.getMessage())


def outcome(fault: str, workers: int, policy: str, folder: Path) -> dict[str, Any]:
    """What becomes of a run."""
    number = sorted(FAULTS).index(fault)
    at = int(np.random.default_rng([number, workers, policy == "stop"]).integers(12, 50))
    if fault.endswith(" in reset"):
        at = 2
    kwargs = {"fault": fault, "at": at, "once": str(folder / "once")}
    said, began = Said(), time.monotonic()
    logging.getLogger("softac").addHandler(said)
    error, model = "", None
    try:
        worlds = {"env_workers": workers, "env_timeout": DEADLINE, "on_env_failure": policy}
        model = SAC(lambda **k: Faulty(**k), env_kwargs=kwargs, n_envs=2, **worlds, **SMALL)
        began = time.monotonic()
        model.learn(STEPS, run_dir=folder / "run", eval_freq=0, n_eval_episodes=0, save_freq=50)
    except EnvironmentFailed as failed:
        error = str(failed)
    finally:
        seconds, happened = time.monotonic() - began, folder / "once"
        waited = time.time() - happened.stat().st_mtime if error and happened.exists() else 0.0
        if model is not None:
            model.close()
        logging.getLogger("softac").removeHandler(said)
    finite, restarts, steps = True, 0, 0
    if model is not None and model.training is not None:
        memory = model.training.memory
        finite = bool(np.isfinite(memory.explicit_rows(0, memory.added)).all())
        restarts, steps = model.training.collector.restarts, model.num_timesteps
    sentence = error or next((line for line in said.lines if "new instance" in line), "")
    return {
        "error": bool(error),
        "sentence": sentence,
        "seconds": f"{seconds:.1f}",
        "waited": f"{waited:.1f}",
        "steps": steps,
        "restarts": restarts,
        "finite": finite,
        "saved": any((folder / "run").glob("checkpoints/step-*")),
    }


def as_specified(fault: str, policy: str, row: dict[str, Any], folder: Path, calm: dict[str, str]) -> bool:
    """Whether it is what must come of it."""
    if not row["finite"]:
        return False
    if fault == "raise in constructor":
        return bool(row["error"]) and "could not be made" in row["sentence"]
    if fault in HARMLESS or fault == "raise in close":
        same = training_digests(folder / "run") == calm or fault == "outside its space"
        return not row["error"] and row["steps"] == STEPS and row["restarts"] == 0 and same
    place = RESET if fault.endswith(" in reset") else PLACE
    told = place.search(row["sentence"]) is not None
    if policy == "stop":
        in_time = float(row["waited"]) <= (DEADLINE if fault in DEADLY else 0.0) + 2.0
        return bool(row["error"]) and told and bool(row["saved"]) and in_time
    return not row["error"] and told and row["steps"] == STEPS and row["restarts"] == 1


def watched(fault: str, workers: int, policy: str, calm: dict[str, str]) -> dict[str, Any]:
    """The same in a process of its own, since some of these end it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            try:
                row = outcome(fault, workers, policy, path)
                row["ok"] = as_specified(fault, policy, row, path, calm)
                os.write(writer, json.dumps(row).encode())
                os._exit(0)
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"[:200]
                os.write(writer, json.dumps({"sentence": text, "ok": False}).encode())
                os._exit(1)
        os.close(writer)
        until, ended = time.monotonic() + 120, (0, 0)
        if fault in DEADLY and workers == 0:
            until = time.monotonic() + 20
        while time.monotonic() < until and ended == (0, 0):
            time.sleep(0.02)
            ended = os.waitpid(pid, os.WNOHANG)
        if ended == (0, 0):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return {"sentence": "hangs", "ok": "not in one process" if workers == 0 and fault in DEADLY else False}
        text = os.read(reader, 10**6)
        os.close(reader)
        if not text:
            gone = f"the run is gone (status {ended[1]})"
            return {"sentence": gone, "ok": "not in one process" if workers == 0 and fault in DEADLY else False}
        found: dict[str, Any] = json.loads(text)
        return found


def main() -> None:
    """The whole table."""
    table = Table("faults", ("fault", "where", "policy"))
    calm = reference()
    for fault in FAULTS:
        for workers in (0, 2):
            for policy in ("stop", "restart"):
                key = {"fault": fault, "where": "workers" if workers else "one process", "policy": policy}
                if fault == "closes its descriptors" and not workers:
                    continue  # these are the learner's own
                if not table.has(**key):
                    found = watched(fault, workers, policy, calm)
                    columns = (
                        "ok",
                        "error",
                        "seconds",
                        "waited",
                        "steps",
                        "restarts",
                        "finite",
                        "saved",
                        "sentence",
                    )
                    table.add(**key, **{name: str(found.get(name, ""))[:LONGEST] for name in columns})
    rows = table.rows
    done = [row for row in rows if row["ok"] != "not in one process"]
    print(f"{sum(row['ok'] == 'True' for row in done)} of {len(done)} as specified", file=sys.stderr)


def reference() -> dict[str, str]:
    """A run without any fault."""
    with tempfile.TemporaryDirectory() as folder:
        kwargs = {"fault": "slow", "at": 10**9, "once": str(Path(folder) / "once")}
        model = SAC(lambda **k: Faulty(**k), env_kwargs=kwargs, n_envs=2, **SMALL)
        model.learn(STEPS, run_dir=Path(folder) / "run", eval_freq=0, n_eval_episodes=0, save_freq=50)
        return training_digests(Path(folder) / "run")


if __name__ == "__main__":
    main()
