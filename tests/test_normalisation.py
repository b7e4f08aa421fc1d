"""Normalisation: what is counted, where it is used, and that it is part of the agent's state."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import softac.algorithms
from folders import memory_folder
from hashing import digests
from probes import CountingEnv, Probe
from reliability_envs import TINY, tiny
from softac import DQN, PPO, SAC, Model
from softac.agents.registry import AGENTS
from softac.errors import CheckpointError, ConfigError
from softac.learning.parts import networks
from softac.learning.standardise import Standardise
from softac.run.config import RunConfig
from softac.run.folder import config_sha256
from softac.run.statistics import Moments, Statistics
from softac.ship.export import export
from tiny_agents import OnPolicy

N = 101
FREQUENCIES = {"eval_freq": 60, "n_eval_episodes": 1, "save_freq": 45}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


def layers(model: Any) -> list[Standardise]:
    return [m for network in networks(model.agent) for m in network.modules() if isinstance(m, Standardise)]


# ----------------------------------------------------------- statistics


def test_moments_are_those_of_all_rows():
    rows = np.random.default_rng(0).normal(3.0, [1e-3, 1.0, 1e4], (500, 3)).astype(np.float32)
    moments = Moments(3)
    for row in rows:
        moments.add(row)
    assert moments.count == 500
    np.testing.assert_allclose(moments.mean, rows.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.std, rows.astype(np.float64).std(0), rtol=1e-10)


def test_a_million_observations_far_from_zero_keep_their_digits():
    """The sum of squares would lose all of them: 1e8 of 1e16 in float64 has the spacing 2."""
    moments = Moments(1)
    for x in np.tile(np.float32([1e8 - 8.0, 1e8 + 8.0]), 5_000):
        moments.add(x)
    assert moments.mean[0] == pytest.approx(1e8, rel=1e-15)
    assert moments.std[0] == pytest.approx(8.0, rel=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e30, 1e-30])
def test_what_never_varied_is_moved_to_zero_and_not_divided(constant: float):
    moments = Moments(1)
    for _ in range(7):
        moments.add(np.float32([constant]))
    assert moments.std[0] == 1.0
    assert np.float32(moments.mean[0]) == np.float32(constant)


def test_the_layer_standardises_and_cuts():
    layer = Standardise(2, (slice(0, 2),))
    obs = torch.tensor([[3.0, 200.0], [1.0, -500.0]])
    layer.mean.copy_(torch.tensor([1.0, 100.0]))
    layer.factor.copy_(torch.tensor([0.5, 0.02]))
    assert layer(obs).tolist() == [[1.0, 2.0], [0.0, -10.0]]
    assert Standardise(2, (slice(0, 2),))(obs).tolist() == [[3.0, 10.0], [1.0, -10.0]]


def test_rewards_are_divided_by_the_spread_of_their_discounted_sums():
    statistics = Statistics(tiny(normalize="obs").agent, 0.5, 2, rewards=True)
    obs = np.zeros(3, np.float32)
    # Returns of environment 0: 4, 2 + 2 = 4, and 8 in its next episode; of environment 1: 0.
    for index, reward, ended in [(0, 4.0, False), (1, 0.0, False), (0, 2.0, True), (0, 8.0, False)]:
        statistics.add(index, obs, reward, ended=ended)
    expected = np.std([4.0, 0.0, 4.0, 8.0])
    given = torch.tensor([1.0, -3.0, 1e6])
    np.testing.assert_allclose(statistics.scaled(given), [1.0 / expected, -3.0 / expected, 10.0], rtol=1e-6)


# ---------------------------------------------------------- where it is used


@pytest.mark.parametrize("n_envs", [1, 3])
def test_each_step_counts_once_and_updates_count_nothing(n_envs: int):
    model = SAC(lambda: CountingEnv(), n_envs=n_envs, normalize="obs", **TINY)
    model.learn(61)
    statistics = model.training.statistics
    assert statistics.obs.count == model.num_timesteps == 61
    rows = [row[:2] for row in model.training.memory.explicit_rows(0, 61)]
    assert len(rows) == 61
    np.testing.assert_allclose(statistics.obs.mean, np.mean(rows, 0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(statistics.obs.std, np.std(rows, 0, dtype=np.float64), rtol=1e-9)


def test_the_replay_holds_what_the_environment_gave():
    plain, normalised = (SAC(lambda: CountingEnv(), normalize=how, **TINY).learn(25) for how in ("none", "obs"))
    rows = [model.training.memory.explicit_rows(0, 25) for model in (plain, normalised)]
    assert np.array_equal(*rows)  # the warm-up's actions are the same ones


def test_every_network_has_the_same_statistics_in_every_phase():
    model = tiny(normalize="obs").learn(90)
    found = layers(model)
    assert len(found) == 3  # actor, critics, target critics
    moments = model.training.statistics.obs
    for layer in found:
        np.testing.assert_array_equal(layer.mean, moments.mean.astype(np.float32))
        np.testing.assert_array_equal(layer.factor, (1.0 / moments.std).astype(np.float32))
    obs = np.float32([0.3, -2.0, 1.0])
    z = (torch.from_numpy(obs) - found[0].mean) * found[0].factor
    mean = model.agent.actor.module.net(z[None]).chunk(2, -1)[0]
    expected = model.spaces.to_env(torch.tanh(mean)[0].detach().numpy())
    np.testing.assert_allclose(model.predict(obs, deterministic=True)[0], expected, rtol=1e-6)


def test_evaluation_and_prediction_count_nothing():
    model = tiny(normalize="obs").learn(40)
    before = model.training.statistics.obs.state()
    frozen = [layer.mean.clone() for layer in layers(model)]
    softac.evaluate_policy(model, "reliability/Drift-v0", 2)
    model.predict(np.full(3, 50.0, np.float32))
    assert torch.equal(model.training.statistics.obs.state(), before)
    assert all(torch.equal(layer.mean, mean) for layer, mean in zip(layers(model), frozen, strict=True))


@pytest.mark.parametrize("name", sorted(name for name in AGENTS if name != "rebrac"))
def test_every_agent_of_softac_has_the_layers(name: str):
    env = "CartPole-v1" if "continuous" not in AGENTS[name].actions else "Pendulum-v1"
    model = Model(AGENTS[name], env, normalize="obs", net_arch=[8])
    first = len(layers(model))
    assert first == sum(hasattr(network, "read") for network in networks(model.agent)) > 0


class Scales(Probe):
    """Coordinates of 1e-3 and 1e4, of which the small one tells the right action."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def observe(self) -> Any:
        self.x = self.np_random.uniform(-1.0, 1.0)
        return np.float32([1e-3 * self.x, 1e4 * self.np_random.normal()])

    def step(self, action: Any) -> Any:
        self.t += 1
        reward = -((float(action[0]) - self.x) ** 2)
        return self.observe(), reward, False, self.t >= 20, {}


