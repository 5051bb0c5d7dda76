"""MAD loops: printed moments with their Monte Carlo, where they end, and the loop without real samples."""

import numpy as np
import pytest
from theory_tools import agrees, excludes, last, rng

from symbiosis.theory.gaussian import gaussian_refit
from symbiosis.theory.mad_loops import mad_fixed_point, mad_moments, simulate_mad

MIX = {"real": 10, "synthetic": 10}
MIXED = {"real": 10, "synthetic": 30, "bias": 0.8}
LOOPS = [
    ("fresh_data", 12, MIXED, {"mean_squared": 0.036487, "variance": 0.643515}),
    ("synthetic_augmentation", 12, MIXED, {"mean_squared": 0.120300, "variance": 0.587765, "real_overlap": 0.1}),
    ("fully_synthetic", 6, {"synthetic": 20, "bias": 0.9}, {"mean_squared": 0.210852, "variance": 0.531441}),
]


@pytest.mark.parametrize(("loop", "generations", "given", "printed"), LOOPS)
def test_mad_moments_have_the_printed_values_and_agree_with_their_simulation(loop, generations, given, printed):
    curves = mad_moments(loop, generations, **given)
    assert last(curves) == pytest.approx(printed, abs=5e-7)
    draws = simulate_mad(loop, generations, **given, repeats=8000, rng=rng(8))
    unbiased = last(mad_moments(loop, generations, **given | {"bias": 1.0}))
    for name, curve in curves.items():
        assert agrees(draws[name], curve), name
        assert excludes(draws[name], 0.0 if name == "real_overlap" else unbiased[name]), name


def test_mad_fixed_points_are_the_printed_ones_and_where_the_loops_end():
    fresh = mad_fixed_point("fresh_data", **MIXED)
    assert fresh == pytest.approx({"mean_squared": 0.036313, "variance": 0.642458}, abs=5e-7)
    fixed = mad_fixed_point("synthetic_augmentation", **MIXED)
    assert fixed == pytest.approx({"real_overlap": 0.1, "mean_squared": 0.120112, "variance": 0.586592}, abs=5e-7)
    for loop in ("fresh_data", "synthetic_augmentation"):
        given = {"real": 3, "synthetic": 9, "bias": 0.5}
        assert last(mad_moments(loop, 300, **given)) == pytest.approx(mad_fixed_point(loop, **given), abs=1e-9)


def test_fully_synthetic_loop_is_the_closed_sum_and_without_bias_a_gaussian_refit():
    curves = mad_moments("fully_synthetic", 9, synthetic=12, bias=0.7)
    powers = 0.7 ** np.arange(10)
    assert curves["variance"] == pytest.approx(powers, abs=1e-12)
    assert curves["mean_squared"] == pytest.approx((np.cumsum(powers) - 1) / 12, abs=1e-12)
    unbiased, refit = mad_moments("fully_synthetic", 9, synthetic=12), gaussian_refit(9, samples=12)
    assert all(unbiased[name] == pytest.approx(refit[name], abs=1e-12) for name in unbiased)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: mad_moments("fresh", 3, **MIX), "loop: 'fresh' .* fresh_data"),
        (lambda: mad_moments("fresh_data", 3, synthetic=10), "real: 0 .* at least 2"),
        (lambda: mad_moments("fully_synthetic", 3, **MIX), "real: 10 .* give 0"),
        (lambda: mad_moments("fresh_data", 3, **MIX, bias=1.1), "bias: 1.1 is not within \\[0, 1\\]"),
        (lambda: mad_fixed_point("fully_synthetic", real=0, synthetic=9), "loop: .* never forgets"),
    ],
)
def test_impossible_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
