"""`check_agent`: every agent of softac passes; agents with one defect each are caught, and told what to do."""

import random
import re
import runpy
import sys
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from pydantic.dataclasses import dataclass
from torch import nn

from softac import check_agent
from softac.agents.dqn import DQNAgent
from softac.agents.ppo import PPOAgent
from softac.agents.registry import AGENTS
from softac.agents.sac import SACAgent
from softac.agents.td3 import TD3Agent
from softac.config import STRICT
from softac.envs.probes import LONGEST, PROBES
from softac.errors import ConfigError
from softac.examine.behaviour import act
from softac.examine.reach import leaves
from softac.examine.rehearsal import elsewhere
from softac.examine.trial import Fault, Trial
from softac.nets.layers import Linear
from softac.replay import Replay
from softac.types import EnvSpec

SMALL = {"net_arch": (8, 8)}


def broken(base=SACAgent, **members):
    """A class of agents like `base`, with other members."""
    return type("Mine", (base,), members)


def faults(agent_class, **config):
    """What check_agent has against a class, without its name and the kind of actions; the first first."""
    with pytest.raises(ConfigError) as caught:
        check_agent(agent_class, **(SMALL | config))
    name, _, first = str(caught.value).partition(": ")
    assert name in ("Mine", "SACAgent")
    others = getattr(caught.value, "__notes__", [])
    return [
        text.removeprefix("continuous actions: ").removeprefix("discrete actions: ") for text in (first, *others)
    ]


def fault(agent_class, **config):
    """The first of them."""
    return faults(agent_class, **config)[0]


def the_fault(agent_class, **config):
    """The message, where it is the only one."""
    (message,) = faults(agent_class, **config)
    return message


# --------------------------------------------------------------------------- agents that keep their promises


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_of_softac_passes(name):
    found = check_agent(AGENTS[name], **SMALL)
    served = AGENTS[name].actions
    trained = 0 if name == "rebrac" else 2  # which an environment teaches nothing
    assert [f.level for f in found if "CPU only" not in f.what] == ["ok"] * (2 + (6 + trained) * len(served))
    assert all(f.remedy and f.why for f in found if f.level == "note")
    for kind in served:
        assert sum(f.what.startswith(f"{kind} actions: ") for f in found) == 7 + trained


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sac", {"target_update_interval": 3, "ent_coef": 0.2, "n_steps": 3}),
        ("sac", {"learning_starts": 0, "train_freq": 5, "gradient_steps": 2}),
        ("ddpg", {"action_noise": "ou"}),
        ("dqn", {"double": True, "dueling": True, "target_update_interval": 2}),
        ("reinforce", {"baseline": "value", "gae_lambda": 0.97, "value_steps": 3}),
        ("ppo", {"target_kl": 0.001, "batch_size": 5, "n_epochs": 2}),
    ],
)
def test_other_hyperparameters_pass_too(name, config):
    assert {f.level for f in check_agent(AGENTS[name], **SMALL, **config) if "CPU" not in f.what} == {"ok"}


def test_what_the_report_says():
    whats = [f.what.removeprefix("continuous actions: ") for f in check_agent(TD3Agent, **SMALL)]
    assert whats[:6] == [
        "members: all 8; it serves continuous actions and learns from a replay",
        "configuration: TD3Config, 21 fields, frozen, plain data",
        "construction draws from its generator alone (859 numbers to act and learn with)",
        "act_noise draws from its generator alone: [B, ...] is (3, 3) for B = 3",
        "act gives float32 [B, 3], in [-1, 1], the same bits twice",
        "update_ repeats itself bit for bit and reports train/critic_loss, train/q_mean, train/target_q_mean, "
        "train/actor_loss",
    ]
    # After 10 steps of warm-up, one update a step; the last round of three stays unfinished.
    assert whats[8:10] == [
        "25 steps in 1 environment with 15 updates, and the same bits when resumed at step 17",
        "28 steps in 3 environments with 17 updates, and the same bits when resumed at step 16",
    ]


def test_the_generators_of_the_process_are_left_as_they_were():
    def initialise(self, spec, config, *, generator, device):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    assert "drew from the process's own random generators (random, np.random, torch)" in the_fault(
        broken(__init__=initialise)
    )
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("seed", [0, 1])
def test_setting_the_seed_that_is_set_already_is_noticed(seed):
    def initialise(self, spec, config, *, generator, device):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)

    state = torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        assert "drew from the process's own random generators (random, np.random, torch)" in the_fault(
            broken(__init__=initialise)
        )
    finally:
        torch.set_rng_state(state)


