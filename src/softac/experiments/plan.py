"""Suite files: a few lines of TOML that say what is compared where, with which seeds and for how long."""

import re
import tomllib
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from softac.agents.presets import find_preset, require_settings
from softac.agents.registry import find_agent
from softac.config import STRICT, fields
from softac.errors import ConfigError, SoftacError, nearest
from softac.experiments.suite import Group, Suite, typed
from softac.files import read_toml
from softac.model import Model
from softac.run.config import RecordConfig, RunConfig
from softac.seeds import in_ranges, read_seeds

SUITES = files("softac.experiments").joinpath("suites")
SHAPES = {
    "algorithms": "a table of its own for each, below a line [[algorithms]]",
    "environments": 'a list of ids, such as environments = ["Pendulum-v1"]',
    "seeds": 'a text, such as seeds = "0-9" or seeds = "0,3,7"',
    "preset": 'true, the name of published settings such as preset = "xqc-paper", or a file such as "best.toml"',
    "settings": "a table, such as settings = { gamma = 0.98 }",
}

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
Environments = Annotated[tuple[str, ...], Field(min_length=1, max_length=100)]


@dataclass(frozen=True, config=STRICT)
class Algorithm:
    """What is run on each environment.

    Attributes:
        algorithm: as on the command line.
        name: of its curve and folders; by default that of the algorithm.
        preset: start from the tuned settings for each environment, from the published ones of this name, or from
            those in a file that ends in .toml.
        settings: hyperparameters and settings of the run, named as in Python.
        seeds: others than the suite's.
        environments: others than the suite's.
    """

    algorithm: str
    name: Name | None = None
    preset: bool | str = False
    settings: dict[str, Any] = Field(default_factory=dict)
    seeds: str | None = None
    environments: Environments | None = None


@dataclass(frozen=True, config=STRICT)
class SuiteFile:
    """What stands in a suite file.

    Attributes:
        title: in words, what is compared.
        total_timesteps: environment steps of each run.
        seeds: as in `--seeds`.
        algorithms: at least one; the longest first, so that no core waits for it at the end.
        environments: ids.
        eval_freq: as in `softac train`, like the following.
        n_eval_episodes: see there.
        save_freq: see there.
    """

    title: Annotated[str, Field(min_length=1, max_length=200)]
    total_timesteps: Annotated[int, Field(strict=True, ge=1, le=10**12)]
    seeds: str
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1, max_length=100)]
    environments: Environments | None = None
    eval_freq: Annotated[int, Field(strict=True, ge=0)] = 5_000
    n_eval_episodes: Annotated[int, Field(strict=True, ge=0, le=10_000)] = 10
    save_freq: Annotated[int, Field(strict=True, ge=0)] = 10_000


def shipped() -> dict[str, str]:
    """The suites that come with softac: name -> title."""
    return {name: read_suite_file(name).title for name in _names()}


def _names() -> list[str]:
    return sorted(entry.name.removesuffix(".toml") for entry in SUITES.iterdir() if entry.name.endswith(".toml"))


def read_suite_file(suite: str) -> SuiteFile:
    """The suite of this name that comes with softac, or the one in this file.

    Raises:
        ConfigError: there is none, or something in it cannot be.
    """
    if Path(suite).suffix == ".toml":
        values = read_toml(Path(suite), "a suite in TOML", "docs/guide/benchmarks.md")
    elif suite in _names():
        values = tomllib.loads(SUITES.joinpath(f"{suite}.toml").read_text(encoding="utf-8"))
    else:
        raise ConfigError(
            f"unknown suite {suite!r}{nearest(suite, _names())}",
            f"expected one of {', '.join(_names())}, or a file that ends in .toml",
            "`softac bench --help` says what each compares",
        )
    try:
        return TypeAdapter(SuiteFile).validate_python(values)
    except ValidationError as error:
        raise _refusal(suite, error) from None


def _refusal(suite: str, error: ValidationError) -> ConfigError:
    found = error.errors()
    # A misspelt key is missing under its right name, too.
    first = next((each for each in found if each["type"] == "unexpected_keyword_argument"), found[0])
    where = [str(part) for part in first["loc"]]
    inside = Algorithm if where[0] == "algorithms" and len(where) > 1 else SuiteFile
    place = f"{suite}, algorithm {int(where[1]) + 1}" if inside is Algorithm else suite
    key = where[2] if len(where) > 2 else where[-1] if inside is SuiteFile else where[0]
    known = fields(inside)
    match first["type"]:
        case "unexpected_keyword_argument":
            return ConfigError(
                f"{place}: unknown key {key!r}{nearest(key, known)}",
                f"expected {', '.join(known)}",
                "correct the file",
            )
        case "missing":
            return ConfigError(
                f"{place}: {key!r} is missing",
                "expected a value for it",
                "add it to the file",
            )
        case _:
            reason = first["msg"][0].lower() + first["msg"][1:]
            wanted = SHAPES.get(key, "what docs/guide/benchmarks.md lists")
            return ConfigError(
                f"{place}: {'.'.join(where)} = {str(first['input'])[:60]!r} was given, where {reason}",
                f"expected {wanted}",
                "correct the file",
            )


