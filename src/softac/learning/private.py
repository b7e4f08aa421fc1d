"""The one file that uses what PyTorch keeps private, or calls a prototype, and so may change.

PyTorch's compiler is imported here and at its first use. For each function there is a test in
`tests/test_private.py` that says what to do when PyTorch no longer has what it uses.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def add_to_each_(tensors: Sequence[Tensor], number: float) -> None:
    """Add a number to each tensor, in place, by one operation."""
    torch._foreach_add_(list(tensors), number)


def lerp_each_(tensors: list[Tensor], ends: list[Tensor], weight: float) -> None:
    """Move each tensor by this share of its way to its end, in place, by one operation where that can be had.

    In a cohort `vmap` has no rule for it, and a compiler joins the single ones with their neighbours.
    """
    if torch.compiler.is_compiling() or torch._C._functorch.is_batchedtensor(tensors[0]):
        for tensor, end in zip(tensors, ends, strict=True):
            tensor.copy_(tensor.lerp(end, weight))
    else:
        torch._foreach_lerp_(tensors, ends, weight)


def fused_adam_(*tensors: Sequence[Tensor], rate: float, betas: tuple[float, float], epsilon: float) -> None:
    """Adam's step by one kernel, with which `torch.optim.adam.adam` would also end up.

    Args:
        tensors: parameters, gradients, first and second moments and step counts.
        rate: the step size.
        betas: what is left of the moments.
        epsilon: added to the square root of the second.
    """
    parameters, gradients, first, second, steps = map(list, tensors)
    torch._foreach_add_(steps, 1.0)
    settings: Any = {"lr": rate, "beta1": betas[0], "beta2": betas[1], "eps": epsilon, "weight_decay": 0.0}
    variant: Any = {"amsgrad": False, "maximize": False}
    torch._fused_adam_(parameters, gradients, first, second, [], steps, **settings, **variant)


def slots(module: nn.Module) -> Iterator[tuple[dict[str, Any], str]]:
    """Where a module and those in it keep parameters and buffers: a dict and the key in it, which may be set."""
    for part in module.modules():
        yield from ((kept, key) for kept in (part._parameters, part._buffers) for key in kept)


def default_cache() -> str:
    """Where PyTorch's compiler keeps its files unless it is told otherwise."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    return default_cache_dir()


def trace_gradients() -> None:
    """Let `torch.autograd.grad` be part of a graph; a version that cannot runs eagerly."""
    import torch._dynamo

    if hasattr(torch._dynamo.config, "trace_autograd_ops"):
        torch._dynamo.config.trace_autograd_ops = True


def compilers_reason(error: Exception) -> str | None:
    """Why the compiler gave up, before anything was executed; None for an error that is not its own."""
    from torch._dynamo import exc

    if isinstance(error, exc.FailOnRecompileLimitHit):
        return "their numbers were changed more often than the compiler makes new graphs"
    if isinstance(error, exc.TorchDynamoException):
        return " ".join(str(error).split("\n\n")[0].split())
    return None


def compiled(function: Callable[..., Any], own: Sequence[Tensor]) -> Callable[..., Any]:
    """`function` as one graph, compiled when it is called.

    Before each call the compiler checks whether what the graph was made from is still so: the arguments, and every
    number, flag and part of what `function` reaches. Two kinds of these checks are left out, since what they guard
    does not change: the code and constants of modules, and the shapes and types of `own`.

    Args:
        function: of tensors, tuples of them and booleans.
        own: tensors that it writes into and that are never replaced by others of another shape or type.
    """
    known = {id(tensor) for tensor in own}

    def may_change(guards: Sequence[Any]) -> list[bool]:
        fixed = (g.is_global or (g.guard_type == "TENSOR_MATCH" and id(g.value) in known) for g in guards)
        return [not is_fixed for is_fixed in fixed]

    # Calls in C++ make small graphs fast on a CPU; asked for here, they fail on a GPU (pytorch issue 178845).
    on_cpu = all(tensor.device.type == "cpu" for tensor in own)
    options: dict[str, Any] = {"guard_filter_fn": may_change, "cpp_wrapper": on_cpu}
    return torch.compile(function, fullgraph=True, dynamic=False, options=options)
