"""Continuations: exact likelihoods of the world by hand, and what is counted of texts."""

import numpy as np
import pandas as pd
import pytest

from symbiosis import small_studies
from symbiosis.data.world import LABEL_NAMES, TEMPLATES, World, parse
from symbiosis.models.student import Student
from symbiosis.small_studies import open_ended, students

WORLD = World.make(5)


def test_the_second_sentence_has_the_probability_of_the_world_given_the_first():
    text = WORLD.sample(1, np.random.default_rng(2))["text"][0]
    first = text[: text.index(".") + 1]
    found = open_ended.conditional_log_p(pd.DataFrame({"text": [text], "label": [2]}), [first], WORLD)

    def likelihood(words):  # of one sentence, (K,): class 2
        slots = [WORLD.probabilities[s, 2, :, WORLD.slot_words[k].index(words[k])] for s, k in enumerate("EVNP")]
        return np.prod(slots, axis=0) / len(TEMPLATES)

    (_, a), (_, b) = parse(text)
    mean = WORLD.shares @ (likelihood(a) * likelihood(b)) / (WORLD.shares @ likelihood(a))
    assert found[0] == pytest.approx(np.log(mean))


def test_continuations_of_the_truth_stay_with_it_and_one_text_again_and_again_repeats_itself():
    held_out = WORLD.sample(300, np.random.default_rng(3))
    seconds = [text[text.index(".") + 2 :] for text in held_out["text"]]
    at = {metric: value for metric, value, _ in open_ended.continued(seconds, held_out, WORLD, 1.5)}
    again = {metric: value for metric, value, _ in open_ended.continued(seconds[:1] * 300, held_out, WORLD, 1.5)}
    assert at["on_topic"] > 0.5 > again["on_topic"] and at["repetition"] < 0.6 < 0.99 < again["repetition"]
    assert at["continuation_loss"] == 1.5 and at["words"] == pytest.approx(9, abs=1.5)


def test_the_committed_rows_of_the_world_are_those_of_the_code():
    committed = small_studies.read("reports", "open_ended").query(
        "arm == 'world' and seed == 401 and metric != 'mauve'"
    )
    world = World.make(401)
    held_out = world.sample(open_ended.HELD_OUT, np.random.default_rng([401, 41]))
    firsts, seconds = open_ended.halves(held_out["text"])
    tokens = sum(len(text.replace(".", " .").split()) + 1 for text in seconds)  # and the end
    nats = -open_ended.conditional_log_p(held_out, firsts, world).sum() / tokens
    made = {metric: value for metric, value, _ in open_ended.continued(seconds, held_out, world, nats)}
    assert committed.set_index("metric")["value"].to_dict() == pytest.approx(made, abs=2e-6)


def test_continuations_like_the_truth_are_like_it_and_empty_ones_are_not(monkeypatch):
    monkeypatch.setattr(students, "STEPS", 2)
    lm = students.pretrained(WORLD, 5, hidden=32)
    reader = Student(lm, LABEL_NAMES, students.settings_of("real", 5, lm_weight=0.0))
    _, seconds = open_ended.halves(WORLD.sample(60, np.random.default_rng(1))["text"])
    true = open_ended.vectors(reader, seconds)
    assert true.shape == (60, 32) and not open_ended.vectors(reader, ["", " "]).any()
    found = [open_ended.likeness(reader, texts, true, 5)[1] for texts in (seconds, ["", *seconds[1:]], [""] * 60)]
    assert found[0] == pytest.approx(1) and found[0] > found[1] > 0.5 > found[2]


def test_rows_say_their_unit():
    rows = small_studies.read("reports", "open_ended")
    assert dict(zip(rows["metric"], rows["unit"], strict=True)) == {
        "continuation_loss": "nats/token", "words": "words/text", "on_topic": "share", "repetition": "share",
        "mauve": "1",
    }  # fmt: skip
