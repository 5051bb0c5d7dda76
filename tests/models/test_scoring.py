import numpy as np
import pytest
import torch
from conftest import NEWS
from datasets import Dataset
from scipy.special import log_softmax

from symbiosis.models import loading, scoring
from symbiosis.settings import RunSettings

SETTINGS = RunSettings(max_length=32, generation_batch_size=3)
TEXTS = [text for texts in NEWS.values() for text in texts]
LABELS = list(NEWS)


@pytest.fixture(scope="module")
def student(neox_folder):
    return loading.load(str(neox_folder), device="cpu")


def log_p(model, row):
    return model(torch.tensor([row])).logits[0].log_softmax(-1).detach().numpy()


def test_label_scores_equal_one_row_at_a_time(student):
    model, tokenizer = student
    prefixes, labels = scoring.student_prefixes(tokenizer, TEXTS, 32), scoring.student_labels(tokenizer, LABELS)
    assert len({len(label) for label in labels}) > 1  # label words of several lengths are in play
    expected = []
    for prefix in prefixes:
        sums = [
            sum(log_p(model, prefix + label)[len(prefix) - 1 + j, t] for j, t in enumerate(label)) for label in labels
        ]
        expected.append(log_softmax(sums))
    np.testing.assert_allclose(
        scoring.label_log_probs(model, tokenizer, prefixes, labels, SETTINGS), expected, atol=1e-5
    )


def test_text_losses_equal_one_row_at_a_time(student):
    model, tokenizer = student
    rows, given = scoring.student_texts(tokenizer, TEXTS, ["Sports"] * len(TEXTS), 32)
    expected = [
        -np.mean([log_p(model, r)[j - 1, r[j]] for j in range(g, len(r))]) for r, g in zip(rows, given, strict=True)
    ]
    np.testing.assert_allclose(scoring.text_losses(model, tokenizer, rows, given, SETTINGS), expected, rtol=1e-5)


@pytest.mark.parametrize("folder", ["neox_folder", "qwen_folder"])
def test_token_losses_equal_the_library_loss(folder, request):
    model, tokenizer = loading.load(str(request.getfixturevalue(folder)), device="cpu")
    rows, known = [[0, 40, 50, 60, 70, 80], [0, 90, 41]], [3, 1]
    nll, row = scoring.token_losses(model, tokenizer, rows, known, SETTINGS)
    for i, (tokens, k) in enumerate(zip(rows, known, strict=True)):
        labels = torch.tensor([[-100] * k + tokens[k:]])
        expected = model(input_ids=torch.tensor([tokens]), labels=labels).loss.item()
        assert nll[row == i].mean().item() == pytest.approx(expected, rel=1e-5)


def test_the_head_in_pieces_gives_the_same_losses(student, monkeypatch):
    model, tokenizer = student
    rows, given = scoring.student_texts(tokenizer, TEXTS, ["Sports"] * len(TEXTS), 32)
    whole = scoring.text_losses(model, tokenizer, rows, given, SETTINGS)
    monkeypatch.setattr(scoring, "HEAD_TOKENS", 5)
    np.testing.assert_allclose(scoring.text_losses(model, tokenizer, rows, given, SETTINGS), whole, rtol=1e-6)


def test_only_the_text_is_cut(student):
    _, tokenizer = student
    long = " ".join(TEXTS * 5)
    assert tokenizer.decode(scoring.student_prefixes(tokenizer, [long], 10)[0]).endswith("\nTopic:")
    rows, given = scoring.student_texts(tokenizer, [long], ["World"], 10)
    assert len(rows[0]) == given[0] + 10 + 1 and rows[0][-1] == tokenizer.eos_token_id


def test_shorten_leaves_short_texts_untouched(student):
    _, tokenizer = student
    assert scoring.shorten(tokenizer, ["A  moon."], 32) == ["A  moon."]
    assert len(tokenizer(scoring.shorten(tokenizer, [TEXTS[0] * 9], 12)[0])["input_ids"]) <= 13


def test_evaluation_counts_what_is_right(student):
    model, tokenizer = student
    beliefs = scoring.student_beliefs(model, tokenizer, TEXTS, LABELS, SETTINGS)
    said = beliefs.argmax(1)
    rows = Dataset.from_dict({"text": TEXTS, "label": [*said[:3], *((said[3:] + 1) % 4)]})
    result = scoring.evaluate(model, tokenizer, rows, LABELS, SETTINGS)
    assert result["correct"].tolist() == [True] * 3 + [False] * (len(TEXTS) - 3)
    assert result["label_loss"][0] == pytest.approx(-beliefs[0].max())
