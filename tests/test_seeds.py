"""`softac train --seeds`: several runs side by side, each with the bits of a single one."""

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from rich.console import Console

import softac
from folders import memory_folder
from hashing import digests, newest_checkpoint
from reliability_envs import Faulty
from softac.cli.display import Overview
from softac.cli.main import main
from softac.cli.suite import over_seeds
from softac.cli.train import _folder_word
from softac.errors import ConfigError
from softac.experiments.execute import at_once
from softac.experiments.jobs import Job, last_line
from softac.experiments.pool import run_jobs
from softac.experiments.standing import Standing, time_left
from softac.experiments.suite import Group, Suite
from softac.files import sealed_json
from softac.report.plots import learning_curves
from softac.report.results import read_runs
from softac.run.config import RecordConfig
from softac.run.progress import Progress
from softac.seeds import are_seeds, in_ranges, read_seeds

SMALL = ["--net-arch", "16", "16", "--batch-size", "32", "--learning-starts", "30", "--n-eval-episodes", "1"]
SHORT = [*SMALL, "--env-kwargs", "max_episode_steps=40", "--save-freq", "50"]
N = 200
PATHS = os.pathsep.join([str(Path(softac.__file__).parents[1]), str(Path(__file__).parent)])


def command(*words: Any, cores: int = 2) -> subprocess.Popen[str]:
    """The command `softac`, in a process and a group of its own, on at most so many cores."""
    whole = [sys.executable, "-m", "softac", *map(str, words)]
    mine = sorted(os.sched_getaffinity(0))[:cores]
    return subprocess.Popen(
        whole,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, mine),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"},
    )


def printed(*words: Any) -> tuple[int, str, str]:
    """The command `softac` in this process, whose children find the modules of the tests."""
    with (
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PYTHONPATH", PATHS)
        code = main([*map(str, words)])
    return code, out.getvalue(), err.getvalue()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def at_first_checkpoint(process: subprocess.Popen[str], run: Path) -> subprocess.Popen[str]:
    """Wait until the run below this process has saved for the first time."""
    try:
        wait_for(lambda: list(run.glob("checkpoints/step-*/manifest.json")))
    except AssertionError:
        process.kill()
        raise AssertionError(process.communicate()) from None
    return process


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


@pytest.fixture(scope="module")
def single(folder: Path) -> Path:
    """Seed 5 alone."""
    assert printed("train", "Pendulum-v1", "-n", N, *SHORT, "--seed", 5, "--run-dir", folder / "5")[0] == 0
    return folder / "5"


@pytest.fixture(scope="module")
def three(folder: Path) -> tuple[Path, str]:
    """The seeds 0, 1 and 5, and what the command printed."""
    path = folder / "three"
    code, stdout, stderr = printed("train", "Pendulum-v1", "-n", N, *SHORT, "--seeds", "0-1,5", "--run-dir", path)
    assert (code, stderr) == (0, "")
    return path, stdout


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0-9", list(range(10))),
        ("0,3,7", [0, 3, 7]),
        ("4", [4]),
        ("5,0-2", [0, 1, 2, 5]),
        (" 1, 2 ", [1, 2]),
        ("4294967295", [4294967295]),
        ("0-999", list(range(1000))),
    ],
)
def test_seeds_are_numbers_and_ranges(text: str, numbers: list[int]) -> None:
    assert read_seeds(text) == tuple(numbers)
    assert read_seeds(in_ranges(numbers)) == tuple(numbers)
    assert are_seeds(numbers)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "one of them is empty"),
        ("0,,1", "one of them is empty"),
        ("-1", "'-1' is none of these"),
        ("0.5", "'0.5' is none of these"),
        ("1-2-3", "'1-2-3' is none of these"),
        ("٣", "'٣' is none of these"),
        ("5-2", "5-2 runs backwards"),
        ("0-3,2", "2 is there 2 times"),
        ("0-1000", "1,001 seeds"),
        ("0-99999999999999999999", "99999999999999999999 is too large"),
        ("4294967296", "4294967296 is too large"),
    ],
)
def test_what_is_not_seeds(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_seeds(text)
    assert str(refused.value) == (
        f"the seeds {text!r} were given, where {reason}; expected numbers and ascending ranges of them, from 0 to "
        "4294967295, none twice, at most 1,000 in all; write 0-9 or 0,3,7, say"
    )


@pytest.mark.parametrize("values", [[], [1, 0], [0, 0], [-1], [2**32], [0.0], [True], ["0"], list(range(1001))])
def test_what_a_file_may_not_call_seeds(values: list[Any]) -> None:
    assert not are_seeds(values)


def test_names() -> None:
    assert in_ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert _folder_word(range(10)) == "seeds-0-9"
    assert _folder_word(range(0, 100, 2)) == "50-seeds"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0-1", "--seed", "3"], "--seed 3 and --seeds 0-1 were given; expected one of them; leave"),
        (["--seeds", "0-1", "--tau", "2"], "tau='2' was given; expected a number > 0 and <= 1; leave it out"),
    ],
)
def test_a_mistake_is_told_once_and_leaves_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "Pendulum-v1", "--run-dir", str(tmp_path / "runs"), *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"softac: {message}")
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_each_seed_has_the_bits_of_a_single_run(three: tuple[Path, str], single: Path) -> None:
    path, _ = three
    assert sorted(p.name for p in path.iterdir()) == ["seed-0", "seed-1", "seed-5", "suite.json"]
    assert digests(path / "seed-5") == digests(single)
    assert digests(path / "seed-0") != digests(path / "seed-1")
    config = json.loads((path / "seed-5" / "config.json").read_text())
    assert config["run"]["seed"] == 5
    assert config["run"]["threads"] == 1
    assert config["run"] == json.loads((single / "config.json").read_text())["run"]


