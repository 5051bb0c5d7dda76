"""Regression on its own labels, alone, before a last fit, or beside real rows: printed values, then the Monte Carlo."""

import math

import numpy as np
import pytest
from row_by_row import row_by_row
from scipy import integrate, optimize
from theory_tools import agrees, excludes, last, refuses, rng

from symbiosis.theory.checks import mean_and_error
from symbiosis.theory.regression import (
    SUBSAMPLE_LIMIT,
    best_real_weight,
    mixed_limit,
    mixed_variance,
    regression_limits,
    regression_risk,
    reused_limit,
    risk_after_synthetic,
    simulate_mixing,
    simulate_regression,
    simulate_subsample,
    subsample_factor,
)

ROWS = {"rows": 20, "features": 5}
AFTER = {"rows": 40, "synthetic_rows": 60, "features": 20}
RIDGE = {"rows": 400, "synthetic_rows": 600, "features": 200, "synthetic_noise": 0.5, "ridge": 0.3}
GOLDEN = (1 + math.sqrt(5)) / 2
MIX = {"real": 10, "synthetic": 10}


# --- replace, accumulate -------------------------------------------------------------------------------------------
def test_regression_risk_has_the_printed_values_and_limits_and_agrees_with_its_simulation():
    risk = last(regression_risk(5, **ROWS))
    assert risk["replace_same_x"] == risk["replace_fresh_x"] == pytest.approx(1.785714, abs=5e-7)
    assert risk["accumulate_same_x"] == pytest.approx(0.522718, abs=5e-7)
    assert risk["accumulate_fresh_x"] == pytest.approx(0.489067, abs=5e-7)
    assert regression_risk(5, **ROWS)["replace_same_x"][1] == pytest.approx(5 / 14, abs=1e-12)

    limits = regression_limits(**ROWS)
    assert limits["accumulate_same_x"] == pytest.approx(0.587476, abs=5e-7)
    assert limits["accumulate_fresh_x"] == pytest.approx(0.535673, abs=5e-7)
    n, given = 200_000, {"rows": 31, "features": 4}
    far = last(regression_risk(n, **given))
    rest = {"accumulate_same_x": 4 / 26, "accumulate_fresh_x": 4 / 31}  # sum_{i>n} 1/i^2 ~ 1/(n + .5)
    for name, limit in regression_limits(**given).items():
        assert far[name] + rest[name] / (n + 0.5) == pytest.approx(limit, abs=1e-9)

    for rows, features in ((20, 5), (12, 3)):
        given = {"rows": rows, "features": features}
        draws = simulate_regression(5, **given, repeats=6000, rng=rng(1))
        for name, curve in regression_risk(5, **given).items():
            assert agrees(draws[name], curve), name
            assert excludes(draws[name], 5 * features / rows if "replace" in name else curve[1]), name
        # Fresh rows are worth something: same seed or not, the two designs of accumulation differ.
        difference = draws["accumulate_same_x"] - draws["accumulate_fresh_x"]
        assert mean_and_error(difference)[0][-1] > 3 * mean_and_error(difference)[1][-1]


# --- accumulate and subsample --------------------------------------------------------------------------------------
def subsample_by_covariance(n):
    """The chain's own linear system: e = B e + xi with T Var(xi_n) = 1 and T Cov(xi_m, xi_n) = 1 / max(m, n)."""
    index = np.arange(1, n + 1)
    mean_of_earlier = np.tril(np.ones((n, n)), -1) / index[:, None]
    overlap = 1 / np.maximum.outer(index, index)
    np.fill_diagonal(overlap, 1.0)
    solve = np.linalg.inv(np.eye(n) - mean_of_earlier)
    return np.diag(solve @ overlap @ solve.T)


def test_subsample_factor_has_the_printed_values_and_agrees_with_regression_on_many_rows():
    factor = subsample_factor(40)
    assert factor[[1, 2, 3, 5, 10]] == pytest.approx([1, 1.75, 2.083333, 2.390833, 2.649303], abs=5e-7)
    assert factor[1:] == pytest.approx(subsample_by_covariance(40), abs=1e-9)
    assert pytest.approx(2.934802, abs=5e-7) == SUBSAMPLE_LIMIT
    n = 10**6
    assert subsample_factor(n)[-1] == pytest.approx(SUBSAMPLE_LIMIT, abs=3 / n)  # the terms end as 1 / n^2
    assert subsample_factor(0).tolist() == [0.0]

    draws = simulate_subsample(5, rows=400, features=2, repeats=3000, rng=rng(2))
    assert agrees(draws, subsample_factor(5))
    assert excludes(draws, np.sum(1 / np.arange(1, 6) ** 2))  # accumulation without subsampling
    assert excludes(draws, 5)  # replacement


