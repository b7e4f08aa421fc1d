"""The matrix products of one SAC update alone: how fast an update could be at most.

    python benchmarks/speed/limit.py [--obs 17] [--actions 6] [--net-arch 256,256] [--batch-size 256] [--threads 1]

Everything else in an update (activations, losses, Adam, the target networks) and in a step (environment, replay)
is left out, and so is the critics' last layer, which has one column: PyTorch is slow at products with one column,
and they need no matrix product. The products are PyTorch's, into tensors that exist already; the two critics go
together as one batched product. In bfloat16 are, for the second number, those between two hidden layers.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from train import pin

SECONDS = 3.0
CRITICS = 2


class Product(NamedTuple):
    """`members` products of `[rows, inner]` with `[inner, columns]`."""

    what: str
    members: int
    rows: int
    inner: int
    columns: int
    transposed: str  # which factor lies transposed in memory: "first", "second" or neither
    hidden: bool  # between two hidden layers


def products(obs: int, actions: int, net_arch: list[int], batch: int) -> list[Product]:
    """The products of one update, in the order of arXiv:1812.05905, algorithm 1.

    Forward: every layer. Backward: for the weights, every layer of the network that learns; for the inputs, every
    layer but the first. In the actor's step the critics have no weights to learn, and their first layer has an
    input, the action, that needs a gradient; it is computed for observation and action together, as autograd does.
    """
    actor, critic = [obs, *net_arch, 2 * actions], [obs + actions, *net_arch, 1]
    found: list[Product] = []

    def add(what: str, sizes: list[int], members: int, kinds: str, *, first_input: bool = False) -> None:
        last = len(sizes) - 2
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            hidden = 0 < i < last
            for kind in kinds.split():
                match kind:
                    case "forward":
                        shape = (batch, n_in, n_out, "")
                    case "weights":
                        shape = (n_in, batch, n_out, "first")
                    case "inputs":
                        if i == 0 and not first_input:
                            continue
                        shape = (batch, n_out, n_in, "second")
                if n_out > 1:
                    found.append(Product(f"{what}, layer {i + 1}, {kind}", members, *shape, hidden))

    add("actor at s'", actor, 1, "forward")
    add("target critics at s', a'", critic, CRITICS, "forward")
    add("critics at s, a", critic, CRITICS, "forward weights inputs")
    add("actor at s", actor, 1, "forward weights inputs")
    add("critics at s, the actor's a", critic, CRITICS, "forward inputs", first_input=True)
    return found


def operations(found: list[Product]) -> int:
    """Multiplications and additions."""
    return sum(2 * p.members * p.rows * p.inner * p.columns for p in found)


def prepared(found: list[Product], precision: str) -> Callable[[], float]:
    """What does all products once, one after the other, and returns the seconds that they took."""
    generator = torch.Generator().manual_seed(0)
    calls = []
    for p in found:
        dtype = torch.bfloat16 if precision == "bf16" and p.hidden else torch.float32
        lead = (p.members,) if p.members > 1 else ()

        def random(rows: int, columns: int, transposed: bool, lead=lead, dtype=dtype) -> Tensor:
            shape = (*lead, columns, rows) if transposed else (*lead, rows, columns)
            tensor = torch.randn(shape, generator=generator).to(dtype)
            return tensor.mT if transposed else tensor

        first = random(p.rows, p.inner, p.transposed == "first")
        second = random(p.inner, p.columns, p.transposed == "second")
        out = torch.empty(*lead, p.rows, p.columns, dtype=dtype)
        calls.append((torch.bmm if lead else torch.mm, first, second, out))

    def once() -> float:
        began = time.perf_counter()
        for multiply, first, second, out in calls:
            multiply(first, second, out=out)
        return time.perf_counter() - began

    return once


def updates_per_second(found: list[Product], precision: str, seconds: float = SECONDS) -> float:
    """All products one after the other, again and again; the median round counts."""
    once = prepared(found, precision)
    times: list[float] = []
    until = time.perf_counter() + seconds * 1.2
    while time.perf_counter() < until or len(times) < 5:
        times.append(once())
    return 1.0 / statistics.median(times[len(times) // 6 :])  # the first sixth warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--obs", type=int, default=17)
    parser.add_argument("--actions", type=int, default=6)
    parser.add_argument("--net-arch", default="256,256", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    args = parser.parse_args()
    pin(args.threads)
    torch.set_num_threads(args.threads)
    found = products(args.obs, args.actions, args.net_arch, args.batch_size)
    rates = {name: updates_per_second(found, name, args.seconds) for name in ("float32", "bf16")}
    for p in found:
        print(f"{p.what:<45} {p.members} x [{p.rows}, {p.inner}] [{p.inner}, {p.columns}]")
    print(f"{operations(found) / 1e6:.0f} million operations an update; updates per second: {rates}")
    print(json.dumps(rates | {"products": len(found), "operations": operations(found), "threads": args.threads}))


if __name__ == "__main__":
    main()
