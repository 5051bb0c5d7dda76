"""Regression on its own labels: printed risks, their limits, a second route, then the Monte Carlo."""

import numpy as np
import pytest
from theory_tools import agrees, excludes, last, rng

from symbiosis.theory.curves import mean_and_error
from symbiosis.theory.regression import (
    SUBSAMPLE_LIMIT,
    regression_limits,
    regression_risk,
    simulate_regression,
    simulate_subsample,
    subsample_factor,
)

ROWS = {"rows": 20, "features": 5}


def test_regression_risk_has_the_printed_values():
    risk = last(regression_risk(5, rows=20, features=5))
    assert risk["replace_same_x"] == risk["replace_fresh_x"] == pytest.approx(1.785714, abs=5e-7)
    assert risk["accumulate_same_x"] == pytest.approx(0.522718, abs=5e-7)
    assert risk["accumulate_fresh_x"] == pytest.approx(0.489067, abs=5e-7)
    assert regression_risk(5, rows=20, features=5)["replace_same_x"][1] == pytest.approx(5 / 14, abs=1e-12)


def test_regression_limits_are_the_far_end_of_the_risks():
    limits = regression_limits(rows=20, features=5)
    assert limits["accumulate_same_x"] == pytest.approx(0.587476, abs=5e-7)
    assert limits["accumulate_fresh_x"] == pytest.approx(0.535673, abs=5e-7)
    n, given = 200_000, {"rows": 31, "features": 4, "noise": 0.7}
    far = last(regression_risk(n, **given))
    rest = {"accumulate_same_x": 0.7**2 * 4 / 26, "accumulate_fresh_x": 0.7**2 * 4 / 31}  # sum_{i>n} 1/i^2 ~ 1/(n + .5)
    for name, limit in regression_limits(**given).items():
        assert far[name] + rest[name] / (n + 0.5) == pytest.approx(limit, abs=1e-9)


@pytest.mark.parametrize(("rows", "features", "noise"), [(20, 5, 1.0), (12, 3, 0.6)])
def test_regression_risk_agrees_with_its_simulation(rows, features, noise):
    given = {"rows": rows, "features": features, "noise": noise}
    draws = simulate_regression(5, **given, repeats=6000, rng=rng(1))
    for name, curve in regression_risk(5, **given).items():
        assert agrees(draws[name], curve), name
        assert excludes(draws[name], 5 * noise**2 * features / rows if "replace" in name else curve[1]), name
    # Fresh rows are worth something: same seed or not, the two designs of accumulation differ.
    difference = draws["accumulate_same_x"] - draws["accumulate_fresh_x"]
    assert mean_and_error(difference)[0][-1] > 3 * mean_and_error(difference)[1][-1]


def subsample_by_covariance(n):
    """The chain's own linear system: e = B e + xi with T Var(xi_n) = 1 and T Cov(xi_m, xi_n) = 1 / max(m, n)."""
    index = np.arange(1, n + 1)
    mean_of_earlier = np.tril(np.ones((n, n)), -1) / index[:, None]
    overlap = 1 / np.maximum.outer(index, index)
    np.fill_diagonal(overlap, 1.0)
    solve = np.linalg.inv(np.eye(n) - mean_of_earlier)
    return np.diag(solve @ overlap @ solve.T)


def test_subsample_factor_has_the_printed_values_and_a_limit():
    factor = subsample_factor(40)
    assert factor[[1, 2, 3, 5, 10]] == pytest.approx([1, 1.75, 2.083333, 2.390833, 2.649303], abs=5e-7)
    assert factor[1:] == pytest.approx(subsample_by_covariance(40), abs=1e-9)
    assert pytest.approx(2.934802, abs=5e-7) == SUBSAMPLE_LIMIT
    n = 10**6
    assert subsample_factor(n)[-1] == pytest.approx(SUBSAMPLE_LIMIT, abs=3 / n)  # the terms end as 1 / n^2
    assert subsample_factor(0).tolist() == [0.0]


def test_subsample_factor_agrees_with_regression_on_many_rows():
    draws = simulate_subsample(5, rows=400, features=2, repeats=3000, rng=rng(2))
    assert agrees(draws, subsample_factor(5))
    assert excludes(draws, np.sum(1 / np.arange(1, 6) ** 2))  # accumulation without subsampling
    assert excludes(draws, 5)  # replacement


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: regression_risk(5, rows=6, features=5), "rows: 6 leave .* infinite; give at least 7"),
        (lambda: simulate_regression(5, **ROWS, noise=-1.0, repeats=5, rng=rng()), "noise: -1.0"),
        (lambda: simulate_regression(5, **ROWS, repeats=0, rng=rng()), "repeats: 0 .* at least 1"),
        (lambda: simulate_subsample(5, rows=20.5, repeats=5, rng=rng()), "rows: 20.5 .* whole number"),
    ],
)
def test_impossible_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
