"""Four ways to learn a lesson of labels: each lowers what its docstring says, and each learns."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.models.student import Student
from symbiosis.small_studies import students, training_methods
from symbiosis.small_studies.training_methods import METHODS, Method, learn, policy_loss, preference

WORLD = World.make(5)


def test_the_gradient_of_the_policys_loss_is_that_of_the_expected_reward_on_average(monkeypatch):
    monkeypatch.setattr(training_methods, "DRAWS", 20_000)
    logits = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.5, 0.0]], requires_grad=True)
    given = torch.tensor([2, 1])
    policy_loss(logits.log_softmax(1), given, np.random.default_rng(0)).backward()
    exact = logits.detach().clone().requires_grad_()
    (-exact.softmax(1).gather(1, given[:, None]).mean()).backward()
    torch.testing.assert_close(logits.grad, exact.grad, atol=3e-3, rtol=0)


def test_a_preference_is_the_difference_of_two_labels_logits():
    logits = torch.tensor([[1.0, 4.0, 2.0]])
    assert preference(logits, torch.tensor([1]), torch.tensor([0])).tolist() == [3.0]


@pytest.fixture(scope="module")
def base() -> Student:
    steps, students.STEPS = students.STEPS, 30
    try:
        lm = students.pretrained(WORLD, 5, hidden=32)
    finally:
        students.STEPS = steps
    return Student(lm, LABEL_NAMES, students.settings_of("real", 5, lm_weight=0.0, max_length=64))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_moves_belief_towards_the_labels_of_its_rows_and_leaves_the_base_alone(name, base, monkeypatch):
    monkeypatch.setitem(METHODS, name, Method(30, 5e-3))
    rows = WORLD.sample(48, np.random.default_rng(1))
    weights = copy.deepcopy(base.lm.model.state_dict())
    read = WORLD.sample(40, np.random.default_rng(2))["text"].tolist()
    student = learn(base, rows, name, read=read, seed=7)

    def believed(who: Student) -> float:
        return np.exp(who.label_log_probs(rows["text"].tolist()))[np.arange(48), rows["label"]].mean()

    assert believed(student) > believed(base) + 0.05
    assert all(torch.equal(weight, weights[key]) for key, weight in base.lm.model.state_dict().items())
    if name == "replay":  # the texts it reads again are predicted better than by who learns labels alone
        alone = learn(base, rows, "sft", read=read, seed=7)
        assert student.text_losses(read).mean() < alone.text_losses(read).mean()


def test_a_seed_has_a_row_for_every_method_and_share(base, monkeypatch):
    monkeypatch.setattr(students, "LESSON", 16)
    for name, value in {"LESSON": 16, "STEPS": 2, "TESTED": 12, "pretrained": lambda *_: base.lm}.items():
        monkeypatch.setattr(training_methods, name, value)
    rows = training_methods.training_methods(5)
    arms = set(zip(rows["method"], rows["variant"], strict=True))
    assert arms == {(name, share) for name in METHODS for share in ("r000", "r075")} and len(rows) == 8
    assert rows["value"].between(0, 1).all() and set(rows["n"]) == {24} and set(rows["unit"]) == {"share"}
    assert isinstance(rows, pd.DataFrame) and set(rows["study"]) == {"training_methods"}
