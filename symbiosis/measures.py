"""Quality, diversity and complexity of saved lessons, as rows of one long table: reports/measures.csv.

Three levers, and no score made of them: which one a method moves is the question. All is computed after the fact from
the lessons a run leaves, so a new measure needs no new run.

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

import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from symbiosis import diversity
from symbiosis.data import load_lesson, load_task
from symbiosis.errors import SymbiosisError
from symbiosis.files import digest, write_atomic
from symbiosis.miniature import LABEL_NAMES, TEMPLATES, World
from symbiosis.results import (
    COLUMNS,
    NUMBERS,
    UNREPORTED,
    ResultsError,
    csv_bytes,
    merge,
    read_long,
    read_or_empty,
    read_table,
    with_arm,
)
from symbiosis.settings import RunSettings, derive_seed, make_settings, resolve

VERSION = 1  # of the measures: raised when a formula changes, so that finished lessons are measured anew
SIZES = {"": 4_000, "_1k": 1_000}  # end of a metric's name: words it is measured on
N_TEXTS = 300  # texts the subtopic measures are taken on
DIGITS = 6  # decimals kept: further ones depend on the build of zlib and of the linear algebra
FUNCTION_WORDS = sorted({word for template in TEMPLATES for word in re.findall("[a-z]+", template)})
HOW_TO_MAKE = "make it with `symbiosis.measures.collect`, which reads the finished runs"

WORD_UNITS = {  # diversity, any task
    "distinct_1": "share", "distinct_2": "share", "self_bleu": "1", "compression_ratio": "1", "zipf_exponent": "1",
    "template_diversity": "share", "word_entropy": "nats",
}  # fmt: skip
SUBTOPIC_UNITS = {  # diversity against a known world
    "subtopic_entropy": "nats", "subtopic_kl": "nats", "subtopic_js": "nats", "tail_coverage": "share",
    "tail_mass": "share", "vendi": "1", "semantic_dispersion": "1",
}  # fmt: skip
QUALITY_UNITS = {"label_purity": "share", "writable": "share", "log_likelihood": "nats/word"}
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


BAND_COLUMNS = ("scale", "study", "metric", "low", "high", "n_texts", "draws")
BAND_NUMBERS = {"low": float, "high": float, "n_texts": int, "draws": int}
BANDS, BAND_BOUNDS = ".cache/symbiosis/bands", {"low": float, "high": float}  # bands of the world that were made
BASE, INTERACTION = "base", "interaction"  # the initial Student as encoder; the study of notebook 04
DRAWS = 100  # lessons of real text behind a null band
REAL_MASS = 0.1  # the rare words of real text are those that hold its last tenth
CLAUSE_STARTS = (
    r"[,;:]|\b(?:that|which|who|whose|because|while|although|though|when|where|if|after|before|as|but|and|or)\b"
)


# --- measures of texts, of whatever size they are --------------------------------------------------------------------
def word_diversity(texts: Sequence[str], frame: Sequence[str]) -> dict[str, float]:
    """Variety of words, phrases and frames; each moves with the number of words. Formulas: `symbiosis.diversity`.

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
    best, true = world.subtopic(texts), np.tile(world.shares, len(LABEL_NAMES)) / len(LABEL_NAMES)
    counts, tail = np.bincount(best[best >= 0], minlength=len(true)), np.tile(_tail(world), len(LABEL_NAMES))
    if not counts.any():
        return dict.fromkeys(SUBTOPIC_UNITS, float("nan"))
    shares, vectors = counts / counts.sum(), world._joint(texts).reshape(len(texts), -1)
    return {
        "subtopic_entropy": diversity.entropy(shares),
        "subtopic_kl": diversity.kl_divergence(shares, true),
        "subtopic_js": diversity.js_divergence(shares, true),
        "tail_coverage": diversity.tail_coverage(counts, tail),
        "tail_mass": float(counts[tail].sum() / len(texts)),
        "vendi": diversity.vendi(vectors),
        "semantic_dispersion": diversity.semantic_dispersion(vectors),
    }


