"""Measures of how varied a corpus is: words, phrases, frames, known sources, embeddings, several models. numpy, scipy.

A word is what stands between white space: case and punctuation stay, so "The", "the" and "the," are three words. In
scripts that part no words by white space (Han, kana, Thai, ...) each character is one: see `data.characters.words`.
No phrase crosses from one text into the next. Nearly every measure moves with the size of the corpus: compare at equal
numbers of words (`equal_tokens`), and against what chance alone does to real text (`lessons.null_band`).
What is not defined (no texts, no text long enough) is nan; what would give a wrong number in silence is a ValueError.
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from scipy import optimize, sparse, special

from symbiosis.data import characters

SLOT = "_"  # stands for any word outside a frame, in `skeletons`


# --- words and phrases ---------------------------------------------------------------------------------------------
def distinct_n(texts: Sequence[str], n: int = 2) -> float:
    """Share of the word n-grams of a corpus that are different ones.

        distinct_n = |set of n-grams| / number of n-grams,   in (0, 1]; nan where no text has n words

    Falls with the size of the corpus: compare at equal numbers of words only. Li et al. 2016, arXiv 1510.03055.
    """
    grams = [g for words in _words(texts) for g in zip(*(words[i:] for i in range(n)), strict=False)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def unique_share(texts: Sequence[str]) -> float:
    """Share of texts that are different ones, in (0, 1]; nan for no texts."""
    texts = _texts(texts)
    return len(set(texts)) / len(texts) if len(texts) else float("nan")


def self_bleu(texts: Sequence[str], n: int = 4) -> float:
    """Mean BLEU-n of each text against all others: 1 where every text has a copy, 0 where none shares an n-gram.

        BLEU(i) = exp(min(0, 1 - r_i / c_i)) * prod_{m=1..n} (clipped m-gram matches of i / m-grams of i)^(1/n)

    c_i is the length of text i, r_i the closest length among the others (the shorter of two equally close); an m-gram
    matches at most as often as it stands in the one other text that has most of it. No smoothing: a text without a
    common n-gram counts 0. High means little variety. Texts of fewer than n words have no n-gram and are left out, as
    ones to compare with, too; `n_long_enough` says how many stay. nan for fewer than two of these.

    Zhu et al. 2018, arXiv 1802.01886; BLEU: Papineni et al. 2002, ACL. No smoothing is this project's choice.
    """
    words = [found for found in _words(texts) if len(found) >= n]
    if len(words) < 2:
        return float("nan")
    lengths, log_bleu = np.array([len(w) for w in words]), np.zeros(len(words))
    with np.errstate(divide="ignore"):  # log 0 = -inf is a BLEU of 0
        for order, (text, gram) in enumerate(_grams(words, n), 1):
            log_bleu += np.log(_clipped_matches(text, gram, len(words)) / (lengths - order + 1)) / n
    log_brevity = np.minimum(0, 1 - _closest_lengths(lengths) / lengths)
    return float(np.exp(log_bleu + log_brevity).mean())


def n_long_enough(texts: Sequence[str], n: int = 4) -> int:
    """Texts of n words or more: those that `self_bleu` is the mean of."""
    return sum(len(found) >= n for found in _words(texts))


def compression_ratio(texts: Sequence[str]) -> float:
    """How many times smaller zlib (level 9) makes the corpus: bytes before / bytes after; nan for no characters.

    The texts are joined by one space, in UTF-8. Below 1 for a few words, at most about 1,030; high means less variety.
    It sees repetition within 32 kB only, and its last digits depend on the build of zlib.

    Shaib et al. 2024, arXiv 2403.00553 (which uses gzip).
    """
    raw = " ".join(_texts(texts)).encode()
    return len(raw) / len(zlib.compress(raw, 9)) if raw else float("nan")


# --- sentence frames -----------------------------------------------------------------------------------------------
def frame_words(texts: Sequence[str], k: int = 100) -> list[str]:
    """The k most frequent words, in English mostly function words; ties in alphabetical order.

    Take them from the real corpus and use the same list for every corpus compared.
    """
    counts = Counter(chain.from_iterable(_words(texts)))
    return sorted(counts, key=lambda word: (-counts[word], word))[:k]


def skeletons(texts: Sequence[str], frame: Sequence[str]) -> list[str]:
    """The texts with every word outside the frame replaced by "_": "the _ of the _ is _". Any text measure fits."""
    kept = frozenset(_texts(frame))
    return [" ".join(word if word in kept else SLOT for word in words) for words in _words(texts)]


def template_diversity(texts: Sequence[str], frame: Sequence[str], n: int = 4) -> float:
    """Distinct-n of the texts' skeletons: variety of sentence frames, whatever fills them. In (0, 1]; nan as there.

    A stand-in for syntactic templates (n-grams of parts of speech: Shaib et al. 2024, arXiv 2407.00211) that needs no
    parser. Skeletons of frequent words are this project's choice: the number is not comparable with theirs.
    """
    return distinct_n(skeletons(texts, frame), n)


# --- word frequencies and a known source ---------------------------------------------------------------------------
def ranked_counts(texts: Sequence[str]) -> np.ndarray:
    """(types,) how often each word of a corpus occurs, most frequent first; empty for no words."""
    return np.array(sorted(Counter(chain.from_iterable(_words(texts))).values(), reverse=True), dtype=np.int64)


def entropy(p: np.ndarray) -> float:
    """Shannon entropy H = -sum_v p[v] ln p[v] of a distribution (V,), in nats, in [0, ln V].

    Of the frequencies of N draws it is too low by about (types - 1) / 2N (Miller 1955).
    """
    return float(special.entr(_distribution(p, "p")).sum())


def kl_divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p | q) = sum_v p[v] ln(p[v] / q[v]) of distributions (V,), in nats, >= 0; inf where p has what q lacks.

    For a corpus against its known source give p = frequencies, q = source: the reverse is inf as soon as one rare type
    was not drawn (for that, `js_divergence`). N draws from q itself have about (V - 1) / 2N.
    """
    p, q = _two_distributions(p, q)
    return float(special.rel_entr(p, q).sum())


