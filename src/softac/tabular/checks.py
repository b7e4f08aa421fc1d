"""What every function of this package refuses, with the state and action named."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softac.errors import ConfigError

Array = NDArray[np.float64]

# A row sum that is off by x moves values by x / (1 - gamma) of their size: at gamma = 0.9999 this is the
# largest x that keeps the solvers' promise of 1e-9.
ROW_SUM_TOLERANCE = 1e-13


def rounding_floor(gamma: float) -> float:
    """The smallest relative tolerance that float64 sweeps can be asked for at this `gamma`.

    Each sweep rounds its result by a few units of 2.2e-16 of the size of Q, and the fixed point
    feels every such error 1 / (1 - gamma) times over.
    """
    return 16.0 * float(np.finfo(np.float64).eps) / (1.0 - gamma)


def as_numbers(value: ArrayLike, name: str) -> Array:
    """Return a number, a list, an array or a tensor as float64, or raise ConfigError."""
    try:
        array = np.asarray(value)
        if array.dtype.kind in "fiub":
            return array.astype(np.float64)
    except (RuntimeError, TypeError, ValueError):  # rows of different lengths, a tensor with a gradient
        pass
    raise ConfigError(
        f"{name} is {value!r:.100}",
        "expected numbers: an array, or lists whose rows have one length",
        "convert it with numpy.asarray(..., dtype=float)",
    )


def as_number(value: ArrayLike, name: str) -> float:
    """Return one number as a float, or raise ConfigError."""
    array = as_numbers(value, name)
    if array.size != 1:
        raise ConfigError(
            f"{name} has shape {array.shape}",
            "expected one number",
            "call once for each",
        )
    return float(array.ravel()[0])


def as_whole(value: ArrayLike, name: str, least: int = 0) -> int:
    """Return a whole number of at least `least`, or raise ConfigError."""
    number = as_number(value, name)
    if not (number >= least and number.is_integer()):
        raise ConfigError(
            f"{name} is {number:g}",
            f"expected a whole number, at least {least}",
            f"give {max(least, 1)}, say",
        )
    return int(number)


def check_gamma(gamma: ArrayLike) -> float:
    """Return `gamma` as a float in [0, 1), or raise ConfigError."""
    gamma = as_number(gamma, "gamma")
    if not 0.0 <= gamma < 1.0:  # also false for NaN
        raise ConfigError(
            f"gamma is {gamma}",
            "it must be in [0, 1), else the values of a continuing task are not finite",
            "use 0.99, say, or make states terminal",
        )
    return gamma


def check_alpha(alpha: ArrayLike) -> float:
    """Return `alpha` as a finite float >= 0, or raise ConfigError."""
    alpha = as_number(alpha, "alpha")
    if not (math.isfinite(alpha) and alpha >= 0.0):
        raise ConfigError(
            f"alpha is {alpha}",
            "the temperature must be a finite number >= 0",
            "alpha = 0 gives the ordinary, greedy problem",
        )
    return alpha


def check_tol(tol: ArrayLike, gamma: float) -> float:
    """Return `tol` when sweeps at this `gamma` can reach it, or raise ConfigError."""
    tol = as_number(tol, "tol")
    floor = rounding_floor(gamma)
    if not floor <= tol < 1.0:
        raise ConfigError(
            f"tol is {tol:g}",
            f"it is relative to the size of Q and must be in [{floor:.2g}, 1) at gamma {gamma:g}, because the "
            "float64 rounding of each sweep is amplified by 1 / (1 - gamma)",
            f"ask for {floor:.1g} or more, or lower gamma",
        )
    return tol


def check_table(table: ArrayLike, shape: tuple[int, int], name: str) -> Array:
    """Return a finite float64 table of `shape` [S, A], or raise ConfigError naming state and action."""
    array = as_numbers(table, name)
    if array.shape != shape:
        raise ConfigError(
            f"{name} has shape {array.shape}",
            f"the MDP has {shape[0]} states and {shape[1]} actions, so it must be {shape}",
            "put states first, actions second",
        )
    check_finite(array, name)
    return array


def check_finite(array: Array, name: str) -> None:
    """Raise ConfigError naming the first entry of `array` that is NaN or infinite."""
    finite = np.isfinite(array)
    if not finite.all():
        where = first_index(~finite)
        raise ConfigError(
            f"{name}{at(where)} is {array[where]}",
            "every entry must be a finite number",
            "look at what computed it",
        )


def check_policy(pi: ArrayLike, shape: tuple[int, ...], name: str = "pi") -> Array:
    """Return `pi` as float64 rows of probabilities of `shape` [..., A], or raise ConfigError."""
    array = as_numbers(pi, name)
    if array.shape != shape:
        raise ConfigError(
            f"{name} has shape {array.shape}",
            f"it must be {shape}: one probability for each state and action",
            "put states first, actions second",
        )
    check_distribution(array, name)
    return array


def check_distribution(rows: Array, name: str) -> None:
    """Raise ConfigError naming the row of `rows` [..., A] that is not a probability distribution."""
    check_finite(rows, name)
    if (rows < 0.0).any():
        where = first_index(rows < 0.0)
        raise ConfigError(
            f"{name}{at(where)} is {rows[where]:g}",
            "probabilities must be >= 0",
            "look at what computed it, a logit is not a probability",
        )
    check_row_sums(rows.sum(-1), rows.shape[-1], name)


def check_row_sums(sums: Array, terms: int, name: str) -> None:
    """Raise ConfigError naming the first of `sums` that is not 1 up to the rounding of `terms` additions."""
    wrong = np.abs(sums - 1.0) > max(ROW_SUM_TOLERANCE, float(np.finfo(np.float64).eps) * terms)
    if wrong.any():
        where = first_index(wrong)
        raise ConfigError(
            f"{name}{at(where)} sums to {sums[where]:.16g}",
            "a row of probabilities must sum to 1",
            "divide the row by its sum, in float64",
        )


def check_generator(generator: Any) -> np.random.Generator:
    """Return a generator of NumPy, or raise ConfigError."""
    if not isinstance(generator, np.random.Generator):
        raise ConfigError(
            f"generator is {generator!r:.100}",
            "expected a generator of NumPy, so that the same seed draws the same",
            "write numpy.random.default_rng(0)",
        )
    return generator


def first_index(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Index of the first true entry of `mask`, in row order."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def at(index: tuple[int, ...]) -> str:
    """Write an index the way the user would: `[3, 1] (state 3, action 1)`."""
    if not index:
        return ""
    words: Any = ("state", "action", "next state") if len(index) <= 3 else ()
    named = ", ".join(f"{word} {i}" for word, i in zip(words, index, strict=False))
    return f"[{', '.join(map(str, index))}]" + (f" ({named})" if named else "")