def quality(texts: Sequence[str], labels: Iterable[int], world: World) -> dict[str, float]:
    """Whether texts and labels could come from the world.

    label_purity:   share of texts whose most probable true class is their label, in [0, 1]
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
    words = sum(len(text.split()) for text, ok in zip(texts, writable, strict=True) if ok)
    return {
        "label_purity": float((world.posterior(texts).argmax(axis=1) == np.asarray(labels)).mean()),
        "writable": float(writable.mean()),
        "log_likelihood": float(log_p[writable].sum() / words) if words else float("nan"),
    }


@dataclass(frozen=True, eq=False)
class RealWords:
    """Words of real text, in lower case and without punctuation: word -> place, (V,) shares p, (V,) bool rare ones.

    Rare are the least frequent words that together hold REAL_MASS of the text.
    """

    index: Mapping[str, int]
    p: np.ndarray
    rare: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> "RealWords":
        counts = Counter(_plain_words(texts))
        p = np.array(list(counts.values())) / counts.total()
        return cls({word: i for i, word in enumerate(counts)}, p, diversity.tail_types(p, REAL_MASS))

    def counts(self, texts: Sequence[str]) -> np.ndarray:
        """(V + 1,) how often each occurs; the last place counts words that real text does not have."""
        places = [self.index.get(word, len(self.p)) for word in _plain_words(texts)]
        return np.bincount(np.array(places, dtype=np.int64), minlength=len(self.p) + 1)


def real_words(texts: Sequence[str], real: RealWords) -> dict[str, float]:
    """Which words of real text the texts use; each moves with the number of words.

    word_tail_coverage: share of the rare real words that occur; word_tail_mass: share of the texts' words that are rare
    real ones; word_new_mass: share that real text does not have; word_js: Jensen-Shannon divergence of the texts' word
    shares, new words as one type, from the real ones, in [0, ln 2]. nan for texts without a word.
    """
    counts = real.counts(texts)
    if not counts.any():
        return dict.fromkeys(TAIL_UNITS, float("nan"))
    shares = counts / counts.sum()
    return {
        "word_tail_coverage": diversity.tail_coverage(counts[:-1], real.rare),
        "word_tail_mass": float(shares[:-1][real.rare].sum()),
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

    mauve is in (0, 1], 1 for the same distribution; it moves with the number of texts. Formulas: `symbiosis.diversity`.
    """
    vectors = real.encode(texts)
    return {
        "vendi": diversity.vendi(vectors),
        "semantic_dispersion": diversity.semantic_dispersion(vectors),
        "mauve": diversity.mauve(vectors, real.vectors, rng=rng),
    }


def _plain_words(texts: Sequence[str]) -> list[str]:
    return [word for text in texts for word in re.findall(r"[a-z0-9]+", text.lower())]


def complexity(texts: Sequence[str], base_loss: Callable[[Sequence[str]], float] | None = None) -> dict[str, float]:
    """Mean words and sentences per text, clauses per sentence, and the base Student's loss; nan for no texts.

    base_loss: texts -> mean LM loss of the Student before any lesson [nats/token]; without one `base_lm_loss` is nan.

    A sentence ends in ".", "!" or "?" before white space or the end; what follows the last of them is one more. An
    abbreviation in the middle of a sentence counts as an end. A clause begins with the sentence and after each comma,
    semicolon, colon, or one of CLAUSE_WORDS: a count of surface marks that needs no parser and mistakes a list for
    clauses. Compare corpora, do not read these numbers by themselves.
    """
    if not len(texts):
        return dict.fromkeys(COMPLEXITY_UNITS, float("nan"))
    sentences = [s for text in texts if text.strip() for s in re.split(r"(?<=[.!?])\s+", text.strip())]
    clauses = [1 + len(re.findall(CLAUSE_STARTS, sentence.lower())) for sentence in sentences]
    return {
        "mean_words": float(np.mean([len(t.split()) for t in texts])),
        "mean_sentences": len(sentences) / len(texts),
        "mean_clauses": float(np.mean(clauses)) if clauses else float("nan"),
        "base_lm_loss": base_loss(texts) if base_loss else float("nan"),
    }


