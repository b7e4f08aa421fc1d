"""Updates per second of this checkout against another, engine by engine.

    python benchmarks/speed/engines.py CHECKOUT            another checkout of softac, e.g. a git worktree
    python benchmarks/speed/engines.py CHECKOUT --turns 400 --engines eager --tasks pendulum

Each checkout has one process for all turns. They take turns of some 50 milliseconds, in both orders alternately,
so that whatever else the machine does meets both; a ratio is that of two neighbours, and what is printed is the
median over all turns with the interval of the sign test (95 %). Processor time is compared beside the time on the
clock: with one thread it does not count what other processes took. It prints its table; nothing is written.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, cast

HERE = Path(__file__).resolve()
# observations, actions, hidden layers, batch, updates a turn
TASKS = {"halfcheetah": (17, 6, (256, 256), 256, 12), "pendulum": (3, 1, (64, 64), 64, 50)}


def work() -> None:
    """One checkout's process: makes the updates it is asked for, line by line."""
    import torch

    from softac.agents.sac import SACAgent, SACConfig
    from softac.types import EnvSpec, Transition

    try:
        from softac.learning.engine import Engine
    except ImportError:
        from softac.engine import Engine  # type: ignore[no-redef,import-not-found]

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.set_flush_denormal(True)
    obs_dim, action_dim, net_arch, batch_size, updates = TASKS[sys.argv[2]]
    draw = torch.Generator().manual_seed(0)
    config = SACConfig(net_arch=net_arch, batch_size=batch_size)
    agent = SACAgent(EnvSpec(obs_dim, action_dim), config, generator=draw, device=torch.device("cpu"))
    engine = Engine(agent, sys.argv[3])
    rows = torch.randn(batch_size, 2 * obs_dim + action_dim + 1, generator=draw)
    obs, action, reward, next_obs = rows.split([obs_dim, action_dim, 1, obs_dim], -1)
    batch = Transition(obs, action.tanh(), reward.squeeze(-1), torch.full((batch_size,), 0.99), next_obs)
    noise = agent.update_noise(batch_size, draw)
    for _ in range(20):
        engine.update_(batch, noise)
    print(json.dumps(engine.name), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(updates):
            engine.update_(batch, noise)
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), flush=True)


def start(checkout: Path, task: str, engine: str, threads: int) -> subprocess.Popen[str]:
    """The process of one checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": str(threads)}
    words = [sys.executable, str(HERE), "--work", task, engine]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def answer(process: subprocess.Popen[str]) -> Any:
    """What the process says next."""
    return json.loads(cast(IO[str], process.stdout).readline())


def turn(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Seconds on the clock and of the processor for one turn."""
    asked = cast(IO[str], process.stdin)
    asked.write("\n")
    asked.flush()
    wall, cpu = answer(process)
    return wall, cpu


def median(ratios: list[float]) -> str:
    """The median with its interval by order statistics."""
    ordered, n = sorted(ratios), len(ratios)
    reach = math.ceil(0.98 * math.sqrt(n))
    low, high = ordered[max(0, n // 2 - reach)], ordered[min(n - 1, n // 2 + reach)]
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def compare(other: Path, task: str, engine: str, turns: int, threads: int) -> str:
    """One line: how many times as many updates a second this checkout makes."""
    both = [start(checkout, task, engine, threads) for checkout in (HERE.parents[2], other)]
    try:
        names = [answer(process) for process in both]
        if names != [engine, engine]:
            return f"{task:<12} {engine:<9} executed as {names[0]} here and {names[1]} there"
        times: list[list[tuple[float, float]]] = [[], []]
        for i in range(turns):
            for k in (0, 1) if i % 2 else (1, 0):
                times[k].append(turn(both[k]))
    finally:
        for process in both:
            process.kill()
            process.wait()
    ours, theirs = times
    clock = median([b[0] / a[0] for a, b in zip(ours, theirs, strict=True)])
    processor = median([b[1] / a[1] for a, b in zip(ours, theirs, strict=True)])
    milliseconds = [1e3 * statistics.median(cpu for _, cpu in rows) / TASKS[task][4] for rows in times]
    each = f"{milliseconds[0]:.3f} ms an update, {milliseconds[1]:.3f} there"
    return f"{task:<12} {engine:<9} {clock} on the clock, {processor} of the processor; {each}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path, help="of another version")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--engines", nargs="+", choices=("eager", "compiled"), default=("eager", "compiled"))
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    for task in args.tasks:
        for engine in args.engines:
            print(compare(args.checkout.resolve(), task, engine, args.turns, args.threads), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work()
    else:
        main()