def js_divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon JS = KL(p | m) / 2 + KL(q | m) / 2, m = (p + q) / 2, in nats, in [0, ln 2]. Lin 1991."""
    p, q = _two_distributions(p, q)
    m = (p + q) / 2
    return float((special.rel_entr(p, m) + special.rel_entr(q, m)).sum() / 2)


def zipf_exponent(counts: np.ndarray) -> float:
    """Maximum likelihood exponent s of p[r] = r^-s / sum_{k<=K} k^-s, r = 1..K: the s at which E_s[ln r] is observed.

        s = argmin_s  s * sum_r counts[r] ln r + N ln sum_{r<=K} r^-s

    Args:
        counts: (K,) in order of rank. With a known source: its order, zeros kept. Else `ranked_counts`: the ranks are
            then those of the sample, which puts s slightly too high (1.0025 for 1 with 20,000 words of 1,000 types).

    inf where only rank 1 occurs, -inf where only rank K does, nan for fewer than two ranks or no counts.

    A line through log count against log rank is no substitute: it gives 1.10 there. Clauset et al. 2009, SIAM Review
    51:661; for ranks of words: Moreno-Sanchez et al. 2016, PLoS ONE 11:e0147073.
    """
    counts = np.asarray(counts, dtype=float)
    _check(np.all((counts >= 0) & np.isfinite(counts)), "counts: needs numbers from 0 up")
    if len(counts) < 2 or not counts.any():
        return float("nan")
    if not counts[1:].any() or not counts[:-1].any():
        return float("inf") if counts[0] else float("-inf")
    log_rank = np.log(np.arange(1, len(counts) + 1))
    observed = counts @ log_rank / counts.sum()

    def excess(s: float) -> float:  # falls in s, from above 0 to below
        return float(special.softmax(-s * log_rank) @ log_rank) - observed

    low, high = -1.0, 1.0
    while excess(low) < 0:
        low *= 2
    while excess(high) > 0:
        high *= 2
    return float(optimize.brentq(excess, low, high, xtol=1e-13))


def tail_types(p: np.ndarray, mass: float = 0.1) -> np.ndarray:
    """(V,) bool: the rarest types of a source that together hold at most `mass`, in [0, 1], of its probability.

    Types of equal probability enter from the last one on.
    """
    p = _distribution(p, "p")
    rarest_first = np.argsort(-p, kind="stable")[::-1]
    tail = np.zeros(len(p), dtype=bool)
    tail[rarest_first[p[rarest_first].cumsum() <= mass + 1e-12]] = True
    return tail


def tail_coverage(counts: np.ndarray, tail: np.ndarray) -> float:
    """Share of the tail types that occur at all, in [0, 1]; nan for an empty tail.

    Args:
        counts: (V,) occurrences of each type of the source.
        tail:   (V,) bool, fixed by the source (`tail_types`, or rank > r), never by the corpus measured.
    """
    counts, tail = np.asarray(counts), np.asarray(tail)
    _check(tail.dtype == bool, f"tail: needs bool, got {tail.dtype}")  # numbers would be taken for places
    return float((counts[tail] > 0).mean()) if tail.any() else float("nan")


# --- embeddings ----------------------------------------------------------------------------------------------------
def vendi(embeddings: np.ndarray) -> float:
    """Effective number of different rows: exp of the entropy of the eigenvalues of their cosine similarities / n.

        exp(-sum_i l_i ln l_i),   l = eigenvalues of X X^T / n, X the rows at unit length

    Args:
        embeddings: (n, d), no row all zeros.

    In [1, min(n, d)]; 1 if all rows point one way, n if orthogonal; nan for no rows. Grows with n: compare at equal n.

    Friedman and Dieng 2023, arXiv 2210.02410.
    """
    x = _unit_rows(embeddings)
    if not len(x):
        return float("nan")
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x  # both have the same eigenvalues but for zeros
    eigenvalues = np.linalg.eigvalsh(gram / len(x)).clip(0)  # rounding can leave -1e-17
    return float(np.exp(special.entr(eigenvalues).sum()))


def semantic_dispersion(embeddings: np.ndarray) -> float:
    """Mean cosine distance over the pairs of different rows.

        1 - (|sum_i e_i|^2 - n) / (n (n - 1)),   e_i the rows of (n, d) at unit length

    In [0, n / (n - 1)]; 0 if all point one way, 1 if orthogonal; nan for fewer than two rows. Does not depend on n on
    average. Leaving out the pair of a row with itself is what `remote_clique` does not do: it is (n - 1) / n of this.
    """
    x, n = _unit_rows(embeddings), len(embeddings)
    return float(1 - (np.square(x.sum(axis=0)).sum() - n) / (n * (n - 1))) if n > 1 else float("nan")


def mauve(a: np.ndarray, b: np.ndarray, *, rng: np.random.Generator, bins: int | None = None, c: float = 5.0) -> float:
    """Likeness of two sets of embeddings, in (0, 1]: `mauve_of_histograms` over bins found on both together.

    The bins are the cells of k-means (20 rounds, started from random rows) on the principal components that hold 90 %
    of the variance; the rows are taken as they are, so bring them to unit length first if only direction should count.

    Args:
        a, b: (n_a, d) and (n_b, d) features from any one model, at least one row each; equal numbers compare fairly.
        bins: cells; by default a tenth of the smaller set, at least 2.

    nan where all rows are equal. Two halves of one corpus stay below 1, the lower the more bins. Numbers hold within
    one choice of features and bins.
    Pillutla et al. 2021, arXiv 2102.01454, whose text model and k-means are other ones.
    """
    a, b = _rows(a), _rows(b)
    both = np.concatenate([a, b])
    bins = max(2, round(min(len(a), len(b)) / 10)) if bins is None else bins
    _check(len(a) and len(b), "embeddings: one of the two sets has no rows")
    _check(bins <= len(both), f"bins: {bins} for {len(both)} rows; take fewer")
    if not (both != both[:1]).any():
        return float("nan")
    cell = _k_means(_principal_components(both), bins, rng)
    p, q = (np.bincount(part, minlength=bins) / len(part) for part in (cell[: len(a)], cell[len(a) :]))
    return mauve_of_histograms(p, q, c)


def mauve_of_histograms(p: np.ndarray, q: np.ndarray, c: float = 5.0) -> float:
    """Area below the curve (exp(-c KL(q | r)), exp(-c KL(p | r))), r = l p + (1 - l) q, l from 0 to 1, to the axes.

    Args:
        p, q: (B,) distributions over the same bins; sum to 1.
        c:    scale > 0; 5 is the paper's.

    In (0, 1]: 1 for p = q, 1 / binom(2c, c) for distributions without a common bin (1/252 at c = 5). Symmetric.

    Pillutla et al. 2021, arXiv 2102.01454. Integrated along l to rounding error: their 25 points, sorted by coordinate,
    are off in the fourth digit and can go wrong on ties.
    """
    p, q = _two_distributions(p, q)
    # With l = 1 / (1 + exp(-t)) the integrand of 1 - area = int (1 - y) (-dx/dt) dt is smooth and dies off like
    # exp(-|t|) on both sides, even where x or y jumps at an end, so equal steps converge to rounding error.
    t, step = np.linspace(-40, 40, 641, retstep=True)
    share, rest = special.expit(t)[:, None], special.expit(-t)[:, None]  # l and 1 - l
    either = (p > 0) | (q > 0)
    p, q = p[either], q[either]
    r = share * p + rest * q
    x, y_below_one = np.exp(-c * special.rel_entr(q, r).sum(1)), -np.expm1(-c * special.rel_entr(p, r).sum(1))
    fall = c * x * (share * rest * q * (q - p) / r).sum(1)  # -dx/dt
    return float(1 - step * (y_below_one * fall).sum())


def homogenisation(embeddings: np.ndarray) -> tuple[float, float]:
    """How alike several models answer: mean cosine of two models on one prompt, and on two prompts: (same, different).

        same      = mean over prompts x and models k < l of       cos(e[k, x], e[l, x])
        different = mean over prompts x != y and models k < l of  cos(e[k, x], e[l, y])

    Args:
        embeddings: (K, X, d) of K models' answers to X prompts, in the same order of prompts; no row all zeros.

    Both in [-1, 1]; nan for one model (same, different) or one prompt (different). `different` is the baseline:
    encoders put any two texts at a positive cosine, so only the excess of same over different speaks.

    After Padmakumar and He 2023, arXiv 2309.05196; the baseline is this project's choice.
    """
    e = np.asarray(embeddings, dtype=float)
    n_models, n_prompts, d = e.shape
    e = _unit_rows(e.reshape(-1, d)).reshape(e.shape)
    of_prompt = np.square(e.sum(axis=0)).sum() - n_models * n_prompts  # ordered pairs of models, one prompt
    of_model = np.square(e.sum(axis=1)).sum()  # all pairs of prompts, one model
    of_all = np.square(e.sum(axis=(0, 1))).sum()
    pairs = n_models * (n_models - 1) * n_prompts
    same = of_prompt / pairs if pairs else np.nan
    different = (of_all - of_model - of_prompt) / (pairs * (n_prompts - 1)) if pairs and n_prompts > 1 else np.nan
    return float(same), float(different)


# --- texts ---------------------------------------------------------------------------------------------------------
def equal_tokens(texts: Sequence[str], n_tokens: int, rng: np.random.Generator) -> list[str]:
    """A random part of n_tokens words: whole texts in random order, the last one cut short; none where too few words.

    The texts come back with single spaces.
    """
    words = _words(texts)
    order = rng.permutation(len(words)) if sum(map(len, words)) >= n_tokens else []
    taken, missing = [], n_tokens
    for i in order:
        if missing > 0:
            taken.append(" ".join(words[i][:missing]))
            missing -= len(words[i])
    return taken


def _words(texts: Sequence[str]) -> list[list[str]]:
    return [characters.words(text) for text in _texts(texts)]


def _texts(texts: Sequence[str]) -> Sequence[str]:
    """The texts, if they are a list of them: one string would be taken for a list of characters."""
    _check(not isinstance(texts, str), "texts: is one string; give a list of texts")
    for i, text in enumerate(texts):
        _check(isinstance(text, str), f"texts[{i}]: {text!r} is not a text; fill it or leave it out")
    return texts


def _check(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(message)


# --- n-grams as integers -------------------------------------------------------------------------------------------
def _grams(words: list[list[str]], n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each order 1..n the n-grams of a corpus: (text it stands in, id from 0 without gaps), both (grams,)."""
    index: dict[str, int] = {}
    word = np.array([index.setdefault(w, len(index)) for w in chain.from_iterable(words)], dtype=np.int64)
    lengths = np.array([len(w) for w in words])
    text = np.repeat(np.arange(len(words)), lengths)
    room = np.cumsum(lengths)[text] - np.arange(len(word))  # words from here to the end of the text
    start, gram = np.arange(len(word)), word
    yield text, gram
    for order in range(2, n + 1):
        fits = room[start] >= order
        start = start[fits]
        longer = gram[fits] * len(index) + word[start + order - 1]
        gram = np.unique(longer, return_inverse=True)[1]  # small again, so that the product cannot overflow
        yield text[start], gram


