"""What label beliefs are calibrated by, by hand and in a run; what is told of the labeller."""

import json

import numpy as np
import pytest
from datasets import Dataset
from made_up import state_of
from row_by_row import row_by_row

from symbiosis.data.lesson import load_lesson
from symbiosis.loop import labeller, runs
from symbiosis.settings import RunSettings
from symbiosis.store.record import read_record
from symbiosis.store.stages import run_folder

TINY = {
    "generations": 1, "lesson_size": 24, "train_size": 48, "pool_size": 60, "dev_size": 16, "test_size": 40,
    "student_steps": 20, "generator_steps": 40, "scale": "tiny", "method": "pseudo_label",
}  # fmt: skip


def test_the_pool_calibrates_by_its_mean_belief(tmp_path):
    state = state_of(calibration="pool")
    expected = state.generator.label_probs(state.task.pool["text"][:]).mean(0)  # ten texts, all of them
    np.testing.assert_allclose(np.exp(labeller.reference(state, tmp_path)), expected)


def test_own_drafts_calibrate_class_by_class_and_are_kept(tmp_path):
    state = state_of(calibration="written", blind=("dog",))
    found = np.exp(labeller.reference(state, tmp_path))
    np.testing.assert_allclose(found, (0.1 + 0.7 * np.array([1, 0, 2]) / 3))  # it reads dogs as birds
    drafts = load_lesson(tmp_path / "drafts.parquet")
    assert len(drafts) == labeller.DRAFTS and np.bincount(drafts["label"]).tolist() == [80] * 3
    some = drafts.select([0, 3, 6, 9, 1, 2])  # four cats, a dog, a bird: every class still weighs the same
    np.testing.assert_allclose(np.exp(labeller.written_reference(state.generator, some)), found)


def test_a_pool_without_texts_and_a_writer_without_words_are_refused(tmp_path, monkeypatch):
    state = state_of(calibration="pool")
    object.__setattr__(state.task, "pool", Dataset.from_dict({"text": [], "source_id": []}))
    with pytest.raises(
        labeller.LabellerError, match="'pool' of an empty pool; set pool_size, or calibration to written"
    ):
        labeller.reference(state, tmp_path)
    state = state_of(calibration="written")
    monkeypatch.setattr(type(state.generator), "answers", lambda self, turns, seed: [""] + ["A cat."] * 239)
    labeller.own_drafts(state)  # one that is empty is left out
    monkeypatch.setattr(type(state.generator), "answers", lambda self, turns, seed: ["", "", "A cat."] * 80)
    with pytest.raises(labeller.LabellerError, match="wrote nothing for 'cat'; raise temperature or max_new_tokens"):
        labeller.own_drafts(state)


def test_the_labeller_is_told_in_a_line_and_one_that_says_one_word_is_warned_of(capsys):
    state = state_of()
    found = labeller.report(state)
    assert found["counts"] == {"cat": 2, "dog": 2, "bird": 1} and found["n"] == 5 and found["accuracy"] == 1
    assert found["calibration_error"] == pytest.approx(0.2) and found["calibration_curve"] == [[5, 0.8, 1.0]]
    said = capsys.readouterr().out
    assert "labeller: cat 2, dog 2, bird 1 of 5 dev texts; accuracy 1.00, entropy 0.64 nats" in said
    assert "WARNING" not in said
    state = state_of(blind=("cat",))  # cats are dogs to it
    cats_and_dogs = state.task.dev.select([0, 1, 3, 4])
    object.__setattr__(state.task, "dev", cats_and_dogs)
    labeller.report(state)
    assert "WARNING: the Generator calls 4 of 4 dev texts 'dog': whatever it labels" in capsys.readouterr().out


class Killed(Exception):
    """What ends a run in the middle of a stage."""


@row_by_row("calibration", ["pool", "written"])
def test_a_run_calibrates_once_and_the_same_after_a_kill(calibration, tmp_path):
    def settings(name):
        return RunSettings(**TINY | {"calibration": calibration, "reports_dir": str(tmp_path / name)})

    unbroken = runs.run(settings("unbroken"))
    for last in ("calibration-0", "student-0"):  # the first one's work is lost, then it is kept

        def die(stage, last=last):
            if stage == last:
                raise Killed

        with pytest.raises(Killed):
            runs.run(settings("killed"), on_stage=die)
    again = runs.run(settings("killed"))
    assert unbroken.drop(columns="run_id").equals(again.drop(columns="run_id"))
    folder = run_folder(settings("killed"))
    kept = json.loads((folder / "state/calibration-0/result.json").read_text())
    assert np.exp(kept["reference"]).sum() == pytest.approx(1) and len(kept["reference"]) == 4
    lessons = [load_lesson(run_folder(settings(name)) / "lessons/gen-1.parquet") for name in ("unbroken", "killed")]
    assert lessons[0]["label"] == lessons[1]["label"] and lessons[0]["text"] == lessons[1]["text"]
    counted = read_record(settings("killed"))["writing_counts"][0]
    asked = {"asked": 240, "read": counted["read"]} if calibration == "written" else {"read": 60}
    assert counted == {"generation": 0, "step": "calibration"} | asked and 60 <= counted["read"] <= 240
    plain = RunSettings(**TINY | {"reports_dir": str(tmp_path / "plain")})
    runs.run(plain)
    counts = [read_record(s)["labeller"]["counts"].values() for s in (plain, settings("killed"))]
    assert max(counts[0]) == 16 and max(counts[1]) < 12  # so little trained, it has one answer for all texts
