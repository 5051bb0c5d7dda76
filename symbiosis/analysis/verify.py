"""Are the committed tables those of the committed rows? Computes each again and says line by line whether it matches.

`python -m symbiosis.analysis.verify` ends with 1 where something differs: tables of docs/results.md, reports/claims.md,
every table, the rows behind every figure, the record of every run; and, where run folders are present, their rows
against results.csv.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from symbiosis.analysis import claims, tables
from symbiosis.settings import root
from symbiosis.store import results

RESULTS_TABLES = {  # by scale: the studies that are columns; without any, the table has a column per seed
    "miniature": {"pool as the test": "main", "pool rarely shows it": "rare_tail"},
    "agnews_small": {},
}


def verify(reports: Path | None = None) -> list[tuple[str, bool]]:
    """[(what, whether it matches)] of all that is computed from reports/results.csv."""
    reports = reports or root() / "reports"
    page = (reports.parent / "docs/results.md").read_text()
    checks = [(f"docs/results.md: table of {scale}", results_table(reports, scale) in page) for scale in RESULTS_TABLES]
    ledger = claims.markdown(claims.ledger(reports))
    checks.append(("reports/claims.md", ledger == (reports / "claims.md").read_text()))
    return [*checks, *_tables(reports), *_sources(reports), *_records(reports), *_runs(reports)]


def results_table(reports: Path, scale: str) -> str:
    """A table as it should stand in docs/results.md."""
    worlds = RESULTS_TABLES[scale]
    if not worlds:
        return tables.markdown_by_seed(results.read_results(reports, scale))
    return tables.markdown_final({name: results.read_results(reports, scale, study) for name, study in worlds.items()})


def _tables(reports: Path) -> Iterator[tuple[str, bool]]:
    """Every committed table of final accuracies, to the byte."""
    for path in sorted(reports.glob("tables/**/final_accuracy.csv")):
        source = json.loads(path.with_suffix(".json").read_text())
        rows = results.read_results(reports, source["scale"][0], source["study"][0])
        table = tables.final_accuracy(rows[rows["metric"] == "accuracy"])
        yield _named(reports, path), path.read_text() == table.to_csv(index=False, lineterminator="\n")


def _sources(reports: Path) -> Iterator[tuple[str, bool]]:
    """Every figure and table beside which a source stands: the long tables still hold the very rows it shows."""
    long = [reports / name for name in ("results.csv", "measures.csv") if (reports / name).is_file()]
    held = pd.concat([results.read_table(path, results.COLUMNS, results.NUMBERS) for path in long], ignore_index=True)
    for path in sorted([*reports.glob("figures/**/*.json"), *reports.glob("tables/**/*.json")]):
        source = json.loads(path.read_text())
        if "run_ids" not in source:
            continue  # a figure of theory alone
        used = held[held["run_id"].isin(source["run_ids"]) & held["metric"].isin(source["metrics"])]
        yield f"{_named(reports, path)}: its {source['rows']} rows", results.rows_digest(used) == source["rows_sha256"]


def _records(reports: Path) -> Iterator[tuple[str, bool]]:
    held = results.read_table(reports / "results.csv", results.COLUMNS, results.NUMBERS)
    recorded = set(results.read_records(reports)["run_id"])
    yield f"reports/records.csv: a record for each of {held['run_id'].nunique()} runs", set(held["run_id"]) == recorded


def _runs(reports: Path) -> Iterator[tuple[str, bool]]:
    """Finished runs in reports/runs whose rows were merged: equal to the last digit."""
    held = results.read_table(reports / "results.csv", results.COLUMNS, results.NUMBERS)
    merged = dict(list(held.groupby("run_id")))
    for record in sorted(reports.glob("runs/*/*/*/record.json")):
        rows = results.read_rows(record.parent)
        run_ids = rows["run_id"].unique()
        if len(run_ids) == 1 and run_ids[0] in merged:
            yield f"{_named(reports, record.parent)}/rows.csv", _same(rows, merged[run_ids[0]])


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return results.rows_digest(one) == results.rows_digest(other)


def _named(reports: Path, path: Path) -> str:
    return str(path.relative_to(reports.parent))


def main() -> int:
    """Print a line per check; 1 where one does not match."""
    checks = verify()
    for what, matches in checks:
        print(f"{'matches' if matches else 'DIFFERS'}  {what}")
    wrong = sum(not matches for _, matches in checks)
    print(f"{len(checks) - wrong} of {len(checks)} match")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
