"""Where runs are executed: `--on`, the folders for a job array, and the script that Slurm is given."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from folders import memory_folder
from hashing import digests
from test_bench import written
from test_seeds import PATHS, printed, wait_for

SCRIPT = Path(__file__).parents[1] / "examples" / "slurm_array.sh"
FOLDERS = ["Pendulum-v1__sac__0", "Pendulum-v1__sac__1", "Pendulum-v1__quick__1"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


def array(folder: Path, plan: str, task: int) -> subprocess.Popen[str]:
    """One element of a job array, on a machine where `scontrol` only notes what it is asked for."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in {
        "softac": f'exec {sys.executable} -P -m softac "$@"',
        "scontrol": f'echo "$@" >> {folder}/scontrol.txt',
    }.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    (folder / "plan.txt").write_text(plan)
    return subprocess.Popen(
        [SCRIPT, folder / "plan.txt"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ
        | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": PATHS,
            "OMP_NUM_THREADS": "1",
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_JOB_ID": "4711",
        },
    )


def test_a_plan_names_what_is_left_to_do(folder: Path) -> None:
    suite, path = written(folder), folder / "runs"
    code, plan, stderr = printed("bench", suite, "--run-dir", path, "--plan")
    assert (code, stderr) == (0, "")
    assert plan.splitlines() == [str(path / name) for name in FOLDERS]
    assert all((path / name / "config.json").is_file() for name in FOLDERS)
    assert not list(path.glob("*/checkpoints"))
    assert printed("resume", path / FOLDERS[1])[0] == 0
    assert printed("bench", suite, "--run-dir", path, "--plan")[1] == plan.replace(f"{path / FOLDERS[1]}\n", "")


def test_a_job_array_is_a_suite(folder: Path) -> None:
    """Every element its run, one of them stopped on the way: the bits of `softac bench`."""
    suite, path = written(folder), folder / "array"
    _, plan, _ = printed("bench", suite, "--run-dir", path, "--plan", "-n", 600, "--seeds", "1")
    first = array(folder, plan, 1)
    wait_for(lambda: list((path / FOLDERS[1]).glob("checkpoints/step-*/manifest.json")))
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 143, (out, err)
    assert "stopped and saved at step" in out
    assert (folder / "scontrol.txt").read_text() == "requeue 4711\n"
    for task in (1, 2):
        again = array(folder, plan, task)
        out, err = again.communicate(timeout=120)
        assert again.returncode == 0, (out, err)
    assert (folder / "scontrol.txt").read_text() == "requeue 4711\n"
    home = folder / "home"
    assert printed("bench", suite, "--run-dir", home, "-n", 600, "--seeds", "1")[0] == 0
    for name in FOLDERS[1:]:
        assert digests(path / name) == digests(home / name), name
    assert printed("bench", suite, "--run-dir", path, "--plan", "-n", 600, "--seeds", "1")[1] == ""


def test_an_element_without_a_run_says_so(folder: Path) -> None:
    process = array(folder, "one\n", 2)
    assert process.communicate(timeout=20)[1] == f"{folder}/plan.txt has no line 2\n"
    assert process.returncode == 2


def test_one_run_is_not_placed_elsewhere(folder: Path) -> None:
    code, _, stderr = printed("train", "Pendulum-v1", "--on", "elsewhere", "--run-dir", folder / "run")
    assert code == 2
    assert stderr.startswith("softac: argument --on: invalid choice: 'elsewhere'")
    assert not (folder / "run").exists()
