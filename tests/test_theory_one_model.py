"""Closed forms against printed values, a second route of computation, then their own Monte Carlo."""

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from symbiosis.theory import one_model as theory

GOLDEN = (1 + math.sqrt(5)) / 2
FOUR = np.array([0.5, 0.3, 0.15, 0.05])  # a small vocabulary
ZIPF = 1 / np.arange(1, 1001) / np.sum(1 / np.arange(1, 1001))
TAIL = np.arange(1, 1001) > 100  # ranks


def rng(seed=0):
    return np.random.default_rng(seed)


def agrees(draws, expected):
    """Within four standard errors in every generation (exactly where nothing is random)."""
    mean, error = theory.mean_and_error(draws)
    return bool(np.all(abs(mean - expected) <= 4 * error + 1e-9))


def excludes(draws, wrong):
    """The last generation is more than six standard errors off: the wrong formula would have been seen."""
    mean, error = theory.mean_and_error(draws)
    return bool(abs(mean[-1] - wrong) > 6 * error[-1])


def last(curves):
    return {name: curve[-1] for name, curve in curves.items()}


def test_mean_and_error_by_hand():
    mean, error = theory.mean_and_error(np.array([[1.0, 5.0], [3.0, 5.0]]))  # s = sqrt 2, over sqrt 2
    assert mean.tolist() == [2.0, 5.0] and error == pytest.approx([1.0, 0.0])


# --- a Gaussian fitted to its own samples --------------------------------------------------------------------------
def test_gaussian_refit_has_the_printed_moments():
    unbiased = last(theory.gaussian_refit(5, samples=10))
    assert unbiased["variance"] == pytest.approx(1, abs=1e-12)  # a martingale
    assert unbiased["sd"] == pytest.approx(0.870570, abs=5e-7)
    assert unbiased["log_variance"] == pytest.approx(-0.576032, abs=5e-7)
    assert unbiased["log_variance_spread"] == pytest.approx(1.243626, abs=5e-7)
    assert unbiased["variance_squared"] == pytest.approx(2.727413, abs=5e-7)
    assert unbiased["mean_squared"] == pytest.approx(0.5, abs=1e-12)
    assert unbiased["w2_squared"] == pytest.approx(0.758860, abs=5e-7)
    likelihood = last(theory.gaussian_refit(5, samples=10, ddof=0))
    assert likelihood["variance"] == pytest.approx(0.9**5, abs=1e-12)
    assert likelihood["mean_squared"] == pytest.approx(1 - 0.9**5, abs=1e-12)


@pytest.mark.parametrize("ddof", [0, 1])
def test_gaussian_refit_step_is_a_scaled_chi_square(ddof):
    m, sd = 7, 1.5
    one = {name: curve[1] for name, curve in theory.gaussian_refit(1, samples=m, ddof=ddof, sd=sd).items()}
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
    draws = theory.simulate_gaussian_refit(5, **given, repeats=20_000, rng=rng())
    other = last(theory.gaussian_refit(5, **given | {"ddof": 1 - ddof}))
    for name, curve in theory.gaussian_refit(5, **given).items():
        assert agrees(draws[name], curve), name
        if name != "log_variance_spread":  # the only one that ddof leaves alone
            assert excludes(draws[name], other[name]), name
    assert excludes(draws["log_variance_spread"], 5 * 2 / (samples - 1))  # the first-order 2 / (M - 1) per step


# --- linear regression ---------------------------------------------------------------------------------------------
def test_regression_risk_has_the_printed_values():
    risk = last(theory.regression_risk(5, rows=20, features=5))
    assert risk["replace_same_x"] == risk["replace_fresh_x"] == pytest.approx(1.785714, abs=5e-7)
    assert risk["accumulate_same_x"] == pytest.approx(0.522718, abs=5e-7)
    assert risk["accumulate_fresh_x"] == pytest.approx(0.489067, abs=5e-7)
    assert theory.regression_risk(5, rows=20, features=5)["replace_same_x"][1] == pytest.approx(5 / 14, abs=1e-12)