def plan(suite: str, total: int | None, seeds: str | None, env: str | None) -> tuple[Suite, list[Model]]:
    """What a suite file asks for.

    Args:
        suite: as in `read_suite_file`.
        total: environment steps of each run, instead of the file's.
        seeds: for every algorithm, instead of the file's.
        env: an environment "module:Env-v0" that the file may name.

    Returns:
        The suite, and a model for each of its groups, which shows that it works.

    Raises:
        SoftacError: something in it cannot work; the message names the algorithm and the environment.
    """
    file = read_suite_file(suite)
    record = RecordConfig(file.eval_freq, file.n_eval_episodes, file.save_freq)
    groups: list[Group] = []
    models: list[Model] = []
    try:
        for entry in file.algorithms:
            for env_id in _environments(suite, file, entry):
                name = entry.name or entry.algorithm
                numbers = _seeds(seeds, entry, file)
                model = _model(entry, env_id, numbers[0], trusted=env_id == env)
                models.append(model)
                prefix = f"{re.sub('[^A-Za-z0-9._-]', '_', env_id).lstrip('.')}__{name}__"
                groups.append(Group(name, prefix, numbers, model.description()))
                if [group.prefix for group in groups].count(prefix) > 1:
                    raise ConfigError(
                        f"the name {name!r} is there twice for {env_id}",
                        "expected different names, which tell the curves apart",
                        'write for instance name = "sac-fixed"',
                    )
    except SoftacError as error:
        for model in models:
            model.close()
        raise error.within(suite) from None
    return Suite(file.title, typed(), tuple(groups), record, total or file.total_timesteps), models


def _environments(suite: str, file: SuiteFile, entry: Algorithm) -> tuple[str, ...]:
    environments = entry.environments or file.environments  # neither is empty where it is given
    if environments is None:
        raise ConfigError(
            f"{entry.name or entry.algorithm} has no environments",
            "expected some for it or for all",
            f'add environments = ["Pendulum-v1"] to {suite}',
        )
    if twice := next((env_id for env_id in environments if environments.count(env_id) > 1), None):
        raise ConfigError(
            f"{twice} is there twice",
            "expected each environment once",
            "take one of them out",
        )
    return environments


def _seeds(asked: str | None, entry: Algorithm, file: SuiteFile) -> tuple[int, ...]:
    own = file.seeds if entry.seeds is None else entry.seeds
    return read_seeds(own if asked is None else asked)


def _model(entry: Algorithm, env_id: str, seed: int, *, trusted: bool) -> Model:
    try:
        if "seed" in entry.settings or "env_kwargs" in entry.settings:
            raise ConfigError(
                "seed or env_kwargs stand in settings",
                "expected hyperparameters and settings of a run: n_envs, precision, normalize, hindsight, say",
                "give the seeds with seeds, and register an environment that needs arguments",
            )
        agent_class = find_agent(entry.algorithm)
        require_settings(entry.algorithm, entry.settings)
        chosen = find_preset(entry.algorithm, env_id, entry.preset) | entry.settings
        settings = (
            asdict(RunConfig()) | {k: v for k, v in chosen.items() if k in fields(RunConfig)} | {"seed": seed}
        )
        hyperparameters = {k: v for k, v in chosen.items() if k not in settings}
        model = Model(agent_class, env_id, trust_module=trusted, **settings, **hyperparameters)
    except SoftacError as error:
        raise error.within(f"{entry.name or entry.algorithm} on {env_id}") from None
    model.life.threads = 1
    return model


def require_same(old: Suite, new: Suite, path: Path) -> None:
    """Refuse to go on in the folder of a suite with another one; more seeds, groups or steps are no other.

    Raises:
        ConfigError: a run of the old suite is missing in the new one, or is different there.
    """
    if wrong := _what_is_another(old, new):
        raise ConfigError(
            f"{path} holds the runs of another suite ({wrong})",
            "expected the same, or one with more seeds, algorithms, environments or steps",
            "choose another folder with --run-dir",
        )


def _what_is_another(old: Suite, new: Suite) -> str:
    """In words, where `new` is no continuation of `old`; "" if nowhere."""
    if new.record != old.record:
        return first_difference(asdict(old.record), asdict(new.record))
    if new.total < old.total:
        return f"it was {old.total} steps and is {new.total}"
    now = {group.prefix: group for group in new.groups}
    for group in old.groups:
        if group.prefix not in now or set(group.seeds) - set(now[group.prefix].seeds):
            return f"{group.title}, seeds {in_ranges(group.seeds)}, are not all in it"
        if difference := first_difference(_without_seed(group), _without_seed(now[group.prefix])):
            return f"{group.title}: {difference}"
    return ""


def _without_seed(group: Group) -> dict[str, Any]:
    return group.config | {"run": group.config["run"] | {"seed": 0}}


def first_difference(old: Any, new: Any, name: str = "") -> str:
    """In words; "" if there is none. Tuples and lists are alike, as in JSON."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = (first_difference(old.get(key), new.get(key), str(key)) for key in [*old, *new])
        return next(filter(None, found), "")
    same = (
        list(old) == list(new) if isinstance(old, list | tuple) and isinstance(new, list | tuple) else old == new
    )
    return "" if same else f"{name} was {old} and is {new}"
