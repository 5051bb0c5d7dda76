"""Lessons of each method with a Generator of three texts: no model, only who asks whom for how many rows."""

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from symbiosis.data.lesson import make_lesson
from symbiosis.loop import methods
from symbiosis.loop.state import LoopState, cycle
from symbiosis.prompts import read_prompts
from symbiosis.settings import RunSettings

LABELS = ["World", "Sports"]


class ThreeTexts:
    """A Generator that knows three texts, and is sure that whatever holds a ball is Sports."""

    label_names = LABELS
    texts = ("a treaty", "a ball game", "a vote")

    prompts = read_prompts()

    def __init__(self, settings):
        self.settings, self.asked = settings, []

    def write_turns(self, labels):
        return [f"write {LABELS[label]}" for label in labels]

    def names(self, labels):
        return [LABELS[label] for label in labels]

    def shorten(self, texts):
        return list(texts)

    def answers(self, prompts, *, seed, samples=1):
        self.asked += list(prompts)
        return [f"{self.texts[(i + seed) % 3]} {i}" for i in range(len(prompts) * samples)]

    def label_probs(self, texts):
        return np.array([[0.1, 0.9] if "ball" in text else [0.8, 0.2] for text in texts])

    def label_log_probs(self, texts):
        return np.log(self.label_probs(texts))


def rows(kind, n):
    texts = [f"{kind} ball {i}" if i % 2 else f"{kind} vote {i}" for i in range(n)]
    labels, ids = [i % 2 for i in range(n)], [f"{kind}:{i}" for i in range(n)]
    return Dataset.from_dict({"text": texts, "label": labels, "source_id": ids})


def state_of(**changes):
    settings = RunSettings(**{"lesson_size": 12, "candidates": 2, "hard_examples": 4} | changes)
    task = SimpleNamespace(
        label_names=LABELS, train=rows("train", 20), dev=rows("dev", 6), pool=rows("pool", 10).remove_columns("label"),
        world=SimpleNamespace(posterior=lambda texts: ThreeTexts(None).label_probs(texts)),
    )  # fmt: skip
    return LoopState(settings, task, student=None, generator=ThreeTexts(settings))


def test_real_rows_come_in_order_and_start_over():
    state = state_of()
    first, second = (methods.real(state, generation, 12) for generation in (1, 2))
    assert first["source_id"][:] == [f"train:{i}" for i in range(12)]
    assert second["source_id"][:] == [f"train:{i}" for i in [*range(12, 20), *range(4)]]


@pytest.mark.parametrize("mixing", ["replace", "accumulate"])
def test_static_teaches_its_first_lesson_again_whatever_comes_beside_it(mixing):
    state = state_of(method="static", mixing=mixing, real_share=0.5)
    state.first_lesson = first = methods.next_lesson(state, 1)
    assert first["prompt_kind"][:] == ["write"] * 6 + ["real"] * 6
    for generation in (2, 3):
        state.lesson = methods.next_lesson(state, generation)
        assert state.lesson["text"][-12:-6] == first["text"][:6]
        assert state.lesson["source_id"][-6] == f"train:{6 * generation - 6}"  # real rows go on


def test_pseudo_labels_are_the_generators_and_no_text_is_written():
    state = state_of()
    lesson = methods.pseudo_label(state, 1, 12)  # of ten pool texts two come twice
    assert len(set(lesson["source_id"])) == 10 and state.generator.asked == []
    assert [label == 1 for label in lesson["label"]] == ["ball" in text for text in lesson["text"]]
    assert state.counts == {"labelled": 12}


def test_symbiosis_writes_before_feedback_and_then_explains_and_labels_what_is_hard():
    state = state_of(teaching_share=0.5, pool_share=0.25, generator_update="none")
    assert set(methods.symbiosis(state, 1, 12)["prompt_kind"]) == {"write"}
    state.hard = state.task.pool.select([7, 2])
    lesson = methods.symbiosis(state, 2, 12).to_pandas()
    assert lesson["prompt_kind"].value_counts().to_dict() == {"explain": 6, "label": 3, "write": 3}
    sources = lesson[lesson["prompt_kind"] != "write"].groupby("prompt_kind")["source_id"].apply(list).to_dict()
    assert sources == {"explain": ["pool:7", "pool:2"] * 3, "label": ["pool:7", "pool:2", "pool:7"]}


