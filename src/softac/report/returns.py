"""The tables of returns: at fixed steps, at the end, over all environments."""

from collections.abc import Sequence
from itertools import groupby

from softac.report.published import anchor
from softac.report.rows import Block, Row, blocks, interval, of
from softac.report.tables import Estimate, Group, across, at_step, final, fixed_steps, is_interpolated
from softac.words import listed, number


def fixed(groups: Sequence[Group], places: dict[str, int]) -> list[Row]:
    """A table for each environment."""
    return [
        {"env": env, **_table(list(members), places[env])}
        for env, members in groupby(groups, lambda group: group.env)
    ]


def _table(groups: Sequence[Group], places: int) -> Row:
    steps = fixed_steps(groups)
    columns = [[at_step(group, step) for group in groups] for step in steps]
    means = [[cell.mean for cell in column if cell is not None] for column in columns]
    rows = []
    for i, group in enumerate(groups):
        mine = [column[i] for column in columns]
        most = max((cell.n for cell in mine if cell is not None), default=0)
        cells = [
            None
            if cell is None
            else {
                "mean": number(cell.mean, places),
                "interval": interval(cell, places),
                "runs": "" if cell.n == most else of(cell.n, group),
                "best": len(others) > 1 and cell.mean == max(others),
            }
            for cell, others in zip(mine, means, strict=True)
        ]
        rows.append({"name": group.name, "runs": of(most, group), "cells": cells})
    between = any(is_interpolated(result, step) for g in groups for result in g.evaluated for step in steps)
    return {"steps": [f"{step:,}" for step in steps], "rows": rows, "interpolated": between}


def last(groups: Sequence[Group], places: dict[str, int]) -> list[Block]:
    """What was reached at the last common step."""

    def row(group: Group) -> Row | None:
        end, digits = final(group), places[group.env]
        if end is None:
            return None

        def other(estimate: Estimate | None, places: int = digits, scale: float = 1.0) -> str:
            if estimate is None:
                return ""
            shown = number(scale * estimate.mean, places)
            return shown + (f" ({of(estimate.n, group)})" if estimate.n != end.n else "")

        return {
            "name": group.name,
            "step": f"{end.step:,}",
            "runs": of(end.n, group),
            "mean": number(end.mean, digits),
            "std": "" if end.std is None else number(end.std, digits),
            "median": number(end.median, digits),
            "least": number(end.least, digits),
            "iqm": number(end.iqm, digits),
            "tenth": other(end.last_tenth),
            "sampled": other(end.sampled),
            "success": other(end.success, 0, 100.0),
        }

    return blocks(groups, row)


def overall(groups: Sequence[Group]) -> Row | None:
    """The algorithms over all environments with a published return; None where that says nothing."""
    steps, rows, without = across(groups)
    if not rows:
        return None

    def shown(values: tuple[float, float, float] | None) -> Row | None:
        if values is None:
            return None
        value, low, high = (number(v, 2) for v in values)
        return {"value": value, "interval": f"{low} to {high}"}

    return {
        "environments": [
            {"env": env, "step": f"{step:,}", "anchor": number(anchor(env) or 0.0)} for env, step in steps.items()
        ],
        "first": rows[0].name,
        "without": listed(without),
        "rows": [
            {
                "name": row.name,
                "runs": f"{row.n} of {row.of}",
                "iqm": shown(row.iqm),
                "gap": shown(row.gap),
                "better": shown(row.better),
            }
            for row in rows
        ],
    }
