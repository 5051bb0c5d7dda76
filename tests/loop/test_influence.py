import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import NEWS
from datasets import Dataset
from row_by_row import row_by_row
from scipy.stats import spearmanr

from symbiosis.data.lesson import make_lesson
from symbiosis.loop import influence as inf
from symbiosis.loop import methods, runs
from symbiosis.loop.influence import Influence
from symbiosis.models import loading, training
from symbiosis.models.ranks import TrainingError
from symbiosis.models.student import LessonRows, Student
from symbiosis.settings import RunSettings, derive_seed

LABELS = list(NEWS)
LESSON = Dataset.from_dict({
    "text": [t for texts in NEWS.values() for t in texts], "label": [0, 0, 1, 1, 2, 2, 3, 3],
    "weight": [1.0, 2.0, 1.0, 0.5, 1.0, 1.0, 3.0, 1.0],
})  # fmt: skip
SETTINGS = RunSettings(batch_size=3, epochs=2, learning_rate=5e-3, max_length=32, generation_batch_size=3)

# Two weights, AdamW at its tenth step, loss_dev = (2 theta_1^2 + 3 theta_2^2) / 2.
f64 = lambda *x: torch.tensor(x, dtype=torch.float64)  # noqa: E731
THETA, M, V, G, G_Z, LR, DECAY = f64(1, -1), f64(0.1, -0.2), f64(0.04, 0.09), f64(0.3, 0.1), f64(1, -0.5), 0.01, 0.1


