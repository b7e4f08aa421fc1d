"""SAC, crossq and xqc on one GPU: parity of recorded updates and of cohorts with eager ones, and steps per second.

    python benchmarks/modern/gpu.py parity|speed FILE.csv [--device cuda] [--only sac,crossq]
    python benchmarks/modern/gpu.py speed FILE.csv --seconds 20 [--cohorts]
    python benchmarks/modern/gpu.py why [--only sac]

parity: the same 20 updates of SAC's usual size by an eager agent and by the compiled engine, the CUDA graph, a
cohort of 16 and a recorded cohort of 16, beside what bounds them: eager updates in float32 and in float64.
`difference` is the largest of any tensor, relative to the tensor's largest number; `typical` the largest of any
tensor's median, as relative. A gradient of 0 but for rounding moves its weight by a whole learning rate in Adam's
first step, up or down: that shows in the first alone.
speed: environment steps per second on HalfCheetah-v5, one update a step, of one agent and of cohorts, or of these
alone. A row is written as soon as it is known.
why: compile with calls written in C++ and without, and print where what fails.
"""

import argparse
import csv
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from softac import Model
from softac.agents.registry import find_agent
from softac.learning.cohort import Cohort
from softac.learning.engine import Engine
from softac.learning.state import load_state_
from softac.run.config import RecordConfig
from softac.types import EnvSpec, Transition

HALFCHEETAH = EnvSpec(17, 6)
UPDATES, WARM_UP = 20, 300
QUIET = RecordConfig(eval_freq=0, n_eval_episodes=0, save_freq=0)


def agent_of(name: str, seed: int, device: torch.device, **options: Any) -> Any:
    cls = find_agent(name)
    return cls(HALFCHEETAH, cls.Config(**options), generator=torch.Generator().manual_seed(seed), device=device)


def arguments(agent: Any, turn: int, dtype: torch.dtype = torch.float32) -> tuple[Transition, Any]:
    generator, size = torch.Generator().manual_seed(turn), agent.config.batch_size
    obs, next_obs = torch.randn(2, size, 17, generator=generator)
    action, reward = torch.randn(size, 6, generator=generator).tanh(), torch.randn(size, generator=generator)
    batch = Transition(obs, action, reward, torch.full((size,), 0.99), next_obs)
    noise = agent.update_noise(size, generator)
    kind = type(noise)
    noise = kind(*(n.to(dtype) for n in noise)) if isinstance(noise, tuple) else noise.to(dtype)
    return Transition(*(t.to(agent.device, dtype) for t in batch)), noise