def test_a_mean_of_few_rows_is_below_the_subsample_factor_by_the_stated_gap():
    rows, repeats, draw = 2, 200_000, rng(3)
    y = draw.standard_normal((repeats, 2 * rows))
    y[:, rows:] += y[:, :rows].mean(axis=1, keepdims=True)
    chosen = draw.permuted(np.tile(np.arange(2 * rows), (repeats, 1)), axis=1)[:, :rows]
    second = rows * np.take_along_axis(y, chosen, axis=1).mean(axis=1, keepdims=True) ** 2
    assert 7 / 4 - 1 / (4 * (2 * rows - 1)) == pytest.approx(1.6667, abs=5e-5)
    assert agrees(second, 5 / 3) and excludes(second, subsample_factor(2)[2])


# --- a last fit after synthetic generations --------------------------------------------------------------------------
def simulated_last_fit(generations, *, rows, synthetic_rows, features, ridge, synthetic_noise, repeats, rng):
    """(R, G + 1) squared errors of a last fit to labels of n generations of least squares; the truth is e_1."""

    def fit(w, rows, noise, ridge):
        x = rng.standard_normal((rows, features))
        y = x @ w + noise * rng.standard_normal(rows)
        return np.linalg.solve(x.T @ x + rows * ridge * np.eye(features), x.T @ y)

    truth, errors = np.eye(features)[0], np.empty((repeats, generations + 1))
    for r in range(repeats):
        w = truth
        for n in range(generations + 1):
            errors[r, n] = ((fit(w, rows, 1.0, ridge) - truth) ** 2).sum()
            w = fit(w, synthetic_rows, synthetic_noise, 0.0)
    return errors


def test_least_squares_after_synthetic_has_the_printed_value_and_agrees_with_its_simulation():
    curves = risk_after_synthetic(4, **AFTER, synthetic_noise=0.5)
    assert curves["total"][-1] == pytest.approx(1.565452, abs=5e-7)
    draws = simulated_last_fit(4, **AFTER, ridge=0.0, synthetic_noise=0.5, repeats=1000, rng=rng(3))
    assert agrees(draws, curves["total"])
    assert excludes(draws, 20 / 40 + 4 * 0.25 * 20 / 60) and excludes(draws, curves["variance"][-1])


def test_ridge_after_synthetic_has_the_printed_terms_loses_no_digit_and_agrees_with_its_simulation():
    terms = last(risk_after_synthetic(4, **RIDGE))
    assert terms["bias"] == pytest.approx(0.128619, abs=5e-7)
    assert terms["variance"] == pytest.approx(0.308224, abs=5e-7)
    assert terms["synthetic"] / (4 * 0.25 * 200 / 399) == pytest.approx(0.501513, abs=5e-7)
    assert terms["total"] == pytest.approx(0.688227, abs=5e-7)

    for ridge in (1e-8, 1e-9, 1e-17):
        terms = last(risk_after_synthetic(1, rows=5, synthetic_rows=12, features=10, ridge=ridge))
        # d = 2 T, ridge to 0: half of the signal is lost, variance 1 / (f - 1), half of the synthetic error passes on
        assert terms == pytest.approx({"bias": 0.5, "variance": 1.0, "synthetic": 5.0, "total": 6.5}, rel=1e-7)

    draws = simulated_last_fit(4, **RIDGE, repeats=16, rng=rng(4))
    curves = risk_after_synthetic(4, **RIDGE)
    assert agrees(draws, curves["total"])
    assert excludes(draws, curves["total"][-1] - curves["synthetic"][-1])
    assert excludes(draws, risk_after_synthetic(4, **RIDGE | {"ridge": 0.0})["total"][-1])


@row_by_row(("features", "ridge"), [(200, 0.3), (100, 1.2), (640, 0.05)])
def test_ridge_terms_are_integrals_over_the_marchenko_pastur_law(features, ridge):
    ratio = features / 400
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2

    def over_law(f):
        inside, _ = integrate.quad(lambda x: f(x) / x, low, high, weight="alg", wvar=(0.5, 0.5), epsrel=1e-12)
        return inside / (2 * np.pi * ratio) + max(0, 1 - 1 / ratio) * f(0)  # the null space, where d > T

    risk = risk_after_synthetic(
        3, rows=400, synthetic_rows=900, features=features, ridge=ridge, synthetic_noise=0.5, signal=1.7
    )
    assert risk["bias"][3] == pytest.approx(1.7**2 * over_law(lambda x: (ridge / (x + ridge)) ** 2), abs=1e-9)
    assert risk["variance"][3] == pytest.approx(ratio * over_law(lambda x: x / (x + ridge) ** 2), abs=1e-9)
    one = 0.25 * features / (900 - features - 1)
    assert risk["synthetic"][3] == pytest.approx(3 * one * over_law(lambda x: (x / (x + ridge)) ** 2), abs=1e-9)


