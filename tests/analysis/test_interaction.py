"""Models that learn from one another: the tables beside the theory, and claims decided either way."""

import zlib

import numpy as np
import pandas as pd
import pytest
from deciding import decide

from symbiosis.analysis import claims, interaction, verdicts
from symbiosis.analysis.tables import SeedValues
from symbiosis.analysis.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED
from symbiosis.store import results
from symbiosis.theory.many_models import theory_change

LAST, CELLS = 4, list(interaction.CELLS.values())
PATHS = {  # metric: {alpha: (generation 0, the last one)} of made-up runs in which all claims of the paper hold
    "loss_own": {0.0: (1.5, 1.4), 0.5: (1.5, 1.45), 1.0: (1.5, 1.9)},
    "loss_others": {0.0: (3.0, 3.1), 0.5: (3.0, 2.2), 1.0: (3.0, 2.5)},
    "loss_public": {0.0: (2.0, 1.9), 0.5: (2.0, 1.9), 1.0: (2.0, 2.2)},
    "similarity_public": {0.0: (0.6, 0.61), 0.5: (0.6, 0.75), 1.0: (0.6, 0.8)},
    "similarity_private": {0.0: (0.7, 0.71), 0.5: (0.7, 0.85), 1.0: (0.7, 0.9)},
    "similarity_public_different_prompts": {0.0: (0.4, 0.4), 0.5: (0.4, 0.45), 1.0: (0.4, 0.5)},
    "similarity_private_different_prompts": {0.0: (0.4, 0.4), 0.5: (0.4, 0.45), 1.0: (0.4, 0.5)},
}


def path_rows(variant, ends, *, seeds=range(5), noise=0.01, last=LAST, scale="interaction_miniature"):
    """{metric: (generation 0, last)} of one variant as rows of results.csv: straight lines and noise of the seed."""
    lines = []
    for i, (metric, (first, final)) in enumerate(ends.items()):
        for seed in seeds:
            draws = noise * np.random.default_rng([seed, i, zlib.crc32(variant.encode())]).standard_normal(last + 1)
            values = np.linspace(first, final, last + 1) + draws
            head = {"metric": metric, "seed": seed, "run_id": f"{scale}/interaction/interaction-{variant}-s{seed}@0"}
            lines += [head | {"generation": g, "value": value} for g, value in enumerate(values)]
    names = {"study": "interaction", "method": "interaction", "variant": variant, "scale": scale, "unit": "1", "n": 100}
    return results.with_arm(pd.DataFrame(lines).assign(**names)[list(results.COLUMNS)])


def matrix_ends(k, own, others):
    """{loss_<i>_on_<j>: ends} of K models, own or others' by whether i = j."""
    pairs = [(i, j) for i in range(1, k + 1) for j in range(1, k + 1)]
    return {f"loss_{i}_on_{j}": own if i == j else others for i, j in pairs}


def cell_rows(paths=PATHS, cells=CELLS, **kwargs):
    """Rows of the cells (K, alpha), all of whose entries are their mean."""
    tables = []
    for k, alpha in cells:
        ends = {metric: by_alpha[alpha] for metric, by_alpha in paths.items()}
        ends |= matrix_ends(k, ends["loss_own"], ends["loss_others"])
        tables.append(path_rows(f"k{k}_alpha{round(100 * alpha):03d}", ends, **kwargs))
    return pd.concat(tables, ignore_index=True)


def swapped(metric, **by_alpha):
    """PATHS with another course of one metric: swapped('loss_own', a050=(1.5, 1.2))."""
    changed = {int(name[1:]) / 100: ends for name, ends in by_alpha.items()}
    return PATHS | {metric: PATHS[metric] | changed}


def decided(rows):
    """{slug: verdict} of all claims of the interaction."""
    found = {}
    for claim in claims.asked_of({"interaction": rows}):
        found[claim.slug] = verdicts.combine([decide(part, rows).verdict for part in claim.parts])
    return found


# ---- beside the linear theory


def test_surfaces_are_those_of_the_theory_card():
    grid = np.arange(1, 10) / 10
    surfaces = interaction.efficiency_surfaces(grid)
    ring, spaces, aligned = surfaces.values()
    assert np.unravel_index(ring.argmax(), ring.shape) == np.unravel_index(spaces.argmax(), spaces.shape) == (4, 4)
    assert ring[4, 4] == pytest.approx(0.420704, abs=1e-6)
    np.testing.assert_allclose(ring[8, ::2], [0.0422, 0.1104, 0.1602, 0.1906, 0.1866], atol=5e-5)  # alpha = 0.9
    column = [0.245, 0.297, 0.331, 0.351, 0.359, 0.352, 0.327, 0.275, 0.178]
    np.testing.assert_allclose(spaces[:, 4], column, atol=5e-4)  # beta = 0.5
    i, j = np.unravel_index(aligned.argmax(), aligned.shape)
    assert grid[i] <= 0.3 and grid[j] >= 0.8
    ideal, owner, others = 1 / 30, 0.0390499, 0.0950886  # at (.5, .5)
    assert aligned[4, 4] == pytest.approx(4 * ideal / (owner + 3 * others), rel=1e-5)


