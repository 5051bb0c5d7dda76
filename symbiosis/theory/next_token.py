"""A next-token model that is a table of counts: how its diversity goes, when it is gone, and what an anchor holds."""

import numpy as np
from scipy import special, stats

from symbiosis.theory.checks import as_distribution, check_counts, check_shares
from symbiosis.theory.curves import Curves


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
    mixed = 1 - (as_distribution(p) ** 2).sum()
    check_counts(0, generations=generations)
    check_counts(1, tokens=tokens)
    left = (1 - 1 / tokens) ** np.arange(generations + 1)
    return {"heterozygosity": mixed * left, "purity": 1 - mixed * left, "spread": mixed * (1 - left)}


def simulate_next_token(
    p: np.ndarray, generations: int, *, tokens: int, repeats: int, rng: np.random.Generator
) -> Curves:
    """(R, G + 1) draws of the curves of next_token_moments; arguments and errors as there."""
    source = as_distribution(p)
    check_counts(0, generations=generations)
    check_counts(1, tokens=tokens, repeats=repeats)
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
    check_counts(1, tokens=tokens)
    rest = 1 - as_distribution(p)
    return float(-2 * tokens * special.xlogy(rest, rest).sum())


def collapse_time_of_two(p: float, *, tokens: int) -> float:
    """Exact mean generations until one of two tokens is left, by the absorbing chain.

        E[T] = 1 + sum_k Binomial(N, p)(k) h_k,   h_0 = h_N = 0,   h_k = 1 + sum_l Binomial(N, k/N)(l) h_l

    Args:
        p:      probability of the first token, strictly between 0 and 1.
        tokens: N drawn per generation, at least 1; solves N - 1 equations.

    Raises ValueError for another p or N. First-step analysis, derived for this project.
    """
    check_counts(1, tokens=tokens)
    check_shares(p=p)
    if p in (0, 1):
        raise ValueError(f"p: at {p} one token is left already; give one strictly between 0 and 1")
    inner = np.arange(1, tokens)
    steps = stats.binom.pmf(inner, tokens, inner[:, None] / tokens)  # (N - 1, N - 1) between states not absorbed
    h = np.linalg.solve(np.eye(tokens - 1) - steps, np.ones(tokens - 1))
    return 1 + float(stats.binom.pmf(inner, tokens, p) @ h)


def simulate_collapse_time(p: np.ndarray, *, tokens: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """(R,) generations until one token is left; arguments and errors as in next_token_moments."""
    now = np.tile(as_distribution(p), (repeats, 1))
    check_counts(1, tokens=tokens, repeats=repeats)
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
    check_counts(1, repeats=repeats)
    squared, l1 = np.empty((2, repeats, generations + 1))
    now = np.tile(p, (repeats, 1))
    for m in range(generations + 1):
        squared[:, m], l1[:, m] = ((now - p) ** 2).sum(axis=1), abs(now - p).sum(axis=1)
        now = (1 - a) * p + a * rng.multinomial(synthetic_tokens, now) / synthetic_tokens
    return {"distance_squared": squared, "distance_l1": l1}


def _anchored(p: np.ndarray, generations: int, real: int, synthetic: int) -> tuple[np.ndarray, float]:
    check_counts(0, generations=generations)
    check_counts(1, real_tokens=real, synthetic_tokens=synthetic)
    return as_distribution(p), synthetic / (real + synthetic)
