"""How the documentation is built: `sphinx-build -W docs docs/_build/html`. It needs no network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import softac  # noqa: E402

project = "softac"
author = "the softac authors"
project_copyright = "the softac authors"
release = version = softac.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "cli_help", "extension"]
exclude_patterns = ["_build", "algorithms/_*"]  # parts that other pages include
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!softac\.).*")]  # a wrong link to softac is an error; others lead nowhere

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
default_role = "code"

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"softac {release}"
html_static_path = ["_static"]
html_css_files = ["softac.css"]
html_copy_source = False
