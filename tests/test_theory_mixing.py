"""Real samples beside own ones: the best weight by search, printed limits, then the Monte Carlo."""

import math

import numpy as np
import pytest
from scipy import optimize
from theory_tools import agrees, excludes, rng

from symbiosis.theory.curves import mean_and_error
from symbiosis.theory.mixing import (
    best_real_weight,
    mixed_limit,
    mixed_variance,
    regression_ratio,
    reused_limit,
    simulate_mixed_regression,
    simulate_mixing,
)

GOLDEN = (1 + math.sqrt(5)) / 2
MIX = {"real": 10, "synthetic": 10}


def test_best_real_weight_is_golden_at_equal_sizes_only():
    best = best_real_weight([0.25, 1, 4, 100])
    assert best == pytest.approx([0.828427, 1 / GOLDEN, 0.390388, 0.095125], abs=5e-7)
    assert best[1] == pytest.approx(0.6180340, abs=5e-8)
    assert mixed_limit(best, [0.25, 1, 4, 100]) == pytest.approx(best, abs=1e-12)
    proportional = mixed_limit(1 / (1 + np.array([0.25, 1, 4, 100])), [0.25, 1, 4, 100])
    assert proportional == pytest.approx([0.8333, 0.6667, 0.5556, 0.5025], abs=5e-5)


@pytest.mark.parametrize("ratio", [0.03, 0.7, 5 / 3, 60.0])
def test_best_real_weight_minimises_the_limit(ratio):
    found = optimize.minimize_scalar(mixed_limit, bounds=(1e-9, 1), args=(ratio,), method="bounded")
    assert best_real_weight(ratio) == pytest.approx(found.x, abs=1e-5)  # a minimum is flat
    assert mixed_limit(best_real_weight(ratio), ratio) == pytest.approx(found.fun, abs=1e-9)


@pytest.mark.parametrize(("weight", "printed"), [(1 / GOLDEN, 0.6180), (0.5, 0.6667), (0.8, 0.7083)])
def test_mixing_ends_at_its_limit_and_agrees_with_its_simulation(weight, printed):
    curve = mixed_variance(60, weight, real=10, synthetic=10, noise=2.0)
    limit = float(mixed_limit(weight, 1.0))
    assert curve[-1] * 10 / 4 == pytest.approx(limit, abs=1e-9) and limit == pytest.approx(printed, abs=5e-5)
    draws = simulate_mixing(12, weight, real=10, synthetic=10, noise=2.0, repeats=8000, rng=rng(9))
    assert agrees(draws, curve[:13])
    assert excludes(draws, 4 / 20)  # all 20 samples as if they were real


def test_reused_real_samples_leave_no_golden_ratio():
    weight = np.linspace(0.01, 1, 100)
    assert reused_limit(0.618, 1) == pytest.approx(1.17086, abs=5e-6)
    for ratio in (0.25, 1, 4, 100):
        assert np.all(np.diff(reused_limit(weight, ratio)) < 0) and reused_limit(1, ratio) == 1
    draws = simulate_mixing(12, 1 / GOLDEN, real=10, synthetic=10, reuse_real=True, repeats=20_000, rng=rng(10))
    assert agrees(10 * draws[:, -1:], reused_limit(1 / GOLDEN, 1))
    assert excludes(10 * draws, 1.0) and excludes(10 * draws, 1 / GOLDEN)


def test_averaged_regression_fits_mix_like_means():
    given = {"real": 20, "synthetic": 30, "features": 4}
    ratio = regression_ratio(**given)
    weight = float(best_real_weight(ratio))
    assert (ratio, weight) == pytest.approx((5 / 3, 0.530662), abs=5e-7)
    mse = mixed_limit(weight, ratio) * 4 / (20 - 4 - 1)
    assert mse == pytest.approx(0.141510, abs=5e-7)
    draws = simulate_mixed_regression(10, weight, **given, repeats=6000, rng=rng(11))
    assert agrees(draws[:, -1:], mse) and excludes(draws, mse * 15 / 20)


def test_weighted_loss_is_below_the_averaged_fits():
    draws = simulate_mixed_regression(
        10, 0.55, real=20, synthetic=30, features=4, combine="loss", repeats=6000, rng=rng(12)
    )
    mean, error = mean_and_error(draws)
    assert abs(mean[-1] - 0.1271) < 4 * np.hypot(error[-1], 0.0007)  # the printed value has an error of its own
    assert mean[-1] + 4 * error[-1] < 0.141510


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: mixed_variance(3, 1.5, **MIX), "weight: 1.5 is not within"),
        (lambda: mixed_limit(0.0, 1.0), "weight: 0.0 is not above 0"),
        (lambda: best_real_weight(0.0), "ratio: 0.0 is not above 0"),
        (lambda: regression_ratio(real=5, synthetic=30, features=4), "real: 5 .* at least 6"),
        (
            lambda: simulate_mixed_regression(
                3, 0.5, real=9, synthetic=9, features=2, combine="data", repeats=5, rng=rng()
            ),
            "combine: 'data' .* fits, loss",
        ),
    ],
)
def test_impossible_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
