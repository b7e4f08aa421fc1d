"""What stands on the page of a report, section by section, in the words that `page.html` puts in their places."""

import json
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from softac import stats
from softac._version import __version__
from softac.agents.registry import AGENTS
from softac.config import as_text
from softac.report import charts
from softac.report.published import Published, anchor, base, change_to_v5, published
from softac.report.results import Result, Runs, State, label
from softac.report.search import searches
from softac.report.tables import (
    Estimate,
    Group,
    across,
    at_step,
    count,
    curve,
    final,
    fixed_steps,
    group_runs,
    is_interpolated,
)
from softac.seeds import in_ranges
from softac.words import clean, counted, decimals, duration, listed, number

Row: TypeAlias = dict[str, Any]
Block: TypeAlias = tuple[str, list[Row]]  # an environment, and the rows below its name

LONGEST_KEY = 12  # letters at the end of a line
MOST_LISTED = 8  # names in a sentence
MOST_COMMANDS = 20
LINKS = ("config.json", "evaluations.csv", "metrics.jsonl")
MACHINE = {
    "softac": "softac",
    "python": "Python",
    "torch": "PyTorch",
    "gymnasium": "Gymnasium",
    "mujoco": "MuJoCo",
    "numpy": "NumPy",
    "processor": "processor",
    "cpu": "its instructions",
    "cores": "cores",
    "platform": "system",
    "cuda": "CUDA",
}
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
    references = _published(evaluated)
    drawn = _drawn(evaluated, references)
    return {
        "version": __version__,
        "title": runs.title,
        "summary": _summary(runs, groups),
        "legend": _legend(groups, styles, keys, drawn),
        "panels": _panels(evaluated, styles, keys, places, drawn),
        "searches": searches(folders),
        "fixed": _fixed(evaluated, places),
        "final": _final(evaluated, places),
        "across": _across(evaluated),
        "failed": listed(list(dict.fromkeys(group.name for group in groups if count(group.results, "failed")))),
        "n_runs": len(runs.results),
        "missing": _missing(runs.results),
        "lost": _lost(runs.results),
        "times": _times(evaluated),
        "machines": _machines(runs.results),
        "threads": _distinct(result.config["run"].get("threads") for result in runs.results if result.config),
        "settings": _settings(groups),
        "environments": _environments(groups),
        "protocols": _protocols(evaluated),
        "published": _published_rows(references, drawn),
        "sources": _sources(references),
        "changes": [
            (env, change_to_v5(env)) for env in dict.fromkeys(env for env, _ in references) if change_to_v5(env)
        ],
        "sure": _sure(evaluated),
        "raw": _raw(runs.results, output.parent),
        "commands": list(runs.commands[:MOST_COMMANDS]),
        "more_commands": len(runs.commands) - MOST_COMMANDS,
        "again": _again(folders, output),
    }


# Words


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


def _of(n: int, group: Group) -> str:
    return f"{n} of {len(group.results)}"


def _interval(estimate: Estimate, places: int) -> str:
    if estimate.interval is None:
        return ""
    return f"{number(estimate.interval[0], places)} to {number(estimate.interval[1], places)}"


def _distinct(values: Iterable[Any]) -> str:
    return listed(list(dict.fromkeys(clean(value, 60) for value in values if value is not None)))


def _blocks(groups: Sequence[Group], row: Callable[[Group], Row | None]) -> list[Block]:
    """The rows of a table, environment by environment."""
    blocks = []
    for env, members in groupby(groups, lambda group: group.env):
        rows = [made for group in members if (made := row(group)) is not None]
        if rows:
            blocks.append((env, rows))
    return blocks


# Curves


def _panels(
    groups: Sequence[Group],
    styles: dict[str, int],
    keys: dict[str, str],
    places: dict[str, int],
    drawn: Sequence[tuple[str, Published]],
) -> list[Row]:
    panels = []
    for i, (env, members) in enumerate(groupby(groups, lambda group: group.env), 1):
        here = list(members)
        lines = [_line(group, styles[group.name], keys[group.name], places[env]) for group in here]
        of_algorithm = {group.algorithm: group for group in reversed(here)}
        right = max(max(result.returns) for group in here for result in group.evaluated)
        references = [
            _reference(p, styles[of_algorithm[p.algorithm].name], places[env], right)
            for where, p in drawn
            if where == env
        ]
        title = f"Learning curves on {env}"
        panels.append({"env": env, "svg": charts.panel(title, f"panel-{i}", lines, references)})
    return panels


def _line(group: Group, style: int, key: str, places: int) -> charts.Line:
    points = curve(group)
    runs = [(sorted(result.returns.items()), result.state == "failed") for result in group.evaluated]
    said = f"{group.name}: {counted(len(group.evaluated), 'run')} without a common step"
    if points:
        step, last = points[-1]
        interval = f", 95 % interval {_interval(last, places)}" if last.interval else ""
        said = f"{group.name}: {number(last.mean, places)} at {step:,} steps{interval}, {_of(last.n, group)} runs"
    return charts.Line(
        key,
        style,
        [(step, estimate.mean) for step, estimate in points],
        [(step, *estimate.interval) for step, estimate in points if estimate.interval is not None],
        runs,
        all(estimate.n == 2 for _, estimate in points if estimate.interval is not None),
        said,
    )


