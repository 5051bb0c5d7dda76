"""Measures of variety against values by hand, closed forms, a plain reference and simulation."""

import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from symbiosis.measures import diversity
from symbiosis.measures.diversity import (
    compression_ratio,
    distinct_n,
    entropy,
    equal_tokens,
    frame_words,
    homogenisation,
    js_divergence,
    kl_divergence,
    mauve,
    mauve_of_histograms,
    n_long_enough,
    ranked_counts,
    self_bleu,
    semantic_dispersion,
    skeletons,
    tail_coverage,
    tail_types,
    template_diversity,
    unique_share,
    vendi,
    zipf_exponent,
)
from symbiosis.theory.next_token import types_alive

D1, D2, D3, D4 = FOUR = ["a b c d", "a b c e", "f g h i", "a b a b"]


def random_texts(n, *, types=60, longest=14, seed=0):
    """Texts of 0 to `longest` words, the words Zipf-distributed: short, empty and repeated ones are among them."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, types + 1)
    lengths = rng.integers(0, longest + 1, size=n)
    return [" ".join(f"w{i}" for i in rng.choice(types, size=k, p=p / p.sum())) for k in lengths]


# --- words and phrases ---------------------------------------------------------------------------------------------
def test_shares_of_different_grams_and_texts_by_hand():
    assert [distinct_n(FOUR, n) for n in (1, 2, 3)] == pytest.approx([9 / 16, 8 / 12, 7 / 8], abs=1e-12)
    for n, crossing, per_text in ((1, 9 / 16, 0.875), (2, 11 / 15, 11 / 12), (3, 13 / 14, 1)):
        assert distinct_n([" ".join(FOUR)], n) == pytest.approx(crossing, abs=1e-12)
        assert np.mean([distinct_n([text], n) for text in FOUR]) == pytest.approx(per_text, abs=1e-12)
    assert distinct_n(["The the  the,\nthe"], 1) == 3 / 4
    assert distinct_n([D1] * 5, 2) == 3 / 15
    assert math.isnan(distinct_n(["a", "b"], 2)) and math.isnan(distinct_n([], 1))
    assert unique_share([D1, D1, D2, D4]) == 3 / 4
    assert math.isnan(unique_share([]))


def plain_bleu(i, words, n):
    """The definition word for word: one text against all others, quadratic time."""
    others = words[:i] + words[i + 1 :]
    product = 1.0
    for order in range(1, n + 1):
        counts = [Counter(zip(*(w[k:] for k in range(order)), strict=False)) for w in [words[i], *others]]
        matches = sum(min(c, max(other[gram] for other in counts[1:])) for gram, c in counts[0].items())
        product *= matches / sum(counts[0].values())
    closest = min((len(w) for w in others), key=lambda k: (abs(k - len(words[i])), k))
    brevity = min(1.0, math.exp(1 - closest / len(words[i])))
    return product ** (1 / n) * brevity


def test_self_bleu_by_hand_and_by_its_definition():
    assert self_bleu([D1, D2, D3], 2) == pytest.approx(2 * math.sqrt(1 / 2) / 3, abs=1e-12)  # .471405
    assert self_bleu([D1, D2, D3], 2) == pytest.approx(0.471405, abs=5e-7)
    # d4 = a b a b: 2 of its 4 words and 1 of its 3 pairs count, because d1 has each only once.
    assert self_bleu(FOUR, 2) == pytest.approx((2 * math.sqrt(1 / 2) + math.sqrt(2 / 4 * 1 / 3)) / 4, abs=1e-12)
    assert self_bleu(FOUR, 2) == pytest.approx(0.455615, abs=5e-7)
    assert self_bleu([D1] * 3) == 1.0
    assert self_bleu([D1, D3], 1) == 0.0
    # "a b" against "a b c d": exp(1 - 4/2). The other way round 2 of 4 words match, and longer is not charged.
    assert self_bleu(["a b", "a b c d"], 1) == pytest.approx((math.exp(-1) + 2 / 4) / 2, abs=1e-12)
    # Four words between two of three and two of five: the shorter of two equally close lengths, so no charge.
    texts = ["a b c", "a b c", "a b c d", "a b c d e", "a b c d e"]
    assert self_bleu(texts, 1) == 1.0
    # Add-.1 smoothing would give d3 sqrt(.1/4 * .1/3) = .028868; here it counts 0.
    assert self_bleu([D1, D2, D3], 2) * 3 == pytest.approx(2 * math.sqrt(1 / 2), abs=1e-12)

    assert self_bleu([D1, "a b c", D1, "", "left right"]) == 1.0 and self_bleu(["left right"] * 3, 2) == 1.0
    assert n_long_enough([D1, "a b c", D1, "", "left right"]) == 2 and n_long_enough(FOUR) == 4
    for too_few in ([], [D1], ["", ""], ["left right"] * 3, [D1, "a b c"]):
        assert math.isnan(self_bleu(too_few))

    for texts in (random_texts(120), random_texts(40, types=5, seed=1)):
        words = [text.split() for text in texts]
        assert [] in words and len({len(w) for w in words}) > 5  # empty texts and many lengths were tried
        for n in (1, 2, 4):
            long_enough = [w for w in words if len(w) >= n]
            expected = np.mean([plain_bleu(i, long_enough, n) for i in range(len(long_enough))])
            assert 0.005 < expected < 1
            assert self_bleu(texts, n) == pytest.approx(expected, abs=1e-12)


def test_self_bleu_equals_nltk():
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    words = [text.split() for text in random_texts(80, seed=2) if len(text.split()) >= 4]
    with pytest.warns(UserWarning, match="0 counts"):  # nltk then takes 2e-308 for 0
        expected = np.mean([bleu.sentence_bleu(words[:i] + words[i + 1 :], w) for i, w in enumerate(words)])
    assert self_bleu([" ".join(w) for w in words]) == pytest.approx(expected, abs=1e-6)


def test_compression_ratio_sees_repetition_and_bytes():
    rng = np.random.default_rng(0)
    assert compression_ratio(["a" * 100_000]) > 700
    assert 1 < compression_ratio(["".join(rng.choice(list("0123456789abcdef"), 100_000))]) <= 2  # 8 / 4 bits
    assert 1 < compression_ratio(["".join(map(chr, rng.integers(0, 128, 100_000)))]) <= 8 / 7  # 7 bits of 8
    assert compression_ratio(["a"]) < 0.2  # one byte in, the header out
    assert math.isnan(compression_ratio([])) and math.isnan(compression_ratio([""]))
    block = "".join(map(chr, np.random.default_rng(0).integers(33, 127, size=5000)))
    once, twice = compression_ratio([block]), compression_ratio([block, block])
    assert 1.9 < twice / once < 2  # 1.96: the second time costs next to nothing
    assert compression_ratio([block, block[::-1]]) / once < 1.1
    coin = np.random.default_rng(0).integers(0, 2, size=10_000)
    one_byte, two_bytes = ("".join(np.array(list(pair))[coin]) for pair in ("ef", "\u00e8\u00e9"))
    assert compression_ratio([two_bytes]) > 1.5 * compression_ratio([one_byte])


# --- sentence frames -----------------------------------------------------------------------------------------------
def test_frames_by_hand():
    assert frame_words(["of the cat the sea", "of the a"], 2) == ["the", "of"]
    assert frame_words(["b a c"], 2) == ["a", "b"]
    assert frame_words([]) == []
    assert skeletons(["the price of oil", "the  cost of bread", ""], ["the", "of"]) == ["the _ of _", "the _ of _", ""]
    # Skeletons 'the _ of _' twice and '_ of the _': of 9 pairs, 'the _', '_ of', 'of _' and 'of the' differ.
    texts = ["the price of oil", "the cost of bread", "king of the hill"]
    assert template_diversity(texts, ["the", "of"], 2) == 4 / 9
    assert distinct_n(texts, 2) == 1  # the words alone show no repetition
    texts = ["the price of oil", "a cat in the sun"]
    other = [text.replace("oil", "bread").replace("cat", "dog") for text in texts]
    frame = ["the", "of", "a", "in"]
    assert template_diversity(texts, frame, 3) == template_diversity(other, frame, 3)


# --- word frequencies and a known source ---------------------------------------------------------------------------
EIGHTHS, EVEN = np.array([0.5, 0.25, 0.125, 0.125]), np.full(4, 0.25)


def test_counts_entropy_and_divergences_by_hand_and_of_samples():
    assert ranked_counts(["b a a", "c a b"]).tolist() == [3, 2, 1]
    assert ranked_counts([]).tolist() == []
    assert entropy(EIGHTHS) == pytest.approx(1.75 * math.log(2), abs=1e-12)  # 1.213008 nats, 1.75 bits
    assert entropy(EVEN) == pytest.approx(math.log(4), abs=1e-12)
    assert kl_divergence(EIGHTHS, EVEN) == pytest.approx(0.25 * math.log(2), abs=1e-12)  # .173287
    assert kl_divergence(EVEN, EIGHTHS) == pytest.approx(0.25 * math.log(2), abs=1e-12)  # equal here by chance
    assert js_divergence(EIGHTHS, EVEN) == pytest.approx(0.042475, abs=5e-7)
    first, second = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert entropy(first) == 0 and kl_divergence(first, first) == 0 == js_divergence(first, first)
    assert kl_divergence(first, second) == math.inf
    assert js_divergence(first, second) == pytest.approx(math.log(2), abs=1e-12)
    assert kl_divergence(first, np.full(2, 0.5)) == pytest.approx(math.log(2), abs=1e-12)
    assert kl_divergence(np.full(2, 0.5), first) == math.inf  # the reverse: a missing type

    n, samples, rng = 500, 4000, np.random.default_rng(0)
    seen = rng.multinomial(n, EIGHTHS, size=samples) / n
    h = np.array([entropy(p) for p in seen])
    kl = np.array([kl_divergence(p, EIGHTHS) for p in seen])
    assert abs(h.mean() - (entropy(EIGHTHS) - 3 / (2 * n))) < 4 * h.std(ddof=1) / np.sqrt(samples)
    assert abs(h.mean() - entropy(EIGHTHS)) > 4 * h.std(ddof=1) / np.sqrt(samples)
    assert abs(kl.mean() - 3 / (2 * n)) < 4 * kl.std(ddof=1) / np.sqrt(samples)


def test_zipf_exponent_by_hand_and_where_a_line_does_not_find_it():
    assert zipf_exponent([9, 3]) == pytest.approx(math.log2(3), abs=1e-9)  # 1.584963
    assert zipf_exponent([10**9, 1]) == pytest.approx(math.log2(10**9), abs=1e-9)
    assert zipf_exponent([1, 1]) == pytest.approx(0, abs=1e-9)
    assert zipf_exponent([3, 9]) == pytest.approx(-math.log2(3), abs=1e-9)
    assert zipf_exponent([6, 3, 2]) == pytest.approx(1, abs=1e-9)
    assert zipf_exponent(np.arange(1, 51) ** -1.2) == pytest.approx(1.2, abs=1e-9)
    counts = np.array([8, 4, 2, 2])
    assert zipf_exponent(counts) == pytest.approx(1.088444, abs=5e-7)
    assert -np.polyfit(np.log(np.arange(1, 5)), np.log(counts), 1)[0] == pytest.approx(1.080689, abs=5e-7)
    assert zipf_exponent([5, 0, 0]) == math.inf and zipf_exponent([0, 0, 5]) == -math.inf
    assert math.isnan(zipf_exponent([5])) and math.isnan(zipf_exponent([0, 0])) and math.isnan(zipf_exponent([]))

    types, tokens, samples, rng = 1000, 20_000, 60, np.random.default_rng(0)
    p = 1 / np.arange(1, types + 1)
    drawn = rng.multinomial(tokens, p / p.sum(), size=samples)
    by_source = np.array([zipf_exponent(counts) for counts in drawn])
    by_sample = np.array([zipf_exponent(np.sort(counts[counts > 0])[::-1]) for counts in drawn])
    log_rank = np.log(np.arange(1, types + 1))
    information = tokens * (p @ log_rank**2 / p.sum() - (p @ log_rank / p.sum()) ** 2)  # Fisher: N Var(ln r)
    assert by_source.std(ddof=1) == pytest.approx(information**-0.5, rel=4 / math.sqrt(2 * samples))  # .0033
    assert abs(by_source.mean() - 1) < 4 * by_source.std(ddof=1) / np.sqrt(samples)
    assert abs(by_sample.mean() - 1.0025) < 4 * by_sample.std(ddof=1) / np.sqrt(samples) + 5e-5  # printed digits
    first = np.sort(drawn[0][drawn[0] > 0])[::-1]
    line = -np.polyfit(log_rank[: len(first)], np.log(first), 1)[0]
    assert line > 1.08  # 1.10: some thirty standard errors off


def test_tails_by_hand_and_in_samples():
    assert tail_types([0.5, 0.02, 0.38, 0.1], mass=0.12).tolist() == [False, True, False, True]
    assert tail_types([0.5, 0.02, 0.38, 0.1], mass=0.11).tolist() == [False, True, False, False]
    assert tail_types(np.full(10, 0.1), mass=0.3).sum() == 3  # .1 + .1 + .1 is .30000000000000004
    assert tail_types(EVEN, mass=0).sum() == 0 and tail_types(EVEN, mass=1).all()
    tail = np.array([False, False, True, True])
    assert tail_coverage([5, 0, 1, 0], tail) == 0.5
    assert tail_coverage([5, 5, 0, 0], tail) == 0 and tail_coverage([0, 0, 9, 1], tail) == 1
    assert math.isnan(tail_coverage([1, 1, 1, 1], np.zeros(4, dtype=bool)))

    p = np.array([0.2] * 4 + [0.05] * 4)
    expected = types_alive(p, 1, tokens=10, types=p < 0.1)[1] / 4
    assert expected == pytest.approx(1 - 0.95**10, abs=1e-12)  # .401263
    rng, samples = np.random.default_rng(0), 4000
    seen = np.array([tail_coverage(counts, p < 0.1) for counts in rng.multinomial(10, p, size=samples)])
    assert abs(seen.mean() - expected) < 4 * seen.std(ddof=1) / np.sqrt(samples)


ZIPF = 1 / np.arange(1, 1001) / (1 / np.arange(1, 1001)).sum()


def test_tail_coverage_under_resampling_is_what_theory_expects():
    tail, chains, rng = np.arange(1000) >= 100, 600, np.random.default_rng(0)
    expected = types_alive(ZIPF, 5, tokens=200, types=tail) / 900
    counts, seen = rng.multinomial(200, ZIPF, size=chains), {}
    for t in range(1, 6):
        seen[t] = np.array([tail_coverage(row, tail) for row in counts])
        counts = rng.multinomial(200, counts / 200)
    for t, values in seen.items():
        stderr = values.std(ddof=1) / np.sqrt(chains)
        assert abs(values.mean() - expected[t]) < 4 * stderr
    stderr = seen[5].std(ddof=1) / np.sqrt(chains)
    assert abs(seen[5].mean() - expected[4]) > 4 * stderr  # one generation off is seen


# --- embeddings ----------------------------------------------------------------------------------------------------
def test_vendi_and_dispersion_by_hand():
    assert vendi(np.tile([3.0, 4.0], (7, 1))) == pytest.approx(1, abs=1e-9)
    assert vendi(np.diag([1.0, 2.0, 5.0])) == pytest.approx(3, abs=1e-9)  # length does not count
    assert vendi([[0.5, 1.0]]) == pytest.approx(1, abs=1e-9)
    assert math.isnan(vendi(np.empty((0, 3))))
    cosine_half = [[1, 0], [0.5, math.sqrt(0.75)]]
    assert vendi(cosine_half) == pytest.approx(math.exp(entropy([0.75, 0.25])), abs=1e-9)  # (1 +- c) / 2
    assert vendi(cosine_half) == pytest.approx(1.754765, abs=5e-7)
    four = np.linalg.cholesky(np.full((4, 4), 0.5) + 0.5 * np.eye(4))  # rows of cosine 1/2 with each other
    assert vendi(four) == pytest.approx(math.exp(entropy([5 / 8, 1 / 8, 1 / 8, 1 / 8])), abs=1e-9)
    assert vendi(four) == pytest.approx(2.925727, abs=5e-7)
    assert vendi([[1, 0], [1, 0], [1, 0], [0, 1]]) == pytest.approx(1.754765, abs=5e-7)  # groups of 3 and 1
    x = np.random.default_rng(0).normal(size=(12, 5))
    wide = np.hstack([x, np.zeros((12, 20))])  # now more columns than rows, and the same angles
    assert vendi(x) == pytest.approx(vendi(wide), abs=1e-9)
    assert 1 < vendi(x) < 5

    x = np.array([[1, 0], [0, 1], [1, 1]])
    assert semantic_dispersion(x) == pytest.approx(1 - math.sqrt(2) / 3, abs=1e-9)  # .528595
    assert semantic_dispersion(x) * 2 / 3 == pytest.approx(0.352397, abs=5e-7)  # with self pairs: remote_clique
    assert semantic_dispersion([[1, 0], [-2, 0]]) == pytest.approx(2, abs=1e-9)
    assert semantic_dispersion(np.ones((5, 3))) == pytest.approx(0, abs=1e-9)
    assert math.isnan(semantic_dispersion([[1.0, 0.0]])) and math.isnan(semantic_dispersion(np.empty((0, 2))))


def test_mauve_of_histograms_by_hand_and_as_an_area():
    for p in ([0.5, 0.5], [0.1, 0.2, 0.7], [0.3, 0.3, 0.3, 0.1], [0.25] * 4, [1.0, 0.0]):
        assert mauve_of_histograms(p, p) == pytest.approx(1, abs=1e-9)
    for c in (1, 2, 5):
        assert mauve_of_histograms([1, 0], [0, 1], c) == pytest.approx(1 / math.comb(2 * c, c), abs=1e-9)
    assert mauve_of_histograms([0.6, 0.4], [0.4, 0.6]) == pytest.approx(0.976889, abs=5e-7)
    assert mauve_of_histograms([1, 0], [0.5, 0.5]) == pytest.approx(0.277477, abs=5e-7)
    assert mauve_of_histograms([0.5, 0.5], [1, 0]) == pytest.approx(mauve_of_histograms([1, 0], [0.5, 0.5]), abs=1e-9)

    # The definition by points: a fine grid of l, joined by lines, with (0, 1) and (1, 0) at the ends.
    share = 1 / (1 + np.exp(-np.linspace(-600, 600, 600_001)))[:, None]
    for p, q in (([0.5, 0.3, 0.2, 0], [0.1, 0.1, 0.3, 0.5]), ([0.999, 0.001, 0], [0.998, 0, 0.002])):
        p, q = np.array(p), np.array(q)
        with np.errstate(divide="ignore", invalid="ignore"):
            r = share * p + (1 - share) * q
            x, y = (np.exp(-5 * np.where(s > 0, s * np.log(s / r), 0).sum(axis=1)) for s in (q, p))
        x, y = np.r_[1, x, 0], np.r_[0, y, 1]
        area = ((y[1:] + y[:-1]) / 2 * (x[:-1] - x[1:])).sum()
        assert mauve_of_histograms(p, q) == pytest.approx(area, abs=1e-6)


def test_mauve_falls_with_distance_and_bins_far_groups_apart():
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(600, 8))
    a, b = cloud[:300], cloud[300:]
    values = [mauve(a, b + shift, rng=np.random.default_rng(1)) for shift in (0, 0.5, 3)]
    assert values == sorted(values, reverse=True) and values[0] > 0.8 and values[2] < 0.05
    assert mauve(a, b + 0.5, rng=np.random.default_rng(1)) == values[1]  # the rng decides, nothing else does
    assert mauve(a, a, rng=rng) == pytest.approx(1, abs=1e-9)

    groups = np.array([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0]])
    a, b = groups[[0] * 60 + [1] * 40], groups[[0] * 40 + [1] * 60]
    assert mauve(a, b, rng=np.random.default_rng(1), bins=50) == pytest.approx(0.976889, abs=5e-7)
    assert math.isnan(mauve(groups[[1] * 20], groups[[1] * 20], rng=np.random.default_rng(1)))  # nothing to tell apart
    for seed in range(9):  # copies of two rows, or of two and one other: never both in one bin, which would be 1
        for b in ([2] * 100, [2] * 99 + [1]):
            rng, few = np.random.default_rng(seed), groups[[0] * 100]
            assert mauve(few, groups[b], rng=rng, bins=2) == pytest.approx(1 / 252, abs=0.01)


def test_cells_and_components_are_what_mauve_takes_them_for():
    x = np.random.default_rng(0).normal(size=(200, 2))
    cell = diversity._k_means(x, 6, np.random.default_rng(1))
    means = np.array([x[cell == k].mean(axis=0) for k in range(6)])
    assert (np.square(x[:, None] - means).sum(axis=2).argmin(axis=1) == cell).mean() > 0.98  # nearly settled
    copies = np.repeat(x[:3], 4, axis=0)  # three different rows for twelve centres: most cells are empty
    cell = diversity._k_means(copies, 12, np.random.default_rng(1))
    assert all(len(set(cell[4 * i : 4 * i + 4])) == 1 for i in range(3)) and len(set(cell)) == 3

    x = np.random.default_rng(0).normal(size=(500, 4)) * [3, 0.1, 2, 1] + 7
    variance = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    for share in (0.5, 0.9, 0.999):
        held = diversity._principal_components(x, share).var(axis=0, ddof=1)
        assert held == pytest.approx(variance[: len(held)]) and held.sum() >= share * variance.sum() > held[:-1].sum()
    assert diversity._principal_components(np.ones((5, 3))).shape == (5, 1)


def test_homogenisation_by_hand_and_by_its_definition():
    e1, e2 = np.eye(2)
    same, different = homogenisation([[e1, e2], [e1, e1], [e2, e2]])
    assert same == pytest.approx(1 / 3, abs=1e-12)  # pairs 1/2, 1/2, 0
    # Other prompt: A x1 with B x2 1, A x2 with B x1 0, A x1 with C x2 0, A x2 with C x1 1, B with C 0 and 0.
    assert different == pytest.approx(2 / 6, abs=1e-12)
    e = np.random.default_rng(0).normal(size=(4, 5, 3)) + 0.5
    unit = e / np.linalg.norm(e, axis=2, keepdims=True)
    cosine = np.einsum("kxd,lyd->kxly", unit, unit)
    pairs = [(k, m) for k in range(4) for m in range(k + 1, 4)]
    same = [cosine[k, x, m, x] for k, m in pairs for x in range(5)]
    different = [cosine[k, x, m, y] for k, m in pairs for x in range(5) for y in range(5) if x != y]
    assert homogenisation(e) == pytest.approx((np.mean(same), np.mean(different)), abs=1e-12)
    assert all(math.isnan(x) for x in homogenisation(np.ones((1, 3, 2))))
    same, different = homogenisation(np.ones((2, 1, 2)))
    assert same == pytest.approx(1) and math.isnan(different)


# --- equal sizes ---------------------------------------------------------------------------------------------------
def n_words(texts):
    return sum(len(text.split()) for text in texts)


def test_a_part_of_equal_size_is_whole_texts_and_removes_what_size_does():
    texts, rng = random_texts(200), np.random.default_rng
    part = equal_tokens(texts, 300, rng(0))
    assert n_words(part) == 300 and sum((Counter(part) - Counter(texts)).values()) <= 1
    assert part == equal_tokens(texts, 300, rng(0)) != equal_tokens(texts, 300, rng(1))
    assert sorted(equal_tokens(texts, n_words(texts), rng(0))) == sorted(texts)
    assert equal_tokens(["a  b c d"], 2, rng(0)) == ["a b"]
    assert equal_tokens(["a b", "c"], 4, rng(0)) == equal_tokens([], 1, rng(0)) == []

    many, few = random_texts(2000), random_texts(200, seed=1)  # one source
    assert distinct_n(many, 2) < 0.5 * distinct_n(few, 2)
    part = equal_tokens(many, n_words(few), np.random.default_rng(0))
    assert distinct_n(part, 2) == pytest.approx(distinct_n(few, 2), rel=0.05)


# --- what would be a wrong number in silence -----------------------------------------------------------------------
def test_what_does_not_fit_is_refused():
    for measure in (distinct_n, unique_share, self_bleu, compression_ratio, ranked_counts):
        with pytest.raises(ValueError, match="one string"):
            measure("a b c d")
        for bad in (None, math.nan, 7, b"a b"):
            with pytest.raises(ValueError, match=r"texts\[1\]"):
                measure([D1, bad, D2])
    with pytest.raises(ValueError, match="one string"):
        template_diversity(FOUR, "the")
    good, of_two = [0.5, 0.5], (kl_divergence, js_divergence, mauve_of_histograms)
    for bad in ([0.5, 0.6], [1.5, -0.5], [[0.5, 0.5]], [math.nan, 1.0], []):
        for measure, given in [(entropy, [bad]), (tail_types, [bad]), *((f, [good, bad]) for f in of_two)]:
            with pytest.raises(ValueError, match="is not a distribution: a vector that is >= 0 and sums to 1"):
                measure(*given)
    for call, match in (
        (lambda: kl_divergence([1.0], EVEN), "shapes differ"),
        (lambda: tail_coverage([1, 2], [0, 1]), "bool"),
        (lambda: zipf_exponent([3, -1]), "counts"),
        (lambda: vendi([[1.0, 0.0], [0.0, 0.0]]), "a row is all zeros"),
        (lambda: semantic_dispersion([1.0, 2.0]), "shape"),
        (lambda: vendi([[1.0, math.nan]]), "finite"),
        (lambda: mauve(np.eye(3), np.eye(3), rng=np.random.default_rng(0), bins=7), "bins: 7 for 6 rows"),
        (lambda: mauve(np.empty((0, 2)), np.ones((3, 2)), rng=np.random.default_rng(0)), "has no rows"),
    ):
        with pytest.raises(ValueError, match=match), np.errstate(invalid="ignore"):
            call()


def test_measures_and_the_world_load_without_torch():
    code = "import sys, symbiosis.measures.lessons; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
