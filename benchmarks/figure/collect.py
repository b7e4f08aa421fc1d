"""Take from the folder of a suite what a page needs, without networks and replays, so that it can be kept here.

    softac bench benchmarks/figure/figure-100k.toml --run-dir runs/figure-100k
    python benchmarks/figure/collect.py runs/figure-100k benchmarks/figure/100k
    softac report benchmarks/figure/100k benchmarks/modern/results/figure -o benchmarks/figure/100k.html

A run that is not finished is taken as far as it is, one that failed with the reason.
"""

import shutil
import sys
from pathlib import Path

from softac.experiments.jobs import last_error
from softac.experiments.suite import SUITE

KEPT = ("config.json", "system.json", "evaluations.csv", "metrics.jsonl", "crash/step-*.txt")


def main() -> None:
    if len(sys.argv) != 3 or not (Path(sys.argv[1]) / SUITE).is_file():
        raise SystemExit(__doc__)
    source, target = map(Path, sys.argv[1:])
    paths = [source / SUITE, *(path for name in KEPT for path in source.glob(f"*/{name}"))]
    # A run that failed without a report has said why at the end of what it printed.
    paths += [path for path in source.glob("*/output.txt") if last_error(path.parent)]
    for path in paths:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)


if __name__ == "__main__":
    main()
