"""Schedules: numbers that change with the environment steps made, whoever executes the update."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from softac import DDPG, DQN, PPO, SAC, TD3
from softac.agents.ddpg import DDPGAgent, DDPGConfig
from softac.agents.registry import AGENTS
from softac.agents.sac import SACConfig
from softac.agents.td3 import TD3Config
from softac.config import fields, make_config, scheduled
from softac.config.schedules import read_schedule, schedule_of, value_at
from softac.errors import ConfigError
from softac.learning.cohort import Cohort
from softac.learning.engine import Engine
from softac.learning.learner import Learner
from softac.learning.parts import followers, learners
from softac.learning.state import state_of
from softac.types import Moment
from test_cohort import arguments, make, side_by_side
from test_engine import CONTINUOUS, CPU, batches
from test_engine_promises import graphs as graphs  # a fixture

SMALL: dict[str, Any] = {"env_kwargs": {"max_episode_steps": 40}, "net_arch": (8,), "batch_size": 16}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # at steps 0, 250, 500, 999, 1000 and 5000
        ("linear 3e-4 0 1000", [3e-4, 2.25e-4, 1.5e-4, 3e-7, 0.0, 0.0]),
        ("linear 0 1 1e3", [0.0, 0.25, 0.5, 0.999, 1.0, 1.0]),
        ("cosine 1 0 1000", [1.0, 0.8535533905932737, 0.5, 2.4674e-6, 0.0, 0.0]),
        ("cosine 0.1 0.3 1000", [0.1, 0.12928932188134525, 0.2, 0.29999950652, 0.3, 0.3]),
    ],
)
def test_numbers(text: str, expected: list[float]) -> None:
    found = [read_schedule(text)(step) for step in (0, 250, 500, 999, 1000, 5000)]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-12)
    assert found[0] == expected[0]  # both ends exactly
    assert found[-2:] == expected[-2:]
    assert value_at(text, 250) == found[1]


def test_a_number_is_no_schedule() -> None:
    assert value_at(0.5, 10**6) == 0.5
    assert [schedule_of(value) for value in (0.5, "auto", "auto_0.1", "relu", None, (64, 64))] == [None] * 6


RATE = (
    'expected a number > 0 and <= 1, or "linear START END STEPS" or "cosine START END STEPS" of such or 0; '
    "leave it out for the default 0.0003"
)


@pytest.mark.parametrize(
    "text",
    [
        "linear 3e-4 -1e-4 1000",  # ends below 0
        "cosine -1e-4 3e-4 1000",
        "linear 0 0 1000",  # never learns
        "linear 2 0 1000",
        "linear 3e-4 2 1000",
        "linear nan 0 1000",
        "linear 3e-4 inf 1000",
        "linear 3e-4 0 0",
        "linear 3e-4 0 -5",
        "linear 3e-4 0 10.5",
        "linear 3e-4 0 1e13",
        "linear 3e-4 0",
        "linear 3e-4 0 1000 1",
        "step 3e-4 0 1000",
        "linear",
        "",
    ],
)
def test_what_cannot_be_a_schedule_of_rates(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SAC("Pendulum-v1", learning_rate=text)
    assert str(caught.value) == f"learning_rate={text!r} was given; {RATE}"


@pytest.mark.parametrize(
    ("model", "name", "bad"),
    [
        (PPO, "clip_range", "linear 1.0 0 100"),
        (PPO, "clip_range", "linear 0.2 -0.1 100"),
        (TD3, "action_noise_std", "linear 0.1 -0.1 100"),
        (DQN, "learning_rate", "linear 1e-4 -1 100"),
        (SAC, "ent_coef_learning_rate", "linear 1e-4 -1 100"),
        (SAC, "gamma", "linear 0.9 0.99 100"),
        (SAC, "tau", "linear 0.9 0.99 100"),
    ],
)
def test_others_end_within_their_range_or_are_numbers(model: Any, name: str, bad: str) -> None:
    env = "CartPole-v1" if model is DQN else "Pendulum-v1"
    with pytest.raises(ConfigError) as caught:
        model(env, **{name: bad})
    assert str(caught.value).startswith(f"{name}={bad!r} was given; expected a number")


def test_every_rate_of_every_algorithm_may_follow_one() -> None:
    for name, agent in AGENTS.items():
        rates = [field for field in fields(agent.Config) if field.endswith("learning_rate")]
        assert rates, name
        for rate in rates:
            text = "linear 1e-3 0 500"
            config = make_config(agent.Config, {rate: text})
            assert scheduled(config, 250) == {rate: 5e-4}, name


def test_numbers_that_are_typed_stay_numbers() -> None:
    assert make_config(SACConfig, {"learning_rate": "3e-4"}).learning_rate == 3e-4
    assert make_config(SACConfig, {"learning_rate": " linear  3e-4 0   1e6 "}).learning_rate == "linear 3e-4 0 1e6"
    assert make_config(TD3Config, {"action_noise_std": "0"}).action_noise_std == 0.0


def rates(model: Any) -> list[float]:
    return [learner.learning_rate for learner in learners(model.agent)]


def test_a_run_follows_its_schedules_in_absolute_steps(tmp_path: Path) -> None:
    model = SAC("Pendulum-v1", **SMALL, learning_rate="linear 1e-3 0 400", ent_coef_learning_rate=2e-3)
    assert rates(model) == [1e-3, 1e-3, 2e-3]
    model.learn(200, run_dir=tmp_path / "run", n_eval_episodes=0)
    assert rates(model) == [5e-4, 5e-4, 2e-3]
    model.learn(300, run_dir=tmp_path / "run", n_eval_episodes=0)
    assert rates(model) == [0.0, 0.0, 2e-3]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["hyperparameters"]["learning_rate"] == "linear 1e-3 0 400"
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["train/learning_rate"]) for row in rows] == [(500, 0.0)]
    assert all("train/ent_coef_learning_rate" not in row for row in rows)


@pytest.mark.parametrize("overlap", [False, True])
def test_where_it_was_stopped_makes_no_difference(tmp_path: Path, overlap: bool) -> None:
    settings = SMALL | {"learning_rate": "cosine 3e-3 1e-4 250", "n_envs": 3, "overlap": overlap}
    whole = SAC("Pendulum-v1", **settings).learn(222)
    first = SAC("Pendulum-v1", **settings).learn(151)
    first.save(tmp_path / "model")
    second = SAC.load(tmp_path / "model").learn(71)
    assert rates(second) == rates(whole)
    states = [state_of(model.agent) for model in (whole, second)]
    assert all(torch.equal(states[1][name], tensor) for name, tensor in states[0].items())


def test_at_a_rate_of_0_nothing_moves() -> None:
    model = SAC("Pendulum-v1", **SMALL, learning_rate="linear 1e-3 0 150").learn(200)
    before = [p.clone() for p in model.agent.actor.parameters]
    assert model.learn(50).agent.actor.steps[0] == 150.0
    assert all(torch.equal(a, b) for a, b in zip(before, model.agent.actor.parameters, strict=True))


def test_a_constant_schedule_gives_the_bits_of_the_number() -> None:
    found = [SAC("Pendulum-v1", **SMALL, learning_rate=rate).learn(200) for rate in (1e-3, "linear 1e-3 1e-3 9")]
    states = [state_of(model.agent) for model in found]
    assert all(torch.equal(states[1][name], tensor) for name, tensor in states[0].items())
    assert [followers(model.agent) for model in found] == [[], learners(found[1].agent)]


def ddpg(rate: float | str) -> DDPGAgent:
    config = DDPGConfig(net_arch=(8,), batch_size=16, learning_rate=rate)
    return DDPGAgent(CONTINUOUS, config, generator=torch.Generator().manual_seed(0), device=CPU)


def test_a_schedule_is_followed_by_the_same_graph(graphs: list[int]) -> None:
    compiled, eager = ddpg("linear 1e-2 0 12"), ddpg("linear 1e-2 0 12")
    engine = Engine(compiled, "compiled")
    for step, batch in enumerate(batches(13, discrete=False)):
        for agent in (compiled, eager):
            for follower in followers(agent):
                follower.follow(step)
        engine.update_(batch, None)
        eager.update_(batch, None)
    assert engine.name == "compiled"
    assert graphs == [1]
    for name, tensor in state_of(eager).items():
        torch.testing.assert_close(state_of(compiled)[name], tensor, rtol=2e-5, atol=1e-6)


def test_a_cohort_follows_the_schedule_of_each() -> None:
    """Each by its own steps: one that was resumed elsewhere has another rate at the same time."""
    rate, starts = "linear 1e-2 0 100", (0, 40, 95)
    cohort = Cohort([make("sac", seed, learning_rate=rate) for seed in range(3)])

    def advance(agent: Any, engine: Any, seed: int) -> None:
        for turn in range(6):
            for follower in followers(agent):
                follower.follow(starts[seed] + turn)
            engine.update_(*arguments(agent, seed, turn))

    def together(i: int) -> None:
        try:
            advance(cohort.agents[i], cohort.engine(i), i)
        finally:
            cohort.leave(i)

    side_by_side(*(lambda i=i: together(i) for i in range(3)))
    for seed, agent in enumerate(cohort.agents):
        alone = make("sac", seed, learning_rate=rate)
        advance(alone, Engine(alone), seed)
        for name, tensor in state_of(alone).items():
            torch.testing.assert_close(state_of(agent)[name], tensor, rtol=2e-5, atol=5e-6)


def test_exploration_fades() -> None:
    noises = []
    for model in (TD3, DDPG):
        agent = model("Pendulum-v1", action_noise_std="linear 0.5 0.1 100", net_arch=(8,)).agent
        draws = [agent.act_noise(4, torch.Generator().manual_seed(0), Moment(step)) for step in (0, 50, 100, 900)]
        noises.append([float(draw[0, 0] / draws[0][0, 0]) for draw in draws])
    assert noises == [pytest.approx([1.0, 0.6, 0.2, 0.2])] * 2


def test_ppo_clips_by_its_schedule() -> None:
    model = PPO("Pendulum-v1", net_arch=(8,), n_steps=50, batch_size=25, clip_range="linear 0.2 0.1 200")
    assert model.agent.clip_range.value == 0.2
    assert model.learn(100).agent.clip_range.value == pytest.approx(0.15)
    assert model.learn(400).agent.clip_range.value == 0.1
    found = [
        PPO("Pendulum-v1", net_arch=(8,), n_steps=50, batch_size=25, learning_rate=1e-2, clip_range=c).learn(200)
        for c in ("linear 0.3 0.3 10", 0.3, "linear 0.3 0.01 100")
    ]
    actors = [torch.cat([p.flatten() for p in model.agent.actor.parameters]) for model in found]
    assert torch.equal(actors[0], actors[1])
    assert not torch.equal(actors[0], actors[2])


def test_a_learner_of_ones_own_takes_one_too() -> None:
    learner = Learner(torch.nn.Linear(1, 1), "cosine 1e-2 0 100")
    assert learner.learning_rate == 1e-2
    learner.follow(50)
    assert math.isclose(learner.learning_rate, 5e-3)


def test_on_the_command_line_it_is_one_word(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from softac.cli.main import main

    common = [
        "train",
        "sac",
        "Pendulum-v1",
        "-n",
        "60",
        "--n-eval-episodes",
        "0",
        "--run-dir",
        str(tmp_path / "a"),
    ]
    assert main([*common, "--learning-rate", "linear 3e-4 0 60", "--net-arch", "8"]) == 0
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["hyperparameters"]["learning_rate"] == "linear 3e-4 0 60"
    capsys.readouterr()
    assert main([*common[:-1], str(tmp_path / "b"), "--learning-rate", "linear"]) == 2
    assert capsys.readouterr().err == f"softac: learning_rate='linear' was given; {RATE}\n"
