"""Every kind of picture shows the numbers of the table it is given."""

import json
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from row_by_row import row_by_row

from symbiosis.analysis import drawings, figures, gallery, studies, tables
from symbiosis.analysis.statistics import mean_interval
from symbiosis.loop import runs
from symbiosis.settings import RunSettings
from symbiosis.store import results
from symbiosis.store.results import ResultsError

pytestmark = pytest.mark.usefixtures("style")


def rows_of(ends, seeds=(1, 2, 3), metric="accuracy"):
    """{arm: end}: each arm moves from 0.3 to its end in two generations, seeds a hundredth apart."""
    lines = [
        (arm, seed, g, metric, 0.3 + (end - 0.3) * g / 2 + 0.01 * seed, "share")
        for arm, end in ends.items()
        for seed in seeds
        for g in (0, 1, 2)
    ]
    return pd.DataFrame(lines, columns=["arm", "seed", "generation", "metric", "value", "unit"])


def line_of(ax, label):
    return next(line for line in ax.get_lines() if line.get_label() == label)


def bars_of(collection):
    return [tuple(segment[:, 1]) for segment in collection.get_segments()]


def texts(items):
    return [text.get_text() for text in items]


# ---- styles


def arm_style(arm):
    return figures.arm_styles(pd.DataFrame({"arm": [arm]}))[arm]


def test_arms_are_told_apart_controls_are_dashed_and_main_arms_are_those_named_so_or_all():
    styles = figures.styles_of("arms").values()
    for look in ("color", "marker"):  # each with the line alone: in print there is no colour, in a pale copy no marker
        assert len({(style[look], style["linestyle"]) for style in styles}) == len(styles)
    for section in ("measures", "mixing"):
        lines = figures.styles_of(section).values()
        for look in ("color", "marker"):
            assert len({style[look] for style in lines}) == len(lines)

    control, method, new = map(arm_style, ("static-dev", "static", "symbiosis-entropy"))
    assert control["color"] == method["color"] and control["markerfacecolor"] == "white"
    assert (control["linestyle"], method["linestyle"], new["linestyle"]) == ("--", "-", "--")
    assert new["color"] == arm_style("symbiosis")["color"] and new["marker"] in figures.SPARE_MARKERS

    assert figures.main_arms(rows_of({"static": 0.6, "real": 0.9, "static-dev": 0.7})) == ["real", "static"]
    assert figures.main_arms(rows_of({"symbiosis-random": 0.6})) == ["symbiosis-random"]  # a study of variants alone


# ---- means over seeds


def test_lines_are_means_over_what_was_measured_beside_their_own_generation_and_a_table_is_drawn_as_it_is():
    rows = rows_of({"real": 0.9})
    rows.loc[(rows["seed"] == 3) & (rows["generation"] == 2), "value"] = np.nan
    last = tables.means_over_seeds(rows, ["generation", "arm"]).set_index("generation").loc[2]
    assert last["n"] == 2 and last["mean"] == pytest.approx(0.915) and np.isnan(last["low"])
    with pytest.raises(ResultsError, match="more than one scale, study or metric"):
        tables.means_over_seeds(pd.concat([rows, rows]), ["generation", "arm"])

    rows, (_, (ax,)) = rows_of({"real": 0.9, "static": 0.6}), figures.new_figure()
    assert figures.plot_means(rows, figures.arm_styles(rows), ax) == {"Real data": [3] * 3, "Static synthetic": [3] * 3}
    assert line_of(ax, "Real data").get_ydata() == pytest.approx([0.32, 0.62, 0.92])
    assert bars_of(ax.collections[0])[2] == pytest.approx(mean_interval([0.91, 0.92, 0.93])[1:])
    places = [line_of(ax, name).get_xdata() for name in ("Real data", "Static synthetic")]
    assert [np.round(x).tolist() for x in places] == [[0, 1, 2]] * 2 and not set(places[0]) & set(places[1])

    table = pd.DataFrame({"x": [0.0, 0.1], "level": 1, "mean": [0.5, np.nan], "low": 0.4, "high": 0.7, "n": 5})
    _, (ax,) = figures.new_figure()
    figures.plot_means(table, {1: figures.line_style("one", "#000000", "o")}, ax, ("x", "level"))
    assert line_of(ax, "one").get_ydata().tolist() == [0.5]  # the other cell was not run
    assert bars_of(ax.collections[0]) == [(0.4, 0.7)]


