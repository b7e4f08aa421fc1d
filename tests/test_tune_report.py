"""A search on the page of a report, and its folder in the commands that take folders of runs."""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from folders import memory_folder
from softac.errors import CheckpointError
from softac.experiments.standing import Standing
from softac.experiments.suite import Suite, write_suite
from softac.experiments.tuning.journal import importances
from softac.experiments.tuning.search import Search, write_search
from softac.experiments.tuning.space import parse_space
from softac.experiments.tuning.trials import Trial, best
from softac.experiments.tuning.winner import confirm, write_trials
from softac.model import Model
from softac.report import write_report
from softac.report.results import folders_of_runs, read_runs
from softac.report.search import _share, searches
from test_report import BROWSER, browse, needs_browser, read
from test_tune import SPACE, Runner, search_of, searched

WITH_CHOICES = SPACE | {"net_arch": {"choices": [[2], [3]]}, "n_steps": {"low": 1, "high": 5}}


class Writer(Runner):
    """Its runs are described, too, as those of a suite are."""

    def __call__(self, suite: Suite, models: Sequence[Model], folder: Path) -> Sequence[Standing]:
        folder.mkdir(exist_ok=True)
        write_suite(folder, suite)
        return super().__call__(suite, models, folder)


def made(path: Path, **changes: Any) -> tuple[Search, list[Trial]]:
    """A search that is finished, with its best trials on fresh seeds."""
    search, writer = search_of(**changes), Writer(lambda c: ("softac: <b>lost</b>", 6) if _fails(c) else ("", 0))
    trials = searched(path, search, writer)
    write_search(path, search)
    write_trials(search, path, trials, importances(search, trials))
    assert confirm(search, path, trials, writer, trusted=False)
    return search, trials


def _fails(config: dict[str, Any]) -> bool:
    return bool(config["hyperparameters"]["learning_rate"] > 5e-3)


@pytest.fixture(scope="module")
def search() -> Iterator[tuple[Path, Search, list[Trial]]]:
    with memory_folder() as folder:
        space = parse_space("sac", WITH_CHOICES, "here")
        yield folder / "search", *made(folder / "search", trials=24, seeds=(0,), space=space, fresh=(2, 3, 4))


def test_the_curves_are_those_of_the_best_with_fresh_seeds(search: tuple[Path, Search, list[Trial]]) -> None:
    path, _, trials = search
    results = read_runs([path]).results
    assert {result.name for result in results} == {t.title for t in [*best(trials, 3), trials[0]]}
    assert {result.seed for result in results} == {2, 3, 4}


def test_while_there_are_none_they_are_those_of_all_trials(
    search: tuple[Path, Search, list[Trial]], tmp_path: Path
) -> None:
    shutil.copytree(search[0], tmp_path / "search", ignore=shutil.ignore_patterns("confirm"))
    results = read_runs([tmp_path / "search"]).results
    assert len(results) == 24
    assert {result.seed for result in results} == {0}


def test_watch_and_track_find_every_run(search: tuple[Path, Search, list[Trial]]) -> None:
    found = folders_of_runs([search[0]])
    assert len(found) == 24 + 4 * 3
    assert "trials-000-003/trial-000-seed-0" in found
    assert sum(name.startswith("confirm/") for name in found) == 12


def test_the_page_has_the_trials_and_what_mattered(search: tuple[Path, Search, list[Trial]]) -> None:
    path, asked, trials = search
    assert read_runs([path]).title == "sac on Pendulum-v1, the best of 24 trials with fresh seeds"
    page = read(path)
    failed = sum(trial.state == "failed" for trial in trials)
    assert failed
    text = " ".join(page.text.split())
    assert "The search: sac on Pendulum-v1" in text
    assert f"24 trials of 80 steps, seeds 0: {24 - failed} done and {failed} failed." in text
    top = best(trials, 1)[0]
    assert f"{top.title} is the best" in text
    [section] = searches([path])
    assert section["names"] == list(asked.space)
    assert section["rows"][0]["settings"][0] == str(top.settings["learning_rate"])
    assert [row["name"] for row in section["rows"]][-2:] == ["trial 0 (preset)", "trial 1 (defaults)"]
    assert len(section["coordinates"].split("<path class='line")) == 1 + 3 + 2
    assert section["coordinates"].count("class='run sx'") == 24 - failed - 5
    shares = [int(share) for share in re.findall(r">(\d+)%<", section["importances"])]
    assert len(shares) == 5
    assert 98 <= sum(shares) <= 102
    assert "seed 0: <b>lost</b>" in text  # as text: this is what a browser shows


def test_places_on_the_axes_by_hand() -> None:
    space = parse_space("sac", WITH_CHOICES, "here")
    assert _share(space["learning_rate"], 1e-3) == pytest.approx(0.5)
    assert _share(space["gamma"], 0.99) == pytest.approx(0.5)  # 0.1, 0.01, 0.001
    assert _share(space["gamma"], 0.999) == pytest.approx(1.0)
    assert _share(space["batch_size"], 32) == 0.5
    assert _share(space["n_steps"], 2) == 0.25
    assert [_share(space["net_arch"], value) for value in ([2], [3])] == [0.0, 1.0]


def test_a_value_outside_of_the_space_breaks_its_line(search: tuple[Path, Search, list[Trial]]) -> None:
    """The defaults have a batch of 256 and networks of two, where the search has less."""
    [section] = searches([search[0]])
    dashed = re.findall(r"<path class='line sx' d='([^']*)' stroke-dasharray='5 3'/>", section["coordinates"])
    assert len(dashed) == 2
    assert all(path.count("M") == 2 for path in dashed)


def test_a_search_that_has_just_begun_has_no_section(tmp_path: Path) -> None:
    write_search(tmp_path, search_of())
    assert searches([tmp_path]) == []


def test_what_a_strangers_search_says_is_text(search: tuple[Path, Search, list[Trial]], tmp_path: Path) -> None:
    shutil.copytree(search[0], tmp_path / "search")
    path, asked, trials = tmp_path / "search", search[1], search[2]
    hostile = "<script>alert(1)</script>\x1b[31m"
    changed = [replace(t, name=hostile, settings=dict(t.settings) | {"tau": hostile}) for t in trials]
    changed[3] = replace(changed[3], state="failed", value=None, reason=hostile)
    write_trials(asked, path, changed, {"gamma": 1.0, hostile: 0.5})
    write_report([path], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "\x1b" not in page


@pytest.mark.parametrize(
    ("old", "new"),
    [('"value": -', '"value": "-'), ('"state": "done"', '"state": "won"'), ('"importances"', '"shares"')],
)
def test_damaged_trials_are_refused(
    old: str, new: str, search: tuple[Path, Search, list[Trial]], tmp_path: Path
) -> None:
    shutil.copytree(search[0], tmp_path / "search")
    file = tmp_path / "search/trials.json"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(CheckpointError, match=r"trials\.json"):
        searches([tmp_path / "search"])


@needs_browser
def test_a_browser_draws_it(search: tuple[Path, Search, list[Trial]], tmp_path: Path) -> None:
    write_report([search[0]], tmp_path / "page.html")
    _, said = browse(tmp_path / "page.html", f"--screenshot={tmp_path / 'page.png'}")
    assert BROWSER is not None
    assert "CONSOLE" not in said
    assert (tmp_path / "page.png").stat().st_size > 10_000
