"""Quality, diversity and complexity of lessons: by hand and against the truth."""

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
    lesson_rows,
    null_band,
    quality,
    subtopic_diversity,
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


def table(lesson, world=WORLD, seed=0, **how):
    """{metric: row} of one lesson."""
    rows = lesson_rows(lesson, world, rng=np.random.default_rng(seed), **how)
    assert len({row["metric"] for row in rows}) == len(rows)
    return {row["metric"]: row for row in rows}


def values(lesson, world=WORLD, **how):
    return {name: row["value"] for name, row in table(lesson, world, **how).items()}


# --- measures of texts, by hand ------------------------------------------------------------------------------------
def test_word_diversity_by_hand():
    found = word_diversity(["the cat of the dog", "the man of the sea"], ["the", "of"])
    assert found["distinct_1"] == pytest.approx(6 / 10) and found["distinct_2"] == pytest.approx(7 / 8)
    assert found["template_diversity"] == pytest.approx(2 / 4)  # one frame, "the _ of the _", has two different 4-grams
    p = np.array([4, 2, 1, 1, 1, 1]) / 10
    assert found["word_entropy"] == pytest.approx(-(p * np.log(p)).sum())


def test_complexity_by_hand():
    texts = ["One two. Three!", "four", "", "a b c, if d? d e f. g"]
    found = complexity(texts, base_loss=len)
    clauses = [1, 1, 1, 3, 1, 1]  # the comma and the "if"
    assert found == pytest.approx(
        {"mean_words": 13 / 4, "mean_sentences": 6 / 4, "mean_clauses": np.mean(clauses), "base_lm_loss": 4}
    )
    assert math.isnan(complexity(texts)["base_lm_loss"])  # nothing to ask


def test_words_of_real_text_by_hand():
    real = lessons.RealWords.of(["a a a a a a", "b b b", "C!"])  # shares .6, .3, .1: the rare word is c
    found = lessons.real_words(["a c, a x", "b"], real)
    assert found["word_tail_coverage"] == 1 and found["word_tail_mass"] == found["word_new_mass"] == 1 / 5
    p, q = np.array([2, 1, 1, 1]) / 5, np.array([6, 3, 1, 0]) / 10
    assert found["word_js"] == pytest.approx(diversity.js_divergence(p, q))
    assert lessons.real_words(["a b"], real)["word_tail_coverage"] == 0
    assert all(math.isnan(value) for value in lessons.real_words(["?!"], real).values())


def test_every_subtopic_once_is_as_even_as_can_be():
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


def test_texts_without_known_words_are_in_no_subtopic():
    texts = list(written(100)["text"])
    found, diluted = subtopic_diversity(texts, WORLD), subtopic_diversity(texts + GARBAGE * 50, WORLD)
    assert diluted["subtopic_entropy"] == found["subtopic_entropy"]
    assert diluted["tail_mass"] == pytest.approx(found["tail_mass"] / 2)
    assert all(math.isnan(value) for value in subtopic_diversity(GARBAGE, WORLD).values())


def test_subtopic_measures_agree_with_those_of_the_world():
    sample = written(300)
    of_world = WORLD.lesson_measures(sample["text"], sample["label"])
    mine = subtopic_diversity(list(sample["text"]), WORLD) | quality(list(sample["text"]), sample["label"], WORLD)
    assert {name: mine[name] for name in of_world} == pytest.approx(of_world)


def test_quality_by_hand():
    sample = written(40)
    texts, labels = [*sample["text"], *GARBAGE], [*sample["label"], 1, 2]
    found, prior = quality(texts, labels, WORLD), WORLD.shares / 4
    p = (np.exp(WORLD.log_likelihood(texts[:40])) * prior).sum(axis=(1, 2))
    words = sum(len(text.split()) for text in texts[:40])
    assert found["log_likelihood"] == pytest.approx(np.log(p).sum() / words)
    assert found["writable"] == pytest.approx(40 / 42)
    right = (WORLD.posterior(texts).argmax(1) == np.array(labels)).sum()
    assert found["label_purity"] == pytest.approx(right / 42)
    wrong = quality(texts, [(label + 1) % 4 for label in labels], WORLD)
    assert wrong["label_purity"] < 0.1 and wrong["log_likelihood"] == found["log_likelihood"]
    assert math.isnan(quality(GARBAGE, [0, 0], WORLD)["log_likelihood"])


# --- one lesson ----------------------------------------------------------------------------------------------------
def test_a_lesson_has_every_measure_of_every_lever_once_with_its_size():
    found = table(written(400))
    assert set(found) == STATED
    assert {found[f"distinct_2{end}"]["n"] for end in SIZES} == set(SIZES.values()) == {4000, 1000}
    assert {found[name]["n"] for name in lessons.SUBTOPIC_UNITS} == {N_TEXTS}
    assert {found[name]["n"] for name in {*LEVERS["quality"], *LEVERS["complexity"]} - NO_BASE} == {400}
    assert {name for name, row in found.items() if math.isnan(row["value"])} == NO_BASE


