"""Likelihoods of token rows: batches, padding and the head in pieces change nothing."""

import numpy as np
import pytest
import torch
from model_helpers import LABELS, TEXTS, log_p

from symbiosis.models import loading, scoring
from symbiosis.models.student import Student
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


def test_shorten_leaves_short_texts_untouched(student):
    tokenizer = student.lm.tokenizer
    assert scoring.shorten(tokenizer, ["A  moon."], 32) == ["A  moon."]
    assert len(tokenizer(scoring.shorten(tokenizer, [TEXTS[0] * 9], 12)[0])["input_ids"]) <= 13