def dev_gradient_after(w: float, m, v, t) -> torch.Tensor:
    """Gradient of loss_dev where torch's own AdamW ends up with the gradient G + w * G_Z."""
    p = torch.nn.Parameter(THETA.clone())
    optimizer = torch.optim.AdamW([p], lr=LR, weight_decay=DECAY)
    optimizer.state[p] = {"step": torch.tensor(t - 1.0), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    p.grad = G + w * G_Z
    optimizer.step()
    return p.detach() * f64(2, 3)


def loss_after(w: float, m, v, t) -> float:
    return (dev_gradient_after(w, m, v, t) ** 2 / f64(2, 3)).sum().item() / 2


@row_by_row("m, v, t, expected", [(M, V, 10, -0.0022805625), (0 * M, 0 * V, 1, -1.7e-8)])
def test_the_direction_gives_the_slope_of_two_weights(m, v, t, expected):
    q = inf.adamw_direction(dev_gradient_after(0, m, v, t), (m, v, t), G)
    slope, difference = -LR * (q @ G_Z).item(), (loss_after(1e-5, m, v, t) - loss_after(-1e-5, m, v, t)) / 2e-5
    assert slope == pytest.approx(expected, rel=0.05 if t == 1 else 1e-7)
    assert slope == pytest.approx(difference, rel=0.05 if t == 1 else 1e-6)


def test_a_frozen_preconditioner_or_an_undamped_slope_would_be_seen():
    v_hat = (0.999 * V + 0.001 * G**2) / (1 - 0.999**10)
    frozen = dev_gradient_after(0, M, V, 10) * (0.1 / (1 - 0.9**10)) / (v_hat.sqrt() + 1e-8)
    assert -LR * (frozen @ G_Z).item() == pytest.approx(-0.0022928512, rel=1e-7)

    zero, d = f64(0, 0.2), f64(1, 1)
    assert inf.adamw_direction(d, (zero, zero**2, 10), 0 * G)[0] > 1e6
    damped = inf.adamw_direction(d, (zero, zero**2, 10), 0 * G, damping=0.01)
    v_hat = 0.999 * 0.04 / (1 - 0.999**10)
    assert damped[0].item() == pytest.approx(0.1 / (1 - 0.9**10) / (0.1 * v_hat**0.5), rel=1e-6)


@row_by_row("scale", [0.5, 3.0])
def test_the_direction_goes_through_the_clipping(scale):
    gradient, g_z, q = [scale * f64(0.6), scale * f64(0.8, 0)], [f64(1.0), f64(-0.5, 2.0)], [f64(0.3), f64(-1.0, 0.4)]
    clipped_dot = lambda w: sum(  # noqa: E731
        (c * x).sum()
        for c, x in zip(inf.clipped([g + w * z for g, z in zip(gradient, g_z, strict=True)]), q, strict=True)
    )
    slope = sum((x * z).sum() for x, z in zip(inf.through_clipping(q, gradient), g_z, strict=True))
    assert slope.item() == pytest.approx((clipped_dot(1e-6) - clipped_dot(-1e-6)).item() / 2e-6, rel=1e-5)
    plain = sum((x * z).sum() for x, z in zip(q, g_z, strict=True))
    assert (slope.item() == pytest.approx(plain.item())) == (scale < 1)  # a long gradient changes the answer


@pytest.fixture
def student(neox_folder):
    return Student(loading.load(str(neox_folder), device="cpu"), LABELS, SETTINGS)


def parameters(student):
    return student.lm.model.parameters()


@row_by_row("soft", [False, True])
def test_row_losses_are_those_of_training(student, soft):
    probs = np.random.default_rng(0).dirichlet(np.ones(4), len(LESSON)).tolist()
    rows, batch = LessonRows(student, LESSON.add_column("label_probs", probs) if soft else LESSON), np.array([6, 0, 3])
    expected = rows.batch_losses(batch, batch)["loss"].item()
    loss = inf.batch_loss(rows.row_losses(batch), rows.weight[batch], SETTINGS.lm_weight)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_joining_is_the_slope_of_the_batch_loss(student):
    step, rows = inf.next_step(student, LESSON, seed=0), LessonRows(student, LESSON)
    joining = inf.joining_losses(rows, np.arange(8), step)
    for z in (0, 5):
        parts = [torch.cat(pair) for pair in zip(step.losses(), rows.row_losses([z]), strict=True)]
        loss = [  # in float64, as a small difference is taken
            inf.batch_loss(
                [x.double() for x in parts], torch.cat([step.weight, share * step.weight.sum()[None]]).double(), 1.0
            )
            for share in (0.0, 1e-5)
        ]
        assert joining[z] == pytest.approx((loss[1] - loss[0]).item() / 1e-5, rel=1e-3)


@row_by_row("words", [{}, {"World": ("capital", "peace"), "Sports": ("final", "match")}])
def test_dev_loss_is_that_of_the_evaluation(student, words, monkeypatch):
    prompts = student.prompts
    monkeypatch.setattr(Student, "prompts", type(prompts)(**prompts.model_dump() | {"label_words": words}))
    parts = [x.item() for x in inf.dev_losses(student, LESSON)]
    assert len(parts) == 2 and sum(parts) == pytest.approx(student.evaluate(LESSON)["label_loss"].mean(), rel=1e-5)


def test_calibration_finds_the_temperature_and_bias_that_labels_were_drawn_with():
    rng, k, bias = np.random.default_rng(0), -0.7, np.array([0.5, -0.5, 0.0])
    scores = 3 * rng.normal(size=(20_000, 3))
    p = np.exp(np.exp(k) * scores + bias)
    labels = (rng.random((20_000, 1)) > (p / p.sum(1, keepdims=True)).cumsum(1)).sum(1)
    found, found_bias = inf.calibration(scores, labels)
    assert found == pytest.approx(k, abs=0.03) and found_bias - found_bias.mean() == pytest.approx(bias, abs=0.05)
    surer, _ = inf.calibration(10 * scores + 4.0, labels)  # how sure the scores are no longer counts
    assert surer == pytest.approx(found - np.log(10), abs=1e-3)


NOT_CLEAR = Dataset.from_dict({"text": LESSON["text"][:] * 2, "label": [*LESSON["label"][:], 0, 1, 1, 2, 2, 3, 0, 0]})


def calibrated(student):
    return replace(student, settings=SETTINGS.model_copy(update={"dev_loss": "calibrated"}))


def test_the_calibrated_loss_is_the_lowest_that_temperature_and_bias_allow(student):
    log_p, labels = student.label_log_probs(NOT_CLEAR["text"]), np.array(NOT_CLEAR["label"])
    k, bias = inf.calibration(log_p, labels)
    logits = torch.tensor(np.exp(k) * log_p + bias)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).item()
    loss = sum(x.item() for x in inf.dev_losses(calibrated(student), NOT_CLEAR))
    assert loss == pytest.approx(expected, abs=1e-4) and loss < sum(
        x.item() for x in inf.dev_losses(student, NOT_CLEAR)
    )


