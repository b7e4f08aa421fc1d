"""Every python block of the documentation runs, every test and file it names exists, every link leads somewhere.

A page is one program: its ```python blocks run in order, in one namespace, in an empty folder. Console sessions
(```console) are not run. A single block is left out by a comment right before it that says why:

    <!-- not run: trains for an hour -->

A comment `# > text` behind a print is what that print must show.
"""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from softac.files import seal_is_whole

ROOT = Path(__file__).parents[1]
PAGES = sorted(page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if "_build" not in page.parts)
FENCE = re.compile(r"^(?P<fence>`{3,}|:{3,}) *(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=fence) *$", re.M | re.S)
PYTHON = ("python", "{code-block} python", "py", "python3")
NOT_RUN = re.compile(r"<!-- not run: *\S[^\n]*-->\s*\Z")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def python_blocks(text: str) -> list[tuple[int, str]]:
    """Line number and code of each block that must run."""
    return [
        (text.count("\n", 0, match.start("body")), match["body"])
        for match in FENCE.finditer(text)
        if match["info"].strip() in PYTHON and not NOT_RUN.search(text[: match.start()])
    ]


def prose(text: str) -> str:
    return FENCE.sub("", text)


def functions_of_the_suite() -> dict[str, set[str]]:
    """Names of the test functions in each file, as pytest would address them."""
    return {
        name(file): {
            node.name
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
        }
        for file in ROOT.glob("tests/**/*.py")
    }


def checking_print(text: str):
    """A print that compares what it is given with the comment `# > ...` on the line of the page it stands on."""
    lines = text.splitlines()

    def check(*values: object, sep: str = " ", **_: object) -> None:
        comment = re.search(r"# ?> (.*)", lines[sys._getframe(1).f_lineno - 1])
        shown = sep.join(map(str, values))
        assert not comment or shown == comment[1].strip(), f"the page says {comment[1].strip()!r}, not {shown!r}"

    return check


TESTS = functions_of_the_suite()


@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p.read_text(encoding="utf-8"))], ids=name)
def test_code_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "__main__", "print": checking_print(text)}
    for line, code in python_blocks(text):
        # Blank lines in front make tracebacks point into the page.
        exec(compile("\n" * line + code, str(page), "exec"), namespace)  # noqa: S102


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tests_named_in_the_page_exist(page):
    text = page.read_text(encoding="utf-8")
    everywhere = set.union(*TESTS.values())
    for file, function in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", text):
        assert file in TESTS, f"{file} is named, but there is no such file"
        assert not function or function in TESTS[file], f"{file} has no test {function}"
    for function in re.findall(r"`(test_\w+)`", prose(text)):
        assert function in everywhere, f"no test is called {function}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_resolve(page):
    text = re.sub(r"`[^`\n]*`", "", prose(page.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(<?([^)\s>]+)", text):
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path):
            assert (page.parent / path).exists(), f"{target} leads nowhere"


@pytest.mark.parametrize("page", sorted(ROOT.glob("benchmarks/*/*.html")), ids=lambda page: page.name)
def test_pages_on_runs_link_to_files_that_are_here(page):
    links = re.findall(r'href="(\./[^"#]+)"', page.read_text(encoding="utf-8"))
    assert len(links) >= 10
    missing = [link for link in links if not (page.parent / link).is_file()]
    assert not missing, f"made elsewhere: run `softac report` in {page.parent.name} itself"


def test_committed_runs_and_suites_can_be_read():
    files = [path for name in ("suite.json", "config.json") for path in ROOT.glob(f"benchmarks/*/**/{name}")]
    assert len(files) > 100
    broken = [path for path in files if not seal_is_whole(path.read_bytes())]
    assert not broken, "changed by hand: seal them again"


def test_prints_are_compared_with_the_page():
    exec(compile("print(1 + 1)  # > 2", "page", "exec"), {"print": checking_print("print(1 + 1)  # > 2")})  # noqa: S102
    with pytest.raises(AssertionError, match="the page says '3', not '2'"):
        exec(compile("print(1 + 1)  #> 3", "page", "exec"), {"print": checking_print("print(1 + 1)  #> 3")})  # noqa: S102


def test_blocks_are_found_and_skipped():
    text = "a\n```python\nx = 1\n```\n<!-- not run: slow -->\n```python\ny\n```\n```console\n$ z\n```\n"
    assert python_blocks(text) == [(2, "x = 1\n")]
    assert python_blocks(text.replace("slow", ""))[1:] == [(6, "y\n")]  # a reason is required
    assert prose(text) == "a\n\n<!-- not run: slow -->\n\n\n"


def test_the_variational_autoencoder_reconstructs_and_generates():
    vae = runpy.run_path(str(ROOT / "docs/theory/vae.py"))
    generator = torch.Generator().manual_seed(0)
    model = vae["train"](generator)
    unseen = vae["pictures"](500, generator)
    blank = unseen.square().mean().sqrt()
    assert (model.reconstruct(unseen) - unseen).square().mean().sqrt() < 0.1 * blank
    generated = model.generate(torch.randn(500, vae["LATENT"], generator=generator))
    assert vae["spot_error"](generated).mean() < 0.15 * blank
    assert generated.std(0).max() > 0.5 * unseen.std(0).max()  # they differ from each other
    torch.testing.assert_close(
        vae["train"](torch.Generator().manual_seed(5), 3).reconstruct(unseen),
        vae["train"](torch.Generator().manual_seed(5), 3).reconstruct(unseen),
        rtol=0,
        atol=0,
    )
