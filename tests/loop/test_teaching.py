import copy
from collections import Counter

import numpy as np
import pytest

from symbiosis.data.lesson import Written
from symbiosis.loop import teaching
from symbiosis.loop.teaching import GenerationError, redraw
from symbiosis.models import loading
from symbiosis.models.generator import Generator
from symbiosis.prompts import read_prompts
from symbiosis.settings import RunSettings

SETTINGS = RunSettings(max_new_tokens=12, generation_batch_size=3, max_redraws=2)


# --- texts that can be used ----------------------------------------------------------------------------------------
def drawing(*rounds):
    """A writer that answers with prepared rounds."""
    answers = iter(rounds)
    return lambda prompts, seed, samples: list(next(answers))[: len(prompts)]


def test_empty_and_duplicate_texts_are_counted_and_drawn_again_or_stay_where_they_may():
    texts, counts = redraw(["a", "", "a", "b"], [0, 1, 2, 3], drawing([Written("c", cut=True), "d"]), 2, seed=0)
    assert texts == ["a", "c", "d", "b"]
    assert counts == {"asked": 4, "empty": 1, "duplicate": 1, "redrawn": 2, "cut": 1}

    with pytest.raises(GenerationError, match=r"2 of 4 texts are still empty after max_redraws=2; raise"):
        redraw(["a", "", "", "a"], [0] * 4, drawing(["", "", "a"], ["", "", "a"]), 2, seed=0)

    texts, counts = redraw(["a", "a"], [0] * 2, drawing(["a"], ["a"]), 2, seed=0)
    assert texts == ["a", "a"] and counts["repeated"] == 1 and counts["redrawn"] == 2

    texts, counts = redraw(["a", "a", ""], [0] * 3, drawing(["a"]), 2, seed=0, duplicates=False)
    assert texts == ["a"] * 3
    assert counts["redrawn"] == 1 and counts["duplicate"] == 3  # one at first, two after the empty one was replaced


# --- step A --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def lm(qwen_folder):
    return loading.load(str(qwen_folder), device="cpu")


def generator(lm, **changes) -> Generator:
    return Generator(lm, ["World", "Sports"], SETTINGS.model_copy(update=changes))


def test_a_share_of_the_drafts_is_kept_the_surest_of_each_label(lm):
    labels = np.array([0, 1, 0, 1, 1])
    kept = teaching.write(generator(lm, filter_share=0.5), labels, seed=1)
    every = teaching.write(generator(lm), np.resize(labels, 10), seed=1)  # the drafts among which it chose
    assert sorted(kept.labels) == sorted(labels) and kept.counts["asked"] == 10
    assert kept.counts["kept"] == kept.counts["filtered"] == 5
    own = every.probs[np.arange(10), every.labels]
    for label, n in ((0, 2), (1, 3)):
        chosen = np.flatnonzero(every.labels == label)[np.argsort(-own[every.labels == label])[:n]]
        assert {every.texts[i] for i in chosen} == {
            t for t, c in zip(kept.texts, kept.labels, strict=True) if c == label
        }
    assert kept.probs == pytest.approx(generator(lm).label_probs(kept.texts))
    assert kept.counts["agreed"] == (kept.probs.argmax(1) == kept.labels).sum()


def test_generator_labels_and_explains_in_its_chat_template(lm):
    explained = teaching.explain(generator(lm), ["A probe landed."] * 3, seed=1)
    assert len(set(explained.texts)) == 3 and explained.counts["asked"] == 3 and set(explained.labels) <= {0, 1}
    own = generator(lm).label_probs(explained.texts)
    assert (explained.labels == own.argmax(1)).all()  # one draft: its own label
    assert explained.probs.sum(1) == pytest.approx(np.ones(3), abs=1e-5)


def test_of_several_drafts_the_clearest_is_kept_and_what_did_not_happen_is_counted_as_zero(lm):
    asked = generator(lm, candidates=4)
    written = teaching.write(asked, [0, 1, 1], seed=1)
    drafts, _ = teaching.sample_unique(asked, asked.write_turns([0, 1, 1]), seed=1, samples=4)
    probs = asked.label_probs(drafts)
    for i, label in enumerate([0, 1, 1]):
        assert written.texts[i] == drafts[4 * i + probs[4 * i : 4 * i + 4, label].argmax()]
    agreed = int((written.probs.argmax(1) == [0, 1, 1]).sum())
    expected = {"asked": 12, "filtered": 9, "kept": 3, "agreed": agreed, "read": 12}
    assert {name: written.counts[name] for name in expected} == expected

    counts = teaching.write(generator(lm), [0, 1], seed=1).counts  # one draft each: none is passed over
    assert counts.keys() == {"asked", "empty", "duplicate", "cut", "filtered", "kept", "agreed"}
    assert counts["filtered"] == counts["empty"] == 0 and counts["kept"] == 2


