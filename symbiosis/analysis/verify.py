"""Are the committed tables those of the committed rows? Computes each again and says line by line whether it matches.

`python -m symbiosis.analysis.verify` ends with 1 where something differs: tables of docs/results.md, reports/claims.md,
every table, the rows behind every figure, the record of every run. Of runs that were made here it says whether their
rows are the published ones, too; on another processor they may differ in a digit, which is no fault of the tables.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from symbiosis.analysis import claims, tables
from symbiosis.settings import root
from symbiosis.store import results


def verify() -> list[tuple[str, bool]]:
    """[(what, whether it matches)] of all that is computed from reports/results.csv."""
    reports = root() / "reports"
    long = [reports / name for name in ("results.csv", "measures.csv") if (reports / name).is_file()]
    rows, *measures = [results.read_table(path) for path in long]
    checks = [*_pages(reports), *_files(reports), *_shown(reports, pd.concat([rows, *measures], ignore_index=True))]
    recorded = set(results.read_records(reports)["run_id"])
    what = f"reports/records.csv: a record for each of {rows['run_id'].nunique()} runs"
    return [*checks, (what, set(rows["run_id"]) == recorded)]


def _pages(reports: Path) -> Iterator[tuple[str, bool]]:
    page = (reports.parent / "docs/results.md").read_text()
    for scale in tables.WORLDS:
        table = tables.table("main_table", results.read_studies(reports, scale))
        yield f"docs/results.md: table of {scale}", table.markdown() in page
    yield "reports/claims.md", claims.markdown(claims.ledger(reports)) == (reports / "claims.md").read_text()


def _files(reports: Path) -> Iterator[tuple[str, bool]]:
    """Every committed table, to the byte, in all of its formats."""
    for path in sorted(reports.glob("tables/**/*.csv")):
        source = json.loads(path.with_suffix(".json").read_text())
        table = tables.table(path.stem, results.read_studies(reports, source["scale"][0]), source["study"][0])
        for suffix, text in table.formats().items():
            file = path.with_suffix(f".{suffix}")
            yield str(file), file.is_file() and file.read_text() == text


def _shown(reports: Path, rows: pd.DataFrame) -> Iterator[tuple[str, bool]]:
    """Every figure and table beside which a source stands: the long tables still have the very rows it shows."""
    for path in sorted([*reports.glob("figures/**/*.json"), *reports.glob("tables/**/*.json")]):
        source = json.loads(path.read_text())
        if "run_ids" in source:  # not of theory alone
            used = rows[rows["run_id"].isin(source["run_ids"]) & rows["metric"].isin(source["metrics"])]
            yield f"{path}: its {source['rows']} rows", results.rows_digest(used) == source["rows_sha256"]


def local_runs() -> list[tuple[str, bool]]:
    """[(rows, whether they are the published ones to the last digit)] of finished runs here that were published."""
    reports = root() / "reports"
    rows, checks = results.read_table(reports / "results.csv"), []
    published = dict(list(rows.groupby("run_id")))
    for record in sorted(reports.glob("local/runs/*/*/*/record.json")):
        of_run = results.read_rows(record.parent)
        run_id, *others = of_run["run_id"].unique()
        if run_id in published and not others:
            same = results.rows_digest(of_run) == results.rows_digest(published[run_id])
            checks.append((f"{record.parent}/rows.csv", same))
    return checks


def main() -> int:
    """Print a line per check; 1 where a committed file does not match."""
    checks, here = verify(), local_runs()
    for what, matches in [*checks, *here]:
        print(f"{'matches' if matches else 'DIFFERS'}  {what.removeprefix(f'{root()}/')}")
    wrong = sum(not matches for _, matches in checks)
    if here:
        print(f"{sum(same for _, same in here)} of {len(here)} runs made here have the published rows")
    print(f"{len(checks) - wrong} of {len(checks)} match")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
