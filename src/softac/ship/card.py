"""The page that a shared agent has on the hub: what it gets, how it was made, how to load it."""

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from softac._version import __version__
from softac.report.results import Result, label
from softac.run.metrics import Row, as_number
from softac.stats import t_interval
from softac.words import clean, counted

CURVE = "learning_curve.png"
FILM = "replay.mp4"


def model_card(result: Result, rows: Sequence[Row], repository: str, step: int, film: bool) -> str:
    """The card in Markdown, its head in YAML as the hub reads it.

    Args:
        result: what the run folder says.
        rows: its metrics; the last evaluation at or before `step` counts.
        repository: USER/NAME.
        step: of the checkpoint that is shared.
        film: whether there is one.
    """
    algorithm, env = clean(result.config["algorithm"]), result.env
    evaluated = [row for row in rows if row["step"] <= step and as_number(row.get("eval/mean_reward")) is not None]
    last = evaluated[-1] if evaluated else None
    parts = [
        _head(algorithm, env, last),
        f"# {_text(algorithm)} on {_text(env)}\n",
        f"An agent trained for {step:,} environment steps with softac {__version__}, seed {result.seed}.\n",
        f"![Learning curve]({CURVE})\n" if evaluated else "",
        f"![Film]({FILM})\n" if film else "",
        _returns(last),
        _load(repository),
        _settings(result),
    ]
    return "\n".join(part for part in parts if part)


def _head(algorithm: str, env: str, last: Row | None) -> str:
    """YAML whose values are JSON, which is YAML as well and cannot be broken out of."""
    tags = ["reinforcement-learning", "deep-reinforcement-learning", "softac", algorithm, env]
    named = {"name": env, "type": env}
    task = {"type": "reinforcement-learning", "name": "reinforcement-learning"}
    metrics = []
    if last is not None:
        value = f"{last['eval/mean_reward']:.2f} +/- {as_number(last.get('eval/std_reward')) or 0.0:.2f}"
        metrics = [{"type": "mean_reward", "value": value, "name": "mean_reward", "verified": False}]
    index = [{"name": f"{algorithm} on {env}", "results": [{"task": task, "dataset": named, "metrics": metrics}]}]
    lines = ["---", "library_name: softac", f"tags: {json.dumps(tags)}", "pipeline_tag: reinforcement-learning"]
    return "\n".join([*lines, *([f"model-index: {json.dumps(index)}"] if metrics else []), "---", ""])


def _returns(last: Row | None) -> str:
    if last is None:
        return "It has not been evaluated.\n"
    mean, std = last["eval/mean_reward"], as_number(last.get("eval/std_reward")) or 0.0
    returns = last.get("eval/returns")
    episodes = [n for r in returns if (n := as_number(r)) is not None] if isinstance(returns, list) else []
    within = ""
    if len(episodes) > 1:
        interval = t_interval(episodes)
        within = f" (95 % interval of the mean {float(interval.low):,.1f} to {float(interval.high):,.1f})"
    sampled = as_number(last.get("eval/stochastic_mean_reward"))
    lines = [
        "## What it gets\n",
        "| | return |",
        "|---|---|",
        f"| deterministic, {counted(len(episodes), 'episode')} at step {last['step']:,} | "
        f"{mean:,.1f} ± {std:,.1f}{within} |",
    ]
    if sampled is not None:
        lines.append(f"| sampled actions | {sampled:,.1f} |")
    return "\n".join([*lines, "", "± is the standard deviation over episodes of one run, not over seeds.", ""])


def _load(repository: str) -> str:
    return "\n".join(
        [
            "## How to use it\n",
            "```console",
            "$ pip install 'softac[hub]'",
            f"$ softac pull {repository} --run-dir agent",
            "$ softac eval agent ; softac enjoy agent",
            "```\n",
            "```python",
            "from softac import Model",
            "",
            'model = Model.load("agent")',
            "action, _ = model.predict(obs, deterministic=True)",
            "```\n",
            "JSON and safetensors: loading it executes nothing.",
            "",
        ]
    )


def _settings(result: Result) -> str:
    config = result.config
    rows = {**config["hyperparameters"], "n_envs": config["run"].get("n_envs"), "seed": result.seed}
    table = [f"| {_text(name)} | {_text(_plain(value))} |" for name, value in rows.items() if value is not None]
    command = [f"```console\n$ {result.command}\n```\n"] if result.command and "`" not in result.command else []
    title = _text(label(config))
    return "\n".join(
        ["## How it was made\n", *command, f"{title}\n", "| setting | value |", "|---|---|", *table, ""]
    )


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _text(value: object) -> str:
    """A text from a file, without what Markdown or HTML would make of it."""
    return re.sub(r"([\\`*\[\]|#!])", r"\\\1", html.escape(clean(value), quote=False))
