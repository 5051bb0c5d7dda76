"""A Gaussian fitted to its own samples: printed moments, one step by scipy, then the Monte Carlo."""

import numpy as np
import pytest
from scipy import stats
from theory_tools import agrees, excludes, last, rng

from symbiosis.theory.gaussian import gaussian_refit, simulate_gaussian_refit


def test_gaussian_refit_has_the_printed_moments():
    unbiased = last(gaussian_refit(5, samples=10))
    assert unbiased["variance"] == pytest.approx(1, abs=1e-12)  # a martingale
    assert unbiased["sd"] == pytest.approx(0.870570, abs=5e-7)
    assert unbiased["log_variance"] == pytest.approx(-0.576032, abs=5e-7)
    assert unbiased["log_variance_spread"] == pytest.approx(1.243626, abs=5e-7)
    assert unbiased["variance_squared"] == pytest.approx(2.727413, abs=5e-7)
    assert unbiased["mean_squared"] == pytest.approx(0.5, abs=1e-12)
    assert unbiased["w2_squared"] == pytest.approx(0.758860, abs=5e-7)
    likelihood = last(gaussian_refit(5, samples=10, ddof=0))
    assert likelihood["variance"] == pytest.approx(0.9**5, abs=1e-12)
    assert likelihood["mean_squared"] == pytest.approx(1 - 0.9**5, abs=1e-12)


@pytest.mark.parametrize("ddof", [0, 1])
def test_gaussian_refit_step_is_a_scaled_chi_square(ddof):
    m, sd = 7, 1.5
    one = {name: curve[1] for name, curve in gaussian_refit(1, samples=m, ddof=ddof, sd=sd).items()}
    share = stats.chi2(m - 1, scale=1 / (m - ddof))
    assert one["variance"] == pytest.approx(sd**2 * share.mean(), abs=1e-9)
    assert one["variance_squared"] == pytest.approx(sd**4 * share.moment(2), abs=1e-9)
    assert one["sd"] == pytest.approx(sd * stats.chi(m - 1).mean() / np.sqrt(m - ddof), abs=1e-9)
    assert one["log_variance"] == pytest.approx(share.expect(np.log), abs=1e-7)  # numerical integral
    spread = share.expect(lambda v: (np.log(v) - one["log_variance"]) ** 2)
    assert one["log_variance_spread"] == pytest.approx(spread, abs=1e-7)


@pytest.mark.parametrize(("samples", "ddof", "sd"), [(10, 1, 1.0), (10, 0, 1.0), (6, 0, 2.5)])
def test_gaussian_refit_agrees_with_its_simulation(samples, ddof, sd):
    given = {"samples": samples, "ddof": ddof, "sd": sd}
    draws = simulate_gaussian_refit(5, **given, repeats=20_000, rng=rng())
    other = last(gaussian_refit(5, **given | {"ddof": 1 - ddof}))
    for name, curve in gaussian_refit(5, **given).items():
        assert agrees(draws[name], curve), name
        if name != "log_variance_spread":  # the only one that ddof leaves alone
            assert excludes(draws[name], other[name]), name
    assert excludes(draws["log_variance_spread"], 5 * 2 / (samples - 1))  # the first-order 2 / (M - 1) per step


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gaussian_refit(5, samples=2), "samples: 2 .* at least 3"),
        (lambda: gaussian_refit(-1, samples=10), "generations: -1 .* at least 0"),
        (lambda: gaussian_refit(5, samples=10, ddof=2), "ddof: 2 .* 1 \\(unbiased\\)"),
        (lambda: simulate_gaussian_refit(5, samples=10, sd=0.0, repeats=5, rng=rng()), "sd: 0.0 .* positive"),
    ],
)
def test_impossible_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
