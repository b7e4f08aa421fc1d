"""Which share of a step of training its matrix products take, measured in turns within one process.

    python benchmarks/speed/share.py [--threads 1] [--steps 2000] [--overlap]

SAC on HalfCheetah-v5 with default settings, compiled, float32. After each 50 steps the products of `limit.py` are
made twelve times, so that both meet the same machine; of two processes after each other, neighbours favour one.
Adds a row to results/share.csv: medians in milliseconds, of a step of the loop, its update, and the products.
"""

import argparse
import csv
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from train import pin

BEGINNING = 400  # steps: 100 random ones, then updates until all is warm
EVERY, ROUNDS = 50, 12
RESULTS = Path(__file__).parent / "results" / "share.csv"


def measure(threads: int, steps: int, *, overlap: bool) -> dict[str, Any]:
    """The row."""
    from softac import SAC  # before PyTorch, so that its threads wait as in any run of softac
    from softac.run.training import Training  # isort: split

    import torch
    from limit import prepared, products

    torch.set_num_threads(threads)
    once = prepared(products(17, 6, [256, 256], 256), "float32")
    found: dict[str, list[float]] = {"loop": [], "update": [], "products": []}
    update, calls, before = Training.update, 0, 0.0

    def timed(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal calls, before
        calls += 1
        began = time.perf_counter()
        if calls > BEGINNING and calls % EVERY != 1:  # the step before it lies between two rounds of products
            found["loop"].append(began - before)
        before = began
        result = update(self, *arguments, **named)
        found["update"].append(time.perf_counter() - began)
        if calls % EVERY == 0:
            times = [once() for _ in range(ROUNDS)]
            found["products"] += times[ROUNDS // 4 :]  # the first warm the cache
        return result

    Training.update = timed  # type: ignore[method-assign]
    model = SAC("HalfCheetah-v5", seed=0, engine="compiled", device="cpu", overlap=overlap)
    with tempfile.TemporaryDirectory() as folder:
        model.learn(BEGINNING + steps, run_dir=Path(folder, "run"), n_eval_episodes=0)
    loop, step, alone = (1e3 * statistics.median(times[-steps:]) for times in found.values())
    row = {"threads": threads, "overlap": overlap, "steps": steps}
    row |= {"loop_ms": round(loop, 2), "update_ms": round(step, 2), "products_ms": round(alone, 2)}
    return row | {"share_of_loop": round(alone / loop, 3), "share_of_update": round(alone / step, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--overlap", action="store_true")
    args = parser.parse_args()
    pin(2 if args.overlap else args.threads)
    row = measure(args.threads, args.steps, overlap=args.overlap)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row)


if __name__ == "__main__":
    main()