def test_the_label_of_an_explanation_is_the_vote_of_the_hard_text_and_its_drafts(lm):
    asked, hard = generator(lm, candidates=3), ["A probe landed.", "Her serve won."]
    explained, (drafts, _) = (f(asked, hard, seed=2) for f in (teaching.explain, teaching.explanations))
    votes = np.stack([asked.label_probs([h, *drafts[3 * i : 3 * i + 3]]).mean(0) for i, h in enumerate(hard)])
    assert (explained.labels == votes.argmax(1)).all()
    assert explained.counts["read"] == 2 + 6 and teaching.explain(generator(lm), hard, seed=2).counts["read"] == 2
    given = teaching.explain(asked, hard, [1, 0], seed=2)
    assert given.labels.tolist() == [1, 0] and given.counts["read"] == 6
    best = asked.label_probs(drafts).reshape(2, 3, 2)[[0, 1], :, [1, 0]].argmax(1)
    assert given.texts == [drafts[3 * i + best[i]] for i in (0, 1)]


def test_an_attribute_prompt_holds_a_subject_the_generator_named(lm):
    asked, names = generator(lm, attributes=True), ("World", "Sports")
    prompts = teaching.attribute_turns(asked, [0, 1], seed=3)
    subjects = asked.answers([read_prompts().name.format(label=name) for name in names], seed=3)
    assert all(s in p and n in p for s, p, n in zip(subjects, prompts, names, strict=True))
    assert any(style in prompts[0] for style in read_prompts().styles)


def test_what_is_written_may_have_the_label_that_is_read_in_it(lm):
    labels = [0, 1, 0, 1]
    asked, read = (teaching.write(generator(lm, written_labels=name), labels, seed=3) for name in ("asked", "read"))
    assert asked.texts == read.texts and asked.labels.tolist() == labels
    assert read.labels.tolist() == generator(lm).label_probs(read.texts).argmax(1).tolist() != labels
    assert read.counts == asked.counts | Counter(read=4)  # that is what it costs more
    drafts = teaching.write(generator(lm, written_labels="read", candidates=2), labels, seed=3)
    assert drafts.counts["read"] == 8 and (drafts.labels == drafts.probs.argmax(1)).all()  # which were read anyway


def test_a_text_keeps_its_words_and_gets_the_likeliest_label(lm):
    labelled = teaching.label(generator(lm), ["A probe landed.", "Her serve won."])
    assert labelled.texts == ["A probe landed.", "Her serve won."] and labelled.counts == Counter(labelled=2)
    assert (labelled.labels == labelled.probs.argmax(1)).all()


def test_the_surest_are_taken_in_the_proportion_of_their_classes():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.99, 0.01], [0.7, 0.3], [0.4, 0.6], [0.45, 0.55]])
    texts = teaching.LabeledTexts(list("abcdef"), probs.argmax(1), probs, Counter())
    assert teaching.surest(texts, 3).tolist() == [0, 2, 4]  # two of four, one of two: .6 before .8
    assert teaching.surest(texts, 6).tolist() == [0, 1, 2, 3, 4, 5]


# --- step D --------------------------------------------------------------------------------------------------------
def test_exponential_weights_are_the_minimiser_of_score_plus_kl():
    w = teaching.exponential_weights(np.array([0.0, 1.0]), tau=2.0)  # sd = 1/2, so tau * sd = 1
    assert w / w.sum() == pytest.approx([0.731059, 0.268941], abs=1e-6)
    assert teaching.exponential_weights(np.ones(3), tau=1.0).tolist() == [1, 1, 1]
    assert teaching.exponential_weights(np.arange(9.0), tau=1e9) == pytest.approx(np.ones(9), abs=1e-6)


def test_the_pool_is_learned_under_the_labels_the_generator_gives_it(lm):
    learner = generator(copy.deepcopy(lm), generator_learning_rate=1e-2, generator_epochs=5)
    history = teaching.update_pool_lm(learner, ["Shares fell.", "A probe landed."] * 4, seed=0)
    assert history[-1]["loss"] < history[0]["loss"] - 0.1 and learner.kl_to(lm, n=8, seed=0) != 0


def test_of_each_hard_texts_drafts_the_lowest_score_is_preferred_to_the_highest(lm, monkeypatch):
    monkeypatch.setattr(Generator, "prefer", lambda self, asked, best, worst, seed: (asked, best, worst, seed))
    scores = np.array([0.5, -1.0, 2.0, 3.0, 0.0, 1.0])
    asked, best, worst, seed = teaching.update_dpo(
        generator(lm, candidates=3), ["Oil rose.", "Her serve won."], list("abcdef"), scores, seed=4
    )
    assert (best, worst, seed) == (["b", "e"], ["c", "d"], 4)
    assert "Oil rose." in asked[0] and "Her serve won." in asked[1] and len(asked) == 2
