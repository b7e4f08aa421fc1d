"""`softac report`: the numbers on the page are those of the runs, and nothing that a run says can harm its reader.

The runs are written by hand, so that their returns are known and nothing has to be trained.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from folders import memory_folder
from softac import stats
from softac.agents.registry import AGENTS
from softac.cli.main import main
from softac.errors import CheckpointError, ConfigError, DiskError
from softac.experiments.suite import Group, Suite, write_suite
from softac.files import sealed_json
from softac.report import write_report
from softac.report.charts import apart, round_numbers
from softac.report.published import published
from softac.report.results import command_line
from softac.run.config import RecordConfig
from softac.run.folder import write_description
from softac.run.metrics import read_rows
from softac.words import decimals, listed, number

SYSTEM = {
    "softac": "0.1.0",
    "python": "3.11.7",
    "platform": "Linux-6.1-x86_64",
    "cores": 2,
    "cuda": None,
    "torch": "2.13.0",
    "numpy": "2.4.6",
    "gymnasium": "1.4.0",
    "mujoco": "3.17.0",
    "threads": 1,
    "cpu": "AVX512",
}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed here: apt install chromium")


def config_of(
    algorithm: str = "sac",
    env: str = "Pendulum-v1",
    seed: int = 0,
    total: int = 10_000,
    kwargs: Mapping[str, Any] | None = None,
    episodes: int = 10,
    **hyperparameters: Any,
) -> dict[str, Any]:
    """What the `config.json` of a run says."""
    return {
        "algorithm": algorithm,
        "env": {"id": env, "registered": True, "kwargs": dict(kwargs or {}), "spaces": {}},
        "hyperparameters": asdict(AGENTS[algorithm].Config(**hyperparameters)),
        "run": {
            "seed": seed,
            "n_envs": 1,
            "device": "auto",
            "engine": "auto",
            "precision": "float32",
            "threads": 1,
        },
        "record": {"eval_freq": 5_000, "n_eval_episodes": episodes, "save_freq": 10_000},
        "total_timesteps": total,
    }


def write_rows(
    folder: Path,
    returns: Mapping[int, float],
    *,
    seconds: float = 100.0,
    sampled: float = -1.0,
    success: float | None = None,
) -> None:
    """A `metrics.jsonl`: at each step a row of the clock and one of an evaluation."""
    rows: list[dict[str, Any]] = []
    for i, (step, value) in enumerate(returns.items(), 1):
        clock = {"time/fps": step / seconds, "time/time_elapsed": i * seconds, "time/total_timesteps": step}
        rows.append({"step": step, "train/n_updates": step - 100, **clock})
        both = {"eval/mean_reward": value, "eval/stochastic_mean_reward": value + sampled}
        both |= {} if success is None else {"eval/success_rate": success}
        rows.append({"step": step, **both, "eval/std_reward": 1.0, "eval/returns": [value] * 10})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "evaluations.csv").write_text("step\n")


def write_run(
    folder: Path,
    returns: Mapping[int, float],
    config: dict[str, Any] | None = None,
    *,
    system: Mapping[str, Any] = SYSTEM,
    seconds: float = 100.0,
) -> Path:
    """A run folder."""
    write_description(folder, config or config_of())
    (folder / "system.json").write_text(json.dumps(system))
    (folder / "command.txt").write_text("/usr/bin/softac train Pendulum-v1 --run-dir /home/someone/runs/x\n")
    if returns:
        write_rows(folder, returns, seconds=seconds)
    return folder


def write_seeds(folder: Path, values: Sequence[float], **config: Any) -> Path:
    """Runs with the seeds 0, 1, ... that end with these returns."""
    for seed, value in enumerate(values):
        write_run(folder / f"seed-{seed}", {5_000: value / 2, 10_000: value}, config_of(seed=seed, **config))
    return folder


def page_of(*folders: Path, output: Path | None = None) -> str:
    target = output or folders[0].parent / "report.html"
    write_report(folders, target)
    return target.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Tables, headings and attributes of a page.

    Attributes:
        tables: the id of a section's heading -> rows of the texts in its cells.
        elements: tags with their attributes, in their order.
        text: all text.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._section = ""
        self._in_cell = False
        self.feed(page)
        self.close()
        for rows in self.tables.values():
            rows[:] = [[" ".join(cell.split()) for cell in row] for row in rows]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag == "h2":
            self._section = attributes["id"] or ""
        elif tag == "tr":
            self.tables.setdefault(self._section, []).append([])
        elif tag in ("td", "th"):
            self.tables[self._section][-1].append("")
            self._in_cell = True
        elif tag == "span" and self._in_cell and self.tables[self._section][-1][-1]:
            self.tables[self._section][-1][-1] += " | "

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.tables[self._section][-1][-1] += data


def read(*folders: Path) -> Reader:
    return Reader(page_of(*folders))


def untimed(page: str) -> str:
    """The page without what the clock says."""
    return re.sub(r'(class="time">)[^<]*', r"\1", page)


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


# Numbers


def test_the_numbers_of_one_group_by_hand(folder: Path) -> None:
    page = read(write_seeds(folder / "runs", [100.0, 110.0, 130.0]))
    # Deviations -13.33, -3.33, 16.67: s = sqrt(466.67 / 2) = 15.275; t(0.975, 2) s / sqrt(3) = 4.303 * 8.819.
    assert page.tables["steps"] == [
        ["algorithm", "runs", "10,000 steps"],
        ["sac", "3 of 3", "113.3 | 75.4 to 151.3"],
    ]
    assert page.tables["final"][2] == [
        *("sac", "3 of 3", "10,000", "113.3", "15.3", "110.0", "100.0", "113.3", "113.3", "112.3")
    ]
    assert page.tables["time"][1] == ["sac", "3 of 3", "3 min 20 s", "50", "50"]
    assert "sac: 113.3 at 10,000 steps, 95 % interval 75.4 to 151.3, 3 of 3 runs." in page.text
    assert (
        "sac on Pendulum-v1: 10,000 environment steps in each run, seeds 0-2. All 3 runs have finished."
        in page.text
    )
    assert "Nothing is missing: all 3 runs have reached their last evaluation." in page.text


def test_the_share_of_successes_has_a_column_where_environments_say_it(folder: Path) -> None:
    for seed, success in enumerate((0.5, 1.0)):
        run = write_run(folder / "runs" / str(seed), {10_000: 1.0}, config_of(seed=seed))
        write_rows(run, {10_000: 1.0}, success=success)
    page = read(folder / "runs")
    assert page.tables["final"][0][-2:] == ["sampled", "success, %"]
    assert page.tables["final"][2][-1] == "75"


def test_the_numbers_are_those_of_stats(folder: Path) -> None:
    rng = np.random.default_rng(0)
    steps = [5_000 * i for i in range(1, 21)]
    curves = rng.normal(3000, 400, (5, 20))
    for seed, curve in enumerate(curves):
        write_run(
            folder / "runs" / str(seed),
            dict(zip(steps, curve.tolist(), strict=True)),
            config_of(seed=seed, total=100_000),
        )
    page = read(folder / "runs")
    last, interval = curves[:, -1], stats.t_interval(curves[:, -1])
    assert page.tables["steps"][1][2] == f"{interval.value:,.0f} | {interval.low:,.0f} to {interval.high:,.0f}"
    expected = [
        last.mean(),
        last.std(ddof=1),
        stats.median(last),
        last.min(),
        stats.iqm(last),
        curves[:, -2:].mean(),
    ]
    assert page.tables["final"][2][3:9] == [f"{value:,.0f}" for value in expected]


def test_fixed_steps_are_those_that_were_reached_and_the_total(folder: Path) -> None:
    write_run(folder / "a", {90_000: 9.0, 110_000: 11.0, 300_000: 30.0, 350_000: 35.0}, config_of(total=350_000))
    page = read(folder)
    assert page.tables["steps"][0][2:] == ["100,000 steps", "300,000 steps", "350,000 steps"]
    # 100,000 lies between two evaluations.
    assert page.tables["steps"][1][2:] == ["10.0 | no interval", "30.0 | no interval", "35.0 | no interval"]
    assert "the return is read off the line between the two around it" in page.text
    assert "1 seed, no interval" in page.text
    assert "How sure" in page.text
    assert "simulated experiments" not in page.text


def test_the_best_mean_is_bold_only_where_there_are_two(folder: Path) -> None:
    write_seeds(folder / "sac", [3.0, 4.0])
    write_seeds(folder / "ppo", [5.0, 7.0], algorithm="ppo")
    write_seeds(folder / "alone", [9.0, 9.5], env="Hopper-v5")
    page = page_of(folder / "sac", folder / "ppo", folder / "alone")
    assert re.findall(r"<strong>([^<]*)</strong>", page) == ["6.00"]


def test_another_distance_between_evaluations_leaves_the_common_steps(folder: Path) -> None:
    write_run(folder / "a", {2_000: 1.0, 4_000: 2.0, 6_000: 3.0}, config_of(total=6_000))
    write_run(folder / "b", {3_000: 5.0, 6_000: 7.0}, config_of(total=6_000, seed=1))
    page = read(folder)
    assert page.tables["final"][2][1:4] == ["2 of 2", "6,000", "5.00"]


def test_runs_without_a_common_step_are_drawn_and_not_averaged(folder: Path) -> None:
    write_run(folder / "a", {6_000: 3.0}, config_of(total=6_000))
    write_run(folder / "b", {7_000: 7.0}, config_of(total=7_000, seed=1))
    page = read(folder)
    assert "sac: 2 runs without a common step." in page.text
    assert len(page.tables["final"]) == 1


def test_across_environments(folder: Path) -> None:
    scores = {"Hopper-v5": ([1393.0, 2786.0], [557.2, 1671.6]), "Ant-v5": ([5732.0, 2866.0], [0.0, 1146.4])}
    for env, (sac, ppo) in scores.items():
        write_seeds(folder / f"sac-{env}", sac, env=env)
        write_seeds(folder / f"ppo-{env}", ppo, env=env, algorithm="ppo")
    write_seeds(folder / "td3", [1.0, 2.0], env="Ant-v5", algorithm="td3")
    write_seeds(folder / "swimmer", [1.0, 2.0], env="Swimmer-v5")
    page = read(*sorted(folder.iterdir()))
    ours, theirs = {"a": [0.5, 1.0], "b": [1.0, 0.5]}, {"a": [0.2, 0.6], "b": [0.0, 0.2]}
    # The order of the tasks, which the bootstrap draws in, is that of the page.
    ours, theirs = ({"Ant-v5": x["b"], "Hopper-v5": x["a"]} for x in (ours, theirs))

    def shown(statistic: stats.Statistic, *of: Any) -> str:
        interval = stats.bootstrap_interval(statistic, *of, rng=np.random.default_rng(0))
        return f"{interval.value:.2f} | {interval.low:.2f} to {interval.high:.2f}"

    assert page.tables["across"][1:] == [
        ["sac", "4 of 4", shown(stats.iqm, ours), shown(stats.optimality_gap, ours), "–"],
        [
            "ppo",
            "4 of 4",
            shown(stats.iqm, theirs),
            shown(stats.optimality_gap, theirs),
            shown(stats.probability_of_improvement, ours, theirs),
        ],
    ]
    assert page.tables["across"][1][2].startswith("0.75 | ")
    assert (
        "In it: Ant-v5 (at 10,000 steps, divided by 5,732), Hopper-v5 (at 10,000 steps, divided by 2,786)."
        in page.text
    )
    assert "Left out, since two finished runs are missing in one of these: td3." in page.text


def test_runs_that_failed_are_said_to_be_missing_in_the_numbers(folder: Path) -> None:
    for env in ("Hopper-v5", "Ant-v5"):
        write_seeds(folder / f"sac-{env}", [1.0, 2.0], env=env)
        write_seeds(folder / f"ppo-{env}", [3.0, 4.0], env=env, algorithm="ppo")
    said = "that failed before they came this far are missing here"
    runs = sorted(folder.iterdir())
    assert said not in read(*runs).text
    crashed = write_run(folder / "ppo-Ant-v5" / "2", {5_000: 0.0}, config_of("ppo", "Ant-v5", 2))
    (crashed / "crash").mkdir()
    (crashed / "crash" / "step-6000.txt").write_text("the environment failed\n")
    page = read(*runs)
    assert page.text.count(f"Runs of ppo {said}") == 2
    assert [row[:2] for row in page.tables["across"][1:]] == [["sac", "4 of 4"], ["ppo", "4 of 5"]]


def test_one_environment_is_not_several(folder: Path) -> None:
    assert "across" not in read(write_seeds(folder / "runs", [1.0, 2.0], env="Hopper-v5")).tables


# Runs that are not finished


def test_every_run_that_is_missing_is_named_with_its_reason(folder: Path) -> None:
    runs = folder / "runs"
    write_run(runs / "0", {5_000: 10.0, 10_000: 20.0})
    write_run(runs / "1", {5_000: 30.0}, config_of(seed=1))
    (runs / "1" / "crash").mkdir()
    (runs / "1" / "crash" / "step-000000200.txt").write_text("an old one\n")
    message = (
        f"environment 0 raised RuntimeError: see {runs / '1'}/log.txt, or /usr/share/doc/x; expected none; mend it"
    )
    (runs / "1" / "crash" / "step-000007000.txt").write_text(f"{message}\n\nTraceback\n")
    write_run(runs / "2", {5_000: 50.0}, config_of(seed=2))
    write_run(runs / "3", {}, config_of(seed=3))
    write_run(runs / "4", {}, config_of(seed=4))
    (runs / "4" / "output.txt").write_text("begun\nsoftac: no memory is left; expected some; free it\n")
    write_run(runs / "5", {5_000: 60.0}, config_of(seed=5))
    (runs / "5" / "config.json").write_text((runs / "5" / "config.json").read_text().replace("sac", "td3"))
    write_run(runs / "6", {5_000: 60.0}, config_of(seed=6))
    (runs / "6" / "config.json").write_bytes(sealed_json({"format": "softac-run-9"}))
    page = read(runs)
    assert page.tables["missing"] == [
        ["run", "state", "reason"],
        [
            "sac on Pendulum-v1, seed 1",
            "failed",
            "at step 5,000 of 10,000: environment 0 raised RuntimeError: see 1/log.txt, or x; expected none; "
            "mend it",
        ],
        [
            "sac on Pendulum-v1, seed 4",
            "failed",
            "at step 0 of 10,000: no memory is left; expected some; free it",
        ],
        ["sac on Pendulum-v1, seed 2", "unfinished", "it has made 5,000 of 10,000 steps"],
        ["sac on Pendulum-v1, seed 3", "not begun", "–"],
        [
            "5",
            "unreadable",
            "5/config.json has been changed: its SHA-256 is not the one it ends with; expected the bytes that "
            "softac wrote, which the checkpoints beside it belong to; restore the file",
        ],
        [
            "6",
            "unreadable",
            "6/config.json is not the description of a run; expected format 'softac-run-1'; name the folder of a "
            "run or model that this version wrote",
        ],
    ]
    assert (
        "1 of 7 runs finished; 2 failed, 1 stopped before the end or still going, 1 not begun and 2 not readable."
        in page.text
    )
    # The failed and the unfinished run are in the mean up to their last evaluation, and do not shorten the curve.
    assert page.tables["final"][2][1:4] == ["1 of 5", "10,000", "20.0"]
    assert "sac: 20.0 at 10,000 steps, 1 of 5 runs." in page.text
    assert 'class="cross' in page_of(runs).replace("'", '"')


@pytest.mark.parametrize("value", [1234.5, -1000.1, 0.1, 200.0, 1e-300])
def test_returns_that_differ_by_rounding(value: float, folder: Path) -> None:
    """As those of the same rewards, added in another order, do."""
    write_run(folder / "run", {5_000: value, 10_000: float(np.nextafter(value, np.inf))})
    assert read(folder).tables["final"][2][:3] == ["sac", "1 of 1", "10,000"]


def test_an_error_that_was_printed_last_is_a_failure_and_no_message(folder: Path) -> None:
    title = "Traceback (most recent call last):"
    said = {
        f"{title}\n  File x, line 1\n    y\n    ^\ntorch.OutOfMemoryError: no room\n\n": "failed",
        f"{title}\n  File x\nValueError: no\nand yet it goes on\n": "unfinished",
        "no error\n": "unfinished",
        "softac: the disk is full\n": "failed",
        "softac: warning: other programs take the rest: end them\n": "unfinished",
        "softac: note: an environment of its own\n": "unfinished",
    }
    for seed, text in enumerate(said):
        write_run(folder / f"{seed}", {5_000: 10.0}, config_of(seed=seed))
        (folder / f"{seed}" / "output.txt").write_text(text)
    rows = sorted(read(folder).tables["missing"][1:])
    assert [row[1] for row in rows] == list(said.values())
    assert rows[0][2] == "at step 5,000 of 10,000: torch.OutOfMemoryError: no room"


def test_a_run_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_seeds(folder / "runs", [1.0, 2.0])

    def refuse(path: Path) -> list[Any]:
        if path.parent.name == "seed-1":
            raise PermissionError(13, "Permission denied", str(path))
        return read_rows(path)

    monkeypatch.setattr("softac.report.results.read_rows", refuse)
    page = read(folder / "runs")
    assert page.tables["missing"][1] == [
        "seed-1",
        "unreadable",
        "[Errno 13] Permission denied: 'seed-1/metrics.jsonl'",
    ]


def test_a_folder_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "locked").mkdir()

    def refuse(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert refused([folder / "locked"], folder / "report.html") == (
        f"{folder / 'locked'} cannot be read (Permission denied); expected a folder of yours; change its "
        "permissions"
    )


def test_a_run_that_was_evaluated_at_its_beginning_only(folder: Path) -> None:
    write_run(folder / "0", {0: 10.0})
    assert read(folder).tables["missing"][1][1] == "unfinished"


def test_a_run_that_went_on_after_a_crash_has_not_failed(folder: Path) -> None:
    write_run(folder / "0", {5_000: 10.0, 7_000: 20.0})
    (folder / "0" / "crash").mkdir()
    (folder / "0" / "crash" / "step-000006000.txt").write_text("the sky fell\n")
    assert read(folder).tables["missing"][1][1:] == ["unfinished", "it has made 7,000 of 10,000 steps"]


def test_a_crash_report_that_is_a_link_is_not_followed(folder: Path) -> None:
    (folder / "secret").write_text("the password\n")
    write_run(folder / "runs" / "0", {5_000: 10.0})
    (folder / "runs" / "0" / "crash").mkdir()
    (folder / "runs" / "0" / "crash" / "step-000006000.txt").symlink_to(folder / "secret")
    page = read(folder / "runs")
    assert page.tables["missing"][1][1] == "failed"
    assert "password" not in page.text


def test_a_table_says_where_fewer_runs_are_behind_a_number(folder: Path) -> None:
    write_run(folder / "0", {100_000: 10.0, 200_000: 20.0}, config_of(total=200_000))
    write_run(folder / "1", {100_000: 30.0, 200_000: 40.0}, config_of(total=200_000, seed=1))
    write_run(folder / "2", {100_000: 80.0}, config_of(total=200_000, seed=2))
    row = read(folder).tables["steps"][1]
    assert row[1] == "3 of 3"
    assert row[2].startswith("40.0 | ")
    assert row[3].startswith("30.0 | ")
    assert row[3].endswith(" | 2 of 3 runs")
    assert " runs" not in row[2]


def test_evaluations_that_are_no_number_count_as_not_made(folder: Path) -> None:
    write_run(folder / "0", {5_000: float("nan"), 10_000: 20.0})
    write_run(folder / "1", {5_000: 3.0, 10_000: float("inf")}, config_of(seed=1))
    write_run(folder / "2", {5_000: 1e300, 10_000: 30.0}, config_of(seed=2))
    page = read(folder)
    assert page.tables["final"][2][1:4] == ["2 of 3", "10,000", "25.0"]
    assert page.tables["missing"][1] == [
        "sac on Pendulum-v1, seed 1",
        "unfinished",
        "its last evaluation is missing, or no finite number",
    ]
    assert "sac on Pendulum-v1, seed 0: 1 evaluation, at step 5,000" in page.text
    assert not re.search(r"\b(nan|inf)\b", page.text.lower())


def test_rows_that_cannot_be_are_passed_over(folder: Path) -> None:
    write_run(folder / "0", {10_000: 20.0})
    with (folder / "0" / "metrics.jsonl").open("a") as file:
        for row in ({"step": -5, "eval/mean_reward": 9e9}, {"step": 10**15, "eval/mean_reward": 9e9}):
            file.write(json.dumps(row) + "\n")
        file.write(json.dumps({"step": 5_000, "eval/mean_reward": True, "time/time_elapsed": "soon"}) + "\n")
        file.write('{"step": 6000, "eval/mean_reward": ' + "9" * 400 + "}\n")
    page = read(folder)
    assert page.tables["final"][2][3] == "20.0"
    assert "seed 0: 2 evaluations, at steps 5,000, 6,000" in page.text


# Suites


def suite_of(*groups: Group, command: str = "softac bench x --run-dir /home/someone/x") -> Suite:
    return Suite("Two ways <b>to swing</b>", command, groups, RecordConfig(5_000, 10, 10_000), 10_000)


def new_suite(folder: Path, suite: Suite) -> None:
    folder.mkdir()
    write_suite(folder, suite)


def test_the_folder_of_a_suite(folder: Path) -> None:
    fixed = config_of(ent_coef=0.2)
    groups = (Group("fixed", "Pendulum-v1__fixed__", (0, 1), fixed), Group("", "seed-", (0, 1), config_of()))
    new_suite(folder / "suite", suite_of(*groups))
    for name, value in (("Pendulum-v1__fixed__0", 1.0), ("Pendulum-v1__fixed__1", 2.0), ("seed-0", 5.0)):
        write_rows(folder / "suite" / name, {5_000: 0.0, 10_000: value})
        (folder / "suite" / name / "system.json").write_text(json.dumps(SYSTEM))
    shutil.rmtree(folder / "suite" / "seed-1")
    page = read(folder / "suite")
    assert page.tables["final"][2:] == [
        ["fixed", "2 of 2", "10,000", "1.50", "0.71", "1.50", "1.00", "1.50", "1.50", "0.50"],
        ["sac", "1 of 2", "10,000", "5.00", "–", "5.00", "5.00", "5.00", "5.00", "4.00"],
    ]
    assert page.tables["missing"][1] == ["sac on Pendulum-v1, seed 1", "not begun", "–"]
    assert page.tables["settings"][1][:4] == ["fixed", "sac", "ent_coef=0.2", "0-1"]
    assert page.tables["settings"][2][:4] == ["sac", "sac", "–", "0"]
    assert "Two ways <b>to swing</b>" in page.text
    assert "softac bench x --run-dir x" in page.text
    assert "/home/someone" not in page.text
    assert "softac report suite -o report.html" in page.text


def test_a_run_of_a_suite_that_is_a_link_to_itself_has_not_begun(folder: Path) -> None:
    new_suite(folder / "suite", suite_of(Group("", "seed-", (0, 1), config_of())))
    write_rows(folder / "suite" / "seed-0", {10_000: 1.0})
    shutil.rmtree(folder / "suite" / "seed-1")
    (folder / "suite" / "seed-1").symlink_to("seed-1")
    assert read(folder / "suite").tables["missing"][1] == ["sac on Pendulum-v1, seed 1", "not begun", "–"]


def test_a_suite_with_a_larger_total_has_not_finished(folder: Path) -> None:
    suite = suite_of(Group("a", "a-", (0,), config_of()))
    new_suite(folder / "suite", suite)
    write_rows(folder / "suite" / "a-0", {10_000: 1.0})
    write_suite(folder / "suite", replace(suite, total=20_000))
    row = read(folder / "suite").tables["missing"][1]
    assert row == ["a on Pendulum-v1, seed 0", "unfinished", "it has made 10,000 of 20,000 steps"]


def test_a_run_of_a_suite_that_is_named_again_counts_once(folder: Path) -> None:
    new_suite(folder / "suite", suite_of(Group("a", "a-", (0,), config_of())))
    write_rows(folder / "suite" / "a-0", {10_000: 1.0})
    page = read(folder / "suite", folder / "suite" / "a-0", folder / "suite")
    assert page.tables["final"][2][:2] == ["a", "1 of 1"]


def test_a_damaged_suite_is_refused(folder: Path) -> None:
    new_suite(folder / "suite", suite_of(Group("a", "a-", (0,), config_of())))
    path = folder / "suite" / "suite.json"
    path.write_text(path.read_text().replace("10000", "20000"))
    with pytest.raises(
        CheckpointError, match=r"suite\.json cannot be used \(another format, or changed since\); exp"
    ):
        write_report([folder / "suite"], folder / "report.html")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("/usr/bin/softac train Pendulum-v1 --run-dir /home/a/runs/x", "softac train Pendulum-v1 --run-dir x"),
        ("/lib/softac/__main__.py resume '/home/a b/x y' --out=/tmp/z", "softac resume 'x y' --out=z"),
        (".venv/bin/softac train -n 5\nsecond line", "softac train -n 5"),
        ("softac 'train", "softac ''\"'\"'train'"),
        ("", ""),
    ],
)
def test_commands_are_shown_without_places_on_the_machine(typed: str, shown: str) -> None:
    assert command_line(typed) == shown


# What is refused


def refused(folders: Sequence[Path], output: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        write_report(folders, output)
    assert not output.exists()
    return str(caught.value)


def test_a_folder_without_runs(folder: Path) -> None:
    assert refused([folder], folder / "x.html") == (
        f"{folder} holds no run; expected a run folder, a folder of run folders or that of a suite; name one that "
        "`softac train` or `softac bench` has printed"
    )
    assert refused([folder / "nowhere"], folder / "x.html").startswith(f"{folder / 'nowhere'} holds no run; ")


def test_runs_that_have_not_been_evaluated(folder: Path) -> None:
    write_run(folder / "0", {})
    assert refused([folder], folder / "x.html") == (
        f"no evaluation was found in {folder} (sac on Pendulum-v1, seed 0: it has not begun); expected at least "
        "one; train for longer or with a smaller --eval-freq"
    )


@pytest.mark.parametrize(
    ("other", "system", "difference"),
    [
        ({}, {"gymnasium": "1.5.0"}, "gymnasium was 1.4.0 and 1.5.0"),
        ({}, {"mujoco": "3.18.0"}, "mujoco was 3.17.0 and 3.18.0"),
        ({"kwargs": {"g": 9.8}}, {}, 'env_kwargs was {} and {"g": 9.8}'),
        ({"episodes": 5}, {}, "n_eval_episodes was 10 and 5"),
    ],
)
def test_runs_that_cannot_be_compared(
    folder: Path, other: dict[str, Any], system: dict[str, str], difference: str
) -> None:
    write_run(folder / "a", {10_000: 1.0})
    write_run(folder / "b", {10_000: 1.0}, config_of("td3", seed=1, **other), system=SYSTEM | system)
    assert refused([folder], folder / "x.html") == (
        f"{folder / 'a'} and {folder / 'b'} cannot be compared on Pendulum-v1: {difference}; expected the same "
        "for all runs of an environment; make a report of each"
    )


def test_other_versions_in_other_environments_are_no_matter(folder: Path) -> None:
    write_run(folder / "a", {10_000: 1.0})
    write_run(folder / "b", {10_000: 1.0}, config_of(env="Hopper-v5"), system=SYSTEM | {"mujoco": "3.18.0"})
    (folder / "a" / "system.json").unlink()
    assert write_report([folder], folder / "x.html") == 2


def test_a_run_and_its_copy(folder: Path) -> None:
    write_run(folder / "a", {10_000: 1.0})
    shutil.copytree(folder / "a", folder / "b")
    assert refused([folder], folder / "x.html") == (
        f"{folder / 'a'} and {folder / 'b'} are both seed 0 of sac on Pendulum-v1; expected each seed once, since "
        "a run and its copy are not two runs; leave one of them out"
    )


def test_a_page_ends_in_html(folder: Path) -> None:
    assert refused([folder], folder / "x.pdf") == (
        f"{folder / 'x.pdf'} was given for a page; expected a name that ends in .html; rename it"
    )


def test_a_page_that_cannot_be_written(folder: Path) -> None:
    write_run(folder / "a", {10_000: 1.0})
    with pytest.raises(DiskError) as caught:
        write_report([folder / "a"], folder / "no" / "x.html")
    assert str(caught.value) == (
        f"{folder / 'no' / 'x.html'} cannot be written (No such file or directory); expected a folder that "
        "exists, with space; choose another"
    )


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(folder / "a", {10_000: 1.0})
    assert main(["report", str(folder / "a"), "-o", str(folder / "x.html")]) == 0
    assert capsys.readouterr().out == f"{folder / 'x.html'}: 1 run\n"
    assert main(["report", str(folder), "-o", str(folder / "x.txt")]) == 2
    assert capsys.readouterr().err.startswith("softac: ")


# The page


def big(folder: Path, seconds: float = 100.0) -> Path:
    """65 runs of 20 evaluations: 5 environments, 5 names."""
    rng = np.random.default_rng(0)
    envs = ["Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Swimmer-v5", "Walker2d-v5"]
    seeds = {"sac": 3, "ppo": 3, "reinforce": 3, "td3": 2, "ddpg": 2}
    for env in envs:
        for algorithm, n in seeds.items():
            for seed in range(n):
                curve = np.cumsum(rng.normal(50, 80, 20))
                returns = {5_000 * (i + 1): float(value) for i, value in enumerate(curve)}
                config = config_of(algorithm, env, seed, total=100_000)
                write_run(folder / f"{env}__{algorithm}__{seed}", returns, config, seconds=seconds)
    return folder


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Path]:
    with memory_folder() as path:
        yield big(path / "runs")


def test_65_runs_are_a_small_page_soon(benchmark: Path) -> None:
    began = time.monotonic()
    page = page_of(benchmark)
    assert time.monotonic() - began < 10
    assert len(page.encode()) < 400_000
    assert "All 65 runs have finished." in page


def test_the_same_runs_give_the_same_bytes_apart_from_times(folder: Path, benchmark: Path) -> None:
    again = big(folder / "elsewhere" / "runs", seconds=321.0)
    assert page_of(benchmark) == page_of(benchmark)
    assert page_of(benchmark) != page_of(again)
    assert untimed(page_of(benchmark)) == untimed(page_of(again))
    assert str(folder) not in page_of(again)


def test_a_reader_of_screens_finds_its_way(benchmark: Path) -> None:
    page = Reader(page_of(benchmark))
    tags = [tag for tag, _ in page.elements]
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert dict(page.elements)["html"] == {"lang": "en"}
    assert tags.count("table") == tags.count("caption") == 4 + 3 * 5
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
    pictures = [a for tag, a in page.elements if tag == "svg" and "aria-hidden" not in a]
    assert len(pictures) == 5
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for picture in pictures:
        assert picture["role"] == "img"
        assert set((picture["aria-labelledby"] or "").split()) <= set(ids)
    assert all(
        (a["href"] or "")[1:] in ids for tag, a in page.elements if tag == "a" and (a["href"] or "")[0] == "#"
    )


def test_the_page_needs_nothing_else(benchmark: Path) -> None:
    page = page_of(benchmark)
    elements = Reader(page).elements
    assert {tag for tag, _ in elements}.isdisjoint(
        {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    )
    assert all(not name.startswith("on") for _, attributes in elements for name in attributes)
    links = [a["href"] or "" for tag, a in elements if tag == "a"]
    assert all(link.startswith(("#", "./runs/")) for link in links)
    assert all((benchmark.parent / link).is_file() for link in links if link[0] != "#")
    assert "url(" not in page.replace("url(#", "")
    assert (
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        in page
    )


def test_published_values_are_where_they_are_comparable(folder: Path) -> None:
    write_seeds(folder / "a", [5000.0, 6000.0], env="HalfCheetah-v5", total=10_000)
    page = read(folder / "a")
    assert page.tables["published"][2][1].endswith("| deterministic evaluation, 10 seeds")
    assert "published for sac" not in page.text
    assert "published:" not in page.text
    far = {100_000: 6000.0, 1_000_000: 11000.0}
    write_run(folder / "b", far, config_of(env="HalfCheetah-v5", total=1_000_000))
    page = read(folder / "b")
    assert (
        "published for sac (SAC as in SimbaV2's baselines, v4): 6,156 at 100,000 steps, 8,593 at 300,000"
        in page.text
    )
    assert page.tables["published"][2][:4] == [
        "sac",
        "SAC as in SimbaV2's baselines, HalfCheetah-v4 | deterministic evaluation, 10 seeds, drawn",
        "6,156 ± 738",
        "8,593 ± 1,016",
    ]
    assert page.tables["published"][3][1].endswith("HalfCheetah-v3 | deterministic evaluation, 10 seeds")
    assert "HalfCheetah-v5: no change of its dynamics or reward is listed since v3." in page.text
    assert "11,321 at 1,000,000 steps." in page.text
    picture = page_of(folder / "b").partition("<svg viewBox='0 0 360")[2].partition("</svg>")[0]
    assert picture.count("class='diamond'") == 4  # 3,000,000 is outside
    for other in (
        config_of(env="HalfCheetah-v2", total=1_000_000),
        config_of(env="Pendulum-v1", total=1_000_000),
        config_of("sac_v", env="HalfCheetah-v5", total=1_000_000),
        config_of(env="HalfCheetah-v5", total=1_000_000, kwargs={"frame_skip": 2}),
    ):
        write_run(folder / "c", far, other)
        assert "published" not in read(folder / "c").tables


def test_published_returns_of_training_episodes_are_not_drawn(folder: Path) -> None:
    write_run(folder / "b", {3_000_000: 600.0}, config_of("reinforce", env="HalfCheetah-v5", total=3_000_000))
    page = read(folder / "b")
    assert page.tables["published"][2][1].endswith("| return of training episodes, actions sampled, 10 seeds")
    assert "diamond" not in page_of(folder / "b").partition("</style>")[2]


def test_each_algorithm_has_one_published_source_that_is_drawn() -> None:
    for env in ("HalfCheetah-v5", "Hopper-v4", "Walker2d-v3", "Ant-v5", "Swimmer-v5", "Humanoid-v5"):
        for algorithm in AGENTS:
            entries = published(env, algorithm)
            drawn = [p for p in entries if p.drawn]
            assert len(drawn) <= 1
            assert all(p.source.metric == "deterministic evaluation" for p in drawn)
            assert all(sorted(p.at) == list(p.at) for p in entries)
    assert published("HalfCheetah-v5", "sac")[0].at[1_000_000] == (11321, 1108)
    assert published("my/HalfCheetah-v5", "sac") == []


def test_what_an_interval_is_worth_is_said_for_the_seeds_at_hand(folder: Path) -> None:
    page = read(write_seeds(folder / "a", [1.0, 2.0, 4.0]))
    assert (
        "With 3 runs, a 95 % t-interval contained the true mean in 95 % of simulated experiments if returns are "
        "normal, in 75 to 84 % if they are skewed or have two modes." in page.text
    )
    page = read(write_seeds(folder / "b", [1.0, 2.0]))
    assert "With 3 runs (the nearest to 2 that was simulated), a 95 % t-interval" in page.text


def test_settings_that_differ_are_rows_of_their_own(folder: Path) -> None:
    write_seeds(folder / "a", [1.0, 2.0], gamma=0.9)
    new_suite(
        folder / "s",
        suite_of(
            Group("sac", "p-", (0, 1), config_of(gamma=0.9)),
            Group("sac", "h-", (0,), config_of(env="Hopper-v5", gamma=0.999)),
        ),
    )
    for run in ("p-0", "p-1", "h-0"):
        write_rows(folder / "s" / run, {10_000: 1.0})
    page = read(folder / "s")
    assert [row[:4] for row in page.tables["settings"][1:]] == [
        ["sac | on Pendulum-v1", "sac", "gamma=0.9", "0-1"],
        ["sac | on Hopper-v5", "sac", "gamma=0.999", "0"],
    ]
    assert read(folder / "a").tables["settings"][1][:4] == ["sac, gamma=0.9", "sac", "gamma=0.9", "0-1"]


# Hostile runs

SCRIPT = "<script>document.title='stolen'</script>"
NASTY = (
    f"{SCRIPT}'\"><img src=x onerror=document.title='stolen'> javascript:alert(1) {{{{7*7}}}} \u202egnp.exe\u202c "
    f"\0 {'A' * 10_000}"
)


def write_hostile(folder: Path, address: str = "http://127.0.0.1:9") -> Path:
    """Runs in which every text that a stranger can choose attacks the page."""
    loaded = (
        f"<link rel=stylesheet href={address}/a><img src={address}/b><svg onload=x><style>@import '{address}/c'"
    )
    nasty = f"{NASTY[:300]}{loaded}"
    config = config_of(env=f"{nasty}-v5", kwargs={nasty: nasty})
    config["hyperparameters"] |= {"target_entropy": nasty}
    config["run"] |= {"engine": nasty, "precision": SCRIPT, "threads": nasty}
    run = write_run(folder / "<script>alert(1)<'\"&%0A #?", {10_000: 1.0}, config)
    (run / "system.json").write_text(json.dumps(SYSTEM | {"cpu": nasty, "platform": nasty, nasty: nasty}))
    (run / "command.txt").write_text(f"softac train {nasty}\n")
    own = config_of(seed=1, env=f"{nasty}-v5", kwargs={nasty: nasty})
    own |= {"algorithm": f"</svg></title></desc>{nasty}", "hyperparameters": {nasty: nasty}}
    run = write_run(folder / "own", {5_000: 1.0}, own)
    (run / "crash").mkdir()
    (run / "crash" / "step-000006000.txt").write_text(f"{nasty}{NASTY}\n")
    run = write_run(folder / os.fsdecode(b"javascript:\xff" + b"x" * 200), {5_000: 1.0}, config_of(seed=2))
    (run / "config.json").write_bytes(sealed_json({"format": "softac-run-1", "algorithm": nasty}))
    return folder


def test_hostile_texts_are_texts(folder: Path) -> None:
    page = page_of(write_hostile(folder / "runs"))
    reader = Reader(page)
    known = (
        "a body caption clippath code dd desc div dl dt figcaption figure footer g h1 h2 h3 head header html li"
    )
    known += " main meta nav ol p path pre rect section small span strong style svg table tbody td text th thead"
    known += " title tr ul"
    assert {tag for tag, _ in reader.elements} <= set(known.split())
    assert all(not name.startswith("on") for _, attributes in reader.elements for name in attributes)
    assert SCRIPT in reader.text
    assert "{{7*7}}" in reader.text
    assert "A" * 500 not in page
    assert not set("\0\u202e\u202c") & set(page)
    assert len(page.encode()) < 100_000
    links = [a["href"] or "" for tag, a in reader.elements if tag == "a"]
    assert all(link.startswith(("#", "./")) for link in links)
    assert "./runs/%3Cscript%3Ealert%281%29%3C%27%22%26%250A%20%23%3F/config.json" in links
    assert any(link.startswith("./runs/javascript%3A%FFxxx") for link in links)
    assert [row[1] for row in reader.tables["missing"]] == ["state", "failed", "unreadable"]


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": 5},
        {"env": "Pendulum-v1"},
        {"env": {"id": 3, "kwargs": {}}},
        {"env": {"id": "x", "kwargs": []}},
        {"hyperparameters": 7},
        {"run": {"seed": "0"}},
        {"run": []},
        {"record": 1},
        {"total_timesteps": -1},
        {"total_timesteps": 10**30},
    ],
)
def test_a_config_of_another_shape_is_named(folder: Path, change: dict[str, Any]) -> None:
    write_run(folder / "0", {10_000: 1.0})
    write_run(folder / "1", {10_000: 1.0}, config_of(seed=1) | change)
    assert read(folder).tables["missing"][1] == [
        "1",
        "unreadable",
        "1/config.json does not describe a run; expected algorithm, env, hyperparameters and run as softac writes "
        "them; restore the file",
    ]


# In a browser


class Counting(BaseHTTPRequestHandler):
    """Counts the requests that it gets."""

    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture(scope="module")
def hostile_page(server: str) -> Iterator[Path]:
    with memory_folder() as path:
        big(write_hostile(path / "runs", server))
        write_report([path / "runs"], path / "report.html")
        yield path / "report.html"


def browse(page: Path, *words: str, width: int = 1280) -> tuple[str, str]:
    """What a headless browser prints for a page: its document, and what it logs."""
    profile = page.parent / "profile"
    done = subprocess.run(
        [
            str(BROWSER),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *(
                "--no-first-run",
                "--disable-extensions",
                "--disable-component-update",
                "--disable-background-networking",
            ),
            f"--user-data-dir={profile}",
            f"--window-size={width},900",
            *("--enable-logging=stderr", "--v=0"),
            *words,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"HOME": str(page.parent)},
    )
    shutil.rmtree(profile, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_draws_it_without_a_word(hostile_page: Path, width: int) -> None:
    picture = hostile_page.with_name(f"{width}.png")
    _, said = browse(hostile_page, f"--screenshot={picture}", width=width)
    assert "CONSOLE" not in said
    assert "Content Security Policy" not in said
    assert Counting.paths == []
    with Image.open(picture) as image:
        assert image.size == (width, 900)
        colours = image.convert("RGB").getcolors(10**6)
    assert colours is not None
    assert len(colours) > 20


@needs_browser
def test_a_browser_shows_hostile_texts_as_texts(hostile_page: Path) -> None:
    document, said = browse(hostile_page, "--dump-dom")
    assert "<title>68 runs</title>" in document
    assert "&lt;script&gt;document.title='stolen'&lt;/script&gt;" in document
    assert "<script" not in document
    assert "CONSOLE" not in said
    assert Counting.paths == []


@needs_browser
@pytest.mark.parametrize("width", [1280, 390, 360])
def test_nothing_but_tables_scrolls_sideways(hostile_page: Path, width: int) -> None:
    # The page itself has no script; a frame measures it, since a browser's own window has a least width.
    page = hostile_page.read_text(encoding="utf-8")
    measure = "<script>document.title=[innerWidth,document.documentElement.scrollWidth].join(' ')</script></body>"
    copy = hostile_page.with_name(f"copy-{width}.html")
    copy.write_text(re.sub("<meta http-equiv[^>]*>", "", page).replace("</body>", measure), encoding="utf-8")
    frame = hostile_page.with_name(f"frame-{width}.html")
    frame.write_text(
        f"<iframe src='{copy.name}' style='width:{width}px;height:800px;border:0'></iframe>"
        "<script>onload=()=>{document.title=frames[0].document.title}</script>"
    )
    document, _ = browse(frame, "--dump-dom", "--allow-file-access-from-files")
    assert re.findall(r"<title>(.*?)</title>", document)[0] == f"{width} {width}"


# Small parts


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 102_000, 4, [0, 50_000, 100_000]),
        (0, 3_060_000, 4, [0, 1_000_000, 2_000_000, 3_000_000]),
        (-130, 20, 5, [-100, -50, 0]),
        (0.1, 0.9, 5, [0.2, 0.4, 0.6, 0.8]),
        (7, 7.5, 5, [7.0, 7.2, 7.4]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, most: int, expected: list[float]) -> None:
    assert round_numbers(low, high, most) == pytest.approx(expected)


def test_labels_move_apart_as_little_as_needed() -> None:
    assert apart([10, 12, 50], 10, 0, 100) == [10, 20, 50]
    assert apart([95, 97, 99], 10, 0, 100) == [80, 90, 100]
    assert apart([-5], 10, 0, 100) == [0]
    assert apart([], 10, 0, 100) == []


def test_numbers_as_people_write_them() -> None:
    assert [number(1234.5), number(-0.04, 1), number(-1234.5, 1), number(2.5e9)] == [
        "1,234",
        "0.0",
        "−1,234.5",
        "2.5e+09",
    ]
    assert [decimals([x]) for x in (5000, 1000, 999, 10, 5, 0.5, 0)] == [0, 0, 1, 1, 2, 3, 3]
    assert decimals([]) == 3
    assert [listed(x) for x in ([], ["a"], ["a", "b"], ["a", "b, c", "d"])] == [
        "",
        "a",
        "a and b",
        "a; b, c and d",
    ]
