"""What the run offers beside a replay of continuous actions: rollouts, discrete actions, noise that remembers."""

import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

import reliability_envs  # noqa: F401 - registers environments
from folders import memory_folder
from forgery import OPTIM, Forgery
from hashing import digests, training_digests
from jobs import Server
from probes import CountingEnv, EarlyEndingEnv, Probe, SpaceEnv, rows
from softac import Model, evaluate_policy
from softac.agents.registry import AGENTS
from softac.cli.main import main
from softac.errors import CheckpointError, ConfigError, EnvironmentFailed
from softac.learning.state import state_of
from softac.replay import RolloutStorage, require_memory
from softac.run.config import RecordConfig
from softac.types import EnvSpec, Row
from tiny_agents import Choice, OnPolicy, OnPolicyChoice, Remembering, Tiny

FREQUENCIES: dict[str, Any] = {"eval_freq": 60, "n_eval_episodes": 1, "save_freq": 45}
N = 101  # no multiple of an interval, of three environments or of a rollout


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


@pytest.fixture(autouse=True)
def frequent_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softac.run.recorder.LOG_FREQ", 35)


def recorder_of(kind: Callable[[], Any]) -> tuple[Callable[[], Any], list[Any]]:
    """A function that makes environments and keeps them."""
    made: list[Any] = []

    def make() -> Any:
        made.append(kind())
        return made[-1]

    return make, made


def of_lengths(*lengths: int, ending: str = "truncated") -> tuple[Callable[[], Any], list[Any]]:
    """Environments whose episodes have these lengths, the first one's the first."""
    number = count()
    return recorder_of(lambda: CountingEnv(lengths[next(number)], ending))


def agent_of(model: Model) -> Any:
    return model.agent


def training_of(model: Model) -> Any:
    assert model.training is not None
    return model.training


# --------------------------------------------------------------------------- the storage


def row(k: int, ended: bool = False, discount: float = 0.5) -> Row:
    """A step that can be told by its number."""
    obs, action, next_obs = ([k, -k], [k / 8], [k + 0.5, 1000.0])
    return Row(np.float32(obs), np.float32(action), 10.0 * k, discount, np.float32(next_obs), ended)


def storage(n_steps: int, n_envs: int) -> RolloutStorage:
    return RolloutStorage(n_steps, n_envs, EnvSpec(obs_dim=2, action_dim=1), torch.device("cpu"))


