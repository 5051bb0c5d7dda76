import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
import random_sources
import torch
from row_by_row import row_by_row

from symbiosis.data.lesson import load_lesson
from symbiosis.loop import runs
from symbiosis.loop.methods import METHODS
from symbiosis.models import devices, encoders, loading
from symbiosis.models.ranks import TrainingError
from symbiosis.pretrain.initial import initial_model_folder
from symbiosis.settings import RunSettings, root
from symbiosis.store import record as record_module
from symbiosis.store import results, stages
from symbiosis.store.folders import DiskError
from symbiosis.store.record import read_record
from symbiosis.store.stages import RunError

TINY = {
    "generations": 2, "lesson_size": 24, "train_size": 48, "pool_size": 60, "dev_size": 16, "test_size": 40,
    "student_steps": 20, "generator_steps": 40, "hard_examples": 6, "scale": "tiny",
}  # fmt: skip
BEST = {
    "variant": "best", "generator_update": "none", "candidates": 2, "first_lesson_sources": "random",
    "teaching_share": 0.5, "pool_share": 0.25,
}  # fmt: skip


def tiny(reports_dir, **changes) -> RunSettings:
    return RunSettings(**TINY | {"reports_dir": str(reports_dir)} | changes)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Where runs that several tests look at are made once: a finished run is read, not repeated."""
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def unbroken(reports):
    """The whole loop, never interrupted."""
    settings = tiny(reports)
    return settings, runs.run(settings)


@pytest.fixture(scope="module")
def best(reports):
    """A run whose lessons have rows of every kind, and whose Generator stays as it is."""
    settings = tiny(reports, **BEST)
    runs.run(settings)
    return settings


def test_a_run_leaves_rows_lessons_and_a_record(unbroken):
    settings, rows = unbroken
    folder = stages.run_folder(settings)
    assert tuple(rows.columns) == results.COLUMNS and set(rows["generation"]) == {0, 1, 2}
    record = json.loads((folder / "record.json").read_text())
    assert record["run_id"] == settings.run_id and set(record["stages"]) >= {"lesson-1", "student-2", "teach-1"}
    assert record["settings"] == settings.model_dump() and record["versions"]["torch"]
    lesson = load_lesson(folder / "lessons" / "gen-2.parquet").to_pandas()
    assert len(lesson) == 24 and set(lesson["prompt_kind"]) == {"explain", "write"}
    assert (lesson["prompt_kind"] == "explain").sum() == 18 and (lesson["text"].str.len() > 0).all()


def test_a_record_says_with_what_and_from_what_the_run_was_made(unbroken, monkeypatch):
    settings, record = unbroken[0], read_record(unbroken[0])
    assert record["constraints"] == hashlib.sha256((root() / "constraints.txt").read_bytes()).hexdigest()
    for name in ("torch", "transformers", "datasets", "numpy", "accelerate", "papermill"):
        assert record["versions"][name] == metadata.version(name)
    assert record["hardware"] and record["device"] == "cpu" and record["threads"] == 1
    inputs, folder = record["inputs"], stages.run_folder(settings)
    sizes = {"classes": 4, "train": 48, "pool": 60, "dev": 16, "test": 40}
    assert inputs["sizes"].items() >= sizes.items() and min(inputs["sizes"].values()) > 0
    assert record["instructions"] == torch.backends.cpu.get_cpu_capability() and record["undefined"] == {}
    begun = json.loads((folder / "inputs.json").read_text())
    assert begun == {name: value for name, value in inputs.items() if name != "task_source"}
    assert inputs["task_source"] == "miniature" and inputs["generator_weights"] != inputs["student_weights"]
    assert inputs["student_weights"] == loading.weights_digest(Path(initial_model_folder("student", settings)))
    assert list(record["products"]) == ["rows.csv", "lessons/gen-1.parquet", "lessons/gen-2.parquet"]
    for name, mark in record["products"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == mark
    assert re.fullmatch(r"[0-9a-f]{40}", record["commit"]) and record["dirty"] in (True, False)
    monkeypatch.setattr(record_module, "PACKAGES", ("torch", "no-such-package"))
    assert set(record_module.versions()) == {"python", "torch"}  # what is not installed is left out


PROXY = {"feedback": "entropy", "generator_update": "none", "method": "symbiosis"}


def test_a_probe_is_a_student_like_any_other_and_goes_on_where_it_was_killed(reports, tmp_path):
    settings = tiny(reports, variant="probe", student="probe", **PROXY)
    rows = runs.run(settings)
    assert rows.loc[rows["metric"].isin(["lm_loss", "train_lm_loss"]), "value"].isna().all()
    assert rows.loc[rows["metric"] == "train_label_loss", "value"].max() < math.log(4)
    inputs = read_record(settings)["inputs"]
    assert inputs["student_weights"] == inputs["generator_weights"] and inputs["sizes"]["student"] < 1000
    done, again = stages.run_folder(settings), settings.model_copy(update={"reports_dir": str(tmp_path)})
    half = stages.run_folder(again)
    shutil.copytree(done, half)
    for name in ("state/student-2", "state/lesson-2"):
        shutil.rmtree(half / name)
    (half / "record.json").unlink(), (half / "rows.csv").unlink()
    assert runs.run(again).equals(rows)


def test_a_proxy_on_an_encoders_vectors_needs_no_generator(tmp_path, monkeypatch, neox_folder):
    monkeypatch.setattr(encoders, "SENTENCES", str(neox_folder))
    settings = tiny(tmp_path, student="minilm", **PROXY | {"method": "real"})
    rows = runs.run(settings).set_index(["metric", "generation"])["value"]
    assert rows["train_label_loss", 2] < math.log(4) and rows["label_loss", 0] == pytest.approx(math.log(4))
    record = read_record(settings)
    assert record["train_texts_cut"] is None and record["inputs"]["student"] == neox_folder.name


def test_auto_is_recorded_as_what_it_came_to_and_a_run_goes_on_in_that_alone(tmp_path, monkeypatch):
    settings = tiny(tmp_path, method="real", generations=1, precision="auto")
    monkeypatch.setattr(devices, "bf16_is_native", lambda device: True)
    rows = runs.run(settings)
    record = stages.run_folder(settings) / "record.json"
    assert json.loads(record.read_text())["precision"] == "bf16"
    monkeypatch.setattr(devices, "bf16_is_native", lambda device: False)
    assert runs.run(settings).equals(rows)  # what is finished is read anywhere
    record.unlink()
    with pytest.raises(RunError, match="its precision came from other code or data than today's"):
        runs.run(settings)


def test_the_weights_digest_sees_a_single_bit_and_no_stranger(qwen_folder, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(qwen_folder, folder)
    digests = [loading.weights_digest(folder)]
    (folder / "notes.pkl").write_text("no part of a model")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "config.json").write_text("{}")
    assert loading.weights_digest(folder) == loading.weights_digest(qwen_folder) == digests[0]
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + bytes([weights.read_bytes()[-1] ^ 1]))
    digests.append(loading.weights_digest(folder))
    for name, text in (("tokenizer.json", "{}"), ("modules.json", "[]"), ("checkpoint/config.json", '{"pooling": 1}')):
        (folder / name).write_text(text)
        digests.append(loading.weights_digest(folder))
    assert len(set(digests)) == 5


def test_what_too_few_test_texts_cannot_show_is_nan_and_counted(tmp_path):
    settings = tiny(tmp_path, method="real", generations=1, probe_hidden_states=True, test_size=1)
    rows = runs.run(settings).set_index(["metric", "generation"])
    undefined = read_record(settings)["undefined"]
    names = {f"{model}{name}_{part}" for model in ("", "random_") for name in ("density", "effective_rank")
             for part in ("head", "tail")}  # fmt: skip
    assert names <= set(undefined) <= names | {"accuracy_tail"} and undefined["density_tail"] == 2
    assert (rows.loc[rows["value"].isna(), "n"] == 0).all() and rows.loc["accuracy", "value"].notna().all()
    assert results.collect(tmp_path) == [settings.run_id]


def test_the_collector_reads_old_and_new_records(unbroken, tmp_path):
    for variant, leave_out in (("new", ()), ("old", ("constraints", "hardware", "products"))):
        settings = unbroken[0].model_copy(update={"variant": variant, "reports_dir": str(tmp_path)})
        folder = stages.run_folder(settings)
        shutil.copytree(stages.run_folder(unbroken[0]), folder)
        rows = pd.read_csv(folder / "rows.csv").assign(variant=variant, run_id=settings.run_id)
        rows.to_csv(folder / "rows.csv", index=False)
        changed = read_record(unbroken[0]) | {"run_id": settings.run_id, "products": stages.products(folder)}
        record = {k: v for k, v in changed.items() if k not in leave_out}
        (folder / "record.json").write_text(json.dumps(record))
    assert len(results.collect(tmp_path)) == 2
    new, old = results.read_records(tmp_path).drop(columns="run_id").to_dict("records")
    assert new == old | {"hardware": new["hardware"]} and new["device"] == "cpu" and old["hardware"] == ""


def test_a_finished_run_is_read_not_repeated_and_keeps_only_the_last_weights(unbroken):
    state = stages.run_folder(unbroken[0]) / "state"
    assert [(state / f"student-{g}" / "model").is_dir() for g in (1, 2)] == [False, True]

    settings, rows = unbroken
    before = (stages.run_folder(settings) / "record.json").read_bytes()
    pd.testing.assert_frame_equal(runs.run(settings), rows)
    assert (stages.run_folder(settings) / "record.json").read_bytes() == before


@row_by_row("scale", ["tiny", "smoke"])
def test_a_run_of_other_initial_models_is_not_taken_for_todays(scale, tmp_path, unbroken):
    settings = tiny(tmp_path, scale=scale, method="real", generations=1)
    rows = runs.run(settings)
    path = stages.run_folder(settings) / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"inputs": record["inputs"] | {"student": "student-0123abcd"}}))
    if scale == "tiny":
        with pytest.raises(RunError, match=r"its student came from other code .*delete the folder"):
            runs.run(settings)
        assert path.exists()  # nothing is lost
    else:
        pd.testing.assert_frame_equal(runs.run(settings), rows)
        assert json.loads(path.read_text())["inputs"] == record["inputs"]


def test_the_same_settings_give_the_same_numbers_elsewhere(unbroken, tmp_path):
    pd.testing.assert_frame_equal(runs.run(tiny(tmp_path)), unbroken[1])


def test_a_run_stopped_in_every_stage_and_continued_equals_an_unbroken_one(unbroken, tmp_path):
    settings, stopped = tiny(tmp_path), []
    state = stages.run_folder(settings) / "state"

    def stop_once(name):
        if name not in stopped:
            stopped.append(name)
            raise KeyboardInterrupt

    names = runs.stage_names(settings)
    for name in names:
        with pytest.raises(KeyboardInterrupt):
            runs.run(settings, on_stage=stop_once)
        assert stopped[-1] == name and not (state / name).exists()  # its work was done, nothing of it is kept
    pd.testing.assert_frame_equal(runs.run(settings, on_stage=stop_once), unbroken[1])
    assert stopped == names and len(names) == 6
    same_lessons(settings, unbroken[0])


def same_lessons(settings, other):
    for generation in (1, 2):
        a, b = (stages.run_folder(s) / "lessons" / f"gen-{generation}.parquet" for s in (settings, other))
        pd.testing.assert_frame_equal(load_lesson(a).to_pandas(), load_lesson(b).to_pandas())


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Where two processes left `random_sources`: one unbroken, the other stopped and continued."""
    place, models = tmp_path_factory.mktemp("drawn"), tmp_path_factory.mktemp("models")
    for role in ("student", "generator"):
        shutil.copytree(initial_model_folder(role, tiny(place)), models / role)
        config = json.loads((models / role / "config.json").read_text())
        (models / role / "config.json").write_text(
            json.dumps(config | {"attention_dropout": 0.3, "hidden_dropout": 0.3})
        )
    for where, *words in (("unbroken",), ("stopped", "stop")):
        command = [sys.executable, random_sources.__file__, str(place / where), str(models), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr[-3000:]
    return place, models


@row_by_row("case", random_sources.CASES)
def test_the_same_command_draws_the_same_numbers_in_another_process_and_after_a_stop(drawn, case):
    place, models = drawn
    both = [random_sources.settings_of(case, place / end, models) for end in ("unbroken", "stopped")]
    folders = list(map(stages.run_folder, both))
    rows = [(folder / "rows.csv").read_bytes() for folder in folders]
    assert rows[0] == rows[1]
    lessons = [[path.read_bytes() for path in sorted(folder.glob("lessons/*.parquet"))] for folder in folders]
    assert len(lessons[0]) == both[0].generations and lessons[0] == lessons[1]


def test_changed_settings_are_another_run(unbroken):
    changed = unbroken[0].model_copy(update={"epochs": 3})
    with pytest.raises(RunError, match=r"symbiosis-s0: holds a run of other settings \(epochs: 2 there, 3 now\); give"):
        runs.run(changed)


def test_two_writers_of_one_run_are_refused_by_name(tmp_path):
    settings = tiny(tmp_path)
    with (
        stages.writing(stages.run_folder(settings)),
        pytest.raises(RunError, match=rf"in use by process {os.getpid()} on .* since 2\d\d\d-.*; wait for it"),
    ):
        runs.run(settings)


def test_a_full_disk_is_one_sentence_and_the_run_continues(unbroken, tmp_path, monkeypatch):
    settings = tiny(tmp_path)

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loading.LanguageModel, "save", full)
        with pytest.raises(DiskError, match=r"No space left on device.*free some space"):
            runs.run(settings)
    assert not list((stages.run_folder(settings) / "state").glob(".*")), "something half-written is left"
    pd.testing.assert_frame_equal(runs.run(settings), unbroken[1])


