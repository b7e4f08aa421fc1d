"""The folder of a run on two machines: the order in which it travels, and what is refused when it arrives."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from folders import memory_folder
from hashing import digests
from softac.errors import CheckpointError
from softac.experiments.arrival import Arrival
from softac.experiments.mirror import News, Piece, Receiver, news
from softac.files import sealed_json
from test_seeds import SHORT, printed

BUDGET = 2**30


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run of 120 steps with two checkpoints and the best of three evaluations."""
    words = ["train", "Pendulum-v1", "-n", 120, *SHORT, "--eval-freq", 50, "--run-dir", folder / "run"]
    assert printed(*words)[0] == 0
    return folder / "run"


@pytest.fixture
def home(run: Path, folder: Path, request: pytest.FixtureRequest) -> Path:
    """What there is of the run where it was begun."""
    path = folder / f"home-{abs(hash(request.node.name))}"
    path.mkdir()
    shutil.copy(run / "config.json", path)
    return path


def sent(run: Path, receiver: Receiver, budget: int = BUDGET) -> int:
    """Send until nothing is left; how many times it took."""
    for n in range(1, 10_000):
        part = news(run, receiver.have, budget)
        assert sum(len(piece.data) for piece in part.pieces) <= budget
        receiver.take(part)
        if part.complete:
            return n
    raise AssertionError


def files(path: Path) -> dict[str, bytes]:
    found = [p for p in path.rglob("*") if p.is_file()]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in found if p.name != ".lock"}


@pytest.mark.parametrize("budget", [BUDGET, 1_000])
def test_what_arrives_is_what_was_sent(run: Path, home: Path, budget: int) -> None:
    receiver = Receiver(home, Arrival(home))
    assert (sent(run, receiver, budget) == 1) == (budget == BUDGET)
    assert receiver.saved == 2
    receiver.close()
    assert files(home) == files(run)
    assert digests(home) == digests(run)
    assert news(run, receiver.have, BUDGET).pieces == ()


def test_a_checkpoint_comes_after_all_that_was_written_before_it(run: Path) -> None:
    paths = [piece.path for piece in news(run, {}, BUDGET).pieces]
    kinds = [path.split("/")[0] for path in paths]
    assert kinds == sorted(kinds, key=lambda kind: {"replay": 0, "best": 1, "checkpoints": 3}.get(kind, 2)) or (
        # score.json of the best comes with the files, after the agent that it is of
        paths.index("best/score.json") > max(i for i, path in enumerate(paths) if path.startswith("best/step"))
    )
    first = next(i for i, path in enumerate(paths) if path.startswith("checkpoints/"))
    assert all(path.startswith("checkpoints/") for path in paths[first:])
    assert {"metrics.jsonl", "config.json", "best/score.json"} <= set(paths[:first])
    assert [p.rpartition("/")[2] for p in paths[first:]].index("manifest.json") == 4  # the last of its files


def test_wherever_it_is_cut_off_a_checkpoint_that_is_there_is_whole(run: Path, folder: Path) -> None:
    """After every single piece: each checkpoint verifies, with its segments and the rows up to its step."""
    pieces = news(run, {}, BUDGET).pieces
    for n in range(len(pieces) + 1):
        home = folder / f"cut-{n}"
        home.mkdir()
        shutil.copy(run / "config.json", home)
        Receiver(home, Arrival(home)).take(News(pieces[:n], frozenset(), complete=False))
        for manifest in home.glob("checkpoints/*/manifest.json"):
            step = json.loads(manifest.read_text())["step"]
            names = [
                f"seg-{s['start']:012d}-{s['stop']:012d}-{s['sha256'][:16]}.npy"
                for s in json.loads(manifest.read_text())["segments"]
            ]
            assert all((home / "replay" / name).is_file() for name in names)
            rows = [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]
            wanted = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            assert [row for row in rows if row["step"] <= step] == [row for row in wanted if row["step"] <= step]
        shutil.rmtree(home)


def test_metrics_that_grow_are_sent_from_where_they_ended_and_anew_where_they_were_replaced(home: Path) -> None:
    there = home / "there"
    there.mkdir()
    rows = there / "metrics.jsonl"
    rows.write_text("one\ntwo\n")
    receiver = Receiver(home)
    sent(there, receiver)
    with rows.open("a") as file:
        file.write("three\n")
    part = news(there, receiver.have, BUDGET)
    assert [(piece.offset, piece.data) for piece in part.pieces] == [(8, b"three\n")]
    receiver.take(part)
    assert (home / "metrics.jsonl").read_text() == "one\ntwo\nthree\n"
    (there / "new").write_text("one\nother\n")
    (there / "new").replace(rows)
    sent(there, receiver, 4)
    assert (home / "metrics.jsonl").read_text() == "one\nother\n"


