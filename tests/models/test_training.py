import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import NEWS
from datasets import Dataset

from symbiosis.models import loading, scoring, training
from symbiosis.models.generator import Generator
from symbiosis.models.ranks import TrainingError
from symbiosis.models.scoring import text_losses
from symbiosis.models.student import LessonRows, Student
from symbiosis.settings import RunSettings

LABELS = list(NEWS)
LESSON = Dataset.from_dict({
    "text": [t for texts in NEWS.values() for t in texts], "label": [0, 0, 1, 1, 2, 2, 3, 3], "weight": [1.0] * 8,
})  # fmt: skip
SETTINGS = RunSettings(batch_size=3, epochs=2, learning_rate=5e-3, max_length=32)


@pytest.fixture
def student(neox_folder):
    return Student(loading.load(str(neox_folder), device="cpu"), LABELS, SETTINGS)


def with_(learner, **changes):
    """A copy of a Student or Generator, weights and all, with other settings."""
    settings = learner.settings.model_copy(update=changes)
    return replace(learner, lm=copy.deepcopy(learner.lm), settings=settings)


def weights(learner):
    return list(learner.lm.model.parameters())


@pytest.fixture
def generator(qwen_folder):
    return Generator(loading.load(str(qwen_folder), device="cpu"), LABELS, SETTINGS)


def test_both_losses_of_a_step_by_hand(student):
    lesson = LESSON.select([0, 7]).remove_columns("weight").add_column("weight", [2.0, 1.0])
    log_p = lambda row: student.lm.model(torch.tensor([row])).logits[0].log_softmax(-1)  # noqa: E731
    labels, asked = [student.label_rows()[i] for i in lesson["label"]], student.questions(lesson["text"])
    label_nll = [
        -sum(log_p(a + y)[len(a) - 1 + j, t] for j, t in enumerate(y)).item()
        for a, y in zip(asked, labels, strict=True)
    ]
    written, given = student.written_rows(lesson["text"], lesson["label"])
    lm_nll = [[-log_p(r)[j - 1, r[j]].item() for j in range(g, len(r))] for r, g in zip(written, given, strict=True)]
    tokens = [len(nll) for nll in lm_nll]
    (step,) = with_(student, batch_size=2, epochs=1).learn(lesson, seed=0)
    assert len(labels[1]) > len(labels[0])  # "Sci/Tech" has more tokens and counts no more
    assert step["label_loss"] == pytest.approx((2 * label_nll[0] + label_nll[1]) / 3, rel=1e-4)
    expected = (2 * sum(lm_nll[0]) + sum(lm_nll[1])) / (2 * tokens[0] + tokens[1])
    assert step["lm_loss"] == pytest.approx(expected, rel=1e-4)


def test_weight_zero_rows_teach_nothing(student):
    some, taught = LESSON.select(range(3)), []
    for label in (0, 3):
        texts, labels = [*some["text"], "never learn this"], [*some["label"], label]
        lesson = Dataset.from_dict({"text": texts, "label": labels, "weight": [1.0] * 3 + [0.0]})
        learner = with_(student, batch_size=4, epochs=1)
        learner.learn(lesson, seed=1)
        taught.append(weights(learner))
    assert all(torch.equal(p, q) for p, q in zip(*taught, strict=True))


def test_same_rows_and_epochs_give_the_same_steps(student):
    assert len(student.learn(LESSON, seed=0)) == 2 * 3  # ceil(8 / 3) a pass


def test_same_seed_gives_the_same_weights_to_the_bit(student):
    one, again, other = (with_(student) for _ in range(3))
    for learner, seed in ((one, 5), (again, 5), (other, 6)):
        learner.learn(LESSON, seed=seed)
    assert all(torch.equal(p, q) for p, q in zip(weights(one), weights(again), strict=True))
    assert not torch.equal(weights(one)[0], weights(other)[0])


def test_a_lesson_is_learned(student):
    history = with_(student, epochs=30).learn(LESSON, seed=0)
    assert history[-1]["label_loss"] < 0.5 * history[0]["label_loss"]
    assert history[-1]["lm_loss"] < history[0]["lm_loss"]


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


