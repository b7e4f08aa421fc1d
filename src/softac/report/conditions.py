"""What was run: settings, environments, how it was evaluated, on which machine and in what time."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from statistics import median
from typing import Any

from softac.agents.registry import AGENTS
from softac.config import as_text
from softac.report.results import Result, label
from softac.report.rows import Block, Row, blocks, of
from softac.report.tables import Group
from softac.seeds import in_ranges
from softac.words import clean, duration, listed, number

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


def times(groups: Sequence[Group]) -> list[Block]:
    """Medians of how long runs took, and of steps and updates per second."""

    def row(group: Group) -> Row | None:
        clocks = [result.clock for result in group.results if result.clock is not None]
        if not clocks:
            return None
        return {
            "name": group.name,
            "runs": of(len(clocks), group),
            "wall": duration(median(seconds for _, _, seconds in clocks)),
            "steps": _rate(median(steps / seconds for steps, _, seconds in clocks)),
            "updates": _rate(median(updates / seconds for _, updates, seconds in clocks)),
        }

    return blocks(groups, row)


def _rate(rate: float) -> str:
    return number(rate, 0 if rate >= 10 else 2)


def machines(results: Sequence[Result]) -> list[Row]:
    """Each machine with its versions, and how many runs it made."""
    found = Counter(
        tuple((shown, result.system[name]) for name, shown in MACHINE.items() if name in result.system)
        for result in results
        if result.returns
    )
    return [{"runs": n, "facts": facts} for facts, n in found.items()]


def settings(groups: Sequence[Group]) -> list[Row]:
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


def environments(groups: Sequence[Group]) -> list[Row]:
    """Each environment with its keyword arguments."""
    return [
        {"env": env, "arguments": clean(arguments(list(members)), 600)}
        for env, members in groupby(groups, lambda group: group.env)
    ]


def arguments(groups: Sequence[Group]) -> str:
    """The keyword arguments of an environment; "" without any. They are the same for all evaluated runs."""
    of_runs = [result.config["env"]["kwargs"] for group in groups for result in group.results if result.config]
    kwargs: dict[str, Any] = next(filter(None, of_runs), {})
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in kwargs.items())


def protocols(groups: Sequence[Group]) -> list[str]:
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
