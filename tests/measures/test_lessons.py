"""Quality, diversity and complexity of lessons: by hand, against the truth, and real text against itself."""

import math

import numpy as np
import pandas as pd
import pytest

from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.measures import diversity, lessons
from symbiosis.measures.lessons import (
    LEVERS,
    N_TEXTS,
    SIZES,
    complexity,
    labels_right,
    lesson_rows,
    null_band,
    quality,
    subtopic_diversity,
    subtopic_shares,
    whole_lesson,
    word_diversity,
)

WORLD = World.make(0)
SUBTOPICS = len(LABEL_NAMES) * len(WORLD.shares)
GARBAGE = ["qqq zzz", "xyzzy"]  # no word of the world
OF_REAL = {*lessons.TAIL_UNITS, "mauve"}
STATED = {name for names in LEVERS.values() for name in names} - OF_REAL  # these need real text
NO_BASE = {"base_lm_loss"}  # of a lesson without its run's models


def written(n, seed=0, **how):
    return WORLD.sample(n, np.random.default_rng(seed), **how)


def table(texts, world=WORLD, seed=0, **how):
    """{metric: row} of one lesson."""
    rows = lesson_rows(list(texts), world, rng=np.random.default_rng(seed), **how)
    assert len({row["metric"] for row in rows}) == len(rows)
    return {row["metric"]: row for row in rows}


def values(texts, world=WORLD, **how):
    return {name: row["value"] for name, row in table(texts, world, **how).items()}


# --- measures of texts, by hand ------------------------------------------------------------------------------------
def test_words_and_sentences_by_hand():
    found = word_diversity(["the cat of the dog", "the man of the sea"], ["the", "of"])
    assert found["distinct_1"] == pytest.approx(6 / 10) and found["distinct_2"] == pytest.approx(7 / 8)
    assert found["template_diversity"] == pytest.approx(2 / 4)  # one frame, "the _ of the _", has two different 4-grams
    p = np.array([4, 2, 1, 1, 1, 1]) / 10
    assert found["word_entropy"] == pytest.approx(-(p * np.log(p)).sum())

    texts = ["One two. Three!", "four", "", "a b c, if d? d e f. g"]
    found = complexity(texts, base_loss=len)
    clauses = [1, 1, 1, 3, 1, 1]  # the comma and the "if"
    assert found == pytest.approx(
        {"mean_words": 13 / 4, "mean_sentences": 6 / 4, "mean_clauses": np.mean(clauses), "base_lm_loss": 4}
    )
    assert math.isnan(complexity(texts)["base_lm_loss"])  # nothing to ask
    chinese = complexity(["\u5e02\u573a\u4e0a\u6da8\uff0c\u597d\u3002\u4e0d\uff01"])
    assert (chinese["mean_sentences"], chinese["mean_clauses"]) == (2, 1.5)


def test_words_of_real_text_by_hand():
    real = lessons.RealWords.of(["a a a a a a", "b b b", "C!"])  # shares .6, .3, .1: the rare word is c
    found = lessons.real_words(["a c, a x", "b"], real)
    assert found["word_tail_coverage"] == 1 and found["word_tail_mass"] == found["word_new_mass"] == 1 / 5
    p, q = np.array([2, 1, 1, 1]) / 5, np.array([6, 3, 1, 0]) / 10
    assert found["word_js"] == pytest.approx(diversity.js_divergence(p, q))
    assert lessons.real_words(["a b"], real)["word_tail_coverage"] == 0
    assert all(math.isnan(value) for value in lessons.real_words(["?!"], real).values())
    even = lessons.real_words(["a b"], lessons.RealWords.of(["a b c d"]))  # no word is rare: no share of them, not 0
    assert math.isnan(even["word_tail_coverage"]) and math.isnan(even["word_tail_mass"]) and even["word_new_mass"] == 0
    for texts in ([], ["?!"], ["a b"]):
        assert all(math.isnan(value) for value in lessons.real_words(texts, lessons.RealWords.of(["?!", ""])).values())


SCRIPTS = {  # first letter of an alphabet, its letters, what stands between words
    "Russian": (0x430, 32, " "), "Hindi": (0x915, 37, "\u093f "), "Arabic": (0x627, 20, "\u060c "),
    "Korean": (0xAC00, 500, " "), "Chinese": (0x4E00, 500, ""), "Japanese": (0x3041, 80, ""),
}  # fmt: skip


