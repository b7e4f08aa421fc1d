"""An update as one graph: compiled, and on a GPU recorded."""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softac.learning import private
from softac.learning.adam import InOperations
from softac.learning.learner import Learner, fused_adam_
from softac.learning.parts import learners, parts
from softac.learning.products import onednn_is_ahead
from softac.types import Agent

WARM_UPS = 3  # updates on a GPU before one is recorded


class Graph:
    """`function`, which changes an agent's tensors, as one graph for each setting of its flags.

    A graph is made when it is first called for, with the numbers that the agent has then; where one of them is
    changed, in its configuration or beside it, another is made. Learning rates are read by the graph. Every
    `Graph` has a store of graphs of its own, so that no two agents meet in one.

    Args:
        function: of tensors, tuples of them and booleans.
        agent: its learners are handed a step that a compiler can look into.
        gave_up: called with the reason where something cannot be compiled; from then on `function` is called as it
            is and the learners step as before.
    """

    def __init__(self, function: Callable[..., Any], agent: Agent, gave_up: Callable[[str], None]) -> None:
        self.function, self.agent, self.gave_up = function, agent, gave_up
        self._steps = {learner: InOperations(learner) for learner in learners(agent)}
        for learner, step in self._steps.items():
            learner.adam_ = step
        self._compiled: Callable[..., Any] | None = None
        self._met: set[tuple[bool, ...]] = set()

    def __call__(self, *arguments: Any) -> Any:
        """What `function` returns, after it has been done."""
        self.follow()
        try:
            if self._compiled is not None and flags_of(arguments) in self._met:
                return self._compiled(*arguments)
            return self._for_the_first_time(arguments)
        except Exception as error:
            reason = None if self._compiled is self.function else private.compilers_reason(error)
            if reason is None:
                raise
            # Compiling comes before the first operation: nothing has been changed.
            for learner in self._steps:
                learner.adam_ = fused_adam_
            self._compiled = self.function
            self.gave_up(reason)
            return self.function(*arguments)

    def follow(self) -> None:
        """Take over learning rates that were changed."""
        for learner, step in self._steps.items():
            step.follow(learner)

    def _for_the_first_time(self, arguments: tuple[Any, ...]) -> Any:
        if self._compiled is None:
            prepare_compiler()
            own = list(_own_tensors(self.agent))
            self._compiled = private.compiled(apart(self.function), own, by_onednn=onednn_is_ahead())
        self._met.add(flags_of(arguments))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's, of its own parts
            return self._compiled(*arguments)


class Recordings:
    """A `Graph` on a GPU, recorded for each setting of its flags and replayed from then on.

    A recording repeats the numbers it was made with. Where one of the agent's is changed, all are made anew.

    Args:
        graph: not yet called.
        agent: whose numbers they are.
    """

    def __init__(self, graph: Graph, agent: Agent) -> None:
        self.graph, self.agent = graph, agent
        self._numbers = list(_numbers(agent))
        self._recordings: dict[tuple[bool, ...], Recording] = {}

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns, after it has been done."""
        self.graph.follow()
        if (numbers := list(_numbers(self.agent))) != self._numbers:
            self._numbers = numbers
            self._recordings.clear()
        flags = flags_of(arguments)
        if flags not in self._recordings:
            self._recordings[flags] = Recording(self.graph, self.agent.device)
        return self._recordings[flags](*arguments)


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


def prepare_compiler() -> None:
    """Make PyTorch's compiler ready in this process, at its first use: to load it takes more than a second."""
    # In PyTorch's own place, a folder of a known name in /tmp, anyone could put code for others to run.
    own = private.default_cache()
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR", own) == own:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "softac" / "compiled"
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    private.trace_gradients()


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with code of its own.

    The compiler keeps its graphs with the code they were made from, at most eight; the method of a class is one
    code for all of its objects.
    """

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    call.__code__ = call.__code__.replace()
    return call


def flags_of(arguments: tuple[Any, ...]) -> tuple[bool, ...]:
    """What tells one kind of update from another."""
    return tuple(argument for argument in arguments if isinstance(argument, bool))


def _own_tensors(agent: Agent) -> Iterator[Tensor]:
    for part in parts(agent):
        if isinstance(part, Learner):
            yield from (*part.parameters, *part.exp_avgs, *part.exp_avg_sqs, *part.steps)
        module = part.module if isinstance(part, Learner) else part
        yield from (*module.parameters(), *module.buffers())


def _numbers(agent: Agent) -> Iterator[Any]:
    """What an update may depend on beside tensors: the agent's own numbers, and those of what it holds."""
    for value in vars(agent).values():
        inside = () if isinstance(value, Learner | nn.Module | Tensor) else getattr(value, "__dict__", {}).values()
        yield from (number for number in (value, *inside) if isinstance(number, bool | int | float | str))


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
