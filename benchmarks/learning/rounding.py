"""What must stay in float32: SAC on HalfCheetah-v5 in bf16, with one more thing rounded at a time.

    python benchmarks/learning/rounding.py VARIANT SEED [--runs FOLDER]

The preset, 100,000 steps, one thread. The evaluations are appended to results/rounding.csv: ten episodes
of the deterministic policy every 10,000 steps. "nothing" rounds what `precision="bf16"` does, the products
between hidden layers; the other variants round that and

    first       the products of the first layers: what the networks see
    critic      the products of the critics' last layers: the values
    actor       the products of the actor's last layer: means and log standard deviations
    target      the targets of the critics
    parameters  the parameters, after each step of Adam
    moments     Adam's moments, after each step
    all         everything above
"""

import argparse
import csv
from collections.abc import Callable
from functools import wraps
from itertools import chain
from pathlib import Path

import torch
import torch._inductor.config as inductor
from torch import Tensor

from softac.agents import sac
from softac.agents.presets import preset
from softac.agents.sac import SACAgent
from softac.learning.learner import Learner
from softac.model import Model

HERE = Path(__file__).parent
ENV, STEPS, EVERY = "HalfCheetah-v5", 100_000, 10_000
VARIANTS = ("nothing", "first", "critic", "actor", "target", "parameters", "moments", "all")


def rounded(tensor: Tensor) -> Tensor:
    """The nearest number that bfloat16 has."""
    return tensor.bfloat16().to(tensor.dtype)


def round_layers(agent: SACAgent, variant: str) -> None:
    """Round the products of further layers."""
    actor, critic, target = agent.actor.module, agent.critic.module, agent.target_critic
    firsts = [net.net[0] for net in (actor, critic, target)]
    layers = {"first": firsts, "critic": [critic.net[-1], target.net[-1]], "actor": [actor.net[-1]]}
    for layer in chain.from_iterable(layers.values()) if variant == "all" else layers.get(variant, []):
        layer.rounded = True


def round_targets() -> None:
    """Round what `SACAgent` takes for the target of its critics."""
    exact = sac.soft_q_target
    sac.soft_q_target = wraps(exact)(lambda *arguments: rounded(exact(*arguments)))


def round_after_adam(what: Callable[[Learner], list[Tensor]]) -> None:
    """Round tensors of every learner after each of its steps."""
    exact = Learner._adam_

    def step_and_round(self: Learner, gradients: list[Tensor]) -> None:
        exact(self, gradients)
        for tensor in what(self):
            tensor.copy_(rounded(tensor))

    Learner._adam_ = step_and_round


def train(variant: str, seed: int, folder: Path) -> list[dict[str, str]]:
    """The evaluations of one run."""
    inductor.emulate_precision_casts = True  # it would leave out a rounding that is followed by its reverse
    settings = {"seed": seed, "engine": "compiled", "precision": "bf16"}
    model = Model(SACAgent, ENV, **settings, **preset("sac", ENV))
    round_layers(model.agent, variant)
    if variant in ("target", "all"):
        round_targets()
    if variant in ("parameters", "all"):
        round_after_adam(lambda learner: learner.parameters)
    if variant in ("moments", "all"):
        round_after_adam(lambda learner: learner.exp_avgs + learner.exp_avg_sqs)
    model.life.threads = 1
    model.learn(STEPS, run_dir=folder, eval_freq=EVERY, save_freq=0)
    model.close()
    with (folder / "evaluations.csv").open() as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Train one variant with one seed and add its evaluations to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("seed", type=int)
    parser.add_argument("--runs", type=Path, default=Path("runs/rounding"))
    args = parser.parse_args()
    rows = train(args.variant, args.seed, args.runs / f"{args.variant}-{args.seed}")
    results = HERE / "results" / "rounding.csv"
    fresh = not results.exists()
    with results.open("a", newline="") as file:
        writer = csv.DictWriter(file, ["rounded", "seed", "torch", *rows[0]], lineterminator="\n")
        if fresh:
            writer.writeheader()
        for row in rows:
            writer.writerow({"rounded": args.variant, "seed": args.seed, "torch": torch.__version__, **row})


if __name__ == "__main__":
    main()
