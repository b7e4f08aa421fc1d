"""What a deterministic policy computes, as plain operations from which programs without PyTorch are written.

    x = observation(17)
    x = relu(affine(x, weight, bias))
    action = tanh(affine(x, ...))

An operation takes vectors of float32 and gives one. An agent that can say its policy in these (a method
`operations`, see `softac.ship.description.Exportable`) can be exported to everything that `softac.ship` writes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from softac.errors import ConfigError
from softac.types import FloatArray

WIDEST = 10_000_000
FAR_BELOW = 1e30


@dataclass(frozen=True, eq=False)
class Operation:
    """One step of a computation; made by the functions below.

    Attributes:
        kind: the name of the function that made it.
        inputs: the operations whose results it takes.
        width: how many numbers its result has.
        arrays: its constant arrays, float32, by the name of the argument.
        numbers: its other arguments.
    """

    kind: str
    inputs: tuple["Operation", ...]
    width: int
    arrays: dict[str, FloatArray] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)


def observation(width: int) -> Operation:
    """The flattened observation; the first operation of every policy."""
    return Operation("observation", (), _sane(width), numbers={"width": width})


def affine(x: Operation, weight: Any, bias: Any) -> Operation:
    """The affine map x W + b, with `weight` `[n_in, n_out]` and `bias` `[n_out]`."""
    w, b = _constant(weight), _constant(bias).reshape(-1)
    if w.ndim != 2 or w.shape[0] != x.width or w.shape[1] != len(b):
        raise _misfit("affine", f"{x.width} numbers, weights {list(w.shape)} and {len(b)} biases", "[n, m] and m")
    return Operation("affine", (x,), len(b), {"weight": w, "bias": b})


def convolution(x: Operation, weight: Any, bias: Any, height: int, width: int, stride: int) -> Operation:
    """A convolution without padding: an image `[height, width, C]` becomes `[height', width', C']`, in C order.

    Args:
        x: the image.
        weight: `[k, k, C, C']`.
        bias: `[C']`.
        height: of the image, in pixels.
        width: of the image, in pixels.
        stride: in pixels.
    """
    w, b = _constant(weight), _constant(bias).reshape(-1)
    kernel = w.shape[0] if w.ndim == 4 and w.shape[:1] == w.shape[1:2] else 0
    if not 1 <= kernel <= min(height, width) or stride < 1 or x.width != height * width * w.shape[2]:
        given = f"{x.width} numbers as {height} x {width} pixels and weights {list(w.shape)}, stride {stride}"
        raise _misfit("convolution", given, "height width C and [k, k, C, m], k within the image")
    if w.shape[3] != len(b):
        raise _misfit("convolution", f"weights {list(w.shape)} and {len(b)} biases", "[k, k, C, m] and m")
    pixels = ((height - kernel) // stride + 1) * ((width - kernel) // stride + 1)
    numbers = {"height": height, "width": width, "stride": stride}
    return Operation("convolution", (x,), _sane(pixels * len(b)), {"weight": w, "bias": b}, numbers)


def scale(x: Operation, centre: Any, factor: Any, shift: Any) -> Operation:
    """(x - centre) factor + shift, number by number: a normalisation whose statistics stand still.

    Behind an affine map it becomes part of it.
    """
    c, f, s = (_row(values, x, "scale") for values in (centre, factor, shift))
    if x.kind == "affine":
        weight, bias = (x.arrays[name].astype(np.float64) for name in ("weight", "bias"))
        return affine(x.inputs[0], weight * f, (bias - c) * f + s)
    return Operation("scale", (x,), x.width, {"centre": c, "factor": f, "shift": s})


def clip(x: Operation, low: Any, high: Any) -> Operation:
    """Each number cut to its bounds."""
    lo, hi = _row(low, x, "clip"), _row(high, x, "clip")
    if not (lo <= hi).all():
        raise _misfit("clip", "a lower bound above the upper one", "low <= high")
    return Operation("clip", (x,), x.width, {"low": lo, "high": hi})


def relu(x: Operation) -> Operation:
    """max(x, 0)."""
    return Operation("relu", (x,), x.width)


def tanh(x: Operation) -> Operation:
    """The hyperbolic tangent of each number."""
    return Operation("tanh", (x,), x.width)


def elu(x: Operation) -> Operation:
    """X where it is positive, else e^x - 1."""
    return Operation("elu", (x,), x.width)


def silu(x: Operation) -> Operation:
    """X / (1 + e^-x)."""
    return Operation("silu", (x,), x.width)


def standardise(x: Operation) -> Operation:
    """(x - mean) / sqrt(variance + 1e-5), over all numbers of x."""
    return Operation("standardise", (x,), x.width)


def concat(*parts: Operation) -> Operation:
    """The numbers of all, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Operation("concat", parts, _sane(sum(part.width for part in parts)))


