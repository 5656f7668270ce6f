"""The documentation as a site: ``make docs``. It needs no network, and a link that leads nowhere ends the build."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import importlib.metadata

import generated

project, author = "dode", "the authors of dode"
release = importlib.metadata.version("dode")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["site", "generated/readme.md"]  # which is a part of the first page

# The pages are read on a code host too: links are relative paths, and headings are linked to as such a host names them.
myst_heading_anchors = 4
# Diagrams are shown as text, and `...` in JSON is no JSON.
suppress_warnings = ["misc.highlighting_failure"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the descriptions give types and shapes, and the aliases of arrays are long
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # an attribute of a named tuple is described once

html_theme = "furo"
html_title = f"dode {release}"
html_show_sourcelink = False


def setup(app):
    """Write the pages that are made of something else before the others are read, and lead links to them."""
    app.connect("builder-inited", lambda app: generated.write(Path(app.srcdir)))
    app.connect("source-read", _relink)


def _relink(app, name, text):
    text[0] = generated.relinked(text[0], f"docs/{name}.md")
