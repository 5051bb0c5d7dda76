"""A last fit, least squares or ridge, to labels that come from n generations of least squares."""

import numpy as np

from symbiosis.theory.checks import check_counts, check_positive, check_regression, check_rows
from symbiosis.theory.curves import Curves


def ols_after_synthetic(
    generations: int, *, rows: int, synthetic_rows: int, features: int, noise: float = 1.0, synthetic_noise: float = 1.0
) -> Curves:
    """Risk of least squares on labels that come from n generations of least squares, entry n after n of them.

        variance = s^2 d / (T - d - 1),   synthetic = n s0^2 d / (T0 - d - 1),   total = variance + synthetic

    Args:
        generations:     G, at least 0.
        rows:            T of the last fit, above d + 1.
        synthetic_rows:  T0 of every generation before it, above d + 1.
        features:        d, isotropic Gaussian.
        noise:           s of the labels of the last fit, above 0.
        synthetic_noise: s0 of the labels of the generations, above 0.

    Returns (G + 1,) curves: variance, synthetic, total. Raises ValueError where a risk is infinite.

    Setting: Dohmatob et al., arXiv 2402.07712; the exact form is derived for this project.
    """
    check_regression(generations, rows, features, noise)
    variance = np.full(generations + 1, noise**2 * features / (rows - features - 1))
    synthetic = _synthetic_risk(generations, synthetic_rows, features, synthetic_noise)
    return {"variance": variance, "synthetic": synthetic, "total": variance + synthetic}


def ridge_after_synthetic(
    generations: int,
    *,
    rows: int,
    synthetic_rows: int,
    features: int,
    ridge: float,
    noise: float = 1.0,
    synthetic_noise: float = 1.0,
    signal: float = 1.0,
) -> Curves:
    """Risk of a last ridge fit (X'X / T + l)^-1 X'y / T after n generations of least squares, for large d and T.

        bias      = ||w*||^2 l^2 m'
        variance  = s^2 f (m - l m'),   f = d / T
        synthetic = n s0^2 d / (T0 - d - 1) (1 - 2 l m + l^2 m')
        m = 2 / (b + sqrt(b^2 + 4 f l)),   b = l + 1 - f,   m' = -dm/dl = m (1 + f m) / sqrt(b^2 + 4 f l)

    m is the Stieltjes transform of the Marchenko-Pastur law at -l. The law holds in proportion (d / T fixed, both
    large); T may be below d. The other arguments are those of ols_after_synthetic.

    Args:
        ridge:  l, above 0.
        signal: ||w*||, above 0.

    Returns (G + 1,) curves: bias, variance, synthetic, total. Raises ValueError for T0 <= d + 1 or a ridge of 0.

    Dohmatob et al., arXiv 2402.07712; in this form derived for this project.
    """
    check_counts(1, rows=rows)
    check_positive(ridge=ridge, noise=noise, signal=signal)
    synthetic = _synthetic_risk(generations, synthetic_rows, features, synthetic_noise)
    m, slope = _stieltjes(ridge, features / rows)
    ones = np.ones(generations + 1)
    terms = {
        "bias": signal**2 * ridge**2 * slope * ones,
        "variance": noise**2 * features / rows * (m - ridge * slope) * ones,
        "synthetic": synthetic * (1 - 2 * ridge * m + ridge**2 * slope),
    }
    return terms | {"total": sum(terms.values())}


def simulate_after_synthetic(
    generations: int,
    *,
    rows: int,
    synthetic_rows: int,
    features: int,
    ridge: float = 0.0,
    noise: float = 1.0,
    synthetic_noise: float = 1.0,
    signal: float = 1.0,
    repeats: int,
    rng: np.random.Generator,
) -> Curves:
    """(R, G + 1) squared errors of the last fit, named total; a ridge of 0 is least squares.

    Arguments and errors as in ols_after_synthetic and ridge_after_synthetic. Two fits per generation and repeat: 1,000
    repeats of 4 generations take seconds at d = 40 and half a minute at d = 200.
    """
    check_regression(generations, synthetic_rows, features, synthetic_noise, "synthetic_rows")
    check_rows(features, **({} if ridge else {"rows": rows}))
    check_counts(1, rows=rows, repeats=repeats)
    check_positive(noise=noise, signal=signal, **({"ridge": ridge} if ridge else {}))
    truth = np.zeros(features)
    truth[0] = signal  # the features are isotropic: any direction does
    total = np.empty((repeats, generations + 1))
    for r in range(repeats):
        w = truth
        for n in range(generations + 1):
            last = _ridge_fit(w, rows, noise, ridge, rng)
            total[r, n] = ((last - truth) ** 2).sum()
            w = _ridge_fit(w, synthetic_rows, synthetic_noise, 0.0, rng)
    return {"total": total}


def _ridge_fit(w: np.ndarray, rows: int, noise: float, ridge: float, rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((rows, len(w)))
    y = x @ w + noise * rng.standard_normal(rows)
    return np.linalg.solve(x.T @ x + rows * ridge * np.eye(len(w)), x.T @ y)


def _synthetic_risk(generations: int, synthetic_rows: int, features: int, synthetic_noise: float) -> np.ndarray:
    check_positive(synthetic_noise=synthetic_noise)
    check_regression(generations, synthetic_rows, features, synthetic_noise, "synthetic_rows")
    return np.arange(generations + 1) * synthetic_noise**2 * features / (synthetic_rows - features - 1)


def _stieltjes(ridge: float, ratio: float) -> tuple[float, float]:
    b = ridge + 1 - ratio
    root = np.sqrt(b**2 + 4 * ratio * ridge)
    m = 2 / (b + root)
    return m, m * (1 + ratio * m) / root
