"""Likelihoods of token rows: batches, padding and the head in pieces change nothing."""

import numpy as np
import pytest
import torch
from made_tokenizers import whole_words
from model_helpers import LABELS, TEXTS, log_p, with_
from row_by_row import row_by_row

from symbiosis.data.lesson import make_lesson
from symbiosis.models import loading, scoring
from symbiosis.models.generator import Generator
from symbiosis.models.student import Student
from symbiosis.prompts import read_prompts
from symbiosis.settings import RunSettings

SETTINGS = RunSettings(max_length=32, generation_batch_size=3)


@pytest.fixture(scope="module")
def student(neox_folder):
    return Student(loading.load(str(neox_folder), device="cpu"), LABELS, SETTINGS)


def test_text_losses_equal_one_row_at_a_time(student):
    model, _ = student.lm
    rows, given = student.written_rows(TEXTS, [1] * len(TEXTS))
    expected = [
        -np.mean([log_p(model, r)[j - 1, r[j]] for j in range(g, len(r))]) for r, g in zip(rows, given, strict=True)
    ]
    np.testing.assert_allclose(scoring.text_losses(student.lm, rows, given, SETTINGS), expected, rtol=1e-5)


@row_by_row("folder", ["neox_folder", "qwen_folder"])
def test_token_losses_equal_the_library_loss(folder, request):
    lm = loading.load(str(request.getfixturevalue(folder)), device="cpu")
    rows, prompts = [[0, 40, 50, 60, 70, 80], [0, 90, 41]], [3, 1]
    nll, row = scoring.token_losses(lm, rows, prompts, SETTINGS)
    for i, (tokens, k) in enumerate(zip(rows, prompts, strict=True)):
        labels = torch.tensor([[-100] * k + tokens[k:]])
        expected = lm.model(input_ids=torch.tensor([tokens]), labels=labels).loss.item()
        assert nll[row == i].mean().item() == pytest.approx(expected, rel=1e-5)


def test_the_head_in_pieces_gives_the_same_losses(student, monkeypatch):
    rows, given = student.written_rows(TEXTS, [1] * len(TEXTS))
    whole = scoring.text_losses(student.lm, rows, given, SETTINGS)
    monkeypatch.setattr(scoring, "HEAD_TOKENS", 5)
    np.testing.assert_allclose(scoring.text_losses(student.lm, rows, given, SETTINGS), whole, rtol=1e-6)


def test_shorten_leaves_short_texts_untouched(student):
    tokenizer = student.lm.tokenizer
    assert scoring.shorten(tokenizer, ["A  moon."], 32) == ["A  moon."]
    assert len(tokenizer(scoring.shorten(tokenizer, [TEXTS[0] * 9], 12)[0])["input_ids"]) <= 13


# --- labels ---------------------------------------------------------------------------------------------------------
@row_by_row(
    "rows, ended",
    [
        ([[5], [6, 7]], False),
        ([[5, 6], [5, 7]], False),  # they share a beginning, and neither is the other's
        ([[5], [5, 6]], True),
        ([[5, 6, 7], [9], [5, 6]], True),
    ],
)
def test_labels_have_an_end_where_one_begins_another(rows, ended):
    words = scoring.LabelWords(rows, list(range(len(rows))))
    found = scoring.told_apart(whole_words(*"abcdefgh"), words, [str(row) for row in rows], [2], "student")
    assert found.rows == found.first == [row + [2] * ended for row in rows]


def test_a_class_is_as_likely_as_all_of_its_words():
    p = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
    np.testing.assert_allclose(np.exp(scoring.summed(np.log(p), [0, 0, 1, 2])), [[0.3, 0.3, 0.4], [0.8, 0.1, 0.1]])
    one_each = np.log(p)
    assert scoring.summed(one_each, [0, 1, 2, 3]) is one_each  # to the bit
    words = scoring.LabelWords([[5], [6], [7, 8]], [0, 0, 1])
    assert words.first == [[5], [7, 8]]


