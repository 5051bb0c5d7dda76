"""One model that learns from its own data: each closed form with the Monte Carlo that checks it.

A closed form returns a curve over generations, or several by name: arrays (G + 1,), entry 0 the start. The
`simulate_...` beside it takes the same arguments, `repeats` and `rng`, and returns the same names as (R, G + 1), one
row per independent repeat; `mean_and_error` of the rows estimates the curve. Axis letters: G generations, R repeats,
V vocabulary.
"""

import numpy as np
from numpy.polynomial.polynomial import polyval
from scipy import special, stats

Curves = dict[str, np.ndarray]

SUBSAMPLE_LIMIT = np.pi**2 / 2 - 2  # of subsample_factor, as the generations go to infinity
MAD_LOOPS = ("fully_synthetic", "synthetic_augmentation", "fresh_data")


def mean_and_error(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over repeats and its standard error: (R, ...) draws to two arrays (...), in the unit of the draws.

        mean = sum_r x_r / R,   error = s / sqrt(R),   s^2 = sum_r (x_r - mean)^2 / (R - 1)

    Raises ValueError for fewer than two repeats.
    """
    draws = np.asarray(draws, dtype=float)
    _check_counts(2, repeats=len(draws))
    return draws.mean(axis=0), draws.std(axis=0, ddof=1) / np.sqrt(len(draws))


# --- a Gaussian fitted to its own samples --------------------------------------------------------------------------


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
    _check_counts(2, repeats=repeats)
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
    _check_counts(0, generations=generations)
    _check_counts(3, samples=samples)
    _check_positive(sd=sd)
    if ddof not in (0, 1):
        raise ValueError(f"ddof: {ddof} is not one of 0 (maximum likelihood) and 1 (unbiased)")


# --- linear regression: replace, accumulate, accumulate and subsample ----------------------------------------------


def regression_risk(generations: int, *, rows: int, features: int, noise: float = 1.0) -> Curves:
    """Risk E ||w_n - w*||^2 of least squares on its own labels, with isotropic Gaussian features.

        r = s^2 d / (T - d - 1)
        replace              n r                                     same or fresh features
        accumulate_same_x    r sum_{i<=n} 1 / i^2                    every generation labels the same rows
        accumulate_fresh_x   sum_{i<=n} s^2 d / (i (i T - d - 1))    every generation brings rows of its own

    Args:
        generations: G, at least 0; generation 1 is fitted to real labels, entry 0 is the truth (risk 0).
        rows:        T per generation, above d + 1.
        features:    d, at least 1.
        noise:       s, standard deviation of every label's noise, above 0.

    Returns (G + 1,) curves: replace_same_x, replace_fresh_x, accumulate_same_x, accumulate_fresh_x.
    Raises ValueError where the risk is infinite (T <= d + 1).

    Same rows: Gerstgrasser et al., arXiv 2404.01413; fresh rows: derived for this project.
    """
    _check_regression(generations, rows, features, noise)
    n = np.arange(1, generations + 1)
    one = noise**2 * features / (rows - features - 1)
    steps = {
        "replace_same_x": np.full(generations, one),
        "replace_fresh_x": np.full(generations, one),
        "accumulate_same_x": one / n**2,
        "accumulate_fresh_x": noise**2 * features / (n * (n * rows - features - 1)),
    }
    return {name: np.append(0.0, np.cumsum(step)) for name, step in steps.items()}


def regression_limits(*, rows: int, features: int, noise: float = 1.0) -> dict[str, float]:
    """Where the risks of accumulation end; arguments and errors as in regression_risk (replacement has no limit).

        accumulate_same_x    r pi^2 / 6
        accumulate_fresh_x   -(s^2 d / T) (psi(1 - a) + gamma) / a,   a = (d + 1) / T

    The first: Gerstgrasser et al., arXiv 2404.01413; Dey and Donoho, arXiv 2410.22812, for more models. The second is
    derived for this project from sum_i 1 / (i (i - a)).
    """
    _check_regression(0, rows, features, noise)
    a = (features + 1) / rows
    return {
        "accumulate_same_x": noise**2 * features / (rows - features - 1) * np.pi**2 / 6,
        "accumulate_fresh_x": -(noise**2) * features / rows * float(special.digamma(1 - a) + np.euler_gamma) / a,
    }


def simulate_regression(
    generations: int, *, rows: int, features: int, noise: float = 1.0, repeats: int, rng: np.random.Generator
) -> Curves:
    """(R, G + 1) squared errors ||w_n - w*||^2 of the curves of regression_risk; arguments and errors as there."""
    _check_regression(generations, rows, features, noise)
    _check_counts(1, repeats=repeats)
    shape = (repeats, rows, features)
    return {
        f"{pool}_{design}_x": _regression_chain(generations, shape, noise, pool, design, rng)
        for pool in ("replace", "accumulate")
        for design in ("same", "fresh")
    }


def _regression_chain(generations: int, shape: tuple, noise: float, pool: str, design: str, rng) -> np.ndarray:
    risk, w = np.zeros((shape[0], generations + 1)), np.zeros((shape[0], shape[2]))  # w* = 0: errors do not know it
    x, gram, moment = rng.standard_normal(shape), 0.0, 0.0
    for n in range(1, generations + 1):
        if design == "fresh":
            x = rng.standard_normal(shape)
        if pool == "replace":
            gram, moment = 0.0, 0.0
        y = np.einsum("rtd,rd->rt", x, w) + noise * rng.standard_normal(shape[:2])
        gram, moment = gram + x.mT @ x, moment + np.einsum("rtd,rt->rd", x, y)
        w = _solve(gram, moment)
        risk[:, n] = (w**2).sum(axis=1)
    return risk


def subsample_factor(generations: int) -> np.ndarray:
    """Risk of accumulate-and-subsample as a multiple of the first generation's: (G + 1,), entry 0 is 0 (the truth).

        f_n = 1 + sum_{i=1}^{n-1} 1 / (i+1)^2 + 2 sum_{j=2}^{n-1} (H_j - 1) / (j (j+1)) + 2 (H_n - 1) / n
        f_n -> pi^2 / 2 - 2 = SUBSAMPLE_LIMIT,   H_n = sum_{i<=n} 1 / i

    Each generation is fitted to T rows drawn without replacement from the n T rows written so far, which keep their
    labels. For T >> d: the risk is f_n s^2 d / T, and T Var(e_n) / s^2 = f_n where a mean is estimated.

    Raises ValueError for negative generations.

    The design: Kazdan et al., arXiv 2410.16713; the formula is derived for this project.
    """
    _check_counts(0, generations=generations)
    n = np.arange(1, generations + 1)
    harmonic = np.cumsum(1 / n)
    inner = np.append(0.0, np.cumsum((harmonic - 1) / (n * (n + 1)))[:-1])[:generations]  # the sum over j < n
    return np.append(0.0, np.cumsum(1 / n**2) + 2 * inner + 2 * (harmonic - 1) / n)


def simulate_subsample(
    generations: int, *, rows: int, features: int = 1, repeats: int, rng: np.random.Generator
) -> np.ndarray:
    """(R, G + 1) squared errors of accumulate-and-subsample regression as multiples of the first one's expectation.

    Args:
        rows:     T per generation, far above d for the formula of subsample_factor, above d + 1 at all.
        features: d, isotropic Gaussian.

    Raises ValueError for T <= d + 1.
    """
    _check_regression(generations, rows, features, 1.0)
    _check_counts(1, repeats=repeats)
    one = features / (rows - features - 1)
    return np.array([_subsample_chain(generations, rows, features, rng) for _ in range(repeats)]) / one


def _subsample_chain(generations: int, rows: int, features: int, rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((generations * rows, features))
    y = rng.standard_normal(generations * rows)  # the noise; labels gain x @ w as their generation is written
    risk, w = np.zeros(generations + 1), np.zeros(features)
    for n in range(1, generations + 1):
        new = slice((n - 1) * rows, n * rows)
        y[new] += x[new] @ w
        drawn = rng.choice(n * rows, rows, replace=False)
        w = np.linalg.solve(x[drawn].T @ x[drawn], x[drawn].T @ y[drawn])
        risk[n] = w @ w
    return risk


def _check_regression(generations: int, rows: int, features: int, noise: float, name: str = "rows") -> None:
    _check_counts(0, generations=generations)
    _check_rows(features, **{name: rows})
    _check_positive(noise=noise)


def _solve(gram: np.ndarray, moment: np.ndarray) -> np.ndarray:
    return np.linalg.solve(gram, moment[..., None])[..., 0]


# --- a last fit after n synthetic generations ----------------------------------------------------------------------


def ols_after_synthetic(
    generations: int, *, rows: int, synthetic_rows: int, features: int, noise: float = 1.0, synthetic_noise: float = 1.0
) -> Curves:
    """Risk of least squares on labels that come from n generations of least squares, entry n after n of them.

        variance = s^2 d / (T - d - 1),   synthetic = n s0^2 d / (T0 - d - 1),   total = variance + synthetic

    Args:
        generations:     G, at least 0.
        rows:            T of the last fit, above d + 1.
        synthetic_rows:  T0 of every generation before it, above d + 1.
        features:        d, isotropic Gaussian.
        noise:           s of the labels of the last fit, above 0.
        synthetic_noise: s0 of the labels of the generations, above 0.

    Returns (G + 1,) curves: variance, synthetic, total. Raises ValueError where a risk is infinite.

    Setting: Dohmatob et al., arXiv 2402.07712; the exact form is derived for this project.
    """
    _check_regression(generations, rows, features, noise)
    variance = np.full(generations + 1, noise**2 * features / (rows - features - 1))
    synthetic = _synthetic_risk(generations, synthetic_rows, features, synthetic_noise)
    return {"variance": variance, "synthetic": synthetic, "total": variance + synthetic}


def ridge_after_synthetic(
    generations: int,
    *,
    rows: int,
    synthetic_rows: int,
    features: int,
    ridge: float,
    noise: float = 1.0,
    synthetic_noise: float = 1.0,
    signal: float = 1.0,
) -> Curves:
    """Risk of a last ridge fit (X'X / T + l)^-1 X'y / T after n generations of least squares, for large d and T.

        bias      = ||w*||^2 l^2 m'
        variance  = s^2 f (m - l m'),   f = d / T
        synthetic = n s0^2 d / (T0 - d - 1) (1 - 2 l m + l^2 m')
        m = 2 / (b + sqrt(b^2 + 4 f l)),   b = l + 1 - f,   m' = -dm/dl = m (1 + f m) / sqrt(b^2 + 4 f l)

    m is the Stieltjes transform of the Marchenko-Pastur law at -l. The law holds in proportion (d / T fixed, both
    large); T may be below d. The other arguments are those of ols_after_synthetic.

    Args:
        ridge:  l, above 0.
        signal: ||w*||, above 0.

    Returns (G + 1,) curves: bias, variance, synthetic, total. Raises ValueError for T0 <= d + 1 or a ridge of 0.

    Dohmatob et al., arXiv 2402.07712; in this form derived for this project.
    """
    _check_counts(1, rows=rows)
    _check_positive(ridge=ridge, noise=noise, signal=signal)
    synthetic = _synthetic_risk(generations, synthetic_rows, features, synthetic_noise)
    m, slope = _stieltjes(ridge, features / rows)
    ones = np.ones(generations + 1)
    terms = {
        "bias": signal**2 * ridge**2 * slope * ones,
        "variance": noise**2 * features / rows * (m - ridge * slope) * ones,
        "synthetic": synthetic * (1 - 2 * ridge * m + ridge**2 * slope),
    }
    return terms | {"total": sum(terms.values())}


def simulate_after_synthetic(
    generations: int,
    *,
    rows: int,
    synthetic_rows: int,
    features: int,
    ridge: float = 0.0,
    noise: float = 1.0,
    synthetic_noise: float = 1.0,
    signal: float = 1.0,
    repeats: int,
    rng: np.random.Generator,
) -> Curves:
    """(R, G + 1) squared errors of the last fit, named total; a ridge of 0 is least squares.

    Arguments and errors as in ols_after_synthetic and ridge_after_synthetic. Two fits per generation and repeat: 1,000
    repeats of 4 generations take seconds at d = 40 and half a minute at d = 200.
    """
    _check_regression(generations, synthetic_rows, features, synthetic_noise, "synthetic_rows")
    _check_rows(features, **({} if ridge else {"rows": rows}))
    _check_counts(1, rows=rows, repeats=repeats)
    _check_positive(noise=noise, signal=signal, **({"ridge": ridge} if ridge else {}))
    truth = np.zeros(features)
    truth[0] = signal  # the features are isotropic: any direction does
    total = np.empty((repeats, generations + 1))
    for r in range(repeats):
        w = truth
        for n in range(generations + 1):
            last = _ridge_fit(w, rows, noise, ridge, rng)
            total[r, n] = ((last - truth) ** 2).sum()
            w = _ridge_fit(w, synthetic_rows, synthetic_noise, 0.0, rng)
    return {"total": total}


def _ridge_fit(w: np.ndarray, rows: int, noise: float, ridge: float, rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((rows, len(w)))
    y = x @ w + noise * rng.standard_normal(rows)
    return np.linalg.solve(x.T @ x + rows * ridge * np.eye(len(w)), x.T @ y)


def _synthetic_risk(generations: int, synthetic_rows: int, features: int, synthetic_noise: float) -> np.ndarray:
    _check_positive(synthetic_noise=synthetic_noise)
    _check_regression(generations, synthetic_rows, features, synthetic_noise, "synthetic_rows")
    return np.arange(generations + 1) * synthetic_noise**2 * features / (synthetic_rows - features - 1)


def _stieltjes(ridge: float, ratio: float) -> tuple[float, float]:
    b = ridge + 1 - ratio
    root = np.sqrt(b**2 + 4 * ratio * ridge)
    m = 2 / (b + root)
    return m, m * (1 + ratio * m) / root


# --- next-token model: a table of counts ---------------------------------------------------------------------------


def next_token_moments(p: np.ndarray, generations: int, *, tokens: int) -> Curves:
    """Diversity of a next-token distribution that is counted, sampled and counted again (Wright-Fisher).

        p_m+1 = Multinomial(N, p_m) / N
        heterozygosity = E[1 - sum_i p_i^2] = (1 - S) (1 - 1/N)^m,   S = sum_i p_i(0)^2
        purity         = E sum_i p_i^2 = 1 - heterozygosity
        spread         = sum_i Var p_i = (1 - S) (1 - (1 - 1/N)^m)

    Args:
        p:           (V,) source; sums to 1.
        generations: G, at least 0.
        tokens:      N drawn per generation, at least 1.

    Returns (G + 1,) curves in [0, 1]: heterozygosity, purity, spread. Raises ValueError for another p or N.

    Seddik et al., arXiv 2404.05090.
    """
    mixed = 1 - (_distribution(p) ** 2).sum()
    _check_counts(0, generations=generations)
    _check_counts(1, tokens=tokens)
    left = (1 - 1 / tokens) ** np.arange(generations + 1)
    return {"heterozygosity": mixed * left, "purity": 1 - mixed * left, "spread": mixed * (1 - left)}


def simulate_next_token(
    p: np.ndarray, generations: int, *, tokens: int, repeats: int, rng: np.random.Generator
) -> Curves:
    """(R, G + 1) draws of the curves of next_token_moments; arguments and errors as there."""
    source = _distribution(p)
    _check_counts(0, generations=generations)
    _check_counts(1, tokens=tokens, repeats=repeats)
    purity, spread = np.empty((2, repeats, generations + 1))
    now = np.tile(source, (repeats, 1))
    for m in range(generations + 1):
        purity[:, m], spread[:, m] = (now**2).sum(axis=1), ((now - source) ** 2).sum(axis=1)
        now = rng.multinomial(tokens, now) / tokens
    return {"heterozygosity": 1 - purity, "purity": purity, "spread": spread}


def collapse_time(p: np.ndarray, *, tokens: int) -> float:
    """Mean generations until one token is left, by diffusion: a little too long for small N.

        E[T] ~ -2 N sum_i (1 - p_i) ln(1 - p_i)   in [0, 2 N]

    Arguments and errors as in next_token_moments. The process: Seddik et al., arXiv 2404.05090; the diffusion's time
    is derived for this project.
    """
    _check_counts(1, tokens=tokens)
    rest = 1 - _distribution(p)
    return float(-2 * tokens * special.xlogy(rest, rest).sum())


def collapse_time_of_two(p: float, *, tokens: int) -> float:
    """Exact mean generations until one of two tokens is left, by the absorbing chain.

        E[T] = 1 + sum_k Binomial(N, p)(k) h_k,   h_0 = h_N = 0,   h_k = 1 + sum_l Binomial(N, k/N)(l) h_l

    Args:
        p:      probability of the first token, strictly between 0 and 1.
        tokens: N drawn per generation, at least 1; solves N - 1 equations.

    Raises ValueError for another p or N. First-step analysis, derived for this project.
    """
    _check_counts(1, tokens=tokens)
    _check_shares(p=p)
    if p in (0, 1):
        raise ValueError(f"p: at {p} one token is left already; give one strictly between 0 and 1")
    inner = np.arange(1, tokens)
    steps = stats.binom.pmf(inner, tokens, inner[:, None] / tokens)  # (N - 1, N - 1) between states not absorbed
    h = np.linalg.solve(np.eye(tokens - 1) - steps, np.ones(tokens - 1))
    return 1 + float(stats.binom.pmf(inner, tokens, p) @ h)


def simulate_collapse_time(p: np.ndarray, *, tokens: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """(R,) generations until one token is left; arguments and errors as in next_token_moments."""
    now = np.tile(_distribution(p), (repeats, 1))
    _check_counts(1, tokens=tokens, repeats=repeats)
    time, going = np.zeros(repeats, dtype=int), np.arange(repeats)
    while len(going := going[now[going].max(axis=1) < 1]):
        now[going] = rng.multinomial(tokens, now[going]) / tokens
        time[going] += 1
    return time


def anchored_next_token(p: np.ndarray, generations: int, *, real_tokens: int, synthetic_tokens: int) -> Curves:
    """Distance from the real estimate when every round mixes it with newly written tokens: bounded, no collapse.

        p_m+1 = (1 - a) p_0 + a Multinomial(n, p_m) / n,   a = n / (N + n)
        V_m+1 = a^2 ((1 - 1/n) V_m + (1 - S) / n),   V_0 = 0,   V = E ||p_m - p_0||_2^2
        E ||p_m - p_0||_1 <= sqrt(V V_m)   with the first V the vocabulary

    Args:
        p:                (V,) estimate from the real tokens, p_0; sums to 1. S is its sum of squares.
        generations:      G synthetic rounds, at least 0.
        real_tokens:      N behind p_0, at least 1.
        synthetic_tokens: n per round, at least 1.

    Returns (G + 1,) curves: distance_squared, l1_bound. Raises ValueError for another p, N or n.

    Setting: Seddik et al., arXiv 2404.05090; the recursion is derived for this project.
    """
    p, a = _anchored(p, generations, real_tokens, synthetic_tokens)
    limit = anchored_limit(p, real_tokens=real_tokens, synthetic_tokens=synthetic_tokens)
    forgotten = (a**2 * (1 - 1 / synthetic_tokens)) ** np.arange(generations + 1)
    squared = limit * (1 - forgotten)
    return {"distance_squared": squared, "l1_bound": np.sqrt(len(p) * squared)}


def anchored_limit(p: np.ndarray, *, real_tokens: int, synthetic_tokens: int) -> float:
    """Where V_m of anchored_next_token ends; arguments, errors and source as there.

    V = a^2 (1 - S) / (n (1 - a^2 (1 - 1/n)))
    """
    p, a = _anchored(p, 0, real_tokens, synthetic_tokens)
    n = synthetic_tokens
    return float(a**2 * (1 - (p**2).sum()) / (n * (1 - a**2 * (1 - 1 / n))))


def simulate_anchored(
    p: np.ndarray, generations: int, *, real_tokens: int, synthetic_tokens: int, repeats: int, rng: np.random.Generator
) -> Curves:
    """(R, G + 1) draws of distance_squared and of distance_l1, which l1_bound bounds; see anchored_next_token."""
    p, a = _anchored(p, generations, real_tokens, synthetic_tokens)
    _check_counts(1, repeats=repeats)
    squared, l1 = np.empty((2, repeats, generations + 1))
    now = np.tile(p, (repeats, 1))
    for m in range(generations + 1):
        squared[:, m], l1[:, m] = ((now - p) ** 2).sum(axis=1), abs(now - p).sum(axis=1)
        now = (1 - a) * p + a * rng.multinomial(synthetic_tokens, now) / synthetic_tokens
    return {"distance_squared": squared, "distance_l1": l1}


def _anchored(p: np.ndarray, generations: int, real: int, synthetic: int) -> tuple[np.ndarray, float]:
    _check_counts(0, generations=generations)
    _check_counts(1, real_tokens=real, synthetic_tokens=synthetic)
    return _distribution(p), synthetic / (real + synthetic)


# --- MAD loops: a Gaussian between real and own samples ------------------------------------------------------------


def mad_moments(loop: str, generations: int, *, synthetic: int, real: int = 0, bias: float = 1.0) -> Curves:
    """Moments of a Gaussian refitted to real and biased synthetic samples; the source is N(0, 1).

        synthetic samples ~ N(mu_t, l var_t);   n = n_r + n_s, w = n_r / n
        fully_synthetic         c' = l c,  b' = b + l c / n_s                             from b = 0, c = 1
        fresh_data              b' = w^2 / n_r + (1-w)^2 (b + l c / n_s)                  from a fit to n real samples
                                c' = (n_r - 1 + (n_s - 1) l c + (n_r n_s / n) g) / (n - 1),  g = 1/n_r + l c / n_s + b
        synthetic_augmentation  a' = w / n_r + (1-w) a,  b' as above + 2 w (1-w) a        from a fit to the n_r samples
                                c' as above with g - 2 a

    b = E mu_t^2, c = E var_t (unbiased), a = E[mean of the one fixed real set * mu_t].

    Args:
        loop:      one of MAD_LOOPS.
        synthetic: n_s per generation, at least 2; only the latest generation is kept.
        real:      n_r, at least 2: drawn anew (fresh_data) or once (synthetic_augmentation); 0 for fully_synthetic.
        bias:      l in [0, 1]: 1 samples the model as it is, 0 its mode only.

    Returns (G + 1,) curves: mean_squared (b), variance (c) and, for synthetic_augmentation, real_overlap (a).
    Raises ValueError for other arguments.

    Loops: Alemohammad et al., arXiv 2307.01850; the moments are derived for this project.
    """
    slope, constant, state = _mad_map(loop, real, synthetic, bias)
    _check_counts(0, generations=generations)
    states = [state]
    for _ in range(generations):
        states.append(slope @ states[-1] + constant)
    return _mad_curves(loop, np.array(states))


def mad_fixed_point(loop: str, *, synthetic: int, real: int, bias: float = 1.0) -> dict[str, float]:
    """Where the moments of mad_moments end: the solution of state = A state + q. Arguments and errors as there.

    Raises ValueError for fully_synthetic: its end depends on the start.
    """
    slope, constant, _ = _mad_map(loop, real, synthetic, bias)
    if loop == "fully_synthetic":
        raise ValueError(f"loop: {loop} never forgets its start; read mad_moments at a late generation")
    return {k: float(v) for k, v in _mad_curves(loop, np.linalg.solve(np.eye(3) - slope, constant)).items()}


def simulate_mad(
    loop: str,
    generations: int,
    *,
    synthetic: int,
    real: int = 0,
    bias: float = 1.0,
    repeats: int,
    rng: np.random.Generator,
) -> Curves:
    """(R, G + 1) draws of the curves of mad_moments; arguments and errors as there."""
    _mad_map(loop, real, synthetic, bias)
    _check_counts(0, generations=generations)
    _check_counts(1, repeats=repeats)
    kept = rng.standard_normal((repeats, real))
    first = np.hstack([kept, rng.standard_normal((repeats, synthetic if loop == "fresh_data" else 0))])
    mean, variance = _fit(first) if real else (np.zeros(repeats), np.ones(repeats))
    states = []
    for _ in range(generations + 1):
        states.append(np.column_stack([kept.mean(axis=1) * mean if real else mean, mean**2, variance]))
        if loop == "fresh_data":
            kept = rng.standard_normal((repeats, real))
        written = mean[:, None] + np.sqrt(bias * variance)[:, None] * rng.standard_normal((repeats, synthetic))
        mean, variance = _fit(np.hstack([kept, written]))
    return _mad_curves(loop, np.stack(states, axis=1))


def _mad_map(loop: str, real: int, synthetic: int, bias: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, q, start) of the linear recursion of (a, b, c)."""
    if loop not in MAD_LOOPS:
        raise ValueError(f"loop: {loop!r} is not one of {', '.join(MAD_LOOPS)}")
    _check_counts(2, synthetic=synthetic)
    _check_shares(bias=bias)
    if loop == "fully_synthetic":
        if real:
            raise ValueError(f"real: {real} real samples have no place in a fully_synthetic loop; give 0")
        return np.array([[0, 0, 0], [0, 1, bias / synthetic], [0, 0, bias]]), np.zeros(3), np.array([0.0, 0.0, 1.0])
    _check_counts(2, real=real)
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


# --- golden-ratio mixing -------------------------------------------------------------------------------------------


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
    _check_positive(ratio=ratio)
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
    _check_rows(features, real=real, synthetic=synthetic)
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
    w = _solve(*_normal_equations(np.zeros((repeats, features)), real, noise, rng))
    risk = [(w**2).sum(axis=1)]
    for _ in range(generations):
        (a, b), (c, d) = (
            _normal_equations(np.zeros_like(w), real, noise, rng),
            _normal_equations(w, synthetic, noise, rng),
        )
        if combine == "loss":
            w = _solve(weight * a + (1 - weight) * c, weight * b + (1 - weight) * d)
        else:
            w = weight * _solve(a, b) + (1 - weight) * _solve(c, d)
        risk.append((w**2).sum(axis=1))
    return np.stack(risk, axis=1)


def _normal_equations(w: np.ndarray, rows: int, noise: float, rng: np.random.Generator) -> tuple:
    """(R, d, d) and (R, d) means over new rows labelled by w."""
    x = rng.standard_normal((len(w), rows, w.shape[1]))
    y = np.einsum("rtd,rd->rt", x, w) + noise * rng.standard_normal(x.shape[:2])
    return x.mT @ x / rows, np.einsum("rtd,rt->rd", x, y) / rows


def _check_mixing(generations: int, weight: float, noise: float, **counts: int) -> None:
    _check_counts(0, generations=generations)
    _check_counts(1, **counts)
    _check_shares(weight=weight)
    _check_positive(noise=noise)


def _weight_and_ratio(weight: np.ndarray | float, ratio: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    _check_shares(weight=weight)
    _check_positive(weight=weight, ratio=ratio)
    return np.asarray(weight, dtype=float), np.asarray(ratio, dtype=float)


# --- weak labels where a filter rejects ----------------------------------------------------------------------------


def weak_label_accuracy(
    start: np.ndarray, generations: int, *, labeller: float, false_accept: float, false_reject: float
) -> np.ndarray:
    """Chance of a right answer per prompt when answers a noisy filter rejects are answered by a weak labeller instead.

        c' = c (1-d) + b (c d + (1-c)(1-g)),   so   c_t = c* + (c_0 - c*) r^t
        r = 1 - d (1-b) - (1-g) b,   c* = (1-g) b / (1 - r);   with d = 0: 1 - c_t = (1 - c_0)(1 - (1-g) b)^t

    The learner memorises: its chance is the share of right answers in what it was given.

    Args:
        start:        (prompts,) c_0 in [0, 1].
        generations:  G, at least 0.
        labeller:      b, chance that a weak label is right.
        false_accept: g, chance that the filter accepts a wrong answer.
        false_reject: d, chance that it rejects a right one.

    Returns (G + 1, prompts) in [0, 1]. Raises ValueError for chances outside [0, 1].

    The mechanism: Amin et al., arXiv 2502.08924; this reduction is this project's.
    """
    c = _check_accuracy(start, generations, labeller=labeller, false_accept=false_accept, false_reject=false_reject)
    pull = (1 - false_accept) * labeller
    rate = pull + false_reject * (1 - labeller)
    end = pull / rate if rate else 0.0  # at rate 0 nothing moves
    return end + (c - end) * (1 - rate) ** np.arange(generations + 1)[:, None]


def filter_only_accuracy(
    start: np.ndarray, generations: int, *, false_accept: float, false_reject: float
) -> np.ndarray:
    """The same without a labeller: rejected answers are dropped, and prompts never answered right stay so.

        c' = c (1-d) / (c (1-d) + (1-c) g),   so   c_t = c_0 / (c_0 + (1 - c_0) q^t),   q = g / (1-d)

    Arguments, result, errors and source as in weak_label_accuracy; false_reject below 1, else nothing right is kept.
    """
    c = _check_accuracy(start, generations, false_accept=false_accept, false_reject=false_reject)
    if false_reject == 1:
        raise ValueError("false_reject: at 1 nothing right is kept; give a chance below 1")
    odds = (false_accept / (1 - false_reject)) ** np.arange(generations + 1.0)[:, None]
    return np.where(c > 0, c / np.where(c > 0, c + (1 - c) * odds, 1.0), 0.0)


def random_label_accuracy(start: np.ndarray, generations: int, *, labeller: float, share: float) -> np.ndarray:
    """The same without a filter: a random share of the answers is replaced by weak labels; ends at their quality.

        c_t = b + (c_0 - b) (1 - share)^t

    Arguments, result, errors and source as in weak_label_accuracy; `share` in [0, 1].
    """
    c = _check_accuracy(start, generations, labeller=labeller, share=share)
    return labeller + (c - labeller) * (1 - share) ** np.arange(generations + 1)[:, None]


def simulate_weak_labels(
    start: np.ndarray,
    generations: int,
    *,
    labeller: float,
    false_accept: float,
    false_reject: float,
    answers: int = 100,
    repeats: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(R, G + 1, prompts) draws for weak_label_accuracy, `answers` per prompt and round; the rest as there."""
    c = _check_accuracy(start, generations, labeller=labeller, false_accept=false_accept, false_reject=false_reject)
    _check_counts(1, answers=answers, repeats=repeats)

    def learn(c):
        kept_right, kept_wrong = _filtered(c, answers, false_accept, false_reject, rng)
        weak = rng.binomial(answers - kept_right - kept_wrong, labeller)
        return (kept_right + weak) / answers

    return _rounds(c, generations, repeats, learn)


def simulate_filter_only(
    start: np.ndarray,
    generations: int,
    *,
    false_accept: float,
    false_reject: float,
    answers: int = 10_000,
    repeats: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(R, G + 1, prompts) draws for filter_only_accuracy, which holds for many `answers`; the rest as there."""
    c = _check_accuracy(start, generations, false_accept=false_accept, false_reject=false_reject)
    _check_counts(1, answers=answers, repeats=repeats)

    def learn(c):
        right, wrong = _filtered(c, answers, false_accept, false_reject, rng)
        return np.where(right + wrong > 0, right / np.maximum(right + wrong, 1), c)  # nothing kept, nothing learned

    return _rounds(c, generations, repeats, learn)


def simulate_random_labels(
    start: np.ndarray,
    generations: int,
    *,
    labeller: float,
    share: float,
    answers: int = 100,
    repeats: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(R, G + 1, prompts) draws for random_label_accuracy, `answers` per prompt and round; the rest as there."""
    c = _check_accuracy(start, generations, labeller=labeller, share=share)
    _check_counts(1, answers=answers, repeats=repeats)

    def learn(c):
        right = rng.binomial(answers, c)
        lost, replaced_wrong = rng.binomial(right, share), rng.binomial(answers - right, share)
        return (right - lost + rng.binomial(lost + replaced_wrong, labeller)) / answers

    return _rounds(c, generations, repeats, learn)


def _filtered(c: np.ndarray, answers: int, false_accept: float, false_reject: float, rng) -> tuple:
    """Right and wrong answers that the filter lets through."""
    right = rng.binomial(answers, c)
    return rng.binomial(right, 1 - false_reject), rng.binomial(answers - right, false_accept)


def _rounds(c: np.ndarray, generations: int, repeats: int, learn) -> np.ndarray:
    rounds = [np.tile(c, (repeats, 1))]
    for _ in range(generations):
        rounds.append(learn(rounds[-1]))
    return np.stack(rounds, axis=1)


def _check_accuracy(start: np.ndarray, generations: int, **shares: float) -> np.ndarray:
    _check_counts(0, generations=generations)
    _check_shares(start=start, **shares)
    return np.atleast_1d(np.asarray(start, dtype=float))


# --- what is left of a Zipf tail -----------------------------------------------------------------------------------


def ancestors(generations: int, *, tokens: int) -> np.ndarray:
    """(G, N + 1) distribution of L_t-1 in row t - 1: how many tokens of the first generation still have descendants.

        L_0 = N;   L -> L' with chance A[L, L'],   A[a, b] = P(a balls in N boxes occupy b boxes)
        A[a, b] = A[a-1, b] b / N + A[a-1, b-1] (N - b + 1) / N

    Backwards in time each token picks its parent among the N of the generation before: balls into boxes.

    Args:
        generations: G, at least 1.
        tokens:      N per generation, at least 1; the work grows with N^2.

    Raises ValueError for others. Derived for this project.
    """
    _check_counts(1, generations=generations, tokens=tokens)
    rows = [np.eye(1, tokens + 1, tokens)[0]]
    occupied = _occupied(tokens)
    for _ in range(generations - 1):
        rows.append(rows[-1] @ occupied)
    return np.array(rows)


def types_alive(p: np.ndarray, generations: int, *, tokens: int, types: np.ndarray | None = None) -> np.ndarray:
    """Expected number of types still written in generation t, exactly, for any source: (G + 1,).

        E alive_t = sum_{i in types} (1 - E (1 - p_i)^L),   L = L_t-1 of `ancestors`

    The ancestors are independent draws from the source. Tail coverage is this over the number of tail types.

    Args:
        p:           (V,) source; sums to 1. Entry 0 of the result counts the types with p above 0.
        generations: G, at least 0.
        tokens:      N per generation, at least 1.
        types:       (V,) boolean, the types counted (for example ranks above 100); None is all.

    Raises ValueError for another p, N or types. Derived for this project.
    """
    p, types = _types(p, types)
    _check_counts(0, generations=generations)
    lost = np.empty((0, types.sum()))
    if generations:
        lost = polyval(1 - p[types], ancestors(generations, tokens=tokens).T)  # (G, types): generating functions
    return np.append(np.count_nonzero(p[types]), (1 - lost).sum(axis=1))


def types_alive_approximation(
    p: np.ndarray, generations: int, *, tokens: int, types: np.ndarray | None = None
) -> np.ndarray:
    """types_alive without the matrix, a few tokens off: (G + 1,); arguments and errors as there.

        alive_t ~ sum_i (1 - exp(-N p_i (1 - g_t-1))),   g_0 = 0,   g_t = exp(g_t-1 - 1)

    g is the chance that a line of descent has died out when every token has a Poisson(1) number of children.
    """
    p, types = _types(p, types)
    _check_counts(0, generations=generations)
    _check_counts(1, tokens=tokens)
    extinct, alive = 0.0, [float(np.count_nonzero(p[types]))]
    for _ in range(generations):
        alive.append(-np.expm1(-tokens * p[types] * (1 - extinct)).sum())
        extinct = np.exp(extinct - 1)
    return np.array(alive)


def simulate_types(
    p: np.ndarray,
    generations: int,
    *,
    tokens: int,
    types: np.ndarray | None = None,
    repeats: int,
    rng: np.random.Generator,
) -> Curves:
    """(R, G + 1) draws of what N tokens per generation keep of the source, entry 0.

    Returns alive (all types), types_alive (those of `types`), entropy (plug-in, nats) and heterozygosity (1 - sum of
    squares, whose curve is in next_token_moments). Arguments and errors as in types_alive.
    """
    p, types = _types(p, types)
    _check_counts(0, generations=generations)
    _check_counts(1, tokens=tokens, repeats=repeats)
    row, now = np.arange(repeats)[:, None], rng.choice(len(p), p=p, size=(repeats, tokens))
    start = [np.count_nonzero(p), np.count_nonzero(p[types]), special.entr(p).sum(), 1 - p @ p]
    curves = [np.repeat(np.array(start, dtype=float)[:, None], repeats, axis=1)]
    for _ in range(generations):
        count = np.bincount((row * len(p) + now).ravel(), minlength=repeats * len(p)).reshape(repeats, -1)[row, now]
        share = count / tokens  # of a token's own type: a sum over types is a mean over tokens
        curves.append([(1 / count).sum(1), (types[now] / count).sum(1), -np.log(share).mean(1), 1 - share.mean(1)])
        now = now[row, rng.integers(tokens, size=now.shape)]  # every token copies one of the generation before
    names = ("alive", "types_alive", "entropy", "heterozygosity")
    return dict(zip(names, np.array(curves).transpose(1, 2, 0), strict=True))


def _occupied(tokens: int) -> np.ndarray:
    """(N + 1, N + 1): row a is the distribution of the boxes that a balls occupy among N."""
    boxes = np.arange(tokens + 1)
    a = np.zeros((tokens + 1, tokens + 1))
    a[0, 0] = 1.0
    for ball in range(tokens):
        a[ball + 1] = a[ball] * boxes / tokens
        a[ball + 1, 1:] += a[ball, :-1] * (tokens - boxes[:-1]) / tokens
    return a


def _types(p: np.ndarray, types: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    p = _distribution(p)
    types = np.ones(len(p), dtype=bool) if types is None else np.asarray(types)
    if types.dtype != bool or types.shape != p.shape:
        raise ValueError(f"types: {types.dtype} of shape {types.shape}; give a boolean for each of the {len(p)} types")
    return p, types


# --- input ---------------------------------------------------------------------------------------------------------


def _check_counts(least: int, **counts: int) -> None:
    for name, value in counts.items():
        if not np.isfinite(value) or value != int(value) or value < least:
            raise ValueError(f"{name}: {value} does not do; give a whole number of at least {least}")


def _check_rows(features: int, **rows: int) -> None:
    _check_counts(1, features=features, **rows)
    for name, value in rows.items():
        if value < features + 2:
            why = f"{value} leave the expected risk of {features} features infinite"
            raise ValueError(f"{name}: {why}; give at least {features + 2}")


def _check_shares(**shares: np.ndarray | float) -> None:
    for name, value in shares.items():
        if not np.all((np.asarray(value) >= 0) & (np.asarray(value) <= 1)):
            raise ValueError(f"{name}: {value} is not within [0, 1]; give a share or a chance")


def _check_positive(**values: np.ndarray | float) -> None:
    for name, value in values.items():
        if not np.all((np.asarray(value) > 0) & np.isfinite(value)):
            raise ValueError(f"{name}: {value} is not above 0; give a finite positive number")


def _distribution(p: np.ndarray) -> np.ndarray:
    p = np.asarray(p, dtype=float)
    if p.ndim != 1 or not np.all(p >= 0) or not abs(p.sum() - 1) < 1e-9:
        raise ValueError(f"p: {p} is not a distribution over tokens; give a vector >= 0 and divide it by its sum")
    return p / p.sum()  # to the last bit, as numpy's multinomial wants it