def test_regression_limits_are_the_far_end_of_the_risks():
    limits = theory.regression_limits(rows=20, features=5)
    assert limits["accumulate_same_x"] == pytest.approx(0.587476, abs=5e-7)
    assert limits["accumulate_fresh_x"] == pytest.approx(0.535673, abs=5e-7)
    n, given = 200_000, {"rows": 31, "features": 4, "noise": 0.7}
    far = last(theory.regression_risk(n, **given))
    rest = {"accumulate_same_x": 0.7**2 * 4 / 26, "accumulate_fresh_x": 0.7**2 * 4 / 31}  # sum_{i>n} 1/i^2 ~ 1/(n + .5)
    for name, limit in theory.regression_limits(**given).items():
        assert far[name] + rest[name] / (n + 0.5) == pytest.approx(limit, abs=1e-9)


@pytest.mark.parametrize(("rows", "features", "noise"), [(20, 5, 1.0), (12, 3, 0.6)])
def test_regression_risk_agrees_with_its_simulation(rows, features, noise):
    given = {"rows": rows, "features": features, "noise": noise}
    draws = theory.simulate_regression(5, **given, repeats=6000, rng=rng(1))
    for name, curve in theory.regression_risk(5, **given).items():
        assert agrees(draws[name], curve), name
        assert excludes(draws[name], 5 * noise**2 * features / rows if "replace" in name else curve[1]), name
    # Fresh rows are worth something: same seed or not, the two designs of accumulation differ.
    difference = draws["accumulate_same_x"] - draws["accumulate_fresh_x"]
    assert theory.mean_and_error(difference)[0][-1] > 3 * theory.mean_and_error(difference)[1][-1]


def subsample_by_covariance(n):
    """The chain's own linear system: e = B e + xi with T Var(xi_n) = 1 and T Cov(xi_m, xi_n) = 1 / max(m, n)."""
    index = np.arange(1, n + 1)
    mean_of_earlier = np.tril(np.ones((n, n)), -1) / index[:, None]
    overlap = 1 / np.maximum.outer(index, index)
    np.fill_diagonal(overlap, 1.0)
    solve = np.linalg.inv(np.eye(n) - mean_of_earlier)
    return np.diag(solve @ overlap @ solve.T)


def test_subsample_factor_has_the_printed_values_and_a_limit():
    factor = theory.subsample_factor(40)
    assert factor[[1, 2, 3, 5, 10]] == pytest.approx([1, 1.75, 2.083333, 2.390833, 2.649303], abs=5e-7)
    assert factor[1:] == pytest.approx(subsample_by_covariance(40), abs=1e-9)
    assert pytest.approx(2.934802, abs=5e-7) == theory.SUBSAMPLE_LIMIT
    n = 10**6
    assert theory.subsample_factor(n)[-1] == pytest.approx(
        theory.SUBSAMPLE_LIMIT, abs=3 / n
    )  # the terms end as 1 / n^2
    assert theory.subsample_factor(0).tolist() == [0.0]


def test_subsample_factor_agrees_with_regression_on_many_rows():
    draws = theory.simulate_subsample(5, rows=400, features=2, repeats=3000, rng=rng(2))
    assert agrees(draws, theory.subsample_factor(5))
    assert excludes(draws, np.sum(1 / np.arange(1, 6) ** 2))  # accumulation without subsampling
    assert excludes(draws, 5)  # replacement


# --- a last fit after n synthetic generations ----------------------------------------------------------------------
def test_ols_after_synthetic_has_the_printed_value_and_agrees_with_its_simulation():
    given = {"rows": 40, "synthetic_rows": 60, "features": 20, "synthetic_noise": 0.5}
    curves = theory.ols_after_synthetic(4, **given)
    assert curves["total"][-1] == pytest.approx(1.565452, abs=5e-7)
    draws = theory.simulate_after_synthetic(4, **given, repeats=1000, rng=rng(3))["total"]
    assert agrees(draws, curves["total"])
    assert excludes(draws, 20 / 40 + 4 * 0.25 * 20 / 60) and excludes(draws, curves["variance"][-1])


