"""Engines: how an agent's updates are executed.

    eager       operation by operation; the reference, and the only one for on-policy agents
    compiled    the whole update as one graph, in place on the agent's own tensors
    cudagraph   that graph, recorded once on a GPU and replayed

One source serves all: an engine executes what the agent's file says. They agree to rounding, not bit for bit,
so the choice belongs to the run: it follows from the configuration by rule and is kept when the run goes on.
"""

import logging
import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from softac.errors import ConfigError
from softac.learning.graphs import Graph, Recordings
from softac.types import Agent, Metrics

Execute = Callable[[Callable[..., Any]], Callable[..., Any]]

PAYS_FROM = 10_000  # updates; these save what compiling costs the first time, 2,000 what it costs later

log = logging.getLogger("softac")


class Engine:
    """Executes an agent's updates. Acting stays eager: to call a graph for one observation saves nothing.

    Args:
        agent: whose updates they are. Other engines than "eager" take its `gradient_step_` over, if it has one.
        name: "eager", "compiled", "cudagraph", or what `execute` is called.
        execute: takes the function that changes the agent's tensors and returns what is called in its place;
            None: by the name.

    Attributes:
        name: what executes them: "eager", too, after they could not be compiled.
        update_: as `Agent.update_`, for batches of one size.
    """

    def __init__(self, agent: Agent, name: str = "eager", execute: Execute | None = None) -> None:
        self.name = name
        self.update_: Callable[[Any, Any], Metrics] = agent.update_
        if name == "eager":
            return
        execute = execute or (lambda function: self._graph(function, agent))
        if hasattr(agent, "gradient_step_"):
            # `update_` counts and asks which turn it is, which is no work for a graph, and calls this.
            agent.gradient_step_ = execute(agent.gradient_step_)
        else:
            self.update_ = execute(agent.update_)

    def _graph(self, function: Callable[..., Any], agent: Agent) -> Callable[..., Any]:
        graph = Graph(function, agent, self._gave_up)
        return Recordings(graph, agent) if self.name == "cudagraph" else graph

    def _gave_up(self, reason: str) -> None:
        log.warning("updates could not be compiled (%.200s); going on eagerly, not bit for bit", reason)
        self.name = "eager"


def require_engine(asked: str, agent_class: type[Any], device: torch.device) -> None:
    """Refuse an engine that an agent can have on no machine like this one.

    Raises:
        ConfigError: a graph for an on-policy agent, or CUDA graphs without a GPU.
    """
    if asked in ("compiled", "cudagraph") and agent_class.on_policy:
        raise ConfigError(
            f"engine={asked!r} was given for an on-policy algorithm",
            "expected one that learns from a replay: its update is one graph",
            "leave engine out",
        )
    if asked == "cudagraph" and device.type != "cuda":
        raise ConfigError(
            f"engine='cudagraph' was given on the {device.type}",
            "expected a CUDA device",
            "use 'compiled'",
        )


def choose_engine(asked: str, agent: Agent, planned_updates: int) -> tuple[str, str]:
    """The engine for a run, and why in words; one that cannot be had here becomes one that can.

    Args:
        asked: "auto", or the one to use.
        agent: whose updates they are.
        planned_updates: in the whole run.
    """
    if asked == "eager":
        return asked, "as asked"
    if agent.on_policy:
        return "eager", "on-policy updates are not compiled"
    on_gpu = agent.device.type == "cuda"
    if asked == "cudagraph" and not on_gpu:
        name, why = choose_engine("auto", agent, planned_updates)
        return name, f"there is no GPU for CUDA graphs, and {why}"
    if asked == "auto" and planned_updates < PAYS_FROM:
        return "eager", f"{planned_updates:,} updates do not pay for compiling, {PAYS_FROM:,} do"
    if missing := what_compiling_lacks():
        return "eager", missing
    if asked != "auto":
        return asked, "as asked"
    return "cudagraph" if on_gpu else "compiled", f"{planned_updates:,} updates pay for it"


def what_compiling_lacks() -> str:
    """What is missing here to compile updates, in words; "" if nothing."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler {compiler} (Debian: apt install g++)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python's headers are missing (Debian: apt install python3-dev)"
    return ""
