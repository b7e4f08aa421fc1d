"""Each use of what PyTorch keeps private, and what to do on the day it is gone."""

import ast
import re
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from softac.learning import private
from softac.learning.engine import what_compiling_lacks

SOURCE = Path(__file__).parents[1] / "src" / "softac"
MODULES = ("_parameters", "_buffers", "_modules")


def private_uses(text: str) -> list[str]:
    """What a program uses of PyTorch that begins with an underscore, and the prototypes it asks for."""
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(attr=name) if name in MODULES:
                found.append(name)
            case ast.Attribute(attr=name) if re.fullmatch(r"torch(\.\w+)*\._[a-z]\w*", ast.unparse(node)):
                found.append(ast.unparse(node))
            case ast.ImportFrom(module=str(name)) if name.startswith("torch"):
                names = [f"{name}.{alias.name}" for alias in node.names]
                found += [name for name in names if "._" in name]
            case ast.Import():
                found += [alias.name for alias in node.names if alias.name.startswith("torch._")]
            case ast.Constant(value="guard_filter_fn"):
                found.append("guard_filter_fn")
    return found


def test_one_file_uses_what_is_private() -> None:
    found = {p.name: uses for p in SOURCE.rglob("*.py") if (uses := private_uses(p.read_text(encoding="utf-8")))}
    assert list(found) == ["private.py"], "move the use into learning/private.py and give it a test here"
    assert len(set(found["private.py"])) >= 8
    assert private_uses("from torch import _C\nx = torch.ops._y") == ["torch._C", "torch.ops._y"]


def test_importing_softac_and_its_agents_imports_no_compiler_and_asks_functorch_nothing() -> None:
    program = (
        "import sys, torch; before = set(sys.modules)\n"
        "import softac; softac.SAC; import softac.agents.registry\n"
        "print([name for name in set(sys.modules) - before if name.startswith('torch._')])\n"
        "from softac.learning import adam, cohort, engine, graphs, learner, parts, private, state, temperature\n"
        "rooms = [m for name, m in sys.modules.items() if name.startswith('softac')]\n"
        "held = [value for room in rooms for value in vars(room).values()]\n"
        "print([v for v in held if 'functorch' in str(getattr(v, '__module__', ''))])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"], "import what belongs to the compiler where it is first used"


def test_adam_as_one_kernel() -> None:
    """If `torch._fused_adam_` is gone: call `torch.optim.adam.adam(..., fused=True)` in `fused_adam_`, as once."""
    parameters = [torch.tensor([1.0, -2.0]), torch.tensor(3.0)]
    gradients = [torch.tensor([0.5, 4.0]), torch.tensor(-1e-3)]
    zeros, squares, steps = ([torch.zeros_like(p) for p in parameters] for _ in range(3))
    counts = [s := torch.zeros(()), steps[1]]
    settings = {"rate": 0.1, "betas": (0.9, 0.999), "epsilon": 1e-8}
    private.fused_adam_(parameters, gradients, zeros, squares, counts, **settings)  # type: ignore[arg-type]
    # The first step of Adam is the learning rate times the sign.
    torch.testing.assert_close(parameters[0], torch.tensor([0.9, -2.1]))
    torch.testing.assert_close(parameters[1], torch.tensor(3.1), rtol=0.0, atol=1e-5)
    torch.testing.assert_close(zeros[0], torch.tensor([0.05, 0.4]))
    torch.testing.assert_close(squares[0], torch.tensor([0.00025, 0.016]))
    assert (s.item(), steps[1].item()) == (1.0, 1.0)


def test_many_tensors_moved_towards_others() -> None:
    """If `torch._foreach_lerp_` or functorch's word on what is batched is gone: take the other branch always.

    That costs three percent of an eager update.
    """
    ends = [torch.tensor([4.0, 0.0]), torch.tensor(8.0)]
    for move in (private.lerp_each_, torch.compile(private.lerp_each_, backend="eager")):
        tensors = [torch.tensor([0.0, 8.0]), torch.tensor(0.0)]
        move(tensors, ends, 0.25)
        assert [tensor.tolist() for tensor in tensors] == [[1.0, 6.0], 2.0]
    stacks = torch.tensor([[0.0, 8.0], [4.0, 4.0]])
    torch.vmap(lambda tensor, end: private.lerp_each_([tensor], [end], 0.25) or tensor)(stacks, torch.zeros(2, 2))
    assert stacks.tolist() == [[0.0, 6.0], [3.0, 3.0]]


def test_one_number_added_to_many_tensors() -> None:
    """If `torch._foreach_add_` is gone: write `for tensor in tensors: tensor.add_(number)`."""
    tensors = [torch.zeros(()), torch.ones(2)]
    private.add_to_each_(tensors, 1.5)
    assert [tensor.tolist() for tensor in tensors] == [1.5, [2.5, 2.5]]


def test_parameters_are_where_a_module_looks_for_them() -> None:
    """If `nn.Module._parameters` or `_buffers` is gone: let `Cohort` call networks by `functional_call`."""
    net = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    net.register_buffer("mean", torch.ones(1))
    slots = list(private.slots(net))
    assert [key for _, key in slots] == ["mean", "weight", "bias", "weight", "bias"]
    for owner, key in slots:
        owner[key] = torch.zeros_like(owner[key])
    assert net(torch.ones(3, 2)).tolist() == [[0.0]] * 3
    assert all(not p.requires_grad for p in net.parameters())


def test_where_the_compiler_keeps_its_files() -> None:
    """If it is gone: always set `TORCHINDUCTOR_CACHE_DIR` in `prepare_compiler`, where the user has not."""
    assert Path(private.default_cache()).name.startswith("torchinductor_")


