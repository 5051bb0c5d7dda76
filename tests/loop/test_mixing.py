import json

import numpy as np
import pytest
from row_by_row import row_by_row
from test_runs import lessons_of, stop_at, tiny

from symbiosis.data.task import load_task
from symbiosis.loop import mixing, runs
from symbiosis.settings import RunSettings, SettingsError, make_settings
from symbiosis.store import stages


def test_real_rows_and_kept_rows_by_hand_and_a_subsample_takes_every_row_equally_often():
    assert mixing.real_count(10, 0.25) == 2 and mixing.real_count(300, 0.618) == 185
    fresh = [mixing.real_positions(3, g, 7, fixed=False).tolist() for g in (1, 2, 3)]
    assert fresh == [[0, 1, 2], [3, 4, 5], [6, 0, 1]]  # the split starts over when it is used up
    assert [mixing.real_positions(3, g, 7, fixed=True).tolist() for g in (1, 3)] == [[0, 1, 2], [0, 1, 2]]
    with pytest.raises(ValueError, match="raise train_size"):
        mixing.real_positions(2, 1, 0, fixed=True)
    with pytest.raises(ValueError, match=r"real_share: 1\.5"):
        mixing.real_count(10, 1.5)

    rng = np.random.default_rng(0)
    assert mixing.kept_rows([4, 4, 2], "replace", rng).tolist() == [8, 9]
    assert mixing.kept_rows([4, 4, 2], "accumulate", rng).tolist() == list(range(10))
    drawn = mixing.kept_rows([4, 4, 2], "accumulate_subsample", rng)
    assert len(set(drawn)) == 2 and drawn.tolist() == sorted(drawn)
    with pytest.raises(ValueError, match="'mix' is not one of replace"):
        mixing.kept_rows([1], "mix", rng)

    rng = np.random.default_rng(1)
    counts = sum(np.bincount(mixing.kept_rows([6, 3], "accumulate_subsample", rng), minlength=9) for _ in range(3000))
    p = 3 / 9
    assert np.abs(counts / 3000 - p).max() < 4 * np.sqrt(p * (1 - p) / 3000)
    assert abs(counts[6:].sum() / counts.sum() - 1) > 0.5  # and 'replace' would have been seen


def test_a_weak_labeller_is_right_as_often_as_said_and_wrong_evenly():
    truth = np.arange(30000) % 3
    labels = mixing.weak_labels(truth, 0.4, 3, np.random.default_rng(0))
    share = (labels == truth).mean()
    assert abs(share - 0.4) < 4 * np.sqrt(0.24 / 30000)
    assert abs((labels == (truth + 1) % 3).mean() - 0.3) < 4 * np.sqrt(0.21 / 30000)
    assert (mixing.weak_labels(truth, 1.0, 3, np.random.default_rng(0)) == truth).all()


def test_rows_are_held_to_the_shares_of_their_kinds():
    kinds = np.array([0, 0, 0, 0, 0, 0, 1, 2, -1])
    held = mixing.held_rows(kinds, np.array([0.5, 0.25, 0.25]), 8)
    assert held.tolist() == [0, 1, 2, 3, 6, 6, 7, 7]  # the first of a kind, and again where they are few
    gone = mixing.held_rows(kinds, np.array([0.4, 0.2, 0.2, 0.2]), 5)  # nothing of the last kind: theirs to the others
    assert np.bincount(kinds[gone]).tolist() == [3, 1, 1]
    assert mixing.held_rows(np.array([-1, -1]), np.array([1.0]), 3).tolist() == [0, 1, 0]


# --- in a run ------------------------------------------------------------------------------------------------------
def test_real_share_gives_real_rows_and_keeps_the_size(tmp_path):
    settings = tiny(tmp_path, method="static", variant="mixed", real_share=0.25)
    runs.run(settings)
    first, second = lessons_of(settings, 1, 2)
    real = [lesson[lesson["origin"] == "real"] for lesson in (first, second)]
    assert [len(lesson) for lesson in (first, second)] == [24, 24] and [len(rows) for rows in real] == [6, 6]
    train = load_task(settings).train.to_pandas()
    assert real[0]["text"].tolist() == train["text"].tolist()[:6]
    assert real[1]["text"].tolist() == train["text"].tolist()[6:12]  # fresh ones
    fixed = tiny(tmp_path, method="static", variant="fixed", real_share=0.25, real_rows_from="fixed")
    runs.run(fixed)
    a, b = (lesson[lesson["origin"] == "real"]["text"].tolist() for lesson in lessons_of(fixed, 1, 2))
    assert a == b == real[0]["text"].tolist()


