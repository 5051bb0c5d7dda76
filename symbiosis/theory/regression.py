"""Linear regression on its own labels: replace, accumulate, accumulate and subsample, beside their simulations."""

import numpy as np
from scipy import special

from symbiosis.theory.checks import check_counts, check_regression
from symbiosis.theory.curves import Curves

SUBSAMPLE_LIMIT = np.pi**2 / 2 - 2  # of subsample_factor, as the generations go to infinity


def regression_risk(generations: int, *, rows: int, features: int, noise: float = 1.0) -> Curves:
    """Risk E ||w_n - w*||^2 of least squares on its own labels, with isotropic Gaussian features.

        r = s^2 d / (T - d - 1)
        replace              n r                                     same or fresh features
        accumulate_same_x    r sum_{i<=n} 1 / i^2                    every generation labels the same rows
        accumulate_fresh_x   sum_{i<=n} s^2 d / (i (i T - d - 1))    every generation brings rows of its own

    Args:
        generations: G, at least 0; generation 1 is fitted to real labels, entry 0 is the truth (risk 0).
        rows:        T per generation, above d + 1.
        features:    d, at least 1.
        noise:       s, standard deviation of every label's noise, above 0.

    Returns (G + 1,) curves: replace_same_x, replace_fresh_x, accumulate_same_x, accumulate_fresh_x.
    Raises ValueError where the risk is infinite (T <= d + 1).

    Same rows: Gerstgrasser et al., arXiv 2404.01413; fresh rows: derived for this project.
    """
    check_regression(generations, rows, features, noise)
    n = np.arange(1, generations + 1)
    one = noise**2 * features / (rows - features - 1)
    steps = {
        "replace_same_x": np.full(generations, one),
        "replace_fresh_x": np.full(generations, one),
        "accumulate_same_x": one / n**2,
        "accumulate_fresh_x": noise**2 * features / (n * (n * rows - features - 1)),
    }
    return {name: np.append(0.0, np.cumsum(step)) for name, step in steps.items()}


def regression_limits(*, rows: int, features: int, noise: float = 1.0) -> dict[str, float]:
    """Where the risks of accumulation end; arguments and errors as in regression_risk (replacement has no limit).

        accumulate_same_x    r pi^2 / 6
        accumulate_fresh_x   -(s^2 d / T) (psi(1 - a) + gamma) / a,   a = (d + 1) / T

    The first: Gerstgrasser et al., arXiv 2404.01413; Dey and Donoho, arXiv 2410.22812, for more models. The second is
    derived for this project from sum_i 1 / (i (i - a)).
    """
    check_regression(0, rows, features, noise)
    a = (features + 1) / rows
    return {
        "accumulate_same_x": noise**2 * features / (rows - features - 1) * np.pi**2 / 6,
        "accumulate_fresh_x": -(noise**2) * features / rows * float(special.digamma(1 - a) + np.euler_gamma) / a,
    }


def simulate_regression(
    generations: int, *, rows: int, features: int, noise: float = 1.0, repeats: int, rng: np.random.Generator
) -> Curves:
    """(R, G + 1) squared errors ||w_n - w*||^2 of the curves of regression_risk; arguments and errors as there."""
    check_regression(generations, rows, features, noise)
    check_counts(1, repeats=repeats)
    shape = (repeats, rows, features)
    return {
        f"{pool}_{design}_x": _regression_chain(generations, shape, noise, pool, design, rng)
        for pool in ("replace", "accumulate")
        for design in ("same", "fresh")
    }


def _regression_chain(generations: int, shape: tuple, noise: float, pool: str, design: str, rng) -> np.ndarray:
    risk, w = np.zeros((shape[0], generations + 1)), np.zeros((shape[0], shape[2]))  # w* = 0: errors do not know it
    x, gram, moment = rng.standard_normal(shape), 0.0, 0.0
    for n in range(1, generations + 1):
        if design == "fresh":
            x = rng.standard_normal(shape)
        if pool == "replace":
            gram, moment = 0.0, 0.0
        y = np.einsum("rtd,rd->rt", x, w) + noise * rng.standard_normal(shape[:2])
        gram, moment = gram + x.mT @ x, moment + np.einsum("rtd,rt->rd", x, y)
        w = solve(gram, moment)
        risk[:, n] = (w**2).sum(axis=1)
    return risk


def subsample_factor(generations: int) -> np.ndarray:
    """Risk of accumulate-and-subsample as a multiple of the first generation's: (G + 1,), entry 0 is 0 (the truth).

        f_n = 1 + sum_{i=1}^{n-1} 1 / (i+1)^2 + 2 sum_{j=2}^{n-1} (H_j - 1) / (j (j+1)) + 2 (H_n - 1) / n
        f_n -> pi^2 / 2 - 2 = SUBSAMPLE_LIMIT,   H_n = sum_{i<=n} 1 / i

    Each generation is fitted to T rows drawn without replacement from the n T rows written so far, which keep their
    labels. For T >> d: the risk is f_n s^2 d / T, and T Var(e_n) / s^2 = f_n where a mean is estimated.

    Raises ValueError for negative generations.

    The design: Kazdan et al., arXiv 2410.16713; the formula is derived for this project.
    """
    check_counts(0, generations=generations)
    n = np.arange(1, generations + 1)
    harmonic = np.cumsum(1 / n)
    inner = np.append(0.0, np.cumsum((harmonic - 1) / (n * (n + 1)))[:-1])[:generations]  # the sum over j < n
    return np.append(0.0, np.cumsum(1 / n**2) + 2 * inner + 2 * (harmonic - 1) / n)


def simulate_subsample(
    generations: int, *, rows: int, features: int = 1, repeats: int, rng: np.random.Generator
) -> np.ndarray:
    """(R, G + 1) squared errors of accumulate-and-subsample regression as multiples of the first one's expectation.

    Args:
        rows:     T per generation, far above d for the formula of subsample_factor, above d + 1 at all.
        features: d, isotropic Gaussian.

    Raises ValueError for T <= d + 1.
    """
    check_regression(generations, rows, features, 1.0)
    check_counts(1, repeats=repeats)
    one = features / (rows - features - 1)
    return np.array([_subsample_chain(generations, rows, features, rng) for _ in range(repeats)]) / one


def _subsample_chain(generations: int, rows: int, features: int, rng: np.random.Generator) -> np.ndarray:
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


def solve(gram: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Least squares from its normal equations: (R, d, d) X'X and (R, d) X'y to (R, d)."""
    return np.linalg.solve(gram, moment[..., None])[..., 0]
