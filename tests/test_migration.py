"""Renamed columns and ids are the old rows under plain words: undoing the renames gives the old lines, to the byte."""

import csv
import hashlib
from pathlib import Path

import pytest

REPORTS = Path(__file__).resolve().parents[1] / "reports"
OLD_LINES = {  # sha256 of the lines as they stood before, sorted, without the ten runs that another study holds, too
    "results.csv": "89c126ac35a9828c2f626bba8677212423ff2fab151058b97727310712703938",
    "measures.csv": "c2d153ea7915f1e27a6ae9c1597d1eeba670ad88bccba42e29ff9c16c4dc81e9",
    "records.csv": "3363e2760067f14a4fba45abe7a58a32d091195e56057e2be6a9894ce3e55986",
}
OLD_METHOD, OLD_STUDY = {"oracle": "world"}, {"hidden_states": "inside"}


def lines_of(name: str) -> list[dict[str, str]]:
    with (REPORTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def as_before(row: dict[str, str], old_ids: dict[str, str]) -> str:
    row["run_id"] = old_ids[row["run_id"]]
    if "method" in row:
        row["method"] = OLD_METHOD.get(row["method"], row["method"])
        row["study"] = OLD_STUDY.get(row["study"], row["study"])
        row["metric"] = row["metric"].replace("_different_prompts", "_apart")
    return ",".join(row.values())


@pytest.mark.parametrize("name", OLD_LINES)
def test_undoing_the_renames_gives_the_old_lines(name):
    old_ids = {row["run_id"]: row["old_run_id"] for row in lines_of("old_run_ids.csv")}
    migrated = [as_before(row, old_ids) for row in lines_of(name) if row["run_id"] in old_ids]
    assert hashlib.sha256("\n".join(sorted(migrated)).encode()).hexdigest() == OLD_LINES[name]
