"""A learner: a module, its parameters and their Adam state."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from softac.config.schedules import schedule_of, value_at
from softac.learning import private

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Learner:
    """What learns: a module, its parameters, and the Adam moments of these parameters.

    A loss is differentiated with respect to the parameters of the learner that descends on it and
    of no other, so the actor's step cannot touch the critics it looks through.

    Args:
        module: its parameters are updated in place.
        learning_rate: Adam's step size, or a schedule of it; beta_2 = 0.999 and epsilon = 1e-8 as published.
        beta_1: what is left of the mean gradient after each step.

    Attributes:
        learning_rate: the step size now.
        schedule: what it follows; None: it stays.
        gradient: of a scalar loss with respect to tensors; an executor may put its own form here.
        adam_: takes this learner and the gradients, and moves the parameters; likewise.
    """

    def __init__(self, module: nn.Module, learning_rate: float | str, beta_1: float = BETA_1) -> None:
        self.module: Any = module  # an agent may call more of its class than nn.Module has
        self.learning_rate, self.schedule, self.beta_1 = (
            value_at(learning_rate, 0),
            schedule_of(learning_rate),
            beta_1,
        )
        self.parameters: list[Tensor] = list(module.parameters())
        self.exp_avgs = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.exp_avg_sqs = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in self.parameters]
        self.gradient: Callable[[Tensor, list[Tensor]], Sequence[Tensor]] = torch.autograd.grad
        self.adam_: Callable[[Learner, Sequence[Tensor]], None] = fused_adam_

    def __call__(self, *inputs: Any) -> Any:
        """What the module says of `inputs`."""
        return self.module(*inputs)

    def follow(self, step: int) -> None:
        """Take the step size of its schedule when `step` environment steps have been made."""
        if self.schedule is not None:
            self.learning_rate = self.schedule(step)

    def descend(self, loss: Tensor, max_grad_norm: float | None = None) -> None:
        """One step of Adam on the scalar `loss`, for these parameters alone.

        With `max_grad_norm` the gradient is shortened to that Euclidean norm if it is longer.

        Source: arXiv:1412.6980, algorithm 1.
        """
        gradients = self.gradient(loss, self.parameters)
        with torch.no_grad():
            if max_grad_norm is not None:
                norm = torch.nn.utils.get_total_norm(gradients, foreach=False)
                shrink = (max_grad_norm / (norm + 1e-6)).clamp_max(1.0)
                gradients = [gradient * shrink for gradient in gradients]
            self.adam_(self, gradients)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The live tensors by key: `name.*` those of the module, `optim.name.*` the Adam state."""
        keys = [key for key, _ in self.module.named_parameters()]
        state = tensors_of(self.module, name)
        moments = (("exp_avg", self.exp_avgs), ("exp_avg_sq", self.exp_avg_sqs), ("step", self.steps))
        for moment, tensors in moments:
            state |= {f"optim.{name}.{k}.{moment}": t for k, t in zip(keys, tensors, strict=True)}
        return state


def tensors_of(module: nn.Module, name: str) -> dict[str, Tensor]:
    """A module's parameters and what it keeps beside them in checkpoints (running statistics), as `name.*`."""
    return {f"{name}.{key}": tensor.detach() for key, tensor in module.state_dict(keep_vars=True).items()}


def fused_adam_(learner: Learner, gradients: Sequence[Tensor]) -> None:
    """Adam's step as PyTorch's fused kernel, the fastest form where each operation is executed by itself."""
    tensors = (learner.parameters, gradients, learner.exp_avgs, learner.exp_avg_sqs, learner.steps)
    private.fused_adam_(*tensors, rate=learner.learning_rate, betas=(learner.beta_1, BETA_2), epsilon=EPSILON)


def polyak_(target: Iterable[Tensor], online: Iterable[Tensor], tau: float) -> None:
    """Target <- (1 - tau) target + tau online, in place.

    Source: arXiv:1812.05905, algorithm 1, last line.
    """
    with torch.no_grad():
        private.lerp_each_(list(target), list(online), tau)
