"""Prior data: their share of every batch, or all of it, and transitions that are handed in."""

import hashlib
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import goal_envs
from folders import memory_folder
from softac import DQN, PPO, SAC, TD3, XQC, CrossQ, ReBRAC
from softac.agents.rebrac import ReBRACAgent, ReBRACConfig
from softac.equations.losses import behaviour_penalty, normalized_policy_loss
from softac.errors import CheckpointError, ConfigError
from softac.examine.conformance import check_agent
from softac.learning.engine import Engine
from softac.learning.state import state_of
from softac.run.datasets import Recording
from softac.run.given import rows_of
from softac.run.prior import _sha256
from softac.ship.collect import collect
from softac.types import DataTransition, EnvSpec

SMALL: dict[str, Any] = {"env_kwargs": {"max_episode_steps": 40}, "net_arch": (8,), "batch_size": 16}
RECORD: dict[str, Any] = {"n_eval_episodes": 0, "save_freq": 50}


@pytest.fixture
def tmp_path():
    with memory_folder() as path:
        yield path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    collect(SAC("Pendulum-v1", **SMALL), tmp_path / "set", 4)
    return tmp_path / "set"


def equal(a: Any, b: Any) -> bool:
    first, second = state_of(a.agent), state_of(b.agent)
    return all(torch.equal(second[name], tensor) for name, tensor in first.items())


def recording(rewards: list[float], *, terminated: bool) -> Recording:
    n = len(rewards)
    obs = np.arange(n + 1, dtype=np.float32)[:, None]
    return Recording(obs, np.zeros((n, 1), np.float32), np.array(rewards), terminated)


@pytest.mark.parametrize("terminated", [True, False])
def test_rows_of_an_episode(terminated: bool) -> None:
    config = TD3("Pendulum-v1", n_steps=2, gamma=0.5).agent.config
    rows = list(rows_of(recording([1.0, 2.0, 4.0], terminated=terminated), config))
    assert [(row.obs[0], row.reward, row.next_obs[0]) for row in rows] == [(0, 2.0, 2), (1, 4.0, 3), (2, 4.0, 3)]
    end = 0.0 if terminated else 1.0
    assert [row.discount for row in rows] == [0.25, 0.25 * end, 0.5 * end]


def test_rows_for_soft_agents_are_of_one_step() -> None:
    config = SAC("Pendulum-v1", n_steps=3, gamma=0.5).agent.config
    rows = list(rows_of(recording([1.0, 2.0, 4.0], terminated=False), config))
    assert [(row.reward, row.discount, row.bonus) for row in rows] == [
        (1.0, 0.5, 0.0),
        (2.0, 0.5, 0.0),
        (4.0, 0.5, 0),
    ]


@pytest.mark.parametrize(("share", "theirs"), [(0.5, 8), (0.25, 4), (0.01, 1), (0.99, 15)])
def test_shares_of_a_batch(share: float, theirs: int, data: Path) -> None:
    model = TD3("Pendulum-v1", **SMALL, prior=data, prior_share=share).learn(150)
    prior, own = model.training.prior, model.training.memory
    batch = prior.batch(own, 16, torch.Generator().manual_seed(0))
    known = {row.tobytes() for row in prior.replay.explicit_rows(0, prior.replay.added)[:, :3]}
    assert [obs.numpy().tobytes() in known for obs in batch.obs] == [False] * (16 - theirs) + [True] * theirs
    assert batch.reward.shape == (16,)


def test_layer_norm_comes_with_them_unless_it_is_refused(data: Path) -> None:
    assert SAC("Pendulum-v1", **SMALL, prior=data).agent.config.critic_layer_norm
    assert not SAC("Pendulum-v1", **SMALL, prior=data, critic_layer_norm=False).agent.config.critic_layer_norm
    assert not SAC("Pendulum-v1", **SMALL).agent.config.critic_layer_norm


@pytest.mark.parametrize(
    ("model", "options"), [(SAC, {}), (SAC, {"n_steps": 3}), (TD3, {"n_steps": 2}), (SAC, {"prior_share": 1.0})]
)
def test_resumed_bit_for_bit(model: Any, options: dict[str, Any], data: Path, tmp_path: Path) -> None:
    settings = SMALL | {"prior": data, "learning_rate": "linear 1e-3 0 300"} | options
    whole = model("Pendulum-v1", **settings).learn(200)
    first = model("Pendulum-v1", **settings).learn(131, run_dir=tmp_path / "run", **RECORD)
    assert first.num_timesteps == 131
    second = model.load(tmp_path / "run").learn(69, run_dir=tmp_path / "run", **RECORD)
    assert equal(whole, second)
    assert whole.training.updates == second.training.updates


