"""The one file that uses what PyTorch keeps private, or calls a prototype, and so may change.

PyTorch's compiler is imported here and at its first use. For each function there is a test in
`tests/test_private.py` that says what to do when PyTorch no longer has what it uses.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

LARGE = 64  # rows and columns from which on a product in float32 is worth oneDNN's call


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


def compiled(
    function: Callable[..., Any], own: Sequence[Tensor], *, by_onednn: bool = False
) -> Callable[..., Any]:
    """`function` as one graph, compiled when it is called.

    Before each call the compiler checks whether what the graph was made from is still so: the arguments, and every
    number, flag and part of what `function` reaches. Two kinds of these checks are left out, since what they guard
    does not change: the code and constants of modules, and the shapes and types of `own`.

    Args:
        function: of tensors, tuples of them and booleans.
        own: tensors that it writes into and that are never replaced by others of another shape or type.
        by_onednn: whether its products in float32 are made by oneDNN and not by MKL; on the CPU alone, and where
            PyTorch has what that takes.
    """
    known = {id(tensor) for tensor in own}

    def may_change(guards: Sequence[Any]) -> list[bool]:
        fixed = (g.is_global or (g.guard_type == "TENSOR_MATCH" and id(g.value) in known) for g in guards)
        return [not is_fixed for is_fixed in fixed]

    # Calls in C++ make small graphs fast on a CPU; asked for here, they fail on a GPU (pytorch issue 178845).
    on_cpu = all(tensor.device.type == "cpu" for tensor in own)
    options: dict[str, Any] = {"guard_filter_fn": may_change, "cpp_wrapper": on_cpu}
    if by_onednn and on_cpu:
        with suppress(ImportError):  # a PyTorch that has moved what the pass needs multiplies as it always did
            options["post_grad_custom_post_pass"] = products_by_onednn()
    return torch.compile(function, fullgraph=True, dynamic=False, options=options)


def products_by_onednn() -> Any:
    """For the compiler: a pass over a graph that has its large products in float32 made by oneDNN.

    Each node that is such a product gets a rule of ours for what it becomes.
    """
    from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

    rules = _rules_of_products()

    def is_large(left: Tensor, right: Tensor) -> bool:
        return left.dtype == torch.float32 and min(*left.shape[-2:], right.shape[-1]) >= LARGE

    class ByOneDNN(CustomGraphPass):
        def __call__(self, graph: torch.fx.Graph) -> None:
            for node in graph.nodes:
                if node.target in rules and not node.kwargs and is_large(*(n.meta["val"] for n in node.args[-2:])):
                    node.target = rules[node.target]

        def uuid(self) -> Any:
            return get_hash_for_files((__file__,))

    return ByOneDNN()


def _rules_of_products() -> dict[Any, Callable[..., Any]]:
    """What the compiler makes of a product, of one with a bias and of a stack of them.

    PyTorch has an operation that calls oneDNN, `mkldnn::_linear_pointwise`; its own rule for that one takes only
    weights that never change.
    """
    from torch._inductor.ir import FixedLayout, TensorBox
    from torch._inductor.lowering import lowerings, permute, select, unsqueeze
    from torch._inductor.mkldnn_ir import LinearUnary, _create_output_node

    aten: Any = torch.ops.aten
    made: Any = _create_output_node

    def mm(left: Any, right: Any) -> Any:
        rows = LinearUnary.require_contiguous(LinearUnary.realize_input(left))
        columns: Any = LinearUnary.realize_input(permute(right, [1, 0]))
        size = [rows.get_size()[0], columns.get_size()[0]]
        layout = FixedLayout(device=torch.device("cpu"), dtype=torch.float32, size=size)
        return TensorBox.create(made(LinearUnary(layout, [rows, columns], [None, "none", [-1], ""])))

    def addmm(bias: Any, left: Any, right: Any) -> Any:
        return lowerings[aten.add.Tensor](mm(left, right), bias)

    def bmm(left: Any, right: Any) -> Any:
        products = [mm(select(left, 0, i), select(right, 0, i)) for i in range(int(left.get_size()[0]))]
        return lowerings[aten.cat.default]([unsqueeze(product, 0) for product in products], 0)

    rules: dict[Any, Any] = {aten.mm.default: mm, aten.addmm.default: addmm, aten.bmm.default: bmm}
    for rule in rules.values():
        rule._inductor_lowering_function = True
    return rules
