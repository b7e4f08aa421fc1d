"""What stands on the page of a report, section by section, in the words that `page.html` puts in their places."""

import os
import shlex
from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from softac import stats
from softac._version import __version__
from softac.report import conditions, curves, references, returns
from softac.report.published import change_to_v5
from softac.report.results import Result, Runs, State
from softac.report.rows import Block, Row, distinct
from softac.report.search import searches
from softac.report.tables import Group, count, curve, group_runs
from softac.seeds import in_ranges
from softac.words import clean, counted, decimals, listed

LONGEST_KEY = 12  # letters at the end of a line
MOST_LISTED = 8  # names in a sentence
MOST_COMMANDS = 20
LINKS = ("config.json", "evaluations.csv", "metrics.jsonl")
STATES: tuple[State, ...] = ("failed", "unfinished", "not begun", "unreadable")


def render(runs: Runs, folders: Sequence[Path], output: Path) -> str:
    """The page as text.

    Args:
        runs: what it is about.
        folders: what it was made from, for the command that makes it again.
        output: where it will lie.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = environment.from_string(files("softac.report").joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(content(runs, folders, output))


def content(runs: Runs, folders: Sequence[Path], output: Path) -> dict[str, Any]:
    """What the template needs, by name."""
    groups = group_runs(runs.results)
    styles = {name: i for i, name in enumerate(dict.fromkeys(group.name for group in groups))}
    keys = _keys(list(styles))
    evaluated = [group for group in groups if group.evaluated]
    places = {group.env: _decimals(group.env, groups) for group in groups}
    known = references.known(evaluated)
    drawn = references.drawn(evaluated, known)
    return {
        "version": __version__,
        "title": runs.title,
        "summary": _summary(runs, groups),
        "legend": curves.legend(groups, styles, keys, drawn),
        "panels": curves.panels(evaluated, styles, keys, places, drawn),
        "searches": searches(folders),
        "fixed": returns.fixed(evaluated, places),
        "final": returns.last(evaluated, places),
        "across": returns.overall(evaluated),
        "failed": listed(list(dict.fromkeys(group.name for group in groups if count(group.results, "failed")))),
        "n_runs": len(runs.results),
        "missing": _missing(runs.results),
        "lost": _lost(runs.results),
        "times": conditions.times(evaluated),
        "machines": conditions.machines(runs.results),
        "threads": distinct(result.config["run"].get("threads") for result in runs.results if result.config),
        "settings": conditions.settings(groups),
        "environments": conditions.environments(groups),
        "protocols": conditions.protocols(evaluated),
        "published": references.table(known, drawn),
        "sources": references.sources(known),
        "changes": [
            (env, change_to_v5(env)) for env in dict.fromkeys(env for env, _ in known) if change_to_v5(env)
        ],
        "sure": _sure(evaluated),
        "raw": _raw(runs.results, output.parent),
        "commands": list(runs.commands[:MOST_COMMANDS]),
        "more_commands": len(runs.commands) - MOST_COMMANDS,
        "again": _again(folders, output),
    }


def _summary(runs: Runs, groups: Sequence[Group]) -> str:
    names = list(dict.fromkeys(group.name for group in groups))
    envs = list(dict.fromkeys(group.env for group in groups))
    seeds = sorted({result.seed for result in runs.results if result.seed is not None})
    totals = sorted({result.total for result in runs.results if result.name})
    steps = f"{totals[0]:,}" if len(totals) == 1 else f"{totals[0]:,} to {totals[-1]:,}"
    who = listed(names) if len(names) <= MOST_LISTED else f"{len(names)} algorithms"
    where = listed(envs) if len(envs) <= MOST_LISTED else f"{len(envs)} environments"
    return (
        f"{who} on {where}: {steps} environment steps in each run, seed{'s' * (len(seeds) > 1)} "
        f"{in_ranges(seeds)}. {_states(runs.results)}"
    )


def _states(results: Sequence[Result]) -> str:
    """All 65 runs have finished. Or: 60 of 65 runs finished; 2 failed and 3 not begun."""
    n = len(results)
    if count(results, "finished") == n:
        return "The run has finished." if n == 1 else f"All {n} runs have finished."
    words = {
        "failed": "failed",
        "unfinished": "stopped before the end or still going",
        "not begun": "not begun",
        "unreadable": "not readable",
    }
    rest = [f"{count(results, state)} {words[state]}" for state in STATES if count(results, state)]
    return f"{count(results, 'finished')} of {counted(n, 'run')} finished; {listed(rest)}."


def _keys(names: Sequence[str]) -> dict[str, str]:
    """What stands at the ends of the lines: the names, or their numbers in the legend if some are long."""
    if max(map(len, names), default=0) <= LONGEST_KEY:
        return {name: name for name in names}
    return {name: str(i) for i, name in enumerate(names, 1)}


def _decimals(env: str, groups: Sequence[Group]) -> int:
    ends = [result.returns[max(result.returns)] for g in groups if g.env == env for result in g.evaluated]
    return decimals(ends)


def _missing(results: Sequence[Result]) -> list[Row]:
    rows: list[Row] = []
    waiting = [result for result in results if result.state == "not begun"]
    for state in STATES:
        if state == "not begun":
            for (env, name), part in groupby(waiting, lambda result: (result.env, result.name)):
                seeds = in_ranges(sorted(result.seed or 0 for result in part))
                rows.append(
                    {
                        "run": f"{name} on {env}, seed{'s' * (not seeds.isdecimal())} {seeds}",
                        "state": state,
                        "reason": "",
                    }
                )
        rows += [
            {"run": result.title, "state": state, "reason": _why(result)}
            for result in results
            if result.state == state != "not begun"
        ]
    return rows


def _why(result: Result) -> str:
    reached = (
        f"at step {result.steps:,} of {result.total:,}: " if result.state == "failed" and result.total else ""
    )
    return f"{reached}{result.reason}"


def _lost(results: Sequence[Result]) -> list[str]:
    return [
        f"{result.title}: {counted(len(result.lost), 'evaluation')}, at step{'s' * (len(result.lost) > 1)} "
        f"{clean(', '.join(f'{step:,}' for step in result.lost))}"
        for result in results
        if result.lost
    ]


def _sure(groups: Sequence[Group]) -> list[str]:
    """What a 95 % interval has been worth in simulations with as many runs, where that is less."""
    numbers = sorted({estimate.n for group in groups for _, estimate in curve(group) if estimate.interval})
    measured = sorted({n for method, n in stats.COVERAGE if method == "t"})
    nearest = {n: min(measured, key=lambda m: (abs(m - n), m)) for n in numbers}
    sentences = []
    for m in dict.fromkeys(nearest.values()):
        shares = stats.COVERAGE["t", m]
        low, high = sorted((shares["lognormal"], shares["bimodal"]))
        others = [str(n) for n, near in nearest.items() if near == m and n != m]
        instead = f" (the nearest to {listed(others)} that was simulated)" if others else ""
        sentences.append(
            f"With {m} runs{instead}, a 95 % t-interval contained the true mean in {100 * shares['normal']:.0f} % "
            f"of simulated experiments if returns are normal, in {100 * low:.0f} to {100 * high:.0f} % if they "
            "are skewed or have two modes."
        )
    return sentences


def _raw(results: Sequence[Result], home: Path) -> list[Block]:
    blocks = []
    for env, part in groupby(results, lambda result: result.env):
        rows = [
            {
                "run": f"{result.name}, seed {result.seed}" if result.name else clean(result.folder.name),
                "state": result.state,
                "links": [
                    {"file": name, "href": _href(result.folder / name, home)}
                    for name in LINKS
                    if (result.folder / name).is_file()
                ],
            }
            for result in part
        ]
        blocks.append((env or "not known", rows))
    return blocks


def _href(path: Path, home: Path) -> str:
    return f"./{quote(os.fsencode(_relative(path, home)))}"


def _relative(path: Path, home: Path) -> str:
    return os.path.relpath(path.absolute(), home.absolute())


def _again(folders: Sequence[Path], output: Path) -> str:
    words = [_relative(folder, output.parent) for folder in folders]
    return clean(shlex.join(["softac", "report", *words, "-o", output.name]), 2_000)
