"""Where the microseconds of a training step go.

    python benchmarks/speed/profile_step.py           # measures, writes results/profile.csv and the pictures
    python benchmarks/speed/profile_step.py --plot    # draws results/profile-light.svg and -dark.svg again

SAC on HalfCheetah-v5 with default settings, one process for each engine. The parts of the loop are methods, each
timed from outside without the parts that it calls; what the clock itself costs is measured and taken away. The
update is then taken apart by PyTorch's profiler, which slows it down: only its shares are used, of the time
without it.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compare import RESULTS, machine, run

ENGINES = {
    "eager": {"engine": "eager", "precision": "float32"},
    "compiled": {"engine": "compiled", "precision": "float32"},
    "compiled, bf16": {"engine": "compiled", "precision": "bf16"},
}
WARM_UP = 1_000
PROFILED = 100  # updates
# In the order of the bar; a hue for what is done, shades for its parts.
PARTS = {
    "environment": "#2a9d8f",
    "choosing the action": "#7cc7bd",
    "storing": "#a05195",
    "sampling": "#c58fbd",
    "noise": "#e3c6df",
    "update: matrix products": "#2f6fae",
    "update: elementwise": "#6ea3d8",
    "update: rest": "#b0cdea",
    "metrics": "#e08214",
    "rest of the loop": "#9aa0a6",
}
DEEP = ("#2a9d8f", "#a05195", "#2f6fae")  # of these, the ones that carry white text
UPDATE = "update"
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")
INK = {"light": "#24292f", "dark": "#d6dbe1"}


class Clock:
    """Times calls by part: each without the timed calls inside it."""

    def __init__(self) -> None:
        self.running = False
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self.children: dict[str, int] = {}  # timed calls made directly by a part
        self._open: list[str] = []
        self._inside = 0.0

    def wrap(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """`function`, timed as `part` while the clock runs."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            if not self.running:
                return function(*args, **kwargs)
            if self._open:
                self.children[self._open[-1]] = self.children.get(self._open[-1], 0) + 1
            self._open.append(part)
            before, self._inside = self._inside, 0.0
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - began
                self.seconds[part] = self.seconds.get(part, 0.0) + took - self._inside
                self.calls[part] = self.calls.get(part, 0) + 1
                self._inside = before + took
                self._open.pop()

        return timed

    def wrap_method(self, owner: Any, name: str, part: str) -> None:
        """Put the timed method in the place of the method."""
        setattr(owner, name, self.wrap(getattr(owner, name), part))


def clock_costs() -> tuple[float, float]:
    """Seconds that timing one call adds to the call itself, and to whoever makes it."""

    def nothing() -> None: ...

    n, clock = 20_000, Clock()
    clock.running = True
    outer = clock.wrap(lambda: [inner() for _ in range(n)], "outer")
    inner = clock.wrap(nothing, "inner")
    outer()
    began = time.perf_counter()
    for _ in range(n):
        nothing()
    plain = (time.perf_counter() - began) / n
    return clock.seconds["inner"] / n - plain, clock.seconds["outer"] / n


def profile_loop(name: str, threads: int, steps: int) -> list[dict[str, Any]]:
    """The rows of one engine; in this process."""
    import gymnasium as gym
    import torch

    from softac import SAC
    from softac.agents.sac import SACAgent
    from softac.replay import Replay
    from softac.run.collector import Collector
    from softac.run.metrics import Means
    from softac.run.recorder import Recorder
    from softac.run.training import Training

    sys.path.insert(0, str(Path(__file__).parent / "peers"))
    from train import pin

    if ENGINES[name]["engine"] == "compiled":
        import torch._inductor.config

        torch._inductor.config.cpp.enable_kernel_profile = True  # names compiled kernels for the profiler
    pin(threads)
    clock = Clock()
    clock.wrap_method(Training, "choose", "choosing the action")
    clock.wrap_method(Replay, "add", "storing")
    clock.wrap_method(Replay, "sample", "sampling")
    clock.wrap_method(SACAgent, "update_noise", "noise")
    clock.wrap_method(SACAgent, "update_", UPDATE)
    clock.wrap_method(Means, "add", "metrics")
    clock.wrap_method(Recorder, "after_round", "metrics")
    clock.wrap_method(Collector, "collect", "rest of the loop")
    clock.wrap_method(Training, "update", "rest of the loop")

    env = gym.make("HalfCheetah-v5", disable_env_checker=True)
    step, count, marks = clock.wrap(env.step, "environment"), 0, []
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])

    def counted(action: Any) -> Any:
        nonlocal count
        if count in (WARM_UP, WARM_UP + steps):
            marks.append(time.perf_counter())
            clock.running = count == WARM_UP
        count += 1
        return step(action)

    env.step = counted  # type: ignore[method-assign]
    model = SAC(env, device="cpu", **ENGINES[name])
    model.learn(WARM_UP + steps + 1)

    inside, outside = clock_costs()
    total = (marks[1] - marks[0]) / steps * 1e6
    parts = {}
    for part, seconds in clock.seconds.items():
        own = seconds - clock.calls[part] * inside - clock.children.get(part, 0) * outside
        parts[part] = own / steps * 1e6
    all_calls = sum(clock.calls.values())
    # What no method accounts for is the loop's.
    total -= all_calls * (inside + outside) / steps * 1e6
    parts["rest of the loop"] += total - sum(parts.values())
    update = parts.pop(UPDATE)
    shares = profile_updates(model, profiler)
    parts |= {f"update: {kind}": share * update for kind, share in shares.items()}
    calls = {part: n / steps for part, n in clock.calls.items()}
    return [
        {
            "engine": name,
            "threads": threads,
            "steps": steps,
            "part": part,
            "microseconds": round(parts[part], 2),
            "calls": round(calls.get(UPDATE if part.startswith(UPDATE) else part, 0.0), 3),
        }
        for part in PARTS
    ]