def test_the_gradient_of_the_calibrated_loss_need_not_see_the_calibration(student):
    asked = calibrated(student)
    gradient = inf.dev_gradient(asked, NOT_CLEAR)
    norm, ends = inf.total_norm(gradient), []
    with inf.restored(asked) as theta:
        for sign in (1, -1):
            for p, start, g in zip(parameters(asked), theta, gradient, strict=True):
                p.data.copy_(start + sign * 2e-3 * g / norm)
            ends.append(sum(x.item() for x in inf.dev_losses(asked, NOT_CLEAR)))  # calibrated anew
    assert (ends[0] - ends[1]) / 4e-3 == pytest.approx(norm.item(), rel=0.02)


def test_the_teaching_direction_is_the_dev_gradient_over_the_root_mean_square_of_the_lessons(student):
    rows = LessonRows(student, LESSON)
    batches = training.bucketed_batches(rows.lengths, 3, np.random.default_rng(0))
    weights = list(parameters(student))
    squares = 0
    for batch in batches:
        student.lm.model.zero_grad()
        rows.batch_losses(batch, batch)["loss"].backward()
        squares = squares + weights[-1].grad.square() / len(batches)
    student.lm.model.zero_grad()
    expected = inf.dev_gradient(student, LESSON)[-1] / (squares + inf.DAMPING * squares.mean()).sqrt()
    torch.testing.assert_close(inf.teaching_direction(student, LESSON, LESSON)[-1], expected, rtol=1e-3, atol=1e-4)


