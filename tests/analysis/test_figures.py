"""Figures show the numbers they are given, files are the same bytes for the same rows, notebooks 06 and 07 run."""

import ast
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import yaml
from matplotlib.colors import to_hex
from test_results import ARMS, run_rows, write_reports

from symbiosis.analysis import figures, tables
from symbiosis.analysis.statistics import mean_interval
from symbiosis.params import study_cells
from symbiosis.store import results

ROOT = Path(__file__).parents[2]
NOTEBOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in ("06_analysis", "07_paper_figures")]


@pytest.fixture(autouse=True)
def style():
    figures.use_style()
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Five seeds of all arms over four generations."""
    return write_reports(tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory):
    return write_reports(tmp_path_factory.mktemp("one"), seeds=[0], arms=["real", "static", "symbiosis"])


def rows_of(reports):
    return results.read_results(reports, "miniature")


def line_of(ax, arm):
    return next(line for line in ax.get_lines() if line.get_label() == tables.arm_name(arm))


# ---- what is drawn


def test_accuracy_figure_draws_the_means_and_their_intervals(reports):
    rows = rows_of(reports)
    ax = figures.plot_accuracy(rows, n_classes=4)
    summary = tables.summarise(rows, "accuracy")
    expected = summary[summary["arm"] == "symbiosis"]
    assert line_of(ax, "symbiosis").get_ydata().tolist() == expected["mean"].tolist()
    bars = ax.collections[tables.order(summary).index("symbiosis")].get_segments()
    assert [bar[0][1] for bar in bars] == pytest.approx(expected["low"].tolist())
    assert [bar[1][1] for bar in bars] == pytest.approx(expected["high"].tolist())


def test_shifted_points_stay_nearest_to_their_own_generation(reports):
    ax = figures.plot_accuracy(rows_of(reports), n_classes=4)
    places = [line_of(ax, arm).get_xdata() for arm in ARMS]
    assert all([round(x) for x in xs] == [0, 1, 2, 3] for xs in places)
    assert len({tuple(xs) for xs in places}) == len(ARMS)  # and no two arms share a place


def test_guessing_line_follows_the_number_of_classes(reports):
    ax = figures.plot_accuracy(rows_of(reports), n_classes=5)
    (line,) = (line for line in ax.get_lines() if line.get_label() == "Guessing one of 5")
    assert set(line.get_ydata()) == {0.2}


def test_legend_says_how_many_seeds_and_follows_the_ends_of_the_lines(reports):
    legend = figures.plot_accuracy(rows_of(reports), n_classes=4).get_legend()
    assert "n = 5 seeds" in legend.get_title().get_text()
    names = [text.get_text() for text in legend.get_texts()]
    assert names[0] == "Real data" and names[-2:] == ["Recursive", "Guessing one of 4"]


def test_legend_says_so_where_seeds_differ(reports):
    rows = rows_of(reports).query("arm != 'symbiosis' or seed < 3")
    names = [text.get_text() for text in figures.plot_accuracy(rows, n_classes=4).get_legend().get_texts()]
    assert "Symbiosis (n = 3)" in names and "Real data (n = 5)" in names


def test_one_seed_is_drawn_without_bars(one_seed):
    ax = figures.plot_accuracy(rows_of(one_seed), n_classes=4)
    heights = [seg[:, 1] for bars in ax.collections for seg in bars.get_segments() if len(seg)]
    assert all(pd.isna(height).all() for height in heights)
    assert ax.get_legend().get_title().get_text() == "one seed: no interval"


def test_arms_are_told_apart_by_colour_and_by_marker():
    named = list(tables.ARM_NAME)
    assert set(ARMS) <= set(named) == set(figures.METHOD_COLOR) | set(figures.CONTROL_COLOR)
    styles = [figures.arm_style(arm) for arm in named]
    for look in ("color", "marker"):  # each with the line alone: in print there is no colour, in a pale copy no marker
        assert len({(style[look], style["linestyle"]) for style in styles}) == len(named)
    assert len({figures.METHOD_COLOR[arm] for arm in figures.MAIN_ARMS}) == len(figures.MAIN_ARMS)


def test_controls_in_the_hue_of_their_family_are_dashed_with_open_markers():
    control, method = figures.arm_style("static-dev"), figures.arm_style("static")
    assert control["color"] == method["color"]
    assert (control["linestyle"], control["markerfacecolor"]) == ("--", "white")
    assert method["linestyle"] == "-" and "markerfacecolor" not in method


def test_a_new_variant_is_dashed_in_the_colour_of_its_method():
    new = figures.arm_style("symbiosis-entropy")
    assert (new["color"], new["linestyle"]) == (figures.METHOD_COLOR["symbiosis"], "--")
    assert new["marker"] not in {*figures.METHOD_MARKER.values(), *figures.CONTROL_MARKER.values()}


def test_main_and_control_arms_share_out_the_arms(reports):
    rows = rows_of(reports)
    main, controls = figures.main_arms(rows), figures.control_arms(rows)
    assert set(main) == set(figures.MAIN_ARMS) and sorted(main + controls) == sorted(ARMS)
    only = rows[rows["arm"] == "symbiosis-random"]  # a study of variants alone
    assert figures.main_arms(only) == ["symbiosis-random"] and figures.control_arms(only) == []


def test_accuracy_figure_draws_the_arms_asked_for(reports):
    ax = figures.plot_accuracy(rows_of(reports), n_classes=4, arms=["static", "static-dev", "symbiosis-label_hard"])
    drawn = {line.get_label() for line in ax.get_lines()}
    assert drawn == {"Static synthetic", "Static + dev labels", "Guessing one of 4"}  # the third was not run


def test_an_arm_keeps_its_style_when_others_are_absent(reports, one_seed):
    many, few = plt.subplots(1, 2)[1]
    figures.plot_metric(rows_of(reports), "accuracy", ax=many)
    figures.plot_metric(rows_of(one_seed), "accuracy", ax=few)
    assert line_of(many, "static").get_color() == line_of(few, "static").get_color()
    assert line_of(many, "static").get_marker() == line_of(few, "static").get_marker()


def test_losses_carry_their_units(reports):
    _, axes = figures.new_figure(2)
    figures.plot_losses(rows_of(reports), axes=axes)
    assert [ax.get_ylabel() for ax in axes] == ["nats", "nats/token"]


def test_only_measures_that_were_taken_get_a_panel(reports):
    rows = rows_of(reports)
    assert figures.measured(rows, figures.LESSON_MEASURES) == list(figures.LESSON_MEASURES)
    real_text = rows[~rows["metric"].isin(["lesson_tail_coverage", "lesson_label_purity"])]
    (only,) = figures.plot_lesson_measures(real_text, axes=figures.new_figure(1)[1])
    assert only.get_title() == "distinct word pairs"


def test_forest_plot_puts_each_difference_on_its_arm(reports):
    table = tables.paired_table(rows_of(reports))
    ax = figures.plot_paired(table, "static")
    names = [label.get_text() for label in ax.get_yticklabels()]
    drawn = {names[int(line.get_ydata()[0])]: line.get_xdata()[0] for line in ax.get_lines()[1:]}
    expected = table[table["baseline"] == "static"]
    assert drawn == dict(zip(map(tables.arm_name, expected["arm"]), expected["difference"], strict=True))


def paired_with(arms):
    values = [(0.02 * i, 0.02 * i - 0.01, 0.02 * i + 0.01, 0.03) for i in range(len(arms))]
    table = pd.DataFrame(values, columns=["difference", "low", "high", "p_holm"])
    return table.assign(arm=arms, baseline="symbiosis-best")


def overlap(boxes):
    """Pairs of neighbouring boxes, top to bottom, that cover each other."""
    boxes = sorted(boxes, key=lambda box: -box.y0)
    return sum(upper.y0 < lower.y1 for upper, lower in itertools.pairwise(boxes))


def test_forest_plot_of_all_arms_keeps_its_lines_apart():
    table = paired_with([arm for arm in tables.ARM_NAME if arm != "symbiosis-best"])
    for height, crowded in ((figures.forest_height(len(table)), False), (1.2, True)):
        fig, (ax,) = figures.new_figure(height=height)
        figures.plot_paired(table, "symbiosis-best", ax=ax)
        fig.canvas.draw()
        for texts in (ax.get_yticklabels(), ax.texts):
            assert (overlap([text.get_window_extent() for text in texts]) > 0) == crowded


EFFECTS = pd.DataFrame(
    [
        ("feedback", "lm_loss", "random", 4, 6, 0.02, 0.01, 0.03, 0.004, 0.008),
        ("feedback", "influence", "random", 1, 6, -0.01, -0.03, 0.01, 0.2, 0.2),
        ("candidates", "3", "1", 2, 5, 0.05, np.nan, np.nan, np.nan, np.nan),
    ],
    columns=["factor", "level", "reference", "pairs", "n", "mean", "low", "high", "p", "p_holm"],
)


def test_ablation_figure_groups_levels_under_their_factor():
    ax = figures.plot_ablation(EFFECTS)
    names = {tick: label.get_text() for tick, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
    drawn = {names[line.get_ydata()[0]]: line.get_xdata()[0] for line in ax.get_lines()[1:]}
    assert drawn == {"lm loss (4 pairs)": 0.02, "influence (1 pair)": -0.01, "3 (2 pairs)": 0.05}
    heads = {text.get_text(): text.xy[1] for text in ax.texts if "against" in text.get_text()}
    assert list(heads) == ["feedback, against random", "candidates, against 1"]
    at = {name: y for y, name in names.items()}
    order = [heads["feedback, against random"], at["lm loss (4 pairs)"], at["influence (1 pair)"],
             heads["candidates, against 1"], at["3 (2 pairs)"]]  # fmt: skip
    assert order == sorted(order, reverse=True)  # from top to bottom
    assert ax.get_xlabel().endswith("n = 5 to 6 seeds")
    assert [text.get_text() for text in ax.texts if text.get_text().startswith("p ")] == ["p = 0.008", "p = 0.200"]


MAP = pd.DataFrame(
    [
        ("pool_25", "static", 6, 0.06, 0.02, 0.10),
        ("pool_25", "pseudo_label", 6, 0.01, -0.01, 0.03),
        ("labeller_weak", "static", 1, -0.03, np.nan, np.nan),
    ],
    columns=["study", "rival", "n", "mean", "low", "high"],
)


def test_regime_map_prints_points_and_frames_what_excludes_zero():
    ax = figures.plot_regimes(MAP)
    cells = {text.get_text(): text for text in ax.texts if text.get_text()[0] in "+−"}
    assert set(cells) == {"+6.0", "+1.0", "−3.0"}
    assert {name for name, text in cells.items() if text.get_weight() == "bold"} == {"+6.0"}
    framed = [box for box in ax.patches if not box.get_fill() and not box.get_hatch()]
    assert len(framed) == 1 and (int(framed[0].get_x()), int(framed[0].get_y())) == (0, 0)
    assert [text.get_text() for text in ax.texts if text.get_rotation() == 90] == ["pool size", "labeller"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["25 texts\nn = 6 seeds", "weaker\nn = 1 seed"]


def test_regime_map_is_blue_above_zero_vermilion_below_and_white_at_zero():
    colors = [to_hex(figures.DIVERGING(x)) for x in (0.0, 0.5, 1.0)]
    assert colors == [figures.METHOD_COLOR["recursive"], "#ffffff", figures.METHOD_COLOR["symbiosis"]]
    ax = figures.plot_regimes(MAP)
    filled = [box for box in ax.patches if box.get_fill() and box.get_width() == 1]
    shades = {(box.get_x(), box.get_y()): box.get_facecolor() for box in filled}
    best, worst = shades[0, 0], shades[0, 1]
    assert to_hex(best) == figures.METHOD_COLOR["symbiosis"]  # the largest difference has the full colour
    assert best[2] > best[0] and worst[0] > worst[2]


def test_dev_figure_draws_points_of_accuracy_at_their_rows():
    lines = [("static-dev", 16, 0.02), ("static-dev", 64, 0.03), ("symbiosis-best_influence", 16, -0.01)]
    table = pd.DataFrame(lines, columns=["arm", "dev_rows", "mean"]).assign(low=-0.02, high=0.04, n=6)
    ax = figures.plot_dev(table)
    assert line_of(ax, "static-dev").get_ydata().tolist() == [2, 3]
    assert line_of(ax, "static-dev").get_xdata() == pytest.approx([16, 64], rel=0.1)
    assert line_of(ax, "symbiosis-best_influence").get_ydata().tolist() == [-1]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["16", "64"]


# ---- what is saved


def save_all(reports_dir, rows):
    fig, (ax,) = figures.new_figure()
    figures.plot_accuracy(rows, n_classes=4, ax=ax)
    figures.save_figure(fig, "accuracy_comparison", reports_dir, rows)
    table = tables.final_accuracy(rows)
    figures.save_table(table, "final_accuracy", reports_dir, rows, readable=tables.readable_final(table))


def digests(folder):
    files = sorted(p for kind in ("figures", "tables") for p in (folder / kind).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_rows_give_the_same_bytes_in_another_process(reports):
    save_all(reports, rows_of(reports))
    before = digests(reports)
    assert sorted(before) == [
        "figures/accuracy_comparison.json", "figures/accuracy_comparison.pdf", "figures/accuracy_comparison.png",
        "tables/final_accuracy.csv", "tables/final_accuracy.json", "tables/final_accuracy.tex",
    ]  # fmt: skip
    for path in before:
        (reports / path).unlink()
    code = (
        "import sys, test_figures as t; t.figures.use_style(); "
        "t.save_all(sys.argv[1], t.rows_of(sys.argv[1]).sample(frac=1, random_state=1))"  # order of rows is no matter
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    subprocess.run([sys.executable, "-c", code, str(reports)], check=True, env=environment)
    assert digests(reports) == before


def test_other_rows_give_another_figure(reports, tmp_path):
    rows = rows_of(reports)
    save_all(tmp_path / "a", rows)
    save_all(tmp_path / "b", rows.assign(value=rows["value"] * 0.99))
    a, b = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert all(a[name] != b[name] for name in a)


def test_the_source_beside_a_figure_can_be_checked(reports):
    rows = rows_of(reports).query("metric == 'accuracy'")
    save_all(reports, rows)
    source = json.loads((reports / "figures" / "accuracy_comparison.json").read_text())
    assert source["rows"] == len(rows) == len(ARMS) * 5 * 4
    assert source["commits"] == ["a" * 40] and source["runs_without_record"] == []
    assert source["run_ids"] == sorted({run_rows(arm, seed)["run_id"].iloc[0] for arm in ARMS for seed in range(5)})
    lines = (reports / "results.csv").read_text().splitlines(keepends=True)
    shown = [lines[0]] + [line for line in lines if ",accuracy," in line]  # by hand, from the file itself
    assert source["rows_sha256"] == hashlib.sha256("".join(shown).encode()).hexdigest()


def test_uncommitted_changes_and_missing_records_show_in_the_source(tmp_path):
    reports = write_reports(tmp_path, seeds=[0, 1], arms=["real"])
    records = pd.read_csv(reports / "records.csv", dtype=str)
    records.iloc[:1].assign(dirty="True").to_csv(reports / "records.csv", index=False)
    source = figures.source_of(rows_of(reports), reports)
    assert source["commits"] == ["a" * 40 + "-dirty"]
    assert source["runs_without_record"] == [records["run_id"].iloc[1]]


def test_pdf_text_is_truetype_and_files_carry_no_date(reports):
    save_all(reports, rows_of(reports))
    pdf = (reports / "figures" / "accuracy_comparison.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf and b"/Type3" not in pdf and b"/CreationDate" not in pdf
    png = (reports / "figures" / "accuracy_comparison.png").read_bytes()
    assert b"Software" not in png and b"tIME" not in png


def test_table_is_booktabs_with_latex_escaped(reports):
    save_all(reports, rows_of(reports))
    tex = (reports / "tables" / "final_accuracy.tex").read_text()
    assert all(rule in tex for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"(\%)"))
    assert "25.20 & 84.00" in tex and "19.20 & 25.00" in tex
    numbers = pd.read_csv(reports / "tables" / "final_accuracy.csv").set_index("arm")
    assert numbers.loc["real", "final"] == tables.final_accuracy(rows_of(reports)).set_index("arm").loc["real", "final"]


@pytest.mark.parametrize(
    ("scale", "study", "folder"),
    [
        ("miniature", "main", ""),
        ("agnews_small", "main", "agnews_small"),
        ("miniature", "ablation", "miniature/ablation"),
    ],
)
def test_scales_and_studies_do_not_overwrite_each_other(tmp_path, scale, study, folder):
    assert figures.place(scale, study) == folder
    rows = run_rows("real", 0, scale, study)
    path = figures.save_table(pd.DataFrame({"a": [1]}), "t", tmp_path, results.with_arm(rows))
    assert path == tmp_path / "tables" / folder / "t.tex"


def test_rows_of_two_scales_are_not_saved_as_one_figure(tmp_path):
    rows = pd.concat([run_rows("real", 0), run_rows("real", 0, "agnews_small")])
    with pytest.raises(ValueError, match="save one at a time"):
        figures.save_table(pd.DataFrame({"a": [1]}), "t", tmp_path, rows)


def test_a_figure_of_several_studies_is_saved_where_it_is_told(tmp_path):
    rows = results.with_arm(pd.concat([run_rows("real", 0), run_rows("real", 0, study="pool_25")]))
    fig, _ = figures.new_figure()
    with pytest.raises(ValueError, match="save one at a time"):
        figures.save_figure(fig, "map", tmp_path, rows)
    path = figures.save_figure(fig, "map", tmp_path, rows, study="regimes")
    assert path == tmp_path / "figures" / "miniature" / "regimes" / "map.pdf"
    source = json.loads(path.with_suffix(".json").read_text())
    assert source["study"] == ["main", "pool_25"] and source["rows_sha256"] == results.rows_digest(rows)


# ---- the notebooks


def execute(path, out, **parameters):
    """Run a notebook as papermill does by hand, from a folder that is not the repository's root."""
    notebook = papermill.execute_notebook(
        str(path), str(out / path.name), parameters=parameters, cwd=str(path.parent), progress_bar=False
    )
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(cells):
    return sum("image/png" in o.get("data", {}) for cell in cells for o in cell.outputs)