def test_without_a_world_there_is_no_quality_and_no_subtopic():
    found = table({"text": list(written(300)["text"])}, None)
    assert set(found) == STATED - set(LEVERS["quality"]) - set(lessons.SUBTOPIC_UNITS)
    assert found["distinct_2"]["n"] == 4000


def test_a_grown_lesson_is_as_varied_as_its_part():
    # Three lessons of the truth in one: distinct-2 over all their words would fall, at equal size it stays.
    small, large = written(300, 1), written(900, 2)
    whole = [diversity.distinct_n(list(lesson["text"])) for lesson in (small, large)]
    at_equal_size = [values(lesson)["distinct_2"] for lesson in (small, large)]
    assert whole[0] - whole[1] > 0.1 > 0.04 > abs(at_equal_size[0] - at_equal_size[1])


def test_a_lesson_of_short_texts_is_measured_at_the_smaller_size_only():
    sample = written(300)
    found = table({"text": [" ".join(text.split()[:6]) for text in sample["text"]], "label": sample["label"]})
    assert math.isnan(found["distinct_2"]["value"]) and found["distinct_2"]["n"] == 0
    assert 0 < found["distinct_2_1k"]["value"] < 1 and found["distinct_2_1k"]["n"] == 1000
    assert found["mean_words"]["value"] == 6 and found["tail_mass"]["n"] == 300


@pytest.mark.parametrize("texts", [[], ["the man saw."], ["", ""]], ids=["none", "one", "blank"])
@pytest.mark.parametrize("world", [WORLD, None], ids=["known", "unknown"])
def test_too_little_text_is_nan_and_no_crash(texts, world):
    found = table({"text": texts, "label": [0] * len(texts)}, world)
    diverse = [row for name, row in found.items() if name in LEVERS["diversity"]]
    assert diverse and all(math.isnan(row["value"]) and row["n"] == 0 for row in diverse)
    assert math.isnan(found["mean_words"]["value"]) == (not texts)


def test_the_part_depends_on_the_seed_alone():
    lesson = written(400)
    assert values(lesson, seed=3) == pytest.approx(values(lesson, seed=3), abs=0, nan_ok=True)
    assert values(lesson, seed=3)["distinct_2"] != values(lesson, seed=4)["distinct_2"]


def test_sizes_can_be_given():
    found = table(written(20), sizes={"": 200})
    assert found["distinct_2"]["n"] == 200 and "distinct_2_1k" not in found


# --- real text against itself --------------------------------------------------------------------------------------
def test_the_null_band_holds_real_lessons_and_not_collapsed_ones():
    band = null_band(WORLD, 300, rng=np.random.default_rng(0), draws=60).set_index("metric")
    assert set(band.index) == STATED - NO_BASE and (band["low"] <= band["high"]).all()
    inside = pd.DataFrame([values(written(300, seed)) for seed in range(100, 130)])
    share = (inside.ge(band["low"]) & inside.le(band["high"])).mean()
    assert share.mean() > 0.85  # 95 % bands, from 60 draws
    peaked = values(written(300, shares=np.array([0.8, 0.2, 0, 0, 0, 0])))
    for name in ("distinct_2", "word_entropy", "subtopic_entropy", "tail_mass", "vendi", "semantic_dispersion"):
        assert peaked[name] < band["low"][name], name
    assert peaked["subtopic_kl"] > band["high"]["subtopic_kl"]


def test_the_null_band_of_texts_needs_two_lessons():
    texts = list(written(600)["text"])
    band = null_band(texts, 300, rng=np.random.default_rng(0), draws=5).set_index("metric")
    assert "label_purity" not in band.index and 0 < band["low"]["self_bleu"] < band["high"]["self_bleu"] < 1
    with pytest.raises(ValueError, match="600 texts hold no two lessons of 301"):
        null_band(texts, 301, rng=np.random.default_rng(0))
    for wrong in ({"coverage": 1.0}, {"draws": 0}):
        with pytest.raises(ValueError, match="draws is at least 1 and coverage between"):
            null_band(texts, 300, rng=np.random.default_rng(0), **wrong)


def test_meaning_on_real_text_is_an_encoders():
    one_hot = np.eye(4)[[0, 1, 2, 3] * 100]
    real = lessons.RealText.of(list(written(400, 1)["text"]), lambda texts: one_hot[: len(texts)])
    measured = values({"text": list(written(400)["text"])}, None, real=real)
    assert measured["vendi"] == pytest.approx(4) and measured["semantic_dispersion"] == pytest.approx(0.75, abs=0.01)
    assert measured["mauve"] == pytest.approx(1, abs=0.01)
