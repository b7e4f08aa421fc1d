"""Does an agent keep the promises of `softac.types.Agent`? Every one is tried on small environments.

What goes wrong without a word in a long run is found here in seconds: a moment that is not in
`state_dict`, a number drawn from a global generator, an action outside its bounds.
"""

import dataclasses
import inspect
import json
import random
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Annotated, Any, get_args

import numpy as np
import torch
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from torch import Tensor, nn

from softac.config import (
    BatchSize,
    BufferSize,
    Gamma,
    LearningStarts,
    RolloutLength,
    TrainFreq,
    expected,
    fields,
    make_config,
)
from softac.envs import InProcessVectorEnv, Spaces
from softac.envs.probes import ENVIRONMENTS, PROBES
from softac.errors import CheckpointError, ConfigError, either
from softac.examine.environment import process_generators
from softac.examine.findings import Finding
from softac.model import Model
from softac.replay import Replay, RolloutStorage
from softac.run.checkpoint import DTYPES, OPTIM_PREFIX
from softac.run.config import RecordConfig
from softac.run.training import Training
from softac.types import (
    ActionKind,
    Agent,
    EnvSpec,
    Metrics,
    Moment,
    OffPolicyConfig,
    OnPolicyConfig,
    Rollout,
    Transition,
)

UPDATES = 5  # odd, so that a delay of two is caught in the middle
N_ENVS = 3
SMALL_OFF_POLICY = {"buffer_size": 200, "learning_starts": 10, "batch_size": 8}
SMALL_ON_POLICY = {"n_steps": 8}
RESERVED = ("optim.random.", "optim.means", "optim.noise", "optim.rollout")  # what the run adds to a checkpoint

RANGES: dict[str, Any] = {
    "buffer_size": BufferSize,
    "learning_starts": LearningStarts,
    "batch_size": BatchSize,
    "gamma": Gamma,
    "n_steps": RolloutLength,
    "train_freq": TrainFreq,
    "gradient_steps": Annotated[float, Field(gt=0.0, le=1e9)],
}
COPIES = "return {name: tensor.detach().clone() for name, tensor in ...}"
PLAIN = {bool, int, float, str, bytes, type(None)}
OF_A_MODULE = set(vars(nn.Module()))
GENERATOR = "generator"
DRAW_HERE = "pass generator=generator to everything that draws"
REMEDIES = {
    "__init__": f"{DRAW_HERE}; softac.nets does",
    "act": "draw it in act_noise and take it from `noise`",
    "act_noise": DRAW_HERE,
    "update_noise": DRAW_HERE,
    "update_": "draw it in update_noise and take it from `noise`",
}

Leaves = dict[str, Any]


def check_agent(agent_class: type[Any], **config: Any) -> list[Finding]:
    """Try every promise of `softac.types.Agent` on an agent of softac's or of one's own.

    For each kind of actions the class says it serves, on environments of a few numbers: members and
    configuration, construction, acting, noise, updates, state, and training that is stopped and
    resumed; then once more on a GPU, if there is one. It takes seconds with small networks. The random
    generators of the process are left as they were.

    A failure is raised rather than returned, so that `check_agent(MyAgent)` alone is a test. A check is
    left out where one it builds upon failed.

    Args:
        agent_class: a class with the members of `softac.types.Agent`.
        config: hyperparameters; without them the class's own defaults, apart from buffer_size 200,
            learning_starts 10 and batch_size 8, or n_steps 8 where it is on-policy.

    Returns:
        What holds, one "ok" for each check, and "note" for what is worth knowing.

    Raises:
        ConfigError: a promise is broken. The message says how, what was expected and what to do, and
            how many further checks failed; these are its notes (`__notes__`), which a traceback shows.
    """
    report = _Report()
    with process_generators():
        _examine(report, agent_class, config)
    if not report.faults:
        return report.findings
    first, *others = report.faults
    name = getattr(agent_class, "__name__", type(agent_class).__name__)
    more = f" ({_count(len(others), 'further failure')})" if others else ""
    error = ConfigError(f"{name}: {first.did}", f"expected {first.expected}", f"{first.remedy}{more}")
    for fault in others:
        error.add_note(str(fault))
    raise error from first.__cause__


class _Fault(Exception):  # noqa: N818
    """A promise that was broken: what the agent did, what was expected, what to do."""

    def __init__(self, did: str, expected: str, remedy: str) -> None:
        super().__init__(f"{did}; expected {expected}; {remedy}")
        self.did, self.expected, self.remedy = did, expected, remedy


@dataclass
class _Report:
    """What was found so far."""

    findings: list[Finding] = dataclasses.field(default_factory=list)
    faults: list[_Fault] = dataclasses.field(default_factory=list)

    def passes(self, check: Callable[..., Iterator[Finding]], *arguments: Any) -> bool:
        """Run a check; whether it found no fault."""
        try:
            self.findings.extend(check(*arguments))
        except _Fault as fault:
            self.faults.append(fault)
            return False
        return True