def test_a_diverging_student_stops_and_keeps_the_last_good_stage(tmp_path):
    settings = tiny(tmp_path, learning_rate=0.999, epochs=1, lm_weight=1e38)
    with pytest.raises(TrainingError, match="lower learning_rate"):
        runs.run(settings)
    state = stages.run_folder(settings) / "state"
    assert (state / "lesson-1" / "result.json").exists() and not (state / "student-1").exists()


@row_by_row("method", list(METHODS))
def test_every_method_teaches_the_same_number_of_rows_and_steps(method, reports, unbroken):
    settings = tiny(reports, method=method)
    start, usual = (r.set_index(["metric", "generation"])["value"] for r in (runs.run(settings), unbroken[1]))
    state = stages.run_folder(settings) / "state"
    steps = [len(json.loads((state / f"student-{g}" / "result.json").read_text())["history"]) for g in (1, 2)]
    assert steps == [2 * 2, 2 * 2]  # 2 epochs of ceil(24 / 16) batches
    assert start["accuracy", 0] == usual["accuracy", 0]


def test_warm_recursion_starts_from_a_student_that_saw_real_rows(tmp_path):
    cold = tiny(tmp_path, method="recursive", generations=1, train_size=240)
    warm = cold.model_copy(update={"variant": "warm", "recursive_start": "warm"})
    losses = [
        rows[(rows["generation"] == 0) & (rows["metric"] == "lm_loss")]["value"].item()
        for rows in map(runs.run, (cold, warm))
    ]
    assert losses[1] < losses[0] - 0.3


