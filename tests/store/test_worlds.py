"""Runs that differ in more than they should never stand in one table."""

import contextlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from row_by_row import row_by_row

from symbiosis import params
from symbiosis.store import results
from symbiosis.store.worlds import WorldError, marks, settings_of

ROOT = Path(__file__).resolve().parents[2]
AUTO = {"precision": "auto"}
DATA = {"data": "00000000", "classes": ["Billing", "Account", "Technical"]}


def finish(reports, scale, arm, seed, *, inputs=(), recorded=(), study="main", **changed):
    """A finished run's folder, as params sets it but for what is changed; returns its run_id."""
    given = params.of_run(scale, study, arm, seed) | changed
    settings = settings_of(given)
    folder = reports / "runs" / settings.folder
    folder.mkdir(parents=True)
    head = {name: getattr(settings, name) for name in ("study", "method", "variant", "scale", "seed", "run_id")}
    rows = [head | {"generation": 1, "metric": "accuracy", "value": 0.5 + seed / 100, "unit": "share", "n": 100}]
    pd.DataFrame(rows)[list(results.COLUMNS)].to_csv(folder / "rows.csv", index=False)
    record = {
        "run_id": settings.run_id,
        "commit": "c",
        "dirty": False,
        "device": "cpu",
        "threads": 1,
        "wall_s": float(seed),
    }
    record |= {"peak_memory_gib": 1.0, "versions": {"torch": "2", "transformers": "5"}, "hardware": "a CPU"}
    record |= {"settings": settings.model_dump(), "inputs": DATA | dict(inputs)} | dict(recorded)
    (folder / "record.json").write_text(json.dumps(record))
    return settings.run_id


@row_by_row(
    ("first", "second", "said"),
    [
        (("static", 11), ("static", 12), ""),
        (("static", 11), ("symbiosis-best", 12), ""),
        (("static", 11), ("static", 12, {"epochs": 1}), "epochs is 2 and 1"),
        (("static", 11), ("static", 12, {"temperature": 0.5}), "temperature is 1.0 and 0.5"),
        (("static", 11), ("real", 11, {"task": "data/news"}), "task is 'miniature' and 'data/news'"),
        (
            ("static", 11),
            ("real", 12, {"student": "some/folder"}),
            "student is 'miniature' and 'some/folder'",
        ),
        (("static", 11), ("real", 12, {"lesson_size": 200}), "lesson_size is 300 and 200"),
        (("static", 11), ("real", 12, {"epochs": 1}), ""),  # an arm may have its own
        (("static", 11), ("symbiosis", 12, {"inputs": {"data": "11111111"}}), "data is 00000000 and 11111111"),
        (("static", 11), ("symbiosis", 12, {"inputs": {"classes": ["Billing", "Account"]}}), "classes is 3 and 2"),
        (("static", 11), ("real", 12, {"study": "pool_25"}), ""),  # another world on purpose
        (
            ("real", 11, AUTO | {"recorded": {"precision": "fp32"}}),
            ("static", 12, AUTO | {"recorded": {"precision": "bf16"}}),
            "precision is fp32 and bf16",
        ),
    ],
)
def test_runs_of_two_worlds_are_refused_by_what_they_differ_in(tmp_path, first, second, said):
    for kept in (False, True):
        refused_or_merged(tmp_path / f"kept-{kept}", first, second, said, kept)


def refused_or_merged(reports, first, second, said, kept):
    ids = [finish(reports, "miniature", *names[:2], **(names[2] if names[2:] else {})) for names in (first, second)]
    if kept:  # the folder of the first is gone, its rows are not
        shutil.move(reports / "runs" / ids[1].partition("@")[0], reports / "second")
        results.collect(reports)
        shutil.move(reports / "second", reports / "runs" / ids[1].partition("@")[0])
        shutil.rmtree(reports / "runs" / ids[0].partition("@")[0])
    if not said:
        assert ids[1] in results.collect(reports)
        assert set(results.read_records(reports)["run_id"]) == set(ids)
        return
    before = [path.read_bytes() for path in sorted(reports.glob("*.csv"))]
    with pytest.raises(WorldError) as refused:
        results.collect(reports)
    assert f"{ids[0]} and {ids[1]}: {said}, so one table cannot hold both" in str(refused.value)
    assert before == [path.read_bytes() for path in sorted(reports.glob("*.csv"))]


PUBLISHED = [  # a run of another seed beside the published rows, and what it differs in
    ("miniature", "real", 11, {"epochs": 1}, "real-s12@.*epochs is 2 and 1"),
    (
        "interaction_miniature",
        "interaction-k2_alpha050",
        11,
        {"study": "interaction", "rows": 300},
        "rows is 600 and 3",
    ),
]


def test_published_rows_count_as_what_params_says_of_them(tmp_path):
    for number, (scale, arm, seed, changed, said) in enumerate(PUBLISHED):
        (reports := tmp_path / str(number)).mkdir()
        for name in ("results.csv", "records.csv"):
            shutil.copy(ROOT / "reports" / name, reports)
        classes = [""] * (0 if "inter" in scale else 4)
        finish(reports, scale, arm, seed, inputs={"data": "", "classes": classes}, **changed)
        with pytest.raises(WorldError, match=said) if said else contextlib.nullcontext():
            results.collect(reports)


def test_every_published_record_says_what_params_says():
    for record in results.read_records(ROOT / "reports").to_dict("records"):
        scale, study, name = record["run_id"].partition("@")[0].split("/")
        arm, _, seed = name.rpartition("-s")
        if (ROOT / f"params/history/{scale}.yaml").is_file():
            continue
        said = marks(settings_of(params.of_run(scale, study, arm, int(seed))))
        assert {name: record[name] for name in said} == said, record["run_id"]
        assert record["classes"] == ("" if scale.startswith("interaction") else "4")


def test_a_run_that_gives_the_same_rows_keeps_its_record(tmp_path):
    finish(tmp_path, "miniature", "real", 11)
    results.collect(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ("results.csv", "records.csv")}
    path = next(tmp_path.glob("runs/*/*/*/record.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"commit": "d", "wall_s": 99}))
    results.collect(tmp_path)
    assert before == {name: (tmp_path / name).read_bytes() for name in before}
    rows = path.with_name("rows.csv")
    rows.write_text(rows.read_text().replace("0.61", "0.62"))
    results.collect(tmp_path)
    assert results.read_records(tmp_path)["commit"].tolist() == ["d"]
