"""Entities that learn from one another: cases by hand, two routes to each closed form, literal rows, simulation."""

import itertools
import tracemalloc
from dataclasses import replace
from operator import itemgetter
from time import process_time

import numpy as np
import pytest
from row_by_row import row_by_row
from scipy.linalg import block_diag, solve_discrete_lyapunov
from theory_tools import refuses

from symbiosis.theory.many_models import (
    Designs,
    NoFixedPoint,
    aligned_designs,
    data_shares,
    disagreement,
    efficiency_surface,
    first_fit,
    fixed_point,
    ideal_mse,
    mse,
    one_round,
    relative_efficiency,
    ring_designs,
    round_curves,
    round_draws,
    separate_designs,
    shares_by_round,
    simulate,
    spectral_radius,
    subsampled_trajectory,
    theory_change,
    trajectory,
    unbiased_limit,
)

GRID = np.arange(1, 10) / 10


def limit(designs, alpha, beta, truth):
    return fixed_point(first_fit(designs, beta, truth), one_round(designs, alpha, beta))


def omega(one):
    """(K*d, K*d) covariance of the noise of one round."""
    root = one.heard * np.concatenate(one.inverses) @ one.noise.T
    return root @ root.T


def kept(designs, one):
    """(K*d, K*d) P of theta_t = P theta_0 + Q theta_{t-1} + xi, where theta_0 determines the scores."""
    grams, weights = designs.real
    weighted = weights[:, None, None] * grams
    return block_diag(*one.inverses @ (one.private * weighted[:-1] + one.public * weighted[-1]))


def surface(designs, alphas, betas, truth, measure):
    """A measure of the limit over a grid, and rho(Q): two arrays (alphas, betas); nan where there is no limit."""
    values, radii = np.full((2, len(alphas), len(betas)), np.nan)
    for i, alpha in enumerate(alphas):
        for j, beta in enumerate(betas):
            radii[i, j] = spectral_radius(one_round(designs, alpha, beta))
            if radii[i, j] < 1:
                values[i, j] = measure(limit(designs, alpha, beta, truth))
    return values, radii


def flat(covariance):
    size = covariance.shape[0] * covariance.shape[1]
    return covariance.reshape(size, size)


