"""A policy exported by softac, in NumPy alone.

    from policy import Policy

    policy = Policy()                # reads policy.safetensors beside this file
    action = policy(observation)     # one observation as the environment returns it, or a batch of them

The action is the environment's own: within its bounds, of its shape and dtype. `python policy.py` says where the
policy comes from and compares it with actions that the trained agent gave.
"""

import json
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).with_name("policy.safetensors")
DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BOOL": "?", "U8": "u1", "I8": "i1"} | {
    f"{kind}{bits}": f"<{kind.lower()}{bits // 8}" for kind in "IU" for bits in (16, 32, 64)
}

NOT_FINITE = "the observation, or what the policy makes of it, is not finite"


class Policy:
    """The deterministic policy; call it with an observation.

    Attributes:
        about: where it comes from: algorithm, environment, step, version, SHA-256 of the networks.
    """

    def __init__(self, path: str | Path = HERE) -> None:
        self.tensors, policy = read(Path(path).read_bytes())
        self.about, action = policy["about"], policy["action"]
        self.leaves = [leaf | {"shape": tuple(leaf["shape"])} for leaf in policy["leaves"]]
        self.shape, self.dtype = tuple(action["shape"]), np.dtype(action["dtype"])
        self.low, self.high = np.array(action["low"]), np.array(action["high"])
        self.half, self.middle = 0.5 * (self.high - self.low), 0.5 * (self.low + self.high)
        self.discrete, self.start = action["n"] > 0, action["start"]
        self.steps = [
            (prepared(step, self.tensors), step["inputs"])
            for step in policy["operations"]
            if step["kind"] not in ("observation", "argmax")
        ]

    def __call__(self, observation: Any) -> Any:
        """The action for one observation `[...]`, or those for a batch of them `[B, ...]`.

        Raises:
            ValueError: an observation of another shape, an unknown category, or numbers that are not finite.
        """
        parts = [flat(leaf, observation) for leaf in self.leaves]
        values = [parts[0] if len(parts) == 1 else np.concatenate(parts, -1)]
        if not np.isfinite(values[0]).all():  # of which tanh and clip make numbers
            raise ValueError(NOT_FINITE)
        for function, inputs in self.steps:
            values.append(function(*[values[i] for i in inputs]))
        result = values[-1]
        if not isfinite(result.sum()):
            raise ValueError(NOT_FINITE)
        if self.discrete:
            return self.dtype.type(self.start) + result.argmax(-1).astype(self.dtype)
        scaled = self.middle + result * self.half  # in float64
        # Cut before it is rounded: what lies far beyond may be too large for the dtype.
        cut = np.minimum(np.maximum(scaled, self.low), self.high)
        return cut.reshape(result.shape[:-1] + self.shape).astype(self.dtype)


def flat(leaf: dict[str, Any], observation: Any) -> Any:
    """One array of an observation, or of a batch of them, as rows of float32."""
    for key in leaf["path"]:
        observation = observation[key]
    categories, shape = leaf["categories"], leaf["shape"]
    array = np.asarray(observation, None if categories else np.float32)
    lead = array.shape[: array.ndim - len(shape)]
    if array.shape != lead + shape or len(lead) > 1:
        raise ValueError(f"{leaf['name']} has shape {array.shape}; expected {shape}, or a batch of such")
    if not categories:
        return array if len(shape) == 1 else array.reshape((*lead, -1))
    values = array.reshape((*lead, -1)) - np.array(leaf["starts"])
    if not ((values >= 0) & (values < np.array(categories))).all():
        raise ValueError(f"{leaf['name']} is {array}, which is not one of its categories")
    hot = [np.arange(k) == values[..., i, None] for i, k in enumerate(categories)]
    return np.concatenate(hot, -1).astype(np.float32)


def convolution(weight: Any, bias: Any, height: int, width: int, stride: int) -> Callable[[Any], Any]:
    """From images `[..., height, width, C]` to `[..., height', width', C']`, each as a row of numbers."""
    kernel, _, channels, n = weight.shape
    flat = weight.transpose(2, 0, 1, 3).reshape(-1, n)

    def apply(x: Any) -> Any:
        image = x.reshape(-1, height, width, channels)
        windows = np.lib.stride_tricks.sliding_window_view(image, (kernel, kernel), (1, 2))
        patches = windows[:, ::stride, ::stride].reshape(-1, len(flat))
        return (patches.dot(flat) + bias).reshape((*x.shape[:-1], -1))

    return apply


