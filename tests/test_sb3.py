"""Policies of Stable-Baselines3: the same numbers here, and nothing in the file runs.

`benchmarks/sb3/policies.py make` wrote tests/data/sb3 with Stable-Baselines3 2.9.2, which is not needed here.
"""

import base64
import io
import json
import pickle
import re
import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from alarm import Alarm, Payload
from softac import Model
from softac.cli.main import main
from softac.errors import CheckpointError, ConfigError
from softac.learning.state import state_of
from softac.ship.normalisation import Normalisation, read_normalisation
from softac.ship.sb3 import import_sb3
from softac.ship.torch_files import Call, read_instructions, read_tensors

FOLDER = Path(__file__).parent / "data" / "sb3"
ENVS = {
    "sac": "Pendulum-v1",
    "td3": "Pendulum-v1",
    "ddpg": "Pendulum-v1",
    "dqn": "CartPole-v1",
    "ppo": "Pendulum-v1",
    "ppo_normalised": "Pendulum-v1",
    "a2c": "CartPole-v1",
    "sac_widths": "Pendulum-v1",
    "ppo_widths": "Pendulum-v1",
}
SETTINGS = {
    "sac": {
        "learning_rate": 3e-4,
        "batch_size": 256,
        "learning_starts": 100,
        "tau": 0.005,
        "gamma": 0.99,
        "train_freq": 2,
        "gradient_steps": 1,
        "n_critics": 2,
        "ent_coef": "auto_0.1",
        "target_entropy": -1.0,
        "net_arch": (8, 8),
        "alpha_loss": "log_alpha",
        "target_update_interval": 1,
        "buffer_size": 1_000_000,
        "n_steps": 1,
    },
    "td3": {
        "learning_rate": 1e-3,
        "policy_delay": 2,
        "target_policy_noise": 0.2,
        "target_noise_clip": 0.5,
        "action_noise_std": 0.2,
        "n_critics": 2,
        "train_freq": 1,
        "gradient_steps": 1,
        "net_arch": (8, 8),
    },
    "ddpg": {"action_noise": "ou", "action_noise_std": 0.02, "ou_theta": 0.0015, "net_arch": (8, 8)},
    "dqn": {
        "learning_rate": 1e-3,
        "batch_size": 32,
        "train_freq": 4,
        "gradient_steps": 0.25,
        "max_grad_norm": 10.0,
        "target_update_interval": 2_500,
        "exploration_initial_eps": 0.05,
        "exploration_final_eps": 0.05,
        "exploration_steps": 0,
        "tau": 1.0,
        "net_arch": (8, 8),
    },
    "ppo": {
        "n_steps": 64,
        "batch_size": 64,
        "n_epochs": 10,
        "clip_range": 0.1,
        "gae_lambda": 0.95,
        "ent_coef": 0.0,
        "max_grad_norm": 0.5,
        "normalize_advantage": True,
        "target_kl": None,
        "net_arch": (8, 8),
    },
    "a2c": {"learning_rate": 7e-4, "n_steps": 5, "gae_lambda": 1.0, "ent_coef": 0.0, "net_arch": (8, 8)},
    "sac_widths": {"net_arch": (8,), "critic_net_arch": (12, 8), "activation": "tanh"},
    "ppo_widths": {"net_arch": (8, 6), "critic_net_arch": (12,), "activation": "relu"},
}
SECONDS, MEGABYTES = 2.0, 200


def imported(name: str) -> Model:
    statistics = FOLDER / f"{name}.npz"
    return import_sb3(
        FOLDER / f"{name}.zip", ENVS[name], normalisation=statistics if statistics.exists() else None
    ).model


def observations(env_id: str, n: int) -> np.ndarray:
    """As in benchmarks/sb3/policies.py."""
    space = gym.make(env_id).observation_space
    low, high = (np.clip(bound, -8.0, 8.0) for bound in (space.low, space.high))
    low, high = np.where(np.abs(space.low) > 8, -3.0, low), np.where(np.abs(space.high) > 8, 3.0, high)
    return np.random.default_rng(0).uniform(low, high, (n, *space.shape)).astype(np.float32)


