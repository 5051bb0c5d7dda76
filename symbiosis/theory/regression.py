"""Linear regression on its own labels, a last fit after it, and own rows mixed with real ones.

Features are isotropic Gaussian. A label's noise has variance 1, the unit of every risk.
"""

import numpy as np
from numpy.random import Generator
from scipy import special

from symbiosis.theory.checks import Curves, as_floats, check_counts, check_draws, check_range

SUBSAMPLE_LIMIT = np.pi**2 / 2 - 2  # of subsample_factor, as the generations go to infinity


def regression_risk(generations: int, *, rows: int, features: int) -> Curves:
    """Risk E ||w_n - w*||^2 of least squares on its own labels.

        r = d / (T - d - 1)
        replace              n r                                 same or fresh features
        accumulate_same_x    r sum_{i<=n} 1 / i^2                every generation labels the same rows
        accumulate_fresh_x   sum_{i<=n} d / (i (i T - d - 1))    every generation brings rows of its own

    Args:
        generations: G, at least 0; generation 1 is fitted to real labels, entry 0 is the truth (risk 0).
        rows:        T per generation, above d + 1: below, the risk is infinite.
        features:    d, at least 1.

    Returns (G + 1,) curves: replace_same_x, replace_fresh_x, accumulate_same_x, accumulate_fresh_x.

    Same rows: Gerstgrasser et al., arXiv 2404.01413; fresh rows: derived for this project.
    """
    one = _risk_of_a_fit(features, rows=rows)
    check_counts(0, generations=generations)
    n = np.arange(1, generations + 1)
    steps = {
        "replace_same_x": np.full(generations, one),
        "replace_fresh_x": np.full(generations, one),
        "accumulate_same_x": one / n**2,
        "accumulate_fresh_x": features / (n * (n * rows - features - 1)),
    }
    return {name: np.append(0.0, np.cumsum(step)) for name, step in steps.items()}


def regression_limits(*, rows: int, features: int) -> dict[str, float]:
    """Where the risks of accumulation end; arguments and errors as in regression_risk (replacement has no limit).

        accumulate_same_x    r pi^2 / 6
        accumulate_fresh_x   -(d / T) (psi(1 - a) + gamma) / a,   a = (d + 1) / T

    The first: Gerstgrasser et al., arXiv 2404.01413; Dey and Donoho, arXiv 2410.22812, for more models. The second is
    derived for this project from sum_i 1 / (i (i - a)).
    """
    one, a = _risk_of_a_fit(features, rows=rows), (features + 1) / rows
    fresh = -features / rows * float(special.digamma(1 - a) + np.euler_gamma) / a
    return {"accumulate_same_x": one * np.pi**2 / 6, "accumulate_fresh_x": fresh}


def simulate_regression(generations: int, *, rows: int, features: int, repeats: int, rng: Generator) -> Curves:
    """(R, G + 1) squared errors ||w_n - w*||^2 of the curves of regression_risk; arguments and errors as there."""
    regression_risk(generations, rows=rows, features=features)  # refuses what it cannot have
    check_draws(rng, repeats=repeats)
    shape = (repeats, rows, features)
    return {
        f"{pool}_{design}_x": _regression_chain(generations, shape, pool, design, rng)
        for pool in ("replace", "accumulate")
        for design in ("same", "fresh")
    }


def _regression_chain(generations: int, shape: tuple, pool: str, design: str, rng: Generator) -> np.ndarray:
    risk, w = np.zeros((shape[0], generations + 1)), np.zeros((shape[0], shape[2]))
    x, gram, moment = rng.standard_normal(shape), 0.0, 0.0
    for n in range(1, generations + 1):
        if design == "fresh":
            x = rng.standard_normal(shape)
        if pool == "replace":
            gram, moment = 0.0, 0.0
        y = np.einsum("rtd,rd->rt", x, w) + rng.standard_normal(shape[:2])
        gram, moment = gram + x.mT @ x, moment + np.einsum("rtd,rt->rd", x, y)
        w = np.linalg.solve(gram, moment[..., None])[..., 0]
        risk[:, n] = (w**2).sum(axis=1)
    return risk


def subsample_factor(generations: int) -> np.ndarray:
    """Risk of accumulate-and-subsample as a multiple of the first generation's: (G + 1,), entry 0 is 0 (the truth).

        f_n = 1 + sum_{i=1}^{n-1} 1 / (i+1)^2 + 2 sum_{j=2}^{n-1} (H_j - 1) / (j (j+1)) + 2 (H_n - 1) / n
        f_n -> pi^2 / 2 - 2 = SUBSAMPLE_LIMIT,   H_n = sum_{i<=n} 1 / i

    Each generation is fitted to T rows drawn without replacement from the n T rows written so far, which keep their
    labels. For many rows, T >> d: the risk is then f_n d / T. With few it is smaller: for a mean (d = 1, x = 1)
    f_2 is 7/4 - 1 / (4 (2 T - 1)) exactly.

    The design: Kazdan et al., arXiv 2410.16713; the formula is derived for this project.
    """
    check_counts(0, generations=generations)
    n = np.arange(1, generations + 1)
    harmonic = np.cumsum(1 / n)
    inner = np.append(0.0, np.cumsum((harmonic - 1) / (n * (n + 1)))[:-1])[:generations]  # the sum over j < n
    return np.append(0.0, np.cumsum(1 / n**2) + 2 * inner + 2 * (harmonic - 1) / n)