def test_ridge_after_synthetic_has_the_printed_terms():
    given = {"rows": 400, "synthetic_rows": 600, "features": 200, "synthetic_noise": 0.5, "ridge": 0.3}
    terms = last(theory.ridge_after_synthetic(4, **given))
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

    risk = theory.ridge_after_synthetic(
        3, rows=400, synthetic_rows=900, features=features, ridge=ridge, noise=0.8, synthetic_noise=0.5, signal=1.7
    )
    assert risk["bias"][3] == pytest.approx(1.7**2 * over_law(lambda x: (ridge / (x + ridge)) ** 2), abs=1e-9)
    assert risk["variance"][3] == pytest.approx(0.64 * ratio * over_law(lambda x: x / (x + ridge) ** 2), abs=1e-9)
    one = 0.25 * features / (900 - features - 1)
    assert risk["synthetic"][3] == pytest.approx(3 * one * over_law(lambda x: (x / (x + ridge)) ** 2), abs=1e-9)


def test_ridge_after_synthetic_agrees_with_its_simulation():
    given = {"rows": 400, "synthetic_rows": 600, "features": 200, "synthetic_noise": 0.5, "ridge": 0.3}
    draws = theory.simulate_after_synthetic(4, **given, repeats=16, rng=rng(4))["total"]
    curves = theory.ridge_after_synthetic(4, **given)
    assert agrees(draws, curves["total"])
    assert excludes(draws, curves["total"][-1] - curves["synthetic"][-1])
    assert excludes(draws, theory.ols_after_synthetic(4, **{k: given[k] for k in given if k != "ridge"})["total"][-1])


# --- next-token model ----------------------------------------------------------------------------------------------
def counts_chain(tokens):
    """(N + 1, N + 1) Wright-Fisher transitions of the count of one of two tokens."""
    k = np.arange(tokens + 1)
    return stats.binom.pmf(k, tokens, k[:, None] / tokens)


def test_next_token_moments_have_the_printed_values():
    moments = last(theory.next_token_moments(FOUR, 8, tokens=20))
    assert moments["purity"] == pytest.approx(0.578728, abs=5e-7)
    assert moments["spread"] == pytest.approx(0.213728, abs=5e-7)
    assert moments["heterozygosity"] == pytest.approx(1 - 0.578728, abs=5e-7)


def test_next_token_moments_are_those_of_the_exact_chain_of_two_tokens():
    n, k = 7, np.arange(8)
    now = stats.binom.pmf(k, n, 0.3)
    curves = theory.next_token_moments([0.3, 0.7], 4, tokens=n)
    for m in range(1, 5):
        assert curves["heterozygosity"][m] == pytest.approx(now @ (2 * k / n * (1 - k / n)), abs=1e-9)
        assert curves["spread"][m] == pytest.approx(2 * now @ (k / n - 0.3) ** 2, abs=1e-9)
        now = now @ counts_chain(n)


def test_next_token_moments_agree_with_their_simulation():
    draws = theory.simulate_next_token(FOUR, 8, tokens=20, repeats=5000, rng=rng(5))
    for name, curve in theory.next_token_moments(FOUR, 8, tokens=20).items():
        assert agrees(draws[name], curve)
        assert excludes(draws[name], curve[7])  # one generation off would have been seen


def test_collapse_time_has_the_printed_values():
    assert theory.collapse_time(FOUR, tokens=100) == pytest.approx(156.62, abs=5e-3)
    assert theory.collapse_time(FOUR, tokens=20) == pytest.approx(31.32, abs=5e-3)
    assert theory.collapse_time([0.3, 0.7], tokens=20) == pytest.approx(24.43, abs=5e-3)
    assert theory.collapse_time_of_two(0.3, tokens=20) == pytest.approx(23.0246, abs=5e-5)
    assert theory.collapse_time([1.0], tokens=20) == 0
    uniform = theory.collapse_time(np.full(5000, 1 / 5000), tokens=20)
    assert 39.9 < uniform < 40  # below 2 N, whatever the vocabulary


def test_exact_collapse_time_is_the_sum_of_the_chances_to_go_on():
    assert theory.collapse_time_of_two(0.4, tokens=1) == 1  # one token is drawn, one token is left
    going, now = 1.0, stats.binom.pmf(np.arange(6), 5, 0.4)
    for _ in range(400):
        going += now[1:-1].sum()
        now = now @ counts_chain(5)
    assert theory.collapse_time_of_two(0.4, tokens=5) == pytest.approx(going, abs=1e-9)


