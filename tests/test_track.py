"""Runs into trackers: every row once and in order, whatever is killed.

`benchmarks/tracking/kills.py` does it with processes and SIGKILL. Trackers that are not installed are skipped.
"""

import json
import os
import random
import runpy
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reliability_envs import tiny
from softac.cli.main import main
from softac.errors import ConfigError
from softac.files import replace_text
from softac.ship import trackers
from softac.ship.track import Rows, track
from softac.ship.trackers import START, Place, Subject, TrackerSink

KILLS = Path(__file__).parents[1] / "benchmarks" / "tracking" / "kills.py"


class Memory:
    """A tracker that remembers what it got, by the id of the run."""

    kept: ClassVar[dict[str, list[tuple[Place, dict[str, float]]]]] = {}

    def __init__(self, subject: Subject) -> None:
        self.rows = self.kept.setdefault(subject.id, [])
        self.subject = subject
        self.sent = max((place for place, _ in self.rows), default=START)

    def send(self, place: Place, row: Mapping[str, float]) -> None:
        self.rows.append((place, dict(row)))

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> type[Memory]:
    monkeypatch.setattr(Memory, "kept", {})
    monkeypatch.setitem(trackers.TRACKERS, "memory", Memory)
    return Memory


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracked") / "run"
    tiny().learn(101, run_dir=folder, eval_freq=40, n_eval_episodes=1, save_freq=45)
    return folder


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_rows_come_once_also_if_the_file_is_taken_back(tmp_path: Path) -> None:
    rows, file = Rows(tmp_path), tmp_path / "metrics.jsonl"
    assert list(rows.new()) == []
    file.write_text(lines([{"step": 1, "a": 1}, {"step": 2, "a": 2}, {"step": 2, "b": 3}]) + '{"step": 3, "a"')
    assert [place for place, _ in rows.new()] == [(1, 1), (2, 1), (2, 2)]
    replace_text(file, lines([{"step": 1, "a": 1}]))
    assert list(rows.new()) == []
    replace_text(file, lines([{"step": 1, "a": 1}, {"step": 2, "a": 2}, {"step": 2, "b": 3}, {"step": 3, "a": 4}]))
    assert [place for place, _ in rows.new()] == [(3, 1)]
    file.write_text('nonsense\n{"step": "x"}\n[]\n' + lines([{"step": 4}]))
    assert [place for place, _ in rows.new()] == [(4, 1)]


