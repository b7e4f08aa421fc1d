"""What a search looks through: the spaces that come with softac, files of one's own, and mistakes in them."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softac.agents.registry import AGENTS
from softac.cli.main import main
from softac.config import make_config
from softac.errors import ConfigError
from softac.experiments.tuning.space import (
    Choice,
    Range,
    as_data,
    contains,
    coordinate,
    coordinate_name,
    coordinates,
    default_space,
    ends,
    parse_space,
    read_space,
    value_at,
)

MIXED = """
learning_rate = { low = 1e-4, high = 1e-2, scale = "log" }
gamma = { low = 0.9, high = 0.999, scale = "log of 1 - x" }
batch_size = { low = 16, high = 512, scale = "powers of 2" }
n_critics = { low = 2, high = 5 }
net_arch = { choices = [[64, 64], [256, 256]] }
ent_coef = { choices = ["auto", 0.1] }
n_envs = { choices = [1, 4] }
"""


@pytest.mark.parametrize("algorithm", AGENTS)
def test_each_algorithm_has_a_space_that_its_defaults_lie_in(algorithm: str) -> None:
    space = read_space(algorithm, None)
    assert 5 <= len(space) <= 8
    axes = {coordinate_name(name, dimension) for name, dimension in space.items()}
    assert coordinates(algorithm, space, {}).keys() == axes
    assert default_space(algorithm).startswith(f"# What `softac tune {algorithm}` looks through.")
    corners = {k: d.values[-1] if isinstance(d, Choice) else d.high for k, d in space.items()}
    make_config(AGENTS[algorithm].Config, {k: v for k, v in corners.items() if k != "n_envs"})


def test_a_space_is_printed_as_a_file_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "ppo", "--print-space"]) == 0
    file = tmp_path / "space.toml"
    file.write_text(capsys.readouterr().out)
    assert read_space("ppo", file) == read_space("ppo", None)
    assert read_space("ppo", file)["clip_range"] == Range(0.1, 0.4, "linear", whole=False)


def test_axes_by_hand() -> None:
    space = parse_space("sac", tomllib.loads(MIXED), "it")
    settings = {"learning_rate": 1e-3, "gamma": 0.97, "batch_size": 64, "n_critics": 3, "net_arch": [64, 64]}
    found = coordinates("sac", space, settings)
    assert found == {
        "learning_rate": 1e-3,
        "1 - gamma": pytest.approx(0.03),
        "log2 batch_size": 6,
        "n_critics": 3,
        "net_arch": "64 64",
        "ent_coef": "auto",
        "n_envs": "1",
    }
    assert type(found["log2 batch_size"]) is int
    assert value_at(space["gamma"], 0.0123456) == 0.98765
    assert value_at(space["learning_rate"], 0.00123456) == 0.001235
    assert value_at(space["batch_size"], 5) == 32
    assert value_at(space["net_arch"], "256 256") == [256, 256]
    assert value_at(space["ent_coef"], "0.1") == 0.1


def test_what_lies_outside_is_left_out() -> None:
    space = parse_space("sac", tomllib.loads(MIXED), "it")
    outside = {"learning_rate": 0.1, "batch_size": 48, "n_critics": 2.5, "net_arch": [32], "gamma": "auto"}
    assert coordinates("sac", space, outside).keys() == {"ent_coef", "n_envs"}
    assert not contains(space["n_critics"], True)


def test_a_space_comes_back_from_plain_data() -> None:
    space = parse_space("sac", tomllib.loads(MIXED), "it")
    assert parse_space("sac", as_data(space), "it") == space


@given(st.sampled_from(["linear", "log", "log of 1 - x"]), st.data())
def test_a_value_with_few_digits_stays_inside(scale: Any, data: st.DataObject) -> None:
    low = data.draw(st.floats(1e-6, 0.99))
    high = data.draw(st.floats(low, 0.9999).filter(lambda x: x > low))
    dimension = Range(low, high, scale, whole=False)
    first, last = ends(dimension)
    value = value_at(dimension, data.draw(st.floats(first, last)))
    assert low <= value <= high
    assert first <= float(coordinate(dimension, value)) <= last


@given(st.integers(0, 12), st.integers(1, 12), st.data())
def test_powers_of_two_are_all_there(low: int, more: int, data: st.DataObject) -> None:
    dimension = Range(2**low, 2 ** (low + more), "powers of 2", whole=True)
    assert ends(dimension) == (low, low + more)
    place = data.draw(st.integers(low, low + more))
    value = value_at(dimension, place)
    assert (value, type(value)) == (2**place, int)
    assert coordinate(dimension, value) == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty; expected at least one of learning_rate, "),
        (
            "gama = { low = 0.9, high = 0.99 }",
            "it: unknown hyperparameter 'gama'; did you mean 'gamma'?; expected some",
        ),
        ("seed = { choices = [1, 2] }", "it: unknown hyperparameter 'seed'"),
        ("gamma = 0.9", "it: gamma = 0.9; expected a range such as { low = 1e-4, high = 1e-2, scale = "),
        ("gamma = { low = 0.9 }", "it: gamma = {'low': 0.9}; expected a range such as"),
        (
            "gamma = { low = 0.9, high = 0.99, step = 1 }",
            "as `softac tune ALGO --print-space` has them; 'step' is no key",
        ),
        ("gamma = { low = 0.9, high = 0.99, choices = [1] }", "'choices': [1]}; expected a range"),
        (
            "gamma = { low = 0.99, high = 0.9 }",
            "it: gamma has low = 0.99, high = 0.9: they are inverted; expected low < high; correct it",
        ),
        (
            "gamma = { low = 0.9, high = 0.9 }",
            "low = 0.9, high = 0.9: there is nothing between them; expected low < hi",
        ),
        ("gamma = { low = nan, high = 0.9 }", "low = nan, high = 0.9; expected finite numbers"),
        ("gamma = { low = 'a', high = 0.9 }", "low = 'a', high = 0.9; expected finite numbers"),
        ("gamma = { low = false, high = true }", "low = False, high = True; expected finite numbers"),
        (
            "gamma = { low = 0.9, high = 1.5 }",
            "it: gamma=1.5 was given; expected a number >= 0 and <= 1; leave it out",
        ),
        (
            "gamma = { low = 0.9, high = 0.99, scale = 'lin' }",
            "has scale = 'lin'; expected one of 'linear', 'log', ",
        ),
        ("gamma = { low = 0.9, high = 1.0, scale = 'log of 1 - x' }", "expected numbers below 1 for scale = "),
        ("learning_rate = { low = 0, high = 0.1, scale = 'log' }", "expected numbers above 0 for scale = "),
        ("learning_rate = { low = 0, high = 0.1 }", "learning_rate=0 was given; expected a number > 0 and <= 1"),
        (
            "batch_size = { low = 48, high = 64, scale = 'powers of 2' }",
            "expected powers of 2, at least 1, for scale =",
        ),
        ("batch_size = { low = 1.5, high = 64 }", "expected whole numbers; correct it"),
        ("n_steps = { low = 2, high = 8, scale = 'log of 1 - x' }", "expected numbers below 1"),
        (
            "net_arch = { low = 32, high = 64 }",
            "expected choices, since it is no number; give { choices = [...] }",
        ),
        ("actor_q = { low = 1, high = 2 }", "expected choices, since it is no number"),
        ("net_arch = { choices = [[64]] }", "it: net_arch has choices = [[64]]; expected a list of at least two"),
        ("net_arch = { choices = 3 }", "net_arch has choices = 3; expected a list of at least two"),
        (
            "net_arch = { choices = [[64], [0]] }",
            "it: net_arch=[0] was given; expected whole numbers from 1 to 16384",
        ),
        ("batch_size = { choices = [64, 64] }", "batch_size has the choice '64' twice; expected each once"),
        ("batch_size = { choices = [64, true] }", "it: batch_size=True was given; expected a whole number >= 1"),
        ("actor_q = { choices = ['min', 'max'] }", 'it: actor_q=\'max\' was given; expected "min" or "mean"'),
    ],
)
def test_a_mistake(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_space("sac", tomllib.loads(text), "it")
    assert message in str(caught.value)


def test_what_only_several_values_show_together_is_no_mistake_of_one() -> None:
    space = parse_space("reinforce", {"gae_lambda": {"low": 0.9, "high": 0.98}}, "it")
    assert space["gae_lambda"] == Range(0.9, 0.98, "linear", whole=False)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no\.toml cannot be read .*; expected a search space in TOML; see docs"
    ):
        read_space("sac", tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("gamma = {")
    with pytest.raises(
        ConfigError, match=r"bad\.toml: .*; expected a search space in TOML; see docs/guide/tuning"
    ):
        read_space("sac", tmp_path / "bad.toml")


def test_an_algorithm_without_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGENTS, "mine", AGENTS["sac"])
    with pytest.raises(
        ConfigError, match="mine has no search space of its own; expected a file with a range such "
    ):
        read_space("mine", None)
