"""`softac solve`: what it prints, draws and refuses."""

import argparse
import subprocess
import sys

import pytest

from softac.cli import solve
from softac.errors import ConfigError, DiskError
from softac.tabular import LAYOUTS


def run(*args):
    parser = argparse.ArgumentParser()
    solve.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["solve", *map(str, args)])
    return parsed.run(parsed)


def test_the_greedy_policy_of_a_corridor(capsys):
    assert run("two-goals", "--alpha", 0, "--gamma", 0.5) == 0
    out = capsys.readouterr().out
    assert "two-goals: FiniteMDP(13 states of which 2 terminal, 4 actions, gamma=0.5, sparse)" in out
    assert "alpha 0: value at the start 0.03125, policies evaluated:" in out
    middle = next(line for line in out.splitlines() if "end" in line)
    assert middle.count("◀") == middle.count("▶") == 6  # both ways from the middle cell
    assert middle.startswith("   end")


def test_arrows_show_how_probable_a_move_is(capsys):
    run("bridge", "--alpha", 0.001, 100)
    cold, hot = capsys.readouterr().out.split("alpha 100")
    assert "▶" in cold
    assert "△" not in cold
    assert "▶" not in hot
    assert "△" in hot
    assert "░" * 9 in cold
    assert "arrows: filled for probability >= 1/2" in hot


def test_several_temperatures_are_the_default(capsys):
    run("empty")
    out = capsys.readouterr().out
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("alpha")] == [
        "alpha 0.001",
        "alpha 0.01",
        "alpha 0.1",
    ]


def test_a_layout_from_a_file(tmp_path, capsys):
    file = tmp_path / "maze.txt"
    file.write_text("S.#\n..G\n")
    assert run(file, "--alpha", 0.1) == 0
    assert "FiniteMDP(5 states of which 1 terminal" in capsys.readouterr().out


@pytest.mark.parametrize(("env_id", "shown"), [("FrozenLake-v1", "end"), ("Taxi-v4", "pi(a=5)")])
def test_toy_text(env_id, shown, capsys):
    assert run(f"toy-text:{env_id}", "--alpha", 0.1) == 0
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mdp", "ending"), [("four-rooms", ".png"), ("cliff", ".svg"), ("toy-text:Taxi-v4", ".png")]
)
def test_pictures(mdp, ending, tmp_path, capsys):
    file = tmp_path / f"picture{ending}"
    assert run(mdp, "--alpha", 0, 0.1, "--plot", file) == 0
    start = file.read_bytes()[:5]
    assert start == (b"\x89PNG\r" if ending == ".png" else b"<?xml")
    assert f"picture: {file}" in capsys.readouterr().out


def test_a_name_is_no_formula(tmp_path):
    layout = tmp_path / "$_^$.txt"
    layout.write_text("S..G\n")
    assert run(layout, "--plot", tmp_path / "picture.svg") == 0


def test_names_are_the_layouts():
    assert sorted(LAYOUTS) == list(solve.NAMES)


def test_nothing_heavy_is_imported_for_the_help():
    program = (
        "import sys, softac; before = set(sys.modules); import softac.cli.solve;"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib', 'rich', 'gymnasium'};"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (
            ["four-room"],
            r"no MDP 'four-room'; did you mean 'four-rooms'\?; it must be one of bridge, .*; check the spell",
        ),
        (["toy-text:Nothing-v1"], r"cannot make 'Nothing-v1'"),
        (["toy-text:foo_bar:Nothing-v1"], r"cannot make 'foo_bar:Nothing-v1' \(No module named"),
        (["/proc/self/mem"], r"/proc/self/mem cannot be read \(.+\); a text file .*; check the path"),
        (["empty", "--alpha", "-1"], r"alpha is -1\.0; .*; alpha = 0 gives"),
        (["empty", "--gamma", "1"], r"gamma is 1\.0; it must be in \[0, 1\)"),
        (["empty", "--tol", "1e-20"], r"tol is 1e-20; .* rounding"),
        (
            ["empty", "--plot", "picture.jpeg"],
            r"--plot picture\.jpeg has the ending '\.jpeg'; .*; rename the picture",
        ),
        (["empty", "--plot", "/nowhere/at/all.png"], r"--plot .* folder that does not exist; .*; make it first"),
    ],
)
def test_refusals(args, text):
    with pytest.raises(ConfigError, match=text):
        run(*args)


def test_a_file_that_is_not_text(tmp_path):
    file = tmp_path / "maze.bin"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"maze\.bin is not a text file .*; .*; save it as UTF-8"):
        run(file)


def test_a_picture_that_cannot_be_written(tmp_path, capsys):
    folder = tmp_path / "folder.png"
    folder.mkdir()
    with pytest.raises(
        DiskError, match=r"folder\.png cannot be written \(.*\); expected .*, with space; choose another$"
    ):
        run("empty", "--plot", folder)