def test_small_numbers_beside_large_ones_are_learned_from():
    """Actions that do not see x cost 1/3 a step or more, so 20 steps cost 6.7."""
    settings = {
        "net_arch": [32, 32],
        "learning_starts": 100,
        "gamma": 0.0,
        "learning_rate": 3e-3,
        "batch_size": 64,
    }
    model = SAC(Scales, normalize="obs", ent_coef=0.01, **settings).learn(1_200)
    assert softac.evaluate_policy(model, Scales, 10)[0] > -3.0


# -------------------------------------------------------------- state


@pytest.mark.parametrize("n_envs", [1, 4])
def test_a_run_goes_on_with_the_same_bits(n_envs: int, tmp_path: Path):
    legs = [1, 2, 34, 36, 59, 70]
    tiny(n_envs=n_envs, normalize="obs").learn(sum(legs), run_dir=tmp_path / "whole", **FREQUENCIES)
    tiny(n_envs=n_envs, normalize="obs").learn(legs[0], run_dir=tmp_path / "legs", **FREQUENCIES)
    for leg in legs[1:]:
        SAC.load(tmp_path / "legs").learn(leg, run_dir=tmp_path / "legs", **FREQUENCIES)
    whole, parts = (digests(tmp_path / name) for name in ("whole", "legs"))
    assert {k: v for k, v in whole.items() if k != "metrics"} == {k: v for k, v in parts.items() if k != "metrics"}


def test_an_on_policy_run_with_normalised_rewards_goes_on_with_the_same_bits(tmp_path: Path):
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "net_arch": [8], "n_envs": 2}
    env = "reliability/Drift-v0"
    PPO(env, normalize="obs,reward", **settings).learn(2 * N, run_dir=tmp_path / "whole", **FREQUENCIES)
    PPO(env, normalize="obs,reward", **settings).learn(N, run_dir=tmp_path / "halves", **FREQUENCIES)
    PPO.load(tmp_path / "halves").learn(N, run_dir=tmp_path / "halves", **FREQUENCIES)
    whole, halves = (PPO.load(tmp_path / name) for name in ("whole", "halves"))
    a, b = whole.life.loaded.tensors, halves.life.loaded.tensors
    assert a.keys() == b.keys() >= {"optim.statistics.obs", "optim.statistics.returns", "optim.statistics.return"}
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_normalised_rewards_change_what_is_learned_and_not_what_is_reported(tmp_path: Path):
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "net_arch": [8]}
    plain, scaled = (
        PPO("reliability/Drift-v0", normalize=how, **settings).learn(16) for how in ("obs", "obs,reward")
    )
    assert list(plain.training.collector.recent) == list(scaled.training.collector.recent)
    different = [
        not torch.equal(a, b)
        for a, b in zip(plain.agent.tensors().values(), scaled.agent.tensors().values(), strict=True)
    ]
    assert any(different)


