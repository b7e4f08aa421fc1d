"""What a class of agents says of itself: its members and its configuration."""

import dataclasses
import inspect
import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from softac.config import (
    BufferSize,
    Count,
    Gamma,
    LearningStarts,
    RolloutLength,
    TrainFreq,
    expected,
    fields,
    make_config,
)
from softac.errors import either
from softac.examine.findings import Finding
from softac.examine.trial import Fault, signature
from softac.types import ActionKind, Agent, OffPolicyConfig, OnPolicyConfig
from softac.words import described

RANGES: dict[str, Any] = {
    "buffer_size": BufferSize,
    "learning_starts": LearningStarts,
    "batch_size": Count,
    "gamma": Gamma,
    "n_steps": RolloutLength,
    "train_freq": TrainFreq,
    "gradient_steps": Annotated[float, Field(gt=0.0, le=1e9)],
}


def members(agent_class: Any) -> Iterator[Finding]:
    """The members of `softac.types.Agent`, as far as a class shows them."""
    is_class: bool = inspect.isclass(agent_class)
    if not is_class:
        raise Fault(
            f"{type(agent_class).__name__} {agent_class!r:.100} was given", "a class of agents", "pass the class"
        )
    methods = [name for name, value in vars(Agent).items() if inspect.isfunction(value) and name[0] != "_"]
    names = ["Config", "actions", "on_policy", *methods]
    if missing := [name for name in names if not hasattr(agent_class, name)]:
        raise Fault(
            f"there is no {', '.join(missing)}",
            "the members of softac.types.Agent",
            "add them, " + "; ".join(map(signature, missing)),
        )
    if odd := [name for name in methods if not callable(getattr(agent_class, name))]:
        raise Fault(f"{odd[0]} is not a method", signature(odd[0]), "define it")
    kinds, on_policy = agent_class.actions, agent_class.on_policy
    if not isinstance(kinds, tuple) or not kinds or set(map(str, kinds)) - set(get_args(ActionKind)):
        raise Fault(
            f"actions is {kinds!r}",
            "a tuple of the kinds of actions it can choose",
            f"write a tuple of {either(get_args(ActionKind))}",
        )
    if not isinstance(on_policy, bool):
        raise Fault(
            f"on_policy is {on_policy!r}",
            "True for an agent that learns from each rollout once, False for one that learns from a replay",
            "write one of them",
        )
    learns = "from rollouts" if on_policy else "from a replay"
    yield Finding("ok", f"members: all {len(names)}; it serves {' and '.join(kinds)} actions and learns {learns}")


def configuration(agent_class: Any) -> Iterator[Finding]:
    """A frozen dataclass of plain data, whose defaults work and are read back from JSON as they were."""
    made: Any = agent_class.Config
    of_pydantic: bool = dataclasses.is_dataclass(made) and hasattr(made, "__pydantic_fields__")
    if not of_pydantic:
        raise Fault(
            f"Config is {made!r:.100}",
            "a dataclass of pydantic, whose fields carry their ranges",
            "decorate it with @pydantic.dataclasses.dataclass(frozen=True, config=softac.config.STRICT)",
        )
    if not made.__dataclass_params__.frozen:
        raise Fault(
            f"{made.__name__} is not frozen",
            "a configuration that stays what config.json says",
            "write @dataclass(frozen=True, config=STRICT)",
        )
    needed = dict.fromkeys(_annotations(OnPolicyConfig if agent_class.on_policy else OffPolicyConfig))
    if missing := [name for name in needed if name not in fields(made) and not hasattr(made, name)]:
        raise Fault(
            f"{made.__name__} has no {', '.join(missing)}",
            f"the fields that the run reads: {', '.join(needed)}",
            "add them; softac.config has a type with a range for each",
        )
    defaults = _defaults(made)
    _require_in_range(made, defaults, needed)
    _require_plain(made, defaults)
    yield Finding("ok", f"configuration: {made.__name__}, {len(fields(made))} fields, frozen, plain data")


def _defaults(made: Any) -> Any:
    bare = [f.name for f in dataclasses.fields(made) if f.default is f.default_factory is dataclasses.MISSING]
    if bare:
        raise Fault(
            f"{made.__name__} has no default for {', '.join(bare)}",
            "a configuration that needs no argument",
            "give each field a default",
        )
    try:
        return made()
    except Exception as error:
        raise Fault(
            f"{made.__name__}() raised {described(error)}", "defaults that fit each other", "correct them"
        ) from error


def _require_in_range(made: Any, defaults: Any, needed: Iterable[str]) -> None:
    for name in needed:
        value = getattr(defaults, name)
        try:
            TypeAdapter(RANGES[name]).validate_python(value, strict=True)
        except ValidationError as error:
            raise Fault(
                f"{made.__name__}.{name} is {value!r}",
                expected(FieldInfo.from_annotation(RANGES[name])),
                "correct its default and annotate it with the type of this name in softac.config",
            ) from error


def _require_plain(made: Any, defaults: Any) -> None:
    try:
        again = make_config(made, json.loads(json.dumps(dataclasses.asdict(defaults), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise Fault(
            f"{made.__name__} cannot be written to config.json and read again ({described(error)})",
            "plain data: numbers, text, booleans, tuples",
            "describe what is not by a name",
        ) from error
    if again != defaults:
        raise Fault(
            f"{made.__name__} came back from config.json as {again!r:.200}",
            f"{defaults!r:.200}",
            "declare tuples where a field has several values, since JSON has no other sequence",
        )


def _annotations(protocol: type[Any]) -> list[str]:
    return list(protocol.__annotations__)