def test_lessons_of_any_script_are_measured():
    for language, (first, size, between) in SCRIPTS.items():
        rng, p = np.random.default_rng(0), 1 / np.arange(1, 301)
        n_letters = 1 if language in ("Chinese", "Japanese") else 3
        made = ["".join(map(chr, first + rng.integers(size, size=n_letters))) for _ in p]
        texts = [between.join(rng.choice(made, 8, p=p / p.sum())) for _ in range(1_400)]
        found = values(texts[:700], None, real=lessons.RealText.of(texts[700:]))
        assert {name for name, value in found.items() if math.isnan(value)} == NO_BASE
        assert 0 < found["distinct_2"] < 0.9 and 0 <= found["self_bleu"] < 1 and found["mean_words"] == 8
        assert found["word_new_mass"] < 0.1 and found["word_js"] < 0.2 and 0 < found["word_tail_coverage"] <= 1


def test_subtopics_are_as_even_as_can_be_or_unknown():
    labels, ranks = np.divmod(np.arange(SUBTOPICS), len(WORLD.shares))
    texts, best = [], []
    for seed in range(60):  # one text per subtopic that is also read as its own
        drawn = written(SUBTOPICS, seed, labels=labels, subtopics=ranks)
        for text, own, read in zip(drawn["text"], range(SUBTOPICS), WORLD.subtopic(drawn["text"]), strict=True):
            if own == read and own not in best:
                texts, best = [*texts, text], [*best, own]
    found, true = subtopic_diversity(texts, WORLD), np.tile(WORLD.shares, 4) / 4
    assert sorted(best) == list(range(SUBTOPICS))
    assert found["subtopic_entropy"] == pytest.approx(math.log(SUBTOPICS))
    assert found["subtopic_kl"] == pytest.approx(-np.log(true * SUBTOPICS).mean())
    assert (found["tail_coverage"], found["tail_mass"]) == (1, pytest.approx(4 / 6))
    one = subtopic_diversity([texts[0]] * 5, WORLD)
    assert (one["subtopic_entropy"], one["vendi"], one["semantic_dispersion"]) == pytest.approx((0, 1, 0), abs=1e-9)
    assert one["subtopic_kl"] == pytest.approx(-math.log(true[best[0]]))
    assert found["vendi"] > 10  # and variety would have been seen

    texts = list(written(100)["text"])
    found, diluted = subtopic_diversity(texts, WORLD), subtopic_diversity(texts + GARBAGE * 50, WORLD)
    assert diluted["subtopic_entropy"] == found["subtopic_entropy"]
    assert diluted["tail_mass"] == pytest.approx(found["tail_mass"] / 2)
    assert all(math.isnan(value) for value in subtopic_diversity(GARBAGE, WORLD).values())


def test_a_whole_lesson_and_its_quality_by_hand():
    sample = written(300)
    texts, labels = [*sample["text"], *GARBAGE], [*sample["label"], 1, 2]
    found, best = whole_lesson(texts, labels, WORLD), WORLD.subtopic(texts)
    rare = [k for k in best if k >= 0 and k % len(WORLD.shares) in WORLD.tail]
    assert found["tail_mass"] == len(rare) / 302 and found["tail_coverage"] == len(set(rare)) / 16
    right = (WORLD.posterior(texts).argmax(1) == np.array(labels)).sum()
    assert found["label_purity"] == right / 302 == labels_right(texts, labels, WORLD).mean() > 0.95
    assert whole_lesson(texts, [(label + 1) % 4 for label in labels], WORLD)["label_purity"] < 0.1
    assert all(math.isnan(value) for value in whole_lesson([], [], WORLD).values())
    assert whole_lesson(["a b c", "a b c", "a b"]) == {"distinct_2": 2 / 5, "unique": 2 / 3}  # no world, no truth
    shares = subtopic_shares(texts, WORLD)
    assert shares["share"].sum() == pytest.approx(1) and shares["tail"].sum() == 16
    assert shares.loc[shares["tail"], "share"].sum() == pytest.approx(len(rare) / (best >= 0).sum())

    sample = written(40)
    texts = [*sample["text"], *GARBAGE]
    found, prior = quality(texts, WORLD), WORLD.shares / 4
    p = (np.exp(WORLD.log_likelihood(texts[:40])) * prior).sum(axis=(1, 2))
    words = sum(len(text.split()) for text in texts[:40])
    assert found["log_likelihood"] == pytest.approx(np.log(p).sum() / words)
    assert found["writable"] == pytest.approx(40 / 42)
    assert math.isnan(quality(GARBAGE, WORLD)["log_likelihood"])


