"""The share of real rows, crossed: levels by hand, and one seed in small."""

import itertools

import pandas as pd
import pytest

from symbiosis.small_studies import share_factorial, students
from symbiosis.small_studies.share_factorial import FACTORS, levels_of


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
        monkeypatch.setattr(students, name, size)
    monkeypatch.setattr(share_factorial, "TESTED", 12)
    monkeypatch.setattr(share_factorial, "FACTORS", FACTORS | {"method": ("sft",), "size": (32,)})
    rows = share_factorial.share_factorial(5)
    kinds = {f"sft_{kind}_{words}_32" for kind, words in itertools.product(FACTORS["kind"], FACTORS["tokenizer"])}
    assert set(rows["method"]) == kinds | {"sft", "neox", "llama", "words", "bpe", "32", "all"}
    assert not rows.duplicated("run_id").any() and rows["value"].between(0, 1).all()
    cells = rows[rows["method"].isin(kinds)].set_index(["method", "variant"])["value"]
    neox = rows.set_index(["method", "variant"])["value"]["neox", "r075"]
    assert neox == pytest.approx(cells.xs("r075", level=1).filter(like="neox").mean(), abs=2e-6)
