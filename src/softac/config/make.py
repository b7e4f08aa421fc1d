"""The one way to build a configuration, and what does not fit in one sentence."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

import annotated_types as at
from pydantic import ValidationError

from softac.errors import ConfigError, nearest

# Names that users of other libraries bring along.
ELSEWHERE = {
    "alpha": "ent_coef",
    "autotune": "ent_coef",
    "batch": "batch_size",
    "clip_coef": "clip_range",
    "discount": "gamma",
    "exploration_fraction": "exploration_steps",
    "exploration_noise": "action_noise_std",
    "hidden_sizes": "net_arch",
    "lam": "gae_lambda",
    "lr": "learning_rate",
    "noise_clip": "target_noise_clip",
    "num_steps": "n_steps",
    "policy_frequency": "policy_delay",
    "policy_kwargs": "net_arch",
    "policy_lr": "actor_learning_rate",
    "policy_noise": "target_policy_noise",
    "polyak": "tau",
    "q_lr": "critic_learning_rate",
    "replay_size": "buffer_size",
    "start_steps": "learning_starts",
    "target_network_frequency": "target_update_interval",
    "update_epochs": "n_epochs",
    "utd_ratio": "gradient_steps",
}

# What runs did before these hyperparameters were there.
ONCE = {"n_step_return": "plain"}


def as_it_was(config: type[Any]) -> dict[str, Any]:
    """What the hyperparameters mean that the file of an older run does not name."""
    return {name: value for name, value in ONCE.items() if name in fields(config)}


def fields(config: type[Any]) -> dict[str, Any]:
    """The pydantic field descriptions of a configuration class, by name."""
    described: dict[str, Any] = config.__pydantic_fields__
    return described


def make_config(config: type[Any], values: Mapping[str, Any]) -> Any:
    """Build `config` from `values`.

    Raises:
        ConfigError: an unknown name, or a value out of range; the message names the value, the
            range and the default.
    """
    known = fields(config)
    for name in values:
        if name not in known:
            ours = ELSEWHERE.get(name)
            hint = f"here it is called {ours!r}" if ours in known else nearest(name, known).removeprefix("; ")
            raise ConfigError(
                f"unknown hyperparameter {name!r}",
                hint or f"expected one of: {', '.join(known)}",
                "`softac defaults` lists them with their meaning",
            )
    for name, value in values.items():
        if isinstance(value, bool) and known[name].annotation is not bool:
            raise _refusal(config, name, value)  # True would pass for 1
    try:
        return config(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        refused = first.get("ctx", {}).get("error")  # raised for what no single field can see
        if isinstance(refused, ConfigError):
            raise refused from None
        if name in known:
            raise _refusal(config, name, values[name]) from None
        raise ConfigError(
            str(refused), f"expected what {config.__name__} accepts together", "correct one of these values"
        ) from None


def require_value(config: type[Any], name: str, value: Any) -> None:
    """Refuse a value that one hyperparameter does not take, whatever the others are.

    Raises:
        ConfigError: as `make_config` raises it.
    """
    wrong = isinstance(value, bool) and fields(config)[name].annotation is not bool
    try:
        config(**{name: value})
    except ValidationError as error:
        # What contradicts another hyperparameter is said in an error of softac's own.
        wrong |= any(not isinstance(one.get("ctx", {}).get("error"), ConfigError) for one in error.errors())
    if wrong:
        raise _refusal(config, name, value)


def _refusal(config: type[Any], name: str, value: Any) -> ConfigError:
    return ConfigError(
        f"{name}={value!r} was given",
        f"expected {expected(fields(config)[name])}",
        f"leave it out for the default {as_text(default(config, name))}",
    )


def default(config: type[Any], name: str) -> Any:
    """The default value of one hyperparameter."""
    return next(f.default for f in dataclasses.fields(config) if f.name == name)


def as_text(value: Any) -> str:
    """A value as a user would type it."""
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return str(value)


def expected(field: Any) -> str:
    """In words: the values a field accepts."""
    if isinstance(extra := field.json_schema_extra, dict) and "expected" in extra:
        return str(extra["expected"])
    kind, metadata = field.annotation, list(field.metadata)
    if options := [a for a in get_args(kind) if isinstance(a, str)]:
        return " or ".join(f'"{o}"' for o in options)
    if kind is bool:
        return "true or false"
    if kind not in (int, float) and float not in get_args(kind):
        return "whole numbers from 1 to 16384, one for each hidden layer"
    words = "a whole number" if kind is int else "a number"
    bounds: dict[str, Any] = {}  # of several in one direction the last is the narrowest
    for bound in metadata:
        match bound:
            case at.Gt():
                bounds[">"] = bound.gt
            case at.Ge():
                bounds[">="] = bound.ge
            case at.Lt():
                bounds["<"] = bound.lt
            case at.Le():
                bounds["<="] = bound.le
            case _:
                pass
    return " ".join([words, " and ".join(f"{sign} {_exactly(n)}" for sign, n in bounds.items())])


def _exactly(number: float) -> str:
    return short if float(short := f"{number:g}") == number else str(number)