@pytest.mark.parametrize(
    ("which", "shown", "names"),
    [
        ("reports", [6, 5], ("accuracy_comparison", "accuracy_controls", "loss_curves", "lesson_measures")),
        ("one_seed", [4, 4], ("accuracy_comparison", "loss_curves", "lesson_measures")),  # and no control, no best
    ],
)
def test_notebooks_run_on_many_seeds_and_on_one(which, shown, names, request, tmp_path):
    folder = request.getfixturevalue(which)
    before = (folder / "results.csv").read_bytes()
    counts = [pictures(execute(path, tmp_path, reports_dir=str(folder))) for path in NOTEBOOKS]
    assert counts == shown
    assert (folder / "results.csv").read_bytes() == before and (folder / "claims.md").is_file()
    drawn = [*names, "theory/relative_efficiency"]  # this one needs no run
    expected = {f"figures/{name}.{suffix}" for name in drawn for suffix in ("json", "pdf", "png")}
    expected |= {f"tables/final_accuracy.{suffix}" for suffix in ("json", "csv", "tex")}
    assert set(digests(folder)) == expected


LONG = 5  # generations of the long study here: two past the third
CELLS = {"a": {"feedback": "random"}, "b": {"feedback": "lm_loss"}}


def study_rows(study, arms, seeds=(11, 12, 13)):
    """Made-up rows of arms that `test_results` does not know: accuracy, and what the Generator labels rightly."""
    rng = np.random.default_rng(0)
    rows = []
    for arm in arms:
        method, _, variant = arm.partition("-")
        for seed in seeds:
            head = {"study": study, "method": method, "variant": variant or "plain", "scale": "miniature", "seed": seed}
            tail = {"unit": "share", "n": 1000, "run_id": f"miniature/{study}/{arm}-s{seed}@{seed:08x}"}
            for g in range(LONG + 1 if study == "long" else 4):
                values = {"accuracy": 0.6 + 0.1 * rng.random(), "generator_accuracy": 0.6}
                rows += [head | {"generation": g, "metric": m, "value": v} | tail for m, v in values.items()]
    return pd.DataFrame(rows)[list(results.COLUMNS)]