def _reference(p: Published, style: int, places: int, right: int) -> charts.Reference:
    """What has been published up to the step at which the curves end."""
    points = [(step, mean, std) for step, (mean, std) in sorted(p.at.items()) if step <= right]
    values = [f"{number(mean, places)} at {step:,} steps" for step, mean, _ in points]
    said = f"published for {p.algorithm} ({p.source.name}, {p.source.version}): {', '.join(values)}"
    return charts.Reference(f"{p.algorithm}, {p.source.version}", style, points, said)


def _legend(
    groups: Sequence[Group],
    styles: dict[str, int],
    keys: dict[str, str],
    drawn: Sequence[tuple[str, Published]],
) -> list[Row]:
    legend: list[Row] = []
    for name, style in styles.items():
        counts = [len(group.evaluated) for group in groups if group.name == name]
        fewest, most = min(counts), max(counts)
        seeds = counted(most, "seed") if fewest == most else f"{fewest} to {counted(most, 'seed')}"
        if fewest == 0:
            seeds = f"up to {counted(most, 'seed')}" if most else "none has been evaluated"
        legend.append(
            {
                "sign": charts.swatch(style),
                "key": keys[name] if keys[name] != name else "",
                "name": name,
                "note": seeds + (", no interval" if most == 1 else ""),
            }
        )
    legend += [
        {
            "sign": charts.sign("diamond"),
            "key": "",
            "name": f"published: {source.name}",
            "note": f"{source.version}, {source.seeds} seeds, mean ± standard deviation",
        }
        for source in dict.fromkeys(p.source for _, p in drawn)
    ]
    if any(result.state == "failed" and result.returns for group in groups for result in group.results):
        legend.append(
            {"sign": charts.sign("cross"), "key": "", "name": "a run that failed", "note": "its last evaluation"}
        )
    return legend


# Tables of returns


def _fixed(groups: Sequence[Group], places: dict[str, int]) -> list[Row]:
    """A table for each environment."""
    return [
        {"env": env, **_fixed_table(list(members), places[env])}
        for env, members in groupby(groups, lambda group: group.env)
    ]


def _fixed_table(groups: Sequence[Group], places: int) -> Row:
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
                "interval": _interval(cell, places),
                "runs": "" if cell.n == most else _of(cell.n, group),
                "best": len(others) > 1 and cell.mean == max(others),
            }
            for cell, others in zip(mine, means, strict=True)
        ]
        rows.append({"name": group.name, "runs": _of(most, group), "cells": cells})
    between = any(is_interpolated(result, step) for g in groups for result in g.evaluated for step in steps)
    return {"steps": [f"{step:,}" for step in steps], "rows": rows, "interpolated": between}


def _final(groups: Sequence[Group], places: dict[str, int]) -> list[Block]:
    def row(group: Group) -> Row | None:
        end, digits = final(group), places[group.env]
        if end is None:
            return None

        def other(estimate: Estimate | None, places: int = digits, scale: float = 1.0) -> str:
            if estimate is None:
                return ""
            shown = number(scale * estimate.mean, places)
            return shown + (f" ({_of(estimate.n, group)})" if estimate.n != end.n else "")

        return {
            "name": group.name,
            "step": f"{end.step:,}",
            "runs": _of(end.n, group),
            "mean": number(end.mean, digits),
            "std": "" if end.std is None else number(end.std, digits),
            "median": number(end.median, digits),
            "least": number(end.least, digits),
            "iqm": number(end.iqm, digits),
            "tenth": other(end.last_tenth),
            "sampled": other(end.sampled),
            "success": other(end.success, 0, 100.0),
        }

    return _blocks(groups, row)


def _across(groups: Sequence[Group]) -> Row | None:
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


# What is missing


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


# Time and machine


def _times(groups: Sequence[Group]) -> list[Block]:
    def row(group: Group) -> Row | None:
        clocks = [result.clock for result in group.results if result.clock is not None]
        if not clocks:
            return None
        return {
            "name": group.name,
            "runs": _of(len(clocks), group),
            "wall": duration(median(seconds for _, _, seconds in clocks)),
            "steps": _rate(median(steps / seconds for steps, _, seconds in clocks)),
            "updates": _rate(median(updates / seconds for _, updates, seconds in clocks)),
        }

    return _blocks(groups, row)


def _rate(rate: float) -> str:
    return number(rate, 0 if rate >= 10 else 2)


def _machines(results: Sequence[Result]) -> list[Row]:
    """Each machine with its versions, and how many runs it made."""
    found = Counter(
        tuple((shown, result.system[name]) for name, shown in MACHINE.items() if name in result.system)
        for result in results
        if result.returns
    )
    return [{"runs": n, "facts": facts} for facts, n in found.items()]


# What was run