def test_first_sources_are_random_pool_texts_as_many_as_would_be_hard():
    state = state_of(first_lesson_sources="random", teaching_share=1.0, generator_update="none")
    lesson = methods.symbiosis(state, 1, 12)
    assert len(set(lesson["source_id"])) == 4 and set(lesson["prompt_kind"]) == {"explain"}


def test_real_and_dev_rows_take_the_place_of_the_methods_rows():
    lesson = methods.next_lesson(state_of(method="static", real_share=0.5, dev_rows=4), 1).to_pandas()
    assert lesson["prompt_kind"].value_counts().to_dict() == {"dev": 4, "real": 4, "write": 4}


@pytest.mark.parametrize("mixing, n", [("replace", 12), ("accumulate", 24), ("accumulate_subsample", 12)])
def test_mixing_keeps_earlier_rows(mixing, n):
    state = state_of(method="real", train_size=20, mixing=mixing)
    methods.next_lesson(state, 1)
    lesson = methods.next_lesson(state, 2)
    assert len(lesson) == n and (set(lesson["generation"]) == {2}) == (mixing == "replace")


def test_rejected_rows_get_the_weak_labellers_label_and_nothing_else_changes():
    state = state_of(weak_accuracy=1.0)
    lesson = make_lesson(["a ball", "a ball", "a vote"], [0, 1, 0], "generator", 1, "write", [""] * 3)
    corrected = methods.relabel_rejected(state, lesson, 1)
    assert corrected["label"][:] == [1, 1, 0] and state.counts["rejected"] == 1
    assert corrected.features == lesson.features and corrected["text"][:] == lesson["text"][:]


def test_sources_are_taken_in_turn():
    assert cycle(rows("x", 3), 5)["source_id"][:] == ["x:0", "x:1", "x:2", "x:0", "x:1"]


@pytest.mark.parametrize("update, columns", [("sft", {"explanation"}), ("pool_lm", set())])
def test_an_update_learns_from_the_hard_texts(update, columns):
    state, learned = state_of(generator_update=update, candidates=1), []
    state.generator.fine_tune = lambda asked, answers, *, seed, weights=None: learned.append((asked, answers)) or [1]
    state.hard = state.task.pool.select([7, 2])
    hard, history = methods.update_generator(state, 1)
    assert set(hard.column_names) == {"text", "source_id"} | columns and history == [1]
    ((asked, answers),) = learned
    assert len(asked) == len(answers) == 2 and (answers == state.hard["text"][:]) == (update == "pool_lm")


@pytest.mark.parametrize("update", ["influence", "dpo"])
def test_of_two_drafts_the_one_that_helps_the_student_counts_more(update, monkeypatch):
    state, learned = state_of(generator_update=update), []
    scores = lambda state, drafts, generation: np.tile([1.0, -1.0], len(drafts) // 2)  # noqa: E731
    monkeypatch.setattr(methods, "influence_of_drafts", scores)
    state.generator.fine_tune = lambda asked, answers, *, seed, weights: learned.append((answers, weights)) or [1]
    state.generator.prefer = lambda asked, best, worst, *, seed: learned.append((best, worst)) or [1]
    state.hard = state.task.pool.select([7, 2])
    hard, history = methods.update_generator(state, 1)
    first, second = learned[0]
    if update == "influence":
        assert len(first) == 4 and second == pytest.approx(np.tile([np.exp(-1), np.exp(1)], 2) / np.cosh(1))
    else:
        assert [text.split()[-1] for text in first] == ["1", "3"]  # the second draft of each hard text
        assert [text.split()[-1] for text in second] == ["0", "2"]
    assert hard["text"][:] == state.hard["text"][:] and history == [1]
