"""Labelled texts as they are found: in a folder of CSV, JSONL or Parquet, on the hub, or drawn from the miniature.

Every text is cleaned once, on the way in; whatever cannot be used stops here, in one sentence with file and line.
"""

import csv
import html
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from datasets.table import InMemoryTable

from symbiosis.errors import SymbiosisError
from symbiosis.settings import RunSettings, derive_seed, resolve

DATASETS = {  # hub id -> commit whose Parquet files `datasets` reads; used where task_revision is empty
    "fancyzhx/ag_news": "eb185aade064a813bc0b7f42de02595523103ca4",  # 120,000 train, 7,600 test, four classes
}


class DataError(SymbiosisError, ValueError):
    """Data that cannot be used: one sentence with file, line, key and remedy."""


@dataclass(frozen=True)
class Source:
    """Everything read, before it is split: frames with columns text, label (int), source_id."""

    name: str
    label_names: list[str]
    rest: pd.DataFrame
    test: pd.DataFrame
    cleaned: Counter


@dataclass(frozen=True)
class _File:
    """Rows as they stand in one file: (line or row number, text, label as written)."""

    path: str
    rows: list[tuple[int, Any, Any]]
    label_names: list[str] | None = None  # where the file itself names its labels
    unit: str = "line"


def read(settings: RunSettings) -> Source:
    if settings.task == "miniature":
        return _read_miniature(settings)
    folder, cleaned = resolve(settings.task), Counter()
    if folder.is_dir():
        name, train, test = settings.task, *_read_folder(folder)
    else:
        name, train, test = _read_hub(settings, folder)
    names = _label_names(folder, train)
    rest, test = (_frame(files, names, cleaned) for files in (train, test))
    return Source(name, names, rest, test, cleaned)