def test_fewer_than_three_seeds_are_thin_lines_without_bars():
    for seeds, thin in (((1,), 0), ((1, 2), 2), ((1, 2, 3), 0)):
        rows, (_, (ax,)) = rows_of({"real": 0.9}, seeds), figures.new_figure()
        drawn = figures.plot_means(rows, figures.arm_styles(rows), ax)
        single = [line.get_ydata()[-1] for line in ax.get_lines() if line.get_label() != "Real data"]
        assert single == pytest.approx([0.91, 0.92][:thin])
        assert len(bars_of(ax.collections[0])) == (3 if len(seeds) == 3 else 0)
        figures.add_legend([ax], drawn)
        bars = "mean and 95% interval" if len(seeds) == 3 else "mean, no interval"
        assert ax.get_legend().get_title().get_text().startswith(f"{bars},\nn = {len(seeds)} seed")


def test_legend_follows_the_ends_of_the_lines_and_says_where_seeds_differ():
    rows = rows_of({"static": 0.5, "symbiosis": 0.7, "real": 0.9}).query("arm != 'static' or seed < 3")
    legend = figures.plot_accuracy(rows, 5).axes[0].get_legend()
    assert texts(legend.get_texts()) == ["Real data", "Symbiosis", "Static synthetic (n = 2)", "guessing one of 5"]
    assert legend.get_title().get_text() == "mean and 95% interval,\nn = 3 seeds unless noted"


# ---- accuracy, metrics


def test_guessing_is_a_line_where_it_is_near_a_number_where_it_is_far_and_absent_where_it_is_not_known():
    near, far = rows_of({"real": 0.9}), rows_of({"real": 0.9}).assign(value=lambda rows: rows["value"] + 0.5)
    ax = figures.plot_accuracy(near, 5).axes[0]
    assert set(line_of(ax, "guessing one of 5").get_ydata()) == {0.2}
    ax = figures.plot_accuracy(far, 4).axes[0]
    assert texts(ax.get_legend().get_texts())[-1] == "guessing one of 4 is 0.25" and ax.get_ylim()[0] > 0.7
    ax = figures.plot_accuracy(near, None).axes[0]
    assert texts(ax.get_legend().get_texts()) == ["Real data"]


def test_more_arms_than_a_panel_holds_are_dots_beside_their_names_the_best_on_top():
    ends = {arm: 0.5 + 0.02 * i for i, arm in enumerate(tables.STYLES["arms"])}
    rows = rows_of(ends).query("arm != 'static' or seed < 3")
    (ax,) = figures.plot_accuracy(rows, 4).axes
    assert texts(ax.get_yticklabels()) == [tables.arm_name(arm) for arm in reversed(ends)]
    first = ax.get_lines()[0]
    assert first.get_xdata()[0] == pytest.approx(max(ends.values()) + 0.02)
    assert len(ax.collections) == len(ends) - 1  # two seeds have no bar, and their number is said
    assert [text for text in texts(ax.texts) if text] == ["n = 2"]
    said = "generation 2, n = 3 seeds unless noted\nguessing one of 4 is 0.25 (axis from 0.45)"
    assert ax.get_xlabel() == f"test accuracy, {said}"


@row_by_row(("ends", "said", "begins"), [((0.1, 0.9), "share", 0), ((0.54, 0.97), "share (axis from 0.50)", 0.5)])
def test_an_axis_of_shares_says_where_it_begins_unless_that_is_0(ends, said, begins):
    _, (ax,) = figures.new_figure()
    ax.plot([0, 1], ends)
    ax.set_ylabel("share")
    figures.say_zoom(ax)
    assert (ax.get_ylabel(), ax.get_ylim()[0]) == (said, pytest.approx(begins))


def test_a_column_has_its_width_smaller_type_and_the_legend_below():
    figures.use_style("column")
    fig = figures.plot_accuracy(rows_of({"real": 0.9, "static": 0.6}), 4)
    assert fig.get_figwidth() == 3.3 and not fig.axes[0].get_legend() and len(fig.legends) == 1
    fig, axes = figures.new_figure(3, 2.0)
    assert axes[2].get_subplotspec().rowspan.start == 1 and fig.get_figheight() > 3  # two side by side, one below
    figures.use_style("text")
    assert figures.new_figure()[0].get_figwidth() == 7.0


# ---- one run


