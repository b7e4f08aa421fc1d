"""A learner: a module, its parameters and their Adam state."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.optim.adam import adam

from softac.errors import CheckpointError

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Learner:
    """What learns: a module, its parameters, and the Adam moments of these parameters.

    A loss is differentiated with respect to the parameters of the learner that descends on it and
    of no other, so the actor's step cannot touch the critics it looks through.

    Args:
        module: its parameters are updated in place.
        learning_rate: Adam's step size; beta_2 = 0.999 and epsilon = 1e-8 as published.
        beta_1: what is left of the mean gradient after each step.
    """

    def __init__(self, module: nn.Module, learning_rate: float, beta_1: float = BETA_1) -> None:
        self.module: Any = module  # an agent may call more of its class than nn.Module has
        self.learning_rate, self.beta_1 = learning_rate, beta_1
        self.parameters: list[Tensor] = list(module.parameters())
        self.exp_avgs = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.exp_avg_sqs = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in self.parameters]

    def __call__(self, *inputs: Any) -> Any:
        """What the module says of `inputs`."""
        return self.module(*inputs)

    def descend(self, loss: Tensor, max_grad_norm: float | None = None) -> None:
        """One step of Adam on the scalar `loss`, for these parameters alone.

        With `max_grad_norm` the gradient is shortened to that Euclidean norm if it is longer.

        Source: arXiv:1412.6980, algorithm 1.
        """
        gradients = _gradients(loss, self.parameters)
        with torch.no_grad():
            if max_grad_norm is not None:
                norm = torch.nn.utils.get_total_norm(gradients, foreach=False)
                shrink = (max_grad_norm / (norm + 1e-6)).clamp_max(1.0)
                gradients = [gradient * shrink for gradient in gradients]
            if torch.compiler.is_compiling() or _functorch.is_batchedtensor(loss):
                self._adam_(gradients)
            else:
                adam(
                    self.parameters,
                    gradients,
                    self.exp_avgs,
                    self.exp_avg_sqs,
                    [],
                    self.steps,
                    fused=True,
                    amsgrad=False,
                    beta1=self.beta_1,
                    beta2=BETA_2,
                    lr=self.learning_rate,
                    weight_decay=0.0,
                    eps=EPSILON,
                    maximize=False,
                )

    def _adam_(self, gradients: list[Tensor]) -> None:
        """The same step in operations that a compiler joins with their neighbours into one pass."""
        steps, parameters = _stacks(self.steps), _stacks(self.parameters)
        torch._foreach_add_(steps, 1.0)
        step = steps[0].double()
        # As exponentials, which the compiler computes once a step; it would repeat a power for each vector.
        bias_1 = 1.0 - torch.exp(step * math.log(self.beta_1))
        bias_2 = (1.0 - torch.exp(step * math.log(BETA_2))).sqrt()
        dtype = parameters[0].dtype
        size, floor = (self.learning_rate * bias_2 / bias_1).to(dtype), (EPSILON * bias_2).to(dtype)
        moments = _stacks(self.exp_avgs), _stacks(self.exp_avg_sqs)
        for p, g, m, v in zip(parameters, _stacks(gradients), *moments, strict=True):
            m.lerp_(g, 1.0 - self.beta_1)
            v.mul_(BETA_2).addcmul_(g, g, value=1.0 - BETA_2)
            each = (*step.shape, *(1 for _ in range(p.dim() - step.dim())))
            p.sub_(size.view(each) * m / (v.sqrt() + floor.view(each)))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The live tensors by key: `name.*` those of the module, `optim.name.*` the Adam state."""
        keys = [key for key, _ in self.module.named_parameters()]
        state = live_tensors(**{name: self.module})
        moments = (("exp_avg", self.exp_avgs), ("exp_avg_sq", self.exp_avg_sqs), ("step", self.steps))
        for moment, tensors in moments:
            state |= {f"optim.{name}.{k}.{moment}": t for k, t in zip(keys, tensors, strict=True)}
        return state


def live_tensors(**parts: Learner | nn.Module | Tensor | None) -> dict[str, Tensor]:
    """The tensors that an agent's parts consist of, by key, to be read and written in place.

    A module (a target network) gives its parameters and what it keeps of them in checkpoints (running
    statistics), a learner its Adam state, too, a tensor itself; None gives nothing.
    """
    tensors: dict[str, Tensor] = {}
    for name, part in parts.items():
        match part:
            case Learner():
                tensors |= part.tensors(name)
            case nn.Module():
                tensors |= {f"{name}.{key}": t.detach() for key, t in part.state_dict(keep_vars=True).items()}
            case Tensor():
                tensors[name] = part
            case None:
                pass
    return tensors


def polyak_(target: Iterable[Tensor], online: Iterable[Tensor], tau: float) -> None:
    """Target <- (1 - tau) target + tau online, in place.

    Source: arXiv:1812.05905, algorithm 1, last line.
    """
    with torch.no_grad():
        torch._foreach_lerp_(_stacks(target), _stacks(online), tau)


def _gradients(loss: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    """The gradient of `loss`; in a cohort, that of each agent's loss by its own parameters."""
    if torch.compiler.is_compiling() or not _functorch.is_batchedtensor(loss):
        return list(torch.autograd.grad(loss, parameters))
    # `vmap` does not differentiate inside itself. But no agent's loss depends on another's parameters, so the
    # gradient of their sum with respect to a stack holds that of each.
    level = _functorch.maybe_get_level(loss)
    (losses,) = _stacks([loss])
    return [_functorch._add_batch_dim(g, 0, level) for g in torch.autograd.grad(losses.sum(), _stacks(parameters))]


def _stacks(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The tensors; in a cohort, the stacks that they are an agent's part of.

    For what is done elementwise: `vmap` has no rule for some of it, and needs none.
    """
    if torch.compiler.is_compiling():
        return list(tensors)
    return [_functorch.get_unwrapped(t) if _functorch.is_batchedtensor(t) else t for t in tensors]


def copy_state_(live: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy `state` into the tensors of `live`.

    Raises:
        CheckpointError: a name is missing or unknown, or a shape or dtype differs.
    """
    if live.keys() != state.keys():
        odd = sorted(live.keys() ^ state.keys())
        raise CheckpointError(
            f"the saved agent and this configuration differ in {len(odd)} tensors, first {odd[0]!r}",
            "expected the same names",
            "load it with the configuration it was saved with",
        )
    for name, tensor in live.items():
        given = state[name]
        if given.shape != tensor.shape or given.dtype != tensor.dtype:
            raise CheckpointError(
                f"{name} was saved as {given.dtype} {tuple(given.shape)}",
                f"expected {tensor.dtype} {tuple(tensor.shape)}",
                "load it with the configuration it was saved with",
            )
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(state[name])
