"""Notebooks are read in one sitting: one question, short texts with pictures, cells that hold for any params."""

import ast
import json
import re
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import nbformat
from row_by_row import row_by_row
from test_results import write_reports

from symbiosis import execute, pages, params
from symbiosis.analysis import gallery
from symbiosis.settings import InteractionSettings, RunSettings

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELLS, PARAMETERS = 30, 20
WORDS = 21, 44  # of a text cell, on average
MOST_WORDS = 55
RUN_BY_SETTINGS = ["01_data", "02_baselines", "03_symbiosis_loop", "04_model_interaction", "10_influence"]
assert len(NOTEBOOKS) >= 12

each_notebook = row_by_row("path", NOTEBOOKS)


def read(path):
    return nbformat.read(path, as_version=4)


def of_kind(path, kind):
    return [cell for cell in read(path).cells if cell.cell_type == kind]


def parameters(path):
    """Name -> default of a notebook's parameters cell."""
    body = ast.parse(of_kind(path, "code")[0].source).body
    return {(n.target if isinstance(n, ast.AnnAssign) else n.targets[0]).id: ast.literal_eval(n.value) for n in body}


def words(text):
    """Words of a text cell; formulas and pictures are none."""
    text = re.sub(r"\$\$.*?\$\$|!\[.*?\]\(.*?\)", "", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$]*\$", "x", text)
    return [word for word in re.split(r"[\s|#>*`-]+", text) if re.search(r"\w", word)]


@each_notebook
def test_a_notebook_begins_with_its_parameters_asks_one_question_and_shows_something_in_every_cell(path):
    cells = of_kind(path, "code")
    assert "parameters" in cells[0].metadata.get("tags", [])
    assert 0 < len(parameters(path)) <= PARAMETERS
    assert not [cell.id for cell in cells if cell.outputs or cell.execution_count]
    assert "papermill" not in read(path).metadata

    cells, texts = read(path).cells, [cell.source for cell in of_kind(path, "markdown")]
    assert len(cells) <= CELLS
    assert re.match(r"# \d\d · .+\n\n\*\*Question\.\*\* .+\?", texts[0])
    assert sum(text.count("**Question.**") for text in texts) == 1
    counts = [len(words(text)) for text in texts]
    assert WORDS[0] <= sum(counts) / len(counts) <= WORDS[1] and max(counts) <= MOST_WORDS, counts

    for cell in of_kind(path, "code"):
        assert not all(isinstance(node, ast.Assert) for node in ast.parse(cell.source).body), cell.source
        assert not re.search(r"not been run|nothing to show|\.style\.format|else:\n\s+print", cell.source), cell.source

    text = "\n".join(cell.source for cell in of_kind(path, "markdown"))
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [link for link in links if not (path.parent / link).is_file()]


@row_by_row("name", RUN_BY_SETTINGS)
def test_the_parameters_cell_says_what_the_settings_say(name):
    kind = InteractionSettings if name == "04_model_interaction" else RunSettings
    given = parameters(ROOT / "notebooks" / f"{name}.ipynb")
    given |= {"method": "symbiosis"} if name == "02_baselines" else {}
    defaults = kind().model_dump()
    if name == "04_model_interaction":  # the only one that also reads: the published rows, where nobody names others
        defaults["reports_dir"] = params.PUBLISHED
    assert {key: (value, type(value)) for key, value in given.items()} == {
        key: (defaults[key], type(defaults[key])) for key in given
    }


@row_by_row("name", ["02_baselines", "03_symbiosis_loop"])
def test_a_run_needs_no_name_of_the_cells_that_only_show(name):
    names = {True: {ast.Store: set(), ast.Load: set()}, False: {ast.Store: set(), ast.Load: set()}}
    for cell in of_kind(ROOT / "notebooks" / f"{name}.ipynb", "code"):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Name):
                names[execute.LOOK in cell.metadata.get("tags", [])][type(node.ctx)].add(node.id)
    looks, rest = names[True][ast.Store], names[False]
    assert looks and not (looks & rest[ast.Load]) - rest[ast.Store]


@each_notebook
def test_pictures_in_text_are_committed_and_drawn_by_the_code_below(path):
    for text, code in pages.sections(read(path)):
        named = [ROOT / name for name in pages.PICTURE.findall(text.source)]
        assert len(named) == text.source.count("!["), "a picture stands in ../reports/figures"
        for picture in named:
            assert picture.is_file() and code
            if picture.is_relative_to(ROOT / pages.MADE_HERE):
                source = json.loads(picture.with_suffix(".json").read_text())
                assert source["notebook"] == f"notebooks/{path.name}"
                assert source["code_sha256"] == pages.code_sha256(code), f"{picture.name} is old: make pictures"
            else:
                assert picture.stem in gallery.FIGURES
        shown = re.findall(r'gallery\.show\("(\w+)"', "\n".join(cell.source for cell in code))
        assert set(shown) <= {picture.stem for picture in named}


def test_every_picture_of_a_notebook_is_shown_by_one():
    shown = {
        name for path in NOTEBOOKS for cell in of_kind(path, "markdown") for name in pages.PICTURE.findall(cell.source)
    }
    assert {str(path.relative_to(ROOT)) for path in (ROOT / pages.MADE_HERE).glob("*.png")} <= shown


@row_by_row("name", ["05_ratio_or_diversity", "06_analysis", "11_regimes", "12_recursion"])
def test_a_report_of_one_run_says_what_is_missing(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("IPython.display.display", lambda *shown: None)
    namespace = {"display": lambda *shown: None}
    for cell in of_kind(ROOT / "notebooks" / f"{name}.ipynb", "code"):
        exec(cell.source, namespace)
        if "reports_dir: str" in cell.source:
            namespace["reports_dir"] = str(write_reports(tmp_path, seeds=[0], arms=["static"]))
    said = capsys.readouterr().out
    assert "No arm was run beside" in said or said.count("has not been run") > 2
    plt.close("all")


def test_every_notebook_is_listed_where_readers_look():
    for page in ("README.md", "docs/running.md"):
        listed = re.findall(r"^(?:- |\| )`(\d\d_\w+)`", (ROOT / page).read_text(), flags=re.M)
        assert listed == [path.stem for path in NOTEBOOKS], page
