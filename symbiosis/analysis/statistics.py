"""Intervals and tests over seeds. numpy and scipy only.

A seed is the unit of repetition: everything random in a run follows from it, and two methods of one seed share their
data and their first Student, so differences are taken seed by seed.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

PAIRED = ("n", "mean", "low", "high", "p")
MIN_SEEDS = 3  # fewer give an interval too wide, or none, to say anything: of two it is 13 standard errors each way
MARGIN = 0.02  # of accuracies: a smaller difference is as good as none
ALPHA = 0.05  # of every test; its intervals hold 1 - ALPHA
ROUNDING = 1e-12  # a spread below this share of the mean is rounding error of equal values, not variation


def mean_interval(values: Sequence[float], alpha: float = ALPHA) -> tuple[float, float, float]:
    """Mean over seeds with its t-interval of level 1 - alpha: (mean, low, high), in the unit of the values.

        mean -+ t[1 - alpha / 2, n - 1] * s / sqrt(n),   s^2 = sum_i (x_i - mean)^2 / (n - 1)

    values: (n,) one number per seed; nan means not measured and is left out. Fewer than MIN_SEEDS seeds say nothing
    about the spread: the bounds are nan, never a width of 0. No seed: all nan.

    Student 1908, Biometrika 6:1. scipy's `confidence_interval` gives the same up to rounding, but not the last digit of
    the committed tables.
    """
    x = np.asarray(values, dtype=float)
    x = x[~np.isnan(x)]
    if len(x) < MIN_SEEDS:
        return (float(x.mean()) if len(x) else np.nan), np.nan, np.nan
    half = stats.t.ppf(1 - alpha / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return float(x.mean()), float(x.mean() - half), float(x.mean() + half)


def paired_row(a: pd.Series, b: pd.Series | float) -> tuple[int, float, float, float, float]:
    """Seeds that both have, mean of a - b over them, its 95% t-interval and two-sided p: the columns PAIRED.

        d_i = a_i - b_i,   t = mean(d) / (s_d / sqrt(n)),   p = 2 * P(T[n - 1] > |t|)

    a, b: values by seed; nan means not measured. p is nan with fewer than MIN_SEEDS common seeds, and where all
    differences are equal (t is then 0/0 or infinite). The paired t-test: Student 1908, Biometrika 6:1.
    """
    d = (a - b).dropna().sort_index().to_numpy(float)
    mean, low, high = mean_interval(d)
    tested = len(d) >= MIN_SEEDS and d.std(ddof=1) > ROUNDING * max(1.0, abs(mean))
    return len(d), mean, low, high, float(stats.ttest_1samp(d, 0.0).pvalue) if tested else np.nan


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values of a family of tests (Holm): the chance of any false rejection stays below the level.

        p_adj(i) = max_{j <= i} min(1, (m - j + 1) * p_(j)),   p_(1) <= ... <= p_(m)

    A nan (a test that could not be made) stays nan and does not count in m.

    Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]  # nan comes last
    adjusted = np.full(p.shape, np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p[order]))
    return adjusted


def holm_levels(p_values: Sequence[float]) -> np.ndarray:
    """The level at which Holm's correction tests each p of a family.

        a_(i) = ALPHA / (m - min(i - 1, r)),   i: rank of p, r: number of tests that it rejects

    The t-interval of level 1 - a_i leaves out the tested value exactly where Holm rejects it, so a verdict by this
    interval is Holm's verdict, and all verdicts of a family hold together with 1 - ALPHA. The intervals alone do not:
    those of Bonferroni, all of level 1 - ALPHA / m, would. A nan, a test that could not be made, is given ALPHA / m.
    """
    p = np.asarray(p_values, dtype=float)
    m, rejected = max(np.count_nonzero(~np.isnan(p)), 1), np.count_nonzero(holm(p) < ALPHA)
    rank = np.argsort(np.argsort(p, kind="stable"), kind="stable")  # nan comes last
    return ALPHA / (m - np.where(np.isnan(p), 0, np.minimum(rank, min(rejected, m - 1))))


def equivalence_p(values: Sequence[float], low: float, high: float) -> float:
    """p of two one-sided t-tests that the mean over seeds lies in (low, high): the larger of the two.

    values: (n,) one number per seed, none nan. nan with fewer than MIN_SEEDS, and where all are equal.

    Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15:657.
    """
    x = np.asarray(values, dtype=float)
    if len(x) < MIN_SEEDS or x.std(ddof=1) <= ROUNDING * max(1.0, abs(x.mean())):
        return np.nan
    sides = ((low, "greater"), (high, "less"))
    return max(float(stats.ttest_1samp(x, end, alternative=side).pvalue) for end, side in sides)


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95% score interval (low, high) of a share of n rows, both in [0, 1]: what n test rows alone leave open.

    Covers the draw of the test rows only, not the draw of world, data, initialisation and order: for those take seeds.
    Wilson 1927, Journal of the American Statistical Association 22:209.
    """
    interval = stats.binomtest(round(share * n), n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
