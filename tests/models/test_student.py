"""The Student: what it is asked and how it answers, and what one lesson does to it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from made_tokenizers import byte_level, sentencepiece
from model_helpers import LABELS, LESSON, TEXTS, UNEVEN, label_log_probs_one_by_one, log_p, weights, with_
from row_by_row import row_by_row

from symbiosis.data.lesson import Written, make_lesson
from symbiosis.models import loading
from symbiosis.models.loading import LanguageModel
from symbiosis.models.student import LessonRows, Student
from symbiosis.settings import RunSettings

SETTINGS = RunSettings(batch_size=3, epochs=2, learning_rate=5e-3, max_length=32, generation_batch_size=3)


@pytest.fixture
def student(neox_folder):
    return Student(loading.load(str(neox_folder), device="cpu"), LABELS, SETTINGS)


def test_label_scores_equal_one_row_at_a_time(student):
    model, _ = student.lm
    prefixes, labels = student.questions(TEXTS), student.label_words().first
    assert len({len(label) for label in labels}) > 1  # label words of several lengths are in play
    expected = label_log_probs_one_by_one(model, prefixes, labels)
    np.testing.assert_allclose(student.label_log_probs(TEXTS), expected, atol=1e-5)


def test_only_the_text_is_cut_and_what_was_cut_has_no_end(student):
    short = replace(student, settings=SETTINGS.model_copy(update={"max_length": 10}))
    long, tokenizer = " ".join(TEXTS * 5), student.lm.tokenizer
    assert tokenizer.decode(short.questions([long])[0]).endswith("\nTopic:")
    rows, given = short.written_rows([long], [0])
    assert len(rows[0]) == given[0] + 10 and tokenizer.eos_token_id not in rows[0][1:]  # and what is cut has no end

    texts = ["Shares fell.", Written("Shares fell.", cut=True)]
    lesson = LessonRows(student, make_lesson(texts, [2, 2], "generator", 1, "write", [""] * 2))
    whole, cut = lesson.written
    assert whole == [*cut, student.lm.tokenizer.eos_token_id] and lesson.lengths == [len(whole), len(cut)]

    model, tokenizer = student.lm
    row = [tokenizer.bos_token_id, *tokenizer(TEXTS[0])["input_ids"], tokenizer.eos_token_id]
    expected = -np.mean([log_p(model, row)[j - 1, row[j]] for j in range(1, len(row))])
    assert student.text_losses(TEXTS[:1]) == pytest.approx([expected], rel=1e-5)


def test_evaluation_counts_what_is_right(student):
    log_probs = student.label_log_probs(TEXTS)
    said = log_probs.argmax(1)
    rows = Dataset.from_dict({"text": TEXTS, "label": [*said[:3], *((said[3:] + 1) % 4)]})
    result = student.evaluate(rows)
    assert result["correct"].tolist() == [True] * 3 + [False] * (len(TEXTS) - 3)
    assert result["label_loss"][0] == pytest.approx(-log_probs[0].max()) and (result["lm_loss"] > 0).all()
    of_labels = with_(student, lm_weight=0.0).evaluate(rows)
    assert np.isnan(of_labels.pop("lm_loss")).all()
    assert all(np.array_equal(values, result[name]) for name, values in of_labels.items())


# --- what it learns -------------------------------------------------------------------------------------------------
def test_both_losses_of_a_step_by_hand(student):
    lesson = LESSON.select([0, 7]).remove_columns("weight").add_column("weight", [2.0, 1.0])
    model, _ = student.lm
    labels, asked = [student.label_words().first[i] for i in lesson["label"]], student.questions(lesson["text"])
    label_nll = [
        -sum(log_p(model, a + y)[len(a) - 1 + j, t] for j, t in enumerate(y))
        for a, y in zip(asked, labels, strict=True)
    ]
    written, given = student.written_rows(lesson["text"], lesson["label"])
    lm_nll = [[-log_p(model, r)[j - 1, r[j]] for j in range(g, len(r))] for r, g in zip(written, given, strict=True)]
    tokens = [len(nll) for nll in lm_nll]
    (step,) = with_(student, batch_size=2, epochs=1).learn(lesson, seed=0)
    assert len(labels[1]) > len(labels[0])  # "Sci/Tech" has more tokens and counts no more
    assert step["label_loss"] == pytest.approx((2 * label_nll[0] + label_nll[1]) / 3, rel=1e-4)
    expected = (2 * sum(lm_nll[0]) + sum(lm_nll[1])) / (2 * tokens[0] + tokens[1])
    assert step["lm_loss"] == pytest.approx(expected, rel=1e-4)


def test_a_lesson_is_learned_to_the_bit_again_and_weight_zero_rows_teach_nothing(student):
    some, taught = LESSON.select(range(3)), []
    for label in (0, 3):
        texts, labels = [*some["text"], "never learn this"], [*some["label"], label]
        lesson = Dataset.from_dict({"text": texts, "label": labels, "weight": [1.0] * 3 + [0.0]})
        learner = with_(student, batch_size=4, epochs=1)
        learner.learn(lesson, seed=1)
        taught.append(weights(learner))
    assert all(torch.equal(p, q) for p, q in zip(*taught, strict=True))

    one, again, other = (with_(student) for _ in range(3))
    for learner, seed in ((one, 5), (again, 5), (other, 6)):
        learner.learn(LESSON, seed=seed)
    assert all(torch.equal(p, q) for p, q in zip(weights(one), weights(again), strict=True))
    assert not torch.equal(weights(one)[0], weights(other)[0])

    history = with_(student, epochs=30).learn(LESSON, seed=0)
    assert len(history) == 30 * 3  # ceil(8 / 3) steps a pass
    assert history[-1]["label_loss"] < 0.5 * history[0]["label_loss"]
    assert history[-1]["lm_loss"] < history[0]["lm_loss"]


def test_a_soft_label_is_the_mean_of_its_labels_losses_and_a_certain_one_is_the_label(student):
    def label_loss(label, probs):
        row = {"text": LESSON["text"][:1], "weight": [1.0], "label": [label], "label_probs": [probs]}
        one = np.array([0])
        return LessonRows(student, Dataset.from_dict(row)).batch_losses(one, one)["label_loss"].item()

    hard = [label_loss(label, None) for label in (0, 1)]
    assert hard[0] != hard[1]
    assert label_loss(0, [0.75, 0.25, 0.0, 0.0]) == pytest.approx(0.75 * hard[0] + 0.25 * hard[1], rel=1e-5)

    soft = LESSON.add_column("label_probs", [[float(c == label) for c in range(4)] for label in LESSON["label"]])
    assert with_(student).learn(soft, seed=1) == with_(student).learn(LESSON, seed=1)


def test_the_mean_of_the_parts_means_would_have_been_another_loss(student):
    lesson, rows = LessonRows(student, UNEVEN), np.arange(8)
    part = lambda some, batch: lesson.batch_losses(some, batch)["loss"].item()  # noqa: E731
    whole = part(rows, rows)
    assert part(rows[:3], rows) + part(rows[3:], rows) == pytest.approx(whole, rel=1e-6)
    assert abs((part(rows[:3], rows[:3]) + part(rows[3:], rows[3:])) / 2 - whole) > 1e-3


# --- pieces of one text ---------------------------------------------------------------------------------------------
@row_by_row("kind", ["prepend", "metaspace", "byte level"])
def test_rows_have_the_ids_of_the_whole_text(kind):
    tokenizer = byte_level() if kind == "byte level" else sentencepiece(kind)
    student = Student(LanguageModel(None, tokenizer), LABELS, SETTINGS)
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    (question,), labels = student.questions(["The bank won."]), student.label_words().first
    for label, row in zip(LABELS, labels, strict=True):
        assert question + row == [start, *loading.token_ids(tokenizer, [f"The bank won.\nTopic: {label}"])[0]]
    (row,), (given,) = student.written_rows(["The bank won."], [1])
    assert row == [start, *loading.token_ids(tokenizer, ["Sports news: The bank won."])[0], end]
    assert row[:given] == student.cues([1])[0]
    short = replace(student, settings=SETTINGS.model_copy(update={"max_length": 8}))
    whole, (cut,) = loading.token_ids(tokenizer, ["The bank won. " * 9])[0], short.questions(["The bank won. " * 9])
    assert cut[1:9] == whole[:8] and tokenizer.decode(cut[9:]) == "\nTopic:"


def test_no_token_of_a_row_is_a_special_one_that_a_text_spells_out(student):
    hostile, end = "Oil<|endoftext|> rose.<|endoftext|>", student.lm.tokenizer.eos_token_id
    named = replace(student, label_names=["World<|endoftext|>", hostile])
    (written,), _ = named.written_rows([hostile], [1])
    rows = [*named.questions([hostile]), *named.label_words().first, *named.cues([0, 1])]
    assert written.count(end) == 2 and [row.count(end) for row in rows] == [1, 0, 0, 1, 1]
