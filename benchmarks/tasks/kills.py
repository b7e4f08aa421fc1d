"""Goals, masks and several choices: is a run that was stopped, or killed at random moments, the same to the bit?

    python benchmarks/tasks/kills.py [--kills 4] [SET-UP...]

Each set-up of `small_tasks.py` is run whole, in two halves, and killed with SIGKILL and resumed until it is done;
compared are the hashes of `benchmarks/resume/run.py`. Rows are appended to results/kills.csv.
"""

import argparse
import csv
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "resume"))
from run import hashes  # noqa: E402 - it lies there

RESULTS = HERE / "results" / "kills.csv"
N = 1_777
OFF_POLICY = "--net-arch 32 32 --batch-size 32 --learning-starts 100 --eval-freq 600 --save-freq 300"
ON_POLICY = "--net-arch 32 32 --n-steps 128 --eval-freq 600 --save-freq 300"
SETUPS = {
    "hindsight, 3-step soft returns, 2 environments": (
        f"sac small_tasks:Place-v0 {OFF_POLICY} --n-envs 2 --n-steps 3 --hindsight future"
    ),
    "hindsight, td3": f"td3 small_tasks:Place-v0 {OFF_POLICY} --hindsight final --n-sampled-goal 2",
    "masks, dqn": f"dqn small_tasks:Switch-v0 {OFF_POLICY} --n-envs 3",
    "masks, sac_discrete, 3-step soft returns": f"sac_discrete small_tasks:Switch-v0 {OFF_POLICY} --n-steps 3",
    "masks and several choices, ppo": f"ppo small_tasks:Switches-v0 {ON_POLICY} --n-envs 2",
}


def start(words: list[str]) -> subprocess.Popen[bytes]:
    """The command, in the background; `small_tasks` lies beside this file."""
    return subprocess.Popen(
        [sys.executable, "-m", "softac", *words], cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def killed_again_and_again(again: list[str], resume: list[str], folder: Path, most: int) -> int:
    """Run until it is done, killed at random moments before; how often it was."""
    delays, kills = random.Random(len(str(folder)) + most), 0  # noqa: S311 - when to kill, not a secret
    process = start(again)
    while kills < most:
        time.sleep(delays.uniform(3.0, 9.0))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
        process = start(resume if (folder / "config.json").exists() else again)
    process.wait()
    return kills


def compare(name: str, kills: int) -> None:
    """One set-up."""
    flags = SETUPS[name].split()
    work = Path(tempfile.mkdtemp())
    whole, halves, killed = work / "whole", work / "halves", work / "killed"
    train = ["train", *flags, "--run-dir"]

    def resume(folder: Path) -> list[str]:
        return ["resume", str(folder), "--env", flags[1], "-n", str(2 * N)]

    start([*train, str(whole), "-n", str(2 * N)]).wait()
    start([*train, str(halves), "-n", str(N)]).wait()
    start(resume(halves)).wait()
    done = killed_again_and_again([*train, str(killed), "-n", str(2 * N)], resume(killed), killed, kills)
    reference = hashes(whole)
    for kind, folder in (("N + resume + N", halves), (f"{done} x SIGKILL", killed)):
        found = hashes(folder)
        write([name, kind, 2 * N, found == reference, *found.values()], list(found))
    shutil.rmtree(work)


def write(row: list[object], parts: list[str]) -> None:
    """Append to the results."""
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(["set-up", "interruption", "steps", "identical", *parts])
        writer.writerow(row)
    print(*row[:4], flush=True)


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("setups", nargs="*", default=list(SETUPS))
    parser.add_argument("--kills", type=int, default=4)
    args = parser.parse_args()
    for name in args.setups:
        compare(name, args.kills)


if __name__ == "__main__":
    main()
