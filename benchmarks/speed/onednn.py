"""What it brings that oneDNN makes the products of compiled float32 updates, in turns within one process.

    python benchmarks/speed/onednn.py [--turns 5] > benchmarks/speed/results/onednn.csv

On a machine that does nothing else, whichever of the two softac would choose there. First one product alone,
256 x 256 x 256, in GFLOP/s; then steps per second of the whole loop on HalfCheetah-v5 with presets, after the
random steps and compiling, without evaluation and files. Medians, and ratios within a round.
"""

import argparse
import csv
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")  # whatever the loops below ask for

import softac.model
from softac import Model  # before PyTorch, so that its threads wait as in any run of softac
from softac.agents.presets import preset
from softac.agents.registry import find_agent
from softac.learning import graphs

import torch  # isort: skip

ENV, WARM_UP, TURN = "HalfCheetah-v5", 1_000, 600
FIELDS = ("what", "precision", "threads", "unit", "mkl", "onednn", "onednn_over_mkl", "least", "greatest", "torch")
LOOPS: list[tuple[str, str, int, dict[str, Any]]] = [
    ("sac", "float32", 1, {}),
    ("sac", "float32", 2, {}),
    ("sac", "bf16", 1, {}),
    ("crossq", "float32", 1, {}),
    ("crossq", "bf16", 1, {}),
    ("sac", "float32", 1, {"net_arch": [512, 512]}),
    ("sac", "float32", 2, {"net_arch": [512, 512]}),
]


def row(what: str, precision: str, threads: int, unit: str, turns: list[tuple[float, float]]) -> dict[str, Any]:
    """What is written down of turns by MKL and by oneDNN, each in something per second."""
    ratios = [onednn / mkl for mkl, onednn in turns]
    middle = [f"{statistics.median(values):.0f}" for values in zip(*turns, strict=True)]
    numbers = [f"{of(ratios):.2f}" for of in (statistics.median, min, max)]
    return dict(zip(FIELDS, [what, precision, threads, unit, *middle, *numbers, torch.__version__], strict=True))


def product(turns: int, threads: int) -> dict[str, Any]:
    """One product by both."""
    torch.set_num_threads(threads)
    x, w = (torch.randn(256, 256, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    by_onednn = partial(torch.ops.mkldnn._linear_pointwise, x, w, None, "none", [], "")

    def speed(multiply: Callable[[], torch.Tensor], times: int = 500) -> float:
        begun = time.perf_counter()
        for _ in range(times):
            multiply()
        return 2e-9 * 256**3 * times / (time.perf_counter() - begun)

    both = (partial(torch.mm, x, w.t()), by_onednn)
    rounds = [(speed(both[0]), speed(both[1])) for _ in range(turns + 1)]
    return row("product", "float32", threads, "GFLOP/s", rounds[1:])


def model_of(algorithm: str, precision: str, threads: int, options: dict[str, Any], by_onednn: bool) -> Model:
    """One that has learned for as long as it takes to compile."""
    graphs.onednn_is_ahead = lambda: by_onednn  # type: ignore[attr-defined]
    softac.model.usual_threads = lambda *_, **__: threads  # type: ignore[attr-defined]
    settings = preset(algorithm, ENV) | {"learning_starts": WARM_UP - 100} | options
    common: dict[str, Any] = {"seed": 0, "device": "cpu", "engine": "compiled", "precision": precision}
    return Model(find_agent(algorithm), ENV, **common, **settings).learn(WARM_UP)


def loop(turns: int, algorithm: str, precision: str, threads: int, options: dict[str, Any]) -> dict[str, Any]:
    """Two loops that differ in who makes their products."""
    torch.set_num_threads(threads)
    models = [model_of(algorithm, precision, threads, options, by_onednn) for by_onednn in (False, True)]

    def speed(model: Model) -> float:
        begun = time.perf_counter()
        model.learn(TURN)
        return TURN / (time.perf_counter() - begun)

    what = " ".join([algorithm, *(f"{name}={value}" for name, value in options.items())])
    return row(what, precision, threads, "steps/s", [(speed(models[0]), speed(models[1])) for _ in range(turns)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    writer = csv.DictWriter(sys.stdout, FIELDS, lineterminator="\n")
    writer.writeheader()
    for threads in (1, 2):
        writer.writerow(product(turns, threads))
    for settings in LOOPS:
        writer.writerow(loop(turns, *settings))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
