"""A cohort: agents that differ in their seed, whose updates are executed as one.

The update of one small network leaves a GPU waiting for the next command most of the time. The parameters of
several agents, stacked, are updated with as many commands as those of one. Here, too, an agent's own file says
what an update is: `torch.vmap` maps it over the stack, to rounding (`Learner.descend` knows of it).

Each agent trains in a thread of its own, as it would alone, and waits in its update for those of the others.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from itertools import chain
from threading import Condition
from typing import Any

import torch
from torch import Tensor

from softac.learning import private
from softac.learning.adam import adam_
from softac.learning.engine import Engine
from softac.learning.graphs import Recording, flags_of
from softac.learning.learner import Learner
from softac.learning.parts import learners, parts
from softac.types import Agent, Metrics

Place = tuple[Any, Any]  # a dict or a list, and the key in it


class Cohort:
    """Agents that learn together.

    What an agent's update gives depends on its own tensors and batches and on the number of agents,
    but not on who else is there: one that has left, or waits for another kind of update, stays as it is.

    Args:
        agents: of one class, configuration, size and device. From now on their tensors are parts of stacks.
            None stands for one that has finished: it keeps its place, on which the others' bits depend.
        recorded: replay the update as a CUDA graph.

    Attributes:
        name: of the engine.
    """

    def __init__(self, agents: Sequence[Agent | None], *, recorded: bool = False) -> None:
        self.name = f"{'recorded ' if recorded else ''}cohort of {len(agents)}"
        self.recorded = recorded
        self._present = {i for i, agent in enumerate(agents) if agent is not None}
        # Into its places `vmap` puts the parts of the stacks, one agent's as it seems to the update.
        self._model = deepcopy(next(agent for agent in agents if agent is not None))
        self.agents = [deepcopy(self._model) if agent is None else agent for agent in agents]
        self._stacks = _stack([_places(agent) for agent in self.agents])
        self._learners = list(zip(*(learners(agent) for agent in self.agents), strict=True))
        # The step sizes are parts, too: they may follow a schedule, and the agents be at different steps.
        self._rates = torch.zeros(len(self._learners), len(agents), dtype=torch.float64, device=self._model.device)
        self._places = _places(self._model)
        for learner, rates in zip(learners(self._model), self._rates, strict=True):
            learner.gradient, learner.adam_ = _gradient, _Step(rates)
            self._places.append((vars(learner.adam_), "rate"))
            self._stacks.append(rates)
        self._now: list[list[float]] = []  # what the step sizes were in the last update
        self._recordings: dict[tuple[bool, ...], Recording] = {}
        self._changed = Condition()
        self._asked: dict[int, tuple[Any, ...]] = {}
        self._answers: dict[int, Metrics | Exception] = {}

    def engine(self, i: int) -> Engine:
        """What executes the updates of agent i: waits until every other that is present asks for one."""
        return Engine(self.agents[i], self.name, lambda _: partial(self._ask, i))

    def leave(self, i: int) -> None:
        """Agent i will ask for no further update: the others no longer wait for it."""
        with self._changed:
            self._present.discard(i)
            self._answer_if_all_asked()

    def _ask(self, i: int, *arguments: Any) -> Metrics:
        with self._changed:
            self._asked[i] = arguments
            self._answer_if_all_asked()
            self._changed.wait_for(lambda: i in self._answers)
            answer = self._answers.pop(i)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _answer_if_all_asked(self) -> None:
        if not self._asked or self._asked.keys() != self._present:
            return
        for flags in dict.fromkeys(flags_of(arguments) for arguments in self._asked.values()):
            asked = {i: arguments for i, arguments in self._asked.items() if flags_of(arguments) == flags}
            try:
                self._answers |= self._together(flags, asked)
            except Exception as error:  # each thread has to hear of it
                self._answers |= dict.fromkeys(asked, error)
        self._asked.clear()
        self._changed.notify_all()

    def _together(self, flags: tuple[bool, ...], asked: dict[int, tuple[Any, ...]]) -> dict[int, Metrics]:
        """One update of those who ask for it."""
        someone = next(iter(asked.values()))
        arguments = _combine(torch.stack, [asked.get(i, someone) for i in range(len(self.agents))])
        if self.recorded and flags not in self._recordings:
            self._recordings[flags] = Recording(self._mapped, self._model.device)
        now = [[learner.learning_rate for learner in same] for same in self._learners]
        if now != self._now:
            self._now = now
            self._rates.copy_(torch.tensor(now, dtype=torch.float64))
        with self._kept([i for i in range(len(self.agents)) if i not in asked]):
            metrics = (self._recordings[flags] if self.recorded else self._mapped)(*arguments)
        return {i: {name: values[i] for name, values in metrics.items()} for i in asked}

    @contextmanager
    def _kept(self, others: list[int]) -> Iterator[None]:
        """Leave these agents as they are, whatever happens to the stacks."""
        if not others:
            yield
            return
        index = torch.tensor(others, device=self._model.device)  # a list would be sent there for each stack
        before = [stack.detach().index_select(0, index) for stack in self._stacks]
        try:
            yield
        finally:
            for stack, rows in zip(self._stacks, before, strict=True):
                stack.detach().index_copy_(0, index, rows)

    def _mapped(self, *arguments: Any) -> Metrics:
        axes = tuple(None if argument is None or isinstance(argument, bool) else 0 for argument in arguments)
        metrics: Metrics = torch.vmap(self._update_model, in_dims=(0, *axes))(self._stacks, *arguments)
        return metrics

    def _update_model(self, parts: list[Tensor], *arguments: Any) -> Metrics:
        for (owner, key), part in zip(self._places, parts, strict=True):
            owner[key] = part
        step: Callable[..., Metrics] = getattr(self._model, "gradient_step_", self._model.update_)
        return step(*arguments)


class _Mapped(torch.autograd.Function):
    """An operation on stacks: `vmap` hands them to the `vmap` of a function; it is called in no other way."""

    @staticmethod
    def forward(*_: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def setup_context(*_: Any) -> None:
        raise NotImplementedError


class _Gradient(_Mapped):
    """The gradient of each agent's loss by its own parameters.

    `vmap` does not differentiate inside itself. But no agent's loss depends on another's parameters, so the
    gradient of the sum of all losses with respect to a stack holds that of each.
    """

    @staticmethod
    def vmap(_info: Any, _in_dims: Any, losses: Tensor, *stacks: Tensor) -> tuple[Any, Any]:
        return torch.autograd.grad(losses.sum(), stacks), (0,) * len(stacks)


class _Adam(_Mapped):
    """Adam's step on the stacks, of each agent by its own count of steps."""

    @staticmethod
    def vmap(_info: Any, _in_dims: Any, rate: Tensor, beta_1: float, *stacks: Tensor) -> tuple[Any, Any]:
        n = len(stacks) // 5
        adam_(rate, beta_1, *(stacks[k * n : (k + 1) * n] for k in range(5)))
        return stacks[0], 0


