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
    long = [reports / name for name in ("results.csv", "measures.csv") if (reports / name).is_file()]
    rows, *measures = [results.read_table(path, results.COLUMNS, results.NUMBERS) for path in long]
    checks = [*_texts(reports), *_tables(reports), *_sources(reports, pd.concat([rows, *measures], ignore_index=True))]
    recorded = set(results.read_records(reports)["run_id"])
    what = f"reports/records.csv: a record for each of {rows['run_id'].nunique()} runs"
    checks = [*checks, (what, set(rows["run_id"]) == recorded), *_runs(reports, rows)]
    return [(what.removeprefix(f"{reports.parent}/"), matches) for what, matches in checks]


def results_table(reports: Path, scale: str) -> str:
    """A table as it should stand in docs/results.md."""
    worlds = RESULTS_TABLES[scale]
    if not worlds:
        return tables.markdown_by_seed(results.read_results(reports, scale))
    return tables.markdown_final({name: results.read_results(reports, scale, study) for name, study in worlds.items()})


def _texts(reports: Path) -> Iterator[tuple[str, bool]]:
    page = (reports.parent / "docs/results.md").read_text()
    for scale in RESULTS_TABLES:
        yield f"docs/results.md: table of {scale}", results_table(reports, scale) in page
    yield "reports/claims.md", claims.markdown(claims.ledger(reports)) == (reports / "claims.md").read_text()


def _tables(reports: Path) -> Iterator[tuple[str, bool]]:
    """Every committed table of final accuracies, to the byte."""
    for path in sorted(reports.glob("tables/**/final_accuracy.csv")):
        source = json.loads(path.with_suffix(".json").read_text())
        rows = results.read_results(reports, source["scale"][0], source["study"][0])
        table = tables.final_accuracy(rows[rows["metric"] == "accuracy"])
        yield str(path), path.read_text() == table.to_csv(index=False, lineterminator="\n")


def _sources(reports: Path, rows: pd.DataFrame) -> Iterator[tuple[str, bool]]:
    """Every figure and table beside which a source stands: the long tables still have the very rows it shows."""
    for path in sorted([*reports.glob("figures/**/*.json"), *reports.glob("tables/**/*.json")]):
        source = json.loads(path.read_text())
        if "run_ids" in source:  # not of theory alone
            used = rows[rows["run_id"].isin(source["run_ids"]) & rows["metric"].isin(source["metrics"])]
            yield f"{path}: its {source['rows']} rows", results.rows_digest(used) == source["rows_sha256"]


def _runs(reports: Path, rows: pd.DataFrame) -> Iterator[tuple[str, bool]]:
    """Finished runs here whose rows were published: equal to the last digit."""
    merged = dict(list(rows.groupby("run_id")))
    for record in sorted(reports.glob("local/runs/*/*/*/record.json")):
        of_run = results.read_rows(record.parent)
        run_id, *others = of_run["run_id"].unique()
        if run_id in merged and not others:
            same = results.rows_digest(of_run) == results.rows_digest(merged[run_id])
            yield f"{record.parent}/rows.csv", same


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
