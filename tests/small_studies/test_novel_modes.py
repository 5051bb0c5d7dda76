"""Novel modes are counted as their rule says."""

import json

import numpy as np
import pytest

from symbiosis.data.lesson import make_lesson, save_lesson
from symbiosis.data.world import World
from symbiosis.small_studies.novel_modes import novel_modes


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
    rows = novel_modes(5, tmp_path)
    at = rows.set_index(["variant", "metric"])["value"]
    assert set(rows["seed"]) == {5} and set(rows["generation"]) == {3} and set(rows["study"]) == {"novel_modes"}
    assert at["plain", "novel_mass"] > 0.8 and at["frozen", "novel_mass"] < 0.15  # texts tell their subtopic mostly
    assert at["frozen", "novel_mass_lesson"] == pytest.approx(0.5, abs=0.15)  # by what it explained
    assert at["frozen", "rare_modes"] > 0.7 and 0.4 < at["frozen", "novel_mass_of_truth"] < 0.95
    assert novel_modes(5).empty and novel_modes(6, tmp_path).empty
