"""What a person sees while a run advances: a live panel on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from softac.run.training import Training

REFRESH = 0.25  # seconds
WINDOW = 10.0  # seconds over which steps/s is measured


class Display(logging.Handler):
    """A `Sink` for people; also shows what the library logs.

    Args:
        title: of the run.
        where: the run folder.
        until: total environment steps asked for.
        console: where to draw; None: standard output.
    """

    def __init__(self, title: str, where: str, until: int, console: Console | None = None) -> None:
        super().__init__(logging.WARNING)
        self.title, self.where, self.until = title, where, until
        self.console = console or Console()
        self.latest: dict[str, float] = {}
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
            self.latest["rollout/ep_rew_mean"] = sum(r for r, _ in recent) / len(recent)
        if self.live is not None:
            self.live.update(self._panel(), refresh=True)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of environment step `step`."""
        self._begin()
        self.latest |= metrics
        self._count(time.monotonic(), step)
        if self.live is not None:
            self.live.update(self._panel(), refresh=True)
        elif "time/total_timesteps" in metrics or "eval/mean_reward" in metrics:
            self.console.print(self._line("eval/mean_reward" in metrics), soft_wrap=True, highlight=False)

    def close(self) -> None:
        """Nothing to flush; a handler that is closed may still be given messages."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message above the panel."""
        text = f"softac: {record.getMessage()}"
        if self.live is not None:
            self.live.console.print(Text(text, style="yellow"))
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    def _begin(self) -> None:
        """Show the title once training has begun; a run that is refused never gets here."""
        if self._begun:
            return
        self._begun = True
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False)
            self.live.start()
        else:
            self.console.print(f"{self.title} -> {self.where}", soft_wrap=True, highlight=False)

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
            return f"{head} | evaluation: {_number(mean)} (stochastic {_number(sampled)})"
        return (
            f"{head} | return {_number(get('rollout/ep_rew_mean'))} | {self.steps_per_second:.0f} steps/s | "
            f"left {self._left()} | temperature {_number(get('train/ent_coef'))}"
        )

    def _left(self) -> str:
        speed = self.steps_per_second
        return duration((self.until - self.steps) / speed) if speed > 0 else "?"

    def _panel(self) -> Panel:
        get = self.latest.get
        grid = Table.grid(padding=(0, 3))
        for _ in range(4):
            grid.add_column(min_width=12)
        bar = ProgressBar(total=self.until, completed=min(self.steps, self.until), width=40)
        done = Table.grid(padding=(0, 2))
        done.add_row(bar, f"{self.steps:,} / {self.until:,} steps", f"{self.steps / self.until:.0%}")
        rows = (
            ("return", "rollout/ep_rew_mean", "evaluated", "eval/mean_reward"),
            ("temperature", "train/ent_coef", "stochastic", "eval/stochastic_mean_reward"),
            ("entropy", "train/entropy", "Q", "train/q_mean"),
        )
        for left, left_key, right, right_key in rows:
            grid.add_row(
                Text(left, style="dim"), _number(get(left_key)), Text(right, style="dim"), _number(get(right_key))
            )
        grid.add_row(
            Text("steps/s", style="dim"), f"{self.steps_per_second:.0f}", Text("left", style="dim"), self._left()
        )
        whole = Table.grid(padding=(1, 0, 0, 0))
        whole.add_row(done)
        whole.add_row(grid)
        return Panel(
            whole,
            title=self.title,
            title_align="left",
            subtitle=self.where,
            subtitle_align="left",
            expand=False,
            padding=(0, 2),
        )


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3 min 05 s, 2 h 10 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"