def test_no_file_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    check_agent(SACAgent, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_hyperparameter_is_the_callers():
    with pytest.raises(ConfigError, match=r"^unknown hyperparameter 'tua'; did you mean 'tau'"):
        check_agent(SACAgent, tua=0.1)


def test_what_holds_on_another_device_holds_on_the_cpu():
    (finding,) = elsewhere(Trial(SACAgent, SMALL, "continuous", torch.device("cpu")))
    assert finding.what == "continuous actions: acting, updates and state work on cpu, too"


def test_what_fails_on_another_device():
    copied = with_tensors(lambda live: live | {"n_updates": live["n_updates"].clone()})
    with pytest.raises(Fault, match="on cpu, a state that was loaded left n_updates as it was; expected what was"):
        list(elsewhere(Trial(copied, SMALL, "continuous", torch.device("cpu"))))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_passes_on_a_gpu(name):
    assert any(f.what.endswith("work on cuda, too") for f in check_agent(AGENTS[name], **SMALL))


def test_the_probes_end_in_both_ways_and_refuse_what_is_outside():
    for kind, make in PROBES.items():
        env, ends = make(), set()
        for seed in range(20):
            env.reset(seed=seed)
            env.action_space.seed(seed)
            length, ended = 0, (False, False)
            while not any(ended):
                allowed = (env.mask,) if kind == "masked" else ()
                _, _, *ended, _ = env.step(env.action_space.sample(*allowed))
                length += 1
            assert length <= LONGEST
            ends.add(tuple(ended))
        assert {(True, False), (False, True)} <= ends
        with pytest.raises(ValueError, match="is not in"):
            env.step(np.int64(3) if kind in ("discrete", "masked") else np.zeros(3, np.float32))
        if kind == "masked":
            with pytest.raises(ValueError, match="is not in what"):
                env.step(np.int64(env.mask.argmin() - 1))


def test_the_example_runs_as_printed(monkeypatch, capsys):
    path = Path(__file__).parents[1] / "examples/own_agent.py"
    monkeypatch.setattr(sys, "argv", [str(path), "520"])  # 20 steps after the warm-up
    runpy.run_path(str(path), run_name="__main__")
    *report, last = capsys.readouterr().out.splitlines()
    assert [line[:6].strip() for line in report] == ["ok"] * 10 + ([] if torch.cuda.is_available() else ["note"])
    assert re.fullmatch(r"return -\d+\.\d \+- \d+\.\d after 520 steps", last)
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100


@dataclass(frozen=True, config=STRICT)
class Fitting:
    buffer_size: int = 1_000
    learning_starts: int = 100
    batch_size: int = 32
    gamma: float = 0.99
    n_steps: int = 1
    train_freq: int = 1
    gradient_steps: int = 1
    net_arch: tuple[int, ...] = (8,)


class Plain:
    """An agent that uses nothing of softac's: it imitates rewarded actions, with PyTorch's own Adam."""

    Config = Fitting
    actions = ("continuous",)
    on_policy = False

    def __init__(self, spec, config, *, generator, device):
        self.spec, self.config, self.device = spec, config, device
        self.net = nn.utils.skip_init(nn.Linear, spec.obs_dim, spec.action_dim, device=device)
        for p in self.net.parameters():
            nn.init.uniform_(p, -0.1, 0.1, generator=generator)
        self.optimizer = torch.optim.Adam(self.net.parameters())
        for p in self.net.parameters():  # PyTorch makes its moments at the first step
            zeros = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            self.optimizer.state[p] = {"step": torch.zeros(()), **zeros}

    def act(self, obs, noise):
        with torch.inference_mode():
            return (self.net(obs) + (0.0 if noise is None else noise)).clamp(-1.0, 1.0)

    def act_noise(self, batch_size, generator, moment):
        return 0.1 * torch.randn(batch_size, self.spec.action_dim, generator=generator)

    def update_noise(self, batch_size, generator):
        return None

    def update_(self, batch, noise):
        weight = torch.softmax(batch.reward, 0)
        loss = (weight * (self.net(batch.obs) - batch.action).square().sum(-1)).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"train/loss": loss.detach()}

    def tensors(self):
        named = list(self.net.named_parameters())
        moments = {f"optim.{n}.{k}": t for n, p in named for k, t in self.optimizer.state[p].items()}
        return dict(named) | moments


def test_an_agent_in_plain_pytorch_passes():
    assert {f.level for f in check_agent(Plain) if "CPU" not in f.what} == {"ok"}


# --------------------------------------------------------------------------- members and configuration


def test_an_agent_instead_of_its_class():
    generator = torch.Generator().manual_seed(0)
    agent = SACAgent(EnvSpec(3, 1), SACAgent.Config(), generator=generator, device=torch.device("cpu"))
    message = the_fault(agent)
    assert message.startswith("SACAgent <softac.agents.sac.SACAgent object")
    assert message.endswith("; expected a class of agents; pass the class")