def mixture_density(logits: Any, means: Any, log_stds: Any) -> Any:
    """The density of a Gaussian mixture at its means, relative to the largest term, `[..., K]`."""
    each = (*logits.shape, -1)
    m, k = means.reshape(each)[..., :, None, :], means.reshape(each)[..., None, :, :]
    log_std = log_stds.reshape(each)[..., None, :, :]
    log = logits[..., None, :] - (0.5 * ((m - k) * np.exp(-log_std)) ** 2 + log_std).sum(-1)
    return np.exp(log - log.max((-2, -1), keepdims=True)).sum(-1)


def choose(scores: Any, options: Any) -> Any:
    """The option with the largest score."""
    best = scores.argmax(-1)[..., None, None]
    return np.take_along_axis(options.reshape((*scores.shape, -1)), best, -2)[..., 0, :]


OPERATIONS: dict[str, Callable[..., Callable[..., Any]]] = {
    "affine": lambda weight, bias: lambda x: x.dot(weight) + bias,
    "convolution": convolution,
    "scale": lambda centre, factor, shift: lambda x: (x - centre) * factor + shift,
    "clip": lambda low, high: lambda x: np.minimum(np.maximum(x, low), high),
    "relu": lambda: lambda x: np.maximum(x, 0),
    "tanh": lambda: np.tanh,
    "elu": lambda: lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "silu": lambda: lambda x: x / (1 + np.exp(-np.maximum(x, -80))),
    "standardise": lambda: lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5),
    "concat": lambda: lambda *parts: np.concatenate(parts, -1),
    "part": lambda start, stop: lambda x: x[..., start:stop],
    "add": lambda: np.add,
    "subtract": lambda: np.subtract,
    "mean": lambda: lambda x: x.mean(-1, keepdims=True),
    "minimum": lambda: lambda *parts: np.minimum.reduce(parts),
    "mixture_density": lambda: mixture_density,
    "choose": lambda: choose,
}


def prepared(step: dict[str, Any], tensors: dict[str, Any]) -> Callable[..., Any]:
    """An operation with its constants, to be called with its inputs."""
    arrays = {name: tensors[key] for name, key in step["arrays"].items()}
    return OPERATIONS[step["kind"]](**arrays, **step["numbers"])


def read(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a safetensors file and the policy that its metadata describes."""
    stop = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:stop])
    policy = json.loads(header.pop("__metadata__")["policy"])
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[stop + first : stop + last], DTYPES[entry["dtype"]]).reshape(
            entry["shape"]
        )
    return tensors, policy


def main() -> int:
    """Compare with the agent's actions in the file; 0 if they agree to 1e-5 of the bounds' width."""
    policy = Policy()
    inputs = [policy.tensors[f"vectors.{leaf['name']}"] for leaf in policy.leaves]
    expected = policy.tensors["vectors.action"].astype(np.float64)
    # One array may be the whole observation; otherwise they are put back where they were.
    wrong = 0
    for i, action in enumerate(expected):
        observation = nested([(leaf["path"], array[i]) for leaf, array in zip(policy.leaves, inputs, strict=True)])
        tolerance = 0 if policy.discrete else 1e-5 * (policy.high - policy.low).reshape(policy.shape)
        step = 0 if policy.discrete else np.spacing(abs(action).astype(policy.dtype))
        wrong += not (abs(policy(observation) - action) <= np.maximum(tolerance, step)).all()
    print(json.dumps(policy.about, indent=1))  # noqa: T201
    print(f"{len(expected) - wrong} of {len(expected)} actions as the agent gave them")  # noqa: T201
    return int(wrong > 0)


def nested(parts: list[tuple[list[str | int], Any]]) -> Any:
    """Arrays as the observation they are the parts of; a Tuple becomes a dictionary by number."""
    if len(parts) == 1 and not parts[0][0]:
        return parts[0][1]
    keys = dict.fromkeys(path[0] for path, _ in parts)
    return {key: nested([(path[1:], x) for path, x in parts if path[0] == key]) for key in keys}


if __name__ == "__main__":
    raise SystemExit(main())
