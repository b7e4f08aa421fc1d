"""The hyperparameters that agents share: each with one name, one range and one meaning.

A configuration is a frozen pydantic dataclass: its fields carry their range and their help text. It is built in
`softac.config.make`; numbers that may change during a run are in `softac.config.schedules`.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo

from softac.config.make import as_it_was as as_it_was
from softac.config.make import as_text as as_text
from softac.config.make import default as default
from softac.config.make import expected as expected
from softac.config.make import fields as fields
from softac.config.make import make_config as make_config
from softac.config.make import require_value as require_value
from softac.config.schedules import schedule_of, schedule_within
from softac.config.schedules import value_at as value_at
from softac.errors import ConfigError
from softac.types import Activation as ActivationName

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)

Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrZero = Annotated[int, Field(ge=0, le=10**12)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0, le=1e6)]

LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-30, 1e6
LEAST_BATCH = 16  # rows from which statistics mean something


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
