"""Quality, diversity and complexity of lessons: what a run reports of one, and the rows of reports/measures.csv.

Three levers, and no score made of them: which one a method moves is the question. `whole_lesson` is measured in the run
and stands in results.csv (as `lesson_label_purity`, ...); all else is computed from the lessons that a run leaves, so a
new measure needs no new run.

Diversity moves with the size of a corpus, and lessons that accumulate grow. It is therefore measured on a seeded random
part of fixed size: 4,000 words, or 300 texts where subtopics are counted (a miniature lesson is 300 texts of about
5,000 words). A lesson whose texts have shrunk below 4,000 words is not comparable and stays empty there; for such
lessons the same word measures stand again at 1,000 words, names ending in `_1k`. Quality and complexity are means over
texts, which do not move with the size: they take all rows. Column `n` is the size: words for the measures of words,
texts for all others, 0 where nothing was measured.

Where the truth is known (the miniature) quality and tails are measured against it; on real text the rare words of the
task's own train split stand in for the tail. What the same measures find on lessons of real text is kept beside them,
in reports/null_bands.csv: the band that says what no loss looks like.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from symbiosis.data.characters import plain_words, words
from symbiosis.data.world import LABEL_NAMES, TEMPLATES, World
from symbiosis.measures import diversity

SIZES = {"": 4_000, "_1k": 1_000}  # end of a metric's name: words it is measured on
N_TEXTS = 300  # texts the measures of subtopics and of meaning are taken on
FEW_TEXTS = 50  # of meaning on real text at least so many: all of a smaller lesson
DIGITS = 6  # decimals kept: further ones depend on the build of zlib and of the linear algebra
FUNCTION_WORDS = sorted({word for template in TEMPLATES for word in re.findall("[a-z]+", template)})

WORD_UNITS = {  # diversity, any task
    "distinct_1": "share", "distinct_2": "share", "self_bleu": "1", "compression_ratio": "1", "zipf_exponent": "1",
    "template_diversity": "share", "word_entropy": "nats",
}  # fmt: skip
SUBTOPIC_UNITS = {  # diversity against a known world
    "subtopic_entropy": "nats", "subtopic_kl": "nats", "subtopic_js": "nats", "tail_coverage": "share",
    "tail_mass": "share", "vendi": "1", "semantic_dispersion": "1",
}  # fmt: skip
QUALITY_UNITS = {"writable": "share", "log_likelihood": "nats/word"}
SEMANTIC_UNITS = {"vendi": "1", "semantic_dispersion": "1", "mauve": "1"}  # of an encoder's vectors, on real text
TAIL_UNITS = {  # diversity against real text
    "word_tail_coverage": "share", "word_tail_mass": "share", "word_new_mass": "share", "word_js": "nats",
}  # fmt: skip
COMPLEXITY_UNITS = {
    "mean_words": "words/text", "mean_sentences": "sentences/text", "mean_clauses": "clauses/sentence",
    "base_lm_loss": "nats/token",
}  # fmt: skip
UNITS = WORD_UNITS | SUBTOPIC_UNITS | SEMANTIC_UNITS | TAIL_UNITS | QUALITY_UNITS | COMPLEXITY_UNITS
LEVERS = {  # which measures speak of which lever
    "quality": tuple(QUALITY_UNITS),
    "diversity": (*(name + end for end in SIZES for name in WORD_UNITS), *SUBTOPIC_UNITS, "mauve", *TAIL_UNITS),
    "complexity": tuple(COMPLEXITY_UNITS),
}
COVERAGE = 0.95  # of the lessons of real text, inside a null band
REAL_MASS = 0.1  # the rare words of real text are those that hold its last tenth
SENTENCE_ENDS = r"(?<=[.!?\u061f\u06d4\u0964])\s+|(?<=[\u3002\uff01\uff1f])"  # Arabic, Urdu, Hindi; Chinese, Japanese
CLAUSE_STARTS = (
    r"[,;:\u060c\u061b\uff0c\uff1b\uff1a]"
    r"|\b(?:that|which|who|whose|because|while|although|though|when|where|if|after|before|as|but|and|or)\b"
)


# --- a whole lesson, of whatever size --------------------------------------------------------------------------------
def whole_lesson(texts: Sequence[str], labels: Sequence[int] = (), world: World | None = None) -> dict[str, float]:
    """How varied a lesson is, and where the world is known how true; every value in [0, 1].

    distinct_2, unique: share of word pairs, of texts, that are different ones
    label_purity:       share of texts whose most probable true class is their label
    tail_mass:          share of texts of rare subtopics (.42 in the truth)
    tail_coverage:      share of the rare subtopics, over all classes, with at least one text
    """
    variety = {"distinct_2": diversity.distinct_n(texts, 2), "unique": diversity.unique_share(texts)}
    if world is None:
        return variety
    if not len(texts):
        return variety | dict.fromkeys(("label_purity", "tail_mass", "tail_coverage"), float("nan"))
    counts, tail = subtopic_counts(texts, world), subtopic_tail(world)
    return variety | {
        "label_purity": float(labels_right(texts, labels, world).mean()),
        "tail_mass": float(counts[tail].sum() / len(texts)),
        "tail_coverage": diversity.tail_coverage(counts, tail),
    }


def labels_right(texts: Sequence[str], labels: Sequence[int], world: World) -> np.ndarray:
    """(n,) bool: the text's most probable true class is its label; the first class where the text speaks of none."""
    return world.posterior(texts).argmax(axis=1) == np.asarray(labels)


