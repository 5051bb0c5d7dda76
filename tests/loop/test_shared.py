"""Stages that are the same in several arms of a seed are made once: equal rows and costs, and never a wrong one."""

import json
import random
import shutil
from pathlib import Path

import kill_harness
import pytest

from symbiosis import batch, batch_summary
from symbiosis.loop import runs
from symbiosis.settings import RunSettings
from symbiosis.store import results
from symbiosis.store.record import read_record
from symbiosis.store.stages import prune_shared, run_folder

TINY = kill_harness.TINY | {"calibration": "written"}
ARMS = (
    {"method": "symbiosis"},
    {"method": "static", "epochs": 3},
    {"method": "real", "epochs": 1},
    {"method": "recursive"},
    {"method": "recursive", "recursive_start": "warm", "variant": "warm"},
    {"method": "recursive", "recursive_start": "warm", "variant": "more", "mixing": "accumulate"},
)
FROM = (
    {},
    {"calibration-0": "symbiosis-s0", "student-0": "symbiosis-s0"},
    {},
    {"student-0": "real-s0"},
    {},
    {"student-0": "recursive-warm-s0"},
)
READS = {"seed", "device", "threads", "precision", "prompts", "max_length", "generation_batch_size"}
MADE_FROM = {
    "calibration-0": READS | {"calibration", "generation_engine", "temperature", "top_p", "max_new_tokens"},
    "student-0": READS | {"student", "lm_weight", "probe_hidden_states"},
}


def settings_of(arm: dict, place, **more) -> RunSettings:
    return RunSettings(**TINY | arm | {"reports_dir": str(place)} | more)


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> list[RunSettings]:
    """All arms, one after the other, in one folder of reports."""
    place = tmp_path_factory.mktemp("together")
    arms = [settings_of(arm, place) for arm in ARMS]
    for arm in arms:
        runs.run(arm)
    return arms


def loop_of(settings: RunSettings) -> runs.Loop:
    return runs.Loop(runs.prepare(settings), run_folder(settings), print)


@pytest.fixture(scope="module")
def loop(tmp_path_factory) -> runs.Loop:
    """The smallest run before its first stage."""
    return loop_of(settings_of(ARMS[0], tmp_path_factory.mktemp("loop")))


def place_of(loop: runs.Loop, name: str, **changes) -> Path:
    """Where the stage would be shared under other settings; values need not be possible ones."""
    state = loop.state
    loop.state = runs.replace(state, settings=state.settings.model_copy(update=changes))
    fields, splits = {"calibration-0": (runs.WRITES, ()), "student-0": (runs.EVALUATES, ("dev", "test"))}[name]
    try:
        return loop.shared(name, fields, splits)[1]
    finally:
        loop.state = state


def other(value):
    """Another value of the same type, of prompts' names one that has a file."""
    if isinstance(value, str):
        return "texts" if value == "news" else f"{value}2"
    return not value if isinstance(value, bool) else value + 1


# --- what is shared ------------------------------------------------------------------------------------------------
def test_arms_that_share_stages_have_the_rows_and_costs_of_arms_alone(together, tmp_path):
    for number, (arm, settings) in enumerate(zip(ARMS, together, strict=True)):
        record = read_record(settings)
        taken = {name: run_id.partition("@")[0].rpartition("/")[2] for name, run_id in record["shared_from"].items()}
        assert taken == FROM[number]
        if taken:
            alone = settings_of(arm, tmp_path / settings.variant / settings.method)
            runs.run(alone)
            for name in ("rows.csv", "lessons/gen-1.parquet", "lessons/gen-2.parquet"):
                assert (run_folder(settings) / name).read_bytes() == (run_folder(alone) / name).read_bytes()
            assert read_record(alone)["shared_from"] == {}
            assert read_record(alone)["writing_counts"] == record["writing_counts"]


def test_what_a_shared_stage_cost_is_charged_to_every_arm(together):
    made, taken = (read_record(together[i]) for i in (0, 1))
    for name in ("calibration-0", "student-0"):
        assert taken["stage_costs"][name] == made["stage_costs"][name] and made["stages"][name] > 0
    for record in (made, taken):
        costs = record["stage_costs"].values()
        assert record["cpu_s"] == pytest.approx(sum(cost["cpu_s"] for cost in costs), abs=0.01)
        assert record["peak_memory_gib"] >= max(cost["peak_memory_gib"] for cost in costs)


def test_a_taken_stage_is_no_work_but_what_is_wrong_with_the_labeller_is_said_again(together, tmp_path, capsys):
    shutil.copytree(together[0].reports_dir, tmp_path, dirs_exist_ok=True)
    capsys.readouterr()
    made = []
    runs.run(settings_of(ARMS[0], tmp_path, variant="new"), on_stage=made.append)
    assert "lesson-1" in made and not {"calibration-0", "student-0"} & set(made)
    said = capsys.readouterr().out
    assert "student-0: taken from tiny/main/symbiosis-s0@" in said and "labeller: world " in said


