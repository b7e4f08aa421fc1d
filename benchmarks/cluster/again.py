"""How many steps the runs of `events.py` made twice, by what the command printed: results/events-lines.txt.

    python benchmarks/cluster/again.py SAVE_FREQ

A run prints each thousandth step. Where a step is not larger than the one printed before, the run has gone on from
a checkpoint, at the last multiple of SAVE_FREQ before that step; what it had made beyond is made again: `at_least`
up to the step printed last, `at_most` up to the next one. Results: results/events-again.csv.
"""

import csv
import re
import sys
from collections.abc import Iterable
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PRINTED = 1_000  # steps between two lines of a run


def made_again(lines: Iterable[str], save_freq: int) -> list[dict[str, object]]:
    """One row for each time that a run has gone on from an earlier step."""
    found: list[dict[str, object]] = []
    before: dict[str, int] = {}
    for line in lines:
        if not (said := re.match(r"(.*) \| step +([\d,]+) / .* \| return", line)):
            continue
        run, step = said[1], int(said[2].replace(",", ""))
        last = before.get(run, 0)
        before[run] = step
        if step <= last:
            start = (step - 1) // save_freq * save_freq
            row = {"run": run, "last_printed": last, "went_on_from": start}
            found.append(row | {"at_least": last - start, "at_most": last + PRINTED - 1 - start})
    return found


if __name__ == "__main__":
    rows = made_again((RESULTS / "events-lines.txt").read_text().splitlines(), int(sys.argv[1]))
    with (RESULTS / "events-again.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(*rows, sep="\n")
