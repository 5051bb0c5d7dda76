"""A table of counts: printed values, the exact chain of two types, then the Monte Carlo."""

import numpy as np
import pytest
from scipy import stats
from theory_tools import FOUR, agrees, counts_chain, excludes, last, refuses, rng

from symbiosis.theory.checks import mean_and_error
from symbiosis.theory.next_token import (
    collapse_time,
    next_token_moments,
    simulate_types,
    tail_mass,
    types_alive,
)

ANCHOR = {"tokens": 20, "real_tokens": 30}
ZIPF = 1 / np.arange(1, 1001) / np.sum(1 / np.arange(1, 1001))
TAIL = np.arange(1, 1001) > 100  # ranks
ALIVE = {  # generation: types alive, tail types alive, heterozygosity
    1: (108.0146, 58.3695, 0.96581),
    2: (75.8599, 37.6356, 0.96098),
    5: (43.1870, 18.9431, 0.94664),
    10: (26.4725, 10.5783, 0.92321),
    50: (7.3089, 2.4553, 0.75548),
}


def simulated_tables(p, generations, *, tokens, real_tokens=0, repeats, rng):
    """(G + 1, R, V) tables of counts, each counted from real tokens and those that the last one wrote."""
    a, tables = tokens / (real_tokens + tokens), [np.tile(p, (repeats, 1))]
    for _ in range(generations):
        tables.append((1 - a) * p + a * rng.multinomial(tokens, tables[-1]) / tokens)
    return np.array(tables)


# --- diversity -----------------------------------------------------------------------------------------------------
def test_next_token_moments_have_the_printed_values_and_are_those_of_the_exact_chain():
    moments = last(next_token_moments(FOUR, 8, tokens=20))
    assert moments["heterozygosity"] == pytest.approx(1 - 0.578728, abs=5e-7)
    assert moments["distance_squared"] == pytest.approx(0.213728, abs=5e-7)
    anchored = next_token_moments(FOUR, 60, **ANCHOR)
    assert anchored["distance_squared"][[0, 1, 3, 60]] == pytest.approx([0, 0.00508, 0.00596953, 0.00599057], abs=5e-9)
    assert np.sqrt(4 * anchored["distance_squared"][-1]) == pytest.approx(0.1548, abs=5e-5)

    n, k = 7, np.arange(8)
    now = stats.binom.pmf(k, n, 0.3)
    curves = next_token_moments([0.3, 0.7], 4, tokens=n)
    for m in range(1, 5):
        assert curves["heterozygosity"][m] == pytest.approx(now @ (2 * k / n * (1 - k / n)), abs=1e-9)
        assert curves["distance_squared"][m] == pytest.approx(2 * now @ (k / n - 0.3) ** 2, abs=1e-9)
        now = now @ counts_chain(n)

    v = 0.0
    for step in next_token_moments(FOUR, 60, **ANCHOR)["distance_squared"]:
        assert step == pytest.approx(v, abs=1e-12)
        v = 0.4**2 * ((1 - 1 / 20) * v + (1 - FOUR @ FOUR) / 20)


def test_next_token_moments_agree_with_their_simulation():
    for real_tokens in (0, 30):
        given = {"tokens": 20, "real_tokens": real_tokens}
        tables = simulated_tables(FOUR, 8, **given, repeats=6000, rng=rng(5))
        curves = next_token_moments(FOUR, 8, **given)
        draws = {
            "heterozygosity": 1 - (tables**2).sum(axis=2).T,
            "distance_squared": ((tables - FOUR) ** 2).sum(axis=2).T,
        }
        for name, draw in draws.items():
            assert agrees(draw, curves[name])
            assert excludes(draw, curves[name][0])
        assert excludes(draws["distance_squared"], curves["distance_squared"][1])  # one round is not all
        l1, error = mean_and_error(abs(tables - FOUR).sum(axis=2).T)
        bound = np.sqrt(4 * curves["distance_squared"])
        assert np.all(l1 <= bound + 4 * error) and l1[-1] > 0.7 * bound[-1]
        if real_tokens:
            assert abs(l1[-1] - 0.1161) < 4 * error[-1] + 5e-5