def test_other_data_are_noticed(data: Path, tmp_path: Path) -> None:
    SAC("Pendulum-v1", **SMALL, prior=data).learn(120, run_dir=tmp_path / "run", **RECORD)
    for path in sorted((data / "data").iterdir()):
        path.unlink()
    (data / "data").rmdir()
    collect(SAC("Pendulum-v1", **SMALL), data, 4, seed=1)
    with pytest.raises(CheckpointError, match="the prior data are no longer those that this run began with"):
        SAC.load(tmp_path / "run").learn(1)
    assert SAC.load(tmp_path / "run").predict(np.zeros(3))[0].shape == (1,)  # acting needs none


def test_the_hash_does_not_depend_on_how_much_is_hashed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = TD3("Pendulum-v1", **SMALL)
    memory.add(**episode())
    replay, extra = memory.training.memory, [np.ones((2, 1), np.float32)]
    expected = hashlib.sha256(replay.explicit_rows(0, 5).tobytes() + extra[0].tobytes()).hexdigest()
    largest = []
    rows = replay.explicit_rows
    monkeypatch.setattr(replay, "explicit_rows", lambda a, b: largest.append(b - a) or rows(a, b))
    for size, most in ((1, 1), (2 * 4 * 9, 2), (10**6, 5)):
        monkeypatch.setattr("softac.run.prior.CHUNK", size)
        assert _sha256(replay, extra) == expected
        assert max(largest) == most


def test_without_stepping(data: Path, tmp_path: Path) -> None:
    model = SAC("Pendulum-v1", **SMALL, prior=data, prior_share=1.0, critic_layer_norm=False)
    model.life.envs.envs[0].step = None  # would raise
    model.life.envs.envs[0].reset = None
    model.learn(70, run_dir=tmp_path / "run", eval_freq=30, n_eval_episodes=1, save_freq=30)
    assert (model.num_timesteps, model.training.updates, model.training.memory.added) == (70, 70, 0)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "eval/mean_reward" in row] == [30, 60, 70]


ABOUT_STEPS = (
    "prior_share=1 was given, with which no environment is stepped, and n_envs, overlap, normalize, collect or "
    "hindsight; expected none of these, which are about steps; leave them out"
)
NO_SUCH = (
    "there is no data set '{}'; expected a folder with data/metadata.json and data/main_data.hdf5, or an id "
    f"below {Path.home()}/.minari/datasets; make one with `softac collect RUN`, or download one with Minari"
)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"prior_share": 0.5},
         "prior_share=0.5 was given; expected prior, a data set to learn from; "
         "give prior=DATASET (--prior DATASET)"),
        ({"prior": ..., "prior_share": 0.0},
         "prior_share=0.0 was given; expected a number > 0 and <= 1; leave it out for the default None"),
        ({"prior": ..., "prior_share": 1.0, "n_envs": 2},
         ABOUT_STEPS),
        ({"prior": ..., "prior_share": 1.0, "collect": "free", "env_workers": 1}, ABOUT_STEPS),
        ({"prior": "~nosuchuser/x"}, NO_SUCH.format("~nosuchuser/x")),
        ({"prior": "x" * 300}, NO_SUCH.format("x" * 300)),
        ({"prior": "x"}, NO_SUCH.format("x")),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other(
    settings: dict[str, Any], text: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    with pytest.raises(ConfigError) as caught:
        SAC("Pendulum-v1", **{name: data if value is ... else value for name, value in settings.items()})
    assert str(caught.value) == text


def test_hindsight_is_about_steps(tmp_path: Path) -> None:
    found = SAC(goal_envs.Reach, net_arch=(8,), batch_size=16)
    collect(found, tmp_path / "set", 1)
    for agent, share in ((SAC, 1.0), (ReBRAC, None)):
        with pytest.raises(ConfigError) as caught:
            agent(goal_envs.Reach, prior=tmp_path / "set", prior_share=share, hindsight="future")
        assert str(caught.value) == ABOUT_STEPS


def test_a_batch_of_one_has_no_share(data: Path) -> None:
    model = TD3("Pendulum-v1", net_arch=(8,), batch_size=1, prior=data, prior_share=0.5)
    with pytest.raises(ConfigError) as caught:
        model.learn(1)
    assert str(caught.value) == (
        "batch_size=1 was given with prior data, which are to be a part of each batch; expected at least 2, or "
        "prior_share=1; raise batch_size"
    )
    assert TD3("Pendulum-v1", net_arch=(8,), batch_size=1, prior=data, prior_share=1.0).learn(5).training.updates


@pytest.mark.parametrize("kind", [CrossQ, XQC])
def test_rewards_that_are_scaled_as_those_of_several_steps(kind: Any, data: Path) -> None:
    several = {"net_arch": (8,), "batch_size": 16, "n_steps": 3}
    text = (
        f"given to {kind.__name__}Agent with n_steps=3, which scales rewards as those of so many steps; what "
        "others did makes transitions of one step; expected n_steps=1, or n_step_return='plain'; leave n_steps out"
    )
    for share in (0.5, 1.0):
        with pytest.raises(ConfigError) as caught:
            kind("Pendulum-v1", **several, prior=data, prior_share=share).learn(1)
        assert str(caught.value) == f"prior='{data}' was {text}"
    with pytest.raises(ConfigError) as caught:
        kind("Pendulum-v1", **several).add(**episode())
    assert str(caught.value) == f"transitions were {text}"
    for allowed in ({"n_steps": 1}, {"n_step_return": "plain"}):
        assert kind("Pendulum-v1", **several | allowed, prior=data).learn(1).add(**episode()) == 5


@pytest.mark.parametrize(("kind", "share"), [(SAC, 1.0), (ReBRAC, None)])
def test_nothing_is_added_where_data_alone_are_learned_from(kind: Any, share: float | None, data: Path) -> None:
    model = kind("Pendulum-v1", **SMALL, prior=data, prior_share=share)
    with pytest.raises(ConfigError) as caught:
        model.add(**episode())
    assert str(caught.value) == (
        "transitions were given to a model that learns from its prior data alone; expected one whose batches are "
        "of its replay, too; make one data set of both, or leave prior_share out"
    )


# Transitions that are handed in.


def episode(n: int = 5) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(n + 1, 3)).astype(np.float32)
    ends = np.zeros(n, bool)
    return {
        "obs": obs[:-1],
        "action": rng.uniform(-2, 2, (n, 1)).astype(np.float32),
        "reward": rng.normal(size=n),
        "next_obs": obs[1:],
        "terminated": ends,
        "truncated": ends,
    }


