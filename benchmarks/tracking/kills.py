"""Every row once, in order, in a tracker whose feeder is killed while its run is killed.

    python benchmarks/tracking/kills.py wandb|trackio|mlflow [--tracker-kills 20] [--run-kills 5]

A run is killed with SIGKILL at random moments and resumed; meanwhile `softac track --follow` is killed and started
again. In the end the tracker's rows are compared with the run's `metrics.jsonl`. No network is used.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from softac.ship.trackers import NUMBER, START, STEPS, after, plain

SOFTAC = [sys.executable, "-m", "softac"]
SETTINGS = ["--net-arch", "8", "8", "--batch-size", "8", "--eval-freq", "500", "--n-eval-episodes", "1"]
STEPS_MADE, LEAST_ALIVE, MOST_ALIVE = 80_000, 4.0, 12.0  # seconds


def places(rows: list[tuple[int, dict]]) -> list[tuple[int, int, dict]]:
    """Step, number among the rows of that step, and numbers of each row."""
    place, placed = START, []
    for step, row in rows:
        place = after(place, step)
        placed.append((*place, row))
    return placed


def of_run(folder: Path) -> list[tuple[int, int, dict]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return places([(row["step"], plain(row)) for row in rows])


def of_wandb(home: Path) -> list[tuple[int, int, dict]]:
    from wandb.proto import wandb_internal_pb2

    (file,) = home.glob("wandb/offline-run-*/run-*.wandb")
    found = []
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            step, number = int(row[STEPS]), int(row.pop(NUMBER))
            if "train/n_updates" not in row and "rollout/ep_rew_mean" not in row:
                row.pop(STEPS)  # which an evaluation has not
            found.append((step, number, {k: v for k, v in row.items() if not k.startswith("_")}))
    return found


def records(data: bytes) -> list[bytes]:
    """The records of a .wandb file: a log as of LevelDB, in blocks of 32 KB, after a header of 7 bytes."""
    found, part, at = [], b"", 7
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part += data[at + 7 : at + 7 + length]
        if kind in (1, 4):  # whole, or the last part
            found.append(part)
            part = b""
        at += 7 + length
    return found


def of_trackio(home: Path) -> list[tuple[int, int, dict]]:
    import sqlite3

    (file,) = home.glob("*.db")
    with sqlite3.connect(file) as base:
        rows = base.execute("SELECT step, log_id, metrics FROM metrics ORDER BY id").fetchall()
    return [(step, int(log_id.rpartition(":")[2]), json.loads(metrics)) for step, log_id, metrics in rows]


def of_mlflow(home: Path) -> list[tuple[int, int, dict]]:
    import sqlite3

    with sqlite3.connect(home / "mlflow.db") as base:
        rows = base.execute("SELECT key, value, step, timestamp FROM metrics ORDER BY timestamp, rowid").fetchall()
    found: dict[tuple[int, int], dict] = {}
    for key, value, step, timestamp in rows:
        row = found.setdefault((timestamp, step), {})
        assert key not in row, (key, step)  # noqa: S101
        row[key] = value
    return [(step, int(row.pop(NUMBER)), row) for (_, step), row in found.items()]


READERS = {"wandb": of_wandb, "trackio": of_trackio, "mlflow": of_mlflow}


def kills(tracker: str, tracker_kills: int, run_kills: int, steps: int, seed: int) -> str:
    """Run the test; what was found, in words, or an AssertionError."""
    chance = random.Random(seed)  # noqa: S311
    with tempfile.TemporaryDirectory() as aside:
        home, run = Path(aside), Path(aside, "run")
        env = os.environ | {"WANDB_MODE": "offline", "WANDB_DIR": aside, "TRACKIO_DIR": aside}
        env |= {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
        train = [*SOFTAC, "train", "sac", "Pendulum-v1", "-n", str(steps), "--run-dir", str(run), *SETTINGS]
        train += ["--save-freq", "2000"]
        follow = [*SOFTAC, "track", str(run), "--to", tracker, "--follow"]

        def start(command: list[str]) -> subprocess.Popen:
            return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, start_new_session=True)

        def kill(process: subprocess.Popen) -> bool:
            alive = process.poll() is None
            if alive:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return alive

        trainer = start(train)
        while not (run / "metrics.jsonl").exists():
            time.sleep(0.1)
        killed = {"run": 0, "tracker": 0}
        feeder = start(follow)
        while killed["tracker"] < tracker_kills and trainer.poll() is None:
            time.sleep(chance.uniform(LEAST_ALIVE, MOST_ALIVE))
            killed["tracker"] += kill(feeder)
            feeder = start(follow)
            if killed["run"] < run_kills and killed["tracker"] * run_kills >= tracker_kills * (
                killed["run"] + 0.5
            ):
                killed["run"] += kill(trainer)
                trainer = start([*SOFTAC, "resume", str(run)])
        ended = trainer.wait(), feeder.wait(timeout=300)
        assert ended == (0, 0), ended  # noqa: S101
        expected, found = of_run(run), READERS[tracker](home)
        assert [row[:2] for row in found] == [row[:2] for row in expected]  # noqa: S101
        timeless = [
            [{k: v for k, v in row.items() if k not in ("time/fps", "time/time_elapsed")} for *_, row in rows]
            for rows in (found, expected)
        ]
        assert timeless[0] == timeless[1]  # noqa: S101
        return f"{tracker}: {len(found)} rows, each once and in order, after {killed}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracker", choices=READERS)
    parser.add_argument("--tracker-kills", type=int, default=20)
    parser.add_argument("--run-kills", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS_MADE)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(kills(arguments.tracker, arguments.tracker_kills, arguments.run_kills, arguments.steps, arguments.seed))