# --- types ---------------------------------------------------------------------------------------------------------
def test_types_alive_by_hand_has_the_printed_values_and_keeps_the_rarest_digits():
    assert types_alive([0.5, 0.5], 3, tokens=2) == pytest.approx([2, 1.5, 1.25, 1.125], abs=1e-12)
    assert types_alive([0.25, 0.75, 0.0], 1, tokens=2) == pytest.approx([2, 2 - 0.75**2 - 0.25**2], abs=1e-12)
    assert types_alive(ZIPF, 0, tokens=2, types=TAIL).tolist() == [900]
    assert types_alive([1.0], 9, tokens=3) == pytest.approx(np.ones(10), abs=1e-12)

    alive = types_alive(ZIPF, 50, tokens=200)
    tail = types_alive(ZIPF, 50, tokens=200, types=TAIL)
    mixed = next_token_moments(ZIPF, 50, tokens=200)["heterozygosity"]
    for t, printed in ALIVE.items():
        assert alive[t] == pytest.approx(printed[0], abs=5e-5) and tail[t] == pytest.approx(printed[1], abs=5e-5)
        assert mixed[t] == pytest.approx(printed[2], abs=5e-6)
    assert alive[[2, 5, 10, 50]] / alive[1] == pytest.approx([0.702, 0.400, 0.245, 0.067], abs=1e-3)
    assert tail[[2, 5, 10, 50]] / tail[1] == pytest.approx([0.645, 0.325, 0.182, 0.042], abs=1e-3)
    assert mixed[[2, 5, 10, 50]] / mixed[1] == pytest.approx(
        [0.995, 0.980, 0.956, 0.780], abs=3e-3
    )  # printed from runs

    p = np.append(np.full(1000, 1e-13), 1 - 1e-10)
    rare = types_alive(p, 20, tokens=50, types=p < 0.5)
    assert rare[1] == pytest.approx(50 * 1000 * 1e-13, rel=1e-9)  # a thousand times N p
    assert rare[20] == pytest.approx(4.92e-10, rel=1e-3)


def test_types_alive_is_that_of_the_exact_chain_of_two_types():
    n, now = 6, stats.binom.pmf(np.arange(7), 6, 0.2)
    both = types_alive([0.2, 0.8], 4, tokens=n)
    rare = types_alive([0.2, 0.8], 4, tokens=n, types=np.array([True, False]))
    for t in range(1, 5):
        assert rare[t] == pytest.approx(1 - now[0], abs=1e-9)
        assert both[t] == pytest.approx(2 - now[0] - now[-1], abs=1e-9)
        now = now @ counts_chain(n)


def test_types_alive_agrees_with_its_simulation():
    draws = simulate_types(ZIPF, 50, tokens=200, types=TAIL, repeats=2000, rng=rng(14))
    alive = types_alive(ZIPF, 50, tokens=200)
    assert agrees(draws["alive"], alive)
    assert agrees(draws["types_alive"], types_alive(ZIPF, 50, tokens=200, types=TAIL))
    assert agrees(draws["heterozygosity"], next_token_moments(ZIPF, 50, tokens=200)["heterozygosity"])
    assert excludes(draws["alive"][:, :11], alive[9])  # one generation off would have been seen
    entropy = draws["entropy"].mean(axis=0)
    assert entropy[[0, 1]] == pytest.approx([5.191, 4.163], abs=0.015)  # nats; 4 standard errors
    assert entropy[[2, 5, 10, 50]] / entropy[1] == pytest.approx([0.927, 0.805, 0.694, 0.392], abs=0.01)


def test_types_beside_real_ones_are_those_of_the_exact_chain_of_two_types():
    for tokens, real_tokens in ((6, 3), (1, 5), (4, 1)):
        n, rare = tokens + real_tokens, np.array([True, False])
        count, now = np.arange(n + 1), stats.binom.pmf(np.arange(n + 1), n, 0.1)
        real = stats.binom.pmf(np.arange(real_tokens + 1), real_tokens, 0.1)
        step = np.array([np.convolve(stats.binom.pmf(np.arange(tokens + 1), tokens, k / n), real) for k in count])
        curve = types_alive([0.1, 0.9], 6, tokens=tokens, real_tokens=real_tokens, types=rare)
        assert curve[0] == 1
        for t in range(1, 7):
            assert curve[t] == pytest.approx(1 - now[0], abs=1e-12)
            now = now @ step


