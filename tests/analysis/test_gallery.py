"""Every published figure is drawn from the rows its source names, and files are the same bytes for the same rows."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from test_results import ARMS, run_rows, write_reports

from symbiosis.analysis import figures, gallery, tables
from symbiosis.data.world import World
from symbiosis.store import results

ROOT = Path(__file__).parents[2]
NAMES = set(gallery.OF_METHODS | gallery.INTERACTION)
SOURCES = sorted(path for path in (ROOT / "reports" / "figures").rglob("*.json") if path.stem in NAMES)


pytestmark = pytest.mark.usefixtures("style")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five seeds of all arms over four generations."""
    return write_reports(tmp_path_factory.mktemp("reports"))


# ---- what is drawn


def test_published_figures_are_drawn_from_the_rows_their_sources_name_and_can_be_printed_in_a_column():
    figures.use_style("column")
    assert {path.stem for path in SOURCES} == NAMES, "a figure that was never published, or is not in the gallery"
    for path in SOURCES:
        source = json.loads(path.read_text())
        study = source["study"][0] if len(source["study"]) == 1 else "main"
        fig, used = gallery.draw(path.stem, gallery.Reports(ROOT / "reports", source["scale"][0], study))
        assert results.rows_digest(used) == source["rows_sha256"] and len(used) == source["rows"], path
        assert any(ax.has_data() for ax in fig.axes), path
        assert fig.get_figwidth() == 3.3 and len(fig.axes) > 0
        sizes = {text.get_fontsize() for text in fig.findobj(Text) if text.get_text().strip()}
        assert min(sizes) >= 7, path  # points, at the size it is printed
        lines = [[line for line in ax.get_lines() if line.get_linestyle() in ("-", "--")] for ax in fig.axes]
        named = [sum(not line.get_label().startswith("_") and len(line.get_xdata()) > 1 for line in ax) for ax in lines]
        assert max(named) <= figures.MAX_LINES, path
        plt.close(fig)


def test_the_theory_alone_is_a_figure_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(gallery.interaction_tables, "efficiency_surfaces", lambda grid: {"one": np.eye(len(grid))})
    path, source = gallery.save("relative_efficiency", gallery.Reports(tmp_path))
    assert path == tmp_path / "figures" / "theory" / "relative_efficiency.pdf"
    assert json.loads(path.with_suffix(".json").read_text()) == source and source["settings"] == ["one"]


def test_a_section_about_what_was_not_run_ends_with_a_line(folder, capsys):
    drawn = {"accuracy_comparison", "accuracy_controls", "loss_curves", "lesson_measures"}
    reports = gallery.Reports(folder)
    for name in NAMES - drawn:
        with gallery.section("a scale"):
            gallery.show(name, reports)
            raise AssertionError("the section goes on")
        first, last = capsys.readouterr().out.splitlines()
        assert first == "a scale" and last.endswith(": no figure.") and not plt.get_fignums()
    with gallery.section(named="long, miniature"):
        gallery.show("accuracy_long", reports)
    assert capsys.readouterr().out.startswith("long, miniature: The study 'long' has not been run")
    with pytest.raises(results.ResultsError, match="damaged"), gallery.section():
        raise results.ResultsError("damaged")  # is no run that is missing


