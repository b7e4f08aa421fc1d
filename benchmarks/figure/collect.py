"""Take from the folder of a suite what a page needs, without networks and replays, so that it can be kept here.

    softac bench benchmarks/figure/figure-100k.toml --run-dir runs/figure-100k
    python benchmarks/figure/collect.py runs/figure-100k benchmarks/figure/100k
    softac report benchmarks/figure/100k -o benchmarks/figure/100k.html

A run that is not finished is taken as far as it is.
"""

import shutil
import sys
from pathlib import Path

KEPT = ("suite.json", "config.json", "system.json", "evaluations.csv", "metrics.jsonl")


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    source, target = map(Path, sys.argv[1:])
    for name in KEPT:
        for path in [*source.glob(name), *sorted(source.glob(f"*/{name}"))]:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


if __name__ == "__main__":
    main()
