"""`softac plot`: what a picture of several runs shows. The runs are written by hand."""

import json
import shutil
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from softac.cli.main import main
from softac.errors import ConfigError
from softac.report.plots import COLUMNS, draw_run, learning_curves
from softac.report.results import read_runs
from test_report import config_of, write_run, write_seeds


def drawn(*folders: Path) -> Figure:
    return learning_curves(read_runs(folders).results)


def legend_of(figure: Figure) -> list[str]:
    [legend] = [*figure.legends, *(axis.get_legend() for axis in figure.axes if axis.get_legend())]
    return [text.get_text() for text in legend.get_texts()]


def colours(figure: Figure) -> dict[str, set[str]]:
    """Of every line, by what it is called."""
    found: dict[str, set[str]] = {}
    for axis in figure.axes:
        for line in axis.get_lines():
            found.setdefault(str(line.get_label()), set()).add(to_hex(line.get_color()))
    return found


def test_a_line_has_one_colour_in_all_panels_and_one_entry_in_the_legend(tmp_path: Path) -> None:
    for env, algorithm in (
        ("Hopper-v5", "td3"),
        ("Hopper-v5", "sac"),
        ("Ant-v5", "ddpg"),
        ("Ant-v5", "td3"),
        ("Swimmer-v5", "sac"),
        ("Walker2d-v5", "sac"),
    ):
        write_run(tmp_path / f"{env}-{algorithm}", {5_000: 1.0, 10_000: 2.0}, config_of(algorithm, env))
    figure = drawn(tmp_path)
    found = colours(figure)
    assert [len(of) for of in found.values()] == [1, 1, 1]
    assert len(set.union(*found.values())) == 3
    assert legend_of(figure) == list(found)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["Ant-v5", "Hopper-v5", "Swimmer-v5", "Walker2d-v5", "", ""]
    assert len(titles) == 2 * COLUMNS


