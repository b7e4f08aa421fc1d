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

Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrZero = Annotated[int, Field(ge=0, le=10**12)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0, le=1e6)]

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


def parse_target_entropy(value: str | float) -> str | float:
    """Accept "auto" and finite numbers, also as text."""
    if value == "auto":
        return value
    if not math.isfinite(value := float(value)):
        raise ValueError
    return value


# The hyperparameters that several agents have, each with one name, one range and one meaning.

LearningRate = Annotated[Rate, Field(description="Adam step size of every learner")]
ActorLearningRate = Annotated[
    float | None, Field(gt=0.0, le=1.0, description="the actor's own step size (default: learning_rate)")
]
CriticLearningRate = Annotated[
    float | None, Field(gt=0.0, le=1.0, description="the critics' own step size (default: learning_rate)")
]
EntCoefLearningRate = Annotated[
    float | None, Field(gt=0.0, le=1.0, description="the temperature's own step size (default: learning_rate)")
]
BufferSize = Annotated[Count, Field(description="transitions the replay keeps")]
LearningStarts = Annotated[
    CountOrZero, Field(description="environment steps with uniformly random actions, no updates")
]
BatchSize = Annotated[Count, Field(description="transitions per update, drawn with replacement")]
Tau = Annotated[Rate, Field(description="share of the online networks in each target update")]
Gamma = Annotated[Share, Field(description="discount per environment step")]
TrainFreq = Annotated[Count, Field(description="environment steps between rounds of updates")]
GradientSteps = Annotated[Count, Field(description="updates per environment step collected, whatever n_envs is")]
TargetUpdateInterval = Annotated[Count, Field(description="updates between target updates")]
NCritics = Annotated[Count, Field(le=64, description="critics, of which the least is believed")]
NSteps = Annotated[Count, Field(le=10_000, description="rewards summed before bootstrapping")]
NetArch = Annotated[
    tuple[Annotated[int, Field(ge=1, le=16384)], ...],
    Field(min_length=1, max_length=16, description="widths of the hidden layers"),
]
EntCoef = Annotated[
    float | str,
    AfterValidator(_ent_coef),
    Field(
        description='temperature alpha: "auto" (learned), "auto_0.1" or a fixed number',
        json_schema_extra={"expected": '"auto", "auto_0.1" (its initial value) or a number >= 0'},
    ),
]
FixedEntCoef = Annotated[NotNegative, Field(description="temperature alpha, the weight of the entropy")]
TargetEntropy = Annotated[
    float | str,
    AfterValidator(parse_target_entropy),
    Field(
        description='entropy asked for, nats in [-1, 1] units; "auto" is -dim(A)',
        json_schema_extra={"expected": '"auto" or a finite number of nats'},
    ),
]
ActionNoiseStd = Annotated[
    NotNegative, Field(description="standard deviation of the noise that each step draws, in [-1, 1] units")
]
TargetPolicyNoise = Annotated[
    NotNegative, Field(description="standard deviation of the noise on the target policy's action")
]
TargetNoiseClip = Annotated[NotNegative, Field(description="where that noise is cut")]
PolicyDelay = Annotated[Count, Field(description="critic updates for each update of actor and targets")]
NComponents = Annotated[Count, Field(le=64, description="components of the mixture")]
RolloutLength = Annotated[Count, Field(le=10**6, description="rounds of the environments in one rollout")]
GaeLambda = Annotated[Share, Field(description="lambda of generalised advantage estimation")]
MaxGradNorm = Annotated[float, Field(gt=0.0, le=1e6, description="the norm that gradients are cut to")]
NormalizeAdvantage = Annotated[
    bool, Field(description="whether the advantages of each gradient step get mean 0 and standard deviation 1")
]
LogStdInit = Annotated[
    float, Field(ge=-10.0, le=2.0, description="log of the first standard deviation, where actions are continuous")
]


def require_batch_fits(batch_size: int, buffer_size: int) -> None:
    """Refuse a batch that is larger than the replay.

    Raises:
        ConfigError: it is.
    """
    if batch_size > buffer_size:
        raise ConfigError(
            f"batch_size={batch_size} was given with buffer_size={buffer_size}",
            "expected a batch no larger than the replay",
            "lower batch_size or raise buffer_size",
        )


def initial_temperature(ent_coef: str) -> float:
    """Where a learned temperature begins: 1 for "auto", 0.1 for "auto_0.1"."""
    return float(ent_coef.removeprefix("auto").removeprefix("_") or 1.0)


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
        if name in known:
            raise _refusal(config, name, values[name]) from None
        refused = first.get("ctx", {}).get("error")  # raised by the class itself
        if isinstance(refused, ConfigError):
            raise refused from None
        raise ConfigError(
            str(refused), f"expected what {config.__name__} accepts together", "correct one of these values"
        ) from None


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
