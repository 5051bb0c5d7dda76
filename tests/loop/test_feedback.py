import copy

import numpy as np
import pytest
from datasets import Dataset
from scipy.stats import rankdata

from symbiosis.data.lesson import make_lesson
from symbiosis.loop import feedback
from symbiosis.loop.feedback import MEASURES, Measured, apart, find_hard, hardness
from symbiosis.models import loading, scoring
from symbiosis.models.training import train_student
from symbiosis.settings import RunSettings

LABELS = ["World", "Sports", "Business", "Sci/Tech"]
TEXTS = [
    "Leaders met in the capital.", "The striker scored twice.", "Shares fell again.", "A probe landed on the moon.",
    "Voters chose.", "Her serve won the title in three sets.", "The bank reported.", "A chip maker showed a processor.",
]  # fmt: skip
SETTINGS = RunSettings(max_length=32, batch_size=4, hard_examples=3, scored_share=1.0)


def lesson_of(texts):
    return make_lesson(texts, np.arange(len(texts)) % 4, "real", 1, "real", [""] * len(texts))


@pytest.fixture(scope="module")
def pair(neox_folder, qwen_folder):
    """A Student after half the texts, its tokenizer, Generator and its tokenizer, and the initial Student."""
    initial, tokenizer = loading.load(str(neox_folder), device="cpu")
    student = copy.deepcopy(initial)
    settings = SETTINGS.model_copy(update={"epochs": 8, "learning_rate": 5e-3})
    train_student(student, tokenizer, lesson_of(TEXTS[:4] * 4), LABELS, settings, seed=0)
    return student, tokenizer, *loading.load(str(qwen_folder), device="cpu"), initial


def measured(pair, kind: str, student=None, **changes) -> Measured:
    lesson = lesson_of(TEXTS)
    dev = Dataset.from_dict({"text": TEXTS[:4], "label": [0, 1, 2, 3]})
    settings = SETTINGS.model_copy(update={"feedback": kind} | changes)
    return Measured(student or pair[0], pair[1], *pair[2:4], LABELS, dev, lesson, settings, np.random.default_rng(0))


@pytest.mark.parametrize("kind", list(MEASURES))
def test_every_measure_gives_one_finite_number_per_text_and_needs_no_label(pair, kind):
    scores = hardness(measured(pair, kind), TEXTS)
    assert scores.shape == (8,) and np.isfinite(scores).all() and len(set(scores)) == 8
    pool = Dataset.from_dict({"text": TEXTS, "source_id": [str(i) for i in range(8)]})
    hard = find_hard(measured(pair, kind), pool)
    assert len(hard) == 3 and list(hard["hardness"]) == sorted(hard["hardness"], reverse=True)
    if kind not in ("random", "influence"):  # these two look at their own random state
        assert {int(i) for i in hard["source_id"]} == set(np.flatnonzero(rankdata(-scores) <= 3))


def test_label_measures_by_hand(pair, monkeypatch):
    p = np.array([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 1e-12, 1e-12]])
    q = np.array([[0.7, 0.1, 0.1, 0.1], [1.0, 1e-12, 1e-12, 1e-12], [0.5, 0.5, 1e-12, 1e-12]])
    monkeypatch.setattr(feedback, "_student", lambda by, texts: np.log(p))
    monkeypatch.setattr(feedback, "_generator", lambda by, texts: np.log(q))
    by = measured(pair, "margin")
    assert feedback.margin(by, TEXTS[:3]) == pytest.approx([0.4, 1, 1])
    assert feedback.entropy(by, TEXTS[:3])[1:] == pytest.approx([np.log(4), np.log(2)])
    assert feedback.teacher_kl(by, TEXTS[:3]) == pytest.approx([0, np.log(4), 0], abs=1e-9)


def test_an_unusual_text_has_the_higher_lm_loss(pair):
    taught = copy.deepcopy(pair[4])
    rows = make_lesson(TEXTS * 10, [0] * 80, "real", 1, "real", [""] * 80)
    settings = SETTINGS.model_copy(update={"epochs": 10, "learning_rate": 5e-3})
    train_student(taught, pair[1], rows, LABELS, settings, seed=0)
    scores = hardness(measured(pair, "lm_loss", taught), [TEXTS[0], "zq xj vkw qqz jx"])
    assert scores[1] > scores[0] + 1


def test_at_most_half_of_what_was_scored_is_hard(pair):
    pool = Dataset.from_dict({"text": TEXTS, "source_id": [""] * 8})
    assert len(find_hard(measured(pair, "lm_loss", hard_examples=100), pool)) == 4
    assert len(find_hard(measured(pair, "lm_loss", hard_examples=100), pool.select([0]))) == 1


def test_the_hardest_can_be_passed_over(pair):
    pool = Dataset.from_dict({"text": TEXTS, "source_id": [str(i) for i in range(8)]})
    order = [find_hard(measured(pair, "lm_loss", skip_hardest_share=s), pool)["source_id"][:] for s in (0.0, 0.25)]
    assert order[0][2] == order[1][0] and not set(order[0][:2]) & set(order[1])


def test_near_copies_are_chosen_once():
    texts = ["a b c d", "a b c e", "x y z", "a b c d f", "x y w v"]  # 0 and 1 share 3 of 5 words, 0 and 3 share 4 of 5
    assert apart(texts, 3, 1.0) == [0, 1, 2]
    assert apart(texts, 3, 0.5) == [0, 2, 4]
    assert apart(texts, 4, 0.5) == [0, 2, 4, 1]  # too few are apart: filled up in order
    assert apart(texts, 9, 0.1) == [0, 2, 1, 3, 4]


def test_teacher_kl_asks_both(pair):
    log_p = scoring.student_beliefs(*pair[:2], TEXTS, LABELS, SETTINGS)
    log_q = scoring.generator_beliefs(*pair[2:4], TEXTS, LABELS, SETTINGS)
    by_hand = (np.exp(log_q) * (log_q - log_p)).sum(1)
    assert hardness(measured(pair, "teacher_kl"), TEXTS) == pytest.approx(by_hand)
    assert (by_hand > 0).all()