def _clipped_matches(text: np.ndarray, gram: np.ndarray, n_texts: int) -> np.ndarray:
    """(n_texts,) sum over a text's different n-grams of min(count in it, largest count in any one other text).

    The largest count among the others is the largest of all, except for the text that owns it: there, the second.
    """
    key, count = np.unique(gram * n_texts + text, return_counts=True)
    gram, text = np.divmod(key, n_texts)
    order = np.lexsort((count, gram))
    gram, text, count = gram[order], text[order], count[order]
    owner = np.flatnonzero(np.append(gram[1:] != gram[:-1], True)[: len(gram)])  # the last row of each n-gram
    others = count[owner][gram]
    shared = (owner > 0) & (gram[owner - 1] == gram[owner])
    others[owner] = np.where(shared, count[owner - 1], 0)
    return np.bincount(text, weights=np.minimum(count, others), minlength=n_texts)


def _closest_lengths(lengths: np.ndarray) -> np.ndarray:
    """(n,) for each of n >= 2 lengths the closest one among the others, the shorter of two equally close."""
    value, index, count = np.unique(lengths, return_inverse=True, return_counts=True)
    below, above = np.append(-np.inf, value[:-1]), np.append(value[1:], np.inf)
    nearest = np.where(value - below <= above - value, below, above)
    return np.where(count > 1, value, nearest)[index]