def test_warmed_moments_are_those_of_the_optimizer(student):
    step, rows, weights = inf.next_step(student, LESSON, seed=3), LessonRows(student, LESSON), list(parameters(student))
    optimizer = torch.optim.AdamW(weights, lr=1e-30, weight_decay=0.0)  # the weights stay where they are
    *before, last = training.bucketed_batches(rows.lengths, 3, np.random.default_rng(3))
    for batch in before:
        optimizer.zero_grad()
        rows.batch_losses(batch, batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(weights, training.MAX_GRAD_NORM)
        optimizer.step()
    assert step.t == 3 and step.batch.tolist() == last.tolist()
    for p, m, v in zip(weights, step.m, step.v, strict=True):
        torch.testing.assert_close(optimizer.state[p]["exp_avg"], m, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(optimizer.state[p]["exp_avg_sq"], v, rtol=1e-3, atol=1e-9)


def test_the_direction_is_the_mean_over_next_steps(student):
    mean, step = Influence(student, LESSON, LESSON, seed=0, steps=2).mean_direction()
    steps = [inf.next_step(student, LESSON, seed=derive_seed(0, k, "step")) for k in range(2)]
    first, second = (inf.dev_direction(student, one, LESSON) for one in steps)
    assert step.batch.tolist() == [*steps[0].batch, *steps[1].batch] and len(step.weight) == len(step.batch)
    for x, a, b in zip(mean, first, second, strict=True):
        torch.testing.assert_close(x, (a + b) / 2)
    assert not torch.allclose(first[0], second[0])


def test_the_student_is_left_as_it_was_to_the_bit(student):
    model = student.lm.model
    before = copy.deepcopy(model.state_dict())
    Influence(student, LESSON, LESSON, seed=0).of(LESSON)
    Influence(student, LESSON, LESSON, seed=0, steps=1).by_training(LESSON, share=0.1)
    with pytest.raises(ZeroDivisionError), inf.restored(student):
        next(model.parameters()).data.zero_()
        raise ZeroDivisionError
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_influence_does_not_depend_on_how_candidates_are_batched(student):
    wide = replace(student, settings=SETTINGS.model_copy(update={"generation_batch_size": 8}))
    one, other = (Influence(s, LESSON, LESSON, seed=0).of(LESSON) for s in (student, wide))
    np.testing.assert_allclose(one, other, rtol=0, atol=0.02 * other.std())


def test_scores_that_half_the_step_would_change_stop_with_the_remedy():
    slopes = np.linspace(-1, 1, 5)
    inf.check_step(slopes, slopes, slopes + 0.02)
    for half in (slopes + 0.1, slopes * np.nan):
        with pytest.raises(TrainingError, match="lower learning_rate or raise lesson_size"):
            inf.check_step(slopes, slopes, half)


def test_gradient_norm_is_the_length_of_the_head_gradient(student):
    student, model = replace(student, label_names=["s", "the", "on"]), student.lm.model
    words = [word for (word,) in student.label_words().first]  # one token each, where the closed form is exact
    for text, norm in zip(LESSON["text"], inf.gradient_norm(student, LESSON["text"]), strict=True):
        logits = model(torch.tensor(student.questions([text]))).logits[0, -1, words]
        (gradient,) = torch.autograd.grad(-logits.log_softmax(-1).max(), [model.get_output_embeddings().weight])
        assert norm == pytest.approx(gradient.norm().item(), rel=1e-4)


# --- does it predict what training does? ---------------------------------------------------------------------------
SHARE = 1 / 16  # one row in a batch


@pytest.fixture(scope="module")
def state():
    settings = RunSettings(
        method="real", lesson_size=300, student_steps=100, train_size=900, pool_size=50, dev_size=64, test_size=50
    )
    return runs.prepare(settings)


@pytest.fixture(scope="module")
def taught(state):
    """A miniature Student's influence after one lesson, and 120 texts of mixed quality, new to it."""
    lesson = methods.real(state, 1, 300)
    state.student.learn(lesson, seed=1)
    candidates = mixed(state.task.train.select(range(600, 720)), np.random.default_rng(0))
    return Influence(state.student, lesson, state.task.dev, seed=0, steps=1), candidates


def mixed(rows, rng):
    """A third of the rows as they are, a third with a wrong label, a third with their words in random order."""
    n, texts, labels = len(rows), list(rows["text"]), np.array(rows["label"])
    wrong, scrambled = range(n // 3, 2 * n // 3), range(2 * n // 3, n)
    labels[wrong] = (labels[wrong] + rng.integers(1, 4, len(wrong))) % 4
    for i in scrambled:
        texts[i] = " ".join(rng.permutation(texts[i].split()))
    return make_lesson(texts, labels, "real", 2, "mixed", [""] * n)


@pytest.fixture(scope="module")
def actual(taught):
    influence, candidates = taught
    return influence.by_training(candidates, SHARE)


def test_influence_predicts_what_one_step_of_training_does(taught, actual):
    influence, candidates = taught
    predicted = influence.of(candidates)
    assert len(actual) == 120 and spearmanr(predicted, actual)[0] > 0.95
    assert np.polyfit(SHARE * predicted, actual, 1)[0] == pytest.approx(1, abs=0.2)  # in nats, not only in rank


def test_influence_on_the_calibrated_loss_predicts_it_too(taught):
    plain, candidates = taught
    settings = plain.student.settings.model_copy(update={"dev_loss": "calibrated"})
    influence = replace(plain, student=replace(plain.student, settings=settings))
    some = candidates.select(range(0, 120, 3))
    predicted, actual = influence.of(some), influence.by_training(some, 0.01)
    assert spearmanr(predicted, actual)[0] > 0.9 > spearmanr(plain.of(some), predicted)[0]


def test_no_damping_or_a_scrambled_direction_would_not_predict_it(taught, actual, monkeypatch):
    influence, candidates = taught
    monkeypatch.setattr(inf, "check_step", lambda *_: None)  # which stops both
    with monkeypatch.context() as patch:
        patch.setattr(inf, "DAMPING", 0.0)
        assert spearmanr(influence.of(candidates), actual)[0] < 0.8
    direction, rng = inf.dev_direction, torch.Generator().manual_seed(0)
    shuffled = lambda x: x.flatten()[torch.randperm(x.numel(), generator=rng)].view_as(x)  # noqa: E731
    monkeypatch.setattr(inf, "dev_direction", lambda *a: [shuffled(x) for x in direction(*a)])
    assert spearmanr(influence.of(candidates), actual)[0] < 0.4


def test_where_gradients_are_long_the_order_holds_better_than_the_size(state, taught):
    influence, candidates = taught
    surer, lesson = replace(influence.student, lm=copy.deepcopy(influence.student.lm)), methods.real(state, 2, 300)
    surer.learn(lesson, seed=2)  # now surer: a wrong label is a shock
    influence, some = Influence(surer, lesson, state.task.dev, seed=0, steps=1), candidates.select(range(0, 120, 2))
    predicted = influence.of(some)
    small, large = (influence.by_training(some, share) for share in (0.01, SHARE))
    assert spearmanr(predicted, small)[0] > 0.9 and spearmanr(predicted, large)[0] > 0.75
    assert np.polyfit(SHARE * predicted, large, 1)[0] < 0.8  # the clipping cuts what one row in 16 can do
