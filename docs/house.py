"""The house of softac, drawn from its imports: rooms, the floors they stand on, and who imports whom.

A room is a file or a folder at the root of the package. Its floor is the layer on which the contract of
`pyproject.toml` puts it; a room whose files stand on several floors is drawn once on each. An arrow is an import.
One is left out where a longer way of arrows leads to the same room; else every room would have one to the ground.
"""

import ast
import tomllib
from collections.abc import Iterable, Iterator
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import grimp
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.path import Path as Curve

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "softac"
NO_ROOMS = ("__init__", "__main__", "_version")  # the door, the command's door and a number
GAP = 1.0  # between the lines of one floor, in widths of a letter
SWEEPS = 200
STRAIGHT = 3.0

Arrows = set[tuple[str, str]]


def rooms() -> list[str]:
    """The files and folders at the root of the package, by name."""
    files = [file.stem for file in SOURCE.glob("*.py")]
    folders = [file.parent.name for file in SOURCE.glob("*/__init__.py")]
    return sorted({*files, *folders} - {*NO_ROOMS})


def floors() -> list[list[str]]:
    """The contract's layers from the top, each as the names of its rooms or parts of rooms."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    names = [[part.strip().removeprefix("softac.") for part in layer.split("|")] for layer in layers]
    return [[name for name in floor if name not in NO_ROOMS] for floor in names]


def imports() -> Arrows:
    """Who imports whom, between the rooms and parts of rooms that the contract names."""
    graph = grimp.build_graph("softac", cache_dir=None)
    known = [name for floor in floors() for name in floor]

    def place(module: str) -> str | None:
        inside = [name for name in known if f"{module}.".startswith(f"softac.{name}.")]
        return max(inside, key=len, default=None)

    found = {(place(a), place(b)) for a in graph.modules for b in graph.find_modules_directly_imported_by(a)}
    return {(a, b) for a, b in found if a is not None and b is not None and a != b}


def below(arrows: Arrows, name: str) -> set[str]:
    """Everything that arrows lead to from `name`."""
    seen: set[str] = set()
    queue = [name]
    while queue:
        steps = {b for a, b in arrows if a == queue[-1]} - seen
        queue.pop()
        seen |= steps
        queue += steps
    return seen


def shortest(arrows: Arrows) -> Arrows:
    """The arrows without those that a longer way replaces; it leads from and to the same rooms."""
    return {(a, b) for a, b in arrows if not any(b in below(arrows, c) for x, c in arrows if x == a and c != b)}


def lines(name: str) -> int:
    """Lines of code, docstrings and comments in a room or a part of one."""
    path = SOURCE / name.replace(".", "/")
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def sentence(name: str) -> str:
    """The first sentence of a room's docstring."""
    path = SOURCE / name.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


class Block(NamedTuple):
    """Places of one line that touch each other."""

    places: list[Any]
    offsets: list[float]  # from the first
    x: float  # of the first


class Plan:
    """Where everything in the picture lies: a line of boxes for each floor, and the arrows' ways between them.

    An arrow that passes floors has a place in each of their lines, so that it goes between boxes and not through
    them. Places are ordered, then moved, towards the mean of what they are joined to.

    Attributes:
        x: of the middle of each place, in widths of a letter.
        ways: for each arrow the places it goes through, from its room to the other.
    """

    def __init__(self, floors: list[list[str]], arrows: Arrows) -> None:
        floor = {name: i for i, names in enumerate(floors) for name in names}
        self.lines: list[list[Any]] = [list(names) for names in floors]
        self.ways: list[list[Any]] = []
        for a, b in sorted(arrows):
            passed = [(i, a, b) for i in range(floor[a] + 1, floor[b])]
            for i, place in enumerate(passed, floor[a] + 1):
                self.lines[i].append(place)
            self.ways.append([a, *passed, b])
        self.joined: dict[Any, list[Any]] = {place: [] for line in self.lines for place in line}
        for way in self.ways:
            for upper, lower in pairwise(way):
                self.joined[upper].append(lower)
                self.joined[lower].append(upper)
        self.x: dict[Any, float] = {}
        for line in self.lines:
            self._lay(line, None)
        for sweep in range(SWEEPS):
            for line in self.lines if sweep % 2 else reversed(self.lines):
                wish = {place: self._mean(place) for place in line}
                if sweep < SWEEPS // 2:
                    line.sort(key=wish.__getitem__)
                self._lay(line, wish)

    def width(self, place: Any) -> float:
        return 3.0 + max(len(place), 7) if isinstance(place, str) else 0.5

    def _mean(self, place: Any) -> float:
        """Where a place wants to be; what an arrow passes pulls hardest, so that long arrows are straight."""
        weights = {
            other: STRAIGHT ** (isinstance(place, tuple) + isinstance(other, tuple))
            for other in self.joined[place]
        }
        total = sum(weights.values())
        return sum(w * self.x[other] for other, w in weights.items()) / total if total else self.x[place]

    def _lay(self, line: list[Any], wish: dict[Any, float] | None) -> None:
        """Put the places of a line beside each other in their order, as near as may be to where they want to be.

        Places that would overlap become a block, which wants to be where they want to be on average.
        """
        blocks: list[Block] = []
        for place in line:
            block = Block([place], [0.0], 0.0 if wish is None else wish[place])
            while blocks:
                before = blocks[-1]
                start = (
                    before.offsets[-1] + (self.width(before.places[-1]) + self.width(block.places[0])) / 2 + GAP
                )
                if before.x + start <= block.x:
                    break
                blocks.pop()
                n, m = len(before.places), len(block.places)
                x = (n * before.x + m * (block.x - start)) / (n + m)
                offsets = before.offsets + [start + offset for offset in block.offsets]
                block = Block(before.places + block.places, offsets, x)
            blocks.append(block)
        for places, offsets, x in blocks:
            self.x |= {place: x + offset for place, offset in zip(places, offsets, strict=True)}


