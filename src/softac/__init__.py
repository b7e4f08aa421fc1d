"""softac: maximum-entropy reinforcement learning, with its theory as running code."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from softac._version import __version__
from softac.run.waiting import wait_briefly

if TYPE_CHECKING:
    from softac.algorithms import A2C as A2C
    from softac.algorithms import DDPG as DDPG
    from softac.algorithms import DQN as DQN
    from softac.algorithms import PPO as PPO
    from softac.algorithms import REINFORCE as REINFORCE
    from softac.algorithms import SAC as SAC
    from softac.algorithms import SACV as SACV
    from softac.algorithms import TD3 as TD3
    from softac.algorithms import XQC as XQC
    from softac.algorithms import CrossQ as CrossQ
    from softac.algorithms import GamidPG as GamidPG
    from softac.algorithms import ReBRAC as ReBRAC
    from softac.algorithms import SACDiscrete as SACDiscrete
    from softac.algorithms import SACMixture as SACMixture
    from softac.examine.conformance import check_agent as check_agent
    from softac.examine.environment import check_env as check_env
    from softac.model import Model as Model
    from softac.run.evaluate import evaluate_policy as evaluate_policy

__all__ = [
    "A2C",
    "DDPG",
    "DQN",
    "PPO",
    "REINFORCE",
    "SAC",
    "SACV",
    "TD3",
    "XQC",
    "CrossQ",
    "GamidPG",
    "Model",
    "ReBRAC",
    "SACDiscrete",
    "SACMixture",
    "__version__",
    "check_agent",
    "check_env",
    "evaluate_policy",
]

ROOMS = {
    "Model": "softac.model",
    "check_agent": "softac.examine.conformance",
    "check_env": "softac.examine.environment",
    "evaluate_policy": "softac.run.evaluate",
}


wait_briefly()  # before PyTorch is imported, or never


def __getattr__(name: str) -> Any:
    # PyTorch takes a second or two to import; `softac --help` must not wait for it.
    if name not in __all__:
        raise AttributeError(f"module 'softac' has no attribute {name!r}")
    room = ROOMS.get(name, "softac.algorithms")
    return getattr(import_module(room), name)
