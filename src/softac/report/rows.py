"""What the tables of a report share."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from softac.report.tables import Estimate, Group
from softac.words import clean, listed, number

Row: TypeAlias = dict[str, Any]
Block: TypeAlias = tuple[str, list[Row]]  # an environment, and the rows below its name


def of(n: int, group: Group) -> str:
    """As in 3 of 5 runs."""
    return f"{n} of {len(group.results)}"


def interval(estimate: Estimate, places: int) -> str:
    """Its ends; "" where there is none."""
    if estimate.interval is None:
        return ""
    return f"{number(estimate.interval[0], places)} to {number(estimate.interval[1], places)}"


def distinct(values: Iterable[Any]) -> str:
    """The values, each once."""
    return listed(list(dict.fromkeys(clean(value, 60) for value in values if value is not None)))


def blocks(groups: Sequence[Group], row: Callable[[Group], Row | None]) -> list[Block]:
    """The rows of a table, environment by environment."""
    blocks = []
    for env, members in groupby(groups, lambda group: group.env):
        rows = [made for group in members if (made := row(group)) is not None]
        if rows:
            blocks.append((env, rows))
    return blocks
