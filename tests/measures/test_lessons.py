"""Quality, diversity and complexity of lessons: by hand, against the truth, and from run folders to measures.csv."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset

from symbiosis.analysis import lesson_measures
from symbiosis.data.lesson import load_lesson, make_lesson, save_lesson
from symbiosis.data.task import DataError
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.measures import diversity, lessons
from symbiosis.measures.lessons import (
    LEVERS,
    N_TEXTS,
    SIZES,
    complexity,
    lesson_rows,
    null_band,
    quality,
    subtopic_diversity,
    word_diversity,
)
from symbiosis.models import loading
from symbiosis.models.encoders import EncoderError
from symbiosis.settings import derive_seed
from symbiosis.store import results
from symbiosis.store.results import ResultsError

WORLD = World.make(0)
SUBTOPICS = len(LABEL_NAMES) * len(WORLD.shares)
GARBAGE = ["qqq zzz", "xyzzy"]  # no word of the world
OF_REAL = {*lessons.TAIL_UNITS, "mauve"}
STATED = {name for names in LEVERS.values() for name in names} - OF_REAL  # these need real text
NO_BASE = {"base_lm_loss"}  # of a lesson without its run's models


@pytest.fixture(autouse=True)
def few_draws(monkeypatch, tmp_path):
    monkeypatch.setattr(lesson_measures, "DRAWS", 3)
    monkeypatch.setattr(lesson_measures, "BANDS", tmp_path / "bands")
    lesson_measures.band_of_run.cache_clear()


def written(n, seed=0, **how):
    return WORLD.sample(n, np.random.default_rng(seed), **how)


def table(lesson, world=WORLD, seed=0, **how):
    """{metric: row} of one lesson."""
    rows = lesson_rows(lesson, world, rng=np.random.default_rng(seed), **how)
    assert len({row["metric"] for row in rows}) == len(rows)
    return {row["metric"]: row for row in rows}


def values(lesson, world=WORLD, **how):
    return {name: row["value"] for name, row in table(lesson, world, **how).items()}


# --- measures of texts, by hand ------------------------------------------------------------------------------------
def test_word_diversity_by_hand():
    found = word_diversity(["the cat of the dog", "the man of the sea"], ["the", "of"])
    assert found["distinct_1"] == pytest.approx(6 / 10) and found["distinct_2"] == pytest.approx(7 / 8)
    assert found["template_diversity"] == pytest.approx(2 / 4)  # one frame, "the _ of the _", has two different 4-grams
    p = np.array([4, 2, 1, 1, 1, 1]) / 10
    assert found["word_entropy"] == pytest.approx(-(p * np.log(p)).sum())


def test_complexity_by_hand():
    texts = ["One two. Three!", "four", "", "a b c, if d? d e f. g"]
    found = complexity(texts, base_loss=len)
    clauses = [1, 1, 1, 3, 1, 1]  # the comma and the "if"
    assert found == pytest.approx(
        {"mean_words": 13 / 4, "mean_sentences": 6 / 4, "mean_clauses": np.mean(clauses), "base_lm_loss": 4}
    )
    assert math.isnan(complexity(texts)["base_lm_loss"])  # nothing to ask


def test_words_of_real_text_by_hand():
    real = lessons.RealWords.of(["a a a a a a", "b b b", "C!"])  # shares .6, .3, .1: the rare word is c
    found = lessons.real_words(["a c, a x", "b"], real)
    assert found["word_tail_coverage"] == 1 and found["word_tail_mass"] == found["word_new_mass"] == 1 / 5
    p, q = np.array([2, 1, 1, 1]) / 5, np.array([6, 3, 1, 0]) / 10
    assert found["word_js"] == pytest.approx(diversity.js_divergence(p, q))
    assert lessons.real_words(["a b"], real)["word_tail_coverage"] == 0
    assert all(math.isnan(value) for value in lessons.real_words(["?!"], real).values())


def test_every_subtopic_once_is_as_even_as_can_be():
    labels, ranks = np.divmod(np.arange(SUBTOPICS), len(WORLD.shares))
    texts, best = [], []
    for seed in range(60):  # one text per subtopic that is also read as its own
        drawn = written(SUBTOPICS, seed, labels=labels, subtopics=ranks)
        for text, own, read in zip(drawn["text"], range(SUBTOPICS), WORLD.subtopic(drawn["text"]), strict=True):
            if own == read and own not in best:
                texts, best = [*texts, text], [*best, own]
    found, true = subtopic_diversity(texts, WORLD), np.tile(WORLD.shares, 4) / 4
    assert sorted(best) == list(range(SUBTOPICS))
    assert found["subtopic_entropy"] == pytest.approx(math.log(SUBTOPICS))
    assert found["subtopic_kl"] == pytest.approx(-np.log(true * SUBTOPICS).mean())
    assert (found["tail_coverage"], found["tail_mass"]) == (1, pytest.approx(4 / 6))
    one = subtopic_diversity([texts[0]] * 5, WORLD)
    assert (one["subtopic_entropy"], one["vendi"], one["semantic_dispersion"]) == pytest.approx((0, 1, 0), abs=1e-9)
    assert one["subtopic_kl"] == pytest.approx(-math.log(true[best[0]]))
    assert found["vendi"] > 10  # and variety would have been seen


def test_texts_without_known_words_are_in_no_subtopic():
    texts = list(written(100)["text"])
    found, diluted = subtopic_diversity(texts, WORLD), subtopic_diversity(texts + GARBAGE * 50, WORLD)
    assert diluted["subtopic_entropy"] == found["subtopic_entropy"]
    assert diluted["tail_mass"] == pytest.approx(found["tail_mass"] / 2)
    assert all(math.isnan(value) for value in subtopic_diversity(GARBAGE, WORLD).values())


def test_subtopic_measures_agree_with_those_of_the_world():
    sample = written(300)
    of_world = WORLD.lesson_measures(sample["text"], sample["label"])
    mine = subtopic_diversity(list(sample["text"]), WORLD) | quality(list(sample["text"]), sample["label"], WORLD)
    assert {name: mine[name] for name in of_world} == pytest.approx(of_world)


def test_quality_by_hand():
    sample = written(40)
    texts, labels = [*sample["text"], *GARBAGE], [*sample["label"], 1, 2]
    found, prior = quality(texts, labels, WORLD), WORLD.shares / 4
    p = (np.exp(WORLD.log_likelihood(texts[:40])) * prior).sum(axis=(1, 2))
    words = sum(len(text.split()) for text in texts[:40])
    assert found["log_likelihood"] == pytest.approx(np.log(p).sum() / words)
    assert found["writable"] == pytest.approx(40 / 42)
    right = (WORLD.posterior(texts).argmax(1) == np.array(labels)).sum()
    assert found["label_purity"] == pytest.approx(right / 42)
    wrong = quality(texts, [(label + 1) % 4 for label in labels], WORLD)
    assert wrong["label_purity"] < 0.1 and wrong["log_likelihood"] == found["log_likelihood"]
    assert math.isnan(quality(GARBAGE, [0, 0], WORLD)["log_likelihood"])


# --- one lesson ----------------------------------------------------------------------------------------------------
def test_a_lesson_has_every_measure_of_every_lever_once_with_its_size():
    found = table(written(400))
    assert set(found) == STATED
    assert {found[f"distinct_2{end}"]["n"] for end in SIZES} == set(SIZES.values()) == {4000, 1000}
    assert {found[name]["n"] for name in lessons.SUBTOPIC_UNITS} == {N_TEXTS}
    assert {found[name]["n"] for name in {*LEVERS["quality"], *LEVERS["complexity"]} - NO_BASE} == {400}
    assert {name for name, row in found.items() if math.isnan(row["value"])} == NO_BASE


def test_without_a_world_there_is_no_quality_and_no_subtopic():
    found = table({"text": list(written(300)["text"])}, None)
    assert set(found) == STATED - set(LEVERS["quality"]) - set(lessons.SUBTOPIC_UNITS)
    assert found["distinct_2"]["n"] == 4000


def test_a_grown_lesson_is_as_varied_as_its_part():
    # Three lessons of the truth in one: distinct-2 over all their words would fall, at equal size it stays.
    small, large = written(300, 1), written(900, 2)
    whole = [diversity.distinct_n(list(lesson["text"])) for lesson in (small, large)]
    at_equal_size = [values(lesson)["distinct_2"] for lesson in (small, large)]
    assert whole[0] - whole[1] > 0.1 > 0.04 > abs(at_equal_size[0] - at_equal_size[1])


def test_a_lesson_of_short_texts_is_measured_at_the_smaller_size_only():
    sample = written(300)
    found = table({"text": [" ".join(text.split()[:6]) for text in sample["text"]], "label": sample["label"]})
    assert math.isnan(found["distinct_2"]["value"]) and found["distinct_2"]["n"] == 0
    assert 0 < found["distinct_2_1k"]["value"] < 1 and found["distinct_2_1k"]["n"] == 1000
    assert found["mean_words"]["value"] == 6 and found["tail_mass"]["n"] == 300


@pytest.mark.parametrize("texts", [[], ["the man saw."], ["", ""]], ids=["none", "one", "blank"])
@pytest.mark.parametrize("world", [WORLD, None], ids=["known", "unknown"])
def test_too_little_text_is_nan_and_no_crash(texts, world):
    found = table({"text": texts, "label": [0] * len(texts)}, world)
    diverse = [row for name, row in found.items() if name in LEVERS["diversity"]]
    assert diverse and all(math.isnan(row["value"]) and row["n"] == 0 for row in diverse)
    assert math.isnan(found["mean_words"]["value"]) == (not texts)


def test_the_part_depends_on_the_seed_alone():
    lesson = written(400)
    assert values(lesson, seed=3) == pytest.approx(values(lesson, seed=3), abs=0, nan_ok=True)
    assert values(lesson, seed=3)["distinct_2"] != values(lesson, seed=4)["distinct_2"]


def test_sizes_can_be_given():
    found = table(written(20), sizes={"": 200})
    assert found["distinct_2"]["n"] == 200 and "distinct_2_1k" not in found


# --- real text against itself --------------------------------------------------------------------------------------
def test_the_null_band_holds_real_lessons_and_not_collapsed_ones():
    band = null_band(WORLD, 300, rng=np.random.default_rng(0), draws=60).set_index("metric")
    assert set(band.index) == STATED - NO_BASE and (band["low"] <= band["high"]).all()
    inside = pd.DataFrame([values(written(300, seed)) for seed in range(100, 130)])
    share = (inside.ge(band["low"]) & inside.le(band["high"])).mean()
    assert share.mean() > 0.85  # 95 % bands, from 60 draws
    peaked = values(written(300, shares=np.array([0.8, 0.2, 0, 0, 0, 0])))
    for name in ("distinct_2", "word_entropy", "subtopic_entropy", "tail_mass", "vendi", "semantic_dispersion"):
        assert peaked[name] < band["low"][name], name
    assert peaked["subtopic_kl"] > band["high"]["subtopic_kl"]


def test_the_null_band_of_texts_needs_two_lessons():
    texts = list(written(600)["text"])
    band = null_band(texts, 300, rng=np.random.default_rng(0), draws=5).set_index("metric")
    assert "label_purity" not in band.index and 0 < band["low"]["self_bleu"] < band["high"]["self_bleu"] < 1
    with pytest.raises(ValueError, match="600 texts hold no two lessons of 301"):
        null_band(texts, 301, rng=np.random.default_rng(0))
    for wrong in ({"coverage": 1.0}, {"draws": 0}):
        with pytest.raises(ValueError, match="draws is at least 1 and coverage between"):
            null_band(texts, 300, rng=np.random.default_rng(0), **wrong)


# --- run folders ---------------------------------------------------------------------------------------------------
def write_run(reports, seed=0, *, method="static", scale="miniature", study="main", task="miniature", mark="ab"):
    """A finished run of two generations as runs.py leaves it: record and lessons."""
    folder = reports / "runs" / scale / study / f"{method}-s{seed}"
    settings = {"method": method, "variant": "plain", "study": study, "scale": scale, "seed": seed, "task": task}
    settings |= {"student": "not/here", "lesson_size": 300}
    for generation in (1, 2):
        sample = World.make(seed).sample(300, np.random.default_rng([seed, generation]))
        lesson = make_lesson(list(sample["text"]), sample["label"], "generator", generation, "write", [""] * 300)
        save_lesson(lesson, folder / "lessons" / f"gen-{generation}.parquet")
    record = {"run_id": f"{scale}/{study}/{folder.name}@{mark}", "settings": settings | {"generations": 2}}
    (folder / "record.json").write_text(json.dumps(record))
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
    write_run(tmp_path, 5)
    lesson_measures.collect(tmp_path)
    purity = lesson_measures.read(tmp_path, "miniature").query("metric == 'label_purity'")
    sample = World.make(5).sample(300, np.random.default_rng([5, 2]))
    expected = quality(list(sample["text"]), sample["label"], World.make(5))["label_purity"]
    assert purity.set_index("generation")["value"][2] == pytest.approx(expected, abs=1e-6)
    assert expected != quality(list(sample["text"]), sample["label"], World.make(0))["label_purity"]


def test_a_task_without_known_truth_has_only_measures_of_text(tmp_path):
    write_run(tmp_path, scale="agnews_small", task="data/ag_news")
    lesson_measures.collect(tmp_path)
    found = set(lesson_measures.read(tmp_path, "agnews_small")["metric"])
    assert found == STATED - set(LEVERS["quality"]) - set(lessons.SUBTOPIC_UNITS)


def test_the_base_students_loss_is_that_of_its_weights(tmp_path, neox_folder):
    folder = write_run(tmp_path)
    record = json.loads((folder / "record.json").read_text())
    record["settings"]["student"] = str(neox_folder)
    (folder / "record.json").write_text(json.dumps(record))
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


def test_a_band_of_the_world_is_made_once_and_read_with_every_digit(tmp_path, monkeypatch):
    folders = [write_run(tmp_path), write_run(tmp_path, study="long")]
    made = lesson_measures.band_of_run(folders[0])
    expected = null_band(World.make(0), 300, rng=np.random.default_rng(derive_seed(0, "null_band")), draws=3)
    for name in ("low", "high"):
        assert (made[name].to_numpy() == expected[name].round(lessons.DIGITS).to_numpy()).all()
    monkeypatch.setattr(lessons, "null_band", None)  # the other study's lessons are as large: nothing is drawn again
    pd.testing.assert_frame_equal(
        lesson_measures.band_of_run(folders[1]).drop(columns="study"), made.drop(columns="study")
    )
    monkeypatch.setattr(lesson_measures, "DRAWS", 4)
    lesson_measures.band_of_run.cache_clear()
    with pytest.raises(TypeError):  # another band is not there
        lesson_measures.band_of_run(folders[0])


def test_real_text_has_a_band_against_its_pool(tmp_path, monkeypatch):
    real = [written(700, seed)["text"].tolist() for seed in (1, 2)]
    train, pool = (Dataset.from_dict({"text": texts}) for texts in real)
    task = SimpleNamespace(train=train, pool=pool)
    monkeypatch.setattr(lessons, "load_task", lambda settings: task)
    lesson_measures._task.cache_clear()
    write_run(tmp_path, scale="agnews_small", task="data/ag_news")
    lesson_measures.collect(tmp_path)
    found = set(lesson_measures.read(tmp_path, "agnews_small")["metric"])
    assert set(lessons.TAIL_UNITS) <= found
    band = lesson_measures.read_band(tmp_path, "agnews_small", "main")
    assert set(lessons.TAIL_UNITS) <= set(band.index) and band.loc["word_tail_mass", "low"] > 0
    assert "mauve" not in band.index  # no model, no vectors
    lesson_measures._task.cache_clear()


def test_meaning_on_real_text_is_an_encoders(tmp_path, monkeypatch, neox_folder):
    real = written(400, 1)["text"].tolist()
    one_hot = np.eye(4)[[0, 1, 2, 3] * 100]
    seen = lessons.RealText.of(real, lambda texts: one_hot[: len(texts)])
    found = values({"text": written(400)["text"].tolist()}, None, real=seen)
    assert found["vendi"] == pytest.approx(4) and found["semantic_dispersion"] == pytest.approx(0.75, abs=0.01)
    assert found["mauve"] == pytest.approx(1, abs=0.01)

    train, pool = (Dataset.from_dict({"text": texts}) for texts in (written(700, 2)["text"].tolist(), real))
    monkeypatch.setattr(lessons, "load_task", lambda settings: SimpleNamespace(train=train, pool=pool))
    lesson_measures._task.cache_clear()
    folder = write_run(tmp_path, scale="agnews_small", task="data/ag_news")
    assert "mauve" not in set(lesson_measures.run_rows(folder)["metric"])  # its initial Student is not there
    rows = lesson_measures.run_rows(folder, str(neox_folder))
    assert set(lessons.SEMANTIC_UNITS) <= set(rows["metric"]) and rows.query("metric == 'vendi'")["value"].ge(1).all()
    with pytest.raises(EncoderError, match="not/there is no folder, and a hub id needs its commit"):
        lesson_measures.run_rows(folder, "not/there")
    lesson_measures._task.cache_clear()


def test_what_was_measured_is_not_measured_again(tmp_path, monkeypatch):
    folder = write_run(tmp_path)
    first = lesson_measures.run_rows(folder)
    monkeypatch.setattr(lessons, "lesson_rows", lambda *a, **k: pytest.fail("measured again"))
    shutil.rmtree(folder / "lessons")
    pd.testing.assert_frame_equal(lesson_measures.run_rows(folder), first)


@pytest.mark.parametrize("change", ["formula", "record", "damage", "half"])
def test_a_changed_formula_another_run_or_a_damaged_file_is_measured_anew(tmp_path, monkeypatch, change):
    folder = write_run(tmp_path)
    first = lesson_measures.run_rows(folder)
    if change == "formula":
        monkeypatch.setattr(lesson_measures, "VERSION", lesson_measures.VERSION + 1)
    if change == "record":
        write_run(tmp_path, mark="cd")
    if change == "damage":
        (folder / "measures.csv").write_text((folder / "measures.csv").read_text().replace("0.", "1.", 1))
    if change == "half":
        (folder / "measures.digest").unlink()
    calls = []
    monkeypatch.setattr(lessons, "lesson_rows", lambda *a, **k: calls.append(1) or lesson_rows(*a, **k))
    again = lesson_measures.run_rows(folder)
    assert len(calls) == 2
    pd.testing.assert_frame_equal(again.drop(columns="run_id"), first.drop(columns="run_id"))
    assert again["run_id"].iloc[0].endswith("cd" if change == "record" else "ab")


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
    write_run(tmp_path, scale="agnews_small", task="data/ag_news")
    (write_run(tmp_path, 1) / "record.json").unlink()  # still running
    assert lesson_measures.collect(tmp_path, "miniature") == ["miniature/main/static-s0@ab"]
    assert set(pd.read_csv(tmp_path / "measures.csv")["scale"]) == {"miniature"}


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(ResultsError, match=r"measures.csv: no such file; make it with "):
        lesson_measures.read(tmp_path, "miniature")
    folder = write_run(tmp_path)
    lesson_measures.collect(tmp_path)
    with pytest.raises(ResultsError, match=r"no rows of scale 'paper' and study 'main' \(it holds miniature/main\)"):
        lesson_measures.read(tmp_path, "paper")
    (folder / "measures.csv").unlink()
    (folder / "lessons" / "gen-2.parquet").unlink()
    with pytest.raises(DataError, match=r"gen-2.parquet: no readable lesson"):
        lesson_measures.collect(tmp_path)
    for content, says in (("{", "not valid JSON"), ("{}", "no 'run_id'"), ('{"run_id": "x"}', "no 'settings'")):
        (folder / "record.json").write_text(content)
        with pytest.raises(ResultsError, match=f"record.json: {says}"):
            lesson_measures.collect(tmp_path)
