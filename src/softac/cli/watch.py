"""`softac watch`."""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from softac.cli.arguments import as_path
from softac.cli.curve import columns, curve, number
from softac.cli.display import STYLES, run_panel, titled
from softac.cli.screen import Screen, ascii_only
from softac.experiments.standing import State
from softac.report.results import Result, folders_of_runs, read_result
from softac.run.folder import CONFIG, in_use
from softac.run.metrics import METRICS
from softac.run.progress import Progress
from softac.run.signals import StopSignals
from softac.words import counted

POLL = 2.0  # seconds
CURVE, ROOMY = 12, 90  # columns of a curve in a table, and of a terminal that has room for it
NUMBERS = 60  # columns that the frame and the other cells of a row take
AROUND = 7  # lines of a terminal that the rows of the table leave free
ENDED: dict[str, State] = {"finished": "done", "failed": "failed", "not begun": "waiting"}


def add_parser(subparsers: Any) -> None:
    """Add `watch`."""
    parser = subparsers.add_parser(
        "watch",
        help="runs of others and suites as they advance, with their learning curves",
        description="Show how runs advance, from their files alone: of other people, other processes, suites. "
        "Ends with Ctrl-C; where there is no terminal it prints where they stand, once.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=as_path,
        help="run folders, folders of such, or the folder of a suite",
    )
    parser.set_defaults(run=run)


@dataclass
class Watched:
    """A run that is watched.

    Attributes:
        name: of its folder.
        folder: the run folder.
        result: what its files said when they were read last.
        state: where it stands.
    """

    name: str
    folder: Path
    result: Result
    state: State = "waiting"
    _seen: object = None

    def look(self) -> None:
        """Read the files again if they have changed."""
        seen = tuple(_stamp(self.folder / name) for name in (CONFIG, METRICS))
        if seen != self._seen:
            self._seen, self.result = seen, read_result(self.folder)
        self.state = "running" if in_use(self.folder) else ENDED.get(self.result.state, "stopped")


def run(args: argparse.Namespace) -> int:
    """Show until asked to stop; returns the exit code."""
    console = Screen()
    runs = [Watched(name, path, read_result(path)) for name, path in folders_of_runs(args.runs).items()]
    title, where = counted(len(runs), "run"), ", ".join(map(str, args.runs))
    with StopSignals() as stop:
        if not console.is_terminal:
            console.print(_shown(console, runs, title, where))
            return 0
        with Live(console=console, auto_refresh=False) as live:
            while not stop():
                live.update(_shown(console, runs, title, where), refresh=True)
                until = time.monotonic() + POLL
                while time.monotonic() < until and not stop():
                    time.sleep(0.1)
    return 0


def _shown(console: Console, runs: Sequence[Watched], title: str, where: str) -> Panel:
    for watched in runs:
        watched.look()
    return _one(console, runs[0]) if len(runs) == 1 else _several(console, runs, title, where)


def _one(console: Console, watched: Watched) -> Panel:
    result, progress = watched.result, Progress(watched.folder)
    progress.read()
    speed = (progress.value("time/fps") or 0.0) if watched.state == "running" else 0.0
    latest = {name: value for name in progress.latest if (value := progress.value(name)) is not None}
    title = f"{result.title}: {watched.state}"
    if watched.state == "failed":
        title += f" ({result.reason})"
    total = max(result.total, result.steps, 1)
    return run_panel(console, title, str(watched.folder), result.steps, total, latest, result.returns, speed)


def _several(console: Console, runs: Sequence[Watched], title: str, where: str) -> Panel:
    roomy = console.width >= ROOMY
    taken = NUMBERS + (CURVE + 2) * roomy
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("run", overflow="ellipsis", no_wrap=True, max_width=max(8, console.width - taken))
    table.add_column("state")
    for name in ("steps", "", "return", "evaluated"):
        table.add_column(name, justify="right")
    if roomy:
        table.add_column("curve", width=CURVE)
    for watched in _chosen(runs, max(1, console.height - AROUND)):
        result, (returned, evaluated) = watched.result, _last(watched.result)
        cells: list[str | Text] = [
            Text(result.title),
            Text(watched.state, style=STYLES[watched.state]),
            f"{result.steps:,}",
            f"{min(result.steps / max(result.total, 1), 1.0):.0%}",
            number(returned),
            number(evaluated),
        ]
        if roomy:
            values = columns(result.returns, max(result.total, 1), CURVE)
            cells.append(Text(curve(values, 1, ascii_only=ascii_only(console))[0] if values else ""))
        table.add_row(*cells)
    counts = Counter(watched.state for watched in runs)
    whole = Table.grid()
    whole.add_row(table)
    whole.add_row(Text("\n" + ", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state])))
    return titled(whole, title, where)


def _chosen(runs: Sequence[Watched], room: int) -> list[Watched]:
    """As many as there is room for: rather those that advance or have failed."""
    order = list(STYLES)
    chosen = sorted(runs, key=lambda watched: order.index(watched.state))[:room]
    return [watched for watched in runs if watched in chosen]


def _last(result: Result) -> tuple[float | None, float | None]:
    """The newest return of training and of an evaluation."""
    training, returns = result.training, result.returns
    return (
        training[max(training)] if training else None,
        returns[max(returns)] if returns else None,
    )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
