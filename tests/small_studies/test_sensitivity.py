"""Every kind of Student can be taught, and every tokenizer reads a text whole."""

import numpy as np
import pytest

from symbiosis.data.world import World
from symbiosis.small_studies import sensitivity, students
from symbiosis.small_studies.sensitivity import KINDS

WORLD = World.make(5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_student_can_be_taught(kind, monkeypatch):
    for name, size in {"LESSON": 16, "STEPS": 2}.items():
        monkeypatch.setattr(students, name, size)
    monkeypatch.setattr(sensitivity, "ASKED", 12)
    monkeypatch.setattr(sensitivity, "KINDS", {kind: KINDS[kind]})
    rows = sensitivity.sensitivity(5)
    assert rows["metric"].tolist() == ["accuracy", "accuracy", "weights"]
    assert rows["variant"].tolist() == ["r000", "r075", "plain"] and rows["value"].iloc[:2].between(0, 1).all()
    weights = {"small": (2e4, 8e4), "large": (4e5, 9e5)}.get(kind, (8e4, 2e5))
    assert weights[0] < rows["value"].iloc[-1] < weights[1]


def test_tokenizers_read_a_text_whole():
    text = WORLD.sample(1, np.random.default_rng(0))["text"][0]
    lengths = {}
    for kind in ("words", "bpe", "pieces"):
        made = students.tokenizer_of(WORLD, kind)
        ids = made(text, add_special_tokens=False)["input_ids"]
        assert made.decode(ids) == text and made.unk_token_id not in ids
        lengths[kind] = len(ids)
    assert lengths["words"] < lengths["bpe"] < lengths["pieces"] < len(text)
