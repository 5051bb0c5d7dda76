"""Input of the theory of one model: what is impossible is refused, in one sentence that names the argument."""

import numpy as np


def check_counts(least: int, **counts: int) -> None:
    """Raises ValueError unless every count is a whole number of at least `least`."""
    for name, value in counts.items():
        if not np.isfinite(value) or value != int(value) or value < least:
            raise ValueError(f"{name}: {value} does not do; give a whole number of at least {least}")


def check_rows(features: int, **rows: int) -> None:
    """Raises ValueError unless there are more rows than features + 1: below, the risk of least squares is infinite."""
    check_counts(1, features=features, **rows)
    for name, value in rows.items():
        if value < features + 2:
            why = f"{value} leave the expected risk of {features} features infinite"
            raise ValueError(f"{name}: {why}; give at least {features + 2}")


def check_shares(**shares: np.ndarray | float) -> None:
    """Raises ValueError unless all values lie in [0, 1]."""
    for name, value in shares.items():
        if not np.all((np.asarray(value) >= 0) & (np.asarray(value) <= 1)):
            raise ValueError(f"{name}: {value} is not within [0, 1]; give a share or a chance")


def check_positive(**values: np.ndarray | float) -> None:
    """Raises ValueError unless all values are finite and above 0."""
    for name, value in values.items():
        if not np.all((np.asarray(value) > 0) & np.isfinite(value)):
            raise ValueError(f"{name}: {value} is not above 0; give a finite positive number")


def check_regression(generations: int, rows: int, features: int, noise: float, name: str = "rows") -> None:
    """Raises ValueError for what no chain of regressions can have; `name` is what its caller calls the rows."""
    check_counts(0, generations=generations)
    check_rows(features, **{name: rows})
    check_positive(noise=noise)


def as_distribution(p: np.ndarray) -> np.ndarray:
    """(V,) floats that sum to 1; raises ValueError where p is no vector >= 0 with that sum."""
    p = np.asarray(p, dtype=float)
    if p.ndim != 1 or not np.all(p >= 0) or not abs(p.sum() - 1) < 1e-9:
        raise ValueError(f"p: {p} is not a distribution over tokens; give a vector >= 0 and divide it by its sum")
    return p / p.sum()  # to the last bit, as numpy's multinomial wants it
