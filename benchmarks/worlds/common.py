"""What the measurements share: a table that grows row by row and goes on where it was left, and the machine."""

import csv
import json
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
sys.path.append(str(HERE.parents[1] / "tests"))  # hashing.py: readers that share no code with softac


class Table:
    """A CSV file in results/; rows that it has already are not measured again.

    Args:
        name: of the file.
        keys: the columns that tell rows apart.
    """

    def __init__(self, name: str, keys: Iterable[str]) -> None:
        self.path, self.keys = RESULTS / f"{name}.csv", tuple(keys)
        RESULTS.mkdir(exist_ok=True)
        self.rows = list(csv.DictReader(self.path.open())) if self.path.exists() else []

    def has(self, **key: Any) -> bool:
        """Whether the row is there."""
        wanted = {k: str(v) for k, v in key.items()}
        return any({k: row[k] for k in self.keys} == wanted for row in self.rows)

    def add(self, **row: Any) -> None:
        """Append a row and print it."""
        self.rows.append({k: str(v) for k, v in row.items()})
        names = list(dict.fromkeys(k for r in self.rows for k in r))
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
        system = {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        from softac.run.folder import system as described

        self.path.with_name(f"{self.path.stem}-system.json").write_text(
            json.dumps({**described(), **system}, indent=1) + "\n"
        )
