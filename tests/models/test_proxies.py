"""Quick Students: the optimum they stop at, by hand; what they remember; what of a lesson they learn."""

import numpy as np
import pytest
import torch
from model_helpers import LABELS, LESSON, TEXTS
from scipy.optimize import brentq
from scipy.special import expit, softmax

from symbiosis.loop.policy import dev_gradient
from symbiosis.models import loading
from symbiosis.models.proxies import ProxyStudent, Rows, Vectors, cue_states, fit_head, values
from symbiosis.models.student import Student
from symbiosis.settings import RunSettings

SETTINGS = RunSettings(student="probe", feedback="entropy", max_length=32, generation_batch_size=3)


def certain(labels, n_classes):
    return np.eye(n_classes)[labels]


# --- the fit ---------------------------------------------------------------------------------------------------------
def test_two_points_end_where_a_line_by_hand_ends():
    """x = -1, 1 with labels 0, 1: by symmetry weight (-a, a), no bias, and 2 a / C = 2 * 2 (1 - p), p = sigma(2 a)."""
    for strength in (0.01, 3.0):
        head = fit_head(np.array([[-1.0], [1.0]]), certain([0, 1], 2), np.ones(2), strength, standardise=False)
        a = brentq(lambda a, strength: a / strength - 2 * (1 - expit(2 * a)), 0, 10, args=(strength,))
        np.testing.assert_allclose(head.weight.ravel(), [-a, a], rtol=1e-5)
        np.testing.assert_allclose(head.bias, 0, atol=1e-6)


def test_vectors_that_say_nothing_leave_the_weighted_mean_of_the_labels():
    q, w = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]]), np.array([3.0, 1.0])
    head = fit_head(np.zeros((2, 4)), q, w, 1.0, standardise=True)
    np.testing.assert_allclose(softmax(head.bias), w @ q / w.sum(), atol=1e-6)


def test_the_gradient_of_a_weighted_soft_lesson_is_zero_at_the_end():
    rng = np.random.default_rng(0)
    x, q, w = rng.normal(size=(40, 6)) * 10.0 ** np.arange(-3, 3), rng.dirichlet(np.ones(3), 40), rng.random(40) * 3
    head = fit_head(x, q, w, 0.5, standardise=True)
    z = (x - np.average(x, axis=0, weights=w)) / np.sqrt(np.average((x - head.mean) ** 2, axis=0, weights=w))
    np.testing.assert_allclose(z.std(0), 1, atol=0.3)
    p = np.exp(head.log_probs(x))
    for c in range(3):  # d loss / d weight_c = sum_i w_i (p_ic - q_ic) z_i + weight_c / C, row by row
        slope = sum(w[i] * (p[i, c] - q[i, c]) * z[i] for i in range(40)) + head.weight[c] / 0.5
        np.testing.assert_allclose(slope, 0, atol=1e-4)
        assert abs((w * (p[:, c] - q[:, c])).sum()) < 1e-4
    assert np.abs(head.weight).max() > 0.05


def test_a_row_counted_twice_is_a_row_of_weight_two_and_one_of_weight_zero_is_none():
    rng = np.random.default_rng(1)
    x, q = rng.normal(size=(12, 5)), certain(rng.integers(3, size=12), 3)
    twice = fit_head(x[[0, *range(11)]], q[[0, *range(11)]], np.ones(12), 1.0, standardise=True)
    weighted = fit_head(x, q, np.array([2.0] + [1.0] * 10 + [0.0]), 1.0, standardise=True)
    np.testing.assert_allclose(twice.log_probs(x), weighted.log_probs(x), atol=1e-5)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("strength", [0.05, 3.0])
