"""The frame of every run, with stages that need no model: made once, read after, and what is refused."""

import contextlib
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from row_by_row import row_by_row

from symbiosis.settings import RunSettings
from symbiosis.store import record
from symbiosis.store.record import run_once
from symbiosis.store.stages import RunError, invalidate, metric, run_folder, settle_inputs, stage

NAMES = ["student-0", "student-1", "student-2"]
INPUTS = {"student": "student-0123", "tasks": ["a", "b"]}


class Run:
    """A run of three stages, each of which leaves weights; `made` lists those that were made."""

    def __init__(self, place: Path, **changes):
        self.settings = RunSettings(**{"scale": "tiny", "generations": 2, "reports_dir": str(place)} | changes)
        self.folder, self.made, self.value, self.later = run_folder(self.settings), [], 0.1 + 0.2, {}

    def __call__(self, inputs=INPUTS, **changes) -> pd.DataFrame:
        self.made.clear()
        return run_once(self.settings.model_copy(update=changes), inputs, self._make)

    def _make(self, folder: Path):
        settle_inputs(folder, self.later, redo=False)
        invalidate(folder / "state", NAMES)
        results = [stage(folder / "state", name, lambda out, n=name: self._stage(n, out)) for name in NAMES]
        return results, torch.device("cpu"), {"writing_counts": [1, 2]}

    def _stage(self, name: str, out: Path) -> dict:
        self.made.append(name)
        (out / "model").mkdir()
        (out / "model" / "weights").write_text(name)
        return {"rows": [metric(int(name[-1]), "accuracy", self.value, "share", 8)]}

    @property
    def weights(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("state/*/model"))


@pytest.fixture
def finished(tmp_path) -> Run:
    run = Run(tmp_path)
    run()
    return run


def test_a_run_is_made_once_and_then_read(tmp_path):
    run = Run(tmp_path)
    rows = run()
    assert run.made == NAMES and rows["value"].tolist() == [0.1 + 0.2] * 3
    before = (run.folder / "record.json").read_bytes()
    pd.testing.assert_frame_equal(run(), rows)
    assert run.made == [] and (run.folder / "record.json").read_bytes() == before
    written = json.loads(before)
    assert written["inputs"] == INPUTS and written["writing_counts"] == [1, 2]
    assert 0 <= written["cpu_s"] < 60
    assert written["settings"] == run.settings.model_dump() and list(written["stages"]) == NAMES


def test_other_settings_are_another_run(finished):
    with pytest.raises(RunError, match=r"symbiosis-s0: holds a run of other settings \(epochs: 2 there, 3 now\); give"):
        finished(epochs=3)


@row_by_row("begun_only", [True, False])
@row_by_row("scale", ["tiny", "smoke"])
def test_a_run_from_other_inputs_is_refused_and_a_smoke_run_is_made_again(tmp_path, scale, begun_only):
    run, other = Run(tmp_path, scale=scale), INPUTS | {"student": "student-4567"}
    run()
    if begun_only:
        (run.folder / "record.json").unlink()
    if scale == "smoke":
        run(other)
        assert run.made == NAMES and record.read_record(run.settings)["inputs"] == other
    else:
        with pytest.raises(RunError, match="its student came from other code or data than today's; delete the folder"):
            run(other)
        assert run.made == [] and (run.folder / "rows.csv").exists()  # nothing is lost


def test_a_finished_run_of_an_older_version_is_read_as_it_is(finished):
    written = json.loads((finished.folder / "record.json").read_text())
    old = {name: written[name] for name in written if name not in ("products", "constraints", "hardware")}
    (finished.folder / "record.json").write_text(json.dumps(old | {"inputs": {"student": "student-0123"}}))
    (finished.folder / "inputs.json").unlink()
    assert len(finished()) == 3 and finished.made == []


CUT_OR_OTHER = ["", '{"a"', "[]", "null", "7", "[" * 9000]


@row_by_row(
    ("name", "contents"),
    [
        ("settings.json", [*CUT_OR_OTHER, "{}", '{"scale": [], "seed": {}, "a": 1}']),
        ("inputs.json", CUT_OR_OTHER),
        (
            "record.json",
            [*CUT_OR_OTHER, "{}", '{"run_id": 1}', '{"run_id": 1, "inputs": 3}', '{"run_id": 1, "products": 3}'],
        ),
    ],
)
def test_a_file_of_another_shape_is_one_sentence_whose_remedy_helps(tmp_path, name, contents):
    run = Run(tmp_path, keep_checkpoints=True)
    rows, path = run(), run.folder / name
    for content in contents:
        if name == "inputs.json":
            (run.folder / "record.json").unlink()
        path.write_text(content)
        with pytest.raises(RunError, match=f"^{path}: .*; delete this file and run again: complete stages") as told:
            run()
        assert "\n" not in str(told.value) and len(str(told.value)) < len(str(path)) + 250
        path.unlink()
        pd.testing.assert_frame_equal(run(), rows)
        assert run.made == []


def test_a_rows_file_that_was_changed_is_refused_until_the_record_is_deleted(finished):
    rows, path = finished(), finished.folder / "rows.csv"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RunError, match=r"rows.csv not as the run wrote it; .* delete record.json"):
        finished()
    (finished.folder / "record.json").unlink()
    pd.testing.assert_frame_equal(finished(), rows)


def test_what_could_not_be_measured_is_counted(tmp_path):
    run = Run(tmp_path)
    run.value = float("nan")
    rows = run()
    assert rows["value"].isna().all() and rows["n"].tolist() == [0, 0, 0]
    assert json.loads((run.folder / "record.json").read_text())["undefined"] == {"accuracy": 3}


def test_what_comes_to_light_while_a_run_is_made_is_compared_when_it_goes_on(tmp_path):
    run = Run(tmp_path)
    for weights, refused in (("a", False), ("a", False), ("b", True)):
        run.later = {"student_weights": weights}
        (run.folder / "record.json").unlink(missing_ok=True)
        with pytest.raises(RunError, match="its student_weights came") if refused else contextlib.nullcontext():
            run()
    assert json.loads((run.folder / "inputs.json").read_text()) == INPUTS | {"student_weights": "a"}


def test_weights_stand_till_the_end_and_then_the_last_alone(tmp_path, monkeypatch):
    run, seen, write = Run(tmp_path), [], record.write_record
    monkeypatch.setattr(record, "write_record", lambda *args: (seen.append(run.weights), write(*args)))
    run()
    assert seen == [NAMES] and run.weights == ["student-2"]
    kept = Run(tmp_path / "kept", keep_checkpoints=True)
    kept()
    kept(keep_checkpoints=False)  # reading it otherwise deletes nothing
    assert kept.weights == NAMES


@row_by_row("where", ["write_record", "prune_checkpoints"])
def test_a_run_killed_at_its_end_is_ended_by_the_next(tmp_path, monkeypatch, where):
    run = Run(tmp_path)

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(record.stages if where == "prune_checkpoints" else record, where, killed)
        run()
    assert run.weights == NAMES
    run()
    assert run.made == [] and run.weights == ["student-2"]