# --- one lesson ------------------------------------------------------------------------------------------------------
def lesson_rows(
    lesson: Mapping[str, Sequence],
    world: World | None = None,
    *,
    rng: np.random.Generator,
    sizes: Mapping[str, int] = SIZES,
    real: RealText | None = None,
    base_loss: Callable[[Sequence[str]], float] | None = None,
) -> list[dict]:
    """Every measure of one lesson: rows metric, value, unit, n; value nan and n 0 where it cannot be measured.

    Args:
        lesson:    columns text and (where there is a world) label.
        world:     the known truth; without one there is no quality and no subtopic.
        rng:       draws the parts of equal size.
        sizes:     {end of the metric's name: words of the part}.
        real:      real text, where no world is known; its words are measured at the smallest size.
        base_loss: see `complexity`.

    The frame of template_diversity is the function words of the world's templates. Without a world it is the lesson's
    own 100 most frequent words, so that number compares corpora only where these are much the same.
    """
    texts = list(lesson["text"][:])  # a data set gives its columns row by row otherwise, ten times slower
    frame = FUNCTION_WORDS if world else diversity.frame_words(texts)
    rows = []
    for end, n_tokens in sizes.items():
        part = _words_of_equal_size(texts, n_tokens, rng)
        found = word_diversity(part, frame) if part else dict.fromkeys(WORD_UNITS, float("nan"))
        rows += _rows(found, n_tokens, end)
    if real:  # `part` is that of the last, smallest size
        rows += _rows(real_words(part, real.words) if part else dict.fromkeys(TAIL_UNITS, float("nan")), n_tokens)
    if real and real.encode:
        part = _texts_of_equal_size([text for text in texts if text], rng)
        found = semantic_diversity(part, real, rng) if part else dict.fromkeys(SEMANTIC_UNITS, float("nan"))
        rows += _rows(found, N_TEXTS)
    if world:
        part = _texts_of_equal_size(texts, rng)
        found = subtopic_diversity(part, world) if part else dict.fromkeys(SUBTOPIC_UNITS, float("nan"))
        rows += _rows(found, N_TEXTS)
        rows += _rows(quality(texts, lesson["label"][:], world), len(texts))
    return rows + _rows(complexity(texts, base_loss), len(texts))


def null_band(
    source: World | Sequence[str],
    n_texts: int,
    *,
    rng: np.random.Generator,
    real: RealText | None = None,
    draws: int = 200,
    coverage: float = 0.95,
) -> pd.DataFrame:
    """What `lesson_rows` finds on lessons of real text: columns metric, low, high; to draw behind the lines.

    Args:
        source:   a world, which writes a fresh lesson for every draw; or real texts, of which each draw takes a part.
        n_texts:  texts per lesson, as many as the lessons compared have.
        real:     real text to hold them against, best of other texts than those of `source`.
        draws:    lessons drawn.
        coverage: share of the draws between low and high, in (0, 1).

    A lesson is cut to size inside, by the very code that measures a run, so the band holds that draw's noise too.
    ValueError where the texts are fewer than two lessons: parts of one corpus stray less than fresh ones, by
    sqrt(1 - n_texts / texts) for a mean (see `diversity.null_band`).
    """
    world = source if isinstance(source, World) else None
    if world is None and len(source) < 2 * n_texts:
        raise ValueError(f"null_band: {len(source)} texts hold no two lessons of {n_texts}; take a smaller n_texts")
    if draws < 1 or not 0 < coverage < 1:
        raise ValueError(f"draws is at least 1 and coverage between 0 and 1, got {draws} and {coverage}")
    lessons = (_real_lesson(source, n_texts, rng) for _ in range(draws))
    rows = [row for lesson in lessons for row in lesson_rows(lesson, world, rng=rng, real=real)]
    by_metric = pd.DataFrame(rows).dropna(subset="value").groupby("metric")["value"]
    low, high = by_metric.quantile((1 - coverage) / 2), by_metric.quantile((1 + coverage) / 2)
    return pd.DataFrame({"low": low, "high": high}).reset_index()