def test_a_held_lesson_has_the_subtopics_asked_for_in_real_and_written_rows_alike(tmp_path):
    size = {"lesson_size": 96, "train_size": 480, "generations": 1, "real_share": 0.5, "method": "static"}
    for variant, power, most in (("narrow", 60.0, 1), ("true", 1.0, 6)):
        settings = tiny(tmp_path, variant=variant, held_power=power, **size)
        runs.run(settings)
        (lesson,), world = lessons_of(settings, 1), load_task(settings).world
        for origin, rows in lesson.groupby("origin"):
            ranks = world.subtopic(rows["text"]) % 6
            assert len(rows) == 48 and ranks.max() < most, origin
        real = lesson[lesson["origin"] == "real"]
        counts = np.bincount(world.subtopic(real["text"]), minlength=24).reshape(4, 6)
        wanted = (world.shares / world.shares.max()) ** power
        assert np.abs(counts - 12 * wanted / wanted.sum()).max() < 1  # every subtopic is among 480 real rows
    with pytest.raises(ValueError, match="held_power, weak_accuracy, probe_hidden_states: need the known truth"):
        tiny(tmp_path, task="elsewhere", held_power=1.0)


@row_by_row("method", ["recursive", "static", "symbiosis"])
def test_lessons_accumulate_in_every_method_that_writes(method, tmp_path):
    settings = tiny(tmp_path, method=method, variant="grows", mixing="accumulate")
    runs.run(settings)
    first, second = lessons_of(settings, 1, 2)
    assert len(first) == 24 and len(second) == 48 and second["text"].tolist()[:24] == first["text"].tolist()
    if method == "static":
        assert second["text"].tolist()[24:] == first["text"].tolist()


def test_a_subsampled_run_that_was_stopped_gives_the_numbers_of_an_unbroken_one(tmp_path):
    settings = tiny(tmp_path, method="recursive", variant="drawn", mixing="accumulate_subsample", generations=3)

    with pytest.raises(KeyboardInterrupt):
        runs.run(settings, on_stage=stop_at("student-3"))
    rows = runs.run(settings)
    elsewhere = settings.model_copy(update={"reports_dir": str(tmp_path / "again")})
    assert rows.equals(runs.run(elsewhere))
    (third,) = lessons_of(settings, 3)
    assert len(third) == 24 and set(third["generation"]) == {1, 2, 3}


def test_the_world_writes_with_the_diversity_and_the_quality_asked_for(tmp_path):
    size = {"lesson_size": 300, "train_size": 300, "generations": 1}
    narrow, wide, noisy = (
        tiny(tmp_path, method="oracle", variant=name, **size, **dial)
        for name, dial in (
            ("narrow", {"subtopic_power": 60.0}), ("wide", {"subtopic_power": 0.0}), ("noisy", {"label_noise": 0.5}),
        )
    )  # fmt: skip
    at = {s.variant: runs.run(s).set_index(["metric", "generation"])["value"] for s in (narrow, wide, noisy)}
    assert at["narrow"]["lesson_tail_coverage", 1] < 0.1 and at["wide"]["lesson_tail_coverage", 1] == 1
    assert at["wide"]["lesson_tail_mass", 1] == pytest.approx(4 / 6, abs=0.12)
    assert at["wide"]["lesson_label_purity", 1] > 0.95
    assert at["noisy"]["lesson_label_purity", 1] == pytest.approx(0.5, abs=0.1)


def test_rejected_rows_get_the_weak_labellers_label(tmp_path):
    plain, helped = (
        tiny(
            tmp_path, method="static", variant=name, lesson_size=120, train_size=120, generations=1, weak_accuracy=weak
        )
        for name, weak in (("plain", 0.0), ("helped", 1.0))
    )
    purity = [
        rows.set_index(["metric", "generation"])["value"]["lesson_label_purity", 1]
        for rows in map(runs.run, (plain, helped))
    ]
    before, after = (lessons_of(s, 1)[0] for s in (plain, helped))
    assert before["text"].tolist() == after["text"].tolist()
    assert (before["label"] != after["label"]).any() and purity[1] > purity[0]
    assert json.loads((stages.run_folder(helped) / "record.json").read_text())["writing_counts"][0]["rejected"] > 0


def test_what_came_later_does_not_rename_earlier_runs():
    plain = RunSettings()
    assert plain.fingerprint == RunSettings(mixing="replace", real_share=0.0, weak_accuracy=0.0).fingerprint
    assert plain.fingerprint != RunSettings(real_share=0.1).fingerprint
    assert plain.fingerprint != RunSettings(mixing="accumulate").fingerprint


def test_truth_is_known_of_the_miniature_only():
    with pytest.raises(SettingsError, match="need the known truth of task: miniature"):
        make_settings(task="data/news", method="oracle")
    with pytest.raises(SettingsError, match="need the known truth"):
        make_settings(task="data/news", weak_accuracy=0.2)
