"""Intervals and tests against numbers worked out by hand, published examples, then simulation."""

import math

import numpy as np
import pandas as pd
import pytest

from symbiosis.analysis.statistics import (
    equivalence_p,
    holm,
    holm_levels,
    mean_interval,
    paired_row,
    wilson_interval,
)


def test_mean_interval_by_hand_of_what_was_measured_from_three_seeds_on():
    # 1, 2, 3: mean 2, s = 1, t(.975, 2) = 4.302653 (printed tables: 4.303), half width 4.302653 / sqrt(3).
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2 - 2.484138, 2 + 2.484138), abs=1e-6)
    half = 2.919986 / math.sqrt(3)  # t(.95, 2)
    assert mean_interval([1.0, 2.0, 3.0], 0.1) == pytest.approx((2.0, 2 - half, 2 + half), abs=1e-6)

    for values in ([0.7], [0.6, 0.8], [0.7, 0.7], [0.6, math.nan, 0.8]):
        assert mean_interval(values) == pytest.approx((0.7, math.nan, math.nan), nan_ok=True)
    assert np.isnan(mean_interval([])).all()
    assert mean_interval([1.0, math.nan, 2.0, 3.0]) == mean_interval([1.0, 2.0, 3.0])
    assert math.isnan(mean_interval([1.0, math.nan])[1])  # one measured seed is one seed


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    chains = 2000
    bounds = np.array([mean_interval(rng.normal(size=5))[1:] for _ in range(chains)])
    covered = np.mean((bounds[:, 0] < 0) & (bounds[:, 1] > 0))
    stderr = np.sqrt(0.95 * 0.05 / chains)
    assert abs(covered - 0.95) < 4 * stderr
    assert abs(covered - 0.878) > 4 * stderr  # P(|T_4| < 1.96): the normal quantile's interval would have been seen


def test_paired_row_by_hand_and_as_in_student_1908_of_seeds_both_have_where_differences_vary():
    # d = 1, 2, 3: t = 2 / (1 / sqrt 3) = 3.4641; with 2 degrees of freedom p = 1 - t / sqrt(t^2 + 2) = 0.074180.
    row = paired_row(pd.Series([2.0, 4.0, 6.0]), pd.Series([1.0, 2.0, 3.0]))
    assert row == pytest.approx((3, *mean_interval([1.0, 2.0, 3.0]), 1 - math.sqrt(12 / 14)), abs=1e-12)
    # Hours of extra sleep of ten patients under two drugs; t = 4.0621, p = 0.002833, interval 0.7001 to 2.4599.
    first = pd.Series([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = pd.Series([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    assert paired_row(second, first) == pytest.approx((10, 1.58, 0.7001142, 2.4598858, 0.00283289), abs=1e-6)

    a, b = pd.Series({0: 1.0, 1: 5.0, 2: math.nan, 7: 9.0}), pd.Series({7: 4.0, 1: 3.0, 2: 0.0, 5: 8.0})
    assert paired_row(a, b)[:2] == (2, 3.5)  # seeds 1 and 7: 2 and 5; 2 was not measured
    n, *others = paired_row(a[:1], b[:1])
    assert n == 0 and np.isnan(others).all()

    a = pd.Series([0.3, 0.7, 1.1])
    for b in (a, a - 0.1):  # .1 up to rounding
        n, mean, _, _, p = paired_row(a, b)
        assert n == 3 and mean == pytest.approx((a - b)[0]) and math.isnan(p)


def test_holm_and_its_levels_by_hand_leave_out_what_was_not_tested():
    # Sorted .005 .01 .03 .04, times 4 3 2 1 = .02 .03 .06 .04; the last is lifted to .06 to stay in order.
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0] and holm([]).tolist() == []
    assert holm([0.01, math.nan, 0.02]).tolist() == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)

    # .005 of four at .05/4, .01 at .05/3; .03 fails at .05/2 = .025, and from it on all have that level.
    levels = holm_levels([0.01, 0.04, 0.03, 0.005])
    assert levels.tolist() == pytest.approx([0.05 / 3, 0.025, 0.025, 0.0125])
    assert holm_levels([0.2, math.nan, 0.01]).tolist() == pytest.approx([0.05, 0.025, 0.025])
    assert holm_levels([math.nan]).tolist() == [0.05] and holm_levels([]).tolist() == []
    rng = np.random.default_rng(0)
    for p in rng.beta(0.3, 3, size=(200, 7)):
        assert ((p < holm_levels(p)) == (holm(p) < 0.05)).all()


def test_equivalence_by_hand():
    # 1, 2, 3: t = (2 - 0) / (1 / sqrt 3) = 3.46 from below, (5 - 2) sqrt 3 = 5.2 from above: the first is the larger p.
    assert equivalence_p([1.0, 2.0, 3.0], 0, 5) == pytest.approx((1 - math.sqrt(12 / 14)) / 2)
    assert equivalence_p([1.0, 2.0, 3.0], 2.5, 5) > 0.5 and math.isnan(equivalence_p([1.0, 2.0], 0, 5))


def test_wilson_by_hand():
    # Share .5 of 4 rows, z = 1.959964, z^2 = 3.841459: (.980182 -+ .686053) / 1.960365.
    assert wilson_interval(0.5, 4) == pytest.approx((0.150036, 0.849964), abs=1e-5)
    # None of n right: (0, z^2 / (n + z^2)) exactly; all right mirrors it.
    z2 = 3.841458820694124
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, z2 / (10 + z2)))
    assert wilson_interval(1.0, 10) == pytest.approx((10 / (10 + z2), 1.0))
