"""The only list of the agents."""

from typing import Any

from softac.agents.a2c import A2CAgent
from softac.agents.crossq import CrossQAgent, XQCAgent
from softac.agents.ddpg import DDPGAgent
from softac.agents.dqn import DQNAgent
from softac.agents.gamid_pg import GamidPGAgent
from softac.agents.ppo import PPOAgent
from softac.agents.rebrac import ReBRACAgent
from softac.agents.reinforce import REINFORCEAgent
from softac.agents.sac import SACAgent
from softac.agents.sac_discrete import SACDiscreteAgent
from softac.agents.sac_mixture import SACMixtureAgent
from softac.agents.sac_v import SACVAgent
from softac.agents.td3 import TD3Agent
from softac.errors import ConfigError, nearest
from softac.types import ActionKind

AGENTS: dict[str, type[Any]] = {
    "sac": SACAgent,
    "sac_v": SACVAgent,
    "sac_discrete": SACDiscreteAgent,
    "sac_mixture": SACMixtureAgent,
    "crossq": CrossQAgent,
    "xqc": XQCAgent,
    "gamid_pg": GamidPGAgent,
    "ddpg": DDPGAgent,
    "td3": TD3Agent,
    "dqn": DQNAgent,
    "rebrac": ReBRACAgent,
    "reinforce": REINFORCEAgent,
    "a2c": A2CAgent,
    "ppo": PPOAgent,
}


def find_agent(name: str) -> type[Any]:
    """The agent class registered as `name`.

    Raises:
        ConfigError: no agent has this name.
    """
    if name not in AGENTS:
        raise ConfigError(
            f"unknown algorithm {name!r}{nearest(name, AGENTS)}",
            f"expected one of: {', '.join(AGENTS)}",
            "`softac list` says what each does",
        )
    return AGENTS[name]


def algorithm_name(agent_class: type[Any]) -> str:
    """The name an agent class is registered under; its own for one that is not."""
    return next((name for name, known in AGENTS.items() if known is agent_class), agent_class.__name__)


def serving(actions: ActionKind) -> list[str]:
    """The names of the agents that can choose such actions."""
    return [name for name, agent in AGENTS.items() if actions in agent.actions]