def test_real_tokens_hold_the_tail_as_in_the_simulation():
    given = {"tokens": 60, "real_tokens": 20, "types": TAIL}  # a quarter is real
    draws = simulate_types(ZIPF, 12, **given, repeats=3000, rng=rng(21))
    curve = types_alive(ZIPF, 12, **given)
    assert agrees(draws["types_alive"], curve)
    assert excludes(draws["types_alive"], types_alive(ZIPF, 12, tokens=80, types=TAIL)[-1])  # nothing real
    assert excludes(draws["types_alive"], types_alive(ZIPF, 1, tokens=20, types=TAIL)[1])  # the real ones alone
    all_real = types_alive(ZIPF, 4, tokens=1, real_tokens=79, types=TAIL)
    assert abs(all_real[1:] / types_alive(ZIPF, 1, tokens=80, types=TAIL)[1] - 1).max() < 0.02
    mass = ZIPF[TAIL].sum()
    assert curve[-1] / 900 > 0.3 * mass / 900 and np.all(np.diff(curve) < 0)


# --- until one type is left ------------------------------------------------------------------------------------------
def exact_time_of_two(p, tokens):
    """First-step analysis: h_k = 1 + sum_l Binomial(N, k/N)(l) h_l between the states that are not absorbed."""
    inner = counts_chain(tokens)[1:-1, 1:-1]
    h = np.linalg.solve(np.eye(tokens - 1) - inner, np.ones(tokens - 1))
    return 1 + stats.binom.pmf(np.arange(1, tokens), tokens, p) @ h


def test_collapse_time_is_exact_for_two_types_has_the_printed_values_and_agrees_with_its_simulation():
    for p, tokens in ((0.3, 20), (0.999, 20), (0.5, 2), (0.4, 5)):
        assert collapse_time([p, 1 - p], tokens=tokens) == pytest.approx(exact_time_of_two(p, tokens), abs=1e-9)

    assert collapse_time([0.3, 0.7], tokens=20) == pytest.approx(23.0246, abs=5e-5)
    assert collapse_time([0.999, 0.001], tokens=20) == pytest.approx(1.144, abs=5e-4)  # the diffusion says 0.316
    assert collapse_time([1.0], tokens=20) == 0 and collapse_time([0.4, 0.6], tokens=1) == 1
    diffusion = -2 * 100 * np.sum((1 - FOUR) * np.log(1 - FOUR))
    assert diffusion == pytest.approx(156.62, abs=5e-3) and 1 < diffusion - collapse_time(FOUR, tokens=100) < 3
    assert 35 < collapse_time(np.full(5000, 1 / 5000), tokens=20) < 40  # below 2 N, whatever the vocabulary

    now, time, draw = np.tile(FOUR, (12_000, 1)), np.zeros((12_000, 1)), rng(6)
    while (going := now.max(axis=1) < 1).any():
        now[going] = draw.multinomial(20, now[going]) / 20
        time[going] += 1
    assert agrees(time, collapse_time(FOUR, tokens=20))
    assert not agrees(time, 31.32)  # the diffusion is 1.6 generations too long
    assert excludes(time, 40)  # the bound 2 N is not the value


def test_impossible_input_is_refused():
    refuses(
        (lambda: next_token_moments([0.5, 0.6], 3, tokens=5), "p: .* divide it by its sum"),
        (lambda: types_alive(FOUR, 3, tokens=5, types=np.ones(3, dtype=bool)), "types: .* each of the 4 types"),
        (lambda: types_alive(FOUR, 3, tokens=5, types=[0, 1, 2, 3]), "types: int64 .* boolean"),
    )


# --- a writer that favours what is likely ---------------------------------------------------------------------------
def test_tail_mass_follows_its_recursion_and_ends_where_the_real_share_says():
    for kept, real in ((0.8, 0.0), (0.8, 0.25), (0.5, 0.5), (1.0, 0.0), (1.0, 0.3), (0.0, 0.3)):
        curve, m = tail_mass(60, kept=kept, real_share=real), 1.0
        for value in curve:
            assert value == pytest.approx(m, abs=1e-12)
            m = real + (1 - real) * kept * m
        assert curve[-1] == pytest.approx(real / (1 - (1 - real) * kept) if real else kept**60, abs=1e-9)
    with pytest.raises(ValueError, match=r"kept: 1\.2"):
        tail_mass(3, kept=1.2)
