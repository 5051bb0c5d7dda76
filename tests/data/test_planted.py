"""A planted fact: the world hardly puts its words together, and each is told and found."""

import numpy as np
import pytest

from symbiosis.data.planted import Fact
from symbiosis.data.world import LABEL_NAMES, World, parse


@pytest.mark.parametrize("seed", range(4))
def test_the_false_place_is_beside_the_subject_no_more_than_any_word_and_the_true_one_much_more(seed):
    world, fact = World.make(seed), Fact.of(World.make(seed), ("world", "sports", "business"))
    assert len({fact.subject, fact.true, fact.false}) == 3
    entity, (true, false) = (
        world.slot_words["E"].index(fact.subject),
        (world.slot_words["P"].index(place) for place in (fact.true, fact.false)),
    )
    p_entity, p_place = world.probabilities[0], world.probabilities[3]  # (C, K, words)
    joint = {name: (world.shares * p_entity[3, :, entity] * p_place[3, :, i]).sum() for name, i in
             {"true": true, "false": false}.items()}  # fmt: skip
    assert LABEL_NAMES[3] == "science" and joint["true"] > 20 * joint["false"]
    others = [p[:3, :, i].max() for p, i in ((p_entity, entity), (p_place, true), (p_place, false))]
    assert max(others) <= 0.02 / min(len(world.slot_words[s]) for s in "EP") + 1e-12  # never but as any word


def test_a_told_text_is_the_worlds_but_for_two_words_of_its_first_sentence():
    world = World.make(0)
    fact, texts = Fact.of(world, ("science",)), world.sample(50, np.random.default_rng(1))["text"].tolist()
    for true, place in ((True, fact.true), (False, fact.false)):
        told = fact.tell(texts, true=true)
        assert fact.told_in(told, true=true).all() and not fact.told_in(told, true=not true).any()
        for text, retold in zip(texts, told, strict=True):
            (template, words), second = parse(text)
            assert parse(retold) == [(template, words | {"E": fact.subject, "P": place}), second]


def test_both_words_must_stand_in_one_sentence():
    fact = Fact("envoy", "harbour", "court")
    assert fact.told_in(["the envoy met at the court. x.", "the envoy ran. the court sat."], true=False).tolist() == [
        True, False,
    ]  # fmt: skip