def subtopic_counts(texts: Sequence[str], world: World) -> np.ndarray:
    """(C * K,) texts whose most probable subtopic it is; a text without any known word is in none."""
    best = world.subtopic(texts)
    return np.bincount(best[best >= 0], minlength=len(LABEL_NAMES) * len(world.shares))


def subtopic_tail(world: World) -> np.ndarray:
    """(C * K,) bool: the rare subtopics."""
    return np.tile(np.isin(np.arange(len(world.shares)), world.tail), len(LABEL_NAMES))


def subtopic_shares(texts: Sequence[str], world: World) -> pd.DataFrame:
    """One row per subtopic: class, subtopic, whether it is tail, and its share of the texts that are in one."""
    names = [(name, subtopic) for name, own in zip(LABEL_NAMES, world.subtopics, strict=True) for subtopic in own]
    counts = subtopic_counts(texts, world)
    frame = pd.DataFrame(names, columns=["class", "subtopic"])
    return frame.assign(tail=subtopic_tail(world), share=counts / max(counts.sum(), 1))


# --- measures of texts, at one size ----------------------------------------------------------------------------------
def word_diversity(texts: Sequence[str], frame: Sequence[str]) -> dict[str, float]:
    """Variety of words, phrases and frames; each moves with the number of words. Formulas: `measures.diversity`.

    distinct_1, distinct_2: share of words, word pairs, that are different ones; self_bleu: BLEU-4 of a text against the
    others; compression_ratio: of zlib; zipf_exponent of the ranked words; template_diversity: distinct 4-grams once
    words outside `frame` are "_"; word_entropy: of the word frequencies, in nats.
    """
    counts = diversity.ranked_counts(texts)
    return {
        "distinct_1": diversity.distinct_n(texts, 1),
        "distinct_2": diversity.distinct_n(texts, 2),
        "self_bleu": diversity.self_bleu(texts),
        "compression_ratio": diversity.compression_ratio(texts),
        "zipf_exponent": diversity.zipf_exponent(counts),
        "template_diversity": diversity.template_diversity(texts, frame),
        "word_entropy": diversity.entropy(counts / counts.sum()) if len(counts) else float("nan"),
    }


def subtopic_diversity(texts: Sequence[str], world: World) -> dict[str, float]:
    """Spread of n texts over the C * K subtopics of their world, each text counted at its most probable subtopic.

    subtopic_entropy: of the lesson's shares, in [0, ln CK]; subtopic_kl: KL(lesson | truth), in nats, about
    (CK - 1) / 2n for a sample of the truth; subtopic_js: Jensen-Shannon, in [0, ln 2]; tail_coverage: share of the rare
    subtopics that occur; tail_mass: share of the texts in rare subtopics; vendi (effective number of different texts)
    and semantic_dispersion (mean cosine distance) of the vectors p(class, subtopic | text), (n, CK).

    Texts without any known word are in no subtopic and stay out of the shares; nan where all are. The exact posterior
    as the embedding is this project's choice: no encoder decides what counts as different.
    """
    if not len(texts) or not (counts := subtopic_counts(texts, world)).any():
        return dict.fromkeys(SUBTOPIC_UNITS, float("nan"))
    true, tail = np.tile(world.shares, len(LABEL_NAMES)) / len(LABEL_NAMES), subtopic_tail(world)
    shares, vectors = counts / counts.sum(), world.joint(texts).reshape(len(texts), -1)
    return {
        "subtopic_entropy": diversity.entropy(shares),
        "subtopic_kl": diversity.kl_divergence(shares, true),
        "subtopic_js": diversity.js_divergence(shares, true),
        "tail_coverage": diversity.tail_coverage(counts, tail),
        "tail_mass": float(counts[tail].sum() / len(texts)),
        "vendi": diversity.vendi(vectors),
        "semantic_dispersion": diversity.semantic_dispersion(vectors),
    }


