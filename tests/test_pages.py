"""Pages of executed notebooks work offline and obey nothing a model wrote."""

import base64
import json
import os
import re

import nbformat
import pytest

from symbiosis import pages

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PLANTED = "<script>alert('from a lesson')</script>"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Writes an executed notebook with such outputs into a repository of its own; returns its path."""
    for name in ("params", "notebooks"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)

    def write(*outputs):
        state = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}}
        cells = [
            nbformat.v4.new_markdown_cell("# A run"),
            nbformat.v4.new_code_cell("secret_input = 1", outputs=list(outputs)),
        ]
        path = tmp_path / "reports/runs/miniature/main/static-s11/run.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"widgets": state}), path)
        return path

    return write


def shown(data):
    return nbformat.v4.new_output("display_data", data)


def page(path):
    return (path.parents[4] / pages.page_of(path)).read_text()


def obeyed(text):
    """Markup in a page that fetches or runs something."""
    active = re.findall(r"<(?:script|iframe|object|embed|link|svg)\b[^>]*>", text, flags=re.I)
    fetched = re.findall(r"<[^>]+\b(?:src|href)\s*=\s*[\"']?(?:https?:)?//[^>]*>", text, flags=re.I)
    handlers = re.findall(r"<[^>]+\son[a-z]+\s*=[^>]*>", text, flags=re.I)
    return active + fetched + handlers + re.findall(r"@import|url\(", text)


def test_pages_work_offline_and_obey_nothing_a_model_wrote(notebook):
    table = f"<style>#T_1 td {{color: red}}</style><table><tr><td onclick='x()'>{PLANTED}</td></tr></table>"
    far = "<iframe src='https://far.example'></iframe><img src='https://far.example/x'><a href='data:text/html,x'>y</a>"
    text = page(
        notebook(
            nbformat.v4.new_output("stream", text=f"a lesson says {PLANTED}"),
            shown({"text/html": table, "text/plain": "a table"}),
            shown({"image/png": PNG, "text/plain": "a figure"}),
            shown({"application/javascript": "alert('own')", "text/plain": "fell back"}),
            shown({"text/html": far}),
            shown({"image/svg+xml": f"<svg>{PLANTED}</svg>", "text/plain": "no drawing"}),
            shown({"text/markdown": f"*said* {PLANTED}"}),
        )
    )
    assert (
        not obeyed(text)
        and "data:text" not in text
        and "http" not in re.sub(r"https://far\.example|http-equiv", "", text)
    )
    assert "&lt;script&gt;alert('from a lesson')" in text.replace("&#39;", "'")
    assert re.search(r"<h1[^>]*>A run", text) and "<tr><td>&lt;script" in text  # texts and tables stay what they are
    assert f"data:image/png;base64,{PNG}" in text and "fell back" in text and "<em>said</em>" in text
    assert "secret_input" not in text and "color: red" not in text
    assert '<meta content="width=device-width' in text or '<meta name="viewport"' in text
    assert "prefers-color-scheme:dark" in text and re.search(r"@media\(max-width:500px\){[^@]*img{max-width:none", text)
    assert obeyed(PLANTED) and obeyed("<img src='https://far.example/x'>")  # and would have been seen


def test_a_cell_that_spans_rows_keeps_the_next_row_under_its_headings(notebook):
    table = '<table><tr><th rowspan="2">2</th><td>real</td></tr><tr><td colspan="2">static</td></tr></table>'
    text = page(notebook(shown({"text/html": table})))
    assert '<th rowspan="2">2</th>' in text and '<td colspan="2">static</td>' in text


def test_settings_and_record_stand_below_a_run(notebook):
    path = notebook()
    record = {"run_id": "r", "hardware": PLANTED, "settings": {"epochs": 2}, "products": {"rows.csv": "0" * 64}}
    record["stage_costs"] = {"lesson-1": {"wall_s": 2.5, "cpu_s": 2.25, "peak_memory_gib": None}}
    path.with_name("record.json").write_text(json.dumps(record))
    text = page(path)
    assert "<tr><th>epochs</th><td>2</td></tr>" in text and "<th>hardware</th><td>&lt;script&gt;" in text
    assert "0" * 64 not in text and not obeyed(text)
    assert "<tr><th>lesson-1</th><td>wall_s 2.5, cpu_s 2.25</td></tr>" in text


def test_formulas_are_drawn_and_what_cannot_be_drawn_stays():
    text = r"With $\hat\theta_k \leftarrow \arg\min_\theta L_{a\ b}$ and $$\sum_i \left[x_i\right],$$ $\nothing{x}$, "
    text += "`$HOME` `$PATH`"
    page = pages.as_html(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)]), "a page")
    assert page.count('src="data:image/png;base64,') == 2 and r"$\nothing{x}$" in page and "<code>$HOME</code>" in page
    assert r'alt="\sum_i \left[x_i\right],"' in page


def test_a_page_is_made_again_only_when_its_notebook_is_new(notebook):
    path = notebook()
    place = path.parents[4] / pages.page_of(path)
    place.write_text("kept")
    assert page(path) == "kept"
    os.utime(path, ns=(place.stat().st_mtime_ns + 10**9,) * 2)
    assert "A run" in page(path)


def test_progress_bars_and_pictures_that_were_drawn_anew_are_left_out():
    widget = shown({pages.WIDGET: {"model_id": "x"}, "text/plain": "writing:   0%|          | 0/38"})
    bar = nbformat.v4.new_output("stream", name="stderr", text="training:  12%|#  | 1/8\r")
    told = nbformat.v4.new_output("stream", name="stderr", text="a warning")
    picture = "![old](../reports/figures/a.png)"
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell(f"drawn {picture}"),
            nbformat.v4.new_code_cell(
                'gallery.show("a", reports)', outputs=[widget, bar, told, shown({"image/png": PNG})]
            ),
            nbformat.v4.new_markdown_cell(f"see [06](06_analysis.ipynb) {picture}"),
            nbformat.v4.new_code_cell("plot(my_run)", outputs=[shown({"image/png": PNG})]),
        ]
    )
    drawn, code, kept, _ = pages.finished(notebook).cells
    assert drawn.source == "drawn " and picture in kept.source
    assert [output.get("name", "figure") for output in code.outputs] == ["stderr", "figure"]
    page = pages.as_html(notebook, "a page")
    assert "see 06" in page and "0/38" not in page and "reports/figures" not in page


def test_an_executed_notebook_gives_the_pictures_of_its_text_cells(tmp_path, monkeypatch):
    (tmp_path / "params").mkdir(), (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    cells = []
    for name in ("figures/notebooks/one", "figures/of_runs"):
        cells += [nbformat.v4.new_markdown_cell(f"![a](../reports/{name}.png)")]
        cells += [nbformat.v4.new_code_cell("draw()", outputs=[shown({"image/png": PNG})])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "01_a.ipynb")
    place = tmp_path / "reports/figures/notebooks"
    assert pages.write_pictures(tmp_path / "01_a.ipynb") == [place / "one.png"]
    assert (place / "one.png").read_bytes() == base64.b64decode(PNG)
    source = json.loads((place / "one.json").read_text())
    assert source == {"notebook": "notebooks/01_a.ipynb", "code_sha256": pages.code_sha256(cells[1:2])}
    assert [path.name for path in place.parent.rglob("*.png")] == ["one.png"]
