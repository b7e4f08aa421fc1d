"""What is changed where a run goes on: named by the user, kept in the run's history, and not bit for bit.

`config.json` keeps the settings that the run was begun with, which its checkpoints belong to, and beside them
under "history" what has been changed since, at which step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from softac.config import fields, make_config
from softac.errors import ConfigError, nearest

# What a run keeps, and why it can be no other.
NETWORKS = "the networks were made with it"
ROWS = "what it has stored was made with it"
COUNTED = "updates are counted with it from the first step on"
KEPT = {
    **dict.fromkeys(
        ("net_arch", "actor_net_arch", "critic_net_arch", "activation", "critic_layer_norm"), NETWORKS
    ),
    **dict.fromkeys(("n_critics", "n_components", "n_atoms", "v_max", "dueling", "log_std"), NETWORKS),
    **dict.fromkeys(("log_std_init", "baseline", "target_network"), NETWORKS),
    **dict.fromkeys(("gamma", "n_steps", "n_step_return", "buffer_size"), ROWS),
    **dict.fromkeys(("learning_starts", "train_freq", "gradient_steps"), COUNTED),
}
LONGEST = 10_000  # entries of a history


@dataclass(frozen=True)
class Change:
    """One setting that was changed.

    Attributes:
        step: environment steps made before.
        name: of a hyperparameter, `env_kwargs` or `device`.
        was: its value before.
        now: its value from then on; both plain data.
    """

    step: int
    name: str
    was: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name} was {self.was} and is {self.now}"


@dataclass(frozen=True)
class Past:
    """What a run's folder says of its past.

    Attributes:
        hyperparameters: as the run was begun, plain data.
        env: the id of its environment.
        env_kwargs: of it, as the run was begun.
        history: what has been changed since, oldest first.
        made: those of them that are made now.
    """

    hyperparameters: dict[str, Any]
    env: str
    env_kwargs: dict[str, Any]
    history: tuple[Change, ...] = ()
    made: tuple[Change, ...] = ()

    @property
    def other_task_until(self) -> int:
        """The step up to which the environment was made with other arguments; -1: it never was."""
        return max((change.step for change in self.history if change.name == "env_kwargs"), default=-1)

    def described(self, description: dict[str, Any]) -> dict[str, Any]:
        """The description of a model that has this past: as it was begun, and its history."""
        said = {**description, "hyperparameters": self.hyperparameters}
        if said["env"]["id"] == self.env:
            said["env"] = {**said["env"], "kwargs": self.env_kwargs}
        return said | ({"history": [asdict(change) for change in self.history]} if self.history else {})


def read_history(entries: Any) -> tuple[Change, ...]:
    """The history that a file holds.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    if not isinstance(entries, list) or len(entries) > LONGEST:
        raise ValueError("a history that is no list, or too long")
    return tuple(Change(int(e["step"]), str(e["name"]), e["was"], e["now"]) for e in entries)


def since(history: Iterable[Change], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, those that were changed as they are now."""
    return {**values, **{change.name: change.now for change in history if change.name in values}}


def changeable(config: type[Any]) -> list[str]:
    """The hyperparameters that may be others where a run goes on."""
    return [name for name in fields(config) if name not in KEPT]


def change(hyperparameters: Any, given: Mapping[str, Any], step: int) -> tuple[Any, list[Change]]:
    """Hyperparameters with those that are given, and what that changes.

    Raises:
        ConfigError: one does not exist, cannot be changed, or cannot work.
    """
    config, values = type(hyperparameters), asdict(hyperparameters)
    for name in given:
        if name in KEPT and name in values:
            raise ConfigError(
                f"{name}={given[name]!r:.100} was given for a run that goes on",
                f"expected {name}={values[name]!r}, as it was begun: {KEPT[name]}",
                "leave it out, or train from the start",
            )
        if name not in values:
            raise ConfigError(
                f"unknown setting {name!r}{nearest(name, values)}",
                f"expected one of: {', '.join(changeable(config))}",
                "correct it, or leave it out",
            )
    new = make_config(config, {**values, **given})
    if "ent_coef" in given:
        _require_as_learned(values["ent_coef"], new.ent_coef)
    changes = [
        Change(step, name, values[name], now) for name in given if (now := getattr(new, name)) != values[name]
    ]
    return new, changes


def _require_as_learned(was: float | str, now: float | str) -> None:
    """Refuse another beginning of a temperature that is learned, and one that is to be learned from now on."""
    if was == now or not (isinstance(was, str) or isinstance(now, str)):
        return
    why = (
        "it is learned and goes on from where it is" if isinstance(was, str) else "nothing of it has been learned"
    )
    raise ConfigError(
        f"ent_coef={now!r} was given for a run that goes on",
        f"expected {f'ent_coef={was!r}' if isinstance(was, str) else 'a number'}, as it was begun: {why}",
        "leave it out, or train from the start",
    )
