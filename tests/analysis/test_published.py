"""The published table against its own sentences, by hand."""

import math

import pandas as pd
import pytest

from symbiosis.analysis.claims import CLAIMS
from symbiosis.analysis.published import FigureSum, is_share, published_rows
from symbiosis.analysis.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED


def published():
    return pd.DataFrame(published_rows(CLAIMS)).set_index("claim")


def test_the_published_table_by_hand_arithmetic():
    table = published()
    expected = {  # points, verdict
        "below-real": (-43.0, SUPPORTED),  # 41 - 84
        "beats-static": (-16.0, CONTRADICTED),  # 25 - 41
        "recursive-drop": (0.0, CONTRADICTED),  # 26.8 - 26.8
        "approaches-real": (-37.5, CONTRADICTED),  # 25 - (41 + 84) / 2
        "above-guessing": (0.0, CONTRADICTED),  # 25 - 100 / 4
        "only-sustained": (17.4, CONTRADICTED),  # static: 41 - 23.6
    }
    for claim, (points, says) in expected.items():
        assert (100 * table.loc[claim, "estimate"], table.loc[claim, "verdict"]) == (pytest.approx(points), says)
    assert set(table.index) == {*expected, "test-size"}
    assert (
        "26.80 (recursive final) - 26.80 (recursive initial) = +0.00 points" in table.loc["recursive-drop", "numbers"]
    )
    assert (
        "25.00 (symbiosis final) - 19.20 (symbiosis initial) = +5.80 points (+2.2 SE of 2.6)"
        in (table.loc["only-sustained", "numbers"])
    )


def test_published_standard_errors_are_those_of_500_rows():
    one = FigureSum({"symbiosis final": 1, "guessing": -1}, +1)
    assert one.standard_error == pytest.approx(100 * math.sqrt(0.25 * 0.75 / 500))  # 1.94 points
    gap = FigureSum({"symbiosis final": 1, "static final": -1}, +1)
    assert gap.standard_error == pytest.approx(100 * math.sqrt((0.25 * 0.75 + 0.41 * 0.59) / 500))  # 2.93
    assert FigureSum({"recursive final": 1, "guessing": -1}, +1).verdict == UNDECIDED  # +1.8 points, 0.9 SE


def test_published_figures_cannot_be_shares_of_the_official_test_set():
    # 1793 / 7600 = .235921, 1794 / 7600 = .236053: neither is 23.60 %
    assert not is_share(23.60, 7600) and is_share(84.00, 7600) and is_share(26.80, 7600)
    assert is_share(23.60, 500) and not is_share(23.60, 100)  # 118 of 500
    row = published().loc["test-size"]
    assert row["verdict"] == CONTRADICTED and "8 of 8 figures are multiples of 0.2" in row["numbers"]
    assert "sizes up to 1500 that give them all: 500, 1000, 1500;" in row["numbers"]
    assert row["numbers"].endswith("1793 rows give 23.59 and 1794 rows give 23.61")
