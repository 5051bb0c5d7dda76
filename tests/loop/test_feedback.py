import copy

import numpy as np
import pytest
from datasets import Dataset
from made_up import Reader, rows, state_of

from symbiosis.data.lesson import make_lesson
from symbiosis.loop.feedback import SIGNALS, cover_distances, dissimilar, hardest
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


def test_label_signals_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5], [0.5, 0.5, 1e-12]])
    state, texts, rng = state_of(Reader(log_p=np.log(p))), ["a cat", "a dog", "a bird"], np.random.default_rng(0)
    assert SIGNALS["margin"](state, texts, rng) == pytest.approx([0.5, 0.75, 1])
    assert SIGNALS["entropy"](state, texts, rng)[1:] == pytest.approx([1.5 * np.log(2), np.log(2)])
    q = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])  # what the Generator of three texts reads
    assert SIGNALS["teacher_kl"](state, texts, rng) == pytest.approx((q * np.log(q / p)).sum(1))


def test_every_signal_of_real_models_tells_the_texts_apart(neox_folder, qwen_folder):
    settings = RunSettings(max_length=32, batch_size=4)
    initial = Student(loading.load(str(neox_folder), device="cpu"), LABELS, settings)
    generator = Generator(loading.load(str(qwen_folder), device="cpu"), LABELS, settings)
    student, lesson = copy.deepcopy(initial), make_lesson(TEXTS[:4] * 10, [0, 1, 2, 3] * 10, "real", 1, "", [""] * 40)
    taught = settings.model_copy(update={"epochs": 8, "learning_rate": 5e-3})
    Student(student.lm, LABELS, taught).learn(lesson, seed=0)
    dev = Dataset.from_dict({"text": TEXTS[:4], "label": [0, 1, 2, 3]})
    state = state_of()
    object.__setattr__(state.task, "dev", dev)
    state = LoopState(settings, state.task, student, generator, lesson)
    for name, signal in SIGNALS.items():
        scores = signal(state, TEXTS, np.random.default_rng(0))
        assert scores.shape == (8,) and np.isfinite(scores).all() and len(set(scores)) > 1, name
    losses = student.text_losses([TEXTS[0], "zq xj vkw qqz jx"])
    assert losses[1] > losses[0] + 1  # what it has never read


def test_half_random_takes_the_hardest_and_random_texts_in_turn():
    texts = ["a" * (20 - i) for i in range(20)]  # the first is the hardest
    order = np.argsort(-SIGNALS["half_random"](state_of(), texts, np.random.default_rng(3)))
    drawn = np.argsort(-np.random.default_rng(3).random(20))
    wanted = list(dict.fromkeys(i for pair in zip(range(20), drawn, strict=True) for i in pair))
    assert order.tolist() == wanted


def test_greedy_k_center_by_hand():
    x = np.array([[0.0], [1.0], [10.0], [4.0]])
    assert cover_distances(x, np.array([[0.0]])).tolist() == [0, 1, 10, 4]  # 10, then 4 (from 0), then 1, then 0
    assert cover_distances(x, np.array([[0.0], [9.0]])).tolist() == [0, 1, 1, 4]
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.eye(4) * 100, [30, 5, 3, 1], axis=0) + rng.normal(size=(39, 4))
    first = np.argsort(-cover_distances(clusters, clusters.mean(0, keepdims=True)))[:4]
    assert {int(clusters[i].argmax()) for i in first} == {0, 1, 2, 3}  # each cluster once, however small


def test_what_earlier_lessons_took_is_a_centre_and_may_be_left_out(neox_folder):
    student = Student(loading.load(str(neox_folder), device="cpu"), LABELS, RunSettings(max_length=32))
    state = state_of(student, feedback="k_center", choose_again=False)
    first = hardest(state, np.random.default_rng(0))
    state.taught |= set(first["source_id"])
    cover = SIGNALS["k_center"](state, first["text"], np.random.default_rng(0))
    assert cover == pytest.approx(np.zeros(4), abs=1e-4)  # nothing is left to cover there
    second = hardest(state, np.random.default_rng(0))
    assert not set(first["source_id"]) & set(second["source_id"]) and len(second) == 4
    state.taught |= set(second["source_id"])  # two of ten are left: too few, so that all may be chosen again
    assert len(hardest(state, np.random.default_rng(0))) == 4 and state.counts["scored"] == 10 + 6 + 10


def lengths(hard) -> list[int]:
    return [len(text) for text in hard["text"]]


def test_the_hardest_come_first_at_most_half_of_what_was_scored_and_near_copies_once():
    pool = sorted(map(len, rows("pool", 10)["text"]), reverse=True)
    first, skipped = (hardest(state_of(skip_hardest_share=share), np.random.default_rng(0)) for share in (0.0, 0.2))
    assert lengths(first) == first["hardness"][:] == pool[:4] and lengths(skipped) == pool[2:6]
    assert "label" not in first.column_names

    state = state_of(hard_examples=100)
    assert len(hardest(state, state.rng(1, "feedback"))) == 5
    object.__setattr__(state.task, "pool", state.task.pool.select([0]))
    assert len(hardest(state, state.rng(1, "feedback"))) == 1
    few = state_of(hard_examples=2, scored_share=0.1)  # 1 of 10, but twice as many are scored as are chosen
    assert len(hardest(few, few.rng(1, "feedback"))) == 2

    texts = ["a b c d", "a b c e", "x y z", "a b c d f", "x y w v"]  # 0 and 1 share 3 of 5 words, 0 and 3 share 4 of 5
    assert dissimilar(texts, 3, 1.0) == [0, 1, 2]
    assert dissimilar(texts, 3, 0.5) == [0, 2, 4]
    assert dissimilar(texts, 4, 0.5) == [0, 2, 4, 1]  # too few are apart: filled up in order
    assert dissimilar(texts, 9, 0.1) == [0, 2, 1, 3, 4]