def test_gradients_inside_a_graph() -> None:
    """If `trace_autograd_ops` is gone and this fails, updates run eagerly and say so: find another way."""
    private.trace_gradients()
    weight = torch.tensor([2.0, 3.0], requires_grad=True)

    def gradient(x: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad((weight * x).square().sum(), [weight])[0]

    found = torch.compile(gradient, fullgraph=True, backend="eager")(torch.tensor([1.0, -1.0]))
    assert found.tolist() == [4.0, 6.0]


def test_errors_of_the_compiler_are_told_from_others() -> None:
    """If one of these is gone: name in `compilers_reason` what `torch.compile(fullgraph=True)` raises here."""
    private.trace_gradients()

    def asks(x: torch.Tensor) -> torch.Tensor:
        return x + 1.0 if x.sum().item() > 0.0 else x

    def many(x: torch.Tensor, n: int) -> torch.Tensor:
        return x + n

    eager = {"fullgraph": True, "dynamic": False, "backend": "eager"}
    with pytest.raises(Exception, match="data-dep") as caught:
        torch.compile(asks, **eager)(torch.ones(2))
    assert "data-dep" in str(private.compilers_reason(caught.value))
    graph = torch.compile(many, **eager)
    with pytest.raises(Exception, match="fullgraph") as limited:
        [graph(torch.ones(2), n) for n in range(20)]
    assert "changed more often" in str(private.compilers_reason(limited.value))
    assert private.compilers_reason(RuntimeError("no memory is left")) is None


@pytest.mark.skipif(bool(what_compiling_lacks()), reason=what_compiling_lacks() or "none")
def test_what_is_checked_before_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """If `guard_filter_fn` is gone: leave it out of `compiled`; every call then takes some 3 % longer.

    If an entry has no `guard_type`, `value` or `is_global` any more: likewise.
    """
    seen: dict[str, list[bool]] = {}
    compile_ = torch.compile

    def watched(function: object, *, fullgraph: bool, dynamic: bool, options: dict[str, object]) -> object:
        assert set(options) == {"guard_filter_fn", "cpp_wrapper"}
        given = options["guard_filter_fn"]

        def keep(guards: list[object]) -> list[bool]:
            kept = given(guards)  # type: ignore[operator]
            for guard, is_kept in zip(guards, kept, strict=True):
                seen.setdefault(guard.name, []).append(is_kept)  # type: ignore[attr-defined]
            return kept

        return compile_(
            function, fullgraph=fullgraph, dynamic=dynamic, backend="eager", options={"guard_filter_fn": keep}
        )

    monkeypatch.setattr("torch.compile", watched)

    class Scale:
        factor = 2.0

        def __init__(self) -> None:
            self.total, self.other = torch.zeros(2), torch.zeros(2)

        def add_(self, x: torch.Tensor) -> torch.Tensor:
            self.total.add_(self.factor * x + self.other)
            return self.total.clone()

    scale = Scale()
    graph = private.compiled(scale.add_, [scale.total])
    assert graph(torch.ones(2)).tolist() == [2.0, 2.0]
    scale.factor = 3.0
    assert graph(torch.ones(2)).tolist() == [5.0, 5.0]
    by_part = {
        part: {k for name, ks in seen.items() if name.endswith(part) for k in ks}
        for part in (".total", ".other", ".factor", "x")
    }
    assert by_part[".total"] >= {False}
    assert by_part[".other"] == by_part["x"] == {True}


@pytest.mark.skipif(bool(what_compiling_lacks()), reason=what_compiling_lacks() or "none")
def test_products_by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of the names or the rule of a node (`_inductor_lowering_function`) is gone: leave `by_onednn` out.

    Compiled float32 on AMD's fifth generation is then 1.4 to 1.8 times slower on one thread. Where an
    import fails, that is so already.
    """
    with warnings.catch_warnings(action="ignore"):
        from torch._inductor import config, mkldnn_ir

    made = []
    init = mkldnn_ir.LinearUnary.__init__

    def counted(self: object, layout: Any, *rest: Any) -> None:
        made.append(tuple(map(int, layout.size)))
        init(self, layout, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(mkldnn_ir.LinearUnary, "__init__", counted)
    normal = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    x, w, bias, stack = normal(80, 70), normal(96, 70), normal(96), normal(2, 70, 65)

    def products(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        h = torch.nn.functional.linear(x, w, bias).relu()
        thin = x[:, :63] @ w[:, :63].t()
        return h, h.t() @ x, torch.bmm(x.expand(2, 80, 70), stack), thin, x.double() @ w.double().t()

    expected = products(x)
    for by_onednn in (True, False):
        with config.patch(fx_graph_cache=False), warnings.catch_warnings(action="ignore"):  # the compiler's own
            found = private.compiled(products, [x], by_onednn=by_onednn)(x)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert sorted(made) == [(80, 65), (80, 65), (80, 96), (96, 70)]


def test_a_pytorch_without_the_names_of_the_pass_multiplies_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr("torch.compile", lambda function, **arguments: given.update(arguments["options"]))
    monkeypatch.setitem(sys.modules, "torch._inductor.mkldnn_ir", None)  # importing it fails
    private.compiled(len, [torch.zeros(1)], by_onednn=True)
    assert given["cpp_wrapper"] is True
    assert "post_grad_custom_post_pass" not in given


@pytest.mark.parametrize(("device", "in_cpp"), [("cpu", True), ("meta", False)])
def test_calls_are_made_in_cpp_on_the_cpu_alone(
    device: str, in_cpp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr("torch.compile", lambda function, **arguments: given.update(arguments["options"]))
    private.compiled(len, [torch.zeros(1, device=device), torch.zeros(1)], by_onednn=True)
    assert given["cpp_wrapper"] is in_cpp
    assert ("post_grad_custom_post_pass" in given) is in_cpp
