"""Seeds as people write them: 0-9, or 0,3,7."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from softac.errors import ConfigError

MOST_SEEDS = 1_000
LARGEST_SEED = 2**32 - 1


def read_seeds(text: str) -> tuple[int, ...]:
    """Several seeds in ascending order: "0-9", "0,3,7" or "0-2,5".

    Raises:
        ConfigError: something else.
    """
    ranges: list[range] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,20})(?:-(\d{1,20}))?\s*", part, re.ASCII)
        if match is None:
            raise _no_seeds(text, f"{part.strip()!r} is none of these" if part.strip() else "one of them is empty")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise _no_seeds(text, f"{part.strip()} runs backwards")
        if last > LARGEST_SEED:
            raise _no_seeds(text, f"{last} is too large")
        ranges.append(range(first, last + 1))
    if (n := sum(map(len, ranges))) > MOST_SEEDS:
        raise _no_seeds(text, f"{n:,} seeds")
    seed, times = Counter(seed for r in ranges for seed in r).most_common(1)[0]
    if times > 1:
        raise _no_seeds(text, f"{seed} is there {times} times")
    return tuple(sorted(seed for r in ranges for seed in r))


def _no_seeds(text: str, reason: str) -> ConfigError:
    return ConfigError(
        f"the seeds {text!r} were given, where {reason}",
        f"expected numbers and ascending ranges of them, from 0 to {LARGEST_SEED}, none twice, at most "
        f"{MOST_SEEDS:,} in all",
        "write 0-9 or 0,3,7, say",
    )


def in_ranges(numbers: Sequence[int]) -> str:
    """The inverse of `read_seeds`: 0-2,5."""
    texts = []
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        texts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(texts)


def are_seeds(values: Sequence[Any]) -> bool:
    """Whether these are numbers that `read_seeds` could have returned."""
    return (
        0 < len(values) <= MOST_SEEDS
        and all(type(value) is int and 0 <= value <= LARGEST_SEED for value in values)
        and list(values) == sorted(set(values))
    )