def apart_by(covariance, n_entities):
    """Disagreement of entities with one mean, from the (K*d, K*d) covariance of all."""
    traces = np.trace(covariance.reshape(n_entities, -1, n_entities, len(covariance) // n_entities), axis1=1, axis2=3)
    return (n_entities * np.trace(traces) - traces.sum()) * 2 / (n_entities * (n_entities - 1))


def efficiency(designs, truth):
    return lambda moments: relative_efficiency(moments, designs, truth)[1]


def from_rows(public, private, synthetic, loss="sum"):
    """Designs of feature rows (n, d): "sum" weighs every row 1, "mean" weighs it 1 over the rows of its own set."""
    grams = public.T @ public, *(np.array([x.T @ x for x in rows]) for rows in (private, synthetic))
    if loss == "sum":
        return Designs(*grams)
    each = [[1 / len(x) for x in rows] for rows in (private, synthetic)]
    return Designs(*grams, public_weight=1 / len(public), private_weights=each[0], synthetic_weights=each[1])


def random_designs(rng, n_entities=3, d=4, rows=3, common=False):
    """Rank-deficient real data (rows < d) that identify the truth only together, uneven synthetic ones."""
    private = [rng.standard_normal((rows, d)) for _ in range(n_entities)]
    synthetic = [rng.standard_normal((d + 1 + k, d)) for k in range(n_entities)]
    return from_rows(rng.standard_normal((2, d)), private, synthetic[:1] * n_entities if common else synthetic)


# --- one feature, two entities: everything by hand -----------------------------------------------------------------
HAND = Designs(np.array([[2.0]]), np.array([[[3.0]], [[1.0]]]), np.array([[[2.0]], [[2.0]]]))


def test_one_round_the_limit_and_whose_data_is_in_whose_mean_by_hand():
    one = one_round(HAND, 0.5, 0.5)
    np.testing.assert_allclose(kept(HAND, one), np.diag([5 / 9, 3 / 7]), rtol=1e-12)
    np.testing.assert_allclose(one.inverses.ravel(), [4 / 9, 4 / 7], rtol=1e-12)
    np.testing.assert_allclose(one.Q, [[2 / 9, 2 / 9], [2 / 7, 2 / 7]], rtol=1e-12)
    np.testing.assert_allclose(omega(one), [[4 / 81, 4 / 63], [4 / 63, 4 / 49]], rtol=1e-12)
    assert spectral_radius(one) == pytest.approx(32 / 63, abs=1e-12)

    first = first_fit(HAND, 0.5, np.zeros(1))
    np.testing.assert_allclose(flat(first.covariance), [[1 / 5, 2 / 15], [2 / 15, 1 / 3]], rtol=1e-12)
    moments = fixed_point(first, one_round(HAND, 0.5, 0.5))
    expected = np.array([[22891, 23962], [23962, 31229]]) / 91295
    np.testing.assert_allclose(flat(moments.covariance), expected, rtol=1e-9)
    assert ideal_mse(HAND) == pytest.approx(1 / 6, abs=1e-12)
    each, overall = relative_efficiency(moments, HAND, np.zeros(1))
    assert each == pytest.approx([0.664708, 0.487234], abs=5e-7) and overall == pytest.approx(0.562300, abs=5e-7)
    assert abs(each.mean() - overall) > 0.01  # the mean of ratios is another number
    assert disagreement(moments) == pytest.approx((22891 + 31229 - 2 * 23962) / 91295, abs=1e-9)

    first, one = first_fit(HAND, 0.5, np.zeros(1)), one_round(HAND, 0.5, 0.5)
    np.testing.assert_allclose(data_shares(first, HAND), [[3 / 5, 0, 2 / 5], [0, 1 / 3, 2 / 3]], atol=1e-12)
    np.testing.assert_allclose(
        data_shares(fixed_point(first, one), HAND), [[15 / 31, 2 / 31, 14 / 31], [6 / 31, 7 / 31, 18 / 31]], atol=1e-12
    )  # H by hand, below, of 3/5 and 1/3


def test_entities_with_other_truths_keep_part_of_their_opinion():
    one = one_round(HAND, 0.5, 0.5)
    first = first_fit(HAND, 0.5, np.zeros(1), private_truth=np.array([[1.0], [-1.0]]))
    assert first.mean.ravel() == pytest.approx([0.6, -1 / 3])  # 3 / (3 + 2) and -1 / (1 + 2)
    assert fixed_point(first, one).mean.ravel() == pytest.approx([13 / 31, -1 / 31], abs=1e-12)
    by_first = np.array([[25, 6], [10, 21]]) / 31 @ [0.6, -1 / 3]  # H by hand
    assert by_first == pytest.approx([13 / 31, -1 / 31], abs=1e-12)


def test_one_entity_listens_to_itself():
    # theta_t = .6 theta_0 + .4 theta_{t-1} + xi, Var xi = .4^2 / s: A = 3, s = 2, D = 1.5 + 1 = 2.5.
    alone = Designs(np.array([[3.0]]), np.array([[[3.0]]]), np.array([[[2.0]]]))
    moments = limit(alone, 0.5, 0.0, np.ones(1))
    assert moments.covariance.ravel() == pytest.approx([1 / 3 + 0.16 / 2 / (1 - 0.16)], abs=1e-12)
    assert moments.mean.ravel() == pytest.approx([1.0])
    with pytest.raises(ValueError, match=r"entities: 1 .* at least 2"):
        disagreement(moments)


# --- two routes to one number --------------------------------------------------------------------------------------
def test_limit_is_the_textbook_solution_and_the_end_of_the_recursion():
    for n_entities, d in ((1, 3), (2, 5), (5, 2)):
        rng = np.random.default_rng(n_entities)
        designs = replace(random_designs(rng, n_entities, d, rows=d + 1), noise=0.7, synthetic_noise=1.3)
        truth = rng.standard_normal(d)
        first, one = first_fit(designs, 0.3, truth), one_round(designs, 0.6, 0.3)
        moments = fixed_point(first, one)
        mean_map = np.linalg.solve(np.eye(n_entities * d) - one.Q, kept(designs, one))
        covariance = mean_map @ flat(first.covariance) @ mean_map.T + solve_discrete_lyapunov(one.Q, omega(one))
        np.testing.assert_allclose(flat(moments.covariance), covariance, rtol=0, atol=1e-9)
        assert spectral_radius(one) == pytest.approx(np.abs(np.linalg.eigvals(one.Q)).max(), abs=1e-9)
        last = trajectory(first, [one] * 1000)[-1]
        assert spectral_radius(one) ** 1000 < 1e-12
        np.testing.assert_allclose(last.covariance, moments.covariance, rtol=0, atol=1e-9)
        np.testing.assert_allclose(last.mean, moments.mean, rtol=0, atol=1e-9)


def test_rows_are_stochastic_and_q_has_the_rank_of_the_features():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        designs = random_designs(rng, n_entities=4, d=3)
        one = one_round(designs, rng.uniform(), rng.uniform())
        to_all = np.tile(np.eye(3), (4, 1))
        np.testing.assert_allclose((kept(designs, one) + one.Q) @ to_all, to_all, rtol=0, atol=1e-9)
        assert np.linalg.matrix_rank(one.Q) <= 3


def test_common_talk_contracts_exactly_if_every_direction_is_anchored():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        designs = random_designs(rng, d=4, rows=1, common=True)  # 3 private rows and 2 public ones: anchored
        eigenvalues = np.linalg.eigvals(one_round(designs, 0.7, 0.5).Q)
        assert np.abs(eigenvalues.imag).max() < 1e-9 and eigenvalues.real.min() > -1e-9
        assert spectral_radius(one_round(designs, 0.7, 0.5)) < 1 - 1e-6
        assert spectral_radius(one_round(designs, 0.7, 1.0)) == pytest.approx(1, abs=1e-9)  # 3 private rows, d = 4


def test_the_limit_is_unbiased_where_nobody_could_identify_the_truth_alone():
    rng = np.random.default_rng(3)
    designs, truth = random_designs(rng, n_entities=3, d=6, rows=3, common=True), rng.standard_normal(6)
    first, one = first_fit(designs, 0.5, truth), one_round(designs, 0.5, 0.5)
    assert np.linalg.norm(first.mean - truth, axis=1).max() > 0.5  # 3 + 2 rows of 6: no entity can be right
    np.testing.assert_allclose(fixed_point(first, one).mean, np.tile(truth, (3, 1)), rtol=0, atol=1e-9)


def test_whose_data_is_in_whose_mean_is_where_a_private_truth_goes():
    designs = replace(random_designs(np.random.default_rng(8), rows=5), noise=0.3, private_weights=[0.5, 1, 2])
    nothing, moments = np.zeros((3, 4)), limit(designs, 0.6, 0.3, np.ones(4))
    shares = np.zeros((3, 4))
    for entity, i in itertools.product(range(4), range(4)):  # one unit of one entity's truth, or of the public one
        truth, private = np.zeros(4), nothing.copy()
        (truth if entity == 3 else private[entity])[i] = 1
        alone = fixed_point(first_fit(designs, 0.3, truth, private), one_round(designs, 0.6, 0.3))
        shares[:, entity] += alone.mean[:, i] / 4
    np.testing.assert_allclose(data_shares(moments, designs), shares, atol=1e-10)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-10)


def silent(rank):
    """Two entities with `rank` of three directions each, none public, that write about the first two."""
    private = np.array([np.diag([1.0, 0, 0]), np.diag([0, 1.0, 0])]) + (rank == 2) * np.diag([0, 0, 1.0])
    return Designs(np.zeros((3, 3)), 5 * private, np.array([np.diag([4.0, 4.0, 0])] * 2))


@row_by_row(
    ("designs", "alpha", "beta", "unbiased"),
    [
        (ring_designs(), 0.5, 0.5, True),
        (ring_designs(), 0.0, 0.5, True),  # two directions each: one's own and the public one
        (ring_designs(), 0.0, 1.0, False),  # one's own only
        (ring_designs(), 0.5, 0.0, False),  # the public one only: rho = 1 across it
        (ring_designs(), 1.0, 1.0, False),
        (silent(2), 0.5, 1.0, True),
        (silent(1), 0.5, 1.0, False),  # nobody sees the third direction
        (replace(aligned_designs(2), public=np.diag([1.0, 0.0])), 0.3, 0.0, False),
    ],
)
def test_the_limit_is_unbiased_where_the_simulation_ends_at_the_truth(designs, alpha, beta, unbiased):
    assert unbiased_limit(designs, alpha, beta) is unbiased
    exact, truth = replace(designs, noise=0.0, synthetic_noise=0.0), np.array([1.0, -2.0, 3.0])[: len(designs.public)]
    ends = simulate(exact, alpha, beta, truth, n_rounds=400, n_runs=1, rng=np.random.default_rng(0))[-1, 0]
    assert np.allclose(ends, truth, atol=1e-6) is unbiased
    assert np.isfinite(efficiency_surface(designs, [alpha, beta])[0, 1]) == unbiased


def test_no_unbiased_entity_beats_all_real_data_and_a_biased_one_of_a_small_truth_can():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        designs = random_designs(rng, d=3, rows=5)
        moments = limit(designs, rng.uniform(0, 0.9), rng.uniform(), np.ones(3))
        ideal = np.linalg.inv(designs.public + designs.private.sum(axis=0))
        for k in range(3):
            assert np.linalg.eigvalsh(moments.covariance[k, :, k] - ideal).min() > -1e-12
        assert relative_efficiency(moments, designs, np.ones(3))[0].max() <= 1

    designs = Designs(np.eye(2) * 0.01, np.array([np.diag([5.0, 0]), np.diag([5.0, 0])]), np.zeros((2, 2, 2)))
    first = first_fit(designs, 1.0, np.array([0.1, 0.1]))
    assert first.mean[0] == pytest.approx([0.1, 0]) and first.covariance[0, 1, 0, 1] == 0  # minimum norm
    assert relative_efficiency(first, designs, np.array([0.1, 0.1]))[1] > 1
    assert relative_efficiency(first, designs, np.array([100.0, 100.0]))[1] < 1


def test_noise_free_talk_pools_all_real_data_at_beta_four_fifths():
    for alpha in (0.99, 0.9999):
        # alpha -> 1: (sum A_k)^-1 sum A_k theta_0k, least squares on all real data if beta = (1 - beta) K, K = 4.
        rng = np.random.default_rng(0)
        grams = np.array([x.T @ x for x in rng.standard_normal((4, 6, 3))])
        designs = Designs(5 * np.eye(3), grams, np.array([100 * np.eye(3)] * 4), synthetic_noise=0.0)
        worst = {beta: relative_efficiency(limit(designs, alpha, beta, np.ones(3)), designs, np.ones(3))[0].min()
                 for beta in (0.6, 0.8)}  # fmt: skip
        assert 0.99998 <= worst[0.8] <= 1 + 1e-9 and worst[0.6] < 0.999


def test_many_entities_need_no_covariance_of_all():
    # (K d)^2 numbers are 8 MB at K = 20, d = 50, and 128 MB at d = 200: blocks do, and say the same.
    rng, k, d = np.random.default_rng(0), 20, 50
    designs, truth = random_designs(rng, k, d, rows=20), np.ones(d)
    designs.rows  # noqa: B018  (cached: not of the rounds)
    tracemalloc.start()
    first, one = first_fit(designs, 0.3, truth), one_round(designs, 0.4, 0.3)
    moments = trajectory(first, [one])[-1]
    errors, apart = mse(moments, truth), disagreement(moments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * (k * d) ** 2
    whole = flat(moments.covariance)
    bias = moments.mean - truth
    np.testing.assert_allclose(
        errors,
        np.trace(whole.reshape(k, d, k, d)[range(k), :, range(k)], axis1=1, axis2=2) + (bias**2).sum(axis=1),
        rtol=1e-12,
    )
    spread = k * (bias**2).sum() - (bias.sum(axis=0) ** 2).sum()
    assert apart == pytest.approx(apart_by(whole, k) + 2 * spread / (k * (k - 1)), rel=1e-12)
    step = one.Q @ flat(first.covariance) @ one.Q.T + omega(one)  # what the last labels and theta_0 add
    told = flat(trajectory(first, [one._replace(private=0.0, public=0.0)])[-1].covariance)
    np.testing.assert_allclose(told, step, rtol=0, atol=1e-12 * abs(step).max())


# --- one owner per direction ---------------------------------------------------------------------------------------
def owner_mse(n_entities, a, b, s, alpha, beta, noise=1.0):
    """Along one direction, with Gram a of its owner, b of all, s of each one's talk: owner, others, ideal and rho(Q).

    p_o = (1 - alpha) (beta a + (1 - beta) b),   p_n = (1 - alpha) (1 - beta) b,   w = alpha s / (p + alpha s),
    rho = (w_o + (K - 1) w_n) / K,   q = beta a / (beta a + (1 - beta) b),   U = (1 - w_o) q / (K (1 - rho)),
    u_o = (1 - w_o) q + w_o U,       u_n = w_n U,
    MSE = noise^2 (u^2 / a + (1 - u)^2 / b + w^2 / (K s (1 - rho^2)))
    """
    real = (1 - alpha) * np.array([beta * a + (1 - beta) * b, (1 - beta) * b])  # (2,) owner, others
    heard = alpha * s / (real + alpha * s)
    radius = (heard[0] + (n_entities - 1) * heard[1]) / n_entities
    of_private = beta * a / (beta * a + (1 - beta) * b)  # share of the owner's first fit
    said = (1 - heard[0]) * of_private / (n_entities * (1 - radius))  # share of private labels in what the pool says
    u = heard * said + np.array([(1 - heard[0]) * of_private, 0])
    fresh = heard**2 / (n_entities * s * (1 - radius**2))
    owner, others = noise**2 * (u**2 / a + (1 - u) ** 2 / b + fresh)
    return owner, others, noise**2 / (a + b), radius


@row_by_row(("alpha", "beta", "owner", "others"), [(0.5, 0.5, 0.0390499, 0.0950886), (0.2, 0.8, 0.0386391, 0.0871467)])
def test_aligned_errors_reproduce_their_oracle(alpha, beta, owner, others):
    designs, along_first = aligned_designs(), np.diag([1.0, 0, 0, 0])
    errors = mse(limit(designs, alpha, beta, np.ones(4)), np.ones(4), along_first)
    assert errors == pytest.approx([owner] + [others] * 3, abs=5e-8)
    assert ideal_mse(designs, along_first) == pytest.approx(1 / 30, abs=1e-12)
    assert beta == 0.8 or spectral_radius(one_round(designs, alpha, beta)) == pytest.approx(0.4375, abs=1e-9)
    one = efficiency_surface(designs, [0.5])[0, 0]
    assert one == pytest.approx(4 / 30 / (0.0390499 + 3 * 0.0950886), rel=1e-5)


@row_by_row(("alpha", "beta"), [(0.0, 0.5), (0.3, 0.0), (0.9, 1.0), (0.99, 0.7)])
def test_aligned_errors_are_those_of_one_direction_at_a_time(alpha, beta):
    n_entities, a, b, s, noise = 5, 2.0, 7.0, 40.0, 0.3
    designs = replace(aligned_designs(n_entities, a, b, s), noise=noise, synthetic_noise=noise)
    first_direction = np.diag(np.eye(n_entities)[0])
    errors = mse(limit(designs, alpha, beta, np.ones(n_entities)), np.ones(n_entities), first_direction)
    owner, others, ideal, radius = owner_mse(n_entities, a, b, s, alpha, beta, noise)
    assert errors == pytest.approx([owner] + [others] * (n_entities - 1), abs=1e-9)
    assert ideal_mse(designs, first_direction) == pytest.approx(ideal, abs=1e-12)
    assert spectral_radius(one_round(designs, alpha, beta)) == pytest.approx(radius, abs=1e-9)


def test_half_and_half_is_best_in_no_aligned_setting():
    # 54 settings: private rows 1 to 32 times the public ones, talk a quarter to 64 times; K = 4, shares in steps of .1.
    best = []
    for a, s in itertools.product(10 * 2.0 ** np.arange(6), 10 * 2.0 ** np.arange(-2, 7)):
        errors = [[np.dot(owner_mse(4, a, 10, s, alpha, beta)[:2], (1, 3)) for beta in GRID] for alpha in GRID]
        best.append(np.unravel_index(np.argmin(errors), (9, 9)))
    alphas, betas = GRID[np.array(best)].T.round(1)
    assert len(best) == 54 and (4, 4) not in best
    assert alphas.max() == 0.4 and np.sum(alphas == 0.4) == 5
    assert np.sum(betas < 0.8) == 2


# --- no limit ------------------------------------------------------------------------------------------------------
ACROSS = np.array([np.cos(np.pi / 8), np.cos(3 * np.pi / 8)])


def strangers(first, second):
    """Entity 1 knows the second coordinate, entity 2 the first; each talks along one direction."""
    known = 1000 * np.array([np.diag([0.0, 1.0]), np.diag([1.0, 0.0])])
    talk = 10 * np.array([np.outer(along, along) for along in (first, second)])
    return Designs(np.zeros((2, 2)), known, talk)


def test_entities_that_talk_about_what_they_do_not_know_have_no_limit_and_others_have():
    for alpha, radius in ((0.1, 1.2070493), (0.5, 1.2065903), (0.9, 1.2025494)):
        one = one_round(strangers(ACROSS, ACROSS[::-1]), alpha, 1.0)
        assert spectral_radius(one) == pytest.approx(radius, abs=5e-8)
        first = first_fit(strangers(ACROSS, ACROSS[::-1]), 1.0, np.ones(2))
        with pytest.raises(NoFixedPoint, match="not below 1"):
            fixed_point(first, one)
        errors = [np.linalg.norm(moments.mean - 1) for moments in trajectory(first, [one] * 20)]
        assert errors[20] > 30 * errors[0]
        if alpha == 0.5:
            assert errors[:3] + errors[20:] == pytest.approx([1.414, 1.705, 2.058, 60.46], abs=5e-3)

    assert spectral_radius(one_round(strangers(ACROSS[::-1], ACROSS), 0.5, 1.0)) == pytest.approx(0.50125, abs=5e-6)


def test_surface_leaves_points_without_a_limit_blank():
    designs = strangers(ACROSS, ACROSS[::-1])
    values, radii = surface(designs, [0.0, 0.5], [1.0], np.ones(2), disagreement)
    assert np.isfinite(values[0, 0]) and np.isnan(values[1, 0])
    assert radii[:, 0] == pytest.approx([0, 1.2065903], abs=5e-8)


# --- four directions in the plane (T2): 10 private rows along each, 50 public ones between the first two ------------
ANGLES = np.arange(4) * np.pi / 4
DIRECTIONS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
BETWEEN = np.array([np.cos(np.pi / 8), np.sin(np.pi / 8)])
SIZES = {"n_public": 50, "n_private": 10, "n_synthetic": 8}
PLANE = Designs.from_subspaces(BETWEEN[:, None], DIRECTIONS[:, :, None], **SIZES)
TRUTH = np.array([1.0, 1.0])
OWN_TASK = DIRECTIONS[:, :, None] * DIRECTIONS[:, None, :]


def test_plane_surface_and_moments_reproduce_their_oracles():
    values, radii = surface(PLANE, GRID, GRID, TRUTH, efficiency(PLANE, TRUTH))
    printed = [
        [0.3720, 0.2457, 0.2097, 0.1994, 0.2229],
        [0.3704, 0.4027, 0.3595, 0.3372, 0.3560],
        [0.2474, 0.3974, 0.4207, 0.4164, 0.3987],
        [0.1357, 0.2861, 0.3567, 0.3840, 0.3581],
        [0.0422, 0.1104, 0.1602, 0.1906, 0.1866],
    ]
    np.testing.assert_allclose(values[::2, ::2], printed, rtol=0, atol=5.1e-5)
    assert np.unravel_index(values.argmax(), values.shape) == (4, 4)
    assert values[4, 4] == pytest.approx(0.420704, abs=5e-7) and radii[4, 4] == pytest.approx(0.367711, abs=5e-7)
    assert ideal_mse(PLANE) == pytest.approx(0.0642857, abs=5e-8)
    best = relative_efficiency(limit(PLANE, 0.531, 0.597, TRUTH), PLANE, TRUTH)[1]
    assert best == pytest.approx(0.421248, abs=1e-6) and best > values.max()

    moments = limit(PLANE, 0.5, 0.5, TRUTH)
    assert mse(moments, TRUTH) == pytest.approx([0.1866, 0.1866, 0.1190, 0.1190], abs=5e-5)
    assert np.trace(moments.covariance[0, :, 1]) == pytest.approx(0.13314, abs=5e-6)
    first, once = trajectory(first_fit(PLANE, 0.5, TRUTH), [one_round(PLANE, 0.5, 0.5)])
    assert mse(once, TRUTH)[[0, 2]] == pytest.approx([0.1810, 0.1139], abs=5e-5)
    assert mse(limit(PLANE, 0.9, 0.5, TRUTH), TRUTH)[[0, 2]] == pytest.approx([0.4490, 0.3537], abs=5e-5)
    apart = [disagreement(first)] + [disagreement(limit(PLANE, alpha, 0.5, TRUTH)) for alpha in (0.5, 0.1, 0.9)]
    assert apart == pytest.approx([0.96, 0.11181, 0.56295, 0.01143], abs=5.1e-6)


def test_plane_transfer_peaks_inside_and_agreement_rises_throughout():
    other_tasks = (OWN_TASK.sum(axis=0) - OWN_TASK) / 3
    states = [first_fit(PLANE, 0.5, TRUTH)] + [limit(PLANE, alpha, 0.5, TRUTH) for alpha in (0.1, 0.5, 0.9)]
    own = [mse(moments, TRUTH, OWN_TASK).mean() for moments in states]
    other = [mse(moments, TRUTH, other_tasks).mean() for moments in states]
    assert own == pytest.approx([0.1, 0.0797, 0.05895, 0.1755], abs=5e-5)
    assert other == pytest.approx([0.2867, 0.1778, 0.0822, 0.2091], abs=5e-5)
    apart, _ = surface(PLANE, np.arange(1, 20) / 20, [0.1, 0.5, 0.9], TRUTH, disagreement)
    assert np.all(np.diff(apart, axis=0) < 0)


def test_without_real_data_all_entities_walk_together():
    one, first = one_round(PLANE, 1.0, 0.5), first_fit(PLANE, 0.5, TRUTH)
    moments = trajectory(first, [one] * 40)
    errors = [mse(moments[t], TRUTH)[0] for t in (1, 2, 20, 40)]
    assert errors == pytest.approx([0.231111, 0.397778, 3.397778, 6.731111], abs=5e-7)
    assert errors[1] - errors[0] == pytest.approx(np.trace(np.linalg.inv(PLANE.synthetic.sum(axis=0))), abs=1e-9)
    assert abs(disagreement(moments[1])) < 1e-12 and one.private == one.public == 0
    with pytest.raises(NoFixedPoint, match="not below 1"):
        fixed_point(first, one)


def test_bias_decays_round_by_round():
    # Private rows along four directions, no public ones, the same isotropic talk of all.
    private = 10 * OWN_TASK
    designs = Designs(np.zeros((2, 2)), private, np.array([5 * np.eye(2)] * 4))
    one = one_round(designs, 0.5, 1.0)
    moments = trajectory(first_fit(designs, 1.0, TRUTH), [one] * 10)
    bias = [np.linalg.norm(moments[t].mean - TRUTH, axis=1) for t in (0, 1, 10)]
    assert bias[0] == pytest.approx([1, 0, 1, 1.414], abs=5e-4)
    assert bias[1] == pytest.approx([0.527, 0.236, 0.527, 0.707], abs=5e-4)
    assert bias[2] == pytest.approx([0.0137, 0.0061, 0.0137, 0.0184], abs=5e-5)
    assert spectral_radius(one) == pytest.approx(2 / 3, abs=1e-12)


# --- random subspaces (A*): d = 8, private rank 3, public rank 4 -----------------------------------------------------
def subspaces(seed, private_rank=3, n_synthetic=10):
    rng = np.random.default_rng(seed)
    private = np.array([np.linalg.qr(rng.standard_normal((8, private_rank)))[0] for _ in range(4)])
    public = np.linalg.qr(rng.standard_normal((8, 4)))[0]
    return Designs.from_subspaces(public, private, n_public=40, n_private=20, n_synthetic=n_synthetic)


def mean_surface(**kind):
    truth, draws = np.ones(8), [subspaces(seed, **kind) for seed in range(100, 120)]
    return np.array([surface(designs, GRID, GRID, truth, efficiency(designs, truth)) for designs in draws])


def test_subspace_surface_and_errors_reproduce_their_oracles_and_the_optimum_is_contingent():
    efficiencies, radii = mean_surface().swapaxes(0, 1)  # (20, 9, 9) each
    values = efficiencies.mean(axis=0)
    row = [0.267, 0.331, 0.351, 0.357, 0.359, 0.359, 0.358, 0.355, 0.338]
    column = [0.245, 0.297, 0.331, 0.351, 0.359, 0.352, 0.327, 0.275, 0.178]
    assert values[4] == pytest.approx(row, abs=5.1e-4) and values[:, 4] == pytest.approx(column, abs=5.1e-4)
    assert np.unravel_index(values.argmax(), values.shape) == (4, 4)
    assert values.max() == pytest.approx(0.3588, abs=5e-5)
    best = [np.unravel_index(one.argmax(), one.shape) for one in efficiencies]
    assert {alpha for alpha, _ in best} == {4}
    assert GRID[[beta for _, beta in best]].mean() == pytest.approx(0.54, abs=5e-3)
    assert radii.max() == pytest.approx(0.947, abs=5e-4)

    truth, own, other = np.ones(8), [], []
    for designs in map(subspaces, range(100, 120)):
        metric = designs.private / 20 / 3  # per direction of the own task
        for alpha in (0.1, 0.5, 0.9):
            moments = limit(designs, alpha, 0.5, truth)
            own.append(mse(moments, truth, metric).mean())
            other.append(mse(moments, truth, (metric.sum(axis=0) - metric) / 3).mean())
            assert np.abs(moments.mean - truth).max() < 1e-9
    assert np.reshape(own, (20, 3)).mean(axis=0) == pytest.approx([0.044, 0.038, 0.102], abs=5e-4)
    assert np.reshape(other, (20, 3)).mean(axis=0) == pytest.approx([0.117, 0.075, 0.148], abs=5e-4)

    much_talk = mean_surface(n_synthetic=160)[:, 0].mean(axis=0)
    assert np.unravel_index(much_talk.argmax(), much_talk.shape) == (2, 6)  # alpha .3, beta .7
    assert (much_talk.max(), much_talk[4, 4]) == pytest.approx((0.779, 0.658), abs=5e-4)


# --- simulation ----------------------------------------------------------------------------------------------------
def assert_mean(values, expected, wrong=None, n_errors=4):
    """(n_runs, ...) values average to `expected` within 4 standard errors, and would have told it from `wrong`."""
    stderr = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(axis=0) - expected) < n_errors * stderr)
    if wrong is not None:
        assert np.any(np.abs(values.mean(axis=0) - wrong) > 2 * n_errors * stderr)