def test_collapse_times_agree_with_their_simulation():
    two = theory.simulate_collapse_time([0.3, 0.7], tokens=20, repeats=8000, rng=rng(6))[:, None]
    assert agrees(two, theory.collapse_time_of_two(0.3, tokens=20))
    assert not agrees(two, theory.collapse_time([0.3, 0.7], tokens=20))  # the diffusion is 1.4 generations too long
    many = theory.simulate_collapse_time(FOUR, tokens=100, repeats=2000, rng=rng(6))[:, None]
    assert agrees(many, theory.collapse_time(FOUR, tokens=100) - 1.5)  # by about as much here
    assert excludes(many, 200)  # the bound 2 N is not the value


def test_anchored_next_token_has_the_printed_values_and_follows_its_recursion():
    given = {"real_tokens": 30, "synthetic_tokens": 20}
    curves = theory.anchored_next_token(FOUR, 60, **given)
    assert curves["distance_squared"][[0, 1, 3]] == pytest.approx([0, 0.00508, 0.00596953], abs=5e-9)
    limit = theory.anchored_limit(FOUR, **given)
    assert limit == curves["distance_squared"][-1] == pytest.approx(0.00599057, abs=5e-9)
    assert curves["l1_bound"][-1] == pytest.approx(0.1548, abs=5e-5)
    v = 0.0
    for step in curves["distance_squared"]:
        assert step == pytest.approx(v, abs=1e-12)
        v = 0.4**2 * ((1 - 1 / 20) * v + (1 - FOUR @ FOUR) / 20)


def test_anchored_next_token_agrees_with_its_simulation():
    given = {"real_tokens": 30, "synthetic_tokens": 20}
    curves = theory.anchored_next_token(FOUR, 8, **given)
    draws = theory.simulate_anchored(FOUR, 8, **given, repeats=6000, rng=rng(7))
    assert agrees(draws["distance_squared"], curves["distance_squared"])
    assert excludes(draws["distance_squared"], curves["distance_squared"][1])  # one round is not all
    l1, error = theory.mean_and_error(draws["distance_l1"])
    assert abs(l1[-1] - 0.1161) < 4 * error[-1] + 5e-5
    assert np.all(l1 <= curves["l1_bound"]) and l1[-1] > 0.7 * curves["l1_bound"][-1]


# --- MAD loops -----------------------------------------------------------------------------------------------------
MIXED = {"real": 10, "synthetic": 30, "bias": 0.8}
LOOPS = [
    ("fresh_data", 12, MIXED, {"mean_squared": 0.036487, "variance": 0.643515}),
    ("synthetic_augmentation", 12, MIXED, {"mean_squared": 0.120300, "variance": 0.587765, "real_overlap": 0.1}),
    ("fully_synthetic", 6, {"synthetic": 20, "bias": 0.9}, {"mean_squared": 0.210852, "variance": 0.531441}),
]


@pytest.mark.parametrize(("loop", "generations", "given", "printed"), LOOPS)
def test_mad_moments_have_the_printed_values_and_agree_with_their_simulation(loop, generations, given, printed):
    curves = theory.mad_moments(loop, generations, **given)
    assert last(curves) == pytest.approx(printed, abs=5e-7)
    draws = theory.simulate_mad(loop, generations, **given, repeats=8000, rng=rng(8))
    unbiased = last(theory.mad_moments(loop, generations, **given | {"bias": 1.0}))
    for name, curve in curves.items():
        assert agrees(draws[name], curve), name
        assert excludes(draws[name], 0.0 if name == "real_overlap" else unbiased[name]), name


def test_mad_fixed_points_are_the_printed_ones_and_where_the_loops_end():
    fresh = theory.mad_fixed_point("fresh_data", **MIXED)
    assert fresh == pytest.approx({"mean_squared": 0.036313, "variance": 0.642458}, abs=5e-7)
    fixed = theory.mad_fixed_point("synthetic_augmentation", **MIXED)
    assert fixed == pytest.approx({"real_overlap": 0.1, "mean_squared": 0.120112, "variance": 0.586592}, abs=5e-7)
    for loop in ("fresh_data", "synthetic_augmentation"):
        given = {"real": 3, "synthetic": 9, "bias": 0.5}
        assert last(theory.mad_moments(loop, 300, **given)) == pytest.approx(
            theory.mad_fixed_point(loop, **given), abs=1e-9
        )


