"""Cohorts: the updates of several agents, executed as one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from softac.agents.registry import AGENTS
from softac.learning.cohort import Cohort
from softac.learning.engine import Engine
from softac.learning.state import load_state_, state_of
from softac.nets.layers import round_hidden_products
from softac.types import EnvSpec, Transition
from test_engine import CONTINUOUS, CPU, DISCRETE, NO_CUDA, OFF_POLICY, OPTIONS

TARGETS = ("dqn", {"target_update_interval": 2, "tau": 0.5})
EVERY: list[tuple[str, dict[str, Any]]] = [*((name, {}) for name in OFF_POLICY), TARGETS, *OPTIONS]
BY_NAME = pytest.mark.parametrize(
    ("name", "options"), EVERY, ids=lambda v: v if isinstance(v, str) else "-".join(v)
)


def make(name: str, seed: int, device: torch.device = CPU, **options: Any) -> Any:
    cls = AGENTS[name]
    spec: EnvSpec = CONTINUOUS if "continuous" in cls.actions else DISCRETE
    weights = torch.Generator().manual_seed(seed)
    return cls(spec, cls.Config(**{"net_arch": (32, 32)} | options), generator=weights, device=device)


def arguments(agent: Any, seed: int, turn: int, size: int = 16) -> tuple[Transition, Any]:
    """A batch and the noise of an update, which no two agents or turns share."""
    generator = torch.Generator().manual_seed(100 * seed + turn)
    if "discrete" in agent.actions:
        action = torch.randint(3, (size, 1), generator=generator).float()
    else:
        action = torch.randn(size, 2, generator=generator).tanh()
    obs, next_obs = torch.randn(2, size, 5, generator=generator)
    batch = Transition(obs, action, torch.randn(size, generator=generator), torch.full((size,), 0.99), next_obs)
    moved = Transition(*(tensor.to(agent.device) for tensor in batch))
    return moved, agent.update_noise(size, generator)


def side_by_side(*jobs: Callable[[], Any]) -> list[Any]:
    """What the jobs return, each in a thread."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def update(cohort: Cohort, i: int, seed: int, turns: range, size: int = 16) -> list[dict[str, torch.Tensor]]:
    engine, agent = cohort.engine(i), cohort.agents[i]
    try:
        return [engine.update_(*arguments(agent, seed, turn, size)) for turn in turns]
    finally:
        cohort.leave(i)


def assert_parity(name: str, device: torch.device = CPU, *, recorded: bool = False, **options: Any) -> None:
    """Three agents together and each alone: the same metrics, parameters, moments and counters."""
    turns = range(15 if recorded else 4)  # each kind of update at least five times, or as often as it comes
    alone = [make(name, seed, device, **options) for seed in range(3)]
    cohort = Cohort([make(name, seed, device, **options) for seed in range(3)], recorded=recorded)
    found = side_by_side(*(lambda i=i: update(cohort, i, i, turns) for i in range(3)))
    for seed, (reference, agent) in enumerate(zip(alone, cohort.agents, strict=True)):
        engine = Engine(reference)
        for turn in turns:
            expected = engine.update_(*arguments(reference, seed, turn))
            assert found[seed][turn].keys() == expected.keys()
            for key, value in expected.items():
                message = lambda text, key=key: f"{key} of {seed} in {turn}: {text}"  # noqa: E731, B023
                torch.testing.assert_close(found[seed][turn][key], value, rtol=2e-5, atol=2e-6, msg=message)
        state = state_of(agent)
        assert state.keys() == state_of(reference).keys()
        for key, value in state_of(reference).items():
            torch.testing.assert_close(state[key], value, rtol=2e-5, atol=5e-6, msg=lambda t, k=key: f"{k}: {t}")


@BY_NAME
def test_agents_learn_together_what_each_learns_alone(name: str, options: dict[str, Any]) -> None:
    assert_parity(name, **options)


@NO_CUDA
@pytest.mark.parametrize("recorded", [False, True])
@BY_NAME
def test_cohorts_on_a_gpu(name: str, options: dict[str, Any], recorded: bool) -> None:
    assert_parity(name, torch.device("cuda"), recorded=recorded, **options)


def test_rounded_products_are_rounded_together() -> None:
    def rounded(seed: int) -> Any:
        agent = make("sac", seed)
        assert round_hidden_products(agent.critic.module) == 1
        return agent

    exact, alone, cohort = make("sac", 0), rounded(0), Cohort([rounded(0), rounded(1)])
    found = side_by_side(*(lambda i=i: update(cohort, i, i, range(1), size=32) for i in range(2)))[0][0]
    expected, other = (agent.update_(*arguments(agent, 0, 0, size=32)) for agent in (alone, exact))
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(other["train/critic_loss"], expected["train/critic_loss"], rtol=1e-5)


