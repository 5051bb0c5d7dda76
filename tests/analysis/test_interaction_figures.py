"""Figures of notebook 04 show the numbers they are given, and the notebook runs without and with results."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import papermill
import pytest
from analysis.test_interaction import cell_rows, matrix_ends, path_rows

from symbiosis.analysis import figures, interaction, tables
from symbiosis.analysis import interaction_figures as drawn
from symbiosis.store import results

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "04_model_interaction.ipynb"
SEEDS = range(11, 16)


@pytest.fixture(autouse=True)
def style():
    figures.use_style()
    yield
    plt.close("all")


def unequal_rows(**kwargs):
    """Three equal entities, and those of BEYOND: worse on the own task and better on the others' from arm to arm."""
    tables = [cell_rows(**kwargs)]
    for i, one in enumerate(interaction.BEYOND):
        ends = matrix_ends(3, (1.5, 1.45 + 0.1 * i), (3.0, 2.2 - 0.1 * i))
        ends |= {"loss_own": (1.5, 1.45), "loss_others": (3.0, 2.2), "loss_public": (2.0, 1.9)}
        ends |= {metric: (0.6, 0.7) for metric in drawn.SIMILARITY_STYLE}
        tables.append(path_rows(one.split("-")[1], ends, **kwargs))
    return pd.concat(tables, ignore_index=True)


def texts_in(ax):
    return [text.get_text() for text in ax.texts]


def bars_of(ax):
    return [container for container in ax.containers if container.has_yerr]


# ---- what is drawn


def test_surface_marks_the_best_mixture_and_leaves_gaps_grey():
    grid = np.array([0.2, 0.5, 0.8])
    values = np.array([[0.1, 0.2, 0.3], [0.2, np.nan, 0.7], [0.1, 0.1, 0.1]])  # alphas by betas
    axes = figures.new_figure(2)[1]
    drawn.plot_surface({"one": values, "half": values / 2}, grid, grid, axes=axes)
    star = axes[0].get_lines()[1]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (0.5, 0.8) and "0.700 at (0.5, 0.8)" in axes[0].get_title()
    meshes = [ax.collections[0] for ax in axes]
    assert [mesh.get_clim() for mesh in meshes] == [(0, 0.7)] * 2  # one colour scale
    assert np.ma.getmaskarray(meshes[0].get_array()).reshape(3, 3)[1, 1]
    assert meshes[0].get_array().reshape(3, 3)[2, 1] == 0.7  # beta goes up, alpha to the right


def test_loss_table_has_entities_by_tasks_and_the_public_corpus():
    ends = matrix_ends(2, (1.0, 1.0), (3.0, 2.0)) | {"loss_1_on_public": (2.0, 2.0), "loss_base_on_1": (9.0, 9.0)}
    table = drawn.loss_table(path_rows("k2_alpha050", ends, noise=0), 4)
    assert table.to_dict() == {
        "1": {"1": 1, "2": 2},
        "2": {"1": 2, "2": 1},
        "public": {"1": 2, "2": pytest.approx(np.nan, nan_ok=True)},
    }


def test_loss_matrices_write_their_numbers_and_frame_the_own_task():
    rows = cell_rows(cells=[(3, 0.5)], noise=0)
    axes = figures.new_figure(2)[1]
    drawn.plot_loss_matrices(rows, [0, 4], axes=axes)
    assert texts_in(axes[1])[:4] == ["1.45", "2.20", "2.20", "2.20"]
    assert [patch.get_xy() for patch in axes[0].patches] == [(0, 0), (1, 1), (2, 2)]
    assert axes[0].collections[0].get_clim() == axes[1].collections[0].get_clim() == (1.45, 3.0)


def test_alpha_panels_hold_a_line_per_alpha_with_intervals():
    rows = cell_rows(seeds=SEEDS)
    fig, axes = plt.subplots(2, 3, squeeze=False)
    drawn.plot_alpha(rows, interaction.OWN_AND_OTHERS, axes=axes)
    ax = axes[1][2]
    line = next(bar for bar in ax.containers if bar.get_label() == "alpha = 0.5").lines[0]
    expected = tables.summarise(rows, "loss_others").query("arm == 'interaction-k4_alpha050'")["mean"]
    np.testing.assert_allclose(line.get_ydata(orig=False), expected)
    assert len(bars_of(ax)) == 3 and "n = 5 seeds" in fig.legends[0].get_title().get_text()
    assert axes[0][0].get_ylim() == axes[0][2].get_ylim() and "[nats per token]" in axes[0][0].get_ylabel()