def test_fully_synthetic_loop_is_the_closed_sum_and_without_bias_a_gaussian_refit():
    curves = theory.mad_moments("fully_synthetic", 9, synthetic=12, bias=0.7)
    powers = 0.7 ** np.arange(10)
    assert curves["variance"] == pytest.approx(powers, abs=1e-12)
    assert curves["mean_squared"] == pytest.approx((np.cumsum(powers) - 1) / 12, abs=1e-12)
    unbiased, refit = theory.mad_moments("fully_synthetic", 9, synthetic=12), theory.gaussian_refit(9, samples=12)
    assert all(unbiased[name] == pytest.approx(refit[name], abs=1e-12) for name in unbiased)


# --- golden-ratio mixing -------------------------------------------------------------------------------------------
def test_best_real_weight_is_golden_at_equal_sizes_only():
    best = theory.best_real_weight([0.25, 1, 4, 100])
    assert best == pytest.approx([0.828427, 1 / GOLDEN, 0.390388, 0.095125], abs=5e-7)
    assert best[1] == pytest.approx(0.6180340, abs=5e-8)
    assert theory.mixed_limit(best, [0.25, 1, 4, 100]) == pytest.approx(best, abs=1e-12)
    proportional = theory.mixed_limit(1 / (1 + np.array([0.25, 1, 4, 100])), [0.25, 1, 4, 100])
    assert proportional == pytest.approx([0.8333, 0.6667, 0.5556, 0.5025], abs=5e-5)


@pytest.mark.parametrize("ratio", [0.03, 0.7, 5 / 3, 60.0])
def test_best_real_weight_minimises_the_limit(ratio):
    found = optimize.minimize_scalar(theory.mixed_limit, bounds=(1e-9, 1), args=(ratio,), method="bounded")
    assert theory.best_real_weight(ratio) == pytest.approx(found.x, abs=1e-5)  # a minimum is flat
    assert theory.mixed_limit(theory.best_real_weight(ratio), ratio) == pytest.approx(found.fun, abs=1e-9)


@pytest.mark.parametrize(("weight", "printed"), [(1 / GOLDEN, 0.6180), (0.5, 0.6667), (0.8, 0.7083)])
def test_mixing_ends_at_its_limit_and_agrees_with_its_simulation(weight, printed):
    curve = theory.mixed_variance(60, weight, real=10, synthetic=10, noise=2.0)
    limit = float(theory.mixed_limit(weight, 1.0))
    assert curve[-1] * 10 / 4 == pytest.approx(limit, abs=1e-9) and limit == pytest.approx(printed, abs=5e-5)
    draws = theory.simulate_mixing(12, weight, real=10, synthetic=10, noise=2.0, repeats=8000, rng=rng(9))
    assert agrees(draws, curve[:13])
    assert excludes(draws, 4 / 20)  # all 20 samples as if they were real


def test_reused_real_samples_leave_no_golden_ratio():
    weight = np.linspace(0.01, 1, 100)
    assert theory.reused_limit(0.618, 1) == pytest.approx(1.17086, abs=5e-6)
    for ratio in (0.25, 1, 4, 100):
        assert np.all(np.diff(theory.reused_limit(weight, ratio)) < 0) and theory.reused_limit(1, ratio) == 1
    draws = theory.simulate_mixing(12, 1 / GOLDEN, real=10, synthetic=10, reuse_real=True, repeats=20_000, rng=rng(10))
    assert agrees(10 * draws[:, -1:], theory.reused_limit(1 / GOLDEN, 1))
    assert excludes(10 * draws, 1.0) and excludes(10 * draws, 1 / GOLDEN)


def test_averaged_regression_fits_mix_like_means():
    given = {"real": 20, "synthetic": 30, "features": 4}
    ratio = theory.regression_ratio(**given)
    weight = float(theory.best_real_weight(ratio))
    assert (ratio, weight) == pytest.approx((5 / 3, 0.530662), abs=5e-7)
    mse = theory.mixed_limit(weight, ratio) * 4 / (20 - 4 - 1)
    assert mse == pytest.approx(0.141510, abs=5e-7)
    draws = theory.simulate_mixed_regression(10, weight, **given, repeats=6000, rng=rng(11))
    assert agrees(draws[:, -1:], mse) and excludes(draws, mse * 15 / 20)


