"""The pages that show code show the right code: the algorithms' updates, the house, the way of a transition."""

import ast
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "softac"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ALGORITHMS = sorted(
    page for page in ROOT.glob("docs/algorithms/*.md") if page.stem != "index" and not page.stem.startswith("_")
)
MOST_ROOMS, LONGEST_READING = 22, 1_000

sys.path.append(str(ROOT / "docs"))
import house  # noqa: E402
import reading  # noqa: E402


def definition(tree: ast.Module, dotted: str) -> ast.AST | None:
    """The function, class or method of that name."""
    node: ast.AST = tree
    for name in dotted.split("."):
        found = [part for part in getattr(node, "body", []) if getattr(part, "name", None) == name]
        if not found:
            return None
        node = found[0]
    return node


def names_in(node: ast.AST) -> set[str]:
    """Every name the code uses, and that of what it defines."""
    parts = list(ast.walk(node))
    used = {part.id for part in parts if isinstance(part, ast.Name)}
    return used | {part.name for part in parts if isinstance(part, ast.FunctionDef | ast.ClassDef)}


def included(page: Path, text: str) -> set[str]:
    """The names in the code that a page includes."""
    names = set()
    for file, pyobject in re.findall(r"```\{literalinclude\} (\S+)\n:pyobject: (\S+)", text):
        node = definition(ast.parse((page.parent / file).read_text(encoding="utf-8")), pyobject)
        assert node is not None, f"{page.name} includes {pyobject}, which {file} does not have"
        names |= names_in(node)
    return names


def missing(page: Path, text: str) -> list[str]:
    """The functions in the table of equations that the included code neither is nor calls."""
    _, _, table = text.partition("| equation | function |\n")
    rows = table.partition("\n\n")[0]
    functions = re.findall(r"\{py:(?:func|meth)\}`softac\.[\w.]*?(\w+)`", rows)
    assert functions, f"{page.name} has no table of equations and functions"
    return [function for function in functions if function not in included(page, text)]


@pytest.mark.parametrize("page", ALGORITHMS, ids=lambda page: page.stem)
def test_the_update_on_the_page_contains_every_function_of_its_table(page):
    text = page.read_text(encoding="utf-8")
    assert not missing(page, text)
    table = text.partition("| equation | function |\n")[2].partition("\n\n")[0]
    agent = (SOURCE / "agents" / f"{page.stem}.py").read_text(encoding="utf-8")
    behind = agent + "".join(file.read_text(encoding="utf-8") for file in SOURCE.glob("nets/*.py"))
    for name in re.findall(r"\{py:class\}`softac\.[\w.]*?(\w+)`", table):
        assert re.search(rf"\b{name}\b", behind), f"neither the agent nor a network uses {name}"


def test_a_page_that_shows_only_the_counter_is_found_out():
    page = ROOT / "docs" / "algorithms" / "sac.md"
    text = page.read_text(encoding="utf-8").replace("SACAgent.gradient_step_", "SACAgent.update_")
    assert missing(page, text) == ["soft_q_target", "soft_reward", "q_loss", "policy_loss", "polyak_"]


def test_every_room_stands_on_a_floor_and_the_root_is_no_crowd():
    standing = {name.partition(".")[0] for floor in house.floors() for name in floor}
    assert standing == set(house.rooms())
    assert len(house.rooms()) <= MOST_ROOMS


def test_all_arrows_lead_down():
    level = {name: i for i, floor in enumerate(house.floors()) for name in floor}
    arrows = house.imports()
    assert ("agents", "nets") in arrows  # they were found at all
    assert ("cli", "errors") in arrows
    assert [(a, b) for a, b in arrows if level[a] >= level[b]] == []


def test_what_is_left_out_of_the_picture_can_be_reached_in_it():
    whole, drawn = house.imports(), house.shortest(house.imports())
    assert len(drawn) < len(whole)
    for name in {a for a, _ in whole}:
        assert house.below(drawn, name) == house.below(whole, name)
    assert house.shortest({("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}) == {("a", "b"), ("b", "c"), ("a", "d")}


def test_boxes_of_the_picture_do_not_overlap():
    plan = house.Plan(house.floors(), house.shortest(house.imports()))
    for line in plan.lines:
        for left, right in pairwise(line):
            assert plan.x[right] - plan.x[left] >= (plan.width(left) + plan.width(right)) / 2
    assert {place for way in plan.ways for place in way} <= set(plan.x)


def test_one_update_of_sac_can_be_read_in_one_sitting():
    parts = {part.file: part for part in reading.reading(*reading.SAC_STEP, run=reading.ran())}
    assert sum(part.lines for part in parts.values()) <= LONGEST_READING
    whole = SOURCE / "agents" / "sac.py"
    assert parts["agents/sac.py"].lines == len(whole.read_text(encoding="utf-8").splitlines())
    assert {"soft_q_target", "q_loss", "policy_loss", "temperature_loss"} <= {*parts["equations/losses.py"].names}
    assert "SquashedGaussian" in parts["equations/distributions.py"].names
    assert {"EnsembleCritic"} <= {*parts["nets/critics.py"].names}  # handed on by softac.nets
    assert "mlp" in parts["nets/layers.py"].names  # used by what is used
    assert "td_target" in parts["equations/losses.py"].names
    assert "huber_loss" not in parts["equations/losses.py"].names


def test_reading_counts_every_line_of_a_definition_once(tmp_path, monkeypatch):
    (tmp_path / "whole.py").write_text("from softac.other import f\nfrom softac import kinds\n\nf(kinds.B)\n")
    (tmp_path / "other.py").write_text(
        'A, C = 1, 2\n\n@cache\ndef f():\n    """A."""\n    return A + C\n\nUNUSED = 3\n'
    )
    (tmp_path / "kinds.py").write_text("B = 1\nD = 2\n")
    monkeypatch.setattr(reading, "SOURCE", tmp_path)
    for function in (reading.tree, reading.definitions, reading.imports, reading.modules):
        function.cache_clear()
    try:
        assert reading.reading("whole.py") == [
            ("whole.py", 4, ()),
            ("kinds.py", 1, ("B",)),
            ("other.py", 5, ("A", "C", "f")),
        ]
    finally:
        for function in (reading.tree, reading.definitions, reading.imports, reading.modules):
            function.cache_clear()


def test_the_way_of_a_transition_names_what_there_is():
    rows = re.findall(r"^\|[^|\n]+\| `([\w/]+\.py)` \| `([\w.]+)` \|$", ARCHITECTURE, re.M)
    assert len(rows) >= 12
    for file, function in rows:
        tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
        assert definition(tree, function) is not None, f"{file} has no {function}"


def test_the_places_for_what_people_add_exist():
    _, _, table = ARCHITECTURE.partition("## Where do I put ...?")
    rows = re.findall(r"^\| .* \|$", table, re.M)[1:]
    assert len(rows) == 10
    for name in re.findall(r"`([\w/]+(?:/|\.py|\.toml))`", table):
        assert (SOURCE / name).exists() or (ROOT / name).exists(), f"there is no {name}"
