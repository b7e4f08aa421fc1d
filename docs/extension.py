"""What softac's documentation adds to Sphinx: figures made by the build, MathML, plain-text docstrings.

- `{themed} NAME` shows `theory/figures/NAME-light.svg` or `-dark.svg`, whichever suits the reader's theme;
  all figures are drawn by `figures.py` before the pages are read. They are not in the repository.
- `{rooms}` and `{reading}` are the tables of the page on the architecture, counted in the source.
- `{zoo}` is the table of environments of other people, from the results in `benchmarks/zoo`.
- Equations become MathML, which browsers draw themselves: no script, no font, no network.
- Docstrings are plain text with Google sections. Characters that reStructuredText would take for markup
  (`max |Q|`, `update_`, `T*`) are escaped, and indented paragraphs become literal blocks.
"""

import logging as std_logging
import re
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from numpy.typing import ArrayLike, NDArray
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import stringify_annotation

log = logging.getLogger(__name__)

MATHML = "http://www.w3.org/1998/Math/MathML"
ACCENTS = set("ˉˆ˜˙")  # of \bar, \hat, \tilde and \dot
ALIASES = [
    (stringify_annotation(alias, "smart"), name)
    for alias, name in (
        (ArrayLike, "ArrayLike"),
        (NDArray[np.float64], "Array"),
        (NDArray[np.float32], "NDArray[float32]"),
        (NDArray[np.intp], "NDArray[intp]"),
        (NDArray[np.bool_], "NDArray[bool]"),
    )
]
SECTIONS = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Warns|Note|Example|Examples|Warning):")


class Themed(SphinxDirective):
    """A figure in a light and a dark version, with its caption as content."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        figure = nodes.figure(align="center")
        for theme in ("light", "dark"):
            uri = f"/theory/figures/{name}-{theme}.svg"
            image = nodes.image(uri=uri, alt=self.options["alt"], classes=[f"only-{theme}"])
            figure += image
        caption = nodes.caption()
        figure += caption
        children, messages = self.parse_inline("\n".join(self.content))
        caption += children
        return [figure, *messages]


class Rooms(SphinxDirective):
    """A table of the rooms of the package, floor by floor, with the first sentence of each."""

    def run(self) -> list[nodes.Node]:
        import house

        rows = [
            f"| {floor} | `{name.replace('.', '/')}` | {house.sentence(name).replace('|', chr(92) + '|')} |"
            for floor, names in enumerate(house.floors()[::-1])
            for name in names
        ]
        return self.parse_text_to_nodes(
            "\n".join(["| floor | room | what is in it |", "|---|---|---|", *rows[::-1]])
        )


class Reading(SphinxDirective):
    """A table of what one must read to know all that an update of SAC does, counted in the source."""

    def run(self) -> list[nodes.Node]:
        from reading import SAC_STEP, ran, reading

        parts = reading(*SAC_STEP, run=ran())
        named = {part: ", ".join(f"`{name}`" for name in part.names) for part in parts}
        rows = [f"| `{part.file}` | {part.lines} | {named[part] or 'the whole file'} |" for part in parts]
        total = f"| together | **{sum(part.lines for part in parts)}** | |"
        return self.parse_text_to_nodes("\n".join(["| file | lines | what |", "|---|---:|---|", *rows, total]))


class Zoo(SphinxDirective):
    """A table of what became of each environment in `benchmarks/zoo`, from the results that lie there."""

    def run(self) -> list[nodes.Node]:
        import zoo

        path = Path(self.env.app.srcdir).parent / "benchmarks" / "zoo" / "results" / "zoo.csv"
        self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(zoo.table(path))


def draw_figures(app: Sphinx) -> None:
    """Draw the figures that are older than the code they show."""
    import figures

    here = Path(app.srcdir)
    folder, code = here / "theory" / "figures", here.parent / "src" / "softac"
    theory = [here / "figures.py", here / "theory" / "vae.py"]
    theory += [*code.glob("equations/*.py"), *code.glob("tabular/*.py")]
    imports = [here / "figures.py", here / "house.py", here.parent / "pyproject.toml", *code.rglob("*.py")]
    old = []
    for name in figures.FIGURES:
        drawn = [folder / f"{name}-{theme}.svg" for theme in figures.INK]
        newest = max(file.stat().st_mtime for file in (imports if name == "house" else theory))
        if not all(file.exists() and file.stat().st_mtime > newest for file in drawn):
            old.append(name)
    figures.draw_all(folder, old)


def mathml(writer: Any, node: nodes.Element, *, as_block: bool) -> None:
    """Write the LaTeX of `node` as MathML; a command it does not know is an error of the build."""
    text = node.astext()
    try:
        # docutils reads the 12 of \frac12 as one number.
        code = re.sub(r"(\\[dt]?frac)(\d)(\d)", r"\1{\2}{\3}", text)
        math = repair(tex2mathml(code, as_block=as_block))
    except MathError as error:
        log.warning("%s in the equation %r", error, text, location=node)
        math = f"<code>{writer.encode(text)}</code>"
    if as_block and node.get("number"):
        math = f'<div id="{node["ids"][0]}">{math}</div>'
    writer.body.append(math)
    raise nodes.SkipNode


def repair(math: str) -> str:
    """Put right what docutils 0.22 gets wrong: primes as apostrophes, subscripts below an accent, bars."""
    ElementTree.register_namespace("", MATHML)
    root = ElementTree.fromstring(  # noqa: S314 - its text is docutils's own
        math.replace("&ApplyFunction;", "\u2061").replace(">'<", ">′<")
    )
    for element in root.iter(f"{{{MATHML}}}munderover"):
        base, below, above = element
        if above.text in ACCENTS:
            element.tag = f"{{{MATHML}}}msub"
            accented = ElementTree.Element(f"{{{MATHML}}}mover", {"accent": "true"})
            accented.extend([base, above])
            element[:] = [accented, below]
    for element in root.iter(f"{{{MATHML}}}mover"):
        if element[1].text == "ˉ":
            # As an accent it sinks into the letter where there is no font for mathematics.
            element[1].text = "‾"
            element.attrib.pop("accent", None)
    return ElementTree.tostring(root, encoding="unicode")


def inline(writer: Any, node: nodes.Element) -> None:
    mathml(writer, node, as_block=False)


def block(writer: Any, node: nodes.Element) -> None:
    mathml(writer, node, as_block=True)


def clean_docstring(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Make reStructuredText of a plain-text docstring, in place and before napoleon reads its sections."""
    cleaned: list[str] = []
    in_section = in_block = False
    for i, line in enumerate(lines):
        indented = line.startswith("    ")
        if line and not indented:
            in_section, in_block = bool(SECTIONS.fullmatch(line)), False
        after_blank = i == 0 or not lines[i - 1].strip()
        if indented and not in_section and after_blank and not in_block:
            cleaned += [".. code-block:: text", ""]
            in_block = True
        cleaned.append(line if in_block else _escape(line))
    lines[:] = cleaned


