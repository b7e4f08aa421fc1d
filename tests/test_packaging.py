"""What pyproject.toml promises: a core that installs beside others, and extras for the rest."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from softac.errors import ConfigError, missing_extra
from softac.run.checkpoint import differences, fingerprint

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
FOR_DEVELOPERS = {"all", "dev"}
WITHOUT_MUJOCO = """
import sys
sys.modules["mujoco"] = None  # as if it were not installed
sys.argv = ["softac", *sys.argv[1:]]
from softac.cli.main import entry
entry()
"""


def name_of(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match is not None
    return match[0].lower()


def run_without_mujoco(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT_MUJOCO, *words], capture_output=True, text=True, cwd=cwd)


def test_the_core_needs_no_simulator_and_accepts_numpy_1_26():
    core = {name_of(requirement): requirement for requirement in PROJECT["dependencies"]}
    assert "mujoco" not in core
    assert core["gymnasium"] == "gymnasium[classic-control]>=1.1"
    assert core["numpy"] == "numpy>=1.26"


def test_the_extra_all_has_every_extra():
    [everything] = EXTRAS["all"]
    listed = re.fullmatch(r"softac\[([\w,-]+)\]", everything)
    assert listed is not None
    assert sorted(listed[1].split(",")) == sorted(EXTRAS.keys() - FOR_DEVELOPERS)


def test_every_extra_has_its_row_in_the_guide():
    guide = (ROOT / "docs" / "guide" / "installation.md").read_text(encoding="utf-8")
    assert [extra for extra in EXTRAS if f"\n| `{extra}` | " not in guide] == []


def for_the_tests() -> list[str]:
    """The extras that `dev` brings along."""
    [brought] = [requirement for requirement in EXTRAS["dev"] if name_of(requirement) == "softac"]
    return brought.removeprefix("softac[").removesuffix("]").split(",")


def test_who_develops_gets_mujoco_and_make_installs_that():
    assert "mujoco" in for_the_tests()
    assert "--editable '.[dev]'" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "mujoco>=3.3.6,!=4.0.0" in EXTRAS["mujoco"]


def test_everything_that_make_installs_is_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    lists = [PROJECT["dependencies"], EXTRAS["dev"], *(EXTRAS[extra] for extra in for_the_tests())]
    asked = {name_of(requirement).replace("_", "-") for requirements in lists for requirement in requirements}
    assert asked - pinned - {"softac"} == set()


@pytest.mark.parametrize(
    "command",
    [
        ["train", "HalfCheetah-v5", "-n", "200"],
        ["train", "sac", "HalfCheetah-v5", "--preset"],
        ["train", "HalfCheetah-v5", "--seeds", "0-1"],
        ["bench", "figure", "--run-dir", "suite"],
    ],
    ids=lambda command: " ".join(command),
)
def test_a_mujoco_task_without_mujoco_is_one_line_with_the_command(command, tmp_path):
    done = run_without_mujoco(*command, cwd=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert re.search(
        r"(HalfCheetah|Ant|Hopper)-v5 needs MuJoCo, which is not installed; expected softac with its extra "
        r"'mujoco'; run `pip install 'softac\[mujoco\]'`$",
        line,
    )
    assert list(tmp_path.iterdir()) == []


def test_without_mujoco_the_rest_works(tmp_path):
    words = ["train", "Pendulum-v1", "-n", "60", "--net-arch", "8", "--batch-size", "8", "--learning-starts", "20"]
    done = run_without_mujoco(*words, "--n-eval-episodes", "1", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "learning_curve.png").is_file()


def test_the_error_of_an_extra_has_three_fields():
    error = missing_extra("this", "Package", "extra")
    assert isinstance(error, ConfigError)
    assert str(error) == (
        "this needs Package, which is not installed; expected softac with its extra 'extra'; "
        "run `pip install 'softac[extra]'`"
    )


def test_installing_mujoco_between_two_parts_of_a_run_is_no_difference():
    assert differences(fingerprint() | {"mujoco": "not installed"}) == ""
    assert differences(fingerprint() | {"mujoco": "3.0.0"}).startswith("mujoco was 3.0.0 and is ")
