"""A policy as C99 without allocation or libraries: `policy.c`, `policy.h`, and `check.c` with test vectors."""

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files as resources
from itertools import chain, count
from typing import Any

import numpy as np

from softac.envs.borders import Leaf
from softac.errors import ConfigError
from softac.nets.operations import Operation
from softac.ship.description import Policy

SOURCE, HEADER, CHECK = "policy.c", "policy.h", "check.c"
TYPES = {"float16": "float", "float32": "float", "float64": "double", "bool": "uint8_t"} | {
    f"{u}int{bits}": f"{u}int{bits}_t" for u in ("", "u") for bits in (8, 16, 32, 64)
}
IN_PLACE = ("scale", "clip", "relu", "tanh", "elu", "silu", "standardise")
NEEDS = {  # kernels that a kernel calls
    "affine": ("accumulate", "affine"),
    "convolution": ("accumulate", "convolution"),
    "tanh": ("exponential", "hyperbolic_tangent"),
    "elu": ("exponential", "elu"),
    "silu": ("exponential", "silu"),
    "standardise": ("inverse_root", "standardise"),
    "mixture_density": ("exponential", "log_term", "mixture_density"),
    "choose": ("argmax", "choose"),
    "subtract": ("add",),
}
A_LINE = 8  # numbers

HEADER_TEXT = """\
/* A policy trained with softac. {title}
 *
 * {function} writes the action for one observation and returns POLICY_OK, or a flag if there is no knowing what to
 * do; the action is then {resting}. It is always within the bounds.
 * It keeps nothing, allocates nothing, calls nothing, and needs about {stack:,} bytes of stack.
 *
 * {about}
 * {spaces}
 */
#ifndef SOFTAC_POLICY_H
#define SOFTAC_POLICY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define POLICY_OK 0
#define POLICY_NOT_FINITE 1       /* NaN, infinity or a number beyond float, in the observation or behind it */
#define POLICY_UNKNOWN_CATEGORY 2 /* a discrete observation outside its range */

{prototype};

#ifdef __cplusplus
}}
#endif

#endif
"""

SOURCE_TEXT = """\
/* {title} See policy.h. */
#include "policy.h"

#include <float.h>

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "without NaN (-ffast-math) a broken sensor would not be noticed"
#endif

{kernels}

{constants}

static int rest(int flag, {type} *action)
{{
    static const {type} resting[{size}] = {{{resting}}};
    int i;
    for (i = 0; i < {size}; i++)
        action[i] = resting[i];
    return flag;
}}

{prototype}
{{
{body}
    return POLICY_OK;
}}
"""

CHECK_TEXT = """\
/* Compares the policy with actions that the trained agent gave, and takes the time of one.
 *
 *     cc -std=c99 -O3 policy.c check.c -o check && ./check
 */
#include <stdio.h>
#include <time.h>

#include "policy.h"

#define VECTORS {vectors}

{inputs}
static const {type} expected[VECTORS][{size}] = {{{expected}}};
static const double tolerance[VECTORS][{size}] = {{{tolerance}}};

int main(void)
{{
    {type} action[{size}];
    int i, j, right = 0;
    long calls = 0;
    clock_t begin;
    for (i = 0; i < VECTORS; i++) {{
        int same = policy_act({arguments}, action) == POLICY_OK;
        for (j = 0; j < {size}; j++) {{
            double difference = (double)action[j] - (double)expected[i][j];
            same = same && difference <= tolerance[i][j] && -difference <= tolerance[i][j];
        }}
        right += same;
    }}
    printf("%d of %d actions as the agent gave them\\n", right, VECTORS);
    begin = clock();
    while (clock() - begin < CLOCKS_PER_SEC / 4)
        for (j = 0; j < 100; j++) {{
            i = (int)(calls++ % VECTORS);
            policy_act({arguments}, action);
        }}
    printf("%.3f microseconds an action\\n", 1e6 * (double)(clock() - begin) / CLOCKS_PER_SEC / (double)calls);
    return right != VECTORS;
}}
"""


