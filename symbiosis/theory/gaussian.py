"""A Gaussian fitted to its own samples, alone or beside real ones (MAD loops); the source is N(0, 1)."""

import numpy as np
from numpy.random import Generator
from scipy import special

from symbiosis.theory.checks import Curves, brief, check_counts, check_draws, check_range

MAD_LOOPS = ("fully_synthetic", "synthetic_augmentation", "fresh_data")


def gaussian_refit(generations: int, *, samples: int, ddof: int = 1) -> Curves:
    """Moments of a Gaussian that is fitted, sampled and fitted again.

        x_i ~ N(mu_t, var_t), i <= M;   mu_t+1 = mean(x),   var_t+1 = sum_i (x_i - mean(x))^2 / D,   D = M - ddof
        E var_t = ((M-1) / D)^t,   E sd_t = c^t,   c = sqrt(2 / D) Gamma(M/2) / Gamma((M-1)/2)
        E log(var_t) = t (psi((M-1)/2) - log(D/2)),         Var log(var_t) = t psi_1((M-1)/2)
        E mu_t^2 = sum_{s<t} E var_s / M,                   E W2^2 = E mu_t^2 + E (sd_t - 1)^2

    With ddof = 1 the mean of the variance stays and its logarithm falls: nearly every chain ends at 0.

    Args:
        generations: G, at least 0.
        samples:     M draws per generation, at least 3.
        ddof:        1 the unbiased variance, 0 maximum likelihood.

    Returns (G + 1,) curves: variance, sd, log_variance [nats] and its log_variance_spread, mean_squared, w2_squared
    (squared Wasserstein-2 distance to the source).

    The chain: Shumailov et al., arXiv 2305.17493. The moments are those of chi-square (Johnson, Kotz, Balakrishnan,
    Continuous Univariate Distributions 1, 1994, chapter 18), put together for this project.
    """
    check_counts(0, generations=generations, ddof=ddof)
    check_counts(3, samples=samples)
    check_range("[0, 1]", ddof=ddof)
    t, free, divisor = np.arange(generations + 1), (samples - 1) / 2, (samples - ddof) / 2
    log_c = special.gammaln(samples / 2) - special.gammaln(free) - np.log(divisor) / 2
    variance, sds = (free / divisor) ** t, np.exp(t * log_c)
    mean_squared = np.append(0.0, np.cumsum(variance[:-1])) / samples
    return {
        "variance": variance,
        "sd": sds,
        "log_variance": t * (special.digamma(free) - np.log(divisor)),
        "log_variance_spread": t * special.polygamma(1, free),
        "mean_squared": mean_squared,
        "w2_squared": mean_squared + variance - 2 * sds + 1,
    }


def simulate_gaussian_refit(generations: int, *, samples: int, ddof: int = 1, repeats: int, rng: Generator) -> Curves:
    """(R, G + 1) draws of the curves of gaussian_refit; arguments and errors as there."""
    gaussian_refit(generations, samples=samples, ddof=ddof)  # refuses what it cannot have
    check_draws(rng, 2, repeats=repeats)
    mean, variance = np.zeros((repeats, generations + 1)), np.ones((repeats, generations + 1))
    for t in range(generations):
        x = mean[:, t, None] + np.sqrt(variance[:, t, None]) * rng.standard_normal((repeats, samples))
        mean[:, t + 1], variance[:, t + 1] = x.mean(axis=1), x.var(axis=1, ddof=ddof)
    log = np.log(variance)
    return {
        "variance": variance,
        "sd": np.sqrt(variance),
        "log_variance": log,
        "log_variance_spread": (log - log.mean(axis=0)) ** 2 * repeats / (repeats - 1),  # its mean is unbiased
        "mean_squared": mean**2,
        "w2_squared": mean**2 + (np.sqrt(variance) - 1) ** 2,
    }