# --- real rows beside own ones ---------------------------------------------------------------------------------------


def test_best_real_weight_minimises_the_limit_and_is_golden_at_equal_sizes_only():
    for ratio in (0.03, 0.7, 5 / 3, 60.0):
        least = optimize.minimize_scalar(mixed_limit, bounds=(1e-9, 1), args=(ratio,), method="bounded")
        assert best_real_weight(ratio) == pytest.approx(least.x, abs=1e-5)  # a minimum is flat
        assert mixed_limit(best_real_weight(ratio), ratio) == pytest.approx(least.fun, abs=1e-9)

    best = best_real_weight([0.25, 1, 4, 100])
    assert best == pytest.approx([0.828427, 1 / GOLDEN, 0.390388, 0.095125], abs=5e-7)
    assert best[1] == pytest.approx(0.6180340, abs=5e-8)
    assert mixed_limit(best, [0.25, 1, 4, 100]) == pytest.approx(best, abs=1e-12)
    proportional = mixed_limit(1 / (1 + np.array([0.25, 1, 4, 100])), [0.25, 1, 4, 100])
    assert proportional == pytest.approx([0.8333, 0.6667, 0.5556, 0.5025], abs=5e-5)


def test_mixing_ends_at_its_limit_and_agrees_with_its_simulation():
    for weight, printed in ((1 / GOLDEN, 0.6180), (0.5, 0.6667), (0.8, 0.7083)):
        curve = mixed_variance(60, weight, **MIX)
        limit = float(mixed_limit(weight, 1.0))
        assert curve[-1] * 10 == pytest.approx(limit, abs=1e-9) and limit == pytest.approx(printed, abs=5e-5)
        draws = simulate_mixing(12, weight, **MIX, repeats=8000, rng=rng(9))
        assert agrees(draws, curve[:13])
        assert excludes(draws, 1 / 20)  # all 20 samples as if they were real


def test_reused_real_samples_leave_no_golden_ratio():
    weight = np.linspace(0.01, 1, 100)
    assert reused_limit(0.618, 1) == pytest.approx(1.17086, abs=5e-6)
    for ratio in (0.25, 1, 4, 100):
        assert np.all(np.diff(reused_limit(weight, ratio)) < 0) and reused_limit(1, ratio) == 1
    draw = rng(10)
    real = mean = draw.standard_normal((10, 20_000)).mean(axis=0)
    for _ in range(12):
        mean = real / GOLDEN + (1 - 1 / GOLDEN) * (mean + draw.standard_normal((10, 20_000)).mean(axis=0))
    ends = 10 * mean[:, None] ** 2
    assert agrees(ends, reused_limit(1 / GOLDEN, 1)) and excludes(ends, 1.0) and excludes(ends, 1 / GOLDEN)


def test_averaged_regression_fits_mix_like_means():
    rows, synthetic_rows, features, repeats, draw = 20, 30, 4, 6000, rng(11)
    ratio = (synthetic_rows - features - 1) / (rows - features - 1)
    weight = float(best_real_weight(ratio))
    assert (ratio, weight) == pytest.approx((5 / 3, 0.530662), abs=5e-7)
    mse = mixed_limit(weight, ratio) * features / (rows - features - 1)
    assert mse == pytest.approx(0.141510, abs=5e-7)

    def fit(w, n):
        x = draw.standard_normal((repeats, n, features))
        y = x @ w[:, :, None] + draw.standard_normal((repeats, n, 1))
        return np.linalg.solve(x.mT @ x, x.mT @ y)[:, :, 0]

    truth = np.zeros((repeats, features))
    w = fit(truth, rows)
    for _ in range(10):
        w = weight * fit(truth, rows) + (1 - weight) * fit(w, synthetic_rows)
    errors = (w**2).sum(axis=1)[:, None]
    assert agrees(errors, mse) and excludes(errors, mse * 15 / 20)


def test_impossible_input_is_refused():
    refuses(
        (lambda: regression_risk(5, rows=6, features=5), "rows: 6 .* at least 7"),
        (lambda: risk_after_synthetic(4, **AFTER | {"synthetic_rows": 21}), "synthetic_rows: 21 .* at least 22"),
        (lambda: risk_after_synthetic(4, **AFTER | {"rows": 21}), "rows: 21 .* at least 22"),
        (lambda: mixed_limit(0.0, 1.0), r"weight: 0.0 is not in \(0, 1\]"),
        (lambda: mixed_limit([0.5, 0.6], [1.0, 2.0, 3.0]), r"ratio: shape \(3,\) beside weight \(2,\)"),
    )
