"""A Gaussian fitted to its own samples, alone or beside real ones: printed moments, one step by scipy, Monte Carlo."""

import numpy as np
import pytest
from scipy import stats
from theory_tools import agrees, excludes, last, refuses, rng

from symbiosis.theory.gaussian import (
    gaussian_refit,
    mad_fixed_point,
    mad_moments,
    simulate_gaussian_refit,
    simulate_mad,
)


def test_gaussian_refit_has_the_printed_moments_and_its_step_is_a_scaled_chi_square():
    unbiased = last(gaussian_refit(5, samples=10))
    assert unbiased["variance"] == pytest.approx(1, abs=1e-12)  # a martingale
    assert unbiased["sd"] == pytest.approx(0.870570, abs=5e-7)
    assert unbiased["log_variance"] == pytest.approx(-0.576032, abs=5e-7)
    assert unbiased["log_variance_spread"] == pytest.approx(1.243626, abs=5e-7)
    assert unbiased["mean_squared"] == pytest.approx(0.5, abs=1e-12)
    assert unbiased["w2_squared"] == pytest.approx(0.758860, abs=5e-7)
    likelihood = last(gaussian_refit(5, samples=10, ddof=0))
    assert likelihood["variance"] == pytest.approx(0.9**5, abs=1e-12)
    assert likelihood["mean_squared"] == pytest.approx(1 - 0.9**5, abs=1e-12)

    for ddof in (0, 1):
        m = 7
        one = {name: curve[1] for name, curve in gaussian_refit(1, samples=m, ddof=ddof).items()}
        share = stats.chi2(m - 1, scale=1 / (m - ddof))
        assert one["variance"] == pytest.approx(share.mean(), abs=1e-9)
        assert one["sd"] == pytest.approx(stats.chi(m - 1).mean() / np.sqrt(m - ddof), abs=1e-9)
        assert one["log_variance"] == pytest.approx(share.expect(np.log), abs=1e-7)  # numerical integral
        spread = share.expect(lambda v, at=one["log_variance"]: (np.log(v) - at) ** 2)
        assert one["log_variance_spread"] == pytest.approx(spread, abs=1e-7)


def test_gaussian_refit_agrees_with_its_simulation():
    for samples, ddof in ((10, 1), (10, 0), (6, 0)):
        given = {"samples": samples, "ddof": ddof}
        draws = simulate_gaussian_refit(5, **given, repeats=20_000, rng=rng())
        other = last(gaussian_refit(5, **given | {"ddof": 1 - ddof}))
        for name, curve in gaussian_refit(5, **given).items():
            assert agrees(draws[name], curve), name
            if name != "log_variance_spread":  # the only one that ddof leaves alone
                assert excludes(draws[name], other[name]), name
        assert excludes(draws["log_variance_spread"], 5 * 2 / (samples - 1))  # the first-order 2 / (M - 1) per step


MIX = {"real": 10, "synthetic": 10}
MIXED = {"real": 10, "synthetic": 30, "sampling_bias": 0.8}
LOOPS = [
    ("fresh_data", 12, MIXED, {"mean_squared": 0.036487, "variance": 0.643515}),
    ("synthetic_augmentation", 12, MIXED, {"mean_squared": 0.120300, "variance": 0.587765, "real_overlap": 0.1}),
    ("fully_synthetic", 6, {"synthetic": 20, "sampling_bias": 0.9}, {"mean_squared": 0.210852, "variance": 0.531441}),
]


def test_mad_moments_have_the_printed_values_and_agree_with_their_simulation():
    for loop, generations, given, printed in LOOPS:
        curves = mad_moments(loop, generations, **given)
        assert last(curves) == pytest.approx(printed, abs=5e-7)
        draws = simulate_mad(loop, generations, **given, repeats=8000, rng=rng(8))
        unbiased = last(mad_moments(loop, generations, **given | {"sampling_bias": 1.0}))
        for name, curve in curves.items():
            assert agrees(draws[name], curve), name
            assert excludes(draws[name], 0.0 if name == "real_overlap" else unbiased[name]), name


def test_mad_fixed_points_are_the_printed_ones_and_where_the_loops_end():
    fresh = mad_fixed_point("fresh_data", **MIXED)
    assert fresh == pytest.approx({"mean_squared": 0.036313, "variance": 0.642458}, abs=5e-7)
    fixed = mad_fixed_point("synthetic_augmentation", **MIXED)
    assert fixed == pytest.approx({"real_overlap": 0.1, "mean_squared": 0.120112, "variance": 0.586592}, abs=5e-7)
    for loop in ("fresh_data", "synthetic_augmentation"):
        given = {"real": 3, "synthetic": 9, "sampling_bias": 0.5}
        assert last(mad_moments(loop, 300, **given)) == pytest.approx(mad_fixed_point(loop, **given), abs=1e-9)


def test_fully_synthetic_loop_is_the_closed_sum_and_without_bias_a_gaussian_refit():
    curves = mad_moments("fully_synthetic", 9, synthetic=12, sampling_bias=0.7)
    powers = 0.7 ** np.arange(10)
    assert curves["variance"] == pytest.approx(powers, abs=1e-12)
    assert curves["mean_squared"] == pytest.approx((np.cumsum(powers) - 1) / 12, abs=1e-12)
    unbiased, refit = mad_moments("fully_synthetic", 9, synthetic=12), gaussian_refit(9, samples=12)
    assert all(unbiased[name] == pytest.approx(refit[name], abs=1e-12) for name in unbiased)


def test_impossible_input_is_refused():
    refuses(
        (lambda: gaussian_refit(5, samples=2), "samples: 2 .* at least 3"),
        (lambda: gaussian_refit(5, samples=10, ddof=2), r"ddof: 2 is not in \[0, 1\]"),
        (lambda: simulate_gaussian_refit(5, samples=10, repeats=1, rng=rng()), "repeats: 1 .* at least 2"),
        (lambda: mad_moments("fresh", 3, **MIX), "loop: 'fresh' .* fresh_data"),
        (lambda: mad_moments("fresh_data", 3, synthetic=10), "real: 0 .* at least 2"),
        (lambda: mad_moments("fully_synthetic", 3, **MIX), "real: 10 .* give 0"),
        (lambda: mad_fixed_point("fully_synthetic", real=0, synthetic=9), "loop: .* never forgets"),
    )
