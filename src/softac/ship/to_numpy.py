"""A policy as `policy.safetensors` and `policy.py`, which needs NumPy alone."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from softac.ship import policy as runtime
from softac.ship.description import FORMAT, Policy

PROGRAM, TENSORS = "policy.py", "policy.safetensors"


def files(policy: Policy) -> dict[str, bytes]:
    """The contents of both files by name."""
    tensors: dict[str, NDArray[Any]] = dict(policy.constants)
    for leaf, array in zip(policy.leaves, policy.vectors.inputs, strict=True):
        tensors[f"vectors.{leaf.name}"] = _storable(array)
    tensors["vectors.action"] = _storable(policy.vectors.actions)
    number = {operation: i for i, operation in enumerate(policy.operations)}
    description = {
        "format": FORMAT,
        "about": policy.about,
        "spaces": policy.spaces,
        "leaves": [asdict(leaf) for leaf in policy.leaves],
        "operations": [
            {
                "kind": operation.kind,
                "inputs": [number[x] for x in operation.inputs],
                "arrays": {argument: policy.constant(array) for argument, array in operation.arrays.items()},
                "numbers": operation.numbers,
            }
            for operation in policy.operations
        ],
        "action": asdict(policy.action),
    }
    return {
        TENSORS: safetensors.numpy.save(tensors, {"policy": json.dumps(description)}),
        PROGRAM: Path(runtime.__file__).read_bytes(),
    }


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """An array of a type that safetensors has."""
    return np.ascontiguousarray(array, np.float64 if array.dtype.itemsize > 8 else array.dtype)
