"""Composition: the same sentences, dealt anew; what is counted by hand, and one seed in small."""

from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from symbiosis.data.world import LABEL_NAMES, SLOTS, World
from symbiosis.loop.teaching import LabeledTexts
from symbiosis.models.student import Student
from symbiosis.settings import RunSettings
from symbiosis.small_studies import composition, students
from symbiosis.small_studies.composition import COMPOSED, composed, measures, relevance, sentences, word_pairs

WORLD = World.make(5)


@dataclass(frozen=True)
class Writer:
    settings: RunSettings


def texts(n=160, power=1.0):
    shares = WORLD.shares**power
    return WORLD.sample(n, np.random.default_rng(1), shares=shares / shares.sum())


def test_relevance_is_the_overlap_of_words_and_is_larger_where_two_subtopics_borrow_from_one():
    near = relevance(WORLD)
    assert near.shape == (4, 6, 6) and np.allclose(near[:, range(6), range(6)], 1) and (near <= 1 + 1e-9).all()
    p, q = (WORLD.probabilities[:, 2, k] for k in (1, 4))
    assert near[2, 1, 4] == pytest.approx(np.mean([np.minimum(a, b).sum() for a, b in zip(p, q, strict=True)]))
    same = [
        (c, k, m)
        for c in range(4)
        for k in WORLD.tail
        for m in range(k)
        if (WORLD.donors[c, k] == WORLD.donors[c, m]).all()
    ]
    pairs = [pair for pair in same if WORLD.donors[pair[0], pair[1], 0] >= 0]
    others = [near[c, k, m] for c in range(4) for k in range(6) for m in range(k) if (c, k, m) not in pairs]
    assert pairs and min(near[pair] for pair in pairs) > max(others)


def test_second_sentences_are_dealt_anew_and_nothing_else_changes():
    whole, near = sentences(texts(), WORLD), relevance(WORLD)
    made = {how: composed(whole, how, near, np.random.default_rng(0)) for how in COMPOSED}
    for how, some in made.items():
        for label in range(4):
            mine, before = (rows[rows["label"] == label] for rows in (some, whole))
            assert Counter(mine["second"]) == Counter(before["second"]), how  # exactly equal vocabulary
        assert some["first"].equals(whole["first"]) and some["label"].equals(whole["label"])
    own, related, random = (measures(made[how], near, WORLD) for how in COMPOSED)
    assert made["own"]["second"].equals(whole["second"]) and own["relatedness"] == pytest.approx(1)
    for how in ("related", "random"):
        assert (made[how]["subtopic"] != made[how]["subtopic_2"]).mean() > 0.95
    assert related["relatedness"] > random["relatedness"] + 0.005
    assert own["coherence"] > 0.6 > 0.1 > random["coherence"] and own["word_pairs"] < random["word_pairs"]


def test_a_subtopic_that_is_most_of_a_class_keeps_what_cannot_be_dealt_away():
    rows = pd.DataFrame({"first": list("abcde"), "second": list("vwxyz"), "label": 0, "subtopic": [0, 0, 0, 3, 4]})
    made = composed(rows, "random", relevance(WORLD), np.random.default_rng(0))
    assert sorted(made["second"]) == list("vwxyz") and (made["subtopic"] == made["subtopic_2"]).sum() == 1


def test_texts_of_other_than_two_sentences_are_left_out_and_pairs_are_of_the_worlds_words():
    e, v = (WORLD.slot_words[slot][0] for slot in SLOTS[:2])
    rows = pd.DataFrame({"text": [f"the {e} {v}.", f"a {e}. one {v}.", f"a {e}. one {v}"], "label": [1, 2, 3]})
    found = sentences(rows, WORLD)
    assert found[["first", "second", "label"]].to_numpy().tolist() == [[f"a {e}.", f"one {v}.", 2]]
    assert list(word_pairs(f"a {e}, {v}", f"the {v}", WORLD)) == [(e, v), (v, v)]


def test_a_seed_in_small(monkeypatch):
    for name, size in {"LESSON": 16, "TESTED": 12}.items():
        monkeypatch.setattr(composition, name, size)
    monkeypatch.setattr(students, "STEPS", 2)
    lm = students.pretrained(WORLD, 5, hidden=32)
    settings = students.settings_of("static", 5)
    taught, asked = [], []

    def load(folder):
        student = Student(lm, LABEL_NAMES, settings)
        object.__setattr__(student, "learn", lambda lesson, seed: taught.append(lesson))
        return student

    def write(generator, labels, seed):
        asked.append(generator.settings.attributes)
        drawn = WORLD.sample(len(labels), np.random.default_rng(seed), labels=np.asarray(labels))
        return LabeledTexts(drawn["text"].tolist(), np.asarray(labels), None, Counter())

    state = SimpleNamespace(
        settings=settings,
        generator=Writer(settings),
        seed=lambda *stage: 1,
        student=SimpleNamespace(folder="", load=load),
    )
    monkeypatch.setattr(composition.runs, "prepare", lambda settings: state)
    monkeypatch.setattr(composition.teaching, "write", write)
    rows = composition.composition(5)
    assert asked == [True, False] and len(taught) == 9 and len(rows) == 9 * 6
    assert [sorted(" ".join(lesson["text"]).split()) for lesson in taught[:3]] == [
        sorted(" ".join(taught[0]["text"]).split())
    ] * 3
    at = rows.set_index(["method", "variant", "metric"])
    assert at.loc[("world", "own", "relatedness"), "value"] == 1 and set(at["n"].xs("coherence", level=2)) == {16}
    assert set(at["n"].xs("accuracy", level=2)) == {12}
    units = at["unit"].groupby("metric").first()
    assert units["continuation_loss"] == "nats/token" and units["coherence"] == "share"
