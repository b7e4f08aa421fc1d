"""Standard output that cannot be written to, or lacks letters: it ends nothing that goes on, and no traceback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import softac
from hashing import newest_checkpoint

SMALL = [
    "-n",
    "300",
    "--net-arch",
    "16",
    "16",
    "--batch-size",
    "16",
    "--learning-starts",
    "20",
    "--save-freq",
    "100",
]
REFUSED = (
    "softac: standard output cannot be written (No space left on device); expected one that takes what is printed"
    "; free some space, or print somewhere else\n"
)
SHOWN = "softac: warning: nothing more can be shown (No space left on device); what has begun goes on\n"


def left(stdout: int, *words: str, stderr: int = subprocess.PIPE, **environment: str) -> tuple[int, str]:
    """Exit code and standard error of the command, of which standard output is this descriptor."""
    paths = {"PYTHONPATH": str(Path(softac.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "softac", *words]
    done = subprocess.run(
        command, stdout=stdout, stderr=stderr, text=True, env=os.environ | paths | environment, check=False
    )
    return done.returncode, done.stderr or ""


@pytest.fixture
def full() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def broken() -> Iterator[int]:
    """A pipe that nobody reads."""
    ours, theirs = os.pipe()
    os.close(ours)
    yield theirs
    os.close(theirs)


@pytest.mark.parametrize("words", [[], ["--seeds", "0"]], ids=["one", "several"])
def test_a_run_goes_on_without_a_display(words: list[str], full: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, said = left(
        full, "train", "Pendulum-v1", "--run-dir", str(run), "--n-eval-episodes", "1", *SMALL, *words
    )
    assert (code, said.count(SHOWN)) == (0, 1)
    assert "Traceback" not in said
    assert newest_checkpoint(run / "seed-0" if words else run).name == "step-000000300"


def test_a_run_goes_on_where_nobody_reads(broken: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _ = left(
        broken, "train", "Pendulum-v1", "--run-dir", str(run), "--n-eval-episodes", "0", *SMALL, stderr=broken
    )
    assert code == 0
    assert newest_checkpoint(run).name == "step-000000300"


@pytest.mark.parametrize("words", [["list"], ["solve", "bridge"], ["--help"]], ids=lambda words: words[0])
def test_a_command_that_only_prints(words: list[str], full: int, broken: int) -> None:
    assert left(full, *words) == (5, REFUSED)
    assert left(full, *words, PYTHONUNBUFFERED="1")[0] in (0, 5)  # argparse itself prints a help
    assert left(broken, *words) == (0, "")


def test_letters_that_an_output_does_not_have(tmp_path: Path) -> None:
    with (tmp_path / "said").open("wb") as said:
        assert left(said.fileno(), "solve", "bridge", "--alpha", "0.1", PYTHONIOENCODING="ascii") == (0, "")
    text = (tmp_path / "said").read_bytes().decode("ascii")
    assert "l  2.42 . L  2.31 . L  2.21" in text
    assert "up, right, down, left: large for probability >= 1/2, small >= 1/5, a dot >= 1/20; " in text
    with (tmp_path / "said").open("wb") as said:
        program = "from softac.cli.output import in_its_letters as plain; plain(); print('\u2212\u00b5\u2603')"
        environment = os.environ | {
            "PYTHONPATH": str(Path(softac.__file__).parents[1]),
            "PYTHONIOENCODING": "ascii",
        }
        subprocess.run([sys.executable, "-c", program], stdout=said, env=environment, check=True)
    assert (tmp_path / "said").read_text() == "-u?\n"