def files(policy: Policy) -> dict[str, bytes]:
    """The contents of the three files by name.

    Raises:
        ConfigError: an observation or action of a type that C does not have.
    """
    action, names = policy.action, _argument_names(policy.leaves)
    kind, size = _c_type(action.dtype, "actions"), max(1, int(np.prod(action.shape)))
    arguments = [
        f"const {_c_type(leaf.dtype, leaf.name)} {name}[{leaf.size}]"
        for leaf, name in zip(policy.leaves, names, strict=True)
    ]
    body, stack = _body(policy, names)
    resting = ", ".join(_number(v, kind) for v in np.ravel(action.resting))
    about = policy.about
    common = {
        "title": _comment(f"{about['algorithm']} on {about['environment']}, step {about['step']:,}."),
        "function": "policy_act",
        "type": kind,
        "size": size,
        "prototype": f"int policy_act({', '.join(arguments)}, {kind} action[{size}])",
    }
    header = HEADER_TEXT.format(
        **common,
        resting="the first one" if action.n else "the one within the bounds that is nearest to 0",
        stack=stack,
        about=_comment(json.dumps(about)),
        spaces=_comment(json.dumps(policy.spaces)),
    )
    source = SOURCE_TEXT.format(
        **common,
        kernels="\n\n".join(_kernels(policy)),
        constants="\n".join(_constants(policy)),
        resting=resting,
        body="\n".join(f"    {line}" for line in body),
    )
    texts = {SOURCE: source, HEADER: header, CHECK: _check(policy, names, common)}
    return {name: text.encode("ascii") for name, text in texts.items()}


def _body(policy: Policy, names: list[str]) -> tuple[list[str], int]:
    """The statements of `policy_act`, and how many bytes of stack its buffers take."""
    buffers, sizes = _buffers(policy.operations)
    flat = buffers[policy.operations[0]]
    lines = [f"float {', '.join(f'x{i}[{size}]' for i, size in enumerate(sizes))};", "int i;"]
    offset = 0
    for number, (leaf, name) in enumerate(zip(policy.leaves, names, strict=True)):
        lines += _read(leaf, name, number, f"x{flat}", offset)
        offset += leaf.width
    for operation in policy.operations[1:]:
        if operation.kind != "argmax":
            lines += _call(policy, operation, buffers)
    lines += _act(policy, buffers)
    return lines, 4 * sum(sizes) + 64


def _buffers(operations: list[Operation]) -> tuple[dict[Operation, int], list[int]]:
    """Which buffer each result lies in, and how large they are: one is used again when it is not read any more."""
    last = {x: i for i, operation in enumerate(operations) for x in operation.inputs}
    last[operations[-1]] = len(operations)
    where: dict[Operation, int] = {}
    sizes: list[int] = []
    free: list[int] = []
    for i, operation in enumerate(operations):
        if operation.kind == "argmax":
            continue
        done = list(dict.fromkeys(where[x] for x in operation.inputs if last[x] == i))
        if operation.kind in IN_PLACE and done:
            where[operation] = done[0]
            continue
        chosen = max(free, key=sizes.__getitem__, default=len(sizes))
        if chosen == len(sizes):
            sizes.append(0)
        else:
            free.remove(chosen)
        sizes[chosen] = max(sizes[chosen], operation.width)
        where[operation] = chosen
        free += done
    return where, sizes


def _read(leaf: Leaf, name: str, number: int, x: str, offset: int) -> list[str]:
    """From an array of the observation to its part of the flattened one."""
    at = f"{x}[{offset} + i]" if offset else f"{x}[i]"
    loop = f"for (i = 0; i < {leaf.size}; i++)"
    if not leaf.categories:
        if not leaf.dtype.startswith("float"):
            return [loop, f"    {at} = (float){name}[i];"]
        return [
            f"{loop} {{",
            f"    if (!({name}[i] >= -FLT_MAX && {name}[i] <= FLT_MAX))",
            "        return rest(POLICY_NOT_FINITE, action);",
            f"    {at} = {name}[i];" if leaf.dtype != "float64" else f"    {at} = (float){name}[i];",
            "}",
        ]
    return [
        f"for (i = 0; i < {leaf.width}; i++)",
        f"    {at} = 0.0f;",
        f"{loop} {{",
        f"    int64_t category = (int64_t){name}[i];",
        f"    if (category < first_{number}[i] || category > last_{number}[i])",
        "        return rest(POLICY_UNKNOWN_CATEGORY, action);",
        f"    {x}[place_{number}[i] + (int)(category - first_{number}[i])] = 1.0f;",
        "}",
    ]