def profile_updates(model: Any, profiler: Any) -> dict[str, float]:
    """Shares of matrix products, elementwise kernels and all else in the time of an update."""
    from softac.run.numerics import numerics

    training = model.training  # as the loop left it
    agent = training.agent
    generator = training.streams.update
    size = agent.config.batch_size
    batch = training.memory.sample(size, training.streams.replay)
    noises = [agent.update_noise(size, generator) for _ in range(PROFILED)]
    with numerics(model.threads), profiler:
        began = time.perf_counter()
        for noise in noises:
            agent.update_(batch, noise)
        wall = (time.perf_counter() - began) * 1e6
    products = elementwise = 0.0
    for event in profiler.key_averages():
        name = event.key.removeprefix("aten::")
        if "cpp_fused" in name:  # a compiled kernel, whose name may tell of the products around it
            elementwise += event.self_cpu_time_total
        elif any(word in name.split("_") for word in PRODUCTS):
            products += event.self_cpu_time_total
        elif event.key.startswith("aten::"):
            elementwise += event.self_cpu_time_total
    return {
        "matrix products": products / wall,
        "elementwise": elementwise / wall,
        "rest": 1.0 - (products + elementwise) / wall,
    }


def draw(rows: list[dict[str, str]]) -> None:
    """One bar for each engine, for a light and a dark page."""
    import matplotlib
    from matplotlib.figure import Figure

    engines = [engine for engine in ENGINES if any(row["engine"] == engine for row in rows)]
    longest = max(sum(float(row["microseconds"]) for row in rows if row["engine"] == e) for e in engines)
    for theme, ink in INK.items():
        names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        style = dict.fromkeys(names, ink) | {
            "savefig.transparent": True,
            "svg.hashsalt": "softac",
            "font.size": 10,
        }
        with matplotlib.rc_context(style):
            figure = Figure((8.4, 1.6 + 0.62 * len(engines)), layout="constrained")
            ax = figure.subplots()
            left = dict.fromkeys(engines, 0.0)
            for part, colour in PARTS.items():
                for engine in engines:
                    found = [row for row in rows if (row["engine"], row["part"]) == (engine, part)]
                    width = max(0.0, float(found[0]["microseconds"]))
                    label = part if engine == engines[0] else None
                    ax.barh(engine, width, left=left[engine], color=colour, height=0.72, label=label)
                    if width > 0.055 * longest:
                        middle = left[engine] + width / 2
                        text = "white" if colour in DEEP else "#16191d"
                        ax.text(middle, engine, f"{width:,.0f}", ha="center", va="center", color=text, fontsize=9)
                    left[engine] += width
            for engine, end in left.items():
                ax.text(end + 0.008 * longest, engine, f"{end:,.0f} µs", va="center", fontweight="bold")
            ax.set(xlabel="microseconds of one training step", xlim=(0, 1.1 * longest))
            ax.invert_yaxis()
            ax.spines[["top", "right", "left"]].set_visible(False)
            ax.tick_params(left=False)
            figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
            figure.savefig(RESULTS / f"profile-{theme}.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", action="store_true", help="only draw the pictures again")
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        print(json.dumps(profile_loop(args.engine, args.threads, args.steps)))
        return
    path = RESULTS / "profile.csv"
    if not args.plot:
        RESULTS.mkdir(exist_ok=True)
        system = machine()
        rows: list[dict[str, Any]] = []
        for name in ENGINES:
            words = ("--engine", name, "--threads", str(args.threads), "--steps", str(args.steps))
            try:
                found: Any = run(sys.executable, Path(__file__).resolve(), *words, threads=args.threads)
            except RuntimeError as error:
                print(f"{name} failed:\n{error}", flush=True)
                continue
            rows += found
            print(name)
            for row in found:
                print(f"  {row['part']:<26}{row['microseconds']:10.1f} µs{row['calls']:8.2f} calls", flush=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        (RESULTS / "profile-system.json").write_text(json.dumps(system, indent=2) + "\n")
    with path.open(newline="") as file:
        draw(list(csv.DictReader(file)))


if __name__ == "__main__":
    main()