# --- distributions and embeddings ----------------------------------------------------------------------------------
def _distribution(p: np.ndarray, name: str) -> np.ndarray:
    p = np.asarray(p, dtype=float)
    fits = p.ndim == 1 and np.all(p >= 0) and abs(p.sum() - 1) < 1e-6
    _check(fits, f"{name}: is not a distribution: a vector that is >= 0 and sums to 1 (shape {p.shape}, sum {p.sum()})")
    return p


def _two_distributions(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, q = _distribution(p, "p"), _distribution(q, "q")
    _check(p.shape == q.shape, f"shapes differ: p {p.shape}, q {q.shape}")
    return p, q


def _rows(embeddings: np.ndarray) -> np.ndarray:
    x = np.asarray(embeddings, dtype=float)
    fits = x.ndim == 2 and np.isfinite(x).all()
    _check(fits, f"embeddings: needs finite numbers of shape (n, d), got shape {x.shape}")
    return x


def _unit_rows(embeddings: np.ndarray) -> np.ndarray:
    x = _rows(embeddings)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    _check(length.all(), "embeddings: a row is all zeros and has no direction")
    return x / length


def _principal_components(x: np.ndarray, share: float = 0.9) -> np.ndarray:
    """(n, k) scores on the fewest principal components that hold `share` of the variance, k >= 1."""
    x = x - x.mean(axis=0)
    variance, axes = np.linalg.eigh(x.T @ x)
    held = variance[::-1].clip(0).cumsum()
    return x @ axes[:, ::-1][:, : 1 + int(np.searchsorted(held, share * held[-1]))]


def _k_means(x: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) cell of each row after at most 20 of Lloyd's rounds from k different random rows.

    An empty cell keeps its centre; where there are no more than k different rows, each is a cell.
    """
    x = x.astype(np.float32)
    different, same_as = np.unique(x, axis=0, return_inverse=True)
    if len(different) <= k:
        return same_as
    chosen, row_ends = rng.choice(len(x), k, replace=False), np.arange(len(x) + 1)
    found = np.unique(same_as[chosen])
    centres = x[chosen]
    if len(found) < k:  # copies of one row are no two centres
        others = np.setdiff1d(np.arange(len(different)), found)
        centres = different[np.append(found, rng.choice(others, k - len(found), replace=False))]
    for _ in range(20):
        cell = (np.square(centres).sum(axis=1) / 2 - x @ centres.T).argmin(axis=1)
        member = sparse.csr_array((np.ones(len(x), np.float32), cell, row_ends), shape=(len(x), k))
        size = np.bincount(cell, minlength=k)[:, None]
        moved = np.where(size > 0, (member.T @ x) / np.maximum(size, 1), centres).astype(np.float32)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return cell