def test_missing_members():
    class Mine:
        Config = SACAgent.Config
        on_policy = False
        act = SACAgent.act
        act_noise = SACAgent.act_noise
        update_ = SACAgent.update_
        tensors = SACAgent.tensors

    message = the_fault(Mine)
    assert message.startswith(
        "there is no actions, update_noise; expected the members of softac.types.Agent; add them, actions: "
    )
    assert message.endswith("; update_noise(self, batch_size: int, generator: torch._C.Generator, /) -> Any")


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"actions": ("box",)}, "actions is ('box',); expected a tuple of the kinds of actions it can choose"),
        ({"actions": "discrete"}, "actions is 'discrete'; expected a tuple"),
        ({"on_policy": None}, "on_policy is None; expected True for an agent that learns from each rollout once"),
        ({"act": None}, "act is not a method; expected act(self, obs: torch.Tensor, noise: torch.Tensor | None"),
        ({"Config": dict}, "Config is <class 'dict'>; expected a dataclass of pydantic"),
    ],
)
def test_members_of_another_kind(members, text):
    assert the_fault(broken(**members)).startswith(text)


def with_default(name, value):
    """`Fitting` with another default of one field, whatever its type."""
    members = {"__annotations__": {name: Any}, name: value}
    return dataclass(frozen=True, config=STRICT)(type("Odd", (Fitting,), members))


def test_a_field_that_the_run_reads_is_missing():
    @dataclass(frozen=True, config=STRICT)
    class Few:
        buffer_size: int = 1_000
        learning_starts: int = 100
        batch_size: int = 32
        n_steps: int = 1
        gradient_steps: int = 1

    assert the_fault(broken(Config=Few)) == (
        "Few has no gamma, train_freq; expected the fields that the run reads: buffer_size, learning_starts, "
        "batch_size, gamma, n_steps, train_freq, gradient_steps; add them; softac.config has a type with a range "
        "for each"
    )


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "batch_size",
            32.0,
            "Odd.batch_size is 32.0; expected a whole number >= 1 and <= 1e+09; correct its default",
        ),
        ("train_freq", True, "Odd.train_freq is True; expected a whole number >= 1 and <= 1e+09"),
        ("gamma", 1.5, "Odd.gamma is 1.5; expected a number >= 0 and <= 1"),
        ("gradient_steps", 0, "Odd.gradient_steps is 0; expected a number > 0 and <= 1e+09"),
        ("bounds", (0.0, 1.0), "Odd came back from config.json as Odd(buffer_size=1000"),
        (
            "device",
            torch.device("cpu"),
            "Odd cannot be written to config.json and read again (TypeError: Object of",
        ),
    ],
)
def test_defaults_that_a_run_cannot_use(name, value, text):
    assert the_fault(broken(Config=with_default(name, value))).startswith(text)


def test_a_configuration_that_is_not_frozen():
    @dataclass(config=STRICT)
    class Loose:
        gamma: float = 0.9

    message = the_fault(broken(Config=Loose))
    assert message.startswith("Loose is not frozen; expected a configuration that stays what config.json says")


def test_a_field_without_a_default():
    @dataclass(frozen=True, config=STRICT)
    class Bare:
        width: int
        gamma: float = 0.9
        n_steps: int = 4

    message = the_fault(broken(PPOAgent, Config=Bare))
    assert message.startswith("Bare has no default for width; expected a configuration that needs no argument")


def test_defaults_that_contradict_each_other():
    @dataclass(frozen=True, config=STRICT)
    class Contrary(Fitting):
        def __post_init__(self):
            raise ValueError("never")

    message = the_fault(broken(Config=Contrary))
    assert message.startswith(
        "Contrary() raised ValidationError: 1 validation error for Contrary Value error, never"
    )
    assert "; expected defaults that fit each other; correct them" in message


def test_a_configuration_that_refuses_the_small_sizes():
    @dataclass(frozen=True, config=STRICT)
    class Large(Fitting):
        def __post_init__(self):
            if self.batch_size < 32:
                raise ValueError("batch_size is too small; expected 32; raise it")

    message = the_fault(broken(Config=Large))
    assert message.startswith(
        "Config refused buffer_size=200, learning_starts=10, batch_size=16, net_arch=(8, 8) "
        "(batch_size is too small; expected 32; raise it); expected sizes that it accepts; give others, as in "
        "check_agent(Mine, buffer_size=64)"
    )


# --------------------------------------------------------------------------- construction and acting