def _real_lesson(source: World | Sequence[str], n_texts: int, rng: np.random.Generator) -> Mapping[str, Sequence]:
    if isinstance(source, World):
        return source.sample(n_texts, rng)
    return {"text": [source[i] for i in rng.choice(len(source), n_texts, replace=False)]}


def _words_of_equal_size(texts: list[str], n_tokens: int, rng: np.random.Generator) -> list[str]:
    """A random part of n_tokens words; empty where there are not as many."""
    if sum(len(text.split()) for text in texts) < n_tokens:
        return []
    return diversity.equal_tokens({"part": texts}, rng=rng, n_tokens=n_tokens)["part"]


def _texts_of_equal_size(texts: list[str], rng: np.random.Generator) -> list[str]:
    """N_TEXTS random texts; empty where there are not as many."""
    return [texts[i] for i in rng.choice(len(texts), N_TEXTS, replace=False)] if len(texts) >= N_TEXTS else []


def _tail(world: World) -> np.ndarray:
    """(K,) bool: the rare ranks."""
    return np.isin(np.arange(len(world.shares)), world.tail)


def _rows(found: Mapping[str, float], n: int, end: str = "") -> list[dict]:
    return [
        {"metric": name + end, "value": round(value, DIGITS), "unit": UNITS[name], "n": 0 if np.isnan(value) else n}
        for name, value in found.items()
    ]


# --- from runs to reports/measures.csv -------------------------------------------------------------------------------
def collect(
    reports_dir: str | Path,
    scale: str | None = None,
    study: str | None = None,
    *,
    encoder: str = BASE,
    encoder_revision: str = "",
) -> list[str]:
    """Merge the lessons of finished runs (of one scale, one study) into measures.csv; the run_ids merged, sorted.

    encoder: of the semantic measures on real text, whose meanings no world tells: 'base' (the run's initial Student), a
    local folder or a hub id at `encoder_revision`.

    The columns and the rule are those of `results.collect`: a run replaces the rows of the same study, method, variant,
    scale and seed, all others stay; a repeat changes no byte; scale 'smoke' never enters. Each study's null band comes
    into null_bands.csv. Runs of method interaction have no lessons of this kind and are passed over.
    """
    reports_dir, asked = resolve(reports_dir), (encoder, encoder_revision)
    records = sorted(reports_dir.glob(f"runs/{scale or '*'}/{study or '*'}/*/record.json"))
    folders = [path.parent for path in records if path.parts[-4] != UNREPORTED and path.parts[-3] != INTERACTION]
    folders = [folder for folder in folders if (folder / "lessons").is_dir()]  # others were cleared of their texts
    if not folders:
        return []
    rows = pd.concat([run_rows(folder, *asked) for folder in folders], ignore_index=True)
    rows = rows[rows["scale"] != UNREPORTED]
    path = reports_dir / "measures.csv"
    write_atomic(path, csv_bytes(merge(read_or_empty(path, COLUMNS, NUMBERS), rows), COLUMNS))
    firsts = {folder.parts[-3:-1]: folder for folder in reversed(folders)}
    _collect_bands(reports_dir, [band_of_run(folder, *asked) for folder in firsts.values()])
    return sorted(set(rows["run_id"]))