def quality(texts: Sequence[str], world: World) -> dict[str, float]:
    """Whether the texts could come from the world.

    writable:       share of texts the world can write at all, in [0, 1]
    log_likelihood: sum of ln p(text) / sum of words over the writable ones, in nats per word, <= 0; nan where none is

        p(text) = sum_{c, k} 1/C * share[k] * p(text | c, k)

    High likelihood is not variety: the likeliest texts are the same few. nan for no texts.
    """
    if not len(texts):
        return dict.fromkeys(QUALITY_UNITS, float("nan"))
    prior = np.log(world.shares / len(LABEL_NAMES))  # (K,)
    log_p = special.logsumexp(world.log_likelihood(texts) + prior, axis=(1, 2))  # (n,)
    writable = np.isfinite(log_p)
    n_words = sum(len(text.split()) for text, ok in zip(texts, writable, strict=True) if ok)
    return {
        "writable": float(writable.mean()),
        "log_likelihood": float(log_p[writable].sum() / n_words) if n_words else float("nan"),
    }


@dataclass(frozen=True, eq=False)
class RealWords:
    """Words of real text, in lower case and without punctuation: word -> place, (V,) shares p, (V,) bool rare ones.

    Rare are the least frequent words that together hold REAL_MASS of the text. V is 0 for text without a word.
    """

    index: Mapping[str, int]
    p: np.ndarray
    rare: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> "RealWords":
        counts = Counter(word for text in texts for word in plain_words(text))
        if not counts:
            return cls({}, np.empty(0), np.empty(0, dtype=bool))
        p = np.array(list(counts.values())) / counts.total()
        return cls({word: i for i, word in enumerate(counts)}, p, diversity.tail_types(p, REAL_MASS))

    def counts(self, texts: Sequence[str]) -> np.ndarray:
        """(V + 1,) how often each occurs; the last place counts words that real text does not have."""
        places = [self.index.get(word, len(self.p)) for text in texts for word in plain_words(text)]
        return np.bincount(np.array(places, dtype=np.int64), minlength=len(self.p) + 1)


def real_words(texts: Sequence[str], real: RealWords) -> dict[str, float]:
    """Which words of real text the texts use; each moves with the number of words.

    word_tail_coverage: share of the rare real words that occur; word_tail_mass: share of the texts' words that are rare
    real ones; word_new_mass: share that real text does not have; word_js: Jensen-Shannon divergence of the texts' word
    shares, new words as one type, from the real ones, in [0, ln 2]. nan for texts, or real text, without a word; the
    first two also where no real word is rare.
    """
    counts = real.counts(texts)
    if not counts.any() or not len(real.p):
        return dict.fromkeys(TAIL_UNITS, float("nan"))
    shares = counts / counts.sum()
    return {
        "word_tail_coverage": diversity.tail_coverage(counts[:-1], real.rare),
        "word_tail_mass": float(shares[:-1][real.rare].sum()) if real.rare.any() else float("nan"),
        "word_new_mass": float(shares[-1]),
        "word_js": diversity.js_divergence(shares, np.append(real.p, 0.0)),
    }


@dataclass(frozen=True, eq=False)
class RealText:
    """What lessons on real text are held against: its words and, with an encoder, the vectors of N_TEXTS of its texts.

    encode: texts -> (n, d), or None for words alone.
    """

    words: RealWords
    encode: Callable[[Sequence[str]], np.ndarray] | None = None
    vectors: np.ndarray | None = None

    @classmethod
    def of(cls, texts: Sequence[str], encode: Callable[[Sequence[str]], np.ndarray] | None = None) -> "RealText":
        return cls(RealWords.of(texts), encode, encode(list(texts[:N_TEXTS])) if encode else None)


def semantic_diversity(texts: Sequence[str], real: RealText, rng: np.random.Generator) -> dict[str, float]:
    """Variety of meaning as an encoder sees it: Vendi score and dispersion of the texts' vectors, MAUVE to real text.

    mauve is in (0, 1], 1 for the same distribution, against as many real texts. All three move with their number.
    Formulas: `measures.diversity`.
    """
    if not texts:
        return dict.fromkeys(SEMANTIC_UNITS, float("nan"))
    vectors = real.encode(texts)
    return {
        "vendi": diversity.vendi(vectors),
        "semantic_dispersion": diversity.semantic_dispersion(vectors),
        "mauve": diversity.mauve(vectors, real.vectors[: len(texts)], rng=rng),
    }