def test_what_is_printed(three: tuple[Path, str]) -> None:
    path, stdout = three
    lines = stdout.splitlines()
    at_once = min(3, len(os.sched_getaffinity(0)))
    assert lines[0] == f"sac on Pendulum-v1, seeds 0-1,5, {N} steps each, {at_once} at a time -> {path}"
    for seed in (0, 1, 5):
        assert [s.split(" | ")[1] for s in lines if s.startswith(f"seed {seed} |") and "step" not in s] == [
            "running",
            "done",
        ]
        mean = last_evaluation(path / f"seed-{seed}")
        shown = f"{mean:,.1f}" if abs(mean) >= 100 else f"{mean:.3g}"
        assert f"seed {seed} | step{N:>10} / {N} | evaluation: {shown}" in lines
    returns = [last_evaluation(path / f"seed-{seed}") for seed in (0, 1, 5)]
    assert lines[-6] == f"return   {over_seeds(returns)} at step {N}"
    assert re.fullmatch(r"took     .+, and the runs .+ together", lines[-5])
    assert lines[-4:] == [
        f"runs     {path}",
        f"draw     softac plot {path}",
        f"page     softac report {path}",
        f"go on    softac resume {path} -n {2 * N}",
    ]


def last_evaluation(run: Path) -> float:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    mean: float = [row["eval/mean_reward"] for row in rows if "eval/mean_reward" in row][-1]
    return mean


