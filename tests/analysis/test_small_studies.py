"""The committed table is that of the code, and novel modes are counted as their rule says."""

import json

import numpy as np
import pandas as pd
import pytest

from symbiosis.analysis import small_studies
from symbiosis.data.lesson import make_lesson, save_lesson
from symbiosis.data.world import World
from symbiosis.models import vae
from symbiosis.store.results import COLUMNS
from symbiosis.theory.next_token import tail_mass


def test_the_committed_rows_are_those_of_the_code(monkeypatch):
    monkeypatch.setattr(vae, "simulate_vae", lambda *args, **how: {key: [[]] for key in small_studies.CHAINS})
    made = pd.concat([small_studies.beyond_language([301]), small_studies.planted_error([301])])
    committed = pd.concat([small_studies.read("reports", study) for study in small_studies.STUDIES[:2]])
    assert sorted(committed["seed"].unique()) == list(small_studies.SEEDS)
    keys = [name for name in COLUMNS if name not in ("value", "n")]
    both = made.merge(committed, on=keys, suffixes=("", "_committed"), validate="1:1")
    assert len(both) == len(made) > 150
    np.testing.assert_allclose(both["value"], both["value_committed"], atol=2e-6)


def test_novel_modes_are_those_that_the_twin_hardly_wrote_before(tmp_path):
    world, rng = World.make(5), np.random.default_rng(0)
    shares = {name: np.eye(6)[rank] for rank, name in enumerate(("most", "second", "third"))}

    def lessons(arm, *parts):
        folder = tmp_path / "runs/miniature/main" / f"{arm}-s5"
        for g, (written, explained) in enumerate(parts, 1):
            kinds = {"write": written, "explain": explained}
            rows = [world.sample(80, rng, shares=shares[s])["text"].tolist() for s in kinds.values()]
            tables = [make_lesson(t, [0] * 80, "generator", g, k, [""] * 80) for k, t in zip(kinds, rows, strict=True)]
            texts = [row for table in tables for row in table]
            save_lesson(
                tables[0].from_list(texts, features=tables[0].features), folder / "lessons" / f"gen-{g}.parquet"
            )
        (folder / "record.json").write_text(json.dumps({}))

    lessons("symbiosis-frozen", ("most", "second"), ("most", "most"), ("most", "second"))
    lessons("symbiosis", ("most", "most"), ("second", "most"), ("second", "third"))
    rows = small_studies.novel_modes([tmp_path])
    at = rows.set_index(["variant", "metric"])["value"]
    assert set(rows["seed"]) == {5} and set(rows["generation"]) == {3} and set(rows["study"]) == {"novel_modes"}
    assert at["plain", "novel_mass"] > 0.8 and at["frozen", "novel_mass"] < 0.15  # texts tell their subtopic mostly
    assert at["frozen", "novel_mass_lesson"] == pytest.approx(0.5, abs=0.15)  # by what it explained
    assert at["frozen", "rare_modes"] > 0.7 and 0.4 < at["frozen", "novel_mass_of_truth"] < 0.95
    assert small_studies.novel_modes([]).empty


def test_the_tail_is_foretold_from_the_recursion_without_real_rows():
    values = {"recursive-r000_free": 0.5**10, "recursive-r050_free": 0.4}
    lines = [(arm, 7, g, "lesson_tail_mass", v * small_studies.TRUE_TAIL) for arm, v in values.items() for g in (9, 10)]
    rows = pd.DataFrame(lines, columns=["arm", "seed", "generation", "metric", "value"])
    found = small_studies.tail_forecast(rows).set_index("real_share")
    assert found["kept"].tolist() == pytest.approx([0.5, 0.5]) and found.at[0.5, "found"] == pytest.approx(0.4)
    assert found.at[0.5, "foretold"] == pytest.approx(tail_mass(10, kept=0.5, real_share=0.5)[-1])