def draw_house(figure: Figure, faint: str, colours: Iterable[str]) -> None:
    """Draw the house into `figure`."""
    stand, arrows = floors(), shortest(imports())
    plan, half = Plan(stand, arrows), 0.3
    axes = figure.subplots()
    left = min(plan.x[place] - plan.width(place) / 2 for place in plan.x) - 2
    right = max(plan.x[place] + plan.width(place) / 2 for place in plan.x) + 2
    colour = dict(zip((name for names in stand for name in names), cycle(colours), strict=False))
    for i in range(len(stand)):
        if i % 2:
            axes.add_patch(Rectangle((left, -i - 0.5), right - left, 1.0, color=faint, alpha=0.35, linewidth=0))
    for way in plan.ways:
        points = [(plan.x[place], -float(y)) for place, y in _levels(way, stand)]
        points[0], points[-1] = (points[0][0], points[0][1] - half), (points[-1][0], points[-1][1] + half)
        axes.add_patch(
            FancyArrowPatch(
                path=_curve(points),
                arrowstyle="-|>",
                mutation_scale=7,
                color=colour[way[0]],
                lw=1.1,
                shrinkA=0,
                shrinkB=0,
            )
        )
    for i, names in enumerate(stand):
        for name in names:
            width = plan.width(name) - 1.0
            corner = plan.x[name] - width / 2, -i - half + 0.05
            axes.add_patch(Rectangle(corner, width, 2 * half - 0.1, color=colour[name], linewidth=0))
            axes.text(
                plan.x[name],
                -i + 0.09,
                name.replace(".", "/"),
                ha="center",
                va="center",
                color="white",
                weight="bold",
            )
            axes.text(
                plan.x[name], -i - 0.14, f"{lines(name):,} lines", ha="center", va="center", color="white", size=7
            )
    axes.set(xlim=(left, right), ylim=(-len(stand) + 0.4, 0.6))
    axes.set_axis_off()


def _levels(way: list[Any], stand: list[list[str]]) -> Iterator[tuple[Any, int]]:
    (first,) = (i for i, names in enumerate(stand) if way[0] in names)
    return ((place, first + i) for i, place in enumerate(way))


def _curve(points: list[tuple[float, float]]) -> Curve:
    """A smooth line through the points, which leaves the first and enters the last vertically."""
    inner = [(right[0] - left[0]) / (left[1] - right[1]) for left, right in zip(points, points[2:], strict=False)]
    slopes = [0.0, *inner, 0.0]  # steps to the right for a step down
    places, codes = [points[0]], [Curve.MOVETO]
    for i, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        third = (y0 - y1) / 3
        if len(points) == 2:
            third *= 1.5
        places += [(x0 + third * slopes[i], y0 - third), (x1 - third * slopes[i + 1], y1 + third), (x1, y1)]
        codes += [Curve.CURVE4] * 3
    return Curve(places, codes)


if __name__ == "__main__":
    for a, b in sorted(shortest(imports())):
        print(f"{a} -> {b}")
