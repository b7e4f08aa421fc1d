"""`softac bench`: a suite file, its runs side by side, and going on after every interruption."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from folders import memory_folder
from hashing import digests
from reliability_envs import Faulty
from softac.cli.main import main
from softac.errors import ConfigError
from softac.experiments.plan import plan, read_suite_file, shipped
from softac.experiments.suite import Member, read_suite, write_suite
from softac.report.plots import learning_curves
from softac.report.results import read_runs
from test_seeds import command, ended, last_evaluation, printed

SMALL = """
title = "Two on a pendulum"
total_timesteps = 120
eval_freq = 60
n_eval_episodes = 1
save_freq = 40
seeds = "0-1"
environments = ["Pendulum-v1"]

[[algorithms]]
algorithm = "sac"
settings = { net_arch = [8, 8], batch_size = 16, learning_starts = 20 }

[[algorithms]]
name = "quick"
algorithm = "ppo"
settings = { n_steps = 40, batch_size = 20, n_epochs = 2 }
seeds = "1"
"""


def written(folder: Path, text: str = SMALL) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "small.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


@pytest.fixture(scope="module")
def whole(folder: Path) -> tuple[Path, str]:
    """The folder of a suite that was never interrupted, and what was printed."""
    path = folder / "whole"
    code, stdout, stderr = printed("bench", written(folder), "--run-dir", path)
    assert (code, stderr) == (0, "")
    return path, stdout


def test_a_suite_is_a_folder_of_ordinary_runs(whole: tuple[Path, str]) -> None:
    path, _ = whole
    folders = ["Pendulum-v1__quick__1", "Pendulum-v1__sac__0", "Pendulum-v1__sac__1"]
    assert sorted(p.name for p in path.iterdir()) == [*folders, "suite.json"]
    config = json.loads((path / folders[0] / "config.json").read_text())
    assert (config["algorithm"], config["run"]["seed"], config["run"]["threads"]) == ("ppo", 1, 1)
    assert config["hyperparameters"]["n_epochs"] == 2
    assert config["record"] == {"eval_freq": 60, "n_eval_episodes": 1, "save_freq": 40}
    alone = path.parent / "alone"
    words = ["--net-arch", 8, 8, "--batch-size", 16, "--learning-starts", 20, "--n-eval-episodes", 1]
    words += ["--eval-freq", 60, "--save-freq", 40, "--seed", 1, "-n", 120]
    assert printed("train", "Pendulum-v1", *words, "--run-dir", alone)[0] == 0
    assert digests(alone) == digests(path / "Pendulum-v1__sac__1")


def test_what_is_printed(whole: tuple[Path, str]) -> None:
    path, stdout = whole
    lines = stdout.splitlines()
    at_once = min(3, len(os.sched_getaffinity(0)))
    assert lines[0] == f"Two on a pendulum, 120 steps each, {at_once} at a time -> {path}"
    assert "sac on Pendulum-v1, seed 0 | done" in lines
    value = last_evaluation(path / "Pendulum-v1__quick__1")
    assert f"return   quick on Pendulum-v1: {value:,.1f} of 1 seed at step 120" in lines
    assert re.fullmatch(r"took     .+, and the runs .+ together", lines[-5])
    assert lines[-1] == f"go on    softac resume {path} -n 240"


def test_no_seeds_are_not_those_of_the_file(folder: Path) -> None:
    with pytest.raises(ConfigError, match="the seeds '' were given, where one of them is empty; expected "):
        plan(str(written(folder)), None, "", None)


def test_settings_are_also_those_of_a_run(tmp_path: Path) -> None:
    text = SMALL.replace("n_steps = 40", 'n_steps = 40, normalize = "obs,reward", n_envs = 2')
    suite, models = plan(str(written(tmp_path, text)), None, None, None)
    for model in models:
        model.close()
    runs = {group.name: group.config["run"] for group in suite.groups}
    assert {name: (run["normalize"], run["n_envs"]) for name, run in runs.items()} == {
        "sac": ("none", 1),
        "quick": ("obs,reward", 2),
    }


def test_seeds_take_turns() -> None:
    suite, models = plan("figure", None, "0-1", None)
    for model in models:
        model.close()
    order = [(member.seed, member.group.title) for member in suite.members]
    assert order == sorted(order, key=lambda pair: pair[0])
    assert len(order) == len(set(order)) == 60


def test_names_are_those_of_the_suite(whole: tuple[Path, str]) -> None:
    path, _ = whole
    [legend] = learning_curves(read_runs([path]).results).legends
    texts = {text.get_text().split(":")[0] for text in legend.get_texts()}
    assert texts == {"quick", "sac"}


def test_runs_without_a_common_step_have_no_mean(whole: tuple[Path, str], tmp_path: Path) -> None:
    for seed in (0, 1):
        shutil.copytree(whole[0] / f"Pendulum-v1__sac__{seed}", tmp_path / f"{seed}")
    metrics = tmp_path / "1" / "metrics.jsonl"
    metrics.write_text(re.sub(r'"step": (\d+)', lambda match: f'"step": {int(match[1]) + 1}', metrics.read_text()))
    code, _, stderr = printed("plot", tmp_path, "-o", tmp_path / "curves.png")
    assert code == 2
    assert re.fullmatch(
        r"softac: the 2 runs of sac,.* were evaluated at no common step; expected the same --eval-freq, or one "
        r"that is a multiple of the other; draw them apart\n",
        stderr,
    )


def test_what_is_finished_is_not_repeated(whole: tuple[Path, str], folder: Path) -> None:
    path = folder / "more"
    shutil.copytree(whole[0], path)
    before = digests(path / "Pendulum-v1__sac__0")
    suite = folder / "small.toml"
    assert printed("bench", suite, "--run-dir", path) == (
        0,
        f"every run in {path} has made its 120 steps; to go on, give more with -n, as in -n 240\n",
        "",
    )
    code, stdout, stderr = printed("bench", suite, "--run-dir", path, "--seeds", "0-2")
    assert (code, stderr) == (0, "")
    assert "sac on Pendulum-v1, seed 2 | done" in stdout
    assert "sac on Pendulum-v1, seed 0 | running" not in stdout
    assert digests(path / "Pendulum-v1__sac__0") == before
    assert (path / "Pendulum-v1__quick__0").is_dir()


def test_kill_minus_nine_at_random_moments(whole: tuple[Path, str], folder: Path) -> None:
    path, rng = folder / "killed", np.random.default_rng(0)
    words = ["bench", folder / "small.toml", "--run-dir", path]
    for _ in range(2):
        process = command(*words)
        try:
            process.wait(rng.uniform(2.0, 5.0))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    code, _, stderr = ended(command(*words))  # begins while what was killed last is still saving
    assert code == 0 or "every run in" in stderr
    for member in read_suite(path).members:
        assert digests(path / member.folder) == digests(whole[0] / member.folder)


def test_resume_knows_the_folder(whole: tuple[Path, str], folder: Path) -> None:
    path = folder / "longer"
    shutil.copytree(whole[0], path)
    code, stdout, stderr = printed("resume", path, "-n", 160)
    assert (code, stderr) == (0, "")
    assert stdout.startswith("Two on a pendulum, 160 steps each")
    for words in (["resume", path, "-n", 200], ["bench", folder / "small.toml", "--run-dir", path, "-n", 200]):
        assert printed(*words, "--env", "Pendulun-v1") == (
            2,
            "",
            "softac: --env Pendulun-v1 was given for runs on Pendulum-v1; expected one of these; correct it\n",
        )
    assert read_suite(path).total == 160
    assert read_suite(path).command == f"{read_suite(whole[0]).command} -n 160"
    assert printed("resume", path, "-n", 120) == (
        2,
        "",
        f"softac: -n 120 was given for {path}, whose runs are to make 160 steps; expected as many, or more; leave "
        "-n away to finish them\n",
    )
    assert printed("resume", path, "-n", 200)[0] == 0
    assert read_suite(path).command == f"{read_suite(whole[0]).command} -n 200"


class FailsForSac1(Faulty):
    """`Drift`, but in the run of sac with seed 1 the step number 40 raises."""

    def __init__(self) -> None:
        super().__init__("raise" if any(word.endswith("__sac__1") for word in sys.argv) else "none", at=40)


gym.register("bench/FailsForSac1-v0", entry_point=FailsForSac1)


def test_a_failure_is_counted_and_stops_nothing(folder: Path) -> None:
    env = "test_bench:bench/FailsForSac1-v0"
    path, suite = folder / "failing", written(folder / "f", SMALL.replace("Pendulum-v1", env))
    code, _, stderr = printed("bench", suite, "--run-dir", path)
    assert code == 2
    assert f"sac on {env}: '{env}' would import the module 'test_bench'; " in stderr
    assert not path.exists()
    code, stdout, stderr = printed("bench", suite, "--run-dir", path, "--env", env)
    assert (code, stderr) == (4, "")
    lines = stdout.splitlines()
    assert "failed   1 of 3 runs" in lines
    assert any(line.startswith(f"         sac on {env}, seed 1: exit code 4: softac: ") for line in lines)
    assert lines[-1] == f"go on    softac resume {path} --env {env}"


def test_another_suite_in_the_same_folder(whole: tuple[Path, str], folder: Path) -> None:
    path, _ = whole

    def refused(text: str, *words: str) -> str:
        code, _, stderr = printed("bench", written(folder / "other", text), "--run-dir", path, *words)
        assert code == 2
        assert stderr.endswith(
            "; expected the same, or one with more seeds, algorithms, environments or steps; choose another "
            "folder with --run-dir\n"
        )
        return stderr.split("(")[1].split(");")[0]

    assert (
        refused(SMALL.replace("n_epochs = 2", "n_epochs = 3")) == "quick on Pendulum-v1: n_epochs was 2 and is 3"
    )
    assert (
        refused(SMALL.replace('seeds = "1"', 'seeds = "0"')) == "quick on Pendulum-v1, seeds 1, are not all in it"
    )
    assert refused(SMALL.replace('name = "quick"', "")) == "quick on Pendulum-v1, seeds 1, are not all in it"
    assert refused(SMALL.replace("eval_freq = 60", "eval_freq = 30")) == "eval_freq was 60 and is 30"
    assert refused(SMALL, "-n", "60") == "it was 120 steps and is 60"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('title = "Two', 'titel = "Two'), "unknown key 'titel'; did you mean 'title'?; expected title, "),
        (("total_timesteps = 120\n", ""), "'total_timesteps' is missing; expected a value for it; add it"),
        (("total_timesteps = 120", 'total_timesteps = "many"'), "total_timesteps = 'many' was given, where "),
        (("total_timesteps = 120", "total_timesteps = 0"), "total_timesteps = '0' was given, where "),
        (('seeds = "0-1"', 'seeds = "1-0"'), "the seeds '1-0' were given, where 1-0 runs backwards; expected "),
        (('seeds = "1"', 'seeds = ""'), "the seeds '' were given, where one of them is empty; expected "),
        (('seeds = "1"', 'preset = ""'), "quick on Pendulum-v1: a preset '' was asked for ppo; expected "),
        (('"sac"', '"sca"'), "sca on Pendulum-v1: unknown algorithm 'sca'; did you mean 'sac'"),
        (('"ppo"', '"dqn"'), "quick on Pendulum-v1: "),
        (('"Pendulum-v1"', '"Pendulun-v1"'), "sac on Pendulun-v1: "),
        (
            ("n_epochs", "n_epoch"),
            "quick on Pendulum-v1: unknown hyperparameter 'n_epoch'; did you mean 'n_epochs'",
        ),
        (
            ("n_epochs = 2", "seed = 2"),
            "quick on Pendulum-v1: seed or env_kwargs stand in settings; expected hyperparameters and settings of "
            "a run: n_envs, precision, normalize, hindsight, say; give the seeds with seeds",
        ),
        (("n_epochs = 2", 'env = "CartPole-v1"'), "quick on Pendulum-v1: unknown hyperparameter 'env'; "),
        (("n_epochs = 2", "trust_module = true"), "quick on Pendulum-v1: unknown hyperparameter 'trust_module'; "),
        (("eval_freq = 60", "eval_freq = true"), "eval_freq = 'True' was given, where "),
        (("eval_freq = 60", "eval_freq = 60.0"), "eval_freq = '60.0' was given, where "),
        (("n_epochs = 2", "n_envs = 0"), "quick on Pendulum-v1: n_envs=0 was given; expected "),
        (('name = "quick"', 'nam = "quick"'), "algorithm 2: unknown key 'nam'; did you mean 'name'"),
        (('name = "quick"', 'name = "../quick"'), "algorithms.1.name = '../quick' was given, where "),
        (
            ('name = "quick"', 'name = "sac"'),
            "the name 'sac' is there twice for Pendulum-v1; expected different names",
        ),
        (
            ('environments = ["Pendulum-v1"]\n', ""),
            "sac has no environments; expected some for it or for all; add ",
        ),
        (
            ("[[algorithms]]", "[algorithms]"),
            "expected a suite in TOML; see docs/guide/benchmarks.md for one",
        ),
        (
            (SMALL[SMALL.index("[[") :], 'algorithms = ["sac"]'),
            "expected a table of its own for each, below a line [[algorithms]]; correct the file",
        ),
        (
            (SMALL[SMALL.index("[[") :], '[algorithms]\nalgorithm = "sac"'),
            "expected a table of its own for each, below a line [[algorithms]]; correct the file",
        ),
        (
            ('environments = ["Pendulum-v1"]', 'environments = "Pendulum-v1"'),
            'expected a list of ids, such as environments = ["Pendulum-v1"]; correct the file',
        ),
        (
            ('seeds = "0-1"', "seeds = [0, 1]"),
            'expected a text, such as seeds = "0-9" or seeds = "0,3,7"; correct',
        ),
        (
            ('["Pendulum-v1"]', '["Pendulum-v1", "Acrobot-v1", "Pendulum-v1"]'),
            "Pendulum-v1 is there twice; expected each environment once; take one of them out",
        ),
        (("[[algorithms]]", "[[algorithms]"), "expected a suite in TOML; see docs/guide/benchmarks.md for one"),
        (
            ('seeds = "1"', 'preset = true\nenvironments = ["Swimmer-v5"]'),
            "quick on Swimmer-v5: a preset was asked for",
        ),
        (
            ('seeds = "1"', 'preset = "crossq-paper"'),
            "a preset crossq-paper was asked for ppo; expected one of: none has a name for this algorithm",
        ),
        (
            ('seeds = "1"', "preset = 3"),
            'expected true, the name of published settings such as preset = "xqc-paper", or a file such as "be',
        ),
    ],
)
def test_a_mistake_in_the_file(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert change[0] in SMALL
    path = written(tmp_path / "in", SMALL.replace(*change))
    code, stdout, stderr = printed("bench", path, "--run-dir", tmp_path / "out")
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"softac: {path}")
    assert message in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_suite_file_may_be_a_link(whole: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "link.toml").symlink_to(written(tmp_path / "in"))
    assert read_suite_file(str(tmp_path / "link.toml")).title == read_suite(whole[0]).title
    (tmp_path / "circle.toml").symlink_to("circle.toml")
    with pytest.raises(ConfigError, match=r"Too many levels of symbolic links.*; expected a suite in TOML"):
        read_suite_file(str(tmp_path / "circle.toml"))


def test_a_suite_that_does_not_exist(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "figur"]) == 2
    known = "figure, pendulum, sac-family, smoke"
    assert capsys.readouterr().err == (
        f"softac: unknown suite 'figur'; did you mean 'figure'?; expected one of {known}, or a file that ends in "
        ".toml; `softac bench --help` says what each compares\n"
    )
    assert main(["bench", str(tmp_path / "no.toml")]) == 2
    assert capsys.readouterr().err == (
        f"softac: {tmp_path / 'no.toml'} cannot be read (No such file or directory); expected a suite in TOML; "
        "see docs/guide/benchmarks.md for one, and correct the file\n"
    )
    (tmp_path / "bytes.toml").write_bytes(b"\xff\x00")
    assert main(["bench", str(tmp_path / "bytes.toml")]) == 2
    assert "expected a suite in TOML" in capsys.readouterr().err
    assert main(["bench", "../suites/figure"]) == 2
    assert "unknown suite '../suites/figure'" in capsys.readouterr().err


def test_shipped_suites_can_be_run() -> None:
    assert set(shipped()) == {"figure", "pendulum", "sac-family", "smoke"}
    suites = {}
    for name in shipped():
        suites[name], models = plan(name, 1_000, "0", None)
        for model in models:
            model.close()
        assert len(models) == len(suites[name].members) == len(suites[name].groups)
    names = ["sac", "sac-fixed", "ddpg", "td3", "ppo", "reinforce"]
    assert list(dict.fromkeys(group.name for group in suites["figure"].groups)) == names
    assert read_suite_file("figure").total_timesteps == 1_000_000


def test_the_figure_has_the_same_settings_on_all_five_tasks() -> None:
    suite, models = plan("figure", 1_000, "0", None)
    for model in models:
        model.close()
    for name in ("sac", "ddpg", "td3", "ppo", "reinforce"):
        settings = [group.config["hyperparameters"] for group in suite.groups if group.name == name]
        assert settings == [settings[0]] * 5
        assert settings[0]["gamma"] == 0.99


def test_the_swimmer_preset_is_for_swimmer_alone() -> None:
    from softac.agents.presets import preset

    assert preset("sac", "Swimmer-v5")["gamma"] > 0.99
    assert "gamma" not in preset("sac", "HalfCheetah-v5")


def test_a_forged_suite_leads_nowhere_else(whole: tuple[Path, str], tmp_path: Path) -> None:
    from softac.errors import CheckpointError
    from softac.files import sealed_json

    path, _ = whole
    data = json.loads((path / "suite.json").read_text())
    data.pop("sha256")
    for change in (
        {"prefix": "../elsewhere-"},
        {"prefix": ""},
        {"prefix": ".hidden"},
        {"prefix": "a" * 400},
        {"prefix": "a\ud800"},
        {"seeds": [1, 0]},
        {"seeds": []},
    ):
        forged = data | {"groups": [data["groups"][0] | change]}
        (tmp_path / "suite.json").write_bytes(sealed_json(forged))
        with pytest.raises(CheckpointError, match="cannot be used"):
            read_suite(tmp_path)
    (tmp_path / "suite.json").write_bytes(sealed_json(data | {"groups": data["groups"][:1] * 2}))
    with pytest.raises(CheckpointError, match="impossible steps or runs"):
        read_suite(tmp_path)


def test_a_suite_comes_back_as_it_was_written(whole: tuple[Path, str], tmp_path: Path) -> None:
    suite = read_suite(whole[0])
    write_suite(tmp_path, suite)
    assert read_suite(tmp_path) == suite
    assert Member(suite.groups[0], 1).folder == "Pendulum-v1__sac__1"


def test_the_folder_of_a_single_run_is_refused(folder: Path, whole: tuple[Path, str]) -> None:
    run = whole[0] / "Pendulum-v1__sac__0"
    code, _, stderr = printed("bench", folder / "small.toml", "--run-dir", run)
    assert code == 2
    assert stderr == (
        f"softac: {run} holds a run of its own; expected a new folder, or that of a suite; choose another with "
        "--run-dir\n"
    )
    with pytest.raises(ConfigError, match="unknown suite"):
        read_suite_file("nothing")