def _examine(report: _Report, agent_class: type[Any], config: dict[str, Any]) -> None:
    if not (report.passes(_members, agent_class) and report.passes(_configuration, agent_class)):
        return
    make_config(agent_class.Config, config)  # what the caller gave is the caller's to correct
    stages: list[list[Callable[[_Trial], Iterator[Finding]]]] = [
        [_construction],
        [_act_noise, _act, _update],
        [_state, _restoring],
        [partial(_training, n_envs=1), partial(_training, n_envs=N_ENVS), _devices],
    ]
    for kind in agent_class.actions:
        trial = _Trial(agent_class, config, kind, torch.device("cpu"))
        for checks in stages:
            passed = [report.passes(check, trial) for check in checks]
            if not all(passed):
                break  # what follows builds upon it


# --------------------------------------------------------------------------- what the class says


def _members(agent_class: Any) -> Iterator[Finding]:
    is_class: bool = inspect.isclass(agent_class)
    if not is_class:
        raise _Fault(
            f"{type(agent_class).__name__} {agent_class!r:.100} was given", "a class of agents", "pass the class"
        )
    methods = [name for name, value in vars(Agent).items() if inspect.isfunction(value) and name[0] != "_"]
    names = ["Config", "actions", "on_policy", *methods]
    if missing := [name for name in names if not hasattr(agent_class, name)]:
        raise _Fault(
            f"there is no {', '.join(missing)}",
            "the members of softac.types.Agent",
            "add them, " + "; ".join(map(_signature, missing)),
        )
    if odd := [name for name in methods if not callable(getattr(agent_class, name))]:
        raise _Fault(f"{odd[0]} is not a method", _signature(odd[0]), "define it")
    kinds, on_policy = agent_class.actions, agent_class.on_policy
    if not isinstance(kinds, tuple) or not kinds or set(map(str, kinds)) - set(get_args(ActionKind)):
        raise _Fault(
            f"actions is {kinds!r}",
            "a tuple of the kinds of actions it can choose",
            'write actions = ("continuous",), ("discrete",) or both',
        )
    if not isinstance(on_policy, bool):
        raise _Fault(
            f"on_policy is {on_policy!r}",
            "True for an agent that learns from each rollout once, False for one that learns from a replay",
            "write one of them",
        )
    learns = "from rollouts" if on_policy else "from a replay"
    yield Finding("ok", f"members: all {len(names)}; it serves {' and '.join(kinds)} actions and learns {learns}")


