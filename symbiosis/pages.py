"""Executed notebooks as HTML pages that work offline and obey nothing a model wrote.

`python -m symbiosis.pages EXECUTED.ipynb` writes the committed pictures of its text cells that no run makes.
"""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from html import escape
from io import BytesIO
from itertools import pairwise
from pathlib import Path

from symbiosis.settings import root
from symbiosis.store.folders import write_atomic
from symbiosis.warm import skip_rfc3987_import

PICTURE = re.compile(r"!\[[^]]*\]\(\.\./(reports/figures/[^)]+\.png)\)\s*")  # in a text cell, from notebooks/ on
MADE_HERE = "reports/figures/notebooks/"  # what the notebook's own code draws; elsewhere the gallery's figures
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$`\n]+)\$", re.DOTALL)
FILE_LINK = re.compile(r"\[([^]]*)\]\([^):]+\.(?:ipynb|md)\)")  # leads nowhere from a page
MATHTEXT = {  # what matplotlib does not know of TeX -> what it does
    r"\big": "", r"\!": "", r"\qquad": r"\quad\quad", r"\;": r"\ ", r"\le ": r"\leq ", r"\arg\min": r"\arg\,\min",
    r"\tfrac1n": r"\frac{1}{n}", r"\tfrac": r"\frac",
}  # fmt: skip
WIDGET = "application/vnd.jupyter.widget-view+json"


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
        "Record": {k: v for k, v in said.items() if k not in ("products", "stages", "stage_costs")},
    }
    costs = {
        stage: ", ".join(f"{key} {value}" for key, value in cost.items() if value is not None)
        for stage, cost in said.get("stage_costs", {}).items()
    }
    parts |= {"What each stage cost (memory: the most so far)": costs} if costs else {}
    cells = []
    for title, values in parts.items():
        lines = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in values.items())
        table = new_output("display_data", {"text/html": f"<table>{lines}</table>"})
        cells += [new_markdown_cell(f"## {title}"), new_code_cell(outputs=[table])]
    return cells


# ---- pictures and progress


def sections(notebook) -> Iterator[tuple]:
    """(text cell, the code cells below it, up to the next text) of a notebook."""
    starts = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"]
    for start, end in pairwise([*starts, len(notebook.cells)]):
        yield notebook.cells[start], notebook.cells[start + 1 : end]


def drawings(cells) -> list[bytes]:
    """PNG of every figure that executed code cells show."""
    shown = [output.get("data", {}).get("image/png") for cell in cells for output in cell.get("outputs", [])]
    return [base64.b64decode(png) for png in shown if png]


def finished(notebook, pictures: bool = True):
    """A notebook without progress bars, and without the committed pictures that its code has drawn anew.

    pictures: whether committed pictures of what it has not drawn stay.
    """
    for text, code in sections(notebook):
        drawn = drawings(code) and "\n".join(cell.source for cell in code)
        for picture in PICTURE.finditer(text.source):
            again = drawn and (picture[1].startswith(MADE_HERE) or f'"{Path(picture[1]).stem}"' in drawn)
            if again or not pictures:
                text.source = text.source.replace(picture[0], "")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
    return notebook


def _is_progress(output) -> bool:
    """Whether an output is a bar of tqdm, as a widget or as text."""
    return WIDGET in output.get("data", {}) or (output.get("name") == "stderr" and "%|" in output["text"])


def write_pictures(notebook: Path) -> list[Path]:
    """The pictures of text cells that an executed notebook drew, into reports/figures/notebooks; their files.

    Beside each a .json says which notebook drew it, and the sha256 of the code below the text.
    """
    skip_rfc3987_import()
    import nbformat

    written = []
    for text, code in sections(nbformat.read(notebook, as_version=4)):
        named = [name for name in PICTURE.findall(text.source) if name.startswith(MADE_HERE)]
        for name, png in zip(named, drawings(code), strict=False):
            path = root() / name
            write_atomic(path, png)
            source = {"notebook": f"notebooks/{notebook.name}", "code_sha256": code_sha256(code)}
            write_atomic(path.with_suffix(".json"), (json.dumps(source, indent=1) + "\n").encode())
            written.append(path)
    return written


def code_sha256(cells) -> str:
    return hashlib.sha256("\n".join(cell.source for cell in cells).encode()).hexdigest()


# A page around nbconvert's cells, whose policy lets the browser run and fetch nothing, whatever the texts in it try.
PAGE = """{% extends 'basic/index.html.j2' %}
{% block header %}<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{ resources.metadata.name | e }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em} img{max-width:100%}
table{border-collapse:collapse;font-size:.85em;margin:1em 0}
td,th{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:left}
pre{white-space:pre-wrap;background:#f6f6f6;padding:.6em;font-size:.85em} .output_area,.text_cell{overflow:auto}
.anchor-link{display:none} @media(max-width:500px){pre{font-size:.58em} .output_png img{max-width:none;width:42em}}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd} pre{background:#222} a{color:#8ab4f8}
td,th{border-color:#444} img{background:#fff}}</style></head>
<body>{% endblock %}
{% block footer %}</body></html>
{% endblock %}"""
TAGS = [
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "details", "div", "dl", "dt", "em", "h1",
    "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "li", "ol", "p", "pre", "small", "span", "strong", "sub", "summary",
    "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
]  # fmt: skip
SPANS = ["rowspan", "colspan"]  # without them rows shift under the wrong headings
ATTRIBUTES = {
    "*": ["class", "id"], "td": SPANS, "th": SPANS,
    "a": lambda tag, name, value: name in ("class", "id") or (name == "href" and not value.startswith("data:")),
    "img": lambda tag, name, value: name == "alt" or (name == "src" and value.startswith("data:image/png;base64,")),
}  # fmt: skip


def as_html(notebook, title: str) -> str:
    """An executed notebook as a page that works offline, without its input cells: text, tables and figures, no script.

    Output may hold text that a model wrote, so of its markup only the TAGS of texts and tables are obeyed.
    """
    shown = finished(notebook, pictures=False)
    for text, _ in sections(shown):
        text.source = FORMULA.sub(_drawn, FILE_LINK.sub(r"\1", text.source))
    return _exporter().from_notebook_node(shown, {"metadata": {"name": title}})[0]


def _drawn(formula: re.Match) -> str:
    """A formula as a picture, for a page without script; as it was written where matplotlib cannot draw it."""
    from matplotlib.mathtext import math_to_image

    source, png = re.sub(r"\s+", " ", formula[1] or formula[2]).strip(), BytesIO()
    for theirs, ours in MATHTEXT.items():
        source = source.replace(theirs, ours)
    try:
        math_to_image(f"${source}$", png, dpi=110)
    except ValueError:
        return formula[0]
    picture = f"![{escape(source)}](data:image/png;base64,{base64.b64encode(png.getvalue()).decode()})"
    return f"\n\n{picture}\n\n" if formula[1] else picture


@cache
def _exporter():
    skip_rfc3987_import()
    import bleach
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    def clean(text) -> str:  # a styled table brings its own sheet, which would be shown as text
        unstyled = re.sub(r"<style\b.*?</style>", "", str(text), flags=re.DOTALL | re.IGNORECASE)
        return bleach.clean(unstyled, tags=TAGS, attributes=ATTRIBUTES, protocols=["http", "https", "mailto", "data"])

    shown = ["text/html", "image/png", "text/markdown", "text/plain"]
    return HTMLExporter(
        config=Config({"NbConvertBase": {"display_data_priority": shown}}),
        raw_template=PAGE,
        sanitize_html=True,
        filters={"clean_html": clean},
        exclude_input=True,
        exclude_output_prompt=True,
    )


if __name__ == "__main__":
    for path in write_pictures(Path(sys.argv[1])):
        print(path)