def test_losses_by_step_are_those_of_the_run_and_borders_those_of_its_generations(tmp_path):
    """Their means are what the run reports; the border is where the second lesson begins."""
    sizes = {"train_size": 48, "lesson_size": 24, "pool_size": 40, "dev_size": 12, "test_size": 20, "student_steps": 5}
    given = RunSettings(**sizes, scale="tiny", generations=2, epochs=1, method="real", reports_dir=str(tmp_path))
    reported = runs.run(given)
    folder = tmp_path / "runs" / given.folder
    losses = results.step_losses([folder])
    for name in ("label_loss", "lm_loss"):
        expected = reported[reported["metric"] == f"train_{name}"].set_index("generation")["value"]
        assert losses.groupby("generation")[name].mean().to_dict() == pytest.approx(expected.to_dict())
    steps = losses["generation"].value_counts()
    for ax, name in zip(figures.loss_by_step([folder]).axes, ("label_loss", "lm_loss"), strict=True):
        assert line_of(ax, "Real data (n = 1)").get_ydata().tolist() == losses[name].tolist()
        assert [line.get_xdata()[0] for line in ax.get_lines() if line.get_linestyle() == ":"] == [steps[1] + 0.5]
        assert texts(ax.texts) == ["generation 1", "2"]
    results.collect(tmp_path)
    fig, used = gallery.draw("loss_by_step", gallery.Reports(tmp_path, "tiny"), arms=["real"])
    assert set(used["run_id"]) == {given.run_id} and len(fig.axes) == 2
    table = tmp_path / "results.csv"
    table.write_text(table.read_text().replace(",train_lm_loss,", ",train_lm_loss,1"))  # rows of other runs
    with pytest.raises(gallery.NotRun, match="not those of these rows"):
        gallery.draw("loss_by_step", gallery.Reports(tmp_path, "tiny"), arms=["real"])
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    path = other / "state/student-2/result.json"
    stage = json.loads(path.read_text())
    path.write_text(json.dumps(stage | {"history": stage["history"][1:]}))
    rows = (other / "rows.csv").read_text()
    (other / "rows.csv").write_text(rows.replace("/real-s", "/static-s").replace(",real,", ",static,"))
    with pytest.raises(ResultsError, match="not of equally many steps; draw them apart"):
        figures.loss_by_step([folder, other])
    shutil.rmtree(other / "state")
    with pytest.raises(ResultsError, match="no losses by step"):
        results.step_losses([other])


def test_panels_carry_units_and_the_band_of_real_text():
    rows = pd.concat([rows_of({"real": 0.9}, metric="mean_words"), rows_of({"real": 0.9}, metric="vendi")])
    band = pd.DataFrame({"low": [0.3], "high": [0.4]}, index=["vendi"])
    fig = figures.plot_metrics(rows, ["mean_words", "vendi", "mauve"], 2.0, band)  # mauve was not measured
    assert [ax.get_ylabel() for ax in fig.axes] == ["share (axis from 0.25)", "effective texts (axis from 0.25)"]
    assert not fig.axes[0].patches and fig.axes[1].patches[0].get_height() == pytest.approx(0.1)
    assert texts(fig.legends[0].get_texts()) == ["Real data", "lessons of real text, 95%"]


# ---- forest plots


def test_forest_plot_puts_each_difference_on_its_arm():
    table = tables.paired_table(rows_of({"real": 0.9, "static": 0.6, "symbiosis": 0.8, "recursive": 0.3}))
    left, right = figures.plot_paired(table).axes
    assert (left.get_title(), right.get_title()) == ("against Static synthetic", "against Recursive")
    names = dict(zip(left.get_yticks(), texts(left.get_yticklabels()), strict=True))  # shared by both panels
    for ax, baseline in ((left, "static"), (right, "recursive")):
        drawn = {
            names[line.get_ydata()[0]]: line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() != "None"
        }
        expected = table[table["baseline"] == baseline].set_index("arm")["mean"].rename(tables.arm_name)
        assert {name: x for name, x in drawn.items() if not np.isnan(x)} == expected.to_dict()


def test_ablation_figure_groups_levels_under_their_factor():
    effects = pd.DataFrame(
        [
            ("feedback", "lm_loss", "random", 4, 6, 0.02, 0.01, 0.03, 0.004, 0.008),
            ("feedback", "influence", "random", 1, 6, -0.01, -0.03, 0.01, 0.2, 0.2),
            ("candidates", "3", "1", 2, 2, 0.05, -1.0, 1.0, np.nan, np.nan),
        ],
        columns=["factor", "level", "reference", "pairs", "n", "mean", "low", "high", "p", "p_holm"],
    )
    (ax,) = figures.plot_ablation(effects).axes
    at = dict(zip(texts(ax.get_yticklabels()), ax.get_yticks(), strict=True))
    drawn = {line.get_ydata()[0]: line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "D"}
    found = {name: drawn[y] for name, y in at.items()}
    assert found == {"lm loss (4 pairs)": 0.02, "influence (1 pair)": -0.01, "3 (2 pairs)": 0.05}
    heads = {text.get_text(): text.xy[1] for text in ax.texts if "against" in text.get_text()}
    assert list(heads) == ["feedback, against random", "candidates, against 1"]
    order = [
        heads["feedback, against random"],
        *list(at.values())[:2],
        heads["candidates, against 1"],
        at["3 (2 pairs)"],
    ]
    assert order == sorted(order, reverse=True)  # from top to bottom
    assert len(ax.collections) == 2  # two seeds have no bar
    assert [text for text in texts(ax.texts) if text[:2] in ("0.", "Ho")] == ["0.008", "0.200", "Holm's p"]