@pytest.mark.parametrize(
    ("tasks", "names", "beside"),
    [(1, 1, False), (3, 2, False), (4, 2, True), (5, 2, True), (6, 2, False), (5, 16, False)],
)
def test_the_legend_stands_in_a_panel_to_spare_or_below(
    tmp_path: Path, tasks: int, names: int, beside: bool
) -> None:
    """16 names, two lines each, are higher than a panel."""
    for task in range(tasks):
        for name in range(names):
            config = config_of(env=f"Task{task}-v0") | {"algorithm": f"name-{name:02}-" + "x" * 50}
            write_run(tmp_path / f"{task}-{name}", {5_000: 1.0, 10_000: 2.0}, config)
    figure = drawn(tmp_path)
    spare = [axis for axis in figure.axes if not axis.axison]
    assert len(legend_of(figure)) == names
    assert bool(spare) is (tasks in (4, 5))
    assert [axis.get_legend() is not None for axis in spare] == [beside, False][: len(spare)]
    assert bool(figure.legends) is not beside
    width, height = figure.get_size_inches()
    rows = -(-tasks // COLUMNS)
    assert (width, height >= 4.0 * rows) == (6.4 * min(tasks, COLUMNS), True)
    assert bool(height == 4.0 * rows) is beside


def test_a_panel_shows_the_range_of_the_runs_and_not_that_of_a_wide_interval(tmp_path: Path) -> None:
    [axis] = drawn(write_seeds(tmp_path, [10.0, 110.0])).axes
    assert axis.get_ylim() == (
        -0.25,
        115.25,
    )  # of 5 to 110, with a margin; the interval of the last mean is 60 +- 635


def test_a_run_that_failed_does_not_shorten_the_line_of_the_others(tmp_path: Path) -> None:
    write_seeds(tmp_path, [10.0, 20.0])
    crashed = write_run(tmp_path / "seed-2", {5_000: 0.0}, config_of(seed=2))
    (crashed / "crash").mkdir()
    (crashed / "crash" / "step-6000.txt").write_text("the environment failed\n")
    write_run(tmp_path / "seed-3", {}, config_of(seed=3))
    figure = drawn(tmp_path)
    [axis] = figure.axes
    line, cross = axis.get_lines()
    assert [list(map(float, values)) for values in line.get_data()] == [[5_000, 10_000], [5, 15]]
    assert legend_of(figure) == [
        "sac: mean of 2 to 3 seeds, 95 % interval (3 of 4 runs)",
        "a run that failed: its last evaluation",
    ]
    assert (cross.get_marker(), *cross.get_data()) == ("x", [5_000], [0.0])
    assert axis.get_ylim()[0] < 0.0


def test_a_band_breaks_off_where_a_single_run_is_left(tmp_path: Path) -> None:
    write_run(tmp_path / "0", {5_000: 1.0, 10_000: 2.0, 15_000: 3.0}, config_of(seed=0))
    write_run(tmp_path / "1", {5_000: 3.0, 10_000: 4.0}, config_of(seed=1, total=15_000))
    figure = drawn(tmp_path)
    [axis] = figure.axes
    [band] = axis.collections
    assert sorted({float(x) for path in band.get_paths() for x, _ in path.vertices}) == [5_000, 10_000]
    assert legend_of(figure) == ["sac: mean of 1 to 2 seeds, 95 % interval"]


def test_a_run_counts_once_and_its_copy_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", {10_000: 1.0})
    assert legend_of(drawn(run, run, tmp_path)) == ["sac: evaluation ± std over episodes"]
    shutil.copytree(run, tmp_path / "copy")
    assert main(["plot", str(tmp_path), "-o", str(tmp_path / "curves.png")]) == 2
    assert "expected each seed once, since a run and its copy are not two runs" in capsys.readouterr().err
    assert not (tmp_path / "curves.png").exists()


def test_what_is_no_number_is_not_drawn_and_a_name_is_no_formula(tmp_path: Path) -> None:
    values = {5_000: float("nan"), 6_000: float("inf"), 10_000: 20.0}
    config = config_of(env="$\\oops$ \ud800") | {"algorithm": "$\\frac{a$", "hyperparameters": {}}
    run = write_run(tmp_path / "run", values, config)
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps({"step": 11_000, "eval/mean_reward": value}) + "\n" for value in ("1", True))
        file.write('{"step": 12000, "eval/mean_reward": ' + "9" * 400 + "}\n")
        file.write('{"step": ' + "9" * 400 + ', "eval/mean_reward": 1.0}\n')
    [axis] = drawn(run).axes
    [line] = axis.get_lines()
    assert list(map(float, line.get_xdata())) == [10_000.0]
    assert axis.get_title().startswith("$\\oops$")
    assert main(["plot", str(run), "-o", str(tmp_path / "curves.svg")]) == 0


def test_a_run_without_a_number_to_draw(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {10_000: float("inf")})
    with pytest.raises(ConfigError, match=r"no evaluation that is a finite number was found in .*run; expected"):
        draw_run(run)


def test_what_does_not_describe_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, part in enumerate(("env", "hyperparameters", "run")):
        config = config_of()
        del config[part]
        run = write_run(tmp_path / str(i), {10_000: 1.0}, config)
        assert main(["plot", str(run), "-o", str(tmp_path / "curves.png")]) == 2
        assert "config.json does not describe a run; expected algorithm, env" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["plot", str(tmp_path / "empty")]) == 2
    assert capsys.readouterr().err == (
        f"softac: {tmp_path / 'empty'} holds no run; expected a run folder, a folder of run folders or that of a "
        "suite; name one that `softac train` or `softac bench` has printed\n"
    )


def test_a_picture_is_not_drawn_through_a_link(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {10_000: 1.0})
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (run / "learning_curve.png").symlink_to(precious)
    assert draw_run(run).read_bytes().startswith(b"\x89PNG")
    assert precious.read_text() == "precious"