def test_static_repeats_its_lesson_and_real_does_not(reports):
    texts = {}
    for method in ("static", "real"):
        settings = tiny(reports, method=method)
        runs.run(settings)
        texts[method] = [lesson["text"].tolist() for lesson in lessons_of(settings, 1, 2)]
    assert texts["static"][0] == texts["static"][1]
    assert not set(texts["real"][0]) & set(texts["real"][1])


def test_symbiosis_without_update_leaves_the_generator_alone(best):
    made = stages.run_folder(best) / "state" / "teach-1"
    assert (made / "hard.parquet").exists() and not (made / "model").exists()


def stop_at(stage: str):
    """For `on_stage`: the run is stopped in that stage, before anything of it is kept."""

    def stop(name):
        if name == stage:
            raise KeyboardInterrupt

    return stop


def lessons_of(settings, *generations):
    folder = stages.run_folder(settings) / "lessons"
    return [load_lesson(folder / f"gen-{g}.parquet").to_pandas() for g in generations]


@row_by_row("update", ["sft", "pool_lm", "influence", "dpo"])
def test_every_update_changes_the_generator_and_measures_its_drift(update, tmp_path):
    settings = tiny(tmp_path, **BEST | {"generator_update": update}, keep_checkpoints=True)
    rows = runs.run(settings)
    assert (stages.run_folder(settings) / "state" / "teach-1" / "model").is_dir()
    at = rows.set_index(["metric", "generation"])["value"]
    assert at["generator_kl", 1] != 0 and {("generator_accuracy", 0), ("generator_accuracy", 1)} <= set(at.index)


