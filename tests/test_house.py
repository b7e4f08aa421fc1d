"""The house itself: few doors at its root, files with one purpose, functions that fit on a screen."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import softac
from softac.cli.main import COMMANDS

ROOT = Path(softac.__file__).parent
ROOMS = 22  # at the root, files and folders, apart from these:
NO_ROOMS = {"__init__.py", "__main__.py", "_version.py", "py.typed", "__pycache__"}
LONGEST_FILE, LONGEST_FUNCTION = 450, 45  # lines, the docstring among them


def sources() -> dict[str, str]:
    found = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.rglob("*.py")}
    assert len(found) > 100
    return found


def functions(text: str) -> list[tuple[str, int]]:
    """Each function and how many lines it takes."""
    nodes = ast.walk(ast.parse(text))
    return [(n.name, n.end_lineno - n.lineno + 1) for n in nodes if isinstance(n, ast.FunctionDef)]


def test_rooms_at_the_root():
    rooms = sorted({path.name for path in ROOT.iterdir()} - NO_ROOMS)
    assert len(rooms) <= ROOMS, rooms


def test_no_file_is_too_long():
    long = {name: n for name, text in sources().items() if (n := len(text.splitlines())) > LONGEST_FILE}
    assert not long, long


def test_no_function_is_too_long():
    long = {
        f"{name}: {function}": n
        for name, text in sources().items()
        for function, n in functions(text)
        if n > LONGEST_FUNCTION
    }
    assert not long, long


@pytest.mark.parametrize("verb", COMMANDS)
def test_each_verb_has_its_module(verb):
    module = import_module(f"softac.cli.{verb}")
    assert callable(module.add_parser)
    assert callable(module.run)


def test_a_function_is_measured_with_its_docstring():
    assert functions('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n') == [("f", 6)]