def test_weights_that_pytorch_draws():
    def initialise(self, *arguments, **keywords):
        SACAgent.__init__(self, *arguments, **keywords)
        self.extra = nn.Linear(2, 2)

    assert the_fault(broken(__init__=initialise)) == (
        "__init__ drew from the process's own random generators (torch); expected randomness that comes in as an "
        "argument; pass generator=generator to everything that draws; softac.nets does"
    )


def test_weights_that_differ_for_one_generator():
    def initialise(self, *arguments, **keywords):
        SACAgent.__init__(self, *arguments, **keywords)
        self.n_updates += next(NUMBERS)

    assert the_fault(broken(__init__=initialise)).startswith(
        "the same generator gave two agents with different n_updates; expected initial weights that depend on the "
        "generator alone"
    )


def test_weights_that_nobody_draws():
    def initialise(self, spec, config, *, generator, device):
        SACAgent.__init__(self, spec, config, generator=torch.Generator().manual_seed(0), device=device)

    assert the_fault(broken(__init__=initialise)).startswith(
        "two generators with different seeds gave the same agent; expected initial weights "
        "that are drawn from the generator"
    )


def test_another_configuration_than_the_one_given():
    def initialise(self, spec, config, **keywords):
        SACAgent.__init__(self, spec, replace(config, gamma=0.5), **keywords)

    message = the_fault(broken(__init__=initialise))
    assert message.startswith("agent.config is SACConfig(")
    assert message.endswith(
        "expected the config it was made with, which the run reads; write self.config = config in __init__"
    )


def test_an_error_of_the_agents_own_is_the_cause():
    def act(self, obs):
        return obs

    with pytest.raises(ConfigError) as caught:
        check_agent(broken(act=act), **SMALL)
    assert str(caught.value) == (
        "Mine: continuous actions: act raised TypeError: test_an_error_of_the_agents_own_is_the_cause."
        "<locals>.act() takes 2 positional arguments but 3 were given; expected act(self, obs: torch.Tensor, "
        "noise: torch.Tensor | None, /) -> torch.Tensor; correct it, or the call it answers"
    )
    assert isinstance(caught.value.__cause__, TypeError)


def test_further_faults_are_counted_and_noted():
    def act_noise(self, batch_size, generator, moment):
        return torch.zeros(1, 3)

    def update_(self, batch, noise):
        return {}

    message, *others = faults(broken(act_noise=act_noise, update_=update_))
    assert message.startswith("act_noise(3, ...) returned shape (1, 3); expected a tensor")
    assert message.endswith(" (1 further failure)")
    # What is saved and restored is not tried with noise and updates like these.
    assert [note.partition(";")[0] for note in others] == ["update_ returned {}"]


def sac_act(change):
    """An act that does `change` to what SAC's returns."""

    def act(self, obs, noise):
        return change(SACAgent.act(self, obs, noise))

    return broken(act=act)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a.double(), "act(obs (1, 4), None) returned torch.float64; expected float32"),
        (lambda a: a[:, 0], "act(obs (1, 4), None) returned shape (1,); expected a tensor [1, 3]"),
        (lambda a: a.numpy(), "act(obs (1, 4), None) returned a ndarray; expected a tensor [1, 3]"),
        (lambda a: a.requires_grad_(), "act(obs (1, 4), None) returned a tensor with a gradient"),
        (lambda a: a.log(), "act(obs (1, 4), None) returned an action that is not finite"),
    ],
)
def test_actions_of_another_kind(change, text):
    message = fault(sac_act(change))
    assert message.startswith(text)


def test_actions_outside_their_bounds():
    message = the_fault(sac_act(lambda a: 2.0 * a))
    assert "returned numbers from -" in message
    assert message.endswith(
        "expected coordinates in [-1, 1], which are scaled to the environment's bounds; squash them with tanh, "
        "and clamp(-1.0, 1.0) after adding noise"
    )


def test_indices_outside_their_range():
    def act(self, obs, noise):
        return DQNAgent.act(self, obs, noise) + 1.0

    message = the_fault(broken(DQNAgent, act=act, actions=("discrete",)))
    assert "expected whole numbers from 0 to 3; count actions from 0" in message
    # On-policy actions are not bounded, but these are indices all the same.
    halves = broken(PPOAgent, act=lambda _, obs, noise: torch.full((len(obs), 1), 0.5), actions=("discrete",))
    assert the_fault(halves).startswith("act(obs (1, 3), None) returned numbers from 0.5 to 0.5; expected whole")


