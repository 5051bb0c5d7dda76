from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import NEWS
from datasets import Dataset
from scipy.special import log_softmax

from symbiosis.models import loading, scoring
from symbiosis.models.student import Student
from symbiosis.settings import RunSettings

SETTINGS = RunSettings(max_length=32, generation_batch_size=3)
TEXTS = [text for texts in NEWS.values() for text in texts]
LABELS = list(NEWS)


@pytest.fixture(scope="module")
def student(neox_folder):
    return Student(loading.load(str(neox_folder), device="cpu"), LABELS, SETTINGS)


def log_p(model, row):
    return model(torch.tensor([row])).logits[0].log_softmax(-1).detach().numpy()


def test_label_scores_equal_one_row_at_a_time(student):
    model, _ = student.lm
    prefixes, labels = student.questions(TEXTS), student.label_rows()
    assert len({len(label) for label in labels}) > 1  # label words of several lengths are in play
    expected = []
    for prefix in prefixes:
        sums = [
            sum(log_p(model, prefix + label)[len(prefix) - 1 + j, t] for j, t in enumerate(label)) for label in labels
        ]
        expected.append(log_softmax(sums))
    np.testing.assert_allclose(student.label_log_probs(TEXTS), expected, atol=1e-5)


def test_text_losses_equal_one_row_at_a_time(student):
    model, _ = student.lm
    rows, given = student.written_rows(TEXTS, [1] * len(TEXTS))
    expected = [
        -np.mean([log_p(model, r)[j - 1, r[j]] for j in range(g, len(r))]) for r, g in zip(rows, given, strict=True)
    ]
    np.testing.assert_allclose(scoring.text_losses(student.lm, rows, given, SETTINGS), expected, rtol=1e-5)


@pytest.mark.parametrize("folder", ["neox_folder", "qwen_folder"])
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


def test_only_the_text_is_cut(student):
    short = replace(student, settings=SETTINGS.model_copy(update={"max_length": 10}))
    long, tokenizer = " ".join(TEXTS * 5), student.lm.tokenizer
    assert tokenizer.decode(short.questions([long])[0]).endswith("\nTopic:")
    rows, given = short.written_rows([long], [0])
    assert len(rows[0]) == given[0] + 10 + 1 and rows[0][-1] == tokenizer.eos_token_id


def test_a_bare_text_is_scored_with_its_end(student):
    model, tokenizer = student.lm
    row = [tokenizer.bos_token_id, *tokenizer(TEXTS[0])["input_ids"], tokenizer.eos_token_id]
    expected = -np.mean([log_p(model, row)[j - 1, row[j]] for j in range(1, len(row))])
    assert student.text_losses(TEXTS[:1]) == pytest.approx([expected], rel=1e-5)


def test_shorten_leaves_short_texts_untouched(student):
    tokenizer = student.lm.tokenizer
    assert scoring.shorten(tokenizer, ["A  moon."], 32) == ["A  moon."]
    assert len(tokenizer(scoring.shorten(tokenizer, [TEXTS[0] * 9], 12)[0])["input_ids"]) <= 13


def test_evaluation_counts_what_is_right(student):
    log_probs = student.label_log_probs(TEXTS)
    said = log_probs.argmax(1)
    rows = Dataset.from_dict({"text": TEXTS, "label": [*said[:3], *((said[3:] + 1) % 4)]})
    result = student.evaluate(rows)
    assert result["correct"].tolist() == [True] * 3 + [False] * (len(TEXTS) - 3)
    assert result["label_loss"][0] == pytest.approx(-log_probs[0].max())