def part(x: Operation, start: int, stop: int) -> Operation:
    """Numbers `start` to `stop` (excluded). Of an affine map, the map that gives these alone."""
    if not 0 <= start < stop <= x.width:
        raise _misfit("part", f"numbers {start} to {stop} of {x.width}", "a range within them")
    if (start, stop) == (0, x.width):
        return x
    if x.kind == "affine":
        return affine(x.inputs[0], x.arrays["weight"][:, start:stop], x.arrays["bias"][start:stop])
    return Operation("part", (x,), stop - start, numbers={"start": start, "stop": stop})


def add(x: Operation, y: Operation) -> Operation:
    """X + y; one of them may be a single number."""
    return Operation("add", (x, y), _common(x, y, "add"))


def subtract(x: Operation, y: Operation) -> Operation:
    """X - y; one of them may be a single number."""
    return Operation("subtract", (x, y), _common(x, y, "subtract"))


def forbid(scores: Operation, mask: Operation) -> Operation:
    """The scores, far below all others where the mask is 0 (files have no infinity); as they are where it is 1."""
    return add(scores, scale(mask, 1.0, FAR_BELOW, 0.0))


def mean(x: Operation) -> Operation:
    """The mean of all numbers, one number."""
    return Operation("mean", (x,), 1)


def minimum(*parts: Operation) -> Operation:
    """The least of all, number by number."""
    if len(parts) == 1:
        return parts[0]
    if len({x.width for x in parts}) != 1:
        raise _misfit("minimum", f"{[x.width for x in parts]} numbers", "as many of each")
    return Operation("minimum", parts, parts[0].width)


def mixture_density(logits: Operation, means: Operation, log_stds: Operation) -> Operation:
    """The density of a Gaussian mixture at each of its K means, relative to the largest term: `[K]`.

    `logits` `[K]`; `means` and `log_stds` `[K D]`, component by component. The score of component m is
    sum_k exp(l_mk - max l) with l_mk = logit_k + log N(mean_m; mean_k, std_k^2), constants left out.
    """
    if means.width != log_stds.width or means.width % logits.width:
        raise _misfit(
            "mixture_density",
            f"{logits.width} logits, {means.width} means, {log_stds.width} log stds",
            "K, K D, K D",
        )
    return Operation("mixture_density", (logits, means, log_stds), logits.width)


def choose(scores: Operation, options: Operation) -> Operation:
    """The option with the largest score, the first of equals: `scores` `[K]`, `options` `[K A]` to `[A]`."""
    if options.width % scores.width:
        raise _misfit("choose", f"{scores.width} scores and {options.width} numbers", "as many for each option")
    return Operation("choose", (scores, options), options.width // scores.width)


def argmax(scores: Operation) -> Operation:
    """The index of the largest score, the first of equals: the last operation of a discrete policy."""
    return Operation("argmax", (scores,), 1)


FUNCTIONS: dict[str, Callable[..., Operation]] = {
    f.__name__: f
    for f in (observation, affine, convolution, scale, clip, relu, tanh, elu, silu, standardise, concat, part, add)
} | {f.__name__: f for f in (subtract, mean, minimum, mixture_density, choose, argmax)}


def in_order(result: Operation) -> list[Operation]:
    """All operations that `result` needs, each after its inputs, `result` last."""
    order: dict[Operation, None] = {}
    waiting = [result]
    while waiting:
        operation = waiting[-1]
        missing = [x for x in operation.inputs if x not in order]
        waiting += reversed(missing)
        if not missing:
            order.setdefault(waiting.pop())
    return list(order)


def _constant(values: Any) -> FloatArray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise _misfit("an operation", "numbers that are not finite", "finite ones")
    return array


def _row(values: Any, x: Operation, what: str) -> FloatArray:
    array = _constant(values).reshape(-1)
    if len(array) not in (1, x.width):
        raise _misfit(what, f"{x.width} numbers and {len(array)} constants", "one for each, or one for all")
    return np.ascontiguousarray(np.broadcast_to(array, (x.width,)))


def _common(x: Operation, y: Operation, what: str) -> int:
    if x.width != y.width and 1 not in (x.width, y.width):
        raise _misfit(what, f"{x.width} and {y.width} numbers", "as many of each, or one")
    return max(x.width, y.width)


def _sane(width: int) -> int:
    if not 0 < width <= WIDEST:
        raise _misfit("an operation", f"{width} numbers", f"1 to {WIDEST:,}")
    return width


def _misfit(what: str, given: str, expected: str) -> ConfigError:
    return ConfigError(f"{what} was given {given}", f"expected {expected}", "correct the agent's `operations`")
