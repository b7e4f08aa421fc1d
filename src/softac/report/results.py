"""What the folders of runs say. Nothing in them is trusted, and no run is dropped silently."""

import json
import os
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Literal, TypeAlias

from softac.agents.registry import AGENTS
from softac.config import as_text, default, fields
from softac.errors import CheckpointError, ConfigError
from softac.experiments.jobs import last_error
from softac.experiments.suite import SUITE, Member, Suite, read_suite
from softac.experiments.tuning.search import CONFIRM, TUNE
from softac.files import exists, read_regular
from softac.run.changes import read_history
from softac.run.checkpoint import NOT_INSTALLED, parse_json
from softac.run.folder import CONFIG, CRASH, read_config
from softac.run.metrics import METRICS, Row, as_number, numbers, read_rows
from softac.seeds import are_seeds
from softac.words import clean

State: TypeAlias = Literal["finished", "failed", "unfinished", "not begun", "unreadable"]

SYSTEM, COMMAND = "system.json", "command.txt"
NOT_BEGUN = "it has not begun"
LONGEST_REASON = 400
LARGEST_FILE = 2**20
MOST_STEPS = 10**12

REPORT = re.compile(r"step-(\d{1,15})\.txt", re.ASCII)
# Two or more folders from the root on; what is left of them is the last name.
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:[^\s/'\"`;,()<>]+/)+([^\s/'\"`;,()<>]*)")


