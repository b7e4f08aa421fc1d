"""The networks of Stable-Baselines3's policies, by their names there and here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softac.errors import CheckpointError, ConfigError
from softac.ship.normalisation import Normalisation
from softac.types import FloatArray
from softac.words import clean

Array = NDArray[np.float64]
Layer = tuple[Array, Array]  # weight [in, out] and bias [out]: x W + b
ON_POLICY = ("a2c", "ppo")


@dataclass(frozen=True)
class Network:
    """One network, or an ensemble of them that lies behind each other here.

    Attributes:
        members: the layers of each.
        stacked: whether there is an axis for the members.
    """

    members: list[list[Layer]]
    stacked: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, hidden widths, outputs."""
        layers = self.members[0]
        return (len(layers[0][0]), *(len(bias) for _, bias in layers))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """As the agents here keep them: weights `[in, out]` or `[N, in, out]`, biases `[out]` or `[N, 1, out]`."""
        state = {}
        for i, layers in enumerate(zip(*self.members, strict=True)):
            weight, bias = (np.stack(part) for part in zip(*layers, strict=True))
            if not self.stacked:
                weight, bias = weight[0], bias[0]
            else:
                bias = bias[:, None]
            for kind, part in (("weight", weight), ("bias", bias)):
                state[f"{name}.net.{2 * i}.{kind}"] = torch.from_numpy(part.astype(np.float32))
        return state


@dataclass(frozen=True)
class Networks:
    """What an agent consists of.

    Attributes:
        parts: its networks by their names here.
        log_std: of a policy whose standard deviations are parameters of their own; else None.
        log_alpha: of a learned temperature; else None.
    """

    parts: dict[str, Network]
    log_std: Array | None = None
    log_alpha: float | None = None

    @property
    def policy(self) -> Network:
        """The network that chooses."""
        return self.parts.get("actor", self.parts["critic"])

    @property
    def net_arch(self) -> dict[str, tuple[int, ...]]:
        """The hidden widths, as hyperparameters.

        Raises:
            ConfigError: they are not those of the critics in their targets, too.
        """
        widths = {name: network.sizes[1:-1] for name, network in self.parts.items()}
        for name, hidden in widths.items():
            online = name.removeprefix("target_")
            if hidden != widths[online]:
                raise ConfigError(
                    f"the networks have different hidden layers ({online} {list(widths[online])}, {name} "
                    f"{list(hidden)})",
                    "expected targets of the same widths",
                    "save the model again with Stable-Baselines3",
                )
        critic, actor = widths["critic"], widths.get("actor", widths["critic"])
        return {"net_arch": actor} if actor == critic else {"net_arch": actor, "critic_net_arch": critic}

    def state(self) -> dict[str, Tensor]:
        """The tensors by their names here."""
        state: dict[str, Tensor] = {}
        for name, network in self.parts.items():
            state |= network.tensors(name)
        if self.log_std is not None:
            state["actor.log_std"] = torch.from_numpy(self.log_std.astype(np.float32))
        if self.log_alpha is not None:
            state["temperature.log_alpha"] = torch.tensor(self.log_alpha, dtype=torch.float32)
        return state


def read_networks(
    algorithm: str, tensors: Mapping[str, FloatArray], variables: Mapping[str, FloatArray], where: str
) -> Networks:
    """The networks of a policy.

    Args:
        algorithm: its name here.
        tensors: of `policy.pth`.
        variables: of `pytorch_variables.pth`.
        where: they come from, for messages.

    Raises:
        CheckpointError: a tensor is missing or has an impossible shape.
        ConfigError: there are others than those of fully connected networks.
    """
    taken = _Taken(tensors, where)
    log_std = log_alpha = None
    if algorithm in ON_POLICY:
        policy, value = (taken.layers(f"mlp_extractor.{kind}_net") for kind in ("policy", "value"))
        parts = {
            "actor": Network([[*policy, taken.layer("action_net")]]),
            "critic": Network([[*value, taken.layer("value_net")]]),
        }
        log_std = taken.vector("log_std")
    elif algorithm == "dqn":
        parts = {
            "critic": Network([taken.layers("q_net.q_net")], stacked=True),
            "target_critic": Network([taken.layers("q_net_target.q_net")], stacked=True),
        }
    else:
        parts = {"critic": taken.ensemble("critic.qf"), "target_critic": taken.ensemble("critic_target.qf")}
        if algorithm == "sac":
            mean, spread = taken.layer("actor.mu"), taken.layer("actor.log_std")
            both = np.concatenate((mean[0], spread[0]), 1), np.concatenate((mean[1], spread[1]))
            parts["actor"] = Network([[*taken.layers("actor.latent_pi"), both]])
            temperature = variables.get("log_ent_coef")
            log_alpha = None if temperature is None else float(temperature.ravel()[0])
        else:
            parts["actor"] = Network([taken.layers("actor.mu")])
            parts["target_actor"] = Network([taken.layers("actor_target.mu")])
    taken.require_all()
    for name, network in parts.items():
        _require_chained(name, network, where)
    return Networks(parts, log_std, log_alpha)


