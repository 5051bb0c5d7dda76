"""A last fit after synthetic generations: printed terms, integrals over the spectrum, then the Monte Carlo."""

import numpy as np
import pytest
from scipy import integrate
from theory_tools import agrees, excludes, last, rng

from symbiosis.theory.after_synthetic import ols_after_synthetic, ridge_after_synthetic, simulate_after_synthetic

AFTER = {"rows": 40, "synthetic_rows": 60, "features": 20}


def test_ols_after_synthetic_has_the_printed_value_and_agrees_with_its_simulation():
    given = {"rows": 40, "synthetic_rows": 60, "features": 20, "synthetic_noise": 0.5}
    curves = ols_after_synthetic(4, **given)
    assert curves["total"][-1] == pytest.approx(1.565452, abs=5e-7)
    draws = simulate_after_synthetic(4, **given, repeats=1000, rng=rng(3))["total"]
    assert agrees(draws, curves["total"])
    assert excludes(draws, 20 / 40 + 4 * 0.25 * 20 / 60) and excludes(draws, curves["variance"][-1])


def test_ridge_after_synthetic_has_the_printed_terms():
    given = {"rows": 400, "synthetic_rows": 600, "features": 200, "synthetic_noise": 0.5, "ridge": 0.3}
    terms = last(ridge_after_synthetic(4, **given))
    assert terms["bias"] == pytest.approx(0.128619, abs=5e-7)
    assert terms["variance"] == pytest.approx(0.308224, abs=5e-7)
    assert terms["synthetic"] / (4 * 0.25 * 200 / 399) == pytest.approx(0.501513, abs=5e-7)
    assert terms["total"] == pytest.approx(0.688227, abs=5e-7)


@pytest.mark.parametrize(("features", "ridge"), [(200, 0.3), (100, 1.2), (640, 0.05)])
def test_ridge_terms_are_integrals_over_the_marchenko_pastur_law(features, ridge):
    ratio = features / 400
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2

    def over_law(f):
        inside, _ = integrate.quad(lambda x: f(x) / x, low, high, weight="alg", wvar=(0.5, 0.5), epsrel=1e-12)
        return inside / (2 * np.pi * ratio) + max(0, 1 - 1 / ratio) * f(0)  # the null space, where d > T

    risk = ridge_after_synthetic(
        3, rows=400, synthetic_rows=900, features=features, ridge=ridge, noise=0.8, synthetic_noise=0.5, signal=1.7
    )
    assert risk["bias"][3] == pytest.approx(1.7**2 * over_law(lambda x: (ridge / (x + ridge)) ** 2), abs=1e-9)
    assert risk["variance"][3] == pytest.approx(0.64 * ratio * over_law(lambda x: x / (x + ridge) ** 2), abs=1e-9)
    one = 0.25 * features / (900 - features - 1)
    assert risk["synthetic"][3] == pytest.approx(3 * one * over_law(lambda x: (x / (x + ridge)) ** 2), abs=1e-9)


def test_ridge_after_synthetic_agrees_with_its_simulation():
    given = {"rows": 400, "synthetic_rows": 600, "features": 200, "synthetic_noise": 0.5, "ridge": 0.3}
    draws = simulate_after_synthetic(4, **given, repeats=16, rng=rng(4))["total"]
    curves = ridge_after_synthetic(4, **given)
    assert agrees(draws, curves["total"])
    assert excludes(draws, curves["total"][-1] - curves["synthetic"][-1])
    assert excludes(draws, ols_after_synthetic(4, **{k: given[k] for k in given if k != "ridge"})["total"][-1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ols_after_synthetic(4, **AFTER | {"synthetic_rows": 21}), "synthetic_rows: 21 .* at least 22"),
        (lambda: ridge_after_synthetic(4, **AFTER, ridge=0.0), "ridge: 0.0 is not above 0"),
        (lambda: simulate_after_synthetic(4, **AFTER | {"rows": 21}, repeats=2, rng=rng()), "rows: 21 .* 22"),
    ],
)
def test_impossible_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
