"""Read finished runs, and keep the long table reports/results.csv and its records.csv."""

import csv
import functools
import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from symbiosis import params
from symbiosis.errors import SymbiosisError
from symbiosis.settings import UNREPORTED, Settings, arm_of, resolve, short
from symbiosis.store.folders import disk_errors_said, locked_folder, write_atomic
from symbiosis.store.stages import check_products, read_json
from symbiosis.store.worlds import check_same_processor, check_same_world, marks, settings_of

COLUMNS = ("study", "method", "variant", "scale", "seed", "generation", "metric", "value", "unit", "n", "run_id")
NUMBERS = {"seed": int, "generation": int, "value": float, "n": int}
RUN_KEY = ["study", "method", "variant", "scale", "seed"]  # one run; it is replaced as a whole
SORT_BY = ["scale", "study", "method", "variant", "seed", "generation", "metric"]

RECORD_COLUMNS = (
    "run_id", "commit", "dirty", "device", "threads", "torch", "transformers", "wall_s", "peak_memory_gib",
    "hardware", "classes", "data", "setting", "world", "cpu_s", "precision",
)  # fmt: skip
RECORD_NUMBERS = {"threads": int, "wall_s": float, "peak_memory_gib": float, "cpu_s": float}
LATER_COLUMNS = {"cpu_s", "precision"}  # a table lacks them as long as no run of it has them

RESTORE = "restore the file from git, or delete it and collect the runs again"
HOW_TO_MAKE = (
    "make it with `make reproduce`, or run notebooks/03_symbiosis_loop.ipynb with a file of params/ "
    f"and then notebooks/06_analysis.ipynb with reports_dir {params.LOCAL}"
)


class ResultsError(SymbiosisError):
    """Results that cannot be read or used, with the file and the remedy."""


class NotRun(ResultsError):
    """What is asked for has not been run."""


# ---- from runs to reports/results.csv and reports/records.csv
def read_rows(run_folder: str | Path) -> pd.DataFrame:
    """The long rows of one finished run."""
    return read_table(Path(run_folder) / "rows.csv")


def step_losses(run_folders: Iterable[str | Path]) -> pd.DataFrame:
    """Every training step of finished runs: run_id, arm, seed, generation, step (from 1 on), label_loss, lm_loss.

    From what the runs' stages kept; losses are means over a batch. ResultsError where a stage is gone.
    """
    lines = []
    for folder in map(Path, run_folders):
        run = read_rows(folder).iloc[0]
        head = (run["run_id"], arm_of(run["method"], run["variant"]), run["seed"])
        stages = sorted(folder.glob("state/student-*/result.json"), key=lambda path: int(path.parent.name[8:]))
        taught = [json.loads(path.read_text()) for path in stages]
        steps = [(int(s["stage"][8:]), loss) for s in taught for loss in s.get("history", [])]
        if not steps:
            raise ResultsError(f"{folder}/state: no losses by step; delete the run's folder and run it again")
        lines += [(*head, g, i, loss["label_loss"], loss["lm_loss"]) for i, (g, loss) in enumerate(steps, 1)]
    return pd.DataFrame(lines, columns=["run_id", "arm", "seed", "generation", "step", "label_loss", "lm_loss"])


