"""Hyperparameters that cannot work are refused at once and in words; those that can, train."""

import math
import re
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reliability_envs import Drift, tiny
from softac import SAC
from softac.agents.registry import AGENTS
from softac.agents.sac import SACConfig
from softac.config import fields, make_config
from softac.config.make import ELSEWHERE
from softac.errors import ConfigError, NumericalError
from softac.learning.state import state_of
from softac.replay import Replay
from softac.run.config import RecordConfig, RunConfig

NAN, INF = math.nan, math.inf

ABSURD: list[tuple[str, Any]] = [
    *[("learning_rate", v) for v in (-1, NAN, INF, 0)],
    *[("gamma", v) for v in (1.5, -0.1, NAN)],
    *[("tau", v) for v in (-1, 2, NAN)],
    *[("batch_size", v) for v in (0, -5, 2.5)],
    *[("buffer_size", v) for v in (0, -1)],
    *[("learning_starts", v) for v in (-100, NAN)],
    *[("gradient_steps", v) for v in (0, -7, NAN)],
    *[("train_freq", v) for v in (0, -1)],
    *[("ent_coef", v) for v in ("auto_-1", -0.5, NAN, "banana")],
    *[("target_entropy", v) for v in ("banana", NAN)],
    *[("target_update_interval", v) for v in (0, -1)],
    *[("n_steps", v) for v in (0, -1)],
    *[("seed", v) for v in (-1, 2**40)],
]

EXPECTED = {
    "learning_rate": 'a number > 0 and <= 1, or "linear START END STEPS" or "cosine START END STEPS" of such or 0',
    "gamma": "a number >= 0 and <= 1",
    "tau": "a number > 0 and <= 1",
    "batch_size": "a whole number >= 1 and <= 1e+09",
    "buffer_size": "a whole number >= 1 and <= 1e+09",
    "learning_starts": "a whole number >= 0 and <= 1e+12",
    "gradient_steps": "a number > 0 and <= 1000",
    "train_freq": "a whole number >= 1 and <= 1e+09",
    "ent_coef": '"auto", "auto_0.1" (its initial value, >= 1e-30) or a number >= 0 and <= 1e+06',
    "target_entropy": '"auto" or a finite number of nats',
    "target_update_interval": "a whole number >= 1 and <= 1e+09",
    "n_steps": "a whole number >= 1 and <= 10000",
    "seed": "a whole number >= 0 and < 4294967296",
}
DEFAULT = {
    "learning_rate": "0.0003",
    "gamma": "0.99",
    "tau": "0.005",
    "batch_size": "256",
    "buffer_size": "1000000",
    "learning_starts": "100",
    "gradient_steps": "1",
    "train_freq": "1",
    "ent_coef": "auto",
    "target_entropy": "auto",
    "target_update_interval": "1",
    "n_steps": "1",
    "seed": "0",
}


def never() -> Any:
    raise AssertionError("an environment was made")


def test_there_are_34() -> None:
    assert len(ABSURD) == 34


