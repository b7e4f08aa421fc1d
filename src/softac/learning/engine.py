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
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softac.errors import ConfigError
from softac.types import Agent, Metrics

Execute = Callable[[Callable[..., Any]], Callable[..., Any]]

PAYS_FROM = 10_000  # updates; these save what compiling costs the first time, 2,000 what it costs later
WARM_UPS = 3  # updates on a GPU before one is recorded

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
        self.name, self._device = name, agent.device
        self.update_: Callable[[Any, Any], Metrics] = agent.update_
        if name == "eager":
            return
        execute = execute or (self._compiled if name == "compiled" else self._recorded)
        if hasattr(agent, "gradient_step_"):
            # `update_` counts and asks which turn it is, which is no work for a graph, and calls this.
            agent.gradient_step_ = execute(agent.gradient_step_)
        else:
            self.update_ = execute(agent.update_)

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` as one graph for each setting of its flags; as it is if it does not compile here."""
        graph: Callable[..., Any] | None = None
        compiled: set[tuple[bool, ...]] = set()

        def call(*arguments: Any) -> Any:
            nonlocal graph
            flags = flags_of(arguments)
            if graph is not None and flags in compiled:
                return graph(*arguments)
            compiled.add(flags)
            prepare_compiler()
            from torch._dynamo.exc import TorchDynamoException

            try:
                graph = graph or _graph(function)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # the compiler's, of its own parts
                    return graph(*arguments)
            except TorchDynamoException as error:
                # Compiling comes before the first operation: nothing has been changed.
                reason = " ".join(str(error).split("\n\n")[0].split())
                log.warning("updates could not be compiled (%.200s); going on eagerly, not bit for bit", reason)
                self.name, graph = "eager", function
                return function(*arguments)

        return call

    def _recorded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` compiled, recorded for each setting of its flags and replayed from then on."""
        compiled = self._compiled(function)
        recordings: dict[tuple[bool, ...], Recording] = {}

        def call(*arguments: Any) -> Any:
            flags = flags_of(arguments)
            if flags not in recordings:
                recordings[flags] = Recording(compiled, self._device)
            return recordings[flags](*arguments)

        return call


class Recording:
    """A CUDA graph of `function`, whose tensor arguments are copied into places of its own.

    Recording does not execute, so the call that records replays at once.

    Args:
        function: of tensors, tuples of them, and what is the same in every call; not yet recorded.
        device: the GPU.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self.function, self.device = function, device
        self.calls = 0

    def __call__(self, *arguments: Any) -> Any:
        """What `function` returns, after it has been done."""
        self.calls += 1
        with torch.cuda.device(self.device):
            return self._execute(arguments)

    def _execute(self, arguments: tuple[Any, ...]) -> Any:
        if self.calls == 1:
            self.graph = torch.cuda.CUDAGraph()
            self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            # From the first call on, since tensors that lie otherwise in memory would be compiled for anew.
            self.arguments = _map(torch.clone, arguments)
        for place, tensor in zip(_tensors(self.arguments), _tensors(arguments), strict=True):
            place.copy_(tensor)
        if self.calls <= WARM_UPS:
            # What is allocated lazily must be there before it is recorded, on a stream that may be.
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                results = self.function(*self.arguments)
            torch.cuda.current_stream().wait_stream(self.stream)
            return results
        if self.calls == WARM_UPS + 1:
            torch.cuda.current_blas_handle()  # type: ignore[no-untyped-call]  # this thread's; it cannot be made while recording
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.results = self.function(*self.arguments)
        self.graph.replay()
        return _map(torch.clone, self.results)


def require_engine(asked: str, agent: Agent) -> None:
    """Refuse an engine that `agent` can have on no machine like this one.

    Raises:
        ConfigError: a graph for an on-policy agent, or CUDA graphs without a GPU.
    """
    if asked in ("compiled", "cudagraph") and agent.on_policy:
        raise ConfigError(
            f"engine={asked!r} was given for an on-policy algorithm",
            "expected one that learns from a replay: its update is one graph",
            "leave engine out",
        )
    if asked == "cudagraph" and agent.device.type != "cuda":
        raise ConfigError(
            f"engine='cudagraph' was given on the {agent.device.type}",
            "expected a CUDA device",
            "use 'compiled'",
        )


def choose_engine(asked: str, agent: Agent, planned_updates: int) -> tuple[str, str]:
    """The engine for a run, and why in words; one that cannot be had here becomes "eager".

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
        return "eager", "there is no GPU for CUDA graphs"
    if asked == "auto" and on_gpu:
        return "eager", "on a GPU the others have to be asked for"
    if asked == "auto" and planned_updates < PAYS_FROM:
        return "eager", f"{planned_updates:,} updates do not pay for compiling, {PAYS_FROM:,} do"
    if missing := what_compiling_lacks():
        return "eager", missing
    return ("compiled", f"{planned_updates:,} updates pay for it") if asked == "auto" else (asked, "as asked")


def what_compiling_lacks() -> str:
    """What is missing here to compile updates, in words; "" if nothing."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler {compiler} (Debian: apt install g++)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python's headers are missing (Debian: apt install python3-dev)"
    return ""


def prepare_compiler() -> None:
    """Make PyTorch's compiler ready in this process, at its first use: to load it takes more than a second."""
    import torch._dynamo
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # In PyTorch's own place, a folder of a known name in /tmp, anyone could put code for others to run.
    own = default_cache_dir()
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR", own) == own:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "softac" / "compiled"
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)

    # Without it torch.autograd.grad cannot be part of a graph; older versions do not have it and run eagerly.
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):
        torch._dynamo.config.trace_autograd_ops = True


def _graph(function: Callable[..., Any]) -> Callable[..., Any]:
    options: dict[str, Any] = {"guard_filter_fn": _of_arguments, "cpp_wrapper": True}
    return torch.compile(function, fullgraph=True, dynamic=False, options=options)


def _of_arguments(guards: Sequence[Any]) -> list[bool]:
    """Guard what may differ from call to call; the agent's own tensors stay what and where they are."""
    return [not guard.is_global and not guard.name.startswith("L['self']") for guard in guards]


def flags_of(arguments: tuple[Any, ...]) -> tuple[bool, ...]:
    """What tells one kind of update from another."""
    return tuple(argument for argument in arguments if isinstance(argument, bool))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors(part)


def _map(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _map(function, part) for key, part in value.items()}
    if isinstance(value, tuple):
        parts = [_map(function, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