def one_at_a_time(collect: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """collect(reports_dir, ..., into=None), which waits for whoever merges into the tables of that folder already.

    into: folder of the tables, where it is not that of the runs. The published ones change where they are named here.
    """

    @functools.wraps(collect)
    def alone(reports_dir: str | Path, *args, into: str | Path | None = None) -> list[str]:
        place = resolve(into or reports_dir)
        if into is None and place == resolve(params.PUBLISHED):
            return []
        remedy = "free some space, or see that you may write there"
        with disk_errors_said(place, remedy), locked_folder(place, wait=True):
            return collect(resolve(reports_dir), *args, into=place)

    return alone


@one_at_a_time
def collect(reports_dir: Path, scale: str | None = None, *, into: Path) -> list[str]:
    """Merge finished runs (of one scale) into results.csv and records.csv; returns the run_ids merged, sorted.

    A run found below reports_dir replaces the rows of the same study, method, variant, scale and seed; all others stay.
    Both files depend only on the runs and on what they held, so a repeat changes no byte, and a run that gave the rows
    it gave before keeps its record. Scale 'smoke' never enters. WorldError where runs do not belong into one table, or
    into published comparisons.
    """
    folders = finished_runs(reports_dir, scale)
    if not folders:
        return []
    tables, path = [read_rows(folder) for folder in folders], into / "results.csv"
    found = [_read_record(folder) for folder in folders]
    before = read_or_empty(path)
    after = merge_rows(before, pd.concat(tables, ignore_index=True))
    records = _merge_records(read_records(into), [record for record, _ in found], before, after)
    check_same_world(records, {record["run_id"]: settings for record, settings in found if settings})
    if into == resolve(params.PUBLISHED):
        check_same_processor(records)
    merged = merge_into(path, tables)
    columns = [name for name in RECORD_COLUMNS if name not in LATER_COLUMNS or records[name].fillna("").ne("").any()]
    write_atomic(into / "records.csv", csv_bytes(records, columns))
    return merged


def finished_runs(reports_dir: Path, scale: str | None = None, study: str | None = None) -> list[Path]:
    """Folders of the finished runs (of one scale, one study), sorted; those of scale 'smoke' are not reported.

    Raises RunError or ResultsError where one is not as the run wrote it; lessons may have been deleted.
    """
    records = sorted(reports_dir.glob(f"runs/{scale or '*'}/{study or '*'}/*/record.json"))
    folders = [path.parent for path in records if path.parts[-4] != UNREPORTED]
    for folder in folders:
        check_products(folder, lessons=False)
        run_id, found = from_record(folder, lambda record: record["run_id"]), set(read_rows(folder)["run_id"])
        if found != {run_id}:
            held = ", ".join(sorted(found)[:2]) or "nothing"
            what = f"holds rows of {held}, not of {run_id}; delete the folder, run again"
            raise ResultsError(f"{folder}/rows.csv: {what}")
    return folders


def runs_with_lessons(reports_dir: Path, scale: str | None, study: str | None) -> list[Path]:
    """`finished_runs` of the loop, not of method interaction, whose lessons were not cleared away."""
    folders = [folder for folder in finished_runs(reports_dir, scale, study) if (folder / "lessons").is_dir()]
    return [folder for folder in folders if not folder.parts[-2].startswith("interaction")]


def merge_into(path: Path, tables: Iterable[pd.DataFrame]) -> list[str]:
    """Merge the rows of finished runs into a long table, by the rule of `collect`; returns their run_ids, sorted."""
    rows = pd.concat(tables, ignore_index=True)
    rows = rows[rows["scale"] != UNREPORTED]
    write_atomic(path, csv_bytes(merge_rows(read_or_empty(path), rows), COLUMNS))
    return sorted(set(rows["run_id"]))


def read_results(reports_dir: str | Path, scale: str, study: str = "main") -> pd.DataFrame:
    """Rows of reports/results.csv of one scale and study, with the column `arm`; ResultsError where there is none."""
    path = resolve(reports_dir) / "results.csv"
    if not path.is_file():
        raise ResultsError(f"{path}: no such file; {HOW_TO_MAKE}")
    rows = read_table(path)
    chosen = rows[(rows["scale"] == scale) & (rows["study"] == study)].reset_index(drop=True)
    if chosen.empty:
        held = ", ".join(sorted({f"{s}/{t}" for s, t in zip(rows["scale"], rows["study"], strict=True)})) or "nothing"
        raise ResultsError(f"{path}: no rows of scale '{scale}' and study '{study}' (it holds {held}); {HOW_TO_MAKE}")
    return with_arm(chosen)


def read_studies(reports_dir: str | Path, scale: str) -> dict[str, pd.DataFrame]:
    """{study: rows with `arm`} of all that results.csv holds of one scale; empty where there is no such file."""
    by_study = select(reports_dir, "results.csv", scale=scale).groupby("study")
    return {study: rows.reset_index(drop=True) for study, rows in by_study}


def select(reports_dir: str | Path, name: str, **values: str) -> pd.DataFrame:
    """Rows of a long table that have these values in these columns, and `arm`; none where there is no such file."""
    rows = read_or_empty(resolve(reports_dir) / name)
    for column, value in values.items():
        rows = rows[rows[column] == value]
    return with_arm(rows.reset_index(drop=True))


def with_arm(rows: pd.DataFrame) -> pd.DataFrame:
    """The long table with its column `arm`."""
    return rows.assign(arm=[arm_of(m, v) for m, v in zip(rows["method"], rows["variant"], strict=True)])


def read_records(reports_dir: str | Path, run_ids: Sequence[str] | None = None) -> pd.DataFrame:
    """reports/records.csv: one line per run with where and how it was made; only `run_ids` where given."""
    records = read_or_empty(resolve(reports_dir) / "records.csv", RECORD_COLUMNS, RECORD_NUMBERS)
    return records if run_ids is None else records[records["run_id"].isin(set(run_ids))].reset_index(drop=True)


def csv_bytes(rows: pd.DataFrame, columns: Sequence[str]) -> bytes:
    """The table as CSV. A float is written as its shortest text that reads back as the same float."""
    return rows[list(columns)].to_csv(index=False, lineterminator="\n").encode()


def rows_digest(rows: pd.DataFrame) -> str:
    """sha256 of rows of results.csv in its own order and spelling: whoever holds the rows can check it."""
    return hashlib.sha256(csv_bytes(rows.sort_values(SORT_BY), COLUMNS)).hexdigest()


def merge_rows(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    twice = new.groupby(RUN_KEY)["run_id"].nunique()
    if (twice > 1).any():
        ids = sorted(new.set_index(RUN_KEY).loc[[twice.idxmax()], "run_id"].unique())
        raise ResultsError(f"runs {' and '.join(ids)} are the same method, variant and seed; move one out of runs/")
    replaced = set(new[RUN_KEY].itertuples(index=False, name=None))
    kept = [key not in replaced for key in old[RUN_KEY].itertuples(index=False, name=None)]
    return pd.concat([old[kept], new], ignore_index=True).sort_values(SORT_BY, kind="stable", ignore_index=True)


def _merge_records(old: pd.DataFrame, found: list[dict], before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One record for each run that has rows; the old one where its rows are what they were."""
    changed = set(pd.concat([before, after]).drop_duplicates(keep=False)["run_id"])
    unchanged = set(old["run_id"]) - changed
    new = pd.DataFrame([one for one in found if one["run_id"] not in unchanged], columns=list(RECORD_COLUMNS))
    both = pd.concat([old[~old["run_id"].isin(new["run_id"])].astype(object), new], ignore_index=True)
    return both[both["run_id"].isin(after["run_id"])].sort_values("run_id", ignore_index=True)


def _read_record(folder: Path) -> tuple[dict[str, str], Settings | None]:
    """A line of records.csv, and the run's settings; empty where its record is older than the column."""

    def take(record: dict) -> tuple[dict[str, str], Settings | None]:
        settings = settings_of(record["settings"]) if "settings" in record else None
        inputs = record.get("inputs", {})
        later = {"classes": len(inputs.get("classes", "")) or None, "data": inputs.get("data") or None}
        later |= dict.fromkeys(("hardware", "cpu_s", "precision"))
        values = later | record | record["versions"] | marks(settings)
        return {name: "" if values[name] is None else str(values[name]) for name in RECORD_COLUMNS}, settings

    return from_record(folder, take)


def from_record(folder: Path, take: Callable[[dict], Any]) -> Any:
    """What `take` takes from a run's record; RunError where the file is damaged, ResultsError where it lacks that."""
    path = folder / "record.json"
    record = read_json(path, "run_id")
    try:
        return take(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path}: no {error}; delete the run's folder and run it again") from None


def read_or_empty(path: Path, columns: Sequence[str] = COLUMNS, numbers: dict = NUMBERS) -> pd.DataFrame:
    return read_table(path, columns, numbers) if path.is_file() else pd.DataFrame(columns=list(columns))


def read_table(path: Path, columns: Sequence[str] = COLUMNS, numbers: dict = NUMBERS) -> pd.DataFrame:
    """A CSV of ours, strictly: just these columns, whole lines, numbers that are numbers (empty: not measured)."""
    if not path.is_file():
        what = "no such file, though the run is marked finished; delete its folder and run it again"
        raise ResultsError(f"{path}: {what}")
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise ResultsError(f"{path}: not UTF-8; {RESTORE}") from None
    return _parsed(path, text, tuple(columns), tuple(numbers.items())).copy()


@functools.lru_cache(maxsize=4)  # one notebook asks for the long table dozens of times
def _parsed(path: Path, text: str, columns: tuple[str, ...], numbers: tuple[tuple[str, type], ...]) -> pd.DataFrame:
    try:
        header, *lines = list(csv.reader(io.StringIO(text))) or [[]]
    except csv.Error as error:
        raise ResultsError(f"{path}: {error}; {RESTORE}") from None
    wrong = [f"column '{name}' is missing" for name in columns if name not in {*header, *LATER_COLUMNS}]
    wrong += [f"column '{name}' is not known" for name in header if name not in columns]
    ragged = ((i, len(x)) for i, x in enumerate(lines, 2) if len(x) != len(header))
    wrong += [f"line {i} has {n} fields, not {len(header)}" for i, n in ragged]
    if wrong:
        raise ResultsError(f"{path}: {wrong[0]}; {RESTORE}")
    found = dict(zip(header, zip(*lines, strict=True) if lines else [()] * len(header), strict=True))
    found = {name: [""] * len(lines) for name in columns} | found
    numeric = {name: _numbers(path, name, found[name], kind) for name, kind in numbers}
    texts = {name: pd.Series(found[name], dtype=str) for name in columns if name not in numeric}
    table = pd.DataFrame({name: numeric.get(name, texts.get(name)) for name in columns})
    twice = table.duplicated([name for name in columns if name in SORT_BY] or [columns[0]])
    if twice.any():
        raise ResultsError(f"{path}: line {int(twice.argmax()) + 2} says again what a line before it says; {RESTORE}")
    return table


def _numbers(path: Path, name: str, texts: Sequence[str], kind: type) -> pd.Series:
    what = "a whole number, 0 or more" if kind is int else "a finite number"
    plain = re.compile(r"\d{1,19}" if kind is int else r"-?\d+(\.\d*)?(e[-+]?\d+)?|", re.ASCII | re.IGNORECASE)
    values = [kind(text or "nan") if plain.fullmatch(text) else None for text in texts]
    for line, (value, text) in enumerate(zip(values, texts, strict=True), start=2):
        if value is None or abs(value) >= (2**63 if kind is int else math.inf):
            raise ResultsError(f"{path}: line {line}, column '{name}': {short(text)} is not {what}; {RESTORE}")
    return pd.Series(values, dtype="int64" if kind is int else "float64")
