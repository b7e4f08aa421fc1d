"""What a search looks through: ranges and choices of hyperparameters, from a few lines of TOML."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from softac.agents.registry import find_agent
from softac.config import as_text, default, fields, require_value
from softac.errors import ConfigError, nearest
from softac.files import read_toml
from softac.run.config import RunConfig

SPACES = files("softac.experiments.tuning").joinpath("spaces")
FORMS = (
    'a range such as { low = 1e-4, high = 1e-2, scale = "log" } or choices such as { choices = [64, 128] }, as '
    "`softac tune ALGO --print-space` has them"
)
OF_THE_RUN = ("n_envs",)  # what may be searched besides hyperparameters
DIGITS = 4  # of a proposed number: finer differences are no differences, and people type them
CORRECT = "correct it"

Scale: TypeAlias = Literal["linear", "log", "powers of 2", "log of 1 - x"]
SCALES: tuple[Scale, ...] = get_args(Scale)


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, which belong to it.

    Attributes:
        low: the least of them.
        high: the largest of them.
        scale: on which they are equally likely before anything is known.
        whole: there are none between the whole ones.
    """

    low: float
    high: float
    scale: Scale
    whole: bool


@dataclass(frozen=True)
class Choice:
    """Values without an order."""

    values: tuple[Any, ...]


Dimension: TypeAlias = Range | Choice
Space: TypeAlias = dict[str, Dimension]


def coordinate_name(name: str, dimension: Dimension) -> str:
    """What the axis is called on which the hyperparameter is proposed."""
    scale = dimension.scale if isinstance(dimension, Range) else "linear"
    return {"powers of 2": f"log2 {name}", "log of 1 - x": f"1 - {name}"}.get(str(scale), name)


def coordinate(dimension: Dimension, value: Any) -> float | str:
    """Where a value of the dimension lies on its axis; that of a choice is its text."""
    if isinstance(dimension, Choice):
        return as_text(value)
    if dimension.scale == "powers of 2":
        return round(math.log2(float(value)))
    if dimension.scale == "log of 1 - x":
        low, high = ends(dimension)
        return min(max(1.0 - float(value), low), high)
    number = float(value)
    return round(number) if dimension.whole else number


def ends(dimension: Range) -> tuple[float, float]:
    """The least and the largest coordinate."""
    match dimension.scale:
        case "powers of 2":
            return int(math.log2(dimension.low)), int(math.log2(dimension.high))
        case "log of 1 - x":
            return 1.0 - dimension.high, 1.0 - dimension.low
        case _:
            return dimension.low, dimension.high


def value_at(dimension: Dimension, place: float | str) -> Any:
    """The value at a coordinate, with few digits; never outside the dimension."""
    if isinstance(dimension, Choice):
        return next(value for value in dimension.values if as_text(value) == place)
    number = float(place)
    if dimension.scale == "powers of 2":
        number = 2.0**number
    elif dimension.scale == "log of 1 - x":
        number = round(1.0 - float(f"{number:.{DIGITS}g}"), 12)
    else:
        number = float(f"{number:.{DIGITS}g}")
    number = min(max(number, dimension.low), dimension.high)
    return round(number) if dimension.whole else number


def contains(dimension: Dimension, value: Any) -> bool:
    """Whether a hyperparameter of this value lies in the dimension."""
    if isinstance(dimension, Choice):
        return as_text(value) in map(as_text, dimension.values)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not dimension.low <= value <= dimension.high
    ):
        return False
    return (not dimension.whole or value == int(value)) and (
        dimension.scale != "powers of 2" or _is_power_of_2(value)
    )


def coordinates(algorithm: str, space: Space, settings: Mapping[str, Any]) -> dict[str, float | str]:
    """Where settings lie: the coordinates of those hyperparameters whose values are within the space.

    Args:
        algorithm: whose defaults hold where the settings say nothing.
        space: what is searched.
        settings: name -> value.
    """
    config = find_agent(algorithm).Config
    found = {}
    for name, dimension in space.items():
        value = settings.get(name, default(RunConfig if name in OF_THE_RUN else config, name))
        if contains(dimension, value):
            found[coordinate_name(name, dimension)] = coordinate(dimension, value)
    return found


def as_data(space: Space) -> dict[str, dict[str, Any]]:
    """The space as `parse_space` takes it."""
    return {
        name: {"choices": list(dimension.values)}
        if isinstance(dimension, Choice)
        else {"low": dimension.low, "high": dimension.high, "scale": dimension.scale}
        for name, dimension in space.items()
    }


def default_space(algorithm: str) -> str:
    """The file of the space that is looked through where none is given.

    Raises:
        ConfigError: the algorithm has none.
    """
    find_agent(algorithm)
    if not (file := SPACES.joinpath(f"{algorithm}.toml")).is_file():
        raise ConfigError(
            f"{algorithm} has no search space of its own",
            f"expected a file with {FORMS}",
            "give one with --space FILE.toml",
        )
    return file.read_text(encoding="utf-8")


