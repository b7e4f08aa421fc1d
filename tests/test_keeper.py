"""The process between a node and a run: whatever dies, the run saves and stops, and its folder is gone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from folders import memory_folder
from softac.experiments.keeper import ALIVE, STOP, begin_keeper
from test_seeds import PATHS, SHORT, printed, wait_for

ENVIRONMENT = os.environ | {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as path:
        (path / "seat").mkdir()
        yield path


def begun(folder: Path, *words: object) -> "subprocess.Popen[bytes]":
    keeper = begin_keeper(folder / "seat", ENVIRONMENT)
    order(keeper, json.dumps([str(word) for word in words]).encode() + b"\n")
    return keeper


def order(keeper: "subprocess.Popen[bytes]", what: bytes) -> None:
    assert keeper.stdin
    keeper.stdin.write(what)
    keeper.stdin.flush()


def closed(keeper: "subprocess.Popen[bytes]") -> None:
    assert keeper.stdin
    assert keeper.stdout
    keeper.stdin.close()
    keeper.stdout.close()
    keeper.wait()


def planned(folder: Path) -> None:
    """A run of many steps in the seat, at its first checkpoint."""
    words = ["train", "Pendulum-v1", "-n", 50, *SHORT, "--n-eval-episodes", 0, "--run-dir", folder / "run"]
    assert printed(*words)[0] == 0
    shutil.copytree(folder / "run", folder / "seat", dirs_exist_ok=True)


def test_the_exit_code_is_told_and_the_folder_goes_with_the_one_who_asked(folder: Path) -> None:
    keeper = begun(folder, "nonsense")
    assert keeper.stdout
    assert keeper.stdout.readline() == b"2\n"
    assert "unknown command 'nonsense'" in (folder / "seat" / "output.txt").read_text()
    closed(keeper)
    wait_for(lambda: not (folder / "seat").exists())


def test_a_run_that_is_to_stop_saves(folder: Path) -> None:
    planned(folder)
    keeper = begun(folder, "resume", folder / "seat", "-n", 100_000)
    wait_for(lambda: len(list((folder / "seat").glob("checkpoints/step-*"))) > 1)
    order(keeper, ALIVE)
    order(keeper, STOP)
    assert keeper.stdout
    assert keeper.stdout.readline() == b"143\n"
    assert "stopped and saved at step" in (folder / "seat" / "output.txt").read_text()
    closed(keeper)
    wait_for(lambda: not (folder / "seat").exists())


def test_where_the_one_who_asked_is_gone_nothing_is_left(folder: Path) -> None:
    planned(folder)
    keeper = begun(folder, "resume", folder / "seat", "-n", 100_000)
    wait_for(lambda: len(list((folder / "seat").glob("checkpoints/step-*"))) > 1)
    closed(keeper)
    wait_for(lambda: not of(folder))
    assert not (folder / "seat").exists()


def test_a_run_that_nobody_asks_for_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(folder)
    program = folder / "keeper.py"
    program.write_text(
        "import sys; from pathlib import Path; from softac.experiments import keeper; keeper.LEASE = 3.0\n"
        "keeper.main(Path(sys.argv[1]), int(sys.argv[2]))\n"
    )
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda words, **settings: real([words[0], "-P", program, *words[-2:]], **settings)
    )
    keeper = begun(folder, "resume", folder / "seat", "-n", 100_000)
    monkeypatch.undo()
    assert keeper.stdout
    began = time.monotonic()
    assert keeper.stdout.readline() == b"143\n"
    assert time.monotonic() - began > 2.0
    closed(keeper)


def test_a_keeper_that_is_killed_takes_the_run_with_it(folder: Path) -> None:
    planned(folder)
    keeper = begun(folder, "resume", folder / "seat", "-n", 100_000)
    wait_for(lambda: len(list((folder / "seat").glob("checkpoints/step-*"))) > 1)
    for pid in [pid for pid, words in of(folder).items() if "keeper" in words]:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not of(folder))
    closed(keeper)


def of(folder: Path) -> dict[int, str]:
    """The processes that have this folder among their words."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder / "seat") in words:
            found[int(path.parent.name)] = words
    return found


def test_where_the_node_is_gone_so_is_whoever_asked(folder: Path) -> None:
    """A node that begins one who asks, who does not notice that the node has been killed."""
    asks = (
        "import os, sys, time; from pathlib import Path; from softac.experiments.keeper import begin_keeper\n"
        "begin_keeper(Path(sys.argv[1]), os.environ); time.sleep(100)\n"
    )
    node = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen([sys.executable, '-c', *sys.argv[1:]]).pid, flush=True); time.sleep(100)\n"
    )
    words = [sys.executable, "-c", node, asks, str(folder / "seat")]
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE)
    assert process.stdout
    asking = int(process.stdout.readline())
    wait_for(lambda: any("keeper" in of_words and "-m" in of_words for of_words in of(folder).values()))
    time.sleep(1.0)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: not (folder / "seat").exists())
    wait_for(lambda: not Path(f"/proc/{asking}").exists())
