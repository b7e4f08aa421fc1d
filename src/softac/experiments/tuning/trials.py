"""One trial of a search: settings, the runs with them, and what they are worth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeAlias, get_args

from softac.run.metrics import METRICS, numbers, read_rows

State: TypeAlias = Literal["running", "done", "pruned", "failed"]
STATES: tuple[State, ...] = get_args(State)
QUARTER = 4  # the value is of the last one in this many evaluations


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0 on.
        settings: what is not at its default, `n_envs` perhaps among it.
        name: where its settings are from, if they were not proposed.
        state: how far it has come.
        value: what it is worth, once it is done; where it was pruned, what it was worth then.
        reason: why it failed.
    """

    number: int
    settings: Mapping[str, Any]
    name: str = ""
    state: State = "running"
    value: float | None = None
    reason: str = ""

    @property
    def title(self) -> str:
        """The trial in words; also the name of its curve."""
        return f"trial {self.number}" + (f" ({self.name})" if self.name else "")


def best(trials: Sequence[Trial], n: int) -> list[Trial]:
    """The n trials of the highest values, of equal ones the earliest, as many as are done."""
    done = [trial for trial in trials if trial.state == "done" and trial.value is not None]
    return sorted(done, key=lambda trial: (-(trial.value or 0.0), trial.number))[:n]


def run_value(folder: Path, until: int) -> float | None:
    """The mean over the last quarter of the evaluations of a run, up to a step.

    Args:
        folder: the run folder.
        until: evaluations after this step do not count.

    Returns:
        None where one of them is missing, or no finite number.
    """
    rows = [row for row in read_rows(folder / METRICS) if "eval/mean_reward" in row and row["step"] <= until]
    returns = numbers(rows, "eval/mean_reward")
    steps = sorted({int(row["step"]) for row in rows})
    counted = steps[len(steps) - math.ceil(len(steps) / QUARTER) :]
    if not counted or counted[-1] != until or any(step not in returns for step in counted):
        return None
    return fmean(returns[step] for step in counted)