@dataclass(frozen=True, eq=False)
class Result:
    """What one run folder says. Texts are one printable line each.

    Attributes:
        folder: the run folder; may not exist where a suite names it.
        state: how far it has come.
        reason: why it is not finished; "" if it is.
        name: of its curve; "" if that is not known.
        env: the id of the environment; "" if that is not known.
        seed: None if that is not known.
        total: environment steps that were asked for.
        steps: those made at its last row of metrics.
        returns: step -> mean return of the deterministic evaluation there.
        spread: step -> standard deviation over the episodes of that evaluation.
        sampled: step -> mean return with sampled actions.
        success: step -> share of the deterministic episodes that ended in success; empty where nobody says it.
        training: step -> mean return of the last training episodes.
        lost: steps whose evaluation is no finite number.
        clock: steps, updates and seconds of its last row with a clock; None without one.
        config: its `config.json`, as far as it has the shape of one.
        system: machine and versions.
        command: what was typed, without places on the machine.
    """

    folder: Path
    state: State
    reason: str = ""
    name: str = ""
    env: str = ""
    seed: int | None = None
    total: int = 0
    steps: int = 0
    returns: dict[int, float] = field(default_factory=dict)
    spread: dict[int, float] = field(default_factory=dict)
    sampled: dict[int, float] = field(default_factory=dict)
    success: dict[int, float] = field(default_factory=dict)
    training: dict[int, float] = field(default_factory=dict)
    lost: tuple[int, ...] = ()
    clock: tuple[int, float, float] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    system: dict[str, str] = field(default_factory=dict)
    command: str = ""

    @property
    def title(self) -> str:
        """The run in words."""
        known = f"{self.name} on {self.env}, seed {self.seed}"
        return known if self.name else clean(self.folder.name)


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of a report.

    Attributes:
        title: of the suite, or how many runs they are.
        commands: that make them again.
        results: of all of them; those of one environment and name are neighbours.
    """

    title: str
    commands: tuple[str, ...]
    results: tuple[Result, ...]


def read_runs(folders: Sequence[Path]) -> Runs:
    """The runs in these folders.

    Args:
        folders: run folders, folders of run folders, and those of suites and searches.

    Raises:
        CheckpointError: a `suite.json` is damaged.
        ConfigError: a folder holds no run, none has been evaluated, or some cannot be compared.
    """
    suites: list[Suite] = []
    of_suites: list[Result] = []
    others: list[Path] = []
    for folder in chain.from_iterable(map(_told_of, folders)):
        if exists(folder / SUITE):
            suite = read_suite(folder)
            suites.append(suite)
            of_suites += [_of_suite(folder, suite, member) for member in suite.members]
        else:
            others += run_folders(folder)
    loose = sorted(map(read_result, others), key=_order)
    each_once: dict[str, Result] = {}
    for result in [*of_suites, *loose]:
        each_once.setdefault(os.path.realpath(result.folder), result)
    results = _neighbours(list(each_once.values()))
    _require_evaluated(results, folders)
    _require_each_once(results)
    _require_comparable(results)
    alone = len(suites) == 1 and not loose
    title = clean(suites[0].title) if alone else f"{len(results)} run{'s' if len(results) > 1 else ''}"
    commands = [command_line(suite.command) for suite in suites] + [result.command for result in loose]
    return Runs(title, tuple(dict.fromkeys(filter(None, commands))), tuple(results))


def read_result(folder: Path, total: int | None = None) -> Result:
    """What a run folder says; one that cannot be read is a result as well, with the reason.

    Args:
        folder: of the run.
        total: environment steps asked of it; None: as many as it was asked for last.
    """
    try:
        config = read_config(folder)
        _require_described(config, folder / CONFIG)
        rows = [row for row in read_rows(folder / METRICS) if 0 <= row["step"] <= MOST_STEPS]
    except (CheckpointError, OSError) as error:
        return Result(folder, "unreadable", _reason(str(error), folder))
    total, env = total or config.get("total_timesteps", 0), config["env"]["id"]
    rows.sort(key=lambda row: int(row["step"]))
    evaluations = [row for row in rows if "eval/mean_reward" in row]
    returns = numbers(evaluations, "eval/mean_reward")
    steps = max((row["step"] for row in rows), default=0)
    state, reason = _state(folder, rows, returns, steps, total)
    return Result(
        folder,
        state,
        reason,
        name=clean(label(config)),
        env=clean(env),
        seed=config["run"]["seed"],
        total=total,
        steps=steps,
        returns=returns,
        spread=numbers(evaluations, "eval/std_reward"),
        sampled=numbers(evaluations, "eval/stochastic_mean_reward"),
        success=numbers(evaluations, "eval/success_rate"),
        training=numbers(rows, "rollout/ep_rew_mean"),
        lost=tuple(dict.fromkeys(row["step"] for row in evaluations if row["step"] not in returns)),
        clock=_clock(rows),
        config=config,
        system=_system(folder),
        command=_command(folder),
    )


def label(config: dict[str, Any]) -> str:
    """What a line is called: the algorithm, and whatever hyperparameter is not at its default."""
    name = str(config["algorithm"])
    if name not in AGENTS:
        return name
    known, given = AGENTS[name].Config, config["hyperparameters"]
    changed = [
        f"{field}={as_text(given[field])}"
        for field in fields(known)
        if field in given and as_text(_as_tuple(given[field])) != as_text(_as_tuple(default(known, field)))
    ]
    with suppress(KeyError, TypeError, ValueError):
        changed += [
            f"{c.name}={as_text(c.now)} from step {c.step:,}" for c in read_history(config.get("history", []))
        ]
    return ", ".join([name, *changed])


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def command_line(text: str) -> str:
    """A command without the places of things on the machine where it was typed."""
    first = next(iter(text.splitlines()), "")
    try:
        words = shlex.split(first)
    except ValueError:
        words = first.split()
    if not words:
        return ""
    program = Path(words[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return clean(shlex.join([name, *map(_without_place, words[1:])]), 1_000)


def _without_place(word: str) -> str:
    option, equals, path = word.rpartition("=")
    return f"{option}{equals}{Path(path).name}" if path.startswith("/") else word


def folders_of_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """The run folders that these name, by a name for each: its own, after that of the folder it lies in.

    Args:
        folders: as for `read_runs`; runs of a suite need not have begun.

    Raises:
        CheckpointError: a `suite.json` is damaged.
        ConfigError: a folder holds no run.
    """
    found: dict[str, Path] = {}
    known: set[Path] = set()
    for folder in chain.from_iterable(_suites_of_search(one) or [one] for one in folders):
        if exists(folder / SUITE):
            paths = [folder / member.folder for member in read_suite(folder).members]
        else:
            paths = run_folders(folder)
        for path in paths:
            own, above = path.resolve().name, folder.resolve().name
            name = own if path == folder else f"{above}/{own}"
            if path.resolve() not in known:
                known.add(path.resolve())
                found[name if name not in found else str(path)] = path
    return found


def _told_of(folder: Path) -> list[Path]:
    """The folder itself; of a search its best trials with fresh seeds, or all trials as long as there are none."""
    suites = _suites_of_search(folder)
    return [path for path in suites if path.name == CONFIRM] or suites or [folder]


def _suites_of_search(folder: Path) -> list[Path]:
    """The suites of a search, in the order in which they are run; none where the folder is no search."""
    if not exists(folder / TUNE):
        return []
    generations = [path for path in sorted(folder.glob("trials-*")) if exists(path / SUITE)]
    return [*generations, *(path for path in [folder / CONFIRM] if exists(path / SUITE))]


def run_folders(folder: Path) -> list[Path]:
    """The folder itself, or the runs directly below it.

    Raises:
        ConfigError: there is none.
    """
    if exists(folder / CONFIG):
        return [folder]
    try:
        below = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be read ({error.strerror})",
            "expected a folder of yours",
            "change its permissions",
        ) from None
    found = [path for path in below if exists(path / CONFIG) or exists(path / METRICS)]
    if not found:
        raise ConfigError(
            f"{folder} holds no run",
            "expected a run folder, a folder of run folders or that of a suite",
            "name one that `softac train` or `softac bench` has printed",
        )
    return found


def _of_suite(folder: Path, suite: Suite, member: Member) -> Result:
    path, config = folder / member.folder, suite.config_of(member)
    _require_described(config, folder / SUITE)
    name, env = clean(member.group.name or label(config)), clean(member.group.env)
    if not exists(path / CONFIG) and not exists(path / METRICS):
        return Result(path, "not begun", NOT_BEGUN, name, env, member.seed, suite.total, config=config)
    result = read_result(path, suite.total)
    if result.state == "unreadable":
        return replace(result, name=name, env=env, seed=member.seed, total=suite.total)
    return replace(result, name=name, command="")


def _order(result: Result) -> tuple[Any, ...]:
    algorithm = result.config.get("algorithm")
    rank = list(AGENTS).index(algorithm) if algorithm in AGENTS else len(AGENTS)
    return result.env, rank, result.name, result.seed or 0, result.folder


def _neighbours(results: list[Result]) -> list[Result]:
    """Those of one environment and name together, in the order in which these first appear."""
    envs = list(dict.fromkeys(result.env for result in results))
    names = list(dict.fromkeys(result.name for result in results))
    return sorted(results, key=lambda result: (envs.index(result.env), names.index(result.name)))


def _require_described(config: dict[str, Any], path: Path) -> None:
    try:
        total, record, run = config.get("total_timesteps", 0), config.get("record", {}), config["run"]
        described = (
            isinstance(config["algorithm"], str)
            and isinstance(config["env"]["id"], str)
            and isinstance(config["env"]["kwargs"], dict)
            and isinstance(config["hyperparameters"], dict)
            and isinstance(record, dict)
            and are_seeds([run["seed"]])
            and type(total) is int
            and 0 <= total <= MOST_STEPS
        )
    except (KeyError, TypeError):
        described = False
    if not described:
        raise CheckpointError(
            f"{path} does not describe a run",
            "expected algorithm, env, hyperparameters and run as softac writes them",
            "restore the file",
        )


def _state(
    folder: Path, rows: Sequence[Row], returns: dict[int, float], steps: int, total: int
) -> tuple[State, str]:
    if max(returns, default=0) >= max(total, 1):
        return "finished", ""
    if failure := _failure(folder, steps):
        return "failed", failure
    if not rows:
        return "not begun", NOT_BEGUN
    if steps >= total:
        return "unfinished", "its last evaluation is missing, or no finite number"
    return "unfinished", f"it has made {steps:,} of {total:,} steps"


def _failure(folder: Path, steps: int) -> str:
    """What the newest crash report says, if the run has not gone on since; else the error it ended with."""
    crash = folder / CRASH
    named = [m for path in crash.glob("step-*.txt") if (m := REPORT.fullmatch(path.name))]
    newest = max(named, key=lambda match: int(match[1]), default=None)
    if newest is not None and int(newest[1]) >= steps and not crash.is_symlink():
        try:
            text = read_regular(crash / newest[0], LARGEST_FILE).decode(errors="replace")
        except CheckpointError as error:
            text = str(error)
        return _reason(text.strip().partition("\n")[0], folder) or "it says nothing"
    return _reason(last_error(folder), folder)


def _reason(text: str, folder: Path) -> str:
    """A message without the places of things on this machine."""
    for place in (str(folder.resolve()), str(folder.absolute()), str(folder)):
        text = text.replace(place, folder.name)
    return clean(ABSOLUTE.sub(lambda match: match[1] or "...", text), LONGEST_REASON)


def _clock(rows: Sequence[Row]) -> tuple[int, float, float] | None:
    for row in reversed(rows):
        seconds = as_number(row.get("time/time_elapsed"))
        if seconds is not None and seconds > 0:
            return row["step"], as_number(row.get("train/n_updates")) or 0.0, seconds
    return None


def _system(folder: Path) -> dict[str, str]:
    try:
        system = parse_json(read_regular(folder / SYSTEM, LARGEST_FILE), folder / SYSTEM)
    except CheckpointError:
        return {}
    plain = system.items() if isinstance(system, dict) else ()
    return {clean(k, 40): clean(v, 100) for k, v in plain if isinstance(v, str | int | float)}


def _command(folder: Path) -> str:
    try:
        return command_line(read_regular(folder / COMMAND, LARGEST_FILE).decode(errors="replace"))
    except CheckpointError:
        return ""


# Refusals


def _require_evaluated(results: Sequence[Result], folders: Sequence[Path]) -> None:
    if not any(result.returns for result in results):
        first = results[0]
        raise ConfigError(
            f"no evaluation was found in {', '.join(map(str, folders))} ({first.title}: {first.reason})",
            "expected at least one",
            "train for longer or with a smaller --eval-freq",
        )


def _require_each_once(results: Sequence[Result]) -> None:
    seen: dict[tuple[str, str, int | None], Path] = {}
    for result in results:
        key = (result.env, result.name, result.seed)
        if result.name and key in seen:
            raise ConfigError(
                f"{seen[key]} and {result.folder} are both seed {result.seed} of {result.name} on {result.env}",
                "expected each seed once, since a run and its copy are not two runs",
                "leave one of them out",
            )
        seen[key] = result.folder


def _require_comparable(results: Sequence[Result]) -> None:
    for _, group in groupby((r for r in results if r.returns), lambda result: result.env):
        first: dict[str, tuple[Result, str]] = {}
        for result in group:
            for what, value in _conditions(result).items():
                one, was = first.setdefault(what, (result, value))
                if value != was:
                    raise ConfigError(
                        f"{one.folder} and {result.folder} cannot be compared on {result.env}: {what} was "
                        f"{clean(was)} and {clean(value)}",
                        "expected the same for all runs of an environment",
                        "make a report of each",
                    )


def _conditions(result: Result) -> dict[str, str]:
    """What returns on one environment depend on besides the agent, as far as it is known."""
    known: dict[str, str] = {n: result.system[n] for n in ("gymnasium", "mujoco") if n in result.system}
    if known.get("mujoco") == NOT_INSTALLED:  # then this environment does without it
        del known["mujoco"]
    known["env_kwargs"] = json.dumps(result.config["env"]["kwargs"], sort_keys=True)
    if "n_eval_episodes" in (record := result.config.get("record", {})):
        known["n_eval_episodes"] = str(record["n_eval_episodes"])
    return known
