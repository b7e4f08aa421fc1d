"""A deterministic policy from the environment's own observation to its own action, as plain data.

    leaves      what the observation consists of, one input each: cast, one-hot, flattened
    result      operations on the flattened observation: numbers in [-1, 1], or the index of the largest score
    action      scaled to the bounds and cut there, or counted from the start; in the environment's dtype
    about       where it comes from

`softac.ship.to_onnx`, `to_numpy` and `to_c` print it.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import safetensors.torch
from numpy.typing import NDArray

from softac._version import __version__
from softac.agents.registry import algorithm_name
from softac.envs.borders import ActionForm, Leaf, action_form, draw, leaves, part_of
from softac.envs.flat import item
from softac.envs.masks import allowing_some
from softac.errors import ConfigError
from softac.learning.learner import Learner
from softac.model import Model
from softac.nets import as_operations
from softac.nets.operations import Operation, in_order, observation
from softac.run.checkpoint import OPTIM_PREFIX
from softac.types import FloatArray

FORMAT = "softac-policy-1"
VECTORS = 8  # test vectors in each file
CLOSE = 1e-5  # of the width of an action's bounds
FAR = 8.0  # bounds that lie this many of their widths from 0 need more digits than float32 has


class Exportable(Protocol):
    """What an agent offers to be exported where it does not act as its learner `actor` does."""

    def operations(self, obs: Operation, /) -> Operation:
        """What `act(obs, None)` computes, of `softac.nets.operations`.

        The result has one number for each coordinate of an action, or is an `argmax` where actions are discrete.
        """
        ...


@dataclass(frozen=True)
class Vectors:
    """Observations, one array for each leaf, and the actions that the agent gave for them."""

    inputs: list[NDArray[Any]]
    actions: NDArray[Any]


@dataclass(frozen=True)
class Policy:
    """A policy as it is exported; see the module.

    Attributes:
        leaves: the arrays of an observation that are not empty, in the order in which they are flattened.
        result: the last operation.
        action: the form of an action.
        spaces: both spaces, as `Spaces.to_json` writes them.
        about: softac's version, algorithm, environment, step, SHA-256 of the networks.
        vectors: for whoever wants to test a file.
    """

    leaves: list[Leaf]
    result: Operation
    action: ActionForm
    spaces: dict[str, Any]
    about: dict[str, Any]
    vectors: Vectors

    @cached_property
    def operations(self) -> list[Operation]:
        """All operations, each after its inputs."""
        return in_order(self.result)

    @cached_property
    def constants(self) -> dict[str, FloatArray]:
        """The constant arrays of all operations by name, equal ones once."""
        return {name: array for array, name in self._named.values()}

    def constant(self, array: FloatArray) -> str:
        """The name of a constant array."""
        return self._named[_key(array)][1]

    @cached_property
    def _named(self) -> dict[tuple[tuple[int, ...], bytes], tuple[FloatArray, str]]:
        found: dict[tuple[tuple[int, ...], bytes], tuple[FloatArray, str]] = {}
        for operation in self.operations:
            for argument, array in operation.arrays.items():
                found.setdefault(_key(array), (array, f"{argument}_{len(found)}"))
        return found

    def tolerance(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        """How far exported actions may be from `actions`, for each number of each.

        1e-5 of the bounds' width, or one step of the action's dtype where that is more; discrete: 0.
        """
        if self.action.n:
            return np.zeros(actions.shape)
        width = (np.array(self.action.high) - self.action.low).reshape(self.action.shape)
        step = np.spacing(np.abs(actions).astype(self.action.dtype)).astype(np.float64)
        tolerance: NDArray[np.float64] = np.maximum(CLOSE * width, step)
        return tolerance

    @cached_property
    def in_double(self) -> bool:
        """Whether scaling actions to their bounds takes more digits than float32 has."""
        low, high = np.array(self.action.low), np.array(self.action.high)
        far = np.maximum(abs(low), abs(high)) > FAR * (high - low)
        return self.action.dtype not in ("float16", "float32") or bool(far.any())


def _operations(agent: Any, name: str, obs: Operation) -> Operation:
    """What `act(obs, None)` computes: what the agent says, or what its actor does."""
    if hasattr(agent, "operations"):
        own: Operation = agent.operations(obs)
        return own
    if isinstance(actor := getattr(agent, "actor", None), Learner):
        return as_operations(actor.module, obs)
    raise ConfigError(
        f"{name} does not say what it computes",
        "expected a learner `actor` whose module is the policy, or a method operations(obs)",
        "write one of softac.nets.operations, as in the guide on export",
    )


def describe(model: Model) -> Policy:
    """The deterministic policy of a model.

    Raises:
        ConfigError: its agent does not say what it computes, or says what cannot be.
    """
    agent, spaces = model.agent, model.spaces
    name = algorithm_name(type(agent))
    if spaces.spec.actions == "multi_discrete":
        raise ConfigError(
            f"{name} makes {len(spaces.spec.choices)} choices at once",
            "expected coordinates or a single choice, which is what exported files have",
            "let it act where softac is: Model.load and predict",
        )
    result = _operations(agent, name, observation(spaces.spec.obs_dim))
    action = action_form(spaces)
    if (result.kind == "argmax") != bool(action.n) or result.width != spaces.spec.action_dim:
        raise ConfigError(
            f"the operations of {name} end with {result.kind} of {result.width} numbers",
            "expected argmax" if action.n else f"expected {spaces.spec.action_dim} numbers",
            "correct its method `operations`",
        )
    found = [leaf for leaf in leaves(spaces.observation_space) if leaf.width]
    for leaf in found:
        _require_written(leaf.name)
    about = {
        "softac": __version__,
        "algorithm": name,
        "environment": model.source.name,
        "step": model.num_timesteps,
        "networks_sha256": _sha256(model),
    }
    vectors = Vectors(*asked(model, found, VECTORS, np.random.default_rng(0)))
    return Policy(found, result, action, spaces.to_json(), about, vectors)


def _require_written(name: str) -> None:
    """Refuse the name of an array that has halves of characters, with which no file can be written."""
    if name != name.encode(errors="ignore").decode():
        raise ConfigError(
            f"an array of observations is called {name!r}",
            "expected keys that can be written in UTF-8",
            "rename it with gymnasium.wrappers.TransformObservation",
        )


def asked(
    model: Model, found: list[Leaf], n: int, generator: np.random.Generator
) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """`n` observations of the model's space, an array for each leaf, and what `predict` answers to each.

    One at a time: for many at once, a model may round to bfloat16.
    """
    space = model.spaces.observation_space
    obs = allowing_some(model.spaces.spec, draw(space, n, generator))
    actions = [model.predict(item(space, obs, i), deterministic=True)[0] for i in range(n)]
    return [np.asarray(part_of(obs, leaf.path)) for leaf in found], np.stack(actions)


def _key(array: FloatArray) -> tuple[tuple[int, ...], bytes]:
    return array.shape, array.tobytes()


def _sha256(model: Model) -> str:
    """The hash of the networks as a checkpoint writes them: that of its `networks.safetensors`."""
    state = model.agent.tensors()
    networks = {name: tensor for name, tensor in state.items() if not name.startswith(OPTIM_PREFIX)}
    return hashlib.sha256(safetensors.torch.save(networks)).hexdigest()