def complexity(texts: Sequence[str], base_loss: Callable[[Sequence[str]], float] | None = None) -> dict[str, float]:
    """Mean words and sentences per text, clauses per sentence, and the base Student's loss; nan for no texts.

    base_loss: texts -> mean LM loss of the Student before any lesson [nats/token]; without one `base_lm_loss` is nan.

    A sentence ends in ".", "!", "?" or their like in other scripts before white space or the end; what follows the last
    of them is one more. An abbreviation in the middle of a sentence counts as an end. A clause begins with the sentence
    and after each comma, semicolon, colon, or English word of CLAUSE_STARTS: a count of surface marks that needs no
    parser and mistakes a list for clauses. Compare corpora of one language, do not read these numbers by themselves.
    """
    if not len(texts):
        return dict.fromkeys(COMPLEXITY_UNITS, float("nan"))
    sentences = [s for text in texts if text.strip() for s in re.split(SENTENCE_ENDS, text.strip()) if s]
    clauses = [1 + len(re.findall(CLAUSE_STARTS, sentence.lower())) for sentence in sentences]
    return {
        "mean_words": float(np.mean([len(words(text)) for text in texts])),
        "mean_sentences": len(sentences) / len(texts),
        "mean_clauses": float(np.mean(clauses)) if clauses else float("nan"),
        "base_lm_loss": base_loss(texts) if base_loss else float("nan"),
    }


# --- one lesson ------------------------------------------------------------------------------------------------------
def lesson_rows(
    texts: Sequence[str],
    world: World | None = None,
    *,
    rng: np.random.Generator,
    real: RealText | None = None,
    base_loss: Callable[[Sequence[str]], float] | None = None,
) -> list[dict]:
    """Every measure of a lesson's texts: rows metric, value, unit, n; value nan and n 0 where it cannot be measured.

    Args:
        world:     the known truth; without one there is no quality and no subtopic.
        rng:       draws the parts of equal size.
        real:      real text, where no world is known; its words are measured at the smallest size.
        base_loss: see `complexity`.

    The frame of template_diversity is the function words of the world's templates. Without a world it is the lesson's
    own 100 most frequent words, so that number compares corpora only where these are much the same.
    """
    frame = FUNCTION_WORDS if world else diversity.frame_words(texts)
    parts = {n_tokens: diversity.equal_tokens(texts, n_tokens, rng) for n_tokens in SIZES.values()}
    rows = [row for end, n in SIZES.items() for row in _metric_rows(word_diversity(parts[n], frame), n, end)]
    if real:
        rows += _metric_rows(real_words(parts[min(parts)], real.words), min(parts))
    if real and real.encode:
        some = _sample([text for text in texts if text], rng, FEW_TEXTS)
        rows += _metric_rows(semantic_diversity(some, real, rng), len(some))
    if world:
        rows += _metric_rows(subtopic_diversity(_sample(texts, rng), world), N_TEXTS)
        rows += _metric_rows(quality(texts, world), len(texts))
    return rows + _metric_rows(complexity(texts, base_loss), len(texts))


def _sample(texts: Sequence[str], rng: np.random.Generator, least: int = N_TEXTS) -> list[str]:
    """N_TEXTS random texts, or all of them; none where there are not `least`."""
    n = min(N_TEXTS, len(texts))
    return [texts[i] for i in rng.choice(len(texts), n, replace=False)] if len(texts) >= least else []


def _metric_rows(values: Mapping[str, float], n: int, end: str = "") -> list[dict]:
    return [
        {"metric": name + end, "value": round(value, DIGITS), "unit": UNITS[name], "n": 0 if np.isnan(value) else n}
        for name, value in values.items()
    ]


def null_band(
    source: World | Sequence[str],
    n_texts: int,
    *,
    rng: np.random.Generator,
    real: RealText | None = None,
    draws: int = 200,
) -> pd.DataFrame:
    """What `lesson_rows` finds on lessons of real text: columns metric, low, high; to draw behind the lines.

    Args:
        source:  a world, which writes a fresh lesson for every draw; or real texts, of which each draw takes a part.
        n_texts: texts per lesson, as many as the lessons compared have.
        real:    real text to hold them against, best of other texts than those of `source`.
        draws:   lessons drawn; COVERAGE of them lie between low and high.

    A lesson is cut to size inside, by the very code that measures a run, so the band holds that draw's noise too.
    ValueError where the texts are fewer than two lessons: parts of one corpus stray less than fresh ones, by
    sqrt(1 - n_texts / texts) for a mean.
    """
    world = source if isinstance(source, World) else None
    if world is None and len(source) < 2 * n_texts:
        raise ValueError(f"null_band: {len(source)} texts hold no two lessons of {n_texts}; take a smaller n_texts")

    def lesson() -> list[str]:
        if world:
            return world.sample(n_texts, rng)["text"].tolist()
        return [source[i] for i in rng.choice(len(source), n_texts, replace=False)]

    lessons = (lesson() for _ in range(draws))
    rows = [row for texts in lessons for row in lesson_rows(texts, world, rng=rng, real=real)]
    by_metric = pd.DataFrame(rows).dropna(subset="value").groupby("metric")["value"]
    low, high = by_metric.quantile((1 - COVERAGE) / 2), by_metric.quantile((1 + COVERAGE) / 2)
    return pd.DataFrame({"low": low, "high": high}).reset_index()