def _collect_bands(reports_dir: Path, found: Sequence[pd.DataFrame]) -> None:
    """Bring the bands, one of each (scale, study), into null_bands.csv."""
    path = reports_dir / "null_bands.csv"
    old, new = read_or_empty(path, BAND_COLUMNS, BAND_NUMBERS), pd.concat(found)
    key = ["scale", "study"]
    kept = old[~pd.MultiIndex.from_frame(old[key]).isin(pd.MultiIndex.from_frame(new[key]))]
    bands = pd.concat([kept, new]).sort_values([*key, "metric"], ignore_index=True)
    write_atomic(path, csv_bytes(bands, BAND_COLUMNS))


@functools.lru_cache(maxsize=8)
def band_of_run(folder: Path, encoder: str = BASE, encoder_revision: str = "") -> pd.DataFrame:
    """`null_band` of lessons as large as this run's, of the world of seed 0 or of its task's train split.

    Rare words of real text are those of the pool, which shares no text with train. Empty where the task's files are
    not here, or its train split holds no two lessons.
    """
    settings, _ = _read_settings(folder / "record.json")
    n, rng = settings.lesson_size, np.random.default_rng(derive_seed(0, "null_band"))
    head, columns = {"scale": settings.scale, "study": settings.study}, list(BAND_COLUMNS)
    if settings.task == "miniature":
        band = _world_band(n, rng=rng)
    elif (task := _task(settings)) and len(task.train) >= 2 * n and len(task.pool):
        real = RealText.of(task.pool["text"][:], _encoder(settings, encoder, encoder_revision))
        band = null_band(task.train["text"][:], n, rng=rng, real=real, draws=DRAWS)
    else:
        return pd.DataFrame(columns=columns)
    return band.round(DIGITS).assign(**head, n_texts=n, draws=DRAWS)[columns]


def _world_band(n_texts: int, *, rng: np.random.Generator) -> pd.DataFrame:
    """The band of the world of seed 0, made once for all studies."""
    path, columns = resolve(BANDS) / f"v{VERSION}-{n_texts}-{DRAWS}.csv", ("metric", *BAND_BOUNDS)
    if not path.is_file():
        band = null_band(_world(0), n_texts, rng=rng, draws=DRAWS)
        write_atomic(path, csv_bytes(band.round(DIGITS), columns))
    return read_table(path, columns, BAND_BOUNDS)


def read_band(reports_dir: str | Path, scale: str, study: str) -> pd.DataFrame:
    """metric -> low, high of one study in reports/null_bands.csv; empty where there is none."""
    bands = read_or_empty(resolve(reports_dir) / "null_bands.csv", BAND_COLUMNS, BAND_NUMBERS)
    return bands[(bands["scale"] == scale) & (bands["study"] == study)].set_index("metric")[["low", "high"]]


def read(reports_dir: str | Path, scale: str, study: str = "main") -> pd.DataFrame:
    """Rows of reports/measures.csv of one scale and study, with the column `arm`."""
    return read_long(resolve(reports_dir) / "measures.csv", scale, study, HOW_TO_MAKE)


def held(reports_dir: str | Path, scale: str, study: str = "main") -> pd.DataFrame:
    """As `read`, but empty where the lessons of that study have not been measured."""
    path = resolve(reports_dir) / "measures.csv"
    rows = with_arm(read_or_empty(path, COLUMNS, NUMBERS))
    return rows[(rows["scale"] == scale) & (rows["study"] == study)].reset_index(drop=True)


def run_rows(folder: str | Path, encoder: str = BASE, encoder_revision: str = "") -> pd.DataFrame:
    """The measures of every lesson of one finished run, as long rows.

    Kept as measures.csv in the run's folder, with a mark beside it: the measures' version, a digest of the run's
    record and the file itself, the encoder. A changed formula, another run or a damaged file is measured anew.
    """
    folder, asked = Path(folder), (encoder, encoder_revision)
    table, mark = folder / "measures.csv", folder / "measures.digest"
    if not (table.is_file() and mark.is_file() and mark.read_text() == _mark(folder, *asked)):
        write_atomic(table, csv_bytes(_measured(folder, *asked), COLUMNS))
        write_atomic(mark, _mark(folder, *asked).encode())
    return read_table(table, COLUMNS, NUMBERS)


