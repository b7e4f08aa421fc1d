"""Every algorithm, every pair of spaces it takes, every format: 10,000 observations against `predict`."""

import csv
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
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


def main() -> None:
    spaces = policies.CONTINUOUS | policies.DISCRETE
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    with (results / "agreement.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["algorithm", "observation", "action", "format", "observations", "largest", "undecided"])
        for algorithm, observation, action in rows():
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
                row = [found.observations, f"{found.largest:.3g}", found.undecided]
                table.writerow([algorithm, observation, action, to, *row])
                file.flush()
                print(algorithm, observation, action, to, *row, flush=True)


if __name__ == "__main__":
    main()
