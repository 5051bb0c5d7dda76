"""What weight real samples should have beside own ones, in a mean and in regression; the golden ratio is one case."""

import numpy as np

from symbiosis.theory.checks import check_counts, check_positive, check_rows, check_shares
from symbiosis.theory.regression import solve


def mixed_variance(generations: int, weight: float, *, real: int, synthetic: int, noise: float = 1.0) -> np.ndarray:
    """(G + 1,) variance of a mean estimated from fresh real and own samples; the first model saw n real samples only.

        mu_t+1 = w mean(real) + (1-w) mean(written by mu_t)
        v_t+1 = w^2 s^2 / n + (1-w)^2 (v_t + s^2 / m),   v_0 = s^2 / n

    Args:
        generations: G, at least 0.
        weight:      w on the real mean, in [0, 1]; at 0 the variance grows for ever.
        real:        n fresh samples per round, at least 1.
        synthetic:   m samples per round, at least 1.
        noise:       s, above 0.

    Raises ValueError for other arguments.

    He, Xu, Cheng, arXiv 2502.18049; the recursion is derived for this project.
    """
    _check_mixing(generations, weight, noise, real=real, synthetic=synthetic)
    v = [noise**2 / real]
    for _ in range(generations):
        v.append(weight**2 * noise**2 / real + (1 - weight) ** 2 * (v[-1] + noise**2 / synthetic))
    return np.array(v)


def mixed_limit(weight: np.ndarray | float, ratio: np.ndarray | float) -> np.ndarray:
    """Where mixed_variance ends, in units of s^2 / n (a fit to one round's real samples is 1).

        v = (w^2 + (1-w)^2 / k) / (2 w - w^2)

    Args:
        weight: w in (0, 1]; any shape.
        ratio:  k = m / n, above 0; broadcasts with weight.

    Raises ValueError at w = 0, where nothing holds the chain. He, Xu, Cheng, arXiv 2502.18049; derived here.
    """
    w, k = _weight_and_ratio(weight, ratio)
    return (w**2 + (1 - w) ** 2 / k) / (2 * w - w**2)


def best_real_weight(ratio: np.ndarray | float) -> np.ndarray:
    """The weight that makes mixed_limit least; the least value is the weight itself.

        w* = (sqrt(1 + 4 k) - 1) / (2 k) = 2 / (1 + sqrt(1 + 4 k))   in (0, 1);   1 / golden ratio at k = 1 only

    `ratio` is k = m / n, above 0, any shape; regression_ratio gives it for regression. Raises ValueError for others.

    k = 1: He, Xu, Cheng, arXiv 2502.18049; any k: derived for this project.
    """
    check_positive(ratio=ratio)
    return 2 / (1 + np.sqrt(1 + 4 * np.asarray(ratio, dtype=float)))


def reused_limit(weight: np.ndarray | float, ratio: np.ndarray | float) -> np.ndarray:
    """mixed_limit when every round re-uses the same real samples: least at w = 1, so no golden ratio here.

        v = 1 + ((1-w)^2 / k) / (1 - (1-w)^2)   in units of s^2 / n, at least 1

    Arguments and errors as in mixed_limit. Derived for this project.
    """
    w, k = _weight_and_ratio(weight, ratio)
    return 1 + (1 - w) ** 2 / k / (1 - (1 - w) ** 2)


def regression_ratio(*, real: int, synthetic: int, features: int) -> float:
    """The k of mixed_limit where two least-squares fits are averaged: k = (m - d - 1) / (n - d - 1).

    The mean squared error is then mixed_limit(w, k) s^2 d / (n - d - 1), exactly. Both sizes must exceed d + 1, else
    ValueError. Derived for this project after He, Xu, Cheng, arXiv 2502.18049.
    """
    check_rows(features, real=real, synthetic=synthetic)
    return (synthetic - features - 1) / (real - features - 1)


def simulate_mixing(
    generations: int,
    weight: float,
    *,
    real: int,
    synthetic: int,
    noise: float = 1.0,
    reuse_real: bool = False,
    repeats: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(R, G + 1) squared errors of the mean of mixed_variance; reuse_real keeps the first real samples (reused_limit).

    Arguments and errors as in mixed_variance.
    """
    _check_mixing(generations, weight, noise, real=real, synthetic=synthetic, repeats=repeats)
    x = noise * rng.standard_normal((repeats, real))
    means = [x.mean(axis=1)]
    for _ in range(generations):
        if not reuse_real:
            x = noise * rng.standard_normal((repeats, real))
        written = means[-1][:, None] + noise * rng.standard_normal((repeats, synthetic))
        means.append(weight * x.mean(axis=1) + (1 - weight) * written.mean(axis=1))
    return np.stack(means, axis=1) ** 2


def simulate_mixed_regression(
    generations: int,
    weight: float,
    *,
    real: int,
    synthetic: int,
    features: int,
    noise: float = 1.0,
    combine: str = "fits",
    repeats: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(R, G + 1) squared errors ||w_t - w*||^2 of regression on fresh real and own rows; entry 0 saw real rows only.

    Args:
        combine: "fits" averages the two least-squares fits, as regression_ratio assumes; "loss" fits once, to
                 w mean_real(error^2) + (1-w) mean_written(error^2), which is the same for many rows only.

    The others, and the errors, as in mixed_variance and regression_ratio.
    """
    _check_mixing(generations, weight, noise, repeats=repeats)
    regression_ratio(real=real, synthetic=synthetic, features=features)
    if combine not in ("fits", "loss"):
        raise ValueError(f"combine: {combine!r} is not one of fits, loss")
    w = solve(*_normal_equations(np.zeros((repeats, features)), real, noise, rng))
    risk = [(w**2).sum(axis=1)]
    for _ in range(generations):
        (a, b), (c, d) = (
            _normal_equations(np.zeros_like(w), real, noise, rng),
            _normal_equations(w, synthetic, noise, rng),
        )
        if combine == "loss":
            w = solve(weight * a + (1 - weight) * c, weight * b + (1 - weight) * d)
        else:
            w = weight * solve(a, b) + (1 - weight) * solve(c, d)
        risk.append((w**2).sum(axis=1))
    return np.stack(risk, axis=1)


def _normal_equations(w: np.ndarray, rows: int, noise: float, rng: np.random.Generator) -> tuple:
    """(R, d, d) and (R, d) means over new rows labelled by w."""
    x = rng.standard_normal((len(w), rows, w.shape[1]))
    y = np.einsum("rtd,rd->rt", x, w) + noise * rng.standard_normal(x.shape[:2])
    return x.mT @ x / rows, np.einsum("rtd,rt->rd", x, y) / rows


def _check_mixing(generations: int, weight: float, noise: float, **counts: int) -> None:
    check_counts(0, generations=generations)
    check_counts(1, **counts)
    check_shares(weight=weight)
    check_positive(noise=noise)


def _weight_and_ratio(weight: np.ndarray | float, ratio: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    check_shares(weight=weight)
    check_positive(weight=weight, ratio=ratio)
    return np.asarray(weight, dtype=float), np.asarray(ratio, dtype=float)
