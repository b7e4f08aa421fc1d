"""`softac plot`: what a picture of several runs shows. The runs are written by hand."""

import json
from pathlib import Path

from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from softac.cli.main import main
from softac.plots import COLUMNS, learning_curves
from test_report import config_of, write_run


def colours(figure: Figure) -> dict[str, set[str]]:
    """Of every line, by what it is called."""
    found: dict[str, set[str]] = {}
    for axis in figure.axes:
        for line in axis.get_lines():
            found.setdefault(str(line.get_label()), set()).add(to_hex(line.get_color()))
    return found


def test_a_line_has_one_colour_in_all_panels_and_one_entry_in_the_legend(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"{env}-{algorithm}", {5_000: 1.0, 10_000: 2.0}, config_of(algorithm, env))
        for env, algorithm in (
            ("Hopper-v5", "td3"),
            ("Hopper-v5", "sac"),
            ("Ant-v5", "ddpg"),
            ("Ant-v5", "td3"),
            ("Swimmer-v5", "sac"),
            ("Walker2d-v5", "sac"),
        )
    ]
    figure = learning_curves(runs)
    found = colours(figure)
    assert [len(of) for of in found.values()] == [1, 1, 1]
    assert len(set.union(*found.values())) == 3
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == sorted(found)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["Ant-v5", "Hopper-v5", "Swimmer-v5", "Walker2d-v5", "", ""]
    assert len(titles) == 2 * COLUMNS


def test_a_panel_shows_the_range_of_the_runs_and_not_that_of_a_wide_interval(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / str(seed), {5_000: 0.0, 10_000: value}, config_of(seed=seed))
        for seed, value in enumerate((10.0, 110.0))
    ]
    [axis] = learning_curves(runs).axes
    low, high = axis.get_ylim()  # the interval is 60 +- 635
    assert (low, high) == (-5.5, 115.5)


def test_what_is_no_number_is_not_drawn_and_a_name_is_no_formula(tmp_path: Path) -> None:
    values = {5_000: float("nan"), 6_000: float("inf"), 10_000: 20.0}
    run = write_run(tmp_path / "run", values, config_of(env=r"$\oops$"))
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps({"step": 11_000, "eval/mean_reward": value}) + "\n" for value in ("1", True))
        file.write('{"step": 12000, "eval/mean_reward": ' + "9" * 400 + "}\n")
    [axis] = learning_curves([run]).axes
    [line] = axis.get_lines()
    assert list(map(float, line.get_xdata())) == [10_000.0]
    assert main(["plot", str(run), "-o", str(tmp_path / "curves.svg")]) == 0
    assert r"$\oops$" in axis.get_title()
