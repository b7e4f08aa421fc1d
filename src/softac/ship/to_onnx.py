"""A policy as an ONNX file, written node by node.

PyTorch's own exporter leaves paths of the machine and stack traces in the file and needs a further package. Opset
13 and IR 7 are what onnxruntime reads since 1.6.

    inputs    one for each array of the observation, "observation" or "observation/key", `[batch, ...]`
    outputs   "action" `[batch, ...]`, as the environment takes it
              "valid" `[batch, 1]`, whether the observation was finite and its categories known; if not, the action
              is the one within the bounds that is nearest to 0, or the first
    metadata  softac, algorithm, environment, step, networks_sha256; spaces and vectors as JSON
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from softac.envs.borders import Leaf
from softac.errors import ConfigError
from softac.nets.operations import Operation
from softac.ship.description import FORMAT, Policy

FILE = "policy.onnx"
OPSET, IR = 13, 7
LARGEST = 1e30  # sum of an observation's magnitudes; beyond it, what follows may not be finite any more


def files(policy: Policy) -> dict[str, bytes]:
    """The content of the file by its name.

    Raises:
        ConfigError: an observation or action of a type that ONNX does not have.
    """
    graph = _Graph()
    inputs = [graph.input(leaf) for leaf in policy.leaves]
    flat = graph.joined([graph.flattened(leaf) for leaf in policy.leaves])
    names: dict[Operation, str] = {policy.operations[0]: flat}
    for operation in policy.operations[1:]:
        names[operation] = PRINTERS[operation.kind](graph, operation, *(names[x] for x in operation.inputs))
    graph.act(policy, names[policy.result], graph.valid(policy, flat))
    kind = _onnx_type(policy.action.dtype, "actions")
    outputs = [
        helper.make_tensor_value_info("action", kind, ["batch", *policy.action.shape]),
        helper.make_tensor_value_info("valid", TensorProto.BOOL, ["batch", 1]),
    ]
    made = helper.make_graph(graph.nodes, "policy", inputs, outputs, list(graph.constants.values()))
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=IR, producer_name="softac")
    helper.set_model_props(model, _metadata(policy))
    onnx.checker.check_model(model, full_check=True)
    return {FILE: model.SerializeToString(deterministic=True)}


def _metadata(policy: Policy) -> dict[str, str]:
    vectors = {leaf.name: x.tolist() for leaf, x in zip(policy.leaves, policy.vectors.inputs, strict=True)}
    return {name: str(value) for name, value in policy.about.items()} | {
        "format": FORMAT,
        "spaces": json.dumps(policy.spaces),
        "vectors": json.dumps(vectors | {"action": policy.vectors.actions.tolist()}),
    }


class _Graph:
    """Nodes and constants as they come; a value is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], Any] = {}

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """The name of a constant; equal ones are kept once."""
        array = np.ascontiguousarray(values, dtype)
        key = (str(array.dtype), np.shape(values), array.tobytes())
        if key not in self.constants:
            name = f"constant_{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(array.reshape(np.shape(values)), name)
        found: str = self.constants[key].name
        return found

    def input(self, leaf: Leaf) -> Any:
        """The declaration of an array of the observation."""
        kind = _onnx_type(leaf.dtype, leaf.name)
        return helper.make_tensor_value_info(leaf.name, kind, ["batch", *leaf.shape])

    def flattened(self, leaf: Leaf) -> str:
        """Its numbers, or one-hot categories, as float32 `[batch, width]`."""
        value = leaf.name if len(leaf.shape) == 1 else self.node("Flatten", leaf.name, axis=1)
        if not leaf.categories:
            return value if leaf.dtype == "float32" else self.node("Cast", value, to=TensorProto.FLOAT)
        column = np.repeat(np.arange(leaf.size), leaf.categories)
        known = np.concatenate([s + np.arange(n) for s, n in zip(leaf.starts, leaf.categories, strict=True)])
        value = value if leaf.dtype == "int64" else self.node("Cast", value, to=TensorProto.INT64)
        repeated = self.node("Gather", value, self.constant(column, np.int64), axis=1)
        same = self.node("Equal", repeated, self.constant(known, np.int64))
        return self.node("Cast", same, to=TensorProto.FLOAT)

    def joined(self, parts: list[str]) -> str:
        """Several values side by side."""
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=1)

    def valid(self, policy: Policy, flat: str) -> str:
        """Whether the observation is finite and its categories known, `[batch, 1]`."""
        hot = np.concatenate([np.full(leaf.width, bool(leaf.categories)) for leaf in policy.leaves])
        size = self.node("ReduceL1", flat, axes=[1], keepdims=1)
        valid = self.node("Less", size, self.constant(LARGEST), output=None if hot.any() else "valid")
        if hot.any():  # as many ones as there are categories to be known
            count = self.node("Gemm", flat, self.constant(hot[:, None]))
            wanted = float(sum(leaf.size for leaf in policy.leaves if leaf.categories)) - 0.5
            valid = self.node("And", valid, self.node("Greater", count, self.constant(wanted)), output="valid")
        return valid

    def act(self, policy: Policy, result: str, valid: str) -> None:
        """The outputs."""
        action = policy.action
        if action.n:
            chosen = self.node("Where", valid, result, self.constant(0, np.int64))
            counted = self.node("Add", chosen, self.constant(action.start, np.int64))
            value, arithmetic = counted, "int64"
        else:
            arithmetic = "float64" if policy.in_double else "float32"
            low, high = np.array(action.low), np.array(action.high)
            value = self.node("Cast", result, to=TensorProto.DOUBLE) if policy.in_double else result
            half = 0.5 * (high - low)
            if (half != 1.0).any():
                value = self.node("Mul", value, self.constant(half, arithmetic))
            if (low + half != 0.0).any():
                value = self.node("Add", value, self.constant(low + half, arithmetic))
            value = self.cut(value, low, high, arithmetic)
            value = self.node("Where", valid, value, self.constant(action.resting.ravel(), arithmetic))
        if len(action.shape) != 1:
            value = self.node("Reshape", value, self.constant([-1, *action.shape], np.int64))
        if arithmetic != action.dtype:
            value = self.node("Cast", value, to=_onnx_type(action.dtype, "actions"))
        self.nodes[-1].output[0] = "action"

    def cut(self, value: str, low: Any, high: Any, dtype: Any = np.float32) -> str:
        """A value cut to its bounds."""
        if (low == low[0]).all() and (high == high[0]).all():
            return self.node("Clip", value, self.constant(low[0], dtype), self.constant(high[0], dtype))
        return self.node("Min", self.node("Max", value, self.constant(low, dtype)), self.constant(high, dtype))


