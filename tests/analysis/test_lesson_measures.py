"""From run folders to measures.csv and null_bands.csv: what is measured, merged, kept and measured anew."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset

from symbiosis.analysis import lesson_measures
from symbiosis.data.lesson import load_lesson, make_lesson, save_lesson
from symbiosis.data.world import World
from symbiosis.errors import SymbiosisError
from symbiosis.measures import lessons
from symbiosis.measures.lessons import lesson_rows, null_band
from symbiosis.models import encoders, loading
from symbiosis.settings import derive_seed
from symbiosis.store import results

NO_BASE = {"base_lm_loss"}  # of a lesson without its run's models
STATED = {name for names in lessons.LEVERS.values() for name in names} - {*lessons.TAIL_UNITS, "mauve"}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(lesson_measures, "DRAWS", 3)


def written(n, seed=0):
    return World.make(0).sample(n, np.random.default_rng(seed))


def write_run(reports, seed=0, *, scale="miniature", study="main", mark="ab", **changes):
    """A finished run of two generations as runs.py leaves it: record and lessons; changes: of its settings."""
    folder = reports / "runs" / scale / study / f"static-s{seed}"
    settings = {"method": "static", "variant": "plain", "study": study, "scale": scale, "seed": seed}
    settings |= {"task": "miniature", "student": "not/here", "lesson_size": 300} | changes
    for generation in (1, 2):
        sample = World.make(seed).sample(300, np.random.default_rng([seed, generation]))
        lesson = make_lesson(list(sample["text"]), sample["label"], "generator", generation, "write", [""] * 300)
        save_lesson(lesson, folder / "lessons" / f"gen-{generation}.parquet")
    record = {"run_id": f"{scale}/{study}/{folder.name}@{mark}", "settings": settings | {"generations": 2}}
    (folder / "record.json").write_text(json.dumps(record))
    row = settings | {"generation": 0, "metric": "accuracy", "value": 0.5, "unit": "share", "n": 9}
    pd.DataFrame([row | {"run_id": record["run_id"]}], columns=results.COLUMNS).to_csv(folder / "rows.csv", index=False)
    return folder


def test_collect_writes_the_columns_of_results_and_a_repeat_changes_no_byte(tmp_path):
    folders = [write_run(tmp_path, seed) for seed in (1, 0)]
    assert lesson_measures.collect(tmp_path) == ["miniature/main/static-s0@ab", "miniature/main/static-s1@ab"]
    before = (tmp_path / "measures.csv").read_bytes()
    assert before.decode().splitlines()[0] == ",".join(results.COLUMNS)
    lesson_measures.collect(tmp_path)
    assert (tmp_path / "measures.csv").read_bytes() == before
    for folder in folders:
        (folder / "measures.csv").unlink()
    (tmp_path / "measures.csv").unlink()  # and from nothing
    lesson_measures.collect(tmp_path)
    assert (tmp_path / "measures.csv").read_bytes() == before
    rows = lesson_measures.read(tmp_path, "miniature")
    assert len(rows) == 2 * 2 * len(STATED) and set(rows["arm"]) == {"static"} and set(rows["generation"]) == {1, 2}


def test_the_world_is_that_of_the_runs_seed(tmp_path):
    folder = write_run(tmp_path, 5)
    lesson_measures.collect(tmp_path)
    writable = lesson_measures.read(tmp_path, "miniature").query("metric == 'writable'")["value"]
    assert (writable == 1).all()
    record = (folder / "record.json").read_text()
    (folder / "record.json").write_text(record.replace('"seed": 5', '"seed": 0'))  # the same texts in another world
    assert (lesson_measures.run_rows(folder).query("metric == 'writable'")["value"] < 1).all()


def test_a_task_without_known_truth_has_only_measures_of_text(tmp_path):
    write_run(tmp_path, scale="agnews_small", task="data/not_here")
    lesson_measures.collect(tmp_path)
    found = set(lesson_measures.read(tmp_path, "agnews_small")["metric"])
    assert found == STATED - set(lessons.LEVERS["quality"]) - set(lessons.SUBTOPIC_UNITS)


def test_the_base_students_loss_is_that_of_its_weights(tmp_path, neox_folder):
    folder = write_run(tmp_path, student=str(neox_folder))
    loss = lesson_measures.run_rows(folder).query("metric == 'base_lm_loss'").set_index("generation")["value"]
    student, tokenizer = loading.load(str(neox_folder), device="cpu")
    text = load_lesson(folder / "lessons" / "gen-2.parquet")["text"][:]
    rows = [tokenizer(t)["input_ids"][:64] for t in text]
    with torch.no_grad():
        sums = [(torch.tensor([[0, *ids, 0]]), len(ids) + 1) for ids in rows]
        nll = [student(ids, labels=ids).loss.item() * n for ids, n in sums]  # one text at a time, nothing padded
    assert loss[2] == pytest.approx(sum(nll) / sum(n for _, n in sums), abs=1e-4)


def test_each_study_gets_its_null_band(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, study="long")
    lesson_measures.collect(tmp_path)
    band = lesson_measures.read_band(tmp_path, "miniature", "main")
    assert set(band.index) == STATED - NO_BASE and (band["low"] <= band["high"]).all()
    written = (tmp_path / "null_bands.csv").read_bytes()
    lesson_measures.collect(tmp_path, "miniature", "long")
    assert (tmp_path / "null_bands.csv").read_bytes() == written  # the other study's band stays
    assert lesson_measures.read_band(tmp_path, "paper", "main").empty


def test_a_band_of_the_world_is_that_of_lessons_as_large(tmp_path):
    band = lesson_measures.band_of_run(write_run(tmp_path))
    expected = null_band(World.make(0), 300, rng=np.random.default_rng(derive_seed(0, "null_band")), draws=3)
    for name in ("low", "high"):
        assert (band[name].to_numpy() == expected[name].round(lessons.DIGITS).to_numpy()).all()
    assert set(band["n_texts"]) == {300} and set(band["draws"]) == {3}


def test_real_text_has_a_band_against_its_pool(tmp_path, monkeypatch):
    real = [written(700, seed)["text"].tolist() for seed in (1, 2)]
    train, pool = (Dataset.from_dict({"text": texts}) for texts in real)
    task = SimpleNamespace(train=train, pool=pool)
    monkeypatch.setattr(lesson_measures, "load_task", lambda settings: task)
    monkeypatch.setattr(encoders, "SENTENCES", "not/fetched")
    write_run(tmp_path, scale="agnews_small", task="data/not_here")
    lesson_measures.collect(tmp_path)
    found = set(lesson_measures.read(tmp_path, "agnews_small")["metric"])
    assert set(lessons.TAIL_UNITS) <= found
    band = lesson_measures.read_band(tmp_path, "agnews_small", "main")
    assert set(lessons.TAIL_UNITS) <= set(band.index) and band.loc["word_tail_mass", "low"] > 0
    assert "mauve" not in band.index  # no encoder, no vectors


def test_meaning_is_that_of_the_sentence_encoder(tmp_path, monkeypatch):
    real = written(400, 1)["text"].tolist()
    train, pool = (Dataset.from_dict({"text": texts}) for texts in (written(700, 2)["text"].tolist(), real))
    monkeypatch.setattr(lesson_measures, "load_task", lambda settings: SimpleNamespace(train=train, pool=pool))
    corners = np.eye(4)  # a text's vector is one of four: as many meanings as a Vendi score can count
    monkeypatch.setattr(encoders, "load", lambda name, **how: lambda texts: corners[[len(t) % 4 for t in texts]])
    rows = lesson_measures.run_rows(write_run(tmp_path, scale="agnews_small", task="data/ag_news"))
    assert set(lessons.SEMANTIC_UNITS) <= set(rows["metric"])
    assert rows.query("metric == 'vendi'")["value"].between(3, 4).all()


def test_what_was_measured_is_measured_anew_only_where_it_must(tmp_path, monkeypatch):
    folder = write_run(tmp_path)
    first, calls = lesson_measures.run_rows(folder), []
    table, mark = folder / "measures.csv", folder / "measures.digest"
    monkeypatch.setattr(lesson_measures, "lesson_rows", lambda *a, **k: calls.append(1) or lesson_rows(*a, **k))
    changes = {
        "nothing": lambda: None,
        "formula": lambda: monkeypatch.setattr(lesson_measures, "VERSION", lesson_measures.VERSION + 1),
        "another run": lambda: write_run(tmp_path, mark="cd"),
        "damage": lambda: table.write_text(table.read_text().replace("0.", "1.", 1)),
        "half": mark.unlink,
    }
    for what, change in changes.items():
        change()
        again = lesson_measures.run_rows(folder)
        assert len(calls) == 2 * (what != "nothing"), what
        calls.clear()
        pd.testing.assert_frame_equal(again.drop(columns="run_id"), first.drop(columns="run_id"))
    assert set(again["run_id"]) == {"miniature/main/static-s0@cd"}


def test_a_run_replaces_its_own_rows_and_no_others(tmp_path):
    write_run(tmp_path, 0)
    gone = write_run(tmp_path, 1)
    lesson_measures.collect(tmp_path)
    shutil.rmtree(gone)
    write_run(tmp_path, 0, mark="new")
    assert lesson_measures.collect(tmp_path) == ["miniature/main/static-s0@new"]
    rows = lesson_measures.read(tmp_path, "miniature")
    assert set(rows["run_id"]) == {"miniature/main/static-s0@new", "miniature/main/static-s1@ab"}
    assert len(rows) == 2 * 2 * len(STATED)


def test_smoke_unfinished_and_other_scales_stay_out(tmp_path):
    write_run(tmp_path, scale="smoke")
    assert lesson_measures.collect(tmp_path) == lesson_measures.collect(tmp_path, "smoke") == []
    assert not (tmp_path / "measures.csv").exists()
    write_run(tmp_path)
    write_run(tmp_path, scale="agnews_small", task="data/not_here")
    (write_run(tmp_path, 1) / "record.json").unlink()  # still running
    assert lesson_measures.collect(tmp_path, "miniature") == ["miniature/main/static-s0@ab"]
    assert set(pd.read_csv(tmp_path / "measures.csv")["scale"]) == {"miniature"}


def test_what_is_missing_is_empty_and_what_is_damaged_is_named(tmp_path):
    assert lesson_measures.read(tmp_path, "miniature").empty
    folder = write_run(tmp_path)
    lesson_measures.collect(tmp_path)
    assert lesson_measures.read(tmp_path, "paper").empty
    (folder / "measures.csv").unlink()
    (folder / "lessons" / "gen-2.parquet").unlink()
    with pytest.raises(SymbiosisError, match=r"gen-2.parquet: no readable lesson"):
        lesson_measures.collect(tmp_path)
    for content, says in (
        ("{", "json: not valid JSON"),
        ("{}", "json: holds no run_id"),
        ('{"run_id": "x"}', "not of x"),
    ):
        (folder / "record.json").write_text(content)
        with pytest.raises(SymbiosisError, match=says):
            lesson_measures.collect(tmp_path)
