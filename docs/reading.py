"""What one must read to know all that one update does, counted from the source.

    python docs/reading.py agents/sac.py learning/learner.py

The files that are named are read whole. Of every other file what they use is read, what that uses, and so on, so
far as it runs when an agent is made and updated on vectors: not what is there for images or for export. A function
counts with all its lines, docstring and decorators included, a class with those of its methods that run.
"""

import ast
import sys
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

SOURCE = Path(__file__).parents[1] / "src" / "softac"
SAC_STEP = ("agents/sac.py", "learning/learner.py")


Ran = frozenset[tuple[str, int]]  # functions, by file and first line


class Part(NamedTuple):
    """What is read of one file."""

    file: str
    lines: int
    names: tuple[str, ...]  # of what is read in it; empty if it is the whole file


def ran() -> Ran:
    """The functions of softac that are called when SAC is made and learns from one batch of vectors."""
    import torch

    from softac.agents.sac import SACAgent, SACConfig
    from softac.types import EnvSpec, Transition

    found = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(f"{SOURCE}/"):
            found.add((str(Path(frame.f_code.co_filename).relative_to(SOURCE)), frame.f_code.co_firstlineno))

    draw, before = torch.Generator().manual_seed(0), sys.getprofile()
    sys.setprofile(note)
    try:
        spec = EnvSpec(3, 1)
        agent = SACAgent(spec, SACConfig(), generator=draw, device=torch.device("cpu"))
        obs, one = torch.zeros(4, spec.obs_dim), torch.zeros(4)
        agent.update_(Transition(obs, one[:, None], one, one, obs), agent.update_noise(4, draw))
    finally:
        sys.setprofile(before)
    return frozenset(found)


def reading(*whole: str, run: Ran | None = None) -> list[Part]:
    """What is read of each file to know all that the files `whole` do, those first.

    With `run`, only what ran of the others.
    """
    parts = [Part(file, len((SOURCE / file).read_text(encoding="utf-8").splitlines()), ()) for file in whole]
    queue = [use for file in whole for use in uses(file, tree(file))]
    read: dict[str, set[str]] = {}
    while queue:
        file, name = queue.pop()
        node = definitions(file).get(name)
        if file not in whole and node is not None and name not in read.get(file, ()) and not idle(file, node, run):
            read.setdefault(file, set()).add(name)
            queue += uses(file, node, run)
    for file, names in sorted(read.items()):
        nodes = {definitions(file)[name] for name in names}  # one statement may define several
        parts.append(Part(file, sum(length(file, node, run) for node in nodes), tuple(sorted(names))))
    return parts


def methods(node: ast.AST) -> list[ast.stmt]:
    """The methods of a class; of anything else none."""
    return (
        [part for part in node.body if isinstance(part, ast.FunctionDef)] if isinstance(node, ast.ClassDef) else []
    )


def idle(file: str, node: ast.stmt, run: Ran | None) -> bool:
    """Whether this is a function that did not run, or a class of which no method did."""
    functions = [node] if isinstance(node, ast.FunctionDef) else methods(node)
    return run is not None and bool(functions) and not any((file, first(f)) in run for f in functions)


def uses(file: str, node: ast.AST, run: Ran | None = None) -> set[tuple[str, str]]:
    """The definitions of softac, as (file, name), that the code in `node` names, so far as it ran."""
    found = set()
    skipped = {id(part) for m in methods(node) if idle(file, m, run) for part in ast.walk(m)}
    for part in ast.walk(node):
        if id(part) in skipped:
            continue
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


def first(node: ast.stmt) -> int:
    """The first line of a definition, its decorators included."""
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])


def length(file: str, node: ast.stmt, run: Ran | None = None) -> int:
    """Lines of a definition, without the methods that did not run."""
    assert node.end_lineno is not None
    return node.end_lineno - first(node) + 1 - sum(length(file, m) for m in methods(node) if idle(file, m, run))


if __name__ == "__main__":
    parts = reading(*(sys.argv[1:] or SAC_STEP), run=None if sys.argv[1:] else ran())
    for part in parts:
        print(f"{part.lines:5}  {part.file:28}  {', '.join(part.names) or 'whole'}")
    print(f"{sum(part.lines for part in parts):5}")