def test_a_lesson_holds_hard_texts_explanations_and_written_texts_in_their_shares(best):
    first, second = lessons_of(best, 1, 2)
    for lesson in (first, second):
        assert lesson["prompt_kind"].value_counts().to_dict() == {"explain": 12, "label": 6, "write": 6}
    hard = pd.read_parquet(stages.run_folder(best) / "state" / "teach-1" / "hard.parquet")
    labelled = second[second["prompt_kind"] == "label"]
    assert labelled["text"].tolist() == hard["text"].tolist()[:6]  # six hard examples, six rows
    assert set(first.loc[first["prompt_kind"] == "label", "source_id"]) != set(hard["source_id"])
    record = read_record(best)["writing_counts"]
    assert record[0]["filtered"] == record[0]["kept"] == 18  # 18 texts were written, of two drafts each
    assert record[0]["asked"] == 36 and {"empty", "duplicate"} <= set(record[0])  # counted where there was none, too
    assert {"purity_explain", "purity_label", "purity_write"} <= set(record[0]) and "agreed" in record[0]


def test_labels_alone_need_no_look_at_the_pool(tmp_path):
    settings = tiny(tmp_path, variant="written", generator_update="none", teaching_share=0.0)
    runs.run(settings)
    assert not (stages.run_folder(settings) / "state" / "teach-1").exists()
    first, second = lessons_of(settings, 1, 2)
    assert set(second["prompt_kind"]) == {"write"} and not set(first["text"]) & set(second["text"])


