"""Three ways to write one gradient step, timed: what the decision on learners in `docs/decisions.md` rests on.

    python benchmarks/speed/ways.py --turns 200

The step is that of the critics of SAC: twin networks, squared error, gradient, Adam in operations.

    own     the loss of a module by its own parameters, `torch.autograd.grad`: what softac does
    pure    a function of named tensors, `torch.func.grad` of `functional_call`
    axis    every network several agents wide, here one: the loss is a vector, its sum is differentiated

The three take turns in one process, eagerly and compiled; printed are medians and their ratios to the first.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from softac.equations.losses import q_loss
from softac.learning.adam import adam_
from softac.learning.graphs import prepare_compiler
from softac.learning.learner import BETA_1, Learner
from softac.nets import EnsembleCritic, mlp

TASKS = {"halfcheetah": (17, 6, (256, 256), 256), "pendulum": (3, 1, (64, 64), 64)}
Step = Callable[[Tensor, Tensor, Tensor], None]


def moments(parameters: list[Tensor]) -> list[list[Tensor]]:
    zeros = [[torch.zeros_like(p, requires_grad=False) for p in parameters] for _ in range(2)]
    return [*zeros, [torch.zeros(()) for _ in parameters]]


def own(obs_dim: int, action_dim: int, net_arch: tuple[int, ...]) -> Step:
    draw = torch.Generator().manual_seed(0)
    learner = Learner(EnsembleCritic(obs_dim, action_dim, net_arch, 2, generator=draw), 3e-4)
    state = (learner.exp_avgs, learner.exp_avg_sqs, learner.steps)
    learner.adam_ = lambda learner, gradients: adam_(3e-4, BETA_1, learner.parameters, gradients, *state)
    return lambda s, a, y: learner.descend(q_loss(learner(s, a), y))


def pure(obs_dim: int, action_dim: int, net_arch: tuple[int, ...]) -> Step:
    draw = torch.Generator().manual_seed(0)
    module = EnsembleCritic(obs_dim, action_dim, net_arch, 2, generator=draw)
    tensors = {name: p.detach() for name, p in module.named_parameters()}
    state = moments(list(tensors.values()))

    def loss(tensors: dict[str, Tensor], s: Tensor, a: Tensor, y: Tensor) -> Tensor:
        return q_loss(torch.func.functional_call(module, tensors, (s, a)), y)

    def step(s: Tensor, a: Tensor, y: Tensor) -> None:
        gradients = torch.func.grad(loss)(tensors, s, a, y)
        with torch.no_grad():
            adam_(3e-4, BETA_1, list(tensors.values()), list(gradients.values()), *state)

    return step


def axis(obs_dim: int, action_dim: int, net_arch: tuple[int, ...]) -> Step:
    draw = torch.Generator().manual_seed(0)
    net = mlp((obs_dim + action_dim, *net_arch, 1), generator=draw, members=2)  # 2 critics of 1 agent
    parameters: list[Tensor] = list(net.parameters())
    state = moments(parameters)

    def step(s: Tensor, a: Tensor, y: Tensor) -> None:
        q = net(torch.cat((s, a), -1).expand(2, -1, -1)).view(1, 2, -1)
        losses = 0.5 * (q - y).square().mean(-1).sum(-1)
        gradients = torch.autograd.grad(losses.sum(), parameters)
        with torch.no_grad():
            adam_(3e-4, BETA_1, parameters, gradients, *state)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20, help="in one turn")
    args = parser.parse_args()
    torch.set_num_threads(1)
    prepare_compiler()
    for task, (obs_dim, action_dim, net_arch, batch) in TASKS.items():
        draw = torch.Generator().manual_seed(1)
        data = (torch.randn(batch, obs_dim, generator=draw), torch.randn(batch, action_dim, generator=draw))
        given = (*data, torch.randn(batch, generator=draw))
        for compiled in (False, True):
            steps = {way.__name__: way(obs_dim, action_dim, net_arch) for way in (own, pure, axis)}
            if compiled:
                options = {"cpp_wrapper": True}
                steps = {name: torch.compile(f, fullgraph=True, options=options) for name, f in steps.items()}
            times: dict[str, list[float]] = {name: [] for name in steps}
            for turn in range(args.turns + 3):
                for name, step in list(steps.items())[:: 1 if turn % 2 else -1]:
                    begun = time.process_time()
                    for _ in range(args.steps):
                        step(*given)
                    if turn >= 3:
                        times[name].append((time.process_time() - begun) / args.steps)
            first = times["own"]
            for name, seconds in times.items():
                ratio = statistics.median(a / b for a, b in zip(first, seconds, strict=True))
                how = "compiled" if compiled else "eager"
                print(f"{task:<12} {how:<9} {name:<5} {1e3 * statistics.median(seconds):7.3f} ms  {ratio:.3f}x")


if __name__ == "__main__":
    main()
