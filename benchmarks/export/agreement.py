"""Every algorithm, every pair of spaces it takes, every format: 10,000 observations against `predict`.

    python benchmarks/export/agreement.py [--stride 1] [--start 0]

Goes on with the rows that results/agreement.csv lacks; a stride of 7, say, takes every seventh model.
`predict` is asked for the first 100 observations one at a time, and for the others in batches of 500; a format
that does not agree so is compared with 10,000 answers that were given one at a time, which round otherwise.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RESULT = HERE / "results" / "agreement.csv"
SINGLE, BATCH = 100, 500
LARGE = ("planes first", "frames of colours", "Dict with images")
sys.path.insert(0, str(HERE.parents[1] / "tests"))

import policies  # noqa: E402
from softac import Model  # noqa: E402
from softac.agents.registry import AGENTS  # noqa: E402
from softac.envs.borders import draw, part_of  # noqa: E402
from softac.envs.flat import item  # noqa: E402
from softac.envs.masks import allowing_some  # noqa: E402
from softac.errors import NumericalError  # noqa: E402
from softac.ship.description import Policy, Vectors, describe  # noqa: E402
from softac.ship.export import BATCHES, FORMATS, MOST_BYTES, OBSERVATIONS, compare, printed, trial  # noqa: E402
from softac.ship.runtimes import open_policy  # noqa: E402


def rows() -> list[tuple[str, str, str]]:
    """Algorithm, observation space, action space; those with large images, which take longest, at the end."""
    found = []
    for algorithm, agent in AGENTS.items():
        actions = policies.CONTINUOUS if "continuous" in agent.actions else {}
        actions = actions | (policies.DISCRETE if "discrete" in agent.actions else {})
        found += [(algorithm, obs, action) for obs in policies.OBSERVATIONS for action in actions]
    return sorted(found, key=lambda names: names[1] in LARGE)


def wanted(model: Model, policy: Policy) -> Vectors:
    """What `softac.ship.export.trial` gives, most of it in batches."""
    each = sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in policy.leaves)
    n, space = min(OBSERVATIONS, max(sum(BATCHES), MOST_BYTES // max(1, each))), model.spaces.observation_space
    obs = allowing_some(model.spaces.spec, draw(space, n, np.random.default_rng(1)))
    actions = [model.predict(item(space, obs, i), deterministic=True)[0][None] for i in range(SINGLE)]
    for first in range(SINGLE, n, BATCH):
        some = item(space, obs, slice(first, first + BATCH))
        actions.append(model.predict(some, deterministic=True)[0])
    return Vectors([np.asarray(part_of(obs, leaf.path)) for leaf in policy.leaves], np.concatenate(actions))


def agree(algorithm: str, observation: str, action: str) -> Iterator[tuple[str, ...]]:
    """The rows of one model, one for each format."""
    spaces = policies.CONTINUOUS | policies.DISCRETE
    model = policies.untrained(algorithm, policies.OBSERVATIONS[observation], spaces[action])
    policy = describe(model)
    acted = wanted(model, policy)
    for to in FORMATS:
        with tempfile.TemporaryDirectory() as name:
            contents = printed(policy, to)
            for file_name, data in contents.items():
                (Path(name) / file_name).write_bytes(data)
            batch = open_policy(Path(name) / next(iter(contents)), trust=True).batch
            try:
                found = compare(model, policy, batch, acted)
            except NumericalError:
                found = compare(model, policy, batch, trial(model, policy))
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
