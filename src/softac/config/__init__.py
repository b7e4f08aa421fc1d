"""The kinds of hyperparameters that agents share, and the one way to build a configuration.

A configuration is a frozen pydantic dataclass: its fields carry their range and their help text,
and `make_config` turns whatever does not fit into one sentence. Numbers that may change during a run are in
`softac.config.schedules`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import annotated_types as at
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, ValidationInfo

from softac.config.schedules import schedule_of, schedule_within
from softac.config.schedules import value_at as value_at
from softac.errors import ConfigError, nearest
from softac.types import Activation as ActivationName

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)

Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrZero = Annotated[int, Field(ge=0, le=10**12)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0, le=1e6)]

LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-30, 1e6
LEAST_BATCH = 16  # rows from which statistics mean something

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


def _ent_coef(value: str | float) -> str | float:
    """Accept "auto", "auto_<initial value>" and numbers >= 0, also as text, that float32 can hold."""
    if isinstance(value, str) and not value.startswith("auto"):
        value = float(value)
    if isinstance(value, str):
        start = 1.0 if value == "auto" else float(value.removeprefix("auto_"))
        if not LEAST_TEMPERATURE <= start <= LARGEST_TEMPERATURE:
            raise ValueError
    elif not 0.0 <= value <= LARGEST_TEMPERATURE:
        raise ValueError
    return value


def _plain(value: float) -> float:
    """A whole number as one, so that it is written as 1 and not as 1.0."""
    return int(value) if value.is_integer() else value


def parse_target_entropy(value: str | float) -> str | float:
    """Accept "auto" and finite numbers, also as text."""
    if value == "auto":
        return value
    if not math.isfinite(value := float(value)):
        raise ValueError
    return value


def _within_the_replay(batch_size: int, others: ValidationInfo) -> int:
    """Refuse a batch that is larger than the replay."""
    buffer_size = (others.data or {}).get("buffer_size", batch_size)  # no data where a value stands alone
    if batch_size > buffer_size:
        raise ConfigError(
            f"batch_size={batch_size} was given with buffer_size={buffer_size}",
            "expected a batch no larger than the replay",
            "lower batch_size or raise buffer_size",
        )
    return batch_size


# The hyperparameters that several agents have, each with one name, one range and one meaning.


def or_schedule(numbers: str) -> dict[str, Any]:
    """What a field expects that takes numbers, in words, or a schedule of them."""
    return {"expected": f'{numbers}, or "linear START END STEPS" or "cosine START END STEPS" of such or 0'}


_OR_SCHEDULE = or_schedule("a number > 0 and <= 1")
_Rate = Rate | Annotated[str, AfterValidator(schedule_within(1.0))]

LearningRate = Annotated[
    _Rate, Field(description="Adam step size of every learner", json_schema_extra=_OR_SCHEDULE)
]
ActorLearningRate = Annotated[
    _Rate | None,
    Field(description="the actor's own step size (default: learning_rate)", json_schema_extra=_OR_SCHEDULE),
]
CriticLearningRate = Annotated[
    _Rate | None,
    Field(description="the critics' own step size (default: learning_rate)", json_schema_extra=_OR_SCHEDULE),
]
EntCoefLearningRate = Annotated[
    _Rate | None,
    Field(description="the temperature's own step size (default: learning_rate)", json_schema_extra=_OR_SCHEDULE),
]
BufferSize = Annotated[Count, Field(description="transitions the replay keeps")]
LearningStarts = Annotated[
    CountOrZero, Field(description="environment steps with uniformly random actions, no updates")
]
BatchSize = Annotated[
    Count,
    Field(description="transitions per update, drawn with replacement"),
    AfterValidator(_within_the_replay),
]
Tau = Annotated[Rate, Field(description="share of the online networks in each target update")]
Gamma = Annotated[Share, Field(description="discount per environment step")]
TrainFreq = Annotated[Count, Field(description="environment steps between rounds of updates")]
GradientSteps = Annotated[
    float,
    Field(gt=0.0, le=1e3, description="updates per environment step collected, whatever n_envs is"),
    AfterValidator(_plain),
]
TargetUpdateInterval = Annotated[Count, Field(description="updates between target updates")]
NCritics = Annotated[Count, Field(le=64, description="critics, of which the least is believed")]
NSteps = Annotated[Count, Field(le=10_000, description="rewards summed before bootstrapping")]
NStepReturn = Annotated[
    Literal["soft", "plain"],
    Field(description="n-step targets with the entropies in between, or without them: another objective"),
]
Widths = tuple[Annotated[int, Field(ge=1, le=16384)], ...]
NetArch = Annotated[
    Widths,
    Field(min_length=1, max_length=16, description="widths of the hidden layers"),
]
ActorNetArch = Annotated[
    Widths | None,
    Field(min_length=1, max_length=16, description="widths of the actor's own hidden layers (default: net_arch)"),
]
Activation = Annotated[ActivationName, Field(description="what lies between the layers of every network")]
CriticLayerNorm = Annotated[bool, Field(description="whether each hidden layer of the critics is normalised")]
EntCoef = Annotated[
    float | str,
    AfterValidator(_ent_coef),
    Field(
        description='temperature alpha: "auto" (learned), "auto_0.1" or a fixed number',
        json_schema_extra={
            "expected": '"auto", "auto_0.1" (its initial value, >= 1e-30) or a number >= 0 and <= 1e+06'
        },
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
HalfTargetEntropy = Annotated[
    float | str,
    AfterValidator(parse_target_entropy),
    Field(
        description='entropy asked for, nats in [-1, 1] units; "auto" is -dim(A)/2',
        json_schema_extra={"expected": '"auto" or a finite number of nats'},
    ),
]
ActorDelay = Annotated[Count, Field(description="critic updates for each update of actor and temperature")]
AdamBeta1 = Annotated[
    float, Field(ge=0.0, lt=1.0, description="decay of Adam's mean gradient, of actor and critics")
]
TargetNetwork = Annotated[bool, Field(description="whether critics learn from copies that follow them slowly")]
TargetTau = Annotated[
    float | None,
    Field(gt=0.0, le=1.0, description="share of the critics in each update of their copies (default: 0.005)"),
]
NAtoms = Annotated[
    Count, Field(le=1001, description="values to which a critic gives probabilities; 1: it gives one value")
]
VMax = Annotated[
    float | None, Field(gt=0.0, le=1e6, description="the largest of these values, with n_atoms (default: 5)")
]
ValueScale = Annotated[
    float, Field(gt=0.0, le=1e3, description="value, to the critics, of the replay's rms reward in every step")
]
CriticNetArch = Annotated[
    Widths | None,
    Field(min_length=1, max_length=16, description="widths of the critics' own hidden layers (default: net_arch)"),
]
ActionNoiseStd = Annotated[
    NotNegative | Annotated[str, AfterValidator(schedule_within(1e6))],
    Field(
        description="standard deviation of the noise that each step draws, in [-1, 1] units",
        json_schema_extra=or_schedule("a number >= 0 and <= 1e+06"),
    ),
]
ClipRange = Annotated[
    Annotated[float, Field(gt=0.0, lt=1.0)] | Annotated[str, AfterValidator(schedule_within(0.999))],
    Field(
        description="how far the ratio of new to old probability may go from 1",
        json_schema_extra=or_schedule("a number > 0 and < 1"),
    ),
]
ExplorationEps = Annotated[
    Share | Annotated[str, AfterValidator(schedule_within(1.0))],
    Field(
        description="share of actions for which the component is drawn uniformly, not greedily",
        json_schema_extra=or_schedule("a number >= 0 and <= 1"),
    ),
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


def bodies(config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the hidden layers of the actor are, and those of the critics: arguments of the networks in `nets`."""
    kind, norm = {"activation": config.activation}, getattr(config, "critic_layer_norm", None)
    archs = (getattr(config, name, None) or config.net_arch for name in ("actor_net_arch", "critic_net_arch"))
    actor, critics = ({"net_arch": arch, **kind} for arch in archs)
    return actor, critics if norm is None else {**critics, "layer_norm": norm}