@pytest.mark.parametrize("name", ENVS)
def test_policy_and_critics_say_what_stable_baselines3_said(name: str) -> None:
    model, expected = imported(name), np.load(FOLDER / "expected.npz")
    obs, agent = observations(ENVS[name], 200), model.agent
    s = torch.as_tensor(obs)
    a = torch.linspace(-1.0, 1.0, len(s))[:, None]
    said: dict[str, Any] = {"action": model.predict(obs, deterministic=True)[0]}
    with torch.no_grad():
        if agent.on_policy:
            said["critic"] = agent.critic(s)
        elif name == "dqn":
            said |= {"critic": agent.critic(s)[0], "target": agent.target_critic(s)[0]}
        else:
            said |= {"critic": agent.critic(s, a).T, "target": agent.target_critic(s, a).T}
        if name.startswith("sac"):
            said |= {
                "log_std": agent.actor(s).log_std,
                "log_alpha": agent.temperature.learner.parameters[0].detach()[None],
            }
    assert {f"{name}.{part}" for part in said} == {key for key in expected.files if key.split(".")[0] == name}
    for part, values in said.items():
        there, here = expected[f"{name}.{part}"], np.asarray(values)
        assert there.shape == here.shape
        assert there.dtype == here.dtype
        assert (np.abs(there - here) / np.maximum(1.0, np.abs(there))).max() <= 1e-5
    if name in ("sac", "ppo"):
        assert np.ptp(expected[f"{name}.action"]) > 0.1  # it does depend on the observation


@pytest.mark.parametrize("name", SETTINGS)
def test_hyperparameters_have_their_names_here(name: str) -> None:
    model = imported(name)
    told = {setting: getattr(model.agent.config, setting) for setting in SETTINGS[name]}
    assert {k: pytest.approx(v) if isinstance(v, float) else v for k, v in SETTINGS[name].items()} == told
    assert (model.run.seed, model.run.n_envs) == (0, 1)


@pytest.mark.parametrize("name", ENVS)
def test_the_folder_is_one_of_softac(name: str, tmp_path: Path) -> None:
    statistics = FOLDER / f"{name}.npz"
    first = import_sb3(
        FOLDER / f"{name}.zip", ENVS[name], normalisation=statistics if statistics.exists() else None
    )
    first.save(tmp_path / "run")
    again = Model.load(tmp_path / "run")
    obs = observations(ENVS[name], 20)
    np.testing.assert_array_equal(again.predict(obs, True)[0], first.model.predict(obs, True)[0])
    returns = [m.evaluate(None, 2, deterministic=True, seed=0).returns for m in (first.model, again)]
    assert returns[0] == returns[1]
    before = {key: value.clone() for key, value in state_of(again.agent).items()}
    again.learn(130, run_dir=tmp_path / "run", n_eval_episodes=1)
    assert any(not torch.equal(before[key], value) for key, value in state_of(again.agent).items())
    told = json.loads((tmp_path / "run" / "imported.json").read_text())
    assert told["from"] == "Stable-Baselines3 2.9.2"
    assert len(told["sha256"]) == 64
    with pytest.raises(ConfigError, match="holds a run already"):
        first.save(tmp_path / "run")