def _configuration(agent_class: Any) -> Iterator[Finding]:
    made: Any = agent_class.Config
    of_pydantic: bool = dataclasses.is_dataclass(made) and hasattr(made, "__pydantic_fields__")
    if not of_pydantic:
        raise _Fault(
            f"Config is {made!r:.100}",
            "a dataclass of pydantic, whose fields carry their ranges",
            "decorate it with @pydantic.dataclasses.dataclass(frozen=True, config=softac.config.STRICT)",
        )
    if not made.__dataclass_params__.frozen:
        raise _Fault(
            f"{made.__name__} is not frozen",
            "a configuration that stays what config.json says",
            "write @dataclass(frozen=True, config=STRICT)",
        )
    needed = dict.fromkeys(_annotations(OnPolicyConfig if agent_class.on_policy else OffPolicyConfig))
    if missing := [name for name in needed if name not in fields(made)]:
        raise _Fault(
            f"{made.__name__} has no {', '.join(missing)}",
            f"the fields that the run reads: {', '.join(needed)}",
            "add them; softac.config has a type with a range for each",
        )
    bare = [f.name for f in dataclasses.fields(made) if f.default is f.default_factory is dataclasses.MISSING]
    if bare:
        raise _Fault(
            f"{made.__name__} has no default for {', '.join(bare)}",
            "a configuration that needs no argument",
            "give each field a default",
        )
    try:
        defaults = made()
    except Exception as error:
        raise _Fault(
            f"{made.__name__}() raised {_words(error)}", "defaults that fit each other", "correct them"
        ) from error
    for name in needed:
        value = getattr(defaults, name)
        try:
            TypeAdapter(RANGES[name]).validate_python(value, strict=True)
        except ValidationError as error:
            raise _Fault(
                f"{made.__name__}.{name} is {value!r}",
                expected(FieldInfo.from_annotation(RANGES[name])),
                "correct its default and annotate it with the type of this name in softac.config",
            ) from error
    try:
        again = make_config(made, json.loads(json.dumps(dataclasses.asdict(defaults), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise _Fault(
            f"{made.__name__} cannot be written to config.json and read again ({_words(error)})",
            "plain data: numbers, text, booleans, tuples",
            "describe what is not by a name",
        ) from error
    if again != defaults:
        raise _Fault(
            f"{made.__name__} came back from config.json as {again!r:.200}",
            f"{defaults!r:.200}",
            "declare tuples where a field has several values, since JSON has no other sequence",
        )
    yield Finding("ok", f"configuration: {made.__name__}, {len(fields(made))} fields, frozen, plain data")


# --------------------------------------------------------------------------- trying it


@dataclass(frozen=True)
class _Trial:
    """One class of agents with one kind of actions on one device."""

    agent_class: type[Any]
    given: dict[str, Any]
    kind: ActionKind
    device: torch.device

    @property
    def spec(self) -> EnvSpec:
        probe = PROBES[self.kind]
        return Spaces(probe.observation_space, probe.action_space).spec

    @property
    def values(self) -> dict[str, Any]:
        """The hyperparameters to try it with."""
        return (SMALL_ON_POLICY if self.agent_class.on_policy else SMALL_OFF_POLICY) | self.given

    @property
    def config(self) -> Any:
        return make_config(self.agent_class.Config, self.values)

    @property
    def lead(self) -> tuple[int, ...]:
        """The leading dimensions of what one update gets."""
        config = self.config
        return (config.n_steps, N_ENVS) if self.agent_class.on_policy else (config.batch_size,)

    @property
    def size(self) -> int:
        """Transitions in one update."""
        return int(np.prod(self.lead))

    def ok(self, what: str) -> Finding:
        return Finding("ok", f"{self.kind} actions: {what}")

    def fault(self, did: str, expected: str, remedy: str) -> _Fault:
        return _Fault(f"{self.kind} actions: {did}", expected, remedy)

    def build(self, seed: int) -> Any:
        """An agent with the weights of this seed."""
        given = {"generator": _stream(seed), "device": self.device}
        return self._guarded("__init__", lambda: self.agent_class(self.spec, self.config, **given))

    def call(self, agent: Any, member: str, *arguments: Any) -> Any:
        """Call a method that may change nothing of the agent, or one that may."""
        before = _leaves(agent)
        result = self._guarded(member, getattr(agent, member), *arguments)
        changed = [path for path, leaf in _leaves(agent).items() if path in before and before[path] != leaf]
        if member == "load_state_dict":
            return result
        if drawn := [path for path in changed if before[path][0] == GENERATOR]:
            raise self.fault(
                f"{member} drew from {drawn[0]}, a generator of the agent's own",
                "randomness that comes in as an argument, since a checkpoint holds no generator of an agent",
                REMEDIES.get(member, "draw nothing here"),
            )
        if changed and member != "update_":
            raise self.fault(
                f"{member} changed {_some(changed)}",
                "that update_ alone changes the agent, since evaluations and predictions call the rest, too",
                "keep nothing here; what exploration remembers comes back as moment.previous",
            )
        return result

    def _guarded(self, member: str, function: Callable[..., Any], *arguments: Any) -> Any:
        with process_generators() as moved:
            try:
                result = function(*arguments)
            except Exception as error:
                raise self.fault(
                    f"{member} raised {_words(error)}", _signature(member), "correct it, or the call it answers"
                ) from error
            names = moved()
        if names:
            raise self.fault(
                f"{member} drew from the process's own random generators ({', '.join(names)})",
                "randomness that comes in as an argument",
                REMEDIES.get(member, "draw nothing here"),
            )
        return result

    def batch(self, seed: int) -> Transition | Rollout:
        """What an update might get; the same again for the same seed."""
        stream, spec, lead, on_policy = _stream(seed), self.spec, self.lead, self.agent_class.on_policy
        obs, next_obs = (torch.randn(*lead, spec.obs_dim, generator=stream) for _ in range(2))
        if spec.n_actions is None:
            action = torch.rand(*lead, spec.action_dim, generator=stream) * 2.0 - 1.0
        else:
            action = torch.randint(spec.n_actions, (*lead, 1), generator=stream).float()
        reward = torch.randn(lead, generator=stream)
        terminated, truncated = (torch.rand(lead, generator=stream) < p for p in (0.2, 0.1))
        steps = 1 if on_policy else self.config.n_steps
        discount = self.config.gamma**steps * (1.0 - terminated.float())
        continues = (~(terminated | truncated)).float()
        parts = [x.to(self.device) for x in (obs, action, reward, discount, next_obs, continues)]
        return Rollout(*parts) if on_policy else Transition(*parts[:-1])

    def state(self, agent: Any) -> dict[str, Tensor]:
        """Copies of what `state_dict` returns, looked at."""
        state = self.call(agent, "state_dict")
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise self.fault(f"state_dict returned {state!r:.100}", "a dict of tensors by name", COPIES)
        for name, tensor in state.items():
            if not isinstance(tensor, Tensor):
                raise self.fault(
                    f"state_dict holds {name} as a {type(tensor).__name__}",
                    "tensors only, which files without pickle can hold",
                    "keep it as a tensor: torch.zeros((), dtype=torch.int64) for a counter",
                )
            if tensor.dtype not in DTYPES:
                held = either(sorted(str(dtype).removeprefix("torch.") for dtype in DTYPES))
                raise self.fault(
                    f"{name} is {tensor.dtype}", f"a type that checkpoints hold: {held}", "convert it"
                )
            if name.startswith(RESERVED):
                raise self.fault(f"state_dict has a {name}", "a name that the run does not use", "rename it")
        if all(name.startswith(OPTIM_PREFIX) for name in state):
            raise self.fault(
                "state_dict has no name that does not begin with optim.",
                "the networks that act under such names; they are what the best checkpoint keeps",
                "keep optim. for what acting does not need, such as Adam's moments",
            )
        return _copied(state)

    def update(self, agent: Any, seed: int) -> Metrics:
        """One update whose batch and noise are those of `seed`; its metrics, looked at."""
        batch, untouched = self.batch(seed), self.batch(seed)
        noise = self.call(agent, "update_noise", self.size, _stream(seed))
        metrics: Metrics = self.call(agent, "update_", batch, noise)
        for name, given, kept in zip(batch._fields, batch, untouched, strict=True):
            if not torch.equal(given, kept):
                raise self.fault(
                    f"update_ wrote into batch.{name}",
                    "the batch as it was, since it may be the run's own memory",
                    "work on a copy, or out of place",
                )
        self._require_metrics(metrics)
        return metrics

    def _require_metrics(self, metrics: Any) -> None:
        remedy = 'return {"train/critic_loss": loss.detach(), ...}'
        if not isinstance(metrics, dict) or not metrics:
            raise self.fault(f"update_ returned {metrics!r:.100}", "something to log from every update", remedy)
        for name, value in metrics.items():
            if not (isinstance(name, str) and name.startswith("train/")):
                raise self.fault(f"update_ reports {name!r}", 'names that begin with "train/"', "rename it")
            what = f"update_ reports {name} as "
            if not isinstance(value, Tensor):
                raise self.fault(f"{what}a {type(value).__name__}", "a tensor without dimensions", remedy)
            if value.ndim:
                raise self.fault(
                    f"{what}a tensor of shape {tuple(value.shape)}", "one without dimensions", "take its mean()"
                )
            if value.requires_grad:
                raise self.fault(f"{what}a tensor with a gradient", "one without", "detach() it")
            if value.device.type != self.device.type:
                raise self.fault(
                    f"{what}a tensor on {value.device}", f"one on {self.device}", "make it with device=self.device"
                )
            if not torch.isfinite(value):
                raise self.fault(
                    f"{what}{value.item()}",
                    "finite numbers, since a run ends at the first that is not",
                    "find the division or logarithm it comes from; the batch was of ordinary size",
                )


def _construction(trial: _Trial) -> Iterator[Finding]:
    try:
        config = trial.config
    except ConfigError as error:
        small = ", ".join(f"{name}={value}" for name, value in trial.values.items())
        raise trial.fault(
            f"Config refused {small} ({error.given})",
            "sizes that it accepts",
            f"give others, as in check_agent({trial.agent_class.__name__}, {next(iter(trial.values))}=64)",
        ) from error
    agent, same, other = trial.build(0), trial.build(0), trial.build(1)
    for name, wanted in (("config", config), ("device", trial.device)):
        if getattr(agent, name, None) != wanted:
            raise trial.fault(
                f"agent.{name} is {getattr(agent, name, 'missing')!r:.100}",
                f"the {name} it was made with, which the run reads",
                f"write self.{name} = {name} in __init__",
            )
    first, again, apart = (trial.state(a) for a in (agent, same, other))
    if odd := _different(first, again):
        raise trial.fault(
            f"the same generator gave two agents with different {odd[0]}",
            "initial weights that depend on the generator alone",
            REMEDIES["__init__"],
        )
    if not _different(first, apart):
        raise trial.fault(
            "two generators with different seeds gave the same agent",
            "initial weights that are drawn from the generator",
            REMEDIES["__init__"],
        )
    n = sum(tensor.numel() for name, tensor in first.items() if not name.startswith(OPTIM_PREFIX))
    yield trial.ok(f"construction draws from its generator alone ({n:,} numbers to act and learn with)")


def _act_noise(trial: _Trial) -> Iterator[Finding]:
    agent = trial.build(0)
    for size in (1, N_ENVS):
        first = trial.call(agent, "act_noise", size, _stream(1), Moment(0))
        for moment in (Moment(0), Moment(10), Moment(10**7), Moment(11, first)):
            noise = trial.call(agent, "act_noise", size, _stream(1), moment)
            remedy = "return torch.randn(batch_size, ..., generator=generator).to(self.device)"
            if not isinstance(noise, Tensor) or not noise.ndim or len(noise) != size:
                given = f"shape {tuple(noise.shape)}" if isinstance(noise, Tensor) else f"{noise!r:.100}"
                raise trial.fault(f"act_noise({size}, ...) returned {given}", f"a tensor [{size}, ...]", remedy)
            if noise.dtype not in DTYPES or noise.device.type != trial.device.type:
                raise trial.fault(
                    f"act_noise returned {noise.dtype} on {noise.device}",
                    f"a type that a checkpoint holds, float32 best, on {trial.device}",
                    remedy,
                )
            if (noise.shape, noise.dtype) != (first.shape, first.dtype):
                raise trial.fault(
                    f"act_noise returned {noise.dtype} {tuple(noise.shape)} at {moment.step} steps and "
                    f"{first.dtype} {tuple(first.shape)} at the start",
                    "one shape and type, since a resumed run goes on from the noise before",
                    "leave zeros where there is nothing to say",
                )
            if not torch.isfinite(noise).all():
                raise trial.fault("act_noise returned numbers that are not finite", "finite ones", "bound it")
            if not _same(noise, trial.call(agent, "act_noise", size, _stream(1), moment)):
                raise trial.fault(
                    "act_noise gave two answers for one state of the generator and one moment",
                    "noise that depends on them alone",
                    REMEDIES["act_noise"],
                )
    yield trial.ok(f"act_noise draws from its generator alone: [B, ...] is {tuple(first.shape)} for B = {N_ENVS}")


def _act(trial: _Trial) -> Iterator[Finding]:
    agent = trial.build(0)
    for size, scale in ((1, 1.0), (N_ENVS, 1.0), (32, 100.0)):
        obs = scale * torch.randn(size, trial.spec.obs_dim, generator=_stream(2)).to(trial.device)
        before = obs.clone()
        for noise in (None, trial.call(agent, "act_noise", size, _stream(1), Moment(0))):
            action = trial.call(agent, "act", obs, noise)
            call = f"act(obs {tuple(obs.shape)}, {'None' if noise is None else 'noise'})"
            _require_action(trial, action, size, call)
            if not torch.equal(obs, before):
                raise trial.fault(f"{call} wrote into the observations", "them as they were", "work on a copy")
            if not _same(action, trial.call(agent, "act", obs, noise)):
                raise trial.fault(
                    f"{call} gave two answers",
                    "an action that depends on the agent, the observation and the noise alone",
                    REMEDIES["act"],
                )
    n = trial.spec.n_actions
    what = f"indices below {n}" if n else "unbounded" if trial.agent_class.on_policy else "in [-1, 1]"
    yield trial.ok(f"act gives float32 [B, {trial.spec.action_dim}], {what}, the same bits twice")


def _require_action(trial: _Trial, action: Any, size: int, call: str) -> None:
    shape, n = (size, trial.spec.action_dim), trial.spec.n_actions
    if not isinstance(action, Tensor) or action.shape != shape:
        given = f"shape {tuple(action.shape)}" if isinstance(action, Tensor) else f"a {type(action).__name__}"
        meant = "the coordinates" if n is None else "the index"
        raise trial.fault(
            f"{call} returned {given}", f"a tensor {list(shape)}: {meant} of each action", "reshape it"
        )
    if action.dtype != torch.float32:
        last = "compute in float32" if n is None else "return index.float()"
        raise trial.fault(f"{call} returned {action.dtype}", "float32, as a replay holds it", last)
    if action.device.type != trial.device.type:
        raise trial.fault(
            f"{call} returned a tensor on {action.device}", f"one on {trial.device}", "move it there"
        )
    if action.requires_grad:
        raise trial.fault(f"{call} returned a tensor with a gradient", "one without", "act under torch.no_grad()")
    if not torch.isfinite(action).all():
        raise trial.fault(
            f"{call} returned an action that is not finite",
            "finite ones, also for observations in the hundreds",
            "bound what exp or log get",
        )
    if n is not None and not ((action >= 0) & (action < n) & (action == action.floor())).all():
        raise trial.fault(
            f"{call} returned {_range(action)}",
            f"whole numbers from 0 to {n - 1}",
            "count actions from 0; the environment's own start is added for it",
        )
    if n is None and not trial.agent_class.on_policy and not (action.abs() <= 1.0).all():
        raise trial.fault(
            f"{call} returned {_range(action)}",
            "coordinates in [-1, 1], which are scaled to the environment's bounds",
            "squash them with tanh, and clamp(-1.0, 1.0) after adding noise",
        )


def _update(trial: _Trial) -> Iterator[Finding]:
    first, second = trial.build(0), trial.build(0)
    start, names = trial.state(first), dict[str, int]()
    for i in range(UPDATES):
        metrics, again = trial.update(first, i), trial.update(second, i)
        for name in metrics:
            names.setdefault(name, i + 1)
        states = [trial.state(agent) for agent in (first, second)]
        if odd := [*_different(metrics, again), *_different(*states)]:
            raise trial.fault(
                f"update {i + 1} of two equal agents with equal batches and noise gave different {odd[0]}",
                "an update that is a function of state, batch and noise",
                "look for memory outside of the agent, torch.empty, and the order of sets",
            )
    if broken := [name for name, tensor in states[0].items() if not torch.isfinite(tensor).all()]:
        raise trial.fault(
            f"{broken[0]} is not finite after {UPDATES} updates",
            "finite numbers for a batch of ordinary size",
            "look for a square root or logarithm of zero",
        )
    moved = [n for n in _different(start, states[0]) if not n.startswith(OPTIM_PREFIX)]
    if not any(states[0][name].is_floating_point() for name in moved):
        raise trial.fault(
            f"{UPDATES} updates changed no parameter",
            "an agent that learns",
            "descend on a loss in update_, and put what learns into state_dict",
        )
    yield trial.ok(f"update_ repeats itself bit for bit and reports {', '.join(names)}")
    if late := [name for name, i in names.items() if i > 1 + UPDATES // 2]:
        yield Finding(
            "note",
            f"{trial.kind} actions: {_some(late)} was first reported by update {names[late[0]]}",
            "nothing, if it is rare on purpose",
            "metrics are means over the updates that report them",
        )


def _state(trial: _Trial) -> Iterator[Finding]:
    agent = trial.build(0)
    trial.update(agent, 0)
    whole, names = trial.state(agent), list(trial.state(agent))
    state, again = (trial.call(agent, "state_dict") for _ in range(2))
    for name, tensor in state.items():
        if _overlap(tensor, again[name]):
            raise trial.fault(
                f"state_dict returned {name} as a view of what the agent works with",
                "copies, which the next update leaves alone",
                COPIES,
            )
        if tensor.requires_grad or not tensor.is_contiguous():
            raise trial.fault(
                f"{name} {'has a gradient' if tensor.requires_grad else 'is not contiguous'}",
                "plain tensors, as a file holds them",
                "return tensor.detach().clone(memory_format=torch.contiguous_format)",
            )
    if shared := [(a, b) for i, a in enumerate(names) for b in names[:i] if _overlap(state[a], state[b])]:
        raise trial.fault(
            f"state_dict returned {shared[0][1]} and {shared[0][0]} in one piece of memory",
            "a piece for each, as a file holds them",
            "clone() each",
        )
    networks = [name for name in names if not name.startswith(OPTIM_PREFIX)]
    actor = trial.build(1)
    others = trial.state(actor)
    trial.call(actor, "load_state_dict", {n: whole[n] if n in networks else others[n] for n in names})
    if not _act_alike(trial, agent, actor):
        raise trial.fault(
            "what state_dict holds under names without optim. is not enough to act the same",
            "everything that acting needs there; it is what the best checkpoint keeps",
            "take optim. from its name",
        )
    n = sum(tensor.numel() for tensor in state.values())
    yield trial.ok(f"state_dict returns {len(state)} tensors ({n:,} numbers), all copies")


def _restoring(trial: _Trial) -> Iterator[Finding]:
    whole, restored = trial.build(0), trial.build(1)
    for i in range(UPDATES):
        trial.update(whole, i)
    state = trial.state(whole)
    _require_refusals(trial, restored, state)
    given = _copied(state)
    trial.call(restored, "load_state_dict", given)
    if odd := _different(state, trial.state(restored)):
        raise trial.fault(
            f"after load_state_dict, state_dict returns another {odd[0]}",
            "what was loaded",
            "copy every tensor in, in place: softac.learning.learner.copy_state_ does",
        )
    mine, its = _leaves(whole), _leaves(restored)
    hidden = [path for path in mine | its if mine.get(path) != its.get(path)]
    hint = f" (the two differ in {_some(hidden)})" if hidden else ""
    wanted = "everything that the agent remembers in state_dict"
    remedy = "add what is missing: targets, optimizer moments, counters, running means"
    if not _act_alike(trial, whole, restored):
        raise trial.fault(f"an agent restored from its state_dict acts otherwise{hint}", wanted, remedy)
    for i in range(UPDATES, 2 * UPDATES):
        metrics, again = trial.update(whole, i), trial.update(restored, i)
        states = [trial.state(agent) for agent in (whole, restored)]
        if odd := [*_different(*states), *_different(metrics, again)]:
            raise trial.fault(
                f"an agent restored from its state_dict has another {odd[0]} after "
                f"{_count(i - UPDATES + 1, 'more update')}{hint}",
                wanted,
                remedy,
            )
    if odd := _different(state, given):
        raise trial.fault(
            f"updates changed the {odd[0]} that load_state_dict was given",
            "an agent that copies what it loads",
            "write tensor.copy_(state[name]) under torch.no_grad()",
        )
    yield trial.ok(f"an agent restored from its state_dict goes on bit for bit for {UPDATES} updates")
    if hidden:
        yield Finding(
            "note",
            f"{trial.kind} actions: {_some(hidden)} differed after load_state_dict, and nothing came of it",
            "put it into state_dict if an update ever reads it; else it is fine",
            f"only {UPDATES} updates were tried",
        )


def _require_refusals(trial: _Trial, agent: Any, state: dict[str, Tensor]) -> None:
    before, name = trial.state(agent), next(iter(state))
    wrong = {
        f"without {name}": {key: tensor for key, tensor in state.items() if key != name},
        "with a tensor it does not know": state | {"unknown": torch.zeros(2)},
        f"with {name} of another shape": state | {name: torch.zeros((*state[name].shape, 2))},
    }
    for how, given in wrong.items():
        wanted = "a CheckpointError where names or shapes differ"
        remedy = "compare them first: softac.learning.learner.copy_state_ does"
        try:
            agent.load_state_dict(given)
        except CheckpointError:
            pass
        except Exception as error:
            raise trial.fault(f"a state {how} raised {_words(error)}", wanted, remedy) from error
        else:
            raise trial.fault(f"load_state_dict took a state {how}", wanted, remedy)
        if odd := _different(before, trial.state(agent)):
            raise trial.fault(
                f"load_state_dict refused a state {how} after it had changed {odd[0]}",
                "an agent as it was before",
                remedy,
            )


def _act_alike(trial: _Trial, one: Any, other: Any) -> bool:
    obs = torch.randn(32, trial.spec.obs_dim, generator=_stream(3)).to(trial.device)
    noise = trial.call(one, "act_noise", 32, _stream(4), Moment(0))
    return all(_same(trial.call(one, "act", obs, x), trial.call(other, "act", obs, x)) for x in (None, noise))


# --------------------------------------------------------------------------- training


def _training(trial: _Trial, n_envs: int) -> Iterator[Finding]:
    """Train twice, once without a stop and once with; the second ends in the same bits."""
    cut, total = _budgets(trial, n_envs)
    where = f"training for {total} steps in {_count(n_envs, 'environment')}"
    try:
        with tempfile.TemporaryDirectory(prefix="softac-") as folder:
            found = list(_trained(trial, n_envs, cut, total, Path(folder) / "run"))
    except _Fault:
        raise
    except Exception as error:
        raise trial.fault(
            f"{where} raised {_words(error)}",
            "an agent that trains, stops and resumes",
            "see the traceback; softac.Model(...).learn(...) raises it as well",
        ) from error
    yield from found


def _trained(trial: _Trial, n_envs: int, cut: int, total: int, folder: Path) -> Iterator[Finding]:
    probe, agent_class, record = PROBES[trial.kind], trial.agent_class, RecordConfig(n_eval_episodes=1)
    make = partial(Model, agent_class, probe, seed=0, n_envs=n_envs, device=str(trial.device), **trial.values)
    seen: deque[Training] = deque(maxlen=1)
    whole = make().train(total, record, heartbeat=seen.append)
    training = seen[0]
    _require_nothing_kept(trial, whole.agent, training)
    _require_predictions(trial, whole)
    make().train(cut, record, folder)
    resumed = Model.load(folder, env=probe, agent_class=agent_class).train(total, record, folder)
    if odd := _different(_copied(whole.agent.state_dict()), _copied(resumed.agent.state_dict())):
        raise trial.fault(
            f"a run in {_count(n_envs, 'environment')}, saved and resumed at step {cut}, has another {odd[0]} "
            f"at step {total} than one that went through",
            "the same bits",
            "keep no memory in modules, classes or closures, and none in act; state_dict is all that is saved",
        )
    made = f"{whole.num_timesteps} steps in {_count(n_envs, 'environment')} with {training.updates} updates"
    yield trial.ok(f"{made}, and the same bits when resumed at step {cut}")


def _budgets(trial: _Trial, n_envs: int) -> tuple[int, int]:
    """Where to stop, inside of a rollout and of a round, and where to end."""
    config = trial.config
    if trial.agent_class.on_policy:
        rollout = config.n_steps * n_envs
        cut, total = rollout + rollout // 2, 2 * rollout + rollout // 2
    else:
        rounds = -(-max(12, 3 / config.gradient_steps) // config.train_freq)
        learning = int(rounds * config.train_freq)
        cut, total = config.learning_starts + learning // 2, config.learning_starts + learning + 2 * n_envs
    return cut + (cut % n_envs == 0), total + (total % n_envs == 0)


def _require_nothing_kept(trial: _Trial, agent: Any, training: Training) -> None:
    memory = training.memory
    lent = memory.rows if isinstance(memory, RolloutStorage) else memory.lent
    for path, kept in _graph(agent):
        if isinstance(kept, (*ENVIRONMENTS, InProcessVectorEnv, Replay, RolloutStorage, Training, Model)):
            raise trial.fault(
                f"{path} is a {type(kept).__name__}",
                "an agent that sees tensors only: what it keeps of a run is not in its checkpoints",
                "take what it needs from the batch or from `spec`",
            )
        if isinstance(kept, Tensor) and _overlap(kept, lent):
            raise trial.fault(
                f"{path} is a view of the run's memory, which the next steps overwrite",
                "an agent that keeps no part of a batch",
                "clone() what it needs",
            )


def _require_predictions(trial: _Trial, model: Model) -> None:
    space, obs_space = model.spaces.action_space, model.spaces.observation_space
    rng = np.random.default_rng(0)
    for deterministic in (True, False):
        batch = rng.normal(size=(N_ENVS, *(obs_space.shape or ())))
        actions, _ = model.predict(batch, deterministic=deterministic)
        single, _ = model.predict(batch[0], deterministic=deterministic)
        if outside := [action for action in (single, *actions) if not space.contains(action)]:
            raise trial.fault(
                f"predict returned {outside[0]!r}", f"an action of {space}", "look at what act returns for it"
            )


def _devices(trial: _Trial) -> Iterator[Finding]:
    if torch.cuda.is_available():
        yield from _elsewhere(replace(trial, device=torch.device("cuda")))
    else:
        yield Finding(
            "note",
            f"{trial.kind} actions: tried on the CPU only, there is no CUDA device here",
            "check it once where there is one, before it trains there",
            "a tensor made without device=self.device fails only there",
        )


def _elsewhere(trial: _Trial) -> Iterator[Finding]:
    """Acting, updates and state on another device; sums there need not repeat bit for bit."""
    for check in (_act_noise, _act):
        list(check(trial))
    agent, restored = trial.build(0), trial.build(1)
    for i in range(UPDATES):
        trial.update(agent, i)
    state = trial.state(agent)
    trial.call(restored, "load_state_dict", {name: tensor.cpu() for name, tensor in state.items()})
    if odd := _different(state, trial.state(restored)):
        raise trial.fault(
            f"on {trial.device}, load_state_dict left {odd[0]} as it was",
            "what was loaded, from wherever it comes",
            "copy in place: tensor.copy_(state[name])",
        )
    yield trial.ok(f"acting, updates and state work on {trial.device}, too")


# --------------------------------------------------------------------------- looking into it


def _graph(root: Any) -> Iterator[tuple[str, Any]]:
    """Everything that can be reached from an agent, nearest first, with its path; no object twice."""
    waiting, met = deque([("agent", root)]), dict[int, Any]()
    while waiting:
        path, thing = waiting.popleft()
        if type(thing) in PLAIN:  # one small number may be many attributes
            yield path, thing
        elif id(thing) not in met:
            met[id(thing)] = thing  # kept alive, so that no other gets its number
            yield path, thing
            waiting.extend(_parts(path, thing))


def _parts(path: str, thing: Any) -> Iterator[tuple[str, Any]]:
    match thing:
        case dict():
            for i, (key, value) in enumerate(thing.items()):
                # An optimizer's state has parameters as its keys.
                yield f"{path}[{key!r}]" if isinstance(key, str | int) else f"{path}[{i}]", value
        case list() | tuple() | set() | frozenset() | deque():
            for i, value in enumerate(thing):
                yield f"{path}[{i}]", value
        case MethodType():
            yield f"{path}.__self__", thing.__self__
        case FunctionType():
            for cell in thing.__closure__ or ():
                yield f"{path}.__closure__", cell.cell_contents
        case partial():
            yield from ((f"{path}.{name}", getattr(thing, name)) for name in ("func", "args", "keywords"))
        case nn.Module():
            inside = {**thing._parameters, **thing._buffers, **thing._modules}
            own = {name: value for name, value in vars(thing).items() if name not in OF_A_MODULE}
            yield from ((f"{path}.{name}", value) for name, value in (own | inside).items())
        case type() | ModuleType() | Tensor() | np.ndarray() | np.generic() | torch.Generator():
            return
        case _:
            slots = (name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()))
            inside = {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
            own = getattr(thing, "__dict__", {})
            yield from ((f"{path}.{name}", value) for name, value in (inside | own).items())


def _leaves(agent: Any) -> Leaves:
    """The values that can be reached from an agent, by path, to be compared with ==."""
    return {path: leaf for path, thing in _graph(agent) if (leaf := _leaf(thing)) is not None}


def _leaf(thing: Any) -> tuple[Any, ...] | None:
    if type(thing) in PLAIN:
        return ("value", repr(thing))
    match thing:
        case dict() | list() | tuple():
            return None
        case Tensor():
            return ("tensor", str(thing.dtype), *_bits(thing))
        case np.ndarray() | np.generic():
            return ("array", str(thing.dtype), thing.shape, thing.tobytes())
        case torch.Generator():
            return (GENERATOR, *_bits(thing.get_state()))
        case np.random.Generator():
            return (GENERATOR, repr(thing.bit_generator.state))
        case np.random.RandomState():
            return (GENERATOR, repr(thing.get_state()))
        case random.Random():
            return (GENERATOR, repr(thing.getstate()))
        case _:
            return None


def _bits(tensor: Tensor) -> tuple[tuple[int, ...], bytes]:
    # A copy: `contiguous` leaves the strides of a view of one number, or of none, as they are.
    plain = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return tuple(plain.shape), plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and _bits(one) == _bits(other)


def _different(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names under which two states do not hold the same bits."""
    names = dict.fromkeys([*one, *other])
    return [n for n in names if n not in one or n not in other or not _same(one[n], other[n])]


def _copied(state: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors lie in one piece of memory."""
    first, second = (tensor.untyped_storage().data_ptr() for tensor in (one, other))
    return first == second != 0


def _stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _annotations(protocol: type[Any]) -> list[str]:
    return list(protocol.__annotations__)


def _signature(member: str) -> str:
    """How `softac.types.Agent` declares a member."""
    declared = getattr(Agent, member, None)
    if declared is None:
        return f"{member}: {inspect.get_annotations(Agent)[member]}"
    return f"{member}{inspect.signature(declared)}"


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _range(action: Tensor) -> str:
    return f"numbers from {action.min():.4g} to {action.max():.4g}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
