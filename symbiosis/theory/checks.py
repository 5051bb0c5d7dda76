"""What the closed forms share: input that is refused in a sentence, curves by name, and how simulations are read."""

from numbers import Integral

import numpy as np
from numpy.random import Generator

Curves = dict[str, np.ndarray]
NULL = 1e-12  # share of the largest below which an eigenvalue of a Gram matrix, or a singular value, is rounding


def check_counts(least: int, **counts: int) -> None:
    """Raises ValueError unless every count is a whole number of at least `least`; 5.0 and True are no counts."""
    for name, value in counts.items():
        if not isinstance(value, Integral) or isinstance(value, bool | np.bool_) or value < least:
            raise ValueError(f"{name}: {brief(value)} is not a whole number of at least {least}; give an int")


def check_range(interval: str, **values: float) -> None:
    """Raises ValueError unless each value is one number in the interval, written as "[0, 1]" or "(0, inf)"."""
    for name, value in values.items():
        as_floats(name, value, (), interval)


def as_floats(name: str, value: object, shape: tuple | None = None, interval: str = "(-inf, inf)") -> np.ndarray:
    """The value as floats of this shape (-1: any length; None: any shape), all of them in the interval.

    Raises ValueError for another shape, for what is no number, and for a number outside, nan included.
    """
    try:
        raw = np.asarray(value)
    except ValueError:  # rows of different lengths
        raw = np.array(None)
    if raw.dtype.kind not in "biuf" or np.ma.is_masked(value):
        raise ValueError(f"{name}: {brief(value)} is not made of plain numbers; give ints or floats")
    wanted = raw.shape if shape is None else shape
    if len(wanted) != raw.ndim or any(m not in (-1, n) for m, n in zip(wanted, raw.shape, strict=True)):
        need = str(wanted).replace("-1", "any") if wanted else "one number"
        raise ValueError(f"{name}: shape {raw.shape}; give {need}")
    low, high = (float(end) for end in interval[1:-1].split(","))
    x = raw.astype(float)
    inside = (x > low if interval[0] == "(" else x >= low) & (x < high if interval[-1] == ")" else x <= high)
    if not inside.all():
        raise ValueError(f"{name}: {raw[~inside].flat[0]} is not in {interval}; give finite numbers inside")
    return x


def as_gram(name: str, value: np.ndarray, shape: tuple) -> np.ndarray:
    """Floats (..., d, d); raises ValueError unless every matrix is symmetric and positive semi-definite."""
    gram = as_floats(name, value, shape)
    rounding = 1e-9 * np.abs(gram).max(initial=0.0)
    if np.abs(gram - gram.mT).max(initial=0.0) > rounding or np.linalg.eigvalsh(gram).min(initial=0.0) < -rounding:
        raise ValueError(f"{name}: not symmetric, or an eigenvalue is negative; give X.T @ X")
    return gram


def as_distribution(p: np.ndarray) -> np.ndarray:
    """(V,) floats that sum to 1; raises ValueError where p is no vector >= 0 with that sum."""
    x = as_floats("p", p, (-1,), "[0, inf)")
    if not abs(x.sum() - 1) < 1e-6:
        raise ValueError(f"p: a sum of {x.sum():.9g} is not that of a distribution; divide it by its sum")
    return x / x.sum()  # to the last bit, as numpy's multinomial wants it


def check_draws(rng: Generator, least: int = 1, **repeats: int) -> None:
    """Raises ValueError for fewer repeats than `least`, and TypeError for what is no random generator of numpy."""
    check_counts(least, **repeats)
    if not isinstance(rng, Generator):
        raise TypeError(f"rng: {brief(rng)} draws nothing; give numpy.random.default_rng(seed)")


def brief(value: object) -> str:
    """The value as an error message shows it: at most 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def mean_and_error(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over repeats and its standard error: (R, ...) draws to two arrays (...), in the unit of the draws.

        mean = sum_r x_r / R,   error = s / sqrt(R),   s^2 = sum_r (x_r - mean)^2 / (R - 1)

    Raises ValueError for fewer than two repeats.
    """
    draws = np.atleast_1d(as_floats("draws", draws))
    check_counts(2, repeats=len(draws))
    return draws.mean(axis=0), draws.std(axis=0, ddof=1) / np.sqrt(len(draws))


def max_z(draws: Curves, curves: Curves) -> float:
    """Largest distance of a simulated mean from its closed form, in standard errors, over the names in both.

    Points without scatter beyond rounding (generation 0 as a rule) are left out. Raises ValueError where none is left,
    and for a draw or a curve that is not finite or of another shape.
    """
    distances = []
    for name in draws.keys() & curves.keys():
        mean, error = mean_and_error(as_floats(f"draws of {name}", draws[name]))
        curve = as_floats(f"curve {name}", curves[name], mean.shape)
        scatters = error > 1e-12 * abs(mean)
        distances.extend(abs(mean - curve)[scatters] / error[scatters])
    if not distances:
        raise ValueError("draws: nothing that scatters has a name in common with the curves")
    return float(max(distances))


def gram_rows(gram: np.ndarray) -> np.ndarray:
    """(..., d, d) rows with this Gram matrix: all that least squares sees of the features."""
    values, vectors = np.linalg.eigh(gram)
    values = np.where(values > NULL * values.max(axis=-1, keepdims=True), values, 0.0)
    return np.sqrt(values)[..., None] * vectors.swapaxes(-1, -2)