def after_updates(agent: Any, engine: Engine, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    for turn in range(UPDATES):
        engine.update_(*arguments(agent, turn, dtype))
    return {k: v.double().cpu() for k, v in agent.tensors().items() if not k.startswith("optim.")}


def in_cohort(agents: list[Any], recorded: bool) -> dict[str, Tensor]:
    """The first of them after the updates of all."""
    cohort, states = Cohort(agents, recorded=recorded), dict[int, dict[str, Tensor]]()

    def train(i: int) -> None:
        try:
            states[i] = after_updates(agents[i], cohort.engine(i))
        finally:
            cohort.leave(i)

    threads = [Thread(target=train, args=(i,)) for i in range(len(agents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return states[0]


def differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    each = [(found[k] - t).abs() / t.abs().max().clamp_min(1e-3) for k, t in expected.items()]
    return {"difference": max(float(d.max()) for d in each), "typical": max(float(d.median()) for d in each)}


def in_float64(name: str, device: torch.device) -> dict[str, Tensor]:
    torch.set_default_dtype(torch.float64)
    try:
        exact = agent_of(name, 0, device)
    finally:
        torch.set_default_dtype(torch.float32)
    given = agent_of(name, 0, device).tensors()
    load_state_(exact, {k: given[k].to(t.dtype) for k, t in exact.tensors().items()})
    return after_updates(exact, Engine(exact), torch.float64)


def parity(name: str, device: torch.device) -> Iterator[dict[str, Any]]:
    agent = agent_of(name, 0, device)
    eager = after_updates(agent, Engine(agent))
    yield {"executor": "float64", **differences(eager, in_float64(name, device))}
    for engine in ("compiled", "cudagraph") if device.type == "cuda" else ():
        agent = agent_of(name, 0, device)
        executor = Engine(agent, engine)
        found = after_updates(agent, executor)
        yield {"executor": engine if executor.name == engine else f"{engine}: eager", **differences(found, eager)}
    for recorded in (False, True)[: 2 if device.type == "cuda" else 1]:
        found = in_cohort([agent_of(name, seed, device) for seed in range(16)], recorded)
        what = "recorded cohort of 16" if recorded else "cohort of 16"
        yield {"executor": what, **differences(found, eager)}


def why(name: str, device: torch.device) -> None:
    """Compile as the engine does, with each value of the option for the language of the calls."""
    compiler, begun = torch.compile, time.perf_counter()
    for in_cpp in (False, True):

        def compiled(function: Any, *, options: dict[str, Any], in_cpp: bool = in_cpp, **how: Any) -> Any:
            graph = compiler(function, options=options | {"cpp_wrapper": in_cpp}, **how)

            def call(*arguments: Any) -> Any:
                try:
                    return graph(*arguments)
                except Exception:
                    print("".join(traceback.format_exc().splitlines(keepends=True)[-40:]), flush=True)
                    raise

            return call

        torch.compile = compiled  # type: ignore[assignment]
        agent = agent_of(name, 0, device)
        engine = Engine(agent, "compiled")
        engine.update_(*arguments(agent, 0))
        engine.update_(*arguments(agent, 1))
        seconds = time.perf_counter() - begun
        print(f"{name}, calls in {'C++' if in_cpp else 'Python'}: {engine.name} after {seconds:.0f} s", flush=True)
        torch._dynamo.reset()
    torch.compile = compiler


def one_speed(name: str, engine: str, device: torch.device, seconds: float) -> float:
    model = Model(find_agent(name), "HalfCheetah-v5", seed=0, device=str(device), engine=engine)
    model.learn(WARM_UP)
    begun, before = time.perf_counter(), model.num_timesteps
    model.learn(10**6, callback=lambda *_: time.perf_counter() - begun < seconds)
    return (model.num_timesteps - before) / (time.perf_counter() - begun)


def cohort_speed(name: str, n: int, recorded: bool, device: torch.device, seconds: float) -> float:
    """Of all together."""
    models = [Model(find_agent(name), "HalfCheetah-v5", seed=i, device=str(device)) for i in range(n)]
    cohort = Cohort([model.agent for model in models], recorded=recorded)
    engines = [cohort.engine(i) for i in range(n)]
    rate = 0.0
    for steps in (WARM_UP, 0):
        if steps == 0:  # as many as fit
            steps = max(500, int(rate / n * seconds))
        threads = [
            Thread(target=model.train, args=(model.num_timesteps + steps, QUIET), kwargs={"engine": engine})
            for model, engine in zip(models, engines, strict=True)
        ]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rate = n * steps / (time.perf_counter() - begun)
    return rate


def speed(name: str, device: torch.device, seconds: float, *, cohorts: bool) -> Iterator[dict[str, Any]]:
    on_gpu = device.type == "cuda"
    engines = ("cudagraph", "compiled", "eager") if on_gpu else ("eager",)
    for engine in () if cohorts else engines:
        yield {"executor": engine, "agents": 1, "steps_per_second": one_speed(name, engine, device, seconds)}
    for recorded in (True, False) if on_gpu else (False,):
        for n in (16, 4, 1):
            what = "recorded cohort" if recorded else "cohort"
            rate = cohort_speed(name, n, recorded, device, seconds)
            yield {"executor": what, "agents": n, "steps_per_second": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("parity", "speed", "why"))
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", default="sac,crossq,xqc")
    parser.add_argument("--cohorts", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(args.device)
    names = args.only.split(",")
    if args.what == "why":
        for name in names:
            why(name, device)
        return
    card = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    numbers = ["difference", "typical"] if args.what == "parity" else ["agents", "steps_per_second"]
    columns = ["algorithm", "executor", *numbers, "card", "torch"]
    with args.file.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for name in names:
            if args.what == "parity":
                rows = parity(name, device)
            else:
                rows = speed(name, device, args.seconds, cohorts=args.cohorts)
            try:
                for row in rows:
                    shown = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in row.items()}
                    writer.writerow({"algorithm": name, "card": card, "torch": torch.__version__} | shown)
                    file.flush()
                    print(name, shown, flush=True)
            except Exception as error:  # the other algorithms go on
                print(name, "FAILED:", repr(error)[:2000], file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
