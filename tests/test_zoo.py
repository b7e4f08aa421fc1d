"""The page on environments of other people says what the results in benchmarks/zoo say."""

import csv
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "benchmarks" / "zoo"
RESULTS = ZOO / "results" / "zoo.csv"

sys.path.append(str(ROOT / "docs"))
import zoo  # noqa: E402

with RESULTS.open(newline="", encoding="utf-8") as file:
    ROWS = list(csv.DictReader(file))


def test_the_results_are_of_the_packages_that_are_tried():
    packages = {
        p["name"]: p for p in tomllib.loads((ZOO / "packages.toml").read_text(encoding="utf-8"))["package"]
    }
    for row in ROWS:
        ids = [entry["id"] for entry in packages[row["package"]]["environments"]]
        assert any(row["environment"].startswith(name) for name in ids), row["environment"]


def test_nothing_that_was_made_fails():
    assert {row["result"] for row in ROWS} <= {"works", "refused", "not made", "not installed"}
    for row in ROWS:
        assert (row["reason"] == "") == (row["result"] == "works"), row["environment"]
        if row["result"] == "refused":  # in three parts: given, expected, remedy
            assert row["reason"].count("; ") >= 2, row["reason"]


def test_the_table_has_every_environment_once(tmp_path):
    lines = zoo.table(RESULTS).splitlines()[2:]
    assert (
        len(lines)
        == len({(row["package"], row["environment"]) for row in ROWS})
        == sum(zoo.tally(RESULTS).values())
    )
    assert all(line.count("|") == 4 for line in lines)


def test_algorithms_of_one_fate_stand_together(tmp_path):
    path = tmp_path / "zoo.csv"
    path.write_text(
        "package,environment,algorithm,result,reason\n"
        "a,A-v0,sac,works,\na,A-v0,ppo,works,\n"
        "a,B-v0,dqn,works,\na,B-v0,ppo,refused,x | y; expected z; do\n"
        "b,C-v0,,not installed,why\n"
    )
    assert zoo.table(path).splitlines()[2:] == [
        "| a | `A-v0` | **works**: sac, ppo |",
        "|  | `B-v0` | **works**: dqn; refused (ppo): `x / y; expected z; do` |",
        "| b | `C-v0` | not installed: `why` |",
    ]
    assert zoo.tally(path) == {"works": 2, "not installed": 1}
