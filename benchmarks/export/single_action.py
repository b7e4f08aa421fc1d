"""The time of one action of an exported policy, for each runtime, beside `predict`.

Appends a row for each to results/single_action.csv.
"""

import csv
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
import torch

from softac import SAC
from softac.ship.export import export
from softac.ship.policy import Policy

RESULT = Path(__file__).parent / "results" / "single_action.csv"
WINDOWS, CALLS = 300, 50
OPTIONS = {"C -O3": ["-O3"], "C -O3 -march=native": ["-O3", "-march=native"], "C -O2": ["-O2"]}


def microseconds(call: Callable[[], object]) -> list[float]:
    """The time of one call in each of many windows."""
    times = []
    for _ in range(WINDOWS):
        begin = perf_counter()
        for _ in range(CALLS):
            call()
        times.append(1e6 * (perf_counter() - begin) / CALLS)
    return times


def compiled(folder: Path, options: list[str]) -> list[float]:
    """What `check` says, several times."""
    words = ["cc", "-std=c99", *options, "policy.c", "check.c", "-o", "check"]
    subprocess.run(words, cwd=folder, check=True)
    said = [subprocess.run(["./check"], cwd=folder, capture_output=True, text=True, check=True) for _ in range(8)]
    return [float(done.stdout.split("\n")[1].split()[0]) for done in said]


def main() -> None:
    began = time.strftime("%Y-%m-%d %H:%M")
    model = SAC("HalfCheetah-v5", net_arch=(256, 256), device="cpu")
    obs = np.random.default_rng(0).normal(size=17)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for to in ("onnx", "numpy", "c"):
            export(model, to, folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(folder / "policy.onnx", options, providers=["CPUExecutionProvider"])
        policy = Policy(folder / "policy.safetensors")
        times = {
            "predict": microseconds(lambda: model.predict(obs, deterministic=True)),
            "onnxruntime": microseconds(lambda: session.run(["action"], {"observation": obs[None]})),
            "NumPy": microseconds(lambda: policy(obs)),
        }
        times |= {name: compiled(folder, flags) for name, flags in OPTIONS.items()}
    new, processor = not RESULT.exists(), processor_name()
    versions = [torch.__version__, np.__version__, onnxruntime.__version__]
    with RESULT.open("a", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if new:
            table.writerow(
                ["time", "runtime", "median_us", "tenth_us", "processor", "torch", "numpy", "onnxruntime"]
            )
        for name, values in times.items():
            middle, fast = np.percentile(values, [50, 10])
            table.writerow([began, name, f"{middle:.2f}", f"{fast:.2f}", processor, *versions])
            print(f"{name:<22}{middle:>8.2f}{fast:>8.2f}   microseconds, median and 10 %")


def processor_name() -> str:
    """As Linux calls it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    main()