def test_shared_stages_are_no_runs(together, monkeypatch):
    place = Path(together[0].reports_dir)
    assert sorted(results.collect(place)) == sorted(settings.run_id for settings in together)
    for module in (batch, batch_summary):
        monkeypatch.setattr(module, "root", lambda: place.parent)
    monkeypatch.setattr(batch.params, "LOCAL", place.name)
    planned = [batch.Run("tiny", "main", arm, 0) for arm in ("symbiosis", "static")]
    table = batch_summary.table(planned)
    assert len(table) == len(together) and batch.studies_here(planned) == {"main"}


# --- never a wrong one ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MADE_FROM)
def test_a_change_of_what_a_stage_is_made_from_alone_gives_it_another_place(loop, name):
    here, settings = place_of(loop, name), loop.state.settings
    moved = {key for key, value in settings if place_of(loop, name, **{key: other(value)}) != here}
    assert moved == MADE_FROM[name]
    assert here.parent == run_folder(settings).parents[1] / ".shared" and name in here.name


def test_a_change_of_rows_words_weights_calibration_or_machine_gives_another_place(loop, monkeypatch, tmp_path):
    def place():
        return place_of(loop, "student-0")

    places, state = [place()], loop.state
    for split in ("dev", "test"):
        fewer = getattr(state.task, split).select(range(3))
        loop.state = runs.replace(state, task=runs.replace(state.task, **{split: fewer}))
        places.append(place())
    loop.state = runs.replace(state, generator=runs.replace(state.generator, reference=[-1.0, -1.5, -1.5, -1.5]))
    places.append(place())
    loop.state = runs.replace(state, task=runs.replace(state.task, world=None))
    places.append(place())
    loop.state = state
    for name in ("pool", "train"):  # which it does not see
        less = runs.replace(state.task, **{name: getattr(state.task, name).select(range(3))})
        loop.state = runs.replace(state, task=less)
        assert place() == places[0]
    loop.state = state
    words = tmp_path / "words.yaml"
    words.write_text("write: another sentence")
    for name, changed in (
        ("prompts_file", lambda prompts: words),
        ("code_digest", lambda: "other code"),
        ("machine", lambda device: {"hardware": "another processor"}),
        ("versions", lambda: {"torch": "3"}),
        ("resolved_precision", lambda precision, device: "bf16"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(runs, name, changed)
            places.append(place())
    with monkeypatch.context() as patch:
        patch.setitem(loop.inputs, "generator_weights", "others")
        places.append(place())
    assert len(set(places)) == len(places) == 11 and place() == places[0]


def test_a_shared_stage_cannot_read_what_its_place_does_not_tell(loop):
    seen, _ = loop.shared("student-0", runs.EVALUATES, ("test",))
    assert seen.settings.seed == 0 and len(seen.task.test) == 40
    assert seen.task.dev is seen.task.pool is seen.task.train is None and seen.task.fingerprint is None
    for settings in (seen.settings, seen.student.settings, seen.generator.settings):
        for name in set(RunSettings.model_fields) - set(runs.EVALUATES):
            with pytest.raises(AttributeError, match=name):
                getattr(settings, name)
    assert loop.state.settings.epochs == 2 and loop.state.task.pool is not None  # the run's own state stays whole


def test_a_shared_stage_that_is_not_as_written_is_made_again(together, tmp_path):
    shutil.copytree(together[0].reports_dir, tmp_path, dirs_exist_ok=True)
    (shared,) = (tmp_path / "runs" / "tiny" / ".shared").glob("calibration-0-*[!k]")
    (shared / "result.json").write_text(json.dumps({"reference": [0.0] * 4, "rows": []}))
    own, made = settings_of(ARMS[0], tmp_path, variant="new"), []
    rows = runs.run(own, on_stage=made.append)
    assert "calibration-0" in made and "student-0" not in made
    assert rows["value"].equals(results.read_rows(run_folder(together[0]))["value"])
    newer = settings_of(ARMS[0], tmp_path, variant="newer")
    runs.run(newer)
    assert "symbiosis-new-s0@" in read_record(newer)["shared_from"]["calibration-0"]


def test_shared_weights_go_and_what_is_small_stays(together, tmp_path):
    shutil.copytree(together[0].reports_dir, tmp_path, dirs_exist_ok=True)
    shared = tmp_path / "runs" / "tiny" / ".shared"
    assert len(list(shared.glob("*/model"))) == 1
    before = sorted(path.name for path in shared.glob("*[!k]"))
    prune_shared(shared.parent)
    assert not list(shared.glob("*/model"))
    assert len(before) - 1 == len([name for name in before if (shared / name).is_dir()]) == 3


# --- killed --------------------------------------------------------------------------------------------------------
def test_two_arms_side_by_side_of_which_one_is_killed_have_the_rows_of_arms_alone(tmp_path):
    harness = kill_harness.Harness(tmp_path, random.Random(1))
    harness.kill_together(1)
    assert harness.differences == [] and harness.compared >= 6 and harness.kinds["together"] == 1
