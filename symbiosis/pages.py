"""Executed notebooks as HTML pages that work offline and obey nothing a model wrote."""

import json
import re
from functools import cache
from html import escape
from pathlib import Path

from symbiosis.execute import skip_rfc3987_import
from symbiosis.store.folders import write_atomic


def page_of(notebook: Path) -> str:
    """The page of an executed notebook, from its reports folder on; made where the notebook is newer.

    Below a run's stand all settings and its record.
    """
    skip_rfc3987_import()
    import nbformat

    reports = next(folder for folder in notebook.parents if folder.name == "runs").parent
    page = reports / "html" / notebook.relative_to(reports / "runs").with_suffix(".html")
    if not page.is_file() or page.stat().st_mtime_ns < notebook.stat().st_mtime_ns:
        content = nbformat.read(notebook, as_version=4)
        content.cells += _record_cells(notebook.with_name("record.json"))
        write_atomic(page, as_html(content, "/".join(notebook.parts[-4:-1])).encode())
    return page.relative_to(reports).as_posix()


def _record_cells(record: Path) -> list:
    """Cells that show a run's settings and how it was made; none beside a notebook that is no run."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

    if not record.is_file():
        return []
    said = json.loads(record.read_text())
    parts = {
        "Settings": said.pop("settings", {}),
        "Record": {k: v for k, v in said.items() if k not in ("products", "stages")},
    }
    cells = []
    for title, values in parts.items():
        lines = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in values.items())
        table = new_output("display_data", {"text/html": f"<table>{lines}</table>"})
        cells += [new_markdown_cell(f"## {title}"), new_code_cell(outputs=[table])]
    return cells


# A page around nbconvert's cells, whose policy lets the browser run and fetch nothing, whatever the texts in it try.
PAGE = """{% extends 'basic/index.html.j2' %}
{% block header %}<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{ resources.metadata.name | e }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em} img{max-width:100%}
table{border-collapse:collapse;font-size:.85em} td,th{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:left}
pre{white-space:pre-wrap;background:#f6f6f6;padding:.6em;font-size:.85em} .output_area,.text_cell{overflow:auto}
.anchor-link{display:none}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd} pre{background:#222} a{color:#8ab4f8}
td,th{border-color:#444} img{background:#fff}}</style></head>
<body>{% endblock %}
{% block footer %}</body></html>
{% endblock %}"""
TAGS = [
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "details", "div", "dl", "dt", "em", "h1",
    "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol", "p", "pre", "small", "span", "strong", "sub", "summary", "sup",
    "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
]  # fmt: skip
SPANS = ["rowspan", "colspan"]  # without them rows shift under the wrong headings
ATTRIBUTES = {"*": ["class", "id"], "a": ["href"], "td": SPANS, "th": SPANS}


def as_html(notebook, title: str) -> str:
    """An executed notebook as a page that works offline, without its input cells: text, tables and figures, no script.

    Output may hold text that a model wrote, so of its markup only the TAGS of texts and tables are obeyed.
    """
    return _exporter().from_notebook_node(notebook, {"metadata": {"name": title}})[0]


@cache
def _exporter():
    skip_rfc3987_import()
    import bleach
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    def clean(text) -> str:  # a styled table brings its own sheet, which would be shown as text
        unstyled = re.sub(r"<style\b.*?</style>", "", str(text), flags=re.DOTALL | re.IGNORECASE)
        return bleach.clean(unstyled, tags=TAGS, attributes=ATTRIBUTES)

    shown = ["text/html", "image/png", "text/markdown", "text/plain"]
    return HTMLExporter(
        config=Config({"NbConvertBase": {"display_data_priority": shown}}),
        raw_template=PAGE,
        sanitize_html=True,
        filters={"clean_html": clean},
        exclude_input=True,
        exclude_output_prompt=True,
    )
