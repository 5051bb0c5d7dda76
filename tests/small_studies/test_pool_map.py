"""Pools to quick Students: a Generator that is asked nothing twice, and one seed in small."""

import numpy as np
import pandas as pd
import pytest

from symbiosis import params
from symbiosis.models import encoders, loading
from symbiosis.models import generator as generators
from symbiosis.settings import RunSettings
from symbiosis.small_studies import pool_map
from symbiosis.yaml_files import read_params

CLASSES = ["World", "Sports", "Business", "Sci/Tech"]


def test_a_generator_that_remembers_says_what_it_has_said_and_is_asked_for_nothing_twice(qwen_folder, monkeypatch):
    settings, asked = RunSettings(max_new_tokens=8, device="cpu", generation_engine="refill"), []
    lm = loading.load(str(qwen_folder), device="cpu")
    plain, remembering = (kind(lm, CLASSES, settings) for kind in (generators.Generator, pool_map.Remembering))
    expected = plain.label_log_probs(["one", "two"]), plain.answers(["Write."], seed=3)
    for name in ("generate", "scoring.label_log_probs"):
        target = f"symbiosis.models.generator.{name}"
        own = generators.generate if name == "generate" else generators.scoring.label_log_probs
        monkeypatch.setattr(target, lambda *a, own=own, name=name, **how: (asked.append(name), own(*a, **how))[1])
    for _ in range(2):
        np.testing.assert_allclose(
            remembering.label_log_probs(["two", "one", "two"]), expected[0][[1, 0, 1]], atol=1e-6
        )
        assert remembering.answers(["Write."], seed=3) == expected[1]
    assert asked == ["scoring.label_log_probs", "generate"]
    remembering.answers(["Write."], seed=4)
    assert asked[2:] == ["generate"]


@pytest.fixture
def small(tmp_path, qwen_folder, monkeypatch):
    """The scale, with few texts and tiny models."""
    rows = [
        (c + 1, f"Title {i} of {name}", f"Report {i * 7 + c}.") for c, name in enumerate(CLASSES) for i in range(60)
    ]
    for part, some in (("train", rows), ("test", [(c, f"{title}, tested", text) for c, title, text in rows[::12]])):
        frame = pd.DataFrame(some, columns=["class_index", "title", "description"])
        frame.to_csv(tmp_path / f"{part}.csv", index=False)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    given = read_params("params/smollm.yaml") | {
        "task": str(tmp_path), "task_revision": "", "generator": str(qwen_folder), "device": "cpu", "precision": "fp32",
        "lesson_size": 8, "train_size": 16, "dev_size": 8, "test_size": 20, "max_new_tokens": 6,
        "pool_size": 12, "warmup_steps": 0, "prompts": "news",
    }  # fmt: skip
    files = params.files() | {"smollm": given}
    monkeypatch.setattr(params, "files", lambda: files)
    monkeypatch.setattr(pool_map, "SIZES", (8, 12))
    monkeypatch.setattr(
        encoders, "load", lambda *_, **how: lambda texts: np.array([[len(text), 1.0] for text in texts])
    )
    find = loading.find
    monkeypatch.setattr(loading, "find", lambda name, *a: tmp_path if name == encoders.SENTENCES else find(name, *a))


def test_every_arm_is_taught_from_every_pool_and_those_without_one_once(small):
    rows = pool_map.pool_map(5)
    free = {(arm, "plain") for arm in pool_map.POOL_FREE}
    pools = {f"{lacks}_{n}" for lacks in pool_map.LACKS for n in pool_map.SIZES}
    cells = set(zip(rows["method"], rows["variant"], strict=True))
    assert cells == free | {(arm, pool) for arm in pool_map.OF_POOLS for pool in pools}
    assert len(rows) == len(cells) and set(rows["n"]) == {20} and rows["value"].between(0, 1).all()