def test_the_committed_scan_is_that_of_the_code_and_says_how_often_half_is_best():
    scan = interaction.read_scan("reports")
    pd.testing.assert_frame_equal(scan[::45].reset_index(drop=True), interaction.scan_mixtures(every=45), atol=2e-6)
    table, rows = interaction.scan_summary(scan), interaction.scan_rows(scan)
    assert table.loc["all", ["settings", "best", "near"]].tolist() == [270, 7, 51]
    assert table["settings"].iloc[1:].tolist() == [90, 90, 90] and table.loc["aligned tasks", "near"] == 0
    assert rows.groupby("metric")["value"].sum().to_dict() == {"half_is_best": 7, "half_is_near": 51}
    assert (scan["half"] <= scan["efficiency"]).all() and (scan["efficiency"] < 1).all()


def test_at_first_an_entity_is_half_its_own_data_and_later_everybodys():
    shares = interaction.data_share_tables()
    assert np.diag(shares["round 0"]) == pytest.approx([0.5] * 4) and np.allclose(shares["round 0"]["public"], 0.5)
    assert (shares["limit"] > 0.01).all(axis=None) and np.allclose(shares["limit"].sum(axis=1), 1)


def test_private_share_by_hand():
    rows = pd.concat([cell_rows(noise=0, cells=[(2, 0.5)])] * 3, keys=interaction.BETAS).reset_index(0, names="beta")
    rows["arm"] = rows["beta"].map(interaction.BETAS)
    rows["value"] -= rows["beta"] * (rows["generation"] == LAST)
    line = interaction.by_beta(rows, ["loss_own"]).loc["loss_own"]
    assert (
        line["difference"] == pytest.approx(-0.5) and line["n"] == 5 and line[0.25] - line[0.5] == pytest.approx(0.25)
    )
    expected = theory_change(2, 0.5, LAST, 0.75)["loss_own"] - theory_change(2, 0.5, LAST, 0.25)["loss_own"]
    assert line["theory"] == pytest.approx(expected) and expected < 0


# ---- tables


def test_rank_agreement_by_hand():
    rows = cell_rows(noise=0)
    assert (interaction.rank_agreement(SeedValues(rows), "loss_others") > 0.8).all()
    worse = cell_rows(swapped("loss_others", a050=(3.0, 3.5), a100=(3.0, 3.3)), noise=0)
    assert (interaction.rank_agreement(SeedValues(worse), "loss_others") < -0.8).all()
    without = rows[~((rows["seed"] == 1) & (rows["variant"] == "k4_alpha100"))]
    assert list(interaction.rank_agreement(SeedValues(without), "loss_own").index) == [0, 2, 3, 4]


def test_trends_are_changes_beside_theory_of_the_seeds_that_have_both_ends():
    table = interaction.trends(cell_rows()).set_index(["entities", "alpha", "metric"])
    assert len(table) == 18 and (table["n"] == 5).all()
    row = table.loc[(3, 0.5, "loss_others")]
    assert row["low"] < -0.8 < row["high"] and row["theory"] == theory_change(3, 0.5, LAST)["loss_others"]
    rows = cell_rows(noise=0, seeds=[11, 12])
    rows = rows[~((rows["seed"] == 12) & (rows["generation"] == 0))]
    table = interaction.trends(rows).set_index(["entities", "alpha", "metric"])
    assert table.loc[(2, 0.5, "loss_others"), ["n", "mean"]].tolist() == pytest.approx([1, -0.8])


def test_published_losses_stand_beside_ours():
    table = interaction.beside_published({"interaction_small": cell_rows(noise=0, cells=[(2, 0.5)])})
    row = table.loc[(2, 0.5, "loss, entity 1 on task 2")]
    assert row["OPT-350M, published"] == "3.1 to 1.8" and row["Llama 3.2 1B, published"] == "2.0 to 1.4"
    assert row["ours, interaction_small"] == "3.00 to 2.20, change -0.80 [-0.80, -0.80]"
    assert table.loc[(2, 1.0, "loss, entity 1 on task 2"), "ours, interaction_small"] == "-"  # was not run
    assert table.loc[(2, 0.0, "loss, entity 1 on task 2"), "Llama 3.2 1B, published"] == "-"  # was not published
    assert table.loc[(3, 0.5, "loss, entity 1 on task 2"), "OPT-350M, published"] == "3.1 to 1.9"
    assert table.loc[(2, 0.5, "cosine, private prompts"), "Llama 3.2 1B, published"] == "0.75 to 0.90"
    assert interaction.beside_published({}).shape == (15, 2)