def _read_miniature(settings: RunSettings) -> Source:
    """Draws from the seed's world; a few more than asked for outside the test, because a text can come up twice."""
    from symbiosis.data.world import LABEL_NAMES, World

    for name in ("train_size", "pool_size", "test_size"):
        if not getattr(settings, name):
            raise DataError(f"{name}: 0 takes all, but the miniature world has no end; give a number of rows")
    pool_rows = settings.pool_size * (1 if settings.pool_skew == "none" else 2)  # a skewed pool passes some over
    world, n_rest = World.make(settings.seed), settings.dev_size + settings.train_size + pool_rows
    frames = []
    for name, n in (("rest", n_rest + n_rest // 20 + 50), ("test", settings.test_size)):
        rng = np.random.default_rng(derive_seed(settings.seed, 0, "splits", name))
        frame = world.sample(n, rng)[["text", "label"]]
        frames.append(frame.assign(source_id=[f"{name}:{i}" for i in range(n)]))
    return Source("miniature", list(LABEL_NAMES), *frames, Counter())


def _read_folder(folder: Path) -> list[list[_File]]:
    """The train and test files of a folder, found by their stems."""
    return [_read_files(folder, stems) for stems in (("train",), ("test", "public_test"))]


def _read_files(folder: Path, stems: Sequence[str]) -> list[_File]:
    """The one file `<stem>.<csv|jsonl|parquet>`, else the Parquet parts of a downloaded hub data set."""
    found = [path for stem in stems for kind in READERS if (path := folder / f"{stem}{kind}").is_file()]
    if len(found) > 1:
        raise DataError(f"{folder}: both {found[0].name} and {found[1].name} are there; keep one of them")
    found = found or sorted(folder.glob(f"data/{stems[0]}-*-of-*.parquet"))
    if not found:
        choice = " or ".join(f"{stem}.csv, {stem}.jsonl, {stem}.parquet" for stem in stems)
        raise DataError(f"{folder}: no {stems[0]} file; put {choice} there")
    return [READERS[path.suffix](path) for path in found]


def _read_hub(settings: RunSettings, folder: Path) -> tuple[str, list[_File], list[_File]]:
    """Train and test of a hub data set at a pinned commit."""
    name, revision = settings.task, settings.task_revision or DATASETS.get(settings.task, "")
    if not revision:
        raise DataError(
            f"task: '{name}' is no folder (looked at {folder}); put train and test files there or, if it is a hub id, "
            f"give its commit as task_revision (known without one: {', '.join(DATASETS)})"
        )
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise DataError(f"task_revision: '{revision}' can move; give the 40 digits of a commit of {name}")
    data, source = _download(name, revision), f"{name}@{revision}"
    for part in ("train", "test"):
        if part not in data or not {"text", "label"} <= set(data[part].column_names):
            raise DataError(f"{source}: no split '{part}' with columns text, label; bring such files in a folder")
    return source, *([_hub_file(f"{source}/{part}", data[part])] for part in ("train", "test"))


def _hub_file(path: str, data: Dataset) -> _File:
    rows = zip(range(1, len(data) + 1), data["text"], data["label"], strict=True)
    return _File(path, list(rows), getattr(data.features["label"], "names", None), "row")


def _download(name: str, revision: str) -> dict[str, Dataset]:
    """The splits of a hub data set (from the cache where they are there), or one sentence with the way out."""
    import datasets

    try:
        return datasets.load_dataset(name, revision=revision)
    except Exception as error:  # the hub client raises a dozen unrelated types, and none of them names a way out
        raise DataError(
            f"task: {name}@{revision} cannot be fetched ({type(error).__name__}); where there is a network, run "
            f"`hf download {name} --repo-type dataset --revision {revision} --local-dir FOLDER`, copy FOLDER here "
            f"and set task: FOLDER"
        ) from None


# --- files ---------------------------------------------------------------------------------------------------------
def _read_csv(path: Path) -> _File:
    """`class_index,title,description` (1-based, AG News) with or without header, or a header with text and label."""
    lines = _csv_lines(path)
    _, first = next(lines, (0, []))
    columns = [cell.strip().lower() for cell in first]
    if len(first) == 3 and columns[0].isdigit():
        columns, lines = ["class_index", "title", "description"], _csv_lines(path)
    ag_news = {"class_index", "title", "description"} <= set(columns)
    if not ag_news and not {"text", "label"} <= set(columns):
        raise DataError(
            f"{path}, line 1: unknown columns {columns}; "
            f"write a header with text,label or class_index,title,description"
        )
    rows = []
    for number, cells in lines:
        if len(cells) != len(columns):
            raise DataError(
                f"{path}, line {number}: {len(cells)} columns where {','.join(columns)} has {len(columns)}; "
                f"complete the row, and quote a text that holds commas"
            )
        row = dict(zip(columns, cells, strict=True))
        rows.append((number, *(_ag_news_row(path, number, row) if ag_news else (row["text"], row["label"]))))
    return _File(str(path), rows)


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line a row starts on, cells), blank lines left out."""
    with path.open("rb") as file:
        # decoded line by line, so that a wrong byte has a line number
        reader, start = csv.reader((line.decode("utf-8-sig") for line in file), strict=True), 1
        try:
            for cells in reader:
                if cells:
                    yield start, cells
                start = reader.line_num + 1
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}, line {start}: cannot be read as UTF-8 CSV ({error}); correct this row") from None


def _ag_news_row(path: Path, number: int, row: dict[str, str]) -> tuple[str, int]:
    if not re.fullmatch(r"[1-9]\d*", row["class_index"].strip()):
        raise DataError(f"{path}, line {number}: class_index is {row['class_index']!r}; write 1 for the first class")
    return f"{row['title']} {row['description']}", int(row["class_index"]) - 1


def _read_jsonl(path: Path) -> _File:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append((number, row["text"], row["label"]))
        except (ValueError, TypeError, KeyError) as error:
            problem = f"no {error}" if isinstance(error, KeyError) else "no JSON object"
            raise DataError(f'{path}, line {number}: {problem}; write {{"text": ..., "label": ...}}') from None
    return _File(str(path), rows)


def _read_parquet(path: Path) -> _File:
    """Columns text and label; label names from the schema where the hub client has left them there."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({type(error).__name__}); write or copy it anew") from None
    if not {"text", "label"} <= set(table.column_names):
        raise DataError(f"{path}: unknown columns {table.column_names}; name two of them text and label")
    data = Dataset(InMemoryTable(table))
    return _hub_file(str(path), data)


