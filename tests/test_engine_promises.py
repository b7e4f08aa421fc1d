"""Compiled updates go by their own agent's numbers, however many there are and whatever becomes of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from softac.agents.ddpg import DDPGAgent, DDPGConfig
from softac.agents.sac import SACAgent, SACConfig
from softac.learning.engine import Engine
from softac.learning.parts import learners
from softac.learning.state import state_of
from test_engine import CONTINUOUS, CPU, NO_COMPILER, batches, said

SMALL: dict[str, Any] = {"net_arch": (8,), "batch_size": 16}


def ddpg(**options: Any) -> DDPGAgent:
    weights = torch.Generator().manual_seed(0)
    return DDPGAgent(CONTINUOUS, DDPGConfig(**SMALL | options), generator=weights, device=CPU)


def sac(**options: Any) -> SACAgent:
    weights = torch.Generator().manual_seed(0)
    return SACAgent(CONTINUOUS, SACConfig(**SMALL | options), generator=weights, device=CPU)


def assert_close(found: Any, expected: Any, message: str = "") -> None:
    states = state_of(found), state_of(expected)
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[1].items():
        torch.testing.assert_close(
            states[0][name], tensor, rtol=2e-5, atol=1e-6, msg=lambda t, n=name: f"{message} {n}: {t}"
        )


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many graphs each compiled function was made into; they are traced, but no code is generated."""
    counts: list[int] = []
    compile_ = torch.compile

    def traced(function: Callable[..., Any], *, fullgraph: bool, dynamic: bool, options: Any) -> Any:
        counts.append(0)
        mine = len(counts) - 1

        def counting(guards: Any) -> list[bool]:
            counts[mine] += 1
            kept: list[bool] = options["guard_filter_fn"](guards)
            return kept

        given = {"guard_filter_fn": counting}
        return compile_(function, fullgraph=fullgraph, dynamic=dynamic, backend="aot_eager", options=given)

    monkeypatch.setattr("torch.compile", traced)
    return counts


def assert_each_goes_by_its_own_numbers(configurations: list[dict[str, Any]]) -> None:
    """Compiled, all in this process and in turns, each is its eager twin; and they are not one another's."""
    compiled = [ddpg(**configuration) for configuration in configurations]
    eager = [ddpg(**configuration) for configuration in configurations]
    engines = [Engine(agent, "compiled") for agent in compiled]
    for batch in batches(3, discrete=False):
        for engine, twin in zip(engines, eager, strict=True):
            engine.update_(batch, None)
            twin.update_(batch, None)
    assert [engine.name for engine in engines] == ["compiled"] * len(configurations)
    for configuration, agent, twin in zip(configurations, compiled, eager, strict=True):
        assert_close(agent, twin, str(configuration))
    firsts = [state_of(agent)["target_critic.net.0.weight"] for agent in compiled]
    assert min((a - b).abs().max() for i, a in enumerate(firsts) for b in firsts[:i]) > 2e-5


TWELVE = [{"tau": 0.1 + 0.07 * i, "learning_rate": 1e-2 / (1 + i)} for i in range(12)]
OF_TWO_CODES = [{"tau": 0.3 + 0.3 * (i % 2), "learning_rate": 1e-2 / (1 + i)} for i in range(12)]


def test_twelve_configurations_in_one_process(graphs: list[int]) -> None:
    assert_each_goes_by_its_own_numbers(TWELVE)
    assert graphs == [1] * 12


@NO_COMPILER
@pytest.mark.slow
def test_twelve_configurations_with_the_code_generated() -> None:
    assert_each_goes_by_its_own_numbers(OF_TWO_CODES)  # to generate twelve takes minutes


@NO_COMPILER
def test_two_models_of_one_class_train_with_their_own_learning_rates() -> None:
    rates = (3e-4, 1e-5)
    together, alone, eager = ([sac(learning_rate=rate) for rate in rates] for _ in range(3))
    noise, drawn = torch.Generator().manual_seed(2), []
    engines = [Engine(agent, "compiled") for agent in together]
    for batch in batches(6, discrete=False):
        drawn.append((batch, together[0].update_noise(16, noise)))
        for engine in engines:
            engine.update_(*drawn[-1])
    for agent, twin, reference in zip(together, alone, eager, strict=True):
        engine = Engine(twin, "compiled")
        for batch, draws in drawn:
            engine.update_(batch, draws)
            reference.update_(batch, draws)
        assert engine.name == "compiled"
        assert all(torch.equal(state_of(agent)[name], tensor) for name, tensor in state_of(twin).items())
        assert_close(agent, reference)
    moved = [(a - b).abs().max() for a, b in zip(*(agent.actor.parameters for agent in together), strict=True)]
    assert max(moved) > 1e-3


def change_rate(agent: Any, turn: int) -> None:
    for i, learner in enumerate(learners(agent)):
        learner.learning_rate = 1e-2 / (1 + turn + i)


def change_tau(agent: Any, turn: int) -> None:
    agent.config = replace(agent.config, tau=0.1 + 0.07 * turn)


def assert_changes_are_taken_over(change: Callable[[Any, int], None], turns: int) -> Engine:
    compiled, eager = ddpg(), ddpg()
    engine = Engine(compiled, "compiled")
    for turn, batch in enumerate(batches(turns, discrete=False)):
        for agent in (compiled, eager):
            change(agent, turn)
        found, expected = engine.update_(batch, None), eager.update_(batch, None)
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)
        assert_close(compiled, eager, f"turn {turn}")
    return engine


def test_a_learning_rate_that_is_changed_is_read_by_the_same_graph(graphs: list[int]) -> None:
    assert assert_changes_are_taken_over(change_rate, 13).name == "compiled"
    assert graphs == [1]


@NO_COMPILER
def test_a_learning_rate_that_is_changed_is_read_by_the_generated_code() -> None:
    assert assert_changes_are_taken_over(change_rate, 13).name == "compiled"


def test_what_is_changed_too_often_goes_on_eagerly_and_says_so(
    graphs: list[int], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert assert_changes_are_taken_over(change_tau, 13).name == "eager"
    assert graphs == [8]
    (message,) = said(caplog)
    assert message == (
        "updates could not be compiled (their numbers were changed more often than the compiler makes new "
        "graphs); going on eagerly, not bit for bit"
    )
    assert "Traceback" not in capfd.readouterr().err


def test_learners_are_found_wherever_an_agent_keeps_them() -> None:
    agent: Any = ddpg()
    every = learners(agent)
    agent.itself, agent.more = agent, {"list": [agent.actor, (sac().temperature,)]}
    assert learners(agent)[:2] == every
    assert len(learners(agent)) == 3
