"""What a person sees during a run, on a terminal and elsewhere."""

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from softac.cli.display import Display, Overview
from softac.experiments.standing import Standing
from softac.words import duration

ROW = {
    "rollout/ep_rew_mean": -1234.5,
    "train/ent_coef": 0.25,
    "train/entropy": 0.9,
    "train/q_mean": -31.0,
    "time/total_timesteps": 2000.0,
}


def drawn(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    with Display("sac on Pendulum-v1, seed 0", "runs/one", 10_000, console) as display:
        display.write(1000, ROW | {"time/total_timesteps": 1000.0})
        display.write(2000, ROW)
        display.write(2000, {"eval/mean_reward": -900.0, "eval/stochastic_mean_reward": -950.0})
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_a_terminal_gets_one_panel_with_everything_in_it() -> None:
    panel = drawn(terminal=True)
    last = panel[panel.rindex("sac on Pendulum-v1") :]
    for word in (
        "2,000 / 10,000 steps",
        "20%",
        "-1,234.5",
        "-900.0",
        "-950.0",
        "0.25",
        "steps/s",
        "left",
        "runs/one",
    ):
        assert word in last


def test_brackets_are_words() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    title, where = "does [/b] help [gamma 0.99]", "runs/[bold]"
    line = Standing("a[/]b", Path("nowhere"))
    with Display(title, where, 10, console), Overview(title, where, 10, 1, [line], console):
        pass
    text = console.file
    assert isinstance(text, io.StringIO)
    assert text.getvalue().count(title) == text.getvalue().count(where) > 1
    assert line.name in text.getvalue()


def test_elsewhere_there_is_one_line_for_each_row() -> None:
    lines = drawn(terminal=False).splitlines()
    assert lines[0] == "sac on Pendulum-v1, seed 0 -> runs/one"
    assert lines[1].startswith("step     1,000 / 10,000 | return -1,234.5 | ")
    assert lines[3] == "step     2,000 / 10,000 | evaluation: -900.0 (stochastic -950.0)"
    assert len(lines) == 4


def test_messages_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with Display("title", "where", 10) as display:
        display.emit(logging.LogRecord("softac", logging.WARNING, "", 0, "the disk is %s", ("full",), None))
    printed = capsys.readouterr()
    assert printed.err == "softac: warning: the disk is full\n"
    assert printed.out == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4.2, "4 s"), (65, "1 min 05 s"), (3599.4, "59 min 59 s"), (3599.7, "1 h 00 min"), (7800, "2 h 10 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
