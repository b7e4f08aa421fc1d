"""What a person sees while a run advances: a live panel on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from softac.cli.curve import learning_curve, number
from softac.cli.screen import ascii_only, meanwhile
from softac.experiments.standing import Standing, State, time_left
from softac.run.messages import as_line
from softac.run.progress import Progress
from softac.run.training import Training
from softac.words import duration

REFRESH = 0.25  # seconds
OVERVIEW_REFRESH = 1.0  # seconds; every core is busy with something better
FEW = 10  # runs whose every step is told where there is no terminal; of more, evaluations
AROUND = 8  # lines of a terminal that the rows of an overview leave free
STYLES: dict[State, str] = {
    "failed": "bold red",
    "running": "green",
    "stopping": "yellow",
    "stopped": "yellow",
    "done": "cyan",
    "waiting": "dim",
}
METRICS_SHOWN = (
    ("return", "rollout/ep_rew_mean", "evaluated", "eval/mean_reward"),
    ("temperature", "train/ent_coef", "stochastic", "eval/stochastic_mean_reward"),
    ("entropy", "train/entropy", "Q", "train/q_mean"),
)
BAR, CURVE_HEIGHT = 40, 4  # columns, lines
NARROW, TALL = 80, 16  # columns and lines of a terminal
WINDOW = 10.0  # seconds over which steps/s is measured


class Display(logging.Handler):
    """A `Sink` for people; also shows what the library logs.

    Args:
        title: of the run.
        where: the run folder.
        until: total environment steps asked for.
        console: where to draw; None: standard output, as long as it can be written to.
    """

    def __init__(self, title: str, where: str, until: int, console: Console | None = None) -> None:
        super().__init__(logging.INFO)
        self.title, self.where, self.until = title, where, until
        self._notes: list[str] = []  # said before the title
        self.console = console or meanwhile()
        self.latest: dict[str, float] = {}
        self.returns: dict[int, float] = {}
        self.speed: deque[tuple[float, int]] = deque()
        self.live: Live | None = None
        self.steps = 0
        self._next = 0.0
        self._begun = False

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.update(self._panel(), refresh=True)
            self.live.stop()
            self.live = None

    def heartbeat(self, training: Training) -> None:
        """Called after every round; draws four times a second at most."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + REFRESH
        self._begin()
        self._count(now, training.steps)
        if training.collector.recent:
            recent = training.collector.recent
            self.latest["rollout/ep_rew_mean"] = sum(r for r, *_ in recent) / len(recent)
        if self.live is not None:
            self.live.update(self._panel(), refresh=True)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of environment step `step`."""
        self._begin()
        self.latest |= metrics
        if "eval/mean_reward" in metrics:
            self.returns[step] = metrics["eval/mean_reward"]
        self._count(time.monotonic(), step)
        if self.live is not None:
            self.live.update(self._panel(), refresh=True)
        elif "time/total_timesteps" in metrics or "eval/mean_reward" in metrics:
            self.console.print(self._line("eval/mean_reward" in metrics), soft_wrap=True, highlight=False)

    def close(self) -> None:
        """Nothing to flush; a handler that is closed may still be given messages."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message above the panel; what is no warning stands below the title."""
        text = as_line(record)
        if record.levelno < logging.WARNING:
            self._notes.append(record.getMessage())
            self._tell_notes()
        elif self.live is not None:
            self.live.console.print(Text(text, style="yellow"))
        else:
            with suppress(OSError):  # what cannot be shown ends nothing
                print(text, file=sys.stderr, flush=True)  # noqa: T201

    def _begin(self) -> None:
        """Show the title once training has begun; a run that is refused never gets here."""
        if self._begun:
            return
        self._begun = True
        before = Progress(Path(self.where))  # of a run that goes on
        before.read()
        self.returns |= before.returns
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False)
            self.live.start()
        else:
            self.console.print(f"{self.title} -> {self.where}", soft_wrap=True, highlight=False, markup=False)
        self._tell_notes()

    def _tell_notes(self) -> None:
        if self._begun:
            for note in self._notes:
                self.console.print(Text(note), soft_wrap=True)
            self._notes = []

    def _count(self, now: float, steps: int) -> None:
        self.steps = steps
        self.speed.append((now, steps))
        while now - self.speed[0][0] > WINDOW and len(self.speed) > 2:
            self.speed.popleft()

    @property
    def steps_per_second(self) -> float:
        """Over the last seconds; 0 where it cannot be said yet."""
        if len(self.speed) < 2:
            return 0.0
        (t0, s0), (t1, s1) = self.speed[0], self.speed[-1]
        return (s1 - s0) / (t1 - t0) if t1 > t0 else 0.0

    def _line(self, evaluation: bool) -> str:
        get = self.latest.get
        head = f"step {self.steps:>9,} / {self.until:,}"
        if evaluation:
            mean, sampled = get("eval/mean_reward"), get("eval/stochastic_mean_reward")
            return f"{head} | evaluation: {number(mean)} (stochastic {number(sampled)})"
        return (
            f"{head} | return {number(get('rollout/ep_rew_mean'))} | {self.steps_per_second:.0f} steps/s | "
            f"left {self._left()} | temperature {number(get('train/ent_coef'))}"
        )

    def _left(self) -> str:
        speed = self.steps_per_second
        return duration((self.until - self.steps) / speed) if speed > 0 else "?"

    def _panel(self) -> Panel:
        speed = self.steps_per_second
        return run_panel(
            self.console, self.title, self.where, self.steps, self.until, self.latest, self.returns, speed
        )