def simulate_subsample(generations: int, *, rows: int, features: int = 1, repeats: int, rng: Generator) -> np.ndarray:
    """(R, G + 1) squared errors of accumulate-and-subsample as multiples of the first one's expectation.

    `rows` T per generation, above d + 1, far above for the formula of subsample_factor; the rest as there.
    """
    one = _risk_of_a_fit(features, rows=rows)
    check_counts(0, generations=generations)
    check_draws(rng, repeats=repeats)
    return np.array([_subsample_chain(generations, rows, features, rng) for _ in range(repeats)]) / one


def _subsample_chain(generations: int, rows: int, features: int, rng: Generator) -> np.ndarray:
    x = rng.standard_normal((generations * rows, features))
    y = rng.standard_normal(generations * rows)  # the noise; labels gain x @ w as their generation is written
    risk, w = np.zeros(generations + 1), np.zeros(features)
    for n in range(1, generations + 1):
        new = slice((n - 1) * rows, n * rows)
        y[new] += x[new] @ w
        drawn = rng.choice(n * rows, rows, replace=False)
        w = np.linalg.solve(x[drawn].T @ x[drawn], x[drawn].T @ y[drawn])
        risk[n] = w @ w
    return risk


def risk_after_synthetic(
    generations: int,
    *,
    rows: int,
    synthetic_rows: int,
    features: int,
    ridge: float = 0.0,
    synthetic_noise: float = 1.0,
    signal: float = 1.0,
) -> Curves:
    """Risk of a last fit (X'X / T + l)^-1 X'y / T to labels that come from n generations of least squares.

        ridge 0   bias = 0,  variance = d / (T - d - 1),  synthetic = n s0^2 d / (T0 - d - 1)       exact
        ridge l   bias = ||w*||^2 l^2 m',   variance = f (m - l m'),   f = d / T                     for large d and T
                  synthetic = n s0^2 d / (T0 - d - 1) (1 - 2 l m + l^2 m')
                  m = 2 / (b + sqrt(b^2 + 4 f l)),   b = l + 1 - f,   m' = -dm/dl = m (1 + f m) / sqrt(b^2 + 4 f l)

    m is the Stieltjes transform of the Marchenko-Pastur law at -l. Its terms are classical: inverse Wishart means
    (Anderson, Multivariate Statistical Analysis, 2003, section 7.7), ridge risk (Hastie et al., arXiv 1903.08560).

    Args:
        generations:     G, at least 0; entry n is the risk after n of them.
        rows:            T of the last fit; above d + 1 where the ridge is 0.
        synthetic_rows:  T0 of every generation before it, above d + 1.
        features:        d, at least 1.
        ridge:           l, at least 0.
        synthetic_noise: s0, standard deviation of the label noise of the generations, at least 0; the last fit's is 1.
        signal:          ||w*||, at least 0.

    Returns (G + 1,) curves: bias, variance, synthetic, total.

    Setting: Dohmatob et al., arXiv 2402.07712; in this form derived for this project.
    """
    check_counts(0, generations=generations)
    check_counts(1, rows=rows)
    check_range("[0, inf)", ridge=ridge, synthetic_noise=synthetic_noise, signal=signal)
    synthetic = (
        np.arange(generations + 1) * synthetic_noise**2 * _risk_of_a_fit(features, synthetic_rows=synthetic_rows)
    )
    if ridge:
        bias, variance, passed_on = _ridge_terms(ridge, features / rows)
    else:
        bias, variance, passed_on = 0.0, _risk_of_a_fit(features, rows=rows), 1.0
    same = np.ones(generations + 1)
    terms = {"bias": signal**2 * bias * same, "variance": variance * same, "synthetic": synthetic * passed_on}
    return terms | {"total": sum(terms.values())}


def _ridge_terms(ridge: float, ratio: float) -> tuple[float, float, float]:
    """l^2 m', f (m - l m') and 1 - 2 l m + l^2 m', in forms that lose no digit at a small ridge, also for d > T."""
    b, c = ridge + 1 - ratio, 1 - ratio - ridge
    root = np.hypot(b, 2 * np.sqrt(ratio * ridge))  # root^2 = b^2 + 4 f l = c^2 + 4 l
    shrunk = 2 * ridge / (b + root) if b > 0 else (root - b) / (2 * ratio)  # l m
    bias = shrunk * (ridge + ratio * shrunk) / root
    variance = ratio * shrunk / root * ((root + c) / (2 * ridge) if c > 0 else 2 / (root - c))
    return bias, variance, 1 - 2 * shrunk + bias


