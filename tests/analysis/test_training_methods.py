"""Four ways to learn a lesson of labels: each lowers what its docstring says, and each learns."""

import copy
import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from symbiosis.analysis import student_studies, training_methods
from symbiosis.analysis.training_methods import FACTORS, METHODS, Method, learn, levels_of, policy_loss, preference
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.models.student import Student

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
    steps, student_studies.STEPS = student_studies.STEPS, 30
    try:
        lm = student_studies.pretrained(WORLD, 5, hidden=32)
    finally:
        student_studies.STEPS = steps
    return Student(lm, LABEL_NAMES, student_studies.settings_of("real", 5, lm_weight=0.0, max_length=64))


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
    for name, size in {"LESSON": 16, "STEPS": 2}.items():
        monkeypatch.setattr(student_studies, name, size)
    monkeypatch.setattr(training_methods, "TESTED", 12)
    monkeypatch.setattr(training_methods.student_studies, "pretrained", lambda *_: base.lm)
    rows = student_studies.training_methods(5)
    arms = set(zip(rows["method"], rows["variant"], strict=True))
    assert arms == {(name, share) for name in METHODS for share in ("r000", "r075")} and len(rows) == 8
    assert rows["value"].between(0, 1).all() and set(rows["n"]) == {24} and set(rows["unit"]) == {"share"}
    assert isinstance(rows, pd.DataFrame) and set(rows["study"]) == {"training_methods"}


def test_levels_are_means_over_the_cells_that_have_them():
    cells = pd.DataFrame(list(itertools.product(*FACTORS.values(), ("r000", "r075"))), columns=[*FACTORS, "share"])
    cells["value"] = 0.5 + 0.1 * (cells["method"] == "dpo") * (cells["size"] == 128) * (cells["share"] == "r075")
    found = {arm: (value, n) for arm, value, n in levels_of(cells)}
    assert len(found) == 2 * (24 + 3 + 2 + 2 + 2 + 1)
    assert found["dpo_neox_bpe_128", "r075"] == pytest.approx((0.6, 1)) and found["128", "r000"] == (0.5, 12)
    assert found["dpo", "r075"] == pytest.approx((0.55, 8)) and found["128", "r075"] == pytest.approx(
        (0.5 + 0.1 / 3, 12)
    )
    assert found["all", "r075"] == pytest.approx((0.5 + 0.1 / 6, 24))


def test_the_factorial_teaches_every_kind_of_student_its_lessons_in_labels_of_one_token(monkeypatch):
    for name, size in {"LESSON": 16, "STEPS": 1}.items():
        monkeypatch.setattr(student_studies, name, size)
    monkeypatch.setattr(training_methods, "TESTED", 12)
    monkeypatch.setattr(training_methods, "FACTORS", FACTORS | {"method": ("sft",), "size": (32,)})
    rows = student_studies.share_factorial(5)
    kinds = {f"sft_{kind}_{words}_32" for kind, words in itertools.product(FACTORS["kind"], FACTORS["tokenizer"])}
    assert set(rows["method"]) == kinds | {"sft", "neox", "llama", "words", "bpe", "32", "all"}
    assert not rows.duplicated("run_id").any() and rows["value"].between(0, 1).all()
    cells = rows[rows["method"].isin(kinds)].set_index(["method", "variant"])["value"]
    neox = rows.set_index(["method", "variant"])["value"]["neox", "r075"]
    assert neox == pytest.approx(cells.xs("r075", level=1).filter(like="neox").mean(), abs=2e-6)
