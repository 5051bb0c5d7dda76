import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset
from scipy.stats import rankdata

from symbiosis.data.lesson import make_lesson
from symbiosis.loop.feedback import SIGNALS, apart, hardest
from symbiosis.loop.state import LoopState
from symbiosis.models import loading
from symbiosis.models.generator import Generator
from symbiosis.models.student import Student
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
def state(neox_folder, qwen_folder):
    """A Student after half the texts, a Generator, the pool, a dev split and the last lesson."""
    settings = SETTINGS.model_copy(update={"epochs": 8, "learning_rate": 5e-3})
    student = Student(loading.load(str(neox_folder), device="cpu"), LABELS, settings)
    student.learn(lesson_of(TEXTS[:4] * 4), seed=0)
    generator = Generator(loading.load(str(qwen_folder), device="cpu"), LABELS, SETTINGS)
    pool = Dataset.from_dict({"text": TEXTS, "source_id": [str(i) for i in range(8)]})
    dev = Dataset.from_dict({"text": TEXTS[:4], "label": [0, 1, 2, 3]})
    task = SimpleNamespace(label_names=LABELS, pool=pool, dev=dev)
    return LoopState(SETTINGS, task, replace(student, settings=SETTINGS), generator, lesson=lesson_of(TEXTS))


def with_(state, **changes):
    return replace(state, settings=SETTINGS.model_copy(update=changes))


def scores_of(state, kind, texts=TEXTS):
    return SIGNALS[kind](state, texts, np.random.default_rng(0))


def hard(state, **changes):
    return hardest(with_(state, **changes), np.random.default_rng(0))


@pytest.mark.parametrize("kind", list(SIGNALS))
def test_every_signal_gives_one_finite_number_per_text_and_needs_no_label(state, kind):
    scores = scores_of(state, kind)
    assert scores.shape == (8,) and np.isfinite(scores).all() and len(set(scores)) == 8
    chosen = hard(state, feedback=kind)
    assert len(chosen) == 3 and list(chosen["hardness"]) == sorted(chosen["hardness"], reverse=True)
    if kind not in ("random", "influence"):  # these two look at their own random state
        assert {int(i) for i in chosen["source_id"]} == set(np.flatnonzero(rankdata(-scores) <= 3))


def test_label_signals_by_hand():
    p = np.array([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 1e-12, 1e-12]])
    q = np.array([[0.7, 0.1, 0.1, 0.1], [1.0, 1e-12, 1e-12, 1e-12], [0.5, 0.5, 1e-12, 1e-12]])
    student, generator = (SimpleNamespace(label_log_probs=lambda texts, x=x: np.log(x)) for x in (p, q))
    state = SimpleNamespace(student=student, generator=generator)
    assert scores_of(state, "margin") == pytest.approx([0.4, 1, 1])
    assert scores_of(state, "entropy")[1:] == pytest.approx([np.log(4), np.log(2)])
    assert scores_of(state, "teacher_kl") == pytest.approx([0, np.log(4), 0], abs=1e-9)


def test_an_unusual_text_has_the_higher_lm_loss(state):
    settings = SETTINGS.model_copy(update={"epochs": 10, "learning_rate": 5e-3})
    student = replace(state.student, lm=copy.deepcopy(state.student.lm), settings=settings)
    student.learn(make_lesson(TEXTS * 10, [0] * 80, "real", 1, "real", [""] * 80), seed=0)
    scores = scores_of(replace(state, student=student), "lm_loss", [TEXTS[0], "zq xj vkw qqz jx"])
    assert scores[1] > scores[0] + 1


def test_at_most_half_of_what_was_scored_is_hard(state):
    assert len(hard(state, hard_examples=100)) == 4
    one = replace(state, task=SimpleNamespace(pool=state.task.pool.select([0])))
    assert len(hard(one, hard_examples=100)) == 1


def test_the_hardest_can_be_passed_over(state):
    order = [hard(state, skip_hardest_share=share)["source_id"][:] for share in (0.0, 0.25)]
    assert order[0][2] == order[1][0] and not set(order[0][:2]) & set(order[1])


def test_near_copies_are_chosen_once():
    texts = ["a b c d", "a b c e", "x y z", "a b c d f", "x y w v"]  # 0 and 1 share 3 of 5 words, 0 and 3 share 4 of 5
    assert apart(texts, 3, 1.0) == [0, 1, 2]
    assert apart(texts, 3, 0.5) == [0, 2, 4]
    assert apart(texts, 4, 0.5) == [0, 2, 4, 1]  # too few are apart: filled up in order
    assert apart(texts, 9, 0.1) == [0, 2, 1, 3, 4]