# ---- matrices


def test_regime_map_prints_points_and_frames_what_excludes_zero():
    table = pd.DataFrame(
        [
            ("pool_25", "static", 6, 0.06, 0.02, 0.10),
            ("pool_25", "pseudo_label", 6, 0.01, -0.01, 0.03),
            ("labeller_weak", "static", 1, -0.03, np.nan, np.nan),
        ],
        columns=["study", "rival", "n", "mean", "low", "high"],
    )
    ax = drawings.plot_regimes(table, studies.REGIMES).axes[0]
    cells = {text.get_text(): text for text in ax.texts if text.get_text()[0] in "+−"}
    assert {name: text.get_weight() for name, text in cells.items()} == {
        "+6.0": "bold",
        "+1.0": "normal",
        "−3.0": "normal",
    }
    (frame,) = (box for box in ax.patches if not box.get_hatch())
    assert (int(frame.get_x()), int(frame.get_y())) == (0, 0)
    assert ax.collections[0].get_clim() == (-6, 6) and ax.collections[0].get_array().mask.sum() == 1  # one not run
    assert [text.get_text() for text in ax.texts if text.get_rotation() == 90] == ["pool size", "labeller"]
    assert texts(ax.get_yticklabels()) == ["25 texts\nn = 6 seeds", "weaker\nn = 1 seed"]


def test_surface_marks_the_best_mixture_and_leaves_gaps_grey():
    values = np.array([[0.1, 0.2, 0.3], [0.2, np.nan, 0.7], [0.1, 0.1, 0.1]])  # alphas by betas
    fig = figures.plot_surface({"one": values, "half": values / 2}, [0.2, 0.5, 0.8])
    circle, star = fig.axes[0].get_lines()
    assert circle.get_xydata().tolist() == [[1.5, 1.5]] and star.get_xydata().tolist() == [[1.5, 2.5]]
    assert "0.700 at (0.5, 0.8)" in fig.axes[0].get_title()
    assert [ax.collections[0].get_clim() for ax in fig.axes[:2]] == [(0, 0.7)] * 2  # one colour scale
    shown = fig.axes[0].collections[0].get_array().reshape(3, 3)
    assert shown.mask.sum() == 1 and shown.mask[1, 1] and shown[2, 1] == 0.7 and fig.axes[0].get_ylim() == (0, 3)


# ---- theory, influence


def test_theory_figure_puts_simulated_means_on_their_closed_form():
    curves = {"a": np.array([1.0, 0.5, 0.25]), "b": np.array([1.0, 1.0, 1.0])}
    draws = {"a": np.array([[1.0, 0.4, 0.2], [1.0, 0.6, 0.4]])}
    ax = figures.plot_theory(curves, draws, {"a": "falls", "b": "stays"})
    (bars,) = ax.containers  # b was not simulated
    points, _, (lines,) = bars
    assert points.get_ydata() == pytest.approx([1.0, 0.5, 0.3])
    assert lines.get_segments()[1][:, 1] == pytest.approx([0.3, 0.7])  # two standard errors of .1 either way
    assert texts(ax.get_legend().get_texts()) == ["falls", "stays"] and ax.get_xlabel() == "generation"
    at = figures.plot_theory(curves, draws, {"a": "falls"}, x=np.array([0.1, 0.2, 0.3]), ax=plt.figure().gca())
    assert at.get_lines()[0].get_xdata().tolist() == [0.1, 0.2, 0.3] and at.get_xlabel() == ""


def test_influence_figure_has_a_dot_per_text_beside_the_line_of_equality():
    changes = pd.DataFrame({"predicted": [0.1, -0.2], "actual": [0.3, 0.0], "kind": ["true label", "wrong label"]})
    ax = figures.plot_influence(changes)
    assert ax.get_lines()[0].get_xydata().tolist() == [[-0.2, -0.2], [0.1, 0.1]]
    assert line_of(ax, "wrong label (n = 1)").get_xydata().tolist() == [[-0.2, 0.0]]
