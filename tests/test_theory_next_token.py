"""A table of counts: printed values, the exact chain of two tokens, then the Monte Carlo."""

import numpy as np
import pytest
from scipy import stats
from theory_tools import FOUR, agrees, counts_chain, excludes, last, rng

from symbiosis.theory.curves import mean_and_error
from symbiosis.theory.next_token import (
    anchored_limit,
    anchored_next_token,
    collapse_time,
    collapse_time_of_two,
    next_token_moments,
    simulate_anchored,
    simulate_collapse_time,
    simulate_next_token,
)


def test_next_token_moments_have_the_printed_values():
    moments = last(next_token_moments(FOUR, 8, tokens=20))
    assert moments["purity"] == pytest.approx(0.578728, abs=5e-7)
    assert moments["spread"] == pytest.approx(0.213728, abs=5e-7)
    assert moments["heterozygosity"] == pytest.approx(1 - 0.578728, abs=5e-7)


def test_next_token_moments_are_those_of_the_exact_chain_of_two_tokens():
    n, k = 7, np.arange(8)
    now = stats.binom.pmf(k, n, 0.3)
    curves = next_token_moments([0.3, 0.7], 4, tokens=n)
    for m in range(1, 5):
        assert curves["heterozygosity"][m] == pytest.approx(now @ (2 * k / n * (1 - k / n)), abs=1e-9)
        assert curves["spread"][m] == pytest.approx(2 * now @ (k / n - 0.3) ** 2, abs=1e-9)
        now = now @ counts_chain(n)


def test_next_token_moments_agree_with_their_simulation():
    draws = simulate_next_token(FOUR, 8, tokens=20, repeats=5000, rng=rng(5))
    for name, curve in next_token_moments(FOUR, 8, tokens=20).items():
        assert agrees(draws[name], curve)
        assert excludes(draws[name], curve[7])  # one generation off would have been seen


def test_collapse_time_has_the_printed_values():
    assert collapse_time(FOUR, tokens=100) == pytest.approx(156.62, abs=5e-3)
    assert collapse_time(FOUR, tokens=20) == pytest.approx(31.32, abs=5e-3)
    assert collapse_time([0.3, 0.7], tokens=20) == pytest.approx(24.43, abs=5e-3)
    assert collapse_time_of_two(0.3, tokens=20) == pytest.approx(23.0246, abs=5e-5)
    assert collapse_time([1.0], tokens=20) == 0
    uniform = collapse_time(np.full(5000, 1 / 5000), tokens=20)
    assert 39.9 < uniform < 40  # below 2 N, whatever the vocabulary


def test_exact_collapse_time_is_the_sum_of_the_chances_to_go_on():
    assert collapse_time_of_two(0.4, tokens=1) == 1  # one token is drawn, one token is left
    going, now = 1.0, stats.binom.pmf(np.arange(6), 5, 0.4)
    for _ in range(400):
        going += now[1:-1].sum()
        now = now @ counts_chain(5)
    assert collapse_time_of_two(0.4, tokens=5) == pytest.approx(going, abs=1e-9)


def test_collapse_times_agree_with_their_simulation():
    two = simulate_collapse_time([0.3, 0.7], tokens=20, repeats=8000, rng=rng(6))[:, None]
    assert agrees(two, collapse_time_of_two(0.3, tokens=20))
    assert not agrees(two, collapse_time([0.3, 0.7], tokens=20))  # the diffusion is 1.4 generations too long
    many = simulate_collapse_time(FOUR, tokens=100, repeats=2000, rng=rng(6))[:, None]
    assert agrees(many, collapse_time(FOUR, tokens=100) - 1.5)  # by about as much here
    assert excludes(many, 200)  # the bound 2 N is not the value


def test_anchored_next_token_has_the_printed_values_and_follows_its_recursion():
    given = {"real_tokens": 30, "synthetic_tokens": 20}
    curves = anchored_next_token(FOUR, 60, **given)
    assert curves["distance_squared"][[0, 1, 3]] == pytest.approx([0, 0.00508, 0.00596953], abs=5e-9)
    limit = anchored_limit(FOUR, **given)
    assert limit == curves["distance_squared"][-1] == pytest.approx(0.00599057, abs=5e-9)
    assert curves["l1_bound"][-1] == pytest.approx(0.1548, abs=5e-5)
    v = 0.0
    for step in curves["distance_squared"]:
        assert step == pytest.approx(v, abs=1e-12)
        v = 0.4**2 * ((1 - 1 / 20) * v + (1 - FOUR @ FOUR) / 20)


def test_anchored_next_token_agrees_with_its_simulation():
    given = {"real_tokens": 30, "synthetic_tokens": 20}
    curves = anchored_next_token(FOUR, 8, **given)
    draws = simulate_anchored(FOUR, 8, **given, repeats=6000, rng=rng(7))
    assert agrees(draws["distance_squared"], curves["distance_squared"])
    assert excludes(draws["distance_squared"], curves["distance_squared"][1])  # one round is not all
    l1, error = mean_and_error(draws["distance_l1"])
    assert abs(l1[-1] - 0.1161) < 4 * error[-1] + 5e-5
    assert np.all(l1 <= curves["l1_bound"]) and l1[-1] > 0.7 * curves["l1_bound"][-1]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: next_token_moments([0.5, 0.6], 3, tokens=5), "p: .* divide it by its sum"),
        (lambda: simulate_next_token([1.2, -0.2], 3, tokens=5, repeats=5, rng=rng()), "p: .* vector >= 0"),
        (lambda: collapse_time([np.nan, 1.0], tokens=5), "p: .* not a distribution"),
        (lambda: collapse_time_of_two(1.0, tokens=5), "p: at 1.0 .* strictly between 0 and 1"),
        (lambda: anchored_limit(FOUR, real_tokens=0, synthetic_tokens=5), "real_tokens: 0 .* at least 1"),
    ],
)
def test_impossible_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
