"""From an agent's class to an agent: its device, its precision, and what cannot work refused in words."""

import logging
import re
from typing import Any

import torch
from torch import nn

from softac.agents.registry import algorithm_name, find_agent, serving
from softac.errors import ConfigError, either
from softac.learning.parts import networks
from softac.learning.standardise import Standardise
from softac.nets.encoders import encoder_name
from softac.nets.layers import round_hidden_products
from softac.nets.reading import Encoded
from softac.types import Agent, EnvSpec

log = logging.getLogger("softac")

CHOOSES = {
    "continuous": "continuous ones (a Box)",
    "discrete": "discrete ones (Discrete)",
    "multi_discrete": "several at once (MultiDiscrete)",
}
EXPECTED = {"multi_discrete": "several discrete", "masked": "masked"}


def make_agent(
    agent_class: type[Any],
    spec: EnvSpec,
    config: Any,
    *,
    generator: torch.Generator,
    device: torch.device,
    precision: str,
) -> Agent:
    """An agent with its first weights.

    Args:
        agent_class: as for `require_agent`.
        spec: sizes of observations and actions.
        config: an instance of `agent_class.Config`.
        generator: of the first weights.
        device: where its networks live.
        precision: "float32", or "bf16" for the products between hidden layers.

    Raises:
        ConfigError: it has no product between hidden layers and is to round them, or no layers that normalise
            and is to do that.
    """
    agent: Agent = agent_class(spec, config, generator=generator, device=device)
    if spec.normalize:
        _require_layer(agent, spec, Standardise, "normalize")
    if spec.images:
        _require_layer(agent, spec, Encoded, "an environment with images")
    for image in spec.images:
        name = encoder_name(image) if spec.encoder == "auto" else getattr(spec.encoder, "__name__", spec.encoder)
        log.info("%d planes of %d x %d pixels: encoder %s", image.planes, image.height, image.width, name)
    if precision == "bf16":
        _round_hidden_products(agent)
    return agent


def require_agent(agent_class: type[Any]) -> type[Any]:
    """`agent_class`, if it is one; only names are looked at, `softac.check_agent` tries the rest.

    Raises:
        ConfigError: it lacks a member of `softac.types.Agent`.
    """
    names = [n for n in (*vars(Agent), *Agent.__annotations__) if not n.startswith("_")]
    missing = sorted(n for n in names if n not in ("config", "device") and not hasattr(agent_class, n))
    if missing:
        raise ConfigError(
            f"{agent_class.__name__} has no {', '.join(missing)}",
            "expected the members of softac.types.Agent",
            "add them, then try softac.check_agent on it",
        )
    return agent_class


def require_served(agent_class: type[Any], spec: EnvSpec, env: str) -> None:
    """Refuse an action space that the agent cannot choose from.

    Raises:
        ConfigError: the actions of `env` are not of its kind; the message has the algorithms that serve it.
    """
    missing = [kind for kind in spec.kinds if kind not in agent_class.actions]
    if not missing:
        return
    given = {
        "continuous": "continuous actions",
        "discrete": f"{spec.n_actions} discrete actions",
        "multi_discrete": f"{len(spec.choices)} discrete choices at once",
        "masked": "an action mask",
    }[missing[0]]
    kinds = [CHOOSES[kind] for kind in agent_class.actions if kind in CHOOSES]
    wanted = f"chooses {' or '.join(kinds)}" if missing[0] != "masked" else "takes none"
    able = [name for name in serving(spec.actions) if set(spec.kinds) <= set(find_agent(name).actions)]
    raise ConfigError(
        f"{env} has {given} and {algorithm_name(agent_class)} {wanted}",
        f"expected an algorithm for {EXPECTED.get(missing[0], spec.actions)} actions",
        f"choose {either(able)}",
    )


def find_device(name: str) -> torch.device:
    """The device a user means.

    Raises:
        ConfigError: it does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(
            f"device={name!r} was given",
            f"expected auto, cpu, or a CUDA device that is present ({torch.cuda.device_count()} here)",
            "leave it out for auto",
        ) from None
    return device


def present_device(name: str) -> torch.device:
    """The device that a file names; another, with a line that says so, where this machine lacks such a GPU.

    Raises:
        ConfigError: it is not the name of a device.
    """
    try:
        return find_device(name)
    except ConfigError:
        if not re.fullmatch(r"cuda(:\d{1,3})?", name, re.ASCII):
            raise
        device = find_device("auto")
        log.warning("device %s, which this model was trained on, is not here; it is now on %s", name, device)
        return device


def _require_layer(agent: Agent, spec: EnvSpec, kind: type[nn.Module], asked: str) -> None:
    """Refuse an agent none of whose networks begins with what was asked for."""
    if asked == "normalize" and spec.images and not spec.numbers:
        raise ConfigError(
            "normalize='obs' was given for observations that are images alone",
            "expected numbers among them; images are read in parts of their largest value",
            "leave normalize out",
        )
    if not any(isinstance(module, kind) for network in networks(agent) for module in network.modules()):
        raise ConfigError(
            f"{asked} was given and no network of {type(agent).__name__} has it",
            "expected networks of softac.nets that are given the spec in place of spec.obs_dim, or begin with "
            "softac.nets.reader(spec)",
            f"make them so, or leave {asked} out",
        )


def _round_hidden_products(agent: Agent) -> None:
    """Compute in bfloat16 what may be; refuse an agent that has nothing such."""
    if not sum(round_hidden_products(network) for network in networks(agent)):
        raise ConfigError(
            f"precision='bf16' was given and {algorithm_name(type(agent))} has no product between hidden layers, "
            "which is what it rounds",
            "expected two hidden layers or more",
            "leave precision out",
        )