@pytest.fixture
def all_studies(tmp_path):
    """A folder like the repository's, with cells of an ablation, results of every kind of study, and the notebooks."""
    main = ["real", "static", "static-dev", "symbiosis-best"]
    reports = write_reports(tmp_path / "reports", seeds=[11, 12, 13], arms=main)
    worlds = {
        "ablation": [f"symbiosis-{name}" for name in CELLS],
        "pool_25": ["symbiosis-best", "static", "pseudo_label"],
        "rare_tail": ["symbiosis-best", "static", "pseudo_label"],
        "dev_16": ["static", "static-dev"],
        "long": ["static", "symbiosis-best"],
    }
    new = pd.concat([study_rows(study, arms) for study, arms in worlds.items()])
    rows = pd.concat([pd.read_csv(reports / "results.csv"), new]).sort_values(results.SORT_BY)
    (reports / "results.csv").write_bytes(results.csv_bytes(rows, results.COLUMNS))
    records = pd.read_csv(reports / "records.csv", dtype=str)
    more = records.iloc[[0] * new["run_id"].nunique()].assign(run_id=sorted(new["run_id"].unique()))
    pd.concat([records, more]).to_csv(reports / "records.csv", index=False)
    shutil.rmtree(reports / "runs")
    (tmp_path / "params").mkdir()
    grid = {"base": {"method": "symbiosis"}, "cells": [{"variant": name} | cell for name, cell in CELLS.items()]}
    (tmp_path / "params" / "studies.yaml").write_text(yaml.safe_dump({"studies": {"ablation": grid}}))
    (tmp_path / "notebooks").mkdir()
    return [shutil.copy(path, tmp_path / "notebooks") for path in NOTEBOOKS]