def test_weighted_loss_is_below_the_averaged_fits():
    draws = theory.simulate_mixed_regression(
        10, 0.55, real=20, synthetic=30, features=4, combine="loss", repeats=6000, rng=rng(12)
    )
    mean, error = theory.mean_and_error(draws)
    assert abs(mean[-1] - 0.1271) < 4 * np.hypot(error[-1], 0.0007)  # the printed value has an error of its own
    assert mean[-1] + 4 * error[-1] < 0.141510


# --- weak labels where a filter rejects ----------------------------------------------------------------------------
START = np.array([0, 0, 0.2, 0.6])
CHANCES = {"labeller": 0.1, "false_accept": 0.2, "false_reject": 0.05}


def test_weak_label_accuracy_has_the_printed_values():
    curve = theory.weak_label_accuracy(START, 20, **CHANCES)
    assert curve[0].tolist() == START.tolist()
    assert curve[[1, 5, 20]].mean(axis=1) == pytest.approx([0.255, 0.414320, 0.609548], abs=5e-7)
    never_rejects_right = theory.weak_label_accuracy(START, 20, **CHANCES | {"false_reject": 0.0})
    assert never_rejects_right[-1].mean() == pytest.approx(0.849045, abs=5e-7)
    assert (1 - never_rejects_right[-1]) == pytest.approx((1 - START) * (1 - 0.8 * 0.1) ** 20, abs=1e-12)
    assert theory.weak_label_accuracy(START, 20, labeller=0.0, false_accept=0.2, false_reject=0.0)[-1] == pytest.approx(
        START
    )


def test_filter_alone_and_random_labels_have_the_printed_values():
    filtered = theory.filter_only_accuracy(START, 20, false_accept=0.2, false_reject=0.05)
    assert filtered[-1].mean() == pytest.approx(0.5, abs=1e-9) and filtered[-1, :2].tolist() == [0, 0]
    labelled = theory.random_label_accuracy(START, 20, labeller=0.1, share=0.3)
    assert labelled[-1].mean() == pytest.approx(0.100080, abs=5e-7)


def test_accuracies_follow_their_recursions():
    b, g, d, c = 0.3, 0.4, 0.15, np.array([0.05, 0.5, 0.9])
    weak = theory.weak_label_accuracy(c, 4, labeller=b, false_accept=g, false_reject=d)
    filtered = theory.filter_only_accuracy(c, 4, false_accept=g, false_reject=d)
    labelled = theory.random_label_accuracy(c, 4, labeller=b, share=d)
    for t in range(4):
        c = weak[t]
        assert weak[t + 1] == pytest.approx(c * (1 - d) + b * (c * d + (1 - c) * (1 - g)), abs=1e-9)
        c = filtered[t]
        assert filtered[t + 1] == pytest.approx(c * (1 - d) / (c * (1 - d) + (1 - c) * g), abs=1e-9)
        assert labelled[t + 1] == pytest.approx(labelled[t] * (1 - d) + b * d, abs=1e-9)


def test_weak_labels_agree_with_their_simulations():
    weak = theory.simulate_weak_labels(START, 20, **CHANCES, repeats=1000, rng=rng(13)).mean(axis=2)
    assert agrees(weak, theory.weak_label_accuracy(START, 20, **CHANCES).mean(axis=1))
    assert excludes(weak, 0.5) and excludes(weak, 0.1)  # the filter's end, the labeller's quality
    labelled = theory.simulate_random_labels(START, 8, labeller=0.1, share=0.3, repeats=1000, rng=rng(13)).mean(axis=2)
    assert agrees(labelled, theory.random_label_accuracy(START, 8, labeller=0.1, share=0.3).mean(axis=1))
    assert excludes(labelled, START.mean())
    rates = {"false_accept": 0.2, "false_reject": 0.05}
    filtered = theory.simulate_filter_only(START, 3, **rates, answers=100_000, repeats=200, rng=rng(13)).mean(axis=2)
    assert agrees(filtered, theory.filter_only_accuracy(START, 3, **rates).mean(axis=1))
    assert excludes(filtered, theory.filter_only_accuracy(START, 3, false_accept=0.2, false_reject=0.0)[-1].mean())


