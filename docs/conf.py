"""How Sphinx makes a site of these pages: ``make docs``."""

from __future__ import annotations

from sphinx.application import Sphinx

project = "molre-edge"
html_title = "molre-edge"
copyright = "molre-edge, Apache-2.0"

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False
html_show_sphinx = False
smartquotes = False  # they would make a dash of the two hyphens of an option
nitpicky = True
myst_heading_anchors = 4  # as GitHub: the anchors that tests/repository checks

CONTENTS = """
```{{toctree}}
:hidden:
:glob:
{caption}

{pages}
```
"""
SECTIONS = {
    "Guides": "guides/get-started\nguides/your-own-model\nguides/when-parity-fails\nguides/labels-and-limits\nguides/*",
    "Concepts": "concepts/routing\nconcepts/parity\nconcepts/*",
    "Reference": "reference/commands\nreference/*",
    "Results and decisions": "results/index\ndecisions/index",
}


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give each index its pages for the sidebar, which its text on GitHub can do without."""
    if docname == "index":
        for name, pages in SECTIONS.items():
            source[0] += CONTENTS.format(caption=f":caption: {name}", pages=pages)
    elif docname.endswith("/index"):
        source[0] += CONTENTS.format(caption="", pages="*")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