# --- one lesson ----------------------------------------------------------------------------------------------------
def test_a_lesson_has_every_measure_of_every_lever_once_with_its_size():
    found = table(written(400)["text"])
    assert set(found) == STATED
    assert {found[f"distinct_2{end}"]["n"] for end in SIZES} == set(SIZES.values()) == {4000, 1000}
    assert {found[name]["n"] for name in lessons.SUBTOPIC_UNITS} == {N_TEXTS}
    assert {found[name]["n"] for name in {*LEVERS["quality"], *LEVERS["complexity"]} - NO_BASE} == {400}
    assert {name for name, row in found.items() if math.isnan(row["value"])} == NO_BASE
    found = table(written(300)["text"], None)
    assert set(found) == STATED - set(LEVERS["quality"]) - set(lessons.SUBTOPIC_UNITS)
    assert found["distinct_2"]["n"] == 4000


def test_a_grown_lesson_is_as_varied_as_its_part_which_follows_the_seed():
    # Three lessons of the truth in one: distinct-2 over all their words would fall, at equal size it stays.
    small, large = written(300, 1), written(900, 2)
    whole = [diversity.distinct_n(list(lesson["text"])) for lesson in (small, large)]
    at_equal_size = [values(lesson["text"])["distinct_2"] for lesson in (small, large)]
    assert whole[0] - whole[1] > 0.1 > 0.04 > abs(at_equal_size[0] - at_equal_size[1])

    lesson = written(400)["text"]
    assert values(lesson, seed=3) == pytest.approx(values(lesson, seed=3), abs=0, nan_ok=True)
    assert values(lesson, seed=3)["distinct_2"] != values(lesson, seed=4)["distinct_2"]


def test_short_lessons_are_measured_as_far_as_they_reach():
    found = table(" ".join(text.split()[:6]) for text in written(300)["text"])
    assert math.isnan(found["distinct_2"]["value"]) and found["distinct_2"]["n"] == 0
    assert 0 < found["distinct_2_1k"]["value"] < 1 and found["distinct_2_1k"]["n"] == 1000
    assert found["mean_words"]["value"] == 6 and found["tail_mass"]["n"] == 300

    for world in (WORLD, None):
        for texts in ([], ["the man saw."], ["", ""]):
            found = table(texts, world)
            diverse = [row for name, row in found.items() if name in LEVERS["diversity"]]
            assert diverse and all(math.isnan(row["value"]) and row["n"] == 0 for row in diverse)
            assert math.isnan(found["mean_words"]["value"]) == (not texts)


# --- real text against itself --------------------------------------------------------------------------------------
def test_the_null_band_holds_real_lessons_and_not_collapsed_ones():
    band = null_band(WORLD, 300, rng=np.random.default_rng(0), draws=60).set_index("metric")
    assert set(band.index) == STATED - NO_BASE and (band["low"] <= band["high"]).all()
    inside = pd.DataFrame([values(written(300, seed)["text"]) for seed in range(100, 130)])
    share = (inside.ge(band["low"]) & inside.le(band["high"])).mean()
    assert share.mean() > 0.85  # 95 % bands, from 60 draws
    peaked = values(written(300, shares=np.array([0.8, 0.2, 0, 0, 0, 0]))["text"])
    for name in ("distinct_2", "word_entropy", "subtopic_entropy", "tail_mass", "vendi", "semantic_dispersion"):
        assert peaked[name] < band["low"][name], name
    assert peaked["subtopic_kl"] > band["high"]["subtopic_kl"]


def test_the_null_band_of_texts_needs_two_lessons():
    texts = list(written(600)["text"])
    band = null_band(texts, 300, rng=np.random.default_rng(0), draws=5).set_index("metric")
    assert "writable" not in band.index and 0 < band["low"]["self_bleu"] < band["high"]["self_bleu"] < 1
    with pytest.raises(ValueError, match="600 texts hold no two lessons of 301"):
        null_band(texts, 301, rng=np.random.default_rng(0))


def test_meaning_on_real_text_is_an_encoders():
    one_hot = np.eye(4)[[0, 1, 2, 3] * 100]
    real = lessons.RealText.of(written(400, 1)["text"].tolist(), lambda texts: one_hot[: len(texts)])
    found = values(written(400)["text"], None, real=real)
    assert found["vendi"] == pytest.approx(4) and found["semantic_dispersion"] == pytest.approx(0.75, abs=0.01)
    assert found["mauve"] == pytest.approx(1, abs=0.01)
    few = values(written(100)["text"], None, real=real)  # all of them, beside as many real ones
    assert few["vendi"] == pytest.approx(4) and few["mauve"] == pytest.approx(1, abs=0.05)
    assert math.isnan(values(written(lessons.FEW_TEXTS - 1)["text"], None, real=real)["mauve"])