def test_beliefs_are_calibrated_by_hand():
    p, mean = np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0.7, 0.3])
    odds = p / mean
    expected = odds / odds.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(scoring.calibrated(np.log(p), np.log(mean))), expected)
    assert expected.argmax(1).tolist() == [0, 1]  # raw, the first label took both texts
    np.testing.assert_allclose(np.exp(scoring.calibrated(np.log(p), np.log([0.5, 0.5]))), p)
    assert scoring.calibrated(p, None) is p


@row_by_row(
    "words, message",
    [
        ({"a": ["won", "Won"], "b": ["match"]}, "'won' and 'Won' as the same; take another word in label_words"),
        ({"a": ["won", "Billing"], "b": ["match"]}, "know the label 'Billing'; take another word in label_words"),
        ({"a": ["won", "match"], "b": ["match won"]}, "reads the label word 'match' as the beginning of 'match won'"),
    ],
)
def test_words_that_cannot_be_summed_are_refused_in_a_sentence(words, message, monkeypatch):
    tokenizer, prompts = whole_words("won", "match", "news:", lowercase=True), read_prompts()
    own = type(prompts)(**prompts.model_dump() | {"label_words": {name: tuple(of) for name, of in words.items()}})
    monkeypatch.setattr(Student, "prompts", own)
    with pytest.raises(scoring.LabelError, match=message) as refused:
        Student(loading.LanguageModel(None, tokenizer), list(words), SETTINGS)
    assert len(str(refused.value)) < 300


@row_by_row(
    "names, message",
    [
        (["won", "Billing"], "student: its tokenizer does not know the label 'Billing'; name another model in student"),
        (["won", ""], "does not know the label ''"),
        (["won", "</s>"], "does not know the label '</s>'"),
        (
            ["match won", "match Billing", "match Account"],
            "labels 'match Billing' and 'match Account' as the same",
        ),
        (["Won", "won"], "reads the labels 'Won' and 'won' as the same"),
        (["won", "won "], "as the same"),
        (["x" * 5000, "won"], "does not know the label 'x"),
    ],
)
def test_labels_a_student_cannot_tell_apart_are_refused_in_a_sentence(names, message):
    tokenizer = whole_words("won", "match", "news:", lowercase=True)
    with pytest.raises(scoring.LabelError, match=message) as refused:
        Student(loading.LanguageModel(None, tokenizer), names, SETTINGS)
    assert len(str(refused.value)) < 300


@row_by_row("names", [["STYLE", "STYLE & BEAUTY"], ["a b c", "a", "a b"]])
@row_by_row("role", ["student", "generator"])
def test_a_label_that_begins_with_another_can_be_learned(names, role, neox_folder, qwen_folder):
    texts = [f"{word} {i}" for word in ("dress", "cream", "moon")[: len(names)] for i in range(4)]
    labels = [i // 4 for i in range(len(texts))]
    settings = RunSettings(epochs=25, batch_size=4, learning_rate=1e-2, generator_epochs=60, max_length=16).model_copy(
        update={"generator_learning_rate": 1e-2}
    )
    if role == "student":
        learner = Student(loading.load(str(neox_folder), device="cpu"), names, settings)
        learner.learn(make_lesson(texts, labels, "real", 1, "real", [""] * len(texts)), seed=0)
    else:
        learner = Generator(loading.load(str(qwen_folder), device="cpu"), names, settings)
        learner.fine_tune(
            [read_prompts().label_turn(text, names) for text in texts], [names[i] for i in labels], seed=0
        )
    assert learner.label_log_probs(texts).argmax(1).tolist() == labels


def test_likelihoods_that_are_no_numbers_stop_in_a_sentence(student):
    broken = with_(student)
    broken.lm.model.get_output_embeddings().weight.data.fill_(float("nan"))
    for ask in (broken.label_log_probs, broken.text_losses):
        with pytest.raises(scoring.LikelihoodError, match=r"neox: its likelihoods are nan, .* lower learning_rate"):
            ask(TEXTS)