def test_dev_rows_take_the_place_of_lesson_rows(tmp_path):
    settings = tiny(tmp_path, method="static", variant="dev", dev_rows=10)
    runs.run(settings)
    first, second = lessons_of(settings, 1, 2)
    assert len(first) == len(second) == 24 and (first["prompt_kind"] == "dev").sum() == 10
    written = [lesson.loc[lesson["prompt_kind"] == "write", "text"].tolist() for lesson in (first, second)]
    assert written[0] == written[1]
    from symbiosis.data.task import load_task

    dev = load_task(settings).dev.to_pandas().set_index("text")["label"]
    drawn = second[second["prompt_kind"] == "dev"]
    assert (dev[drawn["text"]].to_numpy() == drawn["label"].to_numpy()).all()


def test_a_foreign_student_names_other_texts_and_a_stopped_run_still_continues(best, reports, tmp_path):
    foreign = tiny(reports, **BEST | {"variant": "foreign", "feedback_student": "foreign"})

    with contextlib.suppress(KeyboardInterrupt):
        runs.run(foreign, on_stage=stop_at("teach-1"))
    assert not (stages.run_folder(foreign) / "state" / "teach-1").exists()
    rows = runs.run(foreign)
    hard = [pd.read_parquet(stages.run_folder(s) / "state" / "teach-1" / "hard.parquet") for s in (best, foreign)]
    assert hard[0]["text"].tolist() != hard[1]["text"].tolist()
    elsewhere = foreign.model_copy(update={"reports_dir": str(tmp_path)})
    pd.testing.assert_frame_equal(runs.run(elsewhere), rows)


