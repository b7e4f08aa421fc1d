"""What can be reached from an object, its values bit for bit, and whether two states hold the same."""

import random
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PLAIN = {bool, int, float, str, bytes, type(None)}
OF_A_MODULE = set(vars(nn.Module()))
GENERATOR = "generator"
Leaves = dict[str, Any]


def leaves(agent: Any) -> Leaves:
    """The values that can be reached from an agent, by path, to be compared with ==."""
    return {path: leaf for path, thing in graph(agent) if (leaf := _leaf(thing)) is not None}


def _leaf(thing: Any) -> tuple[Any, ...] | None:
    if type(thing) in PLAIN:
        return ("value", repr(thing))
    match thing:
        case dict() | list() | tuple():
            return None
        case Tensor():
            return ("tensor", str(thing.dtype), *_bits(thing))
        case np.ndarray() | np.generic():
            return ("array", str(thing.dtype), thing.shape, thing.tobytes())
        case torch.Generator():
            return (GENERATOR, *_bits(thing.get_state()))
        case np.random.Generator():
            return (GENERATOR, repr(thing.bit_generator.state))
        case np.random.RandomState():
            return (GENERATOR, repr(thing.get_state()))
        case random.Random():
            return (GENERATOR, repr(thing.getstate()))
        case _:
            return None


def graph(root: Any) -> Iterator[tuple[str, Any]]:
    """Everything that can be reached from an agent, nearest first, with its path; no object twice."""
    waiting, met = deque([("agent", root)]), dict[int, Any]()
    while waiting:
        path, thing = waiting.popleft()
        if type(thing) in PLAIN:  # one small number may be many attributes
            yield path, thing
        elif id(thing) not in met:
            met[id(thing)] = thing  # kept alive, so that no other gets its number
            yield path, thing
            waiting.extend(_parts(path, thing))


def _parts(path: str, thing: Any) -> Iterator[tuple[str, Any]]:
    match thing:
        case dict():
            for i, (key, value) in enumerate(thing.items()):
                # An optimizer's state has parameters as its keys.
                yield f"{path}[{key!r}]" if isinstance(key, str | int) else f"{path}[{i}]", value
        case list() | tuple() | set() | frozenset() | deque():
            for i, value in enumerate(thing):
                yield f"{path}[{i}]", value
        case MethodType():
            yield f"{path}.__self__", thing.__self__
        case FunctionType():
            for cell in thing.__closure__ or ():
                yield f"{path}.__closure__", cell.cell_contents
        case partial():
            yield from ((f"{path}.{name}", getattr(thing, name)) for name in ("func", "args", "keywords"))
        case nn.Module():
            tensors = {**dict(thing.named_parameters(recurse=False)), **dict(thing.named_buffers(recurse=False))}
            inside = {**tensors, **dict(thing.named_children())}
            own = {name: value for name, value in vars(thing).items() if name not in OF_A_MODULE}
            yield from ((f"{path}.{name}", value) for name, value in (own | inside).items())
        case type() | ModuleType() | Tensor() | np.ndarray() | np.generic() | torch.Generator():
            return
        case _:
            slots = (name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()))
            inside = {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
            own = getattr(thing, "__dict__", {})
            yield from ((f"{path}.{name}", value) for name, value in (inside | own).items())


def _bits(tensor: Tensor) -> tuple[tuple[int, ...], bytes]:
    # A copy: `contiguous` leaves the strides of a view of one number, or of none, as they are.
    plain = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return tuple(plain.shape), plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same type, shape and bits."""
    return one.dtype == other.dtype and _bits(one) == _bits(other)


def different(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names under which two states do not hold the same bits."""
    names = dict.fromkeys([*one, *other])
    return [n for n in names if n not in one or n not in other or not same(one[n], other[n])]


def copied(state: Any) -> dict[str, Tensor]:
    """The tensors of a state, copied."""
    return {name: tensor.detach().clone() for name, tensor in state.items() if isinstance(tensor, Tensor)}


def overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors lie in one piece of memory."""
    first, second = (tensor.untyped_storage().data_ptr() for tensor in (one, other))
    return first == second != 0