def in_units_of_the_bounds(networks: Networks, low: Array, high: Array) -> Networks:
    """An actor of actions in the environment's own unit becomes one of actions in [-1, 1].

    Its last layer and its standard deviations are scaled: m -> 2 (m - low) / (high - low) - 1.
    """
    scale = 2.0 / (high - low)
    *hidden, (weight, bias) = networks.parts["actor"].members[0]
    last = weight * scale, (bias - low) * scale - 1.0
    actor = Network([[*hidden, last]])
    log_std = None if networks.log_std is None else networks.log_std + np.log(scale)
    return Networks(networks.parts | {"actor": actor}, log_std, networks.log_alpha)


def on_raw_observations(networks: Networks, normalisation: Normalisation) -> Networks:
    """Networks of normalised observations become networks of the environment's own."""
    parts = {
        name: Network(
            [[normalisation.into(*layers[0]), *layers[1:]] for layers in network.members], network.stacked
        )
        for name, network in networks.parts.items()
    }
    return Networks(parts, networks.log_std, networks.log_alpha)


class _Taken:
    """The tensors of a policy, each of which has to be taken once."""

    def __init__(self, tensors: Mapping[str, FloatArray], where: str) -> None:
        self.left, self.where = dict(tensors), where

    def vector(self, name: str) -> Array | None:
        vector = self.left.pop(name, None)
        return None if vector is None else vector.astype(np.float64).ravel()

    def layer(self, name: str) -> Layer:
        weight, bias = (self.left.pop(f"{name}.{part}", None) for part in ("weight", "bias"))
        if weight is None or bias is None or weight.ndim != 2 or weight.shape[:1] != bias.shape:
            raise CheckpointError(
                f"{self.where} has no layer {clean(name)}",
                "expected the networks of a policy of Stable-Baselines3",
                "save the model again with Stable-Baselines3 1.0 or later",
            )
        return weight.T.astype(np.float64), bias.astype(np.float64)

    def layers(self, name: str) -> list[Layer]:
        """The layers of a sequence that has an activation after each; there may be none."""
        layers: list[Layer] = []
        while f"{name}.{2 * len(layers)}.weight" in self.left:
            layers.append(self.layer(f"{name}.{2 * len(layers)}"))
        return layers

    def ensemble(self, name: str) -> Network:
        members: list[list[Layer]] = []
        while layers := self.layers(f"{name}{len(members)}"):
            members.append(layers)
        if not members:
            self.layer(f"{name}0.0")  # raises
        return Network(members, stacked=True)

    def require_all(self) -> None:
        """Refuse tensors that nobody has taken: a network of another kind."""
        if self.left:
            some = ", ".join(map(clean, sorted(self.left)[:3]))
            raise ConfigError(
                f"{self.where} has {len(self.left)} tensors that no network here has a place for ({some})",
                "expected fully connected layers alone: no features extractor with weights of its own (CnnPolicy) "
                "and no normalisation layers",
                "train such a policy here from the start",
            )


def _require_chained(name: str, network: Network, where: str) -> None:
    shapes = [[weight.shape for weight, _ in layers] for layers in network.members]
    chained = all(a[1] == b[0] for layers in shapes for a, b in pairwise(layers))
    if not chained or any(layers != shapes[0] for layers in shapes) or math.prod(network.sizes) == 0:
        raise CheckpointError(
            f"the layers of {name} in {where} do not fit on each other",
            "expected the networks of a policy of Stable-Baselines3",
            "save the model again",
        )