def test_notebooks_show_and_save_every_study_that_was_run(all_studies, tmp_path):
    (tmp_path / "out").mkdir()
    cells = [execute(Path(path), tmp_path / "out") for path in all_studies]
    assert [pictures(found) for found in cells] == [11, 10]
    saved = {str(p.relative_to(tmp_path / "reports" / "figures")) for p in tmp_path.rglob("*.pdf")}
    names = {
        "ablation/ablation_effects",
        "regimes/regime_map",
        "dev/dev_rows",
        "long/accuracy_long",
        "rare_tail/accuracy_named",
    }
    assert {f"miniature/{name}.pdf" for name in names} <= saved
    source = json.loads((tmp_path / "reports/figures/miniature/regimes/regime_map.json").read_text())
    assert source["study"] == ["main", "pool_25", "rare_tail"] and source["metrics"] == ["accuracy"]
    told = "".join(o.get("text", "") for found in cells for cell in found for o in cell.outputs)
    missing = set(re.findall(r"study '(\w+)' has not been run", told))  # those of notebooks 04 and 05, not made up here
    assert missing == {"mixing", "ratio_or_diversity", "recursion_5", "inside", "interaction"}


def test_notebooks_run_where_the_true_distribution_is_unknown(tmp_path):
    write_reports(tmp_path, seeds=[0], arms=["real"], scale="agnews_small")  # and neither baseline was run
    rows = pd.read_csv(tmp_path / "results.csv", dtype=str)
    known_truth = ["accuracy_tail", "lesson_label_purity", "lesson_tail_mass", "lesson_tail_coverage"]
    rows[~rows["metric"].isin(known_truth)].to_csv(tmp_path / "results.csv", index=False)
    (tmp_path / "runs").rename(tmp_path / "elsewhere")  # only the table is kept
    for path in NOTEBOOKS:
        execute(path, tmp_path, reports_dir=str(tmp_path), scale="agnews_small")
    assert (tmp_path / "figures" / "agnews_small" / "lesson_measures.pdf").is_file()