def test_acting_draws_or_remembers():
    def draws(self, obs, noise):
        return SACAgent.act(self, obs, torch.randn(len(obs), 3))

    assert (
        "act drew from the process's own random generators (torch); expected randomness that comes in as an "
        "argument; draw it in act_noise and take it from `noise`"
    ) in fault(broken(act=draws))

    def counts(self, obs, noise):
        self.acted += 1
        return SACAgent.act(self, obs, noise)

    assert (
        "act changed agent.acted; expected that update_ alone changes the agent, since evaluations and "
        "predictions call the rest, too"
    ) in fault(broken(act=counts, acted=0, __init__=with_attribute("acted", 0)))


NUMBERS = count(1)  # memory outside of any agent


def with_attribute(name, value):
    """SAC's constructor, after which the agent has one attribute more."""

    def initialise(self, *arguments, **keywords):
        SACAgent.__init__(self, *arguments, **keywords)
        setattr(self, name, value() if callable(value) else value)

    return initialise


def test_noise_that_the_agent_remembers():
    def act_noise(self, batch_size, generator, moment):
        fresh = torch.randn(batch_size, 3, generator=generator)
        if len(self.last) == batch_size:
            fresh += 0.9 * self.last
        self.last = fresh
        return fresh

    message = fault(broken(act_noise=act_noise, __init__=with_attribute("last", lambda: torch.zeros(0))))
    assert "act_noise changed agent.last; expected that update_ alone changes the agent" in message
    assert "what exploration remembers comes back as moment.previous" in message


@pytest.mark.parametrize(
    ("noise", "text"),
    [
        (lambda b, g: None, "act_noise(1, ...) returned None; expected a tensor [1, ...]; return torch.randn("),
        (lambda b, g: torch.zeros(()), "act_noise(1, ...) returned shape (); expected a tensor [1, ...]"),
        (
            lambda b, g: torch.randn(b, 3, generator=g).half(),
            "act_noise returned torch.float16 on cpu; expected a",
        ),
        (
            lambda b, g: torch.full((b, 3), np.inf),
            "act_noise returned numbers that are not finite; expected finite",
        ),
        (
            lambda b, g: torch.full((b, 3), next(NUMBERS)),
            "act_noise gave two answers for one state of the generator and one moment; expected noise that",
        ),
    ],
)
def test_noise_of_another_kind(noise, text):
    members = {"act_noise": lambda self, batch_size, generator, moment: noise(batch_size, generator)}
    assert fault(broken(**members)).startswith(text)


def test_acting_on_what_lies_elsewhere_or_into_the_observations():
    def counts(self, obs, noise):
        return SACAgent.act(self, obs, noise) / next(NUMBERS)

    assert (
        "act(obs (1, 4), None) gave two answers; expected an action that depends on the agent, the observation"
        in (fault(broken(act=counts)))
    )

    def normalises(self, obs, noise):
        return SACAgent.act(self, obs.div_(10.0), noise)

    assert "act(obs (1, 4), None) wrote into the observations; expected them as they were; work on a copy" in (
        fault(broken(act=normalises))
    )


def test_noise_of_other_shapes():
    def act_noise(self, batch_size, generator, moment):
        return torch.randn(batch_size, 3 if moment.step == 0 else 6, generator=generator)

    message = fault(broken(act_noise=act_noise))
    assert (
        "act_noise returned torch.float32 (1, 6) at 10 steps and torch.float32 (1, 3) at the start; expected one "
        "shape and type, since a resumed run goes on from the noise before"
    ) in message


# --------------------------------------------------------------------------- updates


def test_noise_drawn_globally():
    def update_noise(self, batch_size, generator):
        return SACAgent.update_noise(self, batch_size, torch.default_generator)

    message = fault(broken(update_noise=update_noise))
    assert (
        "update_noise drew from the process's own random generators (torch); expected randomness that comes in "
        "as an argument; pass generator=generator to everything that draws"
    ) in message


def test_noise_drawn_in_the_update():
    def update_(self, batch, noise):
        return TD3Agent.update_(self, batch, torch.randn_like(noise))

    message, *others = faults(broken(TD3Agent, update_=update_))
    assert message.startswith(
        "update_ drew from the process's own random generators (torch); expected randomness "
        "that comes in as an argument; draw it in update_noise and take it from `noise`"
    )
    assert others == []  # nothing that builds upon updates is tried

    def draws(self, batch, noise):
        return TD3Agent.update_(self, batch, torch.randn(noise.shape, generator=self.rng))

    def initialise(self, *arguments, generator, **keywords):
        TD3Agent.__init__(self, *arguments, generator=generator, **keywords)
        self.rng = generator

    message = fault(broken(TD3Agent, update_=draws, __init__=initialise))
    assert (
        "update_ drew from agent.rng, a generator of the agent's own; expected randomness that comes in" in message
    )


