"""Exported files, opened: each acts through what it was exported for."""

import ctypes
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softac.envs import Spaces
from softac.envs.borders import ActionForm, Leaf, action_form, leaves, part_of
from softac.errors import CheckpointError, ConfigError, SoftacError, missing_extra, one_line
from softac.files import exists, read_regular
from softac.nets.operations import FUNCTIONS, Operation
from softac.ship import policy as numpy_runtime
from softac.ship import to_c, to_numpy
from softac.ship.description import FORMAT

LIMIT = 2**30
MOST_OPERATIONS = 10_000
MOST_NUMBERS = 2**28  # that a policy holds and makes for one observation; of float32 they are 1 GiB
STEP = re.compile(r"\d{1,15}", re.ASCII)
WARNINGS_OFF = 3
COMPILER = ("-std=c99", "-O3", "-shared", "-fPIC")
ONNX_KINDS = {
    *("Add", "And", "ArgMax", "Cast", "Clip", "Concat", "Conv", "Div", "Elu", "Equal", "Exp", "Flatten"),
    *("Gather", "GatherND", "Gemm", "Greater", "Less", "Max", "Min", "Mul", "Neg", "ReduceL1", "ReduceMax"),
    *("ReduceMean", "ReduceSum", "Relu", "Reshape", "Sigmoid", "Slice", "Sqrt", "Sub", "Tanh", "Transpose"),
    "Where",
}

Batch = Callable[[list[NDArray[Any]]], NDArray[Any]]


@dataclass(frozen=True)
class Exported:
    """An exported policy that acts.

    Attributes:
        runtime: what it acts through.
        about: where it comes from.
        spaces: of the environment it was trained in.
        batch: from one array `[B, ...]` for each leaf of the observation to actions `[B, ...]`; raises ValueError
            where the file says that there is no knowing what to do.
    """

    runtime: str
    about: dict[str, Any]
    spaces: Spaces
    batch: Batch

    @cached_property
    def leaves(self) -> list[Leaf]:
        """The arrays of an observation that are not empty."""
        return [leaf for leaf in leaves(self.spaces.observation_space) if leaf.width]

    def act(self, obs: Any) -> Any:
        """The action for one observation as the environment returns it."""
        return self.batch([np.asarray(part_of(obs, leaf.path), leaf.dtype)[None] for leaf in self.leaves])[0]


def open_policy(path: Path, *, trust: bool = False) -> Exported:
    """An exported file, ready to act.

    Args:
        path: `policy.onnx`, `policy.py`, `policy.safetensors` or `policy.c`.
        trust: compile and run `policy.c`, which is a program. The others are data.

    Raises:
        ConfigError: it is none of these, what it needs is not installed, or it is a program that is not trusted.
        CheckpointError: it is damaged, or not what softac writes.
    """
    openers = {".onnx": _open_onnx, ".py": _open_program, ".safetensors": _open_numpy}
    if not exists(path) or path.suffix not in (*openers, ".c"):
        raise ConfigError(
            f"{path} is not an exported policy",
            "expected policy.onnx, policy.py, policy.safetensors or policy.c",
            "`softac export RUN` writes them",
        )
    try:
        return _open_c(path, trust) if path.suffix == ".c" else openers[path.suffix](path)
    except SoftacError:
        raise
    except Exception as error:  # whatever a library or a damaged file comes up with
        raise CheckpointError(
            f"{path} cannot be used ({type(error).__name__}: {one_line(str(error), 300)})",
            "expected what `softac export` writes",
            "export it again",
        ) from None


def require_onnx(what: str) -> None:
    """Refuse `what` where the packages for ONNX are missing.

    Raises:
        ConfigError: they are; the message has the line that installs them.
    """
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise missing_extra(what, " and ".join(missing), "export")


