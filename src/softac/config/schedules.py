"""Schedules: numbers that change with the environment steps made.

    linear 3e-4 0 1000000       from 3e-4 to 0 over the first 1,000,000 steps; 0 from then on
    cosine 3e-4 3e-5 1000000    the same along half a cosine, slow at both ends

They are texts in a configuration, and count from the run's first step, wherever it is stopped and resumed.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

MOST_STEPS = 10**12


@dataclass(frozen=True)
class Schedule:
    """A number at each environment step.

    Attributes:
        kind: "linear", or "cosine" (arXiv:1608.03983, equation 5).
        start: at step 0.
        end: at step `steps`, and from then on.
        steps: at least 1.
    """

    kind: str
    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        """The number when `step` environment steps have been made."""
        if step >= self.steps:
            return self.end
        share = step / self.steps
        if self.kind == "cosine":
            share = 0.5 * (1.0 - math.cos(math.pi * share))
        return self.start + share * (self.end - self.start)


@cache
def read_schedule(text: str) -> Schedule:
    """The schedule that a text like `linear 3e-4 0 1000000` means.

    Raises:
        ValueError: it means none.
    """
    kind, start, end, steps = text.split()
    numbers, n = (float(start), float(end)), float(steps)
    if kind not in ("linear", "cosine") or not all(map(math.isfinite, numbers)):
        raise ValueError(text)
    if not 1 <= n <= MOST_STEPS or n != int(n):
        raise ValueError(text)
    return Schedule(kind, *numbers, int(n))


def schedule_of(value: Any) -> Schedule | None:
    """The schedule that a hyperparameter's value is, if it is one."""
    try:
        return read_schedule(value) if isinstance(value, str) else None
    except ValueError:
        return None


def value_at(value: float | str, step: int) -> float:
    """A number, or what a schedule makes of it when `step` environment steps have been made."""
    return read_schedule(value)(step) if isinstance(value, str) else value


def schedule_within(most: float) -> Any:
    """A check that a text is a schedule between 0 and `most` that is not 0 throughout; it keeps the text."""

    def checked(text: str) -> str:
        schedule = read_schedule(text)
        if not min(schedule.start, schedule.end) >= 0.0 or not 0.0 < max(schedule.start, schedule.end) <= most:
            raise ValueError(text)
        return " ".join(text.split())

    return checked