def literal_estimates(public, private, synthetic, alpha, beta, truth, n_rounds, rng, loss):
    """One run, read off the definition: rows with labels, stacked with root weights, numpy's least squares."""

    def fit(parts):
        roots = [np.sqrt(share / (len(x) if loss == "mean" else 1)) for x, _, share in parts]
        x = np.concatenate([root * x for root, (x, _, _) in zip(roots, parts, strict=True)])
        y = np.concatenate([root * y for root, (_, y, _) in zip(roots, parts, strict=True)])
        return np.linalg.lstsq(x, y, rcond=1e-6)[0]

    labelled = [(x, x @ truth + rng.standard_normal(len(x))) for x in (public, *private)]
    real = [[(*own, beta), (*labelled[0], 1 - beta)] for own in labelled[1:]]
    theta = [fit(parts) for parts in real]
    for _ in range(n_rounds):
        pool = [(x, x @ theta[j] + rng.standard_normal(len(x)), alpha / len(private)) for j, x in enumerate(synthetic)]
        theta = [fit([(x, y, (1 - alpha) * share) for x, y, share in parts] + pool) for parts in real]
    return np.array(theta)


@row_by_row("loss", ["sum", "mean"])
def test_literal_rows_have_the_moments_of_the_closed_form(loss):
    rng, truth, n_rounds = np.random.default_rng(1), np.array([1.0, -2.0]), 2
    public = rng.standard_normal((4, 2))
    private = [rng.standard_normal((n, 2)) for n in (2, 20)]
    synthetic = [rng.standard_normal((n, 2)) for n in (20, 2)]
    rows = (public, private, synthetic)
    expected = {}
    for name in ("sum", "mean"):
        designs = from_rows(*rows, loss=name)
        first, one = first_fit(designs, 0.4, truth), one_round(designs, 0.7, 0.4)
        expected[name] = trajectory(first, [one] * n_rounds)[-1]
    runs = np.array([literal_estimates(*rows, 0.7, 0.4, truth, n_rounds, rng, loss) for _ in range(8000)])
    assert_mean(runs, expected[loss].mean)
    errors = {name: mse(moments, truth) for name, moments in expected.items()}
    assert_mean(((runs - truth) ** 2).sum(axis=2), errors[loss], wrong=errors["mean" if loss == "sum" else "sum"])
    assert_mean(((runs[:, 0] - runs[:, 1]) ** 2).sum(axis=1), disagreement(expected[loss]))