def _open_onnx(path: Path) -> Exported:
    require_onnx(str(path))
    import onnx
    import onnxruntime

    data = read_regular(path, LIMIT)
    model = onnx.load_from_string(data)
    about = {entry.key: entry.value for entry in model.metadata_props}
    spaces = _spaces(about.pop("format"), json.loads(about.pop("spaces")))
    del about["vectors"]
    shapes = {leaf.name: leaf.shape for leaf in leaves(spaces.observation_space) if leaf.width}
    _require_plain(model)
    _require_small(model, shapes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = WARNINGS_OFF
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def batch(inputs: list[NDArray[Any]]) -> NDArray[Any]:
        action, valid = session.run(["action", "valid"], dict(zip(shapes, inputs, strict=True)))
        if not valid.all():
            raise ValueError("the observation is not finite, or has an unknown category")
        return np.asarray(action)

    return _exported("onnxruntime", about, spaces, batch)


def _require_plain(model: Any) -> None:
    """Refuse what may lead to other files or to much more work than a policy is."""
    nodes, constants = model.graph.node, model.graph.initializer
    odd = {node.op_type for node in nodes} - ONNX_KINDS
    if odd or len(nodes) > MOST_OPERATIONS or any(node.domain for node in nodes) or model.functions:
        raise ValueError(f"nodes that no policy has: {sorted(odd)}")
    if any(constant.external_data for constant in constants) or model.graph.sparse_initializer:
        raise ValueError("constants in other files, or of which only some numbers are there")


def _require_small(model: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse a graph that makes more of one observation than fits, or of which that is not known beforehand.

    What the graph says of shapes is overwritten.
    """
    from onnx import helper, shape_inference

    graph = model.graph
    kinds = {given.name: given.type.tensor_type.elem_type for given in graph.input}
    if kinds.keys() != shapes.keys():
        raise ValueError("other inputs than the spaces have")
    del graph.value_info[:], graph.input[:]
    graph.input.extend(helper.make_tensor_value_info(name, kinds[name], [1, *shapes[name]]) for name in shapes)
    for result in graph.output:
        result.type.tensor_type.ClearField("shape")
    inferred = shape_inference.infer_shapes(model, strict_mode=True).graph
    made = {value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.output)}
    constants = {constant.name: tuple(constant.dims) for constant in graph.initializer}
    numbers = sum(math.prod(dims) for dims in constants.values())
    for node in graph.node:
        (result,) = (made[name] for name in node.output)
        sizes = [dim.dim_value for dim in result.shape.dim]
        if not result.HasField("shape") or not all(sizes):
            raise ValueError(f"a {node.op_type} whose result is of no known size")
        n, *patch = constants[node.input[1]] if node.op_type == "Conv" else (1,)
        numbers += math.prod(sizes) // n * math.prod(patch)
        _require_few(numbers)


def _require_few(numbers: int) -> None:
    if numbers > MOST_NUMBERS:
        raise ValueError(f"{numbers:.3g} numbers are held and made for one observation, not {MOST_NUMBERS:,}")


def _open_program(path: Path) -> Exported:
    """`policy.py` is not run: it is this library's own file, or it is refused."""
    if read_regular(path, LIMIT) != Path(numpy_runtime.__file__).read_bytes():
        raise ConfigError(
            f"{path} is not the {to_numpy.PROGRAM} of this softac",
            "expected its very bytes, since a file that may come from anybody is not run",
            f"name {to_numpy.TENSORS} instead, which is data",
        )
    return _open_numpy(path.with_name(to_numpy.TENSORS))


def _open_numpy(path: Path) -> Exported:
    tensors, description = numpy_runtime.read(read_regular(path, LIMIT))
    spaces = _spaces(description["format"], description["spaces"])
    _require_own(description, spaces)
    _require_operations(description["operations"], tensors, spaces)
    policy = numpy_runtime.Policy(path)
    inside = [leaf["path"] for leaf in policy.leaves]

    def batch(inputs: list[NDArray[Any]]) -> NDArray[Any]:
        return np.asarray(policy(numpy_runtime.nested(list(zip(inside, inputs, strict=True)))))

    return _exported("NumPy", policy.about, spaces, batch)


def _require_own(description: dict[str, Any], spaces: Spaces) -> None:
    """Refuse observations or actions of which the spaces, whose size is bounded, say something else."""
    found = [asdict(leaf) for leaf in leaves(spaces.observation_space) if leaf.width]
    own = json.loads(json.dumps({"leaves": found, "action": asdict(action_form(spaces))}))
    pairs = zip([description["action"], *description["leaves"]], [own["action"], *own["leaves"]], strict=True)
    for given, said in pairs:
        chosen = bool(said.get("categories") or said.get("n"))
        if chosen and np.dtype(given["dtype"]).kind in "iu":  # spaces in files do not say which
            said["dtype"] = given["dtype"]
        if given != said:
            raise ValueError("arrays that are not those of the spaces")


def _require_operations(steps: list[dict[str, Any]], tensors: dict[str, Any], spaces: Spaces) -> None:
    """Refuse operations that do not fit each other, or whose results would not fit into the memory."""
    if len(steps) > MOST_OPERATIONS:
        raise ValueError(f"{len(steps)} operations")
    made: list[Operation] = []
    numbers = 0
    for i, step in enumerate(steps):
        kind, inputs = step["kind"], step["inputs"]
        if any(type(number) is not int or number < 0 for number in (*step["numbers"].values(), *inputs)):
            raise ValueError(f"the numbers of {kind} are not whole")
        if (kind == "observation") != (i == 0) or (kind == "argmax" and i < len(steps) - 1):
            raise ValueError(f"{kind} as operation {i}")
        arrays = {name: tensors[key] for name, key in step["arrays"].items()}
        if any(array.ndim != 1 for name, array in arrays.items() if name != "weight"):
            raise ValueError(f"constants of {kind} that are no vectors")
        made.append(FUNCTIONS[kind](*(made[x] for x in inputs), **arrays, **step["numbers"]))
        numbers += _numbers(made[-1])
        _require_few(numbers)
    if not made or made[0].width != spaces.spec.obs_dim or made[-1].width != spaces.spec.action_dim:
        raise ValueError("operations of other sizes than the spaces")


def _numbers(operation: Operation) -> int:
    """How many numbers an operation holds, and makes for one observation."""
    held = sum(array.size for array in operation.arrays.values())
    match operation.kind:
        case "convolution":  # a patch of the image for each pixel of the result
            weight = operation.arrays["weight"]
            return held + operation.width // int(weight.shape[3]) * math.prod(weight.shape[:3])
        case "mixture_density":  # each component at each mean
            return held + operation.width * operation.inputs[1].width
        case _:
            return held + operation.width


def _open_c(path: Path, trust: bool) -> Exported:
    if not trust:
        raise ConfigError(
            f"{path} is a program, which would be compiled and run",
            "expected your word that you exported or read it",
            "add --trust",
        )
    header = read_regular(path.with_name(to_c.HEADER), LIMIT).decode("ascii")
    about, described = (json.loads(line) for line in re.findall(r"^ \* (\{.*\})$", header, re.M))
    spaces = _spaces(FORMAT, described)
    library = compile_c(path)
    return _exported("C", about, spaces, c_batch(library, spaces))


def compile_c(source: Path) -> ctypes.CDLL:
    """A C file as a library in this process.

    Raises:
        ConfigError: there is no C compiler.
    """
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ConfigError(
            "a C policy has to be compiled to be tried and there is no compiler here",
            "expected cc, gcc or clang",
            "install one (apt install gcc), or export to onnx or numpy",
        )
    with tempfile.TemporaryDirectory(prefix="softac-") as folder:
        library = Path(folder) / "policy.so"
        command = [compiler, *COMPILER, str(source), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise ValueError(f"it does not compile: {done.stderr}")
        return ctypes.CDLL(str(library))


def c_batch(library: ctypes.CDLL, spaces: Spaces) -> Batch:
    """What a compiled policy does with a batch, row by row."""
    call, form = library.policy_act, action_form(spaces)

    def batch(inputs: list[NDArray[Any]]) -> NDArray[Any]:
        actions, flags = c_rows(call, inputs, form)
        if flags.any():
            raise ValueError(f"the policy answered with flag {flags[flags != 0][0]}")
        return actions

    return batch


def c_rows(call: Any, inputs: list[NDArray[Any]], form: ActionForm) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Actions and flags of a compiled policy; arrays of float16 go in and out as float32."""
    arrays = [np.ascontiguousarray(x, np.float32 if x.dtype == np.float16 else x.dtype) for x in inputs]
    dtype = np.dtype(np.float32 if form.dtype == "float16" else form.dtype)
    actions = np.zeros((len(arrays[0]), *form.shape), dtype)
    rows = [*arrays, actions]
    call.argtypes, call.restype = [ctypes.c_void_p] * len(rows), ctypes.c_int
    places = [(array.ctypes.data, array.strides[0]) for array in rows]
    flags = [call(*(start + i * stride for start, stride in places)) for i in range(len(actions))]
    return actions.astype(form.dtype, copy=False), np.array(flags)


def _spaces(found: str, described: Any) -> Spaces:
    if found != FORMAT:
        raise ValueError(f"format {found[:40]!r}, not {FORMAT!r}")
    return Spaces.from_json(described, "the file")


def _exported(runtime: str, about: Any, spaces: Spaces, batch: Batch) -> Exported:
    if not isinstance(about, dict) or not STEP.fullmatch(str(about.get("step"))):
        raise ValueError("it does not say of which step it is")
    return Exported(runtime, about, spaces, batch)
