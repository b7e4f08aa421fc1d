"""What others have published of the algorithms and environments on the page of a report."""

from collections.abc import Sequence
from itertools import groupby

from softac.report.conditions import arguments
from softac.report.published import Published, base, published
from softac.report.rows import Row
from softac.report.tables import Group
from softac.words import number


def known(groups: Sequence[Group]) -> list[tuple[str, Published]]:
    """The values of the algorithms and environments on the page, where these have no arguments of their own."""
    pairs = dict.fromkeys((group.env, group.algorithm) for group in groups if not arguments([group]))
    return [(env, p) for env, algorithm in pairs for p in published(env, algorithm)]


def drawn(groups: Sequence[Group], references: Sequence[tuple[str, Published]]) -> list[tuple[str, Published]]:
    """Those that may stand beside the curves, and at steps that these have."""
    furthest = {env: 0 for env, _ in references}
    for group in groups:
        ends = [max(result.returns) for result in group.evaluated]
        furthest[group.env] = max(furthest.get(group.env, 0), *ends)
    return [(env, p) for env, p in references if p.drawn and min(p.at) <= furthest[env]]


def table(references: Sequence[tuple[str, Published]], beside: Sequence[tuple[str, Published]]) -> Row:
    """Published returns at their steps; those beside the curves are marked."""
    steps = sorted({step for _, p in references for step in p.at})
    blocks = []
    for env, part in groupby(references, lambda reference: reference[0]):
        rows = [
            {
                "name": p.algorithm,
                "source": f"{p.source.name}, {base(env)}-{p.source.version}",
                "metric": f"{p.source.metric}, {p.source.seeds} seeds",
                "drawn": (env, p) in beside,
                "cells": [_cell(p, step) for step in steps],
            }
            for _, p in part
        ]
        blocks.append((env, rows))
    return {"steps": [f"{step:,}" for step in steps], "blocks": blocks}


def _cell(p: Published, step: int) -> str:
    if step not in p.at:
        return ""
    mean, std = p.at[step]
    places = 0 if float(mean).is_integer() else 1
    return number(mean, places) + (f" ± {number(std)}" if std is not None else "")


def sources(references: Sequence[tuple[str, Published]]) -> list[Row]:
    """Where the values are from, and how they were taken from there."""
    return [
        {"name": s.name, "where": s.where, "how": s.how, "metric": s.metric}
        for s in dict.fromkeys(p.source for _, p in references)
    ]