def test_an_update_that_depends_on_what_happened_elsewhere():
    seen = []

    def update_(self, batch, noise):
        seen.append(1)
        metrics = SACAgent.update_(self, batch, noise)
        return metrics | {"train/actor_loss": metrics["train/actor_loss"] + len(seen)}

    message = fault(broken(update_=update_))
    assert (
        "update 1 of two equal agents with equal batches and noise gave different train/actor_loss; expected an "
        "update that is a function of state, batch and noise; look for memory outside of the agent"
    ) in message


def test_a_state_that_is_not_finite():
    def update_(self, batch, noise):
        metrics = SACAgent.update_(self, batch, noise)
        self.extra.fill_(np.nan)
        return metrics

    def tensors(self):
        return SACAgent.tensors(self) | {"extra": self.extra}

    lost = broken(update_=update_, tensors=tensors, __init__=with_attribute("extra", lambda: torch.zeros(1)))
    assert the_fault(lost).startswith("extra is not finite after 5 updates; expected finite numbers for a batch")


def test_an_update_that_writes_into_the_batch():
    def update_(self, batch, noise):
        batch.reward.mul_(0.1)
        return SACAgent.update_(self, batch, noise)

    assert "update_ wrote into batch.reward; expected the batch as it was" in fault(broken(update_=update_))


def sac_reporting(**metrics):
    def update_(self, batch, noise):
        return SACAgent.update_(self, batch, noise) | metrics

    return broken(update_=update_)


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({"train/x": torch.tensor(float("nan"))}, "update_ reports train/x as nan; expected finite numbers"),
        (
            {"train/x": torch.zeros(8)},
            "update_ reports train/x as a tensor of shape (8,); expected one without dimen",
        ),
        ({"loss/x": torch.tensor(0.0)}, "update_ reports 'loss/x'; expected names that begin with \"train/\""),
        ({"train/x": 0.5}, "update_ reports train/x as a float; expected a tensor without dimensions"),
        ({"train/x": nn.Parameter(torch.zeros(()))}, "update_ reports train/x as a tensor with a gradient"),
    ],
)
def test_metrics_of_another_kind(metrics, text):
    message = fault(sac_reporting(**metrics))
    assert message.startswith(text)


def test_a_metric_that_comes_late_is_noted():
    def update_(self, batch, noise):
        metrics = SACAgent.update_(self, batch, noise)
        return metrics | {"train/rare": metrics["train/q_mean"]} if self.n_updates % 4 == 0 else metrics

    (note,) = [
        f for f in check_agent(broken(update_=update_), **SMALL) if f.level == "note" and "CPU" not in f.what
    ]
    assert note.what == "continuous actions: train/rare was first reported by update 4"


def test_an_agent_that_does_not_learn():
    def update_(self, batch, noise):
        self.n_updates += 1
        return {"train/nothing": torch.zeros(())}

    assert (
        "5 updates changed no parameter; expected an agent that learns; descend on a loss in update_, and put "
        "what learns into tensors"
    ) in the_fault(broken(update_=update_))


# --------------------------------------------------------------------------- state


def without(prefix, base=SACAgent):
    """Agents that leave out of their state what begins with `prefix`."""
    full = base.tensors

    def tensors(self):
        return {name: tensor for name, tensor in full(self).items() if not name.startswith(prefix)}

    return broken(base, tensors=tensors)


def test_a_forgotten_target_network():
    message = the_fault(without("target_critic."))
    assert message.startswith("an agent restored from its tensors has another ")
    assert (
        "after 1 more update (the two differ in agent.target_critic.net.0.weight, agent.target_critic.net.0.bias, "
        "agent.target_critic.net.2.weight and 3 more)"
    ) in message
    assert message.endswith(
        "expected everything that the agent remembers in tensors; add what is missing: targets, optimizer "
        "moments, counters, running means"
    )


def test_forgotten_moments_of_adam():
    message = the_fault(without("optim.critic."))
    assert (
        "has another actor.net.0.weight after 1 more update (the two differ in agent.critic.exp_avgs[0], "
        "agent.critic.exp_avgs[1], agent.critic.exp_avgs[2] and 15 more)"
    ) in message


def test_a_forgotten_counter():
    message = the_fault(without("n_updates", TD3Agent))
    assert "after 1 more update (the two differ in agent.n_updates)" in message


def test_a_forgotten_network_that_acts():
    message, *others = faults(without("actor."))
    assert "tensors holds under names without optim. is not enough to act the same" in message
    assert ["acts otherwise" in note for note in others] == [True]


def test_a_counter_that_matters_later_is_noted():
    # Its target is updated every 2,500 times; what was forgotten shows in no short run.
    notes = [f for f in check_agent(without("n_updates", DQNAgent), **SMALL) if f.level == "note"]
    assert notes[0].what == (
        "discrete actions: agent.n_updates differed after a state was loaded, and nothing came of it"
    )
    assert notes[0].remedy == "put it into tensors if an update ever reads it; else it is fine"


