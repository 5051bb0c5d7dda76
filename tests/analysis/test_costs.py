"""What a run cost: counted by hand, and, in tiny runs, against a count of the Generator's own calls."""

import json
import math
from collections import Counter

import pandas as pd
from datasets import concatenate_datasets
from row_by_row import row_by_row
from test_runs import BEST, tiny

from symbiosis.analysis import costs
from symbiosis.data.lesson import make_lesson, save_lesson
from symbiosis.loop import runs
from symbiosis.models import generator
from symbiosis.store import results, stages

LESSONS = [  # (text, prompt kind, source)
    [("a", "label", "pool:1"), ("b", "explain", "pool:1"), ("c", "explain", "pool:2"), ("d", "dev", "dev:7")],
    [("a", "label", "pool:1"), ("d", "dev", "dev:7"), ("e", "explain_dev", "dev:8"), ("f", "real", "train:0")],
    [("g", "retrieve", "pool:3"), ("h", "student_edit", "train:1")],
]
COUNTS = [
    {"generation": 1, "step": "lesson", "rows": 4, "asked": 6, "redrawn": 1, "read": 8, "labelled": 1, "purity": 1.0},
    {"generation": 1, "step": "teach", "asked": 5, "scored": 20, "named": 2, "student_rows": 4},
    {"generation": 2, "step": "lesson", "rows": 4, "asked": 0, "labelled": 1},
]  # fmt: skip


def write_run(reports, seed=0, record=(), **changes):
    """A finished run of two lessons of four rows."""
    settings = {"study": "main", "method": "symbiosis", "variant": "a", "scale": "miniature", "seed": seed}
    settings |= {"generations": 2, "epochs": 3, "feedback": "lm_loss"} | changes
    folder = reports / "runs" / "miniature" / "main" / f"symbiosis-a-s{seed}"
    for i, rows in enumerate(LESSONS, start=1):
        lesson = [make_lesson([text], [0], "real", i, kind, [source]) for text, kind, source in rows]
        save_lesson(concatenate_datasets(lesson), folder / "lessons" / f"gen-{i}.parquet")
    run_id = f"miniature/main/symbiosis-a-s{seed}@ab"
    made = {"writing_counts": COUNTS, "inputs": {"sizes": {"train": 90, "dev": 16}}, "cpu_s": 8.0 + seed}
    record = {"run_id": run_id, "settings": settings} | made | dict(record)
    (folder / "record.json").write_text(json.dumps(record))
    row = {key: settings[key] for key in ("study", "method", "variant", "scale", "seed")} | {"run_id": run_id}
    row |= {"generation": 2, "metric": "accuracy", "value": 0.5, "unit": "share", "n": 9}
    pd.DataFrame([row], columns=results.COLUMNS).to_csv(folder / "rows.csv", index=False)
    return folder


def of(folder) -> dict[str, float]:
    return costs.run_rows(folder).set_index("metric")["value"].to_dict()


def test_costs_by_hand(tmp_path):
    assert of(write_run(tmp_path)) == {
        "texts": 8, "repeats": 2, "pool_texts": 3, "drafts": 6 + 1 + 5 + 2, "label_calls": 8 + 2, "pool_scored": 20,
        "dev_labels": 2, "real_labels": 2, "student_rows": 3 * (10 + 4), "cpu_s": 8,
    }  # fmt: skip


def test_dev_rows_that_decide_are_all_paid_for_and_a_warm_start_is_real_labels(tmp_path):
    for changes in ({"feedback": "influence"}, {"generator_update": "dpo"}, {"generator_update": "teach"}):
        assert of(write_run(tmp_path, **changes))["dev_labels"] == 16
    assert of(write_run(tmp_path, generator_update="teach", teach_reward="rows"))["dev_labels"] == 16
    for without in ({"teach_reward": "label"}, {"teach_held_out": "pool"}):
        assert of(write_run(tmp_path, generator_update="teach", **without))["dev_labels"] == 2  # those in its lessons
    warm = of(write_run(tmp_path, method="recursive", recursive_start="warm", generator_update="dpo"))
    assert (warm["real_labels"], warm["student_rows"], warm["dev_labels"]) == (90, 3 * (10 + 4 + 90), 2)


def test_what_an_older_run_did_not_count_is_not_zero(tmp_path):
    older = of(write_run(tmp_path, record={"cpu_s": None}))
    assert {name for name, value in older.items() if math.isnan(value)} == {"cpu_s", "label_calls", "pool_scored"}


def test_a_study_has_a_line_per_arm_and_a_repeat_changes_no_byte(tmp_path):
    assert costs.table(tmp_path, "miniature", "main").empty and costs.collect(tmp_path) == []
    for seed in (0, 1):
        write_run(tmp_path, seed)
    assert costs.collect(tmp_path, "miniature", "main") == [f"miniature/main/symbiosis-a-s{seed}@ab" for seed in (0, 1)]
    before = (tmp_path / "costs.csv").read_bytes()
    costs.collect(tmp_path)
    assert (tmp_path / "costs.csv").read_bytes() == before
    table = costs.table(tmp_path, "miniature", "main")
    assert table.loc["symbiosis-a", ["cpu_s", "drafts", "seeds"]].tolist() == [8.5, 14, 2]


@row_by_row(
    "changes",
    [
        {"feedback": "teacher_kl"},
        {"candidates": 1, "soft_labels": True},
        {"method": "pseudo_label", "label_keep": 0.5},
        {"dev_rows": 8, "dev_rows_as": "both", "teaching_share": 0.0, "pool_share": 0.0},
        {"feedback_student": "foreign"},
    ],
)
def test_every_text_the_generator_reads_or_writes_in_a_run_is_counted(changes, tmp_path, monkeypatch):
    calls, answers, probs = Counter(), generator.Generator.answers, generator.Generator.label_log_probs

    def counted_answers(self, turns, *, seed, samples=1):
        calls["drafts"] += len(turns) * samples
        return answers(self, turns, seed=seed, samples=samples)

    def counted_probs(self, texts):
        calls["read"] += len(texts)
        return probs(self, texts)

    monkeypatch.setattr(generator.Generator, "answers", counted_answers)
    monkeypatch.setattr(generator.Generator, "label_log_probs", counted_probs)
    settings = tiny(tmp_path, **BEST | {"variant": "counted"} | changes)
    runs.run(settings)
    cost = of(stages.run_folder(settings))
    measured = settings.test_size + settings.dev_size  # read for the record alone: how well the Generator labels
    assert cost["drafts"] == calls["drafts"] and cost["label_calls"] == calls["read"] - measured
    others = settings.lesson_size if settings.feedback_student == "foreign" else 0
    assert cost["student_rows"] == settings.epochs * (2 * settings.lesson_size + others) and cost["cpu_s"] > 0
