"""How many directions vectors use, how evenly units share the activity, how alike two models' are: of hidden states."""

import numpy as np
from scipy.special import entr

MEASURES = ("density", "effective_rank")
NO_SPREAD = 1e-6  # rows closer together than this share of their length are equal up to fp32 rounding


def effective_rank(x: np.ndarray) -> float:
    """How many directions the rows of x spread over: exp of the entropy of the singular values.

        exp(-sum_i p_i ln p_i),   p_i = s_i / sum_j s_j,   s = singular values of x minus its mean row

    Args:
        x: (n, d), n >= 2; rows are texts.

    In [1, min(n - 1, d)], dimensionless: 1 if the rows lie on a line, d if they spread equally along d directions. No
    rotation, shift or scale of x changes it. Grows with n: compare at equal n. nan where all rows are equal.

    Roy and Vetterli 2007, EUSIPCO. Centring is this project's choice: the common offset of all texts, long in language
    models, would else count as a direction. `diversity.vendi` is the like of it for s^2 of rows at unit length.
    """
    x = np.asarray(x, dtype=float)
    if x.ndim != 2 or len(x) < 2 or not x.shape[1]:
        raise ValueError(f"effective_rank: needs at least two rows of a matrix, got shape {x.shape}")
    s = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    if s[0] <= NO_SPREAD * np.linalg.norm(x):
        return float("nan")
    return float(np.exp(entr(s / s.sum()).sum()))


def density(x: np.ndarray) -> np.ndarray:
    """How evenly activity is spread over units, for each vector: one minus Hoyer's sparsity.

        D = (|x|_1 / |x|_2 - 1) / (sqrt(d) - 1)

    Args:
        x: (..., d) activations of either sign, d >= 2; the last axis is the units.

    (...) in [0, 1], dimensionless: 0 if one unit is active, 1 if all are equally strong, whatever the sign; k equal
    ones of d give (sqrt(k) - 1) / (sqrt(d) - 1). Gaussian noise gives about 0.79 at large d. Free of scale and of any
    threshold, but not of the axes: use it where the axes are units. nan for a vector of zeros.

    Hoyer 2004, Journal of Machine Learning Research 5:1457.
    """
    d = np.shape(x)[-1]
    if d < 2:
        raise ValueError(f"density: needs at least two units, got {d}")
    l2 = np.linalg.norm(x, axis=-1)
    with np.errstate(invalid="ignore"):  # 0/0 is nan: nothing is active
        return (np.abs(x).sum(axis=-1) / l2 - 1) / (np.sqrt(d) - 1)


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """How alike two models see the same texts: centred kernel alignment of linear kernels, without bias.

        HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y))
        HSIC(K, L) = [tr(KL) + 1'K1 1'L1 / ((n-1)(n-2)) - 2/(n-2) 1'KL1] / (n(n-3)),   K = xx', L = yy', diagonals 0

    Args:
        x, y: (n, d) and (n, d'), n >= 4; rows are the same texts in the same order.

    At most about 1: 1 for the same states, rotated, shifted or scaled; about 0, and at times below, for unrelated ones
    whatever n and d. nan where one has no spread. Kornblith et al. 2019, arXiv 1905.00414; unbiased as in Nguyen et al.
    2020, arXiv 2010.15327.
    """
    x, y = (np.asarray(each, dtype=float) for each in (x, y))
    n = len(x)
    if n < 4 or len(y) != n:
        raise ValueError(f"linear_cka: needs four rows or more of the same texts, got {n} and {len(y)}")
    k, m = (_hollow(each - each.mean(axis=0)) for each in (x, y))

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        sums = a.sum(axis=0), b.sum(axis=0)
        both = sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
        return ((a * b).sum() + both - 2 / (n - 2) * sums[0] @ sums[1]) / (n * (n - 3))

    spread = hsic(k, k) * hsic(m, m)
    return float(hsic(k, m) / np.sqrt(spread)) if spread > 0 else float("nan")


def _hollow(x: np.ndarray) -> np.ndarray:
    """xx' with a diagonal of zeros."""
    products = x @ x.T
    np.fill_diagonal(products, 0.0)
    return products
