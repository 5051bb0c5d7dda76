"""Drawings of models that train on each other's outputs."""

import numpy as np
import pandas as pd
import pytest

from symbiosis.analysis import gallery, interaction_drawings
from symbiosis.analysis import interaction as interaction_tables
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


# ---- unlike entities, a planted error
def rows_of(study: str, values: dict[tuple[str, str], float], rounds: int = 2) -> pd.DataFrame:
    """Rows of three seeds, {(variant, metric): value}; values grow by a tenth of the seed and by the round."""
    lines = [
        (study, "interaction", variant, "s", seed, t, metric, value * (1 + seed / 10) * (1 + t), "1", 10, variant)
        for (variant, metric), value in values.items()
        for seed in (1, 2, 3)
        for t in range(rounds + 1)
    ]
    return pd.DataFrame(lines, columns=["study", "method", "variant", "scale", "seed", "generation", "metric", "value",
                                        "unit", "n", "run_id"])  # fmt: skip


@pytest.fixture
def unlike(tmp_path):
    ends = ("word_loss_1_on_2", "word_loss_2_on_1", "cka_private")
    pairs = {
        (f"{kind}_alpha{alpha:03d}", end): 1.0 + (alpha / 50) * (i + 1) / 10
        for i, kind in enumerate(interaction_tables.KINDS)
        for alpha in (0, 50)
        for end in ends
    }
    told = {
        (f"{public}_alpha{alpha:03d}", metric): value
        for public in ("silent", "truthful")
        for alpha in (0, 50, 100)
        for metric, value in {"log_odds_1": 2.0, "log_odds_others": -1.0, "told_false_1": 0.02,
                              "told_false_others": 0.01, "cka_private": 0.5}.items()
    }  # fmt: skip
    rows = pd.concat([rows_of("interaction_unequal", pairs), rows_of("interaction_planted", told)])
    (tmp_path / "results.csv").write_bytes(results.csv_bytes(rows, results.COLUMNS))
    return gallery.Reports(tmp_path, "s", "interaction")


def test_a_gain_is_half_and_half_less_alone_of_the_last_round_seed_by_seed(unlike):
    rows = unlike.rows(study="interaction_unequal")
    gains = interaction_tables.pair_gains(rows, ["word_loss_1_on_2"]).set_index(["kind", "seed"])["value"]
    assert len(gains) == 12
    assert gains["equal", 1] == pytest.approx(3 * 0.1 * 1.1) and gains["bpe", 3] == pytest.approx(3 * 0.3 * 1.3)
    fig, used = interaction_drawings.unequal(unlike)
    first = next(line for line in fig.axes[0].lines if len(line.get_xdata()) == 4)
    assert first.get_ydata().tolist() == pytest.approx([3 * 1.2 * i / 10 for i in (1, 2, 3, 4)])
    assert [tick.get_text() for tick in fig.axes[0].get_xticklabels()] == list(interaction_tables.KINDS.values())
    assert set(used["study"]) == {"interaction_unequal"}


def test_a_planted_error_is_drawn_beside_counted_rows(unlike):
    fig, _ = interaction_drawings.planted(unlike)
    told, others, wrote = fig.axes
    (counted,) = (line for line in told.lines if line.get_label() == "truthful, alpha 0.5, counted")
    assert counted.get_ydata()[0] == pytest.approx(0)  # told as often as the public says otherwise
    dotted = [line for line in others.lines if line.get_linestyle() == ":" and len(line.get_xdata()) == 2]
    # f = .5 * .5 / 3, t = .5 * .5 + .5 * .5 of who reads one another once
    assert dotted[0].get_ydata()[0] == pytest.approx(np.log((1 / 12) / 0.5))
    assert max(line.get_ydata()[0] for line in wrote.lines) == pytest.approx(100 * 3 * 0.02 * 1.2)


def test_hidden_states_of_pairs_and_of_three_stand_side_by_side(unlike):
    fig, used = interaction_drawings.alike_inside(unlike)
    assert [ax.get_title() for ax in fig.axes] == [*interaction_tables.KINDS.values(), "three equals"]
    assert set(used["metric"]) == {"cka_private"} and len(used["variant"].unique()) == 8 + 3
    assert all(ax.has_data() for ax in fig.axes)
