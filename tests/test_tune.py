"""A search: what is proposed, what it is worth, and the same trials whatever is killed."""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from folders import memory_folder
from softac.errors import CheckpointError, ConfigError, DiskError, NumericalError, SoftacError
from softac.experiments.standing import Standing
from softac.experiments.suite import Suite
from softac.experiments.tuning.advance import advance
from softac.experiments.tuning.journal import Journal, importances, proposal
from softac.experiments.tuning.search import Search, read_search, require_same_search, write_search
from softac.experiments.tuning.space import parse_space
from softac.experiments.tuning.trials import Trial, best, run_value
from softac.experiments.tuning.winner import (
    Confirmed,
    against_the_first,
    confirm,
    read_trials,
    write_best,
    write_trials,
)
from softac.model import Model
from softac.run.config import RecordConfig
from softac.run.metrics import METRICS

SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"},
    "gamma": {"low": 0.9, "high": 0.999, "scale": "log of 1 - x"},
    "batch_size": {"low": 16, "high": 64, "scale": "powers of 2"},
}
LARGE = 5e-4
SMALL = {"net_arch": [2]}
# Learning rate, discount and batch of the ten proposals that follow the preset and the defaults.
PINNED = [
    (0.001339, 0.998581, 64),
    (0.0009085, 0.933, 16),
    (0.0008818, 0.998311, 16),
    (0.0007131, 0.993988, 16),
    (0.001142, 0.995059, 32),
    (0.0001252, 0.93871, 64),
    (0.008157, 0.98491, 64),
    (0.0005319, 0.95805, 16),
    (0.005933, 0.98983, 32),
    (0.0001235, 0.992513, 64),
]


def search_of(**changes: Any) -> Search:
    usual = Search(
        algorithm="sac",
        env="Pendulum-v1",
        env_kwargs={},
        first={"preset": SMALL | {"gamma": 0.98}, "defaults": SMALL},
        space=parse_space("sac", SPACE, "here"),
        total=80,
        record=RecordConfig(10, 1, 40),
        seeds=(0, 1),
        fresh=(2, 3),
        trials=12,
        parallel=4,
        prune=False,
        seed=0,
        command="softac tune sac Pendulum-v1",
    )
    return replace(usual, **changes)


def height(config: dict[str, Any]) -> float:
    """A smooth hill over the space, highest at a rate of 0.001 and a discount of 0.95."""
    settings = config["hyperparameters"]
    rate, reach = math.log10(settings["learning_rate"]), math.log10(1 - settings["gamma"])
    return -((rate + 3) ** 2) - (reach - math.log10(0.05)) ** 2 - abs(math.log2(settings["batch_size"]) - 5) / 5


class Killed(BaseException):
    """The process is gone."""


