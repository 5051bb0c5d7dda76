"""Types that sampling keeps: by hand, printed values, the exact chain of two types, then the Monte Carlo."""

import numpy as np
import pytest
from scipy import stats
from theory_tools import FOUR, agrees, counts_chain, excludes, rng

from symbiosis.theory.next_token import next_token_moments
from symbiosis.theory.zipf_tail import ancestors, simulate_types, types_alive, types_alive_approximation

ZIPF = 1 / np.arange(1, 1001) / np.sum(1 / np.arange(1, 1001))
TAIL = np.arange(1, 1001) > 100  # ranks
ALIVE = {  # generation: types alive, tail types alive, approximation of all, heterozygosity
    1: (108.0146, 58.3695, 107.95, 0.96581),
    2: (75.8599, 37.6356, 75.72, 0.96098),
    5: (43.1870, 18.9431, 42.98, 0.94664),
    10: (26.4725, 10.5783, 26.23, 0.92321),
    50: (7.3089, 2.4553, 6.99, 0.75548),
}


def test_types_alive_by_hand():
    assert types_alive([0.5, 0.5], 3, tokens=2) == pytest.approx([2, 1.5, 1.25, 1.125], abs=1e-12)
    assert ancestors(2, tokens=2) == pytest.approx(np.array([[0, 0, 1], [0, 0.5, 0.5]]), abs=1e-12)
    assert types_alive(ZIPF, 0, tokens=2, types=TAIL).tolist() == [900]


def test_types_alive_has_the_printed_values():
    alive = types_alive(ZIPF, 50, tokens=200)
    tail = types_alive(ZIPF, 50, tokens=200, types=TAIL)
    rough = types_alive_approximation(ZIPF, 50, tokens=200)
    mixed = next_token_moments(ZIPF, 50, tokens=200)["heterozygosity"]
    for t, printed in ALIVE.items():
        assert alive[t] == pytest.approx(printed[0], abs=5e-5) and tail[t] == pytest.approx(printed[1], abs=5e-5)
        assert rough[t] == pytest.approx(printed[2], abs=5e-3) and mixed[t] == pytest.approx(printed[3], abs=5e-6)
    assert alive[[2, 5, 10, 50]] / alive[1] == pytest.approx([0.702, 0.400, 0.245, 0.067], abs=1e-3)
    assert tail[[2, 5, 10, 50]] / tail[1] == pytest.approx([0.645, 0.325, 0.182, 0.042], abs=1e-3)
    assert mixed[[2, 5, 10, 50]] / mixed[1] == pytest.approx(
        [0.995, 0.980, 0.956, 0.780], abs=3e-3
    )  # printed from runs


def test_types_alive_is_that_of_the_exact_chain_of_two_tokens():
    n, now = 6, stats.binom.pmf(np.arange(7), 6, 0.2)
    both = types_alive([0.2, 0.8], 4, tokens=n)
    rare = types_alive([0.2, 0.8], 4, tokens=n, types=np.array([True, False]))
    for t in range(1, 5):
        assert rare[t] == pytest.approx(1 - now[0], abs=1e-9)
        assert both[t] == pytest.approx(2 - now[0] - now[-1], abs=1e-9)
        now = now @ counts_chain(n)


def test_ancestors_are_distributions_with_the_mean_of_balls_in_boxes():
    rows = ancestors(5, tokens=30)
    assert rows.shape == (5, 31) and rows.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-12)
    occupied = 30 * (1 - (1 - 1 / 30) ** np.arange(31))
    assert rows[1:] @ np.arange(31) == pytest.approx(rows[:-1] @ occupied, abs=1e-9)


def test_types_alive_agrees_with_its_simulation():
    draws = simulate_types(ZIPF, 50, tokens=200, types=TAIL, repeats=2000, rng=rng(14))
    alive = types_alive(ZIPF, 50, tokens=200)
    assert agrees(draws["alive"], alive)
    assert agrees(draws["types_alive"], types_alive(ZIPF, 50, tokens=200, types=TAIL))
    assert agrees(draws["heterozygosity"], next_token_moments(ZIPF, 50, tokens=200)["heterozygosity"])
    assert excludes(draws["alive"][:, :11], alive[9])  # one generation off would have been seen
    assert excludes(draws["alive"], types_alive_approximation(ZIPF, 50, tokens=200)[-1])
    entropy = draws["entropy"].mean(axis=0)
    assert entropy[[0, 1]] == pytest.approx([5.191, 4.163], abs=0.015)  # nats; 4 standard errors
    assert entropy[[2, 5, 10, 50]] / entropy[1] == pytest.approx([0.927, 0.805, 0.694, 0.392], abs=0.01)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: types_alive(FOUR, 3, tokens=5, types=np.ones(3, dtype=bool)), "types: .* each of the 4 types"),
        (lambda: types_alive(FOUR, 3, tokens=5, types=[0, 1, 2, 3]), "types: int64 .* boolean"),
        (lambda: ancestors(0, tokens=5), "generations: 0 .* at least 1"),
    ],
)
def test_impossible_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
