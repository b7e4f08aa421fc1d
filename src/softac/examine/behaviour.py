"""What an agent does: it is made, acts and learns as a function of what it is given."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from softac.errors import ConfigError
from softac.examine.findings import Finding
from softac.examine.reach import different, same
from softac.examine.trial import N_ENVS, REMEDIES, UPDATES, Trial, stream
from softac.run.checkpoint import DTYPES, OPTIM_PREFIX
from softac.types import Moment
from softac.words import some


def construction(trial: Trial) -> Iterator[Finding]:
    """Initial weights come from the generator alone."""
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
    if odd := different(first, again):
        raise trial.fault(
            f"the same generator gave two agents with different {odd[0]}",
            "initial weights that depend on the generator alone",
            REMEDIES["__init__"],
        )
    if not different(first, apart):
        raise trial.fault(
            "two generators with different seeds gave the same agent",
            "initial weights that are drawn from the generator",
            REMEDIES["__init__"],
        )
    n = sum(tensor.numel() for name, tensor in first.items() if not name.startswith(OPTIM_PREFIX))
    yield trial.ok(f"construction draws from its generator alone ({n:,} numbers to act and learn with)")


def act_noise(trial: Trial) -> Iterator[Finding]:
    """Noise comes from its generator and the moment alone, in one shape."""
    agent = trial.build(0)
    for size in (1, N_ENVS):
        first = trial.call(agent, "act_noise", size, stream(1), Moment(0))
        for moment in (Moment(0), Moment(10), Moment(10**7), Moment(11, first)):
            noise = trial.call(agent, "act_noise", size, stream(1), moment)
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
            if not same(noise, trial.call(agent, "act_noise", size, stream(1), moment)):
                raise trial.fault(
                    "act_noise gave two answers for one state of the generator and one moment",
                    "noise that depends on them alone",
                    REMEDIES["act_noise"],
                )
    yield trial.ok(f"act_noise draws from its generator alone: [B, ...] is {tuple(first.shape)} for B = {N_ENVS}")


def act(trial: Trial) -> Iterator[Finding]:
    """Actions come from the observation and the noise alone, and within bounds."""
    agent = trial.build(0)
    for size, scale in ((1, 1.0), (N_ENVS, 1.0), (32, 100.0)):
        obs = trial.observations((size,), stream(2), scale).to(trial.device)
        before = obs.clone()
        for noise in (None, trial.call(agent, "act_noise", size, stream(1), Moment(0))):
            action = trial.call(agent, "act", obs, noise)
            call = f"act(obs {tuple(obs.shape)}, {'None' if noise is None else 'noise'})"
            _require_action(trial, action, size, call)
            _require_allowed(trial, action, obs, call)
            if not torch.equal(obs, before):
                raise trial.fault(f"{call} wrote into the observations", "them as they were", "work on a copy")
            if not same(action, trial.call(agent, "act", obs, noise)):
                raise trial.fault(
                    f"{call} gave two answers",
                    "an action that depends on the agent, the observation and the noise alone",
                    REMEDIES["act"],
                )
    n = trial.spec.choices
    what = (
        f"indices below {' and '.join(map(str, n))}"
        if n
        else "unbounded"
        if trial.agent_class.on_policy
        else "in [-1, 1]"
    )
    yield trial.ok(f"act gives float32 [B, {trial.spec.action_dim}], {what}, the same bits twice")


def act_log_prob(trial: Trial) -> Iterator[Finding]:
    """What soft n-step returns ask for: log pi of the actions, from the observation and the noise alone."""
    if not trial.soft:
        return
    agent = trial.build(0)
    if not callable(getattr(agent, "act_log_prob", None)):
        raise trial.fault(
            'its Config has n_step_return="soft" and there is no act_log_prob',
            "log pi of the actions that act chooses",
            "add act_log_prob(self, obs, noise), or take the field away",
        )
    obs = trial.observations((N_ENVS,), stream(2)).to(trial.device)
    noise = trial.call(agent, "act_noise", N_ENVS, stream(1), Moment(0))
    found, again = (trial.call(agent, "act_log_prob", obs, noise) for _ in range(2))
    sound = isinstance(found, Tensor) and found.shape == (N_ENVS,) and found.is_floating_point()
    if not sound or found.requires_grad or not torch.isfinite(found).all() or not same(found, again):
        raise trial.fault(
            f"act_log_prob returned {found!r:.100}",
            f"log pi(a|s) [{N_ENVS}] of the actions of act, finite, without a gradient, the same bits twice",
            "compute it from the noise, as SACAgent does",
        )
    yield trial.ok("act_log_prob gives log pi [B] of the actions that act chooses, the same bits twice")


def _require_action(trial: Trial, action: Any, size: int, call: str) -> None:
    shape, n = (size, trial.spec.action_dim), trial.spec.choices
    if not isinstance(action, Tensor) or action.shape != shape:
        given = f"shape {tuple(action.shape)}" if isinstance(action, Tensor) else f"a {type(action).__name__}"
        meant = "the index" if n else "the coordinates"
        raise trial.fault(
            f"{call} returned {given}", f"a tensor {list(shape)}: {meant} of each action", "reshape it"
        )
    if action.dtype != torch.float32:
        last = "return index.float()" if n else "compute in float32"
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
    below = torch.tensor(n, device=action.device) if n else torch.inf
    if n and not ((action >= 0) & (action < below) & (action == action.floor())).all():
        raise trial.fault(
            f"{call} returned numbers from {action.min():.4g} to {action.max():.4g}",
            f"whole numbers from 0 to {' and '.join(str(k - 1) for k in n)}",
            "count actions from 0; the environment's own start is added for it",
        )
    if not n and not trial.agent_class.on_policy and not (action.abs() <= 1.0).all():
        raise trial.fault(
            f"{call} returned numbers from {action.min():.4g} to {action.max():.4g}",
            "coordinates in [-1, 1], which are scaled to the environment's bounds",
            "squash them with tanh, and clamp(-1.0, 1.0) after adding noise",
        )


def _require_allowed(trial: Trial, action: Tensor, obs: Tensor, call: str) -> None:
    if trial.spec.mask is not None and not (trial.masks(obs).gather(-1, action.long()) == 1.0).all():
        raise trial.fault(
            f"{call} returned an action that its mask forbids",
            "none, with or without noise: spec.mask says where in the observation the mask is",
            'give forbidden actions the score minus infinity, or take "masked" out of `actions`',
        )


def update(trial: Trial) -> Iterator[Finding]:
    """An update is a function of state, batch and noise, and moves a parameter."""
    first, second = trial.build(0), trial.build(0)
    start, names = trial.state(first), dict[str, int]()
    for i in range(UPDATES):
        metrics, again = trial.update(first, i), trial.update(second, i)
        for name in metrics:
            names.setdefault(name, i + 1)
        states = [trial.state(agent) for agent in (first, second)]
        if odd := [*different(metrics, again), *different(*states)]:
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
    moved = [n for n in different(start, states[0]) if not n.startswith(OPTIM_PREFIX)]
    if not any(states[0][name].is_floating_point() for name in moved):
        raise trial.fault(
            f"{UPDATES} updates changed no parameter",
            "an agent that learns",
            "descend on a loss in update_, and put what learns into tensors",
        )
    yield trial.ok(f"update_ repeats itself bit for bit and reports {', '.join(names)}")
    if late := [name for name, i in names.items() if i > 1 + UPDATES // 2]:
        yield Finding(
            "note",
            f"{trial.kind} actions: {some(late)} was first reported by update {names[late[0]]}",
            "nothing, if it is rare on purpose",
            "metrics are means over the updates that report them",
        )