def test_without_rows_a_notebook_stops_with_one_sentence(tmp_path):
    path = NOTEBOOKS[0]
    with pytest.raises(papermill.PapermillExecutionError, match="no such file; make it with `make reproduce`"):
        execute(path, tmp_path, reports_dir=str(tmp_path))
    notebook = nbformat.read(tmp_path / path.name, as_version=4)
    shown = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "error"]
    assert len(shown) == 1 and len(shown[0]["traceback"]) == 1 and "\n" not in shown[0]["traceback"][0]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_committed_clean_and_short(path):
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert code[0].metadata.tags == ["parameters"]
    names = {node.target.id: ast.literal_eval(node.value) for node in ast.parse(code[0].source).body}
    assert names == {"reports_dir": "reports", "scale": "miniature", "study": "main"}
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert max(len(cell.source.splitlines()) for cell in code) <= 15
    assert len({cell.id for cell in cells}) == len(cells)


# ---- collapse: ratio, diversity, mixing


def cell_means(lever, levels):
    """Accuracy that grows with the level where few rows are real; n differs in one cell."""
    lines = [(lever, r, level, 0.9 - 0.1 * (1 - r) * i) for r in (0, 0.5, 1) for i, level in enumerate(levels[::-1])]
    table = pd.DataFrame(lines, columns=["lever", "real_share", "level", "mean"])
    return table.assign(low=table["mean"] - 0.02, high=table["mean"] + 0.02, n=5)