def test_rows_are_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that none is long enough for costs itself, and no more memory than such a piece of it."""
    monkeypatch.setattr("softac.ship.track.LONGEST_LINE", 2**16)
    rows, file = Rows(tmp_path), tmp_path / "metrics.jsonl"
    with file.open("w") as written:
        written.write(lines([{"step": 1}]) + "0" * 2**24 + "\n" + lines([{"step": 2}]))
        written.writelines(lines([{"step": step, "note": "x" * 1_000}]) for step in range(3, 20_000))
    tracemalloc.start()
    assert [place.step for place, _ in rows.new()] == list(range(1, 20_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def test_every_row_once_whatever_is_killed_when(tmp_path: Path, memory: type[Memory], run: Path) -> None:
    """A run that loses its last rows at random moments and makes them again, trackers that begin anew."""
    chance = random.Random(0)  # noqa: S311
    whole = [row for step in range(1, 60) for row in [{"step": step, "a": step}] * chance.choice([1, 2])]
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_bytes((run / "config.json").read_bytes())
    made = 0
    while made < len(whole):
        made = min(len(whole), made + chance.randint(0, 5))
        if chance.random() < 0.3:  # killed; back to a checkpoint, which lies between two steps
            made = chance.randint(max(0, made - 12), made)
            while 0 < made < len(whole) and whole[made - 1]["step"] == whole[made]["step"]:
                made -= 1
        replace_text(folder / "metrics.jsonl", lines(whole[:made]) + '{"step"')
        if chance.random() < 0.5:
            track([folder], "memory", "p")
    track([folder], "memory", "p")
    (kept,) = memory.kept.values()
    places = [place for place, _ in kept]
    assert places == sorted(set(places))
    assert [row["a"] for _, row in kept] == [row["a"] for row in whole]


def test_a_run_and_a_folder_of_runs(run: Path, memory: type[Memory], capsys: pytest.CaptureFixture[str]) -> None:
    written = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert main(["track", str(run), "--to", "memory"]) == 0
    assert capsys.readouterr().out == f"run: {len(written)} rows sent to memory\n"
    assert main(["track", str(run), "--to", "memory", "--follow"]) == 0  # it is finished: it ends at once
    assert capsys.readouterr().out == "run: 0 rows sent to memory\n"
    (kept,) = memory.kept.values()
    assert [place.step for place, _ in kept] == [row["step"] for row in written]
    for (_, row), line in zip(kept, written, strict=True):
        assert row == {k: v for k, v in line.items() if k not in ("step", "final", "eval/returns")}
    assert main(["track", str(run.parent), "--to", "memory"]) == 0
    assert capsys.readouterr().out.startswith(f"{run.parent.name}/run: ")


def test_a_tracker_is_a_sink(memory: type[Memory]) -> None:
    for _ in range(2):  # the second process is told the same again
        sink = TrackerSink("memory", "my run", config={"a": 1})
        sink.write(1000, {"x": 1.0, "y": float("nan")})
        sink.write(1000, {"z": 2.0})
        sink.write(2000, {"x": 3.0})
        sink.close()
    (kept,) = memory.kept.values()
    assert kept == [((1000, 1), {"x": 1.0}), ((1000, 2), {"z": 2.0}), ((2000, 1), {"x": 3.0})]


def test_what_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    assert main(["track", str(run), "--to", "aim"]) == 2
    assert "unknown tracker 'aim'; expected wandb, trackio, mlflow or memory" in capsys.readouterr().err
    assert main(["track", str(tmp_path), "--to", "memory"]) == 2
    assert "holds no run" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="wandb is not installed"):
        track([run], "wandb", "p")


class Failing(Memory):
    """A tracker that fails as the test says; once one call has, so does closing."""

    fails: ClassVar[set[str]] = set()

    def __init__(self, subject: Subject) -> None:
        if "open" in self.fails:
            raise OSError("no route")
        super().__init__(subject)

    def send(self, place: Place, row: Mapping[str, float]) -> None:
        if "send" in self.fails and place.step > 40:
            raise OSError("gone away")
        super().send(place, row)

    def close(self) -> None:
        if self.fails:
            raise OSError("not even closed")


@pytest.mark.parametrize(
    ("fails", "said"), [("open", "no route"), ("send", "gone away"), ("close", "not even closed")]
)
def test_a_tracker_that_fails_says_so_in_a_sentence_and_gets_the_rest_later(
    fails: str, said: str, run: Path, memory: type[Memory], capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "failing", Failing)
    monkeypatch.setattr(Failing, "fails", {fails})
    assert main(["track", str(run), "--to", "failing"]) == 2
    assert capsys.readouterr().err == (
        f"softac: failing failed (OSError: {said}); expected a tracker that can be reached and takes what it is "
        "given; correct what it says and give the command again: it sends what is missing\n"
    )
    monkeypatch.setattr(Failing, "fails", set())
    assert main(["track", str(run), "--to", "failing"]) == 0
    (kept,) = memory.kept.values()
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [place.step for place, _ in kept] == steps


def test_mlflow_is_killed_while_it_makes_its_database(tmp_path: Path, run: Path) -> None:
    """What it leaves then lies beside the place of the database, which appears as a whole."""
    pytest.importorskip("mlflow", reason="mlflow is not installed; the extra `track` has it")
    env = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    words = [sys.executable, "-m", "softac", "track", str(run), "--to", "mlflow"]
    process = subprocess.Popen(words, env=env, cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not (made := list(tmp_path.glob("*.db"))):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert [file.name for file in made] == [f".tmp-{process.pid}-mlflow.db"]
    subprocess.run(words, env=env, check=True, cwd=tmp_path, timeout=200)
    script = runpy.run_path(str(KILLS))
    assert script["READERS"]["mlflow"](tmp_path) == script["of_run"](run)


@pytest.mark.parametrize("tracker", ["wandb", "trackio", "mlflow"])
def test_trackers_of_other_people(tracker: str, run: Path, tmp_path: Path) -> None:
    """In processes of their own, offline, twice: what they keep is what the run has measured."""
    pytest.importorskip(tracker, reason=f"{tracker} is not installed; the extra `track` has it")
    env = os.environ | {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "TRACKIO_DIR": str(tmp_path)}
    env |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    for _ in range(2):
        words = [sys.executable, "-m", "softac", "track", str(run), "--to", tracker]
        subprocess.run(words, env=env, check=True, cwd=tmp_path, timeout=200)
    script = runpy.run_path(str(KILLS))
    assert script["READERS"][tracker](tmp_path) == script["of_run"](run)
