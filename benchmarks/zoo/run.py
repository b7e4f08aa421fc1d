"""Do environments of other people work with softac? Each package is installed and tried where it disturbs nobody.

    python benchmarks/zoo/run.py                      every package that results/zoo.csv does not have yet
    python benchmarks/zoo/run.py minigrid ale-py      these again

A package gets a throwaway virtual environment with softac, built as users install it; PyTorch and what else is
large is borrowed from the environment this script runs in. Packages that cannot be installed beside softac are
said so. Then each environment is checked, and with each algorithm that fits made, learned in for 300 steps, saved,
loaded, learned in for 40 more, and evaluated for one episode (`trial.py`). One thread; this is no benchmark of
speed. Results go to results/zoo.csv, one row for each environment and algorithm.
"""

import argparse
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results" / "zoo.csv"
COLUMNS = ("package", "versions", "environment", "algorithm", "result", "reason", "check", "spaces")
INSTALL_LIMIT, LONGEST_TRIAL = 3_600, 3_600  # seconds; the machine may be busy
VERSIONS = ("gymnasium", "mujoco", "numpy")
LONGEST = 500


def build_wheel(folder: Path) -> Path:
    """Pack softac into a file that pip installs."""
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(words, check=True)
    return next(folder.glob("softac-*.whl"))


def make_environment(folder: Path) -> Path:
    """A virtual environment that sees the packages of this one behind its own; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([str(python), "-c", command], check=True, capture_output=True, text=True).stdout.strip()
    (Path(own) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def install(python: Path, wheel: Path, packages: list[str]) -> str:
    """Install softac and the packages beside each other; "" or why it cannot be done."""
    words = [
        str(python),
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--no-compile",
        str(wheel),
        *packages,
    ]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=INSTALL_LIMIT)
    except subprocess.TimeoutExpired:
        return f"not installed in {INSTALL_LIMIT} s"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    conflict = [line for line in lines if "depends on" in line or "requested" in line]
    errors = [line for line in lines if line.lower().startswith(("error", "× "))] or lines[-1:]
    return " ".join(dict.fromkeys(conflict or errors))[:LONGEST]


def versions(python: Path, packages: list[str]) -> str:
    """Of the packages, and of what they tend to disagree on."""
    names = [*dict.fromkeys([*(re.split(r"[\[=]", package)[0] for package in packages), *VERSIONS])]
    code = "import importlib.metadata as m, sys; print('; '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    done = subprocess.run([str(python), "-c", code, *names], capture_output=True, text=True)
    return done.stdout.strip()


def trial(python: Path, entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What `trial.py` says of one environment, for each algorithm."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "SDL_VIDEODRIVER": "dummy"}
    environment.pop("PYTHONPATH", None)
    algorithms = list(entry["algorithms"])
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        words = [str(python), str(HERE / "trial.py"), json.dumps(entry)]
        process = subprocess.Popen(words, stdout=out, stderr=err, cwd=folder, env=environment)
        try:
            why = f"the process ended with code {process.wait(LONGEST_TRIAL)}: "
            if process.returncode == -signal.SIGXCPU:
                why = "not done in the processor time it may use. "
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            why = f"not done after {LONGEST_TRIAL} s. "
        for file in (out, err):
            file.seek(0)
        for line in out:
            if line.startswith('{"stage"'):
                answer = json.loads(line)
                algorithms.remove(answer["algorithm"])
                yield answer
        why += " ".join(err.read().split())[-300:]
    for algorithm in algorithms:
        yield {"algorithm": algorithm, "stage": "process", "error": "Died", "text": why}


def judged(answer: dict[str, Any]) -> tuple[str, str]:
    """One word, and the reason."""
    stage, text = answer["stage"], answer.get("text", "")[:LONGEST]
    if stage == "done":
        return "works", ""
    if stage in ("import", "make"):
        return "not made", text
    if answer["error"] == "ConfigError" or (answer["error"] == "EnvironmentFailed" and " returned " in text):
        return "refused", text.partition(": ")[2]
    return "fails", f"{stage}: {text}"


def examine(package: dict[str, Any], wheel: Path, folder: Path) -> list[dict[str, Any]]:
    """The rows of one package."""
    python = make_environment(folder)
    if why := install(python, wheel, package["install"]):
        words = {"package": package["name"], "versions": "; ".join(package["install"])}
        words |= {"result": "not installed", "reason": why}
        return [words | {"environment": named(entry)} for entry in package["environments"]]
    rows: list[dict[str, Any]] = []
    common = {"package": package["name"], "versions": versions(python, package["install"])}
    for entry in package["environments"]:
        for answer in trial(python, entry | {"import": package.get("import", [])}):
            (result, reason), algorithm = judged(answer), answer["algorithm"]
            row = {"environment": named(entry), "algorithm": algorithm, "result": result, "reason": reason}
            spaces = f"{answer.get('observations', '')} -> {answer.get('actions', '')}"
            row["spaces"] = " ".join(spaces.split())[:LONGEST]
            row |= {"check": " | ".join(answer.get("check", ()))[:LONGEST]}
            print(f"  {row['environment']:<40} {algorithm:<8} {result:<8} {reason:.100}", flush=True)
            rows.append(common | row)
    return rows


def named(entry: dict[str, Any]) -> str:
    """The id, with the arguments."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in entry.get("kwargs", {}).items())
    return f"{entry['id']} ({arguments})" if arguments else str(entry["id"])


def read_results() -> list[dict[str, Any]]:
    """The rows there are."""
    if not RESULTS.is_file():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def write_results(rows: list[dict[str, Any]], order: list[str]) -> None:
    """All rows, in the order of packages.toml; at once, so that an interruption loses nothing."""
    RESULTS.parent.mkdir(exist_ok=True)
    partial = RESULTS.with_suffix(".tmp")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: order.index(row["package"])))
    partial.replace(RESULTS)


def main() -> None:
    """Examine the packages that are asked for, or that have no rows yet."""
    packages = {p["name"]: p for p in tomllib.loads((HERE / "packages.toml").read_text())["package"]}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "packages", nargs="*", metavar="PACKAGE", choices=[[], *packages], help=", ".join(packages)
    )
    args = parser.parse_args()
    rows = [row for row in read_results() if row["package"] in packages]
    there = {row["package"] for row in rows}
    with tempfile.TemporaryDirectory(prefix="softac-zoo-") as folder:
        wheel = build_wheel(Path(folder))
        for name in args.packages or [name for name in packages if name not in there]:
            print(f"{name}: {' '.join(packages[name]['install'])}", flush=True)
            found = examine(packages[name], wheel, Path(folder) / "environment")
            rows = [row for row in rows if row["package"] != name] + found
            write_results(rows, list(packages))
            shutil.rmtree(Path(folder) / "environment")


if __name__ == "__main__":
    main()