def named_lines(ax):
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def test_factorial_figure_has_a_panel_per_lever_and_a_line_per_level():
    means = pd.concat([cell_means("diversity", [1.0, 2.93]), cell_means("quality", [0.6, 0.8, 1.0])])
    _, axes = figures.new_figure(2)
    figures.plot_factorial(means, axes=axes)
    left, right = (named_lines(ax) for ax in axes)
    assert list(left) == ["1.0", "2.9"] and list(right) == ["60%", "80%", "100%"]
    assert left["1.0"].get_ydata() == pytest.approx([0.8, 0.85, 0.9])
    assert left["1.0"].get_xdata() == pytest.approx([0, 0.5, 1], abs=0.02)
    assert axes[0].get_ylim() == axes[1].get_ylim()
    bars = axes[0].collections[0].get_segments()
    assert [(bar[0][1], bar[1][1]) for bar in bars] == [pytest.approx((y - 0.02, y + 0.02)) for y in (0.8, 0.85, 0.9)]
    legend = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert legend == ["100%", "80%", "60%"] and axes[1].get_title() == "quality, n = 5 seeds"  # the best line on top


def test_levels_are_darker_the_richer_and_differ_in_marker():
    (ax,) = figures.plot_factorial(cell_means("diversity", [1.0, 2.9, 5.1, 5.9]), axes=figures.new_figure()[1])
    lines = list(named_lines(ax).values())
    light = [np.dot(line.get_color()[:3], (0.299, 0.587, 0.114)) for line in lines]
    assert light == sorted(light, reverse=True) and min(-np.diff(light)) > 0.05
    assert len({line.get_marker() for line in lines}) == 4


