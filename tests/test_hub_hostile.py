"""Every forged folder of `test_hostile`, as a repository on the hub: pulled, used, and nothing runs."""

import shutil
import sys
from pathlib import Path

import pytest

from alarm import Alarm
from fake_hub import FakeHub
from folders import memory_folder
from forgery import Forgery
from softac.errors import CheckpointError, ConfigError
from test_hostile import HARMLESS, REFUSED, alarm, forgery, original, use

pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")

from softac.ship.hub import WHOLE, pull
from test_hub import hub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of the library, in httpx2
__all__ = ["alarm", "forgery", "hub", "original"]  # fixtures

NAME = "mallory/agent"
LARGE = "metrics of 8 GB"  # of a repository that is this large, `test_hub` has what becomes
FORGED = {name: forge for name, forge in (REFUSED | HARMLESS).items() if name != LARGE}
NAMED = ("antigravity", "xml", "os.system", "evil")  # what some of them ask for


def as_repository(run: Path) -> dict[str, bytes]:
    """The files of a run; what a repository cannot hold, links and pipes, is missing in it."""
    there = [path for path in run.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in there}


@pytest.fixture(scope="module")
def warm(original: Path) -> None:
    """What is imported late when an agent is pulled, is imported now."""
    with memory_folder() as folder, FakeHub() as fake, pytest.MonkeyPatch.context() as patch:
        from huggingface_hub import constants

        patch.setattr(constants, "ENDPOINT", fake.url)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        url = fake.url + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        fake.repositories[NAME] = [("a" * 40, as_repository(original))]
        pull(NAME, folder / "agent", whole=True)
        use(folder / "agent")


def test_there_are_sixty() -> None:
    assert len(FORGED) >= 60


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_repository_executes_nothing(
    name: str, forgery: Forgery, original: Path, hub: FakeHub, alarm: Alarm, warm: None
) -> None:
    FORGED[name](forgery)
    stolen = {"evil.py": b"import os; os.system('id')", "../../escaped": b"x", "/etc/escaped": b"x"}
    hub.repositories[NAME] = [("b" * 40, as_repository(forgery.run) | stolen)]
    home = forgery.run.parent / "home"
    home.mkdir()
    caught: list[Exception] = []

    def attempt() -> None:
        try:
            pull(NAME, home / "agent", whole=True)
            use(home / "agent")
        except Exception as error:
            caught.append(error)

    before = {*sys.modules}
    heard = [event for event in alarm.listen(attempt) if not event.startswith("socket.")]
    assert [event for event in heard if not event.startswith("import")] == []
    assert not [name for name in {*sys.modules} - before if name.startswith(NAMED)]
    for error in caught:
        assert isinstance(error, CheckpointError | ConfigError), repr(error)
        assert str(error).isprintable()
    own, other = as_repository(original), as_repository(forgery.run)
    carried = [path for path in own | other if own.get(path) != other.get(path) and WHOLE.fullmatch(path)]
    assert bool(caught) == (name in REFUSED and bool(carried))  # links beside what is pulled do not come
    # Whole or not at all, and nowhere else.
    assert {path.name for path in home.iterdir()} <= {"agent"}
    assert not (home / "agent/evil.py").exists()
    assert sorted(path.name for path in forgery.run.parent.iterdir()) == ["home", "outside", "run"]
    assert sorted(path.name for path in forgery.outside.iterdir() if path.name == "canary") == []
    shutil.rmtree(home)
