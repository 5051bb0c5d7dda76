"""A next-token model that is a table of counts: its diversity, the types it keeps, and when only one is left."""

import numpy as np
from numpy.random import Generator
from scipy import special, stats
from scipy.linalg import solve_triangular

from symbiosis.theory.checks import Curves, as_distribution, check_counts, check_draws, check_range


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

    Returns (G + 1,) curves: heterozygosity (chance that two tokens differ: 1 less the homozygosity, Simpson's index),
    distance_squared (V, the total variance), which bounds E ||p_m - p_0||_1 by sqrt(types V).

    Seddik et al., arXiv 2404.05090; V with real tokens is derived for this project.
    """
    p = as_distribution(p)
    check_counts(0, generations=generations, real_tokens=real_tokens)
    check_counts(1, tokens=tokens)
    mixed, a = 1 - (p**2).sum(), tokens / (real_tokens + tokens)
    kept = a**2 * (1 - 1 / tokens)
    distance = a**2 * mixed / (tokens * (1 - kept)) * (1 - kept ** np.arange(generations + 1))
    return {"heterozygosity": mixed - distance, "distance_squared": distance}


def types_alive(
    p: np.ndarray, generations: int, *, tokens: int, real_tokens: int = 0, types: np.ndarray | None = None
) -> np.ndarray:
    """Expected richness: the types in the table of generation t, exactly, for any source: (G + 1,).

        E alive_t = sum_{i in types} 1 - (1 - p_i)^N (1 - v_t(n)),     v_1(a) = 1 - (1 - p_i)^a
        v_t+1(a)  = E[1 - (1 - p_i)^J (1 - v_t(B))]

    v_t(a) is the chance that type i is among a tokens written in generation t. Of their parents in the table before,
    J are distinct real tokens and B distinct written ones: Binomial(a, N / (n + N)) of the a fall on J of N boxes, the
    others on B of n. Without real tokens this is the coalescent of Wright and Fisher (Ewens, Mathematical Population
    Genetics, 2004, chapter 3). Tail coverage is the result over the number of tail types; the expected tail mass,
    sum_i p_i, never moves.

    Args:
        p:           (V,) source; sums to 1. Entry 0 of the result counts the types with p above 0.
        generations: G, at least 0.
        tokens:      n written per generation, at least 1, by the table before; the first n come from the source.
        real_tokens: N drawn from the source anew in every generation and counted beside; a share N / (n + N) is real.
        types:       (V,) boolean, the types counted (for example ranks above 100); None is all.

    The work grows with n^2, with real tokens times the types counted.
    The step with real tokens is derived for this project.
    """
    p = as_distribution(p)
    check_counts(0, generations=generations, real_tokens=real_tokens)
    check_counts(1, tokens=tokens)
    counted = p[_which(types, p)]
    written = _drawn(counted, tokens)  # v_1
    real = _drawn(counted, real_tokens)
    fresh, n = real[:, -1], np.arange(tokens + 1)
    parents = stats.binom.pmf(n, n[:, None], real_tokens / (tokens + real_tokens))  # (a, those of a that are real)
    if not real_tokens:  # all steps are linear: sum over types first
        written, real, fresh = written.sum(axis=0, keepdims=True), np.zeros((1, 1)), 0.0
    real = real @ _occupied(tokens, real_tokens).T  # (types, n + 1) by the tokens that copy a real one
    by_real, missed, alive = real @ parents.T, 1 - real, [np.count_nonzero(counted)]
    occupied = _occupied(tokens, tokens)
    for _ in range(generations):
        alive.append(np.sum(fresh + (1 - fresh) * written[:, -1]))
        own, written = written @ occupied.T, by_real.copy()
        for copied in range(tokens + 1 if real_tokens else 1):  # of the tokens' parents that many are real
            chance = parents[copied:, copied] * missed[:, copied, None]
            written[:, copied:] += chance * own[:, : tokens + 1 - copied]
    return np.array(alive, dtype=float)


def tail_mass(generations: int, *, kept: float, real_share: float = 0.0) -> np.ndarray:
    """Tail mass of the rows of generations 0..G, in units of the truth's: (G + 1,), expected.

        m_0 = 1,   m_t+1 = r + (1 - r) k m_t,   m_t = m + (1 - m) ((1 - r) k)^t,   m = r / (1 - (1 - r) k)

    Sampling alone leaves it where it is (k = 1), whatever the real share; a writer that favours what is likely loses
    it, and the real share r decides where that ends. Held from outside, m is 1 for every r.

    Args:
        kept:       k, the share of the tail mass it has read that a writer writes, in [0, 1].
        real_share: r, the share of the rows that is real and drawn anew.
    """
    check_counts(0, generations=generations)
    check_range("[0, 1]", kept=kept, real_share=real_share)
    falls = (1 - real_share) * kept
    end = real_share / (1 - falls) if falls < 1 else 1.0
    return end + (1 - end) * falls ** np.arange(generations + 1)


def collapse_time(p: np.ndarray, *, tokens: int) -> float:
    """Mean generations until one type is left, exactly, for any source.

        E[T] = sum_{t>=0} P(T > t) = 1 + sum_{t>=1} (1 - sum_i E p_i^L)

    with L the distinct ancestors, t - 1 generations back, of N tokens. For many tokens it is about the absorption time
    of Kimura's diffusion, -2 N sum_i (1 - p_i) ln(1 - p_i) (Ewens 2004, chapters 3 and 5), 2 N at most whatever the
    vocabulary; far from it where a type is rare (N p_i below 1). Arguments and errors as in types_alive; derived here.
    """
    p = as_distribution(p)
    check_counts(1, tokens=tokens)
    if p.max() == 1:
        return 0.0
    if tokens == 1:
        return 1.0
    among = np.arange(2, tokens + 1)
    undecided = 1 - (p ** among[:, None]).sum(axis=1)  # chance that so many draws are not all of one type
    going = np.eye(tokens - 1) - _occupied(tokens, tokens)[2:, 2:]  # lower triangular: lines of descent only merge
    return 1.0 + float(solve_triangular(going, undecided, lower=True)[-1])


def simulate_types(
    p: np.ndarray,
    generations: int,
    *,
    tokens: int,
    real_tokens: int = 0,
    types: np.ndarray | None = None,
    repeats: int,
    rng: Generator,
) -> Curves:
    """(R, G + 1) draws of what the tokens of a generation keep of the source, entry 0.

    Returns alive (all types), types_alive (those of `types`), entropy (plug-in, nats) and heterozygosity (as in
    next_token_moments). Arguments and errors as in types_alive.
    """
    p = as_distribution(p)
    types = _which(types, p)
    check_counts(0, generations=generations, real_tokens=real_tokens)
    check_counts(1, tokens=tokens)
    check_draws(rng, repeats=repeats)
    row, now = np.arange(repeats)[:, None], rng.choice(len(p), p=p, size=(repeats, tokens + real_tokens))
    start = [np.count_nonzero(p), np.count_nonzero(p[types]), special.entr(p).sum(), 1 - p @ p]
    curves = [np.repeat(np.array(start, dtype=float)[:, None], repeats, axis=1)]
    for _ in range(generations):
        count = np.bincount((row * len(p) + now).ravel(), minlength=repeats * len(p)).reshape(repeats, -1)[row, now]
        share = count / now.shape[1]  # of a token's own type: a sum over types is a mean over tokens
        curves.append([(1 / count).sum(1), (types[now] / count).sum(1), -np.log(share).mean(1), 1 - share.mean(1)])
        now = now[row, rng.integers(now.shape[1], size=(repeats, tokens))]  # each copies one of the generation before
        now = np.hstack([now, rng.choice(len(p), p=p, size=(repeats, real_tokens))])
    names = ("alive", "types_alive", "entropy", "heterozygosity")
    return dict(zip(names, np.array(curves).transpose(1, 2, 0), strict=True))


def _occupied(balls: int, boxes: int) -> np.ndarray:
    """(balls + 1, boxes + 1): row a is the distribution of the boxes that a balls occupy; without boxes, of none."""
    taken = np.arange(boxes + 1)
    a = np.zeros((balls + 1, boxes + 1))
    a[0, 0] = 1.0
    for ball in range(balls if boxes else 0):
        a[ball + 1] = a[ball] * taken / boxes
        a[ball + 1, 1:] += a[ball, :-1] * (boxes - taken[:-1]) / boxes
    return a


def _drawn(p: np.ndarray, draws: int) -> np.ndarray:
    """(types, draws + 1) chance 1 - (1 - p)^a of being among a draws, to the last digit of a tiny p."""
    seen = np.zeros((len(p), draws + 1))
    for a in range(draws):
        seen[:, a + 1] = seen[:, a] + p * (1 - seen[:, a])
    return seen


def _which(types: np.ndarray | None, p: np.ndarray) -> np.ndarray:
    types = np.ones(len(p), dtype=bool) if types is None else np.asarray(types)
    if types.dtype != bool or types.shape != p.shape:
        raise ValueError(f"types: {types.dtype} of shape {types.shape}; give a boolean for each of the {len(p)} types")
    return types