def test_simulated_plane_has_the_moments_of_the_closed_form():
    rng = np.random.default_rng(0)
    runs = simulate(PLANE, 0.5, 0.5, TRUTH, n_rounds=25, n_runs=4000, rng=rng)  # .3677^25 is below 1e-10
    moments = trajectory(first_fit(PLANE, 0.5, TRUTH), [one_round(PLANE, 0.5, 0.5)] * 25)
    for t in (0, 1, 25):
        assert_mean(runs[t], moments[t].mean)
        assert_mean(((runs[t] - TRUTH) ** 2).sum(axis=2), mse(moments[t], TRUTH))
    apart = [((runs[25, :, k] - runs[25, :, j]) ** 2).sum(axis=1) for k in range(4) for j in range(k)]
    own_pools = one_round(PLANE, 0.5, 0.5)  # labels of the same law, drawn for each entity
    apart_noise = np.kron(np.eye(4), np.ones((2, 2))) * omega(own_pools)
    noise = solve_discrete_lyapunov(own_pools.Q, apart_noise) - solve_discrete_lyapunov(own_pools.Q, omega(own_pools))
    other = flat(fixed_point(first_fit(PLANE, 0.5, TRUTH), own_pools).covariance) + noise
    assert 4 * ideal_mse(PLANE) / np.trace(other) == pytest.approx(0.433794, abs=5e-7)
    assert_mean(np.mean(apart, axis=0), disagreement(moments[25]), wrong=apart_by(other, 4))