def _call(policy: Policy, operation: Operation, buffers: dict[Operation, int]) -> list[str]:
    """The statements that compute one operation."""
    x = [f"x{buffers[source]}" for source in operation.inputs]
    n = [source.width for source in operation.inputs]
    y = f"x{buffers[operation]}"
    arrays = ", ".join(policy.constant(array) for array in operation.arrays.values())
    match operation.kind:
        case "affine":
            return [f"affine({x[0]}, {n[0]}, {arrays}, {y}, {operation.width});"]
        case "convolution":
            k, _, channels, m = operation.arrays["weight"].shape
            h, w, stride = (operation.numbers[name] for name in ("height", "width", "stride"))
            return [f"convolution({x[0]}, {h}, {w}, {channels}, {arrays}, {k}, {stride}, {y}, {m});"]
        case "scale" | "clip":
            return [f"{operation.kind}({x[0]}, {n[0]}, {arrays}, {y});"]
        case "tanh":
            return [f"hyperbolic_tangent({x[0]}, {n[0]}, {y});"]
        case "relu" | "elu" | "silu" | "standardise" | "mean":
            return [f"{operation.kind}({x[0]}, {n[0]}, {y});"]
        case "concat":
            ends = np.cumsum([0, *n])
            return [f"concat({a}, {k}, {y} + {end});" for a, k, end in zip(x, n, ends, strict=False)]
        case "part":
            return [f"concat({x[0]} + {operation.numbers['start']}, {operation.width}, {y});"]
        case "add" | "subtract":
            sign = "1.0f" if operation.kind == "add" else "-1.0f"
            return [f"add({x[0]}, {n[0]}, {x[1]}, {n[1]}, {sign}, {y});"]
        case "minimum":
            first = [f"minimum({x[0]}, {n[0]}, {x[1]}, {y});"]
            return first + [f"minimum({y}, {n[0]}, {a}, {y});" for a in x[2:]]
        case "mixture_density":
            return [f"mixture_density({x[0]}, {n[0]}, {x[1]}, {x[2]}, {n[1] // n[0]}, {y});"]
        case "choose":
            return [f"choose({x[0]}, {n[0]}, {x[1]}, {operation.width}, {y});"]
        case kind:
            raise NotImplementedError(kind)


def _act(policy: Policy, buffers: dict[Operation, int]) -> list[str]:
    """From the result to the action."""
    action, result = policy.action, policy.result
    kind = _c_type(action.dtype, "actions")
    source = result.inputs[0] if action.n else result
    x = f"x{buffers[source]}"
    check = [f"    if (!finite({x}[i]))", "        return rest(POLICY_NOT_FINITE, action);"]
    if action.n:
        return [
            f"for (i = 0; i < {source.width}; i++)",
            *check,
            f"action[0] = ({kind})({_number(action.start, 'int64_t')} + argmax({x}, {source.width}));",
        ]
    arithmetic = "double" if policy.in_double else "float"
    value = "value < low[i] ? low[i] : value > high[i] ? high[i] : value"
    return [
        f"for (i = 0; i < {result.width}; i++) {{",
        f"    {arithmetic} value = middle[i] + half[i] * {x}[i];",
        *check,
        f"    action[i] = {value};" if kind == arithmetic else f"    action[i] = ({kind})({value});",
        "}",
    ]