def test_a_counter_that_matters_in_a_run():
    # Every 12 updates is later than the ten that are compared alone, and within a run of 15.
    message, *others = faults(
        without("n_updates", DQNAgent), target_update_interval=12, train_freq=1, gradient_steps=1.0
    )
    assert message.startswith("a run in 1 environment, saved and resumed at step 17, has another ")
    assert len(others) == 3  # in three environments as well, and both with masks


def with_tensors(change):
    def tensors(self):
        return change(SACAgent.tensors(self))

    return broken(tensors=tensors)


def test_tensors_that_are_copies():
    message = fault(with_tensors(lambda live: {name: tensor.clone() for name, tensor in live.items()}))
    assert message.startswith(
        "tensors returned actor.net.0.weight as a copy; expected what the agent works with, since a state is "
        "loaded by writing into it; return the tensors themselves: softac.learning.state.live_tensors does"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: None, "tensors returned None; expected a dict of tensors by name"),
        (lambda s: s | {"n_updates": 3}, "tensors holds n_updates as a int; expected tensors only"),
        (lambda s: s | {"x": torch.zeros(1, dtype=torch.complex64)}, "x is torch.complex64; expected a type that"),
        (
            lambda s: s | {"optim.noise": torch.zeros(1)},
            "tensors has a optim.noise; expected a name that the run",
        ),
    ],
)
def test_a_state_that_cannot_be_saved(change, text):
    message = fault(with_tensors(change))
    assert message.startswith(text)


def test_parameters_and_parts_of_other_tensors_are_live_as_well():
    def tensors(self):
        parameters = {f"actor.{name}": p for name, p in self.actor.module.named_parameters()}
        return SACAgent.tensors(self) | parameters | {"halves": self.both[0], "transposed": self.both.T[1:]}

    def initialise(self, *arguments, **keywords):
        SACAgent.__init__(self, *arguments, **keywords)
        self.both = torch.zeros(2, 3)

    assert {f.level for f in check_agent(broken(__init__=initialise, tensors=tensors), **SMALL)} <= {"ok", "note"}


def test_tensors_that_are_made_later():
    def tensors(self):
        return SACAgent.tensors(self) | ({"mean": self.n_updates} if self.n_updates > 0 else {})

    assert fault(broken(tensors=tensors)).startswith(
        "tensors returned another mean after an update than before; expected names, shapes and types that are the "
        "same from construction on, since a new agent loads the state; make all of them in __init__"
    )


def test_a_state_in_which_everything_is_of_the_optimizer():
    every = with_tensors(lambda live: {f"optim.{name}": tensor for name, tensor in live.items()})
    assert (
        "tensors has no name that does not begin with optim.; expected the networks that act under such names; "
        "they are what the best checkpoint keeps"
    ) in the_fault(every)


def test_tensors_that_cannot_be_written_into():
    def initialise(self, *arguments, **keywords):
        SACAgent.__init__(self, *arguments, **keywords)
        self.one = torch.zeros(1)

    wide = broken(__init__=initialise, tensors=lambda self: SACAgent.tensors(self) | {"wide": self.one.expand(2)})
    assert "a state that such an agent saved could not be loaded (RuntimeError: " in fault(wide)


# --------------------------------------------------------------------------- metrics of their own


@pytest.mark.parametrize(
    ("view", "path"),
    [
        (lambda self, batch: self.actor.module.net[0].weight.detach()[0, 0], "agent.actor.parameters[0], "),
        (lambda self, batch: self.temperature.learner.parameters[0].detach(), "agent.temperature.learner."),
        (lambda self, batch: batch.reward[3], "batch.reward"),
    ],
)
def test_a_metric_that_is_a_view(view, path):
    def update_(self, batch, noise):
        return SACAgent.update_(self, batch, noise) | {"train/mine": view(self, batch)}

    assert f"update_ reports train/mine as a view of {path}" in fault(broken(update_=update_))


# --------------------------------------------------------------------------- what an agent must not hold


@pytest.mark.parametrize(
    ("keep", "path", "kind"),
    [
        (lambda: gym.make("Pendulum-v1"), "agent.kept", "TimeLimit"),
        (lambda: [{"x": Replay(8, EnvSpec(3, 1), torch.device("cpu"))}], "agent.kept[0]['x']", "Replay"),
    ],
)
def test_environments_and_replays(keep, path, kind):
    message, *others = faults(broken(__init__=with_attribute("kept", keep)))
    assert message.startswith(
        f"{path} is a {kind}; expected an agent that sees tensors only: what it keeps of a "
        "run is not in its checkpoints; take what it needs from the batch or from `spec`"
    )
    assert len(others) == 1