def test_the_return_of_an_episode_that_is_lost_is_forgotten():
    """Nine rewards of 1, then the environment fails: no discounted sum is above nine."""

    class Failing(gym.Env[Any, Any]):
        observation_space, action_space = (spaces.Box(-1.0, 1.0, (n,), np.float32) for n in (2, 1))

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            self.t = 0
            return np.zeros(2, np.float32), {}

        def step(self, action: Any) -> Any:
            self.t += 1
            if self.t == 10:
                raise RuntimeError("a wheel came off")
            return np.full(2, self.t / 10, np.float32), 1.0, False, False, {}

    settings: dict[str, Any] = {"n_steps": 8, "net_arch": [8], "gamma": 1.0, "on_env_failure": "restart"}
    statistics = PPO(Failing, normalize="obs,reward", **settings).learn(60).training.statistics
    assert statistics._return.tolist() == [60 % 9]
    assert statistics.returns.mean[0] == pytest.approx((6 * sum(range(1, 10)) + 21) / 60)


@pytest.mark.parametrize("best", [False, True])
def test_a_loaded_policy_sees_as_it_did(best: bool, tmp_path: Path):
    model = tiny(normalize="obs").learn(
        90, run_dir=tmp_path / "run", eval_freq=90, n_eval_episodes=1, save_freq=90
    )
    obs = np.float32([[0.3, -2.0, 1.0], [0.0, 0.1, 5.0]])
    loaded = SAC.load(tmp_path / "run", best=best)
    assert loaded.run.normalize == "obs"
    np.testing.assert_array_equal(loaded.predict(obs, True)[0], model.predict(obs, True)[0])


def test_statistics_of_another_run_are_refused(tmp_path: Path):
    moments = Moments(3)
    for state in (torch.zeros(5, dtype=torch.float64), torch.zeros(7), -torch.ones(7, dtype=torch.float64)):
        with pytest.raises(ValueError, match="statistics"):
            moments.load(state)
    model = tiny(normalize="obs").learn(40)
    snapshot = model.training.snapshot(tmp_path, [])
    del snapshot.tensors["optim.statistics.obs"]
    with pytest.raises(CheckpointError, match="does not fit"):
        tiny(normalize="obs").life.begun(40).restore(snapshot, tmp_path)


def test_a_run_from_before_the_option_is_the_same_run():
    described = tiny().description()
    assert described["run"].pop("normalize") == RunConfig().normalize == "none"
    assert config_sha256(described) == config_sha256(tiny().description())
    assert config_sha256(described) != config_sha256(tiny(normalize="obs").description())


@pytest.mark.parametrize("to", ["numpy", "c", "onnx"])
def test_an_exported_policy_normalises(to: str, tmp_path: Path):
    """`export` compares the file with the agent on 10,000 observations before it hands it over."""
    model = tiny(normalize="obs").learn(60)
    _, agreement = export(model, to, tmp_path)
    assert agreement.observations == 10_000
    assert agreement.largest <= 1e-5


# ------------------------------------------------------------- refusals


def test_rewards_in_a_replay_are_not_normalised():
    with pytest.raises(ConfigError) as refused:
        SAC("Pendulum-v1", normalize="obs,reward")
    assert "normalize='obs,reward' was given with SACAgent" in refused.value.given
    assert "on-policy" in refused.value.expected
    assert refused.value.remedy == "give normalize='obs'"


def test_an_agent_that_learns_from_data_alone_counts_nothing():
    with pytest.raises(ConfigError) as refused:
        Model(AGENTS["rebrac"], "Pendulum-v1", normalize="obs")
    assert refused.value.given == "normalize='obs' was given with ReBRACAgent, which steps no environment"
    assert refused.value.remedy == "leave normalize out"


def test_an_agent_without_the_layer_is_refused():
    with pytest.raises(ConfigError) as refused:
        Model(OnPolicy, "Pendulum-v1", normalize="obs")
    assert "no network of OnPolicy" in refused.value.given
    assert "spec in place of spec.obs_dim" in refused.value.expected


def test_the_value_is_checked():
    with pytest.raises(ConfigError, match='"none" or "obs" or "obs,reward"'):
        DQN("CartPole-v1", normalize="rewards")