def test_rows_are_rounds_of_the_environments_in_order() -> None:
    kept = storage(n_steps=3, n_envs=2)
    for k in range(6):
        assert len(kept) == k
        kept.add(row(k, ended=k in (1, 4), discount=0.0 if k == 4 else 0.5))
    rollout = kept.read()
    number = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])  # [T, N]
    assert torch.equal(rollout.obs, torch.stack([number, -number], -1))
    assert torch.equal(rollout.action, number.unsqueeze(-1) / 8)
    assert torch.equal(rollout.reward, 10.0 * number)
    assert torch.equal(rollout.next_obs, torch.stack([number + 0.5, torch.full((3, 2), 1000.0)], -1))
    # Row 1 was truncated and keeps its discount, row 4 terminated; the episode goes on after neither.
    assert rollout.discount.tolist() == [[0.5, 0.5], [0.5, 0.5], [0.0, 0.5]]
    assert rollout.continues.tolist() == [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    assert all(tensor.dtype == torch.float32 for tensor in rollout)


def test_what_was_learned_from_is_overwritten() -> None:
    kept = storage(n_steps=2, n_envs=1)
    for k in (1, 2):
        kept.add(row(k, ended=True))
    kept.clear()
    assert len(kept) == 0
    assert kept.actions.shape == (0, 1)
    for k in (3, 4):
        kept.add(row(k))
    assert kept.read().reward.tolist() == [[30.0], [40.0]]
    assert kept.read().continues.tolist() == [[1.0], [1.0]]
    assert kept.actions.tolist() == [[3 / 8], [4 / 8]]


def test_a_full_storage_takes_no_more() -> None:
    kept = storage(n_steps=2, n_envs=2)
    for k in range(4):
        kept.add(row(k))
    with pytest.raises(IndexError):
        kept.add(row(4))
    assert kept.read().reward.tolist() == [[0.0, 10.0], [20.0, 30.0]]


# --------------------------------------------------------------------------- on-policy training


@pytest.mark.parametrize("ending", ["terminated", "truncated", "both"])
def test_rollouts_hold_what_happened(ending: str) -> None:
    lengths = (3, 4, 5)
    make, envs = of_lengths(*lengths, ending=ending)
    model = Model(OnPolicy, make, n_envs=3, n_steps=4, gamma=0.5).learn(2 * 12 + 5)
    rollouts = agent_of(model).rollouts
    assert [tuple(r.obs.shape) for r in rollouts] == [(4, 3, 2)] * 2
    beyond = 0
    for t in range(8):
        for i, length in enumerate(lengths):
            obs, action, reward, discount, next_obs, continues = (x[t % 4, i] for x in rollouts[t // 4])
            episode, k = t // length + 1, t % length
            last = k + 1 == length
            assert obs.tolist() == [episode, k]
            assert next_obs.tolist() == [episode, k + 1]  # the true one, also where the episode ended
            assert reward.item() == k + 1
            assert discount.item() == (0.0 if last and ending != "truncated" else 0.5)
            assert continues.item() == (not last)
            # The policy's own action is kept, and cut only for the environment.
            assert envs[i].actions[t] == action.clamp(-1.0, 1.0)
            beyond += abs(action.item()) > 1.0
    assert beyond > 4


@settings(max_examples=20)
@given(n_envs=st.sampled_from([1, 3]), cuts=st.lists(st.integers(1, 49), max_size=4, unique=True))
def test_budgets_end_anywhere_and_change_nothing(n_envs: int, cuts: list[int]) -> None:
    size = 4 * n_envs

    def learned(budgets: list[int]) -> Model:
        make, envs = recorder_of(EarlyEndingEnv)
        model, total = Model(OnPolicy, make, n_envs=n_envs, n_steps=4), 0
        for budget in budgets:
            model.learn(budget)
            total += budget
            assert model.num_timesteps == sum(env.steps for env in envs) == total
            training = training_of(model)
            assert training.updates == len(agent_of(model).rollouts) == total // size
            assert len(training.memory) == total % size
            assert training.updates_due() == 0
        return model

    ends = [*sorted(cuts), 50]
    parts = [b - a for a, b in pairwise([0, *ends])]
    whole, parted = learned([50]), learned(parts)
    for ours, theirs in zip(agent_of(whole).rollouts, agent_of(parted).rollouts, strict=True):
        assert all(map(torch.equal, ours, theirs))
    expected = state_of(whole.agent)
    assert all(torch.equal(value, expected[name]) for name, value in state_of(parted.agent).items())


def test_an_update_gets_noise_for_every_step_of_the_rollout() -> None:
    asked = []

    class Asking(OnPolicy):
        def update_noise(self, batch_size: int, generator: torch.Generator) -> torch.Tensor:
            asked.append(batch_size)
            return super().update_noise(batch_size, generator)

    Model(Asking, EarlyEndingEnv, n_envs=3, n_steps=4).learn(50)
    assert asked == [12] * 4


def test_there_is_no_warm_up() -> None:
    model = Model(OnPolicy, EarlyEndingEnv, n_envs=3, n_steps=4)
    model.learn(31)
    assert [moment.step for moment, _ in agent_of(model).moments] == list(range(0, 31, 3))


class StopAt:
    """Says stop from the `n`-th question on, as a signal handler would."""

    def __init__(self, n: int) -> None:
        self.asked, self.n = 0, n

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > self.n


@pytest.mark.parametrize("n_envs", [1, 3])
def test_stopped_anywhere_a_rollout_never_overflows_and_nothing_is_lost(n_envs: int) -> None:
    size = 4 * n_envs
    whole = Model(OnPolicy, EarlyEndingEnv, n_envs=n_envs, n_steps=4).learn(50)
    model = Model(OnPolicy, EarlyEndingEnv, n_envs=n_envs, n_steps=4)
    full = 0

    def check(training: Any) -> None:
        assert training.steps == training.updates * size + len(training.memory)
        assert len(training.memory) < size

    for questions in [1, 2, 3, 4, 5, 6, 7, 8, 9] * 9:
        if model.num_timesteps < 50:
            model.train(50, RecordConfig(), heartbeat=check, stop=StopAt(questions))
            training = training_of(model)
            assert training.updates_due() == (len(training.memory) == size)
            full += training.updates_due()
    model.train(50, RecordConfig())
    assert full > 0
    expected = state_of(whole.agent)
    assert all(torch.equal(value, expected[name]) for name, value in state_of(model.agent).items())


ON_POLICY: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "one": (OnPolicy, {"env": "reliability/Drift-v0", "n_steps": 7}),
    "three": (OnPolicy, {"env": "reliability/DictReach-v0", "n_envs": 3, "n_steps": 7}),
    "discrete": (OnPolicyChoice, {"env": "CartPole-v1", "n_envs": 3, "n_steps": 5}),
}
OFF_POLICY: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "discrete replay": (Choice, {"env": "CartPole-v1", "n_envs": 3}),
    "discrete, 3 steps": (Choice, {"env": "CartPole-v1", "n_steps": 3}),
    "noise that remembers": (Remembering, {"env": "reliability/Drift-v0", "n_envs": 3}),
}
ALL = ON_POLICY | OFF_POLICY


def run(path: Path, steps: int, case: str, **frequencies: Any) -> Model:
    agent_class, arguments = ALL[case]
    return Model(agent_class, **arguments).learn(steps, run_dir=path, **(FREQUENCIES | frequencies))


def resume(path: Path, steps: int, case: str, **frequencies: Any) -> Model:
    model = Model.load(path, agent_class=ALL[case][0])
    return model.learn(steps, run_dir=path, **(FREQUENCIES | frequencies))


@pytest.mark.parametrize("case", ALL)
def test_twice_n_steps_are_n_steps_and_n_more(case: str, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 2 * N, case)
    assert training_of(whole).updates > 5
    first = run(tmp_path / "halves", N, case)
    assert len(training_of(first).memory) > 0
    resume(tmp_path / "halves", N, case)
    assert digests(tmp_path / "halves") == digests(tmp_path / "whole")


@pytest.mark.parametrize("case", ON_POLICY)
def test_many_short_legs_are_one_run(case: str, tmp_path: Path) -> None:
    run(tmp_path / "whole", 2 * N, case)
    legs = [1, 2, 34, 35, 36, 59, 35]
    assert sum(legs) == 2 * N
    run(tmp_path / "legs", legs[0], case)
    for leg in legs[1:]:
        resume(tmp_path / "legs", leg, case)
    assert digests(tmp_path / "legs") == digests(tmp_path / "whole")


@pytest.mark.parametrize("updates", [0, 1, 3])
@pytest.mark.parametrize("case", ON_POLICY)
def test_stopped_with_a_full_rollout_it_is_learned_from_after_the_resume(
    case: str, updates: int, tmp_path: Path
) -> None:
    run(tmp_path / "whole", N, case)
    agent_class, arguments = ON_POLICY[case]
    model = Model(agent_class, **arguments)
    size = arguments["n_steps"] * arguments.get("n_envs", 1)

    def stop() -> bool:
        training = training_of(model)
        return bool(training.updates == updates and training.updates_due() == 1)

    model.train(N, RecordConfig(**FREQUENCIES), tmp_path / "stopped", stop=stop)
    assert model.num_timesteps == size * (updates + 1)
    assert len(training_of(model).memory) == size
    loaded = Model.load(tmp_path / "stopped", agent_class=agent_class)
    loaded.train(N, RecordConfig(**FREQUENCIES), tmp_path / "stopped")
    first = agent_of(loaded).rollouts[0]
    assert torch.equal(first.obs.flatten(0, 1), training_of(model).memory.read().obs.flatten(0, 1))
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.mark.parametrize("case", ON_POLICY | {"noise that remembers": OFF_POLICY["noise that remembers"]})
def test_killed_in_the_middle_of_a_rollout(case: str, server: Server, tmp_path: Path) -> None:
    agent_class, arguments = ALL[case]
    arguments = arguments | {"agent": agent_class.__name__}
    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    server.start("advance", run=whole, until=2 * N, **arguments)
    assert server.wait() == 0
    for step in (20, 50, 97, 152):  # the checkpoints are those after steps 45, 90, 135 and 180
        server.start("advance", run=killed, until=2 * N, kill_at=step, **arguments)
        assert server.wait() == -signal.SIGKILL
    server.start("advance", run=killed, until=2 * N, **arguments)
    assert server.wait() == 0
    assert digests(Path(killed)) == digests(Path(whole))


def test_a_saved_model_goes_on_with_its_rollout(tmp_path: Path) -> None:
    model = Model(OnPolicy, EarlyEndingEnv, n_envs=3, n_steps=4).learn(31)
    model.save(tmp_path / "model")
    assert not list((tmp_path / "model").rglob("*seg-*"))
    loaded = Model.load(tmp_path / "model", env=EarlyEndingEnv, agent_class=OnPolicy)
    model.learn(30)
    loaded.learn(30)
    assert len(agent_of(loaded).rollouts) == 3
    for ours, theirs in zip(agent_of(loaded).rollouts, agent_of(model).rollouts[-3:], strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_memory_of_a_rollout() -> None:
    # obs 3 + action 1 + reward 1 + discount 1 + next obs 3 = 9 numbers of 4 bytes
    spec = EnvSpec(obs_dim=3, action_dim=1)
    require_memory(1_000, spec, available=36_000, rollout_envs=4)
    with pytest.raises(ConfigError) as error:
        require_memory(1_000_000_000, spec, available=3_600_000_000, rollout_envs=4)
    assert str(error.value) == (
        "the rollout needs 36.00 GB for 1,000,000,000 transitions of 36 bytes; expected at most the 3.60 GB of "
        "memory free now; lower n_steps to 22,500,000 or free memory"
    )


def test_a_rollout_that_cannot_fit_is_refused_before_it_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softac.replay.ring.available_memory", lambda: 1_000)
    monkeypatch.setattr("softac.run.training.RolloutStorage", None)  # reserving would raise another error
    with pytest.raises(
        ConfigError, match=r"^the rollout needs 12 kB for 300 transitions .* lower n_steps to 7 or"
    ):
        Model(OnPolicy, EarlyEndingEnv, n_envs=3, n_steps=100).learn(1_000)


def test_a_rollout_that_the_system_will_not_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory")

    monkeypatch.setattr("softac.run.training.RolloutStorage", refuse)
    with pytest.raises(ConfigError) as error:
        Model(OnPolicy, EarlyEndingEnv, n_steps=100).learn(1_000)
    assert str(error.value) == (
        "n_steps=100 was given; expected a memory that the system can reserve; lower n_steps"
    )


# --------------------------------------------------------------------------- discrete actions


class ChoiceEnv(Probe):
    """Four actions, -1 to 2, of which 1 is the best; one step and it is over."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(4, start=-1)

    def observe(self) -> Any:
        return np.ones(2, np.float32)

    def reward(self, action: Any) -> float:
        return -abs(float(action) - 1.0)

    def ending(self) -> tuple[bool, bool]:
        return True, False


def test_the_warm_up_draws_every_index() -> None:
    make, envs = recorder_of(ChoiceEnv)
    model = Model(Choice, make, learning_starts=400, buffer_size=1_000)
    model.learn(400)
    (env,) = envs
    assert all(action.dtype == np.int64 and action.shape == () for action in env.actions)
    drawn = np.array(env.actions)
    # Chi-square with 3 degrees of freedom: below 11.3 at 1 %.
    counts = np.array([(drawn == action).sum() for action in (-1, 0, 1, 2)])
    assert ((counts - 100.0) ** 2 / 100.0).sum() < 11.3
    assert counts.sum() == 400
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.15
    # The agent counts them from 0.
    assert rows(model).action.squeeze(1).tolist() == (drawn + 1).tolist()


@pytest.mark.parametrize(("agent_class", "n_envs"), [(Choice, 1), (Choice, 3), (OnPolicyChoice, 3)])
def test_discrete_actions_end_to_end(agent_class: type[Any], n_envs: int, tmp_path: Path) -> None:
    make, envs = recorder_of(ChoiceEnv)
    model = Model(agent_class, make, n_envs=n_envs).learn(900)
    assert {int(action) for env in envs for action in env.actions} == {-1, 0, 1, 2}
    obs, _ = ChoiceEnv().reset()
    action, _ = model.predict(obs, deterministic=True)
    assert action == 1  # it has learned which is the best
    for deterministic in (True, False):
        one, _ = model.predict(obs, deterministic=deterministic)
        assert isinstance(one, np.int64)
        assert ChoiceEnv.action_space.contains(one)
        many, _ = model.predict(np.stack([obs] * 5), deterministic=deterministic)
        assert (many.shape, many.dtype) == ((5,), np.int64)
    assert evaluate_policy(model, ChoiceEnv, n_eval_episodes=3) == (0.0, 0.0)
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", env=ChoiceEnv, agent_class=agent_class)
    assert loaded.spaces.action_space == ChoiceEnv.action_space
    assert loaded.predict(obs, deterministic=True)[0] == 1
    loaded.learn(20)


def test_a_fault_names_the_action_the_environment_got() -> None:
    class Fails(ChoiceEnv):
        def step(self, action: Any) -> Any:
            if self.resets == 3:
                raise ValueError("no such lever")
            return super().step(action)

    model = Model(Choice, Fails)
    with pytest.raises(EnvironmentFailed) as error:
        model.learn(10)
    pulled = model.spaces.to_env(training_of(model).collector.actions[0])
    assert f", action {pulled}); expected a finite answer" in str(error.value)
    assert pulled in (-1, 0, 1, 2)


def to_all(value: float) -> Callable[[Any], None]:
    def change(actions: Any) -> None:
        actions[...] = value

    return change


def in_rollout(change: Callable[[Any], Any]) -> Callable[[Forgery], None]:
    """Change the actions of the rollout's rows; CartPole's observations are 4 numbers."""
    return lambda f: f.tensors(OPTIM, lambda t: change(t["optim.rollout"][:, 4:5]))


PLACES: dict[str, Callable[[Callable[[Any], Any]], Callable[[Forgery], None]]] = {
    "the round": lambda change: lambda f: f.state(lambda s: change_list(s["collector"], change)),
    "the episodes": lambda change: lambda f: f.actions(change),
}
IN_REPLAY = PLACES | {"the replay": lambda change: lambda f: f.rows(lambda rows: change(rows[:, 4:5]))}
IN_ROLLOUT = PLACES | {"the rollout": in_rollout}


def change_list(collector: dict[str, Any], change: Callable[[Any], Any]) -> None:
    actions = np.array(collector["actions"])
    change(actions)
    collector["actions"] = actions.tolist()


HOSTILE_ROLLOUTS: dict[str, Callable[[Forgery], Any]] = {
    "a row less": lambda f: f.tensors(OPTIM, lambda t: t.update({"optim.rollout": t["optim.rollout"][:-1]})),
    "no row": lambda f: f.tensors(OPTIM, lambda t: t.update({"optim.rollout": t["optim.rollout"][:0]})),
    "other rows": lambda f: f.tensors(OPTIM, lambda t: t.update({"optim.rollout": np.zeros((13, 7), np.float32)})),
    "one number": lambda f: f.tensors(OPTIM, lambda t: t.update({"optim.rollout": np.zeros((), np.float32)})),
    "float64": lambda f: f.tensors(
        OPTIM, lambda t: t.update({"optim.rollout": t["optim.rollout"].astype(np.float64)})
    ),
    "no rollout": lambda f: f.tensors(OPTIM, lambda t: t.pop("optim.rollout")),
    "a reward of inf": lambda f: f.tensors(OPTIM, lambda t: t["optim.rollout"][:, 5].fill(np.inf)),
    "fewer rows counted": lambda f: f.state(lambda s: s.update(rows_added=12)),
    "more rows counted": lambda f: f.state(lambda s: s.update(rows_added=14)),
    "rows counted below 0": lambda f: f.state(lambda s: s.update(rows_added=-3)),
    "an update less": lambda f: f.state(lambda s: s.update(updates=1)),
    "an update more": lambda f: f.state(lambda s: s.update(updates=3)),
    "an update less and its rows": lambda f: f.state(lambda s: s.update(updates=1, rows_added=29)),
    "an update more and its rows": lambda f: f.state(lambda s: s.update(updates=3, rows_added=-3)),
}


@pytest.fixture(scope="module")
def originals() -> Iterator[Path]:
    with memory_folder() as folder:
        # 45 steps of two environments end inside a round; of rollouts of 16 they are two and 13 rows.
        configs: dict[type[Any], dict[str, int]] = {
            Choice: {"learning_starts": 40},
            OnPolicyChoice: {"n_steps": 8},
        }
        for agent_class, values in configs.items():
            model = Model(agent_class, "CartPole-v1", n_envs=2, **values)
            model.learn(45, run_dir=folder / agent_class.__name__, n_eval_episodes=0)
        yield folder


def forged(originals: Path, agent_class: type[Any], folder: Path) -> Forgery:
    return Forgery(Path(shutil.copytree(originals / agent_class.__name__, folder / "run")))


def refused(forgery: Forgery, agent_class: type[Any]) -> str:
    with pytest.raises(CheckpointError) as error:
        Model.load(forgery.run, agent_class=agent_class).learn(5)
    assert error.value.exit_code == 3
    return str(error.value)


@pytest.mark.parametrize("agent_class", [Choice, OnPolicyChoice])
def test_what_was_saved_is_accepted(agent_class: type[Any], originals: Path, tmp_path: Path) -> None:
    forgery = forged(originals, agent_class, tmp_path)
    assert set(np.load(forgery.path("CKPT/episode_actions.npy")).ravel()) == {0.0, 1.0}
    for place in (IN_ROLLOUT if agent_class.on_policy else IN_REPLAY).values():
        place(to_all(1.0))(forgery)
    # Other actions than those the episodes were made of: they are played, and lost.
    assert Model.load(forgery.run, agent_class=agent_class).learn(5).num_timesteps == 50


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, np.nan], ids=["n", "-1", "0.5", "nan"])
@pytest.mark.parametrize("place", IN_REPLAY)
def test_actions_that_are_no_index_are_refused(place: str, value: float, originals: Path, tmp_path: Path) -> None:
    forgery = forged(originals, Choice, tmp_path)
    IN_REPLAY[place](to_all(value))(forgery)
    text = refused(forgery, Choice)
    if not np.isnan(value):
        assert text == (
            "the checkpoint of step 45 does not fit this run (ValueError: actions that are not indices below 2); "
            "expected the state of the same algorithm, environment and number of environments; resume it as it "
            "was trained"
        )


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, np.nan], ids=["n", "-1", "0.5", "nan"])
@pytest.mark.parametrize("place", IN_ROLLOUT)
def test_actions_of_a_rollout_that_are_no_index_are_refused(
    place: str, value: float, originals: Path, tmp_path: Path
) -> None:
    forgery = forged(originals, OnPolicyChoice, tmp_path)
    IN_ROLLOUT[place](to_all(value))(forgery)
    refused(forgery, OnPolicyChoice)


@pytest.mark.parametrize("name", HOSTILE_ROLLOUTS)
def test_a_rollout_that_cannot_be_is_refused(name: str, originals: Path, tmp_path: Path) -> None:
    forgery = forged(originals, OnPolicyChoice, tmp_path)
    HOSTILE_ROLLOUTS[name](forgery)
    refused(forgery, OnPolicyChoice)


def test_the_command_leaves_with_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(AGENTS, "choice", Choice)
    Model(Choice, "CartPole-v1").learn(40, run_dir=tmp_path / "run", n_eval_episodes=0)
    Forgery(tmp_path / "run").rows(lambda rows: to_all(2.0)(rows[:, 4:5]))
    assert main(["resume", str(tmp_path / "run"), "-n", "50"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "softac: the checkpoint of step 40 does not fit this run (ValueError: actions that are "
    )


# --------------------------------------------------------------------------- noise that remembers


def test_noise_is_forgotten_exactly_where_episodes_begin() -> None:
    lengths = (3, 4, 5)
    make, envs = of_lengths(*lengths)
    model = Model(Remembering, make, n_envs=3, learning_starts=7).learn(300)
    moments = agent_of(model).moments
    # Rounds 0, 1 and 2 begin before step 7 and belong to the warm-up.
    assert [moment.step for moment, _ in moments] == list(range(9, 300, 3))
    assert moments[0][0].previous is None
    for (_, drawn), (moment, _) in pairwise(moments):
        for i, length in enumerate(lengths):
            begins = moment.step // 3 % length == 0
            assert torch.equal(moment.previous[i], torch.zeros(1) if begins else drawn[i])
    # What was drawn is what acted, also in the rounds in which an episode ended.
    for i, env in enumerate(envs):
        expected = torch.stack([drawn[i] for _, drawn in moments]).tanh()
        assert np.array_equal(np.array(env.actions[3:]), expected.numpy())


def test_without_a_warm_up_the_first_moment_has_no_noise_before_it() -> None:
    model = Model(Remembering, EarlyEndingEnv, learning_starts=0).learn(20)
    (first, drawn), (second, _) = agent_of(model).moments[:2]
    assert (first.step, first.previous) == (0, None)
    assert second.step == 1
    assert second.previous.tolist() in (drawn.tolist(), [[0.0, 0.0]])


@pytest.mark.parametrize("cut", [20, 59, 60, 61])
def test_noise_is_restored(cut: int, tmp_path: Path) -> None:
    def make() -> Model:
        return Model(Remembering, "reliability/Drift-v0", n_envs=3)

    whole = make().learn(90)
    make().learn(cut).save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", agent_class=Remembering).learn(90 - cut)
    remembered = {moment.step: (moment.previous, drawn) for moment, drawn in agent_of(whole).moments}
    _, *again = agent_of(loaded).moments  # the first was for reading the checkpoint
    assert len(again) == len([step for step in remembered if step >= cut])
    for moment, drawn in again:
        previous, expected = remembered[moment.step]
        assert torch.equal(moment.previous, previous)
        assert torch.equal(drawn, expected)


def test_a_lost_episode_loses_its_noise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Model(Remembering, "reliability/Unrepeatable-v0", n_envs=3).learn(54).save(tmp_path / "model")
    with caplog.at_level(logging.WARNING, "softac"):
        loaded = Model.load(tmp_path / "model", agent_class=Remembering).learn(3)
    lost = {int(message.split()[1]) for message in caplog.messages if "did not repeat episode" in message}
    assert lost
    _, (moment, _) = agent_of(loaded).moments  # the first was for reading the checkpoint
    assert moment.step == 54
    assert all(moment.previous[i].tolist() == [0.0, 0.0] for i in lost)


@pytest.mark.parametrize(
    "differently", [{"n_eval_episodes": 2, "eval_freq": 7}, {"save_freq": 7}], ids=["evaluation", "saving"]
)
@pytest.mark.parametrize("case", ["noise that remembers", "three"])
def test_recording_leaves_the_noise_as_it_is(case: str, differently: dict[str, int], tmp_path: Path) -> None:
    run(tmp_path / "usual", 2 * N, case, n_eval_episodes=0)
    run(tmp_path / "other", 2 * N, case, **differently)
    assert training_digests(tmp_path / "other") == training_digests(tmp_path / "usual")


def test_evaluation_begins_every_episode_without_noise() -> None:
    model = Model(Remembering, lambda: CountingEnv(4)).learn(40)
    agent_of(model).moments.clear()
    evaluate_policy(model, lambda: CountingEnv(4), n_eval_episodes=3, deterministic=False)
    moments = agent_of(model).moments
    assert [moment.step for moment, _ in moments] == [40] * 12
    for k, (moment, _) in enumerate(moments):
        if k % 4 == 0:
            assert moment.previous is None
        else:
            assert torch.equal(moment.previous, moments[k - 1][1])
    evaluate_policy(model, lambda: CountingEnv(4), n_eval_episodes=1, deterministic=True)
    assert len(moments) == 12  # the mode asks for none


def test_evaluation_in_a_run_happens_at_the_step_of_training(tmp_path: Path) -> None:
    model = Model(Remembering, "reliability/Drift-v0", n_envs=3)
    model.learn(61, run_dir=tmp_path / "run", eval_freq=30, n_eval_episodes=1, save_freq=0)
    steps = [moment.step for moment, drawn in agent_of(model).moments if len(drawn) == 1]
    assert set(steps) == {30, 60, 61}
    assert steps == sorted(steps)


def test_a_prediction_stands_alone_at_the_step_of_training() -> None:
    model = Model(Remembering, EarlyEndingEnv).learn(40)
    agent_of(model).moments.clear()
    for _ in range(2):
        model.predict(np.zeros(3))
    assert [tuple(moment) for moment, _ in agent_of(model).moments] == [(40, None)] * 2


def test_noise_of_any_layout_can_be_saved(tmp_path: Path) -> None:
    class Spread(Remembering):
        def act_noise(self, batch_size: int, generator: torch.Generator, moment: Any) -> torch.Tensor:
            noise = super().act_noise(batch_size, generator, moment)
            return noise[:, :1].expand(batch_size, 2)

    Model(Spread, EarlyEndingEnv, n_envs=3).learn(40).save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", env=EarlyEndingEnv, agent_class=Spread).learn(9)
    assert loaded.num_timesteps == 49


def test_an_agent_without_noise_needs_none() -> None:
    class Silent(Tiny):
        Config = Remembering.Config
        on_policy = False

        def act(self, obs: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
            return torch.zeros(len(obs), 1)

        def act_noise(self, batch_size: int, generator: torch.Generator, moment: Any) -> torch.Tensor:
            assert moment.previous is None or moment.previous.shape == (batch_size, 0)
            return torch.zeros(batch_size, 0)

        def update_noise(self, batch_size: int, generator: torch.Generator) -> None:
            return None

        def update_(self, batch: Any, noise: None) -> dict[str, torch.Tensor]:
            return {"train/nothing": torch.zeros(())}

    assert Model(Silent, SpaceEnv, n_envs=2).learn(40).num_timesteps == 40