def run_panel(
    console: Console,
    title: str,
    where: str,
    steps: int,
    until: int,
    latest: Mapping[str, float],
    returns: Mapping[int, float],
    speed: float,
) -> Panel:
    """One run: how far it is, its learning curve, its latest metrics."""
    narrow = console.width < NARROW
    width = BAR if not narrow else max(10, console.width - BAR)
    whole = Table.grid(padding=(1, 0, 0, 0))
    done = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=until, completed=min(steps, until), width=width)
    done.add_row(bar, f"{steps:,} / {until:,}{'' if narrow else ' steps'}", f"{steps / until:.0%}")
    whole.add_row(done)
    if returns and console.height >= TALL:
        lines = learning_curve(returns, until, width, CURVE_HEIGHT, ascii_only=ascii_only(console))
        whole.add_row(Text("\n".join(lines), no_wrap=True))
    grid = Table.grid(padding=(0, 1 if narrow else 3))
    for _ in range(4):
        grid.add_column(min_width=11 if narrow else 12)
    for left, left_key, right, right_key in METRICS_SHOWN:
        values = number(latest.get(left_key)), number(latest.get(right_key))
        grid.add_row(Text(left, style="dim"), values[0], Text(right, style="dim"), values[1])
    left = duration((until - steps) / speed) if speed > 0 else "?"
    grid.add_row(Text("steps/s", style="dim"), f"{speed:.0f}", Text("left", style="dim"), left)
    whole.add_row(grid)
    return titled(whole, title, where)


def titled(content: Table, title: str, where: str) -> Panel:
    """A frame with the title above and the folder below."""
    return Panel(
        content,
        title=Text(title),
        title_align="left",
        subtitle=Text(where),
        subtitle_align="left",
        expand=False,
        padding=(0, 2),
    )


class Overview:
    """Several runs that advance side by side: a table on a terminal, plain lines elsewhere.

    Args:
        title: of them all.
        where: the folder they lie in.
        until: environment steps asked of each.
        limit: how many advance at a time.
        lines: of the runs; read anew whenever it is drawn.
        console: where to draw; None: standard output, as long as it can be written to.
    """

    def __init__(
        self,
        title: str,
        where: str,
        until: int,
        limit: int,
        lines: Collection[Standing],
        console: Console | None = None,
    ) -> None:
        self.title, self.where, self.until, self.limit = title, where, until, limit
        self.lines, self.console = lines, console or meanwhile()
        self.live: Live | None = None
        self._next = 0.0
        # State, steps and step of the evaluation that were printed last.
        self._shown: dict[str, tuple[State, int, int]] = {}

    def __enter__(self) -> "Overview":
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False)
            self.live.start()
        else:
            self._print(f"{self.title} -> {self.where}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.update(self._panel(), refresh=True)
            self.live.stop()
            self.live = None

    def draw(self) -> None:
        """Show what is new: the table once a second at most, lines at once."""
        if self.live is None:
            for line in self.lines:
                self._tell(line)
        elif (now := time.monotonic()) >= self._next:
            self._next = now + OVERVIEW_REFRESH
            self.live.update(self._panel(), refresh=True)

    def _print(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _tell(self, line: Standing) -> None:
        now, get = line.progress, line.progress.value
        new = (line.state, now.steps, now.evaluated)
        # What lay in the folder at the beginning is not news, and what a run that goes on took back neither.
        before = "waiting" if line.state == "running" else line.state
        state, steps, evaluated = self._shown.get(line.name, (before, now.steps, now.evaluated))
        self._shown[line.name] = new
        head = f"{line.name} | step {now.steps:>9,} / {self.until:,}"
        if line.state == "running" != state:
            self._print(f"{line.name} | running{f' on {line.node}' if line.node else ''}")
        if now.steps > steps and len(self.lines) <= FEW:
            speed, left = get("time/fps") or 0.0, self._left()
            self._print(
                f"{head} | return {number(get('rollout/ep_rew_mean'))} | {speed:.0f} steps/s | left in all {left}"
            )
        if now.evaluated > evaluated:
            self._print(f"{head} | evaluation: {number(get('eval/mean_reward'))}")
        if "running" != line.state != state:
            failure = f" (exit code {line.code}): {line.said}" if line.state == "failed" else ""
            self._print(f"{line.name} | {line.state}{failure}")

    def _left(self) -> str:
        seconds = time_left(list(self.lines), self.until, self.limit)
        return "?" if seconds is None else duration(seconds)

    def _rows(self) -> list[Standing]:
        """As many as the terminal has room for: rather those that advance or have failed."""
        room = max(1, self.console.height - AROUND)
        order = list(STYLES)
        chosen = sorted(self.lines, key=lambda line: order.index(line.state))[:room]
        return [line for line in self.lines if line in chosen]

    def _panel(self) -> Panel:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("run")
        table.add_column("state", min_width=8)
        elsewhere = any(line.node for line in self.lines)
        if elsewhere:
            table.add_column("node", min_width=8)
        for name in ("steps", "", "steps/s", "return", "evaluated"):
            table.add_column(name, justify="right", min_width=7 if name else 4)
        for line in self._rows():
            get, steps = line.progress.value, line.progress.steps
            speed = get("time/fps") if line.state == "running" else None
            table.add_row(
                Text(line.name),
                Text(line.state, style=STYLES[line.state]),
                *([Text(line.node)] if elsewhere else []),
                f"{steps:,}",
                f"{min(steps / self.until, 1.0):.0%}",
                "-" if speed is None else f"{speed:.0f}",
                number(get("rollout/ep_rew_mean")),
                number(get("eval/mean_reward")),
            )
        counts = Counter(line.state for line in self.lines)
        states = ", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state])
        left = f"   left in all: {self._left()}" if counts["running"] else ""
        whole = Table.grid()
        whole.add_row(table)
        whole.add_row(Text(f"\n{states}{left}"))
        return titled(whole, self.title, self.where)