def test_a_value_is_what_fitting_again_with_more_of_the_draft_does_to_the_dev_loss(plain, strength):
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(3, 5))

    def drawn(n, wrong=0.0):
        labels = rng.integers(3, size=n)
        said = np.where(rng.random(n) < wrong, rng.integers(3, size=n), labels)
        return Rows(centres[labels] + rng.normal(size=(n, 5)), certain(said, 3), 0.5 + rng.random(n))

    lesson, drafts, held = drawn(60, 0.3), drawn(12, 0.5), drawn(80)
    held = held._replace(w=np.ones(80))

    def fitted(x, q, w):
        head = fit_head(x, q, w, strength, standardise=False)
        return head, *dev_gradient(head, held, plain=plain)

    head, gradient, _ = fitted(*lesson)
    found = values(head, lesson, drafts, gradient, strength)
    for i in range(12):
        more, less = (
            fitted(*(np.concatenate(p) for p in zip(lesson, Rows(drafts.x[[i]], drafts.q[[i]], [w]), strict=True)))
            for w in (0.01, -0.01)
        )
        assert found[i] == pytest.approx(-(more[2] - less[2]) / 0.02, rel=0.02, abs=2e-6)
    assert found.max() > 1e-4 and found.min() < -1e-4


# --- what is remembered ----------------------------------------------------------------------------------------------
def test_a_vector_does_not_depend_on_what_was_asked_before():
    """Whoever continues a killed run asks less of it: the texts read beside a text must be the same all the same."""
    calls = []

    def read(texts):
        calls.append(list(texts))
        return np.array([[hash(tuple(texts)) % 997, len(text)] for text in texts], dtype=float)

    splits = [["pool a", "pool b"], ["test a", "test b", "test c"]]
    one, other = Vectors(read, splits), Vectors(read, splits)
    calls.clear()
    one(["new", "pool b"]), one(["test c"])
    assert calls == [["pool a", "pool b"], ["new"], ["test a", "test b", "test c"]]
    asked = ["test b", "pool b", "other", "new", "pool b"]
    assert np.array_equal(one(asked), other(asked)) and one([]).shape == (0, 2)
    assert sum(call == splits[0] for call in calls) == 2  # once by each


# --- a Student -------------------------------------------------------------------------------------------------------
@pytest.fixture
def probe(qwen_folder):
    asker = Student(loading.load(str(qwen_folder), device="cpu"), LABELS, SETTINGS)
    return ProxyStudent.make(LABELS, SETTINGS, [TEXTS], asker)


def test_the_probe_sees_the_state_its_question_ends_in(probe):
    model = probe.asker.lm.model
    for text, state in zip(TEXTS, cue_states(probe.asker, TEXTS), strict=True):
        (row,) = probe.asker.questions([text])
        alone = model.model(input_ids=torch.tensor([row])).last_hidden_state[0, -1]
        np.testing.assert_allclose(state, alone.detach().numpy(), atol=1e-5)


def test_a_lesson_is_learned_anew_and_kept(probe, tmp_path):
    before = probe.evaluate(LESSON)
    assert before["label_loss"] == pytest.approx([np.log(4)] * 8) and np.isnan(before["lm_loss"]).all()
    (step,) = probe.learn(LESSON, seed=0)
    after = probe.label_log_probs(TEXTS)
    assert step["loss"] == pytest.approx(probe.evaluate(LESSON)["label_loss"].mean()) and step["loss"] < np.log(4)
    probe.save(tmp_path / "model")
    probe.learn(LESSON.select([0, 7]), seed=0)
    assert not np.array_equal(probe.label_log_probs(TEXTS), after)
    assert np.array_equal(probe.load(tmp_path / "model").label_log_probs(TEXTS), after)
    probe.learn(LESSON, seed=5)
    assert np.array_equal(probe.label_log_probs(TEXTS), after)  # nothing of the lesson between stayed


def test_a_soft_label_counts_as_its_parts(probe):
    rows = {"text": ["one text"] * 2, "label": [0, 0], "weight": [1.0, 1.0]}
    soft = LESSON.from_dict(rows | {"label_probs": [[0.75, 0.25, 0.0, 0.0]] * 2})
    probe.learn(soft, seed=0)
    np.testing.assert_allclose(np.exp(probe.label_log_probs(["one text"])), [[0.75, 0.25, 0, 0]], atol=1e-3)
