"""Sharing agents, against a small hub on loopback: whole or nothing, the same bits, nothing runs."""

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import policies
from alarm import Alarm
from fake_hub import FakeHub
from forgery import Forgery
from reliability_envs import tiny
from softac import Model
from softac.cli.main import main
from softac.errors import CheckpointError, ConfigError

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")

from softac.ship.hub import pull, push, require_sound  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of the library, in httpx2
NAME = "ada/pendulum"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "run"
    tiny().learn(101, run_dir=folder, eval_freq=60, n_eval_episodes=2, save_freq=45)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    with FakeHub() as fake:
        monkeypatch.setattr(constants, "ENDPOINT", fake.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", fake.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setenv("HF_ENDPOINT", fake.url)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.setattr("time.sleep", lambda _: None)  # between attempts
        yield fake


def test_what_is_pushed_comes_back_the_same(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    pushed = push(run, NAME)
    assert hub.private == {NAME: True}
    step = "checkpoints/step-000000101"
    assert pushed.files == (
        "README.md",
        f"{step}/manifest.json",
        f"{step}/networks.safetensors",
        "config.json",
        "learning_curve.png",
        "metrics.jsonl",
    )
    pulled = pull(NAME, tmp_path / "agent")
    assert pulled.revision == pushed.revision == hub.repositories[NAME][-1][0]
    assert pulled.step == 101
    for name in pulled.files:
        assert (tmp_path / "agent" / name).read_bytes() == hub.repositories[NAME][-1][1][name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent"]
    obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    before, after = Model.load(run), Model.load(tmp_path / "agent")
    np.testing.assert_array_equal(before.predict(obs, True)[0], after.predict(obs, True)[0])


PICTURES = spaces.Box(0, 255, (24, 24, 3), np.uint8)
BUILT: dict[str, dict[str, Any]] = {
    "normalised": {"normalize": "obs"},
    "rounded": {"precision": "bf16"},
    "images of another encoder": {"encoder": "small"},
    "images as they are": {"encoder": "none"},
}


@pytest.mark.parametrize("name", BUILT)
def test_an_agent_comes_back_however_its_networks_are_built(
    name: str, hub: FakeHub, tmp_path: Path, float64: None
) -> None:
    observed = PICTURES if "encoder" in BUILT[name] else spaces.Box(-1.0, 1.0, (3,))
    obs = observed.sample()
    env = lambda: policies.Spaced(observed, policies.CONTINUOUS["[-1, 1]"])  # noqa: E731
    tiny(env, **BUILT[name]).learn(40).save(tmp_path / "run")
    push(tmp_path / "run", NAME)
    assert pull(NAME, tmp_path / "agent").step == 40
    before, after = Model.load(tmp_path / "run"), Model.load(tmp_path / "agent")
    np.testing.assert_array_equal(before.predict(obs, True)[0], after.predict(obs, True)[0])


def test_of_a_stranger_no_agent_is_made_that_cannot_be_checked(run: Path, tmp_path: Path) -> None:
    refused = {
        "own": "it reads images with an encoder of its author's own, which no folder holds; expected one of "
        "softac's, with which its networks can be checked; load its files by hand if you trust them, and pass "
        "encoder= to Model.load",
        "small": f"{tmp_path / 'small' / 'config.json'} cannot be used (encoder='small' was given for "
        "observations of Box(-inf, inf, (3,), float32)); expected what softac wrote; restore the file",
    }
    for encoder, message in refused.items():
        forgery = Forgery(Path(shutil.copytree(run, tmp_path / encoder)))
        forgery.config(lambda config, encoder=encoder: config["run"].update(encoder=encoder))
        with pytest.raises(CheckpointError) as caught:
            require_sound(forgery.run, whole=False)
        assert str(caught.value) == message
        forgery.outside.rmdir()


def test_a_revision_stays(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    first = push(run, NAME, best=True)
    second = push(run, NAME)
    assert first.revision != second.revision
    assert pull(NAME, tmp_path / "old", revision=first.revision).step == first.step
    assert pull(NAME, tmp_path / "new").step == 101
    checkpoints = {name.split("/")[1] for name in hub.repositories[NAME][-1][1] if "/" in name}
    assert len(checkpoints) == 1  # of an earlier push there is only its commit


def test_whole_goes_on_learning(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    push(run, NAME, whole=True)
    pull(NAME, tmp_path / "agent", whole=True)
    here, there = (Model.load(path).learn(20) for path in (run, tmp_path / "agent"))
    for name, tensor in here.agent.tensors().items():
        assert (tensor == there.agent.tensors()[name]).all(), name
    pull(NAME, tmp_path / "acting")
    assert not (tmp_path / "acting" / "replay").exists()


def test_what_lies_beside_a_checkpoint_is_not_pushed(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    there = Path(shutil.copytree(run, tmp_path / "run"))
    step = there / "checkpoints" / "step-000000101"
    (tmp_path / "secret").write_text("secret")
    (step / "notes.txt").symlink_to(tmp_path / "secret")
    (step / "id_rsa").write_text("secret")
    (step / "more").mkdir()
    (step / "more" / "state.json").write_text("secret")
    (there / "replay" / "notes.txt").write_text("secret")
    own = push(run, NAME, whole=True)
    assert push(there, NAME, whole=True).files == own.files
    assert {name.rpartition("/")[2] for name in own.files if "step-" in name} == {
        "manifest.json", "networks.safetensors", "optim.safetensors", "state.json", "episode_actions.npy",
    }  # fmt: skip


def test_nothing_of_this_machine_is_pushed(hub: FakeHub, run: Path) -> None:
    push(run, NAME)
    push(run, NAME, whole=True)
    places = [str(Path.home()), str(run), str(run.parent), str(Path.cwd())]
    names = {getpass.getuser(), socket.gethostname()}
    for _, files in hub.repositories[NAME]:
        for name, data in files.items():
            assert not [place for place in places if place.encode() in data], name
            if not name.endswith(("safetensors", "png", "npy")):  # in which two letters mean nothing
                assert not names & set(re.findall(r"[\w.-]+", data.decode())), name


def test_the_card(hub: FakeHub, run: Path) -> None:
    push(run, NAME)
    card = hub.repositories[NAME][-1][1]["README.md"].decode()
    head = card.split("---\n")[1]
    fields = {line.partition(": ")[0]: line.partition(": ")[2] for line in head.splitlines()}
    assert fields["library_name"] == "softac"
    assert json.loads(fields["tags"]) == [
        "reinforcement-learning", "deep-reinforcement-learning", "softac", "sac", "reliability/Drift-v0",
    ]  # fmt: skip
    (model,) = json.loads(fields["model-index"])
    (result,) = model["results"]
    assert result["task"]["type"] == "reinforcement-learning"
    assert result["dataset"]["name"] == "reliability/Drift-v0"
    assert re.fullmatch(r"-?\d+\.\d\d \+/- \d+\.\d\d", result["metrics"][0]["value"])
    for text in ("learning_curve.png", f"softac pull {NAME}", "| net_arch |", "95 % interval", "2 episodes"):
        assert text in card
    assert huggingface_hub.ModelCard(card).data.library_name == "softac"  # it reads the head


def test_texts_of_a_stranger_do_nothing_on_the_card(run: Path, tmp_path: Path) -> None:
    from softac.report.results import read_result
    from softac.ship.card import model_card

    result = read_result(run)
    evil = "<script>alert(1)</script> | [x](javascript:y) `z`\n---\nlicense: mine"
    result.config["hyperparameters"]["learning_rate"] = evil
    card = model_card(result, [], NAME, 1, False)
    assert "<script>" not in card
    assert "\n---\nlicense" not in card
    assert "](javascript" not in card.replace("\\]", "")


@pytest.mark.parametrize("fault", ["close", 500, 403])
def test_a_push_that_is_interrupted_is_whole_or_nothing(hub: FakeHub, run: Path, fault: str | int) -> None:
    push(run, NAME)
    requests, whole = len(hub.requests), hub.repositories[NAME][-1][1]
    for broken in range(requests):
        hub.repositories, hub.requests, hub.large = {}, [], {}
        hub.fault = lambda number, broken=broken: fault if number >= broken else None
        with pytest.raises(ConfigError) as caught:
            push(run, NAME)
        assert "\n" not in str(caught.value)
        assert all(files in ({}, whole) for _, files in hub.repositories.get(NAME, []))


@pytest.mark.parametrize("fault", ["close", 500, 404])
def test_a_pull_that_is_interrupted_leaves_nothing(
    hub: FakeHub, run: Path, tmp_path: Path, fault: str | int
) -> None:
    push(run, NAME)
    hub.requests = []
    pull(NAME, tmp_path / "whole")
    requests = len(hub.requests)
    shutil.rmtree(tmp_path / "whole")
    for broken in range(requests):
        hub.requests = []
        hub.fault = lambda number, broken=broken: fault if number >= broken else None
        with pytest.raises(ConfigError) as caught:
            pull(NAME, tmp_path / "agent")
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def alarm() -> Alarm:
    return Alarm()


HOSTILE: dict[str, Callable[[Forgery], Any]] = {
    "env os:system": lambda f: f.config(lambda c: c["env"].update(id="os:system")),
    "algorithm os:system": lambda f: f.config(lambda c: c.update(algorithm="os:system")),
    "a hyperparameter that imports": lambda f: f.config(
        lambda c: c["hyperparameters"].update(_target_="os.system")
    ),
    "a network of 17 GB": lambda f: f.config(lambda c: c["hyperparameters"].update(net_arch=[16384] * 16)),
    "another width": lambda f: f.config(lambda c: c["hyperparameters"].update(net_arch=[16, 15])),
    "networks that are a pickle": lambda f: f.put("networks.safetensors", b"\x80\x04cos\nsystem\n."),
    "networks not finite": lambda f: f.tensors(
        "networks.safetensors", lambda t: t["actor.net.0.weight"].fill(np.nan)
    ),
    "a tensor missing": lambda f: f.tensors("networks.safetensors", lambda t: t.pop("actor.net.0.weight")),
    "config nested": lambda f: f.path("config.json").write_bytes(b"[" * 100_000),
    "manifest gone": lambda f: f.clear("CKPT/manifest.json"),
    "config changed": lambda f: f.path("config.json").write_bytes(
        f.path("config.json").read_bytes().replace(b'"seed": 0', b'"seed": 1')
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_repositories_execute_nothing(
    name: str, hub: FakeHub, run: Path, tmp_path: Path, alarm: Alarm
) -> None:
    (tmp_path / "forged").mkdir()
    forgery = Forgery(Path(shutil.copytree(run, tmp_path / "forged" / "run")))
    HOSTILE[name](forgery)
    files = {
        path.relative_to(forgery.run).as_posix(): path.read_bytes()
        for path in forgery.run.rglob("*")
        if path.is_file() and ("step-000000101" in str(path) or path.parent.name in ("run", "replay"))
    }
    files |= {
        "evil.py": b"import os; os.system('id')",
        "../../escaped": b"x",
        "model.pkl": b"\x80\x04cos\nsystem\n.",
    }
    push(run, NAME)  # what is imported late, is imported now
    pull(NAME, tmp_path / "warm")
    shutil.rmtree(tmp_path / "warm")
    hub.repositories[NAME] = [("a" * 40, files)]
    pull_target = tmp_path / "agent"
    outcome: list[BaseException] = []

    def attempt() -> None:
        try:
            pull(NAME, pull_target, whole=True)
        except (CheckpointError, ConfigError) as error:
            outcome.append(error)

    heard = [event for event in alarm.listen(attempt) if not event.startswith(("socket.", "import"))]
    assert heard == []
    if name == "env os:system":  # an id, which is only made where a person asks for it
        assert outcome == []
        assert Model.load(pull_target).predict(np.zeros(3, np.float32))[0].shape == (2,)
    else:
        assert len(outcome) == 1
        assert not pull_target.exists()
    left = {path.name for path in tmp_path.iterdir()} - {"forged", "agent"}
    assert left == set()
    assert not (tmp_path / "agent" / "evil.py").exists()


def test_a_repository_of_50_gb_is_refused_before_anything_comes(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    push(run, NAME)
    hub.requests = []
    hub.claimed = {"checkpoints/step-000000101/networks.safetensors": 50 * 10**9}
    with pytest.raises(CheckpointError, match=r"4 files of 50\.0 GB to load; expected at most 10000 of 1\.1 GB"):
        pull(NAME, tmp_path / "agent")
    assert len(hub.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_agent_is_refused(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    hub.repositories[NAME] = [("a" * 40, {"model.zip": b"PK"})]
    with pytest.raises(CheckpointError, match="holds no config"):
        pull(NAME, tmp_path / "agent")
    with pytest.raises(ConfigError, match="expected a repository that you may use"):
        pull("ada/nothing", tmp_path / "agent")
    with pytest.raises(ConfigError, match="expected a repository that you may use"):
        pull(NAME, tmp_path / "agent", revision="nowhere")
    for name in ("pendulum", "../x/y", "a/b/c", "a/..", "-a/b"):
        with pytest.raises(ConfigError, match="expected USER/NAME"):
            pull(name, tmp_path / "agent")
    (tmp_path / "agent").mkdir()
    with pytest.raises(ConfigError, match="expected a new folder"):
        pull(NAME, tmp_path / "agent")


def test_the_commands(hub: FakeHub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), NAME]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("6 files of step 101: README.md, ")
    assert re.fullmatch(r"pull it  softac pull ada/pendulum --revision [0-9a-f]{40}", printed[1])
    words = printed[1].split()[3:]
    assert main([*words, "--run-dir", str(tmp_path / "my agent")]) == 0
    assert f"returns  softac eval '{tmp_path}/my agent'" in capsys.readouterr().out


def test_without_a_network_it_says_so_at_once(run: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_TOKEN": "hf_test", "HF_HOME": str(tmp_path)}
    began = time.monotonic()
    for words in (["push", str(run), NAME], ["pull", NAME, "--run-dir", str(tmp_path / "agent")]):
        ended = subprocess.run([sys.executable, "-m", "softac", *words], env=env, capture_output=True, text=True)
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"softac: the hub at http://127.0.0.1:{port} cannot be reached (")
        assert ended.stderr.count("\n") == 1
    assert time.monotonic() - began < 60  # two starts of Python on a busy machine
