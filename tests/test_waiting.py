"""How threads wait, what is recorded of it, and the sentences on a machine that is busy."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from softac.run import waiting

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
REPORT = (
    "import json; from softac.run.waiting import *; print(json.dumps([how_threads_wait(), cost_of_waiting(2)]))"
)


def in_a_process(code: str, **variables: str) -> tuple[dict[str, object], str]:
    """What is recorded in a new process that runs `code`, and the sentence on the cost with two threads."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {REPORT}"], capture_output=True, text=True, env=environment, check=True
    )
    record, sentence = json.loads(done.stdout)
    return record, sentence


def test_softac_first_lets_threads_spin_briefly():
    record, sentence = in_a_process("import softac, torch")
    assert record["waiting"] == {"GOMP_SPINCOUNT": "300", "KMP_BLOCKTIME": "1"}
    assert record["waiting_chosen_by"] == "softac"
    assert re.fullmatch(r"(GNU|LLVM|Intel) \(lib[\w.-]+\)(, .*)?", str(record["openmp"]))
    assert sentence == ""


def test_importing_softac_loads_no_pytorch():
    record, _ = in_a_process("import softac, sys; assert 'torch' not in sys.modules")
    assert record["openmp"] == ""


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_user_has_set_is_left_alone(name):
    value = "passive" if name == "OMP_WAIT_POLICY" else "77"
    record, sentence = in_a_process("import softac, torch", **{name: value})
    assert record["waiting"] == {name: value}
    assert record["waiting_chosen_by"] == "user"
    assert sentence == ""


def test_pytorch_first_is_left_alone_and_the_cost_is_said():
    record, sentence = in_a_process("import torch, softac")
    assert record["waiting"] == {}
    assert record["waiting_chosen_by"] == "nobody"
    assert sentence == (
        "PyTorch was imported before softac, so its threads spin while they wait: beside other programs training "
        "can be many times slower; import softac first, or set GOMP_SPINCOUNT=300"
    )
    assert waiting.cost_of_waiting(1) == ""  # one thread waits for no other


def test_a_process_that_softac_starts_knows_who_chose():
    code = (
        "import softac, subprocess, sys; print(subprocess.run([sys.executable, '-c', "
        "'import softac; from softac.run.waiting import *; print(how_threads_wait()[\\'waiting_chosen_by\\'])'], "
        "capture_output=True, text=True, check=True).stdout)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "softac"


class Tasks:
    """A folder like /proc/self/task, whose clocks the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set(self, task: str, ran: float, waited: float) -> None:
        (self.folder / task).mkdir(exist_ok=True)
        (self.folder / task / "schedstat").write_text(f"{int(ran * 1e9)} {int(waited * 1e9)} 5\n")


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "TASKS", tmp_path)
    return Tasks(tmp_path)


def test_the_share_is_of_all_threads_since_the_last_call(tasks):
    tasks.set("1", 100.0, 900.0)  # before: does not count
    clock = waiting.ProcessorTime()
    tasks.set("1", 103.0, 901.0)
    tasks.set("2", 5.0, 3.0)  # new since then
    assert clock.share() == pytest.approx(8.0 / 12.0)
    tasks.set("1", 104.0, 901.0)
    assert clock.share() == 1.0
    assert clock.share() is None  # no time has passed


def test_a_system_that_does_not_count_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "TASKS", tmp_path / "nowhere")
    monkeypatch.setattr(waiting, "AT_LEAST", 0.0)
    clock = waiting.ProcessorTime()
    assert clock.share() is None
    assert clock.shortage(2) == ""


def test_far_less_than_was_asked_for_is_one_sentence(tasks, monkeypatch):
    monkeypatch.setattr(waiting, "AT_LEAST", 0.0)
    tasks.set("1", 0.0, 0.0)
    clock = waiting.ProcessorTime()
    tasks.set("1", 4.5, 5.5)
    assert clock.shortage(2) == (
        "this process gets 45% of the processor time that it asks for; other programs take the rest: end them, or "
        "ask for less: OMP_NUM_THREADS=1 instead of 2 threads"
    )
    tasks.set("1", 4.5 + 4.5, 5.5 + 5.5)
    assert clock.shortage(1).endswith("other programs take the rest: end them")
    tasks.set("1", 9.0 + 6.1, 11.0 + 3.9)
    assert clock.shortage(2) == ""


def test_it_is_said_once(tasks, monkeypatch, caplog):
    monkeypatch.setattr(waiting, "AT_LEAST", 0.0)
    tasks.set("1", 0.0, 0.0)
    clock = waiting.ProcessorTime()
    for i in range(1, 4):
        tasks.set("1", i, 4.0 * i)
        clock.watch(2)
    assert [record.getMessage()[:30] for record in caplog.records] == ["this process gets 20% of the p"]


def test_nothing_is_said_at_once(tasks):
    tasks.set("1", 0.0, 0.0)
    clock = waiting.ProcessorTime()
    tasks.set("1", 0.1, 0.9)
    assert clock.shortage(2) == ""


def test_linux_counts_a_real_neighbour():
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this system does not count")
    code = (
        "import os, time; from softac.run.waiting import ProcessorTime; os.sched_setaffinity(0, [{core}]); "
        "clock = ProcessorTime(); end = time.monotonic() + 2.0\n"
        "while time.monotonic() < end: pass\n"
        "print(clock.share())"
    )
    core = min(os.sched_getaffinity(0))
    words = [sys.executable, "-c", code.format(core=core)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    shares = [float(process.communicate()[0]) for process in both]
    assert max(shares) < 0.8  # two on one core: half each, if nothing else runs
    assert min(shares) > 0.01


def test_the_clock_costs_next_to_nothing():
    clock = waiting.ProcessorTime()
    began = time.perf_counter()
    for _ in range(100):
        clock.share()
    assert time.perf_counter() - began < 1.0


BUSY_RUN = """
import {first}, {second}
from softac import SAC
from softac.run import waiting
from softac.run.waiting import ProcessorTime
import logging
logging.basicConfig(format="%(message)s")
waiting.AT_LEAST = 0.0
ProcessorTime.share = lambda self: {share}
model = SAC("Pendulum-v1", net_arch=[8], batch_size=8, learning_starts=10)
model.life.threads = {threads}
model.learn(30)
"""


def lines_of_a_run(**how: object) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    words = [sys.executable, "-c", BUSY_RUN.format(**how)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    return done.stderr.splitlines()


def test_a_run_says_once_that_it_is_starved():
    [line] = lines_of_a_run(first="softac", second="torch", share=0.3, threads=1)
    assert line.startswith("this process gets 30% of the processor time that it asks for; other programs take ")


def test_a_run_after_pytorch_says_what_waiting_costs():
    [line] = lines_of_a_run(first="torch", second="softac", share=0.9, threads=2)
    assert line.startswith("PyTorch was imported before softac, so its threads spin while they wait: ")
    assert lines_of_a_run(first="torch", second="softac", share=0.9, threads=1) == []
