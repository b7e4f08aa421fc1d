"""The command: finds the verb, imports what it needs and no more, and turns errors into one line."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from softac._version import __version__
from softac.cli.output import in_its_letters, silence
from softac.errors import ConfigError, DiskError, SoftacError, nearest
from softac.run.messages import ERROR, messages_to, to_stderr

COMMANDS = {
    "train": "train an agent in an environment",
    "resume": "go on with a run where it stopped",
    "eval": "returns of a trained agent over whole episodes",
    "enjoy": "watch a trained agent, or film it",
    "export": "a trained policy as files that act without softac",
    "run": "play an exported policy in an environment",
    "bench": "compare algorithms on environments with many seeds, resumable",
    "tune": "search for hyperparameters, resumable; the winner is a file for --preset",
    "plot": "learning curves of one or several runs, as a picture",
    "report": "one self-contained page on runs: curves, tables, failures",
    "track": "send the metrics of runs to wandb, trackio or mlflow, during them or afterwards",
    "watch": "runs of others and suites as they advance, with their learning curves",
    "push": "share an agent on the Hugging Face hub, private unless asked otherwise",
    "pull": "an agent from the Hugging Face hub, checked as a stranger's folder",
    "import": "a policy of Stable-Baselines3 as a run folder, nothing in it executed",
    "solve": "soft policy iteration on a finite MDP",
    "list": "the algorithms, one line each",
    "collect": "play a policy into a data set that others can read (Minari)",
    "defaults": "the hyperparameters of an algorithm: default, range, meaning",
    "check": "run an environment and say what soft actor-critic will and will not like about it",
    "doctor": "check the installation, or the health of a run",
}

DESCRIPTION = "Maximum-entropy reinforcement learning: soft actor-critic, measured and never lost."
EPILOG = """first steps:
  softac train                             SAC on Pendulum-v1, about a minute
  softac train HalfCheetah-v5 -n 100000    another environment, more steps
  softac train HalfCheetah-v5 --seeds 0-9  ten seeds side by side
  softac resume RUN                        after an interruption, bit for bit
  softac eval RUN ; softac enjoy RUN       what it has learned
  softac bench smoke ; softac report RUN   several algorithms and seeds, and a page on them
  softac tune sac HalfCheetah-v5 -n 50000  better settings, tried on fresh seeds
"""

# What the training scripts of others call it, and what to write here.
WORDS = "write algorithm and environment as words: softac train sac Pendulum-v1"
AFTERWARDS = "leave it out, and write softac track RUN --to wandb, during the run or afterwards"
EVENTS = "leave it out, or write --run-dir DIR: the folder of a run has the events for TensorBoard"
OTHERS = {
    **dict.fromkeys(("algo", "alg", "agent", "env", "env-id", "env-name", "task"), WORDS),
    **dict.fromkeys(("cuda", "gpu"), "leave it out: a GPU is used where there is one; or write --device cuda"),
    **dict.fromkeys(("track", "wandb", "wandb-project-name"), AFTERWARDS),
    **dict.fromkeys(("tensorboard", "tensorboard-log", "log-dir", "logdir", "log-folder"), EVENTS),
    **dict.fromkeys(("conf-file", "config", "yaml-file"), "write settings as flags, or --preset FILE.toml"),
    **dict.fromkeys(("progress", "verbose"), "leave it out: progress is shown"),
    **dict.fromkeys(("capture-video", "render"), "leave it out, and write softac enjoy RUN, or RUN --video"),
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are `ConfigError`s of one line."""

    verb: tuple[str, ...] = ()  # the command in use, which argparse does not name for unknown arguments
    intermixed = False  # while words and options are read in any order

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, words also behind options: `train sac --seed 1 Pendulum-v1`."""
        if self.intermixed or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self.intermixed = True  # up to Python 3.12 it calls this method
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.intermixed = False

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print over several lines."""
        unknown, remedy = message.removeprefix("unrecognized arguments: "), "correct it"
        if unknown != message:
            word = unknown.split()[0].partition("=")[0]
            message = self._unknown(word)
            if self.verb in (("train",), ("tune",)) and word.removeprefix("--") in OTHERS:
                message, remedy = f"unknown argument {word!r}", OTHERS[word.removeprefix("--")]
        prog = " ".join([self.prog, *self.verb])
        raise ConfigError(message, f"expected what `{prog} --help` lists", remedy)

    def _unknown(self, word: str) -> str:
        from softac.config.make import ELSEWHERE

        known = dict.fromkeys(o for action in self._all_actions() for o in action.option_strings)
        here = "--" + ELSEWHERE.get(word.lstrip("-").replace("-", "_"), "").replace("_", "-")
        if here in known:
            return f"unknown argument {word!r}; here it is called {here!r}"
        # Without the dashes, which all have in common.
        close = nearest(word.lstrip("-"), [o.lstrip("-") for o in known]).replace(" '", " '--")
        return f"unknown argument {word!r}{close}"

    def _all_actions(self) -> list[argparse.Action]:
        actions = list(self._actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                actions += [a for parser in action.choices.values() for a in parser._actions]
        return actions


def build_parser(argv: Sequence[str]) -> Parser:
    """The parser for this command line: only the verb that is used gets its arguments."""
    parser = Parser(
        prog="softac",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"softac {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    used = next((word for word in argv if not word.startswith("-")), None)
    if used is not None and used not in COMMANDS:
        raise ConfigError(
            f"unknown command {used!r}{nearest(used, COMMANDS)}",
            f"expected one of: {', '.join(COMMANDS)}",
            "`softac --help` says what each does",
        )
    parser.verb = (used,) if used else ()
    for name, what in COMMANDS.items():
        if name == used:
            module = import_module(f"softac.cli.{name}")
            if name in ("train", "resume", "tune"):  # their flags depend on the algorithm
                module.add_parser(subparsers, argv)
            else:
                module.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=what)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments; returns its exit code and prints errors as one line."""
    code = 0
    try:
        code = _executed([_dashed(word) for word in (sys.argv[1:] if argv is None else argv)])
        print(end="", flush=True)  # noqa: T201 - here, where it can still be said that it cannot be written
    except OSError as error:
        if not _is_unwritable():
            raise
        silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # otherwise the reader has left, as `softac list | head` does
            return code or _told(
                DiskError(
                    f"standard output cannot be written ({error.strerror})",
                    "expected one that takes what is printed",
                    "free some space, or print somewhere else",
                )
            )
    return code


def _executed(words: Sequence[str]) -> int:
    try:
        with messages_to(to_stderr()):
            parser = build_parser(words)
            try:
                args = parser.parse_args(words)
            except SystemExit:  # it has printed a help
                return 0
            if args.command is None:
                parser.print_help()
                return 0
            code: int = args.run(args)
            return code
    except SoftacError as error:
        return _told(error)
    except KeyboardInterrupt:
        return 130


def _told(error: SoftacError) -> int:
    """Print an error; returns its exit code."""
    with suppress(OSError):
        print(f"{ERROR}{error}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def _is_unwritable() -> bool:
    """Whether it is standard output that an error came from."""
    try:
        print(flush=True)  # noqa: T201
    except OSError:
        return True
    return False


def entry() -> NoReturn:
    """What the installed command calls."""
    in_its_letters()
    sys.exit(main())


def _dashed(word: str) -> str:
    """--learning_rate means --learning-rate."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value