@pytest.mark.parametrize(
    ("cores", "memory", "device", "limit"),
    [
        (4, 1e12, "cpu", 4),
        (64, 1e12, "cpu", 10),
        (4, 1.3e9, "cpu", 3),  # a process takes 0.4 GB
        (4, 1e6, "cpu", 1),
        (4, 1e12, "cuda", 1),
    ],
)
def test_how_many_run_at_a_time(
    cores: int, memory: float, device: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = softac.SAC("Pendulum-v1", net_arch=[8, 8])
    monkeypatch.setattr("softac.experiments.execute.usable_cores", lambda: cores)
    monkeypatch.setattr("softac.experiments.execute.available_memory", lambda: memory)
    monkeypatch.setattr(model.agent, "device", torch.device(device))
    suite = Suite("ten", "", (Group("", "seed-", tuple(range(10)), {}),), RecordConfig(), 1000)
    assert at_once([model], suite) == limit


def test_the_interval_over_seeds() -> None:
    # Mean 2, standard deviation 1; the 97.5 % quantile of t with 2 degrees of freedom is 4.3027.
    half = 4.302652729911275 / math.sqrt(3)
    assert (
        over_seeds([1.0, 2.0, 3.0])
        == f"2.0 (95 % interval {2 - half:.1f} to {2 + half:.1f}), std 1.0 over 3 seeds"
    )
    assert over_seeds([7.25]) == "7.2 of 1 seed"


def test_other_commands_on_the_folder(three: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = three
    for verb in (["eval"], ["enjoy", "--video"], ["doctor"]):
        assert main([verb[0], str(path), *verb[1:]]) == 2
        assert capsys.readouterr().err == (
            f"softac: {path} holds 3 runs; expected the folder of one run; name one of them, for instance "
            f"{path / 'seed-0'}\n"
        )
    [legend] = learning_curves(read_runs([path]).results).legends
    [name] = [" ".join(text.get_text().split()) for text in legend.get_texts()]
    assert name.endswith("mean of 3 seeds, 95 % interval")
    assert main(["train", "Pendulum-v1", "--seeds", "0-1", "--run-dir", str(path), *SMALL]) == 2
    assert capsys.readouterr().err == (
        f"softac: {path} holds runs already; expected a new folder; choose another, or go on with "
        "`softac resume`\n"
    )
    assert main(["resume", str(path)]) == 0
    assert capsys.readouterr() == (
        f"every run in {path} has made its {N} steps; to go on, give more with -n, as in -n {2 * N}\n",
        "",
    )


def test_a_damaged_suite_is_code_3(
    three: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (three[0] / "suite.json").read_text()
    (tmp_path / "suite.json").write_text(text.replace('"sac"', '"td3"'))
    assert main(["resume", str(tmp_path)]) == 3
    assert capsys.readouterr().err == (
        f"softac: {tmp_path / 'suite.json'} cannot be used (another format, or changed since); expected what "
        "softac wrote; restore the file\n"
    )


def children(path: Path) -> list[int]:
    """The processes that have a run below `path` on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0") if entry.name.isdecimal() else []
        except OSError:
            continue  # it has ended
        if any(word.startswith(f"{path}/") for word in words):
            found.append(int(entry.name))
    return found


def test_killed_and_resumed(folder: Path, three: tuple[Path, str], single: Path) -> None:
    """On one core: seed 1 is in the middle, seed 5 has not begun."""
    path = folder / "killed"
    process = command("train", "Pendulum-v1", "-n", N, *SHORT, "--seeds", "1,5", "--run-dir", path, cores=1)
    at_first_checkpoint(process, path / "seed-1")
    process.kill()
    process.communicate()
    wait_for(lambda: not children(path))
    assert newest_checkpoint(path / "seed-1").name < f"step-{N:09d}"
    assert not (path / "seed-1" / ".lock").exists()  # it has saved and stopped
    assert {p.name for p in (path / "seed-5").iterdir()} == {"config.json", "command.txt", "system.json"}
    code, stdout, stderr = ended(command("resume", path))
    assert (code, stderr) == (0, "")
    assert f"over 2 seeds at step {N}" in stdout
    assert digests(path / "seed-1") == digests(three[0] / "seed-1")
    assert digests(path / "seed-5") == digests(single)


def test_a_missing_last_evaluation_is_made(
    folder: Path, three: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is left of a run that was killed between its last checkpoint and its last evaluation."""
    path = folder / "unevaluated"
    shutil.copytree(three[0] / "seed-1", path)
    rows = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert "eval/mean_reward" in rows[-1]
    (path / "metrics.jsonl").write_text("".join(rows[:-1]))
    assert main(["resume", str(path)]) == 0
    assert digests(path) == digests(three[0] / "seed-1")
    capsys.readouterr()
    assert main(["resume", str(path)]) == 0
    assert f"has made {N} of {N} steps" in capsys.readouterr().out


def test_ctrl_c_saves_every_seed(folder: Path) -> None:
    path = folder / "stopped"
    words = ["train", "Pendulum-v1", "-n", 4000, *SHORT, "--seeds", "5,8,9", "--run-dir", path]
    process = at_first_checkpoint(command(*words), path / "seed-5")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    code, stdout, stderr = ended(process)
    assert (code, stderr) == (130, "")
    assert stdout.endswith(f"stopped and saved; go on with: softac resume {path}\n")
    assert "seed 5 | stopping\n" in stdout
    assert "seed 5 | stopped\n" in stdout
    assert "failed" not in stdout
    said = (path / "seed-5" / "output.txt").read_text().splitlines()[-1]
    assert re.fullmatch(r"stopped and saved at step [\d,]+; go on with: softac resume .*/seed-5", said)
    assert children(path) == []


class FailsForSeed1(Faulty):
    """`Drift`, but in the run of seed 1 the step number 40 raises until the file `repaired` exists."""

    def __init__(self, repaired: str) -> None:
        fault = "raise" if any(word.endswith("seed-1") for word in sys.argv) else "none"
        super().__init__(fault, at=40, repaired=repaired)


gym.register("seeds/FailsForSeed1-v0", entry_point=FailsForSeed1)


class EndsForSeed1(Faulty):
    """Ends its process as if all was well in the run of seed 1 at step 40."""

    def __init__(self) -> None:
        super().__init__("none", at=40)

    def step(self, action: Any) -> Any:
        if self.steps == self.at and any(word.endswith("seed-1") for word in sys.argv):
            os._exit(0)
        return super().step(action)


gym.register("seeds/EndsForSeed1-v0", entry_point=EndsForSeed1)


def test_an_end_before_the_steps_are_made_is_no_success(folder: Path) -> None:
    words = ["train", "test_seeds:seeds/EndsForSeed1-v0", "-n", 60, *SMALL, "--seeds", "1-2"]
    code, stdout, stderr = printed(*words, "--run-dir", folder / "ends")
    assert (code, stderr) == (1, "")
    assert "seed 1 | failed (exit code 1): its process has ended before its steps were made\n" in stdout
    assert "seed 2 | done\n" in stdout


def test_a_seed_that_fails_does_not_stop_the_others(folder: Path) -> None:
    path, repaired, env = folder / "failing", folder / "repaired", "test_seeds:seeds/FailsForSeed1-v0"
    words = ["train", env, "-n", 60, *SMALL, "--seeds", "1-2", "--env-kwargs", f"repaired={repaired}"]
    code, stdout, stderr = printed(*words, "--run-dir", path)
    assert (code, stderr) == (4, "")
    said = last_line(path / "seed-1")
    assert said.startswith("softac: environment 0 raised RuntimeError: the model exploded in step at step 20 ")
    lines = stdout.splitlines()
    assert f"seed 1 | failed (exit code 4): {said}" in lines
    assert lines[-8:-5] == [
        f"return   {over_seeds([last_evaluation(path / 'seed-2')])} at step 60",
        "failed   1 of 2 runs",
        f"         seed 1: exit code 4: {said}",
    ]
    assert lines[-4:] == [
        f"runs     {path}",
        f"draw     softac plot {path}",
        f"page     softac report {path}",
        f"go on    softac resume {path} --env {env}",
    ]
    repaired.touch()
    code, stdout, stderr = printed("resume", path)
    assert code == 2
    assert stderr.startswith(f"softac: '{env}' would import the module 'test_seeds'; ")
    code, stdout, stderr = printed("resume", path, "--env", env)
    assert (code, stderr) == (0, "")
    assert "over 2 seeds at step 60\n" in stdout
    assert "seed 2 |" not in stdout


def test_a_link_in_the_place_of_a_run(three: tuple[Path, str], tmp_path: Path, capsys: Any) -> None:
    shutil.copy(three[0] / "suite.json", tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "seed-1").symlink_to(tmp_path / "elsewhere")
    assert main(["resume", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"softac: {tmp_path / 'seed-1'} is a link; expected a folder of its own, since it is written to; put what "
        "it leads to in its place\n"
    )
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_another_run_in_the_place_of_one_of_the_suite(three: tuple[Path, str], folder: Path) -> None:
    path = folder / "mixed"
    shutil.copytree(three[0] / "seed-0", path / "seed-0")
    words = ["train", "Pendulum-v1", "-n", N, *SHORT, "--seeds", "0-1", "--run-dir", path]
    before = digests(path / "seed-0")
    code, _, stderr = printed(*words, "--tau", 0.5)
    assert code == 2
    assert stderr == (
        f"softac: {path / 'seed-0'} holds another run (see hyperparameters in its config.json); expected one of "
        "this suite; move it away, or choose another folder with --run-dir\n"
    )
    assert digests(path / "seed-0") == before
    shutil.copytree(three[0] / "seed-1", folder / "bare" / "seed-1")
    (folder / "bare" / "seed-1" / "config.json").write_bytes(sealed_json({"format": "softac-run-1"}))
    code, _, stderr = printed(*words[:-1], folder / "bare")
    assert code == 2
    assert "holds another run (see algorithm, env, hyperparameters and run in its config.json); exp" in stderr
    assert [p.name for p in path.iterdir()] == ["seed-0"]
    code, stdout, stderr = printed(*words)
    assert (code, stderr) == (0, "")
    assert "seed 0 |" not in stdout
    assert digests(path / "seed-1") == digests(three[0] / "seed-1")


def jobs_in(path: Path, *words: str) -> list[Job]:
    jobs = [Job(f"{i}", (word,), path / f"{i}") for i, word in enumerate(words)]
    for job in jobs:
        job.folder.mkdir()
    return jobs


def test_jobs_run_in_order_and_at_most_so_many(tmp_path: Path) -> None:
    seen: list[tuple[list[str], dict[str, int]]] = []

    def watch(running: Mapping[str, str], codes: Mapping[str, int]) -> None:
        seen.append((list(running), dict(codes)))

    jobs = jobs_in(tmp_path, "--version", "nonsense", "--version")
    codes = run_jobs(jobs, 2, stop=lambda: False, watch=watch)
    assert codes == {"0": 0, "1": 2, "2": 0}
    assert seen[0] == (["0", "1"], {})
    assert max(len(running) for running, _ in seen) == 2
    assert seen[-1] == ([], codes)
    assert last_line(tmp_path / "0") == f"softac {softac.__version__}"
    assert last_line(tmp_path / "1").startswith("softac: unknown command 'nonsense'")
    assert last_line(tmp_path) == ""


def test_a_stop_begins_no_other_job(tmp_path: Path) -> None:
    stopped = False

    def watch(running: Mapping[str, str], codes: Mapping[str, int]) -> None:
        nonlocal stopped
        stopped = True

    codes = run_jobs(jobs_in(tmp_path, "--version", "--version"), 1, stop=lambda: stopped, watch=watch)
    assert codes.keys() == {"0"}


def test_a_process_that_does_not_stop_is_ended(tmp_path: Path) -> None:
    """The parent is gone, and SIGTERM has no effect."""
    program = """
import signal, time
from softac.experiments import pool
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pool.GRACE = 0.1
pool.stop_with_parent()
time.sleep(60)
"""
    lifeline, held = os.pipe()
    environment = os.environ | {"SOFTAC_LIFELINE": str(lifeline)}
    process = subprocess.Popen([sys.executable, "-c", program], pass_fds=[lifeline], env=environment)
    os.close(held)
    assert process.wait(30) == 143
    os.close(lifeline)


def test_progress_reads_what_is_new(tmp_path: Path) -> None:
    progress, path = Progress(tmp_path), tmp_path / "metrics.jsonl"
    progress.read()
    assert (progress.steps, progress.value("time/fps")) == (0, None)
    path.write_text('{"step": 10, "time/fps": 5.0}\n{"step": 20, "eval/mea')
    progress.read()
    assert (progress.steps, progress.evaluated, progress.value("time/fps")) == (10, 0, 5.0)
    with path.open("a") as file:
        file.write('n_reward": -3.5}\nno JSON\n[1]\n')
    progress.read()
    assert (progress.steps, progress.evaluated, progress.value("eval/mean_reward")) == (20, 20, -3.5)
    with path.open("a") as file:
        file.write(f'{{"step": {"9" * 401}}}\n{{"step": 30, "time/fps": {"9" * 401}, "train/loss": true}}\n')
    progress.read()
    assert (progress.steps, progress.value("time/fps"), progress.value("train/loss")) == (30, None, None)
    # A run that goes on puts another file in the place of this one.
    (tmp_path / "new").write_text('{"step": 10, "time/fps": 6.0}\n')
    (tmp_path / "new").rename(path)
    progress.read()
    assert (progress.steps, progress.evaluated, progress.value("time/fps")) == (10, 0, 6.0)
    assert progress.value("eval/mean_reward") is None


def lines_of(tmp_path: Path) -> list[Standing]:
    """One that is done, one that runs at 50 steps/s, one that waits."""
    lines = [Standing(str(seed), tmp_path / str(seed)) for seed in range(3)]
    for line, state, row in (
        (lines[0], "done", {"step": 1000, "time/fps": 100.0, "rollout/ep_rew_mean": -1234.5}),
        (lines[1], "running", {"step": 500, "time/fps": 50.0, "eval/mean_reward": -7.25}),
    ):
        line.folder.mkdir()
        (line.folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        line.progress.read()
        line.state = state  # type: ignore[assignment]
    return lines


def test_the_time_that_is_left(tmp_path: Path) -> None:
    lines = lines_of(tmp_path)
    # 500 steps at 50 a second are 10 s; 1,000 at the mean of 100 and 50 are 13.3 s.
    assert time_left(lines, 1000, 1) == pytest.approx(10 + 1000 / 75)
    assert time_left(lines, 1000, 2) == pytest.approx(1000 / 75)
    assert time_left([Standing("0", tmp_path / "new")], 1000, 2) is None
    for line, kind in zip(lines, ("fast", "slow", "slow"), strict=True):
        line.kind = kind
    assert time_left(lines, 1000, 1) == pytest.approx(10 + 1000 / 50)


def drawn(lines: list[Standing], height: int) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, height=height, color_system=None)
    with Overview("sac on Pendulum-v1, seeds 0-2", "runs/three", 1000, 2, lines, console) as overview:
        overview.draw()
    text = file.getvalue()
    return text[text.rindex("sac on Pendulum-v1") :]


def test_a_terminal_gets_a_table(tmp_path: Path) -> None:
    rows = [row.strip("│ ") for row in drawn(lines_of(tmp_path), 30).splitlines()]
    assert rows[1].split() == ["run", "state", "steps", "steps/s", "return", "evaluated"]
    assert rows[2].split() == ["0", "done", "1,000", "100%", "-", "-1,234.5", "-"]
    assert rows[3].split() == ["1", "running", "500", "50%", "50", "-", "-7.25"]
    assert rows[4].split() == ["2", "waiting", "0", "0%", "-", "-", "-"]
    assert rows[6] == "1 running, 1 done, 1 waiting   left in all: 13 s"
    assert "runs/three" in rows[7]


def test_a_small_terminal_shows_what_advances(tmp_path: Path) -> None:
    rows = [row.strip("│ ") for row in drawn(lines_of(tmp_path), 9).splitlines()]
    assert rows[2].split()[:2] == ["1", "running"]
    assert rows[4] == "1 running, 1 done, 1 waiting   left in all: 13 s"
