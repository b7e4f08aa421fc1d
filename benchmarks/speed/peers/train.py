"""One contestant trains SAC in this process; the steps of its steady state are timed.

    PYTHON train.py SETTINGS

`compare.py` and `scaling.py` start it with the interpreter of the contestant's own environment. SETTINGS is a
JSON object: contestant, env, net_arch, batch_size, warm_up, steps, seed, threads; for CleanRL `script`; for softac
`engine` and `precision` and, if wanted, n_envs, buffer_size and fill. The last line printed is JSON: the seconds
that `steps` environment steps took after `warm_up` steps, with all the updates between them.

The clock is read inside the environment class's own `step`, in the same way for every contestant: when the step
after the warm-up begins, and again `steps` steps later. Between the two lie acting, environment, replay and
updates, as many as environment steps, and nothing that happens once (compiling, allocating).
"""

import importlib.metadata
import json
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

PACKAGES = ("softac", "stable-baselines3", "sbx-rl", "jax", "jaxlib", "torch", "numpy", "gymnasium", "mujoco")
BEGINNING = 100  # steps with random actions, no updates
CLEANRL_WIDTHS = [256, 256]  # written into the script


def pin(threads: int) -> None:
    """Keep this process to its last `threads` cores: XLA starts a thread for each core it may use."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-threads:])


def time_steps(env_id: str, warm_up: int, steps: int) -> list[float]:
    """Have the environment's class note the time of two of its steps in the list returned."""
    import gymnasium as gym
    from gymnasium.envs.registration import load_env_creator

    creator: Any = load_env_creator(str(gym.spec(env_id).entry_point))
    step, times, count = creator.step, [], 0

    def timed(self: Any, action: Any) -> Any:
        nonlocal count
        if count in (warm_up, warm_up + steps):
            times.append(time.perf_counter())
        count += 1
        return step(self, action)

    creator.step = timed
    return times


def train_softac(given: dict[str, Any], total: int) -> None:
    from softac import SAC

    chosen = {name: given[name] for name in ("engine", "precision", "n_envs", "buffer_size") if name in given}
    common = {"seed": given["seed"], "net_arch": given["net_arch"], "batch_size": given["batch_size"]}
    model = SAC(given["env"], device="cpu", **common, **chosen)
    if given.get("fill"):
        fill_when_made(model.spaces.spec)
    model.learn(total)


def fill_when_made(spec: Any) -> None:
    """Have the replay filled to its capacity with random episodes of 1,000 steps as soon as it is made."""
    import numpy as np

    from softac.replay import Replay
    from softac.types import Row

    made, length = Replay.__init__, 1_000

    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        rng = np.random.default_rng(0)
        for first in range(0, self.capacity, length):
            obs = rng.standard_normal((length + 1, spec.obs_dim), np.float32)
            actions = rng.uniform(-1.0, 1.0, (length, spec.action_dim)).astype(np.float32)
            for i in range(min(length, self.capacity - first)):
                self.add(Row(obs[i], actions[i], 0.0, 0.99, obs[i + 1], i == length - 1))

    Replay.__init__ = make  # type: ignore[method-assign]


def train_sb3(given: dict[str, Any], total: int) -> None:
    if given["contestant"] == "sb3":
        from stable_baselines3 import SAC
    else:
        from sbx import SAC

    nets = {"net_arch": given["net_arch"]}
    model = SAC(
        "MlpPolicy",
        given["env"],
        batch_size=given["batch_size"],
        policy_kwargs=nets,
        seed=given["seed"],
        device="cpu",
    )
    model.learn(total)


def train_cleanrl(given: dict[str, Any], total: int) -> None:
    """Run the script unchanged; it was written for Gymnasium 0.29, whose vector environment it gets here."""
    import gymnasium as gym
    import torch.utils.tensorboard
    from gymnasium.vector import AutoresetMode

    class SyncVectorEnv(gym.vector.SyncVectorEnv):
        def __init__(self, env_fns: Any) -> None:
            super().__init__(env_fns, autoreset_mode=AutoresetMode.SAME_STEP)

        def step(self, actions: Any) -> Any:
            *answer, infos = super().step(actions)
            if "final_obs" in infos:
                infos["final_observation"] = infos.pop("final_obs")
                infos["final_info"] = [{"episode": {k: v[0] for k, v in infos["final_info"]["episode"].items()}}]
            return *answer, infos

    class NoWriter:
        def __init__(self, *_: Any) -> None: ...
        def add_text(self, *_: Any) -> None: ...
        def add_scalar(self, *_: Any) -> None: ...
        def close(self) -> None: ...

    gym.vector.SyncVectorEnv = SyncVectorEnv
    torch.utils.tensorboard.SummaryWriter = NoWriter
    if given["net_arch"] != CLEANRL_WIDTHS:
        sys.exit(f"net_arch={given['net_arch']} was given; expected {CLEANRL_WIDTHS}, which the script has fixed")
    script = str(Path(given["script"]).resolve())
    words = {
        "env-id": given["env"],
        "seed": given["seed"],
        "total-timesteps": total,
        "batch-size": given["batch_size"],
        "learning-starts": BEGINNING,
        "q-lr": 3e-4,
    }
    sys.argv = [script, "--no-cuda", *(str(w) for name, value in words.items() for w in (f"--{name}", value))]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


def main() -> None:
    given = json.loads(sys.argv[1])
    pin(given["threads"])
    sys.path.remove(str(Path(__file__).parent))
    times = time_steps(given["env"], given["warm_up"], given["steps"])
    trainers = {"sb3": train_sb3, "sbx": train_sb3, "cleanrl": train_cleanrl}
    trainers.get(given["contestant"], train_softac)(given, given["warm_up"] + given["steps"] + 1)
    began, ended = times
    installed = {
        d.metadata["Name"].lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()
    }
    versions = {name: installed[name] for name in PACKAGES if name in installed}
    threads = len(os.sched_getaffinity(0))
    if "torch" in sys.modules and given["contestant"] != "sbx":
        threads = sys.modules["torch"].get_num_threads()
    print(json.dumps({"seconds": ended - began, "threads": threads, "versions": versions}))


if __name__ == "__main__":
    main()
