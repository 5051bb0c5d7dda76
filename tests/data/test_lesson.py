"""Lessons: their columns, their files to the byte, and files that cannot be read."""

import os
import pickle

import datasets
import pandas as pd
import pyarrow as pa
import pytest

from symbiosis.data.lesson import Written, is_cut, load_lesson, make_lesson, save_lesson, texts_of
from symbiosis.data.readers import DataError


def a_lesson(n=3):
    return make_lesson([f"text {i}" for i in range(n)], range(n), "generator", 2, "write", [""] * n)


def test_a_lesson_has_its_columns_and_its_file_is_exact_and_byte_stable(tmp_path):
    lesson = a_lesson()
    assert lesson.column_names == [
        "text", "label", "origin", "generation", "prompt_kind", "source_id", "weight", "cut", "label_probs",
    ]  # fmt: skip
    assert lesson[1] == {
        "text": "text 1", "label": 1, "origin": "generator", "generation": 2, "prompt_kind": "write", "source_id": "",
        "weight": 1.0, "cut": False, "label_probs": None,
    }  # fmt: skip
    with pytest.raises(pa.ArrowInvalid, match="expected length 1 but got length 2"):
        make_lesson(["a"], [0, 1], "real", 0, "real", ["x"])

    lesson = (
        datasets.concatenate_datasets([a_lesson(), a_lesson(2)])
        .select([4, 0, 2])
        .add_column("hardness", [1.5, 0.1, 2.0])
    )
    for name in ("one", "two"):
        save_lesson(lesson, tmp_path / "lessons" / f"{name}.parquet")
    loaded = load_lesson(tmp_path / "lessons" / "one.parquet")
    assert loaded.to_dict() == lesson.to_dict() and loaded.features == lesson.features
    assert (tmp_path / "lessons" / "one.parquet").read_bytes() == (tmp_path / "lessons" / "two.parquet").read_bytes()
    assert len(pd.read_parquet(tmp_path / "lessons" / "one.parquet")) == 3  # any tool opens it

    with pytest.raises(DataError, match=r"gone\.parquet: no readable lesson"):
        load_lesson(tmp_path / "gone.parquet")


def test_a_text_that_is_cut_stays_marked_in_a_lesson_and_its_file(tmp_path):
    texts = [Written("whole"), Written("not who", cut=True), "plain"]
    lesson = make_lesson(pickle.loads(pickle.dumps(texts)), [0, 1, 2], "generator", 1, "write", [""] * 3)
    save_lesson(lesson, tmp_path / "one.parquet")
    for rows in (lesson, load_lesson(tmp_path / "one.parquet").select([0, 1, 2])):
        assert texts_of(rows) == texts and [is_cut(text) for text in texts_of(rows)] == [False, True, False]
    assert texts_of(lesson.remove_columns("cut")) == texts


def test_a_full_disk_leaves_the_old_lesson_and_no_half(tmp_path, monkeypatch):
    path = tmp_path / "gen-1.parquet"
    save_lesson(a_lesson(), path)
    before = path.read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_lesson(a_lesson(5), path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["gen-1.parquet"]