def _gradient(loss: Tensor, parameters: list[Tensor]) -> Sequence[Tensor]:
    gradients: tuple[Tensor, ...] = _Gradient.apply(loss, *parameters)  # type: ignore[no-untyped-call]
    return gradients


class _Step:
    """What a learner of the model steps by; `rate` is the step size of all agents, to `vmap` of one."""

    def __init__(self, rate: Tensor) -> None:
        self.rate = rate

    def __call__(self, learner: Learner, gradients: Sequence[Tensor]) -> None:
        tensors = (learner.parameters, gradients, learner.exp_avgs, learner.exp_avg_sqs, learner.steps)
        _Adam.apply(self.rate, learner.beta_1, *chain.from_iterable(tensors))  # type: ignore[no-untyped-call]


def _places(agent: Agent) -> list[Place]:
    """Where an agent keeps the tensors that its updates change, a parameter also where its learner has it."""
    places: list[Place] = []
    for part in parts(agent):
        if isinstance(part, Learner):
            kept = (part.parameters, part.exp_avgs, part.exp_avg_sqs, part.steps)
            places += [(tensors, k) for tensors in kept for k in range(len(tensors))]
        places += private.slots(part.module if isinstance(part, Learner) else part)
    return places


def _stack(places: Sequence[Sequence[Place]]) -> list[Tensor]:
    """One stack for each place, of which the agents' tensors become parts; one for a tensor in two places."""
    stacks: list[Tensor] = []
    known: dict[int, Tensor] = {}
    for same in zip(*places, strict=True):
        tensors: list[Tensor] = [owner[key] for owner, key in same]
        if id(tensors[0]) not in known:
            stack = torch.stack([tensor.detach() for tensor in tensors])
            for tensor, part in zip(tensors, stack, strict=True):
                tensor.data = part
            known[id(tensors[0])] = stack.requires_grad_(tensors[0].requires_grad)
        stacks.append(known[id(tensors[0])])
    return stacks


def _combine(function: Callable[[list[Tensor]], Tensor], values: Sequence[Any]) -> Any:
    """`function` of the tensors at the same place of each value, in values of the same form."""
    first = values[0]
    if isinstance(first, Tensor):
        return function(list(values))
    if isinstance(first, tuple):
        parts = [_combine(function, same) for same in zip(*values, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return first