def test_alpha_side_by_side_and_similarity_beside_its_baseline():
    table = interaction.readable_alpha(cell_rows(noise=0), ["loss_own", "loss_others"])
    assert list(table.columns) == [0.0, 0.5, 1.0] and len(table) == 6
    assert table.loc[("loss_others", 3), 0.5].startswith("2.20")

    table = interaction.similarity_changes(cell_rows(noise=0))
    line = table.loc[(2, 0.5, "similarity_private")]
    assert [text.split(" ")[0] for text in line] == ["0.150", "0.050", "0.100"]
    assert list(line.index) == ["same prompt", "other prompts", "beyond the baseline"] and len(table) == 18


def test_scales_of_other_methods_and_studies_are_left_out(tmp_path):
    assert interaction.read_scales(tmp_path) == {}  # no file
    rows = [cell_rows(), cell_rows(scale="interaction_small", seeds=[0, 1])]
    rows += [cell_rows().assign(study="other"), cell_rows().assign(method="static", scale="miniature")]
    (tmp_path / "results.csv").write_bytes(results.csv_bytes(pd.concat(rows), results.COLUMNS))
    found = interaction.read_scales(tmp_path)
    assert list(found) == ["interaction_miniature", "interaction_small"]
    assert found["interaction_small"]["seed"].nunique() == 2 and "arm" in found["interaction_small"]


def test_differences_are_paired_by_seed():
    table = interaction.against(cell_rows(), interaction.OWN_AND_OTHERS, interaction.ALONE)
    table = table.set_index(["metric", "arm"])
    assert len(table) == 12 and (table["p_holm"] >= table["p"]).all()
    assert table.loc[("loss_others", "interaction-k4_alpha050"), "mean"] == pytest.approx(-0.9, abs=0.02)
    assert table.loc[("loss_own", "interaction-k2_alpha100"), "low"] > 0.4
    variants = [
        path_rows(one.split("-")[1], {"loss_own": (1.5, 1.45 + 0.1 * i)}) for i, one in enumerate(interaction.BEYOND)
    ]
    table = interaction.against(pd.concat([cell_rows(), *variants]), ["loss_own"], interaction.EQUALS)
    assert table["arm"].tolist() == list(interaction.BEYOND)
    np.testing.assert_allclose(table["mean"], [0, 0.1, 0.2], atol=0.02)


# ---- claims


def test_claims_go_by_the_course_they_describe_and_what_is_no_harm_or_was_not_run_supports_nothing():
    courses = {"k2_beta025": (1.5, 3.0, 1.0), "k2_beta075": (1.4, 2.0, 1.2)}
    metrics = [(metric, i) for i, metric in enumerate(("loss_own", "loss_others", "loss_public"))]
    betas = [path_rows(name, {m: (2.0, ends[i]) for m, i in metrics}) for name, ends in courses.items()]
    assert set(decided(pd.concat([cell_rows(), *betas])).values()) == {SUPPORTED}

    opposite = {
        "interaction-transfers": swapped("loss_others", a050=(3.0, 3.3)),
        "interaction-alone-harms": swapped("loss_own", a100=(1.5, 1.2)),
        "interaction-coexist": swapped("similarity_private", a050=(0.7, 0.6)),
        "interaction-agree-public": swapped("similarity_public_different_prompts", a050=(0.4, 0.6)),  # only narrower
        "interaction-follows-theory": swapped("loss_own", a050=(1.5, 1.2), a100=(1.5, 1.1)),
    }
    for slug, paths in opposite.items():
        found = decided(cell_rows(paths))
        assert found[slug] == CONTRADICTED and SUPPORTED in found.values()  # and not all claims fall with it

    rows = cell_rows(swapped("loss_own", a000=(1.5, 1.0), a100=(1.5, 1.3)))  # both learn, the one less
    assert decided(rows)["interaction-alone-harms"] == CONTRADICTED

    for rows in (cell_rows(cells=CELLS[:3]), cell_rows(seeds=[11, 12]), cell_rows()[:0]):
        assert set(decided(rows).values()) == {UNDECIDED}
