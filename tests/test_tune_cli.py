"""`softac tune` as a command: its flags, its mistakes, and one small search from end to end, killed on its way."""

import json
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from folders import memory_folder
from softac.cli.main import main
from softac.experiments.places import HERE
from softac.experiments.tuning.journal import JOURNAL
from softac.experiments.tuning.search import read_search, write_search
from test_seeds import command, ended, printed
from test_tune import search_of

SPACE = "learning_rate = { low = 1e-4, high = 1e-2, scale = 'log' }\nbatch_size = { choices = [16, 32] }\n"
WORDS = ["tune", "sac", "Pendulum-v1", "-n", "60"]
SMALL = ["--net-arch", "4", "4", "--learning-starts", "20", "--n-eval-episodes", "1", "--eval-freq", "20"]
SMALL += ["--save-freq", "20", "--trials", "2", "--parallel", "2", "--fresh-seeds", "5"]


def space_in(folder: Path, text: str = SPACE) -> str:
    path = folder / "space.toml"
    path.write_text(text)
    return str(path)


def refusal(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    code = main(list(words))
    captured = capsys.readouterr()
    assert code in (2, 3), captured
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    return captured.err


def test_from_end_to_end_with_a_kill() -> None:
    with memory_folder() as folder:
        path, words = (
            folder / "search",
            [*WORDS, "--space", space_in(folder), *SMALL, "--run-dir", folder / "search", "--env-kwargs", "g=9.5"],
        )
        process = command(*words)
        journal = path / JOURNAL
        while not (journal.is_file() and len(list(path.glob("trials-000-001/*/metrics.jsonl"))) > 0):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        process.kill()
        ended(process)
        code, stdout, stderr = printed("resume", path)
        assert (code, stderr) == (0, "")
        lines = stdout.splitlines()
        told = [line.split(" | ")[0] for line in lines if re.match(r"trial \d( \(\w+\))? \| ", line)]
        assert told == ["trial 0 (defaults)", "trial 1"]
        assert "trials   2 done; the best with the seeds of the search, 0:" in lines
        assert "fresh    with the seeds 5, which no trial has seen:" in lines
        assert f"train    softac train sac Pendulum-v1 --preset {path}/best.toml --env-kwargs g=9.5" in lines
        assert lines[-1] == "go on    the same command with more --trials than 2"
        assert sorted(p.name for p in path.iterdir()) == [
            "best.toml",
            "confirm",
            JOURNAL,
            "trials-000-001",
            "trials.json",
            "tune.json",
        ]
        config = json.loads((path / "trials-000-001/trial-000-seed-0/config.json").read_text())
        assert config["hyperparameters"]["net_arch"] == [4, 4]
        assert config["record"] == {"eval_freq": 20, "n_eval_episodes": 1, "save_freq": 20}
        # The same command has nothing left to do but to say it again.
        end = lines[lines.index("trials   2 done; the best with the seeds of the search, 0:") :]
        assert printed(*words)[1].splitlines() == end
        code, stdout, stderr = printed(
            "train",
            "sac",
            "Pendulum-v1",
            "--preset",
            path / "best.toml",
            "-n",
            1,
            "--run-dir",
            folder / "again",
            "--n-eval-episodes",
            0,
        )
        assert (code, "net_arch=4 4" in stdout) == (0, True)


def test_a_stop_is_told_with_the_way_on(tmp_path: Path) -> None:
    path = tmp_path / "search"
    words = [*WORDS, "--space", space_in(tmp_path), *SMALL, "-n", 100_000, "--run-dir", path]
    process = command(*words)
    while not list(path.glob("trials-000-001/*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 143, stderr
    assert stdout.splitlines()[-1] == f"stopped and saved; go on with: softac resume {path}"


def test_what_is_asked_for_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr("softac.cli.tune.run_search", lambda *given: found.append(given) or 0)
    monkeypatch.chdir(tmp_path)
    assert main(["tune", "sac", "Hopper-v5", "-n", "5e4", "--seeds", "3-4", "--gradient-steps", "2"]) == 0
    [(search, path, env, where)] = found
    assert (path, env, where) == (Path("runs/tune-sac-Hopper-v5"), None, HERE)
    assert search.first == {
        "preset": {"learning_starts": 10_000, "gradient_steps": 2},
        "defaults": {"gradient_steps": 2},
    }
    assert (search.total, search.trials, search.parallel, search.prune, search.seed) == (50_000, 30, 8, False, 0)
    assert (search.seeds, search.fresh) == ((3, 4), (5, 6, 7, 8, 9))
    assert (search.record.eval_freq, search.record.n_eval_episodes, search.record.save_freq) == (3_125, 10, 10_000)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["tune", "sac"],
            "softac tune sac was given without an environment; expected one; write for instance softac t",
        ),
        (["tune", "sca", "Pendulum-v1"], "unknown algorithm 'sca'; did you mean 'sac'"),
        (
            ["tune", "sac", "Pendulum-v1"],
            "the steps of a run were not given; expected a budget in which good settings",
        ),
        (
            [*WORDS, "--trials", "0"],
            "--trials 0 was given; expected a whole number from 1 to 10,000; give 30, say",
        ),
        (
            [*WORDS, "--trials", "9" * 5_000],
            "99 was given; expected a whole number from 1 to 10,000; give 30, say",
        ),
        (
            [*WORDS, "--seeds", "0,4294967295"],
            "--seeds 0,4294967295 was given without --fresh-seeds; expected room for 5 larger ones, up to "
            "4294967295, with which the best are run again; give --fresh-seeds, or smaller seeds",
        ),
        (
            [*WORDS, "--env-kwargs", f"g={'[' * 60}{']' * 60}"],
            "expected plain data, at most 50 lists in one another",
        ),
        (
            [*WORDS, "--env-kwargs", f"g={'[' * 100_000}"],
            f"--env-kwargs g={'[' * 40}... was given; expected plain data, at most 50 lists in one another",
        ),
        ([*WORDS, "--parallel", "x"], "--parallel x was given; expected a whole number from 1 to 10,000"),
        (
            [*WORDS, "--gamma", "0.9"],
            "--gamma 0.9 was given, and the search varies it; expected one of the two; leave",
        ),
        (
            [*WORDS, "--seeds", "0-2", "--fresh-seeds", "2-3"],
            "--fresh-seeds 2-3 and --seeds 0-2 have 2 in common; expe",
        ),
        (
            [*WORDS, "--n-eval-episodes", "0"],
            "--n-eval-episodes 0 was given; expected evaluations, since a trial is w",
        ),
        (
            [*WORDS, "--prune", "--eval-freq", "40"],
            "--prune was given with --eval-freq 40; expected evaluations by half",
        ),
        (
            [*WORDS, "--prune", "--eval-freq", "0"],
            "--prune was given with --eval-freq 0; expected evaluations by half",
        ),
        ([*WORDS, "--seed", "-1"], "seed='-1' was given; expected a whole number >= 0"),
        (
            [*WORDS, "--space", "no.toml"],
            "no.toml cannot be read (No such file or directory); expected a search space",
        ),
        (
            [*WORDS, "--preset", "no"],
            "a preset no was asked for sac; expected one of: none has a name for this algo",
        ),
        ([*WORDS, "--n-critics", "0"], "n_critics='0' was given; expected a whole number >= 1"),
        (["tune", "sac", "Pendulm-v1", "-n", "60"], "Pendulm-v1"),
        (
            ["tune", "sac", "CartPole-v1", "-n", "60"],
            "CartPole-v1 has 2 discrete actions and sac chooses continuous ones",
        ),
    ],
)
def test_a_mistake(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refusal(*words, capsys=capsys)
    assert list(tmp_path.iterdir()) == []


def test_without_optuna(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.chdir(tmp_path)
    said = refusal(*WORDS, capsys=capsys)
    assert said == (
        "softac: softac tune needs optuna, which is not installed; expected softac with its extra 'tune'; run "
        "`pip install 'softac[tune]'`\n"
    )
    assert main(["tune", "sac", "--print-space"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_other_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").touch()
    said = refusal(*WORDS, "--run-dir", str(tmp_path / "run"), capsys=capsys)
    assert f"{tmp_path}/run holds runs already; expected a new folder, or that of a search; choose another" in said
    (tmp_path / "search").mkdir()
    write_search(tmp_path / "search", search_of())
    said = refusal(*WORDS, "--run-dir", str(tmp_path / "search"), capsys=capsys)
    assert f"{tmp_path}/search holds another search (" in said
    said = refusal("resume", str(tmp_path / "search"), "-n", "100", capsys=capsys)
    assert (
        "search is a search, and what it does was settled when it began; expected nothing more than its folder"
        in said
    )
    assert read_search(tmp_path / "search") == search_of()


@pytest.mark.parametrize("named", ["Pendulum-v1", "", "other:Pendulum-v1"])
def test_the_module_that_a_file_names_is_imported_for_its_own_name_alone(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stranger.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "search").mkdir()
    write_search(tmp_path / "search", search_of(env="stranger:Pendulum-v1"))
    before = sorted((tmp_path / "search").iterdir())
    said = refusal("resume", str(tmp_path / "search"), "--env", named, capsys=capsys)
    assert said == (
        f"softac: --env {named or repr(named)} was given for runs on stranger:Pendulum-v1; expected one of these; "
        "correct it\n"
    )
    assert sorted((tmp_path / "search").iterdir()) == before
    said = refusal("resume", str(tmp_path / "search"), "--env", "stranger:Pendulum-v1", capsys=capsys)
    assert "(imported)" in said