def test_a_prompt_with_nothing_kept_learns_nothing():
    never = {"false_accept": 0.0, "false_reject": 0.5}
    assert theory.filter_only_accuracy([0.0, 0.1], 2, **never).tolist() == [[0.0, 0.1], [0.0, 1.0], [0.0, 1.0]]
    draws = theory.simulate_filter_only([0.0, 0.1], 2, **never, answers=1000, repeats=5, rng=rng())
    assert np.all(draws[:, 1:] == [0.0, 1.0])


# --- what is left of a Zipf tail -----------------------------------------------------------------------------------
ALIVE = {  # generation: types alive, tail types alive, approximation of all, heterozygosity
    1: (108.0146, 58.3695, 107.95, 0.96581),
    2: (75.8599, 37.6356, 75.72, 0.96098),
    5: (43.1870, 18.9431, 42.98, 0.94664),
    10: (26.4725, 10.5783, 26.23, 0.92321),
    50: (7.3089, 2.4553, 6.99, 0.75548),
}


def test_types_alive_by_hand():
    assert theory.types_alive([0.5, 0.5], 3, tokens=2) == pytest.approx([2, 1.5, 1.25, 1.125], abs=1e-12)
    assert theory.ancestors(2, tokens=2) == pytest.approx(np.array([[0, 0, 1], [0, 0.5, 0.5]]), abs=1e-12)
    assert theory.types_alive(ZIPF, 0, tokens=2, types=TAIL).tolist() == [900]


def test_types_alive_has_the_printed_values():
    alive = theory.types_alive(ZIPF, 50, tokens=200)
    tail = theory.types_alive(ZIPF, 50, tokens=200, types=TAIL)
    rough = theory.types_alive_approximation(ZIPF, 50, tokens=200)
    mixed = theory.next_token_moments(ZIPF, 50, tokens=200)["heterozygosity"]
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
    both = theory.types_alive([0.2, 0.8], 4, tokens=n)
    rare = theory.types_alive([0.2, 0.8], 4, tokens=n, types=np.array([True, False]))
    for t in range(1, 5):
        assert rare[t] == pytest.approx(1 - now[0], abs=1e-9)
        assert both[t] == pytest.approx(2 - now[0] - now[-1], abs=1e-9)
        now = now @ counts_chain(n)


def test_ancestors_are_distributions_with_the_mean_of_balls_in_boxes():
    rows = theory.ancestors(5, tokens=30)
    assert rows.shape == (5, 31) and rows.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-12)
    occupied = 30 * (1 - (1 - 1 / 30) ** np.arange(31))
    assert rows[1:] @ np.arange(31) == pytest.approx(rows[:-1] @ occupied, abs=1e-9)


def test_types_alive_agrees_with_its_simulation():
    draws = theory.simulate_types(ZIPF, 50, tokens=200, types=TAIL, repeats=2000, rng=rng(14))
    alive = theory.types_alive(ZIPF, 50, tokens=200)
    assert agrees(draws["alive"], alive)
    assert agrees(draws["types_alive"], theory.types_alive(ZIPF, 50, tokens=200, types=TAIL))
    assert agrees(draws["heterozygosity"], theory.next_token_moments(ZIPF, 50, tokens=200)["heterozygosity"])
    assert excludes(draws["alive"][:, :11], alive[9])  # one generation off would have been seen
    assert excludes(draws["alive"], theory.types_alive_approximation(ZIPF, 50, tokens=200)[-1])
    entropy = draws["entropy"].mean(axis=0)
    assert entropy[[0, 1]] == pytest.approx([5.191, 4.163], abs=0.015)  # nats; 4 standard errors
    assert entropy[[2, 5, 10, 50]] / entropy[1] == pytest.approx([0.927, 0.805, 0.694, 0.392], abs=0.01)


