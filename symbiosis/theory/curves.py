"""What the theory of one model returns, curves by name, and how its simulations are read."""

import numpy as np

from symbiosis.theory.checks import check_counts

Curves = dict[str, np.ndarray]


def mean_and_error(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over repeats and its standard error: (R, ...) draws to two arrays (...), in the unit of the draws.

        mean = sum_r x_r / R,   error = s / sqrt(R),   s^2 = sum_r (x_r - mean)^2 / (R - 1)

    Raises ValueError for fewer than two repeats.
    """
    draws = np.asarray(draws, dtype=float)
    check_counts(2, repeats=len(draws))
    return draws.mean(axis=0), draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