class Runner:
    """In the place of runs: it writes the metrics that they would, worth more the higher the hill.

    Args:
        fails: says of a configuration why its run fails, if it does.
        event: called "before" and "after" each run.
    """

    def __init__(
        self,
        fails: Callable[[dict[str, Any]], tuple[str, int]] = lambda _: ("", 0),
        event: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.fails, self.event, self.ran = fails, event, list[str]()

    def __call__(self, suite: Suite, models: Sequence[Model], folder: Path) -> Sequence[Standing]:
        for model in models:
            model.close()
        return [self._run(suite, member, folder / member.folder) for member in suite.members]

    def _run(self, suite: Suite, member: Any, folder: Path) -> Standing:
        standing, config = Standing(member.folder, folder, member.group.title), suite.config_of(member)
        said, code = self.fails(config)
        if said:
            standing.state, standing.said, standing.code = "failed", said, code
            return standing
        rows = list(range(10, suite.total + 1, 10))
        made = folder / METRICS
        if not made.is_file() or len(made.read_text().splitlines()) < len(rows):
            self.event("before")
            self.ran.append(f"{folder.parent.name}/{folder.name} {suite.total}")
            folder.mkdir(parents=True, exist_ok=True)
            worth = height(config) + 0.01 * member.seed
            text = [json.dumps({"step": step, "eval/mean_reward": worth * 100 / step}) for step in rows]
            made.write_text("\n".join(text) + "\n")
            self.event("after")
        standing.state = "done"
        return standing


def searched(folder: Path, search: Search, runner: Runner | None = None) -> list[Trial]:
    folder.mkdir(exist_ok=True)
    journal = Journal(folder, search)
    assert advance(search, folder, journal, runner or Runner(), lambda _: None, trusted=False)
    return journal.trials()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


@pytest.fixture(scope="module")
def whole(folder: Path) -> list[Trial]:
    """The trials of a search that was never interrupted."""
    return searched(folder / "whole", search_of())


def test_the_first_are_the_preset_and_the_defaults(whole: list[Trial]) -> None:
    assert [(t.number, t.name, t.settings) for t in whole[:2]] == [
        (0, "preset", {"net_arch": [2], "gamma": 0.98}),
        (1, "defaults", {"net_arch": [2]}),
    ]
    assert all(trial.settings["net_arch"] == [2] and not trial.name for trial in whole[2:])
    assert all(trial.settings.keys() == {"net_arch", *SPACE} for trial in whole[2:])
    assert [trial.state for trial in whole] == ["done"] * 12


def test_proposals_are_pinned(whole: list[Trial]) -> None:
    """Absolute numbers: two equal searches can share one error."""
    found = [(t.settings["learning_rate"], t.settings["gamma"], t.settings["batch_size"]) for t in whole[2:]]
    assert found == PINNED


def test_the_value_is_the_mean_over_seeds_of_the_last_quarter(whole: list[Trial], folder: Path) -> None:
    hill = height({"hyperparameters": {"learning_rate": 3e-4, "gamma": 0.99, "batch_size": 256}})
    expected = sum((hill + 0.01 * seed) * 100 / step for seed in (0, 1) for step in (70, 80)) / 4
    assert whole[1].value == pytest.approx(expected, rel=1e-12)
    run = folder / "whole/trials-000-003/trial-001-seed-1"
    assert run_value(run, 80) == pytest.approx((hill + 0.01) * 100 * (1 / 70 + 1 / 80) / 2)
    assert run_value(run, 40) == pytest.approx((hill + 0.01) * 100 / 40)


@pytest.mark.parametrize("rows", [[], [(10, 1.0)], [(10, 1.0), (80, float("nan"))], [(70, None), (80, 2.0)]])
def test_a_run_without_its_last_evaluations_has_no_value(rows: list[Any], tmp_path: Path) -> None:
    rows += [(step, 1.0) for step in range(20, 70, 10)] if rows and rows[0][0] == 70 else []
    text = [json.dumps({"step": step, "eval/mean_reward": value}) for step, value in sorted(rows)]
    (tmp_path / METRICS).write_text("\n".join(text) + "\n")
    assert run_value(tmp_path, 80) is None


def test_a_search_climbs(folder: Path) -> None:
    search = search_of(trials=40, seeds=(0,))
    values = [trial.value or 0.0 for trial in searched(folder / "climbs", search)]
    assert max(values[20:]) > max(values[2:8])
    assert sorted(values[30:])[5] > sorted(values[2:12])[5]  # also most of them, not by luck one


def test_a_search_that_is_killed_at_every_line_and_run_has_the_same_trials(
    whole: list[Trial], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, search, append = folder / "killed", search_of(), JournalFileBackend.append_logs
    path.mkdir()
    kinds = (
        "before",
        "torn",
        "locked",
        "after",
    )  # each process dies at the first event that comes, in one of these ways
    kind = kinds[0]

    def event(moment: str) -> None:
        if (kind == "after") == (moment == "after"):
            raise Killed

    def appended(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        if kind == "torn":
            with Path(self._file_path).open("ab") as file:
                file.write(json.dumps(logs[0]).encode()[:-5])
        elif kind == "locked":
            self._lock.acquire()
        elif kind == "after":
            append(self, logs)
        raise Killed

    monkeypatch.setattr(JournalFileBackend, "append_logs", appended)
    runner, found, processes = Runner(event=event), None, 0
    while found is None and processes < 300:
        kind, processes = kinds[processes % 4], processes + 1
        with suppress(Killed):
            found = searched(path, search, runner)
    assert processes > 4 * (2 + 12 + 24 + 12)  # the study and its mark, proposals, runs, ends
    assert found == whole
    assert len(runner.ran) == len(set(runner.ran)) == 24  # no run twice
    assert (path / "study.jsonl").read_bytes().count(b"\n") == 2 + 12 + 12


def test_the_journal_is_made_again_from_the_run_folders(whole: list[Trial], folder: Path) -> None:
    (folder / "whole/study.jsonl").rename(folder / "away")
    runner = Runner()
    assert searched(folder / "whole", search_of(), runner) == whole
    assert runner.ran == []
    (folder / "away").replace(folder / "whole/study.jsonl")


def test_more_trials_are_those_of_a_longer_search(whole: list[Trial], folder: Path) -> None:
    short = searched(folder / "short", search_of(trials=6))
    assert short == whole[:6]
    assert searched(folder / "short", search_of()) == whole


def test_another_seed_proposes_others(whole: list[Trial]) -> None:
    other = [proposal(search_of(seed=1), whole, number) for number in range(2, 12)]
    assert not any(trial.settings == found.settings for trial, found in zip(whole[2:], other, strict=True))


def test_a_proposal_does_not_know_how_those_beside_it_do(whole: list[Trial]) -> None:
    changed = [replace(trial, value=-1e6) if trial.number in (8, 9) else trial for trial in whole]
    assert proposal(search_of(), changed, 10) == replace(whole[10], state="running", value=None)
    assert proposal(search_of(), [replace(whole[5], value=1e6) if t.number == 5 else t for t in whole], 10) != (
        replace(whole[10], state="running", value=None)
    )


def test_nothing_is_proposed_twice_while_there_is_something_else(folder: Path) -> None:
    space = {"batch_size": {"choices": [16, 32, 64]}, "n_steps": {"choices": [1, 3]}}
    search = search_of(space=parse_space("sac", space, "here"), first={"defaults": SMALL}, trials=6, parallel=6)
    settings = [trial.settings for trial in searched(folder / "few", search)]
    assert all(settings.count(one) == 1 for one in settings)
    again = searched(folder / "few", replace(search, trials=8))  # there are six in all, and the defaults
    assert len(again) == 8


def test_other_tools_read_the_journal(whole: list[Trial], folder: Path) -> None:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "whole/study.jsonl")))
    study = optuna.load_study(study_name="sac on Pendulum-v1", storage=storage)
    assert study.best_trial.number == best(whole, 1)[0].number
    assert study.best_trial.params["1 - gamma"] == pytest.approx(
        1 - whole[study.best_trial.number].settings["gamma"]
    )
    assert study.trials[5].user_attrs == {"settings": whole[5].settings, "folder": "trials-004-007"}


