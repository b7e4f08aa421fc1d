"""The command as a user meets it: what it prints, its exit codes, and that mistakes are one line."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softac.cli.arguments import as_pairs, env_kwargs
from softac.cli.main import build_parser, main
from softac.cli.train import _algorithm
from softac.files import sealed_json

SMALL = ["--net-arch", "16", "16", "--batch-size", "32", "--n-eval-episodes", "1"]


def train(folder: Path, *words: str) -> int:
    return main(["train", "Pendulum-v1", "--run-dir", str(folder), *SMALL, *words])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert train(folder, "-n", "450", "--eval-freq", "200", "--save-freq", "200") == 0
    return folder


def test_a_run_folder_holds_what_the_documentation_says(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "config.json",
        "command.txt",
        "system.json",
        "metrics.jsonl",
        "progress.csv",
        "evaluations.csv",
        "checkpoints",
        "replay",
        "best",
        "learning_curve.png",
    }
    assert any(name.startswith("events.") for name in names)
    assert ".lock" not in names
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000000400", "step-000000450"]
    assert json.loads((run / "config.json").read_text())["hyperparameters"]["net_arch"] == [16, 16]


def test_without_a_terminal_there_are_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "run", "-n", "300", "--eval-freq", "200", "--seed", "3") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.startswith("sac on Pendulum-v1, seed 3, replay up to 10 kB -> ")
    assert "step       200 / 300 | evaluation: -" in printed.out
    assert f"go on    softac resume {tmp_path / 'run'} -n 600" in printed.out
    assert "\x1b" not in printed.out


def test_resume_goes_on_to_the_new_total(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(run), "-n", "500"]) == 0
    assert "at step 500" in capsys.readouterr().out
    for _ in range(2):
        assert main(["resume", str(run)]) == 0
        said = f"{run} has made 500 of 500 steps; to go on, give more with -n, as in -n 1000\n"
        assert capsys.readouterr() == (said, "")


def test_eval_prints_each_return_their_mean_and_std(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--n-eval-episodes", "2", "--seed", "5"]) == 0
    first = capsys.readouterr().out
    assert first.count("episode ") == 2
    assert "over 2 deterministic episodes" in first
    assert main(["eval", str(run), "--n-eval-episodes", "2", "--seed", "5"]) == 0
    assert capsys.readouterr().out == first
    assert main(["eval", str(run), "--best", "--stochastic", "--n-eval-episodes", "1"]) == 0
    assert "over 1 stochastic episodes" in capsys.readouterr().out


def test_plot_draws_one_line_for_runs_that_differ_in_the_seed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "other", "-n", "400", "--eval-freq", "200", "--seed", "1") == 0
    picture = tmp_path / "curves.svg"
    capsys.readouterr()
    assert main(["plot", str(run), str(tmp_path / "other"), "-o", str(picture)]) == 0
    assert capsys.readouterr().out == f"{picture}\n"
    assert picture.read_text().startswith("<?xml")
    assert main(["plot", str(run), "-o", "curves.doc"]) == 2
    assert "curves.doc was given for a picture; expected a name that ends in .png, .svg, .pdf" in (
        capsys.readouterr().err
    )


def test_a_long_list_of_settings_leaves_the_picture_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "dqn", "--preset", "-n", "300", "--eval-freq", "100", "--n-eval-episodes", "1"]
    assert main([*words, "--run-dir", str(tmp_path / "run")]) == 0  # a warning of matplotlib would be an error
    printed = capsys.readouterr().out
    assert "preset for CartPole-v1: learning_rate=0.0005, " in printed
    assert "over 1 evaluation episodes at step 300" in printed


def test_list_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert capsys.readouterr().out.startswith("sac           Soft actor-critic")
    assert main(["defaults"]) == 0
    printed = capsys.readouterr().out
    for word in ("learning_rate", "0.0003", "target_entropy", "net_arch", "256 256"):
        assert word in printed


def test_a_preset_is_printed_and_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "Hopper-v5", "--preset", "-n", "60", "--run-dir", str(tmp_path / "run"), *SMALL]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "preset for Hopper-v5: learning_starts=10000" in printed.out
    assert "the first update would come at step 10001, and this run ends at step 60" in printed.err
    assert json.loads((tmp_path / "run/config.json").read_text())["hyperparameters"]["learning_starts"] == 10_000


def test_a_published_preset_has_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "train",
        "xqc",
        "Pendulum-v1",
        "--preset",
        "xqc-paper",
        "-n",
        "60",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    assert main([*words, "--net-arch", "8", "8", "--eval-freq", "0"]) == 0  # what is said beside it counts more
    printed = capsys.readouterr()
    assert "preset for xqc-paper: learning_starts=5000, learning_rate=0.0003" in printed.out
    hyperparameters = json.loads((tmp_path / "run/config.json").read_text())["hyperparameters"]
    assert hyperparameters["gradient_steps"] == 2
    assert hyperparameters["gamma"] == 0.995
    assert hyperparameters["critic_net_arch"] == [512, 512, 512, 512]
    assert hyperparameters["net_arch"] == [8, 8]


def test_preset_alone_is_what_it_was_wherever_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, words in enumerate(
        (["--preset", "Hopper-v5"], ["--preset", "sac", "Hopper-v5"], ["Hopper-v5", "--preset"])
    ):
        assert main(["train", *words, "-n", "5", "--run-dir", str(tmp_path / str(i)), *SMALL]) == 0
        assert "preset for Hopper-v5: learning_starts=10000" in capsys.readouterr().out


def test_arguments_of_an_environment_are_written_as_they_are_read() -> None:
    kwargs = {"g": 9.5, "mode": "it's easy", "sizes": [1, 2], "fast": True, "name": "true", "none": None}
    assert env_kwargs(as_pairs(kwargs)) == kwargs


def test_underscores_work_in_flags(tmp_path: Path) -> None:
    assert train(tmp_path / "run", "-n", "1e2", "--learning_starts=50") == 0
    assert json.loads((tmp_path / "run/config.json").read_text())["hyperparameters"]["learning_starts"] == 50


@pytest.mark.parametrize(
    ("words", "algorithm"),
    [
        (["Pendulum-v1", "--run-dir", "td3"], "sac"),
        (["--run-dir", "td3", "sac", "Pendulum-v1"], "sac"),
        (["--preset", "ppo", "Pendulum-v1", "--run-dir", "td3"], "ppo"),
        (["--policy-delay", "7", "td3", "--run-dir", "sac"], "td3"),
        (["td3", "Pendulum-v1", "--device", "sac"], "td3"),
        (["--n-envs"], "sac"),
        (["-n", "10", "Pendulum-v1"], "sac"),
    ],
)
def test_the_algorithm_is_a_word_that_stands_alone(words: list[str], algorithm: str) -> None:
    assert _algorithm(["train", *words]) == algorithm


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["train", "ppo", "--n-steps", "9", "CartPole-v1", "-n", "5"], {"what": ["ppo", "CartPole-v1"]}),
        (["tune", "sac", "-n", "50", "Hopper-v5"], {"algorithm": "sac", "env": "Hopper-v5"}),
        (["plot", "a", "-o", "c.png", "b"], {"runs": [Path("a"), Path("b")], "output": Path("c.png")}),
    ],
)
def test_words_may_stand_behind_options(words: list[str], read: dict[str, Any]) -> None:
    args = vars(build_parser(words).parse_args(words))
    assert {name: args[name] for name in read} == read


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train' or 'track'?"),
        (["train", "--lerning-rate", "1"], "unknown argument '--lerning-rate'; did you mean '--learning-rate'"),
        (["train", "--run-dir", "td3", "--policy-delay", "7"], "unknown argument '--policy-delay'; expected what"),
        (
            ["tune", "sac", "Pendulum-v1", "--run-dir", "td3", "--policy-delay", "7"],
            "unknown argument '--policy-del",
        ),
        (["train", "--lr", "1"], "unknown argument '--lr'; here it is called '--learning-rate'"),
        (["train", "--start_steps=1"], "unknown argument '--start-steps'; here it is called '--learning-starts'"),
        (["plot", "--lr", "1"], "unknown argument '--lr'; expected what `softac plot --help` lists"),
        (
            ["train", "--algo", "sac", "--env", "Pendulum-v1"],
            "unknown argument '--algo'; expected what `softac train --help` lists; write algorithm and "
            "environment as words: softac train sac Pendulum-v1\n",
        ),
        (
            ["train", "--tensorboard_log=x"],
            "unknown argument '--tensorboard-log'; expected what `softac train --help` lists; leave it out, or "
            "write --run-dir DIR: the folder of a run has the events for TensorBoard\n",
        ),
        (
            ["tune", "sac", "Pendulum-v1", "--cuda"],
            "unknown argument '--cuda'; expected what `softac tune --help` lists; leave it out: a GPU is used "
            "where there is one; or write --device cuda\n",
        ),
        (["plot", "a", "--cuda"], "'--cuda'; expected what `softac plot --help` lists; correct it\n"),
        (["train", "SAC", "Pendulum-v1"], "unknown algorithm 'SAC'; did you mean 'sac'?"),
        (["train", "sac", "pendulum-V1"], "unknown environment 'pendulum-V1'; did you mean 'Pendulum-v1'"),
        (["train", "Pendulm-v1"], "unknown environment 'Pendulm-v1'; did you mean 'Pendulum-v1'"),
        (["train", "sacc", "Pendulum-v1"], "unknown algorithm 'sacc'; did you mean 'sac' or 'sac_v'?"),
        (["train", "sca"], "unknown algorithm 'sca'; did you mean 'sac'?"),
        (["train", "a", "b", "c"], "a b c was given; expected an algorithm and an environment"),
        (["train", "CartPole-v1"], "CartPole-v1 has 2 discrete actions and sac chooses continuous ones"),
        (["train", "nosuch:Env-v0"], "the module 'nosuch' of 'nosuch:Env-v0' cannot be imported"),
        (["train", "--gamma", "1.5"], "gamma='1.5' was given; expected a number >= 0 and <= 1"),
        (["train", "-n", "0"], "--total-timesteps 0 was given; expected a whole number"),
        (["train", "-n", "many"], "--total-timesteps many was given"),
        (["train", "-n", ""], "--total-timesteps '' was given; expected a whole number"),
        (
            ["train", "--run-dir", ""],
            "argument --run-dir: '' was given, which is no file and no folder; expected what",
        ),
        (
            ["train", "Pendulum-v1", "--preset", ""],
            "a preset '' was asked for sac; expected one of: none has a name",
        ),
        (["train", "--env-kwargs", "g"], "--env-kwargs g was given; expected NAME=VALUE"),
        (["train", "--device", "tpu"], "device='tpu' was given; expected auto, cpu, or a CUDA device"),
        (["train", "--engine", "warp"], "engine='warp' was given; expected"),
        (["train", "--n-envs", "0"], "n_envs='0' was given; expected a whole number >= 1"),
        (["train", "--seed", "-1"], "seed='-1' was given; expected a whole number >= 0"),
        (["train", "--preset"], "a preset was asked for sac on Pendulum-v1, which has none"),
        (
            ["train", "xqc", "--preset", "xqc-papr"],
            "a preset xqc-papr was asked for xqc; did you mean 'xqc-paper'?; expected one of: xqc-paper; ",
        ),
        (["train", "sac", "--preset", "xqc-paper"], "expected one of: none has a name for this algorithm"),
        (["train", "--buffer-size", "900000000"], "buffer_size"),
        (["resume", ""], "argument RUN: '' was given, which is no file and no folder; expected what"),
        (["resume", "nowhere"], "nowhere is not a folder; expected the folder of a run"),
        (["eval", "."], ". has no config.json in it; expected the folder of a run or of a saved model; "),
        (["defaults", "sca"], "unknown algorithm 'sca'; did you mean 'sac'?"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_folder(
    words: list[str],
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if words == ["train", "--buffer-size", "900000000"]:
        monkeypatch.setattr("softac.replay.ring.available_memory", lambda: 10_000)
    code = main(words)
    printed = capsys.readouterr()
    assert code == (3 if words[0] == "eval" else 2)
    assert printed.out == ""
    assert printed.err.startswith("softac: ")
    assert printed.err.count("\n") == 1
    assert text in printed.err
    assert list(tmp_path.iterdir()) == []


def test_the_commands_to_go_on_name_a_module_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "swings.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Swing-v0', 'gymnasium.envs.classic_control:PendulumEnv', max_episode_steps=20)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "a run"
    arguments = ["-n", "30", "--n-eval-episodes", "1", "--env-kwargs", "g=5", "--run-dir", str(run)]
    assert main(["train", "swings:Swing-v0", *arguments]) == 0
    said = capsys.readouterr().out
    assert f"softac resume '{run}' --env swings:Swing-v0 -n 60\n" in said
    assert main(["resume", str(run), "--env", "swings:Swing-v0", "-n", "60"]) == 0
    assert main(["eval", str(run), "--env", "swings:Swing-v0"]) == 0
    assert main(["resume", str(run), "-n", "90"]) == 2
    assert "with trust_module=True, or --env swings:Swing-v0" in capsys.readouterr().err


def test_an_environment_that_fails_while_it_is_made_is_code_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "Pendulum-v1", "--env-kwargs", "gravitas=9"]) == 4
    assert "Pendulum-v1 could not be made with {'gravitas': 9}: TypeError" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_use_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from softac.run.folder import RunFolder

    with RunFolder(run):
        assert main(["resume", str(run), "-n", "2000"]) == 2
    assert "is in use by another process; expected a run that nobody is writing" in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_not_trained_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(run, "-n", "300") == 2
    assert "holds a run already; expected a new folder" in capsys.readouterr().err


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "softac", "--help"], capture_output=True, text=True, check=True
        )
        assert "train an agent" in done.stdout
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_leave_with_their_code(number: signal.Signals, code: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["train", "-n", "1000000", "--run-dir", str(folder), *SMALL]
    with subprocess.Popen(
        [sys.executable, "-m", "softac", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not (folder / "metrics.jsonl").exists():
                time.sleep(0.05)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (code, "")
    assert "stopped and saved at step" in out
    assert f"go on with: softac resume {folder}" in out
    assert len(list((folder / "checkpoints").glob("step-*"))) == 1
    assert not (folder / ".lock").exists()


@pytest.mark.parametrize(
    "forge",
    [
        lambda c: c["run"].update(trust_module=True),
        lambda c: c["hyperparameters"].update(env_kwargs={"a": 1}),
        lambda c: c["hyperparameters"].update(gamma=2.0),
        lambda c: c.update(run=[1]),
        lambda c: c["env"].update(kwargs=7),
    ],
)
def test_a_forged_description_without_a_checkpoint_is_code_3(
    forge: Callable[[dict[str, Any]], None], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((run / "config.json").read_text())
    del config["sha256"]
    forge(config)
    (tmp_path / "config.json").write_bytes(sealed_json(config))
    assert main(["resume", str(tmp_path)]) == 3
    err = capsys.readouterr().err
    assert err.startswith(f"softac: {tmp_path / 'config.json'} cannot be used (")
    assert err.endswith("expected what softac wrote; restore the file\n")


def test_what_is_given_empty_is_not_left_out(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stranger.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = json.loads((run / "config.json").read_text())
    del config["sha256"]
    config["env"]["id"] = "stranger:Pendulum-v1"
    (tmp_path / "config.json").write_bytes(sealed_json(config))
    for path in (tmp_path, run):
        assert main(["resume", str(path), "--env", ""]) == 2
        assert capsys.readouterr().err.startswith("softac: unknown environment ''")
    assert main(["resume", str(run), "-n", ""]) == 2
    assert capsys.readouterr().err.startswith("softac: --total-timesteps '' was given; expected a whole number")


def test_a_run_without_a_checkpoint_starts_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    assert main(["resume", str(tmp_path), "-n", "120"]) == 0
    assert "step       120 / 120" in capsys.readouterr().out


LONG = "a" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--run-dir", LONG],
        ["train", "--seeds", "0-1", "--run-dir", LONG],
        ["bench", "smoke", "--run-dir", LONG],
        ["bench", f"{LONG}.toml"],
        ["plot", LONG],
        ["report", LONG],
        ["resume", LONG],
        ["doctor", LONG],
        ["solve", LONG],
        ["solve", "four-rooms", "--plot", f"{LONG}.png"],
    ],
)
def test_a_name_that_is_too_long_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) in (2, 5)
    message = capsys.readouterr().err
    assert message.startswith("softac: ")
    assert message.count("; ") >= 2
    assert message.count("\n") == 1


def test_nothing_is_written_through_links(run: Path, tmp_path: Path) -> None:
    copy, precious = tmp_path / "run", tmp_path / "precious"
    shutil.copytree(run, copy)
    precious.write_text("precious")
    for name in (
        "log.txt",
        "learning_curve.png",
        "metrics.jsonl",
        "progress.csv",
        "evaluations.csv",
        "command.txt",
    ):
        (copy / name).unlink(missing_ok=True)
        (copy / name).symlink_to(precious)
    assert main(["resume", str(copy), "-n", "500"]) == 0
    assert precious.read_text() == "precious"
    assert not any((copy / name).is_symlink() for name in ("log.txt", "learning_curve.png", "metrics.jsonl"))
