"""Processor time of one update, compiled, of SAC and of the normalised agents in turn.

    python benchmarks/modern/cost.py [FILE.csv] [--rounds 7] [--threads 2] [--precision bf16] [--profile crossq]

HalfCheetah's sizes, batches of 256 where nothing else is said. The agents take turns of 40 updates, so that what
else the machine does falls on all alike: the least and the median of the rounds, and SAC's least beside each
one's. With several threads it is the time that passes, and the machine has to be free.
"""

import argparse
import csv
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from gpu import agent_of, arguments

from softac.learning.engine import Engine
from softac.nets.layers import round_hidden_products
from softac.run.memory import keep_freed_memory

TURN = 40
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sac": ("sac", {}),
    "crossq": ("crossq", {"target_network": False}),
    "crossq, target": ("crossq", {"target_network": True}),
    "crossq, batch 128": ("crossq", {"target_network": False, "batch_size": 128}),
    "crossq, target, batch 128": ("crossq", {"target_network": True, "batch_size": 128}),
    "xqc": ("xqc", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument(
        "--profile", choices=AGENTS, help="print what the updates of this agent consist of instead"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as every run does
    clock = time.process_time if args.threads == 1 else time.perf_counter
    engines, given = {}, {}
    for name, (algorithm, options) in AGENTS.items():
        if args.profile in (None, name):
            agent = agent_of(algorithm, 0, torch.device("cpu"), **options)
            if args.precision == "bf16":
                for part in (agent.actor, agent.critic):
                    round_hidden_products(part.module)
                if agent.target_critic is not None:
                    round_hidden_products(agent.target_critic)
            engines[name] = Engine(agent, "compiled")
            given[name] = [arguments(agent, turn) for turn in range(TURN)]
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for name in engines:
        for batch, noise in given[name]:
            engines[name].update_(batch, noise)
    if args.profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            for batch, noise in given[args.profile]:
                engines[args.profile].update_(batch, noise)
        print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=80))
        return
    for _ in range(args.rounds):
        for name, engine in engines.items():
            begun = clock()
            for batch, noise in given[name]:
                engine.update_(batch, noise)
            taken[name].append((clock() - begun) / TURN * 1e3)
    rows = [
        {
            "agent": name,
            "threads": args.threads,
            "precision": args.precision,
            "engine": engines[name].name,
            "least_ms": f"{min(times):.2f}",
            "median_ms": f"{statistics.median(times):.2f}",
            "sac_over_it": f"{min(taken['sac']) / min(times):.2f}",
            "torch": torch.__version__,
        }
        for name, times in taken.items()
    ]
    out = args.file.open("w", newline="") if args.file else sys.stdout
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


if __name__ == "__main__":
    main()
