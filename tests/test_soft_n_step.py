"""Soft n-step returns: the entropies of the steps in between are part of the target, or left out by name."""

import json
import math
import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hashing import digests
from softac import SAC, Model, SACDiscrete, check_agent
from softac.agents.registry import AGENTS
from softac.config import has_soft_returns
from softac.envs import Step
from softac.equations.losses import discrete_soft_value, soft_reward, td_target
from softac.errors import ConfigError
from softac.learning.cohort import Cohort
from softac.learning.engine import Engine
from softac.learning.state import state_of
from softac.replay import Replay, read_segments, write_segments
from softac.run.episode import NStep
from softac.types import EnvSpec, FloatArray, Moment, SoftRow, SoftTransition, Transition

CPU = torch.device("cpu")
SOFT = [name for name, agent in AGENTS.items() if hasattr(agent, "act_log_prob")]
GAMMA, H = 0.9, math.log(2.0)
EXACT = GAMMA * H / (1.0 - GAMMA)  # soft Q of one state, reward 0, two actions, alpha 1: 6.238


class OneState(gym.Env[FloatArray, np.int64]):
    """A single state, two actions, reward 0; it never ends but for a time limit."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, **_: Any) -> tuple[FloatArray, dict[str, Any]]:
        self.left = 50
        return np.ones(1, np.float32), {}

    def step(self, _: np.int64) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return np.ones(1, np.float32), 0.0, False, self.left == 0, {}


def step(reward: float = 0.0, *, terminated: bool = False, truncated: bool = False) -> Step:
    return Step(np.zeros(1, np.float32), reward, terminated, truncated)


def folded(window: NStep, rewards: list[float], bonuses: list[float], **end: bool) -> list[Any]:
    obs, rows = np.zeros(1, np.float32), []
    for k, (reward, bonus) in enumerate(zip(rewards, bonuses, strict=True)):
        last = end if k == len(rewards) - 1 else {}
        rows += list(window.push(obs + k, obs, step(reward, **last), bonus))
    return rows


def test_the_soft_agents() -> None:
    assert SOFT == ["sac", "sac_v", "sac_discrete", "sac_mixture", "crossq", "xqc"]
    for name, agent in AGENTS.items():
        assert hasattr(agent.Config(), "n_step_return") == (name in SOFT)
        assert not has_soft_returns(agent.Config())  # with one step there is nothing in between


def test_the_exact_value_of_one_state_and_what_the_plain_return_makes_of_it() -> None:
    assert pytest.approx(6.238, abs=5e-4) == EXACT
    log_probs, found = torch.full((1, 2), -H, dtype=torch.float64), {}
    for n in (1, 3, 10):
        row = folded(NStep(GAMMA, n, bonus=True), [0.0] * n, [H] * n)[0]
        for soft in (True, False):
            q = 0.0
            for _ in range(600):
                v = discrete_soft_value(torch.full((1, 1, 2), q, dtype=torch.float64), log_probs, 1.0)
                bonus = torch.tensor([row.bonus if soft else 0.0], dtype=torch.float64)
                r = soft_reward(torch.tensor([row.reward], dtype=torch.float64), bonus, 1.0)
                q = td_target(r, torch.tensor([row.discount], dtype=torch.float64), v).item()
            found[n, soft] = q
    assert [found[n, True] for n in (1, 3, 10)] == pytest.approx([EXACT] * 3, abs=1e-12)
    assert [found[n, False] for n in (1, 3, 10)] == pytest.approx([6.238, 1.865, 0.371], abs=5e-4)


@pytest.mark.parametrize(("n_step_return", "value"), [("soft", 6.238), ("plain", 1.865)])
def test_what_an_agent_learns_of_one_state(n_step_return: str, value: float) -> None:
    sizes: dict[str, Any] = {"net_arch": (8,), "batch_size": 32, "learning_starts": 32}
    rates = {"learning_rate": 1e-2, "tau": 0.2, "gamma": GAMMA, "ent_coef": 1.0}
    model = SACDiscrete(OneState, n_steps=3, n_step_return=n_step_return, **sizes, **rates).learn(700)
    agent: Any = model.agent
    with torch.no_grad():
        q = agent.critic(torch.ones(1, 1))
    assert q.mean().item() == pytest.approx(value, abs=0.05)
    batch = model.training.memory.sample(4, torch.Generator())  # type: ignore[union-attr]
    assert isinstance(batch, SoftTransition) == (n_step_return == "soft")


# --------------------------------------------------------------------------- the window


def test_rewards_and_bonuses_of_three_steps() -> None:
    rows = folded(NStep(0.5, 3, bonus=True), [1.0, 2.0, 4.0, 8.0], [10.0, 20.0, 40.0, 80.0], truncated=True)
    assert [row.reward for row in rows] == [1 + 1 + 1, 2 + 2 + 2, 4 + 4, 8]
    assert [row.bonus for row in rows] == [10 + 10, 20 + 20, 40, 0]  # that of the first step is never in it
    assert [row.discount for row in rows] == [0.125, 0.125, 0.25, 0.5]
    assert [row.obs.item() for row in rows] == [0.0, 1.0, 2.0, 3.0]
    assert [row.ended for row in rows] == [False, True, True, True]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_the_window_against_the_sum_itself(gamma: float, n: int) -> None:
    rng = np.random.default_rng(n)
    rewards, bonuses = ((rng.normal(size=200) * 10.0 ** rng.integers(-3, 4, 200)).tolist() for _ in range(2))
    rows, window = folded(NStep(gamma, n, bonus=True), rewards, bonuses, terminated=True), range(n)
    assert len(rows) == 200
    for t, row in enumerate(rows):
        for found, terms in (
            (row.reward, [gamma**k * rewards[t + k] for k in window if t + k < 200]),
            (row.bonus, [gamma**k * bonuses[t + k] for k in window[1:] if t + k < 200]),
        ):
            assert abs(found - math.fsum(terms)) <= 1e-14 * math.fsum(map(abs, terms))
        assert row.discount == (gamma**n if t + n < 200 else 0.0)


class Counted(Fraction):
    """A number that counts how often it is added or multiplied."""

    operations = 0

    def __add__(self, other: Any) -> "Counted":
        Counted.operations += 1
        return Counted(super().__add__(other))

    def __mul__(self, other: Any) -> "Counted":
        Counted.operations += 1
        return Counted(super().__mul__(other))

    __radd__, __rmul__ = __add__, __mul__


@pytest.mark.parametrize("n", [1, 10, 200])
def test_a_step_costs_the_same_however_long_the_window_is(n: int) -> None:
    Counted.operations = 0
    steps = 1_000
    window = NStep(Counted(1, 2), n)  # type: ignore[arg-type]
    rows = folded(window, [Counted(1)] * steps, [Counted(0)] * steps, truncated=True)  # type: ignore[list-item]
    assert len(rows) == steps
    # Three sums of sums a step, of eight operations each; n additions would be 200,000 and more.
    assert Counted.operations <= 30 * steps


# --------------------------------------------------------------------------- log-probabilities, batches, updates


def agent_of(name: str, **options: Any) -> Any:
    cls = AGENTS[name]
    spec = EnvSpec(5, 2) if "continuous" in cls.actions else EnvSpec(5, 1, 3)
    config = cls.Config(**{"net_arch": (16,), "n_steps": 3, "batch_size": 16} | options)
    return cls(spec, config, generator=torch.Generator().manual_seed(0), device=CPU)


def soft_batch(agent: Any, seed: int = 0) -> SoftTransition:
    draw = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn(2, 16, 5, generator=draw)
    discrete = "discrete" in agent.actions
    action = torch.randint(3, (16, 1), generator=draw).float() if discrete else torch.rand(16, 2, generator=draw)
    reward, bonus = torch.randn(2, 16, generator=draw)
    return SoftTransition(obs, action, reward, torch.full((16,), 0.97), next_obs, bonus)


@pytest.mark.parametrize("name", SOFT)
def test_the_log_probability_is_that_of_the_action(name: str) -> None:
    agent = agent_of(name)
    draw = torch.Generator().manual_seed(3)
    obs = torch.randn(32, 5, generator=draw)
    noise = agent.act_noise(32, draw, Moment(0))
    found = agent.act_log_prob(obs, noise)
    action = agent.act(obs, noise)
    policy = agent.actor(obs)
    expected = policy.log_prob(action.squeeze(-1).long() if name == "sac_discrete" else action)
    assert found.shape == (32,)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SOFT)
def test_a_bonus_is_worth_alpha_of_reward(name: str) -> None:
    """An update with bonuses is the plain one with alpha times as much more reward, bit for bit."""
    agent, twin = agent_of(name), agent_of(name, n_step_return="plain")
    for seed in range(3):
        batch = soft_batch(agent, seed)
        noise = agent.update_noise(16, torch.Generator().manual_seed(seed))
        alpha = agent.config.ent_coef if name == "sac_v" else agent.temperature.alpha()
        found = agent.update_(batch, noise)
        if name in ("sac_v", "crossq", "xqc"):  # which scale their rewards first
            continue
        reward = batch.reward + alpha * batch.bonus
        expected = twin.update_(Transition(*batch[:5])._replace(reward=reward), noise)
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    if name == "sac_v":  # whose bonus is not scaled
        lone = agent_of(name, reward_scale=1e-6, learning_rate=1e-30)
        targets = [
            lone.update_(batch._replace(bonus=b), noise)["train/target_q_mean"]
            for b in (batch.bonus, batch.bonus + 1)
        ]
        assert (targets[1] - targets[0]).item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", ["sac", "sac_discrete"])
def test_engines_and_cohorts_take_soft_batches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_ = torch.compile
    monkeypatch.setattr(
        "torch.compile", lambda f, **_: compile_(f, fullgraph=True, dynamic=False, backend="aot_eager")
    )
    eager, compiled, cohort = agent_of(name), agent_of(name), Cohort([agent_of(name)])
    engines = [Engine(compiled, "compiled"), cohort.engine(0)]
    for seed in range(2):
        batch, noise = soft_batch(eager, seed), eager.update_noise(16, torch.Generator().manual_seed(seed))
        expected = eager.update_(batch, noise)
        for engine in engines:
            torch.testing.assert_close(engine.update_(batch, noise), expected, rtol=2e-5, atol=2e-6)
    assert engines[0].name == "compiled"
    for other in (compiled, cohort.agents[0]):
        torch.testing.assert_close(state_of(other), state_of(eager), rtol=2e-5, atol=5e-6)


def test_rows_keep_their_bonuses_through_ring_and_files(tmp_path: Path) -> None:
    spec = EnvSpec(2, 1)
    replay = Replay(6, spec, CPU, bonus=True)
    obs = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    for k, (before, after) in enumerate(pairwise(obs)):
        replay.add(SoftRow(before, np.float32([k]), 2.0 * k, 0.9, after, ended=False, bonus=10.0 * k))
    batch = replay.sample(64, torch.Generator().manual_seed(0))
    assert isinstance(batch, SoftTransition)
    assert torch.equal(batch.bonus, 10.0 * batch.action.squeeze(-1))
    assert torch.equal(batch.reward, 2.0 * batch.action.squeeze(-1))
    segments = write_segments(replay, tmp_path, [])
    again = Replay(6, spec, CPU, bonus=True)
    read_segments(again, tmp_path, segments, replay.added)
    assert again.explicit_rows(3, 9).tobytes() == replay.explicit_rows(3, 9).tobytes()
    assert again.bonuses(3, 9).tolist() == replay.bonuses(3, 9).tolist() == [[10.0 * k] for k in range(3, 9)]


# --------------------------------------------------------------------------- runs

TINY: dict[str, Any] = {"net_arch": (8,), "batch_size": 8, "learning_starts": 20, "seed": 3}


def test_what_a_run_stores() -> None:
    """Uniform actions have the density 1/2 in each coordinate; later ones that of the policy that chose them."""
    model = SAC("Pendulum-v1", n_steps=3, gamma=0.5, **TINY).learn(21)
    bonuses = model.training.memory.bonuses(0, 19)[:, 0]  # type: ignore[union-attr]
    assert bonuses[:17].tolist() == pytest.approx([(0.5 + 0.25) * math.log(2.0)] * 17)
    assert bonuses[18] != pytest.approx(0.75 * math.log(2.0))
    plain = SAC("Pendulum-v1", n_steps=1, **TINY).learn(21).training.memory
    assert plain.bonuses(0, 21).size == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_run_that_stops_inside_a_window_goes_on_to_the_same_bits(n_envs: int, tmp_path: Path) -> None:
    quiet = {"n_eval_episodes": 0, "save_freq": 0, "eval_freq": 0}
    arguments: dict[str, Any] = {**TINY, "n_envs": n_envs, "n_steps": 7}
    SAC("Pendulum-v1", **arguments).learn(61, run_dir=tmp_path / "whole", **quiet)
    SAC("Pendulum-v1", **arguments).learn(43, run_dir=tmp_path / "halves", **quiet)
    SAC.load(tmp_path / "halves").learn(18, run_dir=tmp_path / "halves", **quiet)
    assert digests(tmp_path / "halves") == digests(tmp_path / "whole")
    state = json.loads(next((tmp_path / "whole").glob("checkpoints/step-000000061*/state.json")).read_text())
    assert [len(part) for part in state["collector"]["bonuses"]] == [n_envs, *[6] * n_envs]


def test_an_older_run_was_plain_and_stays_so_in_its_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "sac"
    shutil.copytree(Path(__file__).parent / "golden" / "sac", folder)
    assert "n_step_return" not in (folder / "config.json").read_text()
    model = Model.load(folder)
    assert (model.agent.config.n_steps, model.agent.config.n_step_return) == (3, "plain")
    model.learn(40, run_dir=folder, n_eval_episodes=0)
    again = Model.load(folder)
    assert (again.num_timesteps, again.agent.config.n_step_return) == (model.num_timesteps, "plain")
    (older, newer) = sorted((folder / "checkpoints").iterdir())
    shutil.rmtree(newer)
    assert Model.load(folder).num_timesteps == int(older.name.removeprefix("step-"))


def test_an_agent_without_log_probabilities_is_refused() -> None:
    class Mute(AGENTS["sac"]):  # type: ignore[misc]
        act_log_prob = None

    with pytest.raises(ConfigError) as caught:
        Model(Mute, "Pendulum-v1", n_steps=2, net_arch=(8,)).learn(1)
    assert str(caught.value) == (
        'n_step_return="soft" was given for Mute, which has no act_log_prob; expected log pi of the actions that '
        'act chooses, see softac.types.Agent; add it or choose n_step_return="plain"'
    )


@pytest.mark.parametrize("name", SOFT)
def test_soft_agents_keep_their_promises_with_several_steps(name: str) -> None:
    found = check_agent(AGENTS[name], n_steps=3, net_arch=(8,))
    assert {f.level for f in found if "CPU" not in f.what} == {"ok"}
    assert sum("act_log_prob" in f.what for f in found) == len(AGENTS[name].actions)
