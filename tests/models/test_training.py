import copy

import numpy as np
import pytest
import torch
from conftest import NEWS
from datasets import Dataset

from symbiosis.models import loading, scoring, training
from symbiosis.models.training import TrainingError
from symbiosis.settings import RunSettings

LABELS = list(NEWS)
LESSON = Dataset.from_dict({
    "text": [t for texts in NEWS.values() for t in texts], "label": [0, 0, 1, 1, 2, 2, 3, 3], "weight": [1.0] * 8,
})  # fmt: skip
SETTINGS = RunSettings(batch_size=3, epochs=2, learning_rate=5e-3, max_length=32)


@pytest.fixture
def student(neox_folder):
    return loading.load(str(neox_folder), device="cpu")


def test_both_losses_of_a_step_by_hand(student):
    model, tokenizer = student
    lesson = LESSON.select([0, 7]).remove_columns("weight").add_column("weight", [2.0, 1.0])
    log_p = lambda row: model(torch.tensor([row])).logits[0].log_softmax(-1)  # noqa: E731
    labels = [scoring.student_labels(tokenizer, LABELS)[i] for i in lesson["label"]]
    asked = scoring.student_prefixes(tokenizer, lesson["text"], 32)
    label_nll = [
        -sum(log_p(a + y)[len(a) - 1 + j, t] for j, t in enumerate(y)).item()
        for a, y in zip(asked, labels, strict=True)
    ]
    written, given = scoring.student_texts(tokenizer, lesson["text"], [LABELS[i] for i in lesson["label"]], 32)
    lm_nll = [[-log_p(r)[j - 1, r[j]].item() for j in range(g, len(r))] for r, g in zip(written, given, strict=True)]
    tokens = [len(nll) for nll in lm_nll]
    settings = SETTINGS.model_copy(update={"batch_size": 2, "epochs": 1})
    (step,) = training.train_student(model, tokenizer, lesson, LABELS, settings, seed=0)
    assert len(labels[1]) > len(labels[0])  # "Sci/Tech" has more tokens and counts no more
    assert step["label_loss"] == pytest.approx((2 * label_nll[0] + label_nll[1]) / 3, rel=1e-4)
    expected = (2 * sum(lm_nll[0]) + sum(lm_nll[1])) / (2 * tokens[0] + tokens[1])
    assert step["lm_loss"] == pytest.approx(expected, rel=1e-4)


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
    model, tokenizer = loading.load(str(qwen_folder), device="cpu")
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


def test_a_soft_label_is_the_mean_of_its_labels_losses(student):
    model, tokenizer = student
    hard, soft = ({"text": LESSON["text"][:1], "weight": [1.0], "label": [0], "label_probs": [p]}
                  for p in (None, [0.75, 0.25, 0.0, 0.0]))  # fmt: skip
    losses, one = [], np.array([0])
    for label in (0, 1):
        by_label, _ = training.student_losses(
            model, tokenizer, Dataset.from_dict(hard | {"label": [label]}), LABELS, SETTINGS
        )
        losses.append(by_label(one, one)["label_loss"].item())
    mixed, _ = training.student_losses(model, tokenizer, Dataset.from_dict(soft), LABELS, SETTINGS)
    assert losses[0] != losses[1]
    assert mixed(one, one)["label_loss"].item() == pytest.approx(0.75 * losses[0] + 0.25 * losses[1], rel=1e-5)


def test_a_certain_soft_label_teaches_what_the_label_teaches(student):
    model, tokenizer = student
    certain = [[float(c == label) for c in range(4)] for label in LESSON["label"]]
    soft = LESSON.add_column("label_probs", certain)
    plain = training.train_student(copy.deepcopy(model), tokenizer, LESSON, LABELS, SETTINGS, seed=1)
    assert training.train_student(copy.deepcopy(model), tokenizer, soft, LABELS, SETTINGS, seed=1) == plain


def test_weighted_answers_of_weight_zero_teach_the_generator_nothing(qwen_folder):
    generator, tokenizer = loading.load(str(qwen_folder), device="cpu")
    prompts, answers = ["Write.", "Write more."], ["Shares fell.", "A probe landed on the moon."]
    settings = SETTINGS.model_copy(update={"generator_epochs": 8, "generator_learning_rate": 5e-3})
    before = _answer_losses(generator, tokenizer, prompts, answers)
    training.train_generator(generator, tokenizer, prompts, answers, settings, seed=0, weights=np.array([1.0, 0.0]))
    after = _answer_losses(generator, tokenizer, prompts, answers)
    assert after[0] < before[0] - 1 and after[1] > after[0] + 1


def _answer_losses(generator, tokenizer, prompts, answers):
    rows, known = training._answered(tokenizer, prompts, answers, SETTINGS)
    return scoring.text_losses(generator, tokenizer, rows, known, SETTINGS)