def _mark(folder: Path, encoder: str, encoder_revision: str) -> str:
    content = digest([folder / "record.json", folder / "measures.csv"])
    return f"{VERSION} {content} {encoder} {encoder_revision}"


def _measured(folder: Path, encoder: str, encoder_revision: str) -> pd.DataFrame:
    settings, run_id = _read_settings(folder / "record.json")
    head = {name: getattr(settings, name) for name in ("study", "method", "variant", "scale", "seed")}
    world = _world(settings.seed) if settings.task == "miniature" else None
    task = None if world else _task(settings)
    known = {"base_loss": _base_loss(settings)}
    if task and len(task.pool):
        known["real"] = RealText.of(task.pool["text"][:], _encoder(settings, encoder, encoder_revision))
    rows = []
    for generation in range(1, settings.generations + 1):
        lesson = load_lesson(folder / "lessons" / f"gen-{generation}.parquet")
        rng = np.random.default_rng(derive_seed(settings.seed, generation, "measures"))
        found = lesson_rows(lesson, world, rng=rng, **known)
        rows += [head | {"run_id": run_id, "generation": generation} | row for row in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


_world = functools.lru_cache(maxsize=64)(World.make)  # the runs of one seed share their world


@functools.lru_cache(maxsize=4)
def _task(settings: RunSettings):
    """The run's task; None where its files are not here any more."""
    try:
        return load_task(settings)
    except SymbiosisError:
        return None


def _encoder(settings: RunSettings, name: str, revision: str) -> Callable[[Sequence[str]], np.ndarray] | None:
    """texts -> vectors; None where the run's initial Student is asked for and cannot be had."""
    from symbiosis import encoders, models, representations  # torch is needed here only

    models.use_threads(settings.threads)
    if name != BASE:
        return encoders.load(name, revision, device=settings.device, precision=settings.precision)
    student = _initial_student(settings)
    return (lambda texts: representations.hidden_states(*student, texts, settings)) if student else None


def _initial_student(settings: RunSettings):
    """(model, tokenizer) all arms of the run's seed begin with; None where it cannot be had."""
    from symbiosis import bases

    try:
        return _student(bases.base_folder("student", settings), settings.student_revision)
    except SymbiosisError:
        return None


def _base_loss(settings: RunSettings) -> Callable[[Sequence[str]], float] | None:
    """Mean LM loss of texts under the run's initial Student; None where that model cannot be had."""
    from symbiosis import models, scoring

    if not (found := _initial_student(settings)):
        return None
    student, tokenizer = found
    models.use_threads(settings.threads)
    start, end = models.start_ids(tokenizer), [tokenizer.eos_token_id]

    def mean_loss(texts: Sequence[str]) -> float:
        rows = [[*start, *ids, *end] for ids in models.token_ids(tokenizer, texts, settings.max_length)]
        tokens = np.array([len(row) - len(start) for row in rows])
        losses = scoring.text_losses(student, tokenizer, rows, [len(start)] * len(rows), settings)
        return float(losses @ tokens / tokens.sum())

    return mean_loss


@functools.lru_cache(maxsize=2)
def _student(folder: str, revision: str):
    from symbiosis import models

    return models.load(folder, revision, device="cpu")


def _read_settings(path: Path) -> tuple[RunSettings, str]:
    """Settings and run_id of a record."""
    try:
        record = json.loads(path.read_text())
        run_id, settings = record["run_id"], record["settings"]
        return make_settings(str(path), **settings), run_id
    except json.JSONDecodeError as error:
        raise ResultsError(f"{path}: not valid JSON ({error}); delete the run's folder and run it again") from None
    except (KeyError, TypeError) as error:
        raise ResultsError(f"{path}: no {error}; delete the run's folder and run it again") from None