def mad_moments(loop: str, generations: int, *, synthetic: int, real: int = 0, sampling_bias: float = 1.0) -> Curves:
    """Moments of a Gaussian refitted to real and biased synthetic samples.

        synthetic samples ~ N(mu_t, l var_t);   n = n_r + n_s, w = n_r / n
        fully_synthetic         c' = l c,  b' = b + l c / n_s                             from b = 0, c = 1
        fresh_data              b' = w^2 / n_r + (1-w)^2 (b + l c / n_s)                  from a fit to n real samples
                                c' = (n_r - 1 + (n_s - 1) l c + (n_r n_s / n) g) / (n - 1),  g = 1/n_r + l c / n_s + b
        synthetic_augmentation  a' = w / n_r + (1-w) a,  b' as above + 2 w (1-w) a        from a fit to the n_r samples
                                c' as above with g - 2 a

    b = E mu_t^2, c = E var_t (unbiased), a = E[mean of the one fixed real set * mu_t].

    Args:
        loop:          one of MAD_LOOPS.
        synthetic:     n_s per generation, at least 2; only the latest generation is kept.
        real:          n_r, at least 2: drawn anew (fresh_data) or once (synthetic_augmentation); else 0.
        sampling_bias: l in [0, 1]: 1 samples the model as it is, 0 its mode only; no bias of an estimate.

    Returns (G + 1,) curves: mean_squared (b), variance (c) and, for synthetic_augmentation, real_overlap (a).

    Loops: Alemohammad et al., arXiv 2307.01850; the moments are derived for this project.
    """
    slope, constant, state = _mad_map(loop, real, synthetic, sampling_bias)
    check_counts(0, generations=generations)
    states = [state]
    for _ in range(generations):
        states.append(slope @ states[-1] + constant)
    return _mad_curves(loop, np.array(states))


def mad_fixed_point(loop: str, *, synthetic: int, real: int, sampling_bias: float = 1.0) -> dict[str, float]:
    """Where the moments of mad_moments end: the solution of state = A state + q. Arguments and errors as there.

    Raises ValueError for fully_synthetic: its end depends on the start.
    """
    slope, constant, _ = _mad_map(loop, real, synthetic, sampling_bias)
    if loop == "fully_synthetic":
        raise ValueError(f"loop: {loop} never forgets its start; read mad_moments at a late generation")
    return {k: float(v) for k, v in _mad_curves(loop, np.linalg.solve(np.eye(3) - slope, constant)).items()}


def simulate_mad(
    loop: str,
    generations: int,
    *,
    synthetic: int,
    real: int = 0,
    sampling_bias: float = 1.0,
    repeats: int,
    rng: Generator,
) -> Curves:
    """(R, G + 1) draws of the curves of mad_moments; arguments and errors as there."""
    mad_moments(loop, generations, synthetic=synthetic, real=real, sampling_bias=sampling_bias)
    check_draws(rng, repeats=repeats)
    kept = rng.standard_normal((repeats, real))
    first = np.hstack([kept, rng.standard_normal((repeats, synthetic if loop == "fresh_data" else 0))])
    mean, variance = _fit(first) if real else (np.zeros(repeats), np.ones(repeats))
    states = []
    for _ in range(generations + 1):
        states.append(np.column_stack([kept.mean(axis=1) * mean if real else mean, mean**2, variance]))
        if loop == "fresh_data":
            kept = rng.standard_normal((repeats, real))
        written = mean[:, None] + np.sqrt(sampling_bias * variance)[:, None] * rng.standard_normal((repeats, synthetic))
        mean, variance = _fit(np.hstack([kept, written]))
    return _mad_curves(loop, np.stack(states, axis=1))


def _mad_map(loop: str, real: int, synthetic: int, bias: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, q, start) of the linear recursion of (a, b, c)."""
    if loop not in MAD_LOOPS:
        raise ValueError(f"loop: {brief(loop)} is not one of {', '.join(MAD_LOOPS)}")
    check_counts(2, synthetic=synthetic)
    check_range("[0, 1]", sampling_bias=bias)
    if loop == "fully_synthetic":
        if real:
            raise ValueError(f"real: {real} real samples have no place in a fully_synthetic loop; give 0")
        return np.array([[0, 0, 0], [0, 1, bias / synthetic], [0, 0, bias]]), np.zeros(3), np.array([0.0, 0.0, 1.0])
    check_counts(2, real=real)
    n, fixed = real + synthetic, loop == "synthetic_augmentation"
    w, v, between = real / n, synthetic / n, real * synthetic / n / (n - 1)
    slope = [
        [v * fixed, 0, 0],
        [2 * w * v * fixed, v**2, v**2 * bias / synthetic],
        [-2 * between * fixed, between, (synthetic - 1) * bias / (n - 1) + between * bias / synthetic],
    ]
    constant = [w / real * fixed, w**2 / real, (real - 1) / (n - 1) + between / real]
    start = [1 / real, 1 / real, 1.0] if fixed else [0.0, 1 / n, 1.0]
    return np.array(slope), np.array(constant), np.array(start)


def _mad_curves(loop: str, states: np.ndarray) -> Curves:
    names = ("real_overlap", "mean_squared", "variance")[0 if loop == "synthetic_augmentation" else 1 :]
    return dict(zip(names, np.moveaxis(states, -1, 0)[-len(names) :], strict=True))


def _fit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(axis=1), x.var(axis=1, ddof=1)
