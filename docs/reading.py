"""What one must read to know all that one update does, counted from the source.

    python docs/reading.py agents/sac.py learning/learner.py

The files that are named are read whole. Of every other file what they use is read, what that uses, and so on: a
function or a class counts with all its lines, docstring and decorators included.
"""

import ast
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[1] / "src" / "softac"
SAC_STEP = ("agents/sac.py", "learning/learner.py")


class Part(NamedTuple):
    """What is read of one file."""

    file: str
    lines: int
    names: tuple[str, ...]  # of what is read in it; empty if it is the whole file


def reading(*whole: str) -> list[Part]:
    """What is read of each file to know all that the files `whole` do, those first."""
    parts = [Part(file, len((SOURCE / file).read_text(encoding="utf-8").splitlines()), ()) for file in whole]
    queue = [use for file in whole for use in uses(file, tree(file))]
    read: dict[str, set[str]] = {}
    while queue:
        file, name = queue.pop()
        if file not in whole and name not in read.setdefault(file, set()):
            read[file].add(name)
            queue += uses(file, definitions(file)[name])
    for file, names in sorted(read.items()):
        nodes = {definitions(file)[name] for name in names}  # one statement may define several
        parts.append(Part(file, sum(length(node) for node in nodes), tuple(sorted(names))))
    return parts


def uses(file: str, node: ast.AST) -> set[tuple[str, str]]:
    """The definitions of softac, as (file, name), that the code in `node` names."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.add(resolve(file, part.id))
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            module = modules(file).get(part.value.id)
            found.add(resolve(module, part.attr) if module else None)
    return {place for place in found if place is not None}


def resolve(file: str, name: str) -> tuple[str, str] | None:
    """Where softac defines what `file` calls `name`, through whatever it is handed on by."""
    if name in definitions(file):
        return file, name
    if name in imports(file):
        return resolve(*imports(file)[name])
    return None


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((SOURCE / file).read_text(encoding="utf-8"))


@cache
def definitions(file: str) -> dict[str, ast.stmt]:
    """Functions, classes and constants at the top of a file, by name."""
    found: dict[str, ast.stmt] = {}
    for node in tree(file).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found[name] = node
            case ast.Assign(targets=targets):
                found |= {
                    part.id: node for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)
                }
            case ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = node
    return found


@cache
def imports(file: str) -> dict[str, tuple[str, str]]:
    """What a file takes from other files of softac: its name there -> (file, name)."""
    return {
        alias.asname or alias.name: (path(node.module), alias.name)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ImportFrom) and node.module and path(node.module)
        for alias in node.names
        if not path(f"{node.module}.{alias.name}")
    }


@cache
def modules(file: str) -> dict[str, str]:
    """The modules of softac that a file imports as such: its name there -> file."""
    return {
        alias.asname or alias.name: path(f"{node.module}.{alias.name}")
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if path(f"{node.module}.{alias.name}")
    }


def path(module: str) -> str:
    """The file of a module of softac, below `SOURCE`; "" if it is none."""
    package, *names = module.split(".")
    if package != "softac":
        return ""
    for candidate in (Path(*names).with_suffix(".py") if names else Path(), Path(*names, "__init__.py")):
        if (SOURCE / candidate).is_file():
            return candidate.as_posix()
    return ""


def length(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    assert node.end_lineno is not None
    return node.end_lineno - min([node.lineno, *(d.lineno for d in decorators)]) + 1


if __name__ == "__main__":
    parts = reading(*(sys.argv[1:] or SAC_STEP))
    for part in parts:
        print(f"{part.lines:5}  {part.file:28}  {', '.join(part.names) or 'whole'}")
    print(f"{sum(part.lines for part in parts):5}")