def mixed_variance(generations: int, weight: float, *, real: int, synthetic: int) -> np.ndarray:
    """(G + 1,) variance of a mean estimated from fresh real and own samples; the first model saw n real samples only.

        mu_t+1 = w mean(real) + (1-w) mean(written by mu_t)
        v_t+1 = w^2 / n + (1-w)^2 (v_t + 1 / m),   v_0 = 1 / n

    Args:
        generations: G, at least 0.
        weight:      w on the real mean, in [0, 1]; at 0 the variance grows for ever.
        real:        n fresh samples per round, at least 1.
        synthetic:   m samples per round, at least 1.

    He, Xu, Cheng, arXiv 2502.18049; the recursion is derived for this project.
    """
    check_range("[0, 1]", weight=weight)
    check_counts(0, generations=generations)
    check_counts(1, real=real, synthetic=synthetic)
    v = [1 / real]
    for _ in range(generations):
        v.append(weight**2 / real + (1 - weight) ** 2 * (v[-1] + 1 / synthetic))
    return np.array(v)


def mixed_limit(weight: np.ndarray | float, ratio: np.ndarray | float) -> np.ndarray:
    """Where mixed_variance ends, in units of 1 / n (a fit to one round's real samples is 1).

        v = (w^2 + (1-w)^2 / k) / (2 w - w^2)

    Args:
        weight: w in (0, 1]; any shape.
        ratio:  k = m / n, above 0; broadcasts with weight. For two averaged fits of regression with d features it is
                k = (m - d - 1) / (n - d - 1), exactly, and the unit is d / (n - d - 1).

    Raises ValueError at w = 0, where nothing holds the chain. He, Xu, Cheng, arXiv 2502.18049; derived here.
    """
    w, k = _weight_and_ratio(weight, ratio)
    return (w**2 + (1 - w) ** 2 / k) / (2 * w - w**2)


def best_real_weight(ratio: np.ndarray | float) -> np.ndarray:
    """The weight that makes mixed_limit least; the least value is the weight itself.

        w* = (sqrt(1 + 4 k) - 1) / (2 k) = 2 / (1 + sqrt(1 + 4 k))   in (0, 1);   1 / golden ratio at k = 1 only

    `ratio` is k as in mixed_limit, any shape; raises ValueError unless above 0.

    k = 1: He, Xu, Cheng, arXiv 2502.18049; any k: derived for this project.
    """
    return 2 / (1 + np.sqrt(1 + 4 * as_floats("ratio", ratio, None, "(0, inf)")))


def reused_limit(weight: np.ndarray | float, ratio: np.ndarray | float) -> np.ndarray:
    """mixed_limit when every round re-uses the same real samples: least at w = 1, so no golden ratio here.

        v = 1 + ((1-w)^2 / k) / (1 - (1-w)^2)   in units of 1 / n, at least 1

    Arguments and errors as in mixed_limit. Derived for this project.
    """
    w, k = _weight_and_ratio(weight, ratio)
    return 1 + (1 - w) ** 2 / k / (2 * w - w**2)


def simulate_mixing(
    generations: int, weight: float, *, real: int, synthetic: int, repeats: int, rng: Generator
) -> np.ndarray:
    """(R, G + 1) squared errors of the mean of mixed_variance; arguments and errors as there."""
    mixed_variance(generations, weight, real=real, synthetic=synthetic)
    check_draws(rng, repeats=repeats)
    means = [rng.standard_normal((real, repeats)).mean(axis=0)]
    for _ in range(generations):
        written = means[-1] + rng.standard_normal((synthetic, repeats)).mean(axis=0)
        means.append(weight * rng.standard_normal((real, repeats)).mean(axis=0) + (1 - weight) * written)
    return np.stack(means, axis=1) ** 2


def _weight_and_ratio(weight: np.ndarray | float, ratio: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Floats w in (0, 1] and k above 0 that broadcast; ValueError otherwise."""
    w, k = as_floats("weight", weight, None, "(0, 1]"), as_floats("ratio", ratio, None, "(0, inf)")
    try:
        np.broadcast_shapes(w.shape, k.shape)
    except ValueError:
        raise ValueError(f"ratio: shape {k.shape} beside weight {w.shape}; give one number, or equal shapes") from None
    return w, k


def _risk_of_a_fit(features: int, **rows: int) -> float:
    """d / (T - d - 1) of least squares; raises ValueError unless T is above d + 1, where it is finite."""
    check_counts(1, features=features)
    check_counts(features + 2, **rows)
    (n_rows,) = rows.values()
    return features / (n_rows - features - 1)