# Failures


def test_a_trial_that_fails_is_worse_than_all_others(folder: Path) -> None:
    def fails(config: dict[str, Any]) -> tuple[str, int]:
        large = config["hyperparameters"]["learning_rate"] > LARGE
        return ("softac: a loss is no longer finite", 6) if large and config["run"]["seed"] == 1 else ("", 0)

    trials = searched(folder / "fails", search_of(trials=48), Runner(fails))
    failed = [trial for trial in trials if trial.state == "failed"]
    assert failed
    assert all(t.settings["learning_rate"] > LARGE and t.value is None for t in failed)
    assert {trial.reason for trial in failed} == {"seed 1: a loss is no longer finite"}
    assert len(failed) < 24  # of 48; where they were not seen at all it was 38


def test_trials_that_all_fail_end_the_search_with_the_first_reason(folder: Path) -> None:
    path, search = folder / "none", search_of()
    with pytest.raises(NumericalError) as caught:
        searched(path, search, Runner(lambda config: (f"softac: {config['run']['seed']} is lost", 6)))
    assert str(caught.value) == (
        "sac on Pendulum-v1: all 4 trials failed, trial 0 with seed 0: 0 is lost; expected one at least that "
        f"makes its 80 steps; see what its runs have printed ({path}/trials-000-003/*/output.txt), mend it, and "
        "give the command again"
    )
    assert [trial.state for trial in Journal(path, search).trials()] == ["running"] * 4  # they are tried again
    assert [trial.state for trial in searched(path, search)] == ["done"] * 12


