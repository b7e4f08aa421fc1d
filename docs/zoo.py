"""The table of environments of other people, from the results of `benchmarks/zoo`."""

import csv
from itertools import groupby
from pathlib import Path

LONGEST = 240


def table(path: Path) -> str:
    """A Markdown table: a row for each environment, with what its algorithms have in common said once."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = ["| package | environment | result |", "|---|---|---|"]
    package = ""
    for (name, environment), group in groupby(rows, lambda row: (row["package"], row["environment"])):
        first = f"{name}" if name != package else ""
        package = name
        lines.append(f"| {first} | `{environment}` | {'; '.join(outcomes(list(group)))} |")
    return "\n".join(lines)


def outcomes(rows: list[dict[str, str]]) -> list[str]:
    """In words, what became of an environment; algorithms of one fate together."""
    fates: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        fates.setdefault((row["result"], as_code(row["reason"])), []).append(row["algorithm"])
    if len(fates) == 1 and rows[0]["result"] != "works":
        return [f"{result}: {reason}" for result, reason in fates]
    return [
        f"**works**: {', '.join(names)}" if result == "works" else f"{result} ({', '.join(names)}): {reason}"
        for (result, reason), names in fates.items()
    ]


def as_code(text: str) -> str:
    """`text` as it was printed, in one piece, cut at its end if it is long."""
    short = text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} ..."
    return f"`{short.replace('`', chr(39)).replace('|', '/')}`" if short else ""


def tally(path: Path) -> dict[str, int]:
    """How many environments came to each end; one that works with any algorithm works."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts: dict[str, int] = {}
    for _, group in groupby(rows, lambda row: (row["package"], row["environment"])):
        results = [row["result"] for row in group]
        best = "works" if "works" in results else results[0]
        counts[best] = counts.get(best, 0) + 1
    return counts
