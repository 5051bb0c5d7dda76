"""The documentation site: these pages and the executed notebooks. `make docs`; then open _build/html/index.html."""

import tomllib
from pathlib import Path

import nbformat

from symbiosis.pages import finished

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]

project = PROJECT["name"].capitalize()
author = "The Symbiosis contributors"
release = PROJECT["version"]
extensions = ["myst_nb", "sphinx-mathjax-offline"]  # formulas are drawn without a network, too
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # they come executed
nb_merge_streams = True  # lines that one cell says stand together
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing", "mystnb.unknown_mime_type"]  # links to files of the repo; widgets
html_theme = "pydata_sphinx_theme"
html_title = "Symbiosis"
html_show_sourcelink = False
html_sidebars = {"**": []}
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False, "secondary_sidebar_items": ["page-toc"]}
html_theme_options["header_links_before_dropdown"] = 3  # one line on a laptop


def _read_notebook(app, docname, source):
    """A notebook shows what it drew, not the committed picture of it, and finds the other pictures from here."""
    if docname.startswith("notebooks/"):
        notebook = nbformat.reads(source[0], as_version=4)
        source[0] = nbformat.writes(finished(notebook)).replace("](../reports/", "](../../reports/")


def setup(app):
    app.connect("source-read", _read_notebook)