def _convolution(graph: _Graph, operation: Operation, x: str) -> str:
    (weight, bias), n = operation.arrays.values(), operation.numbers
    shape = graph.constant([-1, n["height"], n["width"], weight.shape[2]], np.int64)
    image = graph.node("Transpose", graph.node("Reshape", x, shape), perm=[0, 3, 1, 2])
    kernel = graph.constant(weight.transpose(3, 2, 0, 1))
    found = graph.node("Conv", image, kernel, graph.constant(bias), strides=[n["stride"]] * 2)
    return graph.node("Flatten", graph.node("Transpose", found, perm=[0, 2, 3, 1]), axis=1)


def _mixture_density(graph: _Graph, operation: Operation, logits: str, means: str, log_stds: str) -> str:
    k = operation.width
    d = operation.inputs[1].width // k
    at = graph.node("Reshape", means, graph.constant([-1, k, 1, d], np.int64))
    mean = graph.node("Reshape", means, graph.constant([-1, 1, k, d], np.int64))
    log_std = graph.node("Reshape", log_stds, graph.constant([-1, 1, k, d], np.int64))
    weight = graph.node("Reshape", logits, graph.constant([-1, 1, k], np.int64))
    z = graph.node("Mul", graph.node("Sub", at, mean), graph.node("Exp", graph.node("Neg", log_std)))
    square = graph.node("Mul", graph.node("Mul", z, z), graph.constant(0.5))
    loss = graph.node("ReduceSum", graph.node("Add", square, log_std), graph.constant([3], np.int64), keepdims=0)
    log = graph.node("Sub", weight, loss)
    terms = graph.node("Exp", graph.node("Sub", log, graph.node("ReduceMax", log, axes=[1, 2], keepdims=1)))
    return graph.node("ReduceSum", terms, graph.constant([2], np.int64), keepdims=0)


def _choose(graph: _Graph, operation: Operation, scores: str, options: str) -> str:
    shape = graph.constant([-1, operation.inputs[0].width, operation.width], np.int64)
    best = graph.node("ArgMax", scores, axis=1, keepdims=1)
    return graph.node("GatherND", graph.node("Reshape", options, shape), best, batch_dims=1)


def _part(graph: _Graph, operation: Operation, x: str) -> str:
    start, stop = (graph.constant([operation.numbers[name]], np.int64) for name in ("start", "stop"))
    return graph.node("Slice", x, start, stop, graph.constant([1], np.int64))


def _scale(graph: _Graph, operation: Operation, x: str) -> str:
    centre, factor, shift = _constants(graph, operation)
    return graph.node("Add", graph.node("Mul", graph.node("Sub", x, centre), factor), shift)


def _standardise(graph: _Graph, _: Operation, x: str) -> str:
    centred = graph.node("Sub", x, graph.node("ReduceMean", x, axes=[1], keepdims=1))
    variance = graph.node("ReduceMean", graph.node("Mul", centred, centred), axes=[1], keepdims=1)
    return graph.node("Div", centred, graph.node("Sqrt", graph.node("Add", variance, graph.constant(1e-5))))


def _constants(graph: _Graph, operation: Operation) -> list[str]:
    return [graph.constant(array) for array in operation.arrays.values()]


PRINTERS: dict[str, Callable[..., str]] = {
    "affine": lambda graph, op, x: graph.node("Gemm", x, *_constants(graph, op)),
    "convolution": _convolution,
    "scale": _scale,
    "clip": lambda graph, op, x: graph.cut(x, op.arrays["low"], op.arrays["high"]),
    "relu": lambda graph, _, x: graph.node("Relu", x),
    "tanh": lambda graph, _, x: graph.node("Tanh", x),
    "elu": lambda graph, _, x: graph.node("Elu", x),
    "silu": lambda graph, _, x: graph.node("Mul", x, graph.node("Sigmoid", x)),
    "standardise": _standardise,
    "concat": lambda graph, _, *parts: graph.joined(list(parts)),
    "part": _part,
    "add": lambda graph, _, x, y: graph.node("Add", x, y),
    "subtract": lambda graph, _, x, y: graph.node("Sub", x, y),
    "mean": lambda graph, _, x: graph.node("ReduceMean", x, axes=[1], keepdims=1),
    "minimum": lambda graph, _, *parts: graph.node("Min", *parts),
    "mixture_density": _mixture_density,
    "choose": _choose,
    "argmax": lambda graph, _, x: graph.node("ArgMax", x, axis=1, keepdims=1),
}


def _onnx_type(dtype: str, what: str) -> int:
    try:
        return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    except (KeyError, ValueError):
        raise ConfigError(
            f"{what} are of type {dtype}, which ONNX does not have",
            "expected floats of at most 64 bits, integers or booleans",
            "declare the space with dtype=np.float32, or export with --to numpy",
        ) from None