def test_a_soft_label_is_the_mean_of_its_labels_losses(student):
    def label_loss(label, probs):
        row = {"text": LESSON["text"][:1], "weight": [1.0], "label": [label], "label_probs": [probs]}
        one = np.array([0])
        return LessonRows(student, Dataset.from_dict(row)).batch_losses(one, one)["label_loss"].item()

    hard = [label_loss(label, None) for label in (0, 1)]
    assert hard[0] != hard[1]
    assert label_loss(0, [0.75, 0.25, 0.0, 0.0]) == pytest.approx(0.75 * hard[0] + 0.25 * hard[1], rel=1e-5)


def test_a_certain_soft_label_teaches_what_the_label_teaches(student):
    soft = LESSON.add_column("label_probs", [[float(c == label) for c in range(4)] for label in LESSON["label"]])
    assert with_(student).learn(soft, seed=1) == with_(student).learn(LESSON, seed=1)


# --- the Generator -------------------------------------------------------------------------------------------------
def test_weighted_answers_of_weight_zero_teach_the_generator_nothing(generator):
    asked, answers = ["Write.", "Write more."], ["Shares fell.", "A probe landed on the moon."]
    learner = with_(generator, generator_epochs=8, generator_learning_rate=5e-3)
    losses = lambda: text_losses(learner.lm, *learner.answered(asked, answers), SETTINGS)  # noqa: E731
    before = losses()
    history = learner.fine_tune(asked, answers, seed=0, weights=np.array([1.0, 0.0]))
    after = losses()
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert after[0] < before[0] - 1 and after[1] > after[0] + 1


def test_adapters_train_few_weights_and_leave_a_plain_model(generator):
    pytest.importorskip("peft", reason="peft is an extra: pip install -e '.[train]'")
    model, _ = generator.lm
    names, head = set(model.state_dict()), model.get_output_embeddings().weight.detach().clone()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    changes = {"generator_epochs": 10, "generator_learning_rate": 2e-2, "generator_lora_rank": 4}
    learner = replace(generator, settings=SETTINGS.model_copy(update=changes))
    history = learner.fine_tune(["Write."] * 4, ["Shares fell."] * 4, seed=0)
    assert history[-1]["loss"] < history[0]["loss"] - 0.5
    assert set(model.state_dict()) == names and torch.equal(model.get_output_embeddings().weight, head)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all("proj" in name for name in changed)  # merged into the linear layers, nothing else moved
    assert all(p.requires_grad for p in model.parameters())


def test_the_generator_has_not_drifted_from_itself_and_has_after_learning(generator):
    learner = with_(generator, generator_learning_rate=1e-2, generator_epochs=5, max_new_tokens=12)
    assert learner.kl_to(generator.lm, n=8, seed=0) == 0
    learner.fine_tune(["Write."] * 8, ["Shares fell.", "A probe landed."] * 4, seed=0)
    assert learner.kl_to(generator.lm, n=8, seed=0) > 0.01


# --- the same step in less memory or time --------------------------------------------------------------------------
UNEVEN = LESSON.remove_columns("weight").add_column("weight", [2.0, 1.0, 0.5, 1.0, 3.0, 1.0, 1.0, 0.25])
TEXTS = LESSON["text"][:]


def teach(learner):
    return learner.learn(UNEVEN, seed=1)


def tune(learner):
    return learner.fine_tune(["Write."] * 8, TEXTS, seed=1, weights=np.array(UNEVEN["weight"]))


def prefer(learner):
    return learner.prefer(["Write."] * 4, TEXTS[:4], TEXTS[4:], seed=1)


@pytest.mark.parametrize("train", [teach, tune, prefer])
@pytest.mark.parametrize("parts", [2, 100])
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


def test_the_mean_of_the_parts_means_would_have_been_another_loss(student):
    lesson, rows = LessonRows(student, UNEVEN), np.arange(8)
    part = lambda some, batch: lesson.batch_losses(some, batch)["loss"].item()  # noqa: E731
    whole = part(rows, rows)
    assert part(rows[:3], rows) + part(rows[3:], rows) == pytest.approx(whole, rel=1e-6)
    assert abs((part(rows[:3], rows[:3]) + part(rows[3:], rows[3:])) / 2 - whole) > 1e-3


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
