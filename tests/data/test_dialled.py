"""Texts whose diversity and complexity are dialled: what they hold, and what is kept out of lessons."""

import re

import numpy as np
import pytest

from symbiosis.data.dialled import CLAUSE, KNOWN, UNEVEN, Dial, kept_out
from symbiosis.data.world import TEMPLATES, World, parse

WORLD = World.make(3)


def texts(n=400, seed=0, **how):
    return Dial(**how).texts(WORLD, n, np.random.default_rng(seed))


def entities_and_templates(docs):
    parts = [part for text in docs["text"] for part in parse(text)]
    return {words["E"] for _, words in parts}, {template for template, _ in parts}


def test_entities_and_templates_of_lessons_are_none_of_the_new_ones():
    known, frames = entities_and_templates(texts())
    assert not known & kept_out() and frames == set(range(KNOWN))
    new, frames = entities_and_templates(texts(new_words=True))
    assert new <= kept_out() and frames == set(range(KNOWN))
    also, frames = entities_and_templates(texts(new_templates=True))
    assert not also & kept_out() and frames == set(range(KNOWN, len(TEMPLATES)))
    assert {"candidate", "governor"} <= kept_out() and not {"voter", "senator"} & kept_out()  # every other of a list


def test_a_text_still_says_its_class_and_a_new_word_is_drawn_as_the_world_draws_it():
    for how in ({}, {"new_words": True}, {"new_templates": True}):
        docs = texts(1000, **how)
        assert (WORLD.posterior(docs["text"]).argmax(1) == docs["label"]).mean() > 0.95, how
    own = texts(4000, power=60.0, new_words=True).query("label == 0 and subtopic == 0")["text"]
    p = WORLD.probabilities[0, 0, 0] * [word in kept_out() for word in WORLD.slot_words["E"]]
    word = WORLD.slot_words["E"][p.argmax()]
    found = np.mean([words["E"] == word for text in own for _, words in parse(text)])
    assert found == pytest.approx(p.max() / p.sum(), abs=4 * np.sqrt(0.25 / (2 * len(own))))


def test_length_depth_diversity_and_class_mix_are_what_is_asked_for():
    assert {text.count(".") for text in texts(sentences=1)["text"]} == {1}
    assert {text.count(".") for text in texts(sentences=4)["text"]} == {4}
    assert all(text.count(CLAUSE) == 2 for text in texts(deep=True)["text"])
    plain = [re.sub(f"{CLAUSE} ", "", text) for text in texts(deep=True)["text"]]
    assert plain == texts()["text"].tolist()  # nothing else changes
    assert set(texts(power=60.0)["subtopic"]) == {0} and set(texts(power=0.0)["subtopic"]) == set(range(6))
    assert texts()["label"].value_counts().tolist() == [100] * 4
    mix = texts(4000, uneven=True)["label"].value_counts(normalize=True).sort_index()
    assert mix.to_numpy() == pytest.approx(UNEVEN, abs=0.03)
