"""The kinds of hyperparameters that agents share, and the one way to build a configuration.

A configuration is a frozen pydantic dataclass: its fields carry their range and their help text,
and `make_config` turns whatever does not fit into one sentence.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, get_args

import annotated_types as at
from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from softac.errors import ConfigError, nearest

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

LearningRate = Annotated[float, Field(gt=0.0, le=1.0)]
OptionalLearningRate = Annotated[float | None, Field(gt=0.0, le=1.0)]
Discount = Annotated[float, Field(ge=0.0, le=1.0)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrZero = Annotated[int, Field(ge=0, le=10**12)]
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=16384)], ...], Field(min_length=1, max_length=16)]

# Names that users of other libraries bring along.
ELSEWHERE = {
    "alpha": "ent_coef",
    "autotune": "ent_coef",
    "batch": "batch_size",
    "discount": "gamma",
    "hidden_sizes": "net_arch",
    "lr": "learning_rate",
    "policy_frequency": "train_freq",
    "policy_kwargs": "net_arch",
    "policy_lr": "actor_learning_rate",
    "polyak": "tau",
    "q_lr": "critic_learning_rate",
    "replay_size": "buffer_size",
    "start_steps": "learning_starts",
    "target_network_frequency": "target_update_interval",
    "utd_ratio": "gradient_steps",
}


def _ent_coef(value: str | float) -> str | float:
    """Accept "auto", "auto_<initial value>" and numbers >= 0, also as text."""
    if isinstance(value, str) and not value.startswith("auto"):
        value = float(value)
    if isinstance(value, str):
        start = 1.0 if value == "auto" else float(value.removeprefix("auto_"))
        if not 0.0 < start < math.inf:
            raise ValueError
    elif not 0.0 <= value < math.inf:
        raise ValueError
    return value


def _target_entropy(value: str | float) -> str | float:
    """Accept "auto" and finite numbers, also as text."""
    if value == "auto":
        return value
    if not math.isfinite(value := float(value)):
        raise ValueError
    return value


EntCoef = Annotated[
    float | str,
    AfterValidator(_ent_coef),
    Field(json_schema_extra={"expected": '"auto", "auto_0.1" (its initial value) or a number >= 0'}),
]
TargetEntropy = Annotated[
    float | str,
    AfterValidator(_target_entropy),
    Field(json_schema_extra={"expected": '"auto" or a finite number of nats'}),
]


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
            hint = f"; here it is called {ELSEWHERE[name]!r}" if name in ELSEWHERE else nearest(name, known)
            hint = hint or "; expected one of: " + ", ".join(known)
            raise ConfigError(
                f"unknown hyperparameter {name!r}{hint}; `softac defaults` lists them with their meaning"
            )
    for name, value in values.items():
        if isinstance(value, bool) and known[name].annotation is not bool:
            raise _refusal(config, name, value)  # True would pass for 1
    try:
        return config(**values)
    except ValidationError as error:
        where = error.errors()[0]["loc"]
        name = str(where[0]) if where else ""
        if name not in known:
            raise ConfigError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        raise _refusal(config, name, values[name]) from None


def _refusal(config: type[Any], name: str, value: Any) -> ConfigError:
    return ConfigError(
        f"{name}={value!r} was given; expected {expected(fields(config)[name])}; "
        f"leave it out for the default {as_text(default(config, name))}"
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
