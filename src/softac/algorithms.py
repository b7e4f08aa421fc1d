"""The models by the name of their algorithm: `SAC("Pendulum-v1")` is `Model(SACAgent, "Pendulum-v1")`."""

from pathlib import Path
from typing import Any, ClassVar

from softac.agents.registry import AGENTS, algorithm_name
from softac.envs.make import EnvLike
from softac.errors import ConfigError
from softac.model import Model


class NamedModel(Model):
    """A `Model` whose agent is given by its class; see `Model` for the arguments."""

    agent_class: ClassVar[type[Any]]

    def __init__(self, env: EnvLike, **arguments: Any) -> None:
        super().__init__(self.agent_class, env, **arguments)

    @classmethod
    def _require_own(cls, found: type[Any], path: Path) -> None:
        if found is not cls.agent_class:
            raise ConfigError(
                f"{path} holds a model of {algorithm_name(found)}; expected {algorithm_name(cls.agent_class)}; "
                "load it with softac.Model.load, or with the class of its algorithm"
            )


class SAC(NamedModel):
    """Soft actor-critic; the algorithm is `softac.agents.sac`."""

    agent_class = AGENTS["sac"]
