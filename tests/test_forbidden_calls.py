"""No source file of softac uses what can run code that comes from a file."""

import ast
from pathlib import Path

import pytest

import softac

SOURCES = sorted(Path(softac.__file__).parent.rglob("*.py"))

MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml", "runpy"}
NAMES = {"eval", "exec", "compile", "__import__"}
CALLS = {("torch", "load"), ("os", "system"), ("os", "popen"), ("torch", "jit"), ("np", "load"), ("numpy", "load")}
KEYWORDS = {"allow_pickle", "shell", "weights_only"}


def offences(source: str) -> list[str]:
    """What in `source` is forbidden, one line number and word each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                words = {alias.name.split(".")[0] for alias in names} & MODULES
            case ast.ImportFrom(module=module, names=names):
                words = {(module or "").split(".")[0]} & MODULES
                words |= {alias.name for alias in names if (module, alias.name) in CALLS}
            case ast.Name(id=name) if name in NAMES:
                words = {name}
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if (name, attr) in CALLS:
                words = {f"{name}.{attr}"}
            case ast.Attribute(attr=attr) if attr in {"load_module", "exec_module", "read_array"}:
                words = {attr}
            case ast.keyword(arg=arg, value=value) if arg in KEYWORDS:
                words = set() if isinstance(value, ast.Constant) and value.value is False else {f"{arg}="}
            case ast.Constant(value="allow_pickle" | "__reduce__"):
                words = {"text"}
            case _:
                words = set()
        found += [f"{getattr(node, 'lineno', 0)}: {word}" for word in sorted(words)]
    return found


def test_all_sources_are_looked_at() -> None:
    assert len(SOURCES) > 30
    assert {"model.py", "files.py", "checkpoint.py", "main.py"} <= {path.name for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(SOURCES[0].parent).as_posix())
def test_nothing_forbidden(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import cloudpickle.pickle",
        "def f():\n    import marshal",
        "import yaml",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "from torch import load",
        "eval('1')",
        "x = [exec]",
        "builtin = compile",
        "__import__('os')",
        "np.load(path)",
        "numpy.load(path)",
        "read(file, allow_pickle=True)",
        "read(file, allow_pickle=maybe)",
        "run('ls', shell=True)",
        "os.system('ls')",
        "np.lib.format.read_array(file)",
        "loader.exec_module(module)",
        "read(**{'allow_pickle': True})",
    ],
)
def test_the_check_sees(bad: str) -> None:
    assert len(offences(bad)) >= 1


@pytest.mark.parametrize("good", ["write_array(f, x, allow_pickle=False)", "model.eval()", "load(x)"])
def test_the_check_lets_pass(good: str) -> None:
    assert offences(good) == []