# --- input ---------------------------------------------------------------------------------------------------------
ROWS = {"rows": 20, "features": 5}
AFTER = {"rows": 40, "synthetic_rows": 60, "features": 20}
MIX = {"real": 10, "synthetic": 10}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: theory.gaussian_refit(5, samples=2), "samples: 2 .* at least 3"),
        (lambda: theory.gaussian_refit(-1, samples=10), "generations: -1 .* at least 0"),
        (lambda: theory.gaussian_refit(5, samples=10, ddof=2), "ddof: 2 .* 1 \\(unbiased\\)"),
        (lambda: theory.simulate_gaussian_refit(5, samples=10, sd=0.0, repeats=5, rng=rng()), "sd: 0.0 .* positive"),
        (lambda: theory.regression_risk(5, rows=6, features=5), "rows: 6 leave .* infinite; give at least 7"),
        (lambda: theory.simulate_regression(5, **ROWS, noise=-1.0, repeats=5, rng=rng()), "noise: -1.0"),
        (lambda: theory.simulate_regression(5, **ROWS, repeats=0, rng=rng()), "repeats: 0 .* at least 1"),
        (lambda: theory.simulate_subsample(5, rows=20.5, repeats=5, rng=rng()), "rows: 20.5 .* whole number"),
        (lambda: theory.ols_after_synthetic(4, **AFTER | {"synthetic_rows": 21}), "synthetic_rows: 21 .* at least 22"),
        (lambda: theory.ridge_after_synthetic(4, **AFTER, ridge=0.0), "ridge: 0.0 is not above 0"),
        (lambda: theory.simulate_after_synthetic(4, **AFTER | {"rows": 21}, repeats=2, rng=rng()), "rows: 21 .* 22"),
        (lambda: theory.next_token_moments([0.5, 0.6], 3, tokens=5), "p: .* divide it by its sum"),
        (lambda: theory.simulate_next_token([1.2, -0.2], 3, tokens=5, repeats=5, rng=rng()), "p: .* vector >= 0"),
        (lambda: theory.collapse_time([np.nan, 1.0], tokens=5), "p: .* not a distribution"),
        (lambda: theory.collapse_time_of_two(1.0, tokens=5), "p: at 1.0 .* strictly between 0 and 1"),
        (lambda: theory.anchored_limit(FOUR, real_tokens=0, synthetic_tokens=5), "real_tokens: 0 .* at least 1"),
        (lambda: theory.mad_moments("fresh", 3, **MIX), "loop: 'fresh' .* fresh_data"),
        (lambda: theory.mad_moments("fresh_data", 3, synthetic=10), "real: 0 .* at least 2"),
        (lambda: theory.mad_moments("fully_synthetic", 3, **MIX), "real: 10 .* give 0"),
        (lambda: theory.mad_moments("fresh_data", 3, **MIX, bias=1.1), "bias: 1.1 is not within \\[0, 1\\]"),
        (lambda: theory.mad_fixed_point("fully_synthetic", real=0, synthetic=9), "loop: .* never forgets"),
        (lambda: theory.mixed_variance(3, 1.5, **MIX), "weight: 1.5 is not within"),
        (lambda: theory.mixed_limit(0.0, 1.0), "weight: 0.0 is not above 0"),
        (lambda: theory.best_real_weight(0.0), "ratio: 0.0 is not above 0"),
        (lambda: theory.regression_ratio(real=5, synthetic=30, features=4), "real: 5 .* at least 6"),
        (
            lambda: theory.simulate_mixed_regression(
                3, 0.5, real=9, synthetic=9, features=2, combine="data", repeats=5, rng=rng()
            ),
            "combine: 'data' .* fits, loss",
        ),
        (lambda: theory.weak_label_accuracy([0.5, 1.2], 3, **CHANCES), "start: .* is not within"),
        (lambda: theory.filter_only_accuracy([0.5], 3, false_accept=0.1, false_reject=1.0), "false_reject: at 1"),
        (lambda: theory.random_label_accuracy([0.5], 3, labeller=0.1, share=-0.1), "share: -0.1 is not within"),
        (lambda: theory.types_alive(FOUR, 3, tokens=5, types=np.ones(3, dtype=bool)), "types: .* each of the 4 types"),
        (lambda: theory.types_alive(FOUR, 3, tokens=5, types=[0, 1, 2, 3]), "types: int64 .* boolean"),
        (lambda: theory.ancestors(0, tokens=5), "generations: 0 .* at least 1"),
        (lambda: theory.mean_and_error([1.0]), "repeats: 1 .* at least 2"),
    ],
)
def test_impossible_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