def test_one_transition() -> None:
    model = TD3("Pendulum-v1", **SMALL, gamma=0.5)
    assert model.add(np.array([1.0, 2.0, 3.0]), np.array([1.0]), 2.5, np.array([4.0, 5.0, 6.0]), False) == 1
    assert model.add(np.array([4.0, 5.0, 6.0]), np.array([-2.0]), -1, np.array([7.0, 8.0, 9.0]), True) == 1
    memory = model.training.memory
    assert memory.explicit_rows(0, 2).tolist() == [
        [1, 2, 3, 0.5, 2.5, 0.5, 4, 5, 6],
        [4, 5, 6, -1.0, -1.0, 0.0, 7, 8, 9],
    ]
    assert model.num_timesteps == 0
    assert model.learn(120).training.memory.added == 122


def test_a_whole_episode() -> None:
    model = TD3("Pendulum-v1", **SMALL, n_steps=3, gamma=0.5)
    given = episode()
    assert model.add(**given) == 5
    rows = model.training.memory.explicit_rows(0, 5)
    r = given["reward"]
    expected = [
        r[0] + r[1] / 2 + r[2] / 4,
        r[1] + r[2] / 2 + r[3] / 4,
        r[2] + r[3] / 2 + r[4] / 4,
        r[3] + r[4] / 2,
        r[4],
    ]
    np.testing.assert_allclose(rows[:, 4], expected, rtol=1e-5)
    assert rows[:, 5].tolist() == [0.125, 0.125, 0.125, 0.25, 0.5]


def test_what_was_added_is_saved(tmp_path: Path) -> None:
    model = SAC("Pendulum-v1", **SMALL)
    model.add(**episode())
    model.save(tmp_path / "m")
    assert equal(SAC.load(tmp_path / "m").learn(150), model.learn(150))


def test_choices_are_added_by_their_own_numbers() -> None:
    model = DQN("CartPole-v1", net_arch=(8,))
    model.add(np.zeros(4), 1, 1.0, np.ones(4), True)
    assert model.training.memory.actions.tolist() == [[1.0]]
    with pytest.raises(ConfigError, match="actions that are not indices below 2"):
        model.add(np.zeros(4), 2, 1.0, np.ones(4), True)


def test_an_action_that_its_own_mask_forbids_is_not_added() -> None:
    model = DQN(Masked, net_arch=(8,), batch_size=8, learning_starts=20)
    obs, _ = Masked().reset()
    with pytest.raises(ConfigError, match=r"\(action 2 of step 1, which its own mask forbids\)"):
        model.add(obs, 2, 1.0, obs, False)
    assert model.add(obs, 1, 1.0, obs, False) == 1
    model.learn(40)


