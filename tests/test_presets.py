"""`--preset`: tuned settings, published ones, and those of a file."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from softac import PPO, SAC, XQC
from softac.agents.presets import file_preset, find_preset, named_preset, preset
from softac.cli.main import main
from softac.errors import ConfigError
from softac.experiments.plan import plan

BEST = """
[[sac]]
environments = ["Pendulum-v1", "Hopper-v5"]
source = "tried on a pendulum"
learning_rate = 0.0012
net_arch = [8, 8]

[[sac]]
gamma = 0.98

[[ppo]]
environments = ["CartPole-v1"]
n_envs = 2
n_steps = 64
"""


def written(folder: Path, text: str = BEST) -> Path:
    path = folder / "best.toml"
    path.write_text(text)
    return path


def test_a_table_is_for_its_environments_and_one_without_for_all_others(tmp_path: Path) -> None:
    file = str(written(tmp_path))
    assert file_preset("sac", "Hopper-v5", file) == {"learning_rate": 0.0012, "net_arch": [8, 8]}
    assert file_preset("sac", "Walker2d-v5", file) == {"gamma": 0.98}
    swapped = written(tmp_path, "[[sac]]\ngamma = 0.9\n[[sac]]\nenvironments = ['Hopper-v5']\ngamma = 0.98\n")
    assert file_preset("sac", "Hopper-v5", str(swapped)) == {"gamma": 0.98}


def test_one_word_means_all_three(tmp_path: Path) -> None:
    file = str(written(tmp_path))
    assert find_preset("sac", "Hopper-v5", None) == find_preset("sac", "Hopper-v5", False) == {}
    assert find_preset("sac", "Hopper-v5", True) == preset("sac", "Hopper-v5") == {"learning_starts": 10_000}
    assert find_preset("xqc", "Hopper-v5", "xqc-paper") == named_preset("xqc", "xqc-paper")
    assert find_preset("sac", "Hopper-v5", file) == file_preset("sac", "Hopper-v5", file)


def test_a_file_is_printed_and_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, run = str(written(tmp_path)), tmp_path / "run"
    words = ["-n", "130", "--n-steps", "32", "--eval-freq", "0", "--n-eval-episodes", "1", "--run-dir", str(run)]
    assert main(["train", "ppo", "CartPole-v1", "--preset", file, *words]) == 0
    assert f"preset for {file}: n_envs=2, n_steps=32; everything else as in" in capsys.readouterr().out
    config = json.loads((run / "config.json").read_text())
    assert (config["run"]["n_envs"], config["hyperparameters"]["n_steps"]) == (2, 32)


def test_a_file_alone_is_no_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, run = str(written(tmp_path)), tmp_path / "run"
    words = ["-n", "20", "--eval-freq", "0", "--n-eval-episodes", "0", "--run-dir", str(run)]
    assert main(["train", "--preset", file, *words]) == 0
    assert f"preset for {file}: learning_rate=0.0012, net_arch=8 8; " in capsys.readouterr().out
    assert json.loads((run / "config.json").read_text())["env"]["id"] == "Pendulum-v1"


def test_a_suite_takes_a_file(tmp_path: Path) -> None:
    file, suite = written(tmp_path), tmp_path / "suite.toml"
    suite.write_text(
        f'title = "x"\ntotal_timesteps = 10\nseeds = "0"\nenvironments = ["Pendulum-v1"]\n'
        f'[[algorithms]]\nalgorithm = "sac"\npreset = "{file}"\nsettings = {{ gamma = 0.5 }}\n'
    )
    [group] = plan(str(suite), None, None, None)[0].groups
    found = group.config["hyperparameters"]
    assert (found["learning_rate"], found["gamma"], list(found["net_arch"])) == (0.0012, 0.5, [8, 8])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            None,
            "best.toml cannot be read (No such file or directory); expected settings in TOML, such as `softac ",
        ),
        (
            "[[sac]",
            "; expected settings in TOML, such as `softac tune` writes; see docs/guide/tuning.md for one, ",
        ),
        ("\xff", "; expected settings in TOML"),
        ("x = " + "[" * 100_000, "; expected settings in TOML"),
        (
            "sac = 3",
            "best.toml: what stands under sac is no list of tables with environments that are one of texts; ",
        ),
        ("[sac]\ngamma = 0.9", "expected a table [[sac]] with settings in it, and perhaps environments = "),
        (
            "[[sac]]\nenvironments = 'Pendulum-v1'",
            "with environments that are one of texts; expected a table [[sac",
        ),
        ("[[sac]]\nenvironments = [1]", "with environments that are one of texts; expected a table [[sac]] with "),
        (
            "[[ppo]]\ngamma = 1\n[[sac]]\nenvironments = ['Hopper-v5']",
            "best.toml has no settings for sac on Pendulum-v1; expected a table [[sac]] with settings in it, and "
            'perhaps environments = ["Pendulum-v1"]; it has ppo on any environment, sac on Hopper-v5; add ',
        ),
        (
            "",
            "best.toml has no settings for sac on Pendulum-v1; expected a table [[sac]] with settings in it, and ",
        ),
        ("[[sac]]\ngama = 1", "unknown hyperparameter 'gama'"),
        ("[[sac]]\nenv = 'CartPole-v1'", "unknown hyperparameter 'env'; "),
        ("[[sac]]\nagent_class = 'td3'", "unknown hyperparameter 'agent_class'; "),
        ("[[sac]]\ntrust_module = true", "unknown hyperparameter 'trust_module'; "),
        ("[[sac]]\nenv_kwargs = { g = 9.0 }", "unknown hyperparameter 'env_kwargs'; "),
        ("[[sac]]\ngamma = 2", "gamma=2 was given; expected a number >= 0 and <= 1"),
    ],
)
def test_a_mistake_in_the_file(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best.toml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    assert main(["train", "--preset", str(path), "--run-dir", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_too_large_or_none(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(
        ConfigError, match=r"large\.toml has 1048577 bytes or is not a regular file; expected settings"
    ):
        file_preset("sac", "Pendulum-v1", str(tmp_path / "large.toml"))
    with pytest.raises(ConfigError, match=r"expected settings in TOML"):
        file_preset("sac", "Pendulum-v1", str(tmp_path))


def test_python_takes_what_the_command_takes(tmp_path: Path) -> None:
    assert SAC("Hopper-v5", preset=True).agent.config.learning_starts == 10_000
    assert SAC(gym.make("Hopper-v5"), preset=True, net_arch=[8]).agent.config.learning_starts == 10_000
    published = XQC("Pendulum-v1", preset="xqc-paper", net_arch=[8])
    assert (published.agent.config.learning_rate, published.agent.config.net_arch) == (3e-4, (8,))
    (tmp_path / "best.toml").write_text("[[sac]]\ngamma = 0.9\n")
    model = SAC("Pendulum-v1", preset=tmp_path / "best.toml", gamma=0.8)
    assert model.agent.config.gamma == 0.8  # what is given beside it counts more
    assert SAC("Pendulum-v1", preset=str(tmp_path / "best.toml")).agent.config.gamma == 0.9
    assert PPO("CartPole-v1", preset=True).run.n_envs == 8


@pytest.mark.parametrize(
    ("env", "preset", "said"),
    [
        ("NoSuch-v1", True, "a preset was asked for sac on NoSuch-v1, which has none; expected one of: "),
        (lambda: gym.make("Hopper-v5"), True, "a preset was asked for sac on <lambda>, which has none; "),
        ("Pendulum-v1", "papr", "a preset papr was asked for sac; expected one of: none has a name"),
        ("Pendulum-v1", 3, "preset=3 was given; expected True, the name of published settings, or a file"),
    ],
)
def test_python_refuses_what_is_no_preset(env: Any, preset: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SAC(env, preset=preset)
    assert str(caught.value).startswith(said)