def test_the_command_imports_and_the_others_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["import", str(FOLDER / "a2c.zip"), "--env", "CartPole-v1"]
    assert main([*words, "--run-dir", "my run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "a2c for CartPole-v1, after 400 steps with Stable-Baselines3 2.9.2",
        "stays    the optimiser was RMSprop: it is Adam, whose step sizes are others",
        "stays    the optimiser's moments, which begin at 0",
        "run      my run",
        "returns  softac eval 'my run'",
        "go on    softac resume 'my run'",
    ]
    assert main(["eval", "my run", "--n-eval-episodes", "5"]) == 0
    assert "mean 42.800" in capsys.readouterr().out  # what Stable-Baselines3 gets from the same start states
    assert main(["resume", "my run", "-n", "40"]) == 0
    assert main([*words[:-1], "Pendulum-v1"]) == 2
    assert main(["import", str(FOLDER / "expected.npz"), "--env", "CartPole-v1"]) == 3
    assert main(["import", "missing.zip", "--env", "CartPole-v1"]) == 3
    assert not (tmp_path / "runs").exists()


def test_bounds_that_are_not_one_scale_the_gaussian() -> None:
    """m in [-2, 2] of Pendulum is m / 2 here, and so is its standard deviation."""
    tensors = torch.load(io.BytesIO(zipfile.ZipFile(FOLDER / "ppo.zip").read("policy.pth")), weights_only=True)
    model = imported("ppo")
    there, here = tensors["log_std"], state_of(model.agent)["actor.log_std"]
    torch.testing.assert_close(here, there - np.log(2.0).item())


def test_statistics_become_the_first_layer() -> None:
    generator = np.random.default_rng(0)
    mean, std = generator.normal(size=3), generator.uniform(0.1, 2.0, 3)
    s, w, b = generator.normal(size=(5, 4)), generator.normal(size=(4, 6)), generator.normal(size=6)
    folded = Normalisation(mean, std, 10.0).into(w, b)
    z = np.concatenate(((s[:, :3] - mean) / std, s[:, 3:]), 1)  # the last input is an action
    np.testing.assert_allclose(s @ folded[0] + folded[1], z @ w + b, rtol=1e-12)


# What cannot come is named


def rewritten(path: Path, to: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of a zip with other files in it."""
    with zipfile.ZipFile(path) as source:
        files = {name: source.read(name) for name in source.namelist()}
    change(files)
    with zipfile.ZipFile(to, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return to


def told(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    """Change what `data` says."""

    def whole(files: dict[str, bytes]) -> None:
        data = json.loads(files["data"])
        change(data)
        files["data"] = json.dumps(data).encode()

    return whole


def tensors(
    change: Callable[[dict[str, Tensor]], Any], file: str = "policy.pth"
) -> Callable[[dict[str, bytes]], None]:
    """Change the tensors of a file."""

    def whole(files: dict[str, bytes]) -> None:
        state = torch.load(io.BytesIO(files[file]), weights_only=True)
        change(state)
        data = io.BytesIO()
        torch.save(state, data)
        files[file] = data.getvalue()

    return whole


CANNOT = {
    "gSDE": (told(lambda d: d.update(use_sde=True)), "uses gSDE"),
    "an activation": (
        told(lambda d: d["policy_kwargs"].update(activation_fn="<class 'torch.nn.modules.activation.GELU'>")),
        "has the activation GELU, not ReLU, Tanh, ELU, SiLU",
    ),
    "an activation of one's own": (
        told(lambda d: d["policy_kwargs"].update(activation_fn="<class 'mine.ReLU'>")),
        "has the activation <class 'mine.ReLU'>, not ReLU",
    ),
    "an extractor": (
        told(lambda d: d["policy_kwargs"].update(features_extractor_class="<class 'mine.Net'>")),
        "a features extractor of its own",
    ),
    "an unknown setting": (
        told(lambda d: d["policy_kwargs"].update(mine=1)),
        "policy_kwargs that mean nothing here",
    ),
    "a policy of one's own": (told(lambda d: d["policy_class"].update(__module__="mine")), "a policy of mine"),
    "another library": (
        told(lambda d: d["policy_class"].update(__module__="sb3_contrib.tqc.policies")),
        "a policy of sb3_contrib.tqc.policies",
    ),
    "weights of an extractor": (
        tensors(lambda t: t.update({"features_extractor.cnn.0.weight": torch.zeros(3, 3)})),
        "1 tensors that no network here has a place for",
    ),
    "targets of other widths": (
        tensors(lambda t: t.update(wider(t))),
        "the networks have different hidden layers (critic [8, 8], target_critic [8, 9])",
    ),
    "other bounds": (
        told(lambda d: d["action_space"].update(high="[3.]")),
        "was trained with actions whose high is",
    ),
}


def wider(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The targets with a ninth unit in their last hidden layer."""
    changed = {}
    for i in (0, 1):
        name = f"critic_target.qf{i}"
        changed[f"{name}.2.weight"] = torch.zeros(9, 8)
        changed[f"{name}.2.bias"] = torch.zeros(9)
        changed[f"{name}.4.weight"] = torch.zeros(1, 9)
    return changed


@pytest.mark.parametrize("name", CANNOT)
def test_what_would_be_another_policy_is_refused_by_name(name: str, tmp_path: Path) -> None:
    change, message = CANNOT[name]
    path = rewritten(FOLDER / "sac.zip", tmp_path / "changed.zip", change)
    with pytest.raises(ConfigError) as caught:
        import_sb3(path, "Pendulum-v1")
    assert message in caught.value.given
    assert str(caught.value).count("\n") == 0


LARGE = 10**400
OU = {":type:": "<class 'noise.OrnsteinUhlenbeckActionNoise'>", "_mu": "[0.]", "_sigma": "[0.1]", "_theta": "0.1"}
FORGED_NUMBERS: list[tuple[str, str, dict[str, Any]]] = [
    *[("dqn", name, {name: LARGE}) for name in ("learning_rate", "target_update_interval", "num_timesteps")],
    *[("dqn", name, {name: LARGE}) for name in ("gradient_steps", "exploration_rate", "n_envs", "seed", "gamma")],
    ("dqn", "_total_timesteps", {"_total_timesteps": 1e308, "exploration_fraction": 1e308}),
    ("ppo", "clip_range", {"clip_range": -LARGE}),
    ("ddpg", "_dt of action_noise", {"action_noise": OU | {"_dt": "-1"}}),
]


@pytest.mark.parametrize(("name", "what", "forged"), FORGED_NUMBERS)
def test_numbers_that_no_model_has_are_refused(
    name: str, what: str, forged: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rewritten(FOLDER / f"{name}.zip", tmp_path / "forged.zip", told(lambda data: data.update(forged)))
    assert main(["import", str(path), "--env", str(ENVS[name]), "--run-dir", str(tmp_path / "run")]) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"softac: {what} of the model is ")
    assert said.endswith(
        "; expected a number that it can have been trained with; save the model again with Stable-Baselines3\n"
    )


def test_what_is_only_missed_in_training_is_a_note(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["learning_rate"] = {":type:": "<class 'function'>", ":serialized:": "gASV"}
        data["lr_schedule"] = {":type:": "<class 'function'>", ":serialized:": "gASV"}
        data["train_freq"] = {":type:": "<class 'mine.Freq'>", ":serialized:": "gASV"}
        data["gradient_steps"] = 3
        data["action_noise"] = {":type:": "<class 'mine.Noise'>", ":serialized:": "gASV"}

    path = rewritten(FOLDER / "td3.zip", tmp_path / "changed.zip", told(change))
    found = import_sb3(path, "Pendulum-v1")
    assert found.notes == (
        "learning_rate was a schedule: the default is used",
        "train_freq was not told: updates are made after every environment step",
        "action_noise was Noise: it is left out; td3 has Gaussian noise",
        "the replay and the optimiser's moments, which begin empty",
    )
    assert found.model.agent.config.learning_rate == 1e-3
    assert found.model.agent.config.action_noise_std == 0.0


def test_updates_are_counted_for_each_environment_step(tmp_path: Path) -> None:
    path = rewritten(FOLDER / "sac.zip", tmp_path / "a.zip", told(lambda d: d.update(n_envs=4, gradient_steps=-1)))
    found = import_sb3(path, "Pendulum-v1")
    config = found.model.agent.config
    assert (config.train_freq, config.gradient_steps) == (8, 1)
    assert "gradient_steps" not in str(found.notes)
    path = rewritten(FOLDER / "sac.zip", tmp_path / "b.zip", told(lambda d: d.update(n_envs=4)))
    found = import_sb3(path, "Pendulum-v1")
    config = found.model.agent.config
    assert (config.train_freq, config.gradient_steps) == (8, 0.25)
    assert "gradient_steps" not in str(found.notes)
    path = rewritten(
        FOLDER / "dqn.zip", tmp_path / "c.zip", told(lambda d: d.update(n_envs=2, exploration_rate=0.5))
    )
    config = import_sb3(path, "CartPole-v1").model.agent.config
    assert (config.train_freq, config.gradient_steps, config.target_update_interval) == (8, 0.125, 1_250)
    assert config.exploration_initial_eps == 0.5


# Nothing runs

SLOTS = [
    *(("sac", file) for file in zipfile.ZipFile(FOLDER / "sac.zip").namelist()),
    *(
        ("sac", f"data/{name}")
        for name in ("policy_class", "replay_buffer_class", "train_freq", "lr_schedule", "new")
    ),
    *(
        ("ppo", f"data/{name}")
        for name in ("policy_class", "clip_range", "learning_rate", "policy_kwargs", "_last_obs")
    ),
    ("dqn", "data/exploration_schedule"),
    ("a2c", "data/policy_kwargs"),
    ("td3", "data/action_noise"),
    ("ddpg", "data/action_noise"),
    ("sac", "policy.pth/data.pkl"),
    ("sac", "pytorch_variables.pth/data.pkl"),
    ("ppo_normalised", "mean.npy"),
]


@pytest.fixture(scope="module")
def alarm() -> Alarm:
    for name in ENVS:  # what is imported late, is imported now
        imported(name)
    return Alarm()


@pytest.mark.parametrize(("name", "slot"), SLOTS, ids=[f"{name} {slot}" for name, slot in SLOTS])
def test_a_planted_pickle_does_not_run(name: str, slot: str, alarm: Alarm, tmp_path: Path) -> None:
    canary, payload = tmp_path / "canary", pickle.dumps(Payload(tmp_path / "canary"))

    def plant(files: dict[str, bytes]) -> None:
        match slot.split("/"):
            case ["data", field]:
                data = json.loads(files["data"])
                there = data.get(field) if isinstance(data.get(field), dict) else {":type:": "<class 'dict'>"}
                data[field] = {**there, ":serialized:": base64.b64encode(payload).decode()}
                files["data"] = json.dumps(data).encode()
            case [file, inner]:
                archive = rewritten_bytes(files[file], lambda f: f.update({f"archive/{inner}": payload}))
                files[file] = archive
            case [file]:
                files[file] = payload

    statistics = None
    path = FOLDER / f"{name}.zip"
    if slot == "mean.npy":
        statistics = rewritten(FOLDER / f"{name}.npz", tmp_path / "planted.npz", plant)
    else:
        path = rewritten(path, tmp_path / "planted.zip", plant)
    caught: list[BaseException] = []

    def attempt() -> None:
        try:
            import_sb3(path, ENVS[name], normalisation=statistics)
        except Exception as error:
            caught.append(error)

    assert alarm.listen(attempt) == []
    assert not canary.exists()
    assert all(isinstance(error, CheckpointError | ConfigError) for error in caught), caught
    harmless = slot.startswith("data/") or slot.endswith("optimizer.pth")
    assert bool(caught) != harmless


def rewritten_bytes(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        files = {name: source.read(name) for name in source.namelist()}
    change(files)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return out.getvalue()


def pickled_file(instructions: bytes, **beside: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", instructions)
        for name, content in beside.items():
            archive.writestr(f"archive/data/{name}", content)
    return out.getvalue()


def tensor(
    size: str, stride: str, offset: str = "K\x00", kind: str = "torch\nFloatStorage", key: str = "k"
) -> bytes:
    """A dict of one tensor, by hand: `{"x": _rebuild_tensor_v2(storage, offset, size, stride, False, {})}`."""
    text = (
        f"\x80\x02}}X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagec{kind}\n"
        f"X{chr(len(key))}\x00\x00\x00{key}X\x03\x00\x00\x00cpuK\x04tQ{offset}{size}{stride}\x89}}tRs."
    )
    return text.encode("latin-1")


def many_of_one(n: int) -> bytes:
    """A dict of `n` tensors that share 4 MB."""
    size, stride = "J\x40\x42\x0f\x00K\x01\x86", "K\x01K\x01\x86"
    start, end = "\x80\x02}", "."
    one = tensor(size, stride).decode("latin-1").removeprefix(f"{start}X\x01\x00\x00\x00x").removesuffix(f"s{end}")
    each = "".join(f"X\x04\x00\x00\x00{i:04d}{one}s" for i in range(n))
    return f"{start}{each}{end}".encode("latin-1")


def test_tensors_may_share_what_is_stored() -> None:
    found = read_tensors(pickled_file(many_of_one(3), k=bytes(4_000_000)), "it")
    assert [tensor.shape for tensor in found.values()] == [(1_000_000, 1)] * 3


def test_the_tensor_by_hand_is_read() -> None:
    numbers = np.arange(4, dtype=np.float32)
    found = read_tensors(pickled_file(tensor("K\x02K\x02\x86", "K\x02K\x01\x86"), k=numbers.tobytes()), "it")
    np.testing.assert_array_equal(found["x"], numbers.reshape(2, 2))


FOUR = np.arange(4, dtype=np.float32).tobytes()
HOSTILE_TENSORS = {
    "beyond its bytes": pickled_file(tensor("K\x02K\x03\x86", "K\x03K\x01\x86"), k=FOUR),
    "begins beyond": pickled_file(tensor("K\x02K\x02\x86", "K\x02K\x01\x86", offset="K\x01"), k=FOUR),
    "begins before": pickled_file(tensor("K\x02K\x02\x86", "K\x02K\x01\x86", offset="J\xff\xff\xff\xff"), k=FOUR),
    "a terabyte": pickled_file(
        tensor("J\x00\x00\x00\x7fJ\x00\x00\x00\x7f\x86", "J\x00\x00\x00\x7fK\x01\x86"), k=FOUR
    ),
    "of stride 0": pickled_file(tensor("K\x02K\x02\x86", "K\x00K\x00\x86"), k=FOUR),
    "of a negative size": pickled_file(tensor("J\xff\xff\xff\xffK\x02\x86", "K\x02K\x01\x86"), k=FOUR),
    "of objects": pickled_file(tensor("K\x02K\x02\x86", "K\x02K\x01\x86", kind="os\nsystem"), k=FOUR),
    "of doubles": pickled_file(tensor("K\x02K\x02\x86", "K\x02K\x01\x86", kind="torch\nDoubleStorage"), k=FOUR),
    "of another file": pickled_file(tensor("K\x02K\x02\x86", "K\x02K\x01\x86", key="../../k"), k=FOUR),
    "of thousands of dimensions": pickled_file(
        tensor("(" + "K\x01" * 50_000 + "t", "(" + "K\x01" * 50_000 + "t"), k=FOUR
    ),
    "many of one that is large": pickled_file(many_of_one(200), k=bytes(4_000_000)),
    "not a number": pickled_file(
        tensor("K\x02K\x02\x86", "K\x02K\x01\x86"), k=np.full(4, np.nan, np.float32).tobytes()
    ),
    "no dict": pickled_file(b"\x80\x02K\x01."),
    "no end": pickled_file(b"\x80\x02K\x01"),
    "an empty pickle": pickled_file(b""),
    "a key that is a tuple in a tuple": pickled_file(b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s."),
    "a dict in itself": pickled_file(b"\x80\x02}q\x00X\x01\x00\x00\x00xh\x00s."),
    "a call of nothing": pickled_file(b"\x80\x02)R."),
    "a name of tuples": pickled_file(b"\x80\x04))\x93."),
    "an extension": pickled_file(b"\x80\x02\x82\x01."),
    "a number of a megabyte": pickled_file(
        b"\x80\x02\x8b" + (250_000).to_bytes(4, "little") + b"\x7f" * 250_000 + b"."
    ),
    "too many instructions": pickled_file(b"\x80\x02" + b"N" * 300_000 + b"."),
    "no data.pkl": pickled_file(b"").replace(b"data.pkl", b"evil.pkl"),
    "no zip": b"PK\x03\x04" + b"\x00" * 100,
    "a pickle alone": pickle.dumps({"x": 1}),
}


@pytest.mark.parametrize("name", HOSTILE_TENSORS)
def test_hostile_tensors_are_refused(name: str, alarm: Alarm) -> None:
    def attempt() -> None:
        with pytest.raises(CheckpointError) as caught:
            read_tensors(HOSTILE_TENSORS[name], "policy.pth")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1_000

    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert alarm.listen(attempt) == []
    assert time.process_time() - began <= SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak <= MEGABYTES * 1000


def bomb(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content if name != "policy.pth" else bytes(50_000_000))
    return out.getvalue()


def long_list(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for i in range(10_000):
            archive.writestr(f"file-{i}", b"")
    return out.getvalue()


def same(files: dict[str, bytes], **changed: bytes | None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in {**files, **changed}.items():
            if content is not None:
                archive.writestr(name, content)
    return out.getvalue()


def tensors_of(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[dict[str, bytes]], bytes]:
    def whole(files: dict[str, bytes]) -> bytes:
        tensors(change)(files)
        return same(files)

    return whole


HOSTILE_ZIPS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "a bomb": bomb,
    "a long list of files": long_list,
    "names that lead out of it": lambda f: same({f"../../{name}": content for name, content in f.items()}),
    "absolute names": lambda f: same({f"/etc/{name}": content for name, content in f.items()}),
    "no version": lambda f: same(f, _stable_baselines3_version=None),
    "version 0.10": lambda f: same(f, _stable_baselines3_version=b"0.10.0"),
    "a version with a command": lambda f: same(f, _stable_baselines3_version=b"2.0.0\x1b[2J"),
    "no policy": lambda f: same(f, **{"policy.pth": None}),
    "no temperature": lambda f: same(f, **{"pytorch_variables.pth": pickled_file(b"\x80\x02}.")}),
    "data nested": lambda f: same(f, data=b"[" * 100_000 + b"]" * 100_000),
    "data of NaN": lambda f: same(f, data=b'{"gamma": NaN}'),
    "data twice": lambda f: same(f, data=b'{"gamma": 1, "gamma": 2}'),
    "data a list": lambda f: same(f, data=b"[]"),
    "data no text": lambda f: same(f, data=b"\xff\xfe"),
    "a flipped bit": lambda f: flipped(same(f)),
    "cut": lambda f: same(f)[:-3000],
    "a comment": lambda f: same(f)[:-2] + b"\x01\x00x",
    "only its end": lambda f: same(f)[-22:],
    "weights that are not finite": tensors_of(lambda t: t["actor.mu.weight"].fill_(float("inf"))),
    "a layer missing": tensors_of(lambda t: t.pop("actor.mu.weight")),
    "a target missing": tensors_of(lambda t: [t.pop(name) for name in list(t) if "target" in name]),
    "layers that do not fit": tensors_of(lambda t: t.update({"actor.latent_pi.2.weight": torch.zeros(8, 7)})),
    "a layer of nothing": tensors_of(
        lambda t: t.update({"actor.mu.weight": torch.zeros(0, 8), "actor.mu.bias": torch.zeros(0)})
    ),
    "a layer that is a vector": tensors_of(lambda t: t.update({"actor.mu.weight": torch.zeros(8)})),
    "65 critics": tensors_of(
        lambda t: t.update(
            {
                name.replace("qf0", f"qf{i}"): value
                for i in range(2, 65)
                for name, value in list(t.items())
                if "qf0" in name
            }
        )
    ),
    "a learning rate of -1": lambda f: same(
        f, data=f["data"].replace(b'"learning_rate": 0.0003', b'"learning_rate": -1')
    ),
    "a text for tau": lambda f: same(f, data=f["data"].replace(b'"tau": 0.005', b'"tau": "os.system"')),
    "a billion environments": lambda f: same(f, data=f["data"].replace(b'"n_envs": 1', b'"n_envs": 1000000000')),
}


def flipped(data: bytes) -> bytes:
    """One bit of the tensors changed: the zip's own checksum notices."""
    at = data.index(b"policy.pth") + 9_000
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


@pytest.mark.parametrize("name", HOSTILE_ZIPS)
def test_hostile_zips_are_refused(name: str, alarm: Alarm, tmp_path: Path) -> None:
    with zipfile.ZipFile(FOLDER / "sac.zip") as source:
        files = {file: source.read(file) for file in source.namelist()}
    path = tmp_path / "hostile.zip"
    path.write_bytes(HOSTILE_ZIPS[name](files))

    def attempt() -> None:
        with pytest.raises((CheckpointError, ConfigError)) as caught:
            import_sb3(path, "Pendulum-v1")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1_000
        assert ("is compressed" in str(caught.value)) == (name == "a bomb")

    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert alarm.listen(attempt) == []
    assert time.process_time() - began <= SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak <= MEGABYTES * 1000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "arrays",
    [
        {"mean": np.zeros(3), "var": np.ones(2), "epsilon": 1e-8, "clip": 10.0},
        {"mean": np.zeros(3), "var": -np.ones(3), "epsilon": 1e-8, "clip": 10.0},
        {"mean": np.full(3, np.nan), "var": np.ones(3), "epsilon": 1e-8, "clip": 10.0},
        {"mean": np.zeros(3, np.float32), "var": np.ones(3), "epsilon": 1e-8, "clip": 10.0},
        {"mean": np.zeros((3, 1)), "var": np.ones(3), "epsilon": 1e-8, "clip": 10.0},
        {"mean": np.zeros(3), "var": np.ones(3), "epsilon": 1e-8},
    ],
)
def test_statistics_of_nonsense_are_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(CheckpointError):
        read_normalisation(tmp_path / "s.npz")
    assert np.isclose(read_normalisation(FOLDER / "ppo_normalised.npz").clip, 10.0)


def test_statistics_of_another_environment_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", mean=np.zeros(4), var=np.ones(4), epsilon=1e-8, clip=10.0)
    with pytest.raises(ConfigError, match="expected 3, as many as the policy observes"):
        import_sb3(FOLDER / "ppo.zip", "Pendulum-v1", normalisation=tmp_path / "s.npz")


def test_calls_are_read_and_not_made() -> None:
    found = read_instructions(pickle.dumps(re.compile("x")), "it")
    assert isinstance(found, Call)
    assert found.name == "re _compile"