def _settings(groups: Sequence[Group]) -> list[Row]:
    """One row for each name, or more where its settings are not the same everywhere."""
    rows: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for group in groups:
        for result in group.results:
            if not result.config or result.state == "not begun":
                continue
            run = result.config["run"]
            words = [group.name, clean(result.config["algorithm"]), _changed(result.config)]
            words += [clean(run.get(what, "unknown"), 40) for what in ("engine", "precision", "n_envs", "device")]
            rows.setdefault(tuple(words), {}).setdefault(group.env, []).append(result.seed or 0)
    repeated = {name for name, n in Counter(words[0] for words in rows).items() if n > 1}
    return [
        {
            "name": name,
            "algorithm": algorithm,
            "changed": changed,
            "engine": engine,
            "precision": precision,
            "n_envs": n_envs,
            "device": device,
            "envs": listed(list(seeds)) if name in repeated else "",
            "seeds": _seeds(seeds),
        }
        for (name, algorithm, changed, engine, precision, n_envs, device), seeds in rows.items()
    ]


def _changed(config: dict[str, Any]) -> str:
    """The hyperparameters that are not at their defaults; all of them for an algorithm that is not softac's."""
    algorithm = config["algorithm"]
    if algorithm in AGENTS:
        return clean(label(config).removeprefix(algorithm).removeprefix(", "), 600)
    return clean(", ".join(f"{name}={as_text(value)}" for name, value in config["hyperparameters"].items()), 600)


def _seeds(by_env: dict[str, list[int]]) -> str:
    """0-2, or for each environment its own where they differ."""
    texts = {env: in_ranges(sorted(seeds)) for env, seeds in by_env.items()}
    distinct = set(texts.values())
    return distinct.pop() if len(distinct) == 1 else "; ".join(f"{env}: {text}" for env, text in texts.items())


def _environments(groups: Sequence[Group]) -> list[Row]:
    return [
        {"env": env, "arguments": clean(_arguments(list(members)), 600)}
        for env, members in groupby(groups, lambda group: group.env)
    ]


def _arguments(groups: Sequence[Group]) -> str:
    """The keyword arguments of an environment; "" without any. They are the same for all evaluated runs."""
    of_runs = [result.config["env"]["kwargs"] for group in groups for result in group.results if result.config]
    kwargs: dict[str, Any] = next(filter(None, of_runs), {})
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in kwargs.items())


def _protocols(groups: Sequence[Group]) -> list[str]:
    """How runs were evaluated: one sentence, or more where they differ."""
    found: dict[tuple[str, str], list[str]] = {}
    for group in groups:
        for result in group.evaluated:
            record = result.config.get("record", {})
            episodes, freq = (clean(record.get(what, "unknown"), 20) for what in ("n_eval_episodes", "eval_freq"))
            when = (
                "at the end"
                if freq == "0"
                else f"every {int(freq):,} steps and at the end"
                if freq.isdecimal()
                else ""
            )
            found.setdefault((episodes, when), []).append(group.env)
    return [
        f"{episodes} episodes {when}".strip()
        + (f" ({listed(list(dict.fromkeys(envs)))})" if len(found) > 1 else "")
        for (episodes, when), envs in found.items()
    ]


# Published values


def _published(groups: Sequence[Group]) -> list[tuple[str, Published]]:
    """The values of the algorithms and environments on the page, where these have no arguments of their own."""
    pairs = dict.fromkeys((group.env, group.algorithm) for group in groups if not _arguments([group]))
    return [(env, p) for env, algorithm in pairs for p in published(env, algorithm)]


def _drawn(groups: Sequence[Group], references: Sequence[tuple[str, Published]]) -> list[tuple[str, Published]]:
    """Those that may stand beside the curves, and at steps that these have."""
    furthest = {env: 0 for env, _ in references}
    for group in groups:
        ends = [max(result.returns) for result in group.evaluated]
        furthest[group.env] = max(furthest.get(group.env, 0), *ends)
    return [(env, p) for env, p in references if p.drawn and min(p.at) <= furthest[env]]


def _published_rows(references: Sequence[tuple[str, Published]], drawn: Sequence[tuple[str, Published]]) -> Row:
    steps = sorted({step for _, p in references for step in p.at})
    blocks = []
    for env, part in groupby(references, lambda reference: reference[0]):
        rows = [
            {
                "name": p.algorithm,
                "source": f"{p.source.name}, {base(env)}-{p.source.version}",
                "metric": f"{p.source.metric}, {p.source.seeds} seeds",
                "drawn": (env, p) in drawn,
                "cells": [_published_cell(p, step) for step in steps],
            }
            for _, p in part
        ]
        blocks.append((env, rows))
    return {"steps": [f"{step:,}" for step in steps], "blocks": blocks}


def _published_cell(p: Published, step: int) -> str:
    if step not in p.at:
        return ""
    mean, std = p.at[step]
    places = 0 if float(mean).is_integer() else 1
    return number(mean, places) + (f" ± {number(std)}" if std is not None else "")


def _sources(references: Sequence[tuple[str, Published]]) -> list[Row]:
    return [
        {"name": s.name, "where": s.where, "how": s.how, "metric": s.metric}
        for s in dict.fromkeys(p.source for _, p in references)
    ]


# How sure


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


# Raw data


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