READERS = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}


def _label_names(folder: Path, train: list[_File]) -> list[str]:
    """From classes.txt, else from the file's own schema, else the sorted names that the train rows use."""
    path = folder / "classes.txt"
    if path.is_file():
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    elif train[0].label_names:
        names = train[0].label_names
    else:
        labels = {label for file in train for _, _, label in file.rows}
        if any(_number(label) is not None for label in labels):
            raise DataError(f"{path}: missing; the labels are numbers, so write their names there, one per line")
        names = sorted({str(label).strip() for label in labels} - {"", "None"})
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"{folder}: label names are {names}; two or more different ones are needed")
    return names


def _frame(files: list[_File], names: list[str], cleaned: Counter) -> pd.DataFrame:
    """Cleaned texts with integer labels; `source_id` is file and line."""
    rows = []
    for file in files:
        for number, text, label in file.rows:
            where = f"{file.path}, {file.unit} {number}"
            text = clean(text, cleaned) if isinstance(text, str) else ""
            if not text:
                raise DataError(f"{where}: text is empty; fill or delete the row")
            rows.append((text, _label(label, names, where), f"{Path(file.path).name}:{number}"))
    if not rows:
        raise DataError(f"{files[0].path}: holds no rows; add some")
    return pd.DataFrame(rows, columns=["text", "label", "source_id"])


def _label(label: Any, names: list[str], where: str) -> int:
    """0-based index of a label given as a name or as a number."""
    if isinstance(label, str) and label.strip() in names:
        return names.index(label.strip())
    index = _number(label)
    if index is None or not 0 <= index < len(names):
        known = ", ".join(f"{i} {name}" for i, name in enumerate(names))
        raise DataError(
            f"{where}: unknown label {label!r} (known: {known}; a class_index is one more); correct it, or add it "
            "to classes.txt"
        )
    return index


def _number(label: Any) -> int | None:
    if isinstance(label, str) and re.fullmatch(r"\s*\d+\s*", label):
        return int(label)
    return label if isinstance(label, int) and not isinstance(label, bool) else None


# --- repairs -------------------------------------------------------------------------------------------------------
# AG News lost the '&' of its entities (" #39;s", " quot;", " amp;"), kept others ("&lt;b&gt;"), and writes "\" for a
# line break and "\$" for a dollar sign. The names are those that occur, with their closest kin: a list, because
# ordinary words before a semicolon ("the cup; it") are entity names too.
_NAMES = r"quot|amp|lt|gt|nbsp|hellip|[lr][sd]quo|[mn]dash|[A-Za-z](?:acute|grave|circ|uml|tilde|cedil)"
_REPAIRS: tuple[tuple[str, re.Pattern, Any], ...] = (
    ("entity", re.compile(rf"[ &](#\d+|#x[0-9a-fA-F]+|{_NAMES});"), lambda m: html.unescape(f"&{m[1]};")),
    ("tag", re.compile(r"</?([A-Za-z][A-Za-z0-9]*)\b[^<>]*>"), lambda m: " " if m[1].lower() in _BREAKS else ""),
    ("dollar", re.compile(r"\\\$"), "$"),
    ("backslash", re.compile(r"\\+"), " "),
    ("space", re.compile(r"^\s+|\s+$"), ""),
    ("space", re.compile(r"\s{2,}|[^\S ]"), " "),
)
_BREAKS = {"p", "br", "div", "td", "tr", "li", "table"}  # tags that part words; all others stand inside them


def clean(text: str, counts: Counter | None = None) -> str:
    """The text without AG News's leftovers of HTML; `counts` gains the number of repairs of each kind.

    Repeats until nothing changes, so that clean(clean(t)) == clean(t); it ends, because no repair adds a character.
    """
    before = None
    while text != before:
        before = text
        for kind, pattern, replacement in _REPAIRS:
            text, n = pattern.subn(replacement, text)
            if n and counts is not None:
                counts[kind] += n
    return text
