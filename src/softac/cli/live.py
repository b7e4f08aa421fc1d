"""One run, shown while it trains: `softac train`, `softac resume`."""

import shlex
from pathlib import Path
from typing import Any

from softac.cli.display import Display
from softac.cli.output import say
from softac.files import user_path
from softac.model import Model
from softac.replay.ring import forecast, in_words
from softac.run.config import RecordConfig
from softac.run.messages import messages_to, to_file_in
from softac.run.metrics import METRICS, as_number, read_rows
from softac.run.signals import StopSignals
from softac.run.training import rows_kept


def train_shown(model: Model, total: int, record: RecordConfig, path: Path) -> int:
    """Train up to `total` steps in the folder `path`, on the screen; returns the exit code."""
    told, path = path, user_path(path)  # an environment may take the process to another folder
    name = model.description()["algorithm"]
    title = f"{name} on {model.source.name}, seed {model.run.seed}"
    if not model.agent.on_policy:
        kept = min(rows_kept(model.agent, model.run.n_envs), total)
        title += f", replay up to {in_words(forecast(kept, model.spaces.spec))}"
    with (
        StopSignals() as stop,
        Display(title, str(told), total) as display,
        messages_to(display, to_file_in(path)),
    ):
        model.train(total, record, path, sinks=[display], heartbeat=display.heartbeat, stop=stop)
    rows = read_rows(path / METRICS)
    # A file may not name a module to import, so that the next command has to.
    run = shlex.quote(str(told)) + (f" --env {model.source.name}" if ":" in model.source.name else "")
    if stop.received is not None:
        say(f"stopped and saved at step {model.num_timesteps:,}; go on with: softac resume {run}")
        return 128 + stop.received
    return _summary(path, told, run, rows, model.num_timesteps)


def _summary(path: Path, told: Path, run: str, rows: list[dict[str, Any]], steps_made: int) -> int:
    evaluations = [row for row in rows if _whole(row)]
    lines = []
    if evaluations:
        from softac.report.plots import draw_run  # half a second before the first step, if above

        last = evaluations[-1]
        lines += [
            f"return {last['eval/mean_reward']:,.1f} +- {last['eval/std_reward']:,.1f} over "
            f"{len(last['eval/returns'])} evaluation episodes at step {last['step']:,} "
            f"(stochastic {last['eval/stochastic_mean_reward']:,.1f})",
            f"picture  {told / draw_run(path).name}",
        ]
    lines += [
        f"run      {told}",
        f"go on    softac resume {run} -n {2 * steps_made}",
        f"watch    softac enjoy {run}",
    ]
    say("\n".join(lines))
    return 0


def _whole(row: dict[str, Any]) -> bool:
    """Whether a row is an evaluation that says all; what a run has logged may come from somebody else."""
    names = ("eval/mean_reward", "eval/std_reward", "eval/stochastic_mean_reward")
    return isinstance(row.get("eval/returns"), list) and all(as_number(row.get(n)) is not None for n in names)
