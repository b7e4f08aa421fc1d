"""From a trained model to a file that acts without softac, tried against the agent before it is handed over."""

import tempfile
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softac.errors import ConfigError, DiskError, NumericalError, either
from softac.files import replace_bytes
from softac.model import Model
from softac.run.evaluate import act
from softac.run.numerics import numerics
from softac.ship import policy as numpy_runtime
from softac.ship import to_c, to_numpy
from softac.ship.description import CLOSE, Policy, Vectors, asked, describe
from softac.ship.runtimes import Batch, open_policy, require_onnx

FORMATS = ("onnx", "numpy", "c")
OBSERVATIONS = 10_000
MOST_BYTES = 2**26  # of all observations that an exported policy is tried on; of large images they are fewer
BATCHES = (1, 7, 256)
MOST_UNDECIDED = 0.02  # of all observations; beyond it the agent is not asked any more
NEIGHBOURS, AT_ONCE = 256, 16  # of an observation, at most, and how many are looked at before the next are
TOGETHER = 100.0  # tolerances, up to which two actions are of one choice
LAST_BITS = 2.0**-20  # what a number of an observation is changed by, as a share of it


Actions = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How well an exported policy agrees with its agent.

    Attributes:
        observations: how many were tried.
        largest: the largest difference, in widths of the bounds; discrete: the share of other actions.
        undecided: of how many observations the agent itself acts as differently once their last bits are changed;
            these count for neither.
    """

    observations: int
    largest: float
    undecided: int


def export(model: Model, to: str, folder: Path) -> tuple[list[Path], Agreement]:
    """Write the deterministic policy of `model` into `folder`.

    Args:
        model: one of softac's algorithms, or an agent with the method of `softac.ship.description.Exportable`.
        to: "onnx", "numpy" or "c".
        folder: made if it does not exist; files of these names are replaced.

    Returns:
        The files, the one to open first, and how well they agree with the agent.

    Raises:
        ConfigError: the agent cannot be exported, or not to this; something needed is not installed.
        NumericalError: the file does not act as the agent does. Nothing has been written.
        DiskError: the folder cannot be written.
    """
    require_format(to)
    with numerics(model.threads):
        policy = describe(model)
        contents = printed(policy, to)
        with tempfile.TemporaryDirectory(prefix="softac-") as aside:
            for name, data in contents.items():
                (Path(aside) / name).write_bytes(data)
            tried = open_policy(Path(aside) / next(iter(contents)), trust=True)
            agreement = compare(model, policy, tried.batch, trial(model, policy))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            replace_bytes(folder / name, data)
    except OSError as error:
        raise DiskError(
            f"{folder} cannot be written ({error.strerror})",
            "expected a folder of your own",
            "name another with -o",
        ) from None
    return [folder / name for name in contents], agreement


def require_format(to: str) -> None:
    """Refuse a format that is unknown here, or lacks its packages.

    Raises:
        ConfigError: it is, or does.
    """
    if to not in FORMATS:
        raise ConfigError(
            f"the format {to!r} was given",
            f"expected {either(FORMATS)}",
            "take onnx for a program that reads it, c for one that reads nothing",
        )
    if to == "onnx":
        require_onnx("export to ONNX")


def printed(policy: Policy, to: str) -> dict[str, bytes]:
    """The contents of the files by name, the one to open first."""
    match to:
        case "onnx":
            from softac.ship import to_onnx  # its packages are an extra

            return to_onnx.files(policy)
        case "numpy":
            return to_numpy.files(policy)
        case _:
            return to_c.files(policy)


def trial(model: Model, policy: Policy, n: int = OBSERVATIONS) -> Vectors:
    """`n` observations of the policy's space, or as many as `MOST_BYTES` hold, and what the agent does."""
    each = sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in policy.leaves)
    n = min(n, max(sum(BATCHES), MOST_BYTES // max(1, each)))
    return Vectors(*asked(model, policy.leaves, n, np.random.default_rng(1)))


def compare(model: Model, policy: Policy, batch: Batch, wanted: Vectors) -> Agreement:
    """Try an exported policy on these observations, in batches of 1, 7 and 256.

    Raises:
        NumericalError: an action differs from the agent's by more than `Policy.tolerance`, is outside the bounds,
            or of another type.
    """
    inputs, expected, n = wanted.inputs, wanted.actions, len(wanted.actions)
    actual = _in_batches(batch, inputs)
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        raise _disagrees(policy, f"gives {actual.dtype} {actual.shape}, not {expected.dtype} {expected.shape}")
    _require_inside(policy, actual)
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    apart = (difference > policy.tolerance(expected)).reshape(n, -1).any(-1)
    rows = np.flatnonzero(apart)
    looked_at = rows[:0] if len(rows) > MOST_UNDECIDED * n else rows
    left_open = [i for i in looked_at if undecided(model, policy, [x[i] for x in inputs], actual[i])]
    decided = np.setdiff1d(np.arange(n), np.array(left_open, np.int64))
    width = (
        1.0 if policy.action.n else np.subtract(policy.action.high, policy.action.low).reshape(expected.shape[1:])
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.nan_to_num(difference[decided] / width)
    largest = float((shares != 0).mean() if policy.action.n else shares.max())
    if len(left_open) < len(rows):
        raise _disagrees(policy, f"differs from the agent by {largest:.2g}")
    return Agreement(n, largest, len(left_open))


def _in_batches(batch: Batch, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    actions: list[NDArray[Any]] = []
    first = 0
    for size in cycle(BATCHES):
        if first >= len(inputs[0]):
            return np.concatenate(actions)
        actions.append(batch([x[first : first + size] for x in inputs]))
        first += size
    raise AssertionError


def _require_inside(policy: Policy, actions: NDArray[Any]) -> None:
    form = policy.action
    low, high = (form.start, form.start + form.n - 1) if form.n else (np.array(form.low), np.array(form.high))
    flat = actions.reshape(len(actions), -1).astype(np.float64)
    if not ((flat >= low) & (flat <= high)).all():
        raise _disagrees(policy, "leaves the bounds")


def undecided(model: Model, policy: Policy, observation: list[NDArray[Any]], action: NDArray[Any]) -> bool:
    """Whether the agent itself may act so, once the last bits of the observation are changed.

    So it is where two choices are equally good, and where numbers are so large that float32 does not tell the
    action to 1e-5.
    """
    parts = [
        numpy_runtime.flat({**vars(leaf), "path": ()}, x)
        for leaf, x in zip(policy.leaves, observation, strict=True)
    ]
    noise = np.random.default_rng(2).uniform(-LAST_BITS, LAST_BITS, (NEIGHBOURS, policy.operations[0].width))
    near = (np.concatenate(parts) * (1.0 + noise)).astype(np.float32)
    answers: list[NDArray[Any]] = []
    for first in range(0, NEIGHBOURS, AT_ONCE):
        rows = near[first : first + AT_ONCE]
        answers += [model.spaces.to_env(act(model.agent, row[None], None)[0]) for row in rows]
        if _among(np.stack(answers).astype(np.float64), action, policy):
            return True
    return False


def _among(answers: Actions, action: NDArray[Any], policy: Policy) -> bool:
    if policy.action.n:
        return bool((answers == action).any())
    return between(answers, action, policy.tolerance(action), choices=policy.result.kind == "choose")


def between(answers: Actions, action: NDArray[Any], slack: Actions, *, choices: bool) -> bool:
    """Whether an action lies where the agent's answers `[N, ...]` do, or `slack` beside them.

    With `choices`, what is chosen among several, only between answers that lie together: those of one choice.
    """
    if not choices:
        return bool(((answers.min(0) - slack <= action) & (action <= answers.max(0) + slack)).all())
    far = (np.abs(answers[:, None] - answers[None]) > TOGETHER * slack).reshape(len(answers), len(answers), -1)
    clouds: list[Actions] = [answers[~row.any(-1)] for row in far]
    return any(between(cloud, action, slack, choices=False) for cloud in clouds)


def _disagrees(policy: Policy, how: str) -> NumericalError:
    return NumericalError(
        f"the exported policy of {policy.about['algorithm']} {how}",
        f"expected the agent's own actions to {CLOSE:g} of the bounds' width; nothing was written",
        "please report it with the run's config.json; if the agent is your own, look at its `operations`",
    )
