"""The models by the name of their algorithm: `SAC("Pendulum-v1")` is `Model(SACAgent, "Pendulum-v1")`."""

from pathlib import Path
from typing import Any, ClassVar

from softac.agents.presets import find_preset
from softac.agents.registry import AGENTS, algorithm_name
from softac.envs.make import EnvLike, id_of
from softac.errors import ConfigError
from softac.model import Model
from softac.run.habits import missing, refuse_policy


class NamedModel(Model):
    """A `Model` whose agent is given by its class; see `Model` for the other arguments.

    Args:
        preset: settings to start from, which those given here go before: True for the ones tuned for the
            environment, the name of published ones, or a file that `softac tune` has written (.toml).

    Raises:
        ConfigError: there are no such settings; and as `Model`.
    """

    agent_class: ClassVar[type[Any]]

    def __init__(
        self, env: EnvLike, *others: Any, preset: bool | str | Path | None = None, **arguments: Any
    ) -> None:
        refuse_policy(type(self).__name__, env, others)
        settings = find_preset(algorithm_name(self.agent_class), id_of(env), preset)
        super().__init__(self.agent_class, env, **(settings | arguments))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(missing(type(self).__name__, name), name=name, obj=self)

    @classmethod
    def _require_own(cls, found: type[Any], path: Path) -> None:
        if found is not cls.agent_class:
            raise ConfigError(
                f"{path} holds a model of {algorithm_name(found)}",
                f"expected {algorithm_name(cls.agent_class)}",
                "load it with softac.Model.load, or with the class of its algorithm",
            )


class SAC(NamedModel):
    """Soft actor-critic; the algorithm is `softac.agents.sac`."""

    agent_class = AGENTS["sac"]


class SACV(NamedModel):
    """Soft actor-critic of 2018, with a value network; the algorithm is `softac.agents.sac_v`."""

    agent_class = AGENTS["sac_v"]


class SACDiscrete(NamedModel):
    """Soft actor-critic for discrete actions; the algorithm is `softac.agents.sac_discrete`."""

    agent_class = AGENTS["sac_discrete"]


class SACMixture(NamedModel):
    """Soft actor-critic with a Gaussian mixture policy; the algorithm is `softac.agents.sac_mixture`."""

    agent_class = AGENTS["sac_mixture"]


class CrossQ(NamedModel):
    """Soft actor-critic with normalised networks; the algorithm is `softac.agents.crossq`."""

    agent_class = AGENTS["crossq"]


class XQC(NamedModel):
    """CrossQ with a categorical critic and a target network; the algorithm is `softac.agents.crossq`."""

    agent_class = AGENTS["xqc"]


class GamidPG(NamedModel):
    """Gaussian mixture deterministic policy gradient; the algorithm is `softac.agents.gamid_pg`."""

    agent_class = AGENTS["gamid_pg"]


class DDPG(NamedModel):
    """Deep deterministic policy gradient; the algorithm is `softac.agents.ddpg`."""

    agent_class = AGENTS["ddpg"]


class TD3(NamedModel):
    """Twin delayed deep deterministic policy gradient; the algorithm is `softac.agents.td3`."""

    agent_class = AGENTS["td3"]


class DQN(NamedModel):
    """Deep Q-network; the algorithm is `softac.agents.dqn`."""

    agent_class = AGENTS["dqn"]


class ReBRAC(NamedModel):
    """Revisited behaviour-regularised actor-critic, from data alone; the algorithm is `softac.agents.rebrac`."""

    agent_class = AGENTS["rebrac"]


class REINFORCE(NamedModel):
    """REINFORCE, the vanilla policy gradient; the algorithm is `softac.agents.reinforce`."""

    agent_class = AGENTS["reinforce"]


class A2C(NamedModel):
    """Advantage actor-critic; the algorithm is `softac.agents.a2c`."""

    agent_class = AGENTS["a2c"]


class PPO(NamedModel):
    """Proximal policy optimisation; the algorithm is `softac.agents.ppo`."""

    agent_class = AGENTS["ppo"]
