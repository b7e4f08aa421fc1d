"""The only list of the agents."""

from typing import Any

from softac.agents.sac import SACAgent
from softac.errors import ConfigError, nearest
from softac.types import ActionKind

AGENTS: dict[str, type[Any]] = {
    "sac": SACAgent,
}


def find_agent(name: str) -> type[Any]:
    """The agent class registered as `name`.

    Raises:
        ConfigError: no agent has this name.
    """
    if name not in AGENTS:
        raise ConfigError(
            f"unknown algorithm {name!r}{nearest(name, AGENTS)}; expected one of: {', '.join(AGENTS)}; "
            "`softac list` says what each does"
        )
    return AGENTS[name]


def algorithm_name(agent_class: type[Any]) -> str:
    """The name an agent class is registered under; its own for one that is not."""
    return next((name for name, known in AGENTS.items() if known is agent_class), agent_class.__name__)


def serving(actions: ActionKind) -> list[str]:
    """The names of the agents that can choose such actions."""
    return [name for name, agent in AGENTS.items() if actions in agent.actions]
