"""What people give in place of a Gymnasium environment, by its name, and the way from there."""

from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from softac.errors import ConfigError

ONE = "expected an id such as 'Pendulum-v1', a function that makes a gymnasium.Env, or one"
SEVERAL = (
    "expected an id, a function or a single environment, which softac steps itself so that every episode has its "
    "own seed and ends exactly where it ends"
)
# How the ids of a package begin, and the module that registers them when it is imported.
HOMES = {
    "ALE/": "ale_py",
    "Adroit": "gymnasium_robotics",
    "AntMaze": "gymnasium_robotics",
    "Fetch": "gymnasium_robotics",
    "FrankaKitchen": "gymnasium_robotics",
    "HandManipulate": "gymnasium_robotics",
    "HandReach": "gymnasium_robotics",
    "Meta-World/": "metaworld",
    "MiniGrid-": "minigrid",
    "Panda": "panda_gym",
    "PointMaze": "gymnasium_robotics",
    "PyFlyt/": "PyFlyt.gym_envs",
    "dm_control/": "shimmy",
    "forex-": "gym_anytrading",
    "highway-": "highway_env",
    "intersection-": "highway_env",
    "merge-": "highway_env",
    "parking-": "highway_env",
    "racetrack-": "highway_env",
    "roundabout-": "highway_env",
    "stocks-": "gym_anytrading",
}


def refusal(thing: Any, how: str) -> ConfigError:
    """The error for something that is neither an id, nor a function, nor a Gymnasium environment.

    Args:
        thing: what it is.
        how: it came, such as "was given" or "was returned by make".
    """
    given, expected, remedy = _said(thing)
    return ConfigError(f"{given} {how}", expected, remedy)


def _said(thing: Any) -> tuple[str, str, str]:
    kind = type(thing).__name__
    names = {made.__name__ for made in type(thing).__mro__}
    roots = {made.__module__.partition(".")[0] for made in type(thing).__mro__}
    if isinstance(thing, gym.vector.VectorEnv) or "VecEnv" in names:
        return f"a vector environment ({kind})", SEVERAL, "pass the single environment's id and n_envs"
    if "gym" in roots:
        return (
            f"an environment of the old package gym ({kind})",
            "expected one of gymnasium, which has taken its place",
            "make it with `import gymnasium as gym`, or wrap it: shimmy.GymV26CompatibilityV0(env=env) of "
            "`pip install shimmy[gym-v26]`",
        )
    if "pettingzoo" in roots or hasattr(thing, "possible_agents"):
        return (
            f"an environment for several agents ({kind}, as in PettingZoo)",
            "expected one for a single agent",
            "control one of them in a gymnasium.Env of your own, whose step moves the others",
        )
    if "dm_env" in roots:
        remedy = "wrap it: shimmy.DmControlCompatibilityV0(env) of `pip install shimmy[dm-control]`"
        return f"an environment of dm_env ({kind})", "expected one of gymnasium", remedy
    if isinstance(thing, EnvSpec):
        return f"a specification ({thing.id})", ONE, f"pass its id, {thing.id!r}"
    if isinstance(thing, list | tuple | set):
        return (
            f"a {kind} of {len(thing)}",
            SEVERAL,
            "pass one function that makes it, and n_envs",
        )
    if isinstance(thing, ModuleType):
        return f"the module {thing.__name__}", ONE, f"write {thing.__name__}:Env-v0 with the id of its environment"
    if isinstance(thing, Path):
        return f"the path {thing}", ONE, "pass the id, or load a saved model with SAC.load(path)"
    if thing is None:
        return "None", ONE, "name the environment; a function must return it"
    return (
        f"{thing!r:.60} (of type {kind})",
        ONE,
        "let it inherit from gymnasium.Env, if it is one of your own",
    )


def home_of(env_id: str) -> str:
    """The module that registers an environment when it is imported; "" if it is not known."""
    return next((home for start, home in HOMES.items() if env_id.startswith(start)), "")
