"""Arguments that several commands share, and flags made from configurations."""

import argparse
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from softac.config import as_text, default, expected, fields
from softac.errors import ConfigError
from softac.experiments.places import PLACES, Where
from softac.experiments.suite import SUITE, read_suite
from softac.files import exists
from softac.run.folder import CONFIG

DEEPEST = 50  # values of an environment's argument in one another


def add_config(
    parser: argparse.ArgumentParser, config: type[Any], title: str, only: Collection[str] | None = None
) -> None:
    """One flag for each field of a configuration; values stay text until the configuration reads them."""
    group = parser.add_argument_group(title)
    for name, field in fields(config).items():
        if only is not None and name not in only:
            continue
        is_list = "tuple" in str(field.annotation)
        text = f"{field.description}; {expected(field)} (default: {as_text(default(config, name))})"
        if default(config, name) is False:
            flag = f"--{name.replace('_', '-')}"
            yes_or_no: Any = argparse.BooleanOptionalAction
            group.add_argument(flag, dest=name, action=yes_or_no, default=None, help=str(field.description))
            continue
        group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            default=None,
            nargs="+" if is_list else None,
            metavar="N" if is_list else name.upper().split("_")[-1],
            help=text.replace("%", "%%"),
        )


def given(args: argparse.Namespace, config: type[Any]) -> dict[str, Any]:
    """The fields of a configuration that were given on the command line."""
    return {name: value for name in fields(config) if (value := getattr(args, name, None)) is not None}


class _Foreseeing(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def foreseen(
    words: Sequence[str], verb: str, add: Callable[[argparse.ArgumentParser], None], config: type[Any]
) -> argparse.Namespace | None:
    """The command line as it would be read with certain hyperparameters.

    Args:
        words: the command line.
        verb: the command.
        add: adds the arguments that it has whatever the hyperparameters are.
        config: has the hyperparameters.

    Returns:
        What was given; None where it cannot be read, which is said when it is read in earnest.
    """
    parser = _Foreseeing(add_help=False, allow_abbrev=False)
    add(parser)
    add_config(parser, config, "hyperparameters")
    try:
        return parser.parse_known_args(words[words.index(verb) + 1 :])[0]
    except ValueError:
        return None


def as_path(text: str) -> Path:
    """A path; an empty one would be the folder one stands in."""
    if not text:
        raise argparse.ArgumentTypeError("'' was given, which is no file and no folder")
    return Path(text)


def steps(text: str | int, flag: str = "--total-timesteps") -> int:
    """A number of environment steps: 100000, 100_000 or 1e5; `flag` is named if it is none."""
    try:
        number = float(text)
        if number < 1 or number != int(number) or number > 1e12:
            raise ValueError
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{flag} {text or repr(text)} was given",
            "expected a whole number of environment steps, at least 1",
            "give 100000, say",
        ) from None
    return int(number)


def whole_number(text: str | int | None, flag: str, default: int) -> int:
    """A number of episodes, at least 1.

    Raises:
        ConfigError: it is none.
    """
    try:
        number = default if text is None else int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(
            f"{flag} {text} was given", "expected a whole number, at least 1", f"leave it out for {default}"
        )
    return number


def add_env_kwargs(parser: argparse.ArgumentParser) -> None:
    """`--env-kwargs name=value ...`."""
    parser.add_argument(
        "--env-kwargs",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="keyword arguments of the environment; values are read as JSON, else as text",
    )


def as_pairs(kwargs: Mapping[str, Any]) -> list[str]:
    """The inverse of `env_kwargs`."""
    return [f"{name}={json.dumps(value)}" for name, value in kwargs.items()]


def env_kwargs(pairs: list[str]) -> dict[str, Any]:
    """`["g=9.8", "mode=easy"]` as keyword arguments."""
    kwargs: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name.isidentifier() or not equals:
            raise ConfigError(
                f"--env-kwargs {pair} was given",
                "expected NAME=VALUE",
                "write for instance --env-kwargs g=9.8",
            )
        try:
            kwargs[name] = json.loads(text)
            deep = _is_deep(kwargs[name], DEEPEST)
        except ValueError:
            kwargs[name], deep = text, False
        except RecursionError:
            deep = True
        if deep:
            raise ConfigError(
                f"--env-kwargs {name}={text:.40}... was given",
                f"expected plain data, at most {DEEPEST} lists in one another",
                "write for instance --env-kwargs g=9.8",
            )
    return kwargs


def _is_deep(value: Any, left: int) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left < 0 or any(_is_deep(part, left - 1) for part in parts)


def add_run(parser: argparse.ArgumentParser) -> None:
    """The run folder, and `--env` for environments that a file may not name."""
    parser.add_argument("run_dir", metavar="RUN", type=as_path, help="the folder of a run")
    add_env(parser)


def add_env(parser: argparse.ArgumentParser, file: str = CONFIG) -> None:
    """`--env`, for environments that this file may not name."""
    parser.add_argument(
        "--env",
        metavar="ENV",
        help=f"the environment, where {file} must not name it: module:Env-v0 imports the module",
    )


def add_place(parser: argparse.ArgumentParser) -> None:
    """`--on` and what belongs to it: where several runs are executed."""
    parser.add_argument(
        "--on",
        choices=PLACES,
        default="local",
        help=f"where the runs are executed: {'; '.join(f'{name}: {what}' for name, what in PLACES.items())}",
    )
    parser.add_argument(
        "--ray-address",
        metavar="HOST:PORT",
        help="the head of a Ray cluster to join (default: one of this machine's cores is begun)",
    )
    parser.add_argument(
        "--any-node",
        action="store_true",
        help="use nodes of other versions or processors, too: the bits may differ",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="join a Ray cluster without a token, open to all in its network"
    )


def place(args: argparse.Namespace) -> Where:
    """What the flags of `add_place` say."""
    return Where(args.on, args.ray_address, args.any_node, args.insecure)


def require_here(where: Where, what: str, remedy: str) -> None:
    """Refuse another machine for what is made on this one.

    Raises:
        ConfigError: `where` is another.
    """
    if not where.here:
        raise ConfigError(
            f"--on {where.on} was given {what}", "expected runs that are placed there as they are", remedy
        )


def require_run(path: Path) -> Path:
    """The folder, if it is that of one run."""
    if (require_folder(path) / SUITE).exists():
        inside = read_suite(path).members
        raise ConfigError(
            f"{path} holds {len(inside)} runs",
            "expected the folder of one run",
            f"name one of them, for instance {path / inside[0].folder}",
        )
    return path


def require_folder(path: Path) -> Path:
    """The folder, if it is one."""
    if not exists(path) or not path.is_dir():
        raise ConfigError(
            f"{path} is not a folder",
            "expected the folder of a run, such as runs/Pendulum-v1__sac__0__...",
            "`softac train` prints it",
        )
    return path