def test_a_table_has_one_style(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    gallery.show_table(pd.DataFrame({"mean": [0.12345, np.nan], "p": [1e-6, 0.5]}, index=[7, 9]))
    text = shown[0].to_html()
    assert "0.123" in text and "0.1235" not in text and "1e-06" in text and ">-<" in text and ">7<" not in text
    assert 'class="dataframe"' in text  # which is what pages give their columns room by
    gallery.show_table(pd.DataFrame({"arm": ["recursive-replace", "static", "new-one"], "mean": [1, 2, 3]}))
    assert all(f">{name}</td>" in shown[1].to_html() for name in ("replace", "Static synthetic", "new-one"))
    pivot = pd.DataFrame({"accuracy": [0.5, np.nan], "seeds": [5.0, 6.0]}, pd.Index(["static", "real"], name="arm"))
    gallery.show_table(pivot.rename_axis(columns="metric").T.assign(share=1.0))
    text = shown[2].to_html()
    assert all(f">{name}<" in text for name in ("test accuracy", "Static synthetic", "0.500", "5.000", "-", "1.000"))
    gallery.show_table(pd.DataFrame({0.25: [2.0, np.nan]}, pd.Index([0.0, 0.5], name="real_share")))
    assert all(f">{name}<" in shown[3].to_html() for name in ("0.25", "0.5", "0", "2", "-"))
    twice = pd.DataFrame({"value": [0.1, 0.2]}, pd.Index(["distinct_2", "lesson_distinct_2"], name="metric"))
    gallery.show_table(twice)
    assert shown[4].to_html().count(">distinct word pairs<") == 2  # two metrics of one name


def test_subtopics_of_texts_need_a_known_world():
    world = World.make(0)
    fig = gallery.plot_subtopics(["a text"], world)
    assert len(fig.axes[0].patches) == 4 * len(world.shares)
    with pytest.raises(gallery.NotRun, match="not known"):
        gallery.plot_subtopics(["a text"], None)


# ---- what is saved


def save_all(folder):
    """{file: sha256} of a figure and a table."""
    gallery.save("accuracy_comparison", gallery.Reports(folder))
    table = tables.table("final_accuracy", gallery.Reports(folder).by_study)
    gallery.save_table(table, "final_accuracy", folder)
    files = [path for kind in ("figures", "tables") for path in (folder / kind).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def test_the_same_rows_give_the_same_bytes_in_another_process(folder):
    before = save_all(folder)
    assert sorted(before) == [
        "figures/accuracy_comparison.json", "figures/accuracy_comparison.pdf", "figures/accuracy_comparison.png",
        "tables/final_accuracy.csv", "tables/final_accuracy.json", "tables/final_accuracy.md",
        "tables/final_accuracy.tex",
    ]  # fmt: skip
    for path in before:
        (folder / path).unlink()
    code = "import sys, pathlib, test_gallery as t; t.figures.use_style(); t.save_all(pathlib.Path(sys.argv[1]))"
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "tests/store", "tests/analysis"))
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=environment)
    files = {path: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in before}
    assert files == before


def test_figures_for_a_column_stand_beside_the_others_and_replace_none(folder, monkeypatch, capsys):
    before = save_all(folder)
    monkeypatch.setattr(gallery, "LOCAL", str(folder / "here"))
    monkeypatch.setattr(gallery, "FIGURES", {"accuracy_comparison": gallery.FIGURES["accuracy_comparison"]})
    gallery.main("column", str(folder))
    figures.use_style()
    path = folder / "here/figures_column/accuracy_comparison.pdf"
    assert capsys.readouterr().out == f"{path}\n" and save_all(folder) == before
    assert b"/MediaBox [ 0 0 237.6 " in path.read_bytes()  # 3.3 inches of 72 points


def test_other_rows_give_another_figure(folder, tmp_path):
    rows = pd.read_csv(folder / "results.csv")
    rows["value"] *= 0.99
    (tmp_path / "results.csv").write_bytes(results.csv_bytes(rows, results.COLUMNS))
    one, other = save_all(folder), save_all(tmp_path)
    assert one.keys() == other.keys() and all(one[name] != other[name] for name in one)


def test_the_source_beside_a_figure_can_be_checked(folder):
    save_all(folder)
    source = json.loads((folder / "figures" / "accuracy_comparison.json").read_text())
    arms = figures.main_arms(pd.DataFrame({"arm": list(ARMS)}))
    assert source["rows"] == len(arms) * 5 * 4
    assert source["commits"] == ["a" * 40] and source["runs_without_record"] == []
    assert source["run_ids"] == sorted({run_rows(arm, seed)["run_id"].iloc[0] for arm in arms for seed in range(5)})
    lines = (folder / "results.csv").read_text().splitlines(keepends=True)
    runs = [f",{run}\n" for run in source["run_ids"]]
    shown = [line for line in lines if ",accuracy," in line and line.endswith(tuple(runs))]  # by hand, from the file
    assert source["rows_sha256"] == hashlib.sha256("".join([lines[0], *shown]).encode()).hexdigest()


def test_uncommitted_changes_and_missing_records_show_in_the_source(tmp_path):
    write_reports(tmp_path, seeds=[0, 1], arms=["real"])
    records = pd.read_csv(tmp_path / "records.csv", dtype=str)
    records.iloc[:1].assign(dirty="True").to_csv(tmp_path / "records.csv", index=False)
    source = gallery.source_of(gallery.Reports(tmp_path).rows(), tmp_path)
    assert source["commits"] == ["a" * 40 + "-dirty"]
    assert source["runs_without_record"] == [records["run_id"].iloc[1]]


