"""Learning curves of characters, in the panel of a run and in `softac watch`."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from softac.cli.curve import columns, curve, learning_curve
from softac.cli.display import Display
from softac.cli.main import main
from softac.cli.watch import Watched, _shown
from softac.report.results import folders_of_runs, read_result
from softac.run.folder import RunFolder

RISING = {1_000: -1_400.0, 2_000: -1_100.0, 3_000: -400.0, 4_000: -150.0, 5_000: -160.0}


def test_columns_stand_for_steps() -> None:
    assert columns(RISING, 10_000, 10) == [-1_400.0, -1_100.0, -400.0, -150.0, -160.0]
    assert columns(RISING, 10_000, 4) == [-1_250.0, -160.0]  # the mean of two; the last one itself
    assert columns({2_500: 1.0, 5_000: 2.0}, 5_000, 4) == [1.0, 1.0, 1.0, 2.0]
    assert columns({}, 5_000, 4) == []
    assert columns({700: 3.0}, 5_000, 5) == [3.0]
    assert columns({0: 3.0}, 5_000, 5) == [3.0]


def test_levels_reach_from_the_least_to_the_largest() -> None:
    assert curve([0.0, 1.0, 2.0, 3.0], 1) == ["▁▃▆█"]
    assert curve([0.0, 15.0], 2) == [" █", "▁█"]
    assert curve([5.0, 5.0], 1) == ["▁▁"]
    assert curve([0.0, 7.0], 1, ascii_only=True) == [".#"]


def test_the_last_value_is_marked_at_its_height() -> None:
    lines = learning_curve({1: 0.0, 2: 10.0, 3: 5.0}, 4, 4, 3)
    assert lines == [" █     10", " █▅  ◂ 5", "▁██    0"]
    assert learning_curve({1: 2.0}, 4, 4, 2) == ["       2", "▁    ◂ 2"]


def panel(width: int, height: int, **settings) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, **settings)
    with Display("sac on Pendulum-v1, seed 0", "runs/one", 10_000, console) as display:
        for step, returned in RISING.items():
            display.write(step, {"eval/mean_reward": returned, "eval/stochastic_mean_reward": returned})
    return console.file.getvalue()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20)])
def test_the_panel_has_the_curve_and_fits(width: int, height: int) -> None:
    shown = panel(width, height, color_system=None).rpartition("╭")[2]
    lines = [line for line in shown.splitlines() if line.strip()]
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    assert "◂ -160.0" in shown
    assert "-1,400.0" in shown
    assert "█" in shown
    for word in ("return", "evaluated", "temperature", "steps/s", "left", "10,000"):
        assert word in shown


def test_a_low_terminal_has_no_room_for_the_curve() -> None:
    assert "◂" not in panel(80, 12, color_system=None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watched") / "run"
    small = ["--net-arch", "8", "--batch-size", "8", "--n-eval-episodes", "1", "--eval-freq", "200"]
    assert main(["train", "Pendulum-v1", "-n", "600", "--run-dir", str(folder), *small]) == 0
    return folder


def test_watch_reads_files_alone(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert main(["watch", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "sac, learning_" not in shown
    assert "done" in shown
    assert "600 / 600" in shown
    assert "◂" in shown
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    with RunFolder(run):
        assert main(["watch", str(run)]) == 0
        assert "running" in capsys.readouterr().out
    shutil.copytree(run, run.parent / "copy")
    assert main(["watch", str(run.parent), str(run)]) == 0  # one of them is named twice
    shown = capsys.readouterr().out
    assert shown.count("done") == 3  # twice in the table, once below it
    assert "curve" in shown


def test_watch_says_what_it_was_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_run_of_which_nothing_can_be_read_is_shown(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{")
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps({"step": 5}) + "\n")
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, color_system=None)
    watched = [Watched(name, path, read_result(path)) for name, path in folders_of_runs([tmp_path, run]).items()]
    console.print(_shown(console, watched, "2 runs", "here"))
    assert "stopped" in console.file.getvalue()