def test_what_is_pruned_there_is_deleted_here_once_all_is_here(run: Path, home: Path, folder: Path) -> None:
    there = folder / "pruned"
    shutil.copytree(run, there)
    receiver = Receiver(home, Arrival(home))
    sent(there, receiver)
    oldest, newest = sorted(path.name for path in (there / "checkpoints").iterdir())
    shutil.rmtree(there / "checkpoints" / oldest)
    receiver.take(replace(news(there, receiver.have, BUDGET), complete=False))
    assert (home / "checkpoints" / oldest).exists()
    sent(there, receiver)
    assert [path.name for path in (home / "checkpoints").iterdir()] == [newest]
    shutil.rmtree(there / "checkpoints")  # a machine that has lost them deletes none here
    sent(there, receiver)
    assert [path.name for path in (home / "checkpoints").iterdir()] == [newest]
    shutil.rmtree(there)


def test_a_run_that_is_sent_on_is_gone_on_with(run: Path, home: Path, folder: Path) -> None:
    """There, back, and there again: what has arrived does not travel twice."""
    sent(run, Receiver(home, Arrival(home)))
    assert not (home / ".mirror").exists()  # whoever is killed now leaves nothing
    again = Receiver(home, Arrival(home))
    part = news(run, again.have, BUDGET)
    assert not [
        piece.path for piece in part.pieces if piece.path.startswith(("checkpoints", "replay", "best/step"))
    ]
    again.take(part)
    assert files(home) == files(run)


def test_links_are_not_followed_and_what_is_no_file_is_not_sent(home: Path) -> None:
    there = home / "there"
    there.mkdir()
    (there / "secret.txt").symlink_to("/etc/passwd")
    os.mkfifo(there / "pipe.txt")
    with pytest.raises(OSError, match="symbolic"):
        news(there, {}, BUDGET)
    (there / "secret.txt").unlink()
    assert news(there, {}, BUDGET).pieces == ()


def changed(path: str, change: Callable[[bytes], bytes]) -> Callable[[Piece], Piece]:
    return lambda piece: replace(piece, data=change(piece.data)) if path in piece.path else piece


def flipped(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


def renamed(data: bytes) -> bytes:
    return data.replace(b"softac", b"softer", 1)


def other_algorithm(data: bytes) -> bytes:
    whole = json.loads(data) | {"algorithm": "ddpg"}
    del whole["sha256"]
    return sealed_json(whole)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("replay/seg", flipped), "does not have the hash that its name says"),
        (
            changed("checkpoints/step-000000120/networks", flipped),
            "size or SHA-256 is not the one in the manifest",
        ),
        (changed("checkpoints/step-000000120/optim", flipped), "size or SHA-256 is not the one in the manifest"),
        (changed("best/step-000000120/networks", flipped), "is damaged"),
        (changed("checkpoints/step-000000120/manifest", renamed), "been changed since"),
        (changed("config.json", lambda data: data.replace(b'"sac"', b'"sad"')), "been changed"),
        (changed("config.json", other_algorithm), "describes another run (see algorithm)"),
        (lambda piece: replace(piece, path=f"../{piece.path}"), "is no file of a run"),
        (lambda piece: replace(piece, path=f"/tmp/{piece.path}"), "is no file of a run"),  # noqa: S108
        (lambda piece: replace(piece, path=".lock"), "is no file of a run"),
        (lambda piece: replace(piece, path="replay"), "is no file of a run"),
        (lambda piece: replace(piece, path="checkpoints/step-000000001/evil.pkl"), "is no file of a run"),
        (lambda piece: replace(piece, path="a" * 300), "is no file of a run"),
        (lambda piece: replace(piece, offset=5), "pieces that do not follow each other"),
        (lambda piece: replace(piece, offset=2**40), "is too large"),
    ],
)
def test_what_no_run_has_written_is_refused(
    run: Path, home: Path, change: Callable[[Piece], Piece], said: str
) -> None:
    part = news(run, {}, BUDGET)
    before = files(home)
    with pytest.raises(CheckpointError) as error:
        Receiver(home, Arrival(home)).take(replace(part, pieces=tuple(map(change, part.pieces))))
    assert said in str(error.value)
    placed = files(home).items() - before.items()
    assert all(files(run)[path] == data for path, data in placed if not path.startswith(".mirror"))
