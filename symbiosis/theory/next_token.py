"""A next-token model that is a table of counts: its diversity, the types it keeps, and when only one is left."""

import numpy as np
from numpy.random import Generator
from scipy import special
from scipy.linalg import solve_triangular

from symbiosis.theory.checks import Curves, as_distribution, check_counts


def next_token_moments(p: np.ndarray, generations: int, *, tokens: int, real_tokens: int = 0) -> Curves:
    """Diversity of a next-token distribution that is counted, sampled and counted again, with or without real tokens.

        p_m+1 = (1 - a) p_0 + a Multinomial(n, p_m) / n,   a = n / (N + n)
        V_m+1 = a^2 ((1 - 1/n) V_m + (1 - S) / n),   V_0 = 0,   V = E ||p_m - p_0||_2^2,   S = sum_i p_i(0)^2
        E[1 - sum_i p_i^2] = 1 - S - V

    Without real tokens (a = 1, Wright-Fisher) 1 - S - V = (1 - S) (1 - 1/n)^m falls to 0. With them V stays below
    a^2 (1 - S) / (n (1 - a^2 (1 - 1/n))): no collapse.

    Args:
        p:           (V,) source p_0, or its estimate from the real tokens; sums to 1.
        generations: G, at least 0.
        tokens:      n written and counted per generation, at least 1.
        real_tokens: N behind p_0, counted again in every generation; 0 is none.

    Returns (G + 1,) curves: heterozygosity (chance that two tokens differ), distance_squared (V), which bounds
    E ||p_m - p_0||_1 by sqrt(types V). Raises ValueError for other arguments.

    Seddik et al., arXiv 2404.05090; V with real tokens is derived for this project.
    """
    p = as_distribution(p)
    check_counts(0, generations=generations, real_tokens=real_tokens)
    check_counts(1, tokens=tokens)
    mixed, a = 1 - (p**2).sum(), tokens / (real_tokens + tokens)
    kept = a**2 * (1 - 1 / tokens)
    distance = a**2 * mixed / (tokens * (1 - kept)) * (1 - kept ** np.arange(generations + 1))
    return {"heterozygosity": mixed - distance, "distance_squared": distance}


def types_alive(p: np.ndarray, generations: int, *, tokens: int, types: np.ndarray | None = None) -> np.ndarray:
    """Expected richness: the number of types still written in generation t, exactly, for any source: (G + 1,).

        E alive_t = sum_{i in types} (1 - E (1 - p_i)^L),   L = L_t-1,   L_0 = N
        L -> L' with chance A[L, L'],   A[a, b] = P(a balls in N boxes occupy b boxes)

    L counts the tokens of the first generation that still have descendants: backwards in time each token picks its
    parent among the N of the generation before. The ancestors are independent draws from the source. Tail coverage is
    this over the number of tail types.

    Args:
        p:           (V,) source; sums to 1. Entry 0 of the result counts the types with p above 0.
        generations: G, at least 0.
        tokens:      N per generation, at least 1; the work grows with N^2.
        types:       (V,) boolean, the types counted (for example ranks above 100); None is all.

    Raises ValueError for another p, N or types. The coalescent of Wright and Fisher, derived for this project.
    """
    p, types = _types(p, types)
    check_counts(0, generations=generations)
    check_counts(1, tokens=tokens)
    ancestors, occupied = [np.eye(1, tokens + 1, tokens)[0]], _occupied(tokens)
    for _ in range(generations - 1):
        ancestors.append(ancestors[-1] @ occupied)
    ancestors = np.array(ancestors[:generations]).reshape(generations, tokens + 1)
    alive, seen = np.zeros(generations), np.zeros(types.sum())
    for n in range(1, tokens + 1):
        seen += p[types] * (1 - seen)  # 1 - (1 - p)^n, to the last digit of a tiny p
        alive += ancestors[:, n] * seen.sum()
    return np.append(np.count_nonzero(p[types]), alive)


def collapse_time(p: np.ndarray, *, tokens: int) -> float:
    """Mean generations until one type is left, exactly, for any source.

        E[T] = sum_{t>=0} P(T > t) = 1 + sum_{t>=1} (1 - sum_i E p_i^L),   L = L_t-1 as in types_alive

    For many tokens about -2 N sum_i (1 - p_i) ln(1 - p_i) (Kimura's diffusion), 2 N at most whatever the vocabulary;
    far from it where a type is rare (N p_i below 1). Arguments and errors as in types_alive; derived for this project.
    """
    p = as_distribution(p)
    check_counts(1, tokens=tokens)
    if p.max() == 1:
        return 0.0
    if tokens == 1:
        return 1.0
    among = np.arange(2, tokens + 1)
    undecided = 1 - (p ** among[:, None]).sum(axis=1)  # chance that so many draws are not all of one type
    going = np.eye(tokens - 1) - _occupied(tokens)[2:, 2:]  # lower triangular: lines of descent only merge
    return 1.0 + float(solve_triangular(going, undecided, lower=True)[-1])


def simulate_types(
    p: np.ndarray, generations: int, *, tokens: int, types: np.ndarray | None = None, repeats: int, rng: Generator
) -> Curves:
    """(R, G + 1) draws of what N tokens per generation keep of the source, entry 0.

    Returns alive (all types), types_alive (those of `types`), entropy (plug-in, nats) and heterozygosity (as in
    next_token_moments). Arguments and errors as in types_alive.
    """
    p, types = _types(p, types)
    check_counts(0, generations=generations)
    check_counts(1, tokens=tokens, repeats=repeats)
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
    p = as_distribution(p)
    types = np.ones(len(p), dtype=bool) if types is None else np.asarray(types)
    if types.dtype != bool or types.shape != p.shape:
        raise ValueError(f"types: {types.dtype} of shape {types.shape}; give a boolean for each of the {len(p)} types")
    return p, types