@pytest.mark.parametrize(("name", "value"), ABSURD, ids=lambda v: str(v))
def test_absurd_values_are_refused(name: str, value: Any) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        SAC(never, **{name: value})
    # The bar is one second; what takes this long here is a mistake already.
    assert time.monotonic() - began < 0.5
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        f"{name}={value!r} was given; expected {EXPECTED[name]}; leave it out for the default {DEFAULT[name]}"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", "fast"),
        ("learning_rate", None),
        ("learning_rate", 1.0001),
        ("actor_learning_rate", 0),
        ("critic_learning_rate", NAN),
        ("ent_coef_learning_rate", -1e-9),
        ("batch_size", True),
        ("batch_size", 10**10),
        ("batch_size", [32]),
        ("n_critics", 0),
        ("n_critics", 65),
        ("ent_coef", "auto_0"),
        ("ent_coef", "auto_inf"),
        ("ent_coef", "auto_nan"),
        ("ent_coef", "automatic"),
        ("ent_coef", INF),
        ("ent_coef", None),
        ("target_entropy", INF),
        ("target_entropy", "-inf"),
        ("net_arch", []),
        ("net_arch", [0]),
        ("net_arch", [-8, 8]),
        ("net_arch", [16385]),
        ("net_arch", [1] * 17),
        ("net_arch", "256"),
        ("net_arch", {"pi": [64], "qf": [64]}),
        ("alpha_loss", "beta"),
        ("actor_q", "max"),
        ("log_std", "exp"),
        ("n_envs", 0),
        ("n_envs", 1.5),
        ("engine", "warp"),
        ("precision", "float8"),
        ("seed", 0.5),
        ("seed", None),
    ],
    ids=lambda v: str(v)[:20],
)
def test_more_that_cannot_work(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        SAC(never, **{name: value})
    text = str(caught.value)
    assert text.startswith(f"{name}={value!r} was given; expected ")
    assert "; leave it out for the default " in text
    assert text.isprintable()


@pytest.mark.parametrize("value", ["gpu", "cuda:99", "meta", "cpu:x", ""])
def test_devices(value: str) -> None:
    text = (
        f"device={value!r} was given; expected auto, cpu, or a CUDA device that is present "
        f"({torch.cuda.device_count()} here); leave it out for auto"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        SAC(never, device=value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("eval_freq", -1, "a whole number >= 0"),
        ("n_eval_episodes", -1, "a whole number >= 0 and <= 10000"),
        ("n_eval_episodes", 10_001, "a whole number >= 0 and <= 10000"),
        ("save_freq", 0.5, "a whole number >= 0"),
    ],
)
def test_how_to_record(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{name}={value!r} was given; expected {expected}; ')}"):
        tiny().learn(10, **{name: value})


@pytest.mark.parametrize("steps", [0, -5, 2.5, "100", None])
def test_how_long_to_learn(steps: Any) -> None:
    text = (
        f"total_timesteps={steps!r} was given; expected a whole number of environment steps, at least 1; give "
        "100_000, say"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        tiny().learn(steps)


def test_a_batch_larger_than_the_replay() -> None:
    text = (
        "batch_size=256 was given with buffer_size=100; expected a batch no larger than the replay; lower "
        "batch_size or raise buffer_size"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        SAC(never, buffer_size=100)
    assert SAC(Drift, buffer_size=256).agent.config.batch_size == 256


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("learning_rat", "learning_rate"),
        ("gama", "gamma"),
        ("net_arc", "net_arch"),
        ("targetentropy", "target_entropy"),
    ],
)
def test_the_nearest_names(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SAC(never, **{typed: 1})
    text = str(caught.value)
    assert text.startswith(f"unknown hyperparameter {typed!r}; did you mean {meant!r}")
    assert text.endswith("; `softac defaults` lists them with their meaning")


@pytest.mark.parametrize(("theirs", "ours"), ELSEWHERE.items())
def test_the_names_of_other_libraries(theirs: str, ours: str) -> None:
    configs = [agent.Config for agent in AGENTS.values() if ours in fields(agent.Config)]
    assert configs
    text = (
        f"unknown hyperparameter {theirs!r}; here it is called {ours!r}; `softac defaults` lists them with their "
        "meaning"
    )
    for config in configs:
        assert theirs not in fields(config)
        with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
            make_config(config, {theirs: 1})


def test_a_name_is_not_translated_into_one_that_the_algorithm_lacks() -> None:
    with pytest.raises(ConfigError) as caught:
        SAC(never, exploration_fraction=0.1)
    assert "here it is called" not in str(caught.value)


def test_a_name_like_no_other() -> None:
    with pytest.raises(ConfigError) as caught:
        SAC(never, zzz=1)
    assert str(caught.value) == (
        f"unknown hyperparameter 'zzz'; expected one of: {', '.join(fields(SACConfig))}; `softac defaults` lists "
        "them with their meaning"
    )


@pytest.mark.parametrize("config", [SACConfig, RunConfig, RecordConfig])
def test_defaults_are_accepted_and_described(config: type[Any]) -> None:
    made = make_config(config, {})
    for name, field in fields(config).items():
        assert field.description, name
        # Given in full, they are still accepted: what `config.json` holds can be read back.
        assert make_config(config, {name: getattr(made, name)}) == made


def some(*usual: Any, low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers between `low` and `high` over their orders of magnitude, and the usual ones."""
    powers = st.floats(math.log10(low), math.log10(high)).map(lambda e: min(max(10**e, low), high))
    return st.one_of(st.sampled_from(usual), powers)


# The temperature is exp of what learns: after 128 updates at rate 1 it may be exp(128), beyond float32.
# So the two rates it can have end at 0.1 here; what a larger one comes to is the last test's.
CONFIGS = st.fixed_dictionaries(
    {"net_arch": st.lists(st.integers(1, 16), min_size=1, max_size=3), "buffer_size": st.integers(32, 200)},
    optional={
        "learning_rate": some(1e-12, 0.1, low=1e-12, high=0.1),
        "actor_learning_rate": st.none() | some(1.0, low=1e-12, high=1.0),
        "critic_learning_rate": st.none() | some(1.0, low=1e-12, high=1.0),
        "ent_coef_learning_rate": st.none() | some(0.1, low=1e-12, high=0.1),
        "learning_starts": st.integers(0, 70),
        "batch_size": st.integers(1, 32),
        "tau": some(1.0, low=1e-12, high=1.0),
        "gamma": st.floats(0.0, 1.0),
        "train_freq": st.integers(1, 70),
        "gradient_steps": st.floats(0.01, 2.0),
        "target_update_interval": st.integers(1, 70),
        "n_critics": st.integers(1, 5),
        "n_steps": st.integers(1, 70),
        "ent_coef": st.one_of(
            st.just("auto"),
            some(1.0, low=1e-6, high=1e3).map(lambda value: f"auto_{value}"),
            some(0.0, low=1e-6, high=1e3),
        ),
        "target_entropy": st.one_of(st.just("auto"), st.floats(-1e3, 1e3)),
        "alpha_loss": st.sampled_from(["alpha", "log_alpha"]),
        "actor_q": st.sampled_from(["min", "mean"]),
        "log_std": st.sampled_from(["clamp", "tanh"]),
        "n_envs": st.integers(1, 4),
        "seed": st.integers(0, 2**32 - 1),
    },
)


@settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(CONFIGS)
def test_what_is_accepted_trains_and_stays_finite(config: dict[str, Any]) -> None:
    model = SAC(Drift, **({"batch_size": 32} | config))
    assert model.learn(64).num_timesteps == 64
    training = model.training
    assert training is not None
    memory = training.memory
    assert isinstance(memory, Replay)
    assert np.isfinite(memory.explicit_rows(memory.added - len(memory), memory.added)).all()
    assert all(math.isfinite(value) for value in training.means.means().values())
    for name, tensor in state_of(model.agent).items():
        assert torch.isfinite(tensor).all(), name


def test_a_temperature_that_runs_away_ends_in_words() -> None:
    with pytest.raises(NumericalError) as caught:
        tiny(Drift, net_arch=[1, 14], learning_rate=1.0, learning_starts=2).learn(64)
    assert str(caught.value) == (
        "train/critic_loss is inf at step 64; expected finite numbers; lower the learning rate or scale the "
        "rewards down, then resume from the last checkpoint"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"ent_coef": 0.1, "ent_coef_learning_rate": 1e-3, "target_entropy": -2.0, "alpha_loss": "log_alpha"},
            [
                f"{setting} has no effect with ent_coef=0.1, which is not learned"
                for setting in ("ent_coef_learning_rate=0.001", "target_entropy=-2.0", "alpha_loss=log_alpha")
            ],
        ),
        ({"env_timeout": 20.0}, ["env_timeout=20 has no effect without env_workers, which it is for"]),
        ({"ent_coef": "auto_0.1", "ent_coef_learning_rate": 1e-3, "target_entropy": -2.0}, []),
        ({"ent_coef": 0.1}, []),
    ],
)
def test_what_waits_for_another_setting_is_said_once(
    arguments: dict[str, Any], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = SAC("Pendulum-v1", net_arch=(8,), batch_size=8, **arguments)
    model.learn(2)
    model.learn(2)
    assert caplog.messages == said
