"""Steps of training, whoever learns: batches, a loss that is no number, the same step in less memory or time."""

import numpy as np
import pytest
import torch
from model_helpers import LABELS, LESSON, TEXTS, UNEVEN, weights, with_
from row_by_row import row_by_row

from symbiosis.models import loading, scoring, training
from symbiosis.models.generator import Generator
from symbiosis.models.ranks import TrainingError
from symbiosis.models.student import LessonRows, Student
from symbiosis.settings import RunSettings

SETTINGS = RunSettings(batch_size=3, epochs=2, learning_rate=5e-3, max_length=32)


@pytest.fixture
def student(neox_folder):
    return Student(loading.load(str(neox_folder), device="cpu"), LABELS, SETTINGS)


@pytest.fixture
def generator(qwen_folder):
    return Generator(loading.load(str(qwen_folder), device="cpu"), LABELS, SETTINGS)


def test_infinite_loss_stops_with_the_remedy_and_changes_nothing(student):
    with torch.no_grad():
        student.lm.model.get_output_embeddings().weight.fill_(float("inf"))
    before = weights(student)[0].clone()
    with pytest.raises(TrainingError, match=r"Student: the loss became nan at step 1 of 6; .* lower learning_rate"):
        student.learn(LESSON, seed=0)
    assert torch.equal(before, weights(student)[0])


def test_batches_hold_every_row_once_and_like_lengths_together():
    lengths = np.random.default_rng(0).integers(5, 100, 160)
    batches = training.bucketed_batches(lengths, 16, np.random.default_rng(1))
    assert sorted(np.concatenate(batches)) == list(range(160)) and len(batches) == 10
    padding = sum(lengths[b].max() * len(b) for b in batches) / lengths.sum()
    assert padding < 1.1  # unsorted batches of 16 waste far more
    shuffled = np.random.default_rng(2).permutation(160).reshape(10, 16)
    assert sum(lengths[b].max() * 16 for b in shuffled) / lengths.sum() > 1.5


# --- the same step in less memory or time --------------------------------------------------------------------------
def teach(learner):
    return learner.learn(UNEVEN, seed=1)


def tune(learner):
    return learner.fine_tune(["Write."] * 8, TEXTS, seed=1, weights=np.array(UNEVEN["weight"]))


def prefer(learner):
    return learner.prefer(["Write."] * 4, TEXTS[:4], TEXTS[4:], seed=1)


@row_by_row("train", [teach, tune, prefer])
@row_by_row("parts", [2, 100])
def test_a_batch_read_in_parts_has_the_losses_and_the_gradient_of_the_whole_one(student, generator, train, parts):
    begun = student if train is teach else generator
    sizes = {"epochs": 3, "generator_epochs": 3, "generator_learning_rate": 5e-3}
    one, other = with_(begun, **sizes), with_(begun, **sizes, gradient_accumulation_steps=parts)
    whole, split = train(one), train(other)
    assert [list(step) for step in whole] == [list(step) for step in split] and len(whole) > 3
    for a, b in zip(whole, split, strict=True):
        assert list(b.values()) == pytest.approx(list(a.values()), abs=1e-5)
    far = lambda a, b: sum(((p - q) ** 2).sum() for p, q in zip(weights(a), weights(b), strict=True))  # noqa: E731
    assert far(one, other) < 1e-4 * far(one, begun)


def test_logits_computed_twice_change_nothing(student, monkeypatch):
    kept, twice, calls = with_(student), with_(student), []
    plain = teach(kept)
    twice.lm.model.get_output_embeddings().register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    monkeypatch.setattr(scoring, "KEPT_LOGITS", 0)
    assert teach(twice) == plain
    assert len(calls) == 2 * len(plain)
    assert all(torch.equal(p, q) for p, q in zip(weights(kept), weights(twice), strict=True))


def test_bf16_training_has_the_gradient_of_fp32_within_its_rounding(student):
    gradients = {}
    for precision in ("fp32", "bf16"):
        learner, rows = with_(student, precision=precision), np.arange(8)
        LessonRows(learner, UNEVEN).batch_losses(rows, rows)["loss"].backward()
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in weights(learner))
        gradients[precision] = torch.cat([p.grad.flatten() for p in weights(learner)])
    full, low = gradients["fp32"], gradients["bf16"]
    assert 1e-4 < ((full - low).norm() / full.norm()).item() < 2e-2


# --- the size of the steps -----------------------------------------------------------------------------------------
def sizes(monkeypatch, learner, **changes):
    """The learning rate of every step of a lesson, as the optimiser saw it."""
    seen, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: (seen.append(self.param_groups[0]["lr"]), step(self)))
    with_(learner, batch_size=2, epochs=2, learning_rate=0.8, **changes).learn(LESSON, seed=0)
    monkeypatch.undo()
    return seen


def test_steps_rise_and_fall_as_the_schedule_says_and_none_is_lost(student, monkeypatch):
    assert sizes(monkeypatch, student) == [0.8] * 8
    assert sizes(monkeypatch, student, warmup_steps=3) == pytest.approx([0.2, 0.4, 0.6, *[0.8] * 5])
    falling = [0.2, 0.4, 0.6, 0.8, 0.64, 0.48, 0.32, 0.16]
    assert sizes(monkeypatch, student, warmup_steps=3, schedule="linear") == pytest.approx(falling)


def test_a_lesson_shorter_than_its_warm_up_still_takes_whole_steps():
    """Fewer rows than `lesson_size` may be left of a lesson; the settings only know the latter."""
    steps = training.Steps("Student", 1.0).shaped("linear", 5, 3)
    assert [steps.schedule(k) for k in range(3)] == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_without_lm_weight_texts_are_not_predicted_and_the_label_loss_is_the_same(student):
    rows, read = np.arange(8), []
    student.lm.model.get_output_embeddings().register_forward_hook(lambda *at: read.append(at[1][0].numel()))
    with_lm, without = (LessonRows(with_(student, lm_weight=w), UNEVEN).batch_losses(rows, rows) for w in (1.0, 0.0))
    assert without["loss"] == without["label_loss"] and torch.isnan(without["lm_loss"])
    assert without["label_loss"].item() == pytest.approx(with_lm["label_loss"].item(), rel=1e-5)
    assert with_lm["loss"] > with_lm["label_loss"]
    assert read[1] < read[0] / 2  # hidden states that the head reads