def test_a_mask_may_allow_nothing_where_the_episode_has_ended() -> None:
    model = DQN(Masked, net_arch=(8,))
    obs, _ = Masked().reset()
    last = obs | {"action_mask": np.zeros(3, np.int8)}
    assert model.add(obs, 1, 1.0, last, True) == 1
    several = [{name: np.stack([a[name], b[name]]) for name in obs} for a, b in ((obs, obs), (obs, last))]
    assert model.add(several[0], [1, 0], [1.0, 2.0], several[1], [False, True]) == 2
    assert last["action_mask"].tolist() == [0, 0, 0]  # what was given stays as it is
    with pytest.raises(ConfigError, match="an action mask that allows no action, of 3"):
        model.add(obs, 1, 1.0, last, False)


def test_an_observation_without_its_mask_is_refused_in_the_same_words_where_the_episode_has_ended() -> None:
    model = DQN(MaskTold, net_arch=(8,))
    for ended in (False, True):
        with pytest.raises(ConfigError, match="an observation without its action mask was given"):
            model.add({"action_mask": [1, 1, 0], "observation": np.zeros(2)}, 1, 1.0, np.zeros(2), ended)


class Masked(gym.Env[Any, Any]):
    observation_space = gym.spaces.Dict(
        {"action_mask": gym.spaces.MultiBinary(3), "x": gym.spaces.Box(-1, 1, (2,))}
    )
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {"action_mask": np.array([1, 1, 0], np.int8), "x": np.zeros(2, np.float32)}, {}

    def step(self, action: Any) -> Any:
        return self.reset()[0], 1.0, False, False, {}


class MaskTold(Masked):
    observation_space = gym.spaces.Box(-1, 1, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {"action_mask": np.array([1, 1, 0], np.int8)}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"obs": np.full((5, 3), np.nan)}, "nan in it"),
        ({"obs": np.zeros((5, 4))}, "given ("),
        ({"action": np.zeros((5, 2))}, "actions of shape (2,) where the space says (1,)"),
        ({"action": np.full((5, 1), np.inf)}, "actions that are not finite"),
        ({"reward": [0, 0, np.nan, 0, 0]}, "a reward of nan"),
        ({"reward": [0, 0]}, "5 observations, 2 rewards and 5 that follow"),
        ({"terminated": [0.0] * 5}, "ends that are not booleans"),
        ({"terminated": [False, True, False, False, False]}, "an episode that ends before its last step"),
        ({"next_obs": np.zeros((5, 3))}, "observations of which one is not the one that followed before it"),
        ({"next_obs": None}, "given ("),
        ({"action": "left"}, "given ("),
    ],
)  # fmt: skip
def test_what_is_checked(change: dict[str, Any], text: str) -> None:
    model = SAC("Pendulum-v1", **SMALL)
    with pytest.raises(ConfigError) as caught:
        model.add(**episode() | change)
    assert text in str(caught.value)
    assert str(caught.value).startswith("transitions that cannot be learned from were given (")
    assert model.training.memory.added == 0


def test_on_policy_algorithms_take_none() -> None:
    with pytest.raises(ConfigError) as caught:
        PPO("Pendulum-v1").add(**episode())
    assert str(caught.value) == (
        "transitions were given to PPOAgent, which learns from its last rollout only; expected an algorithm with "
        "a replay; choose sac or td3, say"
    )


# ReBRAC.