def states(cohort: Cohort) -> list[bytes]:
    """The bits of each agent."""
    return [b"".join(t.numpy().tobytes() for t in state_of(agent).values()) for agent in cohort.agents]


def test_who_has_left_stays_as_it_is_and_the_others_get_the_same_bits() -> None:
    def trained(turns: int) -> tuple[list[bytes], list[Any]]:
        cohort = Cohort([make("sac", seed) for seed in range(3)])
        ranges = [range(6), range(turns), range(6)]
        metrics = side_by_side(*(lambda i=i: update(cohort, i, i, ranges[i]) for i in range(3)))
        return states(cohort), metrics

    (all_stay, metrics), (one_leaves, fewer), (at_once, _) = trained(6), trained(2), trained(2)
    assert one_leaves == at_once
    assert (one_leaves[0], one_leaves[2]) == (all_stay[0], all_stay[2])
    assert fewer[1] == metrics[1][:2]
    short = Cohort([make("sac", seed) for seed in range(3)])
    side_by_side(*(lambda i=i: update(short, i, i, range(2)) for i in range(3)))
    assert one_leaves[1] == states(short)[1] != all_stay[1]


def test_a_cohort_of_another_size_is_another_engine() -> None:
    names = [Cohort([make("td3", seed) for seed in range(n)]).name for n in (2, 3)]
    assert names == ["cohort of 2", "cohort of 3"]
    assert Cohort([make("td3", 0)], recorded=True).name == "recorded cohort of 1"


def test_different_kinds_of_update_at_the_same_time() -> None:
    def before(agent: Any, seed: int) -> Any:
        for turn in range(seed):
            agent.update_(*arguments(agent, seed, turn))
        return agent

    # With policy_delay 2 the second agent moves its actor when the others do not.
    alone = [before(make("td3", seed, policy_delay=2), seed) for seed in range(3)]
    cohort = Cohort([before(make("td3", seed, policy_delay=2), seed) for seed in range(3)])
    side_by_side(*(lambda i=i: update(cohort, i, i, range(i, i + 4)) for i in range(3)))
    for seed, (reference, agent) in enumerate(zip(alone, cohort.agents, strict=True)):
        for turn in range(seed, seed + 4):
            reference.update_(*arguments(reference, seed, turn))
        torch.testing.assert_close(state_of(agent), state_of(reference), rtol=2e-5, atol=5e-6)


def test_an_update_that_fails_half_way_changes_no_other_agent() -> None:
    agents = [make("td3", seed, policy_delay=2) for seed in range(2)]
    agents[1].update_(*arguments(agents[1], 1, 9))  # now they take turns in moving their actors
    alone, cohort = make("td3", 0, policy_delay=2), Cohort(agents)

    def fail(*_: Any) -> None:
        raise RuntimeError("no memory is left")

    cohort._model.actor.descend = fail  # type: ignore[attr-defined]

    def fails() -> None:
        with pytest.raises(RuntimeError, match="no memory is left"):
            update(cohort, 1, 1, range(1))

    side_by_side(lambda: update(cohort, 0, 0, range(1)), fails)
    alone.update_(*arguments(alone, 0, 0))
    torch.testing.assert_close(state_of(agents[0]), state_of(alone), rtol=2e-5, atol=5e-6)


def test_a_state_that_is_loaded_is_loaded_into_the_stack() -> None:
    alone, cohort = make("sac", 7), Cohort([make("sac", seed) for seed in range(2)])
    load_state_(cohort.agents[1], state_of(alone))
    side_by_side(lambda: update(cohort, 0, 0, range(2)), lambda: update(cohort, 1, 7, range(2)))
    for turn in range(2):
        alone.update_(*arguments(alone, 7, turn))
    torch.testing.assert_close(state_of(cohort.agents[1]), state_of(alone), rtol=2e-5, atol=5e-6)


def test_every_agent_hears_of_an_error() -> None:
    cohort = Cohort([make("sac", seed) for seed in range(3)])

    def fails(i: int) -> str:
        with pytest.raises(RuntimeError) as caught:
            update(cohort, i, i, range(1), size=8 + i // 2)
        return str(caught.value)

    said = side_by_side(*(lambda i=i: fails(i) for i in range(3)))
    assert all("size" in text for text in said)
    assert said[0] == said[1] == said[2]


class Counted(TorchDispatchMode):
    """Counts the operations that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.n += not func.is_view
        return result


def test_the_update_of_many_agents_has_as_many_operations_as_that_of_few() -> None:
    def operations(engine: Engine) -> int:
        with Counted() as counted:
            engine.update_(*arguments(make("sac", 0), 0, 0))
        return counted.n

    of_2, of_16 = (operations(Cohort([make("sac", 0), *[None] * n]).engine(0)) for n in (1, 15))
    assert of_2 == of_16 < 4 * operations(Engine(make("sac", 0)))