def test_simulated_mean_follows_rank_deficient_and_diverging_designs_exactly():
    # Without noise a run is its own mean; private truths differ, and the second world has no limit.
    rng = np.random.default_rng(5)
    for designs in (random_designs(rng, rows=1), strangers(ACROSS, ACROSS[::-1])):
        n_entities, d = designs.private.shape[:2]
        designs = replace(designs, noise=0.0, synthetic_noise=0.0, private_weights=0.3, public_weight=2.0)
        truth, own = rng.standard_normal(d), rng.standard_normal((n_entities, d))
        runs = simulate(designs, 0.4, 0.9, truth, n_rounds=3, n_runs=1, rng=rng, private_truth=own)
        moments = trajectory(first_fit(designs, 0.9, truth, own), [one_round(designs, 0.4, 0.9)] * 3)
        np.testing.assert_allclose(runs[:, 0], [m.mean for m in moments], rtol=0, atol=1e-8)
        assert all(np.abs(m.covariance).max() == 0 for m in moments)


def test_drawn_labels_follow_designs_whose_weights_differ_by_many_orders():
    # One private row across both axes, a million public ones along the first: beta = 5e-7 leaves a ratio of 5e-13.
    designs = Designs(np.diag([1e6, 0.0]), np.ones((1, 2, 2)), np.zeros((1, 2, 2)))
    first = first_fit(designs, 5e-7, TRUTH)
    assert first.mean[0] == pytest.approx([1, 1], abs=1e-9)
    assert flat(first.covariance) == pytest.approx(np.array([[1, -1], [-1, 1e6 + 1]]) / 1e6, rel=1e-6)
    runs = simulate(designs, 0.0, 5e-7, TRUTH, n_rounds=0, n_runs=4000, rng=np.random.default_rng(0))[0, :, 0]
    assert_mean((runs - TRUTH) ** 2, [1e-6, 1.0], wrong=[1e-6, 0.0])