def test_two_seeds_are_drawn_without_bars_and_only_held_cells_get_panels():
    rows = cell_rows(seeds=[0, 1], cells=[(2, 0.0), (2, 0.5)])
    fig, axes = plt.subplots(2, 1, squeeze=False)
    drawn.plot_alpha(rows, interaction.OWN_AND_OTHERS, axes=axes)
    assert (
        len(axes[0][0].containers) == 2
        and not bars_of(axes[0][0])
        and "too few seeds" in fig.legends[0].get_title().get_text()
    )
    with pytest.raises(ValueError):
        drawn.plot_alpha(rows, interaction.OWN_AND_OTHERS, axes=plt.subplots(2, 3, squeeze=False)[1])


def test_similarity_is_drawn_beside_its_baseline():
    rows = cell_rows(seeds=SEEDS, noise=0)
    axes = figures.new_figure(3)[1]
    drawn.plot_similarity(rows, [interaction.arm(2, a) for a in interaction.ALPHAS], axes=axes)
    lines = {bar.get_label(): bar.lines[0] for bar in axes[1].containers}
    assert set(lines) == {name for name, *_ in drawn.SIMILARITY_STYLE.values()}
    assert lines["private, same prompt"].get_ydata()[-1] == pytest.approx(0.85)
    assert lines["private, other prompts"].get_linestyle() == ":"
    assert axes[0].get_ylim() == axes[2].get_ylim() and axes[1].get_title() == "K = 2, alpha = 0.5"


def test_trends_stand_at_what_theory_expects():
    trends = interaction.trends(cell_rows(seeds=SEEDS))
    axes = figures.new_figure(2)[1]
    drawn.plot_trends(trends, axes=axes)
    assert axes[0].get_title() == "loss on the others' tasks" and len(axes[0].containers) == 9
    places = sorted(bar.lines[0].get_xdata()[0] for bar in axes[0].containers)
    assert places == sorted(trends.loc[trends["metric"] == "loss_others", "theory"])


def test_differences_are_paired_and_framed_where_the_interval_excludes_0():
    rows = unequal_rows(seeds=SEEDS)
    baseline, arms = interaction.arm(3, 0.5), list(interaction.BEYOND)
    table = drawn.matrix_differences(rows, arms[2], baseline, 4)
    assert len(table) == 9 and (table["n"] == 5).all()
    assert table.loc[("2", "2"), "mean"] == pytest.approx(0.2, abs=0.03)
    fig, axes = figures.new_figure(3)
    drawn.plot_differences(rows, arms, baseline, 4, axes=axes)
    framed = {patch.get_xy() for patch in axes[2].patches}
    assert framed == {(x, y) for x in range(3) for y in range(3)}
    excludes = (table_0 := drawn.matrix_differences(rows, arms[0], baseline, 4))["low"].gt(0) | table_0["high"].lt(0)
    assert len(axes[0].patches) == excludes.sum() < 9
    assert axes[1].get_title() == "entity 1 only listens" and "n = 5 seeds" in fig.axes[-1].get_ylabel()


# ---- the notebook


def executed(tmp_path, **parameters):
    """Text of all outputs of the notebook, and how many figures it drew."""
    parameters |= {"reports_dir": str(tmp_path), "student_steps": 20, "steps": 3, "rows": 48, "written": 24}
    parameters |= {"train_size": 48, "test_size": 24, "prompts": 8, "generations": 2}
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(str(NOTEBOOK), str(out), parameters=parameters, progress_bar=False, cwd=str(ROOT))
    outputs = [o for cell in json.loads(out.read_text())["cells"] for o in cell.get("outputs", [])]
    data = [o.get("data", {}) for o in outputs]
    text = "".join("".join(o.get("text", "")) for o in outputs) + "".join("".join(d.get("text/html", "")) for d in data)
    return text, sum("image/png" in d for d in data)


def test_notebook_runs_without_results_and_says_so(tmp_path):
    text, n_figures = executed(tmp_path, entities=3, variant="k3_alpha050")
    assert text.count("holds no run of this experiment yet") == 6 and n_figures == 5
    assert "OPT-350M, published" in text and "ours, this run" not in text  # three entities: not the published case


def test_notebook_shows_all_scales_that_were_run(tmp_path):
    small = cell_rows(seeds=[0, 1], cells=interaction.CELLS[:6], scale="interaction_small")
    rows = pd.concat([unequal_rows(seeds=SEEDS), small]).sort_values(results.SORT_BY)
    (tmp_path / "results.csv").write_bytes(results.csv_bytes(rows, results.COLUMNS))
    text, n_figures = executed(tmp_path, alpha=1.0, variant="k2_alpha100")
    assert "holds no run" not in text and n_figures == 5 + 2 * 3 + 1
    assert "ours, interaction_small" in text and "ours, this run" in text and "supported" in text
    assert "interaction_small: no run of unequal entities" in text and "No rank agreement: not run are" in text