def read_space(algorithm: str, file: Path | None) -> Space:
    """The space in a file, or the default one of the algorithm.

    Raises:
        ConfigError: there is none, or something in it cannot be.
    """
    if file is None:
        return parse_space(algorithm, tomllib.loads(default_space(algorithm)), f"the space of {algorithm}")
    return parse_space(algorithm, read_toml(file, "a search space in TOML", "docs/guide/tuning.md"), str(file))


def parse_space(algorithm: str, values: Mapping[str, Any], where: str) -> Space:
    """A space from plain data.

    Args:
        algorithm: whose hyperparameters they are.
        values: name -> a table with `low`, `high` and perhaps `scale`, or with `choices`.
        where: they stand, for messages.

    Raises:
        ConfigError: an unknown name, an empty or inverted range, or a value that the hyperparameter does not take.
    """
    config = find_agent(algorithm).Config
    known = fields(config) | {name: fields(RunConfig)[name] for name in OF_THE_RUN}
    if not values:
        raise ConfigError(
            f"{where} is empty", f"expected at least one of {', '.join(known)}, as {FORMS}", "add one"
        )
    space: Space = {}
    for name, table in values.items():
        if name not in known:
            raise ConfigError(
                f"{where}: unknown hyperparameter {name!r}{nearest(name, known)}",
                f"expected some of {', '.join(known)}",
                CORRECT,
            )
        space[name] = _dimension(table, known[name].annotation, f"{where}: {name}")
        _require_accepted(config, name, space[name], where)
    return space


def _dimension(table: Any, annotation: Any, what: str) -> Dimension:
    keys = set(table) if isinstance(table, dict) else set()
    if keys == {"choices"}:
        return _choice(table["choices"], what)
    if {"low", "high"} <= keys <= {"low", "high", "scale"}:
        return _range(table["low"], table["high"], table.get("scale", "linear"), annotation, what)
    strange = sorted(keys - {"low", "high", "scale", "choices"})
    raise ConfigError(f"{what} = {_shown(table)}", f"expected {FORMS}" + _named(strange), CORRECT)


def _named(strange: list[str]) -> str:
    return f"; {strange[0]!r} is no key of either" if strange else ""


def _choice(values: Any, what: str) -> Choice:
    texts = [as_text(value) for value in values] if isinstance(values, list) else []
    if len(texts) < 2:
        raise ConfigError(f"{what} has choices = {_shown(values)}", "expected a list of at least two", CORRECT)
    if twice := next((text for text in texts if texts.count(text) > 1), None):
        raise ConfigError(f"{what} has the choice {_shown(twice)} twice", "expected each once", CORRECT)
    return Choice(tuple(values))


def _range(low: Any, high: Any, scale: Any, annotation: Any, what: str) -> Range:
    given = f"{what} has low = {_shown(low)}, high = {_shown(high)}"
    kinds = _kinds(annotation)
    if not kinds & {int, float}:
        raise ConfigError(given, "expected choices, since it is no number", "give { choices = [...] }")
    if not (_is_number(low) and _is_number(high)):
        raise ConfigError(given, "expected finite numbers", CORRECT)
    if not low < high:
        empty = "there is nothing between them" if low == high else "they are inverted"
        raise ConfigError(f"{given}: {empty}", "expected low < high", CORRECT)
    if scale not in SCALES:
        named = ", ".join(map(repr, SCALES))
        raise ConfigError(f"{what} has scale = {_shown(scale)}", f"expected one of {named}", CORRECT)
    whole = float not in kinds
    if whole and not (low == int(low) and high == int(high)):
        raise ConfigError(given, "expected whole numbers", CORRECT)
    if scale == "log" and low <= 0:
        raise ConfigError(
            given, 'expected numbers above 0 for scale = "log"', "give a low above 0, or another scale"
        )
    if scale == "powers of 2" and not (_is_power_of_2(low) and _is_power_of_2(high)):
        raise ConfigError(
            given, 'expected powers of 2, at least 1, for scale = "powers of 2"', "give 64 and 512, say"
        )
    if scale == "log of 1 - x" and (high >= 1 or whole):
        raise ConfigError(given, 'expected numbers below 1 for scale = "log of 1 - x"', "give 0.95 and 0.999, say")
    return Range(low, high, scale, whole)


def _kinds(annotation: Any) -> set[Any]:
    """The types that a hyperparameter may have, what is inside of a list left out."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*map(_kinds, get_args(annotation)))
    return {get_origin(annotation) or annotation}


def _require_accepted(config: type[Any], name: str, dimension: Dimension, where: str) -> None:
    """Refuse values that the hyperparameter does not take; what only several together show, their trial says."""
    for value in dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high):
        try:
            require_value(RunConfig if name in OF_THE_RUN else config, name, value)
        except ConfigError as error:
            raise error.within(where) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_power_of_2(value: float) -> bool:
    return value >= 1 and math.log2(value) == int(math.log2(value))


def _shown(value: Any) -> str:
    return repr(value)[:60]