def test_a_small_private_share_leaves_no_error_negative():
    # 60 digits give 16470.6 in this setting; through A^+ of the first fit it came out at -165,895.
    errors = mse(limit(ring_designs(), 0.5, 1e-6, TRUTH), TRUTH)
    assert errors.mean() == pytest.approx(16470.6, abs=0.1) and errors.min() > 16470
    close = mse(limit(ring_designs(), 0.5, 1e-3, TRUTH), TRUTH)
    assert np.all(close > 0) and errors.mean() / close.mean() > 100  # it grows as beta falls


def test_shares_may_differ_from_round_to_round_and_from_the_first_fit():
    designs = Designs(np.array([[2.0]]), np.array([[[3.0]], [[1.0]]]), np.array([[[2.0]], [[2.0]]]))
    first, shares = first_fit(designs, 0.1, np.zeros(1)), [(0.5, 0.9), (0.2, 0.4)]
    moments = trajectory(first, [one_round(designs, *each) for each in shares])
    rng, n_runs = np.random.default_rng(7), 40_000  # by scalar least squares, from scores drawn once
    scores = [rng.normal(0, np.sqrt(gram), n_runs) for gram in (3, 1, 2)]
    theta = [(0.1 * b + 0.9 * scores[2]) / (0.1 * a + 0.9 * 2) for a, b in zip((3, 1), scores, strict=False)]
    for t, (alpha, beta) in enumerate(shares, start=1):
        pool = alpha / 2 * sum(2 * w + rng.normal(0, np.sqrt(2), n_runs) for w in theta)
        real = [(a, (1 - alpha) * (beta * b + (1 - beta) * scores[2])) for a, b in zip((3, 1), scores, strict=False)]
        theta = [(b + pool) / ((1 - alpha) * (beta * a + (1 - beta) * 2) + alpha * 2) for a, b in real]
        one = one_round(designs, alpha, beta)
        step = kept(designs, one) + one.Q  # what would hold at t = 1 if theta_0 told the scores at every beta
        wrong = np.diag(step @ flat(first.covariance) @ step.T + omega(one)) if t == 1 else None
        assert_mean(np.square(theta).T, mse(moments[t], np.zeros(1)), wrong=wrong)


