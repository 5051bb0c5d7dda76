"""Levers of a lesson: what is chosen and averaged, by hand, and one seed in small."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from symbiosis import small_studies
from symbiosis.data.dialled import Dial
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.models.student import Student
from symbiosis.small_studies import students, third_lever
from symbiosis.small_studies.third_lever import of_loss

WORLD = World.make(5)


def test_texts_are_chosen_by_their_loss_class_by_class(monkeypatch):
    monkeypatch.setattr(third_lever, "LESSON", 8)
    texts = pd.DataFrame({"text": [str(i) for i in range(24)], "label": np.arange(24) % 4})
    student = SimpleNamespace(text_losses=lambda some: np.array([float(text) for text in some]))
    for complexity, chosen in {"easy": range(8), "plain": range(8), "hard": range(16, 24)}.items():
        assert of_loss(complexity, student, texts).index.tolist() == list(chosen)
    upside_down = SimpleNamespace(text_losses=lambda some: np.array([-float(text) for text in some]))
    assert of_loss("plain", upside_down, texts).index.tolist() == list(range(8))  # no loss is asked for
    assert of_loss("easy", upside_down, texts).index.tolist() == list(range(16, 24))


def test_a_level_is_the_mean_over_the_other_levers():
    levers = {"diversity": ["even", "even", "narrow", "narrow"], "quality": ["right", "wrong"] * 2}
    values = {"accuracy": [0.8, 0.4, 0.6, 0.2], "accuracy_words": [0.5] * 4, "accuracy_templates": [0.2] * 4}
    cells = pd.DataFrame(levers | values).assign(complexity="deep", accuracy_mix=0.2)
    found = {(*arm, metric): value for arm, (metric, value, _) in third_lever.main_effects(cells)}
    assert found["diversity", "even", "accuracy"] == pytest.approx(0.6)
    assert found["quality", "wrong", "accuracy"] == pytest.approx(0.3)
    assert found["crossed", "narrow_deep", "generalisation"] == pytest.approx(0.3 - 0.4)
    gains = small_studies.lever_gains(
        pd.DataFrame(
            [(f"{lever}", m, 7, v) for lever, v in lever_values().items() for m in small_studies.LEVER_TESTS],
            columns=["arm", "metric", "seed", "value"],
        )
    )
    assert gains.set_index(["place", "metric"]).at[(0, "accuracy"), "value"] == pytest.approx(20)


def lever_values():
    arms = {arm for pair in small_studies.LEVERS.values() for arm in pair}
    return dict.fromkeys(arms, 0.5) | {"diversity-even": 0.7}


def test_levers_are_crossed_and_asked_out_of_distribution(monkeypatch):
    monkeypatch.setattr(students, "STEPS", 2)
    for name, size in {"LESSON": 16, "ASKED": 12}.items():
        monkeypatch.setattr(third_lever, name, size)
    lm = students.pretrained(WORLD, 5, hidden=32)
    base = Student(lm, LABEL_NAMES, students.settings_of("real", 5, lm_weight=0.0))

    def load(folder):
        return replace(base, lm=lm._replace(model=copy.deepcopy(lm.model)))

    held = SimpleNamespace(text_losses=base.text_losses, folder="", load=load)
    state = SimpleNamespace(student=held, seed=lambda *stage: 1)
    monkeypatch.setattr(third_lever.runs, "prepare", lambda settings: state)
    rows = third_lever.third_lever(5)
    arms = {f"{m}-{v}" for m, v in zip(rows["method"], rows["variant"], strict=True)}
    assert {"diversity-even", "quality-wrong", "complexity-hard", "crossed-narrow_deep"} <= arms
    assert len(rows) == (2 + 2 + 6 + 12) * 6 and not rows.duplicated(["run_id", "metric"]).any()
    at = rows.set_index(["method", "variant", "metric"])["value"]
    away = at["quality", "right", "accuracy_ood"]
    assert at["quality", "right", "generalisation"] == pytest.approx(
        away - at["quality", "right", "accuracy"], abs=2e-6
    )


def test_narrow_texts_are_narrower():
    rng = np.random.default_rng
    narrow, even = (Dial(power).texts(WORLD, 500, rng(1)) for power in third_lever.DIVERSITY.values())
    assert (narrow["subtopic"] < 2).mean() > 0.75 > 0.5 > (even["subtopic"] < 2).mean()