def _constants(policy: Policy) -> Iterable[str]:
    """All constant arrays."""
    for name, array in policy.constants.items():
        yield _array(f"static const float {name}[{array.size}]", array, "float")
    for number, leaf in enumerate(policy.leaves):
        if leaf.categories:
            first, n = np.array(leaf.starts, np.int64), np.array(leaf.categories, np.int64)
            before = sum(other.width for other in policy.leaves[:number])
            yield _array(f"static const int64_t first_{number}[{leaf.size}]", first, "int64_t")
            yield _array(f"static const int64_t last_{number}[{leaf.size}]", first + n - 1, "int64_t")
            yield _array(f"static const int place_{number}[{leaf.size}]", before + np.cumsum(n) - n, "int")
    if not policy.action.n:
        kind = "double" if policy.in_double else "float"
        low, high = np.array(policy.action.low), np.array(policy.action.high)
        half = 0.5 * (high - low)
        for name, array in (("low", low), ("high", high), ("half", half), ("middle", low + half)):
            yield _array(f"static const {kind} {name}[{len(low)}]", array, kind)


def _kernels(policy: Policy) -> list[str]:
    """The C functions that this policy needs, in the order of their file."""
    kinds = {operation.kind for operation in policy.operations}
    needed = {"finite"} | {kernel for kind in kinds for kernel in NEEDS.get(kind, (kind,))}
    if "part" in kinds:
        needed.add("concat")
    return [text for name, text in _library().items() if name in needed]


@cache
def _library() -> dict[str, str]:
    text = (resources("softac.ship") / "kernels.c").read_text(encoding="ascii")
    pieces = re.split(r"/\* -- (\w+) -- \*/\n", text)[1:]
    return {name: body.strip() for name, body in zip(pieces[::2], pieces[1::2], strict=True)}


def _check(policy: Policy, names: list[str], common: dict[str, Any]) -> str:
    """The text of `check.c`."""
    vectors, actions = policy.vectors, policy.vectors.actions.reshape(len(policy.vectors.actions), -1)
    inputs = [
        f"static const {kind} {name}[VECTORS][{leaf.size}] = {{{_table(array, kind)}}};"
        for leaf, name, array in zip(policy.leaves, names, vectors.inputs, strict=True)
        for kind in [_c_type(leaf.dtype, leaf.name)]
    ]
    return CHECK_TEXT.format(
        **common,
        vectors=len(actions),
        inputs="\n".join(inputs),
        expected=_table(actions, common["type"]),
        tolerance=_table(policy.tolerance(vectors.actions), "double"),
        arguments=", ".join(f"{name}[i]" for name in names),
    )


def _argument_names(leaves: list[Leaf]) -> list[str]:
    names: list[str] = []
    for leaf in leaves:
        name = re.sub(r"[^0-9A-Za-z]", "_", "_".join(["observation", *map(str, leaf.path)]))
        numbered = (f"{name}_{i}" for i in count(len(names)))
        names.append(next(free for free in chain([name], numbered) if free not in names))
    return names


def _array(declaration: str, values: Any, kind: str) -> str:
    """A constant array; longer ones over several lines."""
    flat = [_number(v, kind) for v in np.ravel(values)]
    lines = [", ".join(flat[i : i + A_LINE]) for i in range(0, len(flat), A_LINE)]
    return f"{declaration} = {{{lines[0] if len(lines) == 1 else _indented(lines)}}};"


def _table(values: Any, kind: str) -> str:
    """The rows of a constant table."""
    return _indented(
        [f"{{{', '.join(_number(v, kind) for v in row)}}}" for row in values.reshape(len(values), -1)]
    )


def _indented(lines: list[str]) -> str:
    return "\n    " + ",\n    ".join(lines) + "\n"


def _number(value: Any, kind: str) -> str:
    """A constant of C that reads back as the same number."""
    if kind == "float":
        return f"{np.float32(value)!s}f"
    if kind == "double":
        return repr(float(value))
    return f"INT64_C({int(value)})" if kind == "int64_t" else str(int(value))


def _comment(text: str) -> str:
    """Text that cannot end the comment it stands in, begin another or be a trigraph; JSON stays what it says."""
    plain = text.encode("ascii", "backslashreplace").decode()
    return plain.replace("/*", "/\\u002a").replace("*/", "*\\/").replace("??", "?\\u003f")


def _c_type(dtype: str, what: str) -> str:
    if dtype not in TYPES:
        raise ConfigError(
            f"{what} are of type {dtype}, which C99 does not have everywhere",
            "expected floats of at most 64 bits, integers or booleans",
            "declare the space with dtype=np.float32, or export with --to numpy",
        )
    return TYPES[dtype]