def test_sequences_of_shares_are_those_rounds_in_theory_and_simulation():
    alphas, betas, truth = [0.9, 0.0, 0.4], [0.2, 0.8, 0.5, 0.6], np.array([1.0, -1.0])
    curves = round_curves(PLANE, alphas, betas, truth, 3)
    moments = trajectory(
        first_fit(PLANE, 0.2, truth), [one_round(PLANE, *s) for s in zip(alphas, betas[1:], strict=True)]
    )
    np.testing.assert_allclose(curves["disagreement"], [disagreement(m) for m in moments], rtol=1e-12)
    draws = round_draws(PLANE, alphas, betas, truth, 3, n_runs=4000, rng=np.random.default_rng(2))
    for name, curve in curves.items():
        assert_mean(draws[name], curve, wrong=round_curves(PLANE, 0.9, 0.2, truth, 3)[name])


def test_pools_drawn_from_all_rounds_so_far_have_the_moments_of_the_closed_form():
    # Two entities, one feature that is 1 in all rows: private 30 and 10, public 20, each writes 40 rows a round.
    rng, n_runs, n, last, alpha, beta = np.random.default_rng(4), 20_000, 40, 4, 0.8, 0.5
    real = np.array([30.0, 10.0, 20.0])
    designs = Designs(real[2:, None], real[:2, None, None], np.full((2, 1, 1), float(n)))
    first, one = first_fit(designs, beta, np.zeros(1)), one_round(designs, alpha, beta)
    moments = subsampled_trajectory(first, one, last)
    scores = rng.normal(0, np.sqrt(real)[:, None], (3, n_runs))
    theta = (beta * scores[:2] + (1 - beta) * scores[2]) / (beta * real[:2] + (1 - beta) * real[2])[:, None]
    written = np.empty((2, n_runs, 0))
    for t in range(1, last + 1):
        written = np.concatenate([written, theta[:, :, None] + rng.standard_normal((2, n_runs, n))], axis=2)
        drawn = [
            np.take_along_axis(w, rng.random(w.shape).argpartition(n - 1, axis=1)[:, :n], 1).sum(1) for w in written
        ]
        heard = (1 - alpha) * (beta * scores[:2] + (1 - beta) * scores[2]) + alpha / 2 * sum(drawn)
        theta = heard / ((1 - alpha) * (beta * real[:2] + (1 - beta) * real[2]) + alpha * n)[:, None]
        assert_mean(np.square(theta).T, mse(moments[t], np.zeros(1)))
        assert_mean(np.square(theta[0] - theta[1]), disagreement(moments[t]))
    newest = trajectory(first, [one] * last)
    assert_mean(np.square(theta).T, mse(moments[-1], np.zeros(1)), wrong=mse(newest[-1], np.zeros(1)))
    np.testing.assert_allclose(moments[1].covariance, newest[1].covariance, rtol=1e-9)  # nothing older to draw from


def test_rounds_may_differ():
    # Entities that fall silent after the first round: D is (1 - alpha) A and everyone returns to the first fit.
    silent = one_round(replace(HAND, synthetic=np.zeros((2, 1, 1))), 0.5, 0.5)
    first = first_fit(HAND, 0.5, np.ones(1))
    moments = trajectory(first, [one_round(HAND, 0.5, 0.5), silent])
    np.testing.assert_allclose(moments[2].covariance, first.covariance, rtol=1e-12)
    assert not np.allclose(moments[1].covariance, first.covariance)


# --- the settings that are shown -----------------------------------------------------------------------------------
def test_curves_of_the_ring_are_those_of_the_theory_card_and_draws_scatter_around_them():
    designs, truth = ring_designs(), np.ones(2)
    curves = round_curves(designs, 0.5, 0.5, truth, 60)
    ends = {"loss_own": (0.1, 0.0590), "loss_others": (0.2867, 0.0822), "disagreement": (0.96, 0.1118)}
    for name, (first, limit) in ends.items():
        np.testing.assert_allclose(curves[name][[0, -1]], (first, limit), atol=6e-5)  # four printed digits

    for alpha in (0.0, 0.5, 1.0):
        designs, truth, last = separate_designs(3), np.array([1.0, -2.0, 0.5, 1.0]), 3
        curves = round_curves(designs, alpha, 0.4, truth, last)
        draws = round_draws(designs, alpha, 0.4, truth, last, n_runs=600, rng=np.random.default_rng(0))
        for name, curve in curves.items():
            error = draws[name].std(axis=0, ddof=1) / np.sqrt(600)
            assert (np.abs(draws[name].mean(axis=0) - curve) <= 4 * error + 1e-12).all(), name