def test_numbers_of_the_penalties() -> None:
    a, b = torch.tensor([[0.5, -1.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert behaviour_penalty(a, b).tolist() == [0.25 + 4.0, 0.0]
    q = torch.tensor([2.0, -6.0], requires_grad=True)  # mean |Q| 4
    loss = normalized_policy_loss(q, torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx((1.0 - 0.5 + 3.0 + 1.5) / 2)
    loss.backward()
    assert q.grad.tolist() == [-0.125, -0.125]  # the mean |Q| carries none


def agent(**options: Any) -> ReBRACAgent:
    config = ReBRACConfig(**{"net_arch": (8,), "batch_size": 16} | options)
    return ReBRACAgent(
        EnvSpec(5, 2), config, generator=torch.Generator().manual_seed(0), device=torch.device("cpu")
    )


def batch(seed: int = 0) -> DataTransition:
    draw = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn(2, 16, 5, generator=draw)
    action, following = torch.rand(2, 16, 2, generator=draw) * 2 - 1
    discount = 0.99 * (torch.rand(16, generator=draw) > 0.2)
    return DataTransition(obs, action, torch.randn(16, generator=draw), discount, next_obs, following)


def test_one_step_is_that_of_the_paper() -> None:
    """The losses, written again from the paper's equations with what the agent's networks say."""
    found = agent(actor_bc_coef=0.3, critic_bc_coef=0.7)
    s, a, r, discount, s2, data_a2 = batch()
    noise = torch.randn(16, 2, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        a2 = (found.target_actor(s2) + (0.2 * noise).clamp(-0.5, 0.5)).clamp(-1, 1)
        q2 = found.target_critic(s2, a2).min(0).values - 0.7 * ((a2 - data_a2) ** 2).sum(1)
        y = r + discount * q2
        critic_loss = sum(0.5 * ((q - y) ** 2).mean() for q in found.critic(s, a))
    metrics = found.gradient_step_(batch(), noise, False)
    torch.testing.assert_close(metrics["train/critic_loss"], critic_loss)
    with torch.no_grad():
        pi = found.actor(s)
        q = found.critic(s, pi).min(0).values
    before = [p.clone() for p in found.actor.parameters]
    expected_loss = (0.3 * ((pi - a) ** 2).sum(1) - q / q.abs().mean()).mean()
    again = agent(actor_bc_coef=0.3, critic_bc_coef=0.7)
    moved = again.gradient_step_(batch(), noise, True)
    torch.testing.assert_close(moved["train/actor_loss"], expected_loss, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(p, b) for p, b in zip(found.actor.parameters, before, strict=True))
    assert any(not torch.equal(p, b) for p, b in zip(again.actor.parameters, before, strict=True))


def test_with_a_heavy_penalty_it_becomes_the_behaviour() -> None:
    found, draw = (
        agent(actor_bc_coef=1e3, critic_bc_coef=0.0, learning_rate=1e-2),
        torch.Generator().manual_seed(1),
    )
    distances = [
        float(found.update_(batch(), found.update_noise(16, draw)).get("train/behaviour_distance", 0.0))
        for _ in range(400)
    ]
    assert distances[-1] < 0.15 * distances[1]


def test_the_promises_hold() -> None:
    assert {finding.level for finding in check_agent(ReBRACAgent, net_arch=(8,))} <= {"ok", "note"}


def test_it_is_compiled_as_it_is_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_ = torch.compile
    monkeypatch.setattr(
        "torch.compile",
        lambda f, *, fullgraph, dynamic, options: compile_(f, fullgraph=fullgraph, backend="aot_eager"),
    )
    compiled, eager = agent(), agent()
    engine, draw = Engine(compiled, "compiled"), torch.Generator().manual_seed(1)
    for i in range(4):
        noise = eager.update_noise(16, draw)
        engine.update_(batch(i), noise)
        eager.update_(batch(i), noise)
    assert engine.name == "compiled"
    for name, tensor in state_of(eager).items():
        torch.testing.assert_close(state_of(compiled)[name], tensor, rtol=2e-5, atol=1e-6)


def test_rebrac_learns_from_data_alone(data: Path, tmp_path: Path) -> None:
    settings = {"env_kwargs": {"max_episode_steps": 40}, "net_arch": (8,), "batch_size": 16, "prior": data}
    whole = ReBRAC("Pendulum-v1", **settings).learn(90)
    ReBRAC("Pendulum-v1", **settings).learn(51, run_dir=tmp_path / "run", **RECORD)
    again = ReBRAC.load(tmp_path / "run").learn(39, run_dir=tmp_path / "run", **RECORD)
    assert equal(whole, again)
    prior = whole.training.prior
    assert prior.replay.added == 4 * 39  # the last step of an episode that was cut off has no next action
    drawn = prior.batch(whole.training.memory, 8, torch.Generator().manual_seed(3))
    rows = prior.replay.explicit_rows(0, prior.replay.added)
    for obs, following in zip(drawn.next_obs.numpy(), drawn.next_action.numpy(), strict=True):
        later = np.flatnonzero((rows[:, :3] == obs).all(1))
        assert len(later) == 0 or np.array_equal(rows[later[0], 3:4], following)


def test_rebrac_needs_data(data: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ReBRAC("Pendulum-v1").learn(1)
    assert str(caught.value) == (
        "no data were given to ReBRACAgent, which learns from them alone; expected prior, a data set to learn "
        "from; give prior=DATASET (--prior DATASET)"
    )
    with pytest.raises(ConfigError, match=r"prior_share=0.5 was given with ReBRACAgent, .*expected 1"):
        ReBRAC("Pendulum-v1", prior=data, prior_share=0.5)
