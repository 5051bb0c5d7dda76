import copy

import numpy as np
import pytest
import torch
from conftest import NEWS
from datasets import Dataset

from symbiosis import models, training
from symbiosis.settings import RunSettings
from symbiosis.training import TrainingError

LABELS = list(NEWS)
LESSON = Dataset.from_dict({
    "text": [t for texts in NEWS.values() for t in texts], "label": [0, 0, 1, 1, 2, 2, 3, 3], "weight": [1.0] * 8,
})  # fmt: skip
SETTINGS = RunSettings(batch_size=3, epochs=2, learning_rate=5e-3, max_length=32)


@pytest.fixture
def student(neox_folder):
    return models.load(str(neox_folder), device="cpu")


def test_answer_loss_equals_the_library_loss_on_one_row(student):
    model, tokenizer = student
    row, known = [0, 40, 50, 60, 70, 80], 3
    labels = torch.tensor([[-100] * known + row[known:]])
    expected = model(input_ids=torch.tensor([row]), labels=labels).loss.item()
    given = training.answer_loss(model, tokenizer, [row], [known], np.ones(1, np.float32), SETTINGS)
    assert given.item() == pytest.approx(expected, rel=1e-5)


def test_answer_loss_weighs_tokens_or_rows_by_hand(student):
    model, tokenizer = student
    rows, known, one = [[0, 40, 50], [0, 60, 70, 80, 90]], [1, 2], np.ones(1, np.float32)
    a, b = (
        training.answer_loss(model, tokenizer, [r], [k], one, SETTINGS).item() for r, k in zip(rows, known, strict=True)
    )
    w = np.array([2.0, 1.0], np.float32)
    per_token = training.answer_loss(model, tokenizer, rows, known, w, SETTINGS).item()
    per_row = training.answer_loss(model, tokenizer, rows, known, w, SETTINGS, per_token=False).item()
    assert per_token == pytest.approx((2 * 2 * a + 3 * b) / (2 * 2 + 3), rel=1e-4)  # 2 and 3 answer tokens
    assert per_row == pytest.approx((2 * 2 * a + 3 * b) / 3, rel=1e-4)


def test_weight_zero_rows_teach_nothing(student):
    model, tokenizer = student
    other = copy.deepcopy(model)
    some = LESSON.select(range(3))
    wrong = Dataset.from_dict(
        {"text": [*some["text"], "never learn this"], "label": [*some["label"], 0], "weight": [1.0] * 3 + [0.0]}
    )
    right = Dataset.from_dict(
        {"text": [*some["text"], "never learn this"], "label": [*some["label"], 3], "weight": [1.0] * 3 + [0.0]}
    )
    settings = SETTINGS.model_copy(update={"batch_size": 4, "epochs": 1})
    training.train_student(model, tokenizer, wrong, LABELS, settings, seed=1)
    training.train_student(other, tokenizer, right, LABELS, settings, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_same_rows_and_epochs_give_the_same_steps(student):
    model, tokenizer = student
    assert (
        len(training.train_student(model, tokenizer, LESSON, LABELS, SETTINGS, seed=0)) == 2 * 3
    )  # ceil(8 / 3) a pass


def test_same_seed_gives_the_same_weights_to_the_bit(student):
    model, tokenizer = student
    other, third = copy.deepcopy(model), copy.deepcopy(model)
    for chosen, seed in ((model, 5), (other, 5), (third, 6)):
        training.train_student(chosen, tokenizer, LESSON, LABELS, SETTINGS, seed=seed)
    same = [torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True)]
    assert all(same) and not torch.equal(next(model.parameters()), next(third.parameters()))


def test_a_lesson_is_learned(student):
    model, tokenizer = student
    history = training.train_student(
        model, tokenizer, LESSON, LABELS, SETTINGS.model_copy(update={"epochs": 30}), seed=0
    )
    assert history[-1]["label_loss"] < 0.5 * history[0]["label_loss"]
    assert history[-1]["lm_loss"] < history[0]["lm_loss"]


def test_infinite_loss_stops_with_the_remedy_and_changes_nothing(student):
    model, tokenizer = student
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("inf"))
    before = next(model.parameters()).clone()
    with pytest.raises(TrainingError, match=r"Student: the loss became nan at step 1 of 6; .* lower learning_rate"):
        training.train_student(model, tokenizer, LESSON, LABELS, SETTINGS, seed=0)
    assert torch.equal(before, next(model.parameters()))


def test_generator_learns_its_answers(qwen_folder):
    model, tokenizer = models.load(str(qwen_folder), device="cpu")
    settings = SETTINGS.model_copy(update={"generator_epochs": 20, "generator_learning_rate": 5e-3})
    history = training.train_generator(model, tokenizer, ["Say it."] * 4, list(LESSON["text"])[:4], settings, seed=0)
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]


def test_batches_hold_every_row_once_and_like_lengths_together():
    lengths = np.random.default_rng(0).integers(5, 100, 160)
    batches = training.bucketed_batches(lengths, 16, np.random.default_rng(1))
    assert sorted(np.concatenate(batches)) == list(range(160)) and len(batches) == 10
    padding = sum(lengths[b].max() * len(b) for b in batches) / lengths.sum()
    assert padding < 1.1  # unsorted batches of 16 waste far more
    shuffled = np.random.default_rng(2).permutation(160).reshape(10, 16)
    assert sum(lengths[b].max() * 16 for b in shuffled) / lengths.sum() > 1.5
