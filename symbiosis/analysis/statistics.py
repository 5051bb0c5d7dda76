"""Intervals and tests over seeds. numpy and scipy only.

A seed is the unit of repetition: everything random in a run follows from it, and two methods of one seed share their
data and their first Student, so differences are taken seed by seed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

PAIRED = ("n", "mean", "low", "high", "p")
MIN_SEEDS = 3  # fewer give an interval too wide, or none, to say anything: of two it is 13 standard errors each way
ROUNDING = 1e-12  # a spread below this share of the mean is rounding error of equal values, not variation


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over seeds with its 95% t-interval: (mean, low, high), in the unit of the values.

        mean -+ t[0.975, n - 1] * s / sqrt(n),   s^2 = sum_i (x_i - mean)^2 / (n - 1)

    values: (n,) one number per seed; nan means not measured and is left out. Fewer than MIN_SEEDS seeds say nothing
    about the spread: the bounds are nan, never a width of 0. No seed: all nan.

    Student 1908, Biometrika 6:1. scipy's `confidence_interval` gives the same up to rounding, but not the last digit of
    the committed tables.
    """
    x = np.asarray(values, dtype=float)
    x = x[~np.isnan(x)]
    if len(x) < MIN_SEEDS:
        return (float(x.mean()) if len(x) else np.nan), np.nan, np.nan
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return float(x.mean()), float(x.mean() - half), float(x.mean() + half)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> tuple[float, float, float, float]:
    """Mean of a - b over the seeds both have, its 95% t-interval and two-sided p: (mean, low, high, p).

        d_i = a_i - b_i,   t = mean(d) / (s_d / sqrt(n)),   p = 2 * P(T[n - 1] > |t|)

    a, b: {seed: value}; nan means not measured. p is nan with fewer than MIN_SEEDS common seeds, and where all
    differences are equal (t is then 0/0 or infinite). The paired t-test: Student 1908, Biometrika 6:1.
    """
    d = paired_values(a, b)
    mean, low, high = mean_interval(d)
    if np.isnan(low) or d.std(ddof=1) <= ROUNDING * max(1.0, abs(mean)):
        return mean, low, high, np.nan
    return mean, low, high, float(stats.ttest_1samp(d, 0.0).pvalue)


def paired_values(a: Mapping[int, float], b: Mapping[int, float]) -> np.ndarray:
    """(n,) differences a - b of the seeds for which both were measured, in order of the seed."""
    d = np.array([a[seed] - b[seed] for seed in sorted(set(a) & set(b))], dtype=float)
    return d[~np.isnan(d)]


def paired_row(a: Mapping[int, float], b: Mapping[int, float]) -> tuple[int, float, float, float, float]:
    """(n seeds both have, mean, low, high, p) of a - b: the columns PAIRED of a table. a, b may be pandas Series."""
    a, b = dict(a.items()), dict(b.items())
    return len(paired_values(a, b)), *paired_difference(a, b)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p of a family of m tests, in the order given; the chance of any false rejection stays below the level.

        p_adj(i) = max_{j <= i} min(1, (m - j + 1) * p_(j)),   p_(1) <= ... <= p_(m)

    A nan (a test that could not be made) stays nan and does not count in m.

    Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    p = np.asarray(p_values, dtype=float)
    if np.any((p < 0) | (p > 1)):
        raise ValueError(f"p_values: not all within [0, 1]: {p.tolist()}")
    order = np.flatnonzero(~np.isnan(p))
    order = order[np.argsort(p[order], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p[order]))
    return adjusted


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95% score interval (low, high) of a share of n rows, both in [0, 1]: what n test rows alone leave open.

    Covers the draw of the test rows only, not the draw of world, data, initialisation and order: for those take seeds.
    ValueError where the share is not in [0, 1], or of no row. Wilson 1927, Journal of the American Statistical
    Association 22:209.
    """
    interval = stats.binomtest(round(share * n), n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