def test_separate_tasks_by_hand():
    # One's own task at round 0 is the mean of 20 labels; nobody else has data there, so the estimate is 0.
    curves = round_curves(separate_designs(2), 1.0, 0.5, np.array([1.0, 2.0, 3.0]), 2)
    np.testing.assert_allclose(curves["loss_own"][0], 1 / 20)
    np.testing.assert_allclose(curves["loss_others"][0], (2**2 + 3**2) / 2)
    # At alpha = 1 everyone takes the mean of the 10 new labels the owner writes there: 1 / 10 more in every round.
    np.testing.assert_allclose(curves["loss_own"][1:], [1 / 20 + 1 / 10, 1 / 20 + 2 / 10])
    np.testing.assert_allclose(curves["loss_others"][1:], curves["loss_own"][1:])
    assert theory_change(2, 0.0, 5) == {"loss_own": 0, "loss_others": 0}


# --- what is refused -----------------------------------------------------------------------------------------------
def test_other_choices_are_refused():
    """One sentence each; numbers, shapes and ranges of single arguments are in test_checks.py."""
    first, other = first_fit(PLANE, 0.5, TRUTH), ring_designs(3)
    refuses(
        (lambda: replace(HAND, private=np.zeros((0, 1, 1))), "entities: 0"),
        (lambda: replace(HAND, public_weight=0.0), r"public_weight: 0.0 is not in \(0, inf\)"),
        (lambda: replace(HAND, synthetic_weights=np.ones(3)), r"synthetic_weights: shape \(3,\)"),
        (lambda: replace(HAND, synthetic=np.ones((3, 1, 1))), r"synthetic: shape \(3, 1, 1\); give \(2, 1, 1\)"),
        (lambda: Designs(np.array([[1.0, 1.0], [0.0, 1.0]]), [np.eye(2)], [np.eye(2)]), "public: not symmetric"),
        (lambda: Designs.from_subspaces(BETWEEN[:, None], 2 * DIRECTIONS[:, :, None], **SIZES), "not orthonormal"),
        (lambda: first_fit(HAND, 0.5, np.ones(1), np.ones(2)), "private_truth: shape"),
        (lambda: mse(first, 1.0), r"truth: shape \(\)"),
        (lambda: mse(first, TRUTH, np.ones((1, 1))), r"metric: shape \(1, 1\)"),  # would count one direction twice
        (lambda: mse(first, TRUTH, -np.eye(2)), "metric: .* eigenvalue is negative"),
        (lambda: mse(first, TRUTH, np.array([np.eye(2)] * 3)), r"metric: shape \(3, 2, 2\); give \(4, 2, 2\)"),
        (lambda: relative_efficiency(first, replace(PLANE, noise=0.0), TRUTH), r"noise: 0.0 is not in \(0, inf\)"),
        (lambda: relative_efficiency(first, other, TRUTH), r"moments: \(K, d\) is \(4, 2\) .* \(3, 2\)"),
        (lambda: data_shares(first, other), "moments: .* of one setting"),
        (lambda: trajectory(first, [one_round(other, 0.5, 0.5)]), r"rounds: \(K, d\) is \(3, 2\)"),
        (lambda: fixed_point(first, one_round(HAND, 0.5, 0.5)), "one: .* of one setting"),
        (lambda: shares_by_round([0.5] * 3, 0.5, 2), r"alpha: shape \(3,\); give \(2,\)"),
        (lambda: shares_by_round(0.5, [0.5] * 2, 2), r"beta: shape \(2,\); give \(3,\)"),
        (lambda: round_curves(separate_designs(1), 0.5, 0.5, TRUTH, 1), "entities: 1"),
        (lambda: round_draws(HAND, 0.5, 0.5, [1.0], 1, n_runs=0, rng=np.random.default_rng(0)), "n_runs: 0"),
        (lambda: round_curves(random_designs(np.random.default_rng(0), rows=0), 0.5, 0.5, np.ones(4), 1), "private"),
        (lambda: ideal_mse(Designs(np.diag([1.0, 0.0]), np.zeros((1, 2, 2)), np.eye(2)[None])), "direction unseen"),
    )
    with pytest.raises(TypeError, match=r"rounds: 0.5 is no Round; give what one_round returns"):
        trajectory(first, [0.5])
    assert len(trajectory(first, one_round(PLANE, 0.5, 0.5))) == 2  # a round is a list of one


def test_an_entity_without_real_data_begins_at_zero_and_learns_from_the_others():
    nothing, ten = np.zeros((0, 2)), np.eye(2).repeat(5, axis=0)
    designs = from_rows(nothing, [nothing, ten], [ten, ten])
    first, one = first_fit(designs, 0.5, TRUTH), one_round(designs, 0.5, 0.5)
    assert np.all(first.mean[0] == 0) and first.mean[1] == pytest.approx(TRUTH)
    np.testing.assert_allclose(fixed_point(first, one).mean, [TRUTH, TRUTH], rtol=0, atol=1e-9)


def test_twenty_entities_of_200_features_take_a_second_and_are_exact():
    """Products of (d, d) matrices alone: in K^2 d^4 the first fit took 40 s, in (K d)^2 matrices a round 8 s."""
    rng, k, d = np.random.default_rng(0), 20, 200
    public, private, talk = rng.normal(size=(300, d)), rng.normal(size=(k, 50, d)), rng.normal(size=(k, 80, d))
    designs = from_rows(public, list(private), list(talk))

    def timed(what):
        began = process_time()
        return what(), process_time() - began

    first, of_first = min((timed(lambda: first_fit(designs, 0.3, np.ones(d))) for _ in range(3)), key=itemgetter(1))
    one = one_round(designs, 0.4, 0.3)
    moments, of_round = min((timed(lambda: trajectory(first, [one])) for _ in range(3)), key=itemgetter(1))
    assert of_first < 2 and of_round < 0.6  # CPU seconds, which a busy machine stretches; 0.7 and 0.2 here
    weighted = 0.3 * private[3].T @ private[3] + 0.7 * public.T @ public
    roots = 0.3 * private[3].T, 0.7 * public.T
    by_hand = [np.linalg.solve(weighted, root) for root in roots]  # theta = inverse (beta X'y + (1 - beta) X0'y0)
    np.testing.assert_allclose(first.variance[3], sum(x @ x.T for x in by_hand), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(moments[1].mean, np.ones((k, d)), rtol=1e-9)
