"""Scores and curves as they come in: their forms, and what is wrong with them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softac.errors import ConfigError

Array = NDArray[np.float64]
Scores: TypeAlias = ArrayLike | Mapping[str, ArrayLike]


def each(function: Callable[[Array, str], Array], scores: Scores) -> dict[str, Array] | Array:
    """`function(array, its name in messages)` for every task, in the form in which the scores came."""
    if isinstance(scores, Mapping):
        return {task: function(numbers(x, named(task)), named(task)) for task, x in scores.items()}
    return function(numbers(scores), "scores")


def tasks_of(scores: Scores) -> list[Array]:
    """The scores of each task, all with the same leading axes."""
    if not isinstance(scores, Mapping):
        return [numbers(scores)]
    if not scores:
        raise ConfigError(
            "scores of no task were given",
            "expected at least one task",
            "give task -> scores of its runs",
        )
    arrays = [numbers(x, named(task)) for task, x in scores.items()]
    if len(shapes := {x.shape[:-1] for x in arrays}) > 1:
        raise ConfigError(
            f"the leading axes of the tasks are {' and '.join(str(list(s)) for s in sorted(shapes))}",
            "expected the same for all",
            "only the last axis, that of the runs, may differ",
        )
    return arrays


def numbers(values: ArrayLike, what: str = "scores") -> Array:
    """An array with at least one axis and one number, all finite."""
    try:
        x = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{what}: not an array of numbers",
            "expected rows of equal lengths",
            "cut the longer rows off, or leave unfinished runs out and say so",
        ) from None
    if x.ndim == 0 or x.size == 0:
        raise ConfigError(
            f"{what}: shape {list(x.shape)} was given",
            "expected a list of one number or more",
            "give those of runs",
        )
    if (bad := x.size - np.count_nonzero(np.isfinite(x))) > 0:
        raise ConfigError(
            f"{what}: {bad} of {x.size} numbers are NaN or infinite",
            "expected finite ones",
            "give a failed run the last score that it had, or count it as a failure and say so",
        )
    return x


def named(task: str) -> str:
    """What the scores of a task are called in messages."""
    return f"scores of {task!r}"


def tasks_of_both(x: Scores, y: Scores) -> list[tuple[Array, Array]]:
    """The scores of two algorithms, task by task."""
    if isinstance(x, Mapping) and isinstance(y, Mapping):
        if x.keys() != y.keys():
            raise ConfigError(
                f"only one of the two algorithms has {listed(x.keys() ^ y.keys())}",
                "expected the same tasks for both",
                "leave these out or run them",
            )
        y = {task: y[task] for task in x}
    elif isinstance(x, Mapping) or isinstance(y, Mapping):
        raise ConfigError(
            "tasks were named for one algorithm and not for the other",
            "expected the same form for both",
            "give [runs] of one task, or task -> [runs], twice",
        )
    return list(zip(tasks_of(x), tasks_of(y), strict=True))


def mean_over(x: NDArray[Any] | list[Array], axis: int | tuple[int, ...] = -1) -> Array:
    """NumPy's, with a type."""
    result: Array = np.mean(x, axis=axis)
    return result


def task_means(scores: Scores) -> Array:
    """Of each task, `[..., tasks]`."""
    return np.stack([mean_over(x) for x in tasks_of(scores)], axis=-1)


def several(x: Array, what: str) -> Array:
    """The scores themselves, of two runs at least."""
    if x.shape[-1] < 2:
        raise ConfigError(
            f"{what}: {x.shape[-1]} run was given",
            "expected at least 2, for one says nothing about the next",
            "run more seeds, or show the number without an interval",
        )
    return x


def as_curves(x: Array, what: str) -> Array:
    """The curves themselves, `[runs, steps]`."""
    if x.ndim != 2:
        raise ConfigError(
            f"{what}: shape {list(x.shape)} was given",
            "expected curves [runs, steps]",
            "stack one row for each run",
        )
    return x


def same_length(curves: list[Array]) -> int:
    """How many steps each of them has."""
    lengths: list[int] = sorted({x.shape[1] for x in curves})
    if len(lengths) != 1:
        raise ConfigError(
            f"the curves of the tasks have {' and '.join(map(str, lengths)) or 'no'} steps",
            "expected as many for each",
            "take them at the same steps with `at_steps`",
        )
    return lengths[0]


def check_share(name: str, value: float) -> None:
    """Refuse what is not between 0 and 1."""
    if not 0 < value < 1:
        raise ConfigError(
            f"{name} is {value}",
            "expected a number between 0 and 1",
            "write 0.95 for 95 %",
        )


def listed(names: Iterable[object]) -> str:
    """In order, separated by commas."""
    return ", ".join(map(str, sorted(names, key=str))) or "none"