def test_adapters_train_few_weights_and_leave_a_plain_model(qwen_folder):
    pytest.importorskip("peft", reason="peft is an extra: pip install -e '.[train]'")
    generator, tokenizer = loading.load(str(qwen_folder), device="cpu")
    names, head = set(generator.state_dict()), generator.get_output_embeddings().weight.detach().clone()
    before = {name: p.detach().clone() for name, p in generator.named_parameters()}
    settings = SETTINGS.model_copy(
        update={"generator_epochs": 10, "generator_learning_rate": 2e-2, "generator_lora_rank": 4}
    )
    history = training.train_generator(generator, tokenizer, ["Write."] * 4, ["Shares fell."] * 4, settings, seed=0)
    assert history[-1]["loss"] < history[0]["loss"] - 0.5
    assert set(generator.state_dict()) == names and torch.equal(generator.get_output_embeddings().weight, head)
    changed = {name for name, p in generator.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all("proj" in name for name in changed)  # merged into the linear layers, nothing else moved
    assert all(p.requires_grad for p in generator.parameters())


# --- the same step in less memory or time --------------------------------------------------------------------------
UNEVEN = LESSON.remove_columns("weight").add_column("weight", [2.0, 1.0, 0.5, 1.0, 3.0, 1.0, 1.0, 0.25])


def teach(model, tokenizer, settings):
    return training.train_student(model, tokenizer, UNEVEN, LABELS, settings, seed=1)


def tune(model, tokenizer, settings):
    return training.train_generator(
        model, tokenizer, ["Write."] * 8, LESSON["text"], settings, seed=1, weights=np.array(UNEVEN["weight"])
    )


def prefer(model, tokenizer, settings):
    best, worst = LESSON["text"][:4], LESSON["text"][4:]
    return training.train_preferences(model, tokenizer, ["Write."] * 4, best, worst, settings, seed=1)


@pytest.mark.parametrize("train", [teach, tune, prefer])
@pytest.mark.parametrize("parts", [2, 100])
def test_a_batch_read_in_parts_has_the_losses_and_the_gradient_of_the_whole_one(student, train, parts):
    begun, tokenizer = student
    settings = SETTINGS.model_copy(update={"epochs": 3, "generator_epochs": 3, "generator_learning_rate": 5e-3})
    (one, whole), (other, split) = [
        (model, train(model, tokenizer, settings.model_copy(update={"gradient_accumulation_steps": k})))
        for k, model in ((1, copy.deepcopy(begun)), (parts, copy.deepcopy(begun)))
    ]
    assert [list(step) for step in whole] == [list(step) for step in split] and len(whole) > 3
    for a, b in zip(whole, split, strict=True):
        assert list(b.values()) == pytest.approx(list(a.values()), abs=1e-5)
    far = lambda a, b: sum(((p - q) ** 2).sum() for p, q in zip(a.parameters(), b.parameters(), strict=True))  # noqa: E731
    assert far(one, other) < 1e-4 * far(one, begun)


def test_the_mean_of_the_parts_means_would_have_been_another_loss(student):
    losses, _ = training.student_losses(*student, UNEVEN, LABELS, SETTINGS)
    rows = np.arange(8)
    part = lambda some, batch: losses(some, batch)["loss"].item()  # noqa: E731
    whole = part(rows, rows)
    assert part(rows[:3], rows) + part(rows[3:], rows) == pytest.approx(whole, rel=1e-6)
    assert abs((part(rows[:3], rows[:3]) + part(rows[3:], rows[3:])) / 2 - whole) > 1e-3


def test_logits_computed_twice_change_nothing(student, monkeypatch):
    begun, tokenizer = student
    kept, twice = copy.deepcopy(begun), copy.deepcopy(begun)
    plain = teach(kept, tokenizer, SETTINGS)
    calls = []
    twice.get_output_embeddings().register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    monkeypatch.setattr(scoring, "KEPT_LOGITS", 0)
    assert teach(twice, tokenizer, SETTINGS) == plain
    assert len(calls) == 2 * len(plain)
    assert all(torch.equal(p, q) for p, q in zip(kept.parameters(), twice.parameters(), strict=True))


def test_bf16_training_has_the_gradient_of_fp32_within_its_rounding(student):
    model, tokenizer = student
    gradients = {}
    for precision in ("fp32", "bf16"):
        model.zero_grad()
        losses, _ = training.student_losses(
            model, tokenizer, UNEVEN, LABELS, SETTINGS.model_copy(update={"precision": precision})
        )
        losses(np.arange(8), np.arange(8))["loss"].backward()
        gradients[precision] = torch.cat([p.grad.flatten() for p in model.parameters()])
    full, low = gradients["fp32"], gradients["bf16"]
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    assert 1e-4 < ((full - low).norm() / full.norm()).item() < 2e-2
