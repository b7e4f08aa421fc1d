"""One contestant trains SAC in this process and counts the steps of windows of time that it is told to measure.

    PYTHON train.py SETTINGS

`run.py` starts it. SETTINGS is a JSON object: contestant ("softac" or "sb3"), env, net_arch, batch_size, engine,
torch_first, warm_up. After the warm-up, when everything is compiled, it prints "ready" and reads commands, one a
line: "measure SECONDS" trains so long and prints a JSON object, "end" ends.

The steps are counted inside the environment class's own `step`, in the same way for every contestant; there, too,
it waits for the next command. Each step has its update.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

BEGINNING = 100  # steps with random actions, no updates


def scheduled() -> tuple[float, float]:
    """Seconds that the threads of this process have run, and waited for a processor to run on."""
    run = wait = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            ran, waited, _ = (task / "schedstat").read_text().split()
        except OSError:
            continue
        run, wait = run + int(ran), wait + int(waited)
    return run / 1e9, wait / 1e9


class Window:
    """Counts steps; between two windows of time it waits for a command."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up, self.steps, self.end = warm_up, 0, 0.0

    def step(self) -> None:
        """Called before each step of the environment."""
        self.steps += 1
        if self.end == 0.0:
            if self.steps > self.warm_up:
                print("ready", flush=True)
                self.next()
        elif time.perf_counter() >= self.end:
            self.report()
            self.next()

    def next(self) -> None:
        """Wait for a command; begin a window, or end."""
        word, _, seconds = sys.stdin.readline().strip().partition(" ")
        if word != "measure":
            os._exit(0)
        self.steps, self.began, self.before = 0, time.perf_counter(), scheduled()
        self.end = self.began + float(seconds)

    def report(self) -> None:
        """Print what the window has seen."""
        seconds = time.perf_counter() - self.began
        ran, waited = (now - before for now, before in zip(scheduled(), self.before, strict=True))
        threads = sys.modules["torch"].get_num_threads()
        answer = {"steps": self.steps, "seconds": seconds, "ran": ran, "waited": waited, "threads": threads}
        print(json.dumps(answer), flush=True)


def count_steps(env_id: str, window: Window) -> None:
    """Have the environment's class say when it steps."""
    import gymnasium as gym
    from gymnasium.envs.registration import load_env_creator

    creator: Any = load_env_creator(str(gym.spec(env_id).entry_point))
    step = creator.step

    def counted(self: Any, action: Any) -> Any:
        window.step()
        return step(self, action)

    creator.step = counted


def main() -> None:
    given = json.loads(sys.argv[1])
    sys.path.remove(str(Path(__file__).parent))
    if given["torch_first"]:
        import torch  # noqa: F401 - softac then leaves alone how its threads wait
    common = {"batch_size": given["batch_size"], "seed": 0, "device": "cpu"}
    if given["contestant"] == "sb3":
        from stable_baselines3 import SAC

        count_steps(given["env"], Window(given["warm_up"]))
        arch = {"net_arch": given["net_arch"]}
        model = SAC("MlpPolicy", given["env"], policy_kwargs=arch, learning_starts=BEGINNING, **common)
        model.learn(10**9)
    else:
        import softac

        count_steps(given["env"], Window(given["warm_up"]))
        mine = softac.SAC(
            given["env"], net_arch=given["net_arch"], engine=given["engine"], learning_starts=BEGINNING, **common
        )
        mine.learn(10**9)


if __name__ == "__main__":
    main()
