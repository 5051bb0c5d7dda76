"""A Gaussian fitted to its own samples: the moments of its chain, beside the chain."""

import numpy as np
from scipy import special

from symbiosis.theory.checks import check_counts, check_positive
from symbiosis.theory.curves import Curves


def gaussian_refit(generations: int, *, samples: int, ddof: int = 1, sd: float = 1.0) -> Curves:
    """Moments of a Gaussian that is fitted, sampled and fitted again.

        x_i ~ N(mu_t, var_t), i <= M;   mu_t+1 = mean(x),   var_t+1 = sum_i (x_i - mean(x))^2 / D,   D = M - ddof
        E var_t = sd^2 ((M-1) / D)^t                        E var_t^2 = sd^4 ((M-1)(M+1) / D^2)^t
        E sd_t = sd c^t,   c = sqrt(2 / D) Gamma(M/2) / Gamma((M-1)/2)
        E log(var_t / sd^2) = t (psi((M-1)/2) - log(D/2)),   Var log(var_t) = t psi_1((M-1)/2)
        E mu_t^2 = sum_{s<t} E var_s / M,   E W2^2 = E mu_t^2 + E (sd_t - sd)^2

    With ddof = 1 the mean of the variance stays and its logarithm falls: nearly every chain ends at 0.

    Args:
        generations: G, at least 0.
        samples:     M draws per generation, at least 3.
        ddof:        1 the unbiased variance, 0 maximum likelihood.
        sd:          of the source N(0, sd^2), above 0.

    Returns (G + 1,) curves: variance, variance_squared, sd, log_variance (of the share of sd^2 left, nats) and its
    log_variance_spread, mean_squared, w2_squared (squared Wasserstein-2 distance to the source).
    Raises ValueError for other samples, ddof or sd.

    The chain: Shumailov et al., arXiv 2305.17493; the moments are derived for this project.
    """
    _check_gaussian(generations, samples, ddof, sd)
    t, free, divisor = np.arange(generations + 1), (samples - 1) / 2, (samples - ddof) / 2
    log_c = special.gammaln(samples / 2) - special.gammaln(free) - np.log(divisor) / 2
    variance, sds = sd**2 * (free / divisor) ** t, sd * np.exp(t * log_c)
    mean_squared = np.append(0.0, np.cumsum(variance[:-1])) / samples
    return {
        "variance": variance,
        "variance_squared": sd**4 * (free * (free + 1) / divisor**2) ** t,
        "sd": sds,
        "log_variance": t * (special.digamma(free) - np.log(divisor)),
        "log_variance_spread": t * special.polygamma(1, free),
        "mean_squared": mean_squared,
        "w2_squared": mean_squared + variance - 2 * sd * sds + sd**2,
    }


def simulate_gaussian_refit(
    generations: int, *, samples: int, ddof: int = 1, sd: float = 1.0, repeats: int, rng: np.random.Generator
) -> Curves:
    """(R, G + 1) draws of the curves of gaussian_refit; arguments and errors as there."""
    _check_gaussian(generations, samples, ddof, sd)
    check_counts(2, repeats=repeats)
    mean, variance = np.zeros((repeats, generations + 1)), np.full((repeats, generations + 1), float(sd) ** 2)
    for t in range(generations):
        x = mean[:, t, None] + np.sqrt(variance[:, t, None]) * rng.standard_normal((repeats, samples))
        mean[:, t + 1], variance[:, t + 1] = x.mean(axis=1), x.var(axis=1, ddof=ddof)
    log = np.log(variance / sd**2)
    return {
        "variance": variance,
        "variance_squared": variance**2,
        "sd": np.sqrt(variance),
        "log_variance": log,
        "log_variance_spread": (log - log.mean(axis=0)) ** 2 * repeats / (repeats - 1),  # its mean is unbiased
        "mean_squared": mean**2,
        "w2_squared": mean**2 + (np.sqrt(variance) - sd) ** 2,
    }


def _check_gaussian(generations: int, samples: int, ddof: int, sd: float) -> None:
    check_counts(0, generations=generations)
    check_counts(3, samples=samples)
    check_positive(sd=sd)
    if ddof not in (0, 1):
        raise ValueError(f"ddof: {ddof} is not one of 0 (maximum likelihood) and 1 (unbiased)")
