"""Subsets of written texts by hand, and what the committed rows say of them."""

import numpy as np

from symbiosis import small_studies
from symbiosis.measures.diversity import semantic_dispersion
from symbiosis.small_studies.real_ratio import ROWS, SHARES, SUBSETS, subset


def on_a_circle(*degrees):
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def test_narrow_takes_neighbours_and_wide_the_farthest_around_the_same_first_text():
    x = on_a_circle(0, 5, 12, 90, 180, 280)
    for seed in range(20):
        chosen = {kind: subset(x, 3, kind, np.random.default_rng(seed)) for kind in SUBSETS}
        firsts = {int(rows[0]) for rows in chosen.values()}
        assert len(firsts) == 1 and all(len(set(rows)) == 3 for rows in chosen.values())
        if firsts <= {0, 1, 2}:  # it has neighbours
            assert semantic_dispersion(x[chosen["narrow"]]) < 0.1 and semantic_dispersion(x[chosen["wide"]]) > 1
        if firsts == {0}:
            assert chosen["narrow"].tolist() == [0, 1, 2] and chosen["wide"].tolist() == [0, 4, 3]


def test_committed_cells_are_all_there_and_their_written_rows_spread_as_they_are_named():
    rows = small_studies.read("reports", "real_ratio")
    assert rows["variant"].nunique() == len(SUBSETS) * len(SHARES)
    wide = rows[rows["metric"] == "semantic_dispersion"].pivot_table(index="variant", values="value")["value"]
    for share in SHARES:
        near, any_, far = (wide[f"{kind}_r{100 * share:03.0f}"] for kind in SUBSETS)
        assert near < any_ < far
    sizes = rows[rows["metric"] == "semantic_dispersion"].groupby("variant")["n"].first()
    assert sizes["wide_r000"] == ROWS and sizes["wide_r075"] == ROWS // 4
