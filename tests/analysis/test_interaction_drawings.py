"""Drawings of models that train on each other's outputs."""

import numpy as np
import pandas as pd
import pytest

from symbiosis.analysis import gallery, interaction_drawings
from symbiosis.store import results

pytestmark = pytest.mark.usefixtures("style")


def interaction_rows(variant, own, others, seeds=(1, 2, 3)):
    """Three entities: the loss of each on its own task and on the others' at the only generation, by seed."""
    lines = [
        ("interaction", "interaction", variant, "s", seed, 0, f"loss_{k}_on_{j}", own if k == j else others * seed)
        for seed in seeds
        for k in (1, 2, 3)
        for j in (1, 2, 3)
    ]
    columns = ["study", "method", "variant", "scale", "seed", "generation", "metric", "value"]
    return pd.DataFrame(lines, columns=columns).assign(unit="nats/token", n=10, run_id=variant)


@pytest.fixture
def interaction(tmp_path):
    rows = pd.concat([interaction_rows("k3_alpha050", 1.0, 1.0), interaction_rows("k3_listener", 0.75, 1.5)])
    (tmp_path / "results.csv").write_bytes(results.csv_bytes(rows, results.COLUMNS))
    return gallery.Reports(tmp_path, "s", "interaction")


def cells_of(ax):
    """{(line, column): (number, weight)} of a matrix."""
    return {tuple(int(x) for x in t.get_position()[::-1]): (t.get_text(), t.get_weight()) for t in ax.texts}


def test_loss_matrices_have_entities_by_tasks_and_frame_the_own_task(interaction):
    fig, _ = gallery.draw("interaction_matrices", interaction)
    cells = cells_of(fig.axes[0])
    assert len(cells) == 9 and cells[0, 0] == ("1.00", "bold") and cells[0, 1] == ("2.00", "normal")  # mean of 1, 2, 3
    assert len(fig.axes[0].patches) == 3


def test_differences_are_paired_and_framed_where_the_interval_excludes_0(interaction):
    fig, _ = gallery.draw("interaction_beyond", interaction)
    cells = cells_of(fig.axes[0])
    assert cells[1, 1] == ("-0.25", "bold")  # the same in all seeds
    assert cells[1, 0] == ("+1.00", "normal")  # .5, 1, 1.5: t = 3.5 with two degrees of freedom
    assert fig.axes[0].get_title() == "entity 1 only listens" and "n = 3 seeds" in fig.axes[-1].get_ylabel()


def test_the_public_corpus_is_a_task_without_an_entity():
    losses = pd.Series({"loss_1_on_1": 1.0, "loss_2_on_1": 2.0, "loss_1_on_public": 3.0})
    table = interaction_drawings.entity_by_task(losses)
    assert table.loc["1"].to_dict() == {"1": 1.0, "public": 3.0} and np.isnan(table.loc["2", "public"])


def test_every_scale_with_interacting_models_is_read(interaction, tmp_path, capsys):
    assert [reports.scale for reports in gallery.interacting(interaction.folder)] == ["s"]
    assert gallery.interacting(tmp_path / "none") == [] and "holds no run" in capsys.readouterr().out
