"""Suites on a Ray cluster of two nodes: the bits of one machine, also where a node is lost on the way."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from folders import memory_folder
from hashing import digests
from ray_nodes import Nodes, kill, left_behind, nodes
from softac.envs.cluster import cluster
from softac.errors import ConfigError
from softac.experiments.places import Where, opened_place
from softac.run.folder import in_use
from test_seeds import PATHS, printed, wait_for

pytestmark = pytest.mark.timeout(280)

SUITE = """
title = "Two on a pendulum"
total_timesteps = 1200
eval_freq = 400
n_eval_episodes = 1
save_freq = 50
seeds = "0-1"
environments = ["Pendulum-v1"]

[[algorithms]]
algorithm = "sac"
settings = { net_arch = [8, 8], batch_size = 16, learning_starts = 20 }
"""
FOLDERS = ["Pendulum-v1__sac__0", "Pendulum-v1__sac__1"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with memory_folder() as path:
        (path / "two.toml").write_text(SUITE)
        yield path


@pytest.fixture(scope="module")
def there() -> Iterator[Nodes]:
    with nodes() as cluster:
        cluster.first = cluster.join()
        cluster.join()
        yield cluster


def bench(folder: Path, path: Path, *words: object) -> subprocess.Popen[str]:
    """`softac bench`, in a process of its own."""
    whole = [sys.executable, "-m", "softac", "bench", folder / "two.toml", "--run-dir", path, *words]
    return subprocess.Popen(
        [str(word) for word in whole],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"},
    )


def test_a_lost_node_and_a_killed_command_change_no_bit(folder: Path, there: Nodes) -> None:
    """Two runs on two nodes; one node is killed, another joins, the command is killed and given again."""
    path, home = folder / "ray", folder / "home"
    words = ["--on", "ray", "--ray-address", there.address]
    process = bench(folder, path, *words)
    try:
        wait_for(lambda: list((path / FOLDERS[0]).glob("checkpoints/step-*/manifest.json")))
        kill(there.first)
        there.join()
        wait_for(lambda: list((path / FOLDERS[1]).glob("checkpoints/step-*/manifest.json")))
        assert not process.poll()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = bench(folder, path, *words)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, (out, err)
    assert err == ""
    assert re.search(r"seed \d \| running on 127\.0\.0\.[345]\n", out)
    assert printed("bench", folder / "two.toml", "--run-dir", home)[0] == 0
    for name in FOLDERS:
        assert digests(path / name) == digests(home / name), name
        assert not (path / name / ".mirror").exists()
        assert not in_use(path / name)
    assert left_behind(there) == []


def test_one_run_goes_on_there(folder: Path, there: Nodes) -> None:
    words = ["--net-arch", 8, 8, "--batch-size", 16, "--learning-starts", 20, "--n-eval-episodes", 1]
    start = ["train", "Pendulum-v1", "-n", 60, *words, "--run-dir"]
    for name in ("one", "same"):
        assert printed(*start, folder / name)[0] == 0
    on = ["--on", "ray", "--ray-address", there.address]
    code, out, err = printed("resume", folder / "one", "-n", 120, *on)
    assert (code, err) == (0, "")
    assert out.endswith(f"run      {folder / 'one'}\n")
    assert printed("resume", folder / "same", "-n", 120)[0] == 0
    assert digests(folder / "one") == digests(folder / "same")


def test_a_cluster_is_not_joined_without_its_token(there: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", str(there.folder))  # without a token of one's own
    with pytest.raises(ConfigError) as error, opened_place(Where("ray", there.address)):
        pass
    assert error.value.given == f"the Ray cluster at {there.address} was to be joined without a token"
    assert error.value.expected == (
        "expected the token that it was started with, in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
    )
    assert error.value.remedy == (
        "start it with RAY_AUTH_MODE=token, or add --insecure if everybody in its network may run programs on it"
    )


def test_ray_itself_prints_nothing_of_a_lost_node(there: Nodes, capfd: pytest.CaptureFixture[str]) -> None:
    """What its thread for errors does with the last words of a raylet: 20 lines into the table of the runs."""
    from ray._private.worker import print_to_stdstream

    def last_words() -> str:
        data = {"lines": ["Raylet is terminated. [state-dump]"], "pid": "raylet", "is_err": False}
        print_to_stdstream(data, ignore_prefix=False)
        return capfd.readouterr().out

    with cluster(there.address):
        assert last_words() == ""
    assert "[state-dump]" in last_words()


def test_a_wrong_token_says_so(there: Nodes) -> None:
    code = f"""
from softac.experiments.places import Where, opened_place
with opened_place(Where("ray", {there.address!r})):
    pass
"""
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": PATHS, "RAY_AUTH_TOKEN": "1" * 64},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert re.search(r"ConfigError: 127\.0\.0\.2:\d+ could not be joined \(.*[Tt]oken", process.stderr), process


def test_nobody_listens() -> None:
    with pytest.raises(ConfigError) as error, opened_place(Where("ray", "127.0.0.1:1")):
        pass
    assert error.value.given == "--ray-address 127.0.0.1:1 was given ([Errno 111] Connection refused)"
    assert error.value.expected == "expected HOST:PORT, where the head of a Ray cluster listens"


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:many", "127.0.0.1:99999999"])
def test_an_address_that_is_none(address: str) -> None:
    with (
        pytest.raises(ConfigError, match=f"--ray-address {address} was given"),
        opened_place(Where("ray", address)),
    ):
        pass


def test_what_belongs_to_ray_is_given_with_it() -> None:
    with pytest.raises(ConfigError) as error:
        Where("local", ray_address="127.0.0.1:6379")
    assert str(error.value) == "--ray-address was given without --on ray; expected it there alone; add --on ray"


def test_without_ray_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, stderr = printed("bench", folder / "two.toml", "--run-dir", folder / "none", "--on", "ray")
    assert code == 2
    assert stderr == (
        "softac: Ray as a place needs Ray, which is not installed; expected softac with its extra 'ray'; "
        "run `pip install 'softac[ray]'`\n"
    )
    shutil.rmtree(folder / "none")
