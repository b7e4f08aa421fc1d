"""`softac doctor`: each finding on an installation or a run that has just this ailment, none on a healthy one."""

import json
import math
import re
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from probes import SMALL, Probe, TerminatingEnv
from softac import SAC
from softac.agents.sac import SACAgent, SACConfig
from softac.cli.main import main
from softac.envs import InProcessVectorEnv
from softac.examine import installation, learning, run_files, soft_returns
from softac.run.folder import RunFolder, in_use
from softac.types import EnvSpec

HEALTHY = {"tau": 0.5, "gamma": 0.5, "learning_rate": 0.003, "gradient_steps": 8, "ent_coef": "auto_0.1"}


def agent(dim=1, **config):
    return SACAgent(
        EnvSpec(2, dim),
        SACConfig(**({"net_arch": (8, 8)} | config)),
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
    )


class ShortEnv(Probe):
    """Healthy and tiny: rewards around 0, terminates after 5 steps."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        gym.Env.reset(self, seed=seed)
        self.state = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return super().reset(seed=seed)

    def observe(self):
        return self.state

    def reward(self, action):
        return float(action[0] * self.state[0])

    def ending(self):
        return self.t >= 5, False


@pytest.fixture(scope="module", autouse=True)
def registered():
    gym.register("Short-v0", ShortEnv)
    yield
    del gym.registry["Short-v0"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(installation, "LONG_ENOUGH", 0.02)


@pytest.fixture(scope="module")
def trained_run(registered, tmp_path_factory):
    path = tmp_path_factory.mktemp("healthy") / "run"
    model = SAC("Short-v0", **(SMALL | HEALTHY))
    model.learn(60, run_dir=path, eval_freq=20, n_eval_episodes=4, save_freq=20)
    model.close()
    return path


@pytest.fixture
def run(trained_run, tmp_path):
    """A copy of a small run of 60 steps, saved and evaluated every 20."""
    return shutil.copytree(trained_run, tmp_path / "run")


def sick_rows(path, change):
    """Replace the rows of a run's metrics."""
    file = path / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))


def ailments(found):
    return [(f.level, f.what) for f in found if f.level != "ok"]


def only(found):
    (finding,) = [f for f in found if f.level != "ok"]
    assert finding.remedy
    return finding


# --------------------------------------------------------------------------- the installation