def test_settings_that_cannot_be_are_trials_that_fail(folder: Path) -> None:
    space = {"batch_size": {"choices": [16, 4096]}, "buffer_size": {"choices": [1000, 10_000]}}
    search = search_of(space=parse_space("sac", space, "here"), first={"defaults": SMALL}, trials=5, seeds=(0,))
    failed = [trial for trial in searched(folder / "cannot", search) if trial.state == "failed"]
    assert [trial.settings["batch_size"] for trial in failed] == [4096]
    assert failed[0].reason.startswith(
        "batch_size=4096 was given with buffer_size=1000; expected a batch no larger"
    )


def test_a_full_disk_is_not_the_fault_of_the_settings(folder: Path) -> None:
    runner = Runner(lambda config: ("softac: no space is left", 5) if config["run"]["seed"] else ("", 0))
    with pytest.raises(
        DiskError, match=r"could not be written \(seed 1: no space is left\); expected a disk that tak"
    ):
        searched(folder / "full", search_of(), runner)
    assert [trial.state for trial in Journal(folder / "full", search_of()).trials()] == ["running"] * 4


# Pruning


def test_the_worse_ones_stop_at_half_time_and_never_before(folder: Path) -> None:
    search, runner = search_of(prune=True, trials=24), Runner()
    trials = searched(folder / "prunes", search, runner)
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert search.half == 40
    assert pruned
    assert min(trial.number for trial in pruned) >= 8  # five values are needed to compare with
    whole = {run.split()[0] for run in runner.ran if run.endswith(" 80")}
    for trial in trials:
        ran = [
            f"trials-{trial.number // 4 * 4:03d}-{trial.number // 4 * 4 + 3:03d}/trial-{trial.number:03d}-seed-0"
        ]
        assert (ran[0] in whole) == (trial.state == "done")
        earlier = sorted(
            sum(
                run_value(folder / "prunes" / search.folder(t.number) / f"trial-{t.number:03d}-seed-{seed}", 40)
                or 0
                for seed in (0, 1)
            )
            / 2
            for t in trials[: trial.number // 4 * 4]
        )
        if trial.state == "pruned":
            middle = (earlier[len(earlier) // 2] + earlier[(len(earlier) - 1) // 2]) / 2
            assert trial.value is not None
            assert trial.value < middle
    assert searched(folder / "prunes", search, Runner()) == trials


def test_half_time_is_an_evaluation() -> None:
    assert search_of(total=50_000, record=RecordConfig(5_000)).half == 25_000
    assert search_of(total=50_000, record=RecordConfig(3_125)).half == 25_000
    assert search_of(total=50_000, record=RecordConfig(7_000)).half == 28_000


# The journal


def test_half_a_line_is_taken_away_and_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "torn"
    searched(path, search_of(trials=2))
    text = (path / "study.jsonl").read_bytes()
    (path / "study.jsonl").write_bytes(text + b'{"op_code": 4, "stu')
    with caplog.at_level(logging.WARNING, "softac"):
        Journal(path, search_of(trials=2))
    assert f"{path}/study.jsonl ended in half a line, which was taken away" in caplog.text
    assert (path / "study.jsonl").read_bytes() == text


def test_a_journal_too_large_for_any_search_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "study.jsonl").touch()
    os.truncate(tmp_path / "study.jsonl", 2**30 + 1)
    with pytest.raises(CheckpointError) as refused:
        Journal(tmp_path, search_of(trials=2))
    assert str(refused.value) == (
        f"{tmp_path}/study.jsonl has 1073741825 bytes; expected at most 1073741824 bytes; move it away: it is "
        "made again from the run folders, which the same command then goes on with"
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace('"op_code":4', '"op_code":"?"'),
        lambda text: "no journal\n" + text,
        lambda text: "[]\n" + text,
        lambda text: text.replace('"settings"', '"other"'),
        lambda text: text.replace("FloatDistribution", "__import__"),
    ],
)
def test_a_damaged_journal(spoil: Callable[[str], str], folder: Path) -> None:
    path = folder / "damaged"
    if not path.exists():
        searched(path, search_of(trials=3))
        (path / "study.jsonl").rename(path / "sound")
    text = spoil((path / "sound").read_text())
    assert text != (path / "sound").read_text()
    (path / "study.jsonl").write_text(text)
    with pytest.raises(
        CheckpointError, match=r"study\.jsonl is damaged \(.*\); expected the journal that softac tune"
    ):
        Journal(path, search_of(trials=3)).trials()


@pytest.mark.parametrize("other", [{"seed": 1}, {"env": "MountainCarContinuous-v0"}])
def test_the_journal_of_another_search(other: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    searched(tmp_path, search_of(trials=2, **other))
    with pytest.raises(
        ConfigError, match=r"study\.jsonl is the journal of another search \(sac on .*\); expected that"
    ):
        Journal(tmp_path, search_of(trials=2))


def test_a_journal_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "study.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"study\.jsonl is a link"):
        Journal(tmp_path, search_of())


# tune.json


def test_a_search_comes_back(tmp_path: Path) -> None:
    search = search_of(env_kwargs={"g": 9.0}, prune=True)
    write_search(tmp_path, search)
    assert read_search(tmp_path) == search


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"trials": 12', '"trials": 13'),
        ('"softac-tune-1"', '"softac-tune-2"'),
        ('"sac"', '"sca"'),
        ('"low": 0.9', '"low": 9'),
        ('"seeds"', '"sedes"'),
        ("{", "["),
    ],
)
def test_a_search_that_cannot_be_read(old: str, new: str, tmp_path: Path) -> None:
    write_search(tmp_path, search_of())
    text = (tmp_path / "tune.json").read_text()
    (tmp_path / "tune.json").write_text(text.replace(old, new, 1))
    with pytest.raises(SoftacError) as caught:
        read_search(tmp_path)
    assert isinstance(caught.value, CheckpointError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"seed": 3},
            "holds another search (seed was 0 and is 3); expected the same, or one with more trials; choose",
        ),
        ({"total": 90}, "(total was 80 and is 90)"),
        ({"first": {"defaults": {}}}, "(preset was "),
        ({"record": RecordConfig(20)}, "(eval_freq was 10 and is 20)"),
        ({"trials": 11}, "(it has 12 trials and is to have 11)"),
    ],
)
def test_another_search_in_the_same_folder(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        require_same_search(search_of(), search_of(**change), tmp_path)
    assert message in str(caught.value)
    require_same_search(search_of(), search_of(trials=99, command="another"), tmp_path)


# The end


def test_the_best_run_again_and_the_first_beside_them(whole: list[Trial], folder: Path) -> None:
    search, runner = search_of(), Runner()
    again = confirm(search, folder / "whole", whole, runner, trusted=False)
    assert again is not None
    expected = {trial.number for trial in best(whole, 3)} | {0}
    assert {one.trial.number for one in again} == expected
    assert len(runner.ran) == 2 * len(expected)
    assert all(run.startswith("confirm/trial-") and run.endswith(("seed-2 80", "seed-3 80")) for run in runner.ran)
    assert [one.mean for one in again] == sorted((one.mean for one in again), reverse=True)
    hill = again[0].trial.value or 0.0
    assert again[0].mean == pytest.approx(hill + 0.02 * 100 * (1 / 70 + 1 / 80) / 2)  # two seeds further up


def test_what_fails_with_fresh_seeds_cannot_win(whole: list[Trial], tmp_path: Path) -> None:
    top = best(whole, 1)[0]

    def fails(config: dict[str, Any]) -> tuple[str, int]:
        is_top = config["hyperparameters"]["learning_rate"] == top.settings["learning_rate"]
        return ("softac: lost", 6) if is_top and config["run"]["seed"] == 3 else ("", 0)

    again = confirm(search_of(), tmp_path, whole, Runner(fails), trusted=False)
    assert again is not None
    assert again[-1].trial == top
    assert again[-1].reason == "seed 3: lost"
    with pytest.raises(ConfigError, match="the best trials of sac on Pendulum-v1 failed with fresh seeds, trial "):
        confirm(search_of(), tmp_path, whole, Runner(lambda _: ("softac: lost", 6)), trusted=False)


def test_words_by_hand(tmp_path: Path) -> None:
    first = Confirmed(Trial(0, {}, "preset", "done", 1.0), {2: 0.0, 3: 2.0, 4: 4.0})
    winner = Confirmed(Trial(7, {"gamma": 0.97, "net_arch": [8, 8]}, "", "done", 9.0), {2: 2.0, 3: 3.0, 4: 7.0})
    # mean 4, s = sqrt(7), t = 4.3027: 4.3027 sqrt(7 / 3) = 6.5725
    assert winner.in_words() == "4.0 (95 % interval −2.6 to 10.6)"
    # differences 2, 1, 3: mean 2, s = 1, 4.3027 / sqrt(3) = 2.4841
    assert against_the_first([winner, first]) == "+2.0 against the preset (95 % interval −0.5 to 4.5)"
    assert against_the_first([first, winner]) == ""
    file = write_best(search_of(fresh=(2, 3, 4)), tmp_path, winner)
    assert file.read_text() == (
        "# Found by: softac tune sac Pendulum-v1\n"
        "[[sac]]\n"
        'environments = ["Pendulum-v1"]\n'
        'source = "trial 7 of 12, 80 steps each: 4.0 (95 % interval −2.6 to 10.6) on the fresh seeds 2-4"\n'
        "gamma = 0.97\n"
        "net_arch = [8, 8]\n"
    )


def test_the_winner_is_a_preset(whole: list[Trial], tmp_path: Path) -> None:
    from softac.agents.presets import find_preset

    winner = Confirmed(best(whole, 1)[0], {2: 1.0})
    file = write_best(search_of(command="x\n[[sac]]"), tmp_path, winner)
    assert find_preset("sac", "Pendulum-v1", str(file)) == winner.trial.settings


def test_trials_are_plain_data(whole: list[Trial], tmp_path: Path) -> None:
    failed = replace(whole[3], state="failed", value=None, reason="lost")
    write_trials(search_of(), tmp_path, [*whole[:3], failed], {"gamma": 0.75, "learning_rate": 0.25})
    assert read_trials(tmp_path) == ([*whole[:3], failed], {"gamma": 0.75, "learning_rate": 0.25})
    text = (tmp_path / "trials.json").read_text()
    (tmp_path / "trials.json").write_text(text.replace('"done"', '"gone"', 1))
    with pytest.raises(CheckpointError, match=r"trials\.json cannot be used"):
        read_trials(tmp_path)


def test_importances_find_what_matters(folder: Path) -> None:
    space = SPACE | {"tau": {"low": 0.001, "high": 0.1, "scale": "log"}}  # the hill is flat along tau
    search = search_of(space=parse_space("sac", space, "here"), trials=32, seeds=(0,), parallel=32)
    trials = searched(folder / "matters", search)
    found = importances(search, trials)
    assert found.keys() == space.keys()
    assert sum(found.values()) == pytest.approx(1.0)
    assert list(found) == sorted(found, key=lambda name: -found[name])
    assert found["tau"] == min(found.values())
    assert importances(search, trials[:9]) == {}
