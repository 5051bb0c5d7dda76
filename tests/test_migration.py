"""Renamed columns and ids are the old rows under plain words: undoing the renames gives the old lines, to the byte."""

import csv
import hashlib
from pathlib import Path

from row_by_row import row_by_row

REPORTS = Path(__file__).resolve().parents[1] / "reports"
OLD_LINES = {  # sha256 of the lines as they stood before, sorted, without runs that another study holds, too, or AGAIN
    "results.csv": "a73b3bc7a38cdb74679b08865dd317e296706a1f530260ab583240f999c5efd2",
    "measures.csv": "028f6573d667435c35dc667bc5967aee31735bf0408437ef8396aef6587f6c84",
    "records.csv": "dcf26f81d6523840f987864d3d58282c8b0b77c8c4269c0a690605984d918d46",
}
AGAIN = (  # studies that were run again since
    "main", "rare_tail", "ablation", "rare_tail_300", "no_tail", "no_class", "pool_25", "pool_100", "pool_300",
    "labeller_weak", "labeller_strong", "dev_16", "dev_64", "dev_256", "hidden_states",
    "long", "mixing",
)  # fmt: skip
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
    return ",".join(list(row.values())[: 11 if "method" in row else 9])  # records have had fewer columns


@row_by_row("name", OLD_LINES)
def test_undoing_the_renames_gives_the_old_lines(name):
    old_ids = {row["run_id"]: row["old_run_id"] for row in lines_of("old_run_ids.csv")}
    again = (*(f"miniature/{study}/" for study in AGAIN), "interaction_miniature/interaction/")
    kept = {run_id for run_id in old_ids if not run_id.startswith(again)}
    migrated = [as_before(row, old_ids) for row in lines_of(name) if row["run_id"] in kept]
    assert hashlib.sha256("\n".join(sorted(migrated)).encode()).hexdigest() == OLD_LINES[name]