def test_cells_that_were_not_run_are_not_drawn():
    means = cell_means("diversity", [1.0, 2.9])
    means.loc[0, ["mean", "low", "high"]] = np.nan  # the rich level without real rows
    (ax,) = figures.plot_factorial(means, axes=figures.new_figure()[1])
    assert {name: len(line.get_xdata()) for name, line in named_lines(ax).items()} == {"1.0": 3, "2.9": 2}


RELATIVE = pd.DataFrame(
    [("accuracy", 1, 1.0), ("accuracy", 2, 0.9), ("lesson_tail_coverage", 1, 1.0), ("lesson_tail_coverage", 2, 0.5)],
    columns=["metric", "generation", "mean"],
).assign(low=0.4, high=1.1, n=5)


def test_first_mover_figure_draws_measures_and_what_sampling_alone_would_do():
    ax = figures.plot_which_moves_first(RELATIVE, expected=np.array([1.0, 0.97]), fallen=0.05)
    lines = named_lines(ax)
    assert lines["test accuracy"].get_ydata().tolist() == [1.0, 0.9]
    covered, alone = lines["rare subtopics, covered"], lines["rare subtopics, if only\nsampling lost them"]
    assert covered.get_ydata().tolist() == [1.0, 0.5] and alone.get_ydata().tolist() == [1.0, 0.97]
    assert alone.get_xdata().tolist() == [1, 2] and (alone.get_linestyle(), covered.get_linestyle()) == ("--", "-")
    assert 0.95 in {line.get_ydata()[0] for line in ax.get_lines()}
    assert "n = 5 seeds" in ax.get_legend().get_title().get_text()


def test_measures_and_regimes_are_told_apart_by_colour_and_by_marker():
    measures = [(style["color"], style["marker"]) for style in figures.MEASURE_STYLE.values()]
    for styles in (measures, [style[1:] for style in figures.MIXING_STYLE.values()]):
        for look in zip(*styles, strict=True):
            assert len(set(look)) == len(styles)
    assert figures.MIXING_STYLE["recursive-replace"][1] == figures.METHOD_COLOR["recursive"]
    files = set(study_cells("mixing"))
    assert set(figures.MIXING_STYLE) == files  # every regime has a name and a line


