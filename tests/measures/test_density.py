"""Effective rank and density: values by hand, what leaves them alone, what cannot be measured."""

import itertools

import numpy as np
import pytest

from symbiosis.measures.density import density, effective_rank, linear_cka


def test_effective_rank_by_hand_and_what_it_ignores():
    plus_minus = np.concatenate([np.eye(5, 8), -np.eye(5, 8)])  # mean 0, five equal singular values
    assert effective_rank(plus_minus) == pytest.approx(5)
    assert effective_rank(np.eye(6, 9)) == pytest.approx(5)  # orthonormal rows: centring takes one direction
    s = np.array([3.0, 1.0])  # p = (3/4, 1/4)
    x = np.concatenate([np.diag(s), -np.diag(s)])
    assert effective_rank(x) == pytest.approx(4 / 3**0.75)  # exp(-3/4 ln 3/4 - 1/4 ln 1/4)
    line = np.outer(np.arange(7.0), [1, -2, 3]) + np.array([5, 5, 0])  # away from the origin
    assert effective_rank(line) == pytest.approx(1)
    squares = s**2 / (s**2).sum()
    assert effective_rank(x) != pytest.approx(np.exp(-(squares * np.log(squares)).sum()), rel=0.1)  # not of s^2

    rng = np.random.default_rng(0)
    x, (q, _) = rng.normal(size=(20, 6)) * [1, 2, 3, 4, 5, 6], np.linalg.qr(rng.normal(size=(6, 6)))
    expected = effective_rank(x)
    assert 1 < expected < 6
    for same in (1e3 * x, x + 100 * rng.normal(size=6), x @ q):
        assert effective_rank(same) == pytest.approx(expected)
    assert effective_rank(x * [1, 1, 1, 1, 1, 10]) < 0.8 * expected  # one long direction is seen

    x = np.random.default_rng(1).normal(size=(40, 40))
    assert effective_rank(x[:5]) <= 4 and effective_rank(x[:, :3]) <= 3
    assert effective_rank(x[:20]) < effective_rank(x)  # grows with n: why groups must be equally large


def test_effective_rank_needs_rows_that_differ():
    assert np.isnan(effective_rank(np.full((4, 3), 0.1)))
    fp32 = (0.1 + np.random.default_rng(2).normal(size=(4, 3)) * 1e-9).astype(np.float32)
    assert np.isnan(effective_rank(fp32))
    for shape in ((1, 5), (5,), (4, 0)):
        with pytest.raises(ValueError, match="two rows"):
            effective_rank(np.ones(shape))


def test_density_by_hand_and_what_it_ignores():
    one_hot, uniform, four_of_nine = np.eye(9)[2], np.full(9, -3.0), np.repeat([2.0, 0.0], [4, 5])
    np.testing.assert_allclose(density([one_hot, uniform, four_of_nine]), [0, 1, (2 - 1) / (3 - 1)], atol=1e-12)
    assert np.isnan(density(np.zeros(4)))
    with pytest.raises(ValueError, match="two units"):
        density(np.ones((3, 1)))

    rng = np.random.default_rng(3)
    x = rng.normal(size=16)
    assert density(-1e4 * x) == pytest.approx(density(x)) == pytest.approx(density(rng.permutation(x)))
    q, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    assert density(np.eye(16)[0] @ q) > 0.5 > density(np.eye(16)[0])  # the axes matter

    noise = density(np.random.default_rng(4).normal(size=(50, 10_000)))
    expected = (100 * np.sqrt(2 / np.pi) - 1) / 99  # |x|_1 / |x|_2 = sqrt(d) E|z| to first order
    assert abs(noise.mean() - expected) < 1e-3 and noise.shape == (50,)


def test_cka_ignores_rotation_shift_scale_and_width_and_is_unbiased():
    rng = np.random.default_rng(3)
    x, turn = rng.normal(size=(30, 5)), np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert linear_cka(x, 3 * np.pad(x, ((0, 0), (0, 3))) @ turn + 7) == pytest.approx(1)
    unrelated = [linear_cka(rng.normal(size=(20, 40)), rng.normal(size=(20, 40))) for _ in range(200)]
    assert abs(np.mean(unrelated)) < 4 * np.std(unrelated) / np.sqrt(200)  # the biased one is 0.67 here
    half = linear_cka(x, np.concatenate([x[:, :1], rng.normal(size=(30, 4))], axis=1))
    assert 0.05 < half < 0.8 and linear_cka(x, np.ones((30, 2))) != linear_cka(x, np.ones((30, 2)))
    with pytest.raises(ValueError, match="four rows or more of the same texts, got 30 and 29"):
        linear_cka(x, x[1:])


def test_hsic_is_the_mean_over_all_quadruples_of_different_texts():
    """Song et al. 2012: k_ij (l_ij + l_qr - 2 l_iq) over i, j, q, r all different."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 3))

    def hsic(a, b):
        k, m = ((each - each.mean(0)) @ (each - each.mean(0)).T for each in (a, b))
        every = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in itertools.permutations(range(6), 4)]
        return np.mean(every)

    assert linear_cka(x, y) == pytest.approx(hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y)))