def test_the_installation(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "installation"
    assert out[1].startswith("ok      softac ")
    assert f"torch {torch.__version__}" in out[1]
    assert "self-test" in out
    assert "ok      the same update made twice gives the same bits" in out
    assert "ok      a checkpoint can be written, and verifies" in out
    assert out[-1].startswith("softac is ready: softac train")


def test_the_oldest_versions_are_those_of_the_package():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    asked = " ".join([*project["dependencies"], *project["optional-dependencies"]["mujoco"]])
    for name, oldest in (installation.OLDEST | installation.OLDEST_OF_EXTRAS).items():
        assert re.search(rf"\b{name}(\[.*?\])?>={re.escape(oldest)}\b", asked), name


@pytest.mark.parametrize(
    ("versions", "what", "remedy"),
    [
        ({"torch": "2.9.1+cpu"}, "torch 2.9.1+cpu is too old", "pip install --upgrade softac"),
        ({"numpy": None}, "numpy is missing", "pip install --upgrade softac"),
        ({"mujoco": "3.3.0"}, "mujoco 3.3.0 is too old", "pip install --upgrade softac"),
        ({"mujoco": "4.0.0"}, "mujoco 4.0.0 computes wrong accelerations", "pip install 'mujoco!=4.0.0'"),
    ],
)
def test_versions(versions, what, remedy, monkeypatch):
    monkeypatch.setattr(installation, "installed_version", lambda name: versions.get(name, "99.0"))
    finding = next(installation.installation())
    assert (finding.level, finding.exit_code) == ("problem", 1)
    assert finding.what.startswith(what)
    assert finding.remedy.startswith(remedy)


def test_without_mujoco_the_rest_works(monkeypatch):
    monkeypatch.setattr(installation, "installed_version", lambda name: {"mujoco": None}.get(name, "99.0"))
    first, second, *_ = installation.installation()
    assert (first.level, second.level, second.exit_code) == ("ok", "note", 0)
    assert first.what.endswith("gymnasium 99.0, mujoco not installed")
    assert second.what == "MuJoCo is not installed"
    assert second.remedy == "pip install 'softac[mujoco]', where they are wanted"


@pytest.mark.parametrize(
    ("module", "name", "value", "what"),
    [
        (installation, "available_memory", lambda: 10**9, "only 1.0 GB of memory are free"),
        (installation, "find_ffmpeg", lambda: None, "films: .gif only, since there is no ffmpeg"),
        (installation, "has_egl", lambda: False, "drawing: neither a display nor EGL"),
        (shutil, "which", lambda name: None, "there is no C++ compiler"),
        (torch, "get_num_threads", lambda: 4096, "processor: "),
        (torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT", "processor: "),
        (
            installation,
            "ProcessorTime",
            lambda: SimpleNamespace(share=lambda: 0.45),
            "processor time: 45% of what ",
        ),
        (
            installation,
            "how_threads_wait",
            lambda: {"openmp": "GNU (libgomp.so.1)", "waiting": {}, "waiting_chosen_by": "nobody"},
            "OpenMP: GNU (libgomp.so.1), whose threads spin while they wait",
        ),
        (torch.version, "cuda", "13.0", "this PyTorch is built for CUDA 13.0 and finds no GPU"),
    ],
)
def test_what_the_machine_lacks(module, name, value, what, monkeypatch):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, name, value)
    notes = [f for f in installation.installation() if f.level == "note" and f.what.startswith(what)]
    assert len(notes) == 1
    assert notes[0].remedy


def test_processor_time_that_is_had_or_not_counted(monkeypatch):
    for share, what in ((0.93, "processor time: 93% of what "), (None, "this system does not count how long ")):
        clock = SimpleNamespace(share=lambda share=share: share)
        monkeypatch.setattr(installation, "ProcessorTime", lambda clock=clock: clock)
        assert [f.level for f in installation.installation() if f.what.startswith(what)] == ["ok"]


def test_updates_that_differ(monkeypatch):
    draws = iter(range(2))
    monkeypatch.setattr(installation, "_one_update", lambda: {"actor": torch.tensor(next(draws))})
    finding = only(installation.self_test())
    assert finding.what == "the same update made twice gave different bits (actor)"
    assert finding.exit_code == 1


def test_a_temporary_folder_that_cannot_be_written(monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(installation, "write_checkpoint", full)
    finding = only(installation.self_test())
    assert "cannot be written and read again ([Errno 28] No space left on device)" in finding.what
    assert finding.exit_code == 1


# --------------------------------------------------------------------------- the files of a run


def test_a_healthy_run(run, capsys):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert main(["doctor", str(run)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "files"
    assert out[1].endswith(" on Short-v0, seed 0")
    assert out[2] == "ok      progress: 60 of 60 steps logged"
    assert out[3] == "ok      checkpoints/step-000000060 verifies, with 60 transitions of replay"
    assert any(re.fullmatch(r"ok      best/step-0000000\d0 verifies", line) for line in out)
    assert out[-1] == "healthy"
    assert all(line.startswith("ok ") for line in out if line not in ("files", "learning", "healthy"))
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_a_damaged_checkpoint(run, capsys):
    newest = run / "checkpoints" / "step-000000060" / "networks.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert main(["doctor", str(run)]) == 1
    out = capsys.readouterr().out
    assert "problem checkpoints/step-000000060 does not verify: " in out
    assert "is damaged" in out
    assert "ok      checkpoints/step-000000040 verifies" in out
    assert out.splitlines()[-1].startswith("1 problem")


def test_no_checkpoint_that_verifies(run, capsys):
    for file in run.glob("checkpoints/*/networks.safetensors"):
        file.write_bytes(b"")
    assert main(["doctor", str(run)]) == 3
    out = capsys.readouterr().out
    assert "problem no checkpoint verifies; there is no agent to evaluate or to go on with; restore one, or" in out
    assert "ok      target entropy: -1 of at most 0.6931 nats" in out  # what the configuration alone tells
    assert "Q is" not in out


def test_a_damaged_replay(run):
    min(run.glob("replay/*.npy")).write_bytes(b"")
    found = [f for f in run_files.files(run) if f.level == "problem"]
    assert len(found) == 3  # both checkpoints need it, so none verifies
    assert [f.exit_code for f in found] == [1, 1, 3]


def test_no_checkpoint_yet(run):
    shutil.rmtree(run / "checkpoints")
    finding = only(run_files.files(run))
    assert finding.what == "there is no checkpoint yet"
    assert finding.remedy == f"restore one, or begin again: softac resume {run}"
    assert finding.exit_code == 3


def test_a_run_that_is_not_done(run):
    sick_rows(run, lambda rows: rows[:1])
    assert any(f"60 steps logged; go on with: softac resume {run}" in f.what for f in run_files.files(run))


def test_a_run_in_use(run):
    assert not in_use(run)
    with RunFolder(run):
        assert in_use(run)
        assert "another process is at work on it now" in [f.what for f in run_files.files(run)]
    assert not in_use(run)


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert main(["doctor", str(tmp_path)]) == 3
    assert "has no config.json in it; expected the folder of a run" in capsys.readouterr().err
    assert main(["doctor", str(tmp_path / "nothing")]) == 2
    assert "is not a folder; expected the folder of a run" in capsys.readouterr().err


# --------------------------------------------------------------------------- how it learns


def test_a_metric_that_is_not_finite(run):
    sick_rows(run, lambda rows: [*rows, {"step": 60, "train/critic_loss": math.nan}])
    finding = only(learning.learning(run))
    assert finding.what == "train/critic_loss is nan at step 60"
    assert (finding.level, finding.exit_code) == ("problem", 1)


def test_rows_that_lack_half_of_an_evaluation(run):
    rows = ({"step": 90, "eval/mean_reward": 1.0, "eval/returns": [1.0]}, {"step": 91, "eval/mean_reward": "x"})
    odd = {
        "step": 92,
        "train/ent_coef": "a",
        "train/saturated_actions": [],
        "time/action_delay": 1,
        "time/fps": "x",
    }
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in (*rows, odd, {"step": 93, "eval/std_reward": 10**400}))
    found = list(learning.learning(run))
    assert not any("90" in finding.what for finding in found)
    assert any(finding.what.startswith("evaluation ") for finding in found)


@pytest.mark.parametrize(
    ("dim", "config", "level", "what"),
    [
        (1, {}, "ok", "target entropy: -1 of at most 0.6931 nats"),
        (6, {}, "ok", "target entropy: -6 of at most 4.159 nats"),
        (
            2,
            {"target_entropy": 1.386},
            "note",
            "the target entropy 1.386 is close to the 1.386 nats of",
        ),
        (
            2,
            {"target_entropy": 2.0},
            "problem",
            "the target entropy 2 is out of reach: a policy in [-1, 1]^2 has",
        ),
        (2, {"target_entropy": 9.0, "ent_coef": 0.2}, "ok", "temperature: fixed at 0.2"),
    ],
)
def test_target_entropy(dim, config, level, what):
    (finding,) = learning.target_entropy(SACConfig(**config), dim)
    assert finding.level == level
    assert finding.what.startswith(what)


def rows_of(name, values, **others):
    return [{"step": 1000 * i, name: float(v), **others} for i, v in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.geomspace(1, 0.1, 20), None),
        ([*np.geomspace(1, 1e-3, 10), *[1e-3, 1.1e-3] * 5], None),  # small rewards: small, but settled
        ([*np.geomspace(1, 0.05, 10), *np.geomspace(0.05, 3, 10)], None),
        (np.geomspace(1, 500, 20), "the temperature runs off upwards: 1 -> 500 (entropy -3, target -1)"),
        ([*np.geomspace(1, 0.01, 5), *np.geomspace(0.01, 5, 15)], "the temperature runs off upwards: 0.01 -> 5"),
        (np.geomspace(1, 1e-5, 20), "the temperature has collapsed: 1 -> 1e-05"),
        ([1.0, 1e-7], "the temperature has collapsed: 1 -> 1e-07"),
    ],
)
def test_temperature(values, what):
    rows = rows_of("train/ent_coef", values, **{"train/entropy": -3.0})
    (finding,) = learning.temperature(rows, SACConfig(), 1)
    if what is None:
        assert finding.level == "ok"
    else:
        assert (finding.level, finding.exit_code) == ("problem", 1)
        assert finding.what.startswith(what)
        assert finding.why
        assert finding.remedy


@pytest.mark.parametrize(("share", "level"), [(0.1, "ok"), (0.8, "note"), (0.97, "problem")])
def test_saturated_actions(share, level):
    (finding,) = learning.saturation(rows_of("train/saturated_actions", [share] * 6))
    assert finding.level == level
    assert f"{share:.0%}" in finding.what


def evaluated(means, stochastic=None, std=1.0):
    return [
        {
            "step": 5000 * i,
            "eval/mean_reward": m,
            "eval/std_reward": std,
            "eval/stochastic_mean_reward": m if stochastic is None else stochastic,
            "eval/stochastic_std_reward": std,
            "eval/returns": [m] * 10,
        }
        for i, m in enumerate(means, 1)
    ]


@pytest.mark.parametrize(
    ("rows", "level", "what"),
    [
        ([], "ok", "no evaluation yet"),
        (evaluated([-1400, -200, -150, -180]), "ok", "evaluation -180 at step 20,000, best -150 at step 15,000"),
        (
            evaluated([-1400, -150, -1300]),
            "problem",
            "evaluation -1,300 at step 15,000 has fallen from -150",
        ),
        (evaluated([10, 11, 10.4], std=5.0), "ok", "evaluation 10.4"),  # within the noise
        (evaluated([10, 300], 100), "note", "sampled actions return 100, the mode 300"),
        (evaluated([10, 100], 300), "note", "the mode returns 100, sampled actions 300"),
    ],
)
def test_evaluations(rows, level, what):
    found = list(learning.evaluations(rows))
    worst = next((f for f in found if f.level != "ok"), found[0])
    assert worst.level == level
    assert worst.what.startswith(what)


# --------------------------------------------------------------------------- Q and what follows


def test_discounted_soft_returns_by_hand():
    # r = 1, 2, 4; bonuses 10, 20, 40; gamma = 1/2. The bonus of a step is in the value of those before it alone.
    g = soft_returns.discounted([1, 2, 4], [10, 20, 40], 0.5, 1, 0.0)
    assert g.tolist() == [1 + 0.5 * (20 + 24), 2 + 0.5 * (40 + 4), 4]
    cut_off = soft_returns.discounted([1, 2, 4], [10, 20, 40], 0.5, 1, 8.0)
    assert cut_off.tolist() == [1 + 0.5 * (20 + 26), 2 + 0.5 * (40 + 8), 4 + 0.5 * 8]


def test_discounted_soft_returns_of_two_steps_by_hand():
    # Q(s_0, a_0) = r_0 + r_1 / 2 + 1/4 (bonus_2 + Q(s_2, a_2)): the bonus of step 1 is in no target.
    g = soft_returns.discounted([1, 2, 4], [10, 20, 40], 0.5, 2, 8.0)
    assert g.tolist() == [1 + 1 + 0.25 * (40 + 8), 2 + 2 + 0.25 * 8, 4 + 4]


class ConstantEnv(TerminatingEnv):
    def reward(self, action):
        return 1.0


def test_soft_returns_of_a_terminating_episode():
    probe = agent(gamma=0.9, ent_coef=0.0)
    q, follows, episodes = soft_returns.soft_returns(probe, InProcessVectorEnv(lambda: ConstantEnv(4), 1), 2)
    expected = [sum(0.9**k for k in range(left)) for left in (4, 3, 2, 1)]
    np.testing.assert_allclose(follows, expected * 2)
    assert (len(q), episodes) == (8, 2)


def test_the_entropy_bonus_is_in_the_soft_return():
    hot, cold = agent(gamma=0.9, ent_coef=2.0), agent(gamma=0.9, ent_coef=0.0)
    made = [soft_returns.soft_returns(a, InProcessVectorEnv(lambda: ConstantEnv(4), 1), 1)[1] for a in (hot, cold)]
    assert made[0][-1] == made[1][-1]  # the last step's own entropy is not in its value
    assert (made[0][:-1] != made[1][:-1]).all()


def test_steps_too_close_to_a_time_limit_are_left_out():
    probe = agent(gamma=0.5, ent_coef=0.0)

    def envs():
        env = ConstantEnv(6)
        env.how = "truncated"
        return InProcessVectorEnv(lambda: env, 1)

    q, follows, _ = soft_returns.soft_returns(probe, envs(), 1)
    assert len(q) == 5  # 0.5^2 = a quarter is allowed
    q, follows, episodes = soft_returns.soft_returns(agent(gamma=1.0), envs(), 1)
    assert (len(q), len(follows), episodes) == (0, 0, 0)


@pytest.mark.parametrize(
    ("q", "young", "level", "why"),
    [
        (10.0, False, "ok", ""),
        (10.0, True, "ok", ""),
        (40.0, True, "note", "too early to judge"),
        (40.0, False, "problem", "the critics overestimate"),
        (-40.0, False, "note", "the minimum over the critics is too pessimistic"),
    ],
)
def test_the_bias_of_the_critics(q, young, level, why):
    follows = np.array([9.0, 10.0, 11.0])
    finding = learning.judged(np.full(3, q), follows, 1, young)
    assert finding.level == level
    assert finding.why.startswith(why)
    assert finding.what.startswith(
        f"Q is {q:.4g} where a soft return of 10 follows: bias {q - 10:+.3g}, spread of"
    )
    assert finding.exit_code == (level == "problem")


def test_critics_that_overestimate_a_real_run(run, monkeypatch):
    right = learning.soft_returns
    monkeypatch.setattr(learning, "soft_returns", lambda *a: (lambda q, g, n: (q + 50.0, g, n))(*right(*a)))
    finding = only(learning.learning(run))
    assert finding.level == "problem"
    assert "the critics overestimate" in finding.why


def test_an_environment_that_is_not_there(run):
    del gym.registry["Short-v0"]
    try:
        finding = only(learning.learning(run))
    finally:
        gym.register("Short-v0", ShortEnv)
    assert finding.level == "note"
    assert finding.what.startswith("the critics were not compared with episodes: unknown environment 'Short-v0'")
    assert "--env" in finding.remedy