def shorten_signature(
    _app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write the names of NumPy's type aliases, which annotations spell out over several lines."""
    for long, short in ALIASES:
        signature, returns = (text and text.replace(long, short) for text in (signature, returns))
    return signature, returns


def is_in_a_signature(_app: Sphinx, _domain: Any, node: nodes.Element) -> bool | None:
    """Do not warn of internal types in signatures; a link in the text that leads nowhere stays an error."""
    while node.parent is not None and not isinstance(node, addnodes.desc_signature):
        node = node.parent
    return True if isinstance(node, addnodes.desc_signature) else None


def _escape(line: str) -> str:
    parts = re.split(r"(``.*?``|`[^`]*`|(?<!\S)\*\w[^*`]*\w\*(?!\w))", line)  # code and *emphasis* stay
    for i in range(0, len(parts), 2):
        text = parts[i].replace("\\", r"\\").replace("|", r"\|")
        text = re.sub(r"(?<!^    )(?<!^    \*)\*", r"\*", text)  # not the stars of **kwargs in Args
        parts[i] = re.sub(r"(?<=\w)_(?!\w)", r"\_", text)
    return "".join(parts)


def allow_empty_globs() -> None:
    """Let the index name folders before every page of them is written; suppress_warnings cannot (no type)."""
    other = std_logging.getLogger("sphinx.sphinx.directives.other")
    other.addFilter(lambda record: getattr(record, "subtype", "") != "empty_glob")


def setup(app: Sphinx) -> dict[str, bool]:
    allow_empty_globs()
    app.add_directive("themed", Themed)
    app.add_directive("rooms", Rooms)
    app.add_directive("reading", Reading)
    app.add_directive("zoo", Zoo)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("builder-inited", draw_figures)
    app.connect("warn-missing-reference", is_in_a_signature)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-process-docstring", clean_docstring, priority=400)  # napoleon's is 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
