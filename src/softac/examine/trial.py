"""One agent on trial: it is made, called and looked at, and what it does wrong becomes a `Fault`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softac import types
from softac.config import has_soft_returns, make_config
from softac.envs import Spaces
from softac.envs.probes import PROBES
from softac.equations.choices import RANDOM_BELOW, nth_allowed
from softac.errors import either
from softac.examine.findings import Finding
from softac.examine.generators import process_generators
from softac.examine.reach import GENERATOR, copied, graph, leaves, overlap
from softac.learning.state import load_state_
from softac.run.checkpoint import DTYPES, OPTIM_PREFIX
from softac.run.prior import learns_offline
from softac.types import ActionKind, Agent, DataTransition, EnvSpec, Metrics, Rollout, SoftTransition, Transition
from softac.words import described, some

UPDATES = 5  # odd, so that a delay of two is caught in the middle
N_ENVS = 3
SMALL_OFF_POLICY = {"buffer_size": 200, "learning_starts": 10, "batch_size": 16}
SMALL_ON_POLICY = {"n_steps": 8}
RESERVED = (
    "optim.random.",
    "optim.means",
    "optim.noise",
    "optim.rollout",
    "optim.ends",
    "optim.statistics.",
)  # what the run adds to a checkpoint
LIVE = "return the tensors themselves: softac.learning.state.live_tensors does"
DRAW_HERE = "pass generator=generator to everything that draws"
REMEDIES = {
    "__init__": f"{DRAW_HERE}; softac.nets does",
    "act": "draw it in act_noise and take it from `noise`",
    "act_noise": DRAW_HERE,
    "update_noise": DRAW_HERE,
    "update_": "draw it in update_noise and take it from `noise`",
}


class Fault(Exception):  # noqa: N818
    """A promise that was broken: what the agent did, what was expected, what to do."""

    def __init__(self, did: str, expected: str, remedy: str) -> None:
        super().__init__(f"{did}; expected {expected}; {remedy}")
        self.did, self.expected, self.remedy = did, expected, remedy


@dataclass(frozen=True)
class Trial:
    """One class of agents with one kind of actions on one device."""

    agent_class: type[Any]
    given: dict[str, Any]
    kind: ActionKind
    device: torch.device

    @property
    def spec(self) -> EnvSpec:
        """What the agent is told of the environment."""
        probe = PROBES[self.kind]
        return Spaces(probe.observation_space, probe.action_space).spec

    @property
    def values(self) -> dict[str, Any]:
        """The hyperparameters to try it with."""
        if self.offline:
            return {"batch_size": SMALL_OFF_POLICY["batch_size"]} | self.given
        return (SMALL_ON_POLICY if self.agent_class.on_policy else SMALL_OFF_POLICY) | self.given

    @property
    def offline(self) -> bool:
        """Whether it learns from data alone."""
        return learns_offline(self.agent_class)

    @property
    def config(self) -> Any:
        """The configuration made of `values`."""
        return make_config(self.agent_class.Config, self.values)

    @property
    def lead(self) -> tuple[int, ...]:
        """The leading dimensions of what one update gets."""
        config = self.config
        return (config.n_steps, N_ENVS) if self.agent_class.on_policy else (config.batch_size,)

    @property
    def soft(self) -> bool:
        """Whether its batches bring entropy bonuses."""
        return not self.agent_class.on_policy and has_soft_returns(self.config)

    @property
    def size(self) -> int:
        """Transitions in one update."""
        return int(np.prod(self.lead))

    def ok(self, what: str) -> Finding:
        """What holds for this kind of actions."""
        return Finding("ok", f"{self.kind} actions: {what}")

    def fault(self, did: str, expected: str, remedy: str) -> Fault:
        """What does not, to be raised."""
        return Fault(f"{self.kind} actions: {did}", expected, remedy)

    def build(self, seed: int) -> Any:
        """An agent with the weights of this seed."""
        given = {"generator": stream(seed), "device": self.device}
        return self._guarded("__init__", lambda: self.agent_class(self.spec, self.config, **given))

    def call(self, agent: Any, member: str, *arguments: Any) -> Any:
        """Call a method that may change nothing of the agent, or one that may."""
        before = leaves(agent)
        result = self._guarded(member, getattr(agent, member), *arguments)
        changed = [path for path, leaf in leaves(agent).items() if path in before and before[path] != leaf]
        if drawn := [path for path in changed if before[path][0] == GENERATOR]:
            raise self.fault(
                f"{member} drew from {drawn[0]}, a generator of the agent's own",
                "randomness that comes in as an argument, since a checkpoint holds no generator of an agent",
                REMEDIES.get(member, "draw nothing here"),
            )
        if changed and member != "update_":
            raise self.fault(
                f"{member} changed {some(changed)}",
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
                    f"{member} raised {described(error)}", signature(member), "correct it, or the call it answers"
                ) from error
            names = moved()
        if names:
            raise self.fault(
                f"{member} drew from the process's own random generators ({', '.join(names)})",
                "randomness that comes in as an argument",
                REMEDIES.get(member, "draw nothing here"),
            )
        return result

    def observations(self, lead: tuple[int, ...], draw: torch.Generator, scale: float = 1.0) -> Tensor:
        """Random observations `[*lead, O]`; of each mask, if there is one, half is forbidden."""
        obs = scale * torch.randn(*lead, self.spec.obs_dim, generator=draw)
        if self.spec.mask is not None:
            mask = self.masks(obs)  # a view
            order = torch.rand(mask.shape, generator=draw).argsort(-1).argsort(-1)
            mask.copy_((order < (self.spec.outputs + 1) // 2).float())
        return obs

    def masks(self, obs: Tensor) -> Tensor:
        """What is allowed at each observation, `[..., A]`: a part of `obs` `[..., O]`."""
        first = self.spec.mask or 0
        return obs[..., first : first + self.spec.outputs]

    def batch(self, seed: int) -> Transition | SoftTransition | DataTransition | Rollout:
        """What an update might get; the same again for the same seed."""
        draw, spec, lead, on_policy = stream(seed), self.spec, self.lead, self.agent_class.on_policy
        obs, next_obs = (self.observations(lead, draw) for _ in range(2))
        if spec.mask is not None:
            drawn = torch.randint(RANDOM_BELOW, (*lead, 1), generator=draw)
            action = nth_allowed(self.masks(obs), drawn).float()
        elif spec.choices:
            action = torch.stack([torch.randint(n, lead, generator=draw) for n in spec.choices], -1).float()
        else:
            action = torch.rand(*lead, spec.action_dim, generator=draw) * 2.0 - 1.0
        reward = torch.randn(lead, generator=draw)
        terminated, truncated = (torch.rand(lead, generator=draw) < p for p in (0.2, 0.1))
        steps = 1 if on_policy else self.config.n_steps
        discount = self.config.gamma**steps * (1.0 - terminated.float())
        continues = (~(terminated | truncated)).float()
        parts = [x.to(self.device) for x in (obs, action, reward, discount, next_obs, continues)]
        if on_policy:
            return Rollout(*parts)
        batch = Transition(*parts[:-1])
        if self.offline:
            return DataTransition(*batch, batch.action.roll(1, 0))
        return SoftTransition(*batch, torch.rand(lead, generator=draw).to(self.device)) if self.soft else batch

    def state(self, agent: Any) -> dict[str, Tensor]:
        """Copies of what `tensors` returns, looked at."""
        state = self.call(agent, "tensors")
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise self.fault(f"tensors returned {state!r:.100}", "a dict of tensors by name", LIVE)
        for name, tensor in state.items():
            if not isinstance(tensor, Tensor):
                raise self.fault(
                    f"tensors holds {name} as a {type(tensor).__name__}",
                    "tensors only, which files without pickle can hold",
                    "keep it as a tensor: torch.zeros((), dtype=torch.int64) for a counter",
                )
            if tensor.dtype not in DTYPES:
                held = either(sorted(str(dtype).removeprefix("torch.") for dtype in DTYPES))
                raise self.fault(
                    f"{name} is {tensor.dtype}", f"a type that checkpoints hold: {held}", "convert it"
                )
            if name.startswith(RESERVED):
                raise self.fault(f"tensors has a {name}", "a name that the run does not use", "rename it")
        if all(name.startswith(OPTIM_PREFIX) for name in state):
            raise self.fault(
                "tensors has no name that does not begin with optim.",
                "the networks that act under such names; they are what the best checkpoint keeps",
                "keep optim. for what acting does not need, such as Adam's moments",
            )
        return copied(state)

    def load(self, agent: Any, state: dict[str, Tensor]) -> None:
        """Copy a state of another agent of this trial in."""
        try:
            load_state_(agent, state)
        except Exception as error:
            raise self.fault(
                f"a state that such an agent saved could not be loaded ({described(error)})",
                "tensors to be written into, of the same names, shapes and types in all agents of one Config",
                LIVE,
            ) from error

    def update(self, agent: Any, seed: int) -> Metrics:
        """One update whose batch and noise are those of `seed`; its metrics, looked at."""
        batch, untouched = self.batch(seed), self.batch(seed)
        noise = self.call(agent, "update_noise", self.size, stream(seed))
        metrics: Metrics = self.call(agent, "update_", batch, noise)
        for name, given, kept in zip(batch._fields, batch, untouched, strict=True):
            if not torch.equal(given, kept):
                raise self.fault(
                    f"update_ wrote into batch.{name}",
                    "the batch as it was, since it may be the run's own memory",
                    "work on a copy, or out of place",
                )
        self._require_metrics(metrics)
        self._require_own_memory(metrics, agent, batch)
        return metrics

    def _require_own_memory(
        self, metrics: Metrics, agent: Any, batch: Transition | SoftTransition | DataTransition | Rollout
    ) -> None:
        """Metrics that another update would overwrite before they are averaged."""
        kept = [(path, thing) for path, thing in graph(agent) if isinstance(thing, Tensor)]
        lent = [(f"batch.{name}", tensor) for name, tensor in zip(batch._fields, batch, strict=True)]
        for name, value in metrics.items():
            if views := [path for path, tensor in (*kept, *lent) if overlap(value, tensor)]:
                raise self.fault(
                    f"update_ reports {name} as a view of {views[0]}, which the next update overwrites",
                    "a tensor of its own",
                    "clone() it",
                )

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


def stream(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def signature(member: str) -> str:
    """How `softac.types.Agent` declares a member."""
    declared = getattr(Agent, member, None)
    if declared is None:
        return f"{member}: {inspect.get_annotations(Agent)[member]}"
    names = vars(types) | {"torch": torch, "Tensor": Tensor}  # which that file only names
    return f"{member}{inspect.signature(declared, globals=names, eval_str=True)}"