def scheduled(config: Any, step: int) -> dict[str, float]:
    """The hyperparameters that follow a schedule, by name, as they are when `step` environment steps are made."""
    schedules = {name: schedule_of(getattr(config, name)) for name in fields(type(config))}
    return {name: schedule(step) for name, schedule in schedules.items() if schedule is not None}


def has_soft_returns(config: Any) -> bool:
    """Whether n-step targets need the entropy bonuses of the steps in between."""
    return getattr(config, "n_step_return", "plain") == "soft" and config.n_steps > 1


def require_batch_statistics(batch_size: int) -> None:
    """Refuse a batch whose mean and variance mean nothing.

    Raises:
        ConfigError: it has fewer than 16 transitions.
    """
    if batch_size < LEAST_BATCH:
        raise ConfigError(
            f"batch_size={batch_size} was given",
            f"expected {LEAST_BATCH} or more: the networks are normalised by the statistics of the batch",
            "leave it out for 256",
        )


def require_discounting(gamma: float) -> None:
    """Refuse a discount for which a reward in every step has no finite value to scale by.

    Raises:
        ConfigError: it is 1.
    """
    if gamma == 1.0:
        raise ConfigError(
            "gamma=1.0 was given", "expected less than 1: rewards are scaled by 1 - gamma", "give 0.999, say"
        )


def require_target_network(tau: float | None, target_network: bool) -> None:
    """Refuse a speed for targets that are not there.

    Raises:
        ConfigError: tau was given without a target network.
    """
    if tau is not None and not target_network:
        raise ConfigError(
            f"tau={tau} was given with target_network=False",
            "expected tau only with a target network, which it moves",
            "give target_network=true, or leave tau out",
        )


def require_support_fits(n_atoms: int, v_max: float | None, usual_v_max: float, value_scale: float) -> None:
    """Refuse atoms between which the values do not lie, and an end of the atoms where there are none.

    Raises:
        ConfigError: 2 value_scale lies beyond v_max, or v_max was given for one value.
    """
    if n_atoms == 1 and v_max is not None:
        raise ConfigError(
            f"v_max={v_max} was given with n_atoms=1",
            "expected v_max only with several atoms, of which it is the largest",
            "give n_atoms=101, or leave v_max out",
        )
    end, needed = usual_v_max if v_max is None else v_max, 2.0 * value_scale
    if n_atoms > 1 and end < needed:
        raise ConfigError(
            f"n_atoms={n_atoms} was given with values in [-{end:g}, {end:g}] and value_scale={value_scale:g}",
            f"expected v_max >= 2 value_scale = {needed:g}: what lies beyond the last atom is cut off",
            f"give v_max={needed:g}, or value_scale={end / 2.0:g}",
        )


def initial_temperature(ent_coef: str) -> float:
    """Where a learned temperature begins: 1 for "auto", 0.1 for "auto_0.1"."""
    return float(ent_coef.removeprefix("auto").removeprefix("_") or 1.0)


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