def test_mixing_figure_orders_its_names_as_the_lines_end():
    ends = {"recursive-replace": 0.6, "recursive-golden": 0.9, "recursive-accumulate": 0.8, "real": 0.95}
    lines = [(arm, seed, g, 0.9 + (end - 0.9) * g) for arm, end in ends.items() for seed in (0, 1) for g in (0, 1)]
    rows = pd.DataFrame(lines, columns=["arm", "seed", "generation", "value"]).assign(metric="accuracy")
    ax = figures.plot_mixing(rows, n_classes=4)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["62% real, fresh", "accumulate", "replace", "guessing one of 4"]  # and no arm that is no regime
    assert named_lines(ax)["replace"].get_ydata() == pytest.approx([0.9, 0.6])


def test_theory_figure_puts_simulated_means_on_their_closed_form():
    curves = {"a": np.array([1.0, 0.5, 0.25]), "b": np.array([1.0, 1.0, 1.0])}
    draws = {"a": np.array([[1.0, 0.4, 0.2], [1.0, 0.6, 0.4]])}
    ax = figures.plot_theory(curves, draws, {"a": "falls", "b": "stays"})
    (bars,) = ax.containers  # b was not simulated
    points, _, (lines,) = bars
    assert points.get_ydata() == pytest.approx([1.0, 0.5, 0.3])
    assert lines.get_segments()[1][:, 1] == pytest.approx([0.3, 0.7])  # two standard errors of .1 either way
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["falls", "stays"]
    assert ax.get_xlabel() == "generation"
    at = figures.plot_theory(curves, draws, {"a": "falls"}, x=np.array([0.1, 0.2, 0.3]), ax=plt.figure().gca())
    assert at.get_lines()[0].get_xdata().tolist() == [0.1, 0.2, 0.3] and at.get_xlabel() == ""


def test_inside_has_a_line_per_arm_and_group_with_intervals():
    values = {"density_head": 0.4, "density_tail": 0.3, "effective_rank_head": 9.0, "effective_rank_tail": 12.0, "n": 5}
    places = [("random", 0), ("base", 0), ("real", 1), ("real", 2), ("static", 1), ("static", 2)]
    rows = [{"arm": arm, "generation": g, "seed": s} | values for arm, g in places for s in (1, 2)]
    rows = pd.DataFrame(rows).assign(density_tail=lambda r: r["density_tail"] + 0.01 * r["seed"])
    _, axes = figures.new_figure(2)
    figures.plot_inside(rows, axes=axes)
    density = axes[0]
    assert len(density.lines) == 2 + 2 * 2  # the base, head and tail, and the same per arm
    assert density.lines[2].get_ydata() == pytest.approx([0.315, 0.315])
    low, high = density.collections[0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx(mean_interval([0.31, 0.32])[1:])
    assert f"{tables.arm_name('real')}, tail" in [t.get_text() for t in axes[1].get_legend().get_texts()]


def test_a_recursion_shows_its_band_and_every_seed():
    rows = pd.DataFrame(
        [
            {"metric": metric, "arm": "recursive-warm", "seed": s, "generation": g, "value": v * s, "unit": "1"}
            for metric, v in (("perplexity", 100.0), ("mean_words", 10.0))
            for s in (1, 2)
            for g in (1, 2)
        ]
    )
    band = pd.DataFrame({"low": [30.0], "high": [40.0]}, index=["mean_words"])
    _, axes = figures.new_grid(2, columns=2)
    figures.plot_recursion(rows, ["perplexity", "mean_words"], axes=axes, band=band)
    assert [line.get_ydata()[0] for line in axes[1].lines] == pytest.approx([10, 20, 15])  # two seeds and their mean
    assert axes[0].get_yscale() == "log" and axes[1].get_ylim()[0] == 0
    assert [patch.get_height() for patch in axes[1].patches] == pytest.approx([10]) and not axes[0].patches


def test_a_figure_of_theory_names_its_setting_and_repeats_to_the_byte(tmp_path):
    fig, (ax,) = figures.new_figure()
    ax.plot([0, 1], [1, 0])
    path = figures.save_theory(fig, "curve", tmp_path, {"from": "a closed form"})
    assert path == tmp_path / "figures" / "theory" / "curve.pdf"
    first = path.read_bytes()
    figures.save_theory(fig, "curve", tmp_path, {"from": "a closed form"})
    assert path.read_bytes() == first and path.with_suffix(".png").stat().st_size > 0
    assert json.loads(path.with_suffix(".json").read_text()) == {"from": "a closed form"}
