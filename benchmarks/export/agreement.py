"""Every algorithm, every pair of spaces it takes, every format: 10,000 observations against `predict`.

    python benchmarks/export/agreement.py [--stride 1] [--start 0]

Goes on with the rows that results/agreement.csv lacks; a stride of 7, say, takes every seventh model.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
RESULT = HERE / "results" / "agreement.csv"
sys.path.insert(0, str(HERE.parents[1] / "tests"))

import policies  # noqa: E402
from softac.agents.registry import AGENTS  # noqa: E402
from softac.ship.description import describe  # noqa: E402
from softac.ship.export import FORMATS, compare, printed, trial  # noqa: E402
from softac.ship.runtimes import open_policy  # noqa: E402


def rows() -> list[tuple[str, str, str]]:
    """Algorithm, observation space, action space."""
    found = []
    for algorithm, agent in AGENTS.items():
        actions = policies.CONTINUOUS if "continuous" in agent.actions else {}
        actions = actions | (policies.DISCRETE if "discrete" in agent.actions else {})
        found += [(algorithm, obs, action) for obs in policies.OBSERVATIONS for action in actions]
    return found


def agree(algorithm: str, observation: str, action: str) -> Iterator[tuple[str, ...]]:
    """The rows of one model, one for each format."""
    spaces = policies.CONTINUOUS | policies.DISCRETE
    model = policies.untrained(algorithm, policies.OBSERVATIONS[observation], spaces[action])
    policy = describe(model)
    wanted = trial(model, policy)
    for to in FORMATS:
        with tempfile.TemporaryDirectory() as name:
            contents = printed(policy, to)
            for file_name, data in contents.items():
                (Path(name) / file_name).write_bytes(data)
            batch = open_policy(Path(name) / next(iter(contents)), trust=True).batch
            found = compare(model, policy, batch, wanted)
        yield (
            algorithm,
            observation,
            action,
            to,
            str(found.observations),
            f"{found.largest:.3g}",
            str(found.undecided),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stride", type=int, default=1, help="take every so many-th model")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    args = parser.parse_args()
    RESULT.parent.mkdir(exist_ok=True)
    known = list(csv.reader(RESULT.open())) if RESULT.exists() else []
    done = {tuple(row[:3]) for row in known if row[3] == FORMATS[-1]}
    with RESULT.open("a", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if not known:
            table.writerow(
                ["algorithm", "observation", "action", "format", "observations", "largest", "undecided"]
            )
        for names in rows()[args.start :: args.stride]:
            if names not in done:
                table.writerows(agree(*names))
                file.flush()
                print(*names, flush=True)


if __name__ == "__main__":
    main()
