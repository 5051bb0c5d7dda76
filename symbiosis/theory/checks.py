"""What the closed forms share: input that is refused, curves by name, and how simulations are read."""

from numbers import Integral

import numpy as np

Curves = dict[str, np.ndarray]


def check_counts(least: int, **counts: int) -> None:
    """Raises ValueError unless every count is a whole number (an int) of at least `least`."""
    for name, value in counts.items():
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name}: {value!r} is not a whole number of at least {least}")


def check_range(interval: str, **values: np.ndarray | float) -> None:
    """Raises ValueError unless all values lie in the interval, written as "[0, 1]" or "(0, inf)"; nan lies in none."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name, value in values.items():
        x = np.asarray(value, dtype=float)
        above = x > low if interval[0] == "(" else x >= low
        below = x < high if interval[-1] == ")" else x <= high
        if not np.all(above & below):
            raise ValueError(f"{name}: {value} is not in {interval}")


def as_distribution(p: np.ndarray) -> np.ndarray:
    """(V,) floats that sum to 1; raises ValueError where p is no vector >= 0 with that sum."""
    p = np.asarray(p, dtype=float)
    if p.ndim != 1 or not np.all(p >= 0) or not abs(p.sum() - 1) < 1e-9:
        raise ValueError(f"p: {p} is not a distribution; give a vector >= 0 and divide it by its sum")
    return p / p.sum()  # to the last bit, as numpy's multinomial wants it


def mean_and_error(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over repeats and its standard error: (R, ...) draws to two arrays (...), in the unit of the draws.

        mean = sum_r x_r / R,   error = s / sqrt(R),   s^2 = sum_r (x_r - mean)^2 / (R - 1)

    Raises ValueError for fewer than two repeats.
    """
    draws = np.asarray(draws, dtype=float)
    check_counts(2, repeats=len(draws))
    return draws.mean(axis=0), draws.std(axis=0, ddof=1) / np.sqrt(len(draws))


def max_z(draws: Curves, curves: Curves) -> float:
    """Largest distance of a simulated mean from its closed form, in standard errors, over the names in both.

    Points without scatter beyond rounding (generation 0 as a rule) are left out; ValueError where none is left.
    """
    distances = []
    for name in draws.keys() & curves.keys():
        mean, error = mean_and_error(draws[name])
        scatters = error > 1e-12 * abs(mean)
        distances.extend(abs(mean - curves[name])[scatters] / error[scatters])
    if not distances:
        raise ValueError("draws: nothing that scatters has a name in common with the curves")
    return float(max(distances))
