"""What is left of a Zipf tail, or of any source: the types that sampling from one's own samples keeps alive."""

import numpy as np
from numpy.polynomial.polynomial import polyval
from scipy import special

from symbiosis.theory.checks import as_distribution, check_counts
from symbiosis.theory.curves import Curves


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
    check_counts(1, generations=generations, tokens=tokens)
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
    check_counts(0, generations=generations)
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
    check_counts(0, generations=generations)
    check_counts(1, tokens=tokens)
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
    squares, whose curve is in next_token.next_token_moments). Arguments and errors as in types_alive.
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
