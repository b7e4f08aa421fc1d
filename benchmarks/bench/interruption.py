"""`softac bench` killed with SIGKILL at random moments, against the same suite left alone.

    python benchmarks/bench/interruption.py [--suite smoke] [-n 10000] [--kills 10] [--seed 0]

Both are run in folders of their own by the same command; when the second is finished at last, a page is made of
each. The pages have to be the same bytes once what stands in elements of class "time" is blanked. The run that is
left alone also shows what the scheduling costs: its time against that of its runs, divided by how many are side by
side. Written to results/interruption.json.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
TIME = re.compile(r'(<(\w+)[^>]*class="[^"]*\btime\b[^"]*"[^>]*>).*?(</\2>)', re.DOTALL)
SECONDS = {"h": 3600, "min": 60, "s": 1}


def begin(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "softac", *words],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode}: {stderr}")
    return stdout


def seconds(words: str) -> int:
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+) (h|min|s)\b", words))


def page(folder: Path, suite: str) -> bytes:
    finish(begin(folder, "report", f"runs/bench-{suite}", "-o", "report.html"))
    text = (folder / "report.html").read_text()
    blanked, n = TIME.subn(r"\1\3", text)
    if n == 0:
        raise SystemExit("no times were found on the page")
    return blanked.encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="smoke")
    parser.add_argument("-n", "--total-timesteps", default="10000")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, words = np.random.default_rng(args.seed), ["bench", args.suite, "-n", args.total_timesteps]
    with tempfile.TemporaryDirectory() as path:
        whole, killed = Path(path, "whole"), Path(path, "killed")
        whole.mkdir()
        killed.mkdir()
        began = time.monotonic()
        printed = finish(begin(whole, *words))
        took = time.monotonic() - began
        side_by_side = int(re.search(r"(\d+) at a time", printed)[1])  # type: ignore[index]
        together = seconds(re.search(r"and the runs (.*) together", printed)[1])  # type: ignore[index]
        moments: list[float] = []
        while len(moments) < args.kills:
            process = begin(killed, *words)
            moments.append(round(float(rng.uniform(0.0, 2.0 * took / args.kills)), 2))
            try:
                process.wait(moments[-1])
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                raise SystemExit(f"all was done after {len(moments) - 1} kills; take more steps")
            process.communicate()
        finish(begin(killed, *words))
        first, second = page(whole, args.suite), page(killed, args.suite)
    answer: dict[str, Any] = {
        "suite": args.suite,
        "steps of each run": int(args.total_timesteps),
        "killed after seconds": moments,
        "pages are the same": first == second,
        "bytes of the page": len(first),
        "seconds": round(took, 1),
        "seconds of its runs": together,
        "side by side": side_by_side,
        "seconds / (seconds of its runs / side by side)": round(took / (together / side_by_side), 3),
    }
    print(json.dumps(answer, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "interruption.json").write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