def test_the_untaught_student_names_the_same_texts_whatever_was_taught(best, reports):
    changes = BEST | {"feedback_student": "initial", "generations": 3, "scored_share": 1.0}
    again, once = (
        tiny(reports, **changes | {"variant": name, "choose_again": name == "again"}) for name in ("again", "once")
    )
    hard = {}
    for settings in (again, once):
        runs.run(settings)
        state = stages.run_folder(settings) / "state"
        hard[settings.variant] = [set(pd.read_parquet(state / f"teach-{g}" / "hard.parquet")["text"]) for g in (1, 2)]
    assert hard["again"][0] == hard["again"][1] and not hard["once"][0] & hard["once"][1]


def test_subsets_of_a_fixed_set_are_drawn_in_a_continued_run_as_in_an_unbroken_one(tmp_path):
    settings = tiny(tmp_path, method="static", variant="subsets", static_size=40, generations=3)

    with contextlib.suppress(KeyboardInterrupt):
        runs.run(settings, on_stage=stop_at("lesson-2"))
    rows = runs.run(settings)
    lessons = [set(lesson["text"]) for lesson in lessons_of(settings, 1, 2, 3)]
    assert len(set.union(*lessons)) <= 40 and lessons[0] != lessons[1] != lessons[2]
    assert [count["asked"] for count in read_record(settings)["writing_counts"] if "asked" in count] == [40]
    pd.testing.assert_frame_equal(rows, runs.run(settings.model_copy(update={"reports_dir": str(tmp_path / "b")})))


def test_soft_labels_are_kept_and_sum_to_one(tmp_path):
    settings = tiny(tmp_path, **BEST | {"soft_labels": True}, generations=1)
    runs.run(settings)
    (lesson,) = lessons_of(settings, 1)
    assert lesson["label_probs"].map(sum).to_numpy() == pytest.approx(1, abs=1e-5)
    labelled = lesson[lesson["prompt_kind"] == "label"]
    assert (labelled["label_probs"].map(lambda p: p.argmax()) == labelled["label"]).all()


def test_arms_that_see_no_pool_do_not_depend_on_it(tmp_path):
    at = []
    for i, world in enumerate([{}, {"pool_size": 40, "dev_size": 8}, {"pool_skew": "rare_tail"}]):
        static = tiny(tmp_path / str(i), method="static", generations=1, **world)
        rows = runs.run(static)
        at.append(rows[rows["metric"].isin(["accuracy", "label_loss", "lesson_distinct_2"])]["value"].tolist())
    assert at[0] == at[1] == at[2]


def of_ones_own(tmp_path, neox_folder):
    """A task and a Student in folders of one's own, which may change under a run."""
    task, model = tmp_path / "task", tmp_path / "model"
    shutil.copytree(neox_folder, model)
    task.mkdir()
    for name in ("train", "test"):
        rows = [f"{name} {i} says {word} twice,{word}" for i in range(40) for word in ("Sports", "World")]
        (task / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    sizes = {"lesson_size": 8, "train_size": 16, "pool_size": 16, "dev_size": 8, "test_size": 16}
    return tiny(tmp_path / "r", method="real", task=str(task), student=str(model), **sizes)


def other_labels(settings):
    path = Path(settings.task) / "train.csv"
    path.write_text(path.read_text().replace(",Sports", ",?").replace(",World", ",Sports").replace(",?", ",World"))


def other_weights(settings):
    lm = loading.load(settings.student, device="cpu")
    with torch.no_grad():
        next(lm.model.parameters()).add_(1.0)
    lm.save(Path(settings.student))


@row_by_row("finished", [True, False])
@row_by_row(("change", "named"), [(other_labels, "task"), (other_weights, "student_weights")])
def test_a_run_is_not_continued_or_read_back_from_data_or_weights_that_changed(
    tmp_path, neox_folder, finished, change, named
):
    own = of_ones_own(tmp_path, neox_folder)

    def stop(name):
        if name == "student-1" and not finished:
            raise KeyboardInterrupt

    with contextlib.nullcontext() if finished else pytest.raises(KeyboardInterrupt):
        runs.run(own, on_stage=stop)
    change(own)
    with pytest.raises(RunError, match=f"its {named} came from other code or data than today's; delete the folder"):
        runs.run(own)
