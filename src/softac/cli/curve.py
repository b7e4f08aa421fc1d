"""A learning curve of characters: evaluated returns over environment steps, the last one marked."""

from collections.abc import Mapping

BLOCKS, MARK = " ▁▂▃▄▅▆▇█", "◂"
ASCII_BLOCKS, ASCII_MARK = " ..::oo##", "<"
LEVELS = 8  # of one character


def columns(returns: Mapping[int, float], until: int, width: int) -> list[float]:
    """The return in each column of an axis from 0 to `until`, up to the last evaluation.

    Where a column has several evaluations it is their mean, where it has none the one before; the columns
    before the first are left to it.
    """
    values: list[float] = []
    steps = sorted(returns)
    for column in range(width):
        low, high = until * column / width, until * (column + 1) / width
        if not steps or (values and low >= steps[-1]):
            break
        here = [returns[step] for step in steps if low < step <= high]
        values.append(sum(here) / len(here) if here else values[-1] if values else returns[steps[0]])
    if values:
        values[-1] = returns[steps[-1]]  # what is marked is what was measured last
    return values


def curve(values: list[float], height: int, *, ascii_only: bool = False) -> list[str]:
    """The values as `height` lines of characters, one column each; the least is the lowest level."""
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    low, high = min(values), max(values)
    span = high - low or 1.0
    levels = [1 + round((value - low) / span * (LEVELS * height - 1)) for value in values]
    return [
        "".join(blocks[max(0, min(LEVELS, level - LEVELS * row))] for level in levels)
        for row in reversed(range(height))
    ]


def learning_curve(
    returns: Mapping[int, float], until: int, width: int, height: int, *, ascii_only: bool = False
) -> list[str]:
    """The curve with its largest and least value at its right, and the last one marked at its height.

    Args:
        returns: environment steps -> mean return of the evaluation there; not empty.
        until: environment steps at the right end.
        width: columns of the curve; the labels come after it.
        height: lines, at least 1.
        ascii_only: for terminals that know no other characters.
    """
    values = columns(returns, until, width)
    low, high, last = min(values), max(values), values[-1]
    mark = ASCII_MARK if ascii_only else MARK
    labels = [""] * height
    labels[0], labels[-1] = f"  {number(high)}", f"  {number(low)}"
    at = round((last - low) / (high - low or 1.0) * (LEVELS * height - 1)) // LEVELS
    labels[height - 1 - at] = f"{mark} {number(last)}"
    lines = curve(values, height, ascii_only=ascii_only)
    return [f"{line:<{width}} {label}".rstrip() for line, label in zip(lines, labels, strict=True)]


def number(value: float | None) -> str:
    """A metric in few digits; "-" where there is none."""
    if value is None:
        return "-"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"