def test_pdf_text_is_truetype_and_files_carry_no_date(folder):
    save_all(folder)
    pdf = (folder / "figures" / "accuracy_comparison.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf and b"/Type3" not in pdf and b"/CreationDate" not in pdf
    png = (folder / "figures" / "accuracy_comparison.png").read_bytes()
    assert b"Software" not in png and b"tIME" not in png


def test_table_is_booktabs_with_latex_escaped(folder):
    save_all(folder)
    tex = (folder / "tables" / "final_accuracy.tex").read_text()
    assert all(rule in tex for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"(\%)"))
    assert "25.20 & 84.00" in tex and "19.20 & 25.00" in tex
    numbers = pd.read_csv(folder / "tables" / "final_accuracy.csv").set_index("arm")
    expected = tables.final_accuracy(gallery.Reports(folder).rows(["accuracy"])).set_index("arm")
    assert numbers.loc["real", "final"] == expected.loc["real", "final"]


def save_small_table(folder, *rows):
    table, rows = pd.DataFrame({"a": ["1"]}), results.with_arm(pd.concat(rows))
    return gallery.save_table(tables.Table(table, table, rows), "t", folder)


def test_scales_and_studies_do_not_overwrite_each_other_and_are_not_saved_as_one(tmp_path):
    main, small = run_rows("real", 0), run_rows("real", 0, "agnews_small")
    places = {"": main, "agnews_small": small, "miniature/ablation": run_rows("real", 0, "miniature", "ablation")}
    for place, rows in places.items():
        assert save_small_table(tmp_path, rows) == tmp_path / "tables" / place / "t.tex"
    with pytest.raises(ValueError, match="save one scale and study at a time"):
        save_small_table(tmp_path, main, small)
    both = save_small_table(tmp_path, main, run_rows("real", 0, study="pool_25"))  # two worlds in one table
    assert both == tmp_path / "tables/miniature/worlds/t.tex"


def test_every_table_is_written_for_people_and_for_tex_with_the_same_cells(folder):
    """And the paired tests are those of the rows: Holm over the table, no interval from fewer than three seeds."""
    written = gallery.save_tables(gallery.Reports(folder))
    assert [path.stem for path in written] == list(tables.TABLES)
    for path in written:
        head, _, *lines = path.with_suffix(".md").read_text().splitlines()
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *lines)]
        tex = [line.rstrip("\\ ").split(" & ") for line in path.read_text().splitlines() if line.endswith(r"\\")]
        assert [[cell.replace("\\", "") for cell in line] for line in tex] == cells
    paired = tables.table("paired", gallery.Reports(folder).by_study)
    expected = tables.paired_table(gallery.Reports(folder).rows(["accuracy"])).iloc[0]
    first = paired.readable.iloc[0]
    assert first["Arm"] == "Real data" and first["Against"] == "Static synthetic" and first["Seeds"] == "5"
    points = [expected[name] * 100 for name in ("mean", "low", "high")]
    assert first["Difference (points)"] == "{:.1f} [{:.1f}, {:.1f}]".format(*points)
    two = {"main": gallery.Reports(folder).by_study["main"].query("seed < 2")}
    shown = tables.table("paired", two).readable
    assert not shown["Difference (points)"].str.contains("[", regex=False).any() and set(shown["p (Holm)"]) == {"-"}


def test_a_figure_of_several_studies_has_a_folder_of_its_own(tmp_path):
    rows = [run_rows(arm, seed, study=study) for study in ("main", "pool_25")
            for arm in ("static", "symbiosis-best") for seed in (0, 1, 2)]  # fmt: skip
    rows = pd.concat(rows).sort_values(results.SORT_BY)
    (tmp_path / "results.csv").write_bytes(results.csv_bytes(rows, results.COLUMNS))
    path, used = gallery.save("regime_map", gallery.Reports(tmp_path))
    assert path == tmp_path / "figures" / "miniature" / "regimes" / "regime_map.pdf"
    source = json.loads(path.with_suffix(".json").read_text())
    assert source["study"] == ["main", "pool_25"] and source["rows_sha256"] == results.rows_digest(used)