def test_a_function_that_holds_an_environment():
    env = gym.make("Pendulum-v1")

    def initialise(self, *arguments, **keywords):
        SACAgent.__init__(self, *arguments, **keywords)
        self.look = lambda: env

    assert "agent.look.__closure__ is a TimeLimit" in fault(broken(__init__=initialise))


def test_a_view_of_the_rollout():
    def update_(self, rollout, orders):
        self.last = rollout.obs
        return PPOAgent.update_(self, rollout, orders)

    message = fault(broken(PPOAgent, update_=update_, actions=("discrete",)))
    assert "agent.last is a view of the run's memory, which the next steps overwrite; expected an agent" in message


def test_a_view_of_the_replays_batch():
    def update_(self, batch, noise):
        self.last = batch.reward
        return SACAgent.update_(self, batch, noise)

    message = fault(broken(update_=update_))
    assert "agent.last is a view of the run's memory, which the next steps overwrite; expected an agent" in message


def test_predictions_outside_the_space():
    # After more updates than are made alone, and for a batch that a run in one environment does not ask for.
    def act(self, obs, noise):
        late = self.n_updates > 10 and len(obs) == 3
        return torch.full((3, 1), 9.0) if late else DQNAgent.act(self, obs, noise)

    message = fault(broken(DQNAgent, act=act), train_freq=1, gradient_steps=1.0)
    assert message.startswith(
        "predict returned np.int64(8); expected an action of Discrete(4, start=-1); look at what act returns for"
    )


def test_an_agent_that_fails_in_a_run_only():
    def update_(self, batch, noise):
        if self.n_updates == 12:
            raise RuntimeError("twelve")
        return SACAgent.update_(self, batch, noise)

    with pytest.raises(ConfigError) as caught:
        check_agent(broken(update_=update_), **SMALL)
    assert str(caught.value).startswith(
        "Mine: continuous actions: training for 25 steps in 1 environment raised RuntimeError: twelve; expected "
        "an agent that trains, stops and resumes"
    )
    assert str(caught.value.__cause__) == "twelve"


# --------------------------------------------------------------------------- looking into an object


def test_everything_that_can_be_reached_is_found():
    class Slotted:
        __slots__ = ("inner",)

    class Holder:
        def method(self):
            return None

    holder, slotted, hidden = Holder(), Slotted(), Holder()
    slotted.inner, hidden.number, holder.number = hidden, 3, 3
    holder.parts = [{"a": (slotted,)}]
    holder.again, holder.itself, holder.bound = holder.parts, holder, Holder().method
    holder.bound.__self__.tensor = torch.zeros(2)
    holder.module = nn.Sequential(Linear(1, 1, generator=torch.Generator()))
    holder.call = partial(print, np.float64(2.0), flush=True)
    before = leaves(holder)
    assert list(before) == [
        "agent.number",
        "agent.bound.__self__.tensor",
        "agent.module.0.rounded",
        "agent.module.0.weight",
        "agent.module.0.bias",
        "agent.call.args[0]",
        "agent.call.keywords['flush']",
        "agent.parts[0]['a'][0].inner.number",
    ]
    hidden.number = 4
    after = leaves(holder)
    assert [path for path in before if before[path] != after[path]] == ["agent.parts[0]['a'][0].inner.number"]


def test_generators_of_every_kind_are_seen_to_move():
    holder = SimpleNamespace()
    holder.one, holder.two = torch.Generator().manual_seed(0), np.random.default_rng(0)
    holder.three, holder.four = np.random.RandomState(0), random.Random(0)  # noqa: S311
    before = leaves(holder)
    torch.rand(1, generator=holder.one)
    holder.two.random()
    holder.three.rand()
    holder.four.random()
    after = leaves(holder)
    assert [path for path in before if before[path] != after[path]] == [
        f"agent.{n}" for n in ("one", "two", "three", "four")
    ]


class Heedless(DQNAgent):
    """Says that it takes masks, and explores without looking at them."""

    def act(self, obs, noise):
        with torch.no_grad():
            best = self.critic(obs)[0].argmax(-1, keepdim=True).float()
            return best if noise is None else torch.where(noise >= 0.0, noise % 4, best)


def test_an_agent_that_does_not_look_at_its_mask():
    wanted = r"^masked actions: act\(obs \(\d+, 7\), noise\) returned an action that its mask forbids"
    with pytest.raises(Fault, match=wanted):
        list(act(Trial(Heedless, SMALL, "masked", torch.device("cpu"))))
